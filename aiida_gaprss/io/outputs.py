"""Labelled frames from outputs that CASTEP, VASP or Quantum ESPRESSO left behind, with the checks that all frames pass."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ase import Atoms

from aiida_gaprss.frames import ISOLATED, FrameError, canonical, check, dumps, image_distance, set_labels, virial_from_stress
from aiida_gaprss.io import castep, espresso, outcar, vasprun
from aiida_gaprss.io.common import Output, one_level
from aiida_gaprss.io.placeholders import not_calculated
from aiida_gaprss.levels import Level, line_of
from aiida_gaprss.outside import OutsideError, read_text, shown

__all__ = ["EXTXYZ", "Immigrated", "Refused", "read_outputs", "recognise"]

#: Name under which :func:`recognise` knows extended XYZ.
EXTXYZ = "extended XYZ"
XML = "vasprun.xml"
OUTCAR = "OUTCAR"

_KINDS: dict[str, tuple[Callable[[str], bool], Callable[[str], Output]]] = {
    "CASTEP": (castep.recognises, castep.read),
    OUTCAR: (outcar.recognises, outcar.read),
    XML: (vasprun.recognises, vasprun.read),
    "pw.x": (espresso.recognises, espresso.read),
}

#: How much of a file is looked at to recognise it, characters.
_HEAD = 65536

#: Names that say nothing; such a file is named after its folder.
_NAMELESS = {"outcar", "vasprun", "aiida", "castep", "pw", "espresso", "out", "output", "stdout"}
_SUFFIXES = {".gz", ".castep", ".xml", ".out", ".pwo", ".log", ".txt"}


class Refused(NamedTuple):
    """What was not imported: the file, the number of the step in it (None for the whole file), and why."""

    path: Path
    step: int | None
    reason: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{shown(self.path)}{'' if self.step is None else f', step {self.step}'}: {self.reason}"


@dataclass
class Immigrated:
    """What outputs gave: frames, their level of theory, what was refused, and notes on what was left out."""

    frames: list[Atoms] = field(default_factory=list)
    level: Level | str = ""
    refused: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    @property
    def level_of_theory(self) -> str:
        """The level of theory in one line."""
        return line_of(self.level)


def recognise(path: Path) -> str | None:
    """Return what a file is by its content: ``CASTEP``, ``OUTCAR``, ``vasprun.xml``, ``pw.x``, ``extended XYZ`` or None."""
    head = _head(path)
    for kind, (recognises, _) in _KINDS.items():
        if recognises(head):
            return kind
    lines = head.splitlines()
    if len(lines) > 1 and lines[0].strip().isdigit() and re.search(r"\b(?:Lattice|Properties)=", lines[1]):
        return EXTXYZ
    return None


def read_outputs(
    paths: Iterable[str | Path], steps: str = "all", config_type: str | None = None, mixed_levels: bool = False
) -> Immigrated:
    """Read outputs of CASTEP (``.castep``), VASP (``OUTCAR``, ``vasprun.xml``) and pw.x into frames with checked labels.

    Files may be compressed with gzip. Of a folder, all outputs in it and below are read. Of an ``OUTCAR`` and a ``vasprun.xml``
    in one folder, the same run, the latter is taken, which has more digits.

    Energies are the ones that the forces are derivatives of. A step whose SCF is not converged, or that is not complete, is
    refused; so is whatever does not pass the checks of a dataset.

    Frames are named after their file, or its folder if the file's name says nothing, and the number of the ionic step in it
    (from 1), whatever steps are chosen; where two files would give the same names, folders are put before them.

    :param steps: ``all``, ``last`` or ``first`` of the complete ionic steps of each file, or a slice as in Python, e.g. ``::5``.
    :param config_type: for all frames; ``isolated_atom`` is for one atom in a large box, which then has no virial.
    :param mixed_levels: let outputs pass whose levels of theory differ, or do not tell all.
    :raises FrameError: naming every reason if there is no frame at all; naming two files if their levels of theory differ.
    """
    chosen = _slice(steps)
    result = Immigrated()
    outputs = _read(_find([Path(path) for path in paths], result), result)
    used: list[tuple[Path, int, Atoms]] = []
    seen: dict[str, tuple[Path, int]] = {}
    again: Counter[tuple[Path, Path]] = Counter()
    for path, output in outputs.items():
        for number, frame in _frames(path, output, chosen, steps, config_type, result):
            first = seen.setdefault(dumps([frame]), (path, number))
            if first[0] != path:  # in one file a structure may come twice, as at the end of a run and the begin of the next
                again[path, first[0]] += 1
            else:
                used.append((path, number, frame))
    result.notes += [
        f"{shown(path)}: {n} step{'s' if n > 1 else ''} left out, with structure and labels as in {shown(first)}"
        for (path, first), n in again.items()
    ]
    result.files = list(dict.fromkeys(path for path, _, _ in used))
    names = _names(result.files)
    for path, number, frame in used:
        frame.info["frame_id"] = f"{names[path]}-{number:05d}"
        result.frames.append(frame)
    if not result.frames:
        raise FrameError("\n".join(["nothing to import", *(f"  {item}" for item in result.refused)]))
    files = [*result.files, *(path for path, _ in again if path not in result.files)]
    result.level = one_level(((shown(path), level) for path in files for level in outputs[path].levels), mixed_levels)
    result.notes += [f"{shown(path)}: {text}" for path in result.files for text in outputs[path].notes]
    return result


def _frames(
    path: Path, output: Output, chosen: slice, steps: str, config_type: str | None, result: Immigrated
) -> Iterable[tuple[int, Atoms]]:
    """Return number and frame of the chosen steps of an output; what is refused goes to ``result``."""
    numbers = range(1, len(output.steps) + 1)[chosen]
    if output.steps and not numbers:
        result.refused.append(Refused(path, None, f"has {len(output.steps)} steps, none of them in {steps}"))
    for number in numbers:
        try:
            yield number, _frame(output, number, config_type)
        except FrameError as exception:
            result.refused.append(Refused(path, number, str(exception)))
    result.refused += [Refused(path, number, reason) for number, reason in output.refused]


def _head(path: Path) -> str:
    """Return the begin of a regular file, also if compressed with gzip; nothing of what is none or cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for a writer
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return ""
            content = stream.read(_HEAD)
    except (OSError, ValueError):
        return ""
    if content[:2] == b"\x1f\x8b":
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, _HEAD)
        except zlib.error:
            return ""
    return content.decode("utf-8", errors="replace")


