"""The fit with what is around it: forecast, held-out frames, repairs, errors of the test."""

import numpy as np
import pytest
from aiida.orm import Bool, Dict, Float, Int, List
from ase import Atoms
from ase.build import bulk
from helpers import FIT, label

from aiida_gaprss.calculations import fit
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.models.gap.forecast import forecast
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.workflows.fit import FitWorkChain


@pytest.fixture
def inputs(gap_fit_code, python_code, dataset):
    return {
        "fit": {"code": gap_fit_code, "python": python_code},
        "datasets": {"silicon": dataset},
        "settings": Dict(FIT),
        "seed": Int(3),
    }


def reports(node):
    from aiida.orm import Log

    return "\n".join(log.message for log in Log.collection.get_logs_for(node))


def test_held_out_frames(run, inputs, silicon_frames, evaluated):
    out = silicon_frames[3].info["frame_id"]
    outputs, node = run(FitWorkChain, **inputs, test_fraction=Float(0.2), leave_out=List([out]))
    assert node.is_finished_ok, node.exit_message
    held = outputs["test_predictions"].get_frames()
    cells = len(silicon_frames) - 2
    assert len(held) == round(0.2 * cells)
    assert outputs["results"].get_dict()["frames"] == cells + 1 - len(held)
    trained = {a.info["frame_id"] for a in outputs["predictions"].get_frames()}
    assert not trained & {a.info["frame_id"] for a in held}
    assert out not in trained | {a.info["frame_id"] for a in held}
    assert silicon_frames[0].info["frame_id"] in trained, "the isolated atom is always fitted"
    # The errors of the test, computed anew from the potential.
    found = evaluated(held, outputs["potential"].calculator())
    energy = [1000 * abs(p[0] - a.info["REF_energy"]) / len(a) for p, a in zip(found, held, strict=True)]
    forces = np.concatenate([np.ravel(p[1] - a.arrays["REF_forces"]) for p, a in zip(found, held, strict=True)])
    test = outputs["test_results"].get_dict()
    assert test["errors"]["energy"]["mae"] == pytest.approx(np.mean(energy), rel=1e-4)
    assert test["errors"]["forces"]["rmse"] == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-4)
    assert sum(group["frames"] for group in test["errors_by_height"].values()) == len(held)
    assert set(outputs["results"].get_dict()["errors_by_height"]) >= set(test["errors_by_height"])
    assert "frames held out for the test" in reports(node)
    assert "forecast: " in reports(node)
    # The same seed, the same test.
    again, _ = run(FitWorkChain, **inputs, test_fraction=Float(0.2), leave_out=List([out]))
    assert [a.info["frame_id"] for a in again["test_predictions"].get_frames()] == [a.info["frame_id"] for a in held]


def test_a_protocol_and_frames_that_are_not_fitted(run, inputs, silicon_frames):
    """Unlabelled frames give sparse points; the settings that were used are in the output."""
    unlabelled = []
    for atoms in silicon_frames[1:6]:
        other = atoms.copy()
        other.positions *= 1.07
        other.set_cell(other.cell * 1.07)
        other.info = {"frame_id": f"large-{atoms.info['frame_id']}", "config_type": "large"}
        other.arrays.pop("REF_forces")
        unlabelled.append(other)
    descriptors = [
        {"kind": "distance_2b", "cutoff": "2 b", "n_sparse": 10},
        {"kind": "soap", "cutoff": "1.8 b", "n_max": 4, "l_max": 3, "n_sparse": {"large": 7, "random": 13}},
    ]
    inputs["settings"] = Dict({"protocol": "default", "descriptors": descriptors})
    outputs, node = run(FitWorkChain, **inputs, sparse_frames={"large": Dataset(unlabelled)}, leave_out=List(["cell-04"]))
    assert node.is_finished_ok, node.exit_message
    used = outputs["settings"].get_dict()
    assert [term["cutoff"] for term in used["descriptors"]] == [4.4, 4.0]
    assert used["sigma"]["energy"] == 0.002
    results = outputs["results"].get_dict()
    assert results["counts"]["energies"] == len(silicon_frames) - 1, "without the frame that was left out, and the unlabelled"
    assert outputs["potential"].base.attributes.get("n_sparse") == [10, 20]
    assert not [a for a in outputs["predictions"].get_frames() if a.info["config_type"] == "large"]


