"""Named defaults in YAML files, and how changes are merged into them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from aiida_gaprss.outside import shown
from aiida_gaprss.settings.faults import Place
from aiida_gaprss.settings.yamlfile import parse, read


class Protocols:
    """The protocols in a folder, one file each."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of the protocols."""
        return sorted(path.stem for path in self.folder.glob("*.yaml"))

    def unknown(self, name: object) -> str:
        """Return the complaint about the name of a protocol that there is not."""
        return f"unknown protocol {shown(repr(name), 100)}; known: {', '.join(self.names())}"

    def load(self, name: str) -> dict[str, Any]:
        """Return a protocol as plain data.

        :raises ValueError: if there is no protocol of that name.
        """
        if name not in self.names():
            raise ValueError(self.unknown(name))
        path = self.folder / f"{name}.yaml"
        return parse(read(path), path, "descriptors: []")[0]


def merged(base: dict[str, Any], changes: dict[str, Any], replaced: Collection[str] = ()) -> dict[str, Any]:
    """Return ``base`` with ``changes``: mappings are merged key by key, everything else is replaced.

    :param replaced: keys whose mappings are replaced, too; so is a mapping by one that names a ``protocol``.
    """
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict) and key not in replaced and "protocol" not in value
        out[key] = merged(out[key], value, replaced) if both else value
    return out


def part_at(data: Any, place: Place) -> Any:
    """Return what stands at a place of nested mappings, which may be anything, or None."""
    for key in place:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def with_part(data: dict[Any, Any], place: Place, part: Any) -> dict[Any, Any]:
    """Return nested mappings with another part at a place that there is."""
    key, *rest = place
    return {**data, key: with_part(data[key], tuple(rest), part) if rest else part}
