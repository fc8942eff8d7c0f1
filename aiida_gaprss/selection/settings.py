"""How frames are chosen, as settings."""

from __future__ import annotations

from typing import Annotated, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator, model_validator

from aiida_gaprss.settings.model import Count, Fraction, Length, Model, Order, OrderOrZero, Positive, PositiveOrZero

#: Rules that measure how unfamiliar frames are.
MEASURING = ("farthest", "cur", "maxvol")

#: Rules that go by energy, and what they take for it.
ENERGY_OF = {"lowest": "energy", "boltzmann": "enthalpy"}

#: Of boltzmann, eV/atom, of cur, and of maxvol.
DEFAULT_KT, DEFAULT_KNOWN_VARIANCE, DEFAULT_GRADE = 0.2, 0.999, 1.0


class SelectionRule(Model):
    """One way to take frames that no rule before has taken."""

    by: Literal["all", "lowest", "boltzmann", "random", "farthest", "cur", "maxvol", "variance"] = Field(
        description="lowest: in energy; boltzmann: drawn with a flat-histogram Boltzmann bias in enthalpy; farthest: from the "
        "database and each other; cur: leverage scores against the database; maxvol: D-optimal, by which the "
        "vectors of database and choice span most; variance: largest predicted uncertainty"
    )
    of: Literal["end_points", "snapshots", "unsure", "all"] | None = Field(
        None,
        description="frames it takes from: snapshots are those on the way, unsure of them where relaxations were stopped "
        "(stop_where_unsure); default: end_points",
    )
    n: Count | None = Field(None, description="largest number of frames; needed by all rules but `all`")
    kT: Positive | None = Field(None, description="boltzmann: eV/atom, temperature of the bias; default: 0.2")
    energy_of: Literal["energy", "enthalpy"] | None = Field(
        None,
        description="lowest, boltzmann: energy, or enthalpy at the pressure of each frame's relaxation; default: energy for "
        "lowest, enthalpy for boltzmann",
    )
    only_new: bool | None = Field(None, description="lowest: pass over what the database holds already; default: true")
    known_variance: Annotated[Fraction, Field(gt=0)] | None = Field(
        None, description="cur: fraction of the variance of the database that counts as known; default: 0.999"
    )
    grade: PositiveOrZero | None = Field(
        None, description="maxvol: extrapolation grade up to which a frame counts as known; default: 1"
    )
    then: SelectionRule | None = Field(None, description="a second rule, which takes its frames from those of the first")

    @model_validator(mode="after")
    def _fits_together(self) -> SelectionRule:
        for name, rules in (
            ("kT", ("boltzmann",)),
            ("energy_of", tuple(ENERGY_OF)),
            ("only_new", ("lowest",)),
            ("known_variance", ("cur",)),
            ("grade", ("maxvol",)),
        ):
            if getattr(self, name) is not None and self.by not in rules:
                raise ValueError(f"{name} is for {' and '.join(rules)}, not for {self.by}")
        if (self.n is None) != (self.by == "all"):
            raise ValueError(
                "all takes every frame and has no n" if self.n else f"{self.by} needs n, the largest number of frames"
            )
        if self.then is not None:
            if self.then.by == "all":
                raise ValueError("then: all would take what is taken already")
            if self.then.of is not None:
                raise ValueError("then: takes from the frames of the first rule; `of` belongs there")
            if self.n is not None and self.then.most > self.n:
                raise ValueError(f"then: takes {self.then.n} of the {self.n} frames of the first rule")
        return self

    @property
    def pool(self) -> str:
        """Which frames it takes from."""
        return self.of or "end_points"

    @property
    def most(self) -> int:
        """Largest number of frames that a rule with ``n`` leaves in the end."""
        return self.then.most if self.then else self.n or 0

    @property
    def steps(self) -> list[SelectionRule]:
        """The rule and those that follow it by ``then``."""
        return [self, *(self.then.steps if self.then else [])]

    @property
    def name(self) -> str:
        """What the report calls it."""
        of = "" if self.pool == "end_points" else f" of {self.pool}"
        return " then ".join(rule.by for rule in self.steps) + of


class SoapVectors(Model):
    """SOAP power spectrum of a frame: the mean over its atoms, element by element, normalised."""

    kind: Literal["soap"] = "soap"
    cutoff: Length = Field(5.0, description="Å")
    cutoff_transition_width: Length = Field(1.0, description="Å")
    n_max: Order = 8
    l_max: OrderOrZero = 6
    atom_sigma: Length = Field(0.5, description="Å, width of the neighbour density")


class DescribeSettings(SoapVectors):
    """SOAP vectors of the frames of a dataset."""

    elements: list[str] = Field(
        min_length=1, description="all elements that occur in any of the datasets that are to be compared"
    )

    @field_validator("elements")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        wrong = [symbol for symbol in value if atomic_numbers.get(symbol, 0) == 0]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a chemical element")
        if len(set(value)) != len(value):
            raise ValueError("an element is named twice")
        return sorted(value, key=atomic_numbers.__getitem__)


class RangeFilter(Model):
    """Pass over frames whose features all lie within the range that the database spans."""

    features: list[Literal["pairs", "angles", "volume"]] = Field(
        default=["pairs", "angles", "volume"], min_length=1, description="sums of 1/r^k of pairs, angular functions, volume"
    )
    cutoff: Length = Field(6.0, description="Å, of pairs and triplets")


class SelectionSettings(Model):
    """Which of the relaxed frames are labelled.

    The rules take frames in turn; no frame is taken twice.
    """

    rules: list[SelectionRule] = Field(min_length=1)
    tolerance: PositiveOrZero = Field(0.3, description="distance of fingerprints up to which end points are equal; 0 keeps all")
    range_filter: RangeFilter | None = Field(
        None, description="pass over frames inside the range of the database, feature by feature; {} switches it on"
    )
    vectors: SoapVectors | None = Field(
        None, description="what farthest, cur and maxvol measure with; default: a cheap fingerprint of distances and angles"
    )

    @model_validator(mode="after")
    def _vectors_are_used(self) -> SelectionSettings:
        if self.vectors is not None and not self.uses(*MEASURING):
            raise ValueError(f"vectors: no rule measures with them; those that do are {', '.join(MEASURING)}")
        return self

    def uses(self, *names: str) -> bool:
        """Tell whether one of these rules is among the rules, or follows one."""
        return any(step.by in names for rule in self.rules for step in rule.steps)

    def takes_from(self, pool: str) -> bool:
        """Tell whether one of the rules takes frames from this pool."""
        return any(rule.pool == pool for rule in self.rules)

    def at_most(self, cells: int, snapshots: int) -> int:
        """Return the largest number of frames that can be chosen of so many relaxed cells with so many snapshots each."""
        frames = {"end_points": cells, "unsure": cells, "snapshots": cells * (1 + snapshots), "all": cells * (1 + snapshots)}
        return min(sum(min(rule.most or frames[rule.pool], frames[rule.pool]) for rule in self.rules), frames["all"])
