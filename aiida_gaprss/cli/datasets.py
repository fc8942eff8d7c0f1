"""Commands that make one dataset of others, each a calcfunction: ``aiida-gaprss dataset filter``, ``drop``, ``split``, …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.nodes import _load, _profile, any_node, dataset
from aiida_gaprss.outside import shown

if TYPE_CHECKING:
    from aiida_gaprss.analysis.conditions import Conditions

WHAT = "gaprss.dataset"


def _told(node: Any, label: str | None, otherwise: str, description: str) -> None:
    """Label a new dataset, and say what is in it."""
    node.label, node.description = label or otherwise, description
    attributes = node.base.attributes.all
    click.echo(
        f"dataset <{node.pk}> {shown(node.label)}: {attributes['frames']} frames, {attributes['energies']} energies; "
        f"{', '.join(f'{n} {kind}' for kind, n in attributes['config_types'].items())}"
    )


label_option = click.option("--label", help="Label of the new dataset.")


def of_frames(function: Any) -> Any:
    """Give a command the options that say which frames: the keys of ``analysis.conditions.Conditions``."""
    for option in reversed(
        (
            click.option("--config-type", "config_types", multiple=True, metavar="NAME", help="Keep this kind. Repeatable."),
            click.option(
                "--without", "without_config_types", multiple=True, metavar="NAME", help="Leave this kind out. Repeatable."
            ),
            click.option("--elements", metavar="SYMBOLS", help="Frames with no others, such as 'Si O'."),
            click.option("--atoms", "n_atoms", type=int, nargs=2, metavar="FEWEST MOST", help="Number of atoms."),
            click.option(
                "--from-generation", type=int, metavar="N", help="Of the campaign; frames of no generation are left out."
            ),
            click.option("--to-generation", type=int, metavar="N", help="The same."),
            click.option("--max-above", type=float, metavar="EV", help="eV/atom above the lowest frame of the same composition."),
            click.option("--max-above-hull", type=float, metavar="EV", help="eV/atom above the convex hull of all frames."),
            click.option("--max-force", type=float, metavar="EV/Å", help="Of the largest force on an atom."),
            click.option("--labelled/--unlabelled", default=None, help="Frames with an energy, or without."),
        )
    ):
        function = option(function)
    return function


def given_conditions(options: dict[str, Any]) -> Conditions:
    """Return what these options say.

    :raises click.UsageError: if they contradict each other, or say nothing.
    """
    from pydantic import ValidationError

    from aiida_gaprss.analysis.conditions import Conditions
    from aiida_gaprss.settings.model import in_words

    given: dict[str, Any] = {key: value for key, value in options.items() if value not in (None, ())}
    given |= {key: list(value) for key, value in given.items() if isinstance(value, tuple)}
    if "elements" in given:
        given["elements"] = str(given["elements"]).replace(",", " ").split()
    try:
        return Conditions(**given)
    except ValidationError as error:
        raise click.UsageError(in_words(error)) from error


@dataset.command("filter")
@click.argument("node")
@of_frames
@label_option
def dataset_filter(node: str, label: str | None, **options: Any) -> None:
    """Make a dataset of the frames of NODE that fulfil all conditions.

    A frame without the label that a condition asks about is left out. Isolated atoms and dimers are kept whatever their energies.
    """
    from aiida_gaprss.analysis.conditions import kept

    conditions = given_conditions(options)
    given = conditions.model_dump(mode="json", exclude_none=True)
    _profile()
    source = _load(node, WHAT)
    number = len(kept(source.get_frames(), conditions))
    if number in (0, source.n_frames):
        raise click.ClickException(f"{'no frame fulfils' if number == 0 else 'all frames fulfil'} these conditions; nothing made")
    from aiida.orm import Dict

    from aiida_gaprss.calculations.dataset_functions import filter_frames

    words = ", ".join(f"{key} {value}" for key, value in given.items())
    _told(filter_frames(source, Dict(given)), label, f"{source.label} filtered".strip(), f"frames of <{source.pk}> with {words}")


@dataset.command("drop")
@click.argument("node")
@click.argument("frame_ids", nargs=-1, required=True)
@label_option
def dataset_drop(node: str, frame_ids: tuple[str, ...], label: str | None) -> None:
    """Make a dataset of the frames of NODE without those called FRAME_IDS."""
    from aiida.orm import List

    from aiida_gaprss.calculations.dataset_functions import drop_frames

    _profile()
    source = _load(node, WHAT)
    known = {atoms.info["frame_id"] for atoms in source.get_frames()}
    unknown = [name for name in frame_ids if name not in known]
    if unknown:
        raise click.ClickException(f"dataset <{source.pk}> has no frame {', '.join(shown(name) for name in unknown)}")
    made = drop_frames(source, List(sorted(set(frame_ids))))
    _told(
        made,
        label,
        f"{source.label} without {len(set(frame_ids))}".strip(),
        f"<{source.pk}> without {', '.join(frame_ids)}"[:255],
    )


@dataset.command("split")
@click.argument("node")
@click.argument("fraction", type=click.FloatRange(0, 1, min_open=True, max_open=True))
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of the choice.")
def dataset_split(node: str, fraction: float, seed: int) -> None:
    """Make two datasets of NODE: a random FRACTION of its labelled frames, of every kind in proportion, and the rest.

    Copies of a structure, exact or by symmetry, stay on one side. Isolated atoms, dimers and frames without a label are in the
    rest.
    """
    from aiida.orm import Float, Int

    from aiida_gaprss.calculations.dataset_functions import split_frames
    from aiida_gaprss.models.splits import stratified

    _profile()
    source = _load(node, WHAT)
    stratified(source.get_frames(), fraction, seed)  # what cannot be done is refused before anything is stored
    made = split_frames(source, Float(fraction), Int(seed))
    for name, words in (("part", f"{fraction:.3g} of"), ("rest", f"the rest of {fraction:.3g} of")):
        _told(made[name], None, f"{source.label} {name}".strip(), f"{words} <{source.pk}>, seed {seed}")


@dataset.command("merge")
@click.argument("nodes", nargs=-1, required=True)
@click.option("--mixed-levels", is_flag=True, help="Also if they were labelled at different levels of theory.")
@label_option
def dataset_merge(nodes: tuple[str, ...], mixed_levels: bool, label: str | None) -> None:
    """Make one dataset of all frames of NODES."""
    from collections import Counter

    from aiida_gaprss.calculations.dataset_functions import merge_datasets
    from aiida_gaprss.levels import difference, mixed_up

    if len(nodes) < 2:
        raise click.UsageError("give at least two datasets")
    _profile()
    sources = [_load(name, WHAT) for name in nodes]
    levels = {f"<{source.pk}>": source.level for source in sources if source.base.attributes.get("energies")}
    if confused := mixed_up(levels):
        raise click.ClickException(shown(confused, 2000))
    other = difference(levels)
    if other and not mixed_levels:
        raise click.ClickException(f"different levels of theory: {shown(other, 2000)}; --mixed-levels merges them")
    count = Counter(atoms.info["frame_id"] for source in sources for atoms in source.get_frames())
    doubled = [name for name, n in count.items() if n > 1]
    if doubled:
        raise click.ClickException(
            f"{len(doubled)} frame ids are in more than one: {shown(', '.join(doubled[:5]))}; dataset drop takes frames out"
        )
    made = merge_datasets(**{f"d{number:02d}": source for number, source in enumerate(sources)})
    pks = " and ".join(f"<{source.pk}>" for source in sources)
    _told(made, label, " and ".join(source.label for source in sources if source.label)[:255], f"all frames of {pks}"[:255])


@dataset.command("difference")
@click.argument("dear")
@click.argument("cheap", nargs=-1, required=True)
@label_option
def dataset_difference(dear: str, cheap: tuple[str, ...], label: str | None) -> None:
    """Make a dataset of the labels of DEAR minus those of the same structures in CHEAP, at another level of theory.

    DEAR and CHEAP are datasets, or what has labels: campaigns, databases, fits, relabellings. The new dataset has a level of
    its own: it can be fitted with others like it, by aiida-gaprss delta, and with nothing else.
    """
    from aiida_gaprss.analysis.differences import differences, spread_of
    from aiida_gaprss.calculations.level_functions import fault_of_difference, label_differences
    from aiida_gaprss.cli.fit import named_datasets

    _profile()
    minuend, subtrahend = named_datasets((dear,), "d"), named_datasets(cheap, "c")
    if len(minuend) > 1:
        raise click.ClickException(f"<{dear}> has {len(minuend)} datasets; dataset merge makes one of them")
    (source,) = minuend.values()
    if fault := fault_of_difference(source, subtrahend):
        raise click.ClickException(shown(fault, 2000))
    found = differences(source.get_frames(), [atoms for node in subtrahend.values() for atoms in node.get_frames()])
    if found.alone:
        names = ", ".join(found.alone[:5]) + (" …" if len(found.alone) > 5 else "")
        click.echo(f"left out: {len(found.alone)} frames that no cheap label is of the same structure as: {shown(names)}")
    made = label_differences(source, **subtrahend)
    pks = " and ".join(f"<{node.pk}>" for node in subtrahend.values())
    _told(made, label, f"{source.label} differences".strip(), f"<{source.pk}> minus {pks}"[:255])
    click.echo(f"level of theory: {shown(made.level_of_theory, 2000)}")
    click.echo(f"root mean squares: {spread_of(made.get_frames())}")


@dataset.command("minima")
@click.argument("node")
@click.option(
    "--by", type=click.Choice(("reference", "potential")), help="Whose energies; default: the reference's, if it has any."
)
@click.option("--window", type=click.FloatRange(min=0), default=0.5, show_default=True, help="eV/atom above the lowest.")
@click.option("--number", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option(
    "--symprec", type=click.FloatRange(min=0, min_open=True), default=0.05, show_default=True, help="Å, of the space group."
)
@label_option
def dataset_minima(node: str, by: str | None, window: float, number: int, symprec: float, label: str | None) -> None:
    """Make a dataset of the lowest distinct structures of NODE, and list them.

    Of several elements, energies are heights above the convex hull of the frames.
    """
    from aiida.orm import Dict
    from rich.table import Table

    from aiida_gaprss.calculations.dataset_functions import lowest_distinct
    from aiida_gaprss.frames import PREDICTION, REFERENCE
    from aiida_gaprss.outside.terminal import wide_console

    _profile()
    source = _load(node, WHAT)
    prefix = {"reference": REFERENCE, "potential": PREDICTION}.get(by or "")
    prefix = prefix or (REFERENCE if source.base.attributes.get("energies") else PREDICTION)
    if not any(f"{prefix}_energy" in atoms.info for atoms in source.get_frames()):
        raise click.ClickException(
            f"dataset <{source.pk}> has no energies of {'the reference' if prefix == REFERENCE else 'a potential'}"
        )
    settings = {"by": prefix, "window": window, "limit": number, "symprec": symprec}
    made = lowest_distinct(source, Dict(settings))
    table = Table(
        "rank",
        "space group",
        "atoms",
        "count",
        f"E_{prefix}, eV/atom",
        "above, eV/atom",
        "V, Å³/atom",
        "formula",
        "frame",
        box=None,
    )
    for row in made["minima"]["minima"]:
        table.add_row(
            str(row["rank"]),
            f"{row['symbol']} ({row['space_group']})",
            str(row["primitive_atoms"]),
            str(row["count"]),
            f"{row['energy']:.4f}",
            f"{row['above_lowest']:.4f}",
            f"{row['volume']:.2f}",
            row["formula"],
            row["frame_id"],
        )
    wide_console().print(table)
    _told(
        made["frames"],
        label,
        f"{source.label} minima".strip(),
        f"lowest distinct structures of <{source.pk}> within {window} eV/atom",
    )


@dataset.command("from-structures")
@click.argument("nodes", nargs=-1, required=True)
@click.option("--config-type", default="crystal", show_default=True, help="Of all; isolated_atom for one atom in a large box.")
@click.option("--merge-kinds", is_flag=True, help="Take several kinds of an element, such as Fe1 and Fe2, as one.")
@label_option
def dataset_from_structures(nodes: tuple[str, ...], config_type: str, merge_kinds: bool, label: str | None) -> None:
    """Make a dataset of the structures NODES (StructureData), without labels.

    Frames are called by the labels of the structures, or by formula and uuid. Structures with partly occupied sites, or that do
    not repeat in all directions, are refused.
    """
    from aiida_gaprss.calculations.structure_functions import dataset_of

    _profile()
    structures = [_structure(name) for name in nodes]
    pks = " ".join(f"<{node.pk}>" for node in structures)
    _told(dataset_of(structures, config_type, merge_kinds), label, "structures", f"structures {pks}"[:255])


def _structure(identifier: str) -> Any:
    from aiida.orm import StructureData

    node = any_node(identifier)
    if not isinstance(node, StructureData):
        raise click.ClickException(f"<{identifier}> is a {type(node).__name__}, expected a StructureData")
    return node


@dataset.command("structure")
@click.argument("node")
@click.argument("frame_id")
def dataset_structure(node: str, frame_id: str) -> None:
    """Make a StructureData of frame FRAME_ID of dataset NODE."""
    from aiida.orm import Str

    from aiida_gaprss.calculations.structure_functions import frame_to_structure

    _profile()
    source = _load(node, WHAT)
    if frame_id not in {atoms.info["frame_id"] for atoms in source.get_frames()}:
        raise click.ClickException(f"dataset <{source.pk}> has no frame {shown(frame_id)}")
    made = frame_to_structure(source, Str(frame_id))
    click.echo(f"structure <{made.pk}> {shown(made.label)}: {made.get_formula()}, {len(made.sites)} sites")
