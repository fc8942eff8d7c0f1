"""Pushing atoms apart until hard spheres no longer overlap, without loss of symmetry."""

from __future__ import annotations

from typing import Protocol

import numpy as np

#: Largest fraction of space that equal spheres fill, π/√18 (Kepler).
CLOSE_PACKING = np.pi / np.sqrt(18)

#: Lattice points, times pairs of atoms, that are looked at together: more belong to cells so flat that no atom has room in them.
MOST_VECTORS = 30_000_000

#: Vectors between atoms that may be computed for one cell, a minute or two of one core. So there is an end to every cell, and it
#: is the same on every machine.
MOST_WORK = 5_000_000_000


class TooWide(Exception):
    """Distances that reach over more lattice points than can be looked at."""


class OutOfWork(Exception):
    """The work that one cell is worth has been done."""


class Work:
    """What may still be computed for one cell."""

    def __init__(self, vectors: float = MOST_WORK) -> None:
        """Begin with a number of vectors between atoms."""
        self.left = vectors

    def spend(self, vectors: int) -> None:
        """Take off what is computed next.

        :raises OutOfWork: if nothing is left.
        """
        self.left -= vectors
        if self.left < 0:
            raise OutOfWork


def largest_separation(volume_per_atom: float) -> float:
    """Return the largest smallest distance (Å) any arrangement has at a volume per atom (Å³): (√2 v)^(1/3)."""
    return float((np.sqrt(2) * volume_per_atom) ** (1 / 3))


def lattice_shifts(lattice: np.ndarray, cutoff: float, pairs: int = 1) -> np.ndarray:
    """Return the lattice points, shape (n, 3) fractional, that two atoms within ``cutoff`` (Å) can be apart by.

    Fractional differences of the atoms are taken to lie in [−½, ½].

    :param pairs: of atoms for which they are looked at.
    :raises TooWide: if there are too many.
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    span = np.ceil(cutoff / heights - 0.5).clip(min=0)
    if not np.prod(2 * span + 1) * pairs <= MOST_VECTORS:
        raise TooWide
    reach = span.astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    corners = np.stack(np.meshgrid(*([-0.5, 0.5],) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    radius = np.linalg.norm(corners @ lattice, axis=1).max()
    return grid[np.linalg.norm(grid @ lattice, axis=1) <= cutoff + radius]


def own_vectors(difference: np.ndarray, shifts: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the indices (i, j, s) of vectors that join two atoms of one rigid body, or an atom with itself.

    :param difference: (m, n, 3) unwrapped fractional differences; atoms of one body are not wrapped back into the cell.
    :param shifts: (k, 3) of :func:`lattice_shifts`.
    :param same: (m, n) tells which pairs belong to one body.
    """
    i, j = np.nonzero(same)
    pair, shift = np.nonzero((shifts == np.rint(difference[i, j])[:, None]).all(axis=2))
    return i[pair], j[pair], shift


def separations(fractional: np.ndarray, lattice: np.ndarray, cutoff: float, same: np.ndarray) -> np.ndarray:
    """Return the smallest distance (Å) of every pair of atoms, shape (n, n); inf above ``cutoff`` (Å).

    The diagonal is the distance of an atom to its own images. Distances within a rigid body do not count.

    :param same: (n, n) tells which pairs belong to one body; the identity if there are only atoms.
    """
    shifts = lattice_shifts(lattice, cutoff, len(fractional) ** 2)
    difference = fractional[:, None] - fractional[None, :]
    vectors = ((difference - np.rint(difference))[:, :, None] + shifts) @ lattice
    squared = np.einsum("ijsx,ijsx->ijs", vectors, vectors)
    squared[own_vectors(difference, shifts, same)] = np.inf
    smallest = np.sqrt(squared.min(axis=2))
    return np.where(smallest <= cutoff, smallest, np.inf)


class Movable(Protocol):
    """What :func:`push_apart` moves: atoms of which some determine the others."""

    #: (m,) indices of the atoms that are followed.
    representatives: np.ndarray
    #: (n, n) tells which atoms belong to one rigid body.
    same: np.ndarray

    def fractional(self) -> np.ndarray:
        """Return the fractional coordinates of all atoms, shape (n, 3)."""

    def move(self, push: np.ndarray) -> None:
        """Move as the pushes on the representatives, shape (m, 3) in Å, demand and symmetry and rigidity allow."""


def push_apart(assembly: Movable, lattice: np.ndarray, minimum: np.ndarray, steps: int, work: Work) -> bool:
    """Move atoms until every pair is at least its minimum separation apart; tell whether that was reached. The cell is kept.

    Every overlapping pair is moved apart along its connecting line, each atom by half of what is missing.

    :param lattice: (3, 3) lattice vectors as rows, Å.
    :param minimum: (n, n) minimum separations, Å.
    :param steps: give up after as many steps.
    :raises TooWide: if distances reach over too many lattice points.
    :raises OutOfWork: if ``work`` is used up.
    """
    target = minimum * 1.0005
    pairs = len(assembly.representatives) * len(minimum)
    shifts = lattice_shifts(lattice, float(target.max()), pairs)
    shift_vectors = shifts @ lattice
    followed = assembly.representatives
    same = assembly.same[followed]
    wanted, kept = target[followed][:, :, None], minimum[followed][:, :, None]
    for _ in range(steps):
        work.spend(pairs * len(shifts))
        fractional = assembly.fractional()
        difference = fractional[followed][:, None] - fractional[None, :]
        vectors = ((difference - np.rint(difference)) @ lattice)[:, :, None] + shift_vectors
        distances = np.sqrt(np.einsum("ijsx,ijsx->ijs", vectors, vectors))
        distances[own_vectors(difference, shifts, same)] = np.inf
        if (distances >= kept).all():
            return True
        overlap = np.clip(wanted - distances, 0, None)
        assembly.move(0.5 * np.einsum("ijs,ijsx->ix", overlap / np.maximum(distances, 1e-3), vectors))
    return False
