import numpy as np
import pytest

from aiida_gaprss.analysis.pareto import front


def dominated(costs, i):
    return any(
        all(a <= b for a, b in zip(other, costs[i], strict=True)) and any(a < b for a, b in zip(other, costs[i], strict=True))
        for other in costs
    )


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_brute_force(dimensions, seed):
    """Whole numbers, so that points share a cost or coincide."""
    costs = np.random.default_rng(seed).integers(0, 8, (40, dimensions)).tolist()
    found = front(costs)
    assert sorted(found) == [i for i in range(40) if not dominated(costs, i)]
    assert [costs[i][0] for i in found] == sorted(costs[i][0] for i in found)


def test_failures_are_never_on_it():
    assert front([(1.0, np.inf), (2.0, 3.0), (np.nan, 0.0)]) == [1]
    assert front([(np.inf, np.inf)]) == []
    assert front([]) == []
    assert front([(1, 1), (1, 1)]) == [0, 1]