def _slice(steps: str) -> slice:
    text = steps.strip()
    if text in ("all", "last", "first"):
        return {"all": slice(None), "last": slice(-1, None), "first": slice(1)}[text]
    if not re.fullmatch(r"-?\d*:-?\d*(?::-?\d*)?", text):
        raise FrameError(f"steps must be all, last, first or a slice such as ::5, got {steps!r}")
    start, stop, stride = ([int(part) if part not in ("", "-") else None for part in text.split(":")] + [None])[:3]
    if stride == 0:
        raise FrameError(f"steps must not have a stride of 0, got {steps!r}")
    return slice(start, stop, stride)


def _find(paths: list[Path], result: Immigrated) -> list[tuple[Path, str]]:
    """Return the outputs among and below ``paths`` with their kinds, each once; what is none and was named is refused."""
    found: dict[Path, tuple[Path, str]] = {}
    for path in paths:
        if not path.exists():
            result.refused.append(Refused(path, None, "no such file or folder"))
            continue
        below = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
        outputs = [(item, kind) for item in below if (kind := recognise(item)) not in (None, EXTXYZ)]
        for item, kind in outputs:
            found.setdefault(item.resolve(), (item, str(kind)))
        if not outputs and path.is_dir():
            result.refused.append(Refused(path, None, "no output of CASTEP, VASP or Quantum ESPRESSO in it"))
        elif not outputs:
            result.refused.append(Refused(path, None, "not an output of CASTEP, VASP (OUTCAR, vasprun.xml) or pw.x"))
    return list(found.values())


