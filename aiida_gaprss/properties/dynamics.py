"""Molecular dynamics by a potential: does it last, what is simulated, and how wrong is the potential where it goes by itself?

The trajectories are ASE's (``runners/md.py``). Errors on a potential's own snapshots are the test of Zuo et al., J. Phys. Chem. A
124, 731 (2020), figure 6: 54 atoms of Mo at half the melting point, 0.25 ns, 40 snapshots computed anew by DFT.
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
from aiida_gaprss.runners.status import FINISHED, GIVEN_UP, NOT_REACHED
from aiida_gaprss.settings.jobs import Ensemble, MdSegment, MdSettings
from aiida_gaprss.settings.model import Count, Fraction, Length, Positive, PositiveOrZero, Pressure, SeedNumber
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.structures.supercells import nearest_distance


class Dynamics(tr.OfTrajectories):
    """Trajectories of a supercell at several temperatures, and the errors on their own snapshots.

    Of a potential ``result`` gives by temperature how the trajectory ended, means with standard errors, radial distribution
    function, diffusion; of the reference the errors of the potential at the snapshots that it has labelled.
    """

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        **tr.WHOLE,
        "energy_mae_meV/atom": Limits(5, 20, "meV/atom", "chosen: k_B T at 300 K is 26, and errors should be far below it"),
        "force_mae_eV/A": Limits(0.15, 0.3, "eV/Å", "chosen after George 2020, table II: 0.07 to 0.21, overfit 0.3 and more"),
        "drift_meV/atom/ps": Limits(0.26, 2.6, "meV/atom/ps", "chosen: 3 k_B times 1 and 10 K, by which a crystal warms each ps"),
    }

    kind: Literal["dynamics"] = "dynamics"
    temperatures_K: list[Positive] = Field([300.0], min_length=1, description="one trajectory each, K")
    ensemble: Ensemble = Field("nvt_langevin", description="of the part that counts; nve begins with Langevin dynamics")
    length_A: Length = Field(10.0, description="least distance of opposite faces of the supercell, Å")
    repetitions: tuple[Count, Count, Count] | None = Field(None, description="of the crystal's cell; instead of length_A")
    timestep_fs: Positive = 1.0
    equilibration_ps: PositiveOrZero = Field(0.5, description="before anything counts, ps")
    time_ps: Positive = Field(1.5, description="after that, ps")
    snapshot_fs: Positive = Field(50.0, description="from one snapshot to the next, fs")
    pressure_GPa: Pressure = 0.0
    labels: Count = Field(10, description="snapshots of each trajectory that the reference labels")
    bin_A: Length = Field(0.05, description="of the radial distribution function, Å")
    closest: Fraction = Field(0.5, description="times the shortest distance in the crystal: two atoms closer end a trajectory")
    seed: SeedNumber = 1

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return a supercell for each temperature.

        :raises PropertyError: if the crystal is not periodic, or the supercell has a single atom.
        """
        if not crystal.pbc.all():
            raise PropertyError("dynamics needs a crystal that is periodic in all directions")
        cell = tr.supercell(crystal, self.length_A, self.repetitions)
        if len(cell) < 2:
            raise PropertyError("dynamics needs two atoms at least; set length_A or repetitions for a larger supercell")
        frames = []
        for kelvin in dict.fromkeys(self.temperatures_K):
            atoms = cell.copy()
            atoms.info = {"part": f"{kelvin:g}K", "task": self.task_of_temperature(kelvin, cell).model_dump()}
            frames.append(atoms)
        return frames

    def task_of_temperature(self, kelvin: float, cell: Atoms) -> MdSettings:
        """Return the settings of a trajectory."""
        before = "nvt_langevin" if self.ensemble == "nve" else self.ensemble
        parts = [MdSegment(start_K=kelvin, ps=self.equilibration_ps, ensemble=before)] if self.equilibration_ps else []
        return MdSettings(
            ensemble=self.ensemble,
            program=[*parts, MdSegment(start_K=kelvin, ps=self.time_ps)],
            timestep_fs=self.timestep_fs,
            snapshot_every=max(1, round(self.snapshot_fs / self.timestep_fs)),
            pressure_GPa=self.pressure_GPa,
            min_distance=self.closest * nearest_distance(cell),
            seed=stage_seed(self.seed, 0, f"{kelvin:g}K"),
        )

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return what the trajectories tell, or, for the labels of a reference, the errors of the potential at them.

        :raises PropertyError: if there is no snapshot, or no label.
        """
        parts = tr.of_parts(done)
        if prefix == fr.PREDICTION:
            if not parts:
                raise PropertyError(tr.NOTHING)
            told = {part: self._trajectory(snapshots, prefix) for part, snapshots in parts.items()}
            absent = [atoms.info["part"] for atoms in self.plan(crystal) if atoms.info["part"] not in told]
            return {"trajectories": told | {part: {"status": NOT_REACHED} for part in absent}}
        found = {part: tr.errors(snapshots, prefix) for part, snapshots in parts.items()}
        found = {part: errors for part, errors in found.items() if errors["time_ps"]}
        if not found:
            raise PropertyError(f"no snapshot has {prefix}_energy and {prefix}_forces")
        every = {key: [value for errors in found.values() for value in errors[key]] for key in next(iter(found.values()))}
        by_part = {part: tr.mean_errors(errors) for part, errors in found.items()}
        return {"errors": by_part, "all_errors": tr.mean_errors(every), "snapshots": found}

    def _trajectory(self, snapshots: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        out: dict[str, Any] = {**tr.end_of(snapshots, self.timestep_fs), "atoms": len(snapshots[0])}
        out["series"] = tr.series(snapshots, prefix)
        every = max(1, round(self.snapshot_fs / self.timestep_fs))
        after = [a for a in snapshots if a.info["time_ps"] >= self.equilibration_ps - 1e-9 and a.info["step"] % every == 0]
        if len(after) < 4:
            return out
        found = tr.series(after, prefix)
        out["means"] = tr.means(found)
        if self.ensemble == "nve":
            out["drift_meV/atom/ps"] = tr.drift(found)
        out["structure"] = tr.structure(after, self.bin_A)
        out["motion"] = tr.diffusion(after)
        if peak := out["structure"].get("first_peak_A"):
            out["lindemann"] = out["motion"]["rms_displacement_A"] / peak
        return out

    def to_label(self, done: Sequence[Atoms]) -> list[int]:
        """Return some snapshots of each trajectory at equal distances, after the equilibration if it came so far."""
        chosen: list[int] = []
        for part in tr.of_parts(done):
            mine = [number for number, atoms in enumerate(done) if atoms.info["part"] == part]
            late = [number for number in mine if done[number].info["time_ps"] >= self.equilibration_ps - 1e-9]
            chosen += tr.evenly(late or mine, self.labels)
        return chosen

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return how many trajectories exploded or are not whole, the worst drift, and the errors on the snapshots."""
        found = result.get("trajectories", {}).values()
        out: dict[str, float] = {"exploded": sum(one["status"] in GIVEN_UP for one in found)}
        out["unfinished"] = sum(one["status"] not in (*GIVEN_UP, FINISHED) for one in found)
        drifts = [one["drift_meV/atom/ps"] for one in found if "drift_meV/atom/ps" in one]
        if drifts:
            out["drift_meV/atom/ps"] = max(drifts, key=abs)
        if reference and "all_errors" in reference:
            out |= {key: reference["all_errors"][key] for key in ("energy_mae_meV/atom", "force_mae_eV/A")}
        return out

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return g(r), mean squared displacements and temperatures, and the errors along the trajectories."""
        out = {}
        for part, one in result.get("trajectories", {}).items():
            if "series" not in one:
                continue
            found = one["series"]
            out[f"temperature {part}"] = Curve(found["time_ps"], [found["temperature_K"]], "time (ps)", "temperature (K)")
            if "structure" in one:
                out[f"rdf {part}"] = Curve(one["structure"]["r_A"], [one["structure"]["g"]], "r (Å)", "g(r)")
                moved = one["motion"]
                out[f"msd {part}"] = Curve(moved["lag_ps"], [moved["msd_A2"]], "time (ps)", "mean squared displacement (Å²)")
        for part, errors in result.get("snapshots", {}).items():
            out |= error_curves(part, errors)
        return out


def error_curves(part: str, errors: Mapping[str, Sequence[float]]) -> dict[str, Curve]:
    """Return the errors of energies and forces along a trajectory as figures."""
    sizes = np.abs(errors["energy_error_meV/atom"]).tolist()
    return {
        f"energy error {part}": Curve(errors["time_ps"], [sizes], "time (ps)", "energy error (meV/atom)", points=True),
        f"force error {part}": Curve(
            errors["time_ps"], [errors["force_rmse_eV/A"]], "time (ps)", "RMS force error (eV/Å)", points=True
        ),
    }
