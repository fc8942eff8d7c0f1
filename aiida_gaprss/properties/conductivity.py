"""Lattice thermal conductivity of a crystal from third-order force constants, by phono3py.

A. Togo, L. Chaput and I. Tanaka, Phys. Rev. B 91, 094306 (2015): relaxation-time approximation, or the linearised Boltzmann
equation (L. Chaput, Phys. Rev. Lett. 110, 265506 (2013)). The defaults are those of J. George et al., J. Chem. Phys. 153, 044104
(2020): displacements of 0.03 Å in supercells of the conventional cell whose vectors are at least 15 Å, a mesh of 11 × 11 × 11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import spglib
from ase import Atoms
from pydantic import Field

from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError
from aiida_gaprss.properties.phonons import GEORGE, Diagonal, refusals, too_small
from aiida_gaprss.runners import conductivity as runner
from aiida_gaprss.settings.model import Length, Positive, PositiveOrZero

#: MB of python with ase and phono3py, and numbers for each atom of a frame, as measured.
PYTHON_MB, FRAME = 155.0, 12


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
        with refusals():
            return runner.conventional(crystal, self.symmetry_A)

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
        with refusals():
            return runner.solved(crystal, done, prefix, self.model_dump())

    def memory_MB(self, crystal: Atoms) -> float:
        """Return the memory of the job, MB: what it holds at its largest, a little too much rather than too little.

        :raises PropertyError: if the crystal is not periodic in all directions, or no symmetry is found.
        """
        return PYTHON_MB + sum(self.memory_parts(crystal).values())

    def memory_parts(self, crystal: Atoms) -> dict[str, float]:
        """Return the large arrays of the job, MB, all of numbers of eight bytes.

        With N atoms in the supercell, n in the cell whose Brillouin zone has the mesh (3n bands), q points on the mesh, of which
        i are not made equal by symmetry: third-order force constants 27 n N²; forces and positions of the frames; of the whole
        equation the strengths of the collisions at one point, at most q (3n)³, and matrices (9 n i)² of each temperature and
        one to work with.
        """
        self._cell(crystal)
        found = runner.planned(crystal, self.model_dump())
        atoms, cell = len(found.supercell), found.primitive
        numbers = {"fc3": 27 * len(cell) * atoms**2, "frames": FRAME * len(runner.frames_of(found)) * atoms}
        if self.method == "lbte":
            places = (cell.cell, cell.scaled_positions, cell.numbers)
            irreducible = len(np.unique(spglib.get_ir_reciprocal_mesh(self.mesh, places)[0]))
            numbers["strengths"] = int(np.prod(self.mesh)) * (3 * len(cell)) ** 3
            numbers["collisions"] = (len(self.temperatures_K) + 1) * (9 * len(cell) * irreducible) ** 2
        return {name: 8e-6 * number for name, number in numbers.items()}

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
