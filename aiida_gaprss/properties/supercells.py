"""Supercells of a crystal, its symmetry, and what becomes of a cell that is relaxed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import find_mic, minkowski_reduce

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import PropertyError

#: Å, of two places that are one.
SAME_PLACE = 0.05


def supercell(crystal: Atoms, length: float, repeat: Sequence[int] | None = None) -> Atoms:
    """Return a crystal repeated along its vectors; the atoms of the first cell come first.

    :param length: shortest that each vector may be, Å; those of the crystal are the shortest that its lattice has.
    :param repeat: so many times along the vectors as they are given, instead.
    :raises PropertyError: if the crystal is not periodic in all directions.
    """
    if not crystal.pbc.all():
        raise PropertyError("defects need a crystal that is periodic in all directions")
    base = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
    if repeat is not None:
        return base.repeat(tuple(repeat))
    base.set_cell(minkowski_reduce(base.cell.array)[0])
    return base.repeat(tuple(int(np.ceil(length / vector - 1e-6)) for vector in base.cell.lengths()))


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
    """Return the shortest distance between two atoms, images included, Å."""
    distances = atoms.get_all_distances(mic=True)
    np.fill_diagonal(distances, fr.image_distance(atoms))
    return float(distances.min())


def moves(before: Atoms, after: Atoms) -> np.ndarray:
    """Return how far each atom has moved, besides all of them together, Å, shape ``(natoms,)``."""
    vectors, _ = find_mic(after.positions - before.positions, before.cell, True)
    return np.asarray(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1))


@dataclass(frozen=True)
class Symmetry:
    """Operations of the space group of a crystal, by spglib.

    :param tolerance: of positions, Å.
    """

    crystal: Atoms
    tolerance: float = 0.01

    @cached_property
    def dataset(self) -> Any:
        """What spglib says of the crystal.

        :raises PropertyError: if it finds no symmetry, as where two atoms are at one place.
        """
        cell = (self.crystal.cell.array, self.crystal.get_scaled_positions(), self.crystal.numbers)
        found = spglib.get_symmetry_dataset(cell, symprec=self.tolerance)
        if found is None:
            raise PropertyError(f"spglib finds no symmetry of the crystal to {self.tolerance:g} Å: are two atoms at one place?")
        return found

    @property
    def sites(self) -> list[int]:
        """One atom of each kind of site, the first."""
        return sorted({int(atom) for atom in self.dataset.equivalent_atoms})

    def images(self, place: np.ndarray) -> np.ndarray:
        """Return where the operations take a place, fractional coordinates, shape (operations, 3)."""
        return np.asarray(self.dataset.rotations @ place + self.dataset.translations)

    def atoms_at(self, places: np.ndarray) -> np.ndarray:
        """Return which atom is at each of some fractional coordinates, shape (n,)."""
        between = self.crystal.get_scaled_positions()[None] - places[:, None]
        between -= np.round(between)
        return np.asarray(np.linalg.norm(between @ self.crystal.cell.array, axis=2).argmin(axis=1))

    def same(self, place: np.ndarray, other: np.ndarray, within: float = SAME_PLACE) -> bool:
        """Tell whether an operation takes a place (fractional coordinates) to another one, to so many Å."""
        between = self.images(place) - other
        vectors = (between - np.round(between)) @ self.crystal.cell.array
        return bool(find_mic(vectors, self.crystal.cell, True)[1].min() < within)
