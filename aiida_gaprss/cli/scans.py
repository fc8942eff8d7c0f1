"""``aiida-gaprss learning-curve``, ``tune`` and ``committee``: many fits with one test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.fit import data_and_settings, fit_inputs, fit_options, read_yaml, run_or_submit

if TYPE_CHECKING:
    from aiida.engine import WorkChain
    from aiida.orm import WorkChainNode

#: At most so many trials are printed.
MOST_TRIALS = 25

concurrent = click.option("--concurrent", type=click.IntRange(min=1), default=2, show_default=True, help="Fits at one time.")


def _run(process: type[WorkChain], what: str, options: dict[str, Any], **more: Any) -> Any:
    from aiida.orm import to_aiida_type

    inputs = fit_inputs(*data_and_settings(options), options)  # which loads the profile: no node can be made before
    inputs |= {key: to_aiida_type(value) for key, value in more.items()}
    return run_or_submit(process, {**inputs, "max_concurrent": options["concurrent"]}, what, options)


def _numbers(_: Any, option: click.Parameter, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{text!r}; expected numbers with commas between them, e.g. 0.1,0.5,1") from error


@click.command("learning-curve")
@fit_options
@concurrent
@click.option("--sizes", callback=_numbers, default="0.1,0.2,0.4,0.8,1", show_default=True, help="Parts of the frames.")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Fits of each size.")
def learning_curve(**options: Any) -> None:
    """Fit to growing parts of the frames: is the error still falling?"""
    from aiida_gaprss.workflows.learning_curve import LearningCurveWorkChain

    more = {key: options[key] for key in ("sizes", "repeats")}
    done = _run(LearningCurveWorkChain, "learning-curve", options, **more)
    if done is not None:
        tell_curve(*done)


def tell_curve(node: WorkChainNode, folder: Path) -> None:
    """Print the errors by number of frames, and write the figures."""
    from aiida_gaprss.report import figures

    curve = node.outputs.curve.get_dict()
    columns = ("fits", "frames", "energy RMSE, meV/atom", "forces RMSE, eV/Å", "virial RMSE, meV/atom")
    rows = [
        [
            f"{row['size']:.0%}",
            f"{row['fits']}",
            "–" if row["frames"] is None else f"{row['frames']:g}",
            *(_with_deviation(row, f"{quantity}_rmse") for quantity in ("energy", "forces", "virial")),
        ]
        for row in curve["sizes"]
    ]
    _print("size", columns, rows)
    _failures([(f"{row['size']:.0%}, repeat {row['repeat'] + 1}", row["reason"]) for row in curve["rows"]])
    _write(folder, {quantity: figures.learning_curve(curve, quantity) for quantity in ("energy", "forces", "virial")})


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


def tell_trials(node: WorkChainNode, folder: Path) -> None:
    """Print the best trials, and write the settings of the best and the figure."""
    from ruamel.yaml import YAML

    from aiida_gaprss.models.tuning import Search
    from aiida_gaprss.report import figures

    trials, front = node.outputs.trials["rows"], node.outputs.pareto["rows"]
    paths = list(trials[0]["values"])
    columns = (*paths, "objective", "energy RMSE, meV/atom", "forces RMSE, eV/Å", "ms/atom")
    rows = [
        [
            "*" if row in front else "",
            *(str(row["values"][path]) for path in paths),
            *(_cell(row[key]) for key in ("objective", "energy_rmse", "forces_rmse", "ms_per_atom")),
        ]
        for row in [row for row in trials if row["reason"] is None][:MOST_TRIALS]
    ]
    _print("front", columns, rows)
    _failures([(", ".join(f"{k} {v}" for k, v in row["values"].items()), row["reason"]) for row in trials])
    weights = Search(**node.inputs.search.get_dict()).weights
    terms = ((weights.energy, "Energy RMSE (meV/atom)"), (weights.forces, "Forces RMSE (meV/Å)"))
    what = "\n+ ".join(f"{weight:g} · {name}" if weight != 1 else name for weight, name in terms if weight)
    with (folder / "best.yaml").open("w", encoding="utf-8") as handle:
        YAML().dump(node.outputs.best.get_dict(), handle)
    click.echo(f"Potential <{node.outputs.potential.pk}>; settings of the best for --settings: {folder / 'best.yaml'}")
    _write(folder, {"pareto": figures.pareto(trials, front, what)})


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


def tell_committee(node: WorkChainNode, folder: Path) -> None:
    """Print members and spread, and write the figures."""
    from aiida_gaprss.report import figures

    columns = ("potential", "frames fitted to", "energy RMSE, meV/atom", "forces RMSE, eV/Å")
    table = [(f"m{row['member']:02d}", row) for row in node.outputs.errors["rows"]]
    rows = [
        (name, f"<{node.outputs.potentials[name].pk}>", *(_cell(row[key]) for key in ("frames", "energy_rmse", "forces_rmse")))
        for name, row in table
        if row["reason"] is None
    ]
    _print("", columns, rows)
    _failures([(name, row["reason"]) for name, row in table])
    spread = node.outputs.spread.get_dict()
    found = [(name, spread[name]) for name in ("energy", "forces") if name in spread]
    keys = ("spread", "error", "spearman")
    _print(
        "committee",
        ("spread among members", "error of their mean", "rank correlation"),
        [(f"{name}, {'meV/atom' if name == 'energy' else 'eV/Å'}", *(_cell(x[key]) for key in keys)) for name, x in found],
    )
    _write(folder, {name: figures.committee(spread, name) for name in ("energy", "forces")})


def _cell(value: float | None) -> str:
    from aiida_gaprss.analysis.numbers import significant

    return f"{value:g}" if isinstance(value, int) else significant(value)


def _with_deviation(row: dict[str, Any], key: str) -> str:
    deviation = row[f"{key}_std"]
    return _cell(row[key]) + (f" ± {_cell(deviation)}" if deviation is not None else "")


def _print(first: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    from aiida_gaprss.outside.terminal import wide_console

    table = Table(first, *columns, box=None)
    for row in rows:
        table.add_row(*row)
    wide_console().print(table)


def _failures(reasons: Sequence[tuple[str, str | None]]) -> None:
    for name, reason in reasons:
        if reason is not None:
            click.echo(f"{name} failed: {reason}")


def _write(folder: Path, found: dict[str, Any]) -> None:
    from aiida_gaprss.report.figures import png

    for name, figure in found.items():
        if figure is not None:
            (folder / f"{name}.png").write_bytes(png(figure))
    click.echo(f"Figures: {folder}")
