"""Strained supercells: six modes, from compressed to stretched.

Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020), who refer to M. de Jong et al., Sci. Data 2, 150009 (2015). What was labelled for
that paper is not of one kind: in the published data of silicon one component of the Green–Lagrange strain has each amount; those
of molybdenum are stretched by it, or sheared by it at constant volume.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

import numpy as np
from ase import Atoms
from pydantic import Field, field_validator

from aiida_gaprss.settings.model import AtomCount, Count, Real
from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.crystals import OfCrystals, refuse_larger, strained

#: Mode by mode, in Voigt's order: xx yy zz yz xz xy.
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))

#: What a strain is: see :func:`stretch`.
Measure = Literal["green-lagrange", "simple", "engineering"]

#: Strain of a mode at most: beyond it a cell is another crystal.
Strain = Annotated[Real, Field(gt=-0.5, lt=0.5)]


class Strained(OfCrystals):
    """A supercell in six modes of strain, each by each amount; the unstrained one first."""

    harmonic: ClassVar[bool] = True
    kind: Literal["strained"] = "strained"
    strains: list[Strain] = Field(
        [-0.10, -0.08, -0.06, -0.04, -0.02, 0.02, 0.04, 0.06, 0.08, 0.10],
        min_length=1,
        description="of each mode; 0 is made once",
    )
    modes: list[Annotated[Count, Field(le=6)]] = Field(
        [1, 2, 3, 4, 5, 6], min_length=1, description="1 to 3: along x, y, z; 4 to 6: shear yz, xz, xy"
    )
    measure: Measure = Field(
        "green-lagrange",
        description="of which a component has each amount: green-lagrange (published Si); simple: stretched or sheared by it "
        "(published Mo); engineering: the small strain, shear counted twice",
    )
    supercell: tuple[AtomCount, AtomCount, AtomCount] = Field(
        (3, 3, 3), description="repetitions of the crystal as it is given; Zuo: 3 of conventional cells, 2 of diamond"
    )
    most_atoms: Count = Field(1000, description="a supercell of more atoms is refused")

    @field_validator("modes", "strains")
    @classmethod
    def _once(cls, value: list[float]) -> list[float]:
        if len(set(value)) < len(value):
            raise ValueError(f"{value} has the same number twice, expected each once")
        return value

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the supercells, one mode after another; nothing is random.

        :raises StrategyError: if they have too many atoms.
        """
        refuse_larger(len(crystal) * int(np.prod(self.supercell)), self.most_atoms)
        supercell = crystal.repeat(self.supercell)
        supercell.info = {"parameters": "unstrained"}
        frames = [supercell]
        for mode in self.modes:
            for amount in self.strains:
                if amount:
                    frames.append(strained(supercell, stretch(mode, amount, self.measure) - np.eye(3)))
                    frames[-1].info["parameters"] = f"mode {mode}, strain {amount:g}"
        return frames


def stretch(mode: int, amount: float, measure: Measure) -> np.ndarray:
    """Return the symmetric matrix U, shape (3, 3), that turns vectors r of a cell into U r: a strain without a rotation.

    green-lagrange: U² = 1 + 2 E, with Eᵢⱼ = Eⱼᵢ = amount; a shear strain is half of the engineering one, and shear makes the
    cell smaller. simple: U² = Fᵀ F, F = 1 + amount eⱼ eᵢᵀ; shear keeps the volume. engineering: U = 1 + ε, εᵢⱼ = εⱼᵢ = amount, or
    half of it in shear. To the first order in the amount the last two are the same.

    :param mode: component in Voigt's order, from 1: ij is xx, yy, zz, yz, xz, xy.
    :raises StrategyError: for another mode or measure, or a strain that leaves nothing of the cell.
    """
    if mode not in range(1, 7) or measure not in get_args(Measure):
        raise StrategyError(f"mode {mode}, measure {measure!r}: expected 1 to 6 and one of {', '.join(get_args(Measure))}")
    i, j = VOIGT[mode - 1]
    unit = np.zeros((3, 3))
    unit[j, i] = amount
    if measure == "engineering":
        return np.eye(3) + (unit + unit.T) / 2
    if measure == "simple":
        return _root((np.eye(3) + unit).T @ (np.eye(3) + unit))
    return _root(np.eye(3) + 2 * np.where(np.eye(3, dtype=bool), unit, unit + unit.T))


def _root(matrix: np.ndarray) -> np.ndarray:
    """Return the positive square root of a positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    if not (values > 0).all():
        raise StrategyError("the strain is too large: nothing is left of the cell")
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)
