"""Searches that are repeated until their minima hold, refinements among them, and what is told when labels are too few."""

import numpy as np
import pytest
from click.testing import CliRunner

from aiida_gaprss import frames as fr
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.forecast import label_budget
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.campaign.stages import order
from aiida_gaprss.cli import cli
from aiida_gaprss.report.collect import collect, training_labels
from aiida_gaprss.runners.common import load_class
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.workflows.rss import RssWorkChain

HOLD = """
  hold: {lowest: 1, energy: 0.3, force: 2.0, pressure: 40.0, searches: 1, max_labels: 8, per_round: 1, cells: {random: 4}}
  refine:
    max_labels: 8
    max_rounds: 2
    strategies: {waves: {kind: nondiagonal, grid: [1, 1, 2], volumes: [1.0], copies: 2}}
"""


@pytest.fixture
def held(run, campaign_codes, campaign_text, remembered, tmp_path):
    """The node of a campaign with searches until minima hold and refinements; it runs once."""
    from aiida.orm import load_node

    if "held" not in remembered:
        text = campaign_text.replace("name: tiny", "name: held").replace("[17.0, 24.0]", "[17.5, 24.5]")
        text = text.replace("validate: null", "validate: {properties: {elastic: }}").replace("n_atoms: [2, 3]", "n_atoms: [2]")
        text = text.replace("n_operations: [1, 2]", "n_operations: [24, 48]").replace("    label: 2\n", "    again: 3\n")
        text = text.replace("  hold: null\n", "").rstrip() + HOLD
        _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
        assert node.is_finished_ok, node.exit_message
        remembered["held"] = node.uuid
    return load_node(remembered["held"])


def test_searches_and_refinements_take_turns(held):
    tags = [tag for tag in order(held.outputs.labels) if not tag.startswith("g")]
    rounds = order(held.outputs.holds)
    assert rounds[0] == "h01"
    refined = [tag for tag in tags if tag.startswith("r")]
    assert refined, "minima that hold are refined"
    assert len(refined) <= 2
    assert order([*rounds, refined[0]])[-1] == rounds[-1], "the refined potential has searched again"
    assert set(tags) <= set(held.outputs.potentials), "what is labelled is fitted"
    last = held.outputs.potentials[order(held.outputs.potentials)[-1]]
    assert held.outputs.potential.uuid == last.uuid
    assert refined[0] in held.outputs.validations, "properties decide whether there is another"


def test_minima_are_held_to_what_the_reference_says(held, evaluated):
    """Errors beside those of both calculators, called here."""
    verdict = held.outputs.hold
    assert verdict["holds"], verdict["words"]
    assert verdict["words"].startswith("the lowest minimum holds")
    last = order(held.outputs.holds)[-1]
    assert verdict["round"] == last
    frames = {a.info["frame_id"]: a for a in held.outputs.minima_frames.get_frames()}
    own = [row for row in verdict["minima"] if row["own"]]
    assert own
    job = held.inputs.label.ase.settings.get_dict()
    reference = load_class(job["calculator"])(**job["arguments"])
    for row in own:
        atoms = frames[row["frame_id"]]
        ((energy, forces, _),) = evaluated([atoms], reference)
        assert row["energy"] == pytest.approx((atoms.info["PRED_energy"] - energy) / len(atoms), abs=1e-6)
        assert row["force"] == pytest.approx(np.abs(forces - atoms.arrays["PRED_forces"]).max(), abs=1e-5)


def test_labels_of_the_last_search_are_told_but_in_no_training_set(held):
    record = collect(held)
    fitted = training_labels(held)
    inputs = held.outputs.potential.creator.inputs
    absurd = len(inputs.leave_out.get_list()) if "leave_out" in inputs else 0
    assert fitted == len(record.training_set()) == held.outputs.predictions.n_frames + absurd
    minima = [a for node in held.outputs.labels.values() for a in node.get_frames() if a.info["config_type"] == "held_minimum"]
    assert minima, "minima have sigmas of their own"
    kinds = [rule for rule in inputs.settings["regularisation"] if rule["config_types"] == ["held_minimum"]]
    assert kinds[0]["sigma"]["energy"] == pytest.approx(0.03)
    asked = sum(node.n_frames for node in held.outputs.labels.values())
    assert asked <= label_budget(held.inputs)


