"""Formation energies of point defects, relaxed in a supercell of fixed shape.

The formation energy of a defect is E_f = E(defect) − E(perfect) − Σ Δn_i μ_i, where Δn_i atoms of element i are added to the
supercell (taken from it, if negative) and come from a reservoir of chemical potential μ_i: C. Freysoldt et al., Rev. Mod. Phys.
86, 253 (2014), eq. 1, without charges. For an element μ is the energy per atom of the perfect supercell, which makes
E(N − 1) − (N − 1)/N E(N) of a vacancy.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.geometry import find_mic
from pydantic import Field

from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError, value_of
from aiida_gaprss.runners.status import CONVERGED, ENDS
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import AtomCount, Count, Length, Positive, Real
from aiida_gaprss.structures.point_defects import Defect, elements_of
from aiida_gaprss.structures.supercells import moves, nearest_distance, supercell, too_small
from aiida_gaprss.structures.symmetry import SAME_PLACE

#: Atoms within so many times the distance of the nearest are the neighbours of a defect.
NEIGHBOURS = 1.1

#: Å, standard deviation of the displacements that break the symmetry of a start.
SHAKEN = 0.02

#: Between the name of a defect and the number of its start.
START = "_start_"

#: An atom that has moved by this part of the distance of nearest neighbours is on the way to another site.
LOST = 0.5

#: eV, in the place of a formation energy of zero.
TINY = 1e-6

#: Of a part of which there are no frames.
NOTHING = "nothing came out"

#: Where the chemical potential of an element is from.
OWN = "the perfect supercell"

#: Source of limits.
ZUO = "Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020), Table II and its discussion: most errors of GAP and MTP are within 10 %"


class Defects(Property):
    """What all kinds of point defects have in common.

    Frames: the perfect supercell, one with each defect, elements if chemical potentials are to be had of them. ``result`` gives
    of each defect the formation energy, relaxed and as it was made, how far atoms have moved, and the largest force that is
    left: with a reference, that which it leaves at the geometry of the potential.
    """

    run: ClassVar[str] = "relax"
    length_A: Length = Field(10.0, description="shortest that each vector of the supercell may be, Å")
    repeat: tuple[AtomCount, AtomCount, AtomCount] | None = Field(
        None, description="repetitions of the crystal along its vectors, instead of length_A"
    )
    symmetry_A: Length = Field(0.01, description="to which sites count as equal, Å")
    fmax: Positive = Field(0.01, description="largest force left by the relaxation, eV/Å")
    max_steps: Count = Field(300, description="of the relaxation")
    starts: list[Annotated[Real, Field(ge=-0.5, le=0.5)]] = Field(
        default=[0.0],
        min_length=1,
        description="by which part of their distance the nearest neighbours are moved toward the defect before it is relaxed; "
        "what ends lowest counts. A start that is not 0 is also shaken by 0.02 Å, 0 keeps the symmetry of the site",
    )
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
        "negative_formation_energies": Limits(0, 0, "", "an element that gains energy by its defects is no stable crystal"),
        "defects_lost": Limits(0, 0, "", "a defect that becomes another one is none of this potential"),
    }

    @abstractmethod
    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the defects of a crystal in their supercells.

        :raises CrystalError: if it has none of this kind.
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
        given = self.chemical_potentials if isinstance(self.chemical_potentials, dict) else dict.fromkeys(elements_of(crystal))
        if missing := [symbol for symbol in elements_of(crystal) if symbol not in given]:
            raise PropertyError(f"chemical_potentials: {', '.join(missing)} missing, expected one of each element")
        frames = [self._part("perfect", self.perfect(crystal))]
        for defect in self.defects(crystal):
            for number, part in enumerate(self.starts):
                frames.append(self._part(_start(defect.name, number), _started(defect, part) if part else defect.atoms))
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
        """Return the numbers of the end points, of a defect with several starts of the lowest."""
        lowest: dict[str, int] = {}
        for number in ends(done):
            name = str(done[number].info["part"]).partition(START)[0]
            if name not in lowest or done[number].info["PRED_energy"] < done[lowest[name]].info["PRED_energy"]:
                lowest[name] = number
        return sorted(lowest.values())

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return energies (eV), displacements (Å) and forces (eV/Å) of the defects.

        :raises PropertyError: if the perfect supercell lacks its energy.
        """
        steps: dict[str, list[Atoms]] = {}
        for atoms in done:
            steps.setdefault(str(atoms.info["part"]), []).append(atoms)
        perfect = end_of(steps, "perfect")
        energy = float(value_of(perfect, "energy", prefix))
        potentials, source = self._potentials(crystal, steps, energy / len(perfect), prefix)
        found, lost = {}, LOST * nearest_distance(crystal)
        for defect in self.defects(crystal):
            offset = energy + sum(n * potentials[symbol] for symbol, n in defect.change.items()) if potentials else None
            starts = [steps.get(_start(defect.name, number), []) for number in range(len(self.starts))]
            told = _told(defect.atoms, _lowest(starts, prefix), energy, offset, prefix)
            if told["largest_displacement_A"] is not None:
                told["intact"] = told["largest_displacement_A"] < lost
            if told["energy_change_eV"] is not None and 0.0 in self.starts:
                ideal = starts[self.starts.index(0.0)][:1]
                told |= _unrelaxed(ideal, told["energy_change_eV"] + energy, offset, prefix)
            told["starts"] = [_of_start(steps, energy, prefix) for steps in starts]
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
            last = {symbol: end_of(steps, f"element_{symbol}") for symbol in symbols}
            energies = {symbol: float(value_of(atoms, "energy", prefix)) / len(atoms) for symbol, atoms in last.items()}
            return energies, "crystals of the elements"
        if len(symbols) == 1:
            return {symbols[0]: energy}, OWN
        return None, f"none are set for {', '.join(symbols)}: energies only, no formation energies"

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return how many defects were not relaxed or lost, and with a reference the errors of the worst one."""
        found = result["defects"]
        out = {
            "defects_not_relaxed": float(
                sum(any(start["relax_status"] != CONVERGED for start in one["starts"]) for one in found.values())
            ),
            "defects_lost": float(sum(one["intact"] is False for one in found.values())),
        }
        if result["chemical_potentials"] == OWN:
            energies = [one["formation_energy_eV"] for one in found.values()]
            out["negative_formation_energies"] = float(sum(energy is not None and energy < 0 for energy in energies))
        theirs = (reference or {}).get("defects", {})
        key = "formation_energy_eV"
        pairs = [(one[key], theirs[name][key]) for name, one in found.items() if theirs.get(name, {}).get(key) is not None]
        pairs = [(ours, other) for ours, other in pairs if ours is not None]
        if pairs:
            out["formation_energy_error_eV"] = worst([ours - other for ours, other in pairs])
            out["formation_energy_error_percent"] = worst([100 * (ours - other) / (abs(other) or TINY) for ours, other in pairs])
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
    """Return the number of the last frame of each part whose relaxation was not given up."""
    last = {str(atoms.info["part"]): number for number, atoms in enumerate(done)}
    return sorted(number for number in last.values() if done[number].info.get("relax_status") in ENDS)


def end_of(steps: Mapping[str, Sequence[Atoms]], part: str) -> Atoms:
    """Return the relaxed frame of a part without which nothing can be said.

    :raises PropertyError: if there is none, or its relaxation was given up.
    """
    if part not in steps:
        raise PropertyError(f"frame {part}: {NOTHING} of its relaxation")
    last = steps[part][-1]
    if last.info.get("relax_status") not in ENDS:
        raise PropertyError(f"frame {part}: its relaxation ended as {last.info.get('relax_status')}")
    return last


def worst(values: Sequence[float]) -> float:
    """Return the value whose size is the largest, with its sign."""
    return max(values, key=abs)


def _told(planned: Atoms, steps: Sequence[Atoms], perfect: float, offset: float | None, prefix: str) -> dict[str, Any]:
    """Return what is found of a defect whose lowest start this is; a relaxation that was given up has no energies.

    :param perfect: energy without the defect, eV; ``offset``: that, and chemical potentials.
    """
    keys = ("energy_change_eV", "formation_energy_eV", "unrelaxed_formation_energy_eV", "relaxation_energy_eV")
    out: dict[str, Any] = dict.fromkeys((*keys, "residual_force_eV_per_A", "largest_displacement_A", "intact"))
    if not steps:
        return {**out, "relax_status": NOTHING}
    last = steps[-1]
    out["relax_status"] = str(last.info.get("relax_status"))
    if out["relax_status"] not in ENDS:
        return out
    energy = float(value_of(last, "energy", prefix))
    out["energy_change_eV"] = energy - perfect
    out["residual_force_eV_per_A"] = float(np.linalg.norm(value_of(last, "forces", prefix), axis=1).max())
    out["largest_displacement_A"] = float(moves(planned, last).max())
    if offset is not None:
        out["formation_energy_eV"] = energy - offset
    return out


def _unrelaxed(ideal: Sequence[Atoms], relaxed: float, offset: float | None, prefix: str) -> dict[str, Any]:
    """Return the formation energy of a defect as it was made, and what the relaxation gains, eV, if its energy is known."""
    if not ideal or ideal[0].info.get("step") != 0 or f"{prefix}_energy" not in ideal[0].info:
        return {}
    before = float(value_of(ideal[0], "energy", prefix))
    return {
        "relaxation_energy_eV": before - relaxed,
        "unrelaxed_formation_energy_eV": None if offset is None else before - offset,
    }


def _of_start(steps: Sequence[Atoms], perfect: float, prefix: str) -> dict[str, Any]:
    """Return how a start ended, and how far above the perfect supercell, eV, if that is known."""
    if not steps:
        return {"relax_status": NOTHING, "energy_change_eV": None}
    energy = steps[-1].info.get(f"{prefix}_energy")
    status = str(steps[-1].info.get("relax_status"))
    known = energy is not None and status in ENDS
    return {"relax_status": status, "energy_change_eV": float(energy or 0.0) - perfect if known else None}


def _started(defect: Defect, part: float) -> Atoms:
    """Return a defect with its nearest neighbours moved toward it, by a part of their distance, and a little out of symmetry."""
    atoms = defect.atoms.copy()
    vectors, distances = find_mic(atoms.positions - defect.place, atoms.cell, True)
    nearest = distances[distances > SAME_PLACE].min()
    near = (distances > SAME_PLACE) & (distances < NEIGHBOURS * nearest)
    shaken = SHAKEN * np.random.default_rng(1).standard_normal((int(near.sum()), 3))
    atoms.positions[near] += shaken - part * vectors[near]
    return atoms


def _start(name: str, number: int) -> str:
    return f"{name}{START}{number}" if number else name


def _lowest(starts: Sequence[Sequence[Atoms]], prefix: str) -> Sequence[Atoms]:
    """Return the steps of the start that ends lowest, of those that came to their ends and have an energy if there are any."""

    def height(steps: Sequence[Atoms]) -> tuple[bool, bool, float]:
        if not steps:
            return True, True, 0.0
        given_up = steps[-1].info.get("relax_status") not in ENDS
        return given_up, f"{prefix}_energy" not in steps[-1].info, float(steps[-1].info.get(f"{prefix}_energy", 0.0))

    return min(starts, key=height)
