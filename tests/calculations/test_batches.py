"""The batched CalcJobs: label, relax, evaluate, md."""

import re
import shutil

import numpy as np
import pytest
from aiida.orm import Dict, load_node
from ase import Atoms
from ase.build import bulk
from helpers import FIT, assert_cats

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.label import LabelCalculation
from aiida_gaprss.calculations.md import MdCalculation
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models import GAP_VERSION_EXTRA

EMT = {"calculator": "emt", "arguments": {}}


@pytest.fixture
def cells(silicon_cells):
    return Dataset(silicon_cells, level_of_theory="unlabelled")


def copper(n=4):
    frames = []
    for number in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=number)
        atoms.info.update(frame_id=f"cu-{number}", config_type="fcc", seed=number)
        frames.append(atoms)
    return frames


# --- label ---


def test_labels_equal_direct_evaluation(run, python_code, cells, sw_settings, silicon_frames):
    outputs, node = run(LabelCalculation, code=python_code, frames=cells, settings=Dict(sw_settings))
    assert node.is_finished_ok, node.exit_message
    assert outputs["frames"].level_of_theory == sw_settings["level_of_theory"]
    labelled = outputs["frames"].get_frames()
    for ours, direct in zip(labelled, silicon_frames, strict=True):
        assert ours.info["frame_id"] == direct.info["frame_id"]
        assert ours.info["REF_energy"] == pytest.approx(direct.info["REF_energy"], abs=1e-6)
        assert np.allclose(ours.arrays["REF_forces"], direct.arrays["REF_forces"], atol=1e-6)
        assert ("REF_virial" in ours.info) == ("REF_virial" in direct.info)
        if "REF_virial" in direct.info:
            assert np.allclose(ours.info["REF_virial"], direct.info["REF_virial"], atol=1e-6)
        assert ours.info["label_status"] == "ok"
        assert load_node(ours.info["label_uuid"]).pk == node.pk
        assert ours.info["config_type"] == direct.info["config_type"]
    assert "REF_virial" not in labelled[0].info, "an isolated atom has no virial"
    summary = outputs["summary"].get_dict()
    assert summary["status"] == {"ok": len(labelled)}
    assert summary["complete"]
    assert_cats(node)


def test_frames_that_fail_keep_their_reason(run, python_code):
    frames = copper()
    frames[1].symbols[0] = "Si"  # unknown to EMT
    outputs, node = run(LabelCalculation, code=python_code, frames=Dataset(frames), settings=Dict(EMT))
    assert node.is_finished_ok
    labelled = outputs["frames"].get_frames()
    assert [fr.is_labelled(a) for a in labelled] == [True, False, True, True]
    assert labelled[1].info["label_status"] == "failed: NotImplementedError: No EMT-potential for Si"
    assert outputs["frames"].level_of_theory == "ASE emt {}"
    assert outputs["summary"]["status"] == {"failed": 1, "ok": 3}


def test_every_frame_fails(run, python_code, cells):
    outputs, node = run(LabelCalculation, code=python_code, frames=cells, settings=Dict(EMT))
    assert node.exit_status == 310
    assert "No EMT-potential for Si" in node.exit_message
    assert outputs["frames"].base.attributes.get("energies") == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calculator": "no.such.Module", "arguments": {}}, "cannot set up the calculator: ModuleNotFoundError"),
        ({"calculator": "ase.io.write", "arguments": {"filename": "x"}}, "ase.io.write is no ASE calculator but a function"),
        (
            {"calculator": "quippy.potential.Potential", "arguments": {"args_str": "IP NoSuchPotential", "param_str": "<a/>"}},
            "cannot set up the calculator|worker process died",
        ),
        ({"calculator": "emt", "arguments": {"asap": 1, "oops": 2}}, ""),
    ],
)
def test_a_calculator_that_cannot_be_made(run, python_code, cells, settings, message):
    _, node = run(LabelCalculation, code=python_code, frames=cells, settings=Dict(settings))
    assert node.exit_status == 310
    assert any(part in node.exit_message for part in message.split("|"))


