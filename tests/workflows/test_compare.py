"""Strategies at equal cost. Fits and properties are real."""

import numpy as np
import pytest
from aiida.orm import Dict, Float, Int, List, load_node
from ase import Atoms
from ase.build import bulk
from helpers import FIT

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.compare_functions import averaged, drawn
from aiida_gaprss.campaign.build import kpoints_of
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.properties.suite import suite_of
from aiida_gaprss.strategies.base import strategy_of
from aiida_gaprss.workflows.compare import CompareWorkChain

TINY = {**FIT, "descriptors": [FIT["descriptors"][0]]}
ELASTIC = {"properties": {"elastic": None}, "limits": {"elastic": {"max_error_percent": {"good": 1, "look": 2}}}}
SPACING = 0.1


def price(atoms):
    return len(atoms) ** 3 * kpoints_of(atoms, SPACING)


def made(sw, **settings):
    crystal = bulk("Si", "diamond", 5.42)
    crystal.info["frame_id"] = "diamond"
    frames = strategy_of(settings).apply([crystal], {"Si": 1}, 1)
    for atoms in frames:
        atoms.calc = sw
        virial = fr.virial_from_stress(atoms.get_stress(), atoms.get_volume())
        fr.set_labels(atoms, atoms.get_potential_energy(), atoms.get_forces(), virial)
        atoms.calc = None
    return frames


@pytest.fixture
def datasets(sw):
    atom = Atoms("Si", cell=[12] * 3, pbc=True, info={"frame_id": "atom", "config_type": "isolated_atom"})
    fr.set_labels(atom, 0.0, np.zeros((1, 3)), None)
    found = {
        "atoms": [atom],
        "waves": made(sw, kind="nondiagonal", grid=[2, 1, 1], copies=3, volumes=[0.95, 1.0, 1.05]),
        "strained": made(sw, kind="strained", supercell=[1, 1, 1], strains=[-0.04, -0.02, 0.02, 0.04]),
    }
    return {name: Dataset(frames, level_of_theory="sw") for name, frames in found.items()}


@pytest.fixture
def inputs(gap_fit_code, python_code, datasets):
    return {
        "fit": {"code": gap_fit_code, "python": python_code},
        "datasets": datasets,
        "settings": Dict(TINY),
        "seed": Int(3),
        "test_fraction": Float(0.2),
        "strategies": List(["waves", "strained"]),
        "spacing": Float(SPACING),
    }


def test_comparison(run, inputs, datasets, python_code, sw_settings, potential):
    whole = sum(price(atoms) for atoms in datasets["strained"].get_frames())
    validate = {
        "crystals": Dataset([Atoms(bulk("Si", "diamond", 5.42), info={"frame_id": "diamond"})], level_of_theory="unlabelled"),
        "settings": Dict(suite_of({**ELASTIC, "geometry": "given"}).model_dump()),
        "label": {"ase": {"code": python_code, "settings": Dict(sw_settings)}},
        "jobs": {"code": python_code},
    }
    costs = [whole, whole / 3]
    outputs, node = run(CompareWorkChain, **inputs, costs=List(costs), repeats=Int(2), max_concurrent=4, validate=validate)
    assert node.is_finished_ok, node.exit_message
    told = outputs["comparison"].get_dict()
    assert len(told["rows"]) == 8
    fits = {row["name"]: load_node(row["uuid"]) for row in told["rows"]}
    prices = {a.info["frame_id"]: price(a) for node in datasets.values() for a in node.get_frames()}
    kinds = {a.info["frame_id"]: name for name, node in datasets.items() for a in node.get_frames()}
    held = {a.info["frame_id"] for a in next(iter(fits.values())).outputs.test_predictions.get_frames()}
    for row in told["rows"]:
        fitted = {a.info["frame_id"] for a in fits[row["name"]].outputs.predictions.get_frames()} - {"atom"}
        assert {kinds[name] for name in fitted} == {row["strategy"]}
        assert not fitted & held
        assert row["spent"] == sum(prices[name] for name in fitted) <= row["cost"]
        others = {name for name, kind in kinds.items() if kind == row["strategy"]} - fitted - held
        assert all(prices[name] > row["cost"] - row["spent"] for name in others), "there was room for more"
        assert row["drawn"] == len(fitted)
        assert abs(row["scores"]["diamond: elastic max_error_percent"]) > 0
    (validation,) = [process for process in node.called if process.process_label == "ValidateWorkChain"]
    cards = validation.outputs.scorecard["potentials"]
    (number,) = [r["value"] for r in cards["waves_000"]["rows"] if r["score"] == "C44_percent"]
    assert told["rows"][0]["scores"]["diamond: elastic C44_percent"] == number
    assert told["limits"]["diamond: elastic max_error_percent"]["good"] == 1
    point = next(p for p in told["points"] if (p["strategy"], p["cost"]) == ("waves", costs[0]))
    mine = [row for row in told["rows"] if (row["strategy"], row["cost"]) == ("waves", costs[0])]
    two = [abs(row["scores"]["diamond: elastic C44_percent"]) for row in mine]
    assert point["scores"]["diamond: elastic C44_percent"] == pytest.approx([np.mean(two), abs(two[0] - two[1]) / np.sqrt(2)])
    assert point["fits"] == 2


