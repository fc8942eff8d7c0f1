"""Settings of a pair potential, and what its file holds."""

from __future__ import annotations

from typing import Literal

from ase.data import atomic_numbers
from pydantic import Field, model_validator

from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.settings.model import Coefficient, Length, Model, Order, Positive


class PairSettings(BaseFit):
    """A pair potential by linear least squares."""

    family: Literal["pair"] = "pair"
    cutoff: Length = Field(6.0, le=30, description="Å; beyond it there is no interaction")
    switch: Length | None = Field(None, description="Å; where it begins to be switched off; default: 0.66 of the cutoff")
    powers: list[Order] = Field(
        default_factory=lambda: list(range(1, 16)), min_length=1, max_length=50, description="k of the terms 1/r^k"
    )
    sigma_energy: Positive = Field(0.01, description="expected error, eV/atom")
    sigma_forces: Positive = Field(0.1, description="expected error, eV/Å")
    sigma_virial: Positive = Field(0.1, description="expected error, eV/atom")

    @property
    def switch_A(self) -> float:
        """Where the interaction begins to be switched off, Å."""
        return 0.66 * self.cutoff if self.switch is None else self.switch

    @property
    def reach(self) -> float:
        """The cutoff, Å."""
        return self.cutoff

    @property
    def sigma(self) -> dict[str, float]:
        """Expected errors by label."""
        return {"energy": self.sigma_energy, "forces": self.sigma_forces, "virial": self.sigma_virial}

    @model_validator(mode="after")
    def _order(self) -> PairSettings:
        if self.switch_A >= self.cutoff:
            raise ValueError(f"switch: {self.switch_A:g} Å, expected less than the cutoff of {self.cutoff:g} Å")
        if len(set(self.powers)) < len(self.powers):
            raise ValueError(f"powers: {self.powers}, expected each once")
        return self


class PairTerm(Model):
    """One pair of elements in the file of a pair potential."""

    elements: tuple[str, str]
    shortest_A: Length
    coefficients_eV: list[Coefficient]


class PairFile(Model):
    """The file of a pair potential."""

    kind: Literal["pair potential"]
    cutoff_A: Length = Field(le=100)
    switch_A: Length
    scale_A: Length
    powers: list[Order] = Field(min_length=1, max_length=50)
    e0_eV: dict[str, Coefficient] = Field(min_length=1)
    pairs: list[PairTerm]
    eta: Coefficient | None = None

    @model_validator(mode="after")
    def _whole(self) -> PairFile:
        unknown = [symbol for symbol in self.e0_eV if not atomic_numbers.get(symbol)]
        if unknown:
            raise ValueError(f"e0_eV: {unknown[0]!r} is no element")
        if self.switch_A >= self.cutoff_A:
            raise ValueError(f"switch_A: {self.switch_A:g}, expected less than cutoff_A, {self.cutoff_A:g}")
        there = sorted(tuple(sorted(pair.elements)) for pair in self.pairs)
        wanted = sorted(tuple(sorted((a, b))) for i, a in enumerate(self.e0_eV) for b in list(self.e0_eV)[i:])
        if there != wanted:
            raise ValueError(f"pairs: there are {there}, expected {wanted}, each once")
        far = [pair for pair in self.pairs if pair.shortest_A > self.cutoff_A]
        if far:
            raise ValueError(f"pairs: shortest_A of {'-'.join(far[0].elements)} is {far[0].shortest_A:g}, beyond the cutoff")
        short = [pair for pair in self.pairs if len(pair.coefficients_eV) != len(self.powers)]
        if short:
            raise ValueError(
                f"pairs: {'-'.join(short[0].elements)} has {len(short[0].coefficients_eV)} coefficients, "
                f"expected {len(self.powers)}, one of each power"
            )
        return self
