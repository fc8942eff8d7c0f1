"""How frames are chosen, as settings."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from aiida_gaprss.validation import Model


class SelectionSettings(Model):
    """How many of the relaxed frames are labelled, and which.

    End points are taken by each rule in turn; no frame is taken twice.
    """

    lowest: NonNegativeInt = Field(0, description="end points of lowest predicted energy that the database does not hold yet")
    boltzmann: NonNegativeInt = Field(0, description="end points drawn with a flat-histogram Boltzmann bias in energy")
    kT: PositiveFloat = Field(0.2, description="eV/atom, of that bias")
    unfamiliar: NonNegativeInt = Field(0, description="end points farthest from the database and each other")
    random: NonNegativeInt = Field(0, description="end points drawn at random")
    snapshots: NonNegativeInt = Field(0, description="frames on the way, the farthest from the database first")
    tolerance: NonNegativeFloat = Field(0.3, description="distance of fingerprints up to which end points are equal; 0 keeps all")

    @property
    def total(self) -> int:
        """Largest number of frames that can be chosen."""
        return self.lowest + self.boltzmann + self.unfamiliar + self.random + self.snapshots
