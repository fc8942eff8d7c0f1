"""The lines of ``results.jsonl``, compared with the frames that were sent: a result is whole and of its frame, or it is none."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.outside import shown
from aiida_gaprss.runners.identity import checksum, geometry, identity

#: Bytes of the longest line that is read.
LONGEST_LINE = 2**28

#: So many faults are written out.
FAULTS = 3

#: Of a line: its keys, and the kind of their values in words.
KINDS = {
    "index": "a number of a frame",
    "frame": "the name of a frame",
    "geometry": "the digest of a structure",
    "status": "a text",
    "seconds": "a number of seconds",
    "cpu": "a number of seconds",
    "frames": "frames as text",
    "sum": "a checksum",
}

#: What a task says of a frame besides labels and predictions; all else that stands there is none of ours.
PREFIXES = tuple(f"{prefix}_" for prefix in (fr.REFERENCE, fr.PREDICTION, fr.OLD_PREDICTION))
INFO_KEYS = (
    *("step", "relax_status", "vector", "packed", "n_operations", "seconds", "processor_seconds"),
    *("time_ps", "temperature_K", "md_status", "md_end_step", "md_failure"),
)


class DamageError(ValueError):
    """Something a job wrote that was changed or lost on the way, or is of another frame."""


@dataclass(frozen=True)
class Result:
    """What became of one frame.

    :param status: ``ok`` or a reason; ``seconds``, ``cpu``: times that it took.
    """

    status: str
    seconds: float
    cpu: float
    frames: list[Atoms]


@dataclass
class Results:
    """What became of the frames of a job.

    :param lines: by number of the frame.
    :param total: lines there are, also damaged ones.
    :param damage: what is wrong with those, line by line.
    """

    lines: dict[int, Result] = field(default_factory=dict)
    total: int = 0
    damage: list[str] = field(default_factory=list)


#: Raises :class:`DamageError` for frames that cannot have come from this frame with this status.
Check = Callable[[Atoms, str, list[Atoms]], None]


def read_results(path: Path, sources: Sequence[Atoms], check: Check) -> Results:
    """Return the results of a job that are whole, and what is wrong with the others.

    The last line may have no end: the job was killed while it wrote it, or the disk was full. It is left out.

    :param sources: the frames that were sent.
    """
    out = Results()
    first: dict[int, tuple[int, bytes]] = {}
    for number, text in _lines(path):
        out.total += 1
        try:
            index, result = _result(text, sources, check)
            if index in first:
                raise DamageError(f"index is {index}, as in line {first[index][0]}; expected every frame once")
        except DamageError as fault:
            out.damage.append(f"{path.name}, line {number}: {fault}")
            continue
        first[index] = (number, text)
        out.lines[index] = result
    return out


def in_words(damage: Sequence[str]) -> str:
    """Return the first faults in one line, and how many more there are."""
    more = f" (and {len(damage) - FAULTS} more)" if len(damage) > FAULTS else ""
    return "; ".join(damage[:FAULTS]) + more


def read_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object of a text.

    :raises DamageError: if it is none, names a key twice, or has numbers that are not finite.
    """
    try:
        found = json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except DamageError:
        raise
    except (ValueError, RecursionError) as exception:
        raise DamageError(f"is {_short(text)}, expected JSON: {shown(exception)}") from exception
    if not isinstance(found, dict):
        raise DamageError(f"is {_short(text)}, expected an object")
    return found


def one_of(status: str, results: list[Atoms]) -> Atoms | None:
    """Return the frame of a task that makes one of every frame; None if it failed.

    :raises DamageError: if there is one beside a failure, none beside a success, or several.
    """
    if len(results) != (status == "ok"):
        raise DamageError(f"status is {shown(status)!r} and frames are {len(results)}; expected one frame with 'ok', else none")
    return results[0] if results else None


def same_species(source: Atoms, atoms: Atoms) -> None:
    """Refuse a frame that has not the atoms that were sent.

    :raises DamageError: naming the first that differs.
    """
    if len(source) != len(atoms):
        raise DamageError(f"the frame has {len(atoms)} atoms, expected {len(source)}")
    for number, (ours, sent) in enumerate(zip(atoms.symbols, source.symbols, strict=True), start=1):
        if ours != sent:
            raise DamageError(f"atom {number} is {ours}, expected {sent}")


def same_geometry(source: Atoms, atoms: Atoms) -> None:
    """Refuse a frame that is not the structure that was sent.

    :raises DamageError: naming what differs most.
    """
    same_species(source, atoms)
    if geometry(source) == geometry(atoms):
        return
    for what, ours, sent in (("cell vector", atoms.cell.array, source.cell.array), ("atom", atoms.positions, source.positions)):
        row = int(np.abs(ours - sent).max(axis=1).argmax())
        if not np.allclose(ours[row], sent[row], rtol=0, atol=1e-7):
            raise DamageError(f"{what} {row + 1} is {_vector(ours[row])}, expected {_vector(sent[row])} as it was sent")
    raise DamageError("the frame is not the structure that was sent")


