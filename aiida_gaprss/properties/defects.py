"""Point defects of a crystal: vacancies, antisites and interstitials; their formation energies are those of ``formation.py``."""

from __future__ import annotations

from typing import Annotated, Literal

from ase import Atoms
from pydantic import Field

from aiida_gaprss.properties.formation import Defects
from aiida_gaprss.settings.model import Real
from aiida_gaprss.structures.point_defects import Additions, Defect, antisites, interstitials, vacancies


class Vacancy(Defects):
    """Vacancies: one of each kind of site that symmetry tells apart."""

    kind: Literal["vacancy"] = "vacancy"
    starts: list[Annotated[Real, Field(ge=-0.5, le=0.5)]] = Field(
        default=[0.0, 0.2],
        min_length=1,
        description="as for all defects; by default from the ideal sites and from a fifth inward",
    )

    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the supercell with one atom missing, for each kind of site."""
        return vacancies(crystal, self.perfect(crystal), self.symmetry_A)


class Antisite(Defects):
    """Antisites of a compound: each kind of site with an atom of each other element."""

    kind: Literal["antisite"] = "antisite"

    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the supercell with one atom of another element, for each kind of site.

        :raises CrystalError: if the crystal is an element.
        """
        return antisites(crystal, self.perfect(crystal), self.symmetry_A)


class Interstitial(Additions, Defects):
    """Interstitials in the holes of a crystal, the largest first, and dumbbells.

    In fcc the holes are the octahedral and the tetrahedral one, in bcc the tetrahedral one, in diamond the tetrahedral and the
    hexagonal one.
    """

    kind: Literal["interstitial"] = "interstitial"

    def defects(self, crystal: Atoms) -> list[Defect]:
        """Return the supercell with one atom more, in each hole and on each kind of site.

        :raises CrystalError: if there is no hole of that size.
        """
        return interstitials(crystal, self.perfect(crystal), self.symmetry_A, self)