def test_settings_are_checked_before(run, python_code, cells, sw_settings):
    with pytest.raises(ValueError, match="argumentz: unknown key"):
        run(LabelCalculation, code=python_code, frames=cells, settings=Dict({**sw_settings, "argumentz": {}}))
    with pytest.raises(ValueError, match=r"os\.system is no calculator"):
        run(LabelCalculation, code=python_code, frames=cells, settings=Dict({"calculator": "os.system"}))


def test_a_job_without_results(run, aiida_code_installed, aiida_localhost, cells, sw_settings, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/bash\necho 'module: command not found' >&2\nexit 127\n")
    script.chmod(0o755)
    code = aiida_code_installed(label=tmp_path.name, computer=aiida_localhost, filepath_executable=str(script))
    _, node = run(LabelCalculation, code=code, frames=cells, settings=Dict(sw_settings))
    assert node.exit_status == 300
    assert "module: command not found" in node.exit_message
    assert not node.base.caching.is_valid_cache


def test_a_job_killed_in_the_middle(run, python_code, mortal_emt):
    settings, options = mortal_emt(after=3)
    many = Dataset(copper(6))
    outputs, node = run(LabelCalculation, code=python_code, frames=many, settings=Dict(settings), metadata={"options": options})
    assert node.exit_status == 400
    frames = outputs["frames"].get_frames()
    assert len(frames) == many.n_frames
    finished = [a for a in frames if fr.is_labelled(a)]
    assert len(finished) == 3
    assert all(a.info["label_status"] == "ok" for a in finished)
    assert {a.info["label_status"] for a in frames if not fr.is_labelled(a)} == {"not reached: the job ended before"}
    assert f"after {len(finished)} of {many.n_frames} frames" in node.exit_message
    assert outputs["summary"]["complete"] is False
    assert not node.base.caching.is_valid_cache


# --- relax ---


@pytest.fixture
def pressed(silicon_cells):
    frames = [atoms.copy() for atoms in silicon_cells[1:4]]
    for number, atoms in enumerate(frames):
        atoms.info.update(pressure_GPa=4.0 * number, generation=4, seed=100 + number)
    return frames


def test_relaxation_with_a_gap(run, python_code, potential, gap, pressed, evaluated):
    settings = Dict({"fmax": 0.01, "max_steps": 150, "snapshot_steps": [0, 2], "min_distance": 1.0})
    outputs, node = run(RelaxCalculation, code=python_code, potential=potential, frames=Dataset(pressed), settings=settings)
    assert node.is_finished_ok, node.exit_message
    frames = outputs["frames"].get_frames()
    assert outputs["frames"].level_of_theory == "unlabelled"
    assert_cats(node)
    converged = 0
    for source in pressed:
        mine = [a for a in frames if a.info["parent"] == source.info["frame_id"]]
        assert [a.info["step"] for a in mine][:2] == [0, 2]
        for atoms in mine:
            assert atoms.info["frame_id"] == f"{source.info['frame_id']}-s{atoms.info['step']}"
            assert atoms.info["potential"] == potential.uuid
            assert load_node(atoms.info["origin"]).pk == node.pk
            assert (atoms.info["generation"], atoms.info["seed"]) == (4, source.info["seed"])
            assert atoms.info["pressure_GPa"] == source.info["pressure_GPa"]
            assert not fr.is_labelled(atoms)
            ((energy, forces, virial),) = evaluated([atoms], gap)
            assert atoms.info["PRED_energy"] == pytest.approx(energy, abs=1e-5)
            assert np.allclose(atoms.arrays["PRED_forces"], forces, atol=1e-4)
            if atoms.info["relax_status"] == "converged":
                converged += 1
                assert atoms.info["config_type"] == "minimum"
                pressure = np.trace(virial.reshape(3, 3)) / 3 / atoms.get_volume() * 160.21766
                assert pressure == pytest.approx(atoms.info["pressure_GPa"], abs=0.3)
            else:
                assert atoms.info["config_type"] == "snapshot"
    assert converged, outputs["summary"].get_dict()
    assert sum(outputs["summary"]["status"].values()) == len(pressed)


def test_elements_that_the_potential_does_not_know(run, python_code, potential):
    for process in (RelaxCalculation, EvaluateCalculation):
        with pytest.raises(ValueError, match="the potential knows Si, but the frames contain Cu"):
            run(process, code=python_code, potential=potential, frames=Dataset(copper(1)))


def test_unknown_settings(run, python_code, potential, pressed):
    with pytest.raises(ValueError, match=r"optimizer: .*'lbfgs', 'cg' or 'fire' \(got 'bfgs'\); fmaks: unknown key"):
        run(
            RelaxCalculation,
            code=python_code,
            potential=potential,
            frames=Dataset(pressed),
            settings=Dict({"optimizer": "bfgs", "fmaks": 1}),
        )


def test_a_relaxation_killed_in_the_middle(run, dying_python, potential, silicon_frames):
    cells = []
    for atoms in silicon_frames[1:11]:
        cells.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True) * (3, 3, 3))
        cells[-1].info["frame_id"] = atoms.info["frame_id"]
    frames = Dataset(cells)
    settings = Dict({"max_steps": 1, "snapshot_steps": []})
    metadata = {"options": {"processes": 1}}
    outputs, node = run(
        RelaxCalculation, code=dying_python(2), potential=potential, frames=frames, settings=settings, metadata=metadata
    )
    assert node.exit_status == 400, node.exit_message
    finished = outputs["frames"].get_frames()
    assert 2 <= len(finished) < 10
    assert {a.info["relax_status"] for a in finished} == {"max_steps"}
    assert len({a.info["parent"] for a in finished}) == len(finished)