def test_the_page_tells_what_holds(held, tmp_path):
    result = CliRunner().invoke(cli, ["report", str(held.pk), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert held.outputs.hold["words"] in " ".join(result.output.split())
    page = (tmp_path / "out" / "index.html").read_text()
    assert "Do the lowest minima hold?" in page
    assert "the lowest minimum holds" in page
    assert (tmp_path / "out" / "hold.png").stat().st_size > 5000
    assert (tmp_path / "out" / "validation_scores.png").stat().st_size > 5000


def test_too_few_labels_say_what_does_not_hold_and_a_campaign_goes_on_from_there(run, campaign_codes, campaign_text, tmp_path):
    text = campaign_text.replace("name: tiny", "name: poor").replace("[17.0, 24.0]", "[16.5, 24.5]")
    hold = "hold: {lowest: 3, energy: 0.0001, max_labels: 2, per_round: 2, cells: {random: 4}}"
    poor = text.replace("hold: null", hold).replace("    label: 2\n", "    again: 3\n")
    _, node = run(RssWorkChain, **builder_inputs(check_campaign(poor, tmp_path / "a.yaml")))
    assert node.is_finished_ok, node.exit_message
    verdict = node.outputs.hold
    assert not verdict["holds"]
    assert verdict["words"].startswith("all 2 labels are spent: of the")
    lost = [row for row in verdict["minima"] if row["why"]]
    assert all(row["why"] in verdict["words"] for row in lost)
    assert sum(node.outputs.labels[tag].n_frames for tag in node.outputs.labels if tag.startswith("h")) == 2
    assert node.outputs.predictions.n_frames == training_labels(node)
    again = text.replace("name: poor", "name: rich").replace("initial: {random: 10}", "initial: {}")
    again = again[: again.index("  generations:")] + "  generations: []\n" + again[again.index("  fit:") :]
    again += f"start: {{database: [{node.pk}], search: [{node.pk}]}}\n"
    _, rich = run(RssWorkChain, **builder_inputs(check_campaign(again, tmp_path / "b.yaml")))
    assert rich.is_finished_ok, rich.exit_message
    anew = rich.outputs.labels.g00.get_frames()
    assert [a.info["parent"] for a in anew] == [a.info["frame_id"] for a in node.outputs.minima_frames.get_frames()]
    assert all(fr.is_labelled(a) for a in anew)


@pytest.mark.parametrize(
    ("more", "replaced", "message"),
    [
        ("  hold: {cells: {other: 3}}", (), r"settings\.hold\.cells\.other: no kind of seed is called 'other'"),
        ("  hold: {lowest: 0}", (), r"settings\.hold\.lowest: .*\(got 0\)"),
        ("  hold: {}", ("  search:\n", "  unused:\n"), r"settings\.hold: needs settings\.search, which it repeats"),
        (
            "  refine: {max_rounds: 2, strategies: {waves: {kind: nondiagonal}}}",
            (),
            r"settings\.refine\.max_rounds: needs settings\.validate",
        ),
        ("start: {search: [999999]}", (), r"start\.search\.0: no search or campaign 999999 in this profile"),
    ],
)
def test_wrong_settings(aiida_profile, campaign_codes, campaign_text, tmp_path, more, replaced, message):
    text = campaign_text.rstrip()
    if "  hold:" in more:
        text = text.replace("  hold: null\n", "")
    if replaced:
        text = text[: text.index("  search:")] + "  search: null"
    with pytest.raises(ConfigError, match=message):
        builder_inputs(check_campaign(f"{text}\n{more}\n", tmp_path / "a.yaml"))