def has_labels(atoms: Atoms, prefix: str, virial: bool | None) -> None:
    """Refuse a frame without energy (eV) and forces (eV/Å), with such that are no finite numbers, or none for each atom.

    :param virial: whether it has one (eV, nine numbers), too; None: it may.
    :raises DamageError: naming key and value.
    """
    number(atoms.info, f"{prefix}_energy")
    per_atom(atoms, f"{prefix}_forces", (3,))
    key = f"{prefix}_virial"
    if virial is not None and virial != (key in atoms.info):
        raise DamageError(f"the frame has {'no' if virial else 'a'} {key}, expected {'one' if virial else 'none'}")
    if key in atoms.info:
        _finite(key, atoms.info[key], (9,))


def number(store: dict[str, Any], key: str) -> float:
    """Return a finite number.

    :raises DamageError: if it is missing or something else.
    """
    value = store.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise DamageError(f"{key} is {_short(value)}, expected a finite number")
    return float(value)


def per_atom(atoms: Atoms, key: str, shape: tuple[int, ...] = ()) -> None:
    """Refuse a frame without finite numbers of this shape for each atom.

    :raises DamageError: naming the key.
    """
    if key not in atoms.arrays:
        raise DamageError(f"the frame has no {key}")
    _finite(key, atoms.arrays[key], (len(atoms), *shape))


def _finite(key: str, value: Any, shape: tuple[int, ...]) -> None:
    array = np.asarray(value)
    if array.shape != shape or array.dtype.kind not in "fi":
        raise DamageError(f"{key} has shape {array.shape} of {array.dtype}, expected {shape} of numbers")
    if not np.isfinite(array).all():
        raise DamageError(f"{key} has {array[~np.isfinite(array)].flat[0]}, expected finite numbers")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number, from 1, and text of the lines that have an end."""
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for number, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b""), start=1):
            if line.endswith(b"\n"):
                yield number, line[:-1]
            elif len(line) == LONGEST_LINE:  # is refused as what it is
                yield number, line[:100]
                return


def _result(text: bytes, sources: Sequence[Atoms], check: Check) -> tuple[int, Result]:
    """Return number of the frame and result of a line.

    :raises DamageError: if it is not whole, or not of the frame.
    """
    line = read_object(text)
    _check_kinds(line)
    index = line["index"]
    if not 0 <= index < len(sources):
        raise DamageError(f"index is {_short(index)}, expected a number from 0 to {len(sources) - 1}")
    for key, sent in identity(index, sources[index]).items():
        if line[key] != sent:
            raise DamageError(f"index is {index}, whose {key} is {_short(sent)}, but the line is of {key} {_short(line[key])}")
    if line["sum"] != checksum(line):
        raise DamageError("its checksum is not that of what it says: something in it was changed")
    frames = frames_in(line["frames"])
    for atoms in frames:
        _check_frame(atoms)
    check(sources[index], line["status"], frames)
    return index, Result(line["status"], float(line["seconds"]), float(line["cpu"]), frames)


def _check_kinds(line: dict[str, Any]) -> None:
    for key, kind in KINDS.items():
        if key not in line:
            continue
        value = line[key]
        if key == "index":
            good = isinstance(value, int) and not isinstance(value, bool)
        elif key in ("seconds", "cpu"):
            good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12
        else:
            good = isinstance(value, str) or (key == "frame" and value is None)
        if not good:
            raise DamageError(f"{key} is {_short(value)}, expected {kind}")
    missing, unknown = [key for key in KINDS if key not in line], sorted(set(line) - set(KINDS))
    if missing or unknown:
        what = f"has no {missing[0]}" if missing else f"has {_short(unknown[0])}, which is unknown"
        raise DamageError(f"{what}; expected {', '.join(KINDS)}")


def frames_in(text: str) -> list[Atoms]:
    """Return the frames of a text after looking whether their lines are as many as they say.

    :raises DamageError: if they are not, or cannot be read.
    """
    rows = text.split("\n")
    if rows.pop():
        raise DamageError("frames: the last line has no end")
    at = 0
    while at < len(rows):
        n = rows[at].strip()
        if not n.isdecimal() or len(n) > 9 or not 0 < int(n) <= len(rows) - at - 2:
            raise DamageError(f"frames: line {at + 1} is {_short(n)}, expected a number of atoms that has its lines below")
        at += int(n) + 2
    try:
        frames = fr.loads(text)
    except Exception as exception:  # the reader raises what its parts happen to raise
        raise DamageError(f"frames: not readable: {type(exception).__name__}: {shown(exception)}") from exception
    for atoms in frames:
        atoms.info = {key: value for key, value in atoms.info.items() if key in INFO_KEYS or key.startswith(PREFIXES)}
    return frames


def _check_frame(atoms: Atoms) -> None:
    try:
        fr.check(atoms, "the frame")
    except fr.FrameError as exception:
        raise DamageError(f"{exception}") from exception


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    doubled = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
    if doubled:
        raise DamageError(f"has {_short(doubled[0])} twice")
    return dict(pairs)


def _refuse(name: str) -> Any:
    raise DamageError(f"has a {name}, expected finite numbers")


def _short(value: Any) -> str:
    """Return a value as it may stand in a message."""
    if isinstance(value, bytes):
        value = value[:200].decode("utf-8", errors="replace")
    if isinstance(value, str):
        return shown(f"'{value[:200]}'", most=60)
    if isinstance(value, dict | list):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) > 10**20:
        return f"a number of {value.bit_length()} bits"
    return shown("null" if value is None else value, most=60)


def _vector(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ") Å"
