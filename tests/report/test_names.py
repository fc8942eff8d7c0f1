"""Names and messages from outside in everything that is printed or written for a person: they stand there, and do nothing."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from click.testing import CliRunner
from helpers import label

from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.cli import cli
from aiida_gaprss.report import figures
from aiida_gaprss.report.page import script, write_csv
from aiida_gaprss.report.record import CampaignRecord, Counts, Failure, GenerationRecord
from aiida_gaprss.report.style import house_style, png
from aiida_gaprss.report.text import generations_table, minima_table, plain
from aiida_gaprss.report.write import write_report

#: What acts in a terminal, in rich, in a page, in a figure, in a spreadsheet.
NASTY = "[bold red]x[/] <script>alert(1)</script> $\\frac{a}$ \x1b[31m\x1b]0;t\x07 \u202e :smiley: {{7*7}} '\"><b>"
FORMULA = "=HYPERLINK(A1)"


def nasty_frames(n, predicted=True):
    rng = np.random.default_rng(3)
    frames = []
    for number in range(n):
        atoms = bulk("Cu", a=4.1, cubic=True)
        atoms.rattle(0.1, rng=rng)
        atoms.info = {"frame_id": f"{NASTY}{number}", "config_type": f"{NASTY} type {number % 2}", "relax_status": "converged"}
        for prefix, epsilon in (("REF", 0.40), ("PRED", 0.41)) if predicted else (("REF", 0.40),):
            label(atoms, LennardJones(sigma=2.6, epsilon=epsilon, rc=6.0), prefix)
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def record():
    frames = nasty_frames(6)
    counts = Counts(8, 8, {NASTY: 8}, 30, {NASTY: 6}, {NASTY: 2}, 6, 6, 0)
    generation = GenerationRecord("g00", frames, counts, {"energy_rmse": 1.0}, NASTY, {NASTY: 2.0})
    minima = [replace(minimum, symbol=NASTY, formula=NASTY) for minimum in unique_minima(frames[:2])]
    return CampaignRecord(
        title=NASTY,
        uuid=NASTY,
        label=NASTY,
        seed=1,
        formula=NASTY,
        reference=NASTY,
        protocol=NASTY,
        versions={NASTY: NASTY},
        state=f"failed: {NASTY}",
        ended=NASTY,
        generations=[generation],
        final_frames=frames,
        final_potential=NASTY,
        minima=minima,
        failures=[Failure(NASTY, NASTY), Failure(FORMULA, FORMULA)],
        how_to_repeat=NASTY,
    )


class Page(HTMLParser):
    """What a page shows, and which tags and attributes it has."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.shown, self.attributes, self.scripts = set(), [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.shown.append(data)


def acts(text):
    """Tell whether a text has a character that does something but end a line."""
    return re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_tables(record):
    for table in (generations_table(record), minima_table(record.minima)):
        text = plain(table, width=2000)
        assert not acts(text)
    assert "[bold red]x[/] <script>alert(1)</script> $\\frac{a}$ \\x1b[31m\\x1b]0;t\\x07 \\u202e :smiley: {{7*7}}" in text


def test_the_page_and_its_companions(record, tmp_path):
    page = write_report(record, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert not acts(text)
    parsed = Page(text)
    assert "bold" not in parsed.tags
    assert parsed.scripts[-1] == script()[0], "the last script is ours"
    for content in parsed.scripts[:-1]:
        assert json.loads(content), "all others are data"
    assert not {name for name in parsed.attributes if name.startswith("on")}
    assert "<b>" not in "".join(re.findall(r"<h1>.*</h1>", text))
    shown = "".join(parsed.shown)
    assert shown.count("<script>alert(1)</script>") >= 10
    assert "49" not in re.findall(r"\{\{7\*7\}\}|49", shown)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["title"] == NASTY, "for programs, as it is"


def test_a_spreadsheet_is_given_no_formula(tmp_path):
    write_csv(tmp_path / "a.csv", [{"name": FORMULA, "energy": -1.5, "other": "@x", "plain": "Cu"}])
    with (tmp_path / "a.csv").open() as stream:
        assert list(csv.reader(stream)) == [["name", "energy", "other", "plain"], [f"'{FORMULA}", "-1.5", "'@x", "Cu"]]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_figures_have_the_names_and_no_mathematics(record):
    for draw in (figures.energy_volume, figures.energy_boxes):
        figure = draw(record)
        with house_style():
            figure.axes[0].set_title(NASTY)
        with io.BytesIO(png(figure)) as stream:
            assert plt.imread(stream).shape[2] in (3, 4)
        title = figure.axes[0].get_title()
        assert "$\\frac{a}$" in title
        assert not acts(title)


def test_commands(aiida_profile_clean, tmp_path):
    """Labels of nodes and texts in datasets that came with an archive or a file."""
    from aiida.orm import WorkChainNode

    from aiida_gaprss.data.dataset import Dataset

    atoms = Atoms("Cu", cell=[3.0] * 3, pbc=True)
    atoms.info.update(frame_id="plain-0", config_type="fcc", label_status=f"failed: {NASTY}")
    node = Dataset([atoms], level_of_theory=NASTY)
    node.label = node.description = NASTY
    node.store()
    campaign = WorkChainNode(process_type="aiida.workflows:gaprss.rss", label=NASTY)
    campaign.set_process_label("RssWorkChain")
    campaign.set_exit_message(NASTY)
    campaign.store()
    for arguments in (["dataset", "list"], ["trace", "plain-0"], ["status"], ["dataset", "show", str(node.pk)]):
        result = CliRunner().invoke(cli, arguments, env={"COLUMNS": "3000"}, color=True)
        assert result.exit_code == 0, result.output
        assert not acts(result.output), arguments
        assert "[bold red]x[/]" in result.output
