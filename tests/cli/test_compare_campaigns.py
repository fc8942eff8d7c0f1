"""``aiida-gaprss compare`` of campaigns, as a user types it: run, taken again, compared, shown."""

import csv
import json

import numpy as np
import pytest
from aiida.orm import Dict, QueryBuilder, WorkChainNode, load_group, load_node
from ase.build import bulk
from ase.io import write
from click.testing import CliRunner
from helpers import FIT, call
from PIL import Image

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.side_by_side import SideBySideSettings
from aiida_gaprss.calculations.side_by_side_functions import campaigns_side_by_side
from aiida_gaprss.campaign.again import contents_of, found_again
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.campaign.side_by_side import comparison_inputs, file_of, in_order
from aiida_gaprss.cli import cli
from aiida_gaprss.cli.campaigns import seeds_of
from aiida_gaprss.report.folder import FolderError
from aiida_gaprss.workflows.compare_campaigns import CompareCampaignsWorkChain
from aiida_gaprss.workflows.rss import RssWorkChain


@pytest.fixture
def files(campaign_text, campaign_codes, tmp_path, monkeypatch):
    """Two campaign files of a few labels, without a search, and diamond."""
    monkeypatch.chdir(tmp_path)
    text = campaign_text[: campaign_text.index("  search:")].replace("max_steps: 12", "max_steps: 5") + "  search: null\n"
    text = text.replace(json.dumps(FIT), json.dumps({**FIT, "descriptors": [FIT["descriptors"][0]]}))
    text = text.replace("cells: {random: 6}", "cells: {random: 3}")
    none = text.replace(text[text.index("  generations:") : text.index("  fit:")], "  generations: []\n")
    (tmp_path / "few.yaml").write_text(none.replace("initial: {random: 10}", "initial: {random: 6}"))
    (tmp_path / "more.yaml").write_text(text)
    write("diamond.cif", bulk("Si", a=5.431))
    return ["few.yaml", "more.yaml"]


OPTIONS = ("--crystals", "diamond.cif", "--window", 2.5, "--lowest", 2, "--report", "out")


@pytest.fixture
def compared(files, tmp_path):
    """What the command has printed, its folder, and the node of the comparison; the campaigns run once."""
    told = call("compare", *files, "--seeds", "5,", *OPTIONS)
    pk = int(told.rpartition("Comparison <")[2].partition(">")[0])
    return told, tmp_path / "out", load_node(pk)


def campaigns():
    query = QueryBuilder().append(WorkChainNode, filters={"attributes.process_label": "RssWorkChain"})
    return {node.label: node for node in query.all(flat=True) if node.label[:3] in ("few", "mor")}


