"""The elastic constants of a crystal, and what follows: averages, stability, the independent ones of its crystal system."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.analysis.elasticity import ElasticTensor
from pymatgen.core.tensors import Tensor
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from aiida_gaprss.properties.base import PropertyError

#: Largest change by averaging over the cubic operations, relative to the largest constant, of what counts as cubic.
CUBIC_TOLERANCE = 0.01

#: Distance within which atoms are equivalent when the crystal system is asked for, Å; the default of pymatgen.
SYSTEM_TOLERANCE = 0.01

#: Independent constants by crystal system, in standard axes (J. F. Nye, *Physical Properties of Crystals*, Table 9), and C66,
#: which is (C11 − C12)/2 around threefold and sixfold axes; below those that point groups of lower symmetry have besides.
INDEPENDENT = {
    "cubic": "11 12 44",
    "hexagonal": "11 12 13 33 44 66",
    "trigonal": "11 12 13 14 33 44 66",
    "tetragonal": "11 12 13 33 44 66",
    "orthorhombic": "11 12 13 22 23 33 44 55 66",
    "monoclinic": "11 12 13 15 22 23 25 33 35 44 46 55 66",
    "triclinic": " ".join(f"{i}{j}" for i in range(1, 7) for j in range(i, 7)),
}
_LOWER = {"3": " 15", "-3": " 15", "4": " 16", "-4": " 16", "4/m": " 16"}


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

    def averages(self) -> dict[str, float]:
        """Return what pymatgen derives of an aggregate of many crystals.

        Voigt's, Reuss's and Hill's moduli (plain ones are Hill's), Young's modulus and Poisson's ratio of Hill's, and the
        universal anisotropy A = 5 G_V/G_R + K_V/K_R − 6, which is 0 for an isotropic crystal (Ranganathan and Ostoja-Starzewski,
        PRL 101, 055504, 2008).
        """
        of = self._averaged
        return {
            "bulk_modulus_GPa": of("k_vrh"),
            "bulk_modulus_voigt_GPa": of("k_voigt"),
            "bulk_modulus_reuss_GPa": of("k_reuss"),
            "shear_modulus_GPa": of("g_vrh"),
            "shear_modulus_voigt_GPa": of("g_voigt"),
            "shear_modulus_reuss_GPa": of("g_reuss"),
            "youngs_modulus_GPa": of("y_mod") / 1e9,
            "poisson_ratio": of("homogeneous_poisson"),
            "universal_anisotropy": of("universal_anisotropy"),
        }

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


def stability(voigt: np.ndarray, stress: np.ndarray) -> np.ndarray:
    """Return eigenvalues, in rising order, of the matrix that decides whether a crystal is stable under a stress, GPa.

    J. Wang, J. Li, S. Yip, S. Phillpot and D. Wolf, Phys. Rev. B 52, 12627 (1995): the symmetric part of B_ijkl = C_ijkl +
    ½(δ_ik σ_jl + δ_jk σ_il + δ_il σ_jk + δ_jl σ_ik − 2 δ_kl σ_ij), which is C without stress, and under a pressure P has C11 − P,
    C12 + P, C44 − P (Mouhat and Coudert, PRB 90, 224104, 2014).

    :param stress: of the unstrained crystal, shape (3, 3), tension positive.
    """
    one = np.eye(3)
    more = sum(np.einsum(f"{a},{b}->ijkl", one, stress) for a, b in (("ik", "jl"), ("jk", "il"), ("il", "jk"), ("jl", "ik")))
    more = (more - 2 * np.einsum("kl,ij->ijkl", one, stress)) / 2
    full = np.asarray(ElasticTensor.from_voigt(voigt)) + (more + more.transpose(2, 3, 0, 1)) / 2
    return np.asarray(np.linalg.eigvalsh(np.asarray(Tensor(full).voigt, dtype=float)))


def standard(crystal: Atoms) -> dict[str, Any]:
    """Return what symmetry says of a crystal: its system, space group, point group, and its standard axes.

    ``standard_axes`` are those of the IEEE standard on piezoelectricity (176-1987), as pymatgen finds them: rows are x, y and z
    of the standard orientation in the axes of the cell as given.

    :raises ElasticityError: if no symmetry can be found.
    """
    structure = AseAtomsAdaptor.get_structure(Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True))
    try:
        found, axes = SpacegroupAnalyzer(structure, symprec=SYSTEM_TOLERANCE), Tensor.get_ieee_rotation(structure)
    except ValueError as error:  # pymatgen's SymmetryUndeterminedError is one
        raise ElasticityError(f"no crystal system can be found at a tolerance of {SYSTEM_TOLERANCE:g} Å: {error}") from error
    return {
        "crystal_system": found.get_crystal_system(),
        "space_group": f"{found.get_space_group_symbol()} ({found.get_space_group_number()})",
        "point_group": found.get_point_group_symbol(),
        "standard_axes": np.asarray(axes, dtype=float).tolist(),
    }


def independent(voigt: np.ndarray, symmetry: dict[str, Any]) -> dict[str, float]:
    """Return the constants that belong to a crystal system by their names (``C11``, …), GPa, in the standard orientation.

    :param symmetry: of :func:`standard`; that of one crystal names the constants of the same crystal with any other calculator.
    """
    turned = np.asarray(ElasticTensor.from_voigt(voigt).rotate(symmetry["standard_axes"], tol=1e-3).voigt)
    names = INDEPENDENT[symmetry["crystal_system"]] + _LOWER.get(symmetry["point_group"], "")
    return {f"C{name}": float(turned[int(name[0]) - 1, int(name[1]) - 1]) for name in names.split()}


def symmetrised(voigt: np.ndarray, crystal: Atoms) -> np.ndarray:
    """Return the average of the constants over the point group of a crystal (pymatgen's, tolerance 0.1 Å)."""
    structure = AseAtomsAdaptor.get_structure(Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True))
    return np.asarray(ElasticTensor.from_voigt(voigt).fit_to_structure(structure).voigt)
