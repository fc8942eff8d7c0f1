"""What the readers of outputs share: numbers, the steps they return, what is noted of them, one level of theory for all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from aiida_gaprss.frames import FrameError
from aiida_gaprss.levels import Level, difference, joined

_NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[EeDd][-+]?\d+)?")


class Wrong(ValueError):
    """Why a step must not be used."""


@dataclass
class Step:
    """One complete ionic step of an output.

    ``energy`` in eV is the one the forces are derivatives of. ``forces`` in eV/Å, shape (natoms, 3), and ``stress`` in eV/Å³ with
    ASE's sign, shape (3, 3), are None where the output has none that can be used. ``problem`` says why the step must not be used.
    """

    atoms: Atoms
    energy: float | None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    problem: str | None = None
    #: What is to be told of it if it is used.
    notes: list[str] = field(default_factory=list)


@dataclass
class Output:
    """What one file holds: its steps in order, its level of theory (one per run in it), and what is left out and why."""

    steps: list[Step] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    refused: list[tuple[int | None, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def refuse_next(self, reason: str) -> None:
        """Refuse the step that would come next, which is not complete."""
        self.refused.append((len(self.steps) + 1, reason))

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def note_fixed_basis(self) -> None:
        """Note that the plane waves of the first cell were kept while the volume changed by more than a hundredth."""
        volumes = [step.atoms.get_volume() for step in self.steps if len(step.atoms)]
        change = max((volume / volumes[0] - 1 for volume in volumes), key=abs, default=0.0)
        if abs(change) > 0.01:
            self.note(
                f"the cell changed by up to {100 * change:+.0f} % in volume with the plane waves of the first cell: "
                "the cutoff of those steps is in effect another one"
            )

    def note_missing(self) -> None:
        """Note how many steps have no forces or no stress, unless it is noted why."""
        usable = [step for step in self.steps if step.problem is None]
        for name in ("forces", "stress"):
            without = sum(getattr(step, name) is None for step in usable)
            if without and not any(text.startswith(f"{name} ") and "left out" in text for text in self.notes):
                self.note(f"{without} of {len(usable)} step{'s' if len(usable) > 1 else ''} without {name}")

    def extend(self, other: Output) -> None:
        """Append what the next run in the same file holds."""
        self.refused += [(number and number + len(self.steps), reason) for number, reason in other.refused]
        self.steps += other.steps
        self.levels += other.levels
        for text in other.notes:
            self.note(text)


def real(text: str) -> float:
    """Return a number as Fortran prints it, or not-a-number if it is none, as when it is too long for its field."""
    return float(text.replace("D", "E").replace("d", "e")) if _NUMBER.fullmatch(text) else float("nan")


def divisions_of(points: np.ndarray, lengths: np.ndarray) -> list[int] | None:
    """Return the divisions of the regular mesh that irreducible k-points are a part of, None if there is no such mesh.

    :param points: as fractions of the reciprocal lattice vectors, shape (n, 3), with six decimals.
    :param lengths: of the reciprocal vectors: symmetry can hide the divisions along one that is as long as another.
    """
    found = [_denominator(points[:, axis]) for axis in range(3)]
    if None in found:
        return None
    divisions = [int(n) for n in found if n is not None]
    same = np.abs(lengths[:, None] / lengths[None, :] - 1) < 1e-3
    divisions = [max(n for n, alike in zip(divisions, row, strict=True) if alike) for row in same]
    return divisions if len(points) <= np.prod(divisions) else None


def _denominator(values: np.ndarray) -> int | None:
    """Return into how many parts the numbers, which may all be half a part off, divide the unit."""
    for n in range(1, 101):
        for shift in (0.0, 0.5):
            if np.abs((values * n - shift) - np.rint(values * n - shift)).max() < 2e-4 * n:
                return n
    return None


def one_level(levels: Iterable[tuple[str, Level]], mixed: bool = False) -> Level | str:
    """Return the level of all outputs.

    :param levels: pairs of the name of a file and its level, at least one.
    :param mixed: let levels pass that differ, or of which something is not told.
    :raises FrameError: naming two files and in what their levels differ.
    """
    pairs = list(levels)
    named = {f"{name}{f' (run {number})' if number > 1 else ''}": level for name, number, level in _counted(pairs)}
    if mixed:
        together = " ".join(level.untold for level in named.values())
        return joined(level.told_by(together) for level in named.values())
    other = difference(named)
    if other:
        raise FrameError(
            "different levels of theory in one import; import them separately, or say --mixed-levels if they may be mixed:\n"
            f"  {other}"
        )
    return joined(named.values())


def _counted(pairs: list[tuple[str, Level]]) -> Iterable[tuple[str, int, Level]]:
    """Return names, which run of the file of that name it is, and levels."""
    counts: Counter[str] = Counter()
    for name, level in pairs:
        counts[name] += 1
        yield name, counts[name], level


def read_runs(text: str, banner: re.Pattern[str], read_run: Callable[[str], Output]) -> Output:
    """Return what is in a file that may hold several runs one after another, each after its banner."""
    starts = [match.start() for match in banner.finditer(text)]
    output = Output()
    for start, end in zip(starts, [*starts[1:], len(text)], strict=False):
        output.extend(read_run(text[start:end]))
    return output
