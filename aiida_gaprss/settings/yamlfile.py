"""YAML files of users: read them, check them against a model, and name every fault with its line.

What is read is plain: keys that are words, text, finite numbers, true and false, null, lists; anchors and aliases as long as what
they stand for stays small. Of tags, only those of plain values are known. Nothing else leaves the reader, whatever the file says.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

from aiida_gaprss.outside import OutsideError, read_bytes, shown
from aiida_gaprss.settings.faults import Fault, FaultError, Place
from aiida_gaprss.settings.model import Model, complaints

M = TypeVar("M", bound=Model)

#: Bytes of a file; values in it, those that aliases repeat included; lists and mappings within each other; digits of a number.
MOST_BYTES, MOST_VALUES, DEEPEST, MOST_DIGITS = 256 * 1024, 10_000, 24, 60

#: Faults that are printed of one file.
MOST_FAULTS = 40


class ConfigError(FaultError):
    """A file with faults, all of them at once."""

    def __init__(self, path: str, faults: list[Fault]) -> None:
        """Keep the faults in the order of the file."""
        in_order = sorted(faults, key=lambda fault: (fault.line, fault.where))
        number = "1 error" if len(faults) == 1 else f"{len(faults)} errors"
        lines = [f"{shown(path)}: {number}", *(f"  {fault}" for fault in in_order[:MOST_FAULTS])]
        if len(faults) > MOST_FAULTS:
            lines.append(f"  and {len(faults) - MOST_FAULTS} more")
        super().__init__(in_order, "\n".join(lines))


@dataclass
class Mark:
    """Where something stands in a file: its line, and the places of its parts by key or index."""

    line: int = 1
    parts: dict[str | int, Mark] = field(default_factory=dict)


class Lines:
    """Where the keys of a YAML file stand."""

    def __init__(self, root: Mark) -> None:
        """Keep the places of the file."""
        self.root = root

    def located(self, faults: Iterable[Fault], *place: str | int) -> list[Fault]:
        """Return the faults of a part of the file, with their lines."""
        whole = [fault.under(*place) for fault in faults]
        return [replace(fault, line=self.of(fault.place)) for fault in whole]

    def of(self, location: Place) -> int:
        """Return the line of the deepest part of ``location`` that is in the file, 1 if none is.

        A part that is not there, as the kind of a descriptor that pydantic puts between, is passed over.
        """
        line, place = 1, self.root
        for part in location:
            if part in place.parts:
                place = place.parts[part]
                line = place.line
        return line

    def has(self, location: Place) -> bool:
        """Tell whether all of ``location`` is in the file."""
        place: Mark | None = self.root
        for part in location:
            place = place.parts.get(part) if place else None
        return place is not None


class Given(Lines):
    """Keys and values that came from Python: they have places, but no lines."""

    def __init__(self, data: dict[str, Any]) -> None:
        """Keep the values."""
        self.data = data

    def of(self, location: Place) -> int:
        """Return 0."""
        return 0

    def has(self, location: Place) -> bool:
        """Tell whether all of ``location`` was given."""
        value: Any = self.data
        for part in location:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return False
        return True


def read(path: str | Path) -> str:
    """Return the text of a file.

    :raises ConfigError: if there is none, or it is not text.
    """
    try:
        content = read_bytes(path, MOST_BYTES)
    except OutsideError as exception:
        raise ConfigError(str(path), [Fault((), exception.message)]) from exception
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exception:
        line = content[: exception.start].count(b"\n") + 1
        message = f"has the byte 0x{content[exception.start]:02x}, which is no UTF-8; save the file as UTF-8"
        raise ConfigError(str(path), [Fault((), message, line)]) from exception


def parse(text: str, path: Path, example: str) -> tuple[dict[str, Any], Lines]:
    """Return keys and values of the text of a file, and where they stand.

    :raises ConfigError: if it is not plain YAML (see above), or not a mapping.
    """
    reader = _Reader()
    try:
        value, place = reader.document(text)
    except _Stop as stop:
        raise ConfigError(str(path), [*reader.faults, stop.fault]) from None
    except YAMLError as exception:
        raise ConfigError(str(path), [*reader.faults, _syntax(exception)]) from exception
    if reader.faults:
        raise ConfigError(str(path), reader.faults)
    if not isinstance(value, dict):
        raise ConfigError(str(path), [Fault((), f"expected keys and values, e.g. '{example}'", 1)])
    return value, Lines(place)


def load(path: Path, model: type[M], example: str) -> M:
    """Return a file that is one model.

    :raises ConfigError: with every fault and its line.
    """
    data, lines = parse(read(path), path, example)
    try:
        return model(**data)
    except ValidationError as error:
        raise ConfigError(str(path), lines.located(complaints(error))) from error


# --- reading -----------------------------------------------------------------------------------------------------------

_PREFIX = "tag:yaml.org,2002:"
#: Tags that say what is so without them.
_TAGS = {f"{_PREFIX}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}

#: Plain scalars that are no text, as the core schema of YAML 1.2 has them.
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
#: What other readers of YAML take for a number.
_UNDERSCORED = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
#: Characters that YAML does not allow.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


class _Stop(Exception):
    """A fault after which the rest of a file is not read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass
