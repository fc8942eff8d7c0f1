"""The symmetry of a crystal: its space group, which of its sites and places are equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import find_mic

#: Å, of two places that are one.
SAME_PLACE = 0.05


class CrystalError(ValueError):
    """A crystal of which something cannot be made."""


def spglib_finds(look: Callable[..., Any], crystal: Atoms, tolerance: float, *args: Any, **how: Any) -> Any:
    """Return what a function of spglib says of a crystal.

    :param tolerance: of positions, Å; ``args``: what the function is given before the crystal, ``how``: after it.
    :raises CrystalError: if it finds no symmetry, as where two atoms are at one place.
    """
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    try:
        found = look(*args, cell, symprec=tolerance, **how)
    except spglib.SpglibError:  # raised, or not, as whatever else has been imported wants it
        found = None
    if found is None:
        raise CrystalError(f"spglib finds no symmetry of the crystal to {tolerance:g} Å: are two atoms at one place?")
    return found


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

        :raises CrystalError: if it finds no symmetry, as where two atoms are at one place.
        """
        return spglib_finds(spglib.get_symmetry_dataset, self.crystal, self.tolerance)

    @cached_property
    def primitive(self) -> Atoms:
        """The primitive cell, as it lies in the crystal."""
        how = {"to_primitive": True, "no_idealize": True}
        vectors, scaled, numbers = spglib_finds(spglib.standardize_cell, self.crystal, self.tolerance, **how)
        return Atoms(numbers, scaled_positions=scaled, cell=vectors, pbc=True)

    @cached_property
    def operations(self) -> tuple[np.ndarray, np.ndarray]:
        """Rotations, shape (operations, 3, 3), and translations, (operations, 3), of the primitive cell, for columns of Å."""
        found = spglib_finds(spglib.get_symmetry_dataset, self.primitive, self.tolerance)
        vectors = self.primitive.cell.array.T
        return vectors @ found.rotations @ np.linalg.inv(vectors), found.translations @ vectors.T

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
