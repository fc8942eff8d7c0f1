"""Pairs of atoms in vacuum over a range of distances: the repulsion that a potential cannot learn from relaxed matter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import Annotated, ClassVar, Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from pydantic import Field, model_validator

from aiida_gaprss.settings.model import Count, Length, Model, Positive
from aiida_gaprss.strategies.base import CampaignFormula, Strategy


class DimerSettings(Model):
    """Dimer curves of every pair of elements, labelled with the initial cells as ``config_type=dimer``."""

    points: Annotated[Count, Field(ge=2, le=10_000)] = Field(15, description="distances of each curve, evenly spaced")
    range: tuple[Positive, Positive] = Field((0.65, 2.5), description="in bond lengths (sums of covalent radii)")

    @model_validator(mode="after")
    def _range(self) -> DimerSettings:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range is {list(self.range)}, expected a smaller and a larger number")
        return self


class Dimers(DimerSettings, Strategy):
    """Dimer curves of every pair of elements of the formula."""

    in_vacuum: ClassVar[bool] = True
    kind: Literal["dimers"] = "dimers"
    vacuum: Length = Field(15.0, description="Å, between the images at the largest distance")

    def most(self, crystals: int, formula: CampaignFormula) -> int:
        """Return the number of pairs times that of the distances."""
        return self.points * len(formula) * (len(formula) + 1) // 2

    def frames(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return one curve after another; nothing is random."""
        frames = []
        for a, b in combinations_with_replacement(formula, 2):
            curve = dimer_curve(a, b, self.points, self.range, self.vacuum)
            for number, atoms in enumerate(curve):
                atoms.info.update(frame_id=f"dimer-{a}-{b}-{number:02d}", config_type="dimer")
            frames += curve
        return frames


def dimer_curve(a: str, b: str, n: int, factors: tuple[float, float], vacuum: float) -> list[Atoms]:
    """Return ``n`` dimers of the elements ``a`` and ``b``, evenly spaced in distance, in one cubic box.

    :param factors: smallest and largest distance as multiples of the bond length, the sum of the covalent radii (of ASE).
    :param vacuum: Å between the images at the largest distance.
    :raises ValueError: for fewer than two points, or a range that is empty or not positive.
    """
    low, high = factors
    if n < 2 or not 0 < low < high:
        raise ValueError(f"expected at least 2 distances over a range above 0, got {n} over {factors!r}")
    bond = float(covalent_radii[atomic_numbers[a]] + covalent_radii[atomic_numbers[b]])
    box = round(high * bond + vacuum, 3)
    return [
        Atoms([a, b], positions=[(0.0, 0.0, 0.0), (0.0, 0.0, distance)], cell=[box] * 3, pbc=True)
        for distance in np.round(np.linspace(low, high, n) * bond, 4)
    ]
