"""A tiny campaign on Stillinger-Weber silicon: one generation, and a search."""

import csv
import json
from io import StringIO

import numpy as np
import pytest
from aiida.common.links import LinkType
from aiida.orm import Int, WorkChainNode, load_node

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.rss_functions import initial_cells
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.forecast import label_budget
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.outside.terminal import PlainConsole
from aiida_gaprss.report.collect import collect
from aiida_gaprss.report.contents import UUID, contents
from aiida_gaprss.report.trace import TraceError, history
from aiida_gaprss.report.write import write_report
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.workflows.rss import RssWorkChain


def test_outputs(campaign, sw, evaluated):
    assert campaign.is_finished_ok, campaign.exit_message
    outputs = campaign.outputs
    assert sorted(outputs.labels) == ["g00", "g01"]
    assert sorted(outputs.potentials) == ["g00", "g01"]
    assert sorted(outputs.relaxed) == ["g01"]
    first = outputs.labels.g00.get_frames()
    assert [a.info["frame_id"] for a in first[:2]] == ["tiny-atom-Si", "tiny-g0-0000"]
    assert len(first) == 11
    assert outputs.potential.uuid == outputs.potentials.g01.uuid
    assert outputs.predictions.n_frames == outputs.labels.g00.n_frames + outputs.labels.g01.n_frames
    assert outputs.results["frames"] == outputs.predictions.n_frames
    selection = outputs.selections.g01.get_dict()
    assert selection["chosen"] == outputs.labels.g01.n_frames <= 6
    assert selection["chosen"] + sum(selection["rejected"].values()) == selection["candidates"]
    for tag in outputs.labels:
        frames = outputs.labels[tag].get_frames()
        for atoms, (energy, forces, _) in zip(frames, evaluated(frames, sw), strict=True):
            assert atoms.info["REF_energy"] == pytest.approx(energy, abs=1e-5)
            assert np.allclose(atoms.arrays["REF_forces"], forces, atol=1e-4)


def test_where_every_labelled_frame_comes_from(campaign):
    for tag in campaign.outputs.labels:
        for atoms in campaign.outputs.labels[tag].get_frames():
            label = load_node(atoms.info["label_uuid"])
            assert label.process_label == "LabelCalculation"
            assert label.is_finished_ok
            origin = load_node(atoms.info["origin"])
            assert origin.process_label == ("initial_cells" if tag == "g00" else "RelaxCalculation")
            assert atoms.info["generation"] == int(tag[1:])
            if tag == "g01":
                assert load_node(atoms.info["potential"]).uuid == campaign.outputs.potentials.g00.uuid
                assert atoms.info["parent"].startswith("tiny-g1-")
                assert "PRED_energy" in atoms.info, "what the potential said before it had seen the label"


def test_minima(campaign):
    minima = campaign.outputs.minima["minima"]
    assert minima == sorted(minima, key=lambda m: m["rank"])
    frames = campaign.outputs.minima_frames.get_frames()
    assert [a.info["frame_id"] for a in frames] == [m["frame_id"] for m in minima]
    checked = [a for a in frames if fr.is_labelled(a)]
    assert 1 <= len(checked) <= 2
    assert checked == frames[: len(checked)], "the reference comes first"
    energies = [a.info["REF_energy"] / len(a) for a in checked]
    assert [m["ref_energy"] for m in minima[: len(checked)]] == pytest.approx(energies, rel=1e-12)
    assert all(m["ref_energy"] is None for m in minima[len(checked) :])
    assert campaign.outputs.search.summary["attempts"] == 4