def test_a_cost_that_buys_nothing_is_a_row(run, inputs):
    outputs, node = run(CompareWorkChain, **inputs, costs=List([1e-3, 1e9]), repeats=Int(1))
    assert node.is_finished_ok, node.exit_message
    rows = {(row["strategy"], row["cost"]): row["reason"] for row in outputs["comparison"]["rows"]}
    assert "no frame for 0.001: the cheapest of" in rows["waves", 1e-3]
    assert rows["waves", 1e9] is None
    poor = next(p for p in outputs["comparison"]["points"] if p["cost"] == 1e-3)
    assert (poor["fits"], poor["failed"], poor["spent"]) == (0, 1, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategies": ["waves"]}, "strategies: expected two or more of atoms, waves, strained"),
        ({"strategies": ["waves", "slabs"]}, "strategies: expected two or more of .*got .*slabs"),
        ({"costs": []}, "costs: expected different numbers above 0"),
        ({"costs": [0.0]}, "costs: expected different numbers above 0"),
        ({"repeats": 0}, "repeats: expected at least 1, got 0"),
        ({"test_fraction": None}, "a test is needed"),
        ({"validate": {}}, "validate: errors of properties need a reference"),
    ],
)
def test_wrong_inputs(run, inputs, changes, message):
    given = {**inputs, "costs": List([1e3]), "repeats": Int(1)}
    for key, value in changes.items():
        kinds = {list: List, int: Int}
        given[key] = kinds[type(value)](value) if type(value) in kinds else value
    if "validate" in changes:
        crystals = Dataset([Atoms(bulk("Si"), info={"frame_id": "diamond"})], level_of_theory="unlabelled")
        settings = Dict(suite_of(ELASTIC).model_dump())
        given["validate"] = {"settings": settings, "crystals": crystals, "jobs": {"code": inputs["fit"]["python"]}}
    given = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        run(CompareWorkChain, **given)


def test_drawn_by_price():
    frames = [Atoms("Si" * n, cell=[9, 9, 9], pbc=True) for n in (1, 2, 3, 4) * 5]
    for cost in (1, 30, 200, 1e4):
        some = drawn(frames, cost, None, 3)
        spent = sum(len(a) ** 3 for a in some)
        assert spent <= cost
        assert some == drawn(frames, cost, None, 3)
    assert len(drawn(frames, 1e4, None, 3)) == 20
    with pytest.raises(ValueError, match=r"no frame for 0.5: the cheapest of 20 costs 1"):
        drawn(frames, 0.5, None, 3)


def test_signs_do_not_cancel():
    row = {"reason": None, "drawn": 3, "drawn_atoms": 6, "spent": 24.0}
    told = averaged([{**row, "scores": {"C44": 3.0, "gone": 1.0}}, {**row, "scores": {"C44": -3.0, "gone": None}}])
    assert told["scores"] == {"C44": [3.0, 0.0], "gone": [None, None]}
