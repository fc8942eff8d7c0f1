"""``aiida-gaprss learning-curve``, ``tune`` and ``committee``: many fits with one test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.fit import data_and_settings, fit_options, inputs_of_fit, read_yaml, run_or_submit
from aiida_gaprss.cli.told import tell_committee, tell_curve, tell_trials

if TYPE_CHECKING:
    from aiida.engine import WorkChain

concurrent = click.option("--concurrent", type=click.IntRange(min=1), default=2, show_default=True, help="Fits at one time.")


def _run(process: type[WorkChain], what: str, options: dict[str, Any], **more: Any) -> Any:
    from aiida.orm import to_aiida_type

    inputs = inputs_of_fit(*data_and_settings(options), options)  # which loads the profile: no node can be made before
    inputs |= {key: to_aiida_type(value) for key, value in more.items()}
    return run_or_submit(process, {**inputs, "max_concurrent": options["concurrent"]}, what, options)


def numbers(_: Any, option: click.Parameter, text: str | None) -> list[float] | None:
    """Return numbers with commas between them."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r}; expected numbers with commas between them, e.g. 0.1,0.5,1") from error


@click.command("learning-curve")
@fit_options
@concurrent
@click.option("--sizes", callback=numbers, default="0.1,0.2,0.4,0.8,1", show_default=True, help="Parts of the frames.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Fits of each size.")
def learning_curve(**options: Any) -> None:
    """Fit to growing parts of the frames: is the error still falling?"""
    from aiida_gaprss.workflows.learning_curve import LearningCurveWorkChain

    more = {key: options[key] for key in ("sizes", "repeats")}
    done = _run(LearningCurveWorkChain, "learning-curve", options, **more)
    if done is not None:
        tell_curve(*done)


@click.command()
@fit_options
@concurrent
@click.option(
    "--search",
    required=True,
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="YAML file: variables by dotted path, with a list of values or with bounds; weights; population, generations.",
)
def tune(search: Path, **options: Any) -> None:
    """Search for hyperparameters with small errors of the test, and tell which are fast."""
    from aiida_gaprss.workflows.hyperparameters import HyperparametersWorkChain

    given = read_yaml(search, "variables: {descriptors.1.cutoff: [4.0, 5.0]}")
    done = _run(HyperparametersWorkChain, "tune", options, search=given)
    if done is not None:
        tell_trials(*done)


@click.command()
@fit_options
@concurrent
@click.option("--members", type=click.IntRange(2, 20), default=5, show_default=True, help="Number of potentials.")
@click.option(
    "--by",
    type=click.Choice(["subset", "seed"]),
    default="subset",
    show_default=True,
    help="Members see a part of the frames each, or differ in their sparse points.",
)
@click.option(
    "--fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Part of the frames that a member sees.",
)
def committee(members: int, by: str, fraction: float, **options: Any) -> None:
    """Fit several potentials: does their spread tell their error?"""
    from aiida_gaprss.workflows.committee import CommitteeWorkChain

    done = _run(CommitteeWorkChain, "committee", options, members=members, by=by, fraction=fraction)
    if done is not None:
        tell_committee(*done)
