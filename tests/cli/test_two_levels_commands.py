"""``relabel``, ``dataset difference``, ``delta`` as a user types them, from frames without labels to a sum of potentials."""

import re

import helpers
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ruamel.yaml import YAML

from aiida_gaprss.data.dataset import Dataset

SETTINGS = """\
descriptors: [{kind: distance_2b, cutoff: 4.0, n_sparse: 10}]
sigma: {energy: 0.005, forces: 0.05, virial: 0.05}
"""


@pytest.fixture
def call(python_code, tmp_path, monkeypatch):
    """Call a command in a folder of its own; return what it says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SETTINGS)

    return helpers.call


@pytest.fixture
def reference(python_code, tmp_path):
    """Write a file with an ASE calculator as reference."""

    def reference(name, settings):
        codes = {"label_python": python_code.full_label, "python": python_code.full_label}
        with (tmp_path / name).open("w") as handle:
            YAML().dump({"reference": {"ase": settings}, "codes": codes, "reuse_labels": False}, handle)
        return name

    return reference


@pytest.fixture
def crystals():
    """Crystals of silicon without labels, the isolated atom first."""
    rng = np.random.default_rng(8)
    frames = [Atoms("Si", cell=[11.0] * 3, pbc=True, info={"frame_id": "atom", "config_type": "isolated_atom"})]
    for number in range(12):
        atoms = bulk("Si", a=5.431)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
        atoms.info = {"frame_id": f"crystal-{number}", "config_type": "strained"}
        frames.append(atoms)
    return Dataset(frames, level_of_theory="unlabelled").store()


def pk_in(text, pattern=r"dataset <(\d+)>"):
    return int(re.search(pattern, text)[1])


def test_from_frames_to_a_potential_of_the_dear_level(
    call, reference, crystals, sw_settings, tersoff_settings, gap_fit_code, python_code
):
    cheap_file = reference("cheap.yaml", {**sw_settings, "level_of_theory": "SW of this test"})
    dear_file = reference("dear.yaml", {**tersoff_settings, "level_of_theory": "Tersoff of this test"})
    codes = ("--code", gap_fit_code.full_label, "--python", python_code.full_label, "--settings", "small.yaml")
    cheap = pk_in(call("relabel", crystals.pk, "--reference", cheap_file))
    text = call("relabel", cheap, "--reference", dear_file, "--max-labels", 6, "--check")
    assert "the reference labels 6 frames, 11 atoms, the largest has 2 (1 isolated_atom, 5 strained)" in text
    assert "dataset <" not in text
    text = call("relabel", cheap, "--reference", dear_file, "--max-labels", 6)
    assert "6 of 6 frames labelled, of 13 given" in text
    assert "level of theory: Tersoff of this test" in text
    dear = pk_in(text)
    text = call("dataset", "difference", dear, cheap)
    assert "6 frames, 6 energies; 1 isolated_atom, 5 strained" in text
    assert "difference: Tersoff of this test minus SW of this test" in text
    assert re.search(r"root mean squares: energy [\d.]+ meV/atom", text)
    differences = pk_in(text)
    fitted = pk_in(call("fit", cheap, *codes, "--report", "a"), r"Potential <(\d+)>")
    others = pk_in(call("relabel", cheap, "--reference", dear_file, "--beside", dear))
    assert "the fit needs" in call("delta", fitted, differences, *codes, "--forecast")
    text = call("delta", fitted, differences, *codes, "--test", dear, "--report", "b", ok=False)
    assert "test.t00: 5 of its frames are fitted, too" in text
    text = call("delta", fitted, differences, *codes, "--test", others, "--report", "c")
    assert "the sum is of the level Tersoff of this test" in text
    assert re.search(r"Sum, test .*\n *all +7 ", text), text
    total = pk_in(text, r"Potential <(\d+)>")
    assert f"It is the sum of <{fitted}> and of the potential of differences" in text
    assert re.search(r"all +7 ", call("potential", "evaluate", total, others, "--python", python_code.full_label))
    text = call("potential", "evaluate", total, cheap, "--python", python_code.full_label, ok=False)
    assert "different levels of theory" in text
    assert "a sum of 2" in call("potential", "show", total)
    _refusals(call, cheap, dear, differences, fitted, codes)


def _refusals(call, cheap, dear, differences, fitted, codes):
    for arguments, message in (
        (("dataset", "difference", cheap, cheap), "are at the same level of theory"),
        (("dataset", "merge", cheap, differences, "--mixed-levels"), "has differences of labels"),
        (("fit", cheap, differences, "--mixed-levels", *codes), "cannot be fitted together"),
        (("delta", fitted, dear, *codes), "has labels, not differences of labels"),
        (("delta", fitted, differences, "--test-fraction", 0.2, *codes), "give --test, labels of the dear level"),
        (("delta", fitted, differences, "--mixed-levels", *codes), "have no meaning together"),
        (("relabel", fitted, "--reference", "dear.yaml"), "is a Potential, expected a dataset"),
    ):
        assert re.search(message, call(*arguments, ok=False)), message


def test_frames_without_a_partner_are_told(call, copies):
    frames = [atoms.copy() for atoms in copies]
    cheap = Dataset(frames[:6], level_of_theory="cheap").store()
    for atoms in frames:
        atoms.info["REF_energy"] += 0.1 * len(atoms)
    dear = Dataset(frames[:3] + frames[6:], level_of_theory="dear").store()
    text = call("dataset", "difference", dear.pk, cheap.pk)
    assert "left out: 9 frames that no cheap label is of the same structure as: cell-05, " in text
    assert "3 frames, 3 energies" in text
    lonely = Dataset([frames[0], *frames[6:]], level_of_theory="dear").store()
    assert "no pairs: none of the 10 labelled dear frames" in call("dataset", "difference", lonely.pk, cheap.pk, ok=False)
