"""Frames that say the same thing twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiida_gaprss.selection import Selection


def unique(
    fingerprints: np.ndarray,
    tolerance: float,
    energies: Sequence[float] | np.ndarray | None = None,
    known: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> Selection:
    """Keep one frame of every group of equals: the one of lowest energy, or the first.

    :param fingerprints: (n, m), one row per frame.
    :param tolerance: frames whose fingerprints are no farther apart (Euclidean) are equal.
    :param energies: eV/atom, of the frames; the kept are returned in the order of energy.
    :param known: (k, m) fingerprints of frames that need no equal either.
    :param names: what the frames are called in the reasons; by default they are counted.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance!r}, expected 0 or more")
    points = np.asarray(fingerprints, dtype=float)
    order = range(len(points)) if energies is None else np.argsort(np.asarray(energies, dtype=float), kind="stable")
    selection = Selection()
    for index in map(int, order):
        if known is not None and len(known):
            distances = np.linalg.norm(np.asarray(known) - points[index], axis=1)
            if distances.min() <= tolerance:
                selection.rejected[index] = f"duplicate of known frame {int(distances.argmin())}"
                continue
        equal = np.linalg.norm(points[selection.kept] - points[index], axis=1) <= tolerance
        if equal.any():
            other = selection.kept[int(equal.argmax())]
            selection.rejected[index] = f"duplicate of frame {names[other] if names else other}"
        else:
            selection.kept.append(index)
    return selection
