"""``aiida-gaprss search`` as a user types it: a real search of a few cells, and what it refuses."""

import csv
import json

import helpers
import pytest
from aiida.orm import QueryBuilder, WorkChainNode
from ase.build import bulk
from ase.io import write

from aiida_gaprss import frames as fr
from aiida_gaprss.data.potential import Potential

SETTINGS = """\
formula: {Si: 1}
seeds:
  few: {n_atoms: [2], volume_per_atom: [16, 26], min_separation: 2.1, n_operations: [8, 12, 24]}
  free: {n_atoms: [2], volume_per_atom: [16, 26], min_separation: 2.1}
cells: {few: 60, free: 20}
relax: {fmax: 0.05, max_steps: 100, snapshot_steps: []}
"""


@pytest.fixture
def call(diamond_folder, python_code, tmp_path, monkeypatch):
    """Call the command in a folder of its own; return what it says."""
    monkeypatch.chdir(tmp_path)
    potential = Potential(diamond_folder).store()
    (tmp_path / "search.yaml").write_text(SETTINGS)
    write("diamond.cif", bulk("Si", a=5.45))
    write("simple_cubic.xyz", bulk("Si", "sc", a=2.6), format="extxyz")

    def call(*more, what=potential.pk, ok=True):
        arguments = ["search", what, "--python", python_code.full_label, *more]
        return helpers.call(*arguments, ok=ok)

    return call


def last():
    query = QueryBuilder().append(WorkChainNode, filters={"attributes.process_label": "SearchWorkChain"})
    return query.order_by({WorkChainNode: "ctime"}).all(flat=True)[-1]


def test_search(call, tmp_path):
    targets = ("--target", "diamond.cif", "--target", "simple_cubic.xyz")
    text = call("--settings", "search.yaml", "--attempts", 12, "--seed", 4, *targets, "--report", "out", "--processes", 2)
    node = last()
    assert node.inputs.settings["cells"] == {"few": 9, "free": 3}
    found = {row["name"]: row for row in node.outputs.found["targets"]}
    assert f"diamond: found {found['diamond']['hits']} times, first by attempt {found['diamond']['first_hit']}" in text
    assert "simple_cubic: not found" in text
    assert "12 attempts: " in text
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert record["summary"] == node.outputs.summary.get_dict()
    with (tmp_path / "out" / "minima.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["frame_id"] for row in rows] == [a.info["frame_id"] for a in fr.load(tmp_path / "out" / "minima.xyz")]
    assert f"({rows[0]['space_group']})" in text
    again = call("--report", "again", what=node.pk)
    assert again.splitlines()[:-1] == text[text.index("Lowest minima") :].splitlines()[:-1] or "12 attempts: " in again
    assert (tmp_path / "again" / "minima.xyz").read_bytes() == (tmp_path / "out" / "minima.xyz").read_bytes()


def test_like_a_campaign(call, campaign):
    call("--like", campaign.pk, "--attempts", 3, "--pressure", 2.5, "--seed", 2)
    settings, theirs = last().inputs.settings.get_dict(), campaign.inputs.settings.get_dict()
    assert settings["seeds"] == theirs["seeds"]
    assert settings["relax"]["max_steps"] == theirs["search"]["relax"]["max_steps"]
    assert (settings["cells"], settings["pressure_GPa"]) == ({"random": 3}, 2.5)


def test_what_is_refused(call, dataset, tmp_path):
    before = QueryBuilder().append(WorkChainNode).count()
    assert "give --settings FILE with formula, seeds and cells, or --like CAMPAIGN" in call(ok=False)
    (tmp_path / "bad.yaml").write_text(SETTINGS.replace("formula: {Si: 1}", "formulae: {Si: 1}") + "window: -1\n")
    text = call("--settings", "bad.yaml", ok=False)
    assert "formula: missing" in text
    assert "formulae: unknown key" in text
    assert "window: Input should be greater than 0 (got -1)" in text
    (tmp_path / "bad.yaml").write_text(SETTINGS.replace("cells: {few: 60", "cells: {fewer: 60"))
    assert "no kind of seed is called 'fewer'; known: few, free" in call("--settings", "bad.yaml", ok=False)
    good = ("--settings", "search.yaml")
    (tmp_path / "bad.cif").write_text("nothing\n")
    assert "bad.cif: ASE cannot read it" in call(*good, "--target", "bad.cif", ok=False)
    write(tmp_path / "molecule.xyz", bulk("Si"), format="xyz")
    assert "molecule.xyz: expected a crystal" in call(*good, "--target", "molecule.xyz", ok=False)
    write(tmp_path / "other.cif", bulk("GaAs", "zincblende", a=5.65))
    assert "the potential knows Si, but not As, Ga" in call(*good, "--target", "other.cif", ok=False)
    dataset.store()
    both = ("--target", "diamond.cif", "--target-dataset", dataset.pk)
    assert "not both" in call(*good, *both, ok=False)
    assert "is a Dataset, expected a potential" in call(*good, what=dataset.pk, ok=False)
    assert "no campaign 999999" in call("--like", 999999, ok=False)
    assert QueryBuilder().append(WorkChainNode).count() == before, "nothing has begun"
