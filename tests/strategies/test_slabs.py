"""Slabs as frames to be labelled: how many, of what, with which names; the others are refused."""

import numpy as np
import pytest
from ase.build import bulk, fcc111

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.surfaces import Surfaces
from aiida_gaprss.strategies.base import StrategyError, strategy_of

CRYSTALS = {
    "copper": bulk("Cu", a=3.61),
    "silicon": bulk("Si"),
    "salt": bulk("NaCl", "rocksalt", a=5.64, cubic=True),
    "arsenide": bulk("GaAs", "zincblende", a=5.65),
}


def made(*names, seed=1, **settings):
    crystals = [CRYSTALS[name].copy() for name in names]
    for name, atoms in zip(names, crystals, strict=True):
        atoms.info["frame_id"] = name
    return strategy_of({"kind": "slabs", **settings}).apply(crystals, {"Si": 1}, seed)


def planes(frames):
    return list(dict.fromkeys(atoms.info["parameters"].split()[1].rstrip(",") for atoms in frames))


@pytest.mark.parametrize("symbol", ["Cu", "Fe"])
def test_the_surfaces_of_a_database_of_elements(symbol):
    """Zuo et al., J. Phys. Chem. A 124, 731 (2020): all up to 3 without 221, one termination of each in fcc and bcc."""
    settings = {"kind": "slabs", "without": [[2, 1, 2]], "thickness_A": 3, "vacuum_A": 8}
    frames = strategy_of(settings).apply([bulk(symbol)], {symbol: 1}, 1)
    assert sorted(planes(frames)) == ["100", "110", "111", "210", "211", "310", "311", "320", "321", "322", "331", "332"]
    assert {atoms.info["config_type"] for atoms in frames} == {"slabs"}
    assert len({atoms.info["frame_id"] for atoms in frames}) == len(frames) == 12


@pytest.mark.parametrize("name", CRYSTALS)
def test_slabs_that_the_property_relaxes_are_among_them(name):
    settings = {"thickness_A": 8, "vacuum_A": 8}
    ours = made(name, max_index=1, symmetric=True, **settings)
    theirs = [atoms for atoms in Surfaces(**settings).plan(CRYSTALS[name]) if atoms.info["part"].startswith("slab")]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.numbers, other.numbers)
        assert np.allclose(one.positions, other.positions)
        assert np.allclose(one.cell.array, other.cell.array)


def test_copies_are_displaced_at_random():
    frames = made("copper", "silicon", miller=[[1, 1, 1]], copies=30, displacement_A=0.1)
    assert len(frames) == 31 * 3
    assert [frames[n].info["parameters"] for n in (0, 1, 31, 62)] == [
        "surface 111, termination 0, as made",
        "surface 111, termination 0, displaced",
        "surface 111, termination 0, as made",
        "surface 111, termination 1, as made",
    ]
    assert [atoms.info["parent"] for atoms in frames[30:32]] == ["copper", "silicon"]
    for first in (0, 31, 62):
        moved = [(atoms.positions - frames[first].positions) for atoms in frames[first + 1 : first + 31]]
        assert np.std(moved) == pytest.approx(0.1, rel=0.1)
        assert np.allclose(frames[first].cell, frames[first + 1].cell)
    slab = fcc111("Cu", (1, 1, len(frames[0])), a=3.61, vacuum=8)
    assert np.allclose(np.diff(np.sort(frames[0].positions[:, 2])), np.diff(np.sort(slab.positions[:, 2])), atol=1e-6)


def test_the_same_seed_gives_the_same_frames():
    """Those of a crystal do not depend on the other crystals."""
    settings = {"miller": [[1, 0, 0], [1, 1, 0]], "copies": 2, "thickness_A": 6}
    frames = made("copper", "salt", **settings)
    assert fr.dumps(frames) == fr.dumps(made("copper", "salt", **settings))
    assert fr.dumps(frames[-6:]) == fr.dumps(made("salt", **settings))
    assert fr.dumps(frames) != fr.dumps(made("copper", "salt", seed=2, **settings))


def test_which_planes_and_terminations():
    assert planes(made("copper", miller=[[0, 1, 0], [1, 0, 0], [1, -1, 0]], thickness_A=4)) == ["010", "1-10"]
    assert planes(made("copper", max_index=1, without=[[0, 0, -1], [1, 0, 0]], thickness_A=4)) == ["110", "111"]
    settings = {"miller": [[1, 1, 1]], "thickness_A": 6}
    assert len(made("silicon", **settings)) == 2
    (one,) = made("silicon", terminations="fewest", **settings)
    assert np.allclose(one.positions, made("silicon", **settings)[0].positions)
    assert len(made("arsenide", max_index=1, thickness_A=6)) == 4
    assert planes(made("arsenide", max_index=1, thickness_A=6, symmetric=True)) == ["110"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_index": 5}, "slabs.max_index: .*less than or equal to 4"),
        ({"miller": []}, "slabs.miller: .*at least 1"),
        ({"miller": [[0, 0, 0]]}, r"slabs.miller.0: \[0, 0, 0\] are the indices of no plane"),
        ({"without": [[2, 2, 0]]}, r"slabs.without.0: \[2, 2, 0\] have the common divisor 2, expected .*: \[1, 1, 0\]"),
        ({"miller": [[1, 0, 10]]}, "slabs.miller.0.2: .*less than or equal to 9"),
        ({"terminations": "some"}, "slabs.terminations: .*'all' or 'fewest'"),
        ({"thickness_A": 0}, "slabs.thickness_A: .*greater than 0"),
        ({"copies": -1}, "slabs.copies: .*greater than or equal to 0"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(StrategyError, match=message):
        strategy_of({"kind": "slabs", **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_index": 1, "without": [[2, 1, 0]]}, "crystal arsenide: without has 210, expected some of 100 110 111"),
        ({"miller": [[1, 0, 0]], "without": [[0, 0, 1]]}, "without leaves no plane"),
        ({"miller": [[1, 1, 0]], "most_atoms": 10}, r"a slab of 110 has 12 atoms, expected at most 10 \(most_atoms\): set thick"),
        (
            {"miller": [[1, 0, 0]], "symmetric": True},
            r"no slab has two equal sides, set symmetric: false \(100, termination 0: its two",
        ),
    ],
)
def test_crystals_that_have_no_such_slabs(settings, message):
    with pytest.raises(StrategyError, match=message):
        made("arsenide", **settings)
