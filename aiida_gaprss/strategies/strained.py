"""Strained supercells: six modes, from compressed to stretched (Zuo et al., J. Phys. Chem. A 124, 731 (2020))."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, field_validator

from aiida_gaprss.settings.model import AtomCount, Count, Real
from aiida_gaprss.strategies.crystals import OfCrystals, strained

#: Mode by mode, in Voigt's order: xx yy zz yz xz xy.
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))

#: Strain of a mode at most: beyond it a cell is another crystal.
Strain = Annotated[Real, Field(gt=-0.5, lt=0.5)]


class Strained(OfCrystals):
    """A supercell in six modes of strain, each by each amount; the unstrained one first."""

    kind: Literal["strained"] = "strained"
    strains: list[Strain] = Field(
        [-0.10, -0.08, -0.06, -0.04, -0.02, 0.02, 0.04, 0.06, 0.08, 0.10],
        min_length=1,
        description="of each mode; 0 is made once",
    )
    modes: list[Annotated[Count, Field(le=6)]] = Field(
        [1, 2, 3, 4, 5, 6], min_length=1, description="1 to 3: along x, y, z; 4 to 6: engineering shear strains yz, xz, xy"
    )
    supercell: tuple[AtomCount, AtomCount, AtomCount] = Field(
        (3, 3, 3), description="repetitions of the crystal as it is given; Zuo: 3 of conventional cells, 2 of diamond"
    )

    @field_validator("modes")
    @classmethod
    def _once(cls, value: list[int]) -> list[int]:
        if len(set(value)) < len(value):
            raise ValueError(f"modes are {value}, expected each once")
        return value

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the supercells, one mode after another; nothing is random."""
        supercell = crystal.repeat(self.supercell)
        supercell.info = {"parameters": "unstrained"}
        frames = [supercell]
        for mode in self.modes:
            for amount in self.strains:
                if amount:
                    frames.append(strained(supercell, voigt(mode, amount)))
                    frames[-1].info["parameters"] = f"mode {mode}, strain {amount:g}"
        return frames


def voigt(mode: int, amount: float) -> np.ndarray:
    """Return the strain tensor of one of Voigt's six components; of shear, half of it on either side; shape (3, 3)."""
    i, j = VOIGT[mode - 1]
    strain = np.zeros((3, 3))
    strain[i, j] = strain[j, i] = amount if i == j else amount / 2
    return strain
