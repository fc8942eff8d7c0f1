"""Does the spread among the members of a committee tell their error?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from scipy.stats import spearmanr

from aiida_gaprss.analysis.errors import per_atom
from aiida_gaprss.frames import PREDICTION, REFERENCE

#: Spreads and errors (meV/atom, eV/Å) that differ by less are the same.
ROUNDING = 1e-9
#: Where both are smaller, a force is zero by symmetry, which any potential gets right.
ZERO = 1e-6


def spread(members: Sequence[Sequence[Atoms]]) -> dict[str, Any]:
    """Compare the standard deviation among the members with the error of their mean.

    Energies count by frame (meV/atom). Forces count by atom (eV/Å): the root of the summed variance of the three components, and
    the length of the error of the mean force.

    :param members: the predictions of each, of the same frames.
    :returns: of ``energy`` and ``forces``: ``spread`` and ``error`` (root mean squares), ``values`` (their number), and their
        ``spearman`` (without those that are zero by symmetry; None if one of them is constant, or there are fewer than three);
        ``frames``, the same of every frame.
    :raises ValueError: if there are fewer than two members, or no frame that all have predicted.
    """
    if len(members) < 2:
        raise ValueError(f"a committee needs at least two members, got {len(members)}")
    by_id = [{str(a.info["frame_id"]): a for a in frames} for frames in members]
    common = [name for name in by_id[0] if all(name in others for others in by_id[1:])]
    if not common:
        raise ValueError("there is no frame that all members have predicted")
    every: dict[str, list[np.ndarray]] = {"energy": [], "forces": []}
    rows = []
    for name in common:
        row: dict[str, Any] = {"frame_id": name, "config_type": by_id[0][name].info.get("config_type")}
        for quantity, found in every.items():
            labels = [per_atom(frames[name], quantity, PREDICTION) for frames in by_id]
            reference = per_atom(by_id[0][name], quantity, REFERENCE)
            if reference is None or any(label is None for label in labels):
                continue
            predicted = np.array(labels)
            both = np.array([predicted.std(axis=0, ddof=1), predicted.mean(axis=0) - reference])
            both = 1000.0 * np.abs(both) if quantity == "energy" else np.linalg.norm(both.reshape(2, -1, 3), axis=2)
            found.append(both)
            row |= dict(zip((f"{quantity}_spread", f"{quantity}_error"), map(float, _rms(both)), strict=True))
        rows.append(row)
    out: dict[str, Any] = {"members": len(members), "frames": rows}
    for quantity, found in every.items():
        if found:
            values = np.concatenate(found, axis=1)
            wide, error = _rms(values)
            out[quantity] = {
                "spread": float(wide),
                "error": float(error),
                "spearman": _correlation(*values),
                "values": values.shape[1],
            }
    return out


def _rms(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((values**2).mean(axis=1)))


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    matters = np.maximum(first, second) > ZERO
    first, second = first[matters], second[matters]
    if len(first) < 3 or min(np.ptp(first), np.ptp(second)) < ROUNDING:
        return None
    return float(spearmanr(first, second).statistic)
