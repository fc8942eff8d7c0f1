"""The figures of fits: parity, learning curve, Pareto front, committee. Each is a ``Figure``, or None with nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from aiida_gaprss.analysis.committee import ZERO
from aiida_gaprss.analysis.errors import UNITS, errors, pairs
from aiida_gaprss.analysis.numbers import significant
from aiida_gaprss.analysis.pareto import front as front_of
from aiida_gaprss.analysis.zero import EnergyZero
from aiida_gaprss.frames import PREDICTION, energy
from aiida_gaprss.report.style import BLUE, GREY, PANEL, VERMILION, WHAT, WIDE, axis_limits, house_style, log_axis, note_outside

#: More points than this are drawn as a density.
MANY_POINTS = 20_000


def learning_curve(curve: dict[str, Any], quantity: str) -> Figure | None:
    """Errors of the test against the number of frames fitted to, with their standard deviation among the repeats."""
    sizes = [size for size in curve["sizes"] if size[f"{quantity}_rmse"]]
    if not sizes:
        return None
    x = np.array([size["frames"] for size in sizes])
    with house_style():
        figure = Figure(figsize=PANEL)
        axes = figure.add_subplot()
        shown = []
        for measure, line, face in (("rmse", "-", BLUE), ("mae", ":", "white")):
            key = f"{quantity}_{measure}"
            y = np.array([size[key] for size in sizes])
            deviation = np.array([size[f"{key}_std"] or 0.0 for size in sizes])
            bars = axes.errorbar(
                x, y, yerr=deviation, capsize=3, color=BLUE, linestyle=line, linewidth=1.6, label=measure.upper()
            )
            bars[0].set(marker="o", markersize=6.5, markerfacecolor=face)
            shown += [y, y + deviation, np.where(deviation < 0.8 * y, y - deviation, y)]
        log_axis(axes, np.concatenate(shown))
        log_axis(axes, x, "x")
        axes.set_xticks(x, [f"{n:g}" for n in x])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="Frames fitted to", ylabel=f"{WHAT[quantity]} error ({UNITS[quantity]})")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def pareto(trials: Sequence[dict[str, Any]], front: Sequence[dict[str, Any]], what: str) -> Figure | None:
    """Objective of all trials against the CPU time an atom takes, and the front of those that no other outdoes.

    :param what: name of the objective.
    """
    done = [row for row in trials if row["objective"] and row["ms_per_atom"]]
    if not done:
        return None
    values, best = (np.array([(row["ms_per_atom"], row["objective"]) for row in rows]) for rows in (done, front))
    return _front(values, best, ("trials", "CPU time per atom (ms)", what))


def _front(values: np.ndarray, best: np.ndarray, words: tuple[str, str, str]) -> Figure:
    """Draw points, and the front among them, over logarithmic axes.

    :param values: of all points, and of the front, shape ``(n, 2)``; ``words``: what they are, and the labels of the axes.
    """
    with house_style():
        figure = Figure(figsize=WIDE)
        axes = figure.add_subplot()
        axes.plot(*values.T, "o", color=GREY, alpha=0.6, markersize=6, markeredgewidth=0, label=words[0])
        axes.plot(*best.T, "o-", color=VERMILION, markersize=7, linewidth=1.6, drawstyle="steps-post", label="Pareto front")
        log_axis(axes, values[:, 0], "x")
        log_axis(axes, values[:, 1])
        axes.set(xlabel=words[1], ylabel=words[2])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def error_cost(points: Mapping[str, tuple[float, float]], what: str) -> Figure | None:
    """Error of several potentials against what they cost, by name, and the front of those that no other outdoes.

    :param points: milliseconds per atom, and error; those that are not both positive numbers are left out.
    :param what: name and unit of the error.
    """
    shown = {name: point for name, point in points.items() if np.isfinite(point).all() and min(point) > 0}
    if not shown:
        return None
    values = np.array(list(shown.values()))
    figure = _front(values, values[front_of(list(shown.values()))], ("potentials", "Time per atom (ms)", what))
    axes = figure.axes[0]
    middle = np.exp(np.log(axes.get_xlim()).mean())
    with house_style():
        for name, point in shown.items():  # towards the middle, where there is room
            left = point[0] <= middle
            place, side = (6 if left else -6, 6), "left" if left else "right"
            axes.annotate(name, point, place, textcoords="offset points", ha=side, fontsize=9)
    return figure


def committee(spread: dict[str, Any], quantity: str) -> Figure | None:
    """Error of the mean of a committee against the spread among its members, by frame."""
    keys = (f"{quantity}_spread", f"{quantity}_error")
    rows = [row for row in spread["frames"] if min(row.get(key, 0.0) for key in keys) > ZERO]
    if not rows:
        return None
    x, y = np.array([[row[key] for key in keys] for row in rows]).T
    with house_style():
        figure = Figure(figsize=PANEL)
        axes = figure.add_subplot()
        axes.plot(x, y, "o", color=BLUE, alpha=0.6, markersize=6, markeredgewidth=0)
        axes.axline((x[0], x[0]), (2 * x[0], 2 * x[0]), color=GREY, linewidth=0.9, zorder=1)
        log_axis(axes, x, "x")
        log_axis(axes, y)
        unit = UNITS[quantity]
        axes.set(xlabel=f"{WHAT[quantity]} spread ({unit})", ylabel=f"{WHAT[quantity]} error of the mean ({unit})")
    return figure


def parity(frames: Sequence[Atoms], quantity: str) -> Figure | None:
    """Prediction against reference, and below their difference, for all frames that have both."""
    zero = EnergyZero(frames) if quantity == "energy" else None
    reference, prediction = _parity_values(frames, quantity, zero)
    if not reference.size:
        return None
    statistics = getattr(errors(frames), quantity)
    unit, scale = ("eV/Å", 1.0) if quantity == "forces" else ("eV/atom", 1000.0)
    difference = (prediction - reference) * scale
    with house_style():
        figure = Figure(figsize=(PANEL[0], 4.3))
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.15]})
        limits = axis_limits(reference, 0.5, 99.5)
        reach = 1.15 * max(float(np.percentile(np.abs(difference), 99)), 1e-6)
        for axes, y, box in ((top, prediction, limits), (bottom, difference, (-reach, reach))):
            if len(y) > MANY_POINTS:
                inside = (reference >= limits[0]) & (reference <= limits[1]) & (y >= box[0]) & (y <= box[1])
                extent = (*limits, *box)
                axes.hexbin(reference[inside], y[inside], gridsize=70, bins="log", extent=extent, mincnt=1, cmap="Blues")
            else:
                axes.plot(reference, y, ".", color=BLUE, markersize=5, alpha=0.5, markeredgewidth=0)
        top.plot(limits, limits, color=GREY, linewidth=0.9, zorder=1)
        bottom.axhline(0, color=GREY, linewidth=0.9, zorder=1)
        top.set(xlim=limits, ylim=limits, ylabel=f"potential ({unit})")
        what = f"energy\n{zero.words}" if zero else {"forces": "force component", "virial": "virial component"}[quantity]
        bottom.set(ylim=(-reach, reach), xlabel=f"Reference {what} ({unit})")
        bottom.set_ylabel("error\n(meV/atom)" if scale > 1 else "error\n(eV/Å)")
        named = (("RMSE", statistics.rmse), ("MAE", statistics.mae), ("largest", statistics.largest))
        lines = [f"{name} {significant(value)} {UNITS[quantity]}" for name, value in named]
        top.text(0.04, 0.96, "\n".join(lines), transform=top.transAxes, va="top", linespacing=1.5)
        outside = (reference < limits[0]) | (reference > limits[1]) | (prediction < limits[0]) | (prediction > limits[1])
        note_outside(top, int((outside | (np.abs(difference) > reach)).sum()), len(reference))
        figure.align_ylabels([top, bottom])
    return figure


def _parity_values(frames: Sequence[Atoms], quantity: str, zero: EnergyZero | None) -> tuple[np.ndarray, np.ndarray]:
    if zero is None:
        return pairs(frames, quantity)
    both = [a for a in frames if energy(a) is not None and energy(a, PREDICTION) is not None]
    reference, prediction = pairs(both, quantity)
    shift = np.array([zero.of(a) for a in both])
    return reference - shift, prediction - shift
