import sys

import numpy as np
import pytest
from aiida.orm import Dict, Int
from helpers import FIT, verdi

from aiida_gaprss.calculations.fit import FitCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.parsers.fit import measured


@pytest.fixture
def inputs(gap_fit_code, python_code, dataset):
    return {"code": gap_fit_code, "python": python_code, "datasets": {"all": dataset}, "settings": Dict(FIT), "seed": Int(3)}


def test_a_fit(run, inputs, silicon_frames, evaluated):
    outputs, node = run(FitCalculation, **inputs)
    assert node.is_finished_ok, node.exit_message
    results = outputs["results"].get_dict()
    natoms = sum(map(len, silicon_frames))
    assert results["frames"] == len(silicon_frames)
    assert results["atoms"] == natoms
    counts = results["counts"]
    assert (counts["energies"], counts["forces"], counts["virials"]) == (
        len(silicon_frames),
        3 * natoms,
        6 * (len(silicon_frames) - 1),
    )
    assert results["config_types"] == {"isolated_atom": 1, "random": len(silicon_frames) - 1}
    assert results["peak_memory_MB"] > 0
    assert 10 < results["forecast"]["memory_MB"] < 100
    assert 0 < results["forecast"]["cpu_s"] < 10
    for command, known in (("inputcat", "gap={"), ("outputcat", "libAtoms::Finalise")):
        assert known in verdi("calcjob", command, str(node.pk))
    assert outputs["potential"].elements == ["Si"]
    assert outputs["potential"].base.attributes.get("sigma")["sigma"]["energy"] == 0.005
    assert outputs["potential"].creator.pk == node.pk
    names = node.base.repository.list_object_names()
    assert FitCalculation.INPUT in names
    assert FitCalculation.TRAINING not in names, "the datasets are not kept once more"

    # The training errors, told by quippy without our runner.
    predictions = evaluated(silicon_frames, outputs["potential"].calculator())
    energy = [1000 * (p[0] - a.info["REF_energy"]) / len(a) for p, a in zip(predictions, silicon_frames, strict=True)]
    forces = np.concatenate([(p[1] - a.arrays["REF_forces"]).ravel() for p, a in zip(predictions, silicon_frames, strict=True)])
    half = [0, 4, 8, 5, 2, 1]  # a virial is symmetric
    virial = np.concatenate(
        [
            1000 * (p[2] - a.info["REF_virial"])[half] / len(a)
            for p, a in zip(predictions, silicon_frames, strict=True)
            if "REF_virial" in a.info
        ]
    )
    found = results["errors"]
    assert found["energy"]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(energy))), rel=1e-3, abs=1e-3)
    assert found["energy"]["mae"] == pytest.approx(np.mean(np.abs(energy)), rel=1e-3, abs=1e-3)
    assert found["forces"]["mae"] == pytest.approx(np.abs(forces).mean(), rel=1e-3)
    assert found["forces"]["rmse"] == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-3)
    assert found["virial"]["values"] == len(virial)
    assert found["virial"]["rmse"] == pytest.approx(np.sqrt(np.mean(virial**2)), rel=1e-3)
    assert set(results["errors_by_config_type"]) == {"isolated_atom", "random"}
    dataset = outputs["predictions"]
    assert [a.info["frame_id"] for a in dataset.get_frames()] == [a.info["frame_id"] for a in silicon_frames]
    for frame, (value, _, _) in zip(dataset.get_frames(), predictions, strict=True):
        assert frame.info["PRED_energy"] == pytest.approx(value, abs=1e-6)


def test_the_same_seed_gives_the_same_potential_from_several_datasets(run, inputs, silicon_frames, evaluated):
    del inputs["python"]
    energies = {}
    split = {
        "g00": Dataset(silicon_frames[:6], level_of_theory="Stillinger-Weber"),
        "g01": Dataset(silicon_frames[6:], level_of_theory="Stillinger-Weber"),
        "unlabelled": Dataset([unlabelled(silicon_frames[3])], level_of_theory="none yet"),
    }
    for name, changes in {"one": {}, "split": {"datasets": split}, "other seed": {"seed": Int(4)}}.items():
        outputs, node = run(FitCalculation, **{**inputs, **changes})
        assert node.is_finished_ok, node.exit_message
        assert "predictions" not in outputs
        assert outputs["results"]["frames"] == len(silicon_frames)
        energies[name] = [p[0] for p in evaluated(silicon_frames, outputs["potential"].calculator())]
    assert np.allclose(energies["one"], energies["split"], atol=1e-7)
    assert not np.allclose(energies["one"], energies["other seed"], atol=1e-7), "the seed chooses the sparse points"


