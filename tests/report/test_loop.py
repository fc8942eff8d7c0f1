"""The report of a whole campaign: begun with a dataset, two generations that are measured, known crystals, a search."""

import csv
import json

import pytest

from aiida_gaprss.report.collect import collect, training_labels
from aiida_gaprss.report.record import CampaignRecord
from aiida_gaprss.report.tables import progress_of
from aiida_gaprss.report.text import generations_table, plain
from aiida_gaprss.report.validation import in_a_row
from aiida_gaprss.report.write import write_report

pytestmark = pytest.mark.slow

TAGS = ["database", "g00", "g01", "g02", "crystals", "search", "refine"]


@pytest.fixture
def node(looped_campaign):
    return looped_campaign


@pytest.fixture
def looped(node, remembered):
    """The record of the campaign."""
    if "looped record" not in remembered:
        remembered["looped record"] = collect(node)
    return remembered["looped record"]


def test_the_parts_in_their_order(looped, node):
    assert [g.tag for g in looped.generations] == TAGS
    names = ["begun with", "initial", "generation 1", "generation 2", "known crystals", "final search", "refined"]
    assert [g.name for g in looped.generations] == names
    begun, initial, first, _, crystals, search, refined = looped.generations
    assert begun.counts.labelled == 15
    assert len(begun.frames) == 14, "without the isolated atom"
    assert initial.counts.made == initial.counts.labelled == 4
    assert crystals.counts.made == crystals.counts.labelled == 4
    assert {a.info["config_type"] for a in crystals.frames} == {"crystal"}
    assert search.counts.made == 4
    assert sum(search.counts.relax_status.values()) == 4
    assert search.frames == []
    assert refined.counts.labelled == 4
    assert {a.info["config_type"] for a in refined.frames} == {"waves"}
    assert crystals.potential != refined.potential == looped.final_potential == node.outputs.potential.uuid
    assert refined.training_errors["energy_rmse"] == node.outputs.results["errors"]["energy"]["rmse"]
    assert len(looped.training_set()) == len(looped.final_frames) + 1, "with the isolated atom"
    assert len(looped.training_set()) == training_labels(node) == node.outputs.results["frames"]
    assert len(looped.training_set()) == sum(g.labelled for g in looped.generations if g.tag != "search")
    selection = node.outputs.selections.g01.get_dict()
    assert first.counts.chosen_as == selection["chosen_as"]
    assert first.counts.candidates == first.counts.selected + sum(first.counts.rejected.values())
    for generation in looped.generations[2:4]:
        assert sum(generation.counts.relax_status.values()) == generation.counts.made == 6
        assert {"relax", "select", "label", "fit", "progress"} <= set(generation.seconds)
        assert generation.progress == node.outputs.progress[generation.tag].get_dict()
    assert {"cells", "label", "final_fit"} <= set(crystals.seconds)
    assert {"lowest", "relax", "label", "minima"} <= set(search.seconds)
    assert looped.ended == "all thresholds kept for 1 generations"
    assert looped.stop.thresholds() == {"energy_change": 20, "distribution": 20, "discovery": 1, "new_error": 20}


def test_every_generation_is_validated(looped, node, tmp_path):
    """Against the known crystal; the reference labels its frames once."""
    assert set(looped.validations) == {"g00", "g01", "g02", "final", "refine"}
    processes = [p for p in node.called if p.process_label == "ValidateWorkChain"]
    assert len(processes) == len(looped.validations)
    labels = [p for validation in processes for p in validation.called if p.process_label == "LabelWorkChain"]
    jobs = [job for chain in labels for job in chain.called if job.process_label == "LabelCalculation"]
    assert len(jobs) == 1, "the first one; the others know what it has labelled"
    names, rows = in_a_row(looped.validations)
    assert names[-2:] == ["final", "refine"]
    assert all(isinstance(row[name], float | str) for row in rows for name in names)
    page = write_report(looped, tmp_path).read_text()
    assert "May the potential be used?" in page
    assert (tmp_path / "validation_elastic_constants_diamond.png").is_file()
    told = json.loads((tmp_path / "report.json").read_text())["validations"]
    assert {tag: card["potentials"][tag]["lights"] for tag, card in told.items()} == {
        tag: card["potentials"][tag]["lights"] for tag, card in looped.validations.items()
    }


def test_the_page(looped, tmp_path):
    again = CampaignRecord.from_json(looped.to_json())
    assert again.to_json() == looped.to_json()
    page = write_report(looped, tmp_path / "a")
    write_report(again, tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert {f"progress_{c}.png" for c in ("energy_change", "distribution", "discovery", "new_error")} <= set(names)
    assert "hull.png" not in names, "one element"
    text = page.read_text(encoding="utf-8")
    for words in ("Has the search come to its end?", "How the relaxations ended", "Chosen by rule", "Not chosen, and why"):
        assert words in text
    assert "Why there were no more generations: all thresholds kept for 1 generations." in text
    assert 'class="missing"' not in text.partition('id="lost"')[0]

    summary = json.loads((tmp_path / "a" / "report.json").read_text(encoding="utf-8"))
    assert [row["tag"] for row in summary["generations"]] == TAGS
    assert summary["thresholds"]["energy_change_meV/atom"] == 20_000
    assert summary["energies"] == "above the lowest"
    assert summary["labelled_frames"] == summary["labels"]["frames"] == len(looped.training_set())
    assert f"<dt>labels in the training set</dt><dd>{len(looped.training_set())}</dd>" in text
    with (tmp_path / "a" / "generations.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    measured = looped.generations[3].progress
    assert float(rows[3]["progress_discovery_%"]) == pytest.approx(100 * measured["new_minima"] / measured["low_minima"])
    assert float(rows[3]["progress_new_error_meV/atom"]) == pytest.approx(1000 * measured["new_error"])
    assert rows[0]["progress_discovery_%"] == rows[5]["median_energy_eV/atom"] == ""
    lines = plain(generations_table(looped)).splitlines()
    parts = ("begun with", "known crystals", "final search", "refined")
    assert [sum(name in line for line in lines) for name in parts] == [1] * 4


def test_what_the_labels_tell_by_themselves(looped):
    """Without thresholds, the measures that need no job are those that the loop made with one."""
    record = CampaignRecord.from_json(looped.to_json())
    record.stop = None
    for generation in record.generations:
        generation.progress = {}
    rows = {g.tag: row for g, row in zip(record.generations, progress_of(record), strict=True)}
    assert rows["database"] == rows["g00"] == rows["crystals"] == rows["search"] == rows["refine"] == {}
    for generation in looped.generations[2:4]:
        row = rows[generation.tag]
        assert row["labelled_end_points"] == generation.progress["labelled_end_points"]
        for name in ("distribution", "new_error"):
            expected = generation.progress[name]
            assert row[name] == (None if expected is None else pytest.approx(expected, rel=1e-6))
