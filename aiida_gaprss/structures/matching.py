"""Whether two crystals are the same structure, and what each is."""

from __future__ import annotations

import spglib
from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor

#: Tolerances of lengths, of sites, and of angles (degrees) by which J. George et al., J. Chem. Phys. 153, 044104 (2020) told that
#: a relaxation had left a crystal unchanged; tighter than the defaults of pymatgen's ``StructureMatcher``, 0.2, 0.3 and 5.
LTOL, STOL, ANGLE_TOL = 0.1, 0.1, 3.0


def is_same(first: Atoms, second: Atoms, ltol: float = LTOL, stol: float = STOL, angle_tol: float = ANGLE_TOL) -> bool:
    """Tell whether two crystals are one structure, whatever their volume and their cells, by pymatgen's ``StructureMatcher``.

    :param ltol: of lengths, relative; ``stol``: of sites, relative to the distance of atoms; ``angle_tol``: of angles, degrees.
    """
    bare = [Atoms(one.numbers, one.positions, cell=one.cell, pbc=True) for one in (first, second)]
    ours, theirs = (AseAtomsAdaptor.get_structure(atoms) for atoms in bare)
    return bool(StructureMatcher(ltol, stol, angle_tol).fit(ours, theirs))


def space_group(atoms: Atoms, symprec: float) -> str:
    """Return symbol and number, as ``Fd-3m (227)``; ``unknown`` if spglib finds none to ``symprec``, Å."""
    try:
        found = spglib.get_spacegroup((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec)
    except spglib.SpglibError:
        found = None
    return found or "unknown"
