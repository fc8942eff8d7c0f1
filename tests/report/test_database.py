"""Status, report and storage of databases: finished, on the way, failed, strange."""

import csv
import json
import re

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.orm import Dict, WorkChainNode
from ase.build import bulk
from ase.io import read
from click.testing import CliRunner
from helpers import call

from aiida_gaprss.cli import cli
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.report.database import collect_database, strategy_rows
from aiida_gaprss.report.database_page import FILES
from aiida_gaprss.report.folder import FolderError
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.workflows.build import BuildWorkChain

WAVES = {"kind": "nondiagonal", "grid": [2, 2, 2], "volumes": [0.9, 1.1], "copies": 2}
TIGHT = {"kind": "displacements", "length_A": 12.3, "most_atoms": 54}


@pytest.fixture
def database(run, python_code, sw_settings):
    """A database of silicon: one strategy has nothing of the relaxed crystal, and one of the crystals is too large."""

    def database(**more):
        crystals = [bulk("Si", a=5.9), bulk("Si", a=5.4, cubic=True)]
        for name, atoms in zip(("diamond", "large"), crystals, strict=True):
            atoms.info["frame_id"] = name
        strategies = {"atoms": {"kind": "isolated_atoms"}, "waves": WAVES, "single": TIGHT}
        settings = StrategyList(strategies=strategies, relax={"most_atoms": 2}, max_labels=9, seed=7)
        given = {
            "settings": Dict(settings.model_dump()),
            "crystals": Dataset(crystals, level_of_theory="unlabelled"),
            "label": {"ase": {"code": python_code, "settings": Dict(sw_settings)}, "reuse": False},
            "metadata": {"label": "of <b>silicon</b>"},
            **more,
        }
        return run(BuildWorkChain, **given)[1]

    return database


def test_a_finished_database(database, tmp_path):
    """All it tells is what the datasets hold."""
    node = database()
    waves = node.outputs.datasets.waves.get_frames()
    told = call("status", node.pk)
    assert f"database of <b>silicon</b> <{node.pk}>: finished" in told
    assert re.search(rf"waves +nondiagonal +14 +8 +8 +0 +{sum(map(len, waves))} ", told), told
    assert "crystal large: 8 atoms, expected at most 2 (relax.most_atoms)" in told
    assert "single: displacements: crystal diamond: the supercell has 128 atoms, expected at most 54" in told
    assert f"9 labels, each structure once: <{node.outputs.labels.pk}>" in told
    assert re.search(rf"{node.pk} +database +of <b>silicon</b> +finished +9 ", call("status"))

    folder = tmp_path / "report"
    assert f"Report: {folder / 'index.html'}" in call("report", node.pk, "-o", folder)
    assert {path.name for path in folder.iterdir()} == {
        *("index.html", "strategies.csv", "labels.xyz", "report.json", "energy_volume.png", "forces.png"),
        *("dataset_atoms.xyz", "dataset_waves.xyz"),
    }
    again = read(folder / "dataset_waves.xyz", index=":")
    assert [atoms.info["frame_id"] for atoms in again] == [atoms.info["frame_id"] for atoms in waves]
    row = next(row for row in csv.DictReader((folder / "strategies.csv").open()) if row["strategy"] == "waves")
    forces = [np.linalg.norm(atoms.arrays["REF_forces"], axis=1).max() for atoms in waves]
    energies = np.array([atoms.info["REF_energy"] / len(atoms) for atoms in waves])
    assert float(row["largest_force_eV/A"]) == pytest.approx(max(forces))
    assert float(row["highest_energy_eV/atom"]) == pytest.approx(np.ptp(energies), abs=1e-9), "waves have the lowest, too"
    report = json.loads((folder / "report.json").read_text())
    assert (report["labels"], report["state"], report["seed"]) == (9, "finished", 7)
    page = (folder / "index.html").read_text()
    assert "of &lt;b&gt;silicon&lt;/b&gt;" in page
    assert "expected at most 54" in page

    before = page
    call("report", node.pk, "-o", folder)  # which is of the same
    assert (folder / "index.html").read_text() == before
    assert "of something else" in call("report", on_the_way().pk, "-o", folder, ok=False)

    told = call("storage", node.pk)
    stages = dict(re.findall(r"^ (\w+) +(\d+) +\d+ +[\d.]+", told, flags=re.M))
    assert stages == {"crystals": "0", "atoms": "0", "waves": "0", "single": "0", "label": "9", "all": "9"}, told
    assert "jobs have a folder in the scratch of their computer" in told
    assert "5,000 labels like these" in told


def test_labels_that_failed(database, python_code, tmp_path):
    """Each frame is told with the reason, on the page and before."""
    broken = {"calculator": "ase.calculators.emt.EMT", "arguments": {}, "level_of_theory": "EMT"}
    settings = StrategyList(strategies={"waves": WAVES})
    label_by = {"ase": {"code": python_code, "settings": Dict(broken)}, "reuse": False}
    node = database(settings=Dict(settings.model_dump()), label=label_by)
    told = call("status", node.pk)
    assert "failed: labels: " in told
    assert re.search(r"^\d+ without a label, as waves-diamond-0000-[0-9a-f]+: ", told, flags=re.M)
    call("report", node.pk, "-o", tmp_path / "r")
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert len(report["failures"]) == node.outputs.datasets.waves.n_frames
    assert not (tmp_path / "r" / "forces.png").exists()
    assert "No frame has been labelled yet" in (tmp_path / "r" / "index.html").read_text()


def on_the_way():
    """A database that has made the frames of some strategies, and no more."""
    node = WorkChainNode(process_type="aiida.workflows:gaprss.build", label="on the way")
    node.set_process_label("BuildWorkChain")
    settings = Dict(
        {"strategies": {"waves": {"kind": "nondiagonal"}, "hot": {"kind": "md"}}, "seed": 1}
    )  # an old one has no more
    node.base.links.add_incoming(settings.store(), LinkType.INPUT_WORK, "settings")
    node.set_process_state("running")
    return node.store()


def test_one_that_is_on_the_way(aiida_profile, tmp_path):
    node = on_the_way()
    record = collect_database(node)
    assert (record.state, [one.made for one in record.strategies]) == ("running", [None, None])
    assert [row["frames"] for row in strategy_rows(record)] == [0, 0]
    assert "database on the way" in call("status", node.pk)
    call("report", node.pk, "-o", tmp_path / "r")
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"index.html", "strategies.csv", "report.json"}
    assert "all" in call("storage", node.pk)


def test_one_that_is_none(aiida_profile):
    node = WorkChainNode()
    node.set_process_label("BuildWorkChain")
    node.store()
    for command in ("status", "report"):
        assert f"database <{node.pk}> is not whole" in call(command, node.pk, ok=False)


def test_a_folder_of_something_else(aiida_profile, tmp_path):
    (tmp_path / "labels.xyz").write_text("mine")
    with pytest.raises(FolderError, match=r"has labels\.xyz of something else"):
        CliRunner().invoke(cli, ["report", str(on_the_way().pk), "-o", str(tmp_path)], catch_exceptions=False)
    assert (tmp_path / "labels.xyz").read_text() == "mine"
    assert "labels.xyz" in FILES