def test_the_same_seed_gives_the_same_cells(run, campaign, campaign_codes, campaign_text, tmp_path):
    text = campaign_text[: campaign_text.index("  search:")] + "  search: null\n"
    text = text.replace(text[text.index("  generations:") : text.index("  fit:")], "  generations: []\n")
    inputs = builder_inputs(check_campaign(text, tmp_path / "again.yaml"))
    _, node = run(RssWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    assert "minima" not in node.outputs
    again = node.outputs.labels.g00.get_frames()
    before = campaign.outputs.labels.g00.get_frames()
    assert [a.info["frame_id"] for a in again] == [a.info["frame_id"] for a in before]
    assert [a.info.get("seed") for a in again] == [a.info.get("seed") for a in before]
    for old, new in zip(before, again, strict=True):
        assert np.array_equal(old.positions, new.positions)
        assert np.array_equal(old.cell.array, new.cell.array)
        assert old.info["REF_energy"] == new.info["REF_energy"]
    other = initial_cells(inputs["settings"], inputs["name"], Int(stage_seed(12, 0, "initial"))).get_frames()
    assert not np.allclose(other[1].cell.array, before[1].cell.array)


def test_a_campaign_finds_the_labels_of_another_one(run, campaign, campaign_codes, campaign_text, tmp_path):
    """Nothing is calculated again; labels, budget and course are the same, and the report tells."""
    text = campaign_text[: campaign_text.index("  search:")] + "  search: null\n"
    text = text.replace(text[text.index("  generations:") : text.index("  fit:")], "  generations: []\n")
    text = text.replace("reuse_labels: false\n", "")
    inputs = builder_inputs(check_campaign(text, tmp_path / "again.yaml"))
    assert inputs["label"]["reuse"] is True, "the default"
    _, node = run(RssWorkChain, **inputs)
    assert node.is_finished_ok, node.exit_message
    assert "LabelCalculation" not in {process.process_label for process in node.called_descendants}
    assert contents(node)["labels"] == UUID.sub("UUID", campaign.outputs.labels.g00.text())
    assert label_budget(node.inputs) == node.outputs.labels.g00.n_frames == 11
    record = collect(node)
    page = write_report(record, tmp_path / "report").read_text(encoding="utf-8")
    assert "of these found" in page
    (row,) = json.loads((tmp_path / "report" / "report.json").read_text())["generations"]
    assert (row["labelled"], row["found"], row["failed"]) == (11, 11, 0)
    assert collect(campaign).generations[0].counts.found == 0


def test_report(campaign, tmp_path):
    record = collect(campaign)
    assert record.state == "finished"
    assert record.label == "tiny"
    assert "Stillinger-Weber" in record.reference
    assert [g.name for g in record.generations] == ["initial", "generation 1", "final search"]
    assert record.generations[0].counts.labelled == 11
    assert record.generations[1].counts.made == 6
    page = write_report(record, tmp_path / "report")
    assert page.read_text().startswith("<!")
    summary = json.loads((tmp_path / "report" / "report.json").read_text())
    assert summary["seed"] == 11
    assert summary["final_potential"] == campaign.outputs.potential.uuid
    rows = list(csv.DictReader((tmp_path / "report" / "generations.csv").open()))
    assert [row["tag"] for row in rows] == ["g00", "g01", "search"]
    assert len(fr.load(tmp_path / "report" / "minima.xyz")) == len(record.minima)


def test_a_person_can_read_what_the_nodes_are(campaign):
    made = {}
    for process in campaign.called_descendants:
        if process.process_label not in ("FitCalculation", "complete_settings") and not isinstance(process, WorkChainNode):
            for link in process.base.links.get_outgoing(link_type=LinkType.CREATE).all():
                if link.link_label not in ("remote_folder", "retrieved"):
                    made[f"{process.process_label} {link.link_label}"] = link.node
                    assert link.node.label.endswith("(tiny)"), process
                    assert link.node.description, process
    assert made["merge_labels result" if "merge_labels result" in made else "LabelCalculation frames"].label.startswith("labels")
    assert made["random_cells_under_pressure result"].label == "random cells of generation 1 (tiny)"
    assert made["select_frames frames"].label == "chosen frames of generation 1 (tiny)"
    assert made["select_frames frames"].description == (
        "Choose the frames of a generation that are labelled, and say why the others are not."
    )
    assert made["RelaxCalculation frames"].description == "Relax the cells of a dataset with a potential, keeping snapshots."


def test_trace(campaign):
    frame = campaign.outputs.labels.g01.get_frames()[0]
    name = frame.info["frame_id"]
    console = PlainConsole(file=StringIO(), width=200)
    console.print(history(name, campaign))
    text = console.file.getvalue()
    assert name in text
    assert f"{frame.info['REF_energy']:.6f} eV" in text
    assert f"step {frame.info['step']} of {frame.info['parent']}" in text
    assert f"potential <{campaign.outputs.potentials.g00.pk}>, fitted by FitCalculation" in text
    assert f"random cell of seed {frame.info['seed']}" in text
    assert f"campaign tiny <{campaign.pk}>, seed 11" in text
    with pytest.raises(TraceError, match="no dataset of this profile holds a frame 'tiny-g9-0000'"):
        history("tiny-g9-0000", campaign)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("initial: {random: 10}", "initial: {randum: 10}", "initial.randum: no kind of seed"),
        ("search:\n", "search:\n    wimdow: 1\n", "wimdow: unknown key"),
    ],
)
def test_settings_are_checked_before(run, campaign_codes, campaign_text, tmp_path, old, new, message):
    from aiida.orm import Dict
    from ruamel.yaml import YAML

    inputs = builder_inputs(check_campaign(campaign_text, tmp_path / "a.yaml"))
    changed = YAML(typ="safe").load(campaign_text.replace(old, new))["settings"]
    with pytest.raises(ValueError, match=message):
        run(RssWorkChain, **{**inputs, "settings": Dict({**inputs["settings"].get_dict(), **changed})})


def test_a_reference_that_fails_ends_the_campaign_with_its_reason(run, campaign_codes, campaign_text, tmp_path):
    text = campaign_text.replace("IP SW", "IP SQ")
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
    assert node.exit_status == 410
    assert "generation 0: labelling failed" in node.exit_message
    assert collect(node).state.startswith("failed: generation 0")


def test_an_isolated_atom_without_label_ends_the_campaign_with_its_reason(run, campaign_codes, campaign_text, tmp_path):
    (tmp_path / "no_atoms.py").write_text(
        "from ase.calculators.lj import LennardJones\n"
        "class NoAtoms(LennardJones):\n"
        "    def calculate(self, atoms=None, *args, **kwargs):\n"
        "        if len(atoms) == 1:\n"
        "            raise RuntimeError('no single atoms')\n"
        "        super().calculate(atoms, *args, **kwargs)\n"
    )
    text = campaign_text[: campaign_text.index("reference:")] + campaign_text[campaign_text.index("settings:") :]
    text += f"""
reference:
  ase: {{calculator: no_atoms.NoAtoms, arguments: {{sigma: 2.0}}}}
options:
  label: {{prepend_text: "export PYTHONPATH={tmp_path}"}}
"""
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "tiny.yaml")))
    assert node.exit_status == RssWorkChain.exit_codes.ERROR_LABELS.status
    assert "isolated atom tiny-atom-Si" in node.exit_message
    assert "no single atoms" in node.exit_message
    assert node.outputs.labels.g00.base.attributes.get("energies") == 10, "what was labelled is kept"
