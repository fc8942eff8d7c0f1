"""Born charges and dielectric tensor of a crystal, for the long-range part of its force constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from ase import Atoms, units
from phonopy.file_IO import BORNFileParseError, parse_BORN_from_strings
from pydantic import Field, model_validator

from aiida_gaprss.properties.base import PropertyError
from aiida_gaprss.runners.conductivity import phonopy_atoms
from aiida_gaprss.settings.model import Model, Real, Script

Vector: TypeAlias = tuple[Real, Real, Real]
Tensor: TypeAlias = tuple[Vector, Vector, Vector]


class Polar(Model):
    """What the non-analytical term is made of, of the crystal as it was given: its axes, the order of its atoms.

    Either both tensors, or the text of a file ``BORN`` of phonopy for this cell.
    """

    born: tuple[Tensor, ...] | None = Field(None, description="Born effective charges of all atoms, e")
    dielectric: Tensor | None = Field(None, description="high-frequency dielectric tensor")
    text: Script | None = Field(None, description="text of a file BORN, instead of both")

    @model_validator(mode="after")
    def _complete(self) -> Polar:
        if (self.text is None) == (self.born is None) or (self.born is None) != (self.dielectric is None):
            raise ValueError("expected born and dielectric, or text")
        return self

    def parameters(self, crystal: Atoms, turned: Callable[[], tuple[np.ndarray, list[int]]]) -> Any:
        """Return phonopy's parameters of a primitive cell.

        Charges are shifted so that their sum is zero, as it is of a crystal that may be moved.

        :param turned: gives how the crystal is turned to be that of the cell, and which atom is which.
        :raises PropertyError: if they are not of as many atoms as the crystal has.
        """
        born, dielectric = self._tensors(crystal)
        if len(born) != len(crystal):
            raise PropertyError(f"polar.born has {len(born)} tensors, expected one for each of the {len(crystal)} atoms")
        turn, which = turned()
        charges = np.array([turn.T @ (tensor - born.mean(axis=0)) @ turn for tensor in born])[which]
        # e²/(4πε₀) in eV Å
        return {"born": charges, "dielectric": turn.T @ dielectric @ turn, "factor": units.Hartree * units.Bohr}

    def _tensors(self, crystal: Atoms) -> tuple[np.ndarray, np.ndarray]:
        if self.text is None:
            return np.array(self.born), np.array(self.dielectric)
        try:
            found = parse_BORN_from_strings(self.text, phonopy_atoms(crystal))
        except (BORNFileParseError, RuntimeError, ValueError, IndexError) as error:
            raise PropertyError(f"polar.text is no file BORN of this crystal: {error}") from error
        return np.asarray(found["born"]), np.asarray(found["dielectric"])
