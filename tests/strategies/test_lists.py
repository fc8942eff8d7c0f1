"""Lists of strategies: names of frames, seeds, formulas, faults."""

import pytest
from ase.build import bulk
from pydantic import ValidationError

from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.structures.seeding import stage_seed

RATTLED = {"kind": "rattled", "supercell": [1, 1, 1], "volumes": [1.0], "copies": 2}


def crystals():
    found = [bulk("Cu"), bulk("NaCl", "rocksalt", 5.64)]
    for name, atoms in zip(("copper", "salt"), found, strict=True):
        atoms.info["frame_id"] = name
    return found


def test_names_types_and_seeds():
    strategies = StrategyList(
        strategies={"small": RATTLED, "large": {**RATTLED, "displacement_A": 0.2}, "other": {**RATTLED, "config_type": "hot"}},
        seed=5,
    )
    frames = {name: strategies.frames(name, crystals()) for name in strategies.strategies}
    assert [atoms.info["frame_id"] for atoms in frames["small"]] == [
        "small-copper-0000",
        "small-copper-0001",
        "small-salt-0000",
        "small-salt-0001",
    ]
    assert {name: {a.info["config_type"] for a in made} for name, made in frames.items()} == {
        "small": {"small"},
        "large": {"large"},
        "other": {"hot"},
    }
    assert {atoms.info["seed"] for atoms in frames["large"]} == {stage_seed(5, 0, "large")}
    ids = [atoms.info["frame_id"] for made in frames.values() for atoms in made]
    assert len(set(ids)) == len(ids)


def test_elements():
    strategies = StrategyList(strategies={"atoms": {"kind": "isolated_atoms"}, "pairs": {"kind": "dimers", "points": 3}})
    assert strategies.elements(crystals()) == {"Cl": 1, "Cu": 1, "Na": 1}
    assert [str(a.symbols) for a in strategies.frames("atoms", crystals())] == ["Cl", "Cu", "Na"]
    assert {a.info["config_type"] for a in strategies.frames("atoms", crystals())} == {"isolated_atom"}
    assert len(strategies.frames("pairs", crystals())) == 3 * 6
    given = StrategyList(strategies={"atoms": {"kind": "isolated_atoms"}}, formula={"B": 1})
    assert [str(a.symbols) for a in given.frames("atoms", [])] == ["B"]


@pytest.mark.parametrize("name", ["two words", "1st", "a__b", "ünder", "a-b", "", "x" * 51])
def test_names_that_no_output_can_have(name):
    with pytest.raises(ValidationError, match="is no name: expected a letter"):
        StrategyList(strategies={name: RATTLED})


def test_faults_name_the_strategy():
    strategies = StrategyList(strategies={"waves": {"kind": "nondiagonal"}, "path": {"kind": "bain"}})
    with pytest.raises(StrategyError, match=r"strategies\.waves: nondiagonal: needs crystals, got none"):
        strategies.frames("waves", [])
    with pytest.raises(StrategyError, match=r"strategies\.path: bain: crystal salt: .*expected one element"):
        strategies.frames("path", crystals())
    with pytest.raises(ValidationError, match="expected one of airss"):
        StrategyList(strategies={"waves": {"kind": "nondiagnal"}})