@pytest.mark.full
def test_delta_by_stages(run, inputs):
    terms = [FIT["descriptors"][0], {"kind": "soap", "cutoff": 4.5, "n_max": 4, "l_max": 3, "n_sparse": 20, "delta": 9.0}]
    inputs["settings"] = Dict({**FIT, "descriptors": terms})
    outputs, node = run(FitWorkChain, **inputs, delta_by_stages=Bool(True))
    assert node.is_finished_ok, node.exit_message
    first, final = [child for child in node.called if child.process_label == "FitCalculation"]
    assert len(first.inputs.settings.get_dict()["descriptors"]) == 1
    left_over = first.outputs.results.get_dict()["errors"]["energy"]["rmse"] / 1000
    assert final.inputs.settings.get_dict()["descriptors"][1]["delta"] == pytest.approx(left_over)
    assert outputs["settings"].get_dict()["descriptors"][0] == first.inputs.settings.get_dict()["descriptors"][0]


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {**FIT, "descriptors": [{"kind": "soap", "cutoff": 4, "n_sparze": 3}]}}, "n_sparze: unknown key"),
        ({"settings": {"protocol": "zuo2021_Si"}}, "unknown protocol 'zuo2021_Si'; known: allen2022_Al"),
        (
            {"settings": {**FIT, "regularisation": [{"kind": "hull", "config_types": ["liquid"]}]}},
            "no frames of config type liquid",
        ),
        ({"datasets": {}}, "give at least one dataset"),
        ({"test_fraction": 0.2, "fit": "no python"}, "a test needs fit.python"),
        ({"memory_MB": 10.0}, r"the fit needs .* and may have 10 MB; take fewer sparse points"),
    ],
)
def test_refused_before_submission(run, inputs, changes, message):
    for key, value in changes.items():
        if key == "fit":
            inputs["fit"] = {"code": inputs["fit"]["code"]}
        else:
            inputs[key] = {"settings": Dict, "test_fraction": Float}.get(key, lambda given: given)(value)
    with pytest.raises(ValueError, match=message):
        run(FitWorkChain, **inputs)


@pytest.mark.full
def test_a_test_of_what_is_fitted(run, inputs, silicon_frames):
    """The same structure under another name is no test; left out of the fit it is one."""
    other = silicon_frames[4].copy()
    other.info["frame_id"] = "other"
    inputs["test"] = {"mine": Dataset([other], level_of_theory="Stillinger-Weber")}
    name = silicon_frames[4].info["frame_id"]
    with pytest.raises(ValueError, match=f"test.mine: 1 of its frames are fitted, too: other is {name}; --leaks drop"):
        run(FitWorkChain, **inputs)
    outputs, node = run(FitWorkChain, **inputs, leave_out=List([name]))
    assert node.is_finished_ok, node.exit_message
    assert outputs["test_results"].get_dict()["frames"] == 1


@pytest.mark.full
def test_symmetric_copies_are_told_and_can_be_dropped(run, inputs, silicon_frames):
    """Turned, shifted, repeated or with its atoms in another order, a frame of the training set is no test."""
    rng = np.random.default_rng(0)
    turned, repeated, fresh = (silicon_frames[i].copy() for i in (3, 5, 7))
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += 0.37
    turned = turned[rng.permutation(len(turned))]
    repeated = repeated.repeat((2, 1, 1))
    fresh.set_cell(fresh.cell.array * 1.02, scale_atoms=True)
    test = []
    for name, atoms in (("turned", turned), ("repeated", repeated), ("fresh", fresh)):
        atoms.info.update(frame_id=name, config_type="random", REF_energy=-4.0 * len(atoms))
        atoms.info.pop("REF_virial", None)
        atoms.arrays.pop("REF_forces", None)
        test.append(atoms)
    inputs["test"] = {"mine": Dataset(test, level_of_theory="Stillinger-Weber")}
    names = [silicon_frames[i].info["frame_id"] for i in (3, 5)]
    with pytest.raises(
        ValueError, match=f"test.mine: 2 of its frames are fitted, too: turned is {names[0]}, repeated is {names[1]}"
    ):
        run(FitWorkChain, **inputs)
    outputs, node = run(FitWorkChain, **inputs, leaks="drop")
    assert node.is_finished_ok, node.exit_message
    assert [a.info["frame_id"] for a in outputs["test_predictions"].get_frames()] == ["fresh"]
    with pytest.raises(ValueError, match="expected refuse or drop, got 'keep'"):
        run(FitWorkChain, **inputs, leaks="keep")


