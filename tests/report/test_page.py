"""Pages in a browser: nothing acts but what is ours, tables sort, structures turn, nothing is cut; commands on them exist."""

import json
import re
import shlex
import shutil
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec

import click
import numpy as np
import pytest
from aiida.cmdline.commands.cmd_verdi import verdi
from ase.build import bulk
from ase.calculators.lj import LennardJones
from browser import Browser, Navigated
from helpers import label

from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.cli import cli
from aiida_gaprss.outside import write_file
from aiida_gaprss.report import viewer
from aiida_gaprss.report.page import WIDE_TABLE, WIDEST_TABLE
from aiida_gaprss.report.provenance import commands
from aiida_gaprss.report.record import CampaignRecord, Failure, GenerationRecord
from aiida_gaprss.report.write import write_report

#: What would set a variable of the page if it acted: as a tag, in a script, in an attribute, in a comment.
ACTS = "</script><script>hacked = 1</script><img src=x onerror='hacked = 1'>\"><svg onload=hacked=1><!--"

INSTALLED = viewer.installed_script


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def chemiscope(tmp_path_factory):
    """A script in the place of chemiscope's, which tells what it is given."""
    path = tmp_path_factory.mktemp("stub") / viewer.SCRIPT
    path.write_text(
        """globalThis.Chemiscope = {
  Warnings: class { addHandler() {} },
  StructureVisualizer: { load: async (places, data) => { globalThis.given = data; places.structure.textContent = "turning"; } },
};"""
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viewer, "installed_script", lambda: path)
        yield patch


def copper():
    """Relaxed cells of copper in four structures, three of them labelled; names that would act."""
    frames = []
    for number, (kind, a) in enumerate((("fcc", 4.1), ("hcp", 2.9), ("bcc", 3.3), ("sc", 2.6))):
        atoms = bulk("Cu", kind, a=a)
        atoms.info = {"frame_id": f"m{number}{ACTS}", "relax_status": "converged", "config_type": ACTS}
        label(atoms, LennardJones(sigma=2.6, epsilon=0.41, rc=6.0), "PRED")
        if number != 1:
            label(atoms, LennardJones(sigma=2.6, epsilon=0.40, rc=6.0), "REF")
        frames.append(atoms)
    return frames


def scorecard(potentials):
    """The scores of many potentials, as a campaign of many generations has them."""
    rows = [
        {"property": "elastic_constants", "crystal": ACTS, "score": f"C{n}{n}_error_percent", "value": 10.0 * n, "light": "look"}
        | {"good": 5.0, "look": 100.0, "unit": "%", "source": ACTS}
        for n in range(1, 7)
    ]
    card = {"properties": ["elastic_constants"], "description": ""}
    return {name: card | {"potentials": {name: {"rows": rows, "lights": {}}}} for name in potentials}


@pytest.fixture(scope="module")
def record():
    frames = copper()
    return CampaignRecord(
        title=f"Copper {ACTS}",
        uuid="1234-abcd",
        pk=12,
        label=ACTS,
        state="finished",
        seed=1,
        generations=[GenerationRecord("g01", frames[:1], seconds={"label": 70.0, "fit": 8.0})],
        minima=unique_minima(frames),
        failures=[Failure(ACTS, "SCF not converged")],
        validations=scorecard([f"g{n:02d}" for n in range(20)]),
        provenance=[{"tag": "g01", "name": "generation 1", "nodes": [{"what": "potential", "pk": 34, "data": True}]}],
    )


