"""``aiida-gaprss validate`` as a user types it: real properties of silicon beside a reference, and what it refuses."""

import json
import re

import helpers
import pytest
from ase.build import bulk
from ase.io import write
from helpers import label
from ruamel.yaml import YAML

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential

SUITE = """\
suite: quick
properties:
  eos: {points: 5}
  relaxation: {disturbed: 1}
"""


@pytest.fixture
def call(diamond_folder, python_code, sw_settings, tmp_path, monkeypatch):
    """Call the command in a folder of its own; return what it says."""
    monkeypatch.chdir(tmp_path)
    potential = Potential(diamond_folder).store()
    potential.label = "of small cells"
    (tmp_path / "suite.yaml").write_text(SUITE)
    codes = {"label_python": python_code.full_label, "python": python_code.full_label}
    with open("reference.yaml", "w") as handle:
        YAML().dump({"reference": {"ase": sw_settings}, "codes": codes}, handle)
    write("diamond.cif", bulk("Si", a=5.431))
    write("simple_cubic.xyz", bulk("Si", "sc", a=2.6), format="extxyz")

    def call(*more, what=potential.pk, ok=True):
        arguments = ["validate", what, "--python", python_code.full_label, *more]
        return helpers.call(*arguments, ok=ok)

    return call


def test_a_validation(call, silicon_frames, sw, tmp_path):
    frames = [atoms.copy() for atoms in silicon_frames[1:4]]
    for atoms in frames:
        label(atoms, sw)
    test = Dataset(frames, level_of_theory="a test").store()
    crystals = ("--crystals", "diamond.cif", "--crystals", "simple_cubic.xyz", "--settings", "suite.yaml")
    text = call(*crystals, "--reference", "reference.yaml", "--test", test.pk, "--report", "out")
    assert "each potential, evaluate: " in text
    assert re.search(r"^ *errors +(● good|▲ look|✖ bad)", text, flags=re.M), text
    assert re.search(r"eos +diamond +delta_meV_per_atom", text), text
    record = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(record["potentials"]) == ["of_small_cells"]
    assert {row["property"] for row in record["scorecard"]["potentials"]["of_small_cells"]["rows"]} == {
        *("eos", "elastic", "relaxation", "errors")
    }
    assert (tmp_path / "out" / "curve_eos_phases.png").is_file()
    pk = re.search(r"Validation <(\d+)>", text)[1]
    again = call("--report", "again", what=pk)
    assert f"Validation <{pk}>" in again
    assert (tmp_path / "again" / "report.json").read_bytes() == (tmp_path / "out" / "report.json").read_bytes()
    told = call("--crystals", "diamond.cif", "--settings", "suite.yaml", "--reference", "reference.yaml", "--check")
    assert "the reference: " in told
    assert "Validation <" not in told


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--crystals", "diamond.cif", "--suite", "quik"), "unknown suite 'quik'; known: "),
        ((), r"give crystals as files \(--crystals\) or as a dataset"),
        (("--crystals", "diamond.cif", "--reference", "nothing.yaml"), "there is no file nothing.yaml, and it is no pk"),
        (
            (
                "--crystals",
                "suite.yaml",
            ),
            "suite.yaml cannot be read",
        ),
        (("--crystals", "diamond.cif", "--settings", "wrong.yaml"), r"wrong.yaml.*line 3.*eos.points"),
        (
            ("--crystals", "diamond.cif", "--reference", "wrong_reference.yaml"),
            r"wrong_reference.yaml.*line 1, seed: unknown key",
        ),
        (("--crystals", "diamond.cif", "--reference", "values.yaml"), r"values.yaml.*line 2.*eos"),
        (("--crystals", "diamond.cif", "--settings", "large.yaml"), r"phonons of diamond: .*set length_A"),
        (
            (
                "--crystals",
                "copper.cif",
            ),
            "knows Si, but not Cu",
        ),
        (("--crystals", "slab.xyz"), "slab.xyz holds a structure that does not repeat in all directions"),
    ],
)
def test_what_is_refused(call, tmp_path, more, message):
    (tmp_path / "wrong.yaml").write_text("suite: quick\nproperties:\n  eos: {points: 4}\n")
    (tmp_path / "large.yaml").write_text("properties:\n  phonons: {length_A: 4.0}\n")
    (tmp_path / "wrong_reference.yaml").write_text("seed: 3\nreference: {ase: {calculator: emt}}\n")
    (tmp_path / "values.yaml").write_text("source: a paper\nvalues: {diamond: {eos: 3}}\n")
    write("copper.cif", bulk("Cu"))
    slab = bulk("Si")
    slab.pbc = (True, True, False)
    write("slab.xyz", slab, format="extxyz")
    text = call(*more, "--check", ok=False)
    assert re.search(message, text, flags=re.S), text
