"""The law of what calculations cost: found again where it is known, with outliers; and how sure it is of itself."""

import numpy as np
import pytest

from aiida_gaprss.analysis.cost import Law, Time, fitted


def times(law, number, scatter=0.0, outliers=0.0, sizes=(2, 4, 8, 16, 32), seed=1):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(number):
        one = [(int(rng.choice(sizes)), float(rng.integers(1, 40)))]
        late = 10.0 if rng.random() < outliers else 1.0
        out.append(Time(one, law.of(one) * late * np.exp(scatter * rng.normal())))
    return out


@pytest.mark.parametrize("law", [Law(2.0, 1e-3, 2.3), Law(0.0, 1e-4, 3.0), Law(0.0, 1e-3, 1.2)])
def test_a_law_is_found_again(law):
    model = fitted(times(law, 40))
    assert model.law.p == pytest.approx(law.p, abs=0.08)
    for sizes in ([(8, 10.0)] * 5, [(32, 4.0)]):
        assert model.predict(sizes)[0] == pytest.approx(law.of(sizes), rel=0.1)
    assert model.scatter < 0.05


def test_outliers_change_little():
    """A tenth of the jobs waited for a disk."""
    law = Law(1.0, 1e-3, 2.5)
    model = fitted(times(law, 60, scatter=0.1, outliers=0.1))
    best, low, high = model.predict([(16, 10.0)])
    assert best == pytest.approx(law.of([(16, 10.0)]), rel=0.25)
    assert low < best < high < 2 * best


def test_bands_hold_what_they_say():
    """Of one standard deviation, they hold the truth more often than not, also where no time was measured."""
    law, inside = Law(1.0, 2e-4, 2.7), 0
    for seed in range(12):
        best, low, high = fitted(times(law, 15, scatter=0.2, seed=seed)).predict([(64, 2.0)] * 10)
        assert low < best < high
        inside += low < law.of([(64, 2.0)] * 10) < high
    assert inside >= 7


def test_frames_of_one_size():
    """There is no power to be fitted: N³, and a band that grows with the distance."""
    model = fitted(times(Law(0.0, 1e-3, 2.0), 10, sizes=(8,)))
    assert (model.law.a, model.law.p) == (0.0, 3.0)
    best, low, high = model.predict([(8, 1.0)])
    assert best == pytest.approx(1e-3 * 8**2)
    assert high / low < 1.2
    best, low, high = model.predict([(64, 1.0)])
    assert high / low > 3


def test_times_of_several_frames():
    """As of a bundle: only their sum is known."""
    law = Law(0.02, 1e-3, 2.0)
    groups = [[(n, float(k)) for k in range(1, 1 + count)] for n in (2, 4, 8, 16) for count in (3, 9)]
    model = fitted([Time(group, law.of(group)) for group in groups])
    assert model.law.p == pytest.approx(2.0, abs=0.2)
    assert model.predict([(8, 3.0)] * 7)[0] == pytest.approx(law.of([(8, 3.0)] * 7), rel=0.05)


def test_steps_of_trajectories_begin_once():
    model = fitted(times(Law(5.0, 1e-2, 2.0), 40))
    assert model.predict([(8, 1000.0)], "step")[0] == pytest.approx(1e-2 * 64 * 1000, rel=0.2)
    assert model.predict([]) == (0.0, 0.0, 0.0)


def test_too_few_times():
    assert fitted(times(Law(1.0, 1.0, 2.0), 2)) is None
    assert fitted([Time([(2, 1.0)], 0.0)] * 5) is None