def unlabelled(atoms):
    out = atoms.copy()
    out.info = {"frame_id": "fresh"}
    return out


def test_regularisation(run, inputs, silicon_frames):
    settings = {**FIT, "regularisation": [{"kind": "hull", "low": 0.001, "high": 0.1}]}
    outputs, node = run(FitCalculation, **{**inputs, "settings": Dict(settings)})
    assert node.is_finished_ok, node.exit_message
    assert outputs["results"]["counts"]["energy_sigma"] == len(silicon_frames) - 1
    assert outputs["potential"].base.attributes.get("sigma")["regularisation"][0]["low"] == 0.001
    ranges = outputs["results"]["sigmas"]["energy_sigma"]
    assert ranges["frames"] == len(silicon_frames) - 1
    assert 0.001 < ranges["lowest"] < ranges["median"] < ranges["highest"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be positive"),
        ({"settings": {**FIT, "n_sparse": 5}}, "n_sparse: unknown key"),
        ({"settings": {"descriptors": FIT["descriptors"]}}, "sigma: missing"),
        ({"datasets": "none"}, "give at least one dataset"),
        ({"datasets": "no isolated atom"}, "no isolated atom for Si"),
        ({"datasets": "doubled"}, "frames in more than one dataset: cell-00"),
        (
            {"datasets": "two levels"},
            r"different levels of theory: .*'PBE', 'Stillinger-Weber'|different levels of theory: .*'Stillinger-Weber', 'PBE'",
        ),
        ({"datasets": "unlabelled"}, "there is nothing to fit"),
    ],
)
def test_refused_before_it_is_submitted(run, inputs, silicon_frames, changes, message):
    choices = {
        "none": {},
        "no isolated atom": {"a": Dataset(silicon_frames[1:])},
        "doubled": {"a": Dataset(silicon_frames), "b": Dataset(silicon_frames[:2])},
        "two levels": {"a": Dataset(silicon_frames[:4], "PBE"), "b": Dataset(silicon_frames[4:], "Stillinger-Weber")},
        "unlabelled": {"a": Dataset([unlabelled(silicon_frames[2])])},
    }
    wrap = {"seed": Int, "settings": Dict, "datasets": choices.__getitem__}
    with pytest.raises(ValueError, match=message):
        run(FitCalculation, **{**inputs, **{key: wrap[key](value) for key, value in changes.items()}})


def test_gap_fit_stops(run, inputs, aiida_code_installed, aiida_localhost, gap_fit_binary, tmp_path):
    """A gap_fit that is given an option it does not know."""
    script = tmp_path / "gap_fit"
    script.write_text(f'#!/bin/bash\necho "sparse_jiter=1" >> fit.in\nexec {gap_fit_binary} "$@"\n')
    script.chmod(0o755)
    code = aiida_code_installed(label=tmp_path.name, computer=aiida_localhost, filepath_executable=str(script))
    outputs, node = run(FitCalculation, **{**inputs, "code": code})
    assert node.exit_status == 310
    assert "SYSTEM ABORT" in node.exit_message
    assert "sparse_jiter" in node.exit_message
    assert "potential" not in outputs


