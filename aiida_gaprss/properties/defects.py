"""Point defects of a crystal: vacancies, antisites and interstitials; their formation energies are those of ``formation.py``."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss.properties.base import PropertyError
from aiida_gaprss.properties.formation import Defect, Defects, elements_of
from aiida_gaprss.properties.holes import holes
from aiida_gaprss.properties.supercells import Symmetry, nearest_distance
from aiida_gaprss.settings.model import AtomCount, Integer, Length, Real

#: Distance of the two atoms of a dumbbell, before it is relaxed, relative to that of nearest neighbours.
DUMBBELL = 0.8


class Vacancy(Defects):
    """Vacancies: one of each kind of site that symmetry tells apart."""

    kind: Literal["vacancy"] = "vacancy"
    starts: list[Annotated[Real, Field(ge=-0.5, le=0.5)]] = Field(
        default=[0.0, 0.2],
        min_length=1,
        description="as for all defects; by default from the ideal sites and from a fifth inward",
    )

    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the supercell with one atom missing, for each kind of site."""
        out = []
        for site, symbol, told in sites_of(crystal, self.symmetry_A):
            atoms = self.perfect(crystal)
            del atoms[site]
            out.append(Defect(f"vacancy_{symbol}_{site}", atoms, {symbol: -1}, crystal.positions[site], told))
        return out


class Antisite(Defects):
    """Antisites of a compound: each kind of site with an atom of each other element."""

    kind: Literal["antisite"] = "antisite"

    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the supercell with one atom of another element, for each kind of site.

        :raises PropertyError: if the crystal is an element.
        """
        symbols = elements_of(crystal)
        if len(symbols) < 2:
            raise PropertyError(f"antisites need a compound, but the crystal is {symbols[0]}")
        out = []
        for site, symbol, told in sites_of(crystal, self.symmetry_A):
            for other in symbols:
                if other != symbol:
                    atoms = self.perfect(crystal)
                    atoms.symbols[site] = other
                    name = f"antisite_{other}_on_{symbol}_{site}"
                    change = {symbol: -1, other: 1}
                    out.append(Defect(name, atoms, change, crystal.positions[site], {**told, "added": other}))
        return out


class Interstitial(Defects):
    """Interstitials in the holes of a crystal, the largest first, and dumbbells.

    In fcc the holes are the octahedral and the tetrahedral one, in bcc the tetrahedral one, in diamond the tetrahedral and the
    hexagonal one.
    """

    kind: Literal["interstitial"] = "interstitial"
    holes: AtomCount = Field(2, description="so many of the largest holes that symmetry tells apart")
    hole_radius_A: Length = Field(1.0, description="shortest distance of a hole from the atoms, Å")
    elements: list[str] | None = Field(None, description="what is put in; default: each element of the crystal")
    dumbbells: list[tuple[Integer, Integer, Integer]] = Field(
        default=[], description="directions [u, v, w], of the vectors of the crystal, along which two atoms share a site"
    )

    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the supercell with one atom more, in each hole and on each kind of site.

        :raises PropertyError: if there is no hole of that size.
        """
        found = holes(crystal, self.symmetry_A, self.hole_radius_A)[: self.holes]
        if not found and not self.dumbbells:
            raise PropertyError(f"no hole is {self.hole_radius_A:g} Å from all atoms: set hole_radius_A smaller")
        out = []
        for number, hole in enumerate(found):
            told = {"neighbours": hole.neighbours, "radius_A": hole.radius}
            for symbol in self._elements(crystal):
                atoms = self.perfect(crystal) + Atoms(symbol, [hole.position])
                out.append(
                    Defect(f"interstitial_{symbol}_{number}", atoms, {symbol: 1}, hole.position, {**told, "element": symbol})
                )
        return out + self._dumbbells(crystal)

    def _elements(self, crystal: Atoms) -> list[str]:
        known = elements_of(crystal)
        if wrong := [symbol for symbol in self.elements or () if symbol not in known]:
            raise PropertyError(f"elements: {wrong[0]} is not in the crystal, which has {', '.join(known)}")
        return list(self.elements or known)

    def _dumbbells(self, crystal: Atoms) -> list[Defect]:
        out, half = [], DUMBBELL * nearest_distance(crystal) / 2
        for site, symbol, told in sites_of(crystal, self.symmetry_A) if self.dumbbells else ():
            for direction in self.dumbbells:
                vector = np.asarray(direction) @ crystal.cell.array
                if not any(direction):
                    raise PropertyError("dumbbells: [0, 0, 0] is no direction")
                vector *= half / np.linalg.norm(vector)
                atoms = self.perfect(crystal)
                atoms += Atoms(symbol, [crystal.positions[site] + vector])
                atoms.positions[site] -= vector
                name = f"dumbbell_{symbol}_{site}_{''.join(map(str, direction))}"
                out.append(Defect(name, atoms, {symbol: 1}, crystal.positions[site], told))
        return out


def sites_of(crystal: Atoms, tolerance: float) -> list[tuple[int, str, dict[str, Any]]]:
    """Return of each kind of site an atom, its element, and what is told of the site."""
    symmetry = Symmetry(crystal, tolerance)
    equal = Counter(int(atom) for atom in symmetry.dataset.crystallographic_orbits)
    out = []
    for site in symmetry.sites:
        symbol = str(crystal.symbols[site])
        told = {"element": symbol, "site": site, "wyckoff": str(symmetry.dataset.wyckoffs[site]), "sites_in_crystal": equal[site]}
        out.append((site, symbol, told))
    return out
