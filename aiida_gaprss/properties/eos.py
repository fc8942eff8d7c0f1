"""E(V) and the equation of state: volume, bulk modulus and its derivative, how far two curves are apart, which phase is lowest.

The equation is that of Birch and Murnaghan, third order (F. Birch, Phys. Rev. 71, 809, 1947; eq. 3 of Phys. Rev. B 70, 224107),
fitted by ASE (``ase.eos``). Cells are scaled isotropically and atoms keep their fractional coordinates: where symmetry leaves the
atoms, or the shape of the cell, free, this is E(V) of clamped ions at fixed shape, and B is larger than of the relaxed crystal.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from ase import Atoms, units
from ase.eos import EquationOfState, birchmurnaghan
from pydantic import AfterValidator, Field

from aiida_gaprss.properties.base import Curve, Limits, Property, value_of
from aiida_gaprss.properties.crystals import bare
from aiida_gaprss.settings.model import Count, Fraction, PositiveOrZero
from aiida_gaprss.structures.supercells import scaled

#: Half of the interval of Δ, relative to the volume of the reference (Zuo 2020, eq. 10).
DELTA_RANGE = 0.06

#: Largest RMS deviation of a good fit, relative to the difference of the highest and the lowest energy.
FIT_TOLERANCE = 0.02

#: What tells one phase from another in energy, meV/atom: below it their order means nothing.
DEGENERATE = 1.0

_FITTED = ("E0_eV_per_atom", "V0_A3_per_atom", "bulk_modulus_GPa", "bulk_modulus_derivative")


def _odd(points: int) -> int:
    if points < 5 or points % 2 == 0:
        raise ValueError(
            f"points is {points}, expected an odd number from 5 on: the crystal is one, and four parameters are fitted"
        )
    return points


def _narrow(fraction: float) -> float:
    if not 0.005 <= fraction <= 0.5:
        raise ValueError(f"range is {fraction:g}, expected a part of the volume from 0.005 to 0.5")
    return fraction


class Eos(Property):
    """Energies of isotropically scaled cells, and the equation of state fitted to them; single points only."""

    kind: Literal["eos"] = "eos"
    range: Annotated[Fraction, AfterValidator(_narrow)] = Field(0.06, description="largest change of the volume, as a part of it")
    points: Annotated[Count, AfterValidator(_odd)] = Field(9, description="volumes, with that of the crystal; an odd number")
    same_zero: bool = Field(
        False,
        description="energies of the reference have the zero of the potential's, as those it was fitted to: compare E0, too",
    )
    order_within_meV: PositiveOrZero = Field(
        DEGENERATE, description="phases of the reference that are not further apart, per atom, count as equally stable"
    )

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "delta_meV_per_atom": Limits(
            2, 5, "meV/atom", "below 2 curves are indistinguishable (Zuo 2020; Lejaeghere 2016); 5: ours"
        ),
        "V0_percent": Limits(1.5, 3, "%", "three times the limits of the lattice parameter"),
        "lattice_parameter_percent": Limits(0.5, 1, "%", "Zuo 2020, Table II: 0.4 % for Ni and Cu; 1: ours, an error of PBE"),
        "bulk_modulus_percent": Limits(6, 15, "%", "Zuo 2020, Table II, B_VRH of Ni and Cu: at most 5.6; 15: ours"),
        "bulk_modulus_derivative": Limits(0.5, 1, "", "ours: what ±6 % in volume can tell of B'"),
        "E0_meV_per_atom": Limits(2, 10, "meV/atom", "ours: the error of energies in a good fit"),
        "no_minimum": Limits(0, 0, "", "a crystal of the reference that the potential has not"),
        "largest_difference_meV_per_atom": Limits(10, 20, "meV/atom", "Zuo 2020, Fig. 7: 10 to 20 for unseen phases"),
        "wrong_ground_state": Limits(0, 0, "", "another phase is the most stable one"),
    }

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the scaled cells, the smallest first.

        :raises PropertyError: for what is no crystal.
        """
        frames = []
        for factor in np.linspace(1 - self.range, 1 + self.range, self.points):
            frames.append(scaled(bare(crystal, "equations of state"), factor))
            frames[-1].info["part"] = f"volume_{factor:.4f}"
        return frames

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return volumes, energies, and what was fitted: None where there is no minimum, and ``note`` says so.

        :raises PropertyError: if a frame has no energy.
        """
        volumes = np.array([atoms.get_volume() / len(atoms) for atoms in done])
        energies = np.array([value_of(atoms, "energy", prefix) / len(atoms) for atoms in done])
        fitted, rms = fit(volumes, energies)
        out: dict[str, Any] = {
            "formula": crystal.get_chemical_formula(empirical=True),
            "volumes_A3_per_atom": volumes.tolist(),
            "energies_eV_per_atom": energies.tolist(),
            **(fitted or dict.fromkeys(_FITTED)),
            "fit_rms_meV_per_atom": rms,
            "lengths_at_V0_A": None,
            "pressure_at_crystal_GPa": None,
            "note": _note(volumes, energies, fitted, rms),
        }
        out["minimum_in_range"] = bool(fitted and volumes[0] < fitted["V0_A3_per_atom"] < volumes[-1])
        if fitted:
            scale = (fitted["V0_A3_per_atom"] * len(crystal) / crystal.get_volume()) ** (1 / 3)
            out["lengths_at_V0_A"] = (crystal.cell.lengths() * scale).tolist()
            out["pressure_at_crystal_GPa"] = _pressure(fitted, crystal.get_volume() / len(crystal))
        return out

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return errors of the equation of state; of several phases, those of their differences."""
        if "relative_meV_per_atom" in result:
            return self._scores_across(result, reference) if reference else {}
        expected = reference is None or reference["minimum_in_range"]
        out = {"no_minimum": float(expected and not result["minimum_in_range"])}
        if reference is None or result["V0_A3_per_atom"] is None or reference["V0_A3_per_atom"] is None:
            return out
        volume = result["V0_A3_per_atom"] / reference["V0_A3_per_atom"]
        out["delta_meV_per_atom"] = 1000 * delta(result, reference)
        out["V0_percent"] = 100 * (volume - 1)
        out["lattice_parameter_percent"] = 100 * (volume ** (1 / 3) - 1)
        out["bulk_modulus_percent"] = 100 * (result["bulk_modulus_GPa"] / reference["bulk_modulus_GPa"] - 1)
        out["bulk_modulus_derivative"] = result["bulk_modulus_derivative"] - reference["bulk_modulus_derivative"]
        if self.same_zero:
            out["E0_meV_per_atom"] = 1000 * (result["E0_eV_per_atom"] - reference["E0_eV_per_atom"])
        return out

    def incomparable(self, result: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, str]:
        """Return why there is no Δ."""
        if "relative_meV_per_atom" in result or reference["V0_A3_per_atom"] is not None:
            return {}
        return {"curve": f"no minimum of the reference: {reference['note']}"}

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return the energies above the minimum of the curve; of several phases together, above that of the lowest one.

        The curves of several phases are called ``phases/<crystal>`` and belong into one figure.
        """
        if "relative_meV_per_atom" in result:
            told = result["curves"]
            curve = {name: (told[name]["volumes_A3_per_atom"], told[name]["energies_meV_per_atom"]) for name in told}
            return {f"phases/{name}": _curve(*points, together=True) for name, points in curve.items()}
        volumes, energies = (np.array(result[key]) for key in ("volumes_A3_per_atom", "energies_eV_per_atom"))
        lowest = energies.min() if result["E0_eV_per_atom"] is None else result["E0_eV_per_atom"]
        return {"energy": _curve(volumes, 1000 * (energies - lowest))}

    def across(self, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return E0 of crystals of the same composition relative to the lowest, by formula and crystal, and their curves."""
        out: dict[str, Any] = {"relative_meV_per_atom": {}, "ground_state": {}, "curves": {}}
        for formula in sorted({str(result["formula"]) for result in results.values()}):
            alike = {n: r for n, r in results.items() if r["formula"] == formula and r["E0_eV_per_atom"] is not None}
            if len(alike) < 2:
                continue
            ground = min(alike, key=lambda name: alike[name]["E0_eV_per_atom"])
            zero = alike[ground]["E0_eV_per_atom"]
            out["ground_state"][formula] = ground
            out["relative_meV_per_atom"][formula] = {n: 1000 * (found["E0_eV_per_atom"] - zero) for n, found in alike.items()}
            for name, found in alike.items():
                volumes, energies = found["volumes_A3_per_atom"], np.array(found["energies_eV_per_atom"])
                curve = {"volumes_A3_per_atom": volumes, "energies_meV_per_atom": (1000 * (energies - zero)).tolist()}
                out["curves"][name] = curve
        return out

    def _scores_across(self, result: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, float]:
        """Return the largest error of an energy above the reference's ground state, and whether another phase is the lowest."""
        errors, wrong = [], False
        for formula, ground in reference["ground_state"].items():
            true, own = (told["relative_meV_per_atom"].get(formula, {}) for told in (reference, result))
            if ground not in own:
                continue
            errors += [own[name] - own[ground] - true[name] for name in own if name in true and name != ground]
            wrong |= true.get(result["ground_state"][formula], 0.0) > self.order_within_meV
        if not errors:
            return {}
        return {"largest_difference_meV_per_atom": float(max(errors, key=abs)), "wrong_ground_state": float(wrong)}