@pytest.mark.slow
def test_two_files(compared, files, sw, evaluated):
    told, folder, node = compared
    assert node.is_finished_ok
    assert node.process_label == "CompareCampaignsWorkChain"
    found = json.loads((folder / "report.json").read_text())
    assert [(c["name"], c["file"], c["seed"]) for c in found["campaigns"]] == [
        ("few-s5", "few", 5),
        ("more-s5", "more", 5),
    ]
    assert set(found["files"]) == {"few", "more"}
    group = load_group("gaprss/compare/few-more")
    assert {one.label for one in group.nodes} == {"few-s5", "more-s5"}

    # The test is made of all labels, each structure once, with those of the reference.
    frames = node.outputs.test.get_frames()
    for atoms, (energy, _, _) in zip(frames, evaluated(frames, sw), strict=True):
        assert atoms.info["REF_energy"] == pytest.approx(energy, abs=1e-5)
    lowest = min(atoms.info["REF_energy"] / len(atoms) for atoms in frames)
    assert lowest == pytest.approx(-4.335, abs=1e-4), "diamond, which was given"
    assert all(atoms.info["REF_energy"] / len(atoms) <= lowest + 2.5 for atoms in frames)
    assert found["test"]["lowest"][0]["space_group"] == 227
    assert node.outputs.facts["lowest"][0]["from"] == "diamond"

    # Rows: labels and errors of every part, from what the potentials have made of the test.
    one = found["campaigns"][1]
    campaign = load_node(one["uuid"])
    assert [row["tag"] for row in one["rows"]] == ["g00", "g01"]
    assert one["rows"][0]["labels"] == campaign.outputs.labels.g00.n_frames
    assert one["rows"][1]["labels"] == sum(labels.n_frames for labels in campaign.outputs.labels.values())
    assert one["rows"][1]["relaxations"] == 3
    potential = campaign.outputs.potentials.g01.calculator()
    predicted = [energy for energy, _, _ in evaluated(frames, potential)]
    errors = [1000 * (e - a.info["REF_energy"]) / len(a) for a, e in zip(frames, predicted, strict=True)]
    assert one["rows"][1]["energy_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-4)
    assert one["rows"][1]["unseen"]["frames"] < len(frames), "some of them are its own"
    assert one["found"] == {"labels": one["rows"][-1]["labels"], "reached": False}, "nobody has labelled diamond"

    # What is shown.
    assert "few-s5" in told
    assert f"> {one['labels']}" in told
    assert "swapped" in (folder / "index.html").read_text()
    rows = list(csv.DictReader((folder / "parts.csv").open()))
    assert [row["tag"] for row in rows] == ["g00", "g00", "g01"]
    assert len(Image.open(folder / "energy_rmse.png").convert("RGB").getcolors(100_000)) > 50


@pytest.mark.slow
def test_the_same_command_again_runs_nothing_again(compared, files):
    _, _, node = compared
    before = {name: one.pk for name, one in campaigns().items()}
    told = call("compare", *files, "--seeds", "5,", *OPTIONS)
    assert f"campaign 1 of 2, few-s5: <{before['few-s5']}> has run already, and is taken as it is" in told
    assert f"compared: <{node.pk}>" in told
    told = call("compare", *files, "--seeds", "5,", *OPTIONS, "--submit", "--concurrent", 3)
    assert f"few-s5 <{before['few-s5']}>: has run already" in told, "also where the daemon would run them"
    assert {name: one.pk for name, one in campaigns().items()} == before


@pytest.mark.slow
@pytest.mark.full
def test_more_seeds_and_pks(compared, files, tmp_path):
    """A seed is added later, and the other file is named by the pk of its campaign."""
    before = {name: one.pk for name, one in campaigns().items()}
    told = call("compare", "few.yaml", before["more-s5"], "--seeds", "5,6", *OPTIONS[:-1], "pks")
    assert "few-s5: <" in told
    assert "campaign 2 of 2, few-s6: begins" in told
    found = json.loads((tmp_path / "pks" / "report.json").read_text())
    assert [(c["name"], c["file"]) for c in found["campaigns"]] == [("few-s5", "few"), ("few-s6", "few"), ("more-s5", "more")]
    assert (found["files"]["few"]["campaigns"], found["files"]["more"]["campaigns"]) == (2, 1)
    assert {name: one.pk for name, one in campaigns().items() if name != "few-s6"} == before


@pytest.mark.slow
def test_status_and_report(compared, tmp_path):
    _, _, node = compared
    told = call("status", node.pk)
    assert f"comparison few and more <{node.pk}>: finished" in told
    assert "more-s5" in told
    assert f"{node.pk}" in call("status")
    told = call("report", node.pk, "-o", "again")
    assert (tmp_path / "again" / "index.html").read_text() == (tmp_path / "out" / "index.html").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("something else")
    result = CliRunner().invoke(cli, ["report", str(node.pk), "-o", "other"])
    assert isinstance(result.exception, FolderError)


@pytest.mark.slow
def test_other_inputs_are_another_campaign(compared, files, campaign_text, tmp_path):
    node = campaigns()["more-s5"]
    text = (tmp_path / "more.yaml").read_text().replace("name: tiny", "name: more-s5").replace("seed: 11", "seed: 5")
    inputs = builder_inputs(check_campaign(text, tmp_path / "more.yaml"))
    assert found_again(RssWorkChain, "more-s5", inputs).pk == node.pk
    assert found_again(RssWorkChain, "more-s6", inputs) is None
    other = builder_inputs(check_campaign(text.replace("max_steps: 5", "max_steps: 6"), tmp_path / "more.yaml"))
    assert found_again(RssWorkChain, "more-s5", other) is None
    assert file_of(node) == "more"
    assert "settings" in contents_of(node)


@pytest.mark.slow
def test_one_that_failed_counts_for_no_file(compared):
    _, _, node = compared
    known = node.inputs.campaigns.get_dict()
    known["campaigns"][0]["failure"] = "g01: the fit failed: no memory"
    rows = {"rows": [row for one in node.outputs.comparison["campaigns"] for row in one["rows"]]}
    told = campaigns_side_by_side(node.inputs.settings, Dict(known), node.outputs.facts, Dict(rows)).get_dict()
    assert "few" not in told["files"]
    assert told["files"]["more"] == node.outputs.comparison["files"]["more"]
    assert len(told["campaigns"][0]["rows"]) == 1, "what it has is shown"


@pytest.mark.slow
def test_potentials_and_campaigns_that_do_not_belong_together(compared, run):
    """Nor is anything compared where no frame is at rest."""
    names = ("few-s5", "more-s5")
    nodes = {name: campaigns()[name] for name in names}
    inputs = comparison_inputs(nodes, {name: name[:-3] for name in names}, SideBySideSettings(force=50.0, pressure=1e4, lowest=1))
    inputs["potentials"]["c07_g00"] = inputs["potentials"]["c00_g00"]
    with pytest.raises(ValueError, match="c07_g00: expected one potential for each part"):
        run(CompareCampaignsWorkChain, **inputs)
    del inputs["potentials"]["c07_g00"]
    inputs["settings"] = Dict(SideBySideSettings(force=1e-19, lowest=1).model_dump())
    _, node = run(CompareCampaignsWorkChain, **inputs)
    assert node.exit_status == 400
    assert "no labelled frame is at rest" in node.exit_message


def test_faults_of_all_files_before_anything_runs(files, tmp_path):
    before = QueryBuilder().append(WorkChainNode).count()
    for name, old, new in (("few", "n_atoms", "atoms"), ("more", "max_steps", "most_steps")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(path.read_text().replace(old, new))
    told = call("compare", *files, ok=False)
    assert "settings.generations.0.relax.most_steps: unknown key" in told
    assert "settings.seeds.random.atoms" in told
    assert QueryBuilder().append(WorkChainNode).count() == before


def test_what_cannot_be_compared(files, tmp_path, dataset):
    dataset.store()
    text = (tmp_path / "more.yaml").read_text()
    assert "no file absent.yaml" in call("compare", "few.yaml", "absent.yaml", ok=False)
    assert f"{dataset.pk} is no campaign, as the others are" in call("compare", "few.yaml", dataset.pk, ok=False)
    assert "--costs is of a comparison of strategies" in call("compare", *files, "--costs", "3", ok=False)
    assert "--seeds is of a comparison of campaigns" in call("compare", dataset.pk, "--seeds", 2, ok=False)
    assert "for more at one time add --submit" in call("compare", *files, "--concurrent", 2, ok=False)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "few.yaml").write_text(text)
    assert "two files are called few" in call("compare", "few.yaml", "sub/few.yaml", ok=False)
    (tmp_path / "more.yaml").write_text(text.replace("level_of_theory: Still", "level_of_theory: Another Still"))
    assert "different levels of theory cannot be compared" in call("compare", *files, "--seeds", 1, ok=False)


@pytest.mark.parametrize(("text", "seeds"), [("3", [1, 2, 3]), ("11,12,13", [11, 12, 13]), ("7,", [7]), (None, None)])
def test_seeds(text, seeds):
    assert seeds_of(None, None, text) == seeds


@pytest.mark.parametrize("text", ["", "0", "a", "1,1", "-2", "3,0", ","])
def test_strange_seeds(text):
    result = CliRunner().invoke(cli, ["compare", "few.yaml", "--seeds", text])
    assert result.exit_code == 2
    assert "expected" in result.output


def test_parts_in_their_order():
    tags = ["refine", "g10", "database_old", "search", "g02", "final", "crystals"]
    assert in_order(tags) == ["database_old", "g02", "g10", "crystals", "final", "search", "refine"]
    assert fr.INFO_KEYS["parent"], "by which frames of the test are known in their campaigns"