def _read(found: list[tuple[Path, str]], result: Immigrated) -> dict[Path, Output]:
    """Return what is in the outputs, but not that of an OUTCAR beside a vasprun.xml of the same run, which has more digits."""
    outputs: dict[Path, Output] = {}
    beside: dict[Path, list[Path]] = {}  # folder: vasprun.xml files
    known: dict[str, Path] = {}  # file by content
    for path, kind in sorted(found, key=lambda item: item[1] != XML):
        folder = path.resolve().parent
        try:
            text = read_text(path, errors="replace")
        except OutsideError as exception:
            result.refused.append(Refused(path, None, exception.message))
            continue
        first = known.setdefault(hashlib.sha256(text.encode()).hexdigest(), path)
        if first != path:
            result.notes.append(f"{shown(path)}: not read, its content is that of {shown(first)}")
            continue
        output = _KINDS[kind][1](text)
        if kind == XML and output.steps:
            beside.setdefault(folder, []).append(path)
        same = [other for other in beside.get(folder, []) if kind == OUTCAR and _same_run(output, outputs[other])]
        if same:
            result.notes.append(f"{shown(path)}: left out, {shown(same[0].name)} beside it is of the same run")
        else:
            outputs[path] = _mine(output, text)
    return {path: outputs[path] for path, _ in found if path in outputs}


def _same_run(outcar: Output, xml: Output) -> bool:
    """Tell whether the steps of an OUTCAR are those of a vasprun.xml, or its first ones: both print the same energies."""
    pairs = list(zip(outcar.steps, xml.steps, strict=False))
    return len(pairs) == len(outcar.steps) > 0 and all(
        one.energy is None or two.energy is None or abs(one.energy - two.energy) < 1e-6 for one, two in pairs
    )


def _mine(output: Output, text: str) -> Output:
    """Return the output with levels that know whose they are, and whether it is of an isolated atom."""
    atoms = [step.atoms for step in output.steps if len(step.atoms)]
    isolated = bool(atoms) and all(len(a) == 1 and image_distance(a) >= ISOLATED for a in atoms)
    levels = [level.told_by(f"{number} {text}") for number, level in enumerate(output.levels)]
    output.levels = [level.of_isolated_atom() if isolated else level for level in levels]
    return output


def _names(paths: list[Path]) -> dict[Path, str]:
    """Return a name for each file that the others do not have: its own, with as many folders before it as that takes."""
    names = {path: _candidates(path) for path in paths}
    while doubled := {name for name, n in Counter(words[0] for words in names.values()).items() if n > 1}:
        for number, (path, words) in enumerate(names.items(), start=1):
            if words[0] in doubled:
                names[path] = words[1:] or [f"{words[0]}-{number}"]
    return {path: words[0] for path, words in names.items()}


def _candidates(path: Path) -> list[str]:
    """Return names for a file, from the short to the long."""
    full = path.resolve()
    stem = full.name
    while Path(stem).suffix.lower() in _SUFFIXES:
        stem = Path(stem).stem
    folders = [re.sub(r"[^\w.+-]", "_", part) for part in full.parent.parts[1:]]
    stem, name = (re.sub(r"[^\w.+-]", "_", part) for part in (stem, full.name))
    names = ["-".join([*folders[len(folders) - count :], stem]) for count in range(len(folders) + 1)]
    if stem.lower() in _NAMELESS and folders:
        names[0] = folders[-1]
    return [*names, "-".join([*folders, name])]


def _frame(output: Output, number: int, config_type: str | None) -> Atoms:
    """Return the frame of a step (from 1), without a name; labels that stand for "not calculated" are left out, with a note.

    :raises FrameError: with the reason why the step must not be used.
    """
    step = output.steps[number - 1]
    if step.problem:
        raise FrameError(step.problem)
    atoms = step.atoms.copy()
    isolated = config_type == "isolated_atom"
    forces, stress, notes = not_calculated(step)
    for text in (*step.notes, *notes):
        output.note(f"step {number}: {text}")
    virial = None if stress is None or isolated else virial_from_stress(stress, atoms.get_volume())
    set_labels(atoms, step.energy, forces, virial)
    atoms.info.update(config_type=config_type or "unknown", label_status="ok")
    check(atoms)
    return canonical(atoms)
