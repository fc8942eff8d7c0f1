"""``aiida-gaprss share``, ``open`` and ``library``: archives for others, and of others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.outside import shown, size

if TYPE_CHECKING:
    from aiida_gaprss.sharing.library import Entry
    from aiida_gaprss.sharing.opening import Opened


@click.command()
@click.argument("nodes", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The archive, NAME.aiida.")
@click.option("--name", help="What it is called. Default: the name of the file.")
@click.option("--description", default="", help="One line. Default: what it is of.")
@click.option("--licence", metavar="SPDX", help="What others may do with it, such as CC-BY-4.0. Default: none.")
@click.option("--author", "authors", multiple=True, metavar="NAME", help="Who is named, with an ORCID if you like. Repeatable.")
@click.option("--cite", multiple=True, metavar="TEXT", help="What is to be cited. Repeatable.")
@click.option("--as-it-is", multiple=True, metavar="NODE", help="A node in which paths or names may stay. Repeatable.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
def share(nodes: tuple[str, ...], output: Path, as_it_is: tuple[str, ...], force: bool, **told: Any) -> None:
    """Write an archive of NODES (pks or uuids), a campaign for example, with all that they were made of.

    Nobody's name, no address, no path, no line of a shell and no licensed file is in it, but what you say by --author and --cite.
    It is read again before it is said to be there. Its card lies in it and beside it.
    """
    from aiida_gaprss.cli.nodes import _profile, any_node
    from aiida_gaprss.sharing.about import Terms
    from aiida_gaprss.sharing.write import share as write

    _profile()
    begun = time.monotonic()
    told["name"] = told["name"] or output.name.removesuffix(".aiida")
    free = [any_node(name).uuid for name in as_it_is]
    shared = write([any_node(name) for name in nodes], output, Terms(**told), free, force)
    contents, left_out = shared.card["contents"], shared.card["left_out"]
    took = f"{time.monotonic() - begun:.1f} s"
    click.echo(f"{output}: {size(output.stat().st_size)}, {contents['nodes']} nodes, {contents['files']} files, in {took}")
    click.echo(f"beside it: {', '.join(path.name for path in shared.files[1:])}")
    click.echo(
        f"left out: {left_out['files_of_jobs']} files of jobs; replaced: paths or names in {left_out['files_changed']} files"
    )
    for line in left_out["licensed"]:
        click.echo(f"not licensed to be passed on: {shown(line)}")
    for line in left_out["unreadable"]:
        click.echo(f"left out: {shown(line)}")
    if shared.card["licence"] is None:
        click.echo("note: no licence was chosen (--licence CC-BY-4.0), so that nobody may reuse it without asking you")


@click.command(name="open")
@click.argument("archive", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--profile", help="The profile into which it goes; made if there is none of this name. Default: the default one.")
@click.option("--check", is_flag=True, help="Check it; import nothing.")
@click.option("--card", "only_card", is_flag=True, help="Show its card; check nothing else and import nothing.")
def open_(archive: Path, profile: str | None, check: bool, only_card: bool) -> None:
    """Check ARCHIVE, import it, and show its card.

    Nothing in it is believed: it is refused as a whole if any part of it is damaged, missing, or what no archive of
    aiida-gaprss share has.
    """
    from aiida_gaprss.cli.environment import expect_new_folder, load_or_make_profile

    expect_new_folder()
    from aiida_gaprss.sharing.archive import card_of
    from aiida_gaprss.sharing.opening import checked, open_archive

    if only_card:
        click.echo(_words(archive, card_of(archive)), nl=False)
        return
    begun = time.monotonic()
    found, which = checked(archive)
    click.echo(_words(archive, found.card))
    click.echo(f"checked: {len(found.nodes)} nodes and their files, in {time.monotonic() - begun:.1f} s")
    if check:
        return
    name = load_or_make_profile(name=profile)
    begun = time.monotonic()
    opened = open_archive(found, which)
    had = f" ({opened.old} were there already)" if opened.old else ""
    click.echo(f"imported into profile {name}: {opened.new} nodes{had}, in {time.monotonic() - begun:.1f} s")
    _tell_how_to_go_on(opened)


def _words(archive: Path, card: dict[str, Any]) -> str:
    """Return a card in words.

    :raises ArchiveError: if it is none.
    """
    from aiida_gaprss.sharing.about_text import text
    from aiida_gaprss.sharing.archive import ArchiveError

    try:
        return text(card)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as exception:
        raise ArchiveError(archive, f"its card is damaged: {type(exception).__name__} {shown(exception)}") from exception


def _tell_how_to_go_on(opened: Opened) -> None:
    from aiida_gaprss.cli.kinds import CAMPAIGN, COMPARISON, DATABASE

    click.echo(f"group: {shown(opened.group)}")
    for node in opened.nodes:
        process = getattr(node, "process_label", None)
        click.echo(f"{process or type(node).__name__} <{node.pk}> {shown(node.label)}")
        if process in (CAMPAIGN, DATABASE, COMPARISON):
            click.echo(f"  its page: aiida-gaprss report {node.pk}")
        if process in (CAMPAIGN, DATABASE):
            click.echo(f"  to go on from it, in a campaign file: start: {{database: [{node.uuid}]}}")
            click.echo("  labels of a stranger are used like yours by later campaigns, unless these say reuse_labels: false")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.argument("words", nargs=-1)
@click.option("--elements", metavar="SYMBOLS", help="Potentials that know these elements, such as 'Si O'.")
@click.option("--property", "properties", multiple=True, metavar="NAME", help="Validated, and not bad. Repeatable.")
@click.option("--max-energy", type=click.FloatRange(min=0), metavar="meV/atom", help="Of the RMSE of energies.")
@click.option("--max-forces", type=click.FloatRange(min=0), metavar="eV/Å", help="Of the RMSE of forces.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def library(folder: Path, words: tuple[str, ...], elements: str | None, as_json: bool, **how: Any) -> None:
    """List the potentials in the archives of FOLDER, of which nothing but the cards is read; those with all WORDS, if any.

    Errors are those on frames that were held back, else on the training set (in brackets).
    """
    import json
    from dataclasses import asdict

    from aiida_gaprss.sharing.library import Wanted, entries

    limits = {"energy": how["max_energy"], "forces": how["max_forces"]}
    wanted = Wanted(
        elements=elements.replace(",", " ").split() if elements else (),
        properties=how["properties"],
        most={quantity: limit for quantity, limit in limits.items() if limit is not None},
        words=words,
    )
    refused: dict[str, str] = {}
    found = [entry for entry in entries(folder, refused) if wanted.fits(entry)]
    if as_json:
        from aiida_gaprss.sharing.card_text import to_json

        content = {"potentials": [asdict(entry) for entry in found], "refused": refused}
        click.echo(to_json(json.loads(json.dumps(content))), nl=False)
        return
    _print_library(found)
    for name, reason in refused.items():
        click.echo(f"not read: {shown(name)}: {shown(reason, 500)}")


def _print_library(found: list[Entry]) -> None:
    from rich.table import Table

    from aiida_gaprss.outside.terminal import wide_console

    table = Table("archive", "elements", "family", "frames", "E meV/atom", "F eV/Å", "properties", "level of theory", box=None)
    for one in found:
        lights = ", ".join(f"{name} {light or '–'}" for name, light in one.lights.items())
        errors = [_error(one, quantity) for quantity in ("energy", "forces")]
        frames = "–" if one.frames is None else str(one.frames)
        table.add_row(
            one.file, " ".join(one.elements), one.family, frames, *errors, lights or "–", shown("; ".join(one.levels), 60)
        )
    wide_console().print(table if found else "no such potential")


def _error(one: Entry, quantity: str) -> str:
    from aiida_gaprss.analysis.numbers import significant

    if quantity not in one.errors:
        return "–"
    value = significant(one.errors[quantity])
    return value if one.tested else f"({value})"
