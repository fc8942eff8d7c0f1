"""Which frames to label: the low in energy, the unfamiliar, the uncertain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.linalg import cholesky, eigh, solve_triangular
from scipy.spatial.distance import cdist

from aiida_gaprss import frames as fr
from aiida_gaprss.selection import Selection

#: What is left of a vector's length when all of it lies in the span of others but for rounding.
NOTHING_NEW = 1e-6

#: Of ``maxvol``: differences of vectors that say nothing, in parts of their length.
NOISE = 1e-3


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

    Farthest-point sampling; the first is the lowest index if nothing is known. (skmatter's FPS takes known points only as rows of
    its own matrix, and measures them against each other: five times the work for a database of 5,000.)

    :param fingerprints: (m, k) fingerprints of the candidates.
    :param known: (l, k) fingerprints of what is in the database.
    :param threshold: stop when the farthest is no farther than this.
    """
    points = np.asarray(fingerprints, dtype=float)
    distance = nearest(points, known)
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


def nearest(points: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """Return the Euclidean distance of every row of ``points`` (m, k) to the nearest of ``known`` (l, k), inf without any."""
    if known is None or len(known) == 0:
        return np.full(len(points), np.inf)
    return np.asarray(cdist(points, known)).min(axis=1, initial=np.inf)


def cur(vectors: np.ndarray, n: int, known: np.ndarray | None = None, known_variance: float = 1.0) -> Selection:
    """Return up to ``n`` frames by leverage score, against what the database holds.

    First the directions of the database are taken out of all vectors: the leading right singular vectors of ``known``
    that carry the fraction ``known_variance`` of its (uncentred) variance. Then, each time, the frame of largest leverage
    score u_i² is taken, u the leading left singular vector of what is left, and its direction is taken out of all
    others; frames of which nothing is left are not taken. Scores: Mahoney and Drineas, PNAS 106, 697 (2009), eq. 3 with
    k = 1; computed anew after every pick: Imbalzano et al., J. Chem. Phys. 148, 241730 (2018). Nothing is drawn; of equals the
    first is taken. (skmatter's CUR picks the same, but knows no database, and goes on when only rounding errors are left.)

    :param vectors: (m, k) vectors of the candidates.
    :param known: (l, k) vectors of what is in the database.
    :raises ValueError: for a fraction outside 0 … 1, or a vector that is not finite.
    """
    if not 0 < known_variance <= 1:
        raise ValueError(f"known_variance is {known_variance!r}, expected a fraction above 0, at most 1")
    left = np.array(vectors, dtype=float)
    if not np.isfinite(left).all() or (known is not None and not np.isfinite(known).all()):
        raise ValueError("vectors: expected finite numbers")
    selection = Selection()
    lengths = np.linalg.norm(left, axis=1)
    if known is not None and len(known) and len(left):
        directions = _leading(np.asarray(known, dtype=float), known_variance)
        left -= (left @ directions.T) @ directions
    new = np.linalg.norm(left, axis=1) > NOTHING_NEW * lengths
    while len(selection.kept) < n and new.any():
        left[~new] = 0.0
        score = _leading_left(left) ** 2
        # Rounding must not decide between equals.
        index = int(np.argmax(score >= score.max() * (1 - 1e-9)))
        selection.kept.append(index)
        direction = left[index] / np.linalg.norm(left[index])
        left -= np.outer(left @ direction, direction)
        new &= np.linalg.norm(left, axis=1) > NOTHING_NEW * lengths
        new[index] = False
    for index in sorted(set(range(len(left))) - set(selection.kept)):
        selection.rejected[index] = f"not among the {n} of largest leverage score" if new[index] else "familiar"
    return selection


def maxvol(vectors: np.ndarray, n: int, known: np.ndarray | None = None, grade: float = 1.0) -> Selection:
    """Return up to ``n`` frames of the largest determinant, against what the database holds: greedy D-optimal design.

    Each time the frame is taken by which det(A) grows most, A = Σ v vᵀ over the vectors of the database and those taken, plus
    (:data:`NOISE` times their root mean square length)² on the diagonal. It grows by the factor 1 + γ² with γ² = vᵀ A⁻¹ v. γ is
    the smallest Euclidean norm of coefficients that make v of the vectors that are there, as the extrapolation grade of
    Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017), is their largest absolute value; one of the database has at
    most 1: up to 1, a frame is interpolated. The greedy choice has at least 63 % of the logarithm that is possible (Nemhauser,
    Wolsey and Fisher, Math. Program. 14, 265 (1978)). Nothing is drawn; of equals the first is taken.

    :param vectors: (m, k) vectors of the candidates; ``known``: (l, k), of what is in the database.
    :param grade: frames of a γ no larger than this are familiar.
    :raises ValueError: for a vector that is not finite.
    """
    rows = np.asarray(vectors, dtype=float)
    if not np.isfinite(rows).all() or (known is not None and not np.isfinite(known).all()):
        raise ValueError("vectors: expected finite numbers")
    left, selection = _whitened(rows, known), Selection()
    growth = np.einsum("ij,ij->i", left, left)
    while len(selection.kept) < min(n, len(rows)) and growth.max() > grade**2:
        # Rounding must not decide between equals.
        index = int(np.argmax(growth >= growth.max() * (1 - 1e-9)))
        selection.kept.append(index)
        # (1 + w wᵀ)^(-1/2), by which the others are whitened against the one that is taken, too.
        direction = left[index] / np.sqrt(growth[index])
        left -= np.outer(left @ direction, direction) * (1 - 1 / np.sqrt(1 + growth[index]))
        growth = np.einsum("ij,ij->i", left, left)
        growth[selection.kept] = 0.0
    for index in sorted(set(range(len(rows))) - set(selection.kept)):
        familiar = growth[index] <= grade**2
        selection.rejected[index] = "familiar" if familiar else f"not among the {n} that widen the database most"
    return selection


def _whitened(rows: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """Return L⁻¹ v for every row v, with L Lᵀ = A of :func:`maxvol`; zeros where there are no lengths."""
    there = np.asarray(known, dtype=float) if known is not None and len(known) else rows[:0]
    square = np.mean(np.square(np.concatenate([rows, there])).sum(axis=1)) if len(rows) else 0.0
    if not square > 0:
        return np.zeros_like(rows)
    precision = there.T @ there + NOISE**2 * square * np.eye(rows.shape[1])
    return np.asarray(solve_triangular(cholesky(precision, lower=True), rows.T, lower=True)).T


def _leading(rows: np.ndarray, fraction: float) -> np.ndarray:
    """Return the leading right singular vectors, as rows, that carry a fraction of the variance of ``rows``."""
    _, values, directions = np.linalg.svd(rows, full_matrices=False)
    carried = np.cumsum(values**2)
    rank = int(np.count_nonzero(values > NOTHING_NEW * values.max(initial=0.0)))
    return np.asarray(directions[: min(rank, int(np.searchsorted(carried, fraction * carried[-1])) + 1)])


def _leading_left(rows: np.ndarray) -> np.ndarray:
    """Return the leading left singular vector of ``rows``, from the smaller of its two Gram matrices."""
    wide = rows.shape[1] >= len(rows)
    gram = rows @ rows.T if wide else rows.T @ rows
    vector = eigh(gram, subset_by_index=[len(gram) - 1, len(gram) - 1])[1][:, 0]
    left = vector if wide else rows @ vector
    return np.asarray(left / np.linalg.norm(left))


def deviation(atoms: Atoms) -> float:
    """Return the largest predicted standard deviation of a local energy of a frame, eV.

    :raises ValueError: if the frame does not carry variances.
    """
    variance = atoms.arrays.get(f"{fr.PREDICTION}_local_variance")
    if variance is None:
        name = atoms.info.get("frame_id", "")
        raise ValueError(f"variance: candidate {name} has no PRED_local_variance; run gaprss.evaluate with variances: true")
    return float(np.sqrt(np.max(variance).clip(0)))


def most_uncertain(deviations: Sequence[float] | np.ndarray, n: int) -> Selection:
    """Return the ``n`` frames of largest predicted uncertainty (eV), largest first."""
    order = [int(i) for i in np.argsort(-np.asarray(deviations, dtype=float), kind="stable")]
    return Selection(order[:n], {i: f"not among the {n} most uncertain" for i in order[n:]})


def uncertain(
    deviations: Sequence[float] | np.ndarray, fingerprints: np.ndarray, n: int, known: np.ndarray | None = None
) -> Selection:
    """Return up to ``n`` frames, each time the one of largest σ d: that a potential is unsure of, and that differs.

    What a potential does not know comes in clusters, of which all frames have a large σ, and one label says most: by d, the
    distance to the nearest frame that is known or already chosen, the others of a cluster are left. Without any, the largest σ
    is taken first.

    :param deviations: (m,) σ, predicted standard deviations.
    :param fingerprints: (m, k) fingerprints of the candidates; ``known``: (l, k), of what is in the database.
    """
    points, sigma = np.asarray(fingerprints, dtype=float), np.asarray(deviations, dtype=float)
    distance, selection = nearest(points, known), Selection()
    while len(selection.kept) < min(n, len(points)):
        score = sigma * np.where(np.isinf(distance), 1.0, distance)
        index = int(np.argmax(score))
        if not score[index] > 0:
            break
        selection.kept.append(index)
        distance = np.minimum(distance, np.linalg.norm(points - points[index], axis=1))
    rest = sorted(set(range(len(points))) - set(selection.kept))
    selection.rejected = {index: f"not among the {n} most uncertain that differ" for index in rest}
    return selection
