"""Pushing atoms apart until hard spheres no longer overlap, without loss of symmetry."""

from __future__ import annotations

import numpy as np

#: Largest fraction of space that equal spheres fill, π/√18 (Kepler).
CLOSE_PACKING = np.pi / np.sqrt(18)


def largest_separation(volume_per_atom: float) -> float:
    """Return the largest smallest distance (Å) any arrangement has at a volume per atom (Å³): (√2 v)^(1/3)."""
    return float((np.sqrt(2) * volume_per_atom) ** (1 / 3))


def lattice_shifts(lattice: np.ndarray, cutoff: float) -> np.ndarray:
    """Return the lattice points, shape (n, 3) fractional, that two atoms within ``cutoff`` (Å) can be apart by.

    Fractional differences of the atoms are taken to lie in [−½, ½].
    """
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.ceil(cutoff / heights - 0.5).astype(int).clip(min=0)
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    corners = np.stack(np.meshgrid(*([-0.5, 0.5],) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    radius = np.linalg.norm(corners @ lattice, axis=1).max()
    return grid[np.linalg.norm(grid @ lattice, axis=1) <= cutoff + radius]


def separations(fractional: np.ndarray, lattice: np.ndarray, cutoff: float) -> np.ndarray:
    """Return the smallest distance (Å) of every pair of atoms, shape (n, n); inf above ``cutoff`` (Å).

    The diagonal is the distance of an atom to its own images.
    """
    shifts = lattice_shifts(lattice, cutoff)
    difference = fractional[:, None] - fractional[None, :]
    difference -= np.rint(difference)
    vectors = (difference[:, :, None] + shifts) @ lattice
    squared = np.einsum("ijsx,ijsx->ijs", vectors, vectors)
    own = np.flatnonzero((shifts == 0).all(axis=1))
    squared[np.arange(len(fractional)), np.arange(len(fractional)), own] = np.inf
    smallest = np.sqrt(squared.min(axis=2))
    return np.where(smallest <= cutoff, smallest, np.inf)


def push_apart(
    fractional: np.ndarray,
    lattice: np.ndarray,
    minimum: np.ndarray,
    representatives: np.ndarray,
    symmetrise: np.ndarray,
    steps: int,
) -> np.ndarray | None:
    """Move atoms until every pair is at least its minimum separation apart; the cell is kept.

    Every overlapping pair is moved apart along its connecting line, each atom by half of what is missing. Only one atom
    of an orbit is followed; its displacement determines those of the others.

    :param fractional: (n, 3) fractional coordinates.
    :param lattice: (3, 3) lattice vectors as rows, Å.
    :param minimum: (n, n) minimum separations, Å.
    :param representatives: (m,) index of one atom per orbit.
    :param symmetrise: (n, 3, m, 3) fractional displacements of all atoms for those of the representatives.
    :param steps: give up after as many steps.
    :return: (n, 3) fractional coordinates, or None.
    """
    target = minimum * 1.0005
    shifts = lattice_shifts(lattice, float(target.max()))
    inverse = np.linalg.inv(lattice)
    own = int(np.flatnonzero((shifts == 0).all(axis=1))[0])
    rows = np.arange(len(representatives))
    shift_vectors = shifts @ lattice
    wanted, kept = target[representatives][:, :, None], minimum[representatives][:, :, None]
    for _ in range(steps):
        difference = fractional[representatives][:, None] - fractional[None, :]
        difference -= np.rint(difference)
        vectors = (difference @ lattice)[:, :, None] + shift_vectors
        distances = np.sqrt(np.einsum("ijsx,ijsx->ijs", vectors, vectors))
        distances[rows, representatives, own] = np.inf
        if (distances >= kept).all():
            return fractional
        overlap = np.clip(wanted - distances, 0, None)
        push = 0.5 * np.einsum("ijs,ijsx->ix", overlap / np.maximum(distances, 1e-3), vectors)
        fractional = fractional + np.einsum("nxmy,my->nx", symmetrise, push @ inverse)
    return None
