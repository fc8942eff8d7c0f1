"""Elastic constants of a crystal with any ASE calculator, from the stress under small strains.

Definitions are those of D. C. Wallace, *Thermodynamics of Crystals* (Wiley 1972): C_ij = ∂²(E/V₀)/∂η_i∂η_j at the unstrained cell
of volume V₀, with the Green–Lagrange strain η = ½(FᵀF − 1) and Voigt's order xx yy zz yz xz xy, shear strains doubled. The
derivative of E/V₀ with respect to η is the second Piola–Kirchhoff stress V/V₀ F⁻¹σF⁻ᵀ, so one derivative of it is enough.
The strains, the fit and the averages are pymatgen's (``pymatgen.analysis.elasticity``).

:class:`Elastic` is the property: single points only. Atoms that follow the cell give the clamped-ion constants; the forces on
them under strain, and the force constants of the cell at Γ, say how far they would move, and what that takes off:
C_ij = C_ij(clamped) − Λ_iᵀ K⁺ Λ_j / V₀ with Λ_i = ∂F/∂η_i and K = −∂F/∂u, as for the relaxed-ion elastic tensor of X. Wu,
D. Vanderbilt and D. R. Hamann, Phys. Rev. B 72, 035105 (2005); K⁺ leaves out the three translations. :func:`elastic_constants`
relaxes the atoms instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from pymatgen.analysis.elasticity import Deformation, ElasticTensor, Strain, Stress
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_gaprss.properties.base import Property, PropertyError, value_of
from aiida_gaprss.settings.model import Positive

#: Strains at which the stress is taken, in both directions of each of the six components.
STRAINS = (0.002,)

#: Stress left in the unstrained crystal above which it does not count as relaxed, GPa.
RESIDUAL_STRESS = 0.1

#: Largest change by averaging over the cubic operations, relative to the largest constant, of what counts as cubic.
CUBIC_TOLERANCE = 0.01


#: Of the force constants at Γ, relative to the largest: what is smaller is a translation.
SOFTEST = 1e-6

#: Voigt's order.
COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")


class ElasticityError(PropertyError):
    """A crystal whose elastic constants cannot be had this way."""


@dataclass(frozen=True)
class ElasticConstants:
    """Elastic constants of a crystal.

    :param voigt: 6×6 matrix C_ij in GPa, symmetric, rows and columns xx yy zz yz xz xy of the axes of the cell as given.
    :param asymmetry: largest |C_ij − C_ji| before the matrix was made symmetric, GPa; an estimate of the numerical error.
    :param residual_stress: largest stress component of the unstrained crystal, GPa.
    """

    voigt: np.ndarray
    asymmetry: float
    residual_stress: float

    @cached_property
    def tensor(self) -> ElasticTensor:
        """The same as pymatgen's tensor, which knows more derived properties."""
        return ElasticTensor.from_voigt(self.voigt)

    @property
    def bulk_modulus(self) -> float:
        """Voigt–Reuss–Hill average of the bulk modulus, GPa (Hill, Proc. Phys. Soc. A 65, 349, 1952)."""
        return self._averaged("k_vrh")

    @property
    def shear_modulus(self) -> float:
        """Voigt–Reuss–Hill average of the shear modulus, GPa (Hill, Proc. Phys. Soc. A 65, 349, 1952)."""
        return self._averaged("g_vrh")

    def _averaged(self, name: str) -> float:
        try:
            return float(getattr(self.tensor, name))
        except np.linalg.LinAlgError as error:
            raise ElasticityError("there are strains that cost nothing: is anything within the cutoff?") from error

    @property
    def stable(self) -> bool:
        """Whether every strain costs energy: all eigenvalues of C are positive (Mouhat and Coudert, PRB 90, 224104, 2014)."""
        return bool(np.linalg.eigvalsh(self.voigt).min() > 0)

    @property
    def cubic(self) -> tuple[float, float, float]:
        """C11, C12 and C44 of a cubic crystal whose axes are x, y and z, in GPa: averages over what symmetry makes equal.

        :raises ElasticityError: if the matrix is not that of such a crystal.
        """
        c = self.voigt
        c11, c44 = float(np.trace(c[:3, :3]) / 3), float(np.trace(c[3:, 3:]) / 3)
        c12 = float((c[0, 1] + c[0, 2] + c[1, 2]) / 3)
        ideal = np.diag([c11] * 3 + [c44] * 3)
        ideal[:3, :3] += c12 * (1 - np.eye(3))
        deviation = float(np.abs(c - ideal).max())
        if deviation > CUBIC_TOLERANCE * np.abs(c).max():
            raise ElasticityError(f"not cubic along x, y and z: constants that should be equal differ by {deviation:.2f} GPa")
        return c11, c12, c44


