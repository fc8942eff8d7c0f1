"""What strategies on crystals have in common: names, parents, seeds."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_gaprss import frames as fr
from aiida_gaprss.strategies.base import StrategyError, strategy_of
from aiida_gaprss.strategies.crystals import random_strain

SMALL = [
    {"kind": "nondiagonal", "grid": [2, 2, 2], "copies": 1, "volumes": [1.0]},
    {"kind": "bain", "grid": [1, 1, 1], "copies": 1, "volumes": [1.0]},
    {"kind": "displacements", "supercell": [1, 1, 1]},
    {"kind": "rattled", "supercell": [1, 1, 1], "copies": 1},
    {"kind": "strained", "supercell": [1, 1, 1], "strains": [0.02]},
]


def crystals(*names):
    made = {"diamond": bulk("Si"), "fcc": bulk("Si", "fcc", 3.9, cubic=True), "bcc": bulk("Si", "bcc", 3.1)}
    for name, atoms in made.items():
        atoms.info = {"frame_id": name, "REF_energy": -1.0}
    return [made[name] for name in names]


@pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings["kind"])
def test_frames_of_one_crystal_do_not_depend_on_the_others(settings):
    strategy = strategy_of(settings)
    both = strategy.apply(crystals("diamond", "fcc"), {"Si": 1}, 3)
    assert fr.dumps(both) == fr.dumps(strategy.apply(crystals("diamond", "fcc"), {"Si": 1}, 3))
    other = strategy.apply(crystals("bcc", "fcc", "diamond"), {"Si": 1}, 3)
    for name in ("diamond", "fcc"):
        mine, same = ([a for a in frames if a.info["parent"] == name] for frames in (both, other))
        assert mine
        assert fr.dumps(mine) == fr.dumps(same)
    assert strategy.most(2, {"Si": 1}) is None, "depends on the crystals"


@pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings["kind"])
def test_names_and_what_is_left_behind(settings):
    made = strategy_of({**settings, "config_type": "mine"}).apply(crystals("diamond", "fcc"), {"Si": 1}, 3)
    names = [atoms.info["frame_id"] for atoms in made]
    assert len(set(names)) == len(names)
    assert [fr.check_name("frame_id", name, "here") for name in names] == names
    assert {atoms.info["config_type"] for atoms in made} == {"mine"}
    assert all(set(atoms.info) == {"frame_id", "parent", "config_type", "parameters"} for atoms in made), "no energy of a parent"
    assert all(atoms.pbc.all() and set(atoms.arrays) == {"numbers", "positions"} for atoms in made)
    nameless = crystals("diamond", "fcc")
    for atoms in nameless:
        atoms.info = {}
    assert {atoms.info["parent"] for atoms in strategy_of(settings).apply(nameless, {"Si": 1}, 3)} == {"0000", "0001"}


@pytest.mark.parametrize("settings", SMALL[:2] + SMALL[3:4], ids=lambda settings: settings["kind"])
def test_another_seed_gives_other_frames(settings):
    strategy = strategy_of(settings)
    assert fr.dumps(strategy.apply(crystals("fcc"), {"Si": 1}, 3)) != fr.dumps(strategy.apply(crystals("fcc"), {"Si": 1}, 4))


def test_two_crystals_of_one_name():
    with pytest.raises(StrategyError, match="strained: a frame has no frame_id of its own"):
        strategy_of(SMALL[-1]).apply(crystals("fcc", "fcc"), {"Si": 1}, 3)


def test_no_crystals():
    for settings in SMALL:
        with pytest.raises(StrategyError, match=f"{settings['kind']}: needs crystals, got none"):
            strategy_of(settings).apply([], {"Si": 1}, 3)


def test_random_strains():
    draws = np.array([random_strain(0.01, np.random.default_rng(seed)) for seed in range(500)])
    assert np.allclose(draws, draws.transpose(0, 2, 1))
    assert np.abs(draws).max() <= 0.01
    assert draws.std(axis=0) == pytest.approx(np.full((3, 3), 0.01 / np.sqrt(3)), rel=0.1)
