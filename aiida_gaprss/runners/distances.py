"""Whether atoms have come too close, or are alone, found with few neighbour lists (uploaded with the job)."""

from __future__ import annotations

import math

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list

#: Å beyond the shortest distance allowed, up to which pairs are listed.
SKIN = 1.0


class Distances:
    """Tells whether atoms of one cell have come too close, or are alone, with few neighbour lists.

    After a list that told the distances d, atoms have moved by at most u within a cell that has been stretched by at least
    ``low`` and at most ``high`` (the singular values of its deformation). Distances are now between low d - 2u and high d + 2u;
    as long as these keep the limits, no new list is needed (after L. Verlet, Phys. Rev. 159, 98 (1967)).
    """

    listed: Atoms
    neighbours: Atoms

    def __init__(self, shortest: np.ndarray, reach: float) -> None:
        """:param shortest: Å, by atomic numbers, -inf for pairs that may be at any distance; :param reach: Å, see ``alone``."""
        self.shortest = shortest
        self.limit = float(shortest.max())
        self.reach = reach
        self.room, self.nearest = -math.inf, math.inf  # Å: what is known after a list

    def too_close(self, atoms: Atoms) -> bool:
        """Tell whether two atoms are closer than ``shortest``."""
        if self.limit <= 0:
            return False
        if self.room > 0:
            low, _, moved = changes(self.listed, atoms)
            if low * (self.limit + self.room) - 2 * moved > max(low, 1) * self.limit:
                return False
        first, second, distances = neighbor_list("ijd", atoms, self.limit + SKIN)
        room = distances - self.shortest[atoms.numbers[first], atoms.numbers[second]]
        self.room = float(room.min(initial=SKIN))
        self.listed = atoms.copy()
        return self.room < 0

    def alone(self, atoms: Atoms) -> bool:
        """Tell whether an atom has no other within ``reach``."""
        # A sphere of half the reach around an atom that is alone is free of others, and of its own images.
        if not self.reach or atoms.get_volume() <= np.pi / 6 * self.reach**3:
            return False
        if self.nearest < self.reach:
            _, high, moved = changes(self.neighbours, atoms)
            if high * self.nearest + 2 * moved < self.reach:
                return False
        first, distances = neighbor_list("id", atoms, self.reach)
        nearest = np.full(len(atoms), math.inf)
        np.minimum.at(nearest, first, distances)
        self.nearest = nearest.max()
        self.neighbours = atoms.copy()
        return not self.nearest < self.reach


def shortest_distances(limits: float | dict[str, float]) -> np.ndarray:
    """Return the shortest distances allowed (Å) by atomic numbers, from one for all or from some by pair (``Li-Cu``)."""
    if not isinstance(limits, dict):
        return np.full((119, 119), limits)
    out = np.full((119, 119), -math.inf)
    for pair, limit in limits.items():
        first, second = (atomic_numbers[symbol] for symbol in pair.split("-"))
        out[first, second] = out[second, first] = limit
    return out


def changes(before: Atoms, after: Atoms) -> tuple[float, float, float]:
    """Return the smallest and the largest stretch of the cell, and how far (Å) an atom has moved besides."""
    deformation = np.linalg.solve(before.cell.array, after.cell.array)
    stretches = np.linalg.svd(deformation, compute_uv=False)
    moved = np.linalg.norm(after.positions - before.positions @ deformation, axis=1).max()
    return float(stretches[-1]), float(stretches[0]), float(moved)