def test_a_test_of_another_level(run, inputs, silicon_frames):
    fresh = silicon_frames[7].copy()
    fresh.set_cell(fresh.cell.array * 1.02, scale_atoms=True)
    fresh.info["frame_id"] = "fresh"
    inputs["test"] = {"mine": Dataset([fresh], level_of_theory="PBE")}
    with pytest.raises(ValueError, match=r"test.mine was labelled at another level of theory than the datasets: .*PBE"):
        run(FitWorkChain, **inputs)


def test_absurd_labels_are_not_fitted_without_a_word(run, inputs, copies):
    copies[3].info["REF_energy"] += 221.0 * len(copies[3])
    copies[6].arrays["REF_forces"][0] = [1.7e4, 0, 0]
    names = [copies[i].info["frame_id"] for i in (3, 6)]
    inputs["datasets"] = {"silicon": Dataset(copies, level_of_theory="Stillinger-Weber")}
    reason = rf"2 frames have labels .*: {names[0]} \(energy 22.* limit 50\), {names[1]} \(force of 1.7e\+04 eV/Å, limit 200\)"
    with pytest.raises(ValueError, match=reason):
        run(FitWorkChain, **inputs)
    with pytest.raises(ValueError, match="1 frames have labels that can hardly be right"):
        run(FitWorkChain, **inputs, leave_out=List(names[:1]))
    outputs, node = run(FitWorkChain, **inputs, leave_out=List(names))
    assert node.is_finished_ok, node.exit_message
    outputs, node = run(FitWorkChain, **{**inputs, "settings": Dict({**FIT, "keep_absurd": True})})
    assert node.is_finished_ok, node.exit_message
    assert outputs["results"].get_dict()["frames"] == len(copies)


def test_a_frame_with_nan_is_no_dataset(silicon_frames):
    spoilt = [atoms.copy() for atoms in silicon_frames]
    spoilt[7].arrays["REF_forces"][1, 2] = np.nan
    with pytest.raises(ValueError, match=r"frame cell-06: REF_forces contains nan, expected finite numbers"):
        Dataset(spoilt)


# --- what is repaired ---


@pytest.fixture
def large(sw):
    """Ten cells of 64 atoms: enough to take time and memory."""
    rng = np.random.default_rng(2)
    frames = [Atoms("Si", cell=[12.0] * 3, pbc=True)]
    frames[0].info.update(frame_id="atom", config_type="isolated_atom", REF_energy=0.0)
    for number in range(10):
        atoms = bulk("Si", cubic=True).repeat(2)
        atoms.rattle(0.1, rng=rng)
        atoms.info.update(frame_id=f"large-{number}", config_type="crystal")
        label(atoms, sw)
        del atoms.info["REF_virial"]
        frames.append(atoms)
    return Dataset(frames, level_of_theory="Stillinger-Weber")


def one_term(**changes):
    """Settings with one many-body term."""
    term = {"kind": "soap", "cutoff": 4.0, "n_max": 3, "l_max": 2, "n_sparse": 50, "delta": 0.5, **changes}
    return {**FIT, "descriptors": [term]}


def test_fewer_sparse_points_for_less_memory(run, inputs, large):
    """Known beforehand: a fit that is too large for its node is refused, or made smaller."""
    settings, fewer = one_term(n_sparse=500), one_term(n_sparse=200)
    frames = large.get_frames()
    limit = np.mean([forecast(frames, GapSettings(**given)).memory_MB for given in (settings, fewer)])
    inputs |= {"settings": Dict(settings), "datasets": {"large": large}, "memory_MB": float(limit)}
    with pytest.raises(ValueError, match=rf"the fit needs about .* may have {limit:.0f} MB"):
        run(FitWorkChain, **inputs)
    outputs, node = run(FitWorkChain, **inputs, adapt=True)
    assert node.is_finished_ok, node.exit_message
    assert f"% of the sparse points, to fit {limit:.0f} MB" in reports(node)
    used = outputs["settings"].get_dict()["descriptors"][0]["n_sparse"]
    assert used in (300, 180, 108)
    assert outputs["potential"].base.attributes.get("n_sparse") == [used]


