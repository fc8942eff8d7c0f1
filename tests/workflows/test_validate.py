"""Validation: the same plan for potentials and reference, each frame once, and what is bad is red."""

import json
from collections import Counter

import numpy as np
import pytest
from aiida.orm import CalcJobNode, Dict
from ase.build import bulk

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.properties.elastic import Elastic
from aiida_gaprss.properties.suite import suite_of
from aiida_gaprss.report.validation import score_rows
from aiida_gaprss.report.validation_page import write_validation
from aiida_gaprss.workflows.validate import ValidateWorkChain


def crystals(**named):
    frames = []
    for name, atoms in named.items():
        atoms.info = {"frame_id": name}
        frames.append(atoms)
    return Dataset(frames, level_of_theory="unlabelled")


@pytest.fixture
def inputs(potential, python_code):
    def inputs(suite, **more):
        return {
            "settings": Dict(suite_of(suite).model_dump()),
            "crystals": crystals(diamond=bulk("Si", "diamond", 5.431)),
            "potentials": {"small": potential},
            "jobs": {"code": python_code},
            **more,
        }

    return inputs


@pytest.fixture
def diamond_potential(diamond_folder):
    return Potential(diamond_folder)


@pytest.fixture
def by_sw(python_code, sw_settings):
    return {"ase": {"code": python_code, "settings": Dict(sw_settings)}}


ELASTIC = {"properties": {"elastic": None}, "limits": {"elastic": {"max_error_percent": {"good": 1, "look": 2}}}}


def jobs_of(node):
    return Counter(str(job.process_type).rpartition(".")[2] for job in node.called_descendants if isinstance(job, CalcJobNode))


@pytest.mark.parametrize("geometry", ["given", "relaxed"])
def test_two_potentials_beside_a_reference(run, inputs, potential, diamond_potential, by_sw, gap, sw, geometry, tmp_path):
    potentials = {"small": potential, "diamond": diamond_potential}
    _, node = run(ValidateWorkChain, **inputs({**ELASTIC, "geometry": geometry}, label=by_sw, potentials=potentials))
    assert node.is_finished_ok, node.exit_message
    silicon = bulk("Si", "diamond", 5.431)
    found = node.outputs.reference["diamond"]["elastic"]
    assert np.allclose(found["C_GPa"], Elastic().compute(sw, silicon)["C_GPa"], atol=1e-3)
    if geometry == "given":
        mine = node.outputs.results.small["diamond"]["elastic"]
        assert np.allclose(mine["C_GPa"], Elastic().compute(gap, silicon)["C_GPa"], atol=1e-3)
    jobs = jobs_of(node)
    assert jobs["evaluate"] == 2, "one job for each potential"
    assert jobs["label"] == 1
    assert jobs["relax"] == (2 if geometry == "relaxed" else 0)
    labels = node.outputs.labels
    own = len(Elastic().plan(silicon))
    assert labels.n_frames == own + (2 if geometry == "relaxed" else 0), "those of the plan, and the relaxed crystals"
    cards = node.outputs.scorecard["potentials"]
    assert set(cards) == {"small", "diamond"}
    page = write_validation(node, tmp_path / "page")
    told = json.loads((tmp_path / "page" / "report.json").read_text())
    assert told["scorecard"] == node.outputs.scorecard.get_dict()
    assert {row["property"] for row in score_rows(told)} == {"elastic"}
    text = page.read_text()
    assert "small" in text
    assert "C GPa" not in text, "matrices are in report.json"
    assert (tmp_path / "page" / "numbers.csv").read_text().count("bulk_modulus") > 0


def test_a_potential_as_reference(run, inputs, potential, diamond_potential):
    _, node = run(ValidateWorkChain, **inputs({**ELASTIC, "geometry": "given"}, reference_potential=diamond_potential))
    assert node.is_finished_ok, node.exit_message
    assert node.outputs.labels.n_frames == len(Elastic().plan(bulk("Si", "diamond", 5.431)))
    assert potential.uuid not in node.outputs.labels.level_of_theory
    assert diamond_potential.uuid in node.outputs.labels.level_of_theory
    same = {**inputs({**ELASTIC, "geometry": "given"}), "potentials": {"same": diamond_potential}}
    _, node = run(ValidateWorkChain, **same, reference_potential=diamond_potential)
    mine, other = node.outputs.results.same["diamond"]["elastic"], node.outputs.reference["diamond"]["elastic"]
    assert np.allclose(mine["C_GPa"], other["C_GPa"], atol=1e-6)


