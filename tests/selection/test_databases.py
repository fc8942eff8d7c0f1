"""Which of the frames of several strategies are labelled."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from aiida_gaprss.selection.databases import chosen
from aiida_gaprss.strategies.lists import StrategyList

KINDS = {"near": {"kind": "rattled"}, "far": {"kind": "strained"}, "atoms": {"kind": "isolated_atoms"}}


def silicon(scale=1.0, shake=0.0, seed=1):
    atoms = bulk("Si", a=5.43 * scale, cubic=True)
    atoms.rattle(shake, seed=seed)
    return atoms


def named(prefix, frames):
    for number, atoms in enumerate(frames):
        atoms.info.update(frame_id=f"{prefix}-{number}", config_type=prefix)
    return frames


@pytest.fixture
def made():
    """Forty cells like each other, five that are not, one isolated atom, and a copy."""
    atom = Atoms("Si", cell=[12] * 3, pbc=True)
    near = named("near", [silicon(shake=0.01, seed=seed) for seed in range(40)])
    far = named("far", [silicon(scale) for scale in (0.9, 0.94, 1.06, 1.1)] + [near[0].copy()])
    frames = {"near": near, "far": far, "atoms": named("atoms", [atom])}
    atom.info["config_type"] = "isolated_atom"
    return frames


def told(frames):
    return Counter(str(atoms.info["frame_id"]).partition("-")[0] for atoms in frames)


def test_all_without_a_limit_but_copies(made):
    assert told(chosen(StrategyList(strategies=KINDS), made)) == {"near": 40, "far": 4, "atoms": 1}


def test_the_same_number_of_each(made):
    strategies = StrategyList(strategies=KINDS, max_labels=9)
    found = chosen(strategies, made)
    assert told(found) == {"near": 4, "far": 4, "atoms": 1}
    assert [a.info["frame_id"] for a in chosen(strategies, made)] == [a.info["frame_id"] for a in found]
    other = chosen(StrategyList(strategies=KINDS, max_labels=9, seed=2), made)
    assert {a.info["frame_id"] for a in other} != {a.info["frame_id"] for a in found}
    assert told(chosen(StrategyList(strategies=KINDS, max_labels=20), made)) == {"near": 15, "far": 4, "atoms": 1}


@pytest.mark.parametrize("how", ["farthest", "cur", "range"])
def test_what_the_database_does_not_have(made, how):
    """It has cells like the forty: those of other volumes are taken."""
    database = [silicon(shake=0.01, seed=seed) for seed in range(100, 120)]
    found = chosen(StrategyList(strategies=KINDS, max_labels=5, choose=how), made, database)
    assert told(found)["atoms"] == 1
    assert told(found)["far"] >= 3
    assert len(found) <= 5


def test_a_database_that_has_all(made):
    database = [atoms.copy() for frames in made.values() for atoms in frames]
    assert told(chosen(StrategyList(strategies=KINDS, choose="range"), made, database)) == {"atoms": 1}


def test_without_a_database(made):
    for how in ("farthest", "cur", "range"):
        found = chosen(StrategyList(strategies=KINDS, max_labels=6, choose=how), made)
        assert 1 < len(found) <= 6
        assert np.all([len(atoms) in (1, 8) for atoms in found])
    only = {"atoms": made["atoms"]}
    assert told(chosen(StrategyList(strategies=KINDS, max_labels=6, choose="cur"), only)) == {"atoms": 1}


def test_what_the_potential_is_least_sure_of(made):
    """Of twenty that it does not know, which are nearly the same, one is enough."""
    unknown = named("unknown", [silicon(0.8, shake=0.001, seed=seed) for seed in range(20)])
    frames = {**made, "unknown": unknown}
    examined = []
    for atoms in (*made["near"], *made["far"], *unknown):
        sigma = {"near": 0.001, "far": 0.05, "unknown": 0.2}[str(atoms.info["frame_id"]).partition("-")[0]]
        examined.append(atoms.copy())
        examined[-1].arrays["PRED_local_variance"] = np.array([sigma**2, *[0.0] * (len(atoms) - 1)])
    kinds = {**KINDS, "unknown": {"kind": "rattled"}}
    found = chosen(StrategyList(strategies=kinds, max_labels=6, choose="variance"), frames, (), examined)
    assert told(found) == {"atoms": 1, "far": 4, "unknown": 1}
    found = chosen(StrategyList(strategies=kinds, max_labels=2, choose="variance"), frames, (), examined)
    assert told(found) == {"atoms": 1, "unknown": 1}
    database = [silicon(0.8, shake=0.001, seed=100)]
    found = chosen(StrategyList(strategies=kinds, max_labels=3, choose="variance"), frames, database, examined)
    assert told(found) == {"atoms": 1, "far": 2}, "of what the database has, labelled since the fit, there is no more"
    lost = [atoms for atoms in examined if not atoms.info["frame_id"].startswith("far")]
    found = chosen(StrategyList(strategies=kinds, max_labels=6, choose="variance"), frames, (), lost)
    assert "far" not in told(found), "what could not be examined is not chosen"
    with pytest.raises(ValueError, match="near-0 has no PRED_local_variance"):
        chosen(StrategyList(strategies=kinds, max_labels=6, choose="variance"), frames, (), made["near"])


@pytest.mark.parametrize("how", ["farthest", "cur", "variance"])
def test_how_many_is_not_said(how):
    with pytest.raises(ValidationError, match=f"choose: {how} needs max_labels"):
        StrategyList(strategies=KINDS, choose=how)
