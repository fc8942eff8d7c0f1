"""Does a known crystal stay what it is when a potential relaxes it?

The crystal is relaxed as it is, and from cells that are strained and whose atoms are displaced a little: what is a saddle point
of the potential, and would stay for its symmetry alone, shows then. Ends are compared with the crystal by pymatgen's
``StructureMatcher``, with the tolerances by which J. George et al., J. Chem. Phys. 153, 044104 (2020) told that a relaxation had
left a crystal unchanged, and by the space group (spglib).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss.properties.base import Limits, Property, PropertyError, value_of
from aiida_gaprss.runners.status import CONVERGED, MAX_STEPS, STALLED, TIME_LIMIT
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import Count, CountOrZero, Fraction, Length, LengthOrZero, Positive, SeedNumber
from aiida_gaprss.structures.matching import ANGLE_TOL, LTOL, STOL, is_same, space_group

#: How a relaxation ends whose last frame is worth comparing; what collapsed, exploded or evaporated is changed.
COMPARED = (CONVERGED, MAX_STEPS, STALLED, TIME_LIMIT)


class Relaxation(Property):
    """A crystal and slightly disturbed copies of it, relaxed with their cells.

    ``result`` gives ``changed`` (whether any end is another structure), the change of volume and space group, how much energy was
    gained on the crystal as given, and the same of each relaxation in ``ends``.
    """

    kind: Literal["relaxation"] = "relaxation"
    run: ClassVar[str] = "relax"
    from_given: ClassVar[bool] = True
    referenced: ClassVar[bool] = False
    disturbed: CountOrZero = Field(3, description="copies that are strained and displaced")
    displacement_A: LengthOrZero = Field(0.05, description="standard deviation of their atoms")
    strain: Fraction = Field(0.02, description="standard deviation of the components of their strain")
    seed: SeedNumber = Field(1, description="of both")
    supercell: tuple[Count, Count, Count] = Field((1, 1, 1), description="repeats, for instabilities that double a cell")
    fmax: Positive = Field(0.001, description="largest force that is left, eV/Å")
    max_steps: Count = 500
    ltol: Positive = Field(LTOL, description="of lengths, relative (StructureMatcher)")
    stol: Positive = Field(STOL, description="of sites, relative to the distance of atoms (StructureMatcher)")
    angle_tol: Positive = Field(ANGLE_TOL, description="of angles, degrees (StructureMatcher)")
    symprec_A: Length = Field(0.05, description="of the space group")

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "changed": Limits(0.0, 0.0, "", "a known crystal is a minimum: it is kept or it is not"),
        "unfinished": Limits(0.0, 1.0, "", "relaxations that ended before the forces were small say less"),
        "space_group_changed": Limits(0.0, 1.0, "", "what the matcher calls the same may be slightly distorted: to be looked at"),
        "volume_change_percent": Limits(
            1.5, 5.0, "%", "our choice: half a percent in the lattice constant; functionals differ from each other by about five"
        ),
    }

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the crystal, and its disturbed copies.

        :raises PropertyError: if the crystal is not periodic in all directions.
        """
        if not crystal.pbc.all():
            raise PropertyError("a relaxation of the cell needs a crystal that is periodic in all directions")
        rng = np.random.default_rng(self.seed)
        frames = [crystal.copy(), *(self._disturbed(crystal, rng) for _ in range(self.disturbed))]
        task = {"fmax": self.fmax, "max_steps": self.max_steps, "cell": "free", "snapshot_steps": [0]}
        for number, atoms in enumerate(frames):
            atoms.info = {"part": f"disturbed_{number}" if number else "crystal", "task": task}
        return frames

    def _disturbed(self, crystal: Atoms, rng: np.random.Generator) -> Atoms:
        atoms = crystal.repeat(self.supercell)
        strain = rng.normal(0, self.strain, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0, self.displacement_A, atoms.positions.shape)
        return atoms

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return what became of the crystal.

        :raises PropertyError: if the potential could not even take the first step from the crystal itself.
        """
        parts = [atoms.info["part"] for atoms in self.plan(crystal)]
        trails = {part: [atoms for atoms in done if atoms.info.get("part") == part] for part in parts}
        if not trails["crystal"]:
            raise PropertyError("frame crystal: the relaxation gave no frame")
        given = value_of(trails["crystal"][0], "energy", prefix) / len(crystal)
        before = space_group(crystal, self.symprec_A)
        ends = [{"part": part, **self._end(crystal, trail, given, prefix)} for part, trail in trails.items()]
        volumes = [end["volume_change_percent"] for end in ends if "volume_change_percent" in end]
        return {
            "changed": any(end["changed"] for end in ends),
            "unfinished": sum(end["status"] != CONVERGED for end in ends),
            "space_group": before,
            "space_group_changed": any(end.get("space_group") != before for end in ends),
            "volume_change_percent": max(volumes, key=abs),
            "energy_gain_meV_per_atom": max(end.get("energy_gain_meV_per_atom", 0.0) for end in ends),
            "ends": ends,
        }

    def _end(self, crystal: Atoms, trail: Sequence[Atoms], given: float, prefix: str) -> dict[str, Any]:
        """Return what is told of one relaxation.

        :param given: energy of the crystal as given, eV/atom.
        """
        if not trail:
            return {"status": "no frame", "changed": True}
        last = trail[-1]
        status = str(last.info.get("relax_status"))
        volume = last.get_volume() / len(last) / (crystal.get_volume() / len(crystal))
        return {
            "status": status,
            "changed": status not in COMPARED or not is_same(crystal, last, self.ltol, self.stol, self.angle_tol),
            "space_group": space_group(last, self.symprec_A),
            "volume_change_percent": 100 * (volume - 1),
            "energy_gain_meV_per_atom": 1000 * (given - value_of(last, "energy", prefix) / len(last)),
            "steps": int(last.info.get("step", 0)),
        }

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return whether it changed (0 or 1), how many relaxations did not end, and by how much the volume changed."""
        return {name: float(result[name]) for name in self.LIMITS}

    @staticmethod
    def task_settings(given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of the relaxation."""
        return RelaxSettings(**given).model_dump()
