"""Suites, the plan of all their frames, and the scorecard."""

from typing import ClassVar, Literal

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import Limits, Property, PropertyError, labelled, value_of
from aiida_gaprss.properties.elastic import Elastic
from aiida_gaprss.properties.planning import ERROR, TOGETHER, crystals_by_name, plan_of, results_of
from aiida_gaprss.properties.scorecard import percents, scorecard, worst
from aiida_gaprss.properties.suite import SUITES, Suite, suite_of


class Pressure(Property):
    """Energies at some volumes; the crystal itself is among them."""

    kind: Literal["pressure"] = "pressure"
    scales: tuple[float, ...] = (0.99, 1.0)
    LIMITS: ClassVar = {"error_eV": Limits(0.01, 0.1, "eV", "a test")}

    def plan(self, crystal):
        if len(crystal) > 4:
            raise PropertyError(f"{len(crystal)} atoms, expected at most 4")
        frames = []
        for scale in self.scales:
            atoms = crystal.copy()
            atoms.set_cell(atoms.cell * scale, scale_atoms=True)
            atoms.info = {"part": f"{scale:g}"}
            frames.append(atoms)
        return frames

    def result(self, crystal, done, prefix):
        return {"energies_eV": [value_of(atoms, "energy", prefix) for atoms in done]}

    def scores(self, result, reference):
        return {"error_eV": result["energies_eV"][0] - reference["energies_eV"][0]} if reference else {}

    def across(self, results):
        return {"energies_eV": [sum(result["energies_eV"][0] for result in results.values())]}


@pytest.fixture
def suite():
    return Suite(properties={"elastic": Elastic(), "pressure": Pressure()})


@pytest.fixture
def crystals():
    frames = [bulk("Cu"), bulk("Al"), bulk("Cu", cubic=True).repeat(2)]
    for name, atoms in zip(("copper", "aluminium", "large"), frames, strict=True):
        atoms.info["frame_id"] = name
    return crystals_by_name(frames)


def computed(plan):
    """What a job would give back for the frames."""
    out = []
    for atoms in plan.frames["evaluate"]:
        done = labelled(atoms, EMT(), fr.PREDICTION)
        out.append(done)
    return out


def test_each_frame_is_computed_once(suite, crystals):
    del crystals["large"]
    plan = plan_of(suite, crystals)
    frames = plan.frames["evaluate"]
    assert len({fr.structure_key(a) for a in frames}) == len(frames)
    asked = sum(len(entries) for row in plan.index.values() for entries in row.values())
    assert asked == len(frames) + 2, "both properties have the crystal itself"
    assert len({a.info["frame_id"] for a in frames}) == len(frames)


def test_what_comes_out_is_what_the_properties_give_by_themselves(suite, crystals):
    plan = plan_of(suite, crystals)
    found = results_of(suite, crystals, plan.index, {"evaluate": computed(plan)}, fr.PREDICTION, plan.frames["evaluate"])
    for name in ("copper", "aluminium"):
        for key, wanted in suite.properties.items():
            alone = wanted.compute(EMT(), crystals[name])
            for number, value in alone.items():
                if isinstance(value, float | list):
                    assert np.allclose(found[name][key][number], value, atol=1e-4), (name, key, number)
    assert found["large"]["pressure"] == {ERROR: "32 atoms, expected at most 4"}
    assert found[TOGETHER]["pressure"]["energies_eV"][0] == pytest.approx(
        sum(found[name]["pressure"]["energies_eV"][0] for name in ("copper", "aluminium"))
    )


def test_a_frame_that_is_lost_is_named(suite, crystals):
    plan = plan_of(suite, {"copper": crystals["copper"]})
    done = computed(plan)
    lost = done.pop(3).info["frame_id"]
    (part,) = (part for name, part in plan.index["copper"]["elastic"] if name == lost)
    found = results_of(suite, crystals, plan.index, {"evaluate": done}, fr.PREDICTION, plan.frames["evaluate"])
    assert found["copper"]["elastic"][ERROR] == f"frame {part} has no PRED_virial: not computed"
    assert ERROR not in found["copper"]["pressure"]


