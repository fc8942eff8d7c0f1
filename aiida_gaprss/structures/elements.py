"""Volumes and separations for those who give none, estimated from the elements.

Volume: of the element itself, its molar volume as pymatgen lists it; of the gases, whose molecular solids are no guide to what
they fill in a compound, the average over many crystals of Hofmann, Acta Cryst. B 58, 489 (2002). Separation: a fraction of the
sum of the covalent radii (of ASE), less where the spheres would fill more of the smallest volume than random positions can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Element

from aiida_gaprss.structures.checks import RandomCellError

#: Å³ per atom in crystals, of the elements that are gases (Hofmann 2002, table 2).
GASES = {"H": 5.08, "N": 11.80, "O": 11.39, "F": 11.17, "Cl": 25.8}

#: The range of volumes, as multiples of the estimate.
VOLUME_RANGE = (0.7, 1.6)

#: The smallest separation, as a multiple of the sum of covalent radii.
BOND_FRACTION = 0.8

#: Fraction of the smallest volume that spheres of the estimated separations may fill, and spheres of given ones.
ESTIMATED_FILLING, GIVEN_FILLING = 0.4, 0.6


def atomic_volume(symbol: str) -> float:
    """Return the estimated volume of an atom, Å³.

    :raises RandomCellError: for an element of which no density is known.
    """
    if symbol in GASES:
        return GASES[symbol]
    molar = Element(symbol).molar_volume  # cm³/mol
    if not molar:
        raise RandomCellError(f"volume_per_atom: no volume is known for {symbol}, give one")
    return float(molar) / 0.602214076


def _radius(symbol: str) -> float:
    return float(covalent_radii[atomic_numbers[symbol]])


def estimated_separations(smallest_volumes: Mapping[str, float]) -> dict[tuple[str, str], float]:
    """Return separations (Å) of all pairs, under both orders, that fit the smallest volumes (Å³) of the elements.

    Diameters are additive: whatever the composition, the spheres fill at most :data:`ESTIMATED_FILLING` of the volume.
    """
    diameters = {
        symbol: min(2 * BOND_FRACTION * _radius(symbol), float((6 / np.pi * ESTIMATED_FILLING * volume) ** (1 / 3)))
        for symbol, volume in smallest_volumes.items()
    }
    return {(a, b): round((diameters[a] + diameters[b]) / 2, 3) for a in diameters for b in diameters}


def estimated_volumes(
    symbols: Iterable[str], separations: Mapping[tuple[str, str], float] | None = None
) -> dict[str, tuple[float, float]]:
    """Return the smallest and largest volume (Å³) of an atom of every element, large enough for given separations (Å)."""
    out = {}
    for symbol in symbols:
        low, high = (factor * atomic_volume(symbol) for factor in VOLUME_RANGE)
        if separations is not None:
            needed = np.pi / 6 * separations[symbol, symbol] ** 3 / GIVEN_FILLING
            low, high = max(low, float(needed)), max(high, 1.5 * float(needed))
        out[symbol] = (round(low, 3), round(high, 3))
    return out
