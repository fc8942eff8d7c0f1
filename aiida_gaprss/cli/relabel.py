"""``aiida-gaprss relabel``: existing frames at another level of theory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aiida_gaprss.cli.fit import named_datasets
from aiida_gaprss.cli.nodes import _profile
from aiida_gaprss.cli.told import tell_relabelling


@click.command()
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...")
@click.option(
    "--reference",
    required=True,
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="File with reference, and codes and options if wanted, as in a campaign.",
)
@click.option("--max-labels", type=click.IntRange(min=1), metavar="N", help="So many frames at most; default: all.")
@click.option(
    "--choose",
    type=click.Choice(("farthest", "cur", "random", "lowest")),
    default="farthest",
    show_default=True,
    help="Which of them, if not all.",
)
@click.option("--beside", multiple=True, metavar="DATASET", help="Labels of the new level: not chosen again. Repeatable.")
@click.option("--seed", type=click.IntRange(min=1), default=1, show_default=True, help="Of the choice.")
@click.option("--check", "only_check", is_flag=True, help="Say what it will cost and what is wrong, and stop.")
@click.option("--submit", is_flag=True, help="Hand it to the daemon and return.")
def relabel(datasets: tuple[str, ...], only_check: bool, submit: bool, **options: Any) -> None:
    """Let another reference label frames of each DATASET (pk or uuid, or a campaign, a database, a fit: all it has labelled).

    The new dataset has the same structures at another level of theory, isolated atoms and dimers always among them. What the
    profile has labelled at that level already is not calculated again.
    """
    _profile()
    inputs = inputs_of_relabelling(datasets, options)
    _tell_cost(inputs)
    if only_check:
        return
    from aiida_gaprss.workflows.relabel import RelabelWorkChain

    if submit:
        from aiida_gaprss.cli.daemon import submit_and_tell

        submit_and_tell(RelabelWorkChain, inputs, "relabelling")
        return
    from aiida_gaprss.cli.progress import run_with_progress

    tell_relabelling(run_with_progress(RelabelWorkChain, inputs))


def inputs_of_relabelling(datasets: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of the work chain."""
    from aiida_gaprss.analysis.relabelling import Relabelling
    from aiida_gaprss.campaign.relabel import relabel_inputs

    rules = Relabelling(max_labels=options["max_labels"], choose=options["choose"], seed=options["seed"])
    database = named_datasets(options["beside"], "b")
    return relabel_inputs(named_datasets(datasets, "d"), options["reference"], rules, database)


def _tell_cost(inputs: dict[str, Any]) -> None:
    """Print which frames will be labelled, and what should be known of it.

    :raises ValueError: if there are none.
    """
    from aiida_gaprss.campaign.relabel import cost_in_words, sizes_in_words
    from aiida_gaprss.workflows.relabel import fault_of_database, frames_asked_for, remarks_on

    if fault := fault_of_database(inputs):
        raise click.ClickException(fault)
    frames = frames_asked_for(inputs)
    click.echo(f"the reference labels {sizes_in_words(frames)}")
    if cost := cost_in_words(frames, inputs["label"]):
        click.echo(cost)
    for remark in remarks_on(inputs):
        click.echo(f"note: {remark}")