# --- md ---


def test_trajectories_with_a_gap(run, python_code, potential, gap, evaluated):
    """The same in a job as in this process; frames with settings of their own; what the potential says of each snapshot."""
    from aiida_gaprss.runners import task_of
    from aiida_gaprss.settings.jobs import MdSettings

    cells = [bulk("Si", cubic=True), bulk("Si", a=5.5, cubic=True)]
    for number, atoms in enumerate(cells):
        atoms.info.update(frame_id=f"si-{number}", generation=2)
    own = {"program": [{"start_K": 600.0, "ps": 0.02}], "seed": 5}
    common = {"program": [{"start_K": 300.0, "ps": 0.03}], "snapshot_every": 10, "min_distance": 1.0}
    settings = Dict({**common, "tasks": {"si-1": own}})
    outputs, node = run(MdCalculation, code=python_code, potential=potential, frames=Dataset(cells), settings=settings)
    assert node.is_finished_ok, node.exit_message
    assert outputs["summary"]["status"] == {"finished": 2}, node.outputs.retrieved.get_object_content("stderr.txt")
    assert outputs["frames"].level_of_theory == "unlabelled"
    assert_cats(node)
    frames = outputs["frames"].get_frames()
    assert [a.info["frame_id"] for a in frames] == [f"si-0-s{n}" for n in (0, 10, 20, 30)] + [f"si-1-s{n}" for n in (0, 10, 20)]
    for number, (atoms, changes) in enumerate(zip(cells, ({}, own), strict=True)):
        task = task_of("md")
        task.settings = MdSettings(**{**common, **changes}).model_dump()
        task.use(gap)
        mine = [a for a in frames if a.info["parent"] == f"si-{number}"]
        status, here = task.run(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True), np.inf)
        assert status == mine[-1].info["md_status"] == "finished"
        assert mine[-1].info["md_end_step"] == mine[-1].info["step"]
        for ours, theirs in zip(mine, here, strict=True):
            assert np.allclose(ours.positions, theirs.positions, atol=1e-7)
            assert ours.info["temperature_K"] == pytest.approx(theirs.info["temperature_K"], abs=1e-4)
        for atoms in mine:
            ((energy, forces, virial),) = evaluated([atoms], gap)
            assert atoms.info["PRED_energy"] == pytest.approx(energy, abs=1e-5)
            assert np.allclose(atoms.arrays["PRED_forces"], forces, atol=1e-4)
            assert np.allclose(atoms.info["PRED_virial"], virial, atol=1e-3)
            assert (atoms.info["potential"], atoms.info["origin"]) == (potential.uuid, node.uuid)
            assert (atoms.info["config_type"], atoms.info["generation"]) == ("md", 2)
    ramp = {"ensemble": "nve", "program": [{"start_K": 300, "end_K": 400, "ps": 1}]}
    with pytest.raises(ValueError, match="program, segment 1: from 300 to 400 K with nve, which keeps to one temperature"):
        run(MdCalculation, code=python_code, potential=potential, frames=Dataset(cells), settings=Dict(ramp))


