"""The documents say what the code says, their links lead somewhere, and newcomers find their answers."""

import importlib
import importlib.util
import pkgutil
import re
import runpy
import sys
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

import aiida_gaprss
from aiida_gaprss.campaign.file import Reference
from aiida_gaprss.cli import cli
from aiida_gaprss.settings.model import Model

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md"))
LINKED = [*PAGES, *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("examples/*/README.md")), ROOT / "benchmarks" / "README.md"]
#: Ports of every process of AiiDA.
OURS = "processes|threads|keep_predictions"
OF_ALL = re.compile(rf"(^|\.)(metadata(\.(?!options\.({OURS})$).*)?|monitors|remote_\w+|retrieved)$")
FENCE = re.compile(r"^( *)```.*?^\1```", flags=re.S | re.M)


@pytest.fixture(scope="module")
def made():
    """What makes the pages of the reference."""
    sys.path.insert(0, str(DOCS))
    try:
        yield runpy.run_path(str(DOCS / "make_reference.py"))["PAGES"]
    finally:
        sys.path.remove(str(DOCS))


@cache
def text_of(path):
    return path.read_text(encoding="utf-8")


def section_of(page, title):
    """The text below a heading, to the next one of its level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", text_of(DOCS / page), flags=re.S | re.M)
    assert found, f"{page} has no section {title}"
    return found[2]


# --- the reference ---


@pytest.mark.parametrize(
    "page", ["reference.md", "strategies/settings.md", "properties/settings.md", "files.md", "processes.md", "commands.md"]
)
def test_reference_is_current(made, page):
    assert text_of(DOCS / page) == made[page](), "run: python docs/make_reference.py"


def test_no_page_of_the_reference_is_forgotten(made):
    marked = {str(path.relative_to(DOCS)) for path in PAGES if "Made by `docs/make_reference.py`" in text_of(path)}
    assert marked == set(made)


def processes():
    """Heading in the reference, name and specification of every process that other programs can ask for."""
    for group, word in (("aiida.workflows", "work chain"), ("aiida.calculations", "calculation")):
        for entry in entry_points(group=group):
            if entry.name.startswith("gaprss."):
                yield f"{entry.name}, {word}", entry.name, entry.load().spec()


def names_of(described, prefix=""):
    """Full names of ports, as AiiDA describes them."""
    for name, port in described.items():
        if not name.startswith("_"):
            yield prefix + name
            if isinstance(port, dict) and "_attrs" in port:
                yield from names_of(port, f"{prefix}{name}.")


def own_codes(spec):
    """Exit codes that are not those of every process of AiiDA."""
    return {(code.status, name) for name, code in spec.exit_codes.items() if code.status >= 300}


def test_every_port_and_exit_code_is_in_the_reference():
    found = list(processes())
    assert len(found) > 25
    for title, _, spec in found:
        section = section_of("processes.md", title)
        described = spec.get_description()
        ports = [*names_of(described["inputs"]), *names_of(described["outputs"])]
        of_all = (
            r"(^|\.)(metadata(\.(?!options\.(processes|threads|keep_predictions|program)).*)?|monitors|remote_\w+|retrieved)$"
        )
        absent = [name for name in ports if f"| `{name}` |" not in section and not re.search(of_all, name)]
        assert absent == [], title
        for status, name in own_codes(spec):
            assert f"| {status} | `{name}` |" in section, title


def leaves(kind):
    """Models that no other one is made of."""
    below = [other for other in kind.__subclasses__() if other.__module__.startswith("aiida_gaprss.")]
    return {leaf for other in below for leaf in leaves(other)} if below else {kind}


def test_every_setting_is_in_the_reference(made):
    for module in pkgutil.walk_packages(aiida_gaprss.__path__, "aiida_gaprss."):
        if not module.name.startswith("aiida_gaprss.runners."):
            importlib.import_module(module.name)
    text = "".join(text_of(DOCS / page) for page in made)
    for model in leaves(Model) - {Reference}:  # whose keys are the references that are installed
        kind = model.model_fields.get("kind")
        titles = {model.__name__, kind.default if kind else model.__name__}
        sections = [found[1] for title in titles for found in re.finditer(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.S | re.M)]
        assert sections, f"{model.__name__} is in no page of the reference"
        assert any(all(f"| `{key}` |" in section for key in model.model_fields) for section in sections), model.__name__


def commands(command=cli, path=("aiida-gaprss",)):
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))
    else:
        yield " ".join(path), command


def test_every_command_and_option_is_in_the_reference():
    found = dict(commands())
    assert {"aiida-gaprss run", "aiida-gaprss dataset import"} < set(found)
    for name, command in found.items():
        section = section_of("commands.md", name)
        for param in command.params:
            assert all(f"`{option}`" in section for option in param.opts if option.startswith("-")), name


# --- troubleshooting ---


def test_every_exit_code_has_a_cause_and_a_remedy():
    """Of every process, and of none that is not there any more."""
    wanted = {(name, *code) for _, name, spec in processes() for code in own_codes(spec)}
    told = set()
    for line in section_of("troubleshooting.md", "Exit codes").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        codes = re.findall(r"(\d{3}) `(ERROR_\w+)`", cells[1]) if len(cells) == 4 else []
        if codes:
            assert all(cells), line
        told |= {(name, int(status), code) for name in re.findall(r"`(gaprss\.\w+)`", cells[0]) for status, code in codes}
    assert told == wanted


def test_messages_are_those_of_the_code():
    """Word by word, but for what is put in."""
    sources = "\n".join(text_of(path) for path in sorted((ROOT / "aiida_gaprss").rglob("*.py")))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)
    rows = [line for line in section_of("troubleshooting.md", "Messages").splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    for row in rows:
        for part in filter(None, (part.strip() for part in row.split("`")[1].split("…"))):
            assert part in sources, row


# --- links ---


def anchors_of(path):
    """Links to the headings of a page, as code hosts and the site make them."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(path)), flags=re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in plain}


def links_of(path):
    """What a page links to, but for addresses."""
    text = re.sub(r"(`+)[^`].*?\1", "", FENCE.sub("", text_of(path)), flags=re.S)
    return [link for link in re.findall(r"\]\(\s*([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path):
    for link in links_of(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors_of(target), f"{link}: no such heading"


def test_navigation_has_every_page():
    entries = re.findall(r"(?:file|root): (\S+)", text_of(DOCS / "_toc.yml"))
    assert len(entries) == len(set(entries))
    assert {f"{entry}.md" for entry in entries} == {str(path.relative_to(DOCS)) for path in PAGES}
    assert "search" not in entries, "the site has a page of that name, by which its search works"


def test_every_page_is_one_click_from_the_first():
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in links_of(DOCS / "index.md")}
    assert set(PAGES) - {DOCS / "index.md"} - linked == set()


def test_twelve_questions():
    assert "questions.md" in links_of(DOCS / "index.md")
    rows = [line for line in text_of(DOCS / "questions.md").splitlines() if line.startswith("|") and "?" in line]
    assert len(rows) == 12
    for row in rows:
        assert re.search(r"\]\([\w/-]+\.md(#[^)]+)?\)", row.split("|")[3]), row


# --- what the pages tell to do ---


def test_a_potential_in_ase(potential_folder, tmp_path, monkeypatch, capsys):
    """The lines of the page, with an exported potential."""
    (tmp_path / "my_gap").symlink_to(potential_folder)
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", section_of("potentials.md", "In ASE"), flags=re.S)
    exec(compile(lines, "potentials.md", "exec"), {})
    assert float(capsys.readouterr().out) < 0
