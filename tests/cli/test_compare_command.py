"""``aiida-gaprss compare`` as a user types it, on a database that ``build`` has made."""

import json

import pytest
from aiida.orm import load_node
from ase.build import bulk
from ase.io import write
from helpers import FIT, call
from PIL import Image
from ruamel.yaml import YAML

from aiida_gaprss.cli.compare_strategies import build_of, reached, strategies_of

STRATEGIES = {
    "atoms": {"kind": "isolated_atoms"},
    "waves": {"kind": "nondiagonal", "grid": [2, 1, 1], "volumes": [0.97, 1.0, 1.03], "copies": 3},
    "strained": {"kind": "strained", "supercell": [2, 1, 1], "strains": [-0.04, -0.02, 0.02, 0.04]},
}


@pytest.fixture
def build(python_code, sw_settings, tmp_path, monkeypatch):
    """Return the pk of a database of diamond by some of the strategies."""
    monkeypatch.chdir(tmp_path)
    write("diamond.cif", bulk("Si", a=5.42))
    (tmp_path / "fit.yaml").write_text(json.dumps({**FIT, "descriptors": [FIT["descriptors"][0]]}))
    (tmp_path / "suite.yaml").write_text("properties: {elastic: }\n")

    def build(*names):
        codes = {"label_python": python_code.full_label, "python": python_code.full_label}
        data = {"crystals": ["diamond.cif"], "reference": {"ase": sw_settings}, "codes": codes}
        data["strategies"] = {name: STRATEGIES[name] for name in names}
        with open("build.yaml", "w") as handle:
            YAML().dump(data, handle)
        told = call("build", "build.yaml")
        return told.rpartition("Database <")[2].partition(">")[0]

    return build


@pytest.fixture
def codes(gap_fit_code, python_code):
    return ["--settings", "fit.yaml", "--code", gap_fit_code.full_label, "--python", python_code.full_label, "--threads", 1]


@pytest.mark.slow
@pytest.mark.full
def test_a_database(build, codes, tmp_path):
    pk = build("atoms", "waves", "strained")
    told = call("compare", pk, *codes, "--repeats", 1, "--costs", "64,1e6", "--suite", "suite.yaml", "--report", "out")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [(row["strategy"], row["cost"]) for row in found["rows"]] == [
        ("waves", 64.0),
        ("waves", 1e6),
        ("strained", 64.0),
        ("strained", 1e6),
    ]
    assert "waves: all frames at 1e+06; only sparse points differ from one repeat to the next" in told
    assert all(row["scores"]["diamond: elastic C44_percent"] for row in found["rows"] if row["reason"] is None)
    line = next(line.split() for line in told.splitlines() if "elastic C44_percent" in line)
    assert "–" not in line
    assert float(line[4]) == pytest.approx(abs(found["rows"][0]["scores"]["diamond: elastic C44_percent"]), rel=0.01)
    names = [path.stem for path in (tmp_path / "out").glob("*.png")]
    assert "diamond_elastic_C44_percent" in names
    for path in (tmp_path / "out").glob("*.png"):
        assert len(Image.open(path).convert("RGB").getcolors(100_000)) > 50
    node = load_node(found["rows"][0]["uuid"]).caller
    (validation,) = [process for process in node.called if process.process_label == "ValidateWorkChain"]
    assert validation.inputs.crystals == load_node(int(pk)).inputs.crystals
    datasets = load_node(int(pk)).outputs.datasets
    one = call("compare", datasets.waves.pk, datasets.strained.pk, *codes, "--common", datasets.atoms.pk, ok=False)
    assert "properties are of crystals: give files (--crystals), or --suite none" in one


def test_what_cannot_be_compared(build, codes):
    pk = build("atoms", "strained")
    assert "in 26 frames" in call("fit", pk, *codes, "--forecast"), "of a database all its labels"
    assert "expected two strategies with labelled frames, got strained" in call("compare", pk, *codes, ok=False)
    assert "is a database: give it alone" in call("compare", pk, pk, *codes, ok=False)
    assert "--costs: 40 buys no frame of strained, whose cheapest costs 64" in call(
        "compare", build("waves", "strained"), *codes, "--costs", "1e6,40", ok=False
    )
    assert "expected numbers with commas" in call("compare", pk, *codes, "--costs", "much", ok=False)


def test_costs_that_all_reach():
    assert reached([[1.0] * 64, [4.0] * 100]) == [4.0, 16.0, 64.0]
    assert reached([[1.0, 1.0], [512.0, 512.0]]) == [512.0], "the cheapest frame of one is more than all of the other"
    assert reached([[8.0], [8.0]]) == [8.0]


def test_datasets_have_the_names_of_their_strategies(dataset):
    """Whatever the database is called, whose name stands behind that of the strategy."""
    labels = ("labelled frames of waves (silicon base)", "labelled frames of single", "labelled frames of waves (other)", "of Si")
    nodes = [dataset.clone().store() for _ in labels]
    for node, label in zip(nodes, labels, strict=True):
        node.label = label
    found = strategies_of(tuple(str(node.pk) for node in nodes))
    assert build_of(str(nodes[0].pk)) is None
    assert {name: node.pk for name, node in found.items()} == dict(
        zip(("waves", "single", "d02", "Si"), (node.pk for node in nodes), strict=True)
    )