# --- evaluate ---


def test_predictions(run, python_code, potential, dataset, gap, silicon_frames, evaluated):
    settings = Dict({"local_energies": True})
    outputs, node = run(EvaluateCalculation, code=python_code, potential=potential, frames=dataset, settings=settings)
    assert node.is_finished_ok, node.exit_message
    frames = outputs["frames"].get_frames()
    assert outputs["frames"].level_of_theory == dataset.level_of_theory
    assert_cats(node)
    for ours, source, (energy, forces, virial) in zip(frames, silicon_frames, evaluated(silicon_frames, gap), strict=True):
        assert ours.info["PRED_energy"] == pytest.approx(energy, abs=1e-6)
        assert np.allclose(ours.arrays["PRED_forces"], forces, atol=1e-6)
        assert np.allclose(ours.info["PRED_virial"], virial, atol=1e-6)
        assert ours.arrays["PRED_local_energy"].sum() == pytest.approx(energy, abs=1e-5)
        assert ours.info["potential"] == potential.uuid
        assert ours.info["REF_energy"] == pytest.approx(source.info["REF_energy"], abs=1e-8), "labels stay"
        assert ours.info["frame_id"] == source.info["frame_id"]


def test_a_potential_newer_than_the_code(run, python_code, potential_folder, dataset, tmp_path):
    folder = shutil.copytree(potential_folder, tmp_path / "copy")
    text = (folder / "gap.xml").read_text()
    (folder / "gap.xml").write_text(re.sub(r'gap_version="\d+"', 'gap_version="1999999999"', text))
    newer = Potential(folder)
    before = python_code.base.extras.get(GAP_VERSION_EXTRA, None)
    python_code.base.extras.set(GAP_VERSION_EXTRA, 1686220958)
    try:
        for process in (RelaxCalculation, EvaluateCalculation):
            with pytest.raises(ValueError, match=r"newer GAP \(version 1999999999\).*has GAP version 1686220958"):
                run(process, code=python_code, potential=newer, frames=dataset)
    finally:
        python_code.base.extras.set(GAP_VERSION_EXTRA, before)


def test_no_frames(run, python_code, sw_settings):
    outputs, node = run(LabelCalculation, code=python_code, frames=Dataset([]), settings=Dict(sw_settings))
    assert node.is_finished_ok, node.exit_message
    assert outputs["frames"].n_frames == 0


def test_variances(run, python_code, dataset, silicon_frames, fit_with_binary, sw):
    """Against the formula of the Gaussian process, with descriptors and sparse points read from quippy and from the potential."""
    from quippy.descriptors import Descriptor

    soap = {"kind": "soap", "cutoff": 4.5, "n_max": 4, "l_max": 3, "n_sparse": 3, "delta": 0.7, "zeta": 4}
    folder, _ = fit_with_binary(silicon_frames, {**FIT, "descriptors": [soap]})
    outputs, node = run(
        EvaluateCalculation, code=python_code, potential=Potential(folder), frames=dataset, settings=Dict({"variances": True})
    )
    assert node.is_finished_ok, node.exit_message
    text = "soap cutoff=4.5 cutoff_transition_width=1 n_max=4 l_max=3 atom_sigma=0.5 n_species=1 Z=14 species_Z={14}"
    descriptor = Descriptor(text)
    length = descriptor.dimensions()
    sparse = np.loadtxt(next(folder.glob("gap.xml.sparseX.*"))).reshape(3, length)
    among = 0.7**2 * (sparse @ sparse.T) ** 4
    for ours, source in list(zip(outputs["frames"].get_frames(), silicon_frames, strict=True))[1:8]:
        vectors = descriptor.calc(Atoms(source.numbers, source.positions, cell=source.cell, pbc=True))["data"]
        between = 0.7**2 * (vectors @ sparse.T) ** 4
        expected = 0.7**2 - np.einsum("ij,ji->i", between, np.linalg.solve(among, between.T))
        assert np.allclose(ours.arrays["PRED_local_variance"], expected, atol=5e-6)
        assert ours.arrays["PRED_local_variance"].max() > 1e-4
