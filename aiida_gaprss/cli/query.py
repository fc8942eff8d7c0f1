"""``aiida-gaprss query …``: what the profile knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.datasets import given_conditions, of_frames
from aiida_gaprss.cli.nodes import _load, _profile
from aiida_gaprss.outside import shown

if TYPE_CHECKING:
    from aiida_gaprss.queries import Behind, FoundFrame, Saw

as_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")


@click.group()
def query() -> None:
    """Ask for frames over all datasets, what a potential rests on, which potentials saw a frame."""


@query.command("frames")
@of_frames
@click.option("--code", help="That made the labels, such as CASTEP.")
@click.option("--level", metavar="WORDS", help="Words of the level of theory, such as PBE.")
@click.option(
    "--in", "within", multiple=True, metavar="PK", help="A dataset, campaign, database or fit. Repeatable; default: all."
)
@as_json_option
def query_frames(code: str | None, level: str | None, within: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """List the frames that fulfil all conditions, each once, from the oldest dataset that has it.

    They are labelled ones, but for --unlabelled. The convex hull is that of all frames at one level of theory, of those that are
    asked.
    """
    from aiida_gaprss.queries import find_frames

    conditions = given_conditions({"labelled": True, **{key: value for key, value in options.items() if value is not None}})
    _profile()
    notes: list[str] = []
    found = find_frames(conditions, code=code, level=level, datasets=_datasets(within), notes=notes)
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        _print_json([one.told() for one in found])
    else:
        _print_frames(found)


def _datasets(within: tuple[str, ...]) -> list[Any] | None:
    from aiida_gaprss.campaign.nodes import datasets_of

    return [node for name in within for node in datasets_of(name).values()] if within else None


def _print_frames(found: list[FoundFrame]) -> None:
    from rich.table import Table

    from aiida_gaprss.outside.terminal import wide_console

    table = Table("frame", "config type", "generation", "formula", "E, eV/atom", "above hull", "dataset", "labelled by", box=None)
    for one in found:
        told = one.told()
        energies = [None if told[key] is None else f"{told[key]:.4f}" for key in ("energy_per_atom", "above_hull")]
        words = [told["frame_id"], told["config_type"], told["generation"], told["formula"], *energies, told["dataset"]]
        table.add_row(*("–" if word is None else str(word) for word in words), shown(told["level_of_theory"], 40))
    wide_console().print(table if found else "no such frame")
    if found:
        click.echo(f"{len(found)} frames of {len({one.dataset.pk for one in found})} datasets")


@query.command("calculations")
@click.argument("node")
@as_json_option
def query_calculations(node: str, as_json: bool) -> None:
    """List the calculations that potential NODE rests on: those that labelled its training set."""
    from aiida_gaprss.queries import calculations_behind

    _profile()
    behind = calculations_behind(_load(node, "gaprss.potential"))
    if as_json:
        _print_json(_told_behind(behind))
    else:
        _print_behind(behind)


def _told_behind(behind: Behind) -> dict[str, Any]:
    calculations = [
        {"pk": one.pk, "uuid": one.uuid, "process": one.process_label, "frames": behind.frames[one.uuid]}
        for one in behind.calculations
    ]
    elsewhere = [{"uuid": uuid, "frames": behind.frames[uuid]} for uuid in behind.elsewhere]
    return {"calculations": calculations, "elsewhere": elsewhere, "untold": behind.untold}


def _print_behind(behind: Behind) -> None:
    from rich.table import Table

    from aiida_gaprss.outside.terminal import wide_console

    table = Table("pk", "process", "state", "labels", "frames", box=None)
    for one in behind.calculations:
        names = behind.frames[one.uuid]
        state = "finished" if one.is_finished_ok else str(one.exit_status or one.process_state)
        table.add_row(str(one.pk), str(one.process_label), state, str(len(names)), _some(names))
    wide_console().print(table if behind.calculations else "no calculation of this profile")
    labels = sum(map(len, behind.frames.values())) + len(behind.untold)
    click.echo(f"{labels} labels by {len(behind.calculations)} calculations of this profile")
    if behind.elsewhere:
        click.echo(f"{len(behind.elsewhere)} calculations are not in this profile: {_some(behind.elsewhere)}")
    if behind.untold:
        click.echo(f"{len(behind.untold)} labels tell no calculation, as those of files: {_some(behind.untold)}")


def _some(names: list[str], most: int = 3) -> str:
    return shown(", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else ""))


@query.command("potentials")
@click.argument("frame_id")
@click.option("--dataset", "node", metavar="PK", help="That has the frame, if several structures are called so.")
@as_json_option
def query_potentials(frame_id: str, node: str | None, as_json: bool) -> None:
    """List the potentials in whose fits the structure of frame FRAME_ID was, under whatever name.

    It was fitted, or left out (for a test), or sparse points were chosen from it; of sums, in the fit of a part.
    """
    from aiida_gaprss.queries import potentials_that_saw

    _profile()
    saw = potentials_that_saw(frame_id, None if node is None else _load(node, "gaprss.dataset"))
    if as_json:
        _print_json([_told_saw(one) for one in saw])
    else:
        _print_saw(saw)


def _told_saw(one: Saw) -> dict[str, Any]:
    return {
        "potential": one.potential.pk,
        "potential_uuid": one.potential.uuid,
        "how": one.how,
        "frame_id": one.frame_id,
        "dataset": one.dataset.pk,
        "dataset_uuid": one.dataset.uuid,
        "level_of_theory": one.dataset.level_of_theory,
    }


def _print_saw(saw: list[Saw]) -> None:
    from rich.table import Table

    from aiida_gaprss.outside.terminal import wide_console

    table = Table("potential", "label", "how", "frame", "dataset", "level of theory", box=None)
    for one in saw:
        words = [f"<{one.potential.pk}>", one.potential.label, one.how, one.frame_id, f"<{one.dataset.pk}>"]
        table.add_row(*map(str, words), shown(one.dataset.level_of_theory, 40))
    wide_console().print(table if saw else "no potential of this profile saw it")


def _print_json(content: Any) -> None:
    from aiida_gaprss.sharing.card_text import to_json

    click.echo(to_json(content), nl=False)
