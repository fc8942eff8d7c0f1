"""Errors of a potential: ``PRED_*`` against ``REF_*`` of the same frames.

Energies and virials are compared per atom, in meV/atom; forces by component, in eV/Å. A virial is symmetric, so its six
independent components count, each once. A frame that lacks one of the two labels is left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss.analysis.hull import HullError, above_hull
from aiida_gaprss.frames import PREDICTION, REFERENCE

UNITS = {"energy": "meV/atom", "forces": "eV/Å", "virial": "meV/atom"}
QUANTITIES = tuple(UNITS)
MEASURES = ("rmse", "mae", "largest")

#: The same units in names of numbers.
IN_NAMES = {"energy": "meV_per_atom", "forces": "eV_per_A", "virial": "meV_per_atom"}

#: xx, yy, zz, yz, xz, xy of the nine numbers of a virial, and their transposed partners.
_VOIGT = ([0, 4, 8, 5, 2, 1], [0, 4, 8, 7, 6, 3])


@dataclass(frozen=True)
class ErrorStatistics:
    """Errors of one quantity, in the unit of :data:`UNITS`.

    ``frames`` had both labels, ``missing`` had not; ``values`` is the number of components compared.
    """

    mae: float | None
    rmse: float | None
    largest: float | None
    values: int
    frames: int
    missing: int


@dataclass(frozen=True)
class Errors:
    """Errors of energies, forces and virials over a set of frames."""

    frames: int
    energy: ErrorStatistics
    forces: ErrorStatistics
    virial: ErrorStatistics

    def as_dict(self) -> dict[str, Any]:
        """Return everything as nested plain data."""
        return asdict(self)

    def flat(self) -> dict[str, float]:
        """Return the errors there are as ``{'energy_rmse': ..., 'energy_mae': ..., 'forces_rmse': ...}``."""
        out: dict[str, float] = {}
        for quantity in QUANTITIES:
            for measure in ("rmse", "mae"):
                value = getattr(getattr(self, quantity), measure)
                if value is not None:
                    out[f"{quantity}_{measure}"] = value
        return out


def errors_from(told: Mapping[str, Any]) -> Errors:
    """Return the errors that :meth:`Errors.as_dict` has written.

    :raises TypeError, KeyError: if it has not.
    """
    return Errors(told["frames"], **{quantity: ErrorStatistics(**told[quantity]) for quantity in QUANTITIES})


def per_atom(atoms: Atoms, quantity: str, prefix: str) -> np.ndarray | None:
    """Return a label as it is compared, a flat array, or None if the frame lacks it.

    Energy (1 number) and virial (6) in eV/atom, forces (3·natoms) in eV/Å.
    """
    store = atoms.arrays if quantity == "forces" else atoms.info
    value = store.get(f"{prefix}_{quantity}")
    if value is None:
        return None
    numbers = np.asarray(value, dtype=float).reshape(-1)
    if quantity == "forces":
        return numbers
    if quantity == "virial":
        numbers = 0.5 * (numbers[_VOIGT[0]] + numbers[_VOIGT[1]])
    return numbers / len(atoms)


def pairs(frames: Iterable[Atoms], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference and the predicted values of all frames that have both, as two flat arrays.

    :param quantity: ``energy`` (eV/atom), ``forces`` (eV/Å) or ``virial`` (eV/atom).
    """
    both = [
        (reference, prediction)
        for atoms in frames
        if (reference := per_atom(atoms, quantity, REFERENCE)) is not None
        and (prediction := per_atom(atoms, quantity, PREDICTION)) is not None
    ]
    if not both:
        return np.zeros(0), np.zeros(0)
    return np.concatenate([r for r, _ in both]), np.concatenate([p for _, p in both])


def _statistics(frames: Sequence[Atoms], quantity: str) -> ErrorStatistics:
    store = "arrays" if quantity == "forces" else "info"
    complete = [a for a in frames if all(f"{p}_{quantity}" in getattr(a, store) for p in (REFERENCE, PREDICTION))]
    reference, prediction = pairs(complete, quantity)
    missing = len(frames) - len(complete)
    if not reference.size:
        return ErrorStatistics(None, None, None, 0, 0, missing)
    error = np.abs(prediction - reference) * (1.0 if quantity == "forces" else 1000.0)
    return ErrorStatistics(
        mae=float(error.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        largest=float(error.max()),
        values=int(error.size),
        frames=len(complete),
        missing=missing,
    )


def errors(frames: Iterable[Atoms]) -> Errors:
    """Return the errors over all ``frames``."""
    kept = list(frames)
    energy, forces, virial = (_statistics(kept, quantity) for quantity in QUANTITIES)
    return Errors(len(kept), energy, forces, virial)


#: Edges of the intervals of energy above the hull, eV/atom.
HEIGHTS = (0.1, 0.3, 1.0, 3.0)


def height_label(height: float) -> str:
    """Return the name of the interval of :data:`HEIGHTS` that a distance above the hull (eV/atom) lies in."""
    if np.isnan(height):
        return "not on a hull"
    below = next((edge for edge in HEIGHTS if height <= edge), None)
    if below is None:
        return f"above {HEIGHTS[-1]:g} eV/atom"
    index = HEIGHTS.index(below)
    return f"{HEIGHTS[index - 1] if index else 0:g} to {below:g} eV/atom"


def errors_by_height(frames: Sequence[Atoms], heights: Sequence[float] | np.ndarray) -> dict[str, Errors]:
    """Return the errors by the energy of the frames above the hull.

    :param heights: eV/atom, of every frame; NaN for isolated atoms and dimers in vacuum.
    """
    labels = [height_label(float(h)) for h in heights]
    order = [height_label(h) for h in (0.0, *(edge + 1e-9 for edge in HEIGHTS), np.nan)]
    return {
        label: errors([atoms for atoms, mine in zip(frames, labels, strict=True) if mine == label])
        for label in order
        if label in labels
    }


def errors_in_groups(frames: Sequence[Atoms], others: Sequence[Atoms] = ()) -> dict[str, Any]:
    """Return the errors of ``frames`` as plain data: of all, by config type, and by the energy above the hull.

    The hull is that of ``frames`` and ``others``; ``errors_by_height`` is empty if there is none, for lack of elements.
    """
    try:
        heights = above_hull([*frames, *others])[: len(frames)]
        by_height = errors_by_height(frames, heights)
    except HullError:
        by_height = {}
    return {
        "errors": errors(frames).as_dict(),
        "errors_by_config_type": {str(k): e.as_dict() for k, e in errors_by(frames, "config_type").items()},
        "errors_by_height": {label: e.as_dict() for label, e in by_height.items()},
    }


def errors_by(frames: Iterable[Atoms], key: str | Callable[[Atoms], Any]) -> dict[Any, Errors]:
    """Return the errors of groups of frames, sorted by group.

    :param key: an info key, ``"config_type"`` or ``"generation"``, or a function of a frame. Frames without the key
        make the group ``"unknown"``, which comes last.
    """
    groups: dict[Any, list[Atoms]] = {}
    for atoms in frames:
        group = key(atoms) if callable(key) else atoms.info.get(key)
        groups.setdefault("unknown" if group is None else group, []).append(atoms)
    return {group: errors(groups[group]) for group in sorted(groups, key=lambda g: (g == "unknown", isinstance(g, str), g))}
