"""Which of several choices are not outdone by another one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def front(costs: Sequence[Sequence[float]]) -> list[int]:
    """Return the numbers of the points that no other dominates, sorted by the first cost.

    A point dominates another if it is nowhere worse and somewhere better; of equal points, none dominates. Points with a cost
    that is not finite are never on the front.
    """
    table = np.asarray(costs, dtype=float)
    if not table.size:
        return []
    finite = np.flatnonzero(np.isfinite(table).all(axis=1))
    kept = table[finite]
    dominated = [bool(((kept <= row).all(axis=1) & (kept < row).any(axis=1)).any()) for row in kept]
    return [int(i) for i in sorted(finite[~np.array(dominated, dtype=bool)], key=lambda i: tuple(table[i]))]
