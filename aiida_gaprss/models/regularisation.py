"""Expected errors (sigmas) of single frames, atoms and components, written under the keys that gap_fit reads.

gap_fit takes energy and virial sigmas of ``default_sigma`` and ``config_type_sigma`` per atom, and multiplies them by √N itself;
those of a single frame it takes as they are. In the settings here, energy and virial sigmas are per atom throughout, and the √N
is put in when they are written. A sigma in proportion to a force or a virial of the cell grows with it and gets no √N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hull import above_hull
from aiida_gaprss.settings.model import Model, Positive, PositiveOrZero

#: Targets that gap_fit takes an expected error for, in its order.
SIGMA_ORDER = ("energy", "forces", "virial", "hessian")
#: Keys of Atoms.info that gap_fit reads, and how many numbers they hold.
INFO_SIGMAS = {"energy_sigma": 1, "force_sigma": 1, "virial_sigma": 1, "virial_component_sigma": 9}
#: The same of Atoms.arrays, per atom.
ARRAY_SIGMAS = {"force_atom_sigma": 1, "force_component_sigma": 3}


class Sigma(Model):
    """Expected errors: energy eV/atom, forces eV/Å, virial eV/atom."""

    energy: Positive
    forces: Positive
    virial: Positive
    hessian: Positive = 1.0

    def numbers(self) -> list[float]:
        """Return the four numbers in gap_fit's order."""
        return [getattr(self, name) for name in SIGMA_ORDER]


class _Rule(Model):
    """A rule for some kinds of frames."""

    config_types: list[str] | None = Field(None, min_length=1, description="kinds of frames; default: all the others")

    def takes(self, atoms: Atoms) -> bool:
        """Tell whether the rule is for this frame; an isolated atom must be named."""
        if self.config_types is None:
            return not fr.is_isolated_atom(atoms)
        return atoms.info.get("config_type") in self.config_types

    def words(self) -> str:
        """Return the rule in one sentence."""
        raise NotImplementedError

    def write(self, frames: Sequence[Atoms], heights: np.ndarray) -> None:
        """Write the sigmas of these frames, of which ``heights`` (eV/atom) are above the hull of the training set."""
        raise NotImplementedError

    #: Whether ``heights`` are looked at.
    needs_hull: ClassVar[bool] = False


class Constant(_Rule):
    """The same sigmas for all frames of some kinds: what ``config_type_sigma`` does, but written frame by frame."""

    kind: Literal["constant"] = "constant"
    sigma: Sigma

    def words(self) -> str:
        """Return the rule in one sentence."""
        return f"energy {self.sigma.energy:g} eV/atom, forces {self.sigma.forces:g} eV/Å, virial {self.sigma.virial:g} eV/atom"

    def write(self, frames: Sequence[Atoms], heights: np.ndarray) -> None:
        """Write them."""
        for atoms in frames:
            _write_frame(atoms, self.sigma.energy, self.sigma.forces, self.sigma.virial)


class HullDistance(_Rule):
    """Sigmas that grow with the distance above the convex hull: low-lying structures are fitted tightly, wild ones loosely.

    σ_E = low·(high/low)^x eV/atom with x = (distance/width), at most 1; forces (per Å) and virials follow in proportion. After
    Deringer, Proserpio, Csányi and Pickard (Faraday Discuss. 211, 45, 2018); for one element, the distance above the hull is the
    energy above the lowest frame.
    """

    kind: Literal["hull"] = "hull"
    low: Positive = 0.002
    high: Positive = 0.05
    width: Positive = 1.5
    forces: Positive = 20.0
    virial: Positive = 5.0
    needs_hull: ClassVar[bool] = True

    def words(self) -> str:
        """Return the rule in one sentence."""
        return (
            f"energy {self.low:g} eV/atom on the convex hull, growing to {self.high:g} eV/atom for {self.width:g} eV/atom and "
            f"more above it; forces (eV/Å) {self.forces:g} times and virials (eV/atom) {self.virial:g} times as large"
        )

    def write(self, frames: Sequence[Atoms], heights: np.ndarray) -> None:
        """Write them; a dimer in vacuum, which is on no hull, counts as far above."""
        x = np.clip(np.nan_to_num(heights, nan=np.inf) / self.width, 0.0, 1.0)
        for atoms, sigma in zip(frames, self.low * (self.high / self.low) ** x, strict=True):
            _write_frame(atoms, float(sigma), self.forces * float(sigma), self.virial * float(sigma))


class ForceProportional(_Rule):
    """Atom-wise force sigmas: σ_F = f·|F_i|, at least f·F_min (George et al., J. Chem. Phys. 153, 044104, eq. 8).

    Energies and virials keep the sigmas of their kind, unless they are given here.
    """

    kind: Literal["force_proportional"] = "force_proportional"
    f: Positive = 0.1
    min_force: Positive = Field(0.01, description="F_min, eV/Å")
    energy: Positive | None = Field(None, description="eV/atom")
    virial: Positive | None = Field(None, description="eV/atom")

    def words(self) -> str:
        """Return the rule in one sentence."""
        given = [f"{name} {value:g} eV/atom" for name, value in (("energy", self.energy), ("virial", self.virial)) if value]
        text = f"forces of an atom {self.f:g} times the force on it, at least {self.f * self.min_force:g} eV/Å"
        return "; ".join([text, *given])

    def write(self, frames: Sequence[Atoms], heights: np.ndarray) -> None:
        """Write them."""
        for atoms in frames:
            if "REF_forces" in atoms.arrays:
                size = np.linalg.norm(atoms.arrays["REF_forces"], axis=1)
                atoms.arrays["force_atom_sigma"] = self.f * np.maximum(size, self.min_force)
            _write_frame(atoms, self.energy, None, self.virial)


