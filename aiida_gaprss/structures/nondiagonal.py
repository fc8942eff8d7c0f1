"""Non-diagonal supercells: the smallest cells in which a wave of a given wavevector fits.

J. H. Lloyd-Williams and B. Monserrat, Phys. Rev. B 92, 184301 (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import TypeAlias

import numpy as np
import spglib
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import minkowski_reduce

from aiida_gaprss.structures.symmetry import CrystalError, Symmetry, spglib_finds

#: How far atoms may be from where symmetry has them, Å.
SYMMETRY = 1e-5

#: How far a number may be from a whole one that it is meant to be.
WHOLE = 1e-6


#: In the reciprocal vectors of a crystal.
Wavevector: TypeAlias = tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True, eq=False)
class Supercell:
    """One supercell: ``matrix`` S (3, 3), whose rows are its vectors in those of the crystal; wavevectors that fit into it.

    ``q``: irreducible wavevectors, in the reciprocal vectors of the crystal; ``weights``: how many of the grid each stands for.
    """

    matrix: np.ndarray
    q: tuple[Wavevector, ...]
    weights: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of primitive cells."""
        return round(np.linalg.det(self.matrix))

    def words(self) -> str:
        """Return the wavevectors in words."""
        return "; ".join(" ".join(map(str, q)) for q in self.q)

    def holds(self, q: np.ndarray) -> np.ndarray:
        """Tell which wavevectors fit: S·q whole; q has shape (n, 3)."""
        waves = np.asarray(q, dtype=float) @ self.matrix.T
        return np.asarray(np.abs(waves - np.rint(waves)).max(axis=1) < WHOLE)

    def build(self, crystal: Atoms) -> Atoms:
        """Return the supercell of a crystal."""
        return make_supercell(Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True), self.matrix)


def primitive(crystal: Atoms, tolerance: float) -> Atoms:
    """Return the primitive cell of a crystal, with its shortest vectors, as it lies there.

    :param tolerance: of the symmetry, Å.
    :raises CrystalError: if no symmetry is found.
    """
    out = Symmetry(crystal, tolerance).primitive.copy()
    out.set_cell(compact(out, np.eye(3, dtype=int)) @ out.cell.array)
    out.wrap()
    return out


def _mesh(crystal: Atoms, grid: Sequence[int], tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each wavevector of a grid with Γ in it the number of the one that stands for it, and all of them as integers.

    :return: shapes (n,), (n, 3).
    """
    if len(grid) != 3 or any(int(n) != n for n in grid) or min(grid) < 1:
        raise CrystalError(f"the grid is {list(grid)}, expected three whole numbers above 0")
    mapping, addresses = spglib_finds(spglib.get_ir_reciprocal_mesh, crystal, tolerance, list(grid), is_shift=[0, 0, 0])
    return mapping, addresses


def irreducible(crystal: Atoms, grid: Sequence[int], tolerance: float = SYMMETRY) -> list[tuple[Wavevector, int]]:
    """Return the irreducible wavevectors of a grid with Γ in it, and how many of the grid each stands for.

    Related are those that an operation of the space group, or the reversal of time, carries into each other (spglib).

    :param crystal: a primitive cell; of another one, the wavevectors are those of the other one.
    :param tolerance: of the symmetry, Å.
    :raises CrystalError: if the grid has not three numbers above 0, or no space group is found.
    """
    mapping, addresses = _mesh(crystal, grid, tolerance)
    out: list[tuple[Wavevector, int]] = []
    for number, weight in zip(*np.unique(mapping, return_counts=True), strict=True):
        a, b, c = (Fraction(int(k), int(n)) for k, n in zip(addresses[number], grid, strict=True))
        out.append(((a, b, c), int(weight)))
    return out


def smallest(q: Sequence[Fraction]) -> np.ndarray:
    """Return the Hermite normal form S of the smallest supercell into which a wave fits: S·q whole, of lcm(denominators) cells.

    There is one only: the lattice of all vectors along which the wave has whole periods. Row by row from the last one, each is
    the shortest step that takes one (PRB 92, 184301, eq. 8; upper triangles). In whole numbers, as parts of the common size.
    """
    size = lcm(*(part.denominator for part in q))
    x, y, z = (int(part * size) for part in q)
    f = size // gcd(z, size)
    d, e = next((d, e) for d in range(1, size + 1) for e in range(f) if (d * y + e * z) % size == 0)
    a = size // (d * f)
    b, c = next((b, c) for b in range(d) for c in range(f) if (a * x + b * y + c * z) % size == 0)
    return np.array([[a, b, c], [0, d, e], [0, 0, f]])


def compact(crystal: Atoms, matrix: np.ndarray) -> np.ndarray:
    """Return the matrix of the same supercell with the shortest vectors (Minkowski), right-handed."""
    _, operation = minkowski_reduce(matrix @ crystal.cell.array)
    reduced = operation @ matrix
    return reduced if np.linalg.det(reduced @ crystal.cell.array) * np.linalg.det(crystal.cell.array) > 0 else -reduced


def supercells(crystal: Atoms, grid: Sequence[int], tolerance: float = SYMMETRY) -> list[Supercell]:
    """Return one supercell for every irreducible wavevector of a grid, the smallest first.

    :param crystal: a primitive cell.
    :param grid: numbers of wavevectors along the reciprocal vectors.
    :param tolerance: of the symmetry, Å.
    :raises CrystalError: as :func:`irreducible`.
    """
    found = [Supercell(compact(crystal, smallest(q)), (q,), (weight,)) for q, weight in irreducible(crystal, grid, tolerance)]
    return sorted(found, key=lambda one: one.size)


def fewest(found: Sequence[Supercell], crystal: Atoms, grid: Sequence[int], tolerance: float = SYMMETRY) -> list[Supercell]:
    """Return those supercells that are needed: a wave that fits into a larger one, or its image, needs none of its own.

    There is one way to do it: a supercell can be left out if its wavevector, or an image of it, is a multiple of another one.

    :param found: of :func:`supercells`, for the same crystal, grid and tolerance.
    """
    mapping, addresses = _mesh(crystal, grid, tolerance)
    q = addresses / np.asarray(grid)
    waves = irreducible(crystal, grid, tolerance)
    left, out = set(mapping.tolist()), []
    for one in sorted(found, key=lambda one: -one.size):
        held = set(mapping[one.holds(q)].tolist())
        if left & held:
            left -= held
            wavevectors, weights = zip(*(pair for pair in waves if one.holds(np.array([pair[0]]))[0]), strict=True)
            out.append(Supercell(one.matrix, wavevectors, weights))
    return sorted(out, key=lambda one: one.size)