class _Anchor:
    """A value that aliases may stand for; not ``ready`` while it is being read."""

    value: Any = None
    place: Mark = field(default_factory=Mark)
    size: int = 0
    ready: bool = False


class _Reader:
    """Plain values from the events of a parser, counted as they come."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.anchors: dict[str, _Anchor] = {}
        self.count = 0

    def document(self, text: str) -> tuple[Any, Mark]:
        """Return the one document of a file and its places."""
        for match in _FORBIDDEN.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            raise _Stop(Fault((), f"has the character {match[0]!r}, which does not belong into a text", line))
        events: Iterator[Event] = iter(YAML(typ="safe", pure=True).parse(text))
        value, place, documents = None, Mark(), 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Stop(Fault((), "a second document begins here (---), expected one", _line(event)))
            elif isinstance(event, ScalarEvent | AliasEvent | MappingStartEvent | SequenceStartEvent):
                value, place = self.node(event, events, (), 0)
            else:
                assert isinstance(event, StreamStartEvent) or documents <= 1
        return value, place

    def node(self, event: Event, events: Iterator[Event], where: Place, depth: int) -> tuple[Any, Mark]:
        """Return the value that begins with an event, and its place."""
        line = _line(event)
        self.counted(1, line, where)
        if isinstance(event, AliasEvent):
            return self.alias(event, where, depth)
        self.not_too_deep(depth, line, where)
        before, place, anchor = self.count, Mark(line), _Anchor()
        if name := getattr(event, "anchor", None):
            self.anchors[name] = anchor
        tag = _tag(event)
        if tag is not None and tag not in _TAGS:
            known = "text, a number, true, false, null, a list, or keys"
            self.fault(line, where, f"the tag {tag.replace(_PREFIX, '!!')} is not known; expected {known}")
        value: Any
        if isinstance(event, MappingStartEvent):
            value = self.mapping(events, where, depth, place)
        elif isinstance(event, SequenceStartEvent):
            value = self.sequence(events, where, depth, place)
        else:
            assert isinstance(event, ScalarEvent)
            value = self.scalar(event, tag, where)
        anchor.value, anchor.place, anchor.size, anchor.ready = value, place, self.count - before, True
        return value, place

    def alias(self, event: AliasEvent, where: Place, depth: int) -> tuple[Any, Mark]:
        """Return what an alias stands for."""
        line, anchor = _line(event), self.anchors.get(event.anchor)
        if anchor is None or not anchor.ready:
            what = "contains itself" if anchor else "has no anchor before it"
            self.fault(line, where, f"*{event.anchor} {what}")
            return None, Mark(line)
        self.counted(anchor.size, line, where)
        self.not_too_deep(depth + _height(anchor.value), line, where)
        return copy.deepcopy(anchor.value), Mark(line, anchor.place.parts)

    def mapping(self, events: Iterator[Event], where: Place, depth: int, place: Mark) -> dict[str, Any]:
        """Return keys and values up to the end of a mapping; what is merged into it (<<) gives way to its own keys."""
        out: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            line = _line(event)
            plain = isinstance(event, ScalarEvent) and event.style is None
            key, _ = self.node(event, events, where, depth + 1)
            follows = next(events)
            if plain and key == "<<":
                value, source = self.node(follows, events, where, depth + 1)
                self.merge(value, source, merged, place, line, where)
                continue
            name = self.key(key, line, where)
            if name in out:
                self.fault(line, (*where, name), f"{name} is given twice, first in line {place.parts[name].line}")
            out[name], inner = self.node(follows, events, (*where, name), depth + 1)
            place.parts[name] = Mark(line, inner.parts)
        return {**merged, **out}

    def merge(self, value: Any, source: Mark, into: dict[str, Any], place: Mark, line: int, where: Any) -> None:
        """Take over the keys of a mapping, or of the mappings of a list, the first ones before the others."""
        mappings = value if isinstance(value, list) else [value]
        places = [source.parts[i] for i in range(len(mappings))] if isinstance(value, list) else [source]
        for mapping, parts in zip(mappings, places, strict=True):
            if not isinstance(mapping, dict):
                self.fault(line, where, "<< takes over the keys of a mapping (<<: *name), not anything else")
                return
            for key in mapping:
                if key not in into:
                    into[key] = mapping[key]
                    place.parts.setdefault(key, parts.parts[key])

    def key(self, key: Any, line: int, where: Place) -> str:
        """Return a key if it is a word."""
        if isinstance(key, str) and key:
            return key
        self.fault(line, where, f"expected a word as key (got {shown(repr(key), 60)}); put it in quotes if it is one")
        return str(key)

    def sequence(self, events: Iterator[Event], where: Place, depth: int, place: Mark) -> list[Any]:
        """Return the items up to the end of a sequence."""
        out: list[Any] = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            value, place.parts[len(out)] = self.node(event, events, (*where, len(out)), depth + 1)
            out.append(value)
        return out

    def scalar(self, event: ScalarEvent, tag: str | None, where: Place) -> Any:
        """Return text, number, truth or nothing."""
        text = event.value
        quoted = event.style is not None or tag in ("!", f"{_PREFIX}str")
        if quoted and tag in (None, "!", f"{_PREFIX}str"):
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if not (_INTEGER.fullmatch(text) or _REAL.fullmatch(text)):
            if _UNDERSCORED.fullmatch(text):
                self.fault(
                    _line(event), where, f"{shown(text, 40)}: numbers are written without _; put it in quotes if it is a name"
                )
            return text
        if len(text) > MOST_DIGITS:
            self.fault(_line(event), where, f"a number of {len(text)} characters ({text[:20]}…), expected at most {MOST_DIGITS}")
            return 0
        if _INTEGER.fullmatch(text):
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        value = float(text) if text[-1] in "0123456789." else math.inf
        if not math.isfinite(value):
            self.fault(_line(event), where, f"{text} is not a finite number")
        return value

    def counted(self, number: int, line: int, where: Place) -> None:
        """Count values; stop when there are too many."""
        self.count += number
        if self.count > MOST_VALUES:
            message = f"more than {MOST_VALUES} values, those that aliases (*name) repeat included"
            raise _Stop(Fault(where[:3], message, line))

    def not_too_deep(self, depth: int, line: int, where: Place) -> None:
        """Stop where lists and mappings lie within each other without end."""
        if depth > DEEPEST:
            raise _Stop(Fault(where[:3], f"more than {DEEPEST} lists and mappings within each other", line))

    def fault(self, line: int, where: Place, message: str) -> None:
        """Keep a fault; the file is read to its end."""
        self.faults.append(Fault(where, message, line))


def _height(value: Any) -> int:
    """Return how many lists and mappings lie within each other."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + _height(part) for part in parts), default=0)


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _tag(event: Event) -> str | None:
    """Return the tag that is written before a value, if any."""
    tag = getattr(event, "tag", None)
    return None if tag is None else str(tag)


def _syntax(exception: YAMLError) -> Fault:
    """Return what a parser complained of."""
    mark = None
    if isinstance(exception, MarkedYAMLError):
        mark = exception.problem_mark or exception.context_mark
    problem = getattr(exception, "problem", None) or str(exception).splitlines()[0]
    return Fault((), f"not readable as YAML: {problem}", mark.line + 1 if mark else 1)
