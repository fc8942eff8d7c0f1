"""What the readers of outputs share: the steps they return, the level of theory in one line, and its comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from aiida_gaprss.frames import FrameError


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


@dataclass(frozen=True)
class Level:
    """Level of theory as an output tells it.

    Two outputs are of the same level if everything but version and k-points is the same; pseudopotentials are compared for the
    elements they share. The k-point mesh follows the cell, so it only has to be one that a common spacing gives.
    """

    code: str
    version: str
    functional: str
    cutoff: str
    smearing: str
    spin: str
    dispersion: str
    others: tuple[str, ...] = ()
    pseudos: Mapping[str, str] = field(default_factory=dict)
    #: Largest distance of neighbouring k-points (1/Å, without 2π), and what it would be with one division less.
    spacing: tuple[float, float] | None = None
    n_kpoints: int | None = None

    def key(self) -> tuple[object, ...]:
        """Return what outputs of one level have in common, besides the pseudopotentials."""
        return (self.code, self.functional, self.cutoff, self.smearing, self.spin, self.dispersion, self.others)

    def same(self, other: Level) -> bool:
        """Tell whether two outputs are of one level of theory."""
        shared = set(self.pseudos) & set(other.pseudos)
        return self.key() == other.key() and all(self.pseudos[symbol] == other.pseudos[symbol] for symbol in shared)


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

    def extend(self, other: Output) -> None:
        """Append what the next run in the same file holds."""
        self.refused += [(number and number + len(self.steps), reason) for number, reason in other.refused]
        self.steps += other.steps
        self.levels += other.levels
        for text in other.notes:
            self.note(text)


def mesh_spacing(cell: np.ndarray, divisions: Iterable[int]) -> tuple[float, float] | None:
    """Return the largest distance of neighbouring k-points of a mesh, and the smallest one with one division less.

    Any nominal spacing between the two gives this mesh; both are in 1/Å without the factor 2π. None if the cell is flat.
    """
    if abs(np.linalg.det(cell)) < 1e-6:
        return None
    lengths = np.linalg.norm(np.linalg.inv(np.asarray(cell, dtype=float)).T, axis=1)
    pairs = list(zip(lengths, (int(n) for n in divisions), strict=True))
    return (
        float(max(length / n for length, n in pairs)),
        float(min((length / (n - 1) for length, n in pairs if n > 1), default=np.inf)),
    )


def one_level(levels: Iterable[tuple[str, Level]]) -> tuple[str, list[str]]:
    """Return the one line for all outputs, and notes.

    :param levels: pairs of the name of a file and its level, at least one.
    :raises FrameError: naming two files and their levels, if these differ.
    """
    levels = list(levels)
    pseudos: dict[str, tuple[str, Level]] = {}
    first = levels[0]
    for name, level in levels:
        rivals = [first, *(pseudos[symbol] for symbol in level.pseudos if symbol in pseudos)]
        for other_name, other in rivals:
            if not level.same(other):
                raise FrameError(
                    "different levels of theory in one import; import them separately:\n"
                    f"  {other_name}: {describe([other])}\n  {name}: {describe([level])}"
                )
        for symbol in level.pseudos:
            pseudos.setdefault(symbol, (name, level))
    notes = []
    finest_allowed = [(level.spacing, name) for name, level in levels if level.spacing]
    if finest_allowed:
        coarse, coarse_name = max((spacing[0], name) for spacing, name in finest_allowed)
        below, fine_name = min((spacing[1], name) for spacing, name in finest_allowed)
        if coarse > 1.02 * below:
            notes.append(
                f"no one k-point spacing gives all meshes: {coarse_name} needs at least {coarse:.3g}/Å, "
                f"{fine_name} less than {below:.3g}/Å"
            )
    return describe([level for _, level in levels]), notes


def describe(levels: list[Level]) -> str:
    """Return one line for levels that are the same."""
    first = levels[0]
    pseudos = {symbol: name for level in levels for symbol, name in level.pseudos.items()}
    parts = [
        f"{first.code} {', '.join(dict.fromkeys(level.version for level in levels))}",
        first.functional,
        f"cutoff {first.cutoff}",
        _kpoints(levels),
        first.smearing,
        first.spin,
        first.dispersion,
        *first.others,
        "pseudopotentials " + ", ".join(f"{symbol} {pseudos[symbol]}" for symbol in sorted(pseudos)) if pseudos else "",
    ]
    return "; ".join(" ".join(part.split()) for part in parts if part)


def _kpoints(levels: list[Level]) -> str:
    spacings = [f"{level.spacing[0]:.3g}" for level in levels if level.spacing]
    counts = [level.n_kpoints for level in levels if not level.spacing and level.n_kpoints]
    parts = []
    if spacings:
        parts.append(f"k-point spacing {_range(sorted(set(spacings), key=float))}/Å")
    if counts:
        parts.append(f"{_range(sorted({str(n) for n in counts}, key=int))} irreducible k-point{'s' if max(counts) > 1 else ''}")
    return ", ".join(parts) or "k-points not told"


def _range(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{values[0]}–{values[-1]}"
