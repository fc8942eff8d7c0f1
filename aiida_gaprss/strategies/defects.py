"""Point defects in supercells, unrelaxed: those that the properties ``vacancy``, ``interstitial`` and ``antisite`` relax."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss.settings.model import AtomCount, CopyCountOrZero, Count, Displacement, Length
from aiida_gaprss.strategies.crystals import OfCrystals, RelativeVolume, refuse_larger, with_copies
from aiida_gaprss.structures.point_defects import Additions, Defect, antisites, interstitials, vacancies
from aiida_gaprss.structures.supercells import repetitions, scaled


class _PointDefects(OfCrystals):
    """What all have in common: each defect at each volume, as made and with displaced atoms."""

    length_A: Length = Field(10.0, description="shortest that each vector of the supercell may be, Å")
    supercell: tuple[AtomCount, AtomCount, AtomCount] | None = Field(
        None, description="repetitions of the crystal along its vectors as it is given, instead of length_A"
    )
    volumes: list[RelativeVolume] = Field([1.0], min_length=1, description="of the supercell, relative to that of the crystal")
    copies: CopyCountOrZero = Field(
        5, description="of each defect at each volume, with displaced atoms; besides, the defect as made"
    )
    displacement_A: Displacement = Field(0.05, gt=0, description="standard deviation of the displacement of each coordinate, Å")
    most_atoms: Count = Field(300, description="a supercell of more atoms is refused")
    symmetry_A: Length = Field(0.01, description="to which sites count as equal, Å")

    @abstractmethod
    def defects(self, crystal: Atoms, perfect: Atoms) -> list[Defect]:
        """Return the defects of a crystal in its supercell.

        :raises CrystalError: if it has none of this kind.
        """

    def of_crystal(self, crystal: Atoms, rng: np.random.Generator) -> list[Atoms]:
        """Return the supercells of one defect after another.

        :raises StrategyError: if the supercell has too many atoms.
        """
        base, times = repetitions(crystal, self.length_A, self.supercell)
        refuse_larger(len(base) * int(np.prod(times)), self.most_atoms)
        frames: list[Atoms] = []
        for defect in self.defects(crystal, base.repeat(times)):
            for volume in self.volumes:
                words = f"{_words(defect)}, volume {volume:g}"
                frames += with_copies(scaled(defect.atoms, volume), self.copies, self.displacement_A, words, rng)
        return frames


def _words(defect: Defect) -> str:
    """Return what a defect is: ``vacancy O 2``, ``interstitial Si 0, 4 neighbours at 2.35 A``."""
    name = defect.name.replace("_", " ")
    if "neighbours" not in defect.told:
        return name
    return f"{name}, {defect.told['neighbours']} neighbours at {defect.told['radius_A']:.2f} A"


class Vacancies(_PointDefects):
    """Vacancies: one of each kind of site that symmetry tells apart."""

    kind: Literal["vacancies"] = "vacancies"

    def defects(self, crystal: Atoms, perfect: Atoms) -> list[Defect]:
        """Return the supercell with one atom missing, for each kind of site."""
        return vacancies(crystal, perfect, self.symmetry_A)


class Interstitials(Additions, _PointDefects):
    """Interstitials in the holes of a crystal, the largest first, and dumbbells."""

    kind: Literal["interstitials"] = "interstitials"

    def defects(self, crystal: Atoms, perfect: Atoms) -> list[Defect]:
        """Return the supercell with one atom more, in each hole and on each kind of site."""
        return interstitials(crystal, perfect, self.symmetry_A, self)


class Antisites(_PointDefects):
    """Antisites of a compound: each kind of site with an atom of each other element."""

    kind: Literal["antisites"] = "antisites"

    def defects(self, crystal: Atoms, perfect: Atoms) -> list[Defect]:
        """Return the supercell with one atom of another element, for each kind of site."""
        return antisites(crystal, perfect, self.symmetry_A)