def fit(volumes: np.ndarray, energies: np.ndarray) -> tuple[dict[str, float] | None, float | None]:
    """Return what ASE fits, and the RMS deviation of the points in meV/atom; None for both if there is no minimum.

    :param volumes: Å³ per atom; ``energies``: eV per atom.
    """
    zero = energies.min()  # an energy zero far away costs digits
    state = EquationOfState(volumes, energies - zero, eos="birchmurnaghan")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            volume, energy, modulus = state.fit(warn=False)
    except (RuntimeError, ValueError):
        return None, None
    parameters = state.eos_parameters
    if not np.isfinite(parameters).all() or modulus <= 0 or volume <= 0:
        return None, None
    left = energies - zero - birchmurnaghan(volumes, *parameters)
    values = (energy + zero, volume, modulus / units.GPa, parameters[2])
    return {key: float(value) for key, value in zip(_FITTED, values, strict=True)}, float(1000 * np.sqrt(np.mean(left**2)))


def delta(first: Mapping[str, Any], second: Mapping[str, Any], part: float = DELTA_RANGE) -> float:
    """Return the Δ gauge of two equations of state, eV/atom.

    Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020), eq. 10: Δ² = ∫ (E_a − E_b)² dV / 2·part·V₀ from (1 − part)·V₀ to
    (1 + part)·V₀, V₀ that of the second one. Both are fitted curves with their minima at zero energy (K. Lejaeghere et al., Crit.
    Rev. Solid State Mater. Sci. 39, 1, 2014). Later scripts of theirs take the mean of the two V₀, the same from both sides.
    """
    nodes, weights = np.polynomial.legendre.leggauss(20)
    volumes = second["V0_A3_per_atom"] * (1 + part * nodes)
    return float(np.sqrt(weights @ (_above(first, volumes) - _above(second, volumes)) ** 2 / 2))


