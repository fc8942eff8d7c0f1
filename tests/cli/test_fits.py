"""The commands that fit, as a user types them: on real, tiny fits."""

import json

import helpers
import pytest
from aiida.orm import QueryBuilder, WorkChainNode
from helpers import FIT
from PIL import Image
from ruamel.yaml import YAML

from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.models.training import atomic_energies


@pytest.fixture
def call(dataset, gap_fit_code, python_code, tmp_path, monkeypatch):
    """Call a command that fits to the silicon frames."""
    monkeypatch.chdir(tmp_path)
    dataset.store()
    (tmp_path / "fit.yaml").write_text(json.dumps({**FIT, "descriptors": [FIT["descriptors"][0]]}))

    def call(command, *more, ok=True):
        codes = ["--code", gap_fit_code.full_label, "--python", python_code.full_label, "--threads", "1"]
        arguments = [command, dataset.pk, "--settings", "fit.yaml", "--seed", 3, *codes, *more]
        return helpers.call(*arguments, ok=ok)

    return call


def line(text, first):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


def last(label):
    query = QueryBuilder().append(WorkChainNode, filters={"attributes.process_label": label}).order_by({WorkChainNode: "ctime"})
    return query.all(flat=True)[-1]


def pictures(folder):
    """Return the names of the figures in a folder, if each shows something."""
    for path in folder.glob("*.png"):
        assert len(Image.open(path).convert("RGB").getcolors(100_000)) > 50, path
    return sorted(path.stem for path in folder.glob("*.png"))


def test_fit(call, tmp_path):
    text = call("fit", "--test-fraction", 0.3, "--report", "out")
    again = call("fit", "--test-fraction", 0.3, "--report", "out", ok=False)
    assert "out has results already" in again
    assert line(text, "all")[1] == "11"
    assert pictures(tmp_path / "out") == [f"{w}_{q}" for w in ("test", "training") for q in ("energy", "forces", "virial")]
    assert "the fit needs about" in call("fit", "--forecast")


@pytest.mark.full
def test_energies_of_free_atoms(call):
    text = call("fit", "--e0", "average")
    assert "Potential <" in text
    fit = last("FitWorkChain")
    assert fit.outputs.settings["e0"] == "average"
    mean = atomic_energies(fit.inputs.datasets.d00.get_frames(), "average")["Si"]
    assert mean < -0.5, "not the energy of the isolated atom"
    assert fit.outputs.potential.base.attributes.get("e0")["Si"] == pytest.approx(mean, abs=1e-9)
    call("fit", "--e0", "Si=-1.5", "--mixed-levels")
    assert last("FitWorkChain").outputs.settings["mixed_levels"]
    assert last("FitWorkChain").outputs.potential.base.attributes.get("e0") == {"Si": -1.5}
    assert "expected isolated, average, or energies" in call("fit", "--e0", "Si:-1.5", ok=False)
    assert "'Xx' is no element" in call("fit", "--e0", "Xx=1", ok=False)


@pytest.mark.full
def test_learning_curve(call, tmp_path):
    text = call("learning-curve", "--test-fraction", 0.3, "--sizes", "0.01,0.5", "--repeats", 2, "--report", "out")
    curve = last("LearningCurveWorkChain").outputs.curve
    assert [size["fits"] for size in curve["sizes"]] == [0, 2]
    assert line(text, "50%")[1:3] == ["2", "6"]
    assert float(line(text, "50%")[3]) == pytest.approx(curve["sizes"][1]["energy_rmse"], rel=0.01)
    assert "±" in line(text, "50%")
    assert "1%, repeat 2 failed: a fraction of 0.01 of 10 frames leaves nothing to fit" in text
    assert pictures(tmp_path / "out") == ["energy", "forces", "virial"]
    assert "expected numbers with commas" in call("learning-curve", "--sizes", "all", ok=False)
    assert "a test is needed: give test_fraction" in call("learning-curve", ok=False)


@pytest.mark.slow
def test_tune(call, tmp_path):
    (tmp_path / "search.yaml").write_text("variables: {descriptors.0.cutoff: [3.5, 4.5]}\nweights: {forces: 2}")
    text = call("tune", "--test-fraction", 0.3, "--search", "search.yaml", "--report", "out")
    trials = last("HyperparametersWorkChain").outputs.trials["rows"]
    assert sorted(row["values"]["descriptors.0.cutoff"] for row in trials) == [3.5, 4.5]
    weighted = [row["energy_rmse"] + 2000 * row["forces_rmse"] for row in trials]
    assert [row["objective"] for row in trials] == pytest.approx(sorted(weighted))
    best = YAML(typ="safe").load((tmp_path / "out" / "best.yaml").read_text())
    assert GapSettings(**best).descriptors[0].cutoff == trials[0]["values"]["descriptors.0.cutoff"]
    shown = [words for words in map(str.split, text.splitlines()) if words[:1] == ["*"] and words[1] in ("3.5", "4.5")]
    front = last("HyperparametersWorkChain").outputs.pareto["rows"]
    assert sorted(words[1] for words in shown) == sorted(str(row["values"]["descriptors.0.cutoff"]) for row in front)
    assert pictures(tmp_path / "out") == ["pareto"]
    (tmp_path / "search.yaml").write_text("variables: {descriptors.0.cutof: [3.5]}")
    text = call("tune", "--test-fraction", 0.3, "--search", "search.yaml", ok=False)
    assert "search.variables.descriptors.0.cutof: there is no 'cutof' in descriptors.0; there is kind, cutoff" in text
    (tmp_path / "search.yaml").write_text("- 3")
    assert "expected keys and values, e.g. 'variables:" in call("tune", "--search", "search.yaml", ok=False)


def test_committee(call, tmp_path):
    text = call("committee", "--test-fraction", 0.3, "--members", 2, "--report", "out")
    node = last("CommitteeWorkChain")
    assert line(text, "m01")[1] == f"<{node.outputs.potentials.m01.pk}>"
    assert float(line(text, "energy,")[2]) == pytest.approx(node.outputs.spread["energy"]["spread"], rel=0.01)
    assert pictures(tmp_path / "out") == ["energy", "forces"]
