"""YAML files of users: read them, check them against a model, and name every fault with its line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase, CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from aiida_gaprss.validation import Model, complaints

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Fault:
    """One fault of a file; line 0 where the file says nothing."""

    line: int
    where: str
    message: str

    def __str__(self) -> str:
        """Return ``line 12, settings.seeds: ...``."""
        place = f"line {self.line}" if self.line else "not in the file"
        return f"{place}, {self.where}: {self.message}" if self.where else f"{place}: {self.message}"


class ConfigError(ValueError):
    """A file with faults, all of them at once."""

    def __init__(self, path: str, faults: list[Fault]) -> None:
        """Keep the faults in the order of the file."""
        self.faults = sorted(faults, key=lambda fault: (fault.line, fault.where))
        number = "1 error" if len(faults) == 1 else f"{len(faults)} errors"
        super().__init__("\n".join([f"{path}: {number}", *(f"  {fault}" for fault in self.faults)]))


class Lines:
    """Where the keys of a YAML file stand."""

    def __init__(self, root: Any) -> None:
        """Keep the tree that ruamel.yaml has read."""
        self.root = root

    def of(self, location: tuple[str | int, ...]) -> int:
        """Return the line of the deepest part of ``location`` that is in the file, 1 if none is."""
        line, node = 1, self.root
        for part in location:
            if not isinstance(node, CommentedBase):
                break
            try:
                if isinstance(node, CommentedMap) and part in node:
                    line = node.lc.key(part)[0] + 1
                elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                    line = node.lc.item(part)[0] + 1
                else:
                    break
            except (KeyError, AttributeError):
                break
            node = node[part]
        return line


def read(path: str | Path) -> str:
    """Return the text of a file.

    :raises ConfigError: if there is none.
    """
    if not Path(path).is_file():
        raise ConfigError(str(path), [Fault(0, "", "no such file")])
    return Path(path).read_text(encoding="utf-8")


def parse(text: str, path: Path, example: str) -> tuple[dict[str, Any], Lines]:
    """Return keys and values of the text of a file, and where they stand.

    :raises ConfigError: if it is not YAML, or not a mapping.
    """
    try:
        root = YAML(typ="rt").load(text)
    except MarkedYAMLError as exception:
        mark = exception.problem_mark or exception.context_mark
        fault = Fault(mark.line + 1 if mark else 1, "", f"not readable as YAML: {exception.problem or exception}")
        raise ConfigError(str(path), [fault]) from exception
    if not isinstance(root, CommentedMap):
        raise ConfigError(str(path), [Fault(1, "", f"expected keys and values, e.g. '{example}'")])
    return YAML(typ="safe").load(text), Lines(root)


def load(path: Path, model: type[M], example: str) -> M:
    """Return a file that is one model.

    :raises ConfigError: with every fault and its line.
    """
    data, lines = parse(read(path), path, example)
    try:
        return model(**data)
    except ValidationError as error:
        raise ConfigError(str(path), faults_of(error, lines, ())) from error
    except TypeError as exception:
        raise ConfigError(str(path), [Fault(1, "", f"keys must be words: {exception}")]) from exception


def faults_of(error: ValidationError, lines: Lines, prefix: tuple[str, ...]) -> list[Fault]:
    """Return the faults that a model has found in the part of a file under ``prefix``."""
    out = []
    for location, message in complaints(error):
        # A check across fields says in its message where the fault lies.
        parts = message.split("\n") if not location else [message]
        for part in parts:
            place = location
            match = None if location else re.match(r"^([A-Za-z_][\w.]*): (.*)", part)
            if match:
                place = tuple(int(p) if p.isdigit() else p for p in match[1].split("."))
                part = match[2]
            out.append(Fault(lines.of((*prefix, *place)), dotted((*prefix, *place)), part))
    return out


def dotted(location: tuple[str | int, ...]) -> str:
    """Return a place in a file as users write it."""
    return ".".join(str(part) for part in location)
