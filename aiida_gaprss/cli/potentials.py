"""``aiida-gaprss potential …``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.nodes import _list, _load, _profile
from aiida_gaprss.outside import shown

if TYPE_CHECKING:
    from aiida_gaprss.data.potential import Potential


@click.group()
def potential() -> None:
    """Import, export and look at potentials."""


@potential.command("list")
def potential_list() -> None:
    """List the potentials of the profile."""
    from aiida_gaprss.models.families import DEFAULT

    _profile()
    _list(
        "gaprss.potential",
        {
            "family": "family",
            "elements": "elements",
            "cutoff Å": "cutoff",
            "sparse points": "n_sparse",
            "GAP version": "gap_version",
        },
        family=DEFAULT,
    )


@potential.command("show")
@click.argument("node")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def potential_show(node: str, as_json: bool) -> None:
    """Show the card of potential NODE (pk or uuid): what it is, what it was fitted to, its errors, how it was made.

    It also says whether this environment can read it.
    """
    from aiida_gaprss.sharing.card import card, readable_here
    from aiida_gaprss.sharing.card_text import text, to_json

    _profile()
    potential_node = _load(node, "gaprss.potential")
    content = card(potential_node)
    here = readable_here(potential_node)
    if as_json:
        click.echo(to_json({**content, "here": here}), nl=False)
        return
    click.echo(text(content))
    _say_who_reads_it(potential_node, here)


@potential.command("export")
@click.argument("node")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--types", metavar="SYMBOLS", help="Elements of LAMMPS' atom types 1, 2, …, such as 'Si C'. Default: by name.")
@click.option("--force", is_flag=True, help="Replace the potential that is in the folder, with all its files.")
def potential_export(node: str, folder: Path, types: str | None, force: bool) -> None:
    """Write potential NODE with its sparse files, its card, and the LAMMPS lines that use it, to FOLDER."""
    from aiida_gaprss.models.base import CARD, LAMMPS
    from aiida_gaprss.sharing.card import export, readable_here

    _profile()
    potential_node = _load(node, "gaprss.potential")
    path = export(potential_node, folder, _symbols(types), force)
    lammps = f" or the lines of {folder / LAMMPS}" if (folder / LAMMPS).is_file() else ""
    click.echo(f"{path}: use it with {potential_node.family.how_to_use(potential_node.facts, str(path))}{lammps}")
    _say_who_reads_it(potential_node, readable_here(potential_node))
    click.echo(f"what it is and what it was fitted to: {folder / CARD}")


def _say_who_reads_it(node: Potential, here: dict[str, Any]) -> None:
    """Say what reads a potential, and whether this environment does."""
    lammps = node.lammps()
    click.echo(f"needs {node.needs}" + ("; the same in the QUIP package of LAMMPS" if lammps and "QUIP" in lammps else ""))
    click.echo(
        f"{here['reader']} of this environment reads it"
        if here["readable"]
        else f"not usable here: {shown(here['reason'], 2000)}"
    )


@potential.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--family", help="Kind of model. Default: as the file looks; else gap.")
@click.option("--elements", metavar="SYMBOLS", help="Its elements, such as 'Si C', for a file that does not tell them.")
@click.option("--label", help="Label of the node. Default: the name of the file.")
def potential_import(file: Path, family: str | None, elements: str | None, label: str | None) -> None:
    """Import the potential in FILE, of a GAP its xml; its other files must lie beside it.

    A card.json beside it, as `potential export` writes, is kept: the imported potential still tells of its data and errors. What
    was imported before is not stored again, unless under another label.
    """
    from aiida_gaprss.data.potential import Potential
    from aiida_gaprss.models.base import CARD_JSON, PotentialError
    from aiida_gaprss.sharing.card import ORIGIN, read_card

    _profile()
    node = Potential(file.parent, file.name, elements=_symbols(elements), family=family or _family_of_file(file))
    node.label = label or file.name
    beside = file.parent / CARD_JSON
    if beside.is_file():
        try:
            node.base.attributes.set(ORIGIN, read_card(beside, node))
        except PotentialError as exception:
            click.echo(f"note: card not kept: {exception}")
    same = _same(node)
    before = next((n for n in same if n.creator is None and label in (None, n.label)), None)
    node = before or node.store()
    click.echo(f"potential <{node.pk}>: {' '.join(node.elements)}, cutoff {node.base.attributes.get('cutoff'):g} Å")
    if terms := node.base.attributes.get("terms", None):
        click.echo(f"a sum of {'; '.join(terms)}")
    click.echo(f"needs {node.needs}")
    if before is not None:
        click.echo(f"it is there already, since {before.ctime:%Y-%m-%d}: nothing stored")
    elif same:
        click.echo(f"note: the same files as {', '.join(f'<{n.pk}>{_called(n)}' for n in same)}")


def _family_of_file(file: Path) -> str:
    """Return the name of the family that a file looks like one of."""
    from aiida_gaprss.data.folder import family_of_file
    from aiida_gaprss.models.families import DEFAULT

    family = family_of_file(file)
    return DEFAULT if family is None else family.NAME


def _called(node: Potential) -> str:
    return f" {shown(node.label)}" if node.label else ""


def _same(node: Potential) -> list[Potential]:
    """Return the stored potentials with the same files and elements that are what they say, the first one first."""
    from aiida.orm import QueryBuilder

    from aiida_gaprss.data.potential import Potential
    from aiida_gaprss.models.base import PotentialError

    filters = {"attributes.content_hash": node.base.attributes.get("content_hash")}
    same = []
    for stored in QueryBuilder().append(Potential, filters=filters, tag="n").order_by({"n": "id"}).all(flat=True):
        with suppress(PotentialError):
            stored.check()
            same += [stored] if stored.elements == node.elements else []
    return same


def _symbols(text: str | None) -> list[str] | None:
    """Return the elements of an option, separated by blanks or commas."""
    return text.replace(",", " ").split() if text else None
