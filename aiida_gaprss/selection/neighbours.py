"""Neighbours of the atoms of small cells, thousands of cells at a time."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from pymatgen.optimization.neighbors import find_points_in_spheres


def neighbours(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return first and second atom, distance and vector (Å, from first to second) of all pairs within ``cutoff``, by first atom.

    What ASE's ``neighbor_list("ijdD", …)`` returns, ten times as fast for a cell of a few atoms.
    """
    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    periodic = np.asarray(atoms.pbc, dtype=np.int64)
    cell = np.ascontiguousarray(atoms.cell.array, dtype=float)
    first, second, images, distances = find_points_in_spheres(positions, positions, cutoff, periodic, cell, 1e-8)
    others = np.flatnonzero((first != second) | images.any(axis=1))
    order = others[np.argsort(first[others], kind="stable")]
    first, second, images, distances = first[order], second[order], images[order], distances[order]
    return first, second, distances, positions[second] - positions[first] + images @ cell


def triplets(first: np.ndarray, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs a < b of entries of a neighbour list that have their first atom in common.

    :param first: first atoms of the list, sorted.
    """
    counts = np.bincount(first, minlength=n_atoms)
    places = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    partners = counts[first] - places - 1
    a = np.repeat(np.arange(len(first)), partners)
    return a, a + 1 + np.arange(len(a)) - np.repeat(np.cumsum(partners) - partners, partners)
