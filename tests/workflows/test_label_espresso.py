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
from ase.units import GPa
from helpers import silicon_and_carbon, three_cells

from aiida_gaprss import frames as fr
from aiida_gaprss.cli.environment import PW_PREPEND
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.io.outputs import read_outputs
from aiida_gaprss.workflows.label import LabelWorkChain

EXAMPLE = Path(__file__).parents[2] / "examples" / "boron_qe"

pytestmark = [
    pytest.mark.usefixtures("all_calculated"),
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
        label="pw-real",  # other tests register a pw@localhost that does nothing
        computer=aiida_localhost,
        default_calc_job_plugin="quantumespresso.pw",
        filepath_executable=shutil.which("pw.x"),
        prepend_text=PW_PREPEND,
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


@pytest.fixture
def silicon_carbide(espresso, tmp_path):
    parameters = Dict({"SYSTEM": {"ecutwfc": 70.0}, "ELECTRONS": {"conv_thr": 1e-9}})
    atom = Dict(
        {"SYSTEM": {"occupations": "smearing", "smearing": "gaussian", "degauss": 0.005}}
    )  # two electrons in three p states
    return {
        "code": espresso["code"],
        "pseudos": silicon_and_carbon(tmp_path),
        "parameters": parameters,
        "isolated_parameters": atom,
        "kpoint_spacing": Float(0.21),
    }


def test_the_order_of_atoms_is_kept(run, silicon_carbide):
    """Species in turns, which codes get sorted: the force on a silicon atom and a carbon atom, against differences."""
    step, moved = 0.02, (0, 1)
    frames = [three_cells()["sicsic"] for _ in range(5)]
    for number, (atom, sign) in enumerate(((atom, sign) for atom in moved for sign in (-1, 1)), start=1):
        frames[number].positions[atom, 0] += sign * step
        frames[number].info["frame_id"] = f"sicsic_{atom}_{sign}"
    inputs = silicon_carbide | {"parameters": Dict({"SYSTEM": {"ecutwfc": 50.0}, "ELECTRONS": {"conv_thr": 1e-9}})}
    outputs, node = run(LabelWorkChain, frames=Dataset(frames), quantumespresso=inputs)
    assert node.is_finished_ok, node.exit_message
    frame, *others = outputs["frames"].get_frames()
    energy = {a.info["frame_id"]: a.info["REF_energy"] for a in others}
    assert frame.get_chemical_symbols() == three_cells()["sicsic"].get_chemical_symbols()
    forces = [-(energy[f"sicsic_{atom}_1"] - energy[f"sicsic_{atom}_-1"]) / (2 * step) for atom in moved]
    found = frame.arrays["REF_forces"][:, 0]
    assert np.allclose(found[[*moved]], forces, atol=0.03), "eV/Å, against differences of the energy"
    assert not np.allclose(found[::-1][[*moved]], forces, atol=0.1), "a wrong order would be seen"


@pytest.mark.full
def test_three_cells(run, silicon_carbide):
    """The cells that are read from outputs of CASTEP and VASP in tests/reference, here for real, and each moved and strained."""
    step, strain = 0.02, 0.01
    frames = three_cells()
    for name in ("sicsic", "csi"):
        for sign in (-1, 1):
            for atom in range(len(frames[name])):
                frames[f"{name}_{atom}_{sign}"] = three_cells()[name]
                frames[f"{name}_{atom}_{sign}"].positions[atom] += [sign * step, 0, 0]
            frames[f"{name}_strain_{sign}"] = three_cells()[name]
            frames[f"{name}_strain_{sign}"].set_cell(frames[name].cell * (1 + sign * strain), scale_atoms=True)
    for name, atoms in frames.items():
        atoms.info["frame_id"] = name
    outputs, node = run(LabelWorkChain, frames=Dataset(list(frames.values())), quantumespresso=silicon_carbide)
    assert node.is_finished_ok, node.exit_message
    labelled = {a.info["frame_id"]: a for a in outputs["frames"].get_frames()}
    energy = {name: atoms.info["REF_energy"] for name, atoms in labelled.items()}
    for name in ("sicsic", "csi"):
        frame = labelled[name]
        assert frame.get_chemical_symbols() == three_cells()[name].get_chemical_symbols()
        forces = [-(energy[f"{name}_{n}_1"] - energy[f"{name}_{n}_-1"]) / (2 * step) for n in range(len(frame))]
        assert np.allclose(frame.arrays["REF_forces"][:, 0], forces, atol=0.03), "eV/Å, against differences of the energy"
        assert not np.allclose(frame.arrays["REF_forces"][::-1, 0], forces, atol=0.1), "a wrong order would be seen"
        slope = (energy[f"{name}_strain_1"] - energy[f"{name}_strain_-1"]) / (2 * strain)
        trace = np.trace(frame.info["REF_virial"].reshape(3, 3))
        assert trace > 5, "a compressed cell has a positive virial"
        # The number of plane waves is fixed in the stress, but changes with the cell in the energy: a Pulay stress remains.
        assert trace == pytest.approx(-slope, rel=0.1)
    assert "REF_virial" not in labelled["atom"].info
    assert np.allclose(labelled["atom"].arrays["REF_forces"], 0, atol=0.01)


def assert_agreement(run, inputs, theirs, printed):
    """Compare pw.x with the labels of another code: forces, and the pressure that its output prints (GPa)."""
    frame = Atoms(theirs.numbers, theirs.positions, cell=theirs.cell, pbc=True)
    frame.info.update(frame_id=theirs.info["frame_id"], config_type="random")
    outputs, node = run(LabelWorkChain, frames=Dataset([frame]), quantumespresso=inputs)
    assert node.is_finished_ok, node.exit_message
    (frame,) = outputs["frames"].get_frames()
    ours, others = frame.arrays["REF_forces"].ravel(), theirs.arrays["REF_forces"].ravel()
    assert ours @ others / (others @ others) == pytest.approx(1, abs=0.1)
    assert np.corrcoef(ours, others)[0, 1] > 0.99
    mine, other = (np.trace(a.info["REF_virial"].reshape(3, 3)) / 3 / a.get_volume() / GPa for a in (frame, theirs))
    assert other == pytest.approx(printed, abs=0.01)
    assert mine == pytest.approx(other, rel=0.3)


@pytest.mark.full
def test_pw_and_castep_agree(run, data, espresso):
    """Eight boron atoms that CASTEP 20.11 has labelled, PBE, 17.9 GPa: the codes share functional and mesh, not the potential."""
    theirs = read_outputs([data / "castep" / "B8-singlepoint.castep.gz"]).frames[0]
    parameters = espresso["parameters"].get_dict()
    parameters["SYSTEM"] |= {"smearing": "gaussian", "degauss": 0.2 / 13.6057}
    inputs = {**espresso, "parameters": Dict(parameters), "kpoint_spacing": Float(0.08)}
    assert_agreement(run, inputs, theirs, printed=17.8757)


def test_pw_and_vasp_agree(run, data, silicon_carbide):
    """Two silicon atoms far from their places that VASP 5.4.4 has labelled, PBE."""
    theirs = read_outputs([data / "vasp" / "converged"]).frames[0]
    system = {"ecutwfc": 30.0, "occupations": "smearing", "smearing": "gaussian", "degauss": 0.05 / 13.6057}
    parameters = Dict({"SYSTEM": system, "ELECTRONS": {"conv_thr": 1e-9}})
    inputs = {**silicon_carbide, "parameters": parameters, "kpoint_spacing": Float(0.08)}
    del inputs["isolated_parameters"]
    assert_agreement(run, inputs, theirs, printed=27.105)  # 271.05 kB


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
