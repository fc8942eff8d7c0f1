"""What commands print and write of a campaign, a fit, a scan or a search that has ended, at once or after an interruption."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.outside import shown

if TYPE_CHECKING:
    from aiida.orm import ProcessNode, WorkChainNode
    from rich.table import Table

    from aiida_gaprss.outside.terminal import PlainConsole

#: What a user calls our work chains.
WHAT = {
    "RssWorkChain": "campaign",
    "FitWorkChain": "fit",
    "SearchWorkChain": "structure search",
    "ValidateWorkChain": "validation",
    "BuildWorkChain": "database",
    "RelabelWorkChain": "relabelling",
    "DeltaWorkChain": "fit to differences",
    "LearningCurveWorkChain": "learning curve",
    "CompareWorkChain": "comparison",
    "CompareCampaignsWorkChain": "comparison",
    "HyperparametersWorkChain": "search",
    "CommitteeWorkChain": "committee",
}

#: At most so many trials are printed.
MOST_TRIALS = 25


def named(node: WorkChainNode) -> str:
    """Return what a user calls a work chain."""
    return f"{WHAT[node.process_label or '']} {node.label} <{node.pk}>"


def how_to_go_on(node: WorkChainNode) -> str:
    """Say which work chain was interrupted, and what to do."""
    return f"{named(node)} is paused; it goes on with: aiida-gaprss resume {node.pk}"


def tidy(message: str) -> str:
    """Return a report message without AiiDA's prefix."""
    return re.sub(r"^\[\d+\|\w+\|\w+\]: ", "", message)


def refuse_failed(node: ProcessNode, words: str) -> None:
    """Fail if a process did not end well.

    :param words: what comes before its own words.
    :raises click.ClickException: with both.
    """
    if not node.is_finished_ok:
        raise click.ClickException(f"{words}: {node.exit_message or node.process_state}")


def finish(node: WorkChainNode, folder: Path) -> None:
    """Print the results of a campaign, write its report, and fail if it failed."""
    page = print_report(node, folder)
    click.echo(f"Report: {page}")
    refuse_failed(node, f"campaign <{node.pk}> did not finish")


def show_campaign(node: WorkChainNode, state: str, console: PlainConsole) -> None:
    """Print the parts of a campaign.

    :param state: in a word; empty: as the node says it.
    """
    from aiida_gaprss.report.collect import collect
    from aiida_gaprss.report.text import generations_table

    record = collect(node)
    console.print(f"{record.label} <{node.pk}>: {state or record.state}")
    console.print(generations_table(record))


def print_report(node: WorkChainNode, folder: Path, force: bool = False) -> Path:
    """Print the tables of a campaign and write its report; return the page."""
    from aiida_gaprss.analysis.targets import in_words
    from aiida_gaprss.outside.terminal import wide_console
    from aiida_gaprss.report.collect import collect
    from aiida_gaprss.report.text import generations_table, minima_table
    from aiida_gaprss.report.write import write_report

    record = collect(node)
    console = wide_console()
    console.print()
    console.print(generations_table(record))
    if record.minima:
        console.print(minima_table(record.minima))
    if record.hold:
        console.print(record.hold["words"])
    for row in record.found:
        console.print(in_words(row))
    checks = sum(minimum.ref_energy is not None for minimum in record.minima)
    labels = f"{len(record.training_set())} labels in the training set, {checks} more to check the minima"
    if found := sum(generation.counts.found for generation in record.generations):
        labels += f"; {found} of all were found in the profile, not calculated"
    console.print(f"{labels}; campaign {record.label} <{node.pk}>")
    return write_report(record, folder, force)


def ended(node: WorkChainNode, what: str, folder: Path | None, also_failed: bool = False) -> tuple[WorkChainNode, Path]:
    """Return the node of a work chain that has ended, and the folder of its figures, which is made.

    :param also_failed: one that failed is returned, too.
    :raises click.ClickException: if it failed.
    """
    if not also_failed:
        refuse_failed(node, f"{what} <{node.pk}> failed")
    folder = folder or Path(f"gaprss-{what}-{node.pk}")
    folder.mkdir(parents=True, exist_ok=True)
    return node, folder


def tell_delta(node: WorkChainNode, folder: Path) -> None:
    """Print the errors of the fit to differences, and of the sum in its test, and write the figures."""
    tell_fit(node, folder, ("Differences, training", "Sum, test"))
    click.echo(
        f"It is the sum of <{node.inputs.potential.pk}> and of the potential of differences <{node.outputs.difference.pk}>"
    )


def tell_relabelling(node: WorkChainNode) -> None:
    """Print how many frames were labelled, and where they are.

    :raises click.ClickException: if too many failed.
    """
    told = node.outputs.results.get_dict() if "results" in node.outputs else {}
    if "labels" in node.outputs:
        labels = node.outputs.labels
        click.echo(f"{told['labelled']} of {told['chosen']} frames labelled, of {told['given']} given: dataset <{labels.pk}>")
        click.echo(f"level of theory: {shown(labels.level_of_theory, 2000)}")
    refuse_failed(node, f"relabelling <{node.pk}>")


