"""Labels until something holds, medians with campaigns that never got there, what is told of the lowest structures."""

from itertools import permutations

import numpy as np
import pytest

from aiida_gaprss.analysis.side_by_side import (
    Reached,
    Relaxed,
    SideBySideSettings,
    labels_until,
    median,
    of_campaign,
    of_file,
    of_lowest,
    span,
)


def test_labels_until_something_holds_to_the_end(times):
    """Against what it means: the least number of labels from which on it always holds."""
    rng = np.random.default_rng(1)
    for _ in range(times(300)):
        labels = np.cumsum(rng.integers(1, 30, rng.integers(1, 9))).tolist()
        good = (rng.random(len(labels)) < 0.6).tolist()
        holding = [n for i, n in enumerate(labels) if all(good[i:])]
        found = labels_until(labels, good)
        assert (found.labels, found.reached) == ((min(holding), True) if holding else (labels[-1], False))


def test_what_holds_once_and_no_more_was_never_reached():
    assert labels_until([50, 75, 99], [True, True, False]) == Reached(99, False)
    assert str(labels_until([50, 75, 99], [True, True, False])) == "> 99"
    assert str(labels_until([50, 75, 99], [True, False, True])) == "99"
    with pytest.raises(ValueError, match="expected a yes or no for each of one part or more, got 0 for 0"):
        labels_until([], [])


def test_median_of_campaigns_that_get_there_and_others(times):
    """The median is that of numpy when those that never got there are put above all; and it does not depend on the order."""
    rng = np.random.default_rng(2)
    for _ in range(times(300)):
        labels = rng.integers(10, 200, rng.integers(1, 7))
        values = [Reached(int(n), bool(rng.random() < 0.7)) for n in labels]
        found = median(values)
        plain = float(np.median([one.labels if one.reached else np.inf for one in values]))
        assert found.reached == np.isfinite(plain)
        assert not found.reached or found.labels == plain
        assert found == median([values[i] for i in rng.permutation(len(values))])
        low, high = span(values)
        assert low.reached == any(one.reached for one in values)
        assert high.reached == all(one.reached for one in values)
        assert not found.reached or low.labels <= found.labels
    with pytest.raises(ValueError, match="one campaign or more, got none"):
        median([])


def energies(rng, number):
    heights = np.sort(rng.random(number)) * 0.3
    heights[0] = 0.0
    return heights, rng.normal(0, 0.02, number)


def test_lowest_structures_against_a_count_of_pairs(times):
    rng = np.random.default_rng(3)
    for _ in range(times(200)):
        heights, errors = energies(rng, int(rng.integers(1, 7)))
        same = rng.random(len(heights)) < 0.8
        told = of_lowest([Relaxed(str(i), heights[i], errors[i], bool(same[i])) for i in range(len(same))], 0.001)
        kept = np.flatnonzero(same)
        assert (told["held"], told["of"]) == (same.sum(), len(same))
        assert told["lost"] == [str(i) for i in np.flatnonzero(~same)]
        assert told["ground_error"] == pytest.approx(1000 * errors[0])
        wrong = sum(heights[a] < heights[b] and heights[a] + errors[a] > heights[b] + errors[b] for a, b in permutations(kept, 2))
        near = sum(0 < heights[b] - heights[a] <= 0.001 for a, b in permutations(kept, 2))
        assert told["swapped"] <= wrong <= told["swapped"] + near
        if same[0] and len(kept) > 1:
            assert told["difference"] == pytest.approx(1000 * abs(errors[kept] - errors[0]).max())
        else:
            assert told["difference"] is None


def test_a_common_error_changes_no_difference(times):
    """All energies may be off by the same: only the error of the ground state tells."""
    rng = np.random.default_rng(4)
    for _ in range(times(100)):
        heights, errors = energies(rng, 5)
        one, other = (
            of_lowest([Relaxed(str(i), heights[i], errors[i] + shift, True) for i in range(5)], 0.001) for shift in (0.0, 0.7)
        )
        assert other["ground_error"] == pytest.approx(one["ground_error"] + 700)
        assert other["difference"] == pytest.approx(one["difference"])
        assert (other["swapped"], other["pairs"]) == (one["swapped"], one["pairs"])


def test_structures_of_equal_energy_have_no_order():
    polytypes = [Relaxed("cubic", 0.0, 0.0004, True), Relaxed("hexagonal", 0.0003, -0.0004, True), Relaxed("other", 0.1, 0, True)]
    told = of_lowest(polytypes, 0.001)
    assert (told["swapped"], told["pairs"]) == (0, 2)
    assert of_lowest(polytypes, 0.0001)["swapped"] == 1


def row(labels, known, error, held=True):
    return {"labels": labels, "known": known, "ground_error": error, "ground_held": held, "difference": 3.0} | {
        "energy_rmse": 9.0,
        "forces_rmse": 0.1,
    }


def test_a_campaign():
    rows = [row(50, False, 120.0), row(75, True, -9.0), row(99, True, 0.4, held=False), row(123, True, 8.0), row(140, True, -0.9)]
    told = of_campaign(rows, SideBySideSettings())
    assert told["found"] == {"labels": 75, "reached": True}
    assert told["coarse"] == {"labels": 123, "reached": True}, "an error that is small where the structure is lost is none"
    assert told["fine"] == {"labels": 140, "reached": True}
    assert told["end"] == {"ground_error": -0.9, "difference": 3.0, "energy_rmse": 9.0, "forces_rmse": 0.1}


def test_an_error_of_a_structure_that_is_lost_is_none():
    told = of_campaign([row(50, True, 2.0), row(75, True, 0.1, held=False)], SideBySideSettings())
    assert told["end"]["ground_error"] is None
    assert told["coarse"] == {"labels": 75, "reached": False}


def test_a_ground_state_that_only_the_last_search_has_found():
    rows = [row(50, False, None), row(75, False, 4.0)]
    assert of_campaign(rows, SideBySideSettings())["found"] == {"labels": 75, "reached": False}
    assert of_campaign(rows, SideBySideSettings(), 80)["found"] == {"labels": 80, "reached": True}
    rows[1]["known"] = True
    assert of_campaign(rows, SideBySideSettings(), 80)["found"] == {"labels": 75, "reached": True}


def test_a_file():
    ends = ((120, -3.0), (140, 1.0), (170, None))
    campaigns = [of_campaign([row(50, False, 99.0), row(n, True, error)], SideBySideSettings()) for n, error in ends]
    told = of_file(campaigns)
    assert told["found"] == {
        "median": {"labels": 140, "reached": True},
        "range": [{"labels": 120, "reached": True}, {"labels": 170, "reached": True}],
    }
    assert told["coarse"]["range"][1] == {"labels": 170, "reached": False}
    assert told["end"]["ground_error"] == {"median": 3.0, "range": [1.0, None]}, "magnitudes; none is larger than any"
