"""Settings of the batched jobs."""

from __future__ import annotations

from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from aiida_gaprss.calculators import check_name
from aiida_gaprss.structures.seeds import Seed
from aiida_gaprss.validation import (
    AtomCount,
    Count,
    CountOrZero,
    Length,
    LengthOrZero,
    Line,
    Model,
    Name,
    Positive,
    Pressure,
    Seconds,
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


class RankingSettings(Model):
    """How the cells of a search are relaxed, and which minima are told."""

    cells: dict[Name, Count] = Field(description="number of new random cells of each kind of seed")
    pressure_GPa: Pressure = Field(0.0, description="pressure of the search; minima are ranked by their enthalpy at it")
    relax: RelaxSettings = Field(default_factory=lambda: RelaxSettings(snapshot_steps=[]))
    window: Positive = Field(0.5, description="eV/atom above the lowest within which minima are reported")
    report: Count = Field(10, description="number of minima reported")
    batch: Count = Field(500, description="cells in one job; other batches are other cells")


class SearchSettings(RankingSettings):
    """The search with the final potential."""

    again: CountOrZero = Field(20, description="number of the lowest frames of the database that are relaxed once more")
    label: CountOrZero = Field(5, description="number of the lowest minima checked against the reference")


class DiagnosticSearchSettings(RankingSettings):
    """A search with one potential, from random cells of one composition."""

    formula: dict[str, AtomCount] = Field(min_length=1, description="atoms per formula unit")
    seeds: dict[Name, Seed] = Field(min_length=1, description="kinds of random cells by name")

    @model_validator(mode="after")
    def _known_kinds(self) -> DiagnosticSearchSettings:
        for kind in self.cells:
            if kind not in self.seeds:
                raise ValueError(f"cells: no kind of seed is called {kind!r}; known: {', '.join(self.seeds)}")
        if not self.cells:
            raise ValueError("cells: expected at least one kind of seed with its number")
        return self

    @property
    def attempts(self) -> int:
        """Number of random cells."""
        return sum(self.cells.values())

    def counts(self) -> list[dict[str, int]]:
        """Return the number of cells of each kind for every batch; every batch has its share of all kinds."""
        batches = -(-self.attempts // self.batch)
        shares = [{k: n * (b + 1) // batches - n * b // batches for k, n in self.cells.items()} for b in range(batches)]
        return [{kind: n for kind, n in share.items() if n} for share in shares]


def scaled(cells: dict[str, int], attempts: int) -> dict[str, int]:
    """Return the numbers of cells in the same proportions, of ``attempts`` cells in all; a kind that gets none is left out."""
    total = sum(cells.values())
    ends = [sum(list(cells.values())[: i + 1]) * attempts // total for i in range(len(cells))]
    return {kind: n for kind, n in zip(cells, (b - a for a, b in zip([0, *ends], ends, strict=False)), strict=True) if n}


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
