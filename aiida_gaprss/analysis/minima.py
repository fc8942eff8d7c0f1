"""The distinct structures among relaxed frames, lowest first.

Two frames are the same structure if their enthalpies and volumes per atom agree (cheap, and decides most cases) and
pymatgen's ``StructureMatcher`` maps their primitive cells onto each other without scaling, with the tolerances of George
et al. 2020 (ltol 0.1, stol 0.1, angle 3°).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import spglib
from ase import Atoms, units
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_gaprss import frames as frames_
from aiida_gaprss.analysis.hull import reduced_formula, reference_energy
from aiida_gaprss.analysis.zero import EnergyZero
from aiida_gaprss.frames import PREDICTION, REFERENCE
from aiida_gaprss.runners.status import CONVERGED, GIVEN_UP, ON_THE_WAY

#: ``relax_status`` of frames that are no candidates: on their way, or lost.
NOT_RELAXED = frozenset({ON_THE_WAY, *GIVEN_UP})

#: Two frames further apart than this are compared no further.
ENERGY_TOLERANCE = 0.005  # eV/atom
VOLUME_TOLERANCE = 0.03  # relative

#: Å within which pymatgen takes two atoms as translated copies. Its default, 0.25, would undo real distortions.
PRIMITIVE_TOLERANCE = 0.1

MATCHER = StructureMatcher(ltol=0.1, stol=0.1, angle_tol=3, primitive_cell=False, scale=False)


@dataclass(frozen=True)
class Minimum:
    """A distinct structure that a search has found.

    Its representative is, among the frames that are this structure, a converged one if there is any, then one with a
    reference energy, then the lowest. Energies in eV/atom, volume in Å³/atom.
    """

    rank: int
    frame_id: str
    formula: str
    count: int
    converged_count: int
    converged: bool
    relax_status: str
    space_group: int
    symbol: str
    primitive_atoms: int
    volume: float
    pressure_GPa: float
    predicted_energy: float
    predicted_enthalpy: float
    above_lowest: float
    ref_energy: float | None
    atoms: Atoms

    @property
    def error(self) -> float | None:
        """Predicted minus reference energy, eV/atom."""
        return None if self.ref_energy is None else self.predicted_energy - self.ref_energy

    @classmethod
    def from_row(cls, row: Mapping[str, Any], atoms: Atoms) -> Minimum:
        """Return what :meth:`as_dict` has written, of versions before 0.2, too, which called predictions by the name GAP."""
        return cls(**{key.replace("gap_", "predicted_"): value for key, value in row.items()}, atoms=atoms)

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the atoms as plain data."""
        return {key: value for key, value in vars(self).items() if key != "atoms"}


def symmetry(atoms: Atoms, symprec: float = 0.05) -> tuple[int, str, int]:
    """Return the number and symbol of the space group, and the number of atoms in the primitive cell.

    :param symprec: tolerance in Å. A relaxation stopped at finite forces leaves positions a few hundredths of an Å off.
        If spglib finds no consistent set of operations, the tolerance is halved up to four times, then doubled once; a
        looser one comes last because it can only invent symmetry. If all fail, the answer is P1.
    """
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    for factor in (1.0, 0.5, 0.25, 0.125, 0.0625, 2.0):
        try:
            with warnings.catch_warnings():  # spglib announces that failures will raise instead of returning None
                warnings.simplefilter("ignore")
                dataset = spglib.get_symmetry_dataset(cell, symprec=symprec * factor)
        except spglib.SpglibError:
            continue
        if dataset is not None:
            return int(dataset.number), str(dataset.international), len(set(dataset.mapping_to_primitive.tolist()))
    return 1, "P1", len(atoms)


