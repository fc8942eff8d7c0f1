"""``aiida-gaprss build``: databases of crystals by strategies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aiida_gaprss.cli.nodes import _profile
from aiida_gaprss.cli.told import tell_build

if TYPE_CHECKING:
    from aiida_gaprss.campaign.build import Asked


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path), required=False)
@click.option("--check", "only_check", is_flag=True, help="Say what it will cost and what is wrong, and stop.")
@click.option("--submit", is_flag=True, help="Hand it to the daemon and return.")
@click.option("--list", "only_list", is_flag=True, help="List the strategies that there are, and stop.")
def build(file: Path | None, only_check: bool, submit: bool, only_list: bool) -> None:
    """Make frames of crystals by the strategies in FILE, let the reference label them, and give each strategy a dataset."""
    if only_list:
        _list_strategies()
        return
    if file is None:
        raise click.UsageError("give a file, as in docs/strategies/index.md; aiida-gaprss build --list shows the strategies")
    _profile()
    from aiida_gaprss.campaign.build import asked_by
    from aiida_gaprss.workflows.build import BuildWorkChain

    asked = asked_by(file)
    _tell_cost(asked)
    inputs = asked.inputs
    del asked
    if only_check:
        return
    if submit:
        from aiida_gaprss.cli.daemon import submit_and_tell

        submit_and_tell(BuildWorkChain, inputs, "database", "aiida-gaprss status")
        return
    from aiida_gaprss.cli.progress import run_with_progress

    tell_build(run_with_progress(BuildWorkChain, inputs))


def _list_strategies() -> None:
    from aiida_gaprss.settings.plugins import STRATEGIES, kind_of, kinds_of
    from aiida_gaprss.strategies.base import Strategy

    for name in kinds_of(STRATEGIES, Strategy):
        found = kind_of(STRATEGIES, name, Strategy)
        needs = f" (needs {' and '.join(sorted(found.needs))})" if found.needs else ""
        click.echo(f"{name:16s} {(found.__doc__ or '').strip().splitlines()[0]}{needs}")


def _tell_cost(asked: Asked) -> None:
    """Print what each strategy asks for."""
    from rich.table import Table

    from aiida_gaprss.campaign.build import cost_of, spacing_of
    from aiida_gaprss.campaign.cost import calibrated, in_hours, in_words, seconds_of, summed
    from aiida_gaprss.campaign.strategies import small_enough
    from aiida_gaprss.outside.terminal import wide_console

    strategies, inputs = asked.strategies, asked.inputs
    spacing = spacing_of(inputs.get("label"))
    kinds, model = strategies.strategies, calibrated(inputs.get("label"))
    costs = {name: cost_of(frames, spacing, kinds[name].labels_each) for name, frames in asked.made.items()}
    seconds = {name: seconds_of(model, kinds[name], frames, spacing) for name, frames in asked.made.items()} if model else {}
    total = sum(cost.plane_waves for cost in costs.values()) or 1.0
    table = Table(
        "strategy", "kind", "frames", "atoms", "largest", "share of the cost", *["core-hours"][: len(seconds)], box=None
    )
    for name, cost in costs.items():
        numbers = (str(cost.frames), str(cost.atoms), str(cost.largest), f"{100 * cost.plane_waves / total:.1f} %")
        table.add_row(name, kinds[name].kind, *numbers, *([in_hours(seconds[name])] if seconds else []))
    wide_console().print(table)
    points = "" if spacing is None else f", k-points {spacing:g} 1/Å apart"
    click.echo(f"cost: N³ n_k of each frame, N atoms, n_k k-points{points}: {total:.3g} in all")
    if model:
        click.echo(f"core-hours: {in_hours(summed(seconds.values()))} in all, {in_words(model, spacing)}")
    if strategies.max_labels is not None:
        click.echo(f"max_labels: {strategies.max_labels} of these at most are labelled (choose: {strategies.choose})")
    if strategies.runs:
        click.echo(f"{', '.join(strategies.runs)}: as many snapshots as wanted, if the potential or calculator comes so far")
    if strategies.by_reference:
        click.echo(f"{', '.join(strategies.by_reference)}: run by the reference; the cost of all steps is among the numbers")
    if strategies.relax is not None:
        left_out = len(inputs["crystals"].get_frames()) - len(small_enough(strategies, inputs["crystals"].get_frames()))
        click.echo(
            f"relax: the {strategies.relax.by} relaxes the crystals first; frames here are of the crystals as they are given"
            + (f", {left_out} of them too large and left out" if left_out else "")
        )
    if "label" not in inputs:
        click.echo("no reference: the datasets will have no labels")
