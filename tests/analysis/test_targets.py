"""Targets of a search among end points that are made for it."""

import pytest
from ase import units
from ase.build import bulk
from crystals import CRYSTALS, MATRICES, other_setting, relaxed

from aiida_gaprss.analysis.targets import find, names_of


def end_points():
    """Attempts: hcp twice, a lost cell like it, bcc, a dense fcc."""
    hcp, bcc = CRYSTALS[194], CRYSTALS[229]
    return [
        (2, relaxed(other_setting(bcc, MATRICES[1], 1), -3.40, "bcc")),
        (9, relaxed(other_setting(hcp, MATRICES[2], 2), -3.499, "hcp-a")),
        (4, relaxed(other_setting(hcp, MATRICES[1], 3), -3.501, "hcp-b")),
        (1, relaxed(hcp, -3.5, "lost", status="collapsed")),
        (6, relaxed(bulk("Cu", a=3.3), -3.2, "dense")),
    ]


def test_hits():
    given = {"hcp": CRYSTALS[194], "fcc": CRYSTALS[225], "diamond": CRYSTALS[227], "gone": CRYSTALS[229]}
    last = {
        "hcp": relaxed(CRYSTALS[194], -3.5, "t0"),
        "fcc": relaxed(CRYSTALS[225], -3.5, "t1"),
        "diamond": relaxed(bulk("Cu", "sc", a=2.4).repeat((2, 1, 1)), -3.1, "t2"),
        "gone": relaxed(CRYSTALS[229], -9.0, "t3", status="collapsed"),
    }
    hcp, fcc, diamond, gone = find(given, last, end_points(), 0.0)
    assert (hcp.found, hcp.hits, hcp.first_hit, hcp.best_hit, hcp.kept) == (True, 2, 4, "hcp-b", True)
    assert hcp.difference == pytest.approx(-0.001)
    assert hcp.above_lowest == pytest.approx(0.001)
    assert (fcc.found, fcc.hits, fcc.first_hit, fcc.difference) == (False, 0, None, None)
    assert (diamond.kept, diamond.given_space_group, diamond.space_group) == (False, 227, 221)
    assert (gone.status, gone.found, gone.kept, gone.predicted_energy) == ("collapsed", False, None, None)
    assert find(given, {}, [], 0.0)[0].status == "lost"


def test_under_pressure():
    given = {"fcc": CRYSTALS[225]}
    (row,) = find(given, {"fcc": relaxed(bulk("Cu", a=3.301), -3.2, "t")}, end_points(), 50.0)
    assert (row.hits, row.first_hit, row.kept) == (1, 6, True), "its density is another, its structure is not"
    volume = 3.301**3 / 4
    assert row.predicted_enthalpy == pytest.approx(-3.2 + 50 * units.GPa * volume)
    assert row.above_lowest == pytest.approx(50 * units.GPa * (volume - 3.3**3 / 4))


def test_names():
    frames = [relaxed(CRYSTALS[225], 0, "a", config_type="fcc"), relaxed(CRYSTALS[229], 0, "b", config_type="bcc")]
    assert names_of(frames) == ["fcc", "bcc"]
    frames[1].info["config_type"] = "fcc"
    assert names_of(frames) == ["a", "b"]
