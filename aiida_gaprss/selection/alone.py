"""Atoms that have no neighbour: cells that have evaporated, or lost an atom."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii, vdw_radii

from aiida_gaprss.selection.neighbours import neighbours

#: Distance in sums of covalent radii beyond which two atoms are no neighbours. In the crystals of the elements it is at most 1.2,
#: and 1.5 for chains that van der Waals forces hold together.
REACH = 1.6

#: Noble gases, whose atoms nothing but van der Waals forces holds together.
_NOBLE = (2, 10, 18, 36, 54, 86)


def alone(atoms: Atoms, reach: float = REACH) -> np.ndarray:
    """Return for every atom whether no other, nor an image of its own, is near (see :func:`acting`)."""
    out = np.ones(len(atoms), dtype=bool)
    out[acting(atoms, reach)[0]] = False
    return out


def acting(atoms: Atoms, reach: float = REACH) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs within ``reach`` sums of covalent radii, on which any potential acts, as ``neighbours`` returns pairs.

    Atoms of noble gases count with the radii of van der Waals.
    """
    radii = np.where(np.isin(atoms.numbers, _NOBLE), vdw_radii[atoms.numbers], covalent_radii[atoms.numbers])
    first, second, distances, vectors = neighbours(atoms, float(2 * reach * radii.max()))
    near = distances < reach * (radii[first] + radii[second])
    return first[near], second[near], distances[near], vectors[near]
