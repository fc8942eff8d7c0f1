"""Slabs of a crystal, unrelaxed: surfaces of all Miller indices up to a maximum.

Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020), have those of all indices up to 3 but 221 in their databases of elements: 100 110
111 210 211 310 311 320 321 322 331 332.
"""

from __future__ import annotations

from math import gcd
from typing import Annotated, Literal, TypeAlias

import numpy as np
from ase import Atoms
from pydantic import AfterValidator, Field

from aiida_gaprss.settings.model import CopyCountOrZero, Count, Displacement, Integer, Length
from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.crystals import OfCrystals, with_copies
from aiida_gaprss.structures.slabs import Cut, Cutter, Miller, family, one_of_each, planes_of_crystal, word


def _plane(miller: Miller) -> Miller:
    """Refuse what is no plane, or the same as simpler indices."""
    if not any(miller):
        raise ValueError("[0, 0, 0] are the indices of no plane, expected one that is not 0")
    if (common := gcd(*miller)) > 1:
        simple = [index // common for index in miller]
        raise ValueError(f"{list(miller)} have the common divisor {common}, expected those of the same plane without: {simple}")
    return miller


_Index: TypeAlias = Annotated[Integer, Field(ge=-9, le=9)]
_Plane: TypeAlias = Annotated[tuple[_Index, _Index, _Index], AfterValidator(_plane)]


class Slabs(OfCrystals):
    """Slabs of each plane of the conventional standard cell that symmetry tells apart, as cut and with displaced atoms.

    Those with the fewest broken bonds come first. The two sides of a slab may differ.
    """

    kind: Literal["slabs"] = "slabs"
    max_index: Count = Field(3, le=4, description="largest Miller index")
    miller: list[_Plane] | None = Field(None, min_length=1, description="planes, instead of all up to max_index")
    without: list[_Plane] = Field([], description="planes that are left out, with those that symmetry makes equal to them")
    thickness_A: Annotated[Length, Field(le=100)] = Field(10.0, description="least thickness of a slab, Å")
    vacuum_A: Annotated[Length, Field(le=100)] = Field(10.0, description="least distance of a slab from its image, Å")
    terminations: Literal["all", "fewest"] = Field("all", description="of a plane: all, or that with the fewest broken bonds")
    symmetric: bool = Field(False, description="only slabs with two equal sides")
    copies: CopyCountOrZero = Field(0, description="of each slab, with displaced atoms, besides the slab as cut")
    displacement_A: Displacement = Field(0.05, gt=0, description="standard deviation of the displacement of each coordinate, Å")
    most_atoms: Count = Field(200, description="a slab of more atoms is refused")
    symmetry_A: Length = Field(0.01, description="to which the symmetry of the crystal is looked for, Å")

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the slabs of one plane after another.

        :raises StrategyError: if there is none, or one has too many atoms.
        """
        cuts = Cutter(self.thickness_A, self.vacuum_A, self.symmetry_A, self.symmetric).cuts(crystal, self.planes(crystal))
        frames: list[Atoms] = []
        for cut in cuts:
            for number, slab in enumerate(cut.slabs[:1] if self.terminations == "fewest" else cut.slabs):
                self._check(slab, cut)
                words = f"surface {cut.name}, termination {number}"
                frames += with_copies(slab, self.copies, self.displacement_A, words, rng)
        if not frames:
            reasons = "; ".join(text for cut in cuts for text in cut.left_out)
            raise StrategyError(f"no slab has two equal sides, set symmetric: false ({reasons})")
        return frames

    def planes(self, crystal: Atoms) -> list[Miller]:
        """Return the Miller indices of the slabs, one of each family.

        :raises StrategyError: if what is to be left out is not there, or nothing else is.
        """
        if self.miller is None:
            found = planes_of_crystal(crystal, self.max_index, self.symmetry_A)
        else:
            found = one_of_each(crystal, self.miller, self.symmetry_A)
        out: set[Miller] = set()
        for miller in self.without:
            equal = family(crystal, miller, self.symmetry_A)
            if equal.isdisjoint(found):
                raise StrategyError(f"without has {word(miller)}, expected some of {' '.join(map(word, found))}")
            out |= equal
        if not (left := [miller for miller in found if miller not in out]):
            raise StrategyError("without leaves no plane, expected one at least")
        return left

    def _check(self, slab: Atoms, cut: Cut) -> None:
        if len(slab) > self.most_atoms:
            remedy = "set thickness_A or max_index smaller, or leave it out (without)"
            raise StrategyError(
                f"a slab of {cut.name} has {len(slab)} atoms, expected at most {self.most_atoms} (most_atoms): {remedy}"
            )
