import numpy as np
import pytest
from aiida.orm import Dict, Float, load_node
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.label import LabelCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.workflows.label import LabelWorkChain

pytestmark = pytest.mark.usefixtures("all_calculated")


def copper(n, wrong=()):
    frames = []
    for number in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=number)
        atoms.info.update(frame_id=f"cu-{number}", config_type="fcc")
        if number in wrong:
            atoms.symbols[0] = "Si"
        frames.append(atoms)
    return frames


def emt(code, **options):
    return {"code": code, "settings": Dict({"calculator": "emt"}), "metadata": {"options": options}}


def jobs(node):
    return [child for child in node.called if child.process_label == "LabelCalculation"]


def test_one_batch(run, python_code, evaluated):
    frames = copper(3)
    outputs, node = run(LabelWorkChain, frames=Dataset(frames), ase=emt(python_code))
    assert node.is_finished_ok, node.exit_message
    for ours, (energy, forces, _) in zip(outputs["frames"].get_frames(), evaluated(frames, EMT()), strict=True):
        assert ours.info["REF_energy"] == pytest.approx(energy, abs=1e-6)
        assert np.allclose(ours.arrays["REF_forces"], forces, atol=1e-6)
    assert len(jobs(node)) == 1


def test_a_batch_cut_off_is_continued(run, python_code, mortal_emt, evaluated):
    frames = copper(8)
    settings, options = mortal_emt(after=3, times=2)
    ase = {"code": python_code, "settings": Dict(settings), "metadata": {"options": options}}
    outputs, node = run(LabelWorkChain, frames=Dataset(frames), ase=ase)
    assert node.is_finished_ok, node.exit_message
    labelled = outputs["frames"].get_frames()
    assert [a.info["frame_id"] for a in labelled] == [a.info["frame_id"] for a in frames]
    assert all(a.info["label_status"] == "ok" for a in labelled)
    assert outputs["frames"].level_of_theory == "EMT"
    for ours, (energy, _, _) in zip(labelled, evaluated(frames, EMT()), strict=True):
        assert ours.info["REF_energy"] == pytest.approx(energy, abs=1e-6)
    batches = sorted(jobs(node), key=lambda job: job.pk)
    incomplete = LabelCalculation.exit_codes.ERROR_INCOMPLETE.status
    assert [job.exit_status for job in batches] == [incomplete, incomplete, 0]
    assert [job.outputs.summary["done"] for job in batches] == [3, 3, 2], "every frame is labelled exactly once"
    assert {load_node(a.info["label_uuid"]).pk for a in labelled} == {job.pk for job in batches}


def test_some_failures_are_borne(run, python_code):
    outputs, node = run(LabelWorkChain, frames=Dataset(copper(4, wrong=[1])), ase=emt(python_code), max_failed_fraction=0.3)
    assert node.is_finished_ok, node.exit_message
    assert [fr.is_labelled(a) for a in outputs["frames"].get_frames()] == [True, False, True, True]


def test_too_many_failures(run, python_code):
    outputs, node = run(LabelWorkChain, frames=Dataset(copper(4, wrong=[1, 2])), ase=emt(python_code), max_failed_fraction=0.3)
    assert node.exit_status == 410
    assert "2 of 4 frames could not be labelled" in node.exit_message
    assert "No EMT-potential for Si" in node.exit_message
    assert outputs["frames"].base.attributes.get("energies") == 2, "what was labelled is kept"


def test_nothing_labelled(run, python_code):
    _, node = run(LabelWorkChain, frames=Dataset(copper(2, wrong=[0, 1])), ase=emt(python_code))
    assert node.exit_status == 400
    assert "No EMT-potential for Si" in node.exit_message


def test_references(run, python_code):
    with pytest.raises(ValueError, match=r"give exactly one reference of ase, .*; got none"):
        run(LabelWorkChain, frames=Dataset(copper(1)))
    espresso = {
        "code": python_code,
        "parameters": Dict({"SYSTEM": {"ecutwfc": 40.0}}),
        "kpoint_spacing": Float(0.1),
        "pseudos": {"Cu": Dict({})},
    }
    with pytest.raises(ValueError, match=r"give exactly one reference of .*; got ase, quantumespresso"):
        run(LabelWorkChain, frames=Dataset(copper(1)), ase=emt(python_code), quantumespresso=espresso)
    with pytest.raises(ValueError, match="no pseudopotential for Cu"):
        run(LabelWorkChain, frames=Dataset(copper(1)), quantumespresso={**espresso, "pseudos": {"Ag": Dict({})}})


def test_no_frames(run, python_code):
    outputs, node = run(LabelWorkChain, frames=Dataset([]), ase=emt(python_code))
    assert node.is_finished_ok, node.exit_message
    assert outputs["frames"].n_frames == 0
    assert not jobs(node)