def test_ill_conditioned(run, inputs):
    singular = {"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 250, "theta_uniform": 5.0}
    inputs["settings"] = Dict({**FIT, "descriptors": [singular], "sparse_jitter": 1e-19})
    _, node = run(FitWorkChain, **inputs)
    assert node.exit_status == FitWorkChain.exit_codes.ERROR_ILL_CONDITIONED.status
    assert "cannot factorise" in node.exit_message
    assert "not repaired: adapt is not set" in node.exit_message
    outputs, node = run(FitWorkChain, **inputs, adapt=True)
    assert node.is_finished_ok, node.exit_message
    assert "the equations are ill-conditioned: sparse_jitter 1e-19 → " in reports(node)
    assert 1e-12 < outputs["settings"].get_dict()["sparse_jitter"] <= 1e-4


def test_too_little_memory(run, inputs, large):
    """The shell of the job gives less memory than the forecast was told of."""
    inputs |= {"settings": Dict(one_term(cutoff=6.0, n_max=10, l_max=10)), "datasets": {"large": large}}
    inputs["fit"] = {"code": inputs["fit"]["code"], "metadata": {"options": {"prepend_text": "ulimit -v 400000"}}}
    _, node = run(FitWorkChain, **inputs)
    assert node.exit_status == FitWorkChain.exit_codes.ERROR_MEMORY.status, node.exit_message
    assert "Cannot allocate memory" in node.exit_message or "Error allocating" in node.exit_message
    assert "the forecast was about" in reports(node)


@pytest.fixture
def long_fit(inputs, large, tmp_path):
    """Return inputs of a fit of some seconds; its shell ends what takes more than one, as a scheduler would: only once."""

    def long_fit(limit):
        once = f"[ -e {tmp_path}/seen ] || {limit}; touch {tmp_path}/seen"
        options = {"max_wallclock_seconds": 1, "prepend_text": once}
        fit = {"code": inputs["fit"]["code"], "metadata": {"options": options}}
        settings = Dict(one_term(cutoff=6.0, n_max=8, l_max=8, n_sparse=150))
        return {**inputs, "settings": settings, "datasets": {"large": large}, "fit": fit}

    return long_fit


@pytest.mark.parametrize(("limit", "says"), [("ulimit -S -t 1", "time limit"), ("ulimit -t 1", "Killed")])
def test_too_little_time(run, long_fit, limit, says):
    """A program that is killed outright says nothing; the forecast tells what it lacked."""
    _, node = run(FitWorkChain, **long_fit(limit))
    assert node.exit_status == FitWorkChain.exit_codes.ERROR_TIME.status, node.exit_message
    assert says in node.exit_message


@pytest.mark.parametrize("limit", [pytest.param("ulimit -S -t 1", marks=pytest.mark.full), "ulimit -t 1"])
def test_more_time(run, long_fit, limit):
    outputs, node = run(FitWorkChain, **long_fit(limit), adapt=True)
    assert node.is_finished_ok, node.exit_message
    assert "the time was up: 1 → " in reports(node)
    jobs = [child for child in node.called if child.process_label == "FitCalculation"]
    assert len(jobs) == 2
    assert jobs[1].get_option("max_wallclock_seconds") > 2 * jobs[0].get_option("max_wallclock_seconds")
    assert outputs["potential"].creator == jobs[-1]


def test_the_training_set_is_joined_once(run, inputs, monkeypatch):
    """For the check, the forecast, the job and what is read of it."""
    joins, joined = [], fit._joined
    monkeypatch.setattr(fit, "_joined", lambda *given: joins.append(given) or joined(*given))
    fit._kept.clear()
    _, node = run(FitWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    assert len(joins) == 1
