"""Distorted cells of a crystal: strained, scaled, and with its atoms displaced."""

from __future__ import annotations

import numpy as np
from ase import Atoms


def distorted(
    crystal: Atoms, n: int, displacement: float, strain: float, volume: tuple[float, float], rng: np.random.Generator
) -> list[Atoms]:
    """Return ``n`` distorted copies of a crystal.

    Each is scaled to a volume drawn uniformly, strained by a symmetric tensor with components drawn uniformly (which keeps
    the volume to first order only), and has its atoms displaced normally.

    :param displacement: standard deviation of the displacement of every coordinate, Å.
    :param strain: components are in [−strain, strain].
    :param volume: smallest and largest volume, relative to that of the crystal.
    """
    frames = []
    for _ in range(n):
        scale = rng.uniform(*volume) ** (1 / 3)
        draw = rng.uniform(-strain, strain, (3, 3))
        tensor = np.triu(draw) + np.triu(draw, 1).T
        atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
        atoms.set_cell(crystal.cell.array @ (scale * (np.eye(3) + tensor)), scale_atoms=True)
        atoms.positions += rng.normal(0.0, displacement, (len(atoms), 3))
        frames.append(atoms)
    return frames
