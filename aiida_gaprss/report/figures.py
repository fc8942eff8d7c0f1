"""The figures of a campaign. Each function returns a matplotlib ``Figure``, or None if the record has nothing to show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from ase import Atoms
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from aiida_gaprss.analysis.convergence import CRITERIA
from aiida_gaprss.analysis.errors import UNITS
from aiida_gaprss.analysis.hull import phase_name
from aiida_gaprss.analysis.numbers import number, subscripts
from aiida_gaprss.analysis.zero import EnergyZero, bulk_frames
from aiida_gaprss.campaign.stages import CRYSTALS, DATABASE, is_refinement, is_search, round_of
from aiida_gaprss.outside import harmless
from aiida_gaprss.report.record import CampaignRecord, GenerationRecord
from aiida_gaprss.report.style import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    PANEL,
    VERMILION,
    WHAT,
    WIDE,
    axis_limits,
    house_style,
    log_axis,
    note_outside,
)
from aiida_gaprss.report.tables import progress_of

#: At most so many rows in the box plot before it falls back to one per generation.
MANY_BOXES = 16


def generation_colours(n: int) -> list[tuple[float, float, float, float]]:
    """Return ``n`` sequential colours, early light green to late purple as in Deringer et al. 2018."""
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0.82, 0.04, n)] if n > 1 else [mpl.colormaps["viridis"](0.3)]


def part_colours(generations: Sequence[GenerationRecord]) -> list[Any]:
    """Return a colour for every part of a campaign: sequential for generations, one each for what else there is."""
    sequence = iter(generation_colours(sum(g.index is not None for g in generations)))
    return [next(sequence) if g.index is not None else _colour_of(g.tag) for g in generations]


def _colour_of(tag: str) -> str:
    if is_search(tag) or is_refinement(tag):
        return COLOURS[3] if is_search(tag) else ORANGE
    return {DATABASE: "#9ca3af", CRYSTALS: VERMILION}.get(tag, GREY)


class Group(NamedTuple):
    """Frames that are drawn alike."""

    name: str
    frames: Sequence[Atoms]
    colour: Any
    marker: str = "o"


def _groups(shown: Sequence[tuple[GenerationRecord, Sequence[Atoms]]]) -> list[Group]:
    """Return the frames of every part of a campaign with its name and colour."""
    colours = part_colours([generation for generation, _ in shown])
    return [Group(generation.name, frames, colour) for (generation, frames), colour in zip(shown, colours, strict=True)]


def _with_frames(record: CampaignRecord) -> list[tuple[GenerationRecord, list[Atoms]]]:
    pairs_ = [(generation, bulk_frames(generation.frames)) for generation in record.generations]
    return [(generation, frames) for generation, frames in pairs_ if frames]


def energy_volume(record: CampaignRecord) -> Figure | None:
    """Reference energy above the lowest, or above the convex hull (eV/atom), against volume (Å³/atom), by generation."""
    groups = _groups(_with_frames(record))
    return energies_and_volumes(groups, record.zero) if groups else None


def energies_and_volumes(groups: Sequence[Group], zero: EnergyZero) -> Figure:
    """Reference energy above a zero (eV/atom) against volume (Å³/atom) of groups of labelled frames."""
    with house_style():
        figure = Figure(figsize=wide(len(groups)))
        axes = figure.add_subplot()
        points = [np.array([(abs(a.cell.volume) / len(a), zero.above(a)) for a in group.frames], dtype=float) for group in groups]
        every = np.concatenate(points)
        x_limits, (_, y_high) = axis_limits(every[:, 0]), axis_limits(every[:, 1], low=0.0)
        y_limits = (-0.04 * y_high, y_high)
        size = 26 if len(every) < 500 else 14 if len(every) < 3000 else 8
        _scatter(axes, groups, points, size)
        inside = (
            (every[:, 0] >= x_limits[0])
            & (every[:, 0] <= x_limits[1])
            & (every[:, 1] >= y_limits[0])
            & (every[:, 1] <= y_limits[1])
        )
        note_outside(axes, int((~inside).sum()), len(every))
        axes.set(xlim=x_limits, ylim=y_limits, xlabel="Volume (Å³/atom)", ylabel=f"Reference energy\n{zero.words} (eV/atom)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, markerscale=1.6)
    return figure


def wide(entries: int) -> tuple[float, float]:
    """Return the size of a wide figure, in inches, with room for so many entries of a legend in three columns below it."""
    return WIDE[0], WIDE[1] + 0.21 * max(0, math.ceil(entries / 3) - 2)


def _scatter(axes: Axes, groups: Sequence[Group], points: Sequence[np.ndarray], size: float) -> None:
    """Draw points (n, 2) of every group in its colour, with its name and their number for the legend."""
    how: dict[str, Any] = {"alpha": 0.75, "linewidths": 0.3, "edgecolors": "white"}
    for group, xy in zip(groups, points, strict=True):
        label = f"{group.name} ({len(xy)})"
        axes.scatter(xy[:, 0], xy[:, 1], s=size, color=group.colour, marker=group.marker, label=label, **how)


def hull(record: CampaignRecord) -> Figure | None:
    """Formation energy (eV/atom) against composition by generation, and the convex hull with its phases; for two elements.

    The hull is that of all labels: the minima of the last search that the reference has checked are among them.
    """
    shown = _with_frames(record)
    checked = record.checked_minima()
    found = record.zero_with_minima.hull
    if not shown or found is None or len(found.elements) != 2:
        return None
    first, second = found.elements

    def places(frames: Sequence[Atoms]) -> np.ndarray:
        return np.array([(found.fraction(a, second), found.formation_energy(a)) for a in frames]).reshape(-1, 2)

    points = [places(frames) for _, frames in shown]
    every = np.concatenate([*points, places(checked)])
    line = np.array([(found.fraction(a, second), found.formation_energy(a)) for a in found.stable])
    depth = float(-line[:, 1].min())
    # The hull is shallow where random cells are high: what lies far above it is left out.
    top = min(float(every[:, 1].max()) + 0.1 * depth, max(4 * depth, 1.1 * float(np.median(every[:, 1])), 0.02))
    bottom = -1.3 * depth - 0.1 * top
    with house_style():
        figure = Figure(figsize=wide(len(shown) + 1 + bool(checked)))
        axes = figure.add_subplot()
        size = 26 if len(every) < 500 else 12
        _scatter(axes, _groups(shown), points, size)
        if checked:
            marked = f"minima of the search ({len(checked)})"
            x, y = places(checked).T
            axes.scatter(x, y, s=1.6 * size, marker="D", facecolors="none", edgecolors=VERMILION, linewidths=1.4, label=marked)
        axes.plot(line[:, 0], line[:, 1], "o-", color="#111827", markersize=5, linewidth=1.4, label="convex hull")
        for atoms, place in zip(found.stable, line, strict=True):
            side = {0.0: "left", 1.0: "right"}.get(float(place[0]), "center")
            name = subscripts(phase_name(atoms))
            axes.annotate(name, (place[0], place[1]), xytext=(0, -6), textcoords="offset points", ha=side, va="top")
        note_outside(axes, int((every[:, 1] > top).sum()), len(every))
        axes.set(xlim=(-0.03, 1.03), ylim=(bottom, top), ylabel="Formation energy (eV/atom)")
        axes.set_xlabel(f"Atomic fraction of {second} in {first}–{second}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, markerscale=1.3)
    return figure


def energy_boxes(record: CampaignRecord) -> Figure | None:
    """Distribution of the reference energies by generation, and by kind of frame where a generation has several."""
    shown = _with_frames(record)
    if not shown:
        return None
    zero = record.zero
    rows: list[tuple[str, list[Atoms], Any]] = []
    kinds = [list(dict.fromkeys(str(a.info.get("config_type", "")) for a in frames)) for _, frames in shown]
    split = sum(len(k) for k in kinds) <= MANY_BOXES
    for (generation, frames), kinds_here, colour in zip(shown, kinds, part_colours([g for g, _ in shown]), strict=True):
        for kind in kinds_here if split and len(kinds_here) > 1 else [None]:
            members = [a for a in frames if kind is None or str(a.info.get("config_type", "")) == kind]
            name = generation.name if kind is None else f"{generation.name}\n{kind or 'no type'}"
            rows.append((f"{name} ({len(members)})", members, colour))
    with house_style():
        figure = Figure(figsize=(WIDE[0], 1.3 + 0.46 * len(rows)))
        axes = figure.add_subplot()
        for y, (_, members, colour) in enumerate(rows):
            values = np.array([zero.above(a) for a in members])
            low, q16, median, q84, high = np.percentile(values, [0, 16, 50, 84, 100])
            box = {"med": median, "q1": q16, "q3": q84, "whislo": low, "whishi": high}
            axes.bxp(
                [box],
                positions=[y],
                orientation="horizontal",
                widths=0.55,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": to_rgba(colour, 0.55), "edgecolor": colour},
                medianprops={"color": "#111827", "linewidth": 2.2},
                whiskerprops={"color": colour, "linewidth": 1.2},
                capprops={"color": colour, "linewidth": 1.2},
                manage_ticks=False,
            )
            place = axes.get_yaxis_transform()
            axes.text(1.02, y, number(median, 3), fontweight="bold", transform=place, va="center")
        axes.text(1.02, -0.85, "median", color=GREY, fontsize=9.5, transform=axes.get_yaxis_transform(), va="center")
        axes.set_xscale("symlog", linthresh=0.1, linscale=0.6)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(left=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_yticks(range(len(rows)), [harmless(name) for name, _, _ in rows])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"Reference energy {zero.words}\n(eV/atom; linear below 0.1)")
    return figure


def _short(generation: GenerationRecord) -> str:
    """Return the name of a part for an axis: its number, or the tag of what comes after the generations."""
    return generation.tag if round_of(generation.tag) else generation.name.removeprefix("generation ")


def error_by_generation(record: CampaignRecord, quantity: str) -> Figure | None:
    """Errors on new frames before they were fitted, and on the training set after the fit, by generation."""
    series: dict[tuple[str, str], list[float]] = {}
    for measure in ("rmse", "mae"):
        key = f"{quantity}_{measure}"
        series["new", measure] = [g.new_errors.flat().get(key, np.nan) for g in record.generations]
        series["fit", measure] = [g.training_errors.get(key, np.nan) for g in record.generations]
    values = np.array(list(series.values()), dtype=float)
    values[~(values > 0)] = np.nan  # what a log scale cannot show
    used = np.isfinite(values).any(axis=0) if values.size else np.zeros(0, dtype=bool)
    if not used.any():
        return None
    names = [_short(g) for g, keep in zip(record.generations, used, strict=True) if keep]
    x = np.arange(len(names))
    with house_style():
        figure = Figure(figsize=PANEL)
        axes = figure.add_subplot()
        for (what, measure), y in zip(series, values, strict=True):
            colour, marker = (VERMILION, "o") if what == "new" else (BLUE, "s")
            line, face = ("-", colour) if measure == "rmse" else (":", "white")
            axes.plot(x, y[used], line, color=colour, marker=marker, markerfacecolor=face, markersize=6.5, linewidth=1.6)
        log_axis(axes, values)
        axes.set_xticks(x, names)
        if any(len(a) + len(b) >= 68 / len(names) for a, b in pairwise(names)):  # 34 letters side by side
            axes.set_xticks(x, names, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.4, len(x) - 0.6)
        axes.set(xlabel="Generation", ylabel=f"{WHAT[quantity]} error ({UNITS[quantity]})")
        present = {part for key, y in zip(series, values, strict=True) if np.isfinite(y).any() for part in key}
        handles = {
            "new": Line2D([], [], color=VERMILION, marker="o", label="new frames, before"),
            "fit": Line2D([], [], color=BLUE, marker="s", label="training set, after"),
            "rmse": Line2D([], [], color=GREY, linestyle="-", label="RMSE"),
            "mae": Line2D([], [], color=GREY, linestyle=":", label="MAE"),
        }
        shown = [handle for part, handle in handles.items() if part in present]
        figure.legend(handles=shown, loc="outside upper center", ncols=2, columnspacing=1.2, handlelength=1.8)
    return figure


#: The measures of progress as the axes name them.
PROGRESS = {
    "energy_change": "Change of predicted energies",
    "distribution": "Shift of the labels' energies",
    "discovery": "New among the low minima",
    "new_error": "Error on new end points",
}


def progress(record: CampaignRecord, criterion: str) -> Figure | None:
    """One measure of what the generations changed, and its threshold if there is one (``analysis.convergence.CRITERIA``)."""
    _, unit, factor = CRITERIA[criterion]
    rows = zip(record.generations, progress_of(record), strict=True)
    points = [(g.index, factor * row[criterion]) for g, row in rows if row.get(criterion) is not None]
    limit = record.stop.thresholds().get(criterion) if record.stop else None
    if len(points) < (2 if limit is None else 1):  # one number is no course
        return None
    x, y = np.array(points, dtype=float).T
    drawn = np.append(y, [] if limit is None else [factor * limit])
    with house_style():
        figure = Figure(figsize=PANEL)
        axes = figure.add_subplot()
        axes.plot(x, y, "o-", color=BLUE, markersize=6.5, linewidth=1.6, label="measured")
        if limit is not None:
            axes.axhline(
                factor * limit, color=VERMILION, linestyle="--", linewidth=1.4, label=f"at most {factor * limit:g} {unit}"
            )
        if unit == "%":
            axes.set_ylim(-4, 105)
        elif (drawn > 0).all():
            log_axis(axes, drawn)
        else:
            top = max(float(drawn.max()), 1.0)
            axes.set_ylim(-0.04 * top, 1.1 * top)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(x.min() - 0.4, x.max() + 0.4)
        axes.set(xlabel="Generation", ylabel=f"{PROGRESS[criterion]}\n({unit})")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure
