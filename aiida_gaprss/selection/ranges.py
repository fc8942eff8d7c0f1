"""The range classifier: a frame whose features all lie inside the range already seen teaches nothing new.

From the training of potentials for global optimisation with USPEX by Kruglov and co-workers: features are the sums of
1/r^k over pairs, k = 1 … 15, angular functions, and the volume. Sums have a smooth cutoff here instead of Ewald's method,
and all features are means over the atoms, so that a repeated cell has those of the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from aiida_gaprss.selection import Selection
from aiida_gaprss.selection.neighbours import neighbours, triplets

#: Exponents k of the sums over pairs.
POWERS = np.arange(1, 16)

#: λ, ξ and η·cutoff² of the angular functions.
SIGNS, EXPONENTS, WIDTHS = (-1.0, 1.0), (1, 2, 4, 8), (0.1, 1.0, 3.0, 10.0)

#: Of the largest number of a range: so far outside is rounding.
ROUNDING = 1e-8


def features(
    atoms: Atoms,
    species: Sequence[int],
    kinds: Sequence[str] = ("pairs", "angles", "volume"),
    cutoff: float = 6.0,
) -> np.ndarray:
    """Return the features of a cell: 48 numbers for one element, 15 more for every further pair of elements.

    pairs, for each pair of elements: (1/N) Σ_{i<j} f(r_ij) (1 Å/r_ij)^k, k = 1 … 15, f the cosine cutoff.
    angles: (1/N) Σ_i Σ_{j<k} ((1 + λ cos θ_jik)/2)^ξ exp(−η(r_ij² + r_ik² + r_jk²)) f(r_ij) f(r_ik) f(r_jk), over all elements.
    volume: Å³ per atom.

    :param species: atomic numbers that may occur; frames that are compared need the same.
    :param cutoff: Å, of f.
    """
    n = len(atoms)
    first, second, distances, vectors = neighbours(atoms, cutoff)
    smooth = 0.5 * (1 + np.cos(np.pi * distances / cutoff))
    parts = []
    if "pairs" in kinds:
        sums = smooth[:, None] * distances[:, None] ** -POWERS.astype(float)
        low = np.minimum(atoms.numbers[first], atoms.numbers[second])
        high = np.maximum(atoms.numbers[first], atoms.numbers[second])
        for pair in combinations_with_replacement(sorted(species), 2):
            parts.append(sums[(low == pair[0]) & (high == pair[1])].sum(axis=0) / (2 * n))
    if "angles" in kinds:
        a, b = triplets(first, n)
        third = np.linalg.norm(vectors[a] - vectors[b], axis=1)
        a, b, third = (side[(third < cutoff)] for side in (a, b, third))
        cosine = np.einsum("nx,nx->n", vectors[a], vectors[b]) / (distances[a] * distances[b])
        squares = (distances[a] ** 2 + distances[b] ** 2 + third**2) / cutoff**2
        weight = smooth[a] * smooth[b] * 0.5 * (1 + np.cos(np.pi * third / cutoff))
        radial = np.array([weight * np.exp(-width * squares) for width in WIDTHS])
        angular = np.array([((1 + sign * cosine) / 2).clip(0) ** power for sign in SIGNS for power in EXPONENTS])
        parts.append((angular @ radial.T).ravel() / n)
    if "volume" in kinds:
        parts.append(np.array([atoms.get_volume() / n]))
    return np.concatenate(parts)


def outside(rows: np.ndarray, known: np.ndarray | None = None) -> Selection:
    """Keep, in their order, the rows of which a component lies outside the range of those before them and of ``known``.

    Each row kept widens the range.

    :param rows: (n, m) features of the candidates.
    :param known: (l, m) features of the database.
    """
    rows = np.asarray(rows, dtype=float)
    low = np.full(rows.shape[1:], np.inf) if known is None or not len(known) else np.min(known, axis=0)
    high = np.full(rows.shape[1:], -np.inf) if known is None or not len(known) else np.max(known, axis=0)
    selection = Selection()
    for index, row in enumerate(rows):
        room = ROUNDING * np.maximum(abs(low), abs(high))
        if np.isfinite(low).all() and ((low - room <= row) & (row <= high + room)).all():
            selection.rejected[index] = "every feature is inside the range already seen"
            continue
        selection.kept.append(index)
        low, high = np.minimum(low, row), np.maximum(high, row)
    return selection