def test_lights(suite):
    def card(error):
        mine = {"copper": {"pressure": {"energies_eV": [1.0 + error]}, "elastic": {ERROR: "no virial"}}}
        return scorecard(suite, {"a": mine}, {"copper": {"pressure": {"energies_eV": [1.0]}}}, {"a": {}})["potentials"]["a"]

    assert [card(error)["lights"]["pressure"] for error in (0.009, -0.05, 0.2, float("nan"))] == ["good", "look", "bad", "bad"]
    (row,) = [row for row in card(0.05)["rows"] if row["property"] == "pressure"]
    assert row == {
        "crystal": "copper",
        "property": "pressure",
        "score": "error_eV",
        "value": pytest.approx(0.05),
        "light": "look",
        "good": 0.01,
        "look": 0.1,
        "unit": "eV",
        "source": "a test",
    }
    assert card(0.0)["lights"]["elastic"] == "bad", "what could not be computed is bad"
    mine, failed = {"copper": {"pressure": {"energies_eV": [1.0]}}}, {"copper": {"pressure": {ERROR: "scf"}}}
    found = scorecard(suite, {"a": mine}, failed, {"a": {}})["potentials"]["a"]
    assert found["lights"]["pressure"] == "look", "nothing tells that it is good"
    assert found["rows"][0]["why"] == "scf"
    assert worst([{"light": None}]) is None


def test_limits_of_a_suite_go_before_those_of_the_property(suite):
    limits = {"pressure": {"error_eV": {"good": 1, "look": 2}}}
    own = Suite(properties=dict(suite.properties), limits=limits)
    mine = {"copper": {"pressure": {"energies_eV": [1.5]}}}
    reference = {"copper": {"pressure": {"energies_eV": [1.0]}}}
    assert scorecard(own, {"a": mine}, reference, {"a": {}})["potentials"]["a"]["lights"]["pressure"] == "good"
    assert scorecard(suite, {"a": mine}, reference, {"a": {}})["potentials"]["a"]["lights"]["pressure"] == "bad"


def test_numbers_of_a_file():
    mine = {"bulk_modulus_GPa": 103.0, "other": 1.0, "name": "fcc", "C_GPa": [[1.0]]}
    assert percents(mine, {"bulk_modulus_GPa": 100.0, "absent": 3.0, "name": 2.0}) == {
        "bulk_modulus_GPa_percent": pytest.approx(3.0)
    }


@pytest.mark.parametrize("name", SUITES.names())
def test_suites_of_ours(name):
    suite = suite_of(name)
    assert suite.description
    again = Suite(**suite.model_dump())
    assert again == suite, "it survives being an input of a process"
    for key, wanted in suite.properties.items():
        assert all(limits.source for limits in suite.limits_of(key).values()), (name, key)
        assert wanted.kind


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("quik", "unknown suite 'quik'; known: .*quick"),
        ({"properties": {}}, "properties: .*at least 1"),
        ({"properties": {"elastc": None}}, "properties.elastc.kind: kind is 'elastc', expected one of .*elastic"),
        ({"properties": {"mine": {"kind": "elastic", "strain": -1}}}, "properties.mine.strain: .*greater than 0"),
        ({"suite": "quick", "limits": {"nothing": {}}}, "limits of nothing, which the suite does not have"),
        (
            {"suite": "quick", "limits": {"elastic": {"x": {"good": 2, "look": 1}}}},
            "look is 1, expected at least what is",
        ),
        ({"suite": "quick", "geometry": "mine"}, "geometry: .*'given' or 'relaxed'"),
    ],
)
def test_suites_that_are_wrong(given, message):
    with pytest.raises(PropertyError, match=message):
        suite_of(given)
