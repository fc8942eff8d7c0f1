"""What runs is shown again until it has ended; what scripts are told has the keys that the documents say."""

import json
import re
from pathlib import Path

import pytest
from aiida.orm import WorkChainNode
from click.testing import CliRunner

from aiida_gaprss.cli import cli, watch
from aiida_gaprss.report.validation import record_of
from aiida_gaprss.workflows.here.claim import HERE

DOCUMENT = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def keys_after(words):
    """The keys of the table that follows some words in the document."""
    table = DOCUMENT.partition(words)[2].partition("| key | |\n|---|---|\n")[2].partition("\n\n")[0]
    return {key for line in table.splitlines() for key in re.findall(r"`(\w+)`", line.split("|")[1])}


def told(*words):
    """What a command prints on standard output, as JSON; nothing else is there."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert result.stdout.isascii()
    return json.loads(result.stdout)


@pytest.mark.slow
def test_json_has_the_keys_of_the_document(campaign, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    listed = told("status", "--json")["processes"]
    row = next(row for row in listed if row["pk"] == campaign.pk)
    assert set(row) == keys_after("`processes`")
    assert (row["name"], row["what"], row["state"], row["uuid"]) == ("tiny", "campaign", "finished", campaign.uuid)

    status = told("status", campaign.pk, "--json")
    numbers = {"generations", "strategies", "campaigns", "scorecard"}
    assert set(status) - numbers == set(row) | keys_after("`aiida-gaprss status PK --json`") - numbers
    assert (status["ended"], status["now"], status["trouble"]) == (True, None, [])
    assert status["said"][-1]["message"] in CliRunner().invoke(cli, ["status", str(campaign.pk)]).output

    report = told("report", campaign.pk, "--json")
    assert set(report) == keys_after("`report.json` of a campaign")
    assert report["generations"] == status["generations"]
    assert report["minima"][0]["frame_id"] == campaign.outputs.minima_frames.get_frames()[0].info["frame_id"]
    assert list((tmp_path / "here").iterdir()) == [], "no files"


@pytest.mark.slow
def test_a_validation_has_a_report(looped_campaign, tmp_path, call):
    node = next(child for child in looped_campaign.called if child.process_label == "ValidateWorkChain")
    assert told("report", node.pk, "--json") == record_of(node)
    assert f"Report: {tmp_path / 'index.html'}" in call("report", node.pk, "-o", tmp_path)
    assert f"validation {node.label} <{node.pk}>: finished" in call("status", node.pk)


def test_a_validation_of_other_nodes(aiida_profile):
    node = WorkChainNode(process_type="aiida.workflows:gaprss.validate")
    node.set_process_label("ValidateWorkChain")
    node.store()
    for words in (["report", str(node.pk)], ["report", str(node.pk), "--json"], ["status", str(node.pk)]):
        result = CliRunner().invoke(cli, words)
        assert f"validation <{node.pk}> is not whole" in f"{result.output}{result.exception}", words


@pytest.fixture
def waited(monkeypatch):
    """The seconds that were waited; a process ends after the second wait."""
    waited = []
    monkeypatch.setattr(watch.time, "sleep", waited.append)
    monkeypatch.setattr(watch, "has_ended", lambda node: len(waited) >= 2)
    return waited


@pytest.mark.slow
def test_watched_until_the_end(campaign, waited, tmp_path):
    result = CliRunner().invoke(cli, ["status", str(campaign.pk), "--watch", "7"])
    assert result.output.count(f"tiny <{campaign.pk}>: finished") == 3, "the last look is at the end"
    assert waited == [7.0, 7.0]

    waited.pop()
    result = CliRunner().invoke(cli, ["report", str(campaign.pk), "-o", str(tmp_path), "--watch"])
    assert result.output.count("written: ") == 1
    assert f"Report: {tmp_path / 'index.html'}" in result.output
    assert waited == [7.0, 60.0]
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == told("report", campaign.pk, "--json")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    for name, node in (("potential", campaign.outputs.potentials.g01), ("labels", campaign.outputs.labels.g01)):
        assert f'{name} <span class="pk">&lt;{node.pk}&gt;</span>' in page


@pytest.mark.slow
def test_an_interruption_ends_the_watching_alone(campaign, monkeypatch):
    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", interrupted)
    monkeypatch.setattr(watch, "has_ended", lambda node: False)
    result = CliRunner().invoke(cli, ["status", str(campaign.pk), "--watch"])
    assert result.exit_code == 0
    assert result.output.count(f"tiny <{campaign.pk}>") == 1
    for words in (["status", "--watch"], ["status", "1", "--watch", "5", "--json"], ["report", "1", "--json", "-o", "x"]):
        assert CliRunner().invoke(cli, words).exit_code == 2, words


def test_whether_it_has_ended_is_asked_of_the_database(aiida_profile):
    node = WorkChainNode(process_type="aiida.workflows:gaprss.rss")
    node.set_process_state("running")
    node.store()
    node.base.extras.set(HERE, True)
    assert not watch.has_ended(node)
    node.set_process_state("finished")
    assert watch.has_ended(node)
