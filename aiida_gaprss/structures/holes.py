"""Where a crystal has room for another atom: the corners of its Voronoi cells, which are as far from four atoms or more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial import Voronoi, cKDTree

from aiida_gaprss.structures.symmetry import Symmetry

#: Å; holes nearer to each other than this are one.
ONE_HOLE = 0.5

#: Atoms within so many times its radius are the neighbours of a hole.
NEIGHBOURS = 1.05

#: Å; of a crystal so much is looked at around its cell.
AROUND = 8.0


@dataclass(frozen=True)
class Hole:
    """A hole in a crystal.

    :param position: Å; ``radius``: distance of the nearest atoms, Å; ``neighbours``: how many these are.
    """

    position: np.ndarray
    radius: float
    neighbours: int


def holes(crystal: Atoms, tolerance: float, radius: float) -> list[Hole]:
    """Return one of each kind of hole that symmetry tells apart, the largest first.

    :param tolerance: of the symmetry, Å; ``radius``: shortest distance from the atoms, Å.
    """
    symmetry = Symmetry(crystal, tolerance)
    found: list[Hole] = []
    surroundings = _surroundings(symmetry.primitive)
    tree = cKDTree(surroundings)
    corners = Voronoi(surroundings).vertices
    scaled = corners @ np.linalg.inv(symmetry.primitive.cell.array)
    inside = ((scaled > -1e-6) & (scaled < 1 - 1e-6)).all(axis=1)
    corners, scaled = corners[inside], scaled[inside]
    distances = tree.query(corners)[0]
    for number in np.lexsort((*np.round(scaled.T, 4), -np.round(distances, 4))):
        position, distance = corners[number], float(distances[number])
        if distance >= radius and not any(symmetry.same(position, other.position, ONE_HOLE) for other in found):
            found.append(Hole(position, distance, len(tree.query_ball_point(position, NEIGHBOURS * distance))))
    return found


def _surroundings(crystal: Atoms) -> np.ndarray:
    """Return positions of the atoms of a crystal and of those around its cell, Å, shape (n, 3)."""
    heights = 1 / np.linalg.norm(crystal.cell.reciprocal().array, axis=1)
    times = np.ceil(AROUND / heights).astype(int)
    steps = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in times), indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray((crystal.positions[None] + (steps @ crystal.cell.array)[:, None]).reshape(-1, 3))
