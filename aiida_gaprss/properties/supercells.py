"""Supercells of a crystal, its symmetry, and what becomes of a cell that is relaxed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """The space group of a crystal, by spglib; that of its primitive cell, also where the crystal is given in a larger one.

    :param tolerance: of positions, Å.
    """

    crystal: Atoms
    tolerance: float = 0.01

    @cached_property
    def dataset(self) -> Any:
        """What spglib says of the crystal as it is given.

        :raises PropertyError: if it finds no symmetry, as where two atoms are at one place.
        """
        return self._found(spglib.get_symmetry_dataset, self.crystal)

    @cached_property
    def primitive(self) -> Atoms:
        """The primitive cell, as it lies in the crystal."""
        vectors, scaled, numbers = self._found(spglib.standardize_cell, self.crystal, to_primitive=True, no_idealize=True)
        return Atoms(numbers, scaled_positions=scaled, cell=vectors, pbc=True)

    @cached_property
    def operations(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotations, shape (operations, 3, 3), and translations, (operations, 3), of the primitive cell, for columns of Å."""
        found = self._found(spglib.get_symmetry_dataset, self.primitive)
        vectors = self.primitive.cell.array.T
        return vectors @ found.rotations @ np.linalg.inv(vectors), found.translations @ vectors.T

    def _found(self, look: Callable[..., Any], atoms: Atoms, **how: Any) -> Any:
        try:
            found = look(_cell(atoms), symprec=self.tolerance, **how)
        except spglib.SpglibError:  # raised, or not, as whatever else has been imported wants it
            found = None
        if found is None:
            raise PropertyError(f"spglib finds no symmetry of the crystal to {self.tolerance:g} Å: are two atoms at one place?")
        return found

    @property
    def sites(self) -> list[int]:
        """One atom of each kind of site, the first."""
        return sorted({int(atom) for atom in self.dataset.crystallographic_orbits})

    def turned(self, vector: np.ndarray) -> np.ndarray:
        """Return what the operations make of a vector, Å, shape (operations, 3)."""
        return np.asarray(self.operations[0] @ vector)

    def images(self, place: np.ndarray) -> np.ndarray:
        """Return where the operations take a place, Å, shape (operations, 3)."""
        return np.asarray(self.turned(place) + self.operations[1])

    def atoms_at(self, places: np.ndarray) -> np.ndarray:
        """Return which atom of the primitive cell is at each of some places (Å), in whichever cell, shape (n,)."""
        between = (self.primitive.positions[None] - places[:, None]).reshape(-1, 3)
        return np.asarray(self._lengths(between).reshape(len(places), -1).argmin(axis=1))

    def same(self, place: np.ndarray, other: np.ndarray, within: float = SAME_PLACE) -> bool:
        """Tell whether an operation takes a place to another one, to so many Å."""
        return bool(self._lengths(self.images(place) - other).min() < within)

    def _lengths(self, vectors: np.ndarray) -> np.ndarray:
        return np.asarray(find_mic(vectors, self.primitive.cell, True)[1])


def _cell(atoms: Atoms) -> Any:
    """Return a cell as spglib takes it."""
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers
