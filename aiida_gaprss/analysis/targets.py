"""Whether a search has found the structures that it was meant to find."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_gaprss.analysis.hull import reduced_formula
from aiida_gaprss.analysis.minima import EndPoint, end_points, same_structure, symmetry

#: A relaxation may change the density of what was given, not its structure; tolerances of George et al. 2020.
KEPT = StructureMatcher(ltol=0.1, stol=0.1, angle_tol=3, primitive_cell=True, scale=True)


@dataclass(frozen=True)
class Found:
    """A target, relaxed by the potential that drove the search, and the end points that are the same structure.

    Enthalpies in eV/atom. ``kept``: the relaxed target is the structure that was given, but for its density. ``first_hit``:
    number of the attempt, from 1. ``above_lowest``: of the relaxed target, above the lowest end point of its composition.
    ``difference``: of the lowest hit from the relaxed target.
    """

    name: str
    formula: str
    status: str
    given_space_group: int
    space_group: int | None
    kept: bool | None
    predicted_energy: float | None
    predicted_enthalpy: float | None
    above_lowest: float | None
    found: bool
    hits: int
    first_hit: int | None
    best_hit: str | None
    difference: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(vars(self))


def names_of(targets: Sequence[Atoms]) -> list[str]:
    """Return what targets are called: their config types if these tell them apart, else their frame ids."""
    types = [str(atoms.info.get("config_type", "")) for atoms in targets]
    return types if all(types) and len(set(types)) == len(types) else [str(atoms.info["frame_id"]) for atoms in targets]


def find(
    targets: Mapping[str, Atoms], relaxed: Mapping[str, Atoms], ends: Iterable[tuple[int, Atoms]], pressure_GPa: float
) -> list[Found]:
    """Return what the end points of a search say of every target.

    :param targets: the structures as they were given, by name.
    :param relaxed: the last frames of their relaxations; a target without one, or whose relaxation was given up, is not found.
    :param ends: number of the attempt, from 1, and last frame of its relaxation; those that are no candidates are passed over.
    """
    attempts = list(ends)
    number_of = {id(atoms): number for number, atoms in attempts}
    candidates = end_points((atoms for _, atoms in attempts), pressure_GPa)
    return [_find(name, atoms, relaxed.get(name), candidates, number_of, pressure_GPa) for name, atoms in targets.items()]


def _find(
    name: str, given: Atoms, relaxed: Atoms | None, ends: Sequence[EndPoint], number_of: Mapping[int, int], pressure_GPa: float
) -> Found:
    formula = reduced_formula(given)
    group = symmetry(given)[0]
    status = "lost" if relaxed is None else str(relaxed.info.get("relax_status"))
    targets = [] if relaxed is None else end_points([relaxed], pressure_GPa)
    if not targets:
        return Found(name, formula, status, group, None, None, None, None, None, False, 0, None, None, None)
    (target,) = targets
    hits = [end for end in ends if same_structure(end, target)]
    best = min(hits, key=lambda end: end.enthalpy, default=None)
    lowest = min((end.enthalpy for end in ends if end.formula == formula), default=target.enthalpy)
    return Found(
        name=name,
        formula=formula,
        status=status,
        given_space_group=group,
        space_group=symmetry(target.atoms)[0],
        kept=bool(KEPT.fit(_structure(given), _structure(target.atoms))),
        predicted_energy=target.energy,
        predicted_enthalpy=target.enthalpy,
        above_lowest=target.enthalpy - lowest,
        found=bool(hits),
        hits=len(hits),
        first_hit=min((number_of[id(end.atoms)] for end in hits), default=None),
        best_hit=None if best is None else str(best.atoms.info.get("frame_id", "")),
        difference=None if best is None else best.enthalpy - target.enthalpy,
    )


def _structure(atoms: Atoms) -> Structure:
    return AseAtomsAdaptor.get_structure(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))


def in_words(row: dict[str, Any]) -> str:
    """Return what became of a target as a line for a reader."""
    if row["predicted_enthalpy"] is None:
        return f"{row['name']}: not found; its own relaxation: {row['status']}"
    height = f"{1000 * row['above_lowest']:+.1f} meV/atom from the lowest minimum"
    if not row["found"]:
        text = f"{row['name']}: not found; {height}"
    else:
        difference = f"{1000 * row['difference']:+.1f} meV/atom from it"
        text = f"{row['name']}: found {row['hits']} times, first by attempt {row['first_hit']}, {difference}; {height}"
    return text if row["kept"] else f"{text} (the potential relaxes it to another structure, space group {row['space_group']})"