class EndPoint:
    """A relaxed frame with the numbers that decide most comparisons; energy, enthalpy in eV/atom, volume in Å³/atom."""

    def __init__(self, atoms: Atoms, index: int, pressure: float, prefix: str = PREDICTION) -> None:
        self.atoms = atoms
        self.index = index
        self.formula = reduced_formula(atoms)
        self.volume = abs(float(atoms.cell.volume)) / len(atoms)
        self.energy = float(atoms.info[f"{prefix}_energy"]) / len(atoms)
        self.enthalpy = self.energy + pressure * units.GPa * self.volume
        self.status = str(atoms.info.get("relax_status", "unknown"))
        self.converged = self.status == CONVERGED
        self.excess = 0.0  # enthalpy above the lowest, or above the convex hull

    def preference(self) -> tuple[bool, bool, float, int]:
        """Sort key for the representative of a group."""
        return not self.converged, not frames_.is_labelled(self.atoms), self.enthalpy, self.index

    @cached_property
    def structure(self) -> Structure:
        """Reduced primitive cell."""
        bare = Atoms(self.atoms.numbers, self.atoms.positions, cell=self.atoms.cell, pbc=True)
        structure = AseAtomsAdaptor.get_structure(bare)
        return structure.get_primitive_structure(tolerance=PRIMITIVE_TOLERANCE).get_reduced_structure()

    def near(self, other: EndPoint) -> bool:
        return (
            self.formula == other.formula
            and abs(self.enthalpy - other.enthalpy) <= ENERGY_TOLERANCE
            and abs(self.volume - other.volume) <= VOLUME_TOLERANCE * other.volume
        )


def _is_relaxed(atoms: Atoms, prefix: str = PREDICTION) -> bool:
    return (
        f"{prefix}_energy" in atoms.info
        and not frames_.is_isolated_atom(atoms)
        and atoms.info.get("relax_status") not in NOT_RELAXED
    )


def common_pressure(frames: Iterable[Atoms], prefix: str = PREDICTION) -> float:
    """Return the ``pressure_GPa`` that all relaxed ones of ``frames`` share, or 0 if they differ."""
    pressures = {float(a.info.get("pressure_GPa", 0.0)) for a in frames if _is_relaxed(a, prefix)}
    return pressures.pop() if len(pressures) == 1 else 0.0


def end_points(frames: Iterable[Atoms], pressure_GPa: float, prefix: str = PREDICTION) -> list[EndPoint]:
    """Return the frames that are end points of relaxations, with their enthalpies at a pressure (see :func:`unique_minima`)."""
    relaxed = (atoms for atoms in frames if _is_relaxed(atoms, prefix))
    return [EndPoint(atoms, index, pressure_GPa, prefix) for index, atoms in enumerate(relaxed)]


def same_structure(first: EndPoint, second: EndPoint) -> bool:
    """Tell whether two end points are the same structure."""
    return first.near(second) and bool(MATCHER.fit(first.structure, second.structure, skip_structure_reduction=True))


def unique_minima(
    frames: Iterable[Atoms],
    window: float = 0.5,
    limit: int | None = 50,
    pressure_GPa: float | None = None,
    symprec: float = 0.05,
    prefix: str = PREDICTION,
) -> list[Minimum]:
    """Return the distinct structures among relaxed ``frames``, sorted by the potential's enthalpy per atom.

    Frames without ``PRED_energy``, isolated atoms and frames that are no end point of a relaxation (:data:`NOT_RELAXED`)
    are left out; frames that ran out of steps or time stay, flagged ``converged=False``. All predictions should come from
    one potential. Structures of several compositions are compared by their heights above the convex hull of them all; if one of
    the elements has none of its own, each composition has its own lowest.

    :param window: structures up to this far above the lowest, eV/atom.
    :param limit: at most so many structures; None for all within the window.
    :param pressure_GPa: the pressure at which enthalpies are compared. By default the one that all frames were relaxed at,
        or 0 if they differ: the enthalpies at different pressures cannot be ranked, the energies can.
    :param symprec: see :func:`symmetry`.
    :param prefix: whose energies count: ``PRED``, or ``REF``, the reference's; they are called predicted in what is returned.
    """
    frames = list(frames)
    pressure = common_pressure(frames, prefix) if pressure_GPa is None else pressure_GPa
    candidates = end_points(frames, pressure, prefix)
    zero = _zero(candidates)
    for candidate in candidates:
        candidate.excess = zero.above(candidate.atoms)

    groups: list[list[EndPoint]] = []
    for candidate in sorted(candidates, key=lambda c: (c.excess, c.index)):
        full = limit is not None and len(groups) >= limit
        if candidate.excess > window or (full and not _may_join(candidate, groups)):
            break  # beyond the last group, too: its count is complete
        group = _find(candidate, groups)
        if group is not None:
            group.append(candidate)
        elif not full:
            groups.append([candidate])

    best = [(min(group, key=EndPoint.preference), group) for group in groups]
    of_best = _zero([candidate for candidate, _ in best])
    if zero.hull is None or of_best.hull is not None:
        zero = of_best  # a representative need not be the lowest of its group
    for candidate, _ in best:
        candidate.excess = zero.above(candidate.atoms)
    best.sort(key=lambda pair: (pair[0].excess, pair[0].index))
    return [_minimum(rank, candidate, group, symprec) for rank, (candidate, group) in enumerate(best, start=1)]


