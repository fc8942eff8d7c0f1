"""Strategies at equal cost beside each other: rows of a table, and a figure for each error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aiida_gaprss.analysis.errors import UNITS
from aiida_gaprss.outside import harmless
from aiida_gaprss.report.style import COLOURS, MARKERS, PANEL, WHAT, house_style, log_axis
from aiida_gaprss.report.validation import file_name

#: Mean and standard deviation.
Pair = Sequence[float | None]


def score_rows(told: Mapping[str, Any]) -> list[tuple[str, list[Pair]]]:
    """Return errors of the test, and those scores that have limits, by name, each with mean and deviation of every point.

    What is nowhere above zero is left out.
    """
    tests = {f"test: {WHAT[name].lower()} RMSE, {UNITS[name]}": f"{name}_rmse" for name in WHAT}
    rows: list[tuple[str, list[Pair]]] = [(name, [p["errors"][key] for p in told["points"]]) for name, key in tests.items()]
    for key, limit in told["limits"].items():
        words = f"{key}, {limit['unit']}" if limit.get("unit") else key
        rows.append((words, [point["scores"].get(key, (None, None)) for point in told["points"]]))
    return [(name, pairs) for name, pairs in rows if any(mean for mean, _ in pairs)]


def figures(told: Mapping[str, Any]) -> dict[str, Figure | None]:
    """Return a figure for each row, by a name for its file."""
    found: dict[str, Figure | None] = {}
    for name, pairs in score_rows(told):
        found[file_name(name.partition(",")[0], found)] = _figure(told["points"], name, pairs)
    return found


def _figure(points: Sequence[Mapping[str, Any]], name: str, pairs: Sequence[Pair]) -> Figure:
    """Magnitude of an error against the cost of the frames, by strategy."""
    values = np.array([mean if mean else np.nan for mean, _ in pairs])
    above = np.array([deviation or 0.0 for _, deviation in pairs])
    below = np.minimum(above, 0.9 * values)  # a bar that ends at zero has no place on this axis
    spent = np.array([np.nan if point["spent"] is None else point["spent"] for point in points])
    with house_style():
        figure = Figure(figsize=PANEL)
        axes = figure.add_subplot()
        for strategy, colour, marker in zip(dict.fromkeys(p["strategy"] for p in points), cycle(COLOURS), cycle(MARKERS)):
            mine = [number for number, point in enumerate(points) if point["strategy"] == strategy]
            axes.errorbar(
                spent[mine],
                values[mine],
                yerr=[below[mine], above[mine]],
                color=colour,
                marker=marker,
                capsize=3,
                label=harmless(strategy),
            )
        log_axis(axes, np.concatenate([values - below, values + above]))
        log_axis(axes, spent, "x")
        axes.set(xlabel="Cost of the frames, Σ N³ n_k", ylabel=harmless(name))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure
