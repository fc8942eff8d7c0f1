"""What all strategies share that make frames of crystals, one crystal after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss.settings.model import Name, Positive
from aiida_gaprss.strategies.base import CampaignFormula, Strategy, StrategyError
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.structures.symmetry import CrystalError

#: Of a cell to that of its crystal.
RelativeVolume: TypeAlias = Annotated[Positive, Field(ge=0.3, le=3)]


class OfCrystals(Strategy):
    """Frames of each crystal, by :meth:`of_crystal`; what those of one are depends on the seed and on it alone."""

    needs: ClassVar[frozenset[str]] = frozenset({"crystals"})
    config_type: Name | None = Field(None, description="kind of configuration of the frames; default: the kind of the strategy")

    def most(self, crystals: int, formula: CampaignFormula) -> int | None:
        """Return None: how many they are depends on the crystals."""
        return None

    @abstractmethod
    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the frames of a crystal, which is periodic and has nothing but atoms; ``parameters`` in ``info`` says how made.

        :raises StrategyError: if there are none of this crystal; a ``CrystalError`` of the geometry becomes one.
        """

    def frames(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return the frames of one crystal after another.

        :raises StrategyError: with the name of the crystal of which there are none.
        """
        frames = []
        for index, crystal in enumerate(crystals):
            name = str(crystal.info.get("frame_id", f"{index:04d}"))
            plain = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
            rng = np.random.default_rng(stage_seed(seed, 0, f"{self.kind} {name}"))
            try:
                made = self.of_crystal(plain, rng)
            except (CrystalError, StrategyError) as error:
                raise StrategyError(f"{self.kind}: crystal {name}: {error}") from error
            for number, atoms in enumerate(made):
                atoms.info.update(frame_id=f"{self.kind}-{name}-{number:04d}", parent=name)
                atoms.info.setdefault("config_type", self.config_type or self.kind)
            frames += made
        return frames


def displaced(atoms: Atoms, deviation: float, rng: np.random.Generator) -> Atoms:
    """Return a copy whose coordinates are displaced normally, with a standard deviation in Å."""
    out = atoms.copy()
    out.positions += rng.normal(0.0, deviation, out.positions.shape)
    return out


def with_copies(atoms: Atoms, copies: int, deviation: float, words: str, rng: np.random.Generator) -> list[Atoms]:
    """Return atoms as they are, and copies whose coordinates are displaced normally; both with parameters in words.

    :param deviation: standard deviation of the displacements, Å.
    """
    frames = [atoms.copy()] + [displaced(atoms, deviation, rng) for _ in range(copies)]
    for number, frame in enumerate(frames):
        frame.info["parameters"] = f"{words}, displaced" if number else f"{words}, as made"
    return frames


def refuse_larger(number: int, most: int) -> None:
    """Refuse a supercell of so many atoms.

    :raises StrategyError: if they are more than the setting ``most_atoms`` allows.
    """
    if number > most:
        raise StrategyError(f"the supercell has {number} atoms, expected at most {most} (most_atoms)")


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """Return a copy with its vectors, in columns, turned into (1 + ε) L, and its atoms where they are in the cell.

    :param strain: ε, symmetric, shape (3, 3).
    """
    out = atoms.copy()
    out.set_cell(out.cell.array @ (np.eye(3) + strain).T, scale_atoms=True)
    return out


def random_strain(most: float, rng: np.random.Generator) -> np.ndarray:
    """Return a symmetric strain, each of its six components uniform between plus and minus ``most``; shape (3, 3)."""
    upper = np.triu(rng.uniform(-most, most, (3, 3)))
    return np.asarray(upper + np.triu(upper, 1).T)
