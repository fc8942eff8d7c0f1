"""Supercells of a crystal, and what becomes of a cell that is relaxed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.geometry import find_mic, minkowski_reduce
from ase.neighborlist import neighbor_list

from aiida_gaprss import frames as fr
from aiida_gaprss.structures.symmetry import CrystalError


def repetitions(crystal: Atoms, length: float, repeat: Sequence[int] | None = None) -> tuple[Atoms, tuple[int, int, int]]:
    """Return a cell of a crystal, with the atoms where they are, and how often it is repeated along its vectors.

    :param length: shortest that each vector may be, Å; those of the cell are the shortest that its lattice has.
    :param repeat: so many times along the vectors as they are given, instead.
    :raises CrystalError: if the crystal is not periodic in all directions.
    """
    if not crystal.pbc.all():
        raise CrystalError("defects need a crystal that is periodic in all directions")
    base = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
    if repeat is None:
        base.set_cell(minkowski_reduce(base.cell.array)[0])
        repeat = [max(1, int(np.ceil(length / vector - 1e-6))) for vector in base.cell.lengths()]
    return base, (repeat[0], repeat[1], repeat[2])


def supercell(crystal: Atoms, length: float, repeat: Sequence[int] | None = None) -> Atoms:
    """Return a crystal repeated along its vectors, as :func:`repetitions` says; the atoms of the first cell come first.

    :raises CrystalError: if the crystal is not periodic in all directions.
    """
    base, times = repetitions(crystal, length, repeat)
    return base.repeat(times)


def too_small(cell: Atoms, reach: float) -> list[str]:
    """Return what is wrong with a supercell in which an atom could see a defect twice.

    :param reach: cutoff of the potential, Å.
    """
    distance = fr.image_distance(cell)
    if distance >= 2 * reach:
        return []
    return [
        f"the supercell of {len(cell)} atoms is too small: a defect is {distance:.2f} Å from its own image, expected at least "
        f"twice the cutoff of the potential, {2 * reach:.2f} Å; set length_A: {np.ceil(20 * reach) / 10:g}, or repeat"
    ]


def nearest_distance(atoms: Atoms) -> float:
    """Return the shortest distance between two atoms of a crystal, images included, Å.

    It is at most that of a close packing, 2^(1/6) (V/N)^(1/3).
    """
    return float(neighbor_list("d", atoms, 1.13 * (atoms.get_volume() / len(atoms)) ** (1 / 3)).min())


def scaled(atoms: Atoms, volume: float) -> Atoms:
    """Return a copy with so many times the volume.

    :raises CrystalError: if that is not above 0.
    """
    if not 0 < volume < np.inf:
        raise CrystalError(f"the volume is to be {volume} times that of the cell, expected a number above 0")
    out = atoms.copy()
    out.set_cell(out.cell.array * volume ** (1 / 3), scale_atoms=True)
    return out


def moves(before: Atoms, after: Atoms) -> np.ndarray:
    """Return how far each atom has moved, besides all of them together, Å, shape ``(natoms,)``."""
    vectors, _ = find_mic(after.positions - before.positions, before.cell, True)
    return np.asarray(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1))
