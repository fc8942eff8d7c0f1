"""The command as a user types it; only the profile is that of the tests."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import load_group
from ase.io import read

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.io.extxyz import Keys, export_frames
from aiida_gaprss.models.gap.quip import needs

COMMANDS = ("setup", "demo", "run", "fit", "status", "report", "trace", "dataset", "potential")
COMMANDS += ("learning-curve", "tune", "committee", "compare", "resume", "share", "open", "library")


def test_help_as_a_program():
    program = Path(sys.executable).parent / "aiida-gaprss"
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(call, name):
    assert "Usage:" in call(name, "--help")


def test_faults_of_the_user_end_without_a_traceback(tmp_path):
    program = Path(sys.executable).parent / "aiida-gaprss"
    environment = {**os.environ, "AIIDA_PATH": str(tmp_path / "aiida")}
    (tmp_path / "bad.yaml").write_text("sead: 1\n")
    for arguments, message in (
        (["run", "bad.yaml"], "line 1, sead: unknown key"),
        (["run", "absent.yaml"], "absent.yaml"),
        (["status"], "run `aiida-gaprss setup`"),
        (["learning-curve", "1"], "run `aiida-gaprss setup`"),
        (["tune", "1", "--search", "bad.yaml"], "run `aiida-gaprss setup`"),
        (["committee", "1"], "run `aiida-gaprss setup`"),
        (["resume"], "run `aiida-gaprss setup`"),
        (["nonsense"], "No such command 'nonsense'"),
    ):
        done = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode != 0
        assert message in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_check(call, campaign_text, campaign_codes, tmp_path):
    (tmp_path / "a.yaml").write_text(campaign_text)
    assert "good; campaign tiny, at most 19 labels" in call("run", "--check", tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text(campaign_text.replace("label: 2", "lable: 2"))
    text = call("run", "--check", tmp_path / "b.yaml", ok=False)
    assert "settings.search.lable: unknown key" in text
    (tmp_path / "c.yaml").write_text(campaign_text + "codes: {gap_fit: nosuch@localhost}\n")
    assert "no code 'nosuch@localhost' in this profile" in call("run", "--check", tmp_path / "c.yaml", ok=False)


def test_dataset(call, silicon_frames, tmp_path):
    keys = Keys(energy="dft_energy", forces="dft_forces", stress="dft_stress", stress_unit="GPa", stress_sign=-1)
    export_frames(silicon_frames, tmp_path / "in.xyz", keys)
    options = ["--energy", "dft_energy", "--forces", "dft_forces", "--stress", "dft_stress", "--stress-unit", "GPa"]
    options += ["--stress-sign", "-1"]
    text = call("dataset", "import", tmp_path / "in.xyz", *options, "--level-of-theory", "Stillinger-Weber")
    assert f"{len(silicon_frames)} frames" in text
    assert f"{len(silicon_frames) - 1} virials" in text
    pk = text.split("<")[1].split(">")[0]

    shown = call("dataset", "show", pk)
    assert "Stillinger-Weber" in shown
    assert "random 14" in shown
    assert "in.xyz" in call("dataset", "list")

    call("dataset", "export", pk, tmp_path / "out.xyz", *options)
    for before, after in zip(read(tmp_path / "in.xyz", ":"), read(tmp_path / "out.xyz", ":"), strict=True):
        assert after.info["dft_energy"] == pytest.approx(before.info["dft_energy"], abs=1e-6)
        if "dft_stress" in before.info:
            assert np.allclose(after.info["dft_stress"], before.info["dft_stress"], atol=1e-4)
    call("dataset", "export", pk, tmp_path / "plain.xyz")
    assert "REF_energy=" in (tmp_path / "plain.xyz").read_text()


def test_dataset_faults(call, potential, silicon_frames, tmp_path):
    export_frames(silicon_frames, tmp_path / "in.xyz", Keys(energy="e"))
    level = ["--level-of-theory", "x"]
    assert "no frame has the key 'energy'" in call(
        "dataset", "import", tmp_path / "in.xyz", "--energy", "energy", *level, ok=False
    )
    assert "unknown energy unit" in call("dataset", "import", tmp_path / "in.xyz", "--energy-unit", "J", *level, ok=False)
    assert "no such file" in call("dataset", "import", tmp_path / "out.xyz", *level, ok=False)
    assert "level-of-theory" in call("dataset", "import", tmp_path / "in.xyz", ok=False)
    assert "no node 999999" in call("dataset", "show", 999999, ok=False)
    assert "is a Potential, expected a dataset" in call("dataset", "show", potential.store().pk, ok=False)


def test_potential(call, potential, dataset, potential_folder, tmp_path):
    pk = potential.store().pk
    text = call("potential", "export", pk, tmp_path / "gap")
    assert "param_filename" in text
    for name in potential.files:
        assert (tmp_path / "gap" / name).read_bytes() == (potential_folder / name).read_bytes()
    assert needs(potential.base.attributes.get("gap_version")) in text
    assert "1 = Si" in (tmp_path / "gap" / "lammps.txt").read_text()
    assert json.loads((tmp_path / "gap" / "card.json").read_text())["potential"]["uuid"] == potential.uuid
    assert "## Terms" in (tmp_path / "gap" / "card.md").read_text()
    shown = call("potential", "show", pk)
    assert "distance_2b" in shown
    assert "imported: nothing in this profile made it" in shown
    assert "of this environment reads it" in shown
    assert "Si" in call("potential", "list")
    imported = call("potential", "import", tmp_path / "gap" / "gap.xml", "--label", "again")
    assert "Si, cutoff 4.5 Å" in imported
    assert needs(potential.base.attributes.get("gap_version")) in imported
    assert "note: the same files as <" in imported
    assert "again" in call("potential", "list")
    once_more = call("potential", "import", tmp_path / "gap" / "gap.xml", "--label", "again")
    assert "it is there already" in once_more
    assert once_more.split(":")[0] == imported.split(":")[0]
    assert "gap.xml" in call("potential", "export", pk, tmp_path / "gap", ok=False)
    assert "use it with" in call("potential", "export", pk, tmp_path / "gap", "--force")
    assert "is a Dataset, expected a potential" in call("potential", "show", dataset.store().pk, ok=False)
    (tmp_path / "gap" / "gap.xml").write_text("<nothing/>")
    assert "holds no GAP" in call("potential", "import", tmp_path / "gap" / "gap.xml", ok=False)


def test_potential_as_json_is_nothing_but_json(call, potential, capfd):
    shown = json.loads(call("potential", "show", potential.store().pk, "--json"))
    assert shown["potential"]["elements"] == ["Si"]
    assert shown["here"]["readable"] is True
    assert capfd.readouterr().out == "", "QUIP prints past python"


def test_potential_of_a_newer_gap(call, potential_folder, tmp_path):
    for path in potential_folder.glob("gap.xml*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    xml = tmp_path / "gap.xml"
    xml.write_text(re.sub(r'gap_version="\d+"', 'gap_version="1999999999"', xml.read_text()))
    pk = call("potential", "import", xml).split("<")[1].split(">")[0]
    shown = call("potential", "show", pk)
    assert "not usable here: the potential was written by a newer GAP (version 1999999999) than the quippy here" in shown
    assert "a quippy-ase later than" in call("potential", "export", pk, tmp_path / "out")


def test_markup_and_control_characters_of_potentials(call, potential):
    potential.label = "[/red]\x1b[31m<script>"
    pk = potential.store().pk
    for command in (("list",), ("show", pk), ("show", pk, "--json")):
        text = call("potential", *command)
        assert "\x1b" not in text
        assert "[/red]" in text.replace("\\", "")


def test_types_and_elements_of_a_potential(call, potential, tmp_path):
    pk = potential.store().pk
    assert "the potential knows Si, not C" in call("potential", "export", pk, tmp_path / "no", "--types", "C Si", ok=False)
    assert not (tmp_path / "no").exists(), "nothing is written then"
    call("potential", "export", pk, tmp_path / "gap", "--types", "Si,Si")
    assert "the same in the QUIP package of LAMMPS" in call("potential", "show", pk)
    assert (tmp_path / "gap" / "lammps.txt").read_text().rstrip().endswith('" 14 14')
    xml = tmp_path / "gap" / "gap.xml"
    assert "potential of Si, not of C" in call("potential", "import", xml, "--elements", "C", ok=False)
    assert "Si, cutoff" in call("potential", "import", xml, "--elements", "Si")


def test_a_potential_imported_with_its_card(call, campaign, tmp_path):
    fitted = campaign.outputs.potential
    call("potential", "export", fitted.pk, tmp_path)
    pk = call("potential", "import", tmp_path / "gap.xml").split("<")[1].split(">")[0]
    shown = call("potential", "show", pk)
    assert "imported with its card" in shown
    assert "campaign tiny, seed 11" in shown
    (tmp_path / "card.json").write_text("{}")
    assert "note: card not kept:" in call("potential", "import", tmp_path / "gap.xml")


def test_fit(call, campaign_codes, dataset, tmp_path):
    assert "zuo2020_Mo" in call("fit", "--protocol", "list").split()
    pk = dataset.store().pk
    text = call("fit", pk, "--protocol", "fast", "--forecast")
    assert "the fit needs about" in text
    assert "soap_turbo: " in text
    settings = tmp_path / "fit.yaml"
    settings.write_text(
        "protocol: default\ndescriptors:\n- {kind: distance_2b, cutoff: 2 b, n_sparse: 10}\n"
        "- {kind: soap, cutoff: 4.5, n_max: 4, l_max: 3, n_sparse: 20, delta: 0.5}\n"
    )
    text = call("fit", pk, "--settings", settings, "--test-fraction", 0.2, "--seed", 7, "--report", tmp_path / "report")
    assert "Training" in text
    assert "Test" in text
    assert re.search(r"\d to [\d.]+ eV/atom", text)
    for kind in ("training", "test"):
        for quantity in ("energy", "forces", "virial"):
            assert (tmp_path / "report" / f"{kind}_{quantity}.png").stat().st_size > 10000
    made = re.search(r"Potential <(\d+)>", text)[1]
    card = call("potential", "show", made)
    assert "Errors on frames that were held back (test)" in card
    assert "none: the process that made it tested no such frames" not in card
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert "expected keys and values" in call("fit", pk, "--settings", tmp_path / "list.yaml", ok=False)
    assert "unknown protocol 'fst'" in call("fit", pk, "--protocol", "fst", ok=False)
    assert "give at least one dataset" in call("fit", ok=False)
    assert "aiida-gaprss setup registers the codes" in call("fit", pk, "--code", "none@nowhere", ok=False)
    assert "and may have 10 MB" in call("fit", pk, "--memory", 10, ok=False)


def test_a_finished_campaign(call, campaign, tmp_path):
    assert "tiny" in call("status")
    text = call("status", campaign.pk)
    assert "finished" in text
    text = call("report", campaign.pk, "-o", tmp_path / "report")
    assert "index.html" in text
    assert json.loads((tmp_path / "report" / "report.json").read_text())["label"] == "tiny"
    name = campaign.outputs.labels.g01.get_frames()[0].info["frame_id"]
    text = call("trace", name, "--campaign", campaign.pk)
    assert "FitCalculation" in text
    assert "random cell of seed" in text
    assert "no dataset of this profile holds a frame" in call("trace", "nosuch", ok=False)
    assert "has ended: finished" in call("resume", campaign.pk, ok=False)
    assert "nothing to go on with" in call("resume", 10**9, ok=False)
    assert "nothing was interrupted" in call("resume", ok=False)
    inner = next(child for child in campaign.called if child.process_label == "SearchWorkChain")
    assert f"is a part of <{campaign.pk}>" in call("resume", inner.pk, ok=False)
    assert "is nothing that goes on" in call("resume", campaign.outputs.potential.creator.pk, ok=False)
    assert "is a FitCalculation, not a campaign" in call("status", campaign.outputs.potential.creator.pk, ok=False)
    assert isinstance(campaign.outputs.potential, Potential)
    assert isinstance(campaign.outputs.predictions, Dataset)


def test_names_of_what_a_campaign_made(call, campaign):
    """And all of it in one group."""
    outputs = campaign.outputs
    assert outputs.potential.label == "tiny final potential"
    assert outputs.potentials.g00.label == "tiny g00 potential"
    assert outputs.labels.g01.label == "labels of generation 1 (tiny)"
    assert outputs.labels.g01.description
    assert "tiny final potential" in call("potential", "list")
    assert "labels of generation 1 (tiny)" in call("dataset", "list")
    nodes = {node.uuid for node in load_group(f"gaprss/tiny-{campaign.uuid[:8]}").nodes}
    assert nodes >= {campaign.uuid, outputs.potential.uuid, outputs.predictions.uuid, outputs.minima_frames.uuid}
    assert nodes >= {space[key].uuid for space in (outputs.labels, outputs.potentials, outputs.relaxed) for key in space}


@pytest.mark.slow
def test_run_here(call, campaign_text, campaign_codes, tmp_path):
    """With live progress, and the report at the end."""
    text = campaign_text[: campaign_text.index("  search:")].replace("name: tiny", "name: here")
    text = text.replace(text[text.index("  generations:") : text.index("  fit:")], "  generations: []\n")
    (tmp_path / "a.yaml").write_text(text.replace("seed: 11", "seed: 3") + "  search: null\n")
    output = call("run", tmp_path / "a.yaml", "--seed", 5, "--report", tmp_path / "report")
    assert "seed 5: 0 generations" in output
    assert "Report:" in output
    assert (tmp_path / "report" / "index.html").is_file()
