"""Local energies: what each atom has of the energy of a crystal, by crystallographic site, and how two structures differ.

A potential that is a sum over atoms, E = Σ ε_i, says where in a structure energy is gained or lost; V. L. Deringer, C. J. Pickard
and G. Csányi, Phys. Rev. Lett. 120, 156001 (2018), fig. 4, compare β-B105 with β-B106 that way. A reference has no ε_i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import get_distances
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError, value_of
from aiida_gaprss.settings.model import Count, CountOrZero, Length

#: Cells whose vectors differ by less than this part of their lengths may be two models of one crystal.
SAME_CELL = 0.1

#: Å; farther than any two atoms of a cell.
NEVER = 1e6


class LocalEnergies(Property):
    """Local energies ε_i of a crystal, and if wanted of a supercell with a vacancy.

    ``result`` gives for each structure a table of its sites, ε_i of every atom, and by how much Σ ε_i misses the energy.
    ``across`` compares crystals with about the same cell site by site (:func:`difference`).
    """

    kind: Literal["local_energies"] = "local_energies"
    local: ClassVar[bool] = True
    referenced: ClassVar[bool] = False
    vacancy: bool = Field(False, description="also a supercell without one atom, not relaxed")
    atom: CountOrZero = Field(0, description="which one, by its number in the crystal")
    supercell: tuple[Count, Count, Count] = Field((1, 1, 1), description="repeats of the crystal for the vacancy")
    symprec_A: Length = Field(0.01, description="of the symmetry that tells which sites are the same")
    match_A: Length = Field(1.0, description="how far apart atoms of two structures may be that are the same site")

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "sum_error_eV_per_atom": Limits(
            1e-8, 1e-6, "eV", "frames are kept with eight decimals: rounding alone is at most 5e-9 (1 + 1/N) eV per atom"
        ),
    }

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong with the atom or the supercell of the vacancy.

        :param reach: cutoff of the potential, Å.
        """
        told = super().faults(crystal, reach)
        if self.vacancy and crystal.pbc.all() and not told:
            distance = fr.image_distance(crystal.repeat(self.supercell))
            if distance < 2 * reach:
                told.append(
                    f"local_energies.supercell is {'x'.join(map(str, self.supercell))}: the vacancy is {distance:.2f} Å from its "
                    f"image, expected at least twice the cutoff, {2 * reach:.2f} Å, so that no atom sees two"
                )
        return told

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the crystal, and the supercell with the vacancy.

        :raises PropertyError: if there is no such atom, or no other one.
        """
        frames = [Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=crystal.pbc)]
        if self.vacancy:
            frames.append(frames[0].repeat(self.supercell))
            if not self.atom < len(crystal) or len(frames[1]) < 2:
                raise PropertyError(
                    f"local_energies.atom is {self.atom} in a supercell of {len(crystal) * np.prod(self.supercell)} atoms, "
                    f"expected a number from 0 to {len(crystal) - 1}, and two atoms or more"
                )
            del frames[1][self.atom]
        for atoms, part in zip(frames, ("crystal", "vacancy"), strict=False):
            atoms.info = {"part": part}
        return frames

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return tables and local energies, eV, by ``crystal`` and ``vacancy``.

        :raises PropertyError: if the energy or the local energies of a frame are missing.
        """
        out = {atoms.info["part"]: self._told(atoms, prefix) for atoms in done}
        if self.vacancy:
            whole = crystal.repeat(self.supercell)
            hole = whole.positions[self.atom]
            _, distances = get_distances([hole], done[1].positions, cell=whole.cell, pbc=whole.pbc)
            before = np.tile(out["crystal"]["local_energies_eV"], len(whole) // len(crystal))
            change = np.array(out["vacancy"]["local_energies_eV"]) - np.delete(before, self.atom)
            out["vacancy"] |= {"distance_A": distances[0].tolist(), "change_eV": change.tolist()}
        return out

    def _told(self, atoms: Atoms, prefix: str) -> dict[str, Any]:
        energies = np.asarray(value_of(atoms, "local_energy", prefix), dtype=float)
        energy = float(value_of(atoms, "energy", prefix))
        return {
            "sites": sites(atoms, energies, self.symprec_A),
            "energy_eV": energy,
            "sum_error_eV": float(abs(energies.sum() - energy)),
            "local_energies_eV": energies.tolist(),
            "symbols": atoms.get_chemical_symbols(),
            "positions_A": atoms.positions.tolist(),
            "cell_A": atoms.cell.array.tolist(),
            "pbc": atoms.pbc.tolist(),
        }

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return by how much the sum of the local energies misses the energy, at most, eV/atom."""
        missed = [told["sum_error_eV"] / len(told["symbols"]) for told in result.values() if "sum_error_eV" in told]
        return {"sum_error_eV_per_atom": max(missed)} if missed else {}

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return the local energies by atom, and their change around the vacancy."""
        energies = np.array(result["crystal"]["local_energies_eV"])
        ylabel = "Local energy above the lowest (eV)"
        out = {"sites": Curve(list(range(len(energies))), [(energies - energies.min()).tolist()], "Atom", ylabel, points=True)}
        if "vacancy" in result:
            told = result["vacancy"]
            xlabel, ylabel = "Distance from the vacancy (Å)", "Change of the local energy (eV)"
            out["vacancy"] = Curve(told["distance_A"], [told["change_eV"]], xlabel, ylabel, points=True)
        return out

    def across(self, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return how crystals with about the same cell differ site by site, by ``second - first``."""
        out = {}
        for first, second in combinations(results, 2):
            pair = structure(results[first]["crystal"]), structure(results[second]["crystal"])
            if _comparable(*pair):
                out[f"{second} - {first}"] = difference(*pair, reach=self.match_A)
        return out


def structure(told: Mapping[str, Any]) -> Atoms:
    """Return a structure of a result, its local energies (eV) in the array ``local_energy``."""
    atoms = Atoms(told["symbols"], told["positions_A"], cell=told["cell_A"], pbc=told["pbc"])
    atoms.set_array("local_energy", np.array(told["local_energies_eV"], dtype=float))
    return atoms


def from_means(atoms: Atoms, energies: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Return local energies from the mean of their element, and these means: only differences within an element mean something.

    :param energies: eV, shape (natoms,).
    """
    means = {symbol: float(energies[atoms.symbols == symbol].mean()) for symbol in sorted(set(atoms.symbols))}
    return energies - np.array([means[symbol] for symbol in atoms.symbols]), means


def sites(atoms: Atoms, energies: np.ndarray, symprec: float = 0.01) -> list[dict[str, Any]]:
    """Return the crystallographic sites of a structure (spglib), those with the lowest local energies first.

    :param energies: eV, shape (natoms,); ``symprec``: Å.
    """
    same, letters = _orbits(atoms, symprec)
    table = []
    for first in np.unique(same):
        members = np.flatnonzero(same == first)
        mine = energies[members]
        table.append(
            {
                "element": str(atoms.symbols[first]),
                "wyckoff": letters[first],
                "multiplicity": len(members),
                "mean_eV": float(mine.mean()),
                "min_eV": float(mine.min()),
                "max_eV": float(mine.max()),
                "atoms": members.tolist(),
            }
        )
    return sorted(table, key=lambda row: (row["element"], row["mean_eV"]))


def _orbits(atoms: Atoms, symprec: float) -> tuple[np.ndarray, list[str]]:
    """Return of each atom the first one that symmetry makes the same, and Wyckoff letters; each for itself without symmetry."""
    try:
        found = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec)
    except spglib.SpglibError:
        found = None
    if found is None or not atoms.pbc.all():
        return np.arange(len(atoms)), ["–"] * len(atoms)
    return np.asarray(found.crystallographic_orbits), list(found.wyckoffs)


def difference(first: Atoms, second: Atoms, reach: float = 1.0) -> dict[str, Any]:
    """Return how the local energies of two structures with about the same cell and origin differ.

    Atoms of the same element are matched one to one so that the sum of their distances is the least (Hungarian method), in the
    mean of both cells; atoms that have no partner within ``reach`` (Å) are listed.

    :param first: with its local energies (eV) in the array ``local_energy``, as ``second``.
    """
    cell = (first.cell.array + second.cell.array) / 2
    here, there = (atoms.get_scaled_positions() @ cell for atoms in (first, second))
    _, distances = get_distances(here, there, cell=cell, pbc=True)
    distances[(first.numbers[:, None] != second.numbers) | (distances > reach)] = NEVER
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(distances), strict=True) if distances[i, j] < NEVER]
    left, right = ([int(pair[side]) for pair in pairs] for side in (0, 1))
    change = second.arrays["local_energy"][right] - first.arrays["local_energy"][left]
    return {
        "first": left,
        "second": right,
        "symbols": [str(first.symbols[i]) for i in left],
        "distance_A": [float(distances[pair]) for pair in pairs],
        "change_eV": change.tolist(),
        "only_in_first": sorted(set(range(len(first))) - set(left)),
        "only_in_second": sorted(set(range(len(second))) - set(right)),
    }


def _comparable(first: Atoms, second: Atoms) -> bool:
    """Tell whether two structures have about the same cell, and at least half of their atoms may be the same."""
    lengths = np.minimum(first.cell.lengths(), second.cell.lengths())
    alike = bool((np.linalg.norm(first.cell.array - second.cell.array, axis=1) < SAME_CELL * lengths).all())
    return alike and 2 * min(len(first), len(second)) > max(len(first), len(second)) and set(first.symbols) == set(second.symbols)
