"""Lattice thermal conductivity of a crystal from third-order force constants, by phono3py.

A. Togo, L. Chaput and I. Tanaka, Phys. Rev. B 91, 094306 (2015): relaxation-time approximation, or the linearised Boltzmann
equation (L. Chaput, Phys. Rev. Lett. 110, 265506 (2013)). The defaults are those of J. George et al., J. Chem. Phys. 153, 044104
(2020): displacements of 0.03 Å in supercells of the conventional cell whose vectors are at least 15 Å, a mesh of 11 × 11 × 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError
from aiida_gaprss.properties.phonons import GEORGE, Diagonal, too_small
from aiida_gaprss.runners import conductivity as runner
from aiida_gaprss.settings.model import Length, Positive, PositiveOrZero


class Conductivity(Property):
    """Lattice thermal conductivity at some temperatures.

    Frames: supercells with one and with two atoms displaced. The job ``gaprss.conductivity`` makes the result of them.
    """

    kind: Literal["conductivity"] = "conductivity"
    length_A: Length = Field(15.0, description="every lattice vector of the supercell is at least so long")
    supercell: Diagonal | None = Field(None, description="repetitions of the conventional cell, instead of a length")
    second_supercell: Diagonal | None = Field(None, description="one of its own for the second-order force constants")
    displacement_A: Positive = 0.03
    pair_cutoff_A: Length | None = Field(None, description="pairs farther apart are not displaced; their constants are zero")
    symmetry_A: Length = Field(0.01, description="tolerance of the symmetry of the crystal")
    zone: Literal["primitive", "conventional"] = Field("primitive", description="the cell whose Brillouin zone has the mesh")
    mesh: Diagonal = (11, 11, 11)
    temperatures_K: tuple[Positive, ...] = Field((300.0, 600.0, 900.0), min_length=1)
    method: Literal["rta", "lbte"] = Field("rta", description="relaxation-time approximation, or the whole equation")
    isotopes: bool = Field(False, description="scattering by the natural mixture of isotopes, too")
    imaginary_THz: PositiveOrZero = Field(0.1, description="a mode below minus this is imaginary")
    allow_small: bool = Field(False, description="take supercells in which an atom sees another and its image")

    solver: ClassVar[str | None] = "conductivity"

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "kappa_300K_error": Limits(
            0.15, 0.3, "", f"of diamond silicon two potentials have 13 %, an overfitted one 58 %: Table I of {GEORGE}"
        ),
        "imaginary_modes": Limits(0, 0, "", "they do not scatter: the number is without meaning"),
    }

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong, also a supercell in which atoms see a displaced atom and its image."""
        try:
            cell = self._cell(crystal)
        except PropertyError as error:
            return [str(error)]
        return [] if self.allow_small else too_small(cell, self.matrix(cell), "conventional", reach)

    def matrix(self, cell: Atoms) -> np.ndarray:
        """Return the matrix that makes the supercell of the conventional cell."""
        return runner.matrix_of(self.model_dump(), cell)

    def _cell(self, crystal: Atoms) -> Atoms:
        if not crystal.pbc.all():
            raise PropertyError("the conductivity needs a crystal that is periodic in all directions")
        try:
            return runner.conventional(crystal, self.symmetry_A)
        except runner.UnsolvableError as error:
            raise PropertyError(str(error)) from error

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the supercells with displaced atoms.

        :raises PropertyError: if the crystal is not periodic in all directions, or no symmetry is found.
        """
        self._cell(crystal)
        return runner.frames_of(runner.planned(crystal, self.model_dump()))

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return conductivities, W/(m K): the mean of the diagonal, and the tensors (xx yy zz yz xz xy, of the standard axes).

        :raises PropertyError: if forces are missing, or frames are not those of the plan.
        """
        try:
            return runner.solved(crystal, done, prefix, self.model_dump())
        except runner.UnsolvableError as error:
            raise PropertyError(str(error)) from error

    def memory_MB(self, crystal: Atoms) -> float:
        """Return the memory of the job, MB: what it holds at its largest.

        :raises PropertyError: if the crystal is not periodic in all directions, or no symmetry is found.
        """
        self._cell(crystal)
        return 0.0

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return relative errors of the mean conductivity at the temperatures that both have, and imaginary modes."""
        out = {"imaginary_modes": float(result["imaginary_modes"])}
        if reference is None:
            return out
        theirs = dict(zip(reference["temperatures_K"], reference["kappa_W/mK"], strict=True))
        for temperature, kappa in zip(result["temperatures_K"], result["kappa_W/mK"], strict=True):
            if theirs.get(temperature):
                out[f"kappa_{temperature:g}K_error"] = kappa / theirs[temperature] - 1
        return out

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return the mean conductivity against temperature."""
        x = result["temperatures_K"]
        return {"kappa": Curve(x, [result["kappa_W/mK"]], "temperature (K)", "thermal conductivity (W/m K)", points=len(x) < 5)}
