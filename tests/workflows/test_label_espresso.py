"""Labels of a real pw.x, against finite differences of its energy."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import Dict, Float, load_node
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.workflows.label import LabelWorkChain

EXAMPLE = Path(__file__).parents[2] / "examples" / "boron_qe"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="pw.x is not installed (Debian: apt-get install quantum-espresso)"),
    pytest.mark.skipif(importlib.util.find_spec("aiida_quantumespresso") is None, reason="needs pip install 'aiida-gaprss[qe]'"),
]


@pytest.fixture
def espresso(aiida_code_installed, aiida_localhost, tmp_path):
    from aiida_pseudo.data.pseudo.upf import UpfData

    subprocess.run([sys.executable, EXAMPLE / "make_pseudopotential.py", tmp_path], check=True, capture_output=True)
    with next(tmp_path.glob("*.UPF")).open("rb") as handle:
        pseudo = UpfData(handle)
    code = aiida_code_installed(
        label="pw",
        computer=aiida_localhost,
        default_calc_job_plugin="quantumespresso.pw",
        filepath_executable=shutil.which("pw.x"),
        prepend_text="export OMP_NUM_THREADS=1",
        with_mpi=False,
    )
    system = {"ecutwfc": 40.0, "ecutrho": 240.0, "occupations": "smearing", "smearing": "mv", "degauss": 0.02}
    return {
        "code": code,
        "pseudos": {"B": pseudo},
        "parameters": Dict({"SYSTEM": system, "ELECTRONS": {"conv_thr": 1e-9, "mixing_beta": 0.5}}),
        "isolated_parameters": Dict({"SYSTEM": {"degauss": 0.002}}),
        "kpoint_spacing": Float(0.1),
    }


def compressed_boron():
    return Atoms("B3", scaled_positions=[(0, 0, 0), (0.52, 0.47, 0.1), (0.1, 0.55, 0.5)], cell=[2.4, 2.5, 2.9], pbc=True)


def test_energy_forces_and_virial_belong_together(run, espresso):
    step, strain = 0.01, 0.01
    frames = {"middle": compressed_boron(), "atom": Atoms("B", cell=[8] * 3, pbc=True)}
    for sign in (-1, 1):
        frames[f"moved{sign}"] = compressed_boron()
        frames[f"moved{sign}"].positions[1, 0] += sign * step
        frames[f"strained{sign}"] = compressed_boron()
        frames[f"strained{sign}"].set_cell(compressed_boron().cell * (1 + sign * strain), scale_atoms=True)
    for name, atoms in frames.items():
        atoms.info.update(frame_id=name, config_type="isolated_atom" if name == "atom" else "random")
    outputs, node = run(LabelWorkChain, frames=Dataset(list(frames.values())), quantumespresso=espresso, max_concurrent=2)
    assert node.is_finished_ok, node.exit_message
    labelled = {a.info["frame_id"]: a for a in outputs["frames"].get_frames()}
    assert list(labelled) == list(frames), "the order of the input is kept"
    energy = {name: atoms.info["REF_energy"] for name, atoms in labelled.items()}

    middle = labelled["middle"]
    slope = (energy["moved1"] - energy["moved-1"]) / (2 * step)
    assert middle.arrays["REF_forces"][1, 0] == pytest.approx(-slope, abs=0.02 * abs(slope) + 0.02)
    # dE/dε for an isotropic strain is the trace of stress·volume, and minus that of the virial.
    slope = (energy["strained1"] - energy["strained-1"]) / (2 * strain)
    trace = np.trace(middle.info["REF_virial"].reshape(3, 3))
    assert trace > 10, "a compressed cell has a positive virial"
    assert trace == pytest.approx(-slope, rel=0.05)

    assert fr.is_isolated_atom(labelled["atom"])
    assert "REF_virial" not in labelled["atom"].info
    # ld1.x gives -149.2182 eV for the atom itself; box, cutoff and smearing make the rest.
    assert energy["atom"] == pytest.approx(-149.218, abs=0.05)
    calculation = load_node(middle.info["label_uuid"])
    assert calculation.process_label == "PwCalculation"
    assert calculation.inputs.structure.label == "middle"
    assert "ecutwfc 40," in outputs["frames"].level_of_theory


def test_a_failed_scf_is_a_row_with_its_reason(run, espresso):
    frames = [compressed_boron(), compressed_boron()]
    frames[1].positions[1] = frames[1].positions[0]  # pw.x refuses atoms that overlap
    for number, atoms in enumerate(frames):
        atoms.info.update(frame_id=f"b-{number}", config_type="random")
    outputs, node = run(
        LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, max_concurrent=1, max_failed_fraction=0.6
    )
    assert node.is_finished_ok, node.exit_message
    good, bad = outputs["frames"].get_frames()
    assert good.info["label_status"] == "ok"
    assert not fr.is_labelled(bad)
    assert bad.info["label_status"].startswith("failed: ")
    assert "unhandled" not in bad.info["label_status"], "the reason is the program's, not that of the work chain around it"
