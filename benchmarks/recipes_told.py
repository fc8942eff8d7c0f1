"""Tables and figures of the benchmark of recipes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def found_after(rows: Sequence[dict[str, Any]]) -> int | None:
    """Return the labels that were paid for when the ground state was found: those of the potential that found it."""
    return next((rows[number - 1]["labels"] for number, row in enumerate(rows) if number and row["found"]), None)


def holds_from(rows: Sequence[dict[str, Any]], limit: float) -> int | None:
    """Return the labels from which on, to the end, the potential has the right ground state to within a limit (eV/atom)."""
    start = None
    for row in rows:
        good = row["ground"] and abs(row["error"]) <= limit
        start = (start if start is not None else row["labels"]) if good else None
    return start


def at(rows: Sequence[dict[str, Any]], labels: int, key: str) -> float:
    """Return an error with at most so many labels."""
    return float([row for row in rows if row["labels"] <= labels][-1][key])


def table(results: Sequence[dict[str, Any]], labels: int = 120) -> str:
    """Return a table in markdown: a row for each reference and recipe, the numbers of all seeds, errors as means over them."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        groups[result["reference"], result["recipe"]].append(result)
    head = ["reference", "recipe", "seeds", "found after", "holds to 10 meV", "holds to 1 meV", "energies", "forces", "CPU s"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for (reference, recipe), runs in sorted(groups.items(), key=lambda pair: (pair[0][0] != "sw", *pair[0])):
        courses = [run["rows"] for run in runs]
        errors = [1000 * np.mean([at(rows, labels, "rmse_energy") for rows in courses])]
        errors.append(np.mean([at(rows, labels, "rmse_forces") for rows in courses]))
        cells = [_listed(found_after(rows) for rows in courses)]
        cells += [_listed(holds_from(rows, limit) for rows in courses) for limit in (0.01, 0.001)]
        cells += [f"{errors[0]:.0f}", f"{errors[1]:.2f}", f"{np.mean([run['cpu_s'] for run in runs]):.0f}"]
        lines.append(f"| {reference} | `{recipe}` | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _listed(numbers: Any) -> str:
    return ", ".join("–" if number is None else str(number) for number in numbers)


def draw(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the errors of energies against labels, a panel for each reference, the median over the seeds."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    from aiida_gaprss.report.style import house_style, png

    names = sorted({run["reference"] for run in results}, reverse=True)
    kinds = sorted({run["recipe"] for run in results})
    with house_style():
        figure = Figure(figsize=(4.4 * len(names), 4.4), layout="constrained")
        for number, name in enumerate(names):
            axes = figure.add_subplot(1, len(names), number + 1)
            for place, kind in enumerate(kinds):
                runs = [run["rows"] for run in results if run["recipe"] == kind and run["reference"] == name]
                if runs:
                    _course(axes, runs, kind, colormaps["tab10"](place))
            axes.set(yscale="log", xlabel="Labels", title=name, ylabel="error of energies (meV/atom)" if number == 0 else "")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        path.write_bytes(png(figure))


def _course(axes: Any, runs: Sequence[Sequence[dict[str, Any]]], kind: str, colour: Any) -> None:
    labels = sorted({row["labels"] for rows in runs for row in rows} & set(range(max(r[0]["labels"] for r in runs), 10_000)))
    medians = [np.median([1000 * at(rows, n, "rmse_energy") for rows in runs]) for n in labels]
    axes.plot(labels, medians, "-", color=colour, linewidth=2.0 if kind == "quick" else 1.3, label=kind)
