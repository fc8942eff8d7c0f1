"""``aiida-gaprss dataset …``, and what commands on nodes share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aiida_gaprss.outside import shown

if TYPE_CHECKING:
    from ase import Atoms

    from aiida_gaprss.io.extxyz import Keys
    from aiida_gaprss.levels import Level


def _profile() -> None:
    from aiida_gaprss.cli.environment import load_or_make_profile

    load_or_make_profile(make=False)


def any_node(identifier: str) -> Any:
    """Return a node of any kind.

    :raises click.ClickException: if there is none, or several.
    """
    from aiida.common.exceptions import MultipleObjectsError, NotExistent
    from aiida.orm import load_node

    try:
        return load_node(identifier)
    except (NotExistent, MultipleObjectsError, ValueError) as exception:
        raise click.ClickException(f"no node {identifier}: {exception}") from exception


def _load(identifier: str, kind: str) -> Any:
    from aiida.plugins import DataFactory

    node = any_node(identifier)
    if not isinstance(node, DataFactory(kind)):
        raise click.ClickException(f"<{identifier}> is a {type(node).__name__}, expected a {kind.split('.')[1]}")
    return node


def _list(kind: str, columns: dict[str, str], **defaults: Any) -> None:
    from aiida.orm import QueryBuilder
    from aiida.plugins import DataFactory
    from rich.table import Table

    from aiida_gaprss.outside.terminal import PlainConsole

    query = QueryBuilder().append(DataFactory(kind), tag="n").order_by({"n": "id"})
    table = Table("pk", "label", *columns, box=None)
    for node in query.all(flat=True):
        attributes = {**defaults, **node.base.attributes.all}
        label = node.label or (node.creator.label if node.creator is not None else "")
        table.add_row(str(node.pk), label, *(_short(attributes.get(key)) for key in columns.values()))
    PlainConsole().print(table if table.row_count else f"no {kind.split('.')[1]} in this profile")


def _short(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    text = str(value).replace("\\n", " ")
    return text if len(text) < 60 else text[:57] + "..."


def _key_options(function: Any) -> Any:
    for option in reversed(
        (
            click.option("--energy", metavar="KEY", help="Key of the energy."),
            click.option("--forces", metavar="KEY", help="Key of the forces."),
            click.option("--virial", metavar="KEY", help="Key of the virial (−stress·volume, 9 numbers)."),
            click.option("--stress", metavar="KEY", help="Key of the stress (6 or 9 numbers)."),
            click.option("--energy-unit", default="eV", show_default=True),
            click.option("--force-unit", default="eV/Å", show_default=True),
            click.option("--stress-unit", default="eV/Å^3", show_default=True),
            click.option(
                "--stress-sign", type=int, default=1, show_default=True, help="1 as in ASE (compressed: negative), -1 as in VASP."
            ),
        )
    ):
        function = option(function)
    return function


def _as_typed(names: Sequence[str]) -> str:
    """Return options as a user types them."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _keys(options: dict[str, Any]) -> Keys:
    from aiida_gaprss.io.extxyz import Keys

    return Keys(**options)


@click.group()
def dataset() -> None:
    """Import, export and look at datasets of frames."""


@dataset.command("list")
def dataset_list() -> None:
    """List the datasets of the profile."""
    _profile()
    _list(
        "gaprss.dataset",
        {"frames": "frames", "labels": "energies", "config types": "config_types", "level of theory": "level_of_theory"},
    )


@dataset.command("show")
@click.argument("node")
def dataset_show(node: str) -> None:
    """Show what dataset NODE (pk or uuid) holds."""
    _profile()
    dataset_node = _load(node, "gaprss.dataset")
    for key, value in dataset_node.base.attributes.all.items():
        click.echo(f"{key:16s} {shown(_short(value))}")
    from collections import Counter

    from aiida_gaprss.frames import is_labelled

    def status(atoms: Atoms) -> str:
        return str(atoms.info.get("label_status", "labelled" if is_labelled(atoms) else "never tried"))

    for reason, count in Counter(map(status, dataset_node.get_frames())).most_common():
        click.echo(f"{'label status':16s} {count} {shown(reason)}")


