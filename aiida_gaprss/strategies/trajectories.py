"""Snapshots of trajectories: crystals at several temperatures, with and without vacancies; melts and glasses.

Temperatures, times and numbers of snapshots are those of Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020): 20 snapshots, 0.1 ps
apart, at 300 K and 0.5, 0.9, 1.5, 2.0 times the melting point; 40 of cells with a vacancy at 300 K and twice the melting point.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator

from aiida_gaprss.runners.status import CALCULATOR_FAILED, FINISHED, INTERRUPTED, ON_THE_WAY, TIME_LIMIT
from aiida_gaprss.settings.jobs import (
    MD_KPOINTS,
    Ensemble,
    EnsembleOfReference,
    MdKpoints,
    MdSegment,
    MdSettings,
    ReferenceMdSettings,
)
from aiida_gaprss.settings.model import AtomCount, Count, CountOrZero, Fraction, Length, Positive, PositiveOrZero, Pressure
from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.crystals import OfCrystals
from aiida_gaprss.structures.supercells import nearest_distance, repetitions

#: How the status of a snapshot may read that is labelled: those of a trajectory that was cut off are as good as others.
WHOLE = (ON_THE_WAY, FINISHED, TIME_LIMIT, INTERRUPTED, CALCULATOR_FAILED)

#: Ensembles in which the program of a reference can run.
FIXED_CELL = get_args(EnsembleOfReference)


class Trajectories(OfCrystals):
    """What strategies have in common whose frames a potential, an ASE calculator or the reference runs."""

    needs: ClassVar[frozenset[str]] = frozenset({"crystals", "potential"})
    run: ClassVar[str | None] = "md"
    length_A: Length = Field(10.0, description="every vector of the supercell is at least so long, Å")
    supercell: tuple[AtomCount, AtomCount, AtomCount] | None = Field(None, description="repetitions, instead of a length")
    most_atoms: Count = Field(1000, description="a supercell of more atoms is refused")
    vacancies: CountOrZero = Field(0, description="atoms taken out at random")
    ensemble: Ensemble = Field("nvt_langevin", description="npt: the cell keeps its shape")
    pressure_GPa: Pressure = 0.0
    timestep_fs: Positive = 1.0
    closest: Fraction = Field(0.5, description="times the shortest distance in the crystal: two atoms closer end the trajectory")

    def started(self, crystal: Atoms, rng: np.random.Generator) -> Atoms:
        """Return the supercell with its vacancies.

        :raises StrategyError: if it has too many atoms, or too few are left.
        """
        cell, times = repetitions(crystal, self.length_A, self.supercell)
        if not 2 <= (number := len(cell) * int(np.prod(times))) <= self.most_atoms:
            raise StrategyError(f"the supercell has {number} atoms, expected 2 to {self.most_atoms} (most_atoms)")
        if number - self.vacancies < 2:
            raise StrategyError(f"{self.vacancies} vacancies in a supercell of {number} atoms leave none to move")
        cell = cell.repeat(times)
        del cell[sorted(rng.choice(number, self.vacancies, replace=False).tolist())]
        return cell

    def task(self, crystal: Atoms, program: list[MdSegment], every_ps: float, rng: np.random.Generator) -> dict[str, object]:
        """Return the settings of a trajectory."""
        return MdSettings(
            ensemble=self.ensemble,
            program=program,
            timestep_fs=self.timestep_fs,
            snapshot_every=self.steps(every_ps),
            pressure_GPa=self.pressure_GPa,
            min_distance=self.closest * nearest_distance(crystal),
            seed=int(rng.integers(1, 2**31 - 1)),
        ).model_dump()

    def steps(self, ps: float) -> int:
        """Return how many steps are so long, ps; one at least."""
        return max(1, round(1000 * ps / self.timestep_fs))

    @abstractmethod
    def kept(self, step: int) -> str | None:
        """Return the part of the trajectory that a snapshot is of, empty if it has no parts; None if it is not labelled."""

    def taken(self, done: Sequence[Atoms]) -> list[Atoms]:
        """Return the snapshots that are labelled; a trajectory that was given up gives those before its end.

        Its last frame is left out: it is what has exploded, or collapsed. A part gives its name to the parameters, and to the
        ``config_type``, unless there is one for all.
        """
        out = []
        for atoms in done:
            part = self.kept(int(atoms.info["step"]))
            if part is not None and atoms.info.get("md_status") in WHOLE:
                if part:
                    atoms.info["parameters"] = ", ".join(filter(None, (str(atoms.info.get("parameters", "")), part)))
                    atoms.info["config_type"] = self.config_type or part
                out.append(atoms)
        return out


class Dynamics(Trajectories):
    """Snapshots of a crystal at several temperatures."""

    kind: Literal["md"] = "md"
    temperatures_K: list[Positive] = Field([300.0], description="one trajectory each")
    melting_K: Positive | None = Field(None, description="melting point, for those that are multiples of it")
    of_melting: list[Positive] = Field(
        default_factory=list, description="times melting_K, besides; Zuo: 0.5, 0.9, 1.5, 2.0, with a vacancy 2.0"
    )
    snapshots: Count = Field(20, description="of each trajectory; Zuo: 20, with a vacancy 40")
    every_ps: Positive = Field(0.1, description="from one snapshot to the next, ps")
    equilibration_ps: PositiveOrZero = Field(1.0, description="before the first, ps")
    by: Literal["potential", "reference"] = Field(
        "potential",
        description="what runs: the potential (or ASE calculator) of the file; or the program of the reference, in a fixed cell",
    )
    md_kpoint_spacing: MdKpoints = Field(None, description=MD_KPOINTS)

    @property
    def by_reference(self) -> bool:
        """Whether the program of the reference runs it."""
        return self.by == "reference"

    @model_validator(mode="after")
    def _fixed_cell(self) -> Dynamics:
        if self.by_reference and self.ensemble not in FIXED_CELL:
            raise ValueError(f"ensemble is {self.ensemble}, expected one of {', '.join(FIXED_CELL)} with by: reference")
        if self.md_kpoint_spacing is not None and not self.by_reference:
            raise ValueError("md_kpoint_spacing is of trajectories by the reference (by: reference); a potential has no k-points")
        return self

    @model_validator(mode="after")
    def _temperatures(self) -> Dynamics:
        if self.of_melting and self.melting_K is None:
            raise ValueError("of_melting needs melting_K, the melting point in K")
        if not self.kelvins:
            raise ValueError("temperatures_K is empty, and so is of_melting: expected a temperature at least")
        return self

    @property
    def labels_each(self) -> int:
        """So many snapshots of each trajectory."""
        return self.snapshots

    @property
    def kelvins(self) -> list[float]:
        """All temperatures, each once."""
        return list(dict.fromkeys([*self.temperatures_K, *(part * (self.melting_K or 0.0) for part in self.of_melting)]))

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the beginning of each trajectory; vacancies are others for each."""
        program_ps = self.equilibration_ps + self.snapshots * self.every_ps
        frames = []
        for kelvin in self.kelvins:
            atoms = self.started(crystal, rng)
            program = [MdSegment(start_K=kelvin, ps=program_ps)]
            task = self.task(crystal, program, self.every_ps, rng)
            atoms.info["task"] = self.reference_task(kelvin, program_ps) if self.by_reference else task
            atoms.info["parameters"] = f"{kelvin:g} K" + (f", {self.vacancies} vacancies" if self.vacancies else "")
            frames.append(atoms)
        return frames

    def reference_task(self, kelvin: float, ps: float) -> dict[str, Any]:
        """Return the settings of a trajectory that the program of a reference runs."""
        return ReferenceMdSettings(
            ensemble=self.ensemble,  # type: ignore[arg-type]  # _fixed_cell has looked
            temperature_K=kelvin,
            steps=self.steps(ps),
            timestep_fs=self.timestep_fs,
            snapshot_every=self.steps(self.every_ps),
            kpoint_spacing=self.md_kpoint_spacing,
        ).model_dump()

    def kept(self, step: int) -> str | None:
        """Keep those after the equilibration, as many as are wanted."""
        every, before = self.steps(self.every_ps), self.equilibration_ps * 1000 / self.timestep_fs
        return "" if step % every == 0 and before < step <= every * (self.snapshots + before // every) else None


class MeltQuenched(Trajectories):
    """Snapshots of a crystal that is melted and quenched: liquid, what cools, and the glass, each kind under its own name."""

    kind: Literal["melt_quench"] = "melt_quench"
    hot_K: Positive = Field(
        description="temperature of the liquid: well above the melting point, as the crystal is superheated, K"
    )
    cold_K: Positive = Field(300.0, description="temperature of the glass, K")
    rate_K_per_ps: Positive = Field(100.0, description="of cooling; 100 are 10¹⁴ K/s, George et al. (2020) have 10")
    melting_ps: Positive = Field(5.0, description="time to melt, of which nothing is labelled, ps")
    hold_ps: Positive = Field(5.0, description="of liquid and glass each, ps")
    liquid: CountOrZero = Field(10, description="snapshots of the liquid")
    cooling: CountOrZero = Field(10, description="snapshots on the way")
    amorphous: CountOrZero = Field(10, description="snapshots of the glass")
    every_ps: Annotated[Positive, Field(le=10)] = Field(0.1, description="snapshots are kept so often, and then chosen, ps")

    @model_validator(mode="after")
    def _cools(self) -> MeltQuenched:
        if self.hot_K <= self.cold_K:
            raise ValueError(f"hot_K is {self.hot_K:g}, expected more than cold_K ({self.cold_K:g})")
        if not self.liquid + self.cooling + self.amorphous:
            raise ValueError("liquid, cooling and amorphous are 0: nothing of the trajectory would be labelled")
        return self

    @property
    def labels_each(self) -> int:
        """So many snapshots of all parts."""
        return self.liquid + self.cooling + self.amorphous

    @property
    def ends(self) -> dict[str, float]:
        """When each part ends, ps, after melting."""
        times = [self.hold_ps, (self.hot_K - self.cold_K) / self.rate_K_per_ps, self.hold_ps]
        return dict(zip(("liquid", "cooling", "amorphous"), (self.melting_ps + np.cumsum(times)).tolist(), strict=True))

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the beginning of the trajectory."""
        atoms = self.started(crystal, rng)
        ramp = MdSegment(start_K=self.hot_K, end_K=self.cold_K, ps=self.ends["cooling"] - self.ends["liquid"])
        hot = MdSegment(start_K=self.hot_K, ps=self.melting_ps + self.hold_ps)
        program = [hot, ramp, MdSegment(start_K=self.cold_K, ps=self.hold_ps)]
        atoms.info["task"] = self.task(crystal, program, self.every_ps, rng)
        return [atoms]

    def kept(self, step: int) -> str | None:
        """Keep as many of each part as are wanted, at equal distances, the last one among them."""
        every, begin = self.steps(self.every_ps), self.melting_ps
        for name, end in self.ends.items():
            first, last = (int(1000 * time / self.timestep_fs // every) for time in (begin, end))
            wanted, there = getattr(self, name), last - first
            chosen = {last - round(k * there / wanted) for k in range(min(wanted, there))} if wanted else set()
            if step % every == 0 and step // every in chosen:
                return name
            begin = end
        return None
