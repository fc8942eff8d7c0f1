"""Point defects in a supercell: vacancies, antisites, interstitials and dumbbells, one of each kind that symmetry tells apart.

The supercell has the atoms of the crystal first, at their places (``supercells.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss.settings.model import AtomCount, Integer, Length, Model
from aiida_gaprss.structures.holes import holes
from aiida_gaprss.structures.supercells import nearest_distance
from aiida_gaprss.structures.symmetry import CrystalError, Symmetry

#: Distance of the two atoms of a dumbbell, before it is relaxed, relative to that of nearest neighbours.
DUMBBELL = 0.8


@dataclass(frozen=True)
class Defect:
    """A defect in its supercell.

    :param change: atoms that it has more than the perfect supercell, by element.
    :param place: where it is, Å.
    :param told: what is said of it besides, as plain data.
    """

    name: str
    atoms: Atoms
    change: Mapping[str, int]
    place: np.ndarray
    told: Mapping[str, Any] = field(default_factory=dict)


def elements_of(crystal: Atoms) -> list[str]:
    """Return the elements in the order of their names."""
    return sorted(set(crystal.symbols))


def sites_of(crystal: Atoms, tolerance: float) -> list[tuple[int, str, dict[str, Any]]]:
    """Return of each kind of site an atom, its element, and what is told of the site.

    :param tolerance: of the symmetry, Å.
    """
    symmetry = Symmetry(crystal, tolerance)
    equal = Counter(int(atom) for atom in symmetry.dataset.crystallographic_orbits)
    out = []
    for site in symmetry.sites:
        symbol = str(crystal.symbols[site])
        told = {"element": symbol, "site": site, "wyckoff": str(symmetry.dataset.wyckoffs[site]), "sites_in_crystal": equal[site]}
        out.append((site, symbol, told))
    return out


def vacancies(crystal: Atoms, perfect: Atoms, tolerance: float) -> list[Defect]:
    """Return a supercell with one atom missing, for each kind of site."""
    out = []
    for site, symbol, told in sites_of(crystal, tolerance):
        atoms = perfect.copy()
        del atoms[site]
        out.append(Defect(f"vacancy_{symbol}_{site}", atoms, {symbol: -1}, crystal.positions[site], told))
    return out


def antisites(crystal: Atoms, perfect: Atoms, tolerance: float) -> list[Defect]:
    """Return a supercell with one atom of another element of the crystal, for each kind of site and each other element.

    :raises CrystalError: if the crystal is an element.
    """
    symbols = elements_of(crystal)
    if len(symbols) < 2:
        raise CrystalError(f"antisites need a compound, but the crystal is {symbols[0]}")
    out = []
    for site, symbol, told in sites_of(crystal, tolerance):
        for other in symbols:
            if other != symbol:
                atoms = perfect.copy()
                atoms.symbols[site] = other
                name = f"antisite_{other}_on_{symbol}_{site}"
                change = {symbol: -1, other: 1}
                out.append(Defect(name, atoms, change, crystal.positions[site], {**told, "added": other}))
    return out


class Additions(Model):
    """What is put into a crystal: settings of all that makes interstitials."""

    holes: AtomCount = Field(2, description="so many of the largest holes that symmetry tells apart")
    hole_radius_A: Length = Field(1.0, description="shortest distance of a hole from the atoms, Å")
    elements: list[str] | None = Field(None, description="what is put in; default: each element of the crystal")
    dumbbells: list[tuple[Integer, Integer, Integer]] = Field(
        default=[], description="directions [u, v, w], of the vectors of the crystal, along which two atoms share a site"
    )


def interstitials(crystal: Atoms, perfect: Atoms, tolerance: float, added: Additions) -> list[Defect]:
    """Return a supercell with one atom more, in each hole and on each kind of site.

    :raises CrystalError: if there is no hole of that size, an element is not in the crystal, or a direction is none.
    """
    found = holes(crystal, tolerance, added.hole_radius_A)[: added.holes]
    if not found and not added.dumbbells:
        raise CrystalError(f"no hole is {added.hole_radius_A:g} Å from all atoms: set hole_radius_A smaller")
    out, symbols = [], _allowed(crystal, added.elements)
    for number, hole in enumerate(found):
        told = {"neighbours": hole.neighbours, "radius_A": hole.radius}
        for symbol in symbols:
            atoms = perfect + Atoms(symbol, [hole.position])
            name = f"interstitial_{symbol}_{number}"
            out.append(Defect(name, atoms, {symbol: 1}, hole.position, {**told, "element": symbol}))
    return out + _dumbbells(crystal, perfect, tolerance, added.dumbbells)


def _allowed(crystal: Atoms, elements: Sequence[str] | None) -> list[str]:
    known = elements_of(crystal)
    if wrong := [symbol for symbol in elements or () if symbol not in known]:
        raise CrystalError(f"elements: {wrong[0]} is not in the crystal, which has {', '.join(known)}")
    return list(elements or known)


def _dumbbells(crystal: Atoms, perfect: Atoms, tolerance: float, directions: Sequence[Sequence[int]]) -> list[Defect]:
    out, half = [], DUMBBELL * nearest_distance(crystal) / 2
    for site, symbol, told in sites_of(crystal, tolerance) if directions else ():
        for direction in directions:
            vector = np.asarray(direction) @ crystal.cell.array
            if not any(direction):
                raise CrystalError("dumbbells: [0, 0, 0] is no direction")
            vector *= half / np.linalg.norm(vector)
            atoms = perfect + Atoms(symbol, [crystal.positions[site] + vector])
            atoms.positions[site] -= vector
            name = f"dumbbell_{symbol}_{site}_{''.join(map(str, direction))}"
            out.append(Defect(name, atoms, {symbol: 1}, crystal.positions[site], told))
    return out
