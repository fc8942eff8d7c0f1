"""The check of duplicates: is a structure there twice, above all with two different energies?

Equal distances do not make two structures equal: decorations of one lattice, and homometric structures, share them all. They
only find the candidates, cheaply. What remains must also agree in many-body terms (:mod:`descriptors`), and in the end pymatgen's
``StructureMatcher`` must map one primitive cell onto the other. Mirror images count as equal: they have the same energy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import spglib
from ase import Atoms
from ase.data import chemical_symbols
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from scipy.spatial import cKDTree

from aiida_gaprss.audit.descriptors import Basis, Terms, basis_for, neighbours
from aiida_gaprss.audit.result import AuditSettings, Check
from aiida_gaprss.frames import REFERENCE, is_isolated_atom

#: Lattices and distances of duplicates agree within this, Å.
SAME = 0.002
#: Distances that are compared, Å, and numbers that stand for them in a first comparison.
RANGE, QUANTILES = 6.0, 24
#: Å within which atoms are translated copies of each other.
COPIES = 0.005
#: Energies of equal structures that lie in a row without a gap are noise, up to so many times the difference that two may have.
IN_A_ROW = 3.0

#: Tolerances are relative: to lengths, to the cube root of the volume per atom, and in degrees.
_MATCHER = StructureMatcher(ltol=0.01, stol=0.003, angle_tol=0.5, primitive_cell=False, scale=False)


class _Candidate:
    """A frame with what it is compared by, each computed when it is needed first."""

    def __init__(self, index: int, atoms: Atoms, basis: Basis | None) -> None:
        self.index, self.atoms, self.basis = index, atoms, basis
        self.energy = float(atoms.info[f"{REFERENCE}_energy"]) / len(atoms)
        self.distances = _distances(atoms)
        self.print = _print(atoms, self.distances)
        self.difference = 0.0  # of its distances from those of the first of its set, Å

    @cached_property
    def _terms(self) -> Terms | None:
        return self.basis.terms(self.atoms) if self.basis is not None else None

    @cached_property
    def terms(self) -> np.ndarray:
        """Many-body terms per atom."""
        return np.zeros(0) if self._terms is None else self._terms.energy / len(self.atoms)

    @cached_property
    def allowed(self) -> np.ndarray:
        """By how much each of them changes at most if all atoms move by ``SAME``, and edges of the cell with them."""
        if self._terms is None:
            return np.zeros(0)
        n, edge = len(self.atoms), np.cbrt(abs(self.atoms.cell.volume) / len(self.atoms))
        moved = np.abs(self._terms.forces).sum(axis=0) + np.abs(self._terms.virial).sum(axis=0) / edge
        return 2 * SAME * moved / n + 1e-6

    @cached_property
    def structure(self) -> Structure:
        """Primitive cell."""
        cell = (self.atoms.cell.array, self.atoms.get_scaled_positions(), self.atoms.numbers)
        try:
            found = spglib.standardize_cell(cell, to_primitive=True, no_idealize=True, symprec=COPIES)
        except spglib.SpglibError:
            found = None
        lattice, positions, numbers = found if found is not None else cell
        return Structure(lattice, [chemical_symbols[int(z)] for z in numbers], positions)

    def accounted_for(self, difference: float) -> float:
        """Return by how much the energy (eV/atom) may change, says the labels, if distances change by ``difference`` Å."""
        forces, virial = self.atoms.arrays.get(f"{REFERENCE}_forces"), self.atoms.info.get(f"{REFERENCE}_virial")
        work = 0.0 if forces is None else float(np.linalg.norm(forces, axis=1).mean())
        if virial is not None:
            edge = np.cbrt(abs(self.atoms.cell.volume) / len(self.atoms))
            work += float(np.abs(np.asarray(virial, dtype=float)).sum()) / len(self.atoms) / edge
        return work * difference


def check_duplicates(frames: Sequence[Atoms], names: Sequence[str], settings: AuditSettings) -> Check:
    """Check that no structure is there twice, above all not with two different energies.

    Two frames are the same structure if composition, volume per atom and all distances up to 6 Å, sorted by pair of elements,
    agree within 0.002 Å, and one can be mapped onto the other: whatever the choice of the cell, its orientation or its
    repetition. Equal structures whose energies differ by more than ``duplicate_energy``, and by more than what their forces make
    of the difference that is left, were labelled at two levels of theory.
    """
    check = Check("duplicates")
    sets = [sorted(s, key=lambda c: (c.energy, c.index)) for s in _sets(frames)]
    spread = {id(s): s[-1].energy - s[0].energy for s in sets}
    sets.sort(key=lambda s: -spread[id(s)])
    different = [s for s in sets if _differ(s, settings.duplicate_energy)]
    equal = [s for s in sets if s not in different]
    check.numbers.update(structures=len(sets), different=len(different), largest_difference=spread[id(sets[0])] if sets else 0.0)
    if different:
        first, last = names[different[0][0].index], names[different[0][-1].index]
        check.add(
            "fault",
            f"{len(different)} structures are there twice or more with different energies, {first} and {last} differ by "
            f"{spread[id(different[0])]:.3g} eV/atom: two levels of theory, two electronic states, or no convergence",
            [names[c.index] for s in different for c in s],
        )
    if equal:
        most = max(equal, key=len)
        check.add(
            "warning",
            f"{len(equal)} structures are there twice or more with equal energies, {names[most[0].index]} {len(most)} times",
            [names[c.index] for s in sorted(equal, key=len, reverse=True) for c in s],
        )
    if check.verdict == "ok":
        check.add("ok", "no structure is there twice")
    return check


def _differ(same: Sequence[_Candidate], limit: float) -> bool:
    """Tell whether energies of one structure, in their order, differ by more than noise and small differences in structure."""
    energies = np.array([c.energy for c in same])
    limit += max(c.accounted_for(c.difference) for c in same)
    return bool(np.diff(energies).max() > limit or energies[-1] - energies[0] > IN_A_ROW * limit)


def _sets(frames: Sequence[Atoms]) -> list[list[_Candidate]]:
    """Return the sets of frames that are one structure: each is compared with the first of its set, so that nothing drifts."""
    groups: dict[tuple, list[int]] = defaultdict(list)
    for i, atoms in enumerate(frames):
        if f"{REFERENCE}_energy" in atoms.info and not is_isolated_atom(atoms):
            numbers, counts = np.unique(atoms.numbers, return_counts=True)
            groups[tuple(numbers), tuple(counts // np.gcd.reduce(counts))].append(i)
    found: list[list[_Candidate]] = []
    for members in groups.values():
        if len(members) > 1:
            basis = basis_for([frames[i] for i in members])
            found += _of_composition([_Candidate(i, frames[i], basis) for i in members])
    return found


def _of_composition(candidates: Sequence[_Candidate]) -> list[list[_Candidate]]:
    tree = cKDTree(np.array([c.print for c in candidates]))
    free = np.ones(len(candidates), dtype=bool)
    found = []
    for number, first in enumerate(candidates):
        if not free[number]:
            continue
        near = np.array(tree.query_ball_point(first.print, SAME, p=np.inf))
        near = np.sort(near[free[near] & (near > number)])
        if not len(near):
            continue
        terms = np.array([candidates[k].terms for k in near])
        same = [int(k) for k in near[(np.abs(terms - first.terms) <= first.allowed).all(axis=1)] if _same(first, candidates[k])]
        free[same] = False
        if same:
            found.append([first, *(candidates[k] for k in same)])
    return found


def _same(first: _Candidate, other: _Candidate) -> bool:
    """Compare two candidates, the distances first; note by how much these differ."""
    difference = _difference(first.distances, other.distances)
    if difference > SAME or not _MATCHER.fit(first.structure, other.structure):
        return False
    other.difference = difference
    return True


def _distances(atoms: Atoms) -> dict[tuple[int, int], np.ndarray]:
    """Return the sorted distances up to ``RANGE`` by pair of elements."""
    first, second, distance, _ = neighbours(atoms, RANGE)
    low = np.minimum(atoms.numbers[first], atoms.numbers[second])
    high = np.maximum(atoms.numbers[first], atoms.numbers[second])
    order = np.lexsort((distance, high, low))
    out = {}
    for pair in sorted({(int(a), int(b)) for a, b in zip(low, high, strict=True)}):
        mine = order[(low[order] == pair[0]) & (high[order] == pair[1])]
        out[pair] = distance[mine]
    return out


def _print(atoms: Atoms, distances: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Return numbers that hardly differ for equal structures: edge of the volume per atom, quantiles of the distances, Å."""
    kinds = sorted({int(z) for z in atoms.numbers})
    parts = [np.array([np.cbrt(abs(atoms.cell.volume) / len(atoms))])]
    where = (np.arange(QUANTILES) + 0.5) / QUANTILES * 0.9
    for a in kinds:
        for b in kinds[kinds.index(a) :]:
            own = distances.get((a, b), np.zeros(0))
            parts.append(own[(where * len(own)).astype(int)] if len(own) else np.full(QUANTILES, RANGE))
    return np.concatenate(parts)


def _difference(first: dict[tuple[int, int], np.ndarray], second: dict[tuple[int, int], np.ndarray]) -> float:
    """Return the largest difference of two lists of distances, infinite if they are of different kinds.

    A longer list is that of a repeated cell. Distances near the range may be in one list only.
    """
    if first.keys() != second.keys():
        return np.inf
    largest = 0.0
    for pair in first:
        short, long = sorted((first[pair], second[pair]), key=len)
        times = max(1, round(len(long) / len(short)))
        repeated = np.repeat(short, times)
        inner = min(int((repeated < RANGE - 0.05).sum()), int((long < RANGE - 0.05).sum()))
        if inner == 0 or abs(len(repeated) - len(long)) > 0.2 * len(long):
            return np.inf
        largest = max(largest, float(np.abs(repeated[:inner] - long[:inner]).max()))
    return largest
