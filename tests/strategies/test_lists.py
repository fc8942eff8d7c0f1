"""Lists of strategies: names of frames, seeds, formulas, faults."""

import re

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
    names = [str(atoms.info["frame_id"]).rpartition("-") for atoms in frames["small"]]
    assert [name for name, _, _ in names] == ["small-copper-0000", "small-copper-0001", "small-salt-0000", "small-salt-0001"]
    assert all(re.fullmatch("[0-9a-f]{6}", digits) for *_, digits in names)
    assert {name: {a.info["config_type"] for a in made} for name, made in frames.items()} == {
        "small": {"small"},
        "large": {"large"},
        "other": {"hot"},
    }
    assert {atoms.info["seed"] for atoms in frames["large"]} == {stage_seed(5, 0, "large")}
    ids = [atoms.info["frame_id"] for made in frames.values() for atoms in made]
    assert len(set(ids)) == len(ids)


def test_databases_of_one_crystal_have_names_of_their_own():
    """Whatever differs, settings, seed or crystal: what they made can be fitted together; the same list makes the same."""
    own, others = crystals()[:1], crystals()[:1]
    others[0].set_cell(others[0].cell * 1.01, scale_atoms=True)

    def names(crystals, seed=5, **changes):
        listed = StrategyList(strategies={"small": {**RATTLED, **changes}}, seed=seed)
        return {atoms.info["frame_id"] for atoms in listed.frames("small", crystals)}

    first = names(own)
    assert first == names(own)
    for other in (names(own, seed=6), names(own, displacement_A=0.02), names(own, config_type="hot"), names(others)):
        assert not first & other


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


@pytest.mark.parametrize("kind", ["rattled", "nondiagonal", "bain", "displacements", "slabs", "vacancies", "interstitials"])
def test_atoms_are_not_displaced_out_of_sight(kind):
    with pytest.raises(ValidationError, match="displacement_A"):
        StrategyList(strategies={"far": {"kind": kind, "displacement_A": 1e3}})
    StrategyList(strategies={"near": {"kind": kind, "displacement_A": 0.3}})


def test_faults_name_the_strategy():
    strategies = StrategyList(strategies={"waves": {"kind": "nondiagonal"}, "path": {"kind": "bain"}})
    with pytest.raises(StrategyError, match=r"strategies\.waves: nondiagonal: needs crystals, got none"):
        strategies.frames("waves", [])
    with pytest.raises(StrategyError, match=r"strategies\.path: bain: crystal salt: .*expected one element"):
        strategies.frames("path", crystals())
    with pytest.raises(ValidationError, match="expected one of airss"):
        StrategyList(strategies={"waves": {"kind": "nondiagnal"}})


def test_a_formula_has_elements():
    with pytest.raises(ValidationError, match="'Xx' is not a chemical element"):
        StrategyList(strategies={"atoms": {"kind": "isolated_atoms"}}, formula={"Xx": 1})


@pytest.mark.parametrize("given", [{"dimer": RATTLED}, {"isolated_atom": RATTLED}, {"x": {**RATTLED, "config_type": "dimer"}}])
def test_crystals_are_not_called_what_is_in_vacuum(given):
    """The reference would calculate them with one k-point."""
    with pytest.raises(ValidationError, match="rattled makes no"):
        StrategyList(strategies=given)
    StrategyList(strategies={"dimer": {"kind": "dimers"}, "isolated_atom": {"kind": "isolated_atoms"}})


@pytest.mark.parametrize("kind", ["strained", "distort", "rattled"])
def test_two_atoms_at_one_place(kind):
    crystal = bulk("Si")
    crystal.positions[1] = crystal.positions[0] + 1e-3
    with pytest.raises(StrategyError, match="two atoms at one place"):
        StrategyList(strategies={"all": {"kind": kind}}).frames("all", [crystal])


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "rattled", "copies": 100_000},
        {"kind": "nondiagonal", "copies": 100_000},
        {"kind": "vacancies", "copies": 100_000},
        {"kind": "slabs", "copies": 100_000},
        {"kind": "distort", "number": 100_000},
        {"kind": "occupancy", "text": "", "number": 100_000},
    ],
)
def test_more_frames_than_anybody_can_want(given):
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        StrategyList(strategies={"all": given})


def test_a_strained_supercell_that_fills_the_memory():
    strategies = StrategyList(strategies={"all": {"kind": "strained", "supercell": [1000, 1000, 1000]}})
    with pytest.raises(StrategyError, match=r"2000000000 atoms, expected at most 1000 \(most_atoms\)"):
        strategies.frames("all", crystals()[1:])


@pytest.mark.parametrize("key", ["thickness_A", "vacuum_A"])
def test_slabs_that_take_hours_to_be_cut(key):
    with pytest.raises(ValidationError, match="less than or equal to 100"):
        StrategyList(strategies={"all": {"kind": "slabs", key: 900}})