def test_numbers_of_a_paper(run, inputs):
    values = Dict({"source": "a paper", "crystals": {"diamond": {"elastic": {"bulk_modulus_GPa": 1000.0}}}})
    _, node = run(ValidateWorkChain, **inputs({"properties": {"elastic": None}, "geometry": "given"}, values=values))
    assert node.is_finished_ok, node.exit_message
    rows = {row["score"]: row for row in node.outputs.scorecard["potentials"]["small"]["rows"]}
    mine = node.outputs.results.small["diamond"]["elastic"]["bulk_modulus_GPa"]
    assert rows["bulk_modulus_GPa_percent"]["value"] == pytest.approx(100 * (mine - 1000) / 1000)
    assert rows["bulk_modulus_GPa_percent"]["light"] == "bad"


def test_a_crystal_that_collapses_is_red(run, inputs):
    """Atoms so near each other that the potential gives up: told, and the other crystal goes on."""
    both = crystals(diamond=bulk("Si", "diamond", 5.431), dense=bulk("Si", "fcc", 2.0))
    _, node = run(ValidateWorkChain, **inputs(ELASTIC, crystals=both))
    assert node.is_finished_ok, node.exit_message
    rows = node.outputs.scorecard["potentials"]["small"]["rows"]
    (bad,) = [row for row in rows if row["crystal"] == "dense"]
    assert bad["light"] == "bad"
    assert bad["why"].startswith("the potential could not relax the crystal: ")
    assert "bulk_modulus_GPa" in node.outputs.results.small["diamond"]["elastic"]


def test_a_potential_that_relaxes_nothing_is_red(run, inputs, by_sw):
    _, node = run(ValidateWorkChain, **inputs(ELASTIC, crystals=crystals(dense=bulk("Si", "fcc", 2.0)), label=by_sw))
    assert node.is_finished_ok, node.exit_message
    (row,) = node.outputs.scorecard["potentials"]["small"]["rows"]
    assert row["light"] == "bad"
    assert row["why"].startswith("the potential could not relax the crystal: ")


def test_a_reference_that_fails_leaves_what_the_potential_gives(run, inputs, python_code):
    broken = {"ase": {"code": python_code, "settings": Dict({"calculator": "ase.calculators.emt.EMT"})}}  # knows no silicon
    _, node = run(ValidateWorkChain, **inputs({**ELASTIC, "geometry": "given"}, label=broken))
    assert node.exit_status == 410, node.exit_message
    assert "bulk_modulus_GPa" in node.outputs.results.small["diamond"]["elastic"]
    assert "scorecard" in node.outputs


def test_a_potential_that_explodes_is_red(run, inputs):
    """Far above what it was fitted to; it is told at which step, and what else there is goes on."""
    hot = {"temperatures_K": [300.0, 200_000.0], "equilibration_ps": 0.0, "time_ps": 0.03, "snapshot_fs": 5.0, "length_A": 5.0}
    suite = {"properties": {"dynamics": hot, "elastic": None}, "geometry": "given"}
    _, node = run(ValidateWorkChain, **inputs(suite))
    assert node.is_finished_ok, node.exit_message
    told = node.outputs.results.small["diamond"]["dynamics"]["trajectories"]["200000K"]
    assert told["status"] in ("exploded", "collapsed", "not_finite")
    assert 0 <= told["end_step"] <= 30
    rows = {row["score"]: row for row in node.outputs.scorecard["potentials"]["small"]["rows"]}
    assert rows["exploded"]["value"] >= 1
    assert rows["exploded"]["light"] == "bad"
    assert "bulk_modulus_GPa" in node.outputs.results.small["diamond"]["elastic"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, p: i.update(crystals=crystals(iron=bulk("Fe"))), "potential small knows Si, but not Fe"),
        (lambda i, p: i.update(potentials={"reference": p}), "reference is the name of the reference"),
        (lambda i, p: i.update(potentials={}), "give at least one"),
        (
            lambda i, p: i.update(reference_potential=p, values=Dict({"source": "x", "crystals": {}})),
            "one reference at most",
        ),
        (lambda i, p: i.update(settings=Dict({"properties": {"elastc": {}}})), "kind is 'elastc'"),
    ],
)
def test_what_is_refused(inputs, potential, change, message):
    given = inputs(ELASTIC)
    change(given, potential)
    ports = ValidateWorkChain.spec().inputs
    error = ports.validate(ports.pre_process(given))
    assert error is not None
    assert message in error.message
