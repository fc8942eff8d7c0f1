"""Pairs of atoms in vacuum over a range of distances: the repulsion that a potential cannot learn from relaxed matter."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii


def dimer_curve(a: str, b: str, n: int, factors: tuple[float, float], vacuum: float) -> list[Atoms]:
    """Return ``n`` dimers of the elements ``a`` and ``b``, evenly spaced in distance, in one cubic box.

    :param factors: smallest and largest distance as multiples of the bond length, the sum of the covalent radii (of ASE).
    :param vacuum: Å between the images at the largest distance.
    :raises ValueError: for fewer than two points, or a range that is empty or not positive.
    """
    low, high = factors
    if n < 2 or not 0 < low < high:
        raise ValueError(f"expected at least 2 distances over a range above 0, got {n} over {factors!r}")
    bond = float(covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]])
    box = round(high * bond + vacuum, 3)
    return [
        Atoms([a, b], positions=[(0.0, 0.0, 0.0), (0.0, 0.0, distance)], cell=[box] * 3, pbc=True)
        for distance in np.round(np.linspace(low, high, n) * bond, 4)
    ]
