"""Campaigns side by side: tables for terminal and page, and figures of errors against labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from aiida.orm import WorkChainNode
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aiida_gaprss.analysis.numbers import significant, space_group
from aiida_gaprss.analysis.side_by_side import AT_END, Reached
from aiida_gaprss.outside import harmless
from aiida_gaprss.report.state import state_of, whole
from aiida_gaprss.report.style import COLOURS, MARKERS, WIDE, house_style, log_axis

#: What is drawn against the labels: title, unit, what to look for.
FIGURES = {
    "ground_error": ("Error of the ground state", "meV/atom", "A line is broken where the potential loses the structure."),
    "energy_rmse": ("Energy RMSE of low frames", "meV/atom", "Of all frames of the test, seen in the training or not."),
    "forces_rmse": ("Force RMSE of low frames", "eV/Å", "Of all frames of the test, seen in the training or not."),
}

#: An error that is smaller, as of forces that are zero by symmetry, has no place on an axis of magnitudes.
SMALLEST = 1e-6

#: Heads of the tables: of files, of parts of campaigns.
OF_FILES = (
    *("file", "campaigns", "ground state known", "± 10 meV/atom", "± 1 meV/atom"),
    *("its error", "lowest, error", "energy RMSE", "force RMSE"),
)
OF_PARTS = (
    *("campaign", "part", "labels", "known", "error", "held", "lowest, error", "swapped"),
    *("energy RMSE", "unseen", "force RMSE", "unseen", "converged", "given up"),
)


def told_of(node: WorkChainNode) -> dict[str, Any]:
    """Return all that a comparison tells, with what it is called and its state.

    :raises CollectError: if its nodes are not those of a comparison.
    """
    with whole("comparison of campaigns", node):
        told = node.outputs.comparison.get_dict() if "comparison" in node.outputs else {"campaigns": [], "files": {}, "test": {}}
        limits = {key: 1000 * node.inputs.settings[key] for key in ("coarse", "fine")}
        return {"label": node.label, "uuid": node.uuid, "pk": node.pk, "state": state_of(node), "limits": limits, **told}


def heads_of_files(told: Mapping[str, Any]) -> list[str]:
    """Return the heads of the table of files, with the limits that were asked for."""
    limits = iter(f"± {told['limits'][key]:g} meV/atom" for key in ("coarse", "fine"))
    return [next(limits) if head.startswith("±") else head for head in OF_FILES]


def rows_of_files(told: Mapping[str, Any]) -> list[list[str]]:
    """Return for each file, in words: labels until something holds, and errors at the end, median and range over seeds."""
    out = []
    for file, one in told["files"].items():
        until = [_until(one[key]) for key in ("found", "coarse", "fine")]
        end = [_median(one["end"][key], "lost" if key == AT_END[0] else "–") for key in AT_END]
        out.append([file, str(one["campaigns"]), *until, *end])
    return out


def _until(one: Mapping[str, Any]) -> str:
    low, high = (_labels(each) for each in one["range"])
    return _labels(one["median"]) + (f" ({low} – {high})" if low != high else "")


def _labels(one: Mapping[str, Any]) -> str:
    return str(Reached(**one))


def _median(one: Mapping[str, Any], without: str) -> str:
    """Return median and range in words.

    :param without: what stands where there is no error.
    """
    middle, low, high = (without if value is None else significant(value) for value in (one["median"], *one["range"]))
    return middle + (f" ({low} – {high})" if low != high else "")


def rows_of_parts(told: Mapping[str, Any]) -> list[list[str]]:
    """Return for each part of each campaign, in words, what its potential makes of the test."""
    return [_row(campaign["name"], row) for campaign in told["campaigns"] for row in campaign["rows"]]


def _row(name: str, row: Mapping[str, Any]) -> list[str]:
    ends = [f"{row[key]} of {row['relaxations']}" if row.get(key) is not None else "–" for key in ("converged", "given_up")]
    error = significant(row["ground_error"]) if row["ground_held"] else "lost"
    return [
        *(name, row["tag"], str(row["labels"]), "yes" if row["known"] else "no", error),
        f"{row['held']} of {row['of']}",
        significant(row["difference"]),
        f"{row['swapped']} of {row['pairs']}",
        *(significant(each[key]) for key in ("energy_rmse", "forces_rmse") for each in (row, row["unseen"])),
        *ends,
    ]


def words_of_test(told: Mapping[str, Any]) -> list[str]:
    """Return what the test is, the lowest structures one by one, and campaigns that failed."""
    test, names = told["test"], {one["key"]: one["name"] for one in told["campaigns"]}
    if not test:
        return ["nothing is compared yet"]
    lines = [f"{test['frames']} labelled frames up to {test['window']:g} eV/atom {test['energies']}, each structure once"]
    for number, one in enumerate(test["lowest"], start=1):
        symbol = f"{space_group(one['symbol'])} ({one['space_group']})"
        height = f"{1000 * one['height']:.1f} meV/atom"
        maker = one["frame_id"].partition(".")[0]
        whose = f"{one['from']} of {names.get(maker, maker)}"
        lines.append(f"{number}. {symbol}, {one['primitive_atoms']} atoms, {height}, {whose}")
    return lines


def failures(told: Mapping[str, Any]) -> list[str]:
    """Return the campaigns that failed, and what there is of them."""
    return [
        f"{one['name']} failed and counts for no file: {one['failure']}; it has {len(one['rows'])} potentials"
        for one in told["campaigns"]
        if one["failure"]
    ]


def figures(told: Mapping[str, Any]) -> dict[str, Figure | None]:
    """Return the figures by name; None where there is nothing to draw."""
    return {key: _figure(told["campaigns"], key) for key in FIGURES}


def _figure(campaigns: Sequence[Mapping[str, Any]], key: str) -> Figure | None:
    """Draw an error against the labels: of each file a colour, thin lines for the seeds, a thick one for their median."""
    title, unit, _ = FIGURES[key]
    lines = {one["key"]: _line(one["rows"], key) for one in campaigns if one["rows"]}
    values = np.concatenate([y for _, y in lines.values()]) if lines else np.zeros(0)
    if not np.isfinite(values).any():
        return None
    with house_style():
        figure = Figure(figsize=WIDE)
        axes = figure.add_subplot()
        for file, colour, marker in zip(dict.fromkeys(one["file"] for one in campaigns), cycle(COLOURS), cycle(MARKERS)):
            mine = [one for one in campaigns if one["file"] == file and one["rows"]]
            for one in mine:
                axes.plot(*lines[one["key"]], color=colour, marker=marker, markersize=2.5, linewidth=0.7, alpha=0.55)
            done = [one["rows"] for one in mine if not one["failure"]]
            _draw_median(axes, done, key, {"color": colour, "label": harmless(file)})
        log_axis(axes, values)
        axes.set(xlabel="Labels", ylabel=f"{title} ({unit})")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _line(rows: Iterable[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and magnitudes of errors; NaN where there is none to be drawn, or the ground state is lost."""
    rows = list(rows)
    values = [row[key] if key != "ground_error" or row["ground_held"] else None for row in rows]
    errors = [abs(value) if value is not None and abs(value) > SMALLEST else np.nan for value in values]
    return np.array([row["labels"] for row in rows], dtype=float), np.array(errors, dtype=float)


def _draw_median(axes: Axes, campaigns: Sequence[Sequence[Mapping[str, Any]]], key: str, style: Mapping[str, Any]) -> None:
    """Draw the median over seeds, part by part, as far as more than half of them have an error."""
    tags = dict.fromkeys(row["tag"] for rows in campaigns for row in rows)
    points = [medians_of([row for rows in campaigns for row in rows if row["tag"] == tag], key, len(campaigns)) for tag in tags]
    axes.plot(*(zip(*points, strict=True) if points else ([], [])), linewidth=2.6, **style)


def medians_of(rows: Sequence[Mapping[str, Any]], key: str, campaigns: int) -> tuple[float, float]:
    """Return medians of labels and error over the seeds, of one part; an error that is not there is larger than any.

    :param campaigns: number of seeds; NaN, if half of them have no such part, or the median has no error.
    """
    labels, values = _line(rows, key)
    if 2 * len(rows) <= campaigns:
        return np.nan, np.nan
    middle = float(np.median(np.where(np.isnan(values), np.inf, values)))
    return float(np.median(labels)), middle if np.isfinite(middle) else np.nan
