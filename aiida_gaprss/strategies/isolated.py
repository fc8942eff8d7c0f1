"""Isolated atoms: their energies are the zero of a potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from ase import Atoms
from pydantic import Field

from aiida_gaprss.settings.model import Length
from aiida_gaprss.strategies.base import CampaignFormula, Strategy


class IsolatedAtoms(Strategy):
    """One atom of each element in a box."""

    in_vacuum: ClassVar[bool] = True
    kind: Literal["isolated_atoms"] = "isolated_atoms"
    box_A: Length = Field(15.0, description="edge of the box, Å")

    def most(self, crystals: int, formula: CampaignFormula) -> int:
        """Return the number of elements."""
        return len(formula)

    def frames(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return the atoms; nothing is random."""
        frames = []
        for symbol in formula:
            atoms = Atoms(symbol, cell=[self.box_A] * 3, pbc=True)
            atoms.info.update(frame_id=f"atom-{symbol}", config_type="isolated_atom")
            frames.append(atoms)
        return frames
