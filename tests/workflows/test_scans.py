"""Many fits with one test: learning curve, search of hyperparameters, committee. All fits are real."""

import numpy as np
import pytest
from aiida.orm import Dict, Float, Int, List, Str, load_node, to_aiida_type
from helpers import FIT

from aiida_gaprss.workflows.committee import CommitteeWorkChain
from aiida_gaprss.workflows.hyperparameters import HyperparametersWorkChain
from aiida_gaprss.workflows.learning_curve import LearningCurveWorkChain

#: A fit of a fraction of a second.
TINY = {**FIT, "descriptors": [FIT["descriptors"][0]]}


@pytest.fixture
def inputs(gap_fit_code, python_code, dataset):
    return {
        "fit": {"code": gap_fit_code, "python": python_code},
        "datasets": {"silicon": dataset},
        "settings": Dict(TINY),
        "seed": Int(3),
        "test_fraction": Float(0.3),
    }


def names(dataset):
    return {a.info["frame_id"] for a in dataset.get_frames()}


def test_learning_curve(run, inputs, silicon_frames):
    outputs, node = run(LearningCurveWorkChain, **inputs, sizes=List([1.0, 0.3]), repeats=Int(2), max_concurrent=3)
    assert node.is_finished_ok, node.exit_message
    curve = outputs["curve"].get_dict()
    rows = curve["rows"]
    assert [(row["size"], row["repeat"]) for row in rows] == [(0.3, 0), (0.3, 1), (1.0, 0), (1.0, 1)]
    held = round(0.3 * (len(silicon_frames) - 1))
    training = len(silicon_frames) - 1 - held
    assert [row["frames"] - 1 for row in rows] == [round(0.3 * training)] * 2 + [training] * 2
    fits = [load_node(row["uuid"]) for row in rows]
    parts = [names(fit.outputs.predictions) for fit in fits]
    tests = [names(fit.outputs.test_predictions) for fit in fits]
    assert all(test == tests[0] for test in tests)
    assert len(tests[0]) == held
    assert all(part & tests[0] == set() for part in parts)
    assert parts[0] < parts[2] == parts[3] > parts[1] != parts[0]
    for row, fit in zip(rows, fits, strict=True):
        assert fit.caller == node
        assert row["energy_rmse"] == fit.outputs.test_results["errors"]["energy"]["rmse"]
        assert row["reason"] is None
        assert row["repaired"] is False
        assert row["ms_per_atom"] > 0
    small = curve["sizes"][0]
    values = [row["forces_mae"] for row in rows[:2]]
    assert small["forces_mae"] == pytest.approx(np.mean(values))
    assert small["forces_mae_std"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    assert small["fits"] == 2


def test_a_point_that_fails_is_a_row(run, inputs):
    """Few frames leave a part in which there is nothing to fit; the others go on."""
    outputs, node = run(LearningCurveWorkChain, **inputs, sizes=List([0.01, 0.5]), repeats=Int(1))
    assert node.is_finished_ok, node.exit_message
    failed, done = outputs["curve"]["rows"]
    assert "a fraction of 0.01 of 10 frames leaves nothing to fit" in failed["reason"]
    assert done["reason"] is None
    assert [size["fits"] for size in outputs["curve"]["sizes"]] == [0, 1]
    assert outputs["curve"]["sizes"][0]["energy_rmse"] is None
    outputs, node = run(LearningCurveWorkChain, **inputs, sizes=List([0.01]), repeats=Int(2))
    assert node.exit_status == LearningCurveWorkChain.exit_codes.ERROR_ALL_FAILED.status
    assert "2 of 2 fits failed; the first one: a fraction of 0.01" in node.exit_message
    assert len(outputs["curve"]["rows"]) == 2


@pytest.mark.slow
def test_grid(run, inputs):
    """The best of the trials, recomputed; one of them cannot be fitted."""
    inputs["settings"] = Dict(
        {**TINY, "descriptors": [{"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 10, "theta_uniform": 1.0}]}
    )
    search = {
        "variables": {
            "descriptors.0.cutoff": [3.0, 4.5],
            "sparse_jitter": [1e-8, 1e-8, 1e-19],
            "descriptors.0.n_sparse": [250],
        },
        "weights": {"energy": 2.0, "forces": 0.5},
    }
    search["variables"]["descriptors.0.theta_uniform"] = [5.0]
    outputs, node = run(HyperparametersWorkChain, **inputs, search=Dict(search), max_concurrent=4)
    assert node.is_finished_ok, node.exit_message
    rows = outputs["trials"]["rows"]
    assert len(rows) == 4, "equal trials are done once"
    assert {tuple(row["values"].values()) for row in rows} == {
        (c, j, n, 5.0) for c in (3.0, 4.5) for j in (1e-8, 1e-19) for n in (250,)
    }
    done = [row for row in rows if row["reason"] is None]
    failed = [row for row in rows if row["reason"] is not None]
    assert failed
    assert rows == done + failed
    assert all("cannot factorise" in row["reason"] and row["objective"] is None for row in failed)
    objectives = []
    for row in done:
        errors = load_node(row["uuid"]).outputs.test_results["errors"]
        objectives.append(2.0 * errors["energy"]["rmse"] + 0.5 * 1000 * errors["forces"]["rmse"])
        assert not names(load_node(row["uuid"]).outputs.predictions) & names(load_node(row["uuid"]).outputs.test_predictions)
        settings = load_node(row["uuid"]).inputs.settings.get_dict()
        assert settings["descriptors"][0]["cutoff"] == row["values"]["descriptors.0.cutoff"]
    assert [row["objective"] for row in done] == pytest.approx(objectives)
    assert objectives == sorted(objectives)
    best = load_node(rows[0]["uuid"])
    assert outputs["potential"] == best.outputs.potential
    assert outputs["best"]["descriptors"][0]["cutoff"] == rows[0]["values"]["descriptors.0.cutoff"]
    front = outputs["pareto"]["rows"]
    assert rows[0] in front
    assert [row["objective"] for row in front] == sorted((row["objective"] for row in front), reverse=True)
    assert not [a for a in front for b in done if b["ms_per_atom"] < a["ms_per_atom"] and b["objective"] < a["objective"]]


@pytest.mark.slow
@pytest.mark.full
def test_evolution(run, inputs):
    """It gets better than the first population, and the same seed makes the same trials."""
    search = {
        "variables": {"descriptors.0.cutoff": {"bounds": [2.5, 6.0]}, "descriptors.0.n_sparse": {"bounds": [3, 12], "log": True}},
        "population": 4,
        "generations": 1,
        "weights": {"forces": 0.0},
    }
    outputs, node = run(HyperparametersWorkChain, **inputs, search=Dict(search), max_concurrent=4)
    assert node.is_finished_ok, node.exit_message
    rows = outputs["trials"]["rows"]
    assert 4 < len(rows) <= 8
    values = [tuple(row["values"].values()) for row in rows]
    assert len(set(values)) == len(values)
    assert all(2.5 <= cutoff <= 6.0 and n in range(3, 13) for cutoff, n in values)
    assert all(row["objective"] == row["energy_rmse"] for row in rows)
    fits = [child for child in node.called if child.process_label == "FitWorkChain"]
    first = {fit.uuid for fit in sorted(fits, key=lambda fit: fit.ctime)[:4]}
    assert rows[0]["uuid"] not in first, "a later generation is better"
    assert len({fit.inputs.seed.value for fit in fits}) == 1


def test_members_by_subset(run, inputs):
    outputs, node = run(CommitteeWorkChain, **inputs, members=Int(3), max_concurrent=3)
    assert node.is_finished_ok, node.exit_message
    assert sorted(outputs["potentials"]) == ["m00", "m01", "m02"]
    fits = [load_node(row["uuid"]) for row in outputs["errors"]["rows"]]
    parts = [names(fit.outputs.predictions) for fit in fits]
    assert [len(part) - 1 for part in parts] == [8, 8, 8], "80% of 10 frames"
    assert len(set(map(frozenset, parts))) > 1
    assert all(not part & names(fits[0].outputs.test_predictions) for part in parts)
    spread = outputs["spread"].get_dict()
    energies = np.array(
        [[1000 * a.info["PRED_energy"] / len(a) for a in fit.outputs.test_predictions.get_frames()] for fit in fits]
    )
    assert spread["energy"]["spread"] == pytest.approx(np.sqrt(energies.var(axis=0, ddof=1).mean()), rel=1e-6)
    assert spread["energy"]["spread"] > 0
    assert -1 <= spread["forces"]["spearman"] <= 1
    assert spread["by"] == "subset"
    assert {row["frame_id"] for row in spread["frames"]} == names(fits[0].outputs.test_predictions)


@pytest.mark.full
def test_members_by_seed(run, inputs):
    """Other sparse points, the same frames: the potentials differ, their training sets do not."""
    soap = {"kind": "soap", "cutoff": 4.0, "n_max": 3, "l_max": 2, "n_sparse": 12, "delta": 0.5}
    inputs["settings"] = Dict({**FIT, "descriptors": [soap]})
    outputs, node = run(CommitteeWorkChain, **inputs, members=Int(2), by=Str("seed"))
    assert node.is_finished_ok, node.exit_message
    first, second = [load_node(row["uuid"]) for row in outputs["errors"]["rows"]]
    assert names(first.outputs.predictions) == names(second.outputs.predictions)
    assert len(names(first.outputs.predictions)) == 11, "the isolated atom, and the frames that are not held out"
    assert not names(first.outputs.predictions) & names(first.outputs.test_predictions)
    assert first.inputs.seed != second.inputs.seed
    assert outputs["spread"]["energy"]["spread"] > 1e-6


def test_a_committee_of_failures(run, inputs):
    singular = {"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 250, "theta_uniform": 5.0}
    inputs["settings"] = Dict({**TINY, "descriptors": [singular], "sparse_jitter": 1e-19})
    outputs, node = run(CommitteeWorkChain, **inputs, members=Int(2))
    assert node.exit_status == CommitteeWorkChain.exit_codes.ERROR_ALL_FAILED.status
    assert "cannot factorise" in node.exit_message
    assert len(outputs["errors"]["rows"]) == 2
    assert "spread" not in outputs
    outputs, node = run(CommitteeWorkChain, **inputs, members=Int(2), adapt=True)
    assert node.is_finished_ok, node.exit_message
    assert [row["repaired"] for row in outputs["errors"]["rows"]] == [True, True], "with more jitter than was asked for"


# --- what is refused ---

VARIABLE = {"sigma.energy": [0.001, 0.01]}


@pytest.mark.parametrize(
    ("process", "changes", "message"),
    [
        (LearningCurveWorkChain, {"sizes": [0.5, 1.5]}, r"different numbers above 0 and at most 1, got \[0.5, 1.5\]"),
        (LearningCurveWorkChain, {"sizes": []}, r"sizes: expected .* got \[\]"),
        (LearningCurveWorkChain, {"repeats": 0}, "repeats: expected at least 1, got 0"),
        (LearningCurveWorkChain, {"max_concurrent": 300}, "expected 1 to 20, got 300"),
        (LearningCurveWorkChain, {"seed": 0}, "seed must be positive, got 0"),
        (LearningCurveWorkChain, {"test_fraction": None}, "a test is needed: give test_fraction"),
        (LearningCurveWorkChain, {"settings": {**TINY, "sigma": {}}}, "sigma.energy: missing"),
        (
            HyperparametersWorkChain,
            {"search": {"variables": {"descriptors.1.cutoff": [4.0]}}},
            r"search.variables.descriptors.1.cutoff: there is no '1' in descriptors; there is 0 to 0",
        ),
        (
            HyperparametersWorkChain,
            {"search": {"variables": {"sigma.energy": {"bounds": [0.1, 0.01]}}}},
            r"search.variables.sigma.energy: bounds \[0.1, 0.01\]: the first must be below the second",
        ),
        (HyperparametersWorkChain, {"search": {"variables": {"sigma.energy": []}}}, r"search.variables.sigma.energy.*at least"),
        (HyperparametersWorkChain, {"search": {"variables": VARIABLE, "wights": {}}}, "search.wights: unknown key"),
        (CommitteeWorkChain, {"members": 1}, "members: expected 2 to 20, got 1"),
        (CommitteeWorkChain, {"by": "luck"}, "by: expected 'seed' or 'subset', got 'luck'"),
        (CommitteeWorkChain, {"fraction": 1.0}, "fraction: expected a number between 0 and 1, got 1.0"),
    ],
)
def test_refused_before_submission(run, inputs, process, changes, message):
    inputs |= {
        key: to_aiida_type(value) if key not in ("max_concurrent", "test_fraction") else value for key, value in changes.items()
    }
    with pytest.raises(ValueError, match=message):
        run(process, **{key: value for key, value in inputs.items() if value is not None})