@pytest.fixture(scope="module")
def written(record, chemiscope, tmp_path_factory):
    """The page, written once."""
    return write_report(record, tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(written, browser):
    browser.told.clear()
    browser.open(written)
    return written


@pytest.fixture
def bare(record):
    """The record without what takes time to draw: one structure, and no figure."""
    return replace(record, minima=record.minima[:1], generations=[], validations={})


def column(browser, place, key="minima"):
    """What stands in a column of the first table of a section."""
    rows = f"[...document.querySelector('#{key} table').tBodies[0].rows]"
    return browser.run(f"{rows}.map((row) => row.cells[{place}].textContent)")


def test_nothing_acts_but_what_is_ours(page, browser):
    assert browser.told == []
    assert browser.run("typeof hacked") == "undefined"
    assert ACTS in browser.run("document.querySelector('h1').textContent")
    assert browser.run("document.querySelector('#minima tbody tr td:last-child').textContent") == f"m1{ACTS}"
    policy = browser.run("document.querySelector('meta[http-equiv=Content-Security-Policy]').content")
    assert "default-src 'none'" in policy, "a page loads nothing from elsewhere"
    browser.run("document.body.append(Object.assign(document.createElement('div'), {innerHTML: '<img src=x onerror=hacked=1>'}))")
    assert browser.run("new Promise((done) => setTimeout(() => done(typeof hacked), 100))") == "undefined"


def test_tables_sort_by_mouse_and_by_keyboard(page, browser, record):
    as_it_was = column(browser, 0)
    error = browser.run("[...document.querySelectorAll('#minima th')].findIndex((head) => head.textContent.includes('− '))")
    head = f"document.querySelectorAll('#minima th')[{error}]"
    expected = sorted(1000 * minimum.error for minimum in record.minima if minimum.error is not None)
    for sort, values in (("ascending", expected), ("descending", expected[::-1])):
        browser.run(f"{head}.querySelector('button').click()")
        assert browser.run(f"{head}.ariaSort") == sort
        *numbers, last = [text.replace("−", "-") for text in column(browser, error)]
        assert [float(text) for text in numbers] == pytest.approx(values, abs=0.06)
        assert last == "–", "what is missing is last both ways"
    browser.run(f"{head}.querySelector('button').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13)
    assert browser.run(f"{head}.ariaSort") is None
    assert column(browser, 0) == as_it_was
    browser.run("document.querySelector('#costs th:nth-child(3) button')?.click()")
    assert browser.told == []


def test_structures_turn(page, browser, record):
    """The script lies beside the page once, and is loaded when somebody asks for it; it is given numbers and elements alone."""
    assert browser.run("typeof Chemiscope") == "undefined"
    browser.run("document.querySelector('.viewer button').click()")
    assert (
        browser.run("new Promise((done) => setTimeout(() => done(document.querySelector('.turning').textContent), 300))")
        == "turning"
    )
    given = browser.run("given")
    assert "hacked" not in json.dumps(given)
    (structure,) = given["structures"]
    assert set(structure["names"]) == {"Cu"}
    assert len(structure["x"]) == structure["size"]
    options = browser.run("[...document.querySelector('.viewer select').options].map((option) => option.text)")
    assert options == ["1 · P6₃/mmc", "2 · Fm-3m", "3 · Im-3m", "4 · Pm-3m"][: len(record.minima)]
    volume = abs(np.linalg.det(np.reshape(structure["cell"], (3, 3))))
    assert volume / record.minima[0].volume == pytest.approx(round(volume / record.minima[0].volume), rel=1e-3), "whole cells"
    assert browser.told == []


def test_local_energies_are_told_atom_by_atom():
    cell = bulk("Si", cubic=True)
    part = {"symbols": ["Si"] * 8, "positions_A": cell.positions.tolist(), "cell_A": cell.cell.array.tolist(), "pbc": [True] * 3}
    energies = [-5.0 + 0.1 * n for n in range(8)]
    record = {"results": {"gap": {"dia": {"local": {"crystal": {**part, "local_energies_eV": energies}}}}}, "crystals": ["dia"]}
    told = viewer.told(viewer.with_local_energies(record, "local"))
    assert told["names"] == ["dia, crystal, gap"]
    (data,) = told["data"]
    assert data["size"] == len(data["energies"]) == 18, "with the atoms on the boundary: 8 corners, 6 faces, 4 inside"
    corner = [n for n in range(18) if not np.any(np.mod([data[axis][n] for axis in "xyz"], cell.cell[0, 0]) > 1e-3)]
    assert [data["energies"][n] for n in corner] == pytest.approx([-0.35] * 8), "from the mean, -4.65 eV"
    assert viewer.told(viewer.with_local_energies(record, "other")) is None


def test_without_a_script(bare, browser, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "installed_script", lambda: None)
    page = write_report(bare, tmp_path)
    assert not (tmp_path / viewer.SCRIPT).exists()
    assert "pip install 'aiida-gaprss[viewer]'" in page.read_text()
    browser.told.clear()
    browser.open(page)
    assert browser.run("document.querySelector('.viewer')") is None
    assert browser.told == []


def test_with_a_script_that_was_left_behind(written, browser, tmp_path):
    page = shutil.copy(written, tmp_path / "alone.html")
    browser.open(page)
    browser.run("document.querySelector('.viewer button').click()")
    words = "document.querySelector('.viewer .words').textContent"
    while browser.run(words) in ("", "loading"):
        pass
    assert browser.run(words) == "cannot be shown: chemiscope.min.js is not beside this page"


def test_chemiscope_itself(bare, browser, tmp_path, monkeypatch):
    script = find_spec("chemiscope")
    if script is None:
        pytest.skip("chemiscope is not installed (pip install 'aiida-gaprss[viewer]')")
    monkeypatch.setattr(viewer, "installed_script", INSTALLED)
    page = write_report(bare, tmp_path)
    assert "Redistribution" in (tmp_path / viewer.LICENCE).read_text()
    browser.told.clear()
    browser.open(page)
    browser.run("document.querySelector('.viewer button').click()")
    words = "document.querySelector('.viewer .words').textContent"
    while browser.run(words) == "loading":
        pass
    assert browser.run(words) == "drag to turn, scroll to zoom"
    assert [said for said in browser.told if "GPU stall" not in said[1]] == []


@pytest.mark.parametrize(("width", "media"), [(1400, "screen"), (420, "screen"), (690, "print")])
def test_nothing_is_cut(page, browser, width, media):
    """On paper of 690 pixels, A4 with its margins, no table is wider; those of many columns are on pages that are turned."""
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
    browser.ask("Emulation.setEmulatedMedia", media=media)
    if media == "screen":
        assert browser.run("document.documentElement.scrollWidth") <= width
    cut = """[...document.querySelectorAll('.scroll')].filter((box) =>
      box.firstChild.getBoundingClientRect().width > box.getBoundingClientRect().width + 1).map((box) => box.className)"""
    if media == "print":
        assert set(browser.run(cut)) <= {"scroll wide", "scroll wide widest"}
        browser.ask("Emulation.setDeviceMetricsOverride", width=1020, height=690, deviceScaleFactor=1, mobile=False)
        table = "document.querySelector('#scores .scroll')"
        assert browser.run(f"getComputedStyle({table}.closest('section')).page") == "sideways"
        for potentials in range(20, 5, -1):  # as if there were fewer: a column less each time, with the class that it has then
            columns = browser.run(f"{table}.querySelector('tr').cells.length")
            kind = "scroll" + " wide" * (columns >= WIDE_TABLE) + " widest" * (columns >= WIDEST_TABLE)
            browser.run(f"{table}.className = '{kind}'")
            assert browser.run(cut) == [], f"{potentials} potentials"
            browser.run(f"for (const row of {table}.querySelectorAll('tr')) row.deleteCell(3)")
    browser.ask("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize(
    ("state", "again"), [("running", "60"), ("paused", "60"), ("finished", None), ("failed: no memory", None)]
)
def test_what_has_not_ended_loads_itself_again(bare, browser, tmp_path, state, again):
    page = write_report(replace(bare, state=state, minima=[]), tmp_path / "page")
    browser.open(page)
    assert browser.run("document.body.dataset.reload") == again
    assert ('<noscript><meta http-equiv="refresh"' in page.read_text()) == bool(again)
    assert browser.run("document.querySelector('.chip').className") == f"chip {state.partition(':')[0]}"
    if again:  # once a second, for the test
        text = page.read_text()
        page.write_text(text.replace('data-reload="60"', 'data-reload="0.2"').replace("<h1>", "<h1>first "))
        browser.open(page)
        write_file(page, text.replace("<h1>", "<h1>second ").encode(), force=True)
        heading = ""
        while "second" not in heading:
            with suppress(Navigated):
                heading = browser.run("document.querySelector('h1')?.textContent ?? ''")


def test_commands_on_the_page_exist(record):
    """Each is taken by the command that it is of; names that would act in a shell stand in none."""
    plain = replace(record, label="Cu-s1", minima=[replace(record.minima[0], frame_id="Cu-s1.m1")])
    told = [text for state in ("finished", "running", "paused") for text, _ in commands(replace(plain, state=state))]
    assert "aiida-gaprss trace Cu-s1.m1 --campaign 12" in told
    assert "aiida-gaprss potential export 34 Cu-s1" in told
    for text in told:
        program, *words = shlex.split(text)
        parse({"aiida-gaprss": cli, "verdi": verdi}[program], words)
    hostile = " ".join(text for text, _ in commands(record))
    assert not re.search(r"[<>;&|$'\"]", hostile)
    assert "trace" not in hostile
    assert commands(replace(record, pk=None)) == []


def parse(command, words):
    """Let click read words, down to the command that takes them; nothing is run."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        below = command.get_command(context, words[0])
        assert below is not None, words
        return parse(below, words[1:])
    given, rest, _ = command.make_parser(context).parse_args(list(words))
    assert rest == []
    assert [parameter.name for parameter in command.params if parameter.required and not given.get(parameter.name)] == []


def test_numbers_of_what_was_not_fitted(record, written):
    """Errors of the minima that were labelled to check them: those of energies are the difference of the two potentials."""
    checked_row, *_ = json.loads((written.parent / "report.json").read_text())["unseen"]
    checked = copper()[2:3]  # the first one is in the training set, the second without a label
    apart = [1000 * (atoms.info["PRED_energy"] - atoms.info["REF_energy"]) / len(atoms) for atoms in checked]
    assert checked_row["frames"] == len(checked)
    assert checked_row["energy_rmse_meV/atom"] == pytest.approx(np.sqrt(np.mean(np.square(apart))))
