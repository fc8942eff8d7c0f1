"""Named defaults in YAML files, and how changes are merged into them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


class Protocols:
    """The protocols in a folder, one file each."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of the protocols."""
        return sorted(path.stem for path in self.folder.glob("*.yaml"))

    def load(self, name: str) -> dict[str, Any]:
        """Return a protocol as plain data.

        :raises ValueError: if there is no protocol of that name.
        """
        if name not in self.names():
            raise ValueError(f"unknown protocol {name!r}; known: {', '.join(self.names())}")
        return dict(YAML(typ="safe").load((self.folder / f"{name}.yaml").read_text(encoding="utf-8")))


def merged(base: dict[str, Any], changes: dict[str, Any], replaced: Collection[str] = ()) -> dict[str, Any]:
    """Return ``base`` with ``changes``: mappings are merged key by key, everything else is replaced.

    :param replaced: keys whose mappings are replaced, too; so is a mapping by one that names a ``protocol``.
    """
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict) and key not in replaced and "protocol" not in value
        out[key] = merged(out[key], value, replaced) if both else value
    return out