def ranked_by_reference(minima: Sequence[Minimum], known: Sequence[Atoms] = (), tie: float = 0.001) -> list[Minimum]:
    """Return the minima in the order of the reference where it is known, then the others in that of the potential.

    The reference is the truth; the potential's own order within its error is chance. What counts is the enthalpy at the pressure
    of the search, and for several compositions its height above the convex hull. Minima that the reference puts within ``tie``
    (eV/atom) of the first of them are equal in energy, as the polytypes of diamond are for a short-ranged reference: of these
    the one with the smallest primitive cell comes first.

    :param known: other labelled frames, which the hull goes by, too.
    """
    pressure = minima[0].pressure_GPa if minima else 0.0

    def enthalpy(atoms: Atoms) -> float:
        return reference_energy(atoms) + pressure * units.GPa * float(atoms.get_volume())

    frames = [_with_reference(m) for m in minima]
    zero = EnergyZero([*known, *frames], enthalpy)
    heights = [(zero.above(frame), m) for frame, m in zip(frames, minima, strict=True) if m.ref_energy is not None]
    heights.sort(key=lambda pair: (pair[0], pair[1].rank))
    ordered: list[Minimum] = []
    while heights:
        equal = [pair for pair in heights if not pair[0] - heights[0][0] > tie]
        ordered += [m for _, m in sorted(equal, key=lambda pair: (pair[1].primitive_atoms, pair[0], pair[1].rank))]
        heights = heights[len(equal) :]
    ordered += [m for m in minima if m.ref_energy is None]
    return [replace(m, rank=rank) for rank, m in enumerate(ordered, start=1)]


def _with_reference(minimum: Minimum) -> Atoms:
    atoms = minimum.atoms.copy()
    if minimum.ref_energy is not None:
        frames_.set_labels(atoms, minimum.ref_energy * len(atoms))
    return atoms


def _zero(candidates: list[EndPoint]) -> EnergyZero:
    enthalpies = {id(candidate.atoms): candidate.enthalpy * len(candidate.atoms) for candidate in candidates}
    return EnergyZero([candidate.atoms for candidate in candidates], lambda atoms: enthalpies[id(atoms)])


def _may_join(candidate: EndPoint, groups: list[list[EndPoint]]) -> bool:
    return bool(groups) and candidate.excess <= groups[-1][0].excess + ENERGY_TOLERANCE


def _find(candidate: EndPoint, groups: list[list[EndPoint]]) -> list[EndPoint] | None:
    """Return the group whose lowest member is the same structure; ``groups`` are sorted by that member."""
    near: list[list[EndPoint]] = []
    for group in reversed(groups):
        if candidate.excess - group[0].excess > ENERGY_TOLERANCE:
            break
        near.append(group)
    near.sort(key=len, reverse=True)  # what was found often is likely to be found again: most searches end with the first
    return next((group for group in near if same_structure(candidate, group[0])), None)


def _minimum(rank: int, candidate: EndPoint, group: list[EndPoint], symprec: float) -> Minimum:
    atoms = candidate.atoms
    number, symbol, primitive_atoms = symmetry(atoms, symprec)
    reference = frames_.energy(atoms, REFERENCE)
    return Minimum(
        rank=rank,
        frame_id=str(atoms.info.get("frame_id", "")),
        formula=candidate.formula,
        count=len(group),
        converged_count=sum(member.converged for member in group),
        converged=candidate.converged,
        relax_status=candidate.status,
        space_group=number,
        symbol=symbol,
        primitive_atoms=primitive_atoms,
        volume=candidate.volume,
        pressure_GPa=float(atoms.info.get("pressure_GPa", 0.0)),
        predicted_energy=candidate.energy,
        predicted_enthalpy=candidate.enthalpy,
        above_lowest=candidate.excess,
        ref_energy=None if reference is None else reference / len(atoms),
        atoms=atoms,
    )
