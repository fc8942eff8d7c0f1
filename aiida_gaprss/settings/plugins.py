"""Plugins of our own: kinds of things that another package may add, found by name through entry points."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

#: Groups of entry points, and what is in them.
PROPERTIES = "aiida_gaprss.properties"
REFERENCES = "aiida_gaprss.references"


class KindError(ValueError):
    """A kind that is not installed, or that is not what it should be."""


def installed(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points of a group by name: several, if packages have different ones of the same name."""
    return _installed(group, tuple(sys.path))


@lru_cache
def _installed(group: str, path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, {})[entry.value] = entry
    return {name: tuple(entries.values()) for name, entries in sorted(found.items())}


def loaded(group: str, name: str) -> Any:
    """Return what is installed under a name.

    :raises KindError: if it cannot be imported, or two packages have one of the same name.
    """
    entry, *others = installed(group)[name]
    if others:
        both = f"{entry.value} and {others[0].value}"
        raise KindError(f"{group}: {name} is both {both}; uninstall one of their packages")
    try:
        return entry.load()
    except Exception as exception:  # whatever the import of another package comes across
        raise KindError(f"{name} ({entry.value}) cannot be imported: {exception or type(exception).__name__}") from exception


def kind_of(group: str, name: str, base: type) -> Any:
    """Return the class of a kind.

    :param base: what it must be a subclass of.
    :raises KindError: if there is no such kind, with those that there are; if it cannot be imported, or is something else.
    """
    known = installed(group)
    if name not in known:
        raise KindError(f"kind is {name!r}, expected one of {', '.join(known) or 'none'} (installed for {group})")
    found = loaded(group, name)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise KindError(f"{name} ({known[name][0].value}) is no {base.__name__}")
    return found
