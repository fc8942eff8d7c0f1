"""Plugins of our own: kinds of things that another package may add, found by name through entry points."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isabstract
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from aiida_gaprss.outside import words_of
from aiida_gaprss.settings.model import NO_MAPPING, Model

#: Groups of entry points, and what is in them.
FAMILIES, PROPERTIES, REFERENCES, STRATEGIES = (
    f"aiida_gaprss.{name}" for name in ("families", "properties", "references", "strategies")
)


M = TypeVar("M", bound=Model)


class KindError(ValueError):
    """A kind that is not installed, or that is not what it should be."""


def installed(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of a group by the names of their kinds; more than one where packages contradict each other.

    A package that is installed while this process runs is seen by the next one.
    """
    return _found(group, tuple(sys.path))


@cache
def _found(group: str, path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """Return what is on a search path: looking takes milliseconds, and every model with a kind in it looks."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for entry in entry_points(group=group):
        found.setdefault(entry.name, {})[entry.value] = entry
    return {name: list(found[name].values()) for name in sorted(found)}


def kinds_of(group: str, base: type) -> list[str]:
    """Return the names of the kinds that can be used, in alphabetical order; what is broken or something else is left out.

    :param base: what they must be subclasses of.
    """
    return [name for name in installed(group) if isinstance(_looked_at(group, name, base), type)]


def kind_of(group: str, name: str, base: type, word: str = "kind") -> Any:
    """Return the class of a kind.

    :param base: what it must be a subclass of; ``word``: the key that names it.
    :raises KindError: if there is no such kind, or it is something else, with those that there are; if two packages have one of
        this name; if it cannot be imported, or lacks methods.
    """
    known = installed(group)
    found = _looked_at(group, name, base) if name in known else None
    if isinstance(found, type):
        return found
    usable = f"{', '.join(kinds_of(group, base)) or 'none'} (installed for {group})"
    raise KindError(f"{found}; others are {usable}" if found else f"{word} is {name!r}, expected one of {usable}")


def loaded(group: str, name: str) -> Any:
    """Return what is installed under a name.

    :raises KindError: if it cannot be imported, or two packages have one of the same name.
    """
    entry, *others = installed(group)[name]
    if others:
        both = " and ".join(one.value for one in (entry, *others))
        raise KindError(f"{name} is both {both}; uninstall one of their packages")
    try:
        return entry.load()
    except Exception as exception:  # whatever the import of another package comes across
        raise KindError(f"{name} ({entry.value}) cannot be imported: {words_of(exception)}") from exception


def _looked_at(group: str, name: str, base: type) -> type | str:
    """Return the class of a kind, or what is wrong with it."""
    try:
        found = loaded(group, name)
    except KindError as error:
        return str(error)
    what = f"{name} ({installed(group)[name][0].value})"
    if not (isinstance(found, type) and issubclass(found, base)):
        return f"{what} is no {base.__name__}"
    if isabstract(found):
        return f"{what} lacks {', '.join(sorted(name for name in dir(found) if _abstract(found, name)))}"
    return found


def _abstract(found: type, name: str) -> bool:
    return getattr(getattr(found, name, None), "__isabstractmethod__", False)


def by_kind(group: str, base: type[Model], default: str | None = None) -> Callable[[Any], Any]:
    """Return a check, before a field of type ``base``, that makes a model of the class that ``kind`` names among the installed.

    :param default: the kind of what names none.
    """

    def model_of(value: Any) -> Any:
        if isinstance(value, base):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError(NO_MAPPING, "expected keys and values")
        kind = str(value.get("kind", default))
        try:
            return validated(kind_of(group, kind, base), value)
        except KindError as error:
            raise refused(base.__name__, "kind", kind, error) from error

    return model_of


def refused(title: str, key: str, value: Any, error: KindError) -> ValidationError:
    """Return the fault of a kind as one of a model, at the key that names it.

    :param title: of the model.
    """
    fault = InitErrorDetails(type="value_error", loc=(key,), input=value, ctx={"error": error})
    return ValidationError.from_exception_data(title, [fault])


def validated(kind: type[M], value: Mapping[str, Any]) -> M:
    """Return a model of a class of another package, which may have faults.

    :raises ValidationError: for settings that are wrong, with their places.
    :raises KindError: if something else goes wrong.
    """
    try:
        return kind.model_validate(dict(value))
    except ValueError:
        raise
    except Exception as exception:
        raise KindError(f"{kind.__module__}.{kind.__name__} fails: {type(exception).__name__}: {exception}") from exception
