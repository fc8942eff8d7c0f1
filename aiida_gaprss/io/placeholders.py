"""Labels that a code prints where it has calculated none: zeros, or one value again and again."""

from __future__ import annotations

import numpy as np
import spglib
from ase import Atoms

from aiida_gaprss.io.common import Step
from aiida_gaprss.levels import VACUUM

#: Å; how exactly a structure must have a symmetry that is to explain forces of zero.
_PRECISION = 1e-3


def not_calculated(step: Step) -> tuple[np.ndarray | None, np.ndarray | None, list[str]]:
    """Return forces and stress of a step, each None if its numbers stand for "not calculated", and notes of that.

    Forces of zero are right where symmetry demands them, a stress of zeros in vacuum.
    """
    forces, stress, notes = step.forces, step.stress, []
    if forces is not None and not forces.any() and _may_have_forces(step.atoms):
        notes.append("all its forces are exactly 0, which its symmetry does not demand: left out, as not calculated")
        forces = None
    elif forces is not None and len(forces) > 1 and forces.any() and np.ptp(forces) == 0:
        notes.append(f"all its forces are {forces[0, 0]:g} eV/Å in all directions: left out, as not calculated")
        forces = None
    if stress is not None and not stress.any() and not _in_vacuum(step.atoms):
        notes.append("its stress is exactly 0 in all components: left out, as not calculated")
        stress = None
    elif stress is not None and stress.any() and np.ptp(stress) == 0:
        notes.append("its stress has one value in all components: left out, as not calculated")
        stress = None
    return forces, stress, notes


def _may_have_forces(atoms: Atoms) -> bool:
    """Tell whether there is an atom that its surroundings, by their symmetry, allow a force."""
    symmetry = spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), _PRECISION)
    if symmetry is None:
        return True
    positions = atoms.get_scaled_positions()
    for atom in positions:
        moved = symmetry["rotations"] @ atom + symmetry["translations"] - atom
        cartesian = (moved - np.rint(moved)) @ atoms.cell.array
        own = symmetry["rotations"][np.linalg.norm(cartesian, axis=1) < 10 * _PRECISION]
        if np.linalg.matrix_rank(own.mean(axis=0), tol=1e-6) > 0:
            return True
    return False


def _in_vacuum(atoms: Atoms) -> bool:
    """Tell whether there is vacuum around the atoms in all directions."""
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array).T, axis=1)
    fractions = np.sort(atoms.get_scaled_positions(), axis=0)
    gaps = np.diff(np.vstack([fractions, fractions[:1] + 1]), axis=0).max(axis=0)
    return bool((gaps * heights >= VACUUM).all())