class Elastic(Property):
    """Elastic constants with relaxed ions, from single points of strained cells and displaced atoms.

    Frames: the crystal, 12 strained cells, 6 displacements per atom. ``result`` gives ``C_GPa`` (6×6, of the axes of the cell as
    given) and ``C_clamped_GPa``, averages of Voigt, Reuss and Hill, whether it is stable, and what tells of the numerical error.
    """

    kind: Literal["elastic"] = "elastic"
    strain: Positive = 0.002
    displacement_A: Positive = 0.01
    symmetrise: bool = False

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the crystal, the strained cells and the displaced ones.

        :raises ElasticityError: if the crystal is not periodic in all directions.
        """
        if not crystal.pbc.all():
            raise ElasticityError("elastic constants need a crystal that is periodic in all directions")
        base = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
        frames = [_part(base, "crystal")]
        for number, strain in enumerate(_strains([self.strain])):
            frames.append(_part(_strained(base.copy(), strain), f"strain_{COMPONENTS[number // 2]}_{'-+'[number % 2]}"))
        for atom in range(len(base) if len(base) > 1 else 0):
            for axis in range(3):
                for sign in (-1, 1):
                    work = base.copy()
                    work.positions[atom, axis] += sign * self.displacement_A
                    frames.append(_part(work, f"atom_{atom}_{'xyz'[axis]}_{'-+'[sign > 0]}"))
        return frames

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return the constants, GPa.

        :raises PropertyError: if a frame of the plan lacks forces or virial.
        """
        strained = done[1:13]
        stresses = [-np.reshape(value_of(a, "virial", prefix), (3, 3)) / a.get_volume() / units.GPa for a in (done[0], *strained)]
        clamped, asymmetry = _fitted(_strains([self.strain]), stresses[1:], stresses[0])
        softer = self._relaxation(crystal, strained, done[13:], prefix)
        voigt = _symmetrised(clamped - softer, crystal) if self.symmetrise else clamped - softer
        found = ElasticConstants(voigt, asymmetry, float(np.abs(stresses[0]).max()))
        return {
            "C_GPa": found.voigt.tolist(),
            "C_clamped_GPa": clamped.tolist(),
            "bulk_modulus_GPa": found.bulk_modulus,
            "shear_modulus_GPa": found.shear_modulus,
            "stable": found.stable,
            "residual_stress_GPa": found.residual_stress,
            "asymmetry_GPa": found.asymmetry,
        }

    def _relaxation(self, crystal: Atoms, strained: Sequence[Atoms], moved: Sequence[Atoms], prefix: str) -> np.ndarray:
        """Return what the motion of the atoms takes off, GPa, shape (6, 6)."""
        if not moved:
            return np.zeros((6, 6))
        forces = np.array([np.ravel(value_of(a, "forces", prefix)) for a in strained]).reshape(6, 2, -1)
        internal = (forces[:, 1] - forces[:, 0]) / (2 * self.strain)
        forces = np.array([np.ravel(value_of(a, "forces", prefix)) for a in moved]).reshape(len(moved) // 2, 2, -1)
        constants = -(forces[:, 1] - forces[:, 0]) / (2 * self.displacement_A)
        constants = (constants + constants.T) / 2
        inverse = np.linalg.pinv(constants, rcond=SOFTEST, hermitian=True)
        return np.asarray(internal @ inverse @ internal.T / crystal.get_volume() / units.GPa)


def _part(atoms: Atoms, name: str) -> Atoms:
    out = atoms.copy()
    out.info = {"part": name}
    return out


def relaxed(atoms: Atoms, fmax: float = 1e-5, steps: int = 500) -> Atoms:
    """Return a copy with atoms and cell relaxed at zero pressure, with the calculator of ``atoms``.

    :param fmax: largest force, and largest stress times volume per atom as ASE's cell filter has it, eV/Å.
    :raises ElasticityError: if that is not reached in so many steps.
    """
    out = _copy(atoms)
    optimiser = BFGS(FrechetCellFilter(out), logfile=None)  # type: ignore[arg-type]
    if not optimiser.run(fmax=fmax, steps=steps):
        raise ElasticityError(f"the crystal is not relaxed to {fmax:g} eV/Å after {steps} steps")
    return out


def elastic_constants(
    atoms: Atoms,
    strains: Sequence[float] = STRAINS,
    relax_atoms: bool = True,
    fmax: float = 1e-5,
    steps: int = 500,
    symmetrise: bool = False,
) -> ElasticConstants:
    """Return the elastic constants of a relaxed crystal, with its calculator.

    Each of the six strain components is given the values ±s for all ``strains`` (two calculations each) and 0; the slope of
    the stress is fitted, for one s the central difference, whose error goes as s².

    :param atoms: relaxed, see :func:`relaxed`; its stress may not exceed :data:`RESIDUAL_STRESS`.
    :param relax_atoms: relax the atoms in each strained cell ("relaxed ion"). Without, atoms follow the cell ("clamped ion");
        for crystals with every atom on an inversion centre (bcc, fcc) the two are the same.
    :param fmax: largest force left by that, eV/Å.
    :param symmetrise: average over the point group of the crystal (spglib's, tolerance 0.1 Å of pymatgen).
    :raises ElasticityError: if the crystal is not periodic or not relaxed, or the atoms of a strained cell cannot be.
    """
    if not atoms.pbc.all():
        raise ElasticityError("elastic constants need a crystal that is periodic in all directions")
    amounts = sorted(abs(s) for s in strains)
    if not amounts or amounts[0] <= 0:
        raise ElasticityError(f"strains must not be zero, got {list(strains)}")
    zero = _stress(_copy(atoms))
    residual = float(np.abs(zero).max())
    if residual > RESIDUAL_STRESS:
        raise ElasticityError(
            f"the crystal is not relaxed: its stress is {residual:.3g} GPa, at most {RESIDUAL_STRESS:g} is good"
        )
    applied, found = _strains(amounts), []
    for strain in applied:
        work = _strained(_copy(atoms), strain)
        if relax_atoms and not BFGS(work, logfile=None).run(fmax=fmax, steps=steps):
            component = int(np.abs(strain.voigt).argmax())
            amount = strain.voigt[component]
            raise ElasticityError(f"strain {amount:g} of component {component + 1}: atoms not relaxed to {fmax:g} eV/Å")
        found.append(_stress(work))
    voigt, asymmetry = _fitted(applied, found, zero)
    return ElasticConstants(_symmetrised(voigt, atoms) if symmetrise else voigt, asymmetry, residual)


def _strains(amounts: Sequence[float]) -> list[Strain]:
    """Return the strains of each of Voigt's six components, from −amounts to +amounts, in that order."""
    signed = (*(-s for s in reversed(amounts)), *amounts)
    return [Strain.from_voigt(amount * np.eye(6)[component]) for component in range(6) for amount in signed]


def _deformation(strain: Strain) -> Deformation:
    return Deformation(strain.get_deformation_matrix(shape="symmetric"))


def _strained(atoms: Atoms, strain: Strain) -> Atoms:
    """Strain a crystal, of which the atoms follow the cell; it is changed and returned."""
    atoms.set_cell(atoms.cell @ np.asarray(_deformation(strain)).T, scale_atoms=True)
    return atoms


def _fitted(strains: Sequence[Strain], stresses: Sequence[np.ndarray], zero: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the constants, shape (6, 6), and how unsymmetric they were, in the unit of the stresses.

    :param stresses: Cauchy stresses of the strained crystals, shape (3, 3); ``zero``: that of the unstrained one.
    """
    second = [Stress(stress).piola_kirchoff_2(_deformation(strain)) for strain, stress in zip(strains, stresses, strict=True)]
    raw = ElasticTensor.from_independent_strains(strains, second, eq_stress=Stress(zero), tol=0.0)
    voigt = np.asarray(raw.voigt)
    return (voigt + voigt.T) / 2, float(np.abs(voigt - voigt.T).max())


def _symmetrised(voigt: np.ndarray, crystal: Atoms) -> np.ndarray:
    """Return the average of the constants over the point group of a crystal."""
    structure = AseAtomsAdaptor.get_structure(Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True))
    return np.asarray(ElasticTensor.from_voigt(voigt).fit_to_structure(structure).voigt)


def _copy(atoms: Atoms) -> Atoms:
    if atoms.calc is None:
        raise ElasticityError("the crystal has no calculator")
    out = atoms.copy()
    out.calc = atoms.calc
    return out


def _stress(atoms: Atoms) -> np.ndarray:
    """Return the Cauchy stress as 3×3 matrix, GPa."""
    return np.asarray(atoms.get_stress(voigt=False)) / units.GPa
