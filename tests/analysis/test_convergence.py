"""When a search has come to its end: each measure against what can be worked out by hand."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError
from scipy.stats import norm

from aiida_gaprss.analysis.convergence import (
    StopSettings,
    converged,
    describe,
    discovery,
    distribution_change,
    energy_change,
    low_end_points,
    missed,
    new_error,
    progress,
)


def frame(name, energy, predicted=None, status="converged", atoms=None):
    out = (atoms or bulk("Si")).copy()
    out.info.update(frame_id=name, relax_status=status, PRED_energy=(energy if predicted is None else predicted) * len(out))
    out.info["REF_energy"] = energy * len(out)
    return out


def test_energy_change_is_the_root_mean_square_over_the_frames_both_know():
    before = [frame("a", -4.0), frame("b", -4.1), frame("c", -4.2)]
    after = [frame("b", -4.1 + 0.03), frame("a", -4.0 - 0.04)]
    assert energy_change(before, after) == pytest.approx(np.sqrt((0.03**2 + 0.04**2) / 2))
    assert energy_change(before, []) is None


def test_distribution_change_of_shifted_and_widened_normal_distributions():
    # For normal distributions with equal means, the distance is |s1 − s2| · sqrt(2/π); for a shift, the shift.
    quantiles = norm.ppf((np.arange(4000) + 0.5) / 4000)
    narrow = [frame(f"n{i}", 0.1 * q) for i, q in enumerate(quantiles)]
    wide = [frame(f"w{i}", 0.3 * q) for i, q in enumerate(quantiles)]
    shifted = [frame(f"s{i}", 0.1 * q - 0.25) for i, q in enumerate(quantiles)]
    assert distribution_change(narrow, shifted) == pytest.approx(0.25, rel=1e-9)
    assert distribution_change(narrow, wide) == pytest.approx(0.2 * np.sqrt(2 / np.pi), rel=2e-3)
    assert distribution_change(narrow, []) is None


def test_low_end_points_are_counted_from_the_lowest_of_their_composition():
    cells = [frame("a", -4.0), frame("b", -3.75), frame("c", -3.6), frame("d", -4.2, status="on_the_way")]
    germanium = bulk("Ge")
    cells += [frame("e", -3.0, atoms=germanium), frame("f", -2.8, atoms=germanium), frame("g", -9.0, status="collapsed")]
    assert [a.info["frame_id"] for a in low_end_points(cells, 0.3)] == ["a", "b", "e", "f"]


def test_discovery_counts_structures_and_not_cells():
    diamond, again = bulk("Si"), bulk("Si", cubic=True)
    again.rotate(30, "y", rotate_cell=True)
    packed, simple = bulk("Si", "fcc", a=3.9), bulk("Si", "sc", a=2.6)
    new = [frame("a", -4.3, atoms=diamond), frame("b", -4.3, atoms=again), frame("c", -4.0, atoms=packed)]
    assert discovery(new, [], 0.3) == (2, 2)
    assert discovery(new, [frame("d", -4.2, atoms=diamond), frame("e", -4.0, atoms=simple)], 0.3) == (2, 1)
    assert discovery([], new, 0.3) == (0, 0)


def test_new_error_is_that_of_the_prediction_before_the_fit():
    assert new_error([frame("a", -4.0, -4.03), frame("b", -4.0, -3.96)]) == pytest.approx(np.sqrt((0.03**2 + 0.04**2) / 2))
    unlabelled = Atoms("Si", cell=[5, 5, 5], pbc=True)
    assert new_error([unlabelled]) is None


def test_the_search_ends_only_when_all_thresholds_were_kept_often_enough():
    stop = StopSettings(energy_change=0.01, distribution=None, discovery=0.1, patience=2, at_least=3)
    kept = {"energy_change": 0.004, "discovery": 0.1, "distribution": 9.0}
    not_kept = {**kept, "discovery": 0.11}
    unknown = {**kept, "energy_change": None}
    assert not converged(stop, [kept, kept]), "too few generations"
    assert converged(stop, [not_kept, kept, kept])
    assert not converged(stop, [kept, kept, not_kept])
    assert not converged(stop, [kept, not_kept, kept])
    assert not converged(stop, [kept, kept, unknown]), "what is not known is not kept"
    assert missed(stop, unknown) == ["energy_change"]
    assert describe(stop, not_kept) == (
        "predicted energies of new low minima changed by 4 meV/atom (at most 10); "
        "part of the low minima that is new: 11 % (at most 10)"
    )
    with pytest.raises(ValidationError, match="give at least one of energy_change, distribution, discovery, new_error"):
        StopSettings(energy_change=None, distribution=None, discovery=None)


def test_progress_puts_them_together():
    relaxed = [frame("a", -4.3), frame("b", -4.0, atoms=bulk("Si", "fcc", a=3.9)), frame("c", -3.0, status="on_the_way")]
    evaluated = [frame("a", -4.2), frame("b", -4.0)]
    row = progress(
        StopSettings(), relaxed, evaluated, [frame("a", -4.25, -4.3)], [frame("z", -4.0)], [frame("y", -4.1, atoms=bulk("Si"))]
    )
    assert row == {
        "energy_change": pytest.approx(np.sqrt(0.1**2 / 2)),
        "distribution": pytest.approx(0.25),
        "discovery": 0.5,
        "new_error": pytest.approx(0.05),
        "low_minima": 2,
        "new_minima": 1,
        "labelled_end_points": 1,
    }
