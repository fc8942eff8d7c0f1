"""Supercells with displaced atoms, for phonons.

J. George, G. Hautier, A. P. Bartók, G. Csányi and V. L. Deringer, J. Chem. Phys. 153, 044104 (2020), figure 2: single
displacements that symmetry tells apart, to be fitted with sigmas in proportion to each force; all atoms displaced at several
volumes. The paper finds that both together do best.
"""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

import numpy as np
from ase import Atoms
from phonopy import Phonopy
from pydantic import Field

from aiida_gaprss.runners.conductivity import ase_atoms, diagonal, phonopy_atoms
from aiida_gaprss.settings.model import AtomCount, CopyCount, Count, Displacement, Length
from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.crystals import OfCrystals, RelativeVolume, displaced, refuse_larger
from aiida_gaprss.structures.nondiagonal import primitive
from aiida_gaprss.structures.supercells import scaled


class _Supercells(OfCrystals):
    """What both have in common: supercells of the primitive cell."""

    harmonic: ClassVar[bool] = True
    length_A: Length = Field(15.0, description="every vector of the supercell is at least so long, Å")
    supercell: tuple[AtomCount, AtomCount, AtomCount] | None = Field(None, description="repetitions, instead of a length")
    most_atoms: Count = Field(1000, description="a supercell of more atoms is refused")
    symmetry_A: Length = Field(0.01, description="to which the symmetry of the crystal is looked for, Å")

    def cell(self, crystal: Atoms) -> tuple[Atoms, np.ndarray]:
        """Return the primitive cell, and the matrix that makes the supercell.

        :raises StrategyError: if there is no symmetry, or too many atoms.
        """
        cell = primitive(crystal, self.symmetry_A)
        matrix = diagonal(cell, self.length_A) if self.supercell is None else np.diag(self.supercell)
        refuse_larger(len(cell) * int(np.prod(np.diag(matrix))), self.most_atoms)
        return cell, matrix


class Displacements(_Supercells):
    """The supercells that phonopy makes: in each one atom is displaced, in directions that symmetry does not make equal."""

    kind: Literal["displacements"] = "displacements"
    displacement_A: Displacement = Field(0.01, gt=0, description="Å")
    perfect: bool = Field(True, description="also the supercell as it is, whose forces tell how far from its minimum it is")

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the supercells, the undisplaced one first; nothing is random."""
        cell, matrix = self.cell(crystal)
        try:
            with warnings.catch_warnings():
                # A supercell that is longer in one direction than in others has less symmetry, and more displacements.
                warnings.filterwarnings("ignore", message=".*Point group symmetries")
                found = Phonopy(phonopy_atoms(cell), matrix, primitive_matrix=np.eye(3), symprec=self.symmetry_A, log_level=0)
        except (RuntimeError, ValueError) as error:
            raise StrategyError(f"phonopy: {error}") from error
        found.generate_displacements(distance=self.displacement_A)
        frames = [ase_atoms(found.supercell)] if self.perfect else []
        frames += [ase_atoms(atoms) for atoms in found.supercells_with_displacements or []]
        for atoms in frames:
            atoms.info = {"parameters": f"displacement {self.displacement_A:g}"}
        if self.perfect:
            frames[0].info = {"parameters": "perfect"}
        return frames


class Rattled(_Supercells):
    """Supercells at several volumes with all atoms displaced at random."""

    kind: Literal["rattled"] = "rattled"
    #: About as many for each crystal as in the paper, where the volumes are said to differ by a few percent in the lattice.
    volumes: list[RelativeVolume] = Field([0.94, 0.97, 1.0, 1.03, 1.06], min_length=1, description="relative to the crystal's")
    copies: CopyCount = Field(2, description="at each volume")
    displacement_A: Displacement = Field(0.01, gt=0, description="standard deviation of the displacement of each coordinate, Å")

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the supercells, one volume after another."""
        cell, matrix = self.cell(crystal)
        supercell, frames = cell.repeat(np.diag(matrix)), []
        for volume in self.volumes:
            for _ in range(self.copies):
                frames.append(displaced(scaled(supercell, volume), self.displacement_A, rng))
                frames[-1].info["parameters"] = f"volume {volume:g}"
        return frames
