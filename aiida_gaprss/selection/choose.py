"""Which frames to label: the low in energy, and the unfamiliar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aiida_gaprss.selection import Selection


def lowest(energies: Sequence[float] | np.ndarray, n: int) -> Selection:
    """Return the ``n`` frames of lowest energy (eV/atom), lowest first."""
    order = [int(i) for i in np.argsort(np.asarray(energies, dtype=float), kind="stable")]
    return Selection(order[:n], {i: f"not among the {n} lowest in energy" for i in order[n:]})


def flat_boltzmann(
    energies: Sequence[float] | np.ndarray, n: int, kt: float, rng: np.random.Generator, bins: int = 10
) -> Selection:
    """Draw ``n`` frames without repetition, evenly in energy times a Boltzmann factor.

    p_i ∝ exp(−(E_i − E_min)/kT) / h(E_i) with h the histogram of the energies: flat-histogram Boltzmann bias of
    Bernstein, Csányi and Deringer, npj Comput. Mater. 5, 99 (2019).

    :param energies: (enthalpies) eV/atom.
    :param kt: temperature of the bias, eV/atom; that work lowers it 0.3, 0.2, 0.1 over the generations.
    :raises ValueError: for a temperature that is not positive or an energy that is not finite.
    """
    values = np.asarray(energies, dtype=float)
    if not kt > 0:
        raise ValueError(f"kt is {kt!r}, expected a temperature above 0 eV/atom")
    if not np.isfinite(values).all():
        raise ValueError(f"energies: number {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    if len(values) == 0 or n < 1:
        return Selection([], {i: "none asked for" for i in range(len(values))})
    counts, edges = np.histogram(values, bins=bins)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    logarithm = -(values - values.min()) / kt - np.log(counts[place])
    # The n largest of log p + Gumbel noise are a draw without replacement; no probability can underflow to zero.
    order = np.argsort(-(logarithm + rng.gumbel(size=len(values))), kind="stable")
    kept = [int(i) for i in order[:n]]
    return Selection(kept, {int(i): "not drawn by energy" for i in np.sort(order[n:])})


def farthest(fingerprints: np.ndarray, n: int, known: np.ndarray | None = None, threshold: float = 0.0) -> Selection:
    """Return up to ``n`` frames, each time the one farthest from all known and already chosen.

    Farthest-point sampling; the first is the lowest index if nothing is known.

    :param fingerprints: (m, k) fingerprints of the candidates.
    :param known: (l, k) fingerprints of what is in the database.
    :param threshold: stop when the farthest is no farther than this.
    """
    points = np.asarray(fingerprints, dtype=float)
    distance = np.full(len(points), np.inf)
    for row in () if known is None else np.asarray(known, dtype=float):
        distance = np.minimum(distance, np.linalg.norm(points - row, axis=1))
    selection = Selection()
    while len(selection.kept) < min(n, len(points)):
        index = int(np.argmax(distance))
        if distance[index] <= threshold:
            break
        selection.kept.append(index)
        distance = np.minimum(distance, np.linalg.norm(points - points[index], axis=1))
    for index in sorted(set(range(len(points))) - set(selection.kept)):
        familiar = distance[index] <= threshold
        selection.rejected[index] = "familiar" if familiar else f"not among the {n} least familiar"
    return selection
