"""What a calculation costs by its atoms and k-points: a + b Nᵖ n_k, fitted to times that were measured.

N atoms, n_k k-points. Plane-wave DFT takes N² for few atoms (transforms), N³ for many (orthogonalisation); each calculation
begins with what does not depend on them. The residuals are those of the logarithms, with a loss that outliers change little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares

#: So many measured times make a fit; of fewer, nothing is said.
LEAST = 3
#: Ratio of the largest to the smallest size from which the power is fitted; with less it is 3, and there is no a.
RANGE, CUBIC = 1.8, 3.0
#: To what the power is drawn, and how much, as one time would; where it may be.
POWER, SURE, BOUNDS = 2.5, 0.5, (0.5, 3.5)
#: Scatter of the logarithm from which a time counts as an outlier.
OUTLIER = 0.3
#: Fits of the same times drawn anew, and the share of them beyond each end of a band: one standard deviation.
DRAWS, TAIL = 60, 0.16

#: (N, n_k) of the frames of one time.
Sizes = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Time:
    """What some frames took together, core-seconds."""

    sizes: Sizes
    seconds: float


@dataclass(frozen=True)
class Law:
    """A law of the cost of one frame, in core-seconds: a + b Nᵖ n_k."""

    a: float
    b: float
    p: float

    def of(self, sizes: Sizes) -> float:
        """Return what frames cost together."""
        n, k = np.array(sizes, dtype=float).reshape(-1, 2).T
        return float(np.sum(self.a + self.b * n**self.p * k))


@dataclass(frozen=True)
class CostModel:
    """A law, how far single times are from it (standard deviation of the logarithm), and laws of the same times drawn anew."""

    law: Law
    scatter: float
    others: list[Law] = field(repr=False)
    times: int
    smallest: int
    largest: int

    def predict(self, sizes: Sizes, law: str = "whole") -> tuple[float, float, float]:
        """Return what frames cost together, core-seconds, with the ends of a band: one standard deviation.

        The band has the scatter of single times once, for frames of one kind may all be as far off, and what other draws of the
        times would have said.

        :param law: ``whole``, or ``step``: without what each calculation begins with, as of one step of many.
        """
        if not sizes:
            return 0.0, 0.0, 0.0
        laws = [Law(0.0 if law == "step" else one.a, one.b, one.p) for one in (self.law, *self.others)]
        best, *others = (one.of(sizes) for one in laws)
        logs = np.log(np.array(others) / best) if others else np.zeros(1)
        low, high = (np.hypot(np.quantile(side * logs, 1 - TAIL).clip(0), self.scatter) for side in (-1, 1))
        return best, float(best * np.exp(-low)), float(best * np.exp(high))


class _Measured:
    """Times as arrays: sizes of all frames, where those of each time begin, and the logarithms of the times."""

    def __init__(self, times: Sequence[Time]) -> None:
        self.n, self.k = np.array([size for time in times for size in time.sizes], dtype=float).T
        self.starts = np.cumsum([0, *(len(time.sizes) for time in times)])[:-1]
        self.logs = np.log([time.seconds for time in times])

    def residuals(self, law: Law) -> np.ndarray:
        """Return how far the logarithm of each time is from a law."""
        return np.asarray(self.logs - np.log(np.add.reduceat(law.a + law.b * self.n**law.p * self.k, self.starts)))


def fitted(times: Sequence[Time], seed: int = 1) -> CostModel | None:
    """Return the cost that times tell; None of fewer than three."""
    times = [time for time in times if time.seconds > 0 and len(time.sizes)]
    if len(times) < LEAST:
        return None
    law = _law(times)
    residuals = _Measured(times).residuals(law)
    scatter = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    rng = np.random.default_rng(seed)
    draws = [[times[n] for n in rng.integers(len(times), size=len(times))] for _ in range(DRAWS)]
    others = [_law(draw, float(np.clip(rng.normal(CUBIC, SURE), *BOUNDS))) for draw in draws]
    numbers = [n for time in times for n, _ in time.sizes]
    return CostModel(law, scatter, others, len(times), min(numbers), max(numbers))


def _law(times: Sequence[Time], power: float = CUBIC) -> Law:
    """Return the law of least distance; of times of about one size that of a power that is given, by the median."""
    measured = _Measured(times)
    if measured.n.max() < RANGE * measured.n.min():
        return Law(0.0, float(np.exp(np.median(measured.residuals(Law(0.0, 1.0, power))))), power)
    least = min(time.seconds / len(time.sizes) for time in times)
    begin = [np.log(least / 2), float(np.median(measured.residuals(Law(0.0, 1.0, POWER)))), POWER]

    def away(x: np.ndarray) -> np.ndarray:
        law = Law(float(np.exp(x[0])), float(np.exp(x[1])), float(x[2]))
        return np.append(measured.residuals(law) / OUTLIER, (x[2] - POWER) / SURE)

    bounds = ([np.log(least) - 12, -60, BOUNDS[0]], [np.log(least) + 1, 60, BOUNDS[1]])
    found = least_squares(away, begin, loss="soft_l1", bounds=bounds).x
    return Law(float(np.exp(found[0])), float(np.exp(found[1])), float(found[2]))