def test_gap_fit_reads_less_than_it_was_sent(run, inputs, aiida_code_installed, aiida_localhost, gap_fit_binary, tmp_path):
    """A wrong key of the virials makes gap_fit lose them in silence."""
    script = tmp_path / "gap_fit"
    script.write_text(f'#!/bin/bash\nsed -i s/=REF_virial/=REF_virus/ fit.in\nexec {gap_fit_binary} "$@"\n')
    script.chmod(0o755)
    code = aiida_code_installed(label=tmp_path.name, computer=aiida_localhost, filepath_executable=str(script))
    _, node = run(FitCalculation, **{**inputs, "code": code})
    assert node.exit_status == 320
    assert "virials: 84 sent, 0 read" in node.exit_message


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("exec /nowhere/gap_fit", 300, "nowhere"),
        ('{gap_fit} "$@"; rm gap.xml', 330, "there is no gap.xml"),
        ('{gap_fit} "$@"; rm gap.xml.sparseX*', 331, "damaged: gap.xml: its sparse-point file gap.xml.sparseX"),
        ('{gap_fit} "$@"; sed -i 1d gap.xml.sparseX*1', 331, "another md5 sum than the xml says"),
        ('{gap_fit} "$@"; sed -i "/sparseX i=.5./d" gap.xml', 331, "9 different <sparseX>, expected 10"),
        ('{gap_fit} "$@"; truncate -s 9000 gap.xml', 331, "not an xml file"),
        ('{gap_fit} "$@"; sed -i "s/sparseX_filename=.gap/&.gap/;s/gap.gap/..\\/gap/" gap.xml', 331, "is '../gap.xml.sparseX"),
        ('{gap_fit} "$@"; sed -i "s/atom_sigma=0.5/atom_sigma=0.6/" gap.xml', 332, "expected 'soap "),
        ('{gap_fit} "$@"; sed -i "s/Z=.14. value=.[^ ]*E/Z=\\"14\\" value=\\"1.5E/" gap.xml', 332, "e0 of Si"),
    ],
)
def test_no_log_no_potential(run, inputs, aiida_code_installed, aiida_localhost, gap_fit_binary, tmp_path, text, status, message):
    script = tmp_path / "gap_fit"
    script.write_text("#!/bin/bash\n" + text.format(gap_fit=gap_fit_binary) + "\n")
    script.chmod(0o755)
    code = aiida_code_installed(label=tmp_path.name, computer=aiida_localhost, filepath_executable=str(script))
    del inputs["python"]
    _, node = run(FitCalculation, **{**inputs, "code": code})
    assert node.exit_status == status, node.exit_message
    assert message in node.exit_message


def test_the_new_potential_cannot_be_evaluated(run, inputs, aiida_code_installed, aiida_localhost, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/bash\necho 'No module named quippy' >&2\nexit 1\n")
    script.chmod(0o755)
    code = aiida_code_installed(label=tmp_path.name, computer=aiida_localhost, filepath_executable=str(script))
    outputs, node = run(FitCalculation, **{**inputs, "python": code})
    assert node.exit_status == 340
    assert "No module named quippy" in node.exit_message
    assert "potential" in outputs, "the fit itself is kept"


HUNGRY = """\
import subprocess, sys, time
block = bytearray(200_000_000)
started = time.process_time()
while time.process_time() < started + 1.5:
    block[::4096] = block[::4096]
sys.exit(subprocess.run([{gap_fit!r}, *sys.argv[1:]]).returncode)
"""


def test_what_a_fit_has_used_is_measured(run, inputs, aiida_code_installed, aiida_localhost, gap_fit_binary, tmp_path):
    """Of a gap_fit that takes more memory and time than it says; /usr/bin/time is not needed."""
    (tmp_path / "hungry.py").write_text(HUNGRY.format(gap_fit=str(gap_fit_binary)))
    script = tmp_path / "gap_fit"
    script.write_text(f'#!/bin/bash\nexec {sys.executable} {tmp_path}/hungry.py "$@"\n')
    script.chmod(0o755)
    code = aiida_code_installed(label=tmp_path.name, computer=aiida_localhost, filepath_executable=str(script))
    del inputs["python"]
    outputs, node = run(FitCalculation, **{**inputs, "code": code})
    assert node.is_finished_ok, node.exit_message
    results = outputs["results"].get_dict()
    assert 200 < results["measured"]["memory_MB"] < 500
    assert 1.3 < results["measured"]["cpu_s"] < 30
    assert FitCalculation.USAGE not in outputs["retrieved"].base.repository.list_object_names()


@pytest.mark.parametrize("text", ["", "1 2", "a b c", "1 2 0", "-1 2 3", "1 2 3 4"])
def test_measured_without_a_measure(tmp_path, text):
    assert measured(tmp_path / "absent") is None
    (tmp_path / "usage.txt").write_text(text)
    assert measured(tmp_path / "usage.txt") is None