def tell_fit(node: WorkChainNode, folder: Path, titles: tuple[str, str] = ("Training", "Test")) -> None:
    """Print the errors, and write the figures."""
    from aiida_gaprss.outside.terminal import wide_console
    from aiida_gaprss.report.fit_figures import parity
    from aiida_gaprss.report.style import png

    console = wide_console()
    for title, name in zip(titles, ("results", "test_results"), strict=True):
        if name in node.outputs:
            console.print(errors_table(title, node.outputs[name].get_dict()))
    for kind, name in (("training", "predictions"), ("test", "test_predictions")):
        if name in node.outputs:
            for quantity in ("energy", "forces", "virial"):
                figure = parity(node.outputs[name].get_frames(), quantity)
                if figure is not None:
                    (folder / f"{kind}_{quantity}.png").write_bytes(png(figure))
    potential = node.outputs.potential
    console.print(f"Potential <{potential.pk}>; aiida-gaprss potential export {potential.pk} FOLDER writes it")
    console.print(f"Figures: {folder}")


def errors_table(title: str, values: dict[str, Any]) -> Table:
    """Return the table of errors: of all, by config type and by height above the convex hull."""
    from rich.table import Table

    from aiida_gaprss.analysis.numbers import significant

    columns = ("frames", "energy MAE", "RMSE, meV/atom", "forces MAE", "RMSE, eV/Å", "virial RMSE, meV/atom")
    table = Table(title, *columns, box=None)
    groups = {"all": values["errors"], **values["errors_by_config_type"], **values["errors_by_height"]}
    for group, errors in groups.items():
        cells = [errors[q][m] for q, m in (("energy", "mae"), ("energy", "rmse"), ("forces", "mae"), ("forces", "rmse"))]
        cells.append(errors["virial"]["rmse"])
        table.add_row(group, str(errors["frames"]), *("–" if cell is None else significant(cell) for cell in cells))
    return table


def tell_curve(node: WorkChainNode, folder: Path) -> None:
    """Print the errors by number of frames, and write the figures."""
    from aiida_gaprss.report import fit_figures

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
    _write(folder, {quantity: fit_figures.learning_curve(curve, quantity) for quantity in ("energy", "forces", "virial")})


def tell_comparison(node: WorkChainNode, folder: Path) -> None:
    """Print errors and scores, a table for each cost with a column for each strategy, and write figures and numbers."""
    from aiida_gaprss.report.comparison import figures, score_rows
    from aiida_gaprss.report.page import write_json

    if "comparison" not in node.outputs:
        raise click.ClickException(f"comparison <{node.pk}> failed: {node.exit_message or node.process_state}")
    told = node.outputs.comparison.get_dict()
    for cost in dict.fromkeys(point["cost"] for point in told["points"]):
        mine = [number for number, point in enumerate(told["points"]) if point["cost"] == cost]
        points = [told["points"][number] for number in mine]
        rows = [(key, *(_number(point[key]) for point in points)) for key in ("fits", "drawn", "drawn_atoms", "spent")]
        rows += [(name, *(_plus_minus(*values[number]) for number in mine)) for name, values in score_rows(told)]
        _print(f"frames for {cost:.3g} at most", [point["strategy"] for point in points], rows)
    click.echo("mean magnitude ± standard deviation of the fits")
    _failures([(row["name"], row["reason"]) for row in told["rows"]])
    write_json(folder / "comparison.json", told)
    _write(folder, figures(told))
    refuse_failed(node, f"comparison <{node.pk}>")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if value > 9999 else f"{value:g}"


def _plus_minus(mean: float | None, deviation: float | None) -> str:
    return "–" if mean is None else _cell(float(mean)) + (f" ± {_cell(float(deviation))}" if deviation is not None else "")


def tell_trials(node: WorkChainNode, folder: Path) -> None:
    """Print the best trials, and write the settings of the best and the figure."""
    from ruamel.yaml import YAML

    from aiida_gaprss.models.tuning import Tuning
    from aiida_gaprss.report import fit_figures

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
    weights = Tuning(**node.inputs.search.get_dict()).weights
    terms = ((weights.energy, "Energy RMSE (meV/atom)"), (weights.forces, "Forces RMSE (meV/Å)"))
    what = "\n+ ".join(f"{weight:g} · {name}" if weight != 1 else name for weight, name in terms if weight)
    with (folder / "best.yaml").open("w", encoding="utf-8") as handle:
        YAML().dump(node.outputs.best.get_dict(), handle)
    click.echo(f"Potential <{node.outputs.potential.pk}>; settings of the best for --settings: {folder / 'best.yaml'}")
    _write(folder, {"pareto": fit_figures.pareto(trials, front, what)})


def tell_committee(node: WorkChainNode, folder: Path) -> None:
    """Print members and spread, and write the figures."""
    from aiida_gaprss.report import fit_figures

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
    _write(folder, {name: fit_figures.committee(spread, name) for name in ("energy", "forces")})


