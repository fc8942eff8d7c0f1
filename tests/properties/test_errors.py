"""Errors of labelled frames: numbers that are put in come out, all frames or those near the hull."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import PropertyError, property_of
from aiida_gaprss.properties.errors import Errors


@pytest.fixture
def frames(alloy_frames):
    """Labelled by EMT; predicted with errors: energies ±2 meV/atom, one force 0.5 eV/Å, the xx of virials 3 meV/atom."""
    out = []
    for number, atoms in enumerate(alloy_frames):
        atoms = atoms.copy()
        forces, virial = atoms.arrays["REF_forces"].copy(), atoms.info.get("REF_virial")
        if virial is not None:  # isolated atoms have none
            virial = np.array(virial) + 0.003 * len(atoms) * np.eye(9)[0]
        if number == 5:
            forces[1, 2] += 0.5
        fr.set_labels(atoms, atoms.info["REF_energy"] + 0.002 * len(atoms) * (-1) ** number, forces, virial, fr.PREDICTION)
        out.append(atoms)
    return out


def test_what_is_put_in_comes_out(frames):
    task = property_of({"kind": "errors"})
    result = task.of(frames)
    components = 3 * sum(map(len, frames))
    assert result["energy_rmse_meV_per_atom"] == pytest.approx(2.0)
    assert result["energy_mae_meV_per_atom"] == pytest.approx(2.0)
    assert result["energy_largest_meV_per_atom"] == pytest.approx(2.0)
    assert result["forces_largest_eV_per_A"] == pytest.approx(0.5)
    assert result["forces_mae_eV_per_A"] == pytest.approx(0.5 / components)
    assert result["forces_rmse_eV_per_A"] == pytest.approx(0.5 / np.sqrt(components))
    assert result["virial_rmse_meV_per_atom"] == pytest.approx(3.0 / np.sqrt(6))
    assert set(result["errors_by_config_type"]) == {"alloy", "isolated_atom", "other"}
    assert sum(group["frames"] for group in result["errors_by_height"].values()) == len(frames)
    scores = task.scores(result, None)
    assert set(scores) == set(task.LIMITS) - {"not_predicted"}, "which a validation counts"
    assert {task.LIMITS[name].light(score) for name, score in scores.items()} == {"good"}
    assert json.loads(json.dumps(result)) == result


def test_only_frames_near_the_hull_are_judged(frames):
    """A frame that lies high and is far off does not count where it is of no interest, but is in its group."""
    from aiida_gaprss.analysis.hull import above_hull

    heights = above_hull(frames)
    highest = int(np.nanargmax(heights))
    frames[highest].info["PRED_energy"] += 1.0 * len(frames[highest])
    limit = float(np.sort(heights[np.isfinite(heights)])[-2])
    near = Errors(highest=limit).of(frames)
    assert near["frames"] == np.isfinite(heights).sum() - 1
    assert near["energy_rmse_meV_per_atom"] == pytest.approx(2.0)
    everything = Errors().of(frames)
    assert everything["energy_largest_meV_per_atom"] == pytest.approx(1000, abs=3)
    assert Errors.LIMITS["energy_largest_meV_per_atom"].light(everything["energy_largest_meV_per_atom"]) == "bad"
    assert near["errors"] == everything["errors"]


def test_predictions_of_a_calculator(alloy_frames):
    task = Errors()
    exact = task.of(task.predicted(EMT(), alloy_frames))
    assert exact["energy_largest_meV_per_atom"] < 1e-9
    assert exact["forces_largest_eV_per_A"] < 1e-9
    assert exact["virial_largest_meV_per_atom"] < 1e-9
    wrong = task.of(task.predicted(LennardJones(sigma=2.3, rc=6.0), alloy_frames))
    lights = {name: task.LIMITS[name].light(score) for name, score in task.scores(wrong, None).items()}
    assert lights["energy_rmse_meV_per_atom"] == "bad"
    assert "PRED_energy" not in alloy_frames[0].info


def test_one_labelled_frame_as_any_other_property(alloy_frames):
    task, frame = Errors(), alloy_frames[4]
    assert not task.per_crystal
    (planned,) = task.plan(frame)
    assert not any(key.startswith("REF_") for key in [*planned.info, *planned.arrays])
    assert task.compute(EMT(), frame)["energy_largest_meV_per_atom"] < 1e-9
    off = task.compute(LennardJones(sigma=2.3, rc=6.0), frame)["energy_largest_meV_per_atom"]
    work = frame.copy()
    work.calc = LennardJones(sigma=2.3, rc=6.0)
    assert off == pytest.approx(1000 * abs(work.get_potential_energy() - frame.info["REF_energy"]) / len(frame))


def test_what_is_missing(alloy_frames, frames):
    with pytest.raises(PropertyError, match=r"none of the 30 frames has both energies, expected e.g. PRED_energy in each"):
        Errors().of(alloy_frames)
    with pytest.raises(PropertyError, match="has no REF_energy"):
        Errors().plan(bulk("Cu"))
    assert Errors().faults(bulk("Cu"), 5.0) != []
    for atoms in frames:
        atoms.info.pop("PRED_virial", None)
    scores = Errors().scores(Errors().of(frames), None)
    assert not any(name.startswith("virial") for name in scores)
    with pytest.raises(PropertyError, match=r"errors\.highest is 1 eV/atom, but there is no convex hull: neither"):
        Errors(highest=1.0).of([atoms for atoms in frames if len(set(atoms.symbols)) == 2])
