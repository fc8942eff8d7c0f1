"""Slabs of a crystal, of given Miller indices and all terminations, unrelaxed: those of pymatgen.

R. Tran et al., Sci. Data 3, 160080 (2016). Miller indices are those of the conventional standard cell (W. Setyawan and S.
Curtarolo, Comput. Mater. Sci. 49, 299 (2010)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import gcd
from typing import TypeAlias

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from ase.neighborlist import neighbor_list
from pymatgen.core import Structure
from pymatgen.core.surface import Slab, SlabGenerator, get_symmetrically_distinct_miller_indices
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from aiida_gaprss.frames import dumps, loads
from aiida_gaprss.structures.supercells import nearest_distance
from aiida_gaprss.structures.symmetry import CrystalError, Symmetry

#: Relative to the length per atom: terminations that differ by less are one.
SAME_SLAB = 0.01

#: Times the distance of the nearest neighbours, up to where atoms are bound.
BONDS = 1.2

#: Miller indices.
Miller: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Cut:
    """Slabs of one set of Miller indices, and the cell that they are cut from.

    :param slabs: one for each termination, that with the fewest broken bonds first.
    :param left_out: terminations that were not taken, and why.
    """

    name: str
    miller: Miller
    bulk: Atoms
    slabs: tuple[Atoms, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Cutter:
    """How a crystal is cut.

    :param thickness: of slabs at least, Å; ``vacuum``: between them at least, Å; ``tolerance``: of the symmetry, Å.
    :param symmetric: only slabs that have a surface energy: with two equal sides, and the composition of the crystal.
    """

    thickness: float
    vacuum: float
    tolerance: float = 0.01
    symmetric: bool = False

    def cuts(self, crystal: Atoms, planes: Sequence[Miller]) -> list[Cut]:
        """Return the slabs of one set of indices after another, with their bulk cells; they take seconds, and are kept.

        :raises CrystalError: if no symmetry of the crystal is found.
        """
        return [_cut(self, _text(crystal), miller) for miller in planes]


def planes_of_lattice(crystal: Atoms, max_index: int, tolerance: float) -> list[Miller]:
    """Return one set of Miller indices of each family, as pymatgen does: by the symmetry of the lattice, not of the crystal.

    :raises CrystalError: if no symmetry of the crystal is found.
    """
    found = get_symmetrically_distinct_miller_indices(_standard(_text(crystal), tolerance), max_index)
    return sorted((_three(miller) for miller in found), key=_simplest)


def planes_of_crystal(crystal: Atoms, max_index: int, tolerance: float) -> list[Miller]:
    """Return one set of Miller indices of each family that the point group of the crystal tells apart, the simplest first.

    Where the lattice has more symmetry than the crystal (pyrite, quartz, arsenic), these are more than pymatgen's.

    :raises CrystalError: if no symmetry of the crystal is found.
    """
    every = (_three(miller) for miller in product(range(-max_index, max_index + 1), repeat=3) if gcd(*miller) == 1)
    return one_of_each(crystal, sorted(every, key=_simplest), tolerance)


def one_of_each(crystal: Atoms, planes: Sequence[Miller], tolerance: float) -> list[Miller]:
    """Return those of some sets of Miller indices that are not of the family of one before them.

    :raises CrystalError: if no symmetry of the crystal is found.
    """
    seen: set[Miller] = set()
    out = []
    for miller in planes:
        if miller not in seen:
            out.append(miller)
            seen |= family(crystal, miller, tolerance)
    return out


def family(crystal: Atoms, miller: Miller, tolerance: float) -> set[Miller]:
    """Return the Miller indices that the point group, and the reversal of a plane, make of one.

    An operation with the rotation W takes h·x to h·W⁻¹·x; all W⁻¹ are all W.

    :raises CrystalError: if no symmetry of the crystal is found.
    """
    rotations = Symmetry(_atoms(_standard(_text(crystal), tolerance)), tolerance).dataset.rotations
    found = (np.asarray(miller) @ rotations).tolist()
    return {_three(row) for row in found} | {_three([-i for i in row]) for row in found}


def word(miller: Sequence[int]) -> str:
    """Return Miller indices as a word: 110, 1-10."""
    return "".join(str(int(i)) for i in miller)


@lru_cache(maxsize=32)
def _standard(crystal: str, tolerance: float) -> Structure:
    """Return the conventional standard cell of a crystal, given as extended XYZ."""
    atoms = loads(crystal)[0]
    _ = Symmetry(atoms, tolerance).dataset  # says what is wrong where there is none
    return SpacegroupAnalyzer(AseAtomsAdaptor.get_structure(atoms), symprec=tolerance).get_conventional_standard_structure()


@lru_cache(maxsize=512)
def _cut(cutter: Cutter, crystal: str, miller: Miller) -> Cut:
    standard = _standard(crystal, cutter.tolerance)
    generator = SlabGenerator(standard, miller, cutter.thickness, cutter.vacuum, center_slab=True)
    name, slabs, left_out = word(miller), [], []
    try:
        found = sorted(generator.get_slabs(tol=SAME_SLAB), key=lambda slab: -_bonds(slab))
    except (IndexError, ValueError) as error:  # of a crystal whose atoms have no neighbours
        raise CrystalError(f"pymatgen makes no slab of {word(miller)}: {error}") from error
    for number, slab in enumerate(found):
        if cutter.symmetric and (reason := _useless(slab, standard)):
            left_out.append(f"{name}, termination {number}: {reason}")
        else:
            slabs.append(_upright(slab))
    return Cut(name, miller, _atoms(generator.oriented_unit_cell), tuple(slabs), tuple(left_out))


def _text(crystal: Atoms) -> str:
    """Return a crystal, and nothing but its atoms, as extended XYZ, by which what is made of it is known again."""
    return dumps([Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)])


def _three(miller: Sequence[int]) -> Miller:
    return int(miller[0]), int(miller[1]), int(miller[2])


def _simplest(miller: Sequence[int]) -> tuple[int, ...]:
    return (max(abs(i) for i in miller), sum(abs(i) for i in miller), *(-i for i in miller))


def _atoms(structure: Structure) -> Atoms:
    """Return a structure as atoms alone."""
    found = AseAtomsAdaptor.get_atoms(structure)
    return Atoms(found.numbers, found.positions, cell=found.cell, pbc=True)


def _bonds(slab: Slab) -> float:
    """Return how many neighbours an atom of a slab has on average, of those that are not much farther away than the nearest."""
    atoms = _atoms(slab)
    return float(len(neighbor_list("i", atoms, BONDS * nearest_distance(atoms))) / len(atoms))


def _upright(slab: Slab) -> Atoms:
    """Return a slab in a cell whose third vector is along its normal, and whose first two are the shortest."""
    atoms = _atoms(slab.get_orthogonal_c_slab())
    atoms.set_cell(minkowski_reduce(atoms.cell.array, pbc=(True, True, False))[0])
    return atoms


def _useless(slab: Slab, standard: Structure) -> str | None:
    """Return why a slab has no surface energy of its own, or None."""
    if slab.composition.reduced_formula != standard.composition.reduced_formula:
        return f"not stoichiometric ({slab.composition.reduced_formula}), its energy depends on chemical potentials"
    operations = SpacegroupAnalyzer(slab, symprec=0.1).get_symmetry_operations()
    if not any(np.allclose(operation.rotation_matrix[2], (0, 0, -1)) for operation in operations):
        return "its two sides differ, only the sum of their energies is known"
    return None
