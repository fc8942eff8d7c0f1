"""Plugins of our own: kinds of things that another package may add, found by name through entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

#: Groups of entry points, and what is in them.
FAMILIES, PROPERTIES = "aiida_gaprss.families", "aiida_gaprss.properties"


class KindError(ValueError):
    """A kind that is not installed, or that is not what it should be."""


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by the names of their kinds.

    :raises KindError: if two packages have one of the same name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise KindError(f"{group}: {entry.name} is both {other.value} and {entry.value}; uninstall one of their packages")
    return dict(sorted(found.items()))


def kind_of(group: str, name: str, base: type, word: str = "kind") -> Any:
    """Return the class of a kind.

    :param base: what it must be a subclass of; ``word``: the key that names it.
    :raises KindError: if there is no such kind, with those that there are; if it cannot be imported, or is something else.
    """
    known = installed(group)
    if name not in known:
        raise KindError(f"{word} is {name!r}, expected one of {', '.join(known) or 'none'} (installed for {group})")
    try:
        found = known[name].load()
    except Exception as exception:  # whatever the import of another package comes across
        raise KindError(
            f"{name} ({known[name].value}) cannot be imported: {exception or type(exception).__name__}"
        ) from exception
    if not (isinstance(found, type) and issubclass(found, base)):
        raise KindError(f"{name} ({known[name].value}) is no {base.__name__}")
    return found