@dataset.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@_key_options
@click.option(
    "--steps", default="all", show_default=True, help="Ionic steps of an output: all, last, first or a slice such as ::5."
)
@click.option("--config-type", help="Configuration type of frames that have none; isolated_atom for one atom in a large box.")
@click.option(
    "--level-of-theory", help="One line: code, functional, cutoff, k-points of the labels. Default for outputs: what they say."
)
@click.option("--own-keys", is_flag=True, help="The file was exported by us: take origins, seeds and predictions, too.")
@click.option("--unlabelled", is_flag=True, help="Take frames without labels.")
@click.option(
    "--box",
    type=click.FloatRange(min=0, min_open=True),
    metavar="Å",
    help="Vacuum around frames that are not periodic; they have no virial then.",
)
@click.option(
    "--placeholders",
    type=click.Choice(("refuse", "drop", "keep")),
    default="refuse",
    show_default=True,
    help="What becomes of labels that were not calculated: zeros, half a tensor, one value again and again.",
)
@click.option(
    "--mixed-levels", is_flag=True, help="Import outputs together whose levels of theory differ, or do not tell everything."
)
@click.option("--strict", is_flag=True, help="Import nothing if anything is refused.")
@click.pass_context
def dataset_import(
    context: click.Context,
    paths: tuple[Path, ...],
    steps: str,
    config_type: str | None,
    level_of_theory: str | None,
    placeholders: str,
    mixed_levels: bool,
    strict: bool,
    **options: Any,
) -> None:
    """Import labelled frames from PATHS, as one dataset.

    PATHS are extended XYZ files whose labels have any names and units; or outputs of CASTEP (.castep), VASP (OUTCAR, vasprun.xml)
    or Quantum ESPRESSO (pw.x), plain or gzip, and folders with such outputs. Keys, units, --own-keys, --unlabelled and --box are
    of extended XYZ, --steps is of outputs.
    """
    from aiida_gaprss.frames import check_name
    from aiida_gaprss.io.outputs import EXTXYZ, recognise

    given = [name for name in (*options, "steps") if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    how = {name: options.pop(name) for name in ("own_keys", "unlabelled", "box")}
    keys = _keys(options)
    if config_type is not None:
        check_name("config_type", config_type, "--config-type")
    found = {path: None if path.is_dir() else recognise(path) for path in paths}
    xyz = [path for path, kind in found.items() if kind == EXTXYZ]
    outputs = [path for path, kind in found.items() if path.is_dir() or kind not in (EXTXYZ, None)]
    if xyz and outputs:
        raise click.UsageError(f"{xyz[0]} is extended XYZ, {outputs[0]} is not: import them separately")
    as_xyz = bool(xyz) or (not outputs and any(name != "steps" for name in given))  # a file that is neither is refused there
    wrong = [name for name in given if (name == "steps") == as_xyz]
    if wrong:
        what = "outputs of codes, not for extended XYZ" if as_xyz else "extended XYZ, not for outputs of codes"
        raise click.UsageError(f"{_as_typed(wrong)}: only for {what}")
    if as_xyz and level_of_theory is None and not how["unlabelled"]:
        raise click.UsageError("extended XYZ does not say its level of theory; give it with --level-of-theory")
    _profile()
    if as_xyz:
        _import_xyz(list(found), keys, config_type, level_of_theory or "unlabelled", how)
    else:
        _import_outputs(list(found), steps, config_type, level_of_theory, mixed_levels, strict)


def _import_xyz(paths: list[Path], keys: Keys, config_type: str | None, level_of_theory: str, how: dict[str, Any]) -> None:
    from aiida_gaprss.io.extxyz import import_frames

    notes: list[str] = []
    frames = [frame for path in paths for frame in import_frames(path, keys, config_type, notes=notes, **how)]
    for note in notes:
        click.echo(f"note: {note}")
    _store(frames, level_of_theory, paths)


def _import_outputs(
    paths: list[Path], steps: str, config_type: str | None, level_of_theory: str | None, mixed_levels: bool, strict: bool
) -> None:
    from aiida_gaprss.io.outputs import read_outputs
    from aiida_gaprss.levels import line_of

    result = read_outputs(paths, steps, config_type, mixed_levels)
    for refused in result.refused:
        click.echo(f"refused: {refused}")
    for note in result.notes:
        click.echo(f"note: {note}")
    if strict and result.refused:
        raise click.ClickException(f"{len(result.refused)} refused, nothing imported (--strict)")
    level = level_of_theory or result.level
    _store(result.frames, level, paths)
    click.echo(f"level of theory: {line_of(level)}")


def _store(frames: list[Atoms], level_of_theory: Level | str, paths: list[Path]) -> None:
    """Store frames as a dataset named after the first of ``paths``, and say what is in it."""
    from aiida_gaprss.data.dataset import Dataset

    _judge(frames, click.get_current_context().params["placeholders"])
    node = Dataset(frames, level_of_theory=level_of_theory)
    node.label = paths[0].resolve().name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    node.store()
    attributes = node.base.attributes.all
    click.echo(
        f"dataset <{node.pk}>: {attributes['frames']} frames, {attributes['atoms']} atoms, {attributes['energies']} energies, "
        f"{attributes['forces']} force components, {attributes['virials']} virials"
    )


def _judge(frames: list[Atoms], placeholders: str) -> None:
    """Refuse, drop or name labels that were not calculated, and name those that are absurd, before anything is stored.

    :param placeholders: refuse, drop or keep.
    """
    from aiida_gaprss.audit.placeholders import drop_placeholders, find_placeholders
    from aiida_gaprss.selection.sanity import absurd_labels

    found = find_placeholders(frames)
    lines = [f"{len(group.reasons)} frames with {group.kind}: {_named(frames, group.reasons)}" for group in found]
    if found and placeholders == "refuse":
        raise click.ClickException(
            "labels that stand for numbers that were not calculated, nothing imported:\n"
            + "".join(f"  {line}\n" for line in lines)
            + "--placeholders drop takes these labels off, --placeholders keep believes them"
        )
    if placeholders == "drop":
        drop_placeholders(frames, found)
    for line in lines:
        click.echo(f"note: {'dropped' if placeholders == 'drop' else 'kept'}: {line}")
    absurd = absurd_labels(frames)
    if absurd:
        click.echo(f"note: {len(absurd)} frames with labels that no fit takes without your word: {_named(frames, absurd)}")


def _named(frames: Sequence[Atoms], reasons: Mapping[int, str], most: int = 3) -> str:
    """Return the names of frames with the reasons, the first few of them."""
    texts = [f"{frames[i].info['frame_id']} ({reason})" for i, reason in list(reasons.items())[:most]]
    return shown(", ".join(texts) + (f" and {len(reasons) - most} more" if len(reasons) > most else ""), 1000)


#: Formats of files that datasets are exported to (``io.formats``).
FORMATS = ("extxyz", "db", "csv", "json", "colabfit")


@dataset.command("export")
@click.argument("node")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "fileformat", type=click.Choice(FORMATS), help="Default: as the ending of PATH says.")
@_key_options
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.pass_context
def dataset_export(context: click.Context, node: str, path: Path, fileformat: str | None, force: bool, **options: Any) -> None:
    """Export dataset NODE to the file PATH, the whole of it or nothing.

    Formats: extended XYZ (.xyz, .extxyz), an ASE database (.db), a table (.csv), everything with units (.json), extended XYZ
    with the names of ColabFit (colabfit). In extended XYZ labels are named REF_energy, REF_forces, REF_virial unless keys are
    given; `dataset import FILE --own-keys` reads such a file again, with everything that is known of the frames.
    """
    from aiida_gaprss.io.formats import format_of
    from aiida_gaprss.outside import refuse_existing

    fileformat = fileformat or format_of(path)
    given = [name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if given and fileformat != "extxyz":
        raise click.UsageError(f"{_as_typed(given)}: only for extxyz, not for {fileformat}")
    refuse_existing(path, force)
    if not any(options[name] for name in ("energy", "forces", "virial", "stress")):
        options.update(energy="REF_energy", forces="REF_forces", virial="REF_virial")
    keys = {"keys": _keys(options)} if fileformat == "extxyz" else {}
    _profile()
    dataset_node = _load(node, "gaprss.dataset")
    dataset_node.export(path, fileformat, force, **keys)
    click.echo(f"{path}: {dataset_node.n_frames} frames")
