"""Point defects of a crystal: vacancies, interstitials and antisites, relaxed in a supercell of fixed shape.

The formation energy of a defect is E_f = E(defect) − E(perfect) − Σ Δn_i μ_i, where Δn_i atoms of element i are added to the
supercell (taken from it, if negative) and come from a reservoir of chemical potential μ_i: C. Freysoldt et al., Rev. Mod. Phys.
86, 253 (2014), eq. 1, without charges. For an element μ is the energy per atom of the perfect supercell, which makes
E(N − 1) − (N − 1)/N E(N) of a vacancy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.build import bulk
from pydantic import Field

from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError, value_of
from aiida_gaprss.properties.holes import holes
from aiida_gaprss.properties.supercells import Symmetry, moves, nearest_distance, supercell, too_small
from aiida_gaprss.runners.status import CONVERGED, ENDS
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import AtomCount, Count, Length, Positive, Real

#: Distance of the two atoms of a dumbbell, before it is relaxed, relative to that of nearest neighbours.
DUMBBELL = 0.8

#: An atom that has moved by this part of the distance of nearest neighbours is on the way to another site.
LOST = 0.5

ZUO = "Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020), Table II and its discussion: most errors of GAP and MTP are within 10 %"


@dataclass(frozen=True)
class Defect:
    """A defect in its supercell.

    :param change: atoms that it has more than the perfect supercell, by element.
    :param told: what is said of it besides, as plain data.
    """

    name: str
    atoms: Atoms
    change: Mapping[str, int]
    told: Mapping[str, Any] = field(default_factory=dict)


class Defects(Property):
    """What all kinds of point defects have in common.

    Frames: the perfect supercell, one with each defect, elements if chemical potentials are to be had of them. ``result`` gives
    of each defect the formation energy, relaxed and as it was made, how far atoms have moved, and the largest force that is
    left: with a reference, that which it leaves at the geometry of the potential.
    """

    run: ClassVar[str] = "relax"
    length_A: Length = Field(11.0, description="shortest that each vector of the supercell may be, Å")
    repeat: tuple[AtomCount, AtomCount, AtomCount] | None = Field(
        None, description="repetitions of the crystal along its vectors, instead of length_A"
    )
    symmetry_A: Length = Field(0.01, description="to which sites count as equal, Å")
    fmax: Positive = Field(0.01, description="largest force left by the relaxation, eV/Å")
    max_steps: Count = Field(300, description="of the relaxation")
    chemical_potentials: Literal["elements"] | dict[str, Real] | None = Field(
        None,
        description="of a compound: by element, eV, on the scale of potential and reference; or elements: of their own crystals, "
        "those of ASE, relaxed with the potential; none: formation energies of elements only",
    )

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "formation_energy_error_percent": Limits(10.0, 20.0, "%", f"{ZUO}; twice that"),
        "formation_energy_error_eV": Limits(0.1, 0.3, "eV", "at 1000 K, 0.1 eV is a factor of three in the number of defects"),
        "residual_force_eV_per_A": Limits(
            0.1,
            0.3,
            "eV/Å",
            "that of the reference at the potential's geometry: the error of a good potential's forces, and three",
        ),
        "defects_not_relaxed": Limits(0, 0, "", "a relaxation that does not converge has no formation energy"),
        "defects_lost": Limits(0, 0, "", "a defect that becomes another one is none of this potential"),
    }

    @abstractmethod
    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the defects of a crystal in their supercells.

        :raises PropertyError: if it has none of this kind.
        """

    def perfect(self, crystal: Atoms) -> Atoms:
        """Return the supercell without defects."""
        return supercell(crystal, self.length_A, self.repeat)

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong with a crystal, also a supercell smaller than twice the cutoff."""
        return super().faults(crystal, reach) or too_small(self.perfect(crystal), reach)

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the perfect supercell, those with defects, and elements.

        :raises PropertyError: for a crystal that has no such defects.
        """
        if isinstance(self.chemical_potentials, dict):
            if missing := [symbol for symbol in elements_of(crystal) if symbol not in self.chemical_potentials]:
                raise PropertyError(f"chemical_potentials: {', '.join(missing)} missing, expected one of each element")
        frames = [self._part("perfect", self.perfect(crystal))]
        frames += [self._part(defect.name, defect.atoms) for defect in self.defects(crystal)]
        if self.chemical_potentials == "elements":
            frames += [self._part(f"element_{symbol}", element(symbol), cell="free") for symbol in elements_of(crystal)]
        return frames

    def _part(self, name: str, atoms: Atoms, cell: str = "fixed") -> Atoms:
        task = {"cell": cell, "fmax": self.fmax, "max_steps": self.max_steps, "snapshot_steps": [0]}
        atoms.info = {"part": name, "task": task}
        return atoms

    @staticmethod
    def task_settings(given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of a relaxation."""
        return RelaxSettings(**given).model_dump()

    def to_label(self, done: Sequence[Atoms]) -> list[int]:
        """Return the numbers of the end points."""
        return ends(done)

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return energies (eV), displacements (Å) and forces (eV/Å) of the defects.

        :raises PropertyError: if the perfect supercell lacks its energy.
        """
        steps: dict[str, list[Atoms]] = {}
        for atoms in done:
            steps.setdefault(str(atoms.info["part"]), []).append(atoms)
        if "perfect" not in steps:
            raise PropertyError("frame perfect: nothing came out of its relaxation")
        perfect = steps["perfect"][-1]
        energy = float(value_of(perfect, "energy", prefix))
        potentials, source = self._potentials(crystal, steps, energy / len(perfect), prefix)
        found, lost = {}, LOST * nearest_distance(crystal)
        for defect in self.defects(crystal):
            offset = energy + sum(n * potentials[symbol] for symbol, n in defect.change.items()) if potentials else None
            told = _told(defect.atoms, steps.get(defect.name, []), energy, offset, prefix)
            if told["largest_displacement_A"] is not None:
                told["intact"] = told["largest_displacement_A"] < lost
            found[defect.name] = {**defect.told, **told}
        return {
            "supercell_atoms": len(perfect),
            "chemical_potentials_eV": potentials,
            "chemical_potentials": source,
            "defects": found,
        }

    def _potentials(
        self, crystal: Atoms, steps: Mapping[str, list[Atoms]], energy: float, prefix: str
    ) -> tuple[dict[str, float] | None, str]:
        """Return chemical potentials, eV, and where they are from in words."""
        symbols = elements_of(crystal)
        if isinstance(self.chemical_potentials, dict):
            return dict(self.chemical_potentials), "given"
        if self.chemical_potentials == "elements":
            last = {symbol: steps.get(f"element_{symbol}", [None])[-1] for symbol in symbols}
            if missing := [symbol for symbol, atoms in last.items() if atoms is None]:
                raise PropertyError(f"frame element_{missing[0]}: nothing came out of its relaxation")
            energies = {
                s: float(value_of(atoms, "energy", prefix)) / len(atoms) for s, atoms in last.items() if atoms is not None
            }
            return energies, "crystals of the elements"
        if len(symbols) == 1:
            return {symbols[0]: energy}, "the perfect supercell"
        return None, f"none are set for {', '.join(symbols)}: energies only, no formation energies"

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return how many defects were not relaxed or lost, and with a reference the errors of the worst one."""
        found = result["defects"]
        out = {
            "defects_not_relaxed": float(sum(one["relax_status"] != CONVERGED for one in found.values())),
            "defects_lost": float(sum(one["intact"] is False for one in found.values())),
        }
        theirs = (reference or {}).get("defects", {})
        key = "formation_energy_eV"
        pairs = [(one[key], theirs[name][key]) for name, one in found.items() if theirs.get(name, {}).get(key) is not None]
        pairs = [(ours, other) for ours, other in pairs if ours is not None]
        if pairs:
            out["formation_energy_error_eV"] = worst([ours - other for ours, other in pairs])
            out["formation_energy_error_percent"] = worst([100 * (ours - other) / abs(other) for ours, other in pairs if other])
        if left := [one["residual_force_eV_per_A"] for one in theirs.values() if one["residual_force_eV_per_A"] is not None]:
            out["residual_force_eV_per_A"] = max(left)
        return out

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return formation energies, a point for each defect."""
        values = [(name, one["formation_energy_eV"]) for name, one in result["defects"].items()]
        values = [(name, value) for name, value in values if value is not None]
        if not values:
            return {}
        x = list(range(len(values)))
        ticks = [(float(at), name) for at, (name, _) in enumerate(values)]
        return {"formation energies": Curve(x, [[v for _, v in values]], "", "formation energy (eV)", ticks, points=True)}


class Vacancy(Defects):
    """Vacancies: one of each kind of site that symmetry tells apart."""

    kind: Literal["vacancy"] = "vacancy"

    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the supercell with one atom missing, for each kind of site."""
        out = []
        for site, symbol, told in sites_of(crystal, self.symmetry_A):
            atoms = self.perfect(crystal)
            del atoms[site]
            out.append(Defect(f"vacancy_{symbol}_{site}", atoms, {symbol: -1}, told))
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
                    out.append(Defect(name, atoms, {symbol: -1, other: 1}, {**told, "added": other}))
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
    dumbbells: list[tuple[int, int, int]] = Field(
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
                out.append(Defect(f"interstitial_{symbol}_{number}", atoms, {symbol: 1}, {**told, "element": symbol}))
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
                atoms += Atoms(symbol, [atoms.positions[site] + vector])
                atoms.positions[site] -= vector
                name = f"dumbbell_{symbol}_{site}_{''.join(map(str, direction))}"
                out.append(Defect(name, atoms, {symbol: 1}, told))
        return out


def sites_of(crystal: Atoms, tolerance: float) -> list[tuple[int, str, dict[str, Any]]]:
    """Return of each kind of site an atom, its element, and what is told of the site."""
    symmetry = Symmetry(crystal, tolerance)
    equal = Counter(int(atom) for atom in symmetry.dataset.equivalent_atoms)
    out = []
    for site in symmetry.sites:
        symbol = str(crystal.symbols[site])
        told = {"element": symbol, "site": site, "wyckoff": str(symmetry.dataset.wyckoffs[site]), "sites_in_crystal": equal[site]}
        out.append((site, symbol, told))
    return out


def elements_of(crystal: Atoms) -> list[str]:
    """Return the elements in the order of their names."""
    return sorted(set(crystal.symbols))


def element(symbol: str) -> Atoms:
    """Return the crystal of an element as ASE knows it.

    :raises PropertyError: if that is no simple one.
    """
    try:
        atoms = bulk(symbol)
    except (ValueError, RuntimeError, KeyError) as error:
        raise PropertyError(
            f"chemical_potentials: ASE has no simple crystal of {symbol} ({error}); give a number for each element instead"
        ) from error
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)


def ends(done: Sequence[Atoms]) -> list[int]:
    """Return the number of the last frame of each part."""
    return sorted({str(atoms.info["part"]): number for number, atoms in enumerate(done)}.values())


def worst(values: Sequence[float]) -> float:
    """Return the value whose size is the largest, with its sign."""
    return max(values, key=abs)


def _told(planned: Atoms, steps: Sequence[Atoms], perfect: float, offset: float | None, prefix: str) -> dict[str, Any]:
    """Return what is found of a defect; a relaxation that was given up has no energies.

    :param perfect: energy without the defect, eV; ``offset``: that, and chemical potentials.
    """
    keys = ("energy_change_eV", "formation_energy_eV", "unrelaxed_formation_energy_eV", "relaxation_energy_eV")
    out: dict[str, Any] = dict.fromkeys((*keys, "residual_force_eV_per_A", "largest_displacement_A", "intact"))
    if not steps:
        return {**out, "relax_status": "nothing came out"}
    first, last = steps[0], steps[-1]
    out["relax_status"] = str(last.info.get("relax_status"))
    if out["relax_status"] not in ENDS:
        return out
    energy = float(value_of(last, "energy", prefix))
    out["energy_change_eV"] = energy - perfect
    out["residual_force_eV_per_A"] = float(np.linalg.norm(value_of(last, "forces", prefix), axis=1).max())
    out["largest_displacement_A"] = float(moves(planned, last).max())
    if offset is not None:
        out["formation_energy_eV"] = energy - offset
    if f"{prefix}_energy" in first.info and first.info.get("step") == 0:
        before = float(value_of(first, "energy", prefix))
        out["relaxation_energy_eV"] = before - energy
        out["unrelaxed_formation_energy_eV"] = None if offset is None else before - offset
    return out
