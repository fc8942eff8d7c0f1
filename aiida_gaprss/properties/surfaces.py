"""Surface energies of a crystal: slabs of all Miller indices up to a maximum, relaxed in their cells.

γ = (E(slab) − N e(bulk)) / 2A, with the energy per atom of the oriented unit cell from which the slab is cut. Its k-points go
with those of the slab, so that γ converges with the thickness (W. Sun and G. Ceder, Surf. Sci. 617, 53 (2013)). Slabs are those
of pymatgen (R. Tran et al., Sci. Data 3, 160080 (2016)); no surface is reconstructed beyond the cell that it has there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms, units
from pydantic import Field

from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError, value_of
from aiida_gaprss.properties.formation import NOTHING, end_of, ends, worst
from aiida_gaprss.runners.status import CONVERGED, ENDS
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import Count, Length, Positive
from aiida_gaprss.structures.slabs import Cut, Cutter, planes_of_crystal
from aiida_gaprss.structures.supercells import moves

#: J/m² in an eV/Å².
J_PER_M2 = 1e20 / units.J

#: Surface energies that differ by less, J/m², have no order.
EQUAL = 0.01


class Surfaces(Property):
    """Energies of the surfaces of a crystal that symmetry tells apart, of all terminations whose slabs have two equal sides.

    Frames: for each set of indices the oriented unit cell, and a slab for each termination, that with the fewest broken bonds
    first. ``result`` gives γ relaxed and as cut. Miller indices are those of the conventional standard cell.
    """

    kind: Literal["surfaces"] = "surfaces"
    run: ClassVar[str] = "relax"
    max_index: Count = Field(1, le=4, description="largest Miller index")
    thickness_A: Length = Field(15.0, description="least thickness of a slab, Å")
    vacuum_A: Length = Field(12.0, description="least distance of a slab from its image, Å")
    symmetry_A: Length = Field(0.01, description="to which the symmetry of the crystal is looked for, Å")
    fmax: Positive = Field(0.01, description="largest force left by the relaxation, eV/Å")
    max_steps: Count = Field(300, description="of the relaxation")

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "surface_energy_error_percent": Limits(
            10.0, 20.0, "%", "as for vacancies (Zuo et al. 2020, Table II); functionals differ from each other by about as much"
        ),
        "surfaces_out_of_order": Limits(
            0, 1, "", "the order decides which faces a crystal has; one pair of neighbours may change places"
        ),
        "negative_surface_energies": Limits(0, 0, "", "a crystal whose surface gains energy falls apart"),
        "surfaces_not_relaxed": Limits(0, 0, "", "a relaxation that does not converge has no surface energy"),
        "residual_force_eV_per_A": Limits(
            0.1,
            0.3,
            "eV/Å",
            "that of the reference at the potential's geometry: the error of a good potential's forces, and three",
        ),
    }

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong with a crystal, also slabs and vacuum that the potential sees through."""
        out = super().faults(crystal, reach)
        if self.vacuum_A < reach:
            out.append(f"vacuum_A is {self.vacuum_A:g} Å, expected at least the cutoff of the potential, {reach:.2f} Å")
        if self.thickness_A < 2 * reach:
            out.append(
                f"thickness_A is {self.thickness_A:g} Å, expected at least twice the cutoff of the potential, {2 * reach:.2f} Å"
            )
        return out

    def cuts(self, crystal: Atoms) -> list[Cut]:
        """Return bulk cells and slabs of all Miller indices.

        :raises PropertyError: if the crystal is not periodic in all directions.
        :raises CrystalError: if no symmetry of it is found.
        """
        if not crystal.pbc.all():
            raise PropertyError("surfaces need a crystal that is periodic in all directions")
        planes = planes_of_crystal(crystal, self.max_index, self.symmetry_A)
        cutter = Cutter(self.thickness_A, self.vacuum_A, self.symmetry_A, symmetric=True)
        return cutter.cuts(crystal, planes)

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return oriented unit cells and slabs.

        :raises PropertyError: if there is no slab with two equal sides.
        """
        frames = []
        for cut in self.cuts(crystal):
            if cut.slabs:
                frames.append(self._part(f"bulk_{cut.name}", cut.bulk.copy()))
                frames += [self._part(f"slab_{cut.name}_{number}", slab.copy()) for number, slab in enumerate(cut.slabs)]
        if not frames:
            raise PropertyError("no slab has two equal sides and the composition of the crystal; a larger max_index has others")
        return frames

    def _part(self, name: str, atoms: Atoms) -> Atoms:
        task = {"cell": "fixed", "fmax": self.fmax, "max_steps": self.max_steps, "snapshot_steps": [0]}
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
        """Return surface energies, J/m² and eV/Å².

        :raises PropertyError: if a bulk cell lacks its energy.
        """
        steps: dict[str, list[Atoms]] = {}
        for atoms in done:
            steps.setdefault(str(atoms.info["part"]), []).append(atoms)
        found: dict[str, Any] = {}
        left_out: list[str] = []
        for cut in self.cuts(crystal):
            left_out += cut.left_out
            for number, slab in enumerate(cut.slabs):
                bulk = end_of(steps, f"bulk_{cut.name}")
                energy = float(value_of(bulk, "energy", prefix)) / len(bulk)
                told = _told(slab, steps.get(f"slab_{cut.name}_{number}", []), energy, prefix)
                found[f"{cut.name}_{number}"] = {"miller": list(cut.miller), "atoms": len(slab), "area_A2": _area(slab), **told}
        return {"bulk_energies": "of the oriented unit cells", "surfaces": found, "left_out": left_out}

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return what is wrong in itself, and with a reference the error of the worst surface and pairs in the wrong order."""
        found, key = result["surfaces"], "energy_J_per_m2"
        out = {
            "surfaces_not_relaxed": float(sum(one["relax_status"] != CONVERGED for one in found.values())),
            "negative_surface_energies": float(sum(one[key] is not None and one[key] < 0 for one in found.values())),
        }
        theirs = (reference or {}).get("surfaces", {})
        pairs = [(one[key], theirs.get(name, {}).get(key)) for name, one in found.items()]
        pairs = [(ours, other) for ours, other in pairs if ours is not None and other]
        if pairs:
            out["surface_energy_error_percent"] = worst([100 * (ours - other) / abs(other) for ours, other in pairs])
            out["surfaces_out_of_order"] = float(sum(_swapped(one, two) for one, two in combinations(pairs, 2)))
        if left := [one["residual_force_eV_per_A"] for one in theirs.values() if one["residual_force_eV_per_A"] is not None]:
            out["residual_force_eV_per_A"] = max(left)
        return out

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return surface energies, a point for each surface."""
        values = [
            (name, one["energy_J_per_m2"]) for name, one in result["surfaces"].items() if one["energy_J_per_m2"] is not None
        ]
        if not values:
            return {}
        x = list(range(len(values)))
        ticks = [(float(at), name) for at, (name, _) in enumerate(values)]
        return {"surface energies": Curve(x, [[v for _, v in values]], "", "surface energy (J/m²)", ticks, points=True)}


def _area(slab: Atoms) -> float:
    return float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))


def _swapped(one: tuple[float, float], two: tuple[float, float]) -> bool:
    """Tell whether two surfaces have another order than with the reference; pairs of potential and reference, J/m²."""
    ours, theirs = one[0] - two[0], one[1] - two[1]
    return ours * theirs < 0 and min(abs(ours), abs(theirs)) > EQUAL


def _told(slab: Atoms, steps: Sequence[Atoms], bulk: float, prefix: str) -> dict[str, Any]:
    """Return what is found of a slab; a relaxation that was given up has no energies.

    :param bulk: energy per atom of the crystal, eV.
    """
    keys = (
        "energy_J_per_m2",
        "energy_eV_per_A2",
        "unrelaxed_energy_J_per_m2",
        "residual_force_eV_per_A",
        "largest_displacement_A",
    )
    out: dict[str, Any] = dict.fromkeys(keys)
    if not steps:
        return {**out, "relax_status": NOTHING}
    first, last = steps[0], steps[-1]
    out["relax_status"] = str(last.info.get("relax_status"))
    if out["relax_status"] not in ENDS:
        return out

    def gamma(atoms: Atoms) -> float:
        return (float(value_of(atoms, "energy", prefix)) - len(atoms) * bulk) / (2 * _area(slab))

    out["energy_eV_per_A2"] = gamma(last)
    out["energy_J_per_m2"] = gamma(last) * J_PER_M2
    out["residual_force_eV_per_A"] = float(np.linalg.norm(value_of(last, "forces", prefix), axis=1).max())
    out["largest_displacement_A"] = float(moves(slab, last).max())
    if f"{prefix}_energy" in first.info and first.info.get("step") == 0:
        out["unrelaxed_energy_J_per_m2"] = gamma(first) * J_PER_M2
    return out
