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

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from phonopy import Phonopy
from pydantic import Field
from pymatgen.analysis.elasticity import Deformation, ElasticTensor, Strain, Stress

from aiida_gaprss.properties import response
from aiida_gaprss.properties.base import Curve, Limits, Property, value_of
from aiida_gaprss.properties.crystals import bare
from aiida_gaprss.properties.stiffness import ElasticConstants, ElasticityError, independent, stability, standard, symmetrised
from aiida_gaprss.settings.model import Length, Positive

#: Strains at which the stress is taken, in both directions of each of the six components.
STRAINS = (0.002,)

#: Stress left in the unstrained crystal above which it does not count as relaxed, GPa, and force left on its atoms, eV/Å.
RESIDUAL_STRESS = 0.1
RESIDUAL_FORCE = 0.01

#: Voigt's order.
COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")

#: Constants below this part of the largest one are not compared one by one: a percentage of nearly nothing says nothing.
SMALL = 0.05

_ONE = Limits(10, 20, "%", "Zuo 2020, Table II: mostly within 10 % of DFT, at most 14.4 % for Ni and Cu; 20: ours")


class Elastic(Property):
    """Elastic constants with relaxed ions, from single points of strained cells and displaced atoms.

    Frames: the crystal, strained cells (12, fewer by symmetry), displaced atoms (6 per atom, fewer by symmetry).
    """

    kind: Literal["elastic"] = "elastic"
    strain: Positive = Field(0.002, description="strain of a component, in both directions")
    displacement_A: Positive = Field(0.01, description="displacement of an atom, Å")
    symmetry: bool = Field(True, description="compute what the space group makes equal once")
    symmetry_tolerance_A: Length = Field(1e-3, description="distance within which atoms are equivalent, Å")

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "max_error_percent": Limits(6, 15, "%", "Allen 2022, Table 3 and Fig. 6: up to 6 %; Zuo 2020, Table II: up to 15 %"),
        "bulk_modulus_percent": Limits(6, 15, "%", "Zuo 2020, Table II, B_VRH of Ni and Cu: at most 5.6 %; 15: ours"),
        "shear_modulus_percent": Limits(10, 20, "%", "ours: as single constants"),
        "unstable": Limits(0, 0, "", "a strain costs no energy (Mouhat and Coudert 2014), of the reference every one does"),
        "wrongly_stable": Limits(0, 0, "", "the reference says that this crystal is unstable"),
        **{f"C{i}{j}_percent": _ONE for i in range(1, 7) for j in range(i, 7)},
    }

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the crystal, the strained cells and the displaced ones.

        :raises PropertyError: for what is no crystal, or has no symmetry that could be found.
        """
        base, operations = bare(crystal, "elastic constants"), self._operations(crystal)
        frames = [_part(base, "crystal")]
        for component, sign in response.distinct_strains(operations):
            name = f"strain_{COMPONENTS[component]}_{'+' if sign > 0 else '-'}"
            frames.append(_part(_strained(base.copy(), self._strain(component, sign)), name))
        for number, (atom, by) in enumerate(self._displacements(crystal, operations)):
            work = base.copy()
            work.positions[atom] += by
            frames.append(_part(work, f"displacement_{number + 1}_atom_{atom}"))
        return frames

    def _strain(self, component: int, sign: int) -> Strain:
        return Strain.from_voigt(sign * self.strain * np.eye(6)[component])

    def _operations(self, crystal: Atoms) -> response.Operations:
        return response.operations_of(crystal, self.symmetry, self.symmetry_tolerance_A)

    def _phonopy(self, crystal: Atoms) -> Phonopy:
        """Return phonopy with the displacements it wants; all of them in both directions without symmetry."""
        phonopy = response.phonopy_of(crystal, self.symmetry, self.symmetry_tolerance_A)
        phonopy.generate_displacements(distance=self.displacement_A, is_plusminus="auto" if self.symmetry else True)
        return phonopy

    def _displacements(self, crystal: Atoms, operations: response.Operations) -> list[tuple[int, np.ndarray]]:
        """Return atoms and displacements, Å; none where symmetry keeps the atoms in their places."""
        if len(crystal) == 1 or (self.symmetry and not response.coupled(operations)):
            return []
        told: Any = self._phonopy(crystal).dataset
        return [(one["number"], np.array(one["displacement"])) for one in told["first_atoms"]]

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return the constants and what follows from them, GPa.

        :raises PropertyError: if a frame of the plan lacks forces or virial.
        """
        operations = self._operations(crystal)
        wanted = response.distinct_strains(operations)
        if len(done) != (planned := 1 + len(wanted) + len(self._displacements(crystal, operations))):
            raise ElasticityError(f"{len(done)} frames are done, the plan for this crystal has {planned}")
        strained, moved = done[1 : 1 + len(wanted)], done[1 + len(wanted) :]
        zero, forces = _stress_of(done[0], prefix), np.array(value_of(done[0], "forces", prefix))
        strains = [self._strain(*one) for one in wanted]
        second = [
            Stress(_stress_of(a, prefix)).piola_kirchoff_2(_deformation(s)) - zero for a, s in zip(strained, strains, strict=True)
        ]
        added = [value_of(a, "forces", prefix) - forces for a in strained]
        raw, internal = response.linear(operations, strains, [np.asarray(s) for s in second], added)
        clamped, asymmetry = (raw + raw.T) / 2, float(np.abs(raw - raw.T).max())
        softer, gamma = np.zeros((6, 6)), np.zeros(0)
        if moved:
            phonopy = self._phonopy(crystal)
            phonopy.forces = [value_of(a, "forces", prefix) - forces for a in moved]
            phonopy.produce_force_constants(show_drift=False)
            softer, gamma = response.softening(internal, np.asarray(phonopy.force_constants))
        voigt = clamped - softer / crystal.get_volume() / units.GPa
        found = ElasticConstants(voigt, asymmetry, float(np.abs(zero).max()))
        return {**_told(crystal, found, zero), "C_clamped_GPa": clamped.tolist(), **_remarks(zero, forces, gamma)}

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return errors in percent: the largest one as a part of the reference's largest constant, and one by one."""
        if reference is None:
            return {"unstable": float(not result["stable"])}
        own, true = (np.array(told["C_GPa"]) for told in (result, reference))
        largest = np.abs(true).max()
        out = {"unstable": float(reference["stable"] and not result["stable"])}
        if not reference["stable"]:
            out["wrongly_stable"] = float(result["stable"])
        out["max_error_percent"] = float(100 * np.abs(own - true).max() / largest)
        named = independent(true, result["symmetry"])
        for name, value in result["constants_GPa"].items():
            if abs(named[name]) > SMALL * largest:
                out[f"{name}_percent"] = 100 * (value - named[name]) / abs(named[name])
        for name in ("bulk_modulus", "shear_modulus"):
            out[f"{name}_percent"] = 100 * (result[f"{name}_GPa"] / reference[f"{name}_GPa"] - 1)
        return out

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return the constants of the crystal system side by side."""
        names = sorted(result["constants_GPa"])
        values, places = [float(result["constants_GPa"][name]) for name in names], [float(n) for n in range(len(names))]
        ticks = list(zip(places, names, strict=True))
        return {"constants": Curve(places, [values], "", "elastic constant / GPa", ticks, points=True)}


def _part(atoms: Atoms, name: str) -> Atoms:
    out = atoms.copy()
    out.info = {"part": name}
    return out


def _stress_of(atoms: Atoms, prefix: str) -> np.ndarray:
    """Return the Cauchy stress of a frame with results as 3×3 matrix, GPa."""
    return -np.reshape(value_of(atoms, "virial", prefix), (3, 3)) / atoms.get_volume() / units.GPa


def _told(crystal: Atoms, found: ElasticConstants, stress: np.ndarray) -> dict[str, Any]:
    """Return the constants, those of the crystal system by their names, averages, and whether it is stable."""
    symmetry = standard(crystal)
    eigenvalues = stability(found.voigt, stress)
    return {
        "C_GPa": found.voigt.tolist(),
        "crystal_system": symmetry["crystal_system"],
        "constants_GPa": independent(found.voigt, symmetry),
        "symmetry": symmetry,
        **found.averages(),
        "eigenvalues_GPa": eigenvalues.tolist(),
        "stable": bool(eigenvalues[0] > 0),
        "asymmetry_GPa": found.asymmetry,
    }


def _remarks(stress: np.ndarray, forces: np.ndarray, gamma: np.ndarray) -> dict[str, Any]:
    """Return what is left in the unstrained crystal, force constants at Γ that are not positive, and a note of both."""
    residual, force = float(np.abs(stress).max()), float(np.linalg.norm(forces, axis=1).max())
    soft = int((gamma <= response.SOFTEST * np.abs(gamma).max()).sum()) if len(gamma) else 0
    notes = []
    if residual > RESIDUAL_STRESS:
        notes.append(
            f"a stress of {residual:.3g} GPa is left: these are derivatives of the second Piola-Kirchhoff stress there, not "
            "the constants of the crystal without stress"
        )
    if force > RESIDUAL_FORCE:
        notes.append(f"a force of {force:.3g} eV/Å is left: the atoms are not where this calculator wants them")
    if soft:
        notes.append(f"{soft} displacements at Γ cost nothing, or less: constants with relaxed ions mean nothing here")
    return {
        "residual_stress_GPa": residual,
        "residual_force_eV/A": force,
        "pressure_GPa": float(-np.trace(stress) / 3),
        "soft_modes": soft,
        "note": "; ".join(notes),
    }


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
    return ElasticConstants(symmetrised(voigt, atoms) if symmetrise else voigt, asymmetry, residual)


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


def _copy(atoms: Atoms) -> Atoms:
    if atoms.calc is None:
        raise ElasticityError("the crystal has no calculator")
    out = atoms.copy()
    out.calc = atoms.calc
    return out


def _stress(atoms: Atoms) -> np.ndarray:
    """Return the Cauchy stress as 3×3 matrix, GPa."""
    return np.asarray(atoms.get_stress(voigt=False)) / units.GPa