def tell_search(node: WorkChainNode, folder: Path) -> None:
    """Print minima, targets and counts, and write them."""
    from aiida_gaprss.analysis.numbers import duration
    from aiida_gaprss.analysis.targets import in_words
    from aiida_gaprss.outside.terminal import wide_console
    from aiida_gaprss.report.search import minima_of, write_search
    from aiida_gaprss.report.text import minima_table

    if "summary" not in node.outputs:
        raise click.ClickException(f"search <{node.pk}> gave no results: {node.exit_message or node.process_state}")
    console = wide_console()
    console.print(minima_table(minima_of(node)))
    for row in node.outputs.found["targets"] if "found" in node.outputs else []:
        console.print(in_words(row))
    summary = node.outputs.summary.get_dict()
    counts = ", ".join(f"{number} {what}" for what, number in summary["status"].items())
    if summary["not_reached"]:
        counts += f", {summary['not_reached']} not reached"
    console.print(f"{summary['attempts']} attempts: {counts}; jobs took {duration(summary['wall_s'])}")
    for job, reason in summary["failures"].items():
        console.print(f"{job}: {reason}")
    write_search(node, folder)
    console.print(f"Search <{node.pk}>; minima.csv, minima.xyz, report.json: {folder}")


def tell_build(node: WorkChainNode) -> None:
    """Print the datasets.

    :raises click.ClickException: if something failed.
    """
    from rich.table import Table

    from aiida_gaprss.calculations.build_functions import fate_in_words
    from aiida_gaprss.outside.terminal import wide_console

    results = node.outputs.results.get_dict() if "results" in node.outputs else {}
    told = results.get("strategies", {})
    for name, fate in results.get("crystals", {}).items():
        click.echo(f"crystal {name}: {shown(fate_in_words(fate), 500)}")
    table = Table("strategy", "dataset", "frames", "labelled", "atoms", "largest", box=None)
    for name, one in told.items():
        dataset = node.outputs.datasets[name] if "frames" in one else None
        numbers = [str(one.get(key, "–")) for key in ("frames", "labelled", "atoms", "largest")]
        table.add_row(name, f"<{dataset.pk}>" if dataset is not None else "–", *numbers)
    wide_console().print(table)
    if "labels" in node.outputs:
        click.echo(f"All of them, each structure once: <{node.outputs.labels.pk}>")
    click.echo(f"Database <{node.pk}>; a page and all frames as files: aiida-gaprss report {node.pk}")
    for name, one in told.items():
        if "given_up" in one:
            before = "there is what came before" if one.get("frames") else "no snapshot came before"
            click.echo(f"{name}: {one['given_up']}; {before}")
    failed = [f"{name}: {one['failure']}" for name, one in told.items() if "failure" in one]
    if failed or not node.is_finished_ok:
        raise click.ClickException("; ".join(failed) or f"<{node.pk}>: {node.exit_message or node.process_state}")


def show_validation(node: WorkChainNode, state: str, console: PlainConsole) -> None:
    """Print the lights and the scores of a validation, as far as there are any.

    :param state: in a word; empty: as the node says it.
    """
    from aiida_gaprss.report.validation import record_of

    record = record_of(node)
    console.print(f"validation {node.label} <{node.pk}>: {state or record['state']}")
    _print_scores(record, console)


def tell_validation(node: WorkChainNode, folder: Path, force: bool = False) -> Path:
    """Print the lights and the scores, write the page, and return it.

    :raises click.ClickException: if the validation failed.
    """
    from aiida_gaprss.outside.terminal import wide_console
    from aiida_gaprss.report.validation import record_of
    from aiida_gaprss.report.validation_page import write_validation

    console = wide_console()
    _print_scores(record_of(node), console)
    page = write_validation(node, folder, force)
    console.print(f"Validation <{node.pk}>; page: {page}")
    if node.is_terminated:
        refuse_failed(node, f"validation <{node.pk}>")
    return page


def _print_scores(record: dict[str, Any], console: PlainConsole) -> None:
    from rich.table import Table

    from aiida_gaprss.report.validation import SIGNS, score_rows

    potentials = list(record["potentials"])
    lights = Table("property", *potentials, box=None)
    for name in record["scorecard"]["properties"]:
        cards = [record["scorecard"]["potentials"].get(potential, {"lights": {}}) for potential in potentials]
        lights.add_row(name, *(SIGNS[card["lights"].get(name)] for card in cards))
    console.print(lights)
    console.print()
    scores = Table("property", "crystal", "score", *potentials, "good up to", "look up to", box=None)
    for row in score_rows(record):
        values = [_judged(row, potential) for potential in potentials]
        limits = [_cell(row.get(key)) for key in ("good", "look")]
        scores.add_row(row["property"], row["crystal"], row["score"], *values, *limits)
    console.print(scores)


def _judged(row: dict[str, Any], potential: str) -> str:
    from aiida_gaprss.report.validation import SIGNS

    value = row.get(potential)
    text = value if isinstance(value, str) else _cell(value)
    light = row.get(f"{potential} light")
    return f"{text} {SIGNS[light].partition(' ')[0]}" if light else text


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
    from aiida_gaprss.report.style import png

    for name, figure in found.items():
        if figure is not None:
            (folder / f"{name}.png").write_bytes(png(figure))
    click.echo(f"Figures: {folder}")
