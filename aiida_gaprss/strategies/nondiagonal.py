"""Non-diagonal supercells with displaced atoms: everything small displacements do, in the fewest atoms.

C. Allen and A. P. Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), section 3.2: supercells of the primitive cell for all
irreducible wavevectors of a 4×4×4 grid, scaled, strained and with displaced atoms.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss.settings.model import AtomCount, CopyCount, Count, Displacement, Positive, PositiveOrZero
from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.crystals import OfCrystals, RelativeVolume, displaced, random_strain, strained
from aiida_gaprss.structures.nondiagonal import fewest, primitive, supercells
from aiida_gaprss.structures.supercells import scaled

#: Wavevectors of a grid at most: what a setting of three numbers may ask for by mistake.
MOST_WAVEVECTORS = 8000


class NonDiagonal(OfCrystals):
    """Supercells in which the waves of a grid fit, as small as they can be, several times with other displacements.

    The crystal itself, at each volume, comes first.
    """

    harmonic: ClassVar[bool] = True
    kind: Literal["nondiagonal"] = "nondiagonal"
    grid: tuple[AtomCount, AtomCount, AtomCount] = Field((4, 4, 4), description="wavevectors along the reciprocal vectors")
    volumes: list[RelativeVolume] = Field(
        [0.94, 0.97, 1.0, 1.03, 1.06], min_length=1, description="relative to the crystal's; the paper does not say which"
    )
    copies: CopyCount = Field(5, description="of each supercell at each volume; Allen has about 100 of each in all")
    displacement_A: Displacement = Field(0.10, description="standard deviation of the displacement of each coordinate, Å")
    strain: PositiveOrZero = Field(0.01, lt=0.5, description="each component is uniform between plus and minus this")
    cover: Literal["each", "fewest"] = Field(
        "each", description="a supercell for each wavevector, as in the paper, or the fewest in which all of them fit"
    )
    most_atoms: Count = Field(1000, description="a supercell of more atoms is refused")
    symmetry_A: Positive = Field(1e-2, description="to which the symmetry of the crystal is looked for, Å")

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the primitive cell at each volume, and the displaced supercells of one wavevector after another."""
        if (number := int(np.prod(self.grid))) > MOST_WAVEVECTORS:
            raise StrategyError(f"grid {list(self.grid)} has {number} wavevectors, expected at most {MOST_WAVEVECTORS}")
        cell = primitive(crystal, self.symmetry_A)
        found = supercells(cell, self.grid, self.symmetry_A)
        if (largest := found[-1].size * len(cell)) > self.most_atoms:
            raise StrategyError(f"grid {list(self.grid)} needs {largest} atoms, expected at most {self.most_atoms} (most_atoms)")
        frames = []
        for volume in self.volumes:
            frames.append(scaled(cell, volume))
            frames[-1].info["parameters"] = f"volume {volume:g}"
        for one in found if self.cover == "each" else fewest(found, cell, self.grid, self.symmetry_A):
            supercell = one.build(cell)
            for volume in self.volumes:
                for _ in range(self.copies):
                    atoms = strained(scaled(supercell, volume), random_strain(self.strain, rng))
                    frames.append(displaced(atoms, self.displacement_A, rng))
                    frames[-1].info["parameters"] = f"q {one.words()}, {one.size} cells, volume {volume:g}"
        return frames
