"""Cells too absurd to spend a calculation on, and labels too absurd to fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from aiida_gaprss.frames import REFERENCE, is_in_vacuum
from aiida_gaprss.selection import Selection
from aiida_gaprss.selection.alone import alone
from aiida_gaprss.selection.neighbours import neighbours


@dataclass(frozen=True)
class Limits:
    """Bounds of a sane cell; None switches one off.

    ``min_distance``: smallest distance, Å, for all pairs or per pair as ``{"Si-O": 1.2}`` (pairs not named are not
    checked). ``max_neighbour_distance``: every atom needs another this near, Å; ``max_neighbour_factor``: the same in sums of
    covalent radii. ``volume_per_atom``: smallest and
    largest, Å³. ``max_force``: largest |F| on one atom, eV/Å, of the forces given.

    :raises ValueError: for bounds that are not positive, or an inverted range.
    """

    min_distance: float | Mapping[str, float] | None = None
    max_neighbour_distance: float | None = None
    max_neighbour_factor: float | None = None
    volume_per_atom: tuple[float, float] | None = None
    max_force: float | None = None

    def __post_init__(self) -> None:
        numbers: dict[str, float | None] = {"max_neighbour_distance": self.max_neighbour_distance}
        numbers["max_neighbour_factor"] = self.max_neighbour_factor
        numbers["max_force"] = self.max_force
        if isinstance(self.min_distance, Mapping):
            for key, value in self.min_distance.items():
                if len(str(key).split("-")) != 2:
                    raise ValueError(f"min_distance: {key!r} is not a pair of elements, expected e.g. 'Si-O'")
                numbers[f"min_distance of {key}"] = value
        else:
            numbers["min_distance"] = self.min_distance
        for name, number in numbers.items():
            if number is not None and not 0 < number < np.inf:
                raise ValueError(f"{name} is {number!r}, expected a number above 0")
        if self.volume_per_atom is not None:
            low, high = self.volume_per_atom
            if not 0 <= low < high:
                raise ValueError(f"volume_per_atom is {self.volume_per_atom!r}, expected a smaller and a larger number")


def shortest_distances(atoms: Atoms, factor: float) -> dict[str, float] | None:
    """Return ``factor`` times the sum of the covalent radii (Å, of ASE) for every pair of elements in ``atoms``; None for 0."""
    radii = {atom.symbol: covalent_radii[atom.number] for atom in atoms}
    pairs = combinations_with_replacement(sorted(radii), 2)
    return {f"{a}-{b}": factor * float(radii[a] + radii[b]) for a, b in pairs} if factor > 0 else None


def why_absurd(atoms: Atoms, limits: Limits, forces: np.ndarray | None = None) -> str | None:
    """Return the reason why a cell is not worth a calculation, or None.

    :param forces: (n, 3) predicted forces, eV/Å, if there are any.
    """
    if len(atoms) == 0:
        return "has no atoms"
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "a coordinate is not a finite number"
    volume = abs(np.linalg.det(atoms.cell.array)) / len(atoms)
    if limits.volume_per_atom is not None:
        low, high = limits.volume_per_atom
        if volume < low:
            return f"collapsed: {volume:.3g} Å³ per atom, less than {low:g}"
        if volume > high:
            return f"evaporated: {volume:.3g} Å³ per atom, more than {high:g}"
    if volume == 0:
        return "cell is flat"
    if limits.min_distance is not None:
        reason = _too_close(atoms, limits.min_distance)
        if reason is not None:
            return reason
    if limits.max_neighbour_distance is not None:
        bonded = np.unique(neighbours(atoms, limits.max_neighbour_distance)[0])
        if len(bonded) < len(atoms):
            lost = len(atoms) - len(bonded)
            return f"fell apart: {lost} of {len(atoms)} atoms have no neighbour within {limits.max_neighbour_distance:g} Å"
    if limits.max_neighbour_factor is not None and (lost := int(alone(atoms, limits.max_neighbour_factor).sum())):
        within = f"within {limits.max_neighbour_factor:g} sums of covalent radii"
        return f"fell apart: {lost} of {len(atoms)} atoms have no neighbour {within}"
    if limits.max_force is not None and forces is not None:
        forces = np.asarray(forces, dtype=float).reshape(len(atoms), 3)
        largest = float(np.linalg.norm(forces, axis=1).max())
        if not largest <= limits.max_force:
            return f"force of {largest:.3g} eV/Å, more than {limits.max_force:g}"
    return None


def _too_close(atoms: Atoms, minimum: float | Mapping[str, float]) -> str | None:
    pairs = {frozenset(key.split("-")): value for key, value in minimum.items()} if isinstance(minimum, Mapping) else {}
    cutoff = max(pairs.values(), default=0.0) if isinstance(minimum, Mapping) else float(minimum)
    if cutoff == 0.0:
        return None
    first, second, distances, _ = neighbours(atoms, cutoff)
    once = np.flatnonzero(first <= second)
    symbols = atoms.get_chemical_symbols()
    for k in once[np.argsort(distances[once], kind="stable")]:
        a, b = symbols[first[k]], symbols[second[k]]
        least = pairs.get(frozenset((a, b)), 0.0) if isinstance(minimum, Mapping) else cutoff
        if distances[k] < least:
            return f"{a} and {b} are {distances[k]:.3f} Å apart, less than {least:g}"
    return None


def sane(frames: Sequence[Atoms], limits: Limits, forces: Sequence[np.ndarray | None] | None = None) -> Selection:
    """Return the frames within ``limits`` in their order, and the reason for each of the others."""
    selection = Selection()
    for index, atoms in enumerate(frames):
        reason = why_absurd(atoms, limits, None if forces is None else forces[index])
        if reason is None:
            selection.kept.append(index)
        else:
            selection.rejected[index] = reason
    return selection


@dataclass(frozen=True)
class LabelLimits:
    """Bounds of a label that may be right.

    ``max_force``: largest |F| on one atom, eV/Å. ``max_energy``: largest distance of an energy from that of the elements in the
    other frames, eV/atom; no solid is bound by a third of it. ``max_virial``: largest component, eV/atom, which is a few TPa.
    Pairs in vacuum, which are made to show how two atoms repel, may have ``vacuum_factor`` times that, but no lower energy.
    """

    max_force: float = 200.0
    max_energy: float = 50.0
    max_virial: float = 200.0
    vacuum_factor: float = 10.0


def absurd_labels(frames: Sequence[Atoms], limits: LabelLimits | None = None) -> dict[int, str]:
    """Return why a frame is not fitted without the user's word, by the index of the frame: which label, its value, the limit.

    :param frames: those that are fitted together; what has no label is left out.
    """
    limits = limits or LabelLimits()
    residuals = _above_elements(frames)
    return {
        i: reason for i, atoms in enumerate(frames) if (reason := _why_absurd_label(atoms, residuals.get(i), limits)) is not None
    }


def _why_absurd_label(atoms: Atoms, residual: float | None, limits: LabelLimits) -> str | None:
    factor = limits.vacuum_factor if is_in_vacuum(atoms) else 1.0
    if residual is not None and not -limits.max_energy <= residual <= factor * limits.max_energy:
        side, limit = ("below", limits.max_energy) if residual < 0 else ("above", factor * limits.max_energy)
        return f"energy {abs(residual):.4g} eV/atom {side} that of its elements in the other frames, limit {limit:g}"
    forces = atoms.arrays.get(f"{REFERENCE}_forces")
    if forces is not None and not (largest := float(np.linalg.norm(forces, axis=1).max())) <= factor * limits.max_force:
        return f"force of {largest:.4g} eV/Å, limit {factor * limits.max_force:g}"
    virial = atoms.info.get(f"{REFERENCE}_virial")
    if virial is not None and not (largest := float(np.abs(virial).max()) / len(atoms)) <= factor * limits.max_virial:
        return f"virial of {largest:.4g} eV/atom, limit {factor * limits.max_virial:g}"
    return None


def _above_elements(frames: Sequence[Atoms]) -> dict[int, float]:
    """Return the energies above those of the elements, eV/atom, by index.

    The elements have the energies by which the sum of the distances of all frames is least: what a few frames have does not
    change them, as it does with least squares.
    """
    labelled = [i for i, atoms in enumerate(frames) if f"{REFERENCE}_energy" in atoms.info]
    bulk = [i for i in labelled if not is_in_vacuum(frames[i])] or [i for i in labelled if len(frames[i]) > 1]
    if not bulk:
        return {}
    elements = sorted({int(z) for i in labelled for z in frames[i].numbers})
    rows = np.array([[np.mean(frames[i].numbers == z) for z in elements] for i in labelled])
    energies = np.array([frames[i].info[f"{REFERENCE}_energy"] / len(frames[i]) for i in labelled])
    known = np.isin(labelled, bulk)
    weights = np.ones(int(known.sum()))
    for _ in range(50):  # iteratively reweighted
        root = np.sqrt(weights)
        of_elements = np.linalg.lstsq(rows[known] * root[:, None], energies[known] * root, rcond=1e-10)[0]
        weights = 1.0 / np.maximum(np.abs(energies[known] - rows[known] @ of_elements), 1e-2)
    covered = (rows[:, ~rows[known].any(axis=0)] == 0).all(axis=1)
    above = energies - rows @ of_elements
    return {i: float(value) for i, value, judged in zip(labelled, above, covered, strict=True) if judged}
