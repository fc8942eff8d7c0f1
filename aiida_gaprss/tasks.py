"""Settings of the batched jobs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from aiida_gaprss.validation import Model


class RelaxSettings(Model):
    """How cells are relaxed; the pressure (GPa) of each stands in its ``pressure_GPa``."""

    optimizer: Literal["lbfgs", "cg", "fire"] = "lbfgs"
    fmax: PositiveFloat = Field(0.05, description="largest force (eV/Å; for the cell, the generalised force of the filter)")
    max_steps: PositiveInt = 200
    snapshot_steps: list[int] = Field(default=[5], description="steps kept besides the last one")
    min_distance: NonNegativeFloat = Field(0.0, description="Å; two atoms closer than this end the relaxation (collapsed)")
    volume_factors: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.2, 4.0), description="the volume, relative to the start, outside of which a relaxation ends (collapsed, exploded)"
    )


class SearchSettings(Model):
    """The search with the final potential, at zero pressure."""

    cells: dict[str, PositiveInt] = Field(description="number of new random cells of each kind of seed")
    again: NonNegativeInt = Field(20, description="number of the lowest frames of the database that are relaxed once more")
    relax: RelaxSettings = Field(default_factory=lambda: RelaxSettings(snapshot_steps=[]))
    window: PositiveFloat = Field(0.5, description="eV/atom above the lowest within which minima are reported")
    report: PositiveInt = Field(10, description="number of minima reported")
    label: NonNegativeInt = Field(5, description="number of the lowest minima checked against the reference")


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
    level_of_theory: str | None = Field(None, description="one line naming the level of theory; default: the calculator's name")


class BuildcellSettings(Model):
    """How buildcell of AIRSS makes cells."""

    text: str = Field(min_length=1, description="the seed, a cell file with #TAG lines, without #SEED")
    timeout_s: PositiveFloat = Field(30.0, description="seconds after which a cell is given up; some seeds never end")

    @field_validator("text")
    @classmethod
    def _no_seed(cls, value: str) -> str:
        for number, line in enumerate(value.splitlines(), start=1):
            if line.strip().upper().startswith("#SEED"):
                raise ValueError(f"line {number}: every cell gets a #SEED of its own, remove {line.strip()}")
        return value