class ComponentWise(_Rule):
    """Sigmas of single components of forces and virials: σ = Δ·|component|, at least a floor (Allen et al. 2022, section 3.2).

    The virial is that of the whole cell, as in the paper; its floor here is per atom and grows with √N, as gap_fit's own sigmas.
    """

    kind: Literal["component"] = "component"
    energy: Positive = Field(1e-3, description="eV/atom")
    force_factor: PositiveOrZero = Field(1e-2, description="Δ_F")
    force_floor: Positive = Field(1e-3, description="eV/Å")
    virial_factor: PositiveOrZero = Field(1e-2, description="Δ_V")
    virial_floor: Positive = Field(1e-3, description="eV/atom")

    def words(self) -> str:
        """Return the rule in one sentence."""
        return (
            f"energy {self.energy:g} eV/atom; each force component {self.force_factor:g} times itself, at least "
            f"{self.force_floor:g} eV/Å; each virial component {self.virial_factor:g} times itself, at least "
            f"{self.virial_floor:g} eV/atom"
        )

    def write(self, frames: Sequence[Atoms], heights: np.ndarray) -> None:
        """Write them."""
        for atoms in frames:
            if "REF_forces" in atoms.arrays:
                forces = np.abs(atoms.arrays["REF_forces"])
                atoms.arrays["force_component_sigma"] = np.maximum(self.force_factor * forces, self.force_floor)
            if "REF_virial" in atoms.info:
                virial = np.abs(np.asarray(atoms.info["REF_virial"], dtype=float))
                floor = self.virial_floor * np.sqrt(len(atoms))
                atoms.info["virial_component_sigma"] = np.maximum(self.virial_factor * virial, floor)
            _write_frame(atoms, self.energy, None, None)


Rule = Annotated[Constant | HullDistance | ForceProportional | ComponentWise, Field(discriminator="kind")]


def _write_frame(atoms: Atoms, energy: float | None, forces: float | None, virial: float | None) -> None:
    """Write the sigmas of a frame that it has targets for: energy and virial in eV/atom, forces in eV/Å."""
    root = float(np.sqrt(len(atoms)))
    for key, target, value in (
        ("energy_sigma", "REF_energy" in atoms.info, energy and energy * root),
        ("force_sigma", "REF_forces" in atoms.arrays, forces),
        ("virial_sigma", "REF_virial" in atoms.info, virial and virial * root),
    ):
        if target and value is not None:
            atoms.info[key] = value


def regularise(frames: Sequence[Atoms], rules: Sequence[_Rule]) -> None:
    """Write the sigmas of single frames: each frame follows the first rule that takes it, if any.

    :raises HullError: if a rule needs the convex hull and there is none.
    :raises ValueError: if a rule names a kind of frames that there are none of.
    """
    kinds = {str(atoms.info.get("config_type")) for atoms in frames}
    known = ", ".join(sorted(kinds))
    for number, rule in enumerate(rules):
        absent = sorted(set(rule.config_types or ()) - kinds)
        if absent:
            raise ValueError(f"regularisation[{number}]: no frames of config type {', '.join(absent)}; there are {known}")
    heights = above_hull(frames) if any(rule.needs_hull for rule in rules) else np.full(len(frames), np.nan)
    mine: dict[int, list[int]] = {}
    for index, atoms in enumerate(frames):
        for number, rule in enumerate(rules):
            if rule.takes(atoms):
                mine.setdefault(number, []).append(index)
                break
    for number, indices in sorted(mine.items()):
        rules[number].write([frames[index] for index in indices], heights[indices])


def sigma_counts(frames: Sequence[Atoms]) -> dict[str, int]:
    """Return how many sigmas of single frames, atoms and components gap_fit must say that it found, by key."""
    counts = {key: size * sum(key in atoms.info for atoms in frames) for key, size in INFO_SIGMAS.items()}
    return counts | {key: size * sum(len(a) for a in frames if key in a.arrays) for key, size in ARRAY_SIGMAS.items()}


def sigma_ranges(frames: Sequence[Atoms]) -> dict[str, dict[str, Any]]:
    """Return number, lowest, median and highest of the sigmas of single frames, by key; as gap_fit gets them."""
    out: dict[str, dict[str, Any]] = {}
    for keys, store in ((INFO_SIGMAS, "info"), (ARRAY_SIGMAS, "arrays")):
        for key in keys:
            values = [np.ravel(getattr(atoms, store)[key]) for atoms in frames if key in getattr(atoms, store)]
            if values:
                flat = np.concatenate(values).astype(float)
                out[key] = {
                    "frames": len(values),
                    "values": int(flat.size),
                    "lowest": float(flat.min()),
                    "median": float(np.median(flat)),
                    "highest": float(flat.max()),
                }
    return out
