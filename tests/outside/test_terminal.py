"""What a person sees: names act neither as markup nor as control characters, wherever they stand."""

import io
import re
from pathlib import Path

import click
import pytest
from rich.table import Table
from rich.tree import Tree

import aiida_gaprss
from aiida_gaprss.outside.terminal import PlainConsole, harmless_output, styled

NAME = "[bold red]x[/] [link=http://a]y[/link] :smiley: \x1b[31m\x1b]0;title\x07 \u202e back"
SHOWN = r"[bold red]x[/] [link=http://a]y[/link] :smiley: \x1b[31m\x1b]0;title\x07 \u202e back"


def table(text):
    out = Table(text, text, title=text, caption=text, box=None)
    out.add_row(text, styled((text, "bold")))
    out.add_section()
    out.add_row(text)
    return out


def tree(text):
    out = Tree(text)
    out.add(styled(text)).add(text)
    return out


@pytest.mark.parametrize("make", [str, table, tree, lambda text: styled("a ", (text, "bold red"))])
def test_names_are_shown_as_they_are(make):
    console = PlainConsole(file=io.StringIO(), width=800, force_terminal=True, color_system="truecolor")
    console.print(make(NAME), soft_wrap=True)
    text = console.file.getvalue()
    assert SHOWN in text
    assert "\x1b]" not in text
    assert "\u202e" not in text
    assert "\x1b[31m" not in text
    assert not re.search(r"[^\x1b\n -\U0010ffff]", text)


def test_lines_stay_lines():
    console = PlainConsole(file=io.StringIO(), width=80)
    console.print("one\ntwo\r[b]three[/b]")
    assert console.file.getvalue() == "one\ntwo\\r[b]three[/b]\n"


def test_what_is_said_without_a_console(capsys):
    with harmless_output():
        click.echo(NAME, color=True)
        click.echo(f"a\n{NAME}", err=True, color=True)
        PlainConsole(force_terminal=True, color_system="truecolor", width=300).print(styled((NAME, "red")))
    assert capsys.readouterr() == (f"{SHOWN}\n\x1b[31m{SHOWN}\x1b[0m\n", f"a\n{SHOWN}\n")


def test_no_other_console_is_made():
    """One that is made elsewhere would take names for markup."""
    package = Path(aiida_gaprss.__file__).parent
    others = re.compile(r"rich\.print|from rich import print|import Console\b|\bConsole\(|from_markup|rich\.markup")
    found = [path for path in package.rglob("*.py") if others.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in found] == ["terminal.py"]