def _above(state: Mapping[str, Any], volumes: np.ndarray) -> np.ndarray:
    """Return energies above the minimum, eV/atom."""
    modulus = state["bulk_modulus_GPa"] * units.GPa
    return np.asarray(birchmurnaghan(volumes, 0.0, modulus, state["bulk_modulus_derivative"], state["V0_A3_per_atom"]))


def _pressure(state: Mapping[str, Any], volume: float) -> float:
    """Return −dE/dV of the fitted curve, GPa: that of Birch's equation."""
    x = (state["V0_A3_per_atom"] / volume) ** (1 / 3)
    more = 1 + 0.75 * (state["bulk_modulus_derivative"] - 4) * (x**2 - 1)
    return float(1.5 * state["bulk_modulus_GPa"] * (x**7 - x**5) * more)


def _note(volumes: np.ndarray, energies: np.ndarray, fitted: Mapping[str, float] | None, rms: float | None) -> str:
    """Return what is to be told of a fit, or nothing."""
    if fitted is None or rms is None:
        return f"no minimum can be fitted between {volumes[0]:.3f} and {volumes[-1]:.3f} Å³/atom"
    notes = []
    if not volumes[0] < fitted["V0_A3_per_atom"] < volumes[-1]:
        notes.append(
            f"the minimum at {fitted['V0_A3_per_atom']:.3f} Å³/atom is outside of {volumes[0]:.3f} to {volumes[-1]:.3f}: "
            "relax the crystal, or take a larger range"
        )
    spread = 1000 * np.ptp(energies)
    if rms > FIT_TOLERANCE * spread:
        notes.append(f"the fit is bad: its points are off by {rms:.3g} meV/atom (RMS), energies differ by {spread:.3g} in all")
    return "; ".join(notes)


def _curve(volumes: Sequence[float] | np.ndarray, energies: Sequence[float] | np.ndarray, together: bool = False) -> Curve:
    x, y = ([float(v) for v in values] for values in (volumes, energies))
    return Curve(x, [y], "volume / Å³ per atom", "energy above the minimum / meV per atom", points=True, together=together)
