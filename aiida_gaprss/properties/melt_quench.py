"""Melt and quench a crystal with a potential: which glass comes out, and how wrong is the potential on the way?

The protocol is that of George et al., J. Chem. Phys. 153, 044104 (2020), figure 6 and table II: diamond-type silicon of 512 atoms
less 12, at constant pressure from 300 K to 1800 K and back at 10¹³ K/s, a snapshot every 10 ps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss import frames as fr
from aiida_gaprss.properties import trajectories as tr
from aiida_gaprss.properties.base import Curve, Limits, PropertyError
from aiida_gaprss.properties.dynamics import error_curves
from aiida_gaprss.runners.status import FINISHED, GIVEN_UP
from aiida_gaprss.settings.jobs import MdSegment, MdSettings
from aiida_gaprss.settings.model import Count, CountOrZero, Fraction, Length, Positive, Pressure, SeedNumber
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.structures.supercells import nearest_distance

#: The parts of the way, in their order. Table II has ``crystal`` (defective diamond), ``liquid`` and ``amorphous``.
STAGES = ("crystal", "heating", "liquid", "cooling", "amorphous")


class MeltQuench(tr.OfTrajectories):
    """One trajectory of a crystal with vacancies: held, heated, held, cooled, held.

    Of a potential ``result`` gives densities and energies by stage, and of the liquid and the glass the radial distribution
    function and the coordination; of the reference the errors of the potential by stage at the snapshots that it has labelled.
    """

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        **tr.WHOLE,
        "liquid_energy_mae_meV/atom": Limits(12.5, 25, "meV/atom", "George 2020, table II: 8 to 12; bad is twice that"),
        "amorphous_energy_mae_meV/atom": Limits(4.5, 10, "meV/atom", "George 2020, table II: 3 to 4; bad is twice that"),
        "liquid_force_rmse_eV/A": Limits(0.21, 0.4, "eV/Å", "George 2020, table II: 0.19 and 0.21; 0.65 with an overfit"),
        "amorphous_force_rmse_eV/A": Limits(0.16, 0.25, "eV/Å", "George 2020, table II: 0.14 and 0.15; 0.29 with an overfit"),
    }

    kind: Literal["melt_quench"] = "melt_quench"
    length_A: Length = Field(21.5, description="least distance of opposite faces of the supercell, Å")
    repetitions: tuple[Count, Count, Count] | None = Field(None, description="of the crystal's cell; instead of length_A")
    vacancies: CountOrZero = Field(12, description="atoms taken out at random")
    cold_K: Positive = Field(300.0, description="temperature at the beginning and at the end, K")
    hot_K: Positive = Field(1800.0, description="temperature of the liquid, K")
    rate_K_per_ps: Positive = Field(10.0, description="of heating and cooling, K/ps; 10 are 10¹³ K/s")
    hold_ps: Positive = Field(50.0, description="of crystal, liquid and glass each, ps")
    snapshot_ps: Positive = Field(10.0, description="from one snapshot to the next, ps")
    ensemble: Literal["npt_berendsen", "nvt_langevin", "nvt_berendsen"] = "npt_berendsen"
    pressure_GPa: Pressure = 0.0
    timestep_fs: Positive = 1.0
    last: Count = Field(5, description="snapshots at the end of each stage of which means are taken")
    bin_A: Length = Field(0.05, description="of the radial distribution function, Å")
    closest: Fraction = Field(0.5, description="times the shortest distance in the crystal: two atoms closer end the trajectory")
    seed: SeedNumber = Field(1, description="of vacancies and momenta")

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the crystal with vacancies.

        :raises PropertyError: if it is not periodic, if nothing would be left, or if it would be cooled by heating.
        """
        if not crystal.pbc.all():
            raise PropertyError("melt_quench needs a crystal that is periodic in all directions")
        if self.hot_K <= self.cold_K:
            raise PropertyError(f"melt_quench: hot_K is {self.hot_K:g}, expected more than cold_K ({self.cold_K:g})")
        cell = tr.supercell(crystal, self.length_A, self.repetitions)
        if len(cell) - self.vacancies < 2:
            raise PropertyError(f"melt_quench: {self.vacancies} vacancies in a supercell of {len(cell)} atoms leave none to melt")
        least = self.closest * nearest_distance(cell)
        rng = np.random.default_rng(stage_seed(self.seed, 0, "vacancies"))
        del cell[sorted(rng.choice(len(cell), self.vacancies, replace=False).tolist())]
        cell.info = {"part": "melt_quench", "task": self.task(least).model_dump()}
        return [cell]

    def durations(self) -> list[float]:
        """Return how long each stage takes, ps."""
        ramp = (self.hot_K - self.cold_K) / self.rate_K_per_ps
        return [self.hold_ps, ramp, self.hold_ps, ramp, self.hold_ps]

    def task(self, min_distance: float) -> MdSettings:
        """Return the settings of the trajectory."""
        ends = [(self.cold_K, self.cold_K), (self.cold_K, self.hot_K), (self.hot_K, self.hot_K)]
        ends += [(self.hot_K, self.cold_K), (self.cold_K, self.cold_K)]
        program = [MdSegment(start_K=a, end_K=b, ps=ps) for (a, b), ps in zip(ends, self.durations(), strict=True)]
        return MdSettings(
            ensemble=self.ensemble,
            program=program,
            timestep_fs=self.timestep_fs,
            snapshot_every=max(1, round(1000 * self.snapshot_ps / self.timestep_fs)),
            pressure_GPa=self.pressure_GPa,
            min_distance=min_distance,
            seed=stage_seed(self.seed, 0, "momenta"),
        )

    def stages(self, done: Sequence[Atoms]) -> dict[str, list[Atoms]]:
        """Return the snapshots of each stage; one at the end of a stage is of that stage, the first one of the first."""
        ends = np.cumsum(self.durations())
        out: dict[str, list[Atoms]] = {}
        for atoms in done:
            number = int(np.searchsorted(ends, atoms.info["time_ps"] - self.timestep_fs / 1000, side="left"))
            out.setdefault(STAGES[min(number, len(STAGES) - 1)], []).append(atoms)
        return out

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return what the trajectory tells, or, for the labels of a reference, the errors of the potential along it.

        :raises PropertyError: if there is no snapshot, or no label.
        """
        if not done:
            raise PropertyError(tr.NOTHING)
        if prefix != fr.PREDICTION:
            return self.errors(done, prefix)
        out: dict[str, Any] = {**tr.end_of(done, self.timestep_fs), "atoms": len(done[0])}
        out |= {"series": tr.series(done, prefix), "stages": {}}
        for stage, snapshots in self.stages(done).items():
            found: dict[str, Any] = {"means": tr.means(tr.series(snapshots[-self.last :], prefix))}
            if stage in ("crystal", "liquid", "amorphous"):
                found["structure"] = tr.structure(snapshots[-self.last :], self.bin_A)
            out["stages"][stage] = found
        return out

    def errors(self, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return the errors at snapshots by stage, means over the last of each stage as in table II.

        Whose trajectory it is does not matter: with the predictions of another potential (``PRED``) on these frames, the errors
        are its, as the paper evaluates all potentials on the trajectory of one.

        :raises PropertyError: if there is no label.
        """
        found = {stage: tr.errors(snapshots, prefix) for stage, snapshots in self.stages(done).items()}
        found = {stage: errors for stage, errors in found.items() if errors["time_ps"]}
        if not found:
            raise PropertyError(f"no snapshot has {prefix}_energy and {prefix}_forces")
        return {"errors": {stage: tr.mean_errors(errors, self.last) for stage, errors in found.items()}, "snapshots": found}

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return whether it exploded, and the errors by stage."""
        status = result.get("status")
        out: dict[str, float] = {"exploded": int(status in GIVEN_UP), "unfinished": int(status not in (*GIVEN_UP, FINISHED))}
        for stage, errors in (reference or {}).get("errors", {}).items():
            out |= {f"{stage}_{key}": errors[key] for key in ("energy_mae_meV/atom", "force_rmse_eV/A")}
        return out

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return temperature and density along the way, g(r) of liquid and glass, and the errors."""
        out = {}
        if "series" in result:
            found = result["series"]
            out["temperature"] = Curve(found["time_ps"], [found["temperature_K"]], "time (ps)", "temperature (K)")
            out["density"] = Curve(found["time_ps"], [found["density_g/cm3"]], "time (ps)", "density (g/cm³)")
        for stage, one in result.get("stages", {}).items():
            if "structure" in one:
                out[f"rdf {stage}"] = Curve(one["structure"]["r_A"], [one["structure"]["g"]], "r (Å)", "g(r)")
        if "snapshots" in result:
            keys = next(iter(result["snapshots"].values()))
            every = {key: [value for errors in result["snapshots"].values() for value in errors[key]] for key in keys}
            out |= error_curves("along the way", every)
        return out
