"""Settings of the batched jobs."""

from __future__ import annotations

from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from aiida_gaprss.settings.calculators import check_name
from aiida_gaprss.settings.model import (
    Count,
    CountOrZero,
    Length,
    LengthOrZero,
    Line,
    Model,
    Positive,
    Seconds,
    SeedNumber,
)

#: Scratch folders that are removed when their jobs have been evaluated: of no job, of those that ended well, of all.
ScratchPolicy = Literal["keep", "finished", "all"]


class EveryStep(Model):
    """Steps at equal distances, the first one among them."""

    every: Count = Field(description="every so many steps")


class RelaxSettings(Model):
    """How cells are relaxed; the pressure (GPa) of each stands in its ``pressure_GPa``."""

    optimizer: Literal["lbfgs", "cg", "fire"] = "lbfgs"
    fmax: Positive = Field(0.05, description="largest force (eV/Å; for the cell, the generalised force of the filter)")
    max_steps: Count = Field(200, description="of the optimizer; with cg, line searches")
    snapshot_steps: list[CountOrZero] | Literal["all"] | EveryStep = Field(
        default=[5], description="steps kept besides the last one: a list, all, or {every: n}"
    )
    cell: Literal["free", "fixed"] = Field("free", description="whether the cell is relaxed, too, or the atoms only")
    symmetry: Literal["free", "kept"] = Field("free", description="whether the space group of the cell (to 1e-4 Å) is imposed")
    min_distance: LengthOrZero | dict[str, Length] = Field(
        0.0, description="Å, for all pairs or by pair (Li-Cu: 1.5); two atoms closer than this end the relaxation (collapsed)"
    )
    volume_factors: tuple[Positive, Positive] = Field(
        (0.2, 4.0), description="the volume, relative to the start, outside of which a relaxation ends (collapsed, exploded)"
    )
    max_neighbour_distance: LengthOrZero = Field(
        6.0, description="Å; an atom without any other this near ends the relaxation (evaporated); 0: none does"
    )

    @property
    def n_snapshots(self) -> int:
        """Largest number of frames kept of a cell besides the last one."""
        if isinstance(self.snapshot_steps, list):
            return len(self.snapshot_steps)
        return -(-self.max_steps // (1 if self.snapshot_steps == "all" else self.snapshot_steps.every))

    @field_validator("min_distance")
    @classmethod
    def _pairs(cls, value: float | dict[str, float]) -> float | dict[str, float]:
        for pair in value if isinstance(value, dict) else ():
            if len(pair.split("-")) != 2 or not all(atomic_numbers.get(symbol) for symbol in pair.split("-")):
                raise ValueError(f"{pair!r} is not a pair of elements, expected e.g. Li-Cu")
        return value

    @field_validator("volume_factors")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] < 1 < value[1]:
            raise ValueError(f"expected a number below 1 and one above, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _together(self) -> RelaxSettings:
        if self.symmetry == "kept" and self.optimizer == "cg":
            raise ValueError("symmetry: kept goes with lbfgs and fire; the line searches of cg are too long for it")
        return self


class RelaxJobSettings(RelaxSettings):
    """Settings of a job of relaxations, in which frames may have some of their own."""

    tasks: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="settings of single frames, by frame_id, where they differ"
    )

    @model_validator(mode="after")
    def _each(self) -> RelaxJobSettings:
        common = self.model_dump(exclude={"tasks"})
        for own in self.tasks.values():
            RelaxSettings(**{**common, **own})
        return self


class SpeedSettings(Model):
    """How the time of a potential is measured."""

    calls: Count = Field(5, description="of which the median is taken, after one that is not counted")
    displacement: Length = Field(0.01, description="Å, standard deviation of the atoms in each call")
    seed: SeedNumber = Field(1, description="of the displacements")


class SpeedJobSettings(SpeedSettings):
    """Settings of a job that measures times, in which frames may have some of their own."""

    tasks: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="settings of single frames, by frame_id, where they differ"
    )

    @model_validator(mode="after")
    def _each(self) -> SpeedJobSettings:
        common = self.model_dump(exclude={"tasks"})
        for own in self.tasks.values():
            SpeedSettings(**{**common, **own})
        return self


class EvaluateSettings(Model):
    """What is evaluated besides energies, forces and virials."""

    local_energies: bool = False
    variances: bool = Field(
        False, description="variance of each local energy by the Gaussian process, eV²: large where no sparse point is near"
    )


class LabelSettings(Model):
    """The ASE calculator that makes the labels."""

    calculator: str = Field(description="name that ASE knows (emt, lj, …) or the dotted path of a class")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the class")
    _is_one = field_validator("calculator")(check_name)

    level_of_theory: Line | None = Field(None, description="one line naming the level of theory; default: the calculator's name")


class BuildcellSettings(Model):
    """How buildcell of AIRSS makes cells."""

    text: str = Field(min_length=1, description="the seed, a cell file with #TAG lines, without #SEED")
    timeout_s: Seconds = Field(30.0, description="seconds after which a cell is given up; some seeds never end")

    @field_validator("text")
    @classmethod
    def _no_seed(cls, value: str) -> str:
        for number, line in enumerate(value.splitlines(), start=1):
            if line.strip().upper().startswith("#SEED"):
                raise ValueError(f"line {number}: every cell gets a #SEED of its own, remove {line.strip()}")
        return value
