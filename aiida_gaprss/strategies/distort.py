"""Distorted cells of a crystal: strained, scaled, and with its atoms displaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, field_validator

from aiida_gaprss.settings.model import Displacement, FrameCount, Model, Positive, PositiveOrZero
from aiida_gaprss.strategies.base import CampaignFormula, Strategy
from aiida_gaprss.strategies.crystals import random_strain
from aiida_gaprss.structures.seeding import stage_seed


class DistortSettings(Model):
    """How far crystals are distorted, and how often."""

    number: FrameCount = Field(50, description="distorted cells of each crystal; the undistorted one is added to them")
    displacement: Displacement = Field(0.05, description="Å, standard deviation of the displacement of each coordinate")
    strain: PositiveOrZero = Field(0.03, lt=0.5, description="each strain component is uniform between plus and minus this")
    volume: tuple[Positive, Positive] = Field((0.9, 1.1), description="range of the volume, relative to the crystal's")

    @field_validator("volume")
    @classmethod
    def _volume(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"volume is {list(value)}, expected a smaller and a larger number")
        return value


class Distort(DistortSettings, Strategy):
    """Distorted cells of every crystal, the crystal itself before them."""

    kind: Literal["distort"] = "distort"
    needs: ClassVar[frozenset[str]] = frozenset({"crystals"})

    def most(self, crystals: int, formula: CampaignFormula) -> int:
        """Return the number of cells of all crystals."""
        return crystals * (1 + self.number)

    def frames(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return the cells of one crystal after another; those of one depend on ``seed`` and its number alone."""
        frames = []
        for index, crystal in enumerate(crystals):
            perfect = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
            rng = np.random.default_rng(stage_seed(seed, index, "crystal"))
            parent = crystal.info.get("frame_id", f"{index:04d}")
            cells = distorted(perfect, self.number, self.displacement, self.strain, self.volume, rng)
            for number, atoms in enumerate([perfect, *cells]):
                atoms.info.update(frame_id=f"crystal-{parent}-{number:04d}", parent=parent, config_type="crystal")
                frames.append(atoms)
        return frames


def distorted(
    crystal: Atoms, n: int, displacement: float, strain: float, volume: tuple[float, float], rng: np.random.Generator
) -> list[Atoms]:
    """Return ``n`` distorted copies of a crystal.

    Each is scaled to a volume drawn uniformly, strained by a symmetric tensor with components drawn uniformly (which keeps
    the volume to first order only), and has its atoms displaced normally.

    :param displacement: standard deviation of the displacement of every coordinate, Å.
    :param strain: components are in [−strain, strain].
    :param volume: smallest and largest volume, relative to that of the crystal.
    """
    frames = []
    for _ in range(n):
        scale = rng.uniform(*volume) ** (1 / 3)
        tensor = random_strain(strain, rng)
        atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
        atoms.set_cell(crystal.cell.array @ (scale * (np.eye(3) + tensor)), scale_atoms=True)
        atoms.positions += rng.normal(0.0, displacement, (len(atoms), 3))
        frames.append(atoms)
    return frames
