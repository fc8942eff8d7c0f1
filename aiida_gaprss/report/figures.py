"""The figures of a report. Each function returns a matplotlib ``Figure``, or None if the record has nothing to show."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import spglib
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.utils import rotate
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from aiida_gaprss.analysis.committee import ZERO
from aiida_gaprss.analysis.convergence import CRITERIA
from aiida_gaprss.analysis.errors import UNITS, errors, pairs
from aiida_gaprss.analysis.hull import phase_name
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.analysis.numbers import number, significant, subscripts
from aiida_gaprss.analysis.zero import EnergyZero, bulk_frames
from aiida_gaprss.campaign.stages import CRYSTALS, DATABASE
from aiida_gaprss.frames import PREDICTION, energy
from aiida_gaprss.outside import harmless
from aiida_gaprss.report.record import CampaignRecord, GenerationRecord
from aiida_gaprss.report.tables import progress_of

#: Okabe and Ito's blue and vermilion: told apart by every reader.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#6b7280"

WHAT = {"energy": "Energy", "forces": "Force", "virial": "Virial"}

WIDE, PANEL = (5.6, 4.1), (3.7, 3.4)

#: Atoms nearer than this times the shortest distance in the structure are drawn bonded.
BOND_STRETCH = 1.15

#: Cells are repeated until they are at least so long, Å.
SMALLEST_PICTURE = 5.0

#: More points than this are drawn as a density.
MANY_POINTS = 20_000

#: At most so many rows in the box plot before it falls back to one per generation.
MANY_BOXES = 16

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#374151",
    "axes.labelcolor": "#111827",
    "text.color": "#111827",
    "xtick.color": "#374151",
    "ytick.color": "#374151",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a $ in a name is a $
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the same way whatever the user's own matplotlib settings are."""
    with style.context(["default", _STYLE]):
        yield


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Return a figure as PNG: the same figure, the same bytes."""
    buffer = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_text(harmless(text.get_text()))
    with house_style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.06)
    return buffer.getvalue()


def generation_colours(n: int) -> list[tuple[float, float, float, float]]:
    """Return ``n`` sequential colours, early light green to late purple as in Deringer et al. 2018."""
    return [mpl.colormaps["viridis"](x) for x in np.linspace(0.82, 0.04, n)] if n > 1 else [mpl.colormaps["viridis"](0.3)]


def part_colours(generations: Sequence[GenerationRecord]) -> list[Any]:
    """Return a colour for every part of a campaign: sequential for generations, grey for what it began with."""
    sequence = iter(generation_colours(sum(g.index is not None for g in generations)))
    others = {DATABASE: "#9ca3af", CRYSTALS: VERMILION}
    return [others.get(g.tag) or next(sequence) for g in generations]


def _limits(values: np.ndarray, low: float = 1.0, high: float = 98.0, margin: float = 0.06) -> tuple[float, float]:
    """Return limits that hold all values, or if a few lie far out, those between two percentiles."""
    first, last = float(values.min()), float(values.max())
    inner = np.percentile(values, [low, high])
    width = max(float(inner[1] - inner[0]), 1e-6)
    if first < inner[0] - 0.4 * width:
        first = float(inner[0])
    if last > inner[1] + 0.4 * width:
        last = float(inner[1])
    pad = margin * max(last - first, 1e-3)
    return first - pad, last + pad


def _note_outside(axes: Axes, outside: int, total: int) -> None:
    if outside:
        axes.set_title(f"{outside} of {total} points lie outside", loc="right", color=GREY)


def _with_frames(record: CampaignRecord) -> list[tuple[GenerationRecord, list[Atoms]]]:
    pairs_ = [(generation, bulk_frames(generation.frames)) for generation in record.generations]
    return [(generation, frames) for generation, frames in pairs_ if frames]


def energy_volume(record: CampaignRecord) -> Figure | None:
    """Reference energy above the lowest, or above the convex hull (eV/atom), against volume (Å³/atom), by generation."""
    shown = _with_frames(record)
    if not shown:
        return None
    zero = EnergyZero(record.labelled_frames())
    with house_style():
        figure = Figure(figsize=_wide(len(shown)))
        axes = figure.add_subplot()
        points = [np.array([(abs(a.cell.volume) / len(a), zero.above(a)) for a in frames], dtype=float) for _, frames in shown]
        every = np.concatenate(points)
        x_limits, (_, y_high) = _limits(every[:, 0]), _limits(every[:, 1], low=0.0)
        y_limits = (-0.04 * y_high, y_high)
        size = 26 if len(every) < 500 else 14 if len(every) < 3000 else 8
        _scatter(axes, [g for g, _ in shown], points, size)
        inside = (
            (every[:, 0] >= x_limits[0])
            & (every[:, 0] <= x_limits[1])
            & (every[:, 1] >= y_limits[0])
            & (every[:, 1] <= y_limits[1])
        )
        _note_outside(axes, int((~inside).sum()), len(every))
        axes.set(xlim=x_limits, ylim=y_limits, xlabel="Volume (Å³/atom)", ylabel=f"Reference energy\n{zero.words} (eV/atom)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, markerscale=1.6)
    return figure


def _wide(entries: int) -> tuple[float, float]:
    """Return the size of a wide figure, in inches, with room for so many entries of a legend in three columns below it."""
    return WIDE[0], WIDE[1] + 0.21 * max(0, math.ceil(entries / 3) - 2)


def _scatter(axes: Axes, generations: Sequence[GenerationRecord], points: Sequence[np.ndarray], size: float) -> None:
    """Draw points (n, 2) of every part of a campaign in its colour, with its name and their number for the legend."""
    for generation, xy, colour in zip(generations, points, part_colours(generations), strict=True):
        label = f"{generation.name} ({len(xy)})"
        axes.scatter(xy[:, 0], xy[:, 1], s=size, color=colour, alpha=0.75, linewidths=0.3, edgecolors="white", label=label)


def hull(record: CampaignRecord) -> Figure | None:
    """Formation energy (eV/atom) against composition by generation, and the convex hull with its phases; for two elements.

    The hull is that of all labels: the minima of the last search that the reference has checked are among them.
    """
    shown = _with_frames(record)
    checked = record.checked_minima()
    found = EnergyZero([*record.labelled_frames(), *checked]).hull
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
        figure = Figure(figsize=_wide(len(shown) + 1 + bool(checked)))
        axes = figure.add_subplot()
        size = 26 if len(every) < 500 else 12
        _scatter(axes, [g for g, _ in shown], points, size)
        if checked:
            marked = f"minima of the search ({len(checked)})"
            x, y = places(checked).T
            axes.scatter(x, y, s=1.6 * size, marker="D", facecolors="none", edgecolors=VERMILION, linewidths=1.4, label=marked)
        axes.plot(line[:, 0], line[:, 1], "o-", color="#111827", markersize=5, linewidth=1.4, label="convex hull")
        for atoms, place in zip(found.stable, line, strict=True):
            side = {0.0: "left", 1.0: "right"}.get(float(place[0]), "center")
            name = subscripts(phase_name(atoms))
            axes.annotate(name, (place[0], place[1]), xytext=(0, -6), textcoords="offset points", ha=side, va="top")
        _note_outside(axes, int((every[:, 1] > top).sum()), len(every))
        axes.set(xlim=(-0.03, 1.03), ylim=(bottom, top), ylabel="Formation energy (eV/atom)")
        axes.set_xlabel(f"Atomic fraction of {second} in {first}–{second}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, markerscale=1.3)
    return figure


def energy_boxes(record: CampaignRecord) -> Figure | None:
    """Distribution of the reference energies by generation, and by kind of frame where a generation has several."""
    shown = _with_frames(record)
    if not shown:
        return None
    zero = EnergyZero(record.labelled_frames())
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
    names = [g.name.removeprefix("generation ") for g, keep in zip(record.generations, used, strict=True) if keep]
    x = np.arange(len(names))
    with house_style():
        figure = Figure(figsize=PANEL)
        axes = figure.add_subplot()
        for (what, measure), y in zip(series, values, strict=True):
            colour, marker = (VERMILION, "o") if what == "new" else (BLUE, "s")
            line, face = ("-", colour) if measure == "rmse" else (":", "white")
            axes.plot(x, y[used], line, color=colour, marker=marker, markerfacecolor=face, markersize=6.5, linewidth=1.6)
        _log_axis(axes, values)
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
    if not points:
        return None
    x, y = np.array(points, dtype=float).T
    limit = record.stop.thresholds().get(criterion) if record.stop else None
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
            _log_axis(axes, drawn)
        else:
            top = max(float(drawn.max()), 1.0)
            axes.set_ylim(-0.04 * top, 1.1 * top)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(x.min() - 0.4, x.max() + 0.4)
        axes.set(xlabel="Generation", ylabel=f"{PROGRESS[criterion]}\n({unit})")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _log_axis(axes: Axes, values: np.ndarray, which: str = "y") -> None:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    axis = axes.yaxis if which == "y" else axes.xaxis
    axes.set(**{f"{which}scale": "log"})
    if high / low < 30:  # too few decades for decade ticks
        low, high = low / 1.4, high * 1.4
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 10 else (1, 1.5, 2, 3, 4, 5, 6, 8)))
    else:
        low, high = low / 1.6, high * 1.6
    axes.set(**{f"{which}lim": (low, high)})
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


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
        _log_axis(axes, np.concatenate(shown))
        _log_axis(axes, x, "x")
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
    x, y = np.array([(row["ms_per_atom"], row["objective"]) for row in done]).T
    with house_style():
        figure = Figure(figsize=WIDE)
        axes = figure.add_subplot()
        axes.plot(x, y, "o", color=GREY, alpha=0.6, markersize=6, markeredgewidth=0, label="trials")
        best = np.array([(row["ms_per_atom"], row["objective"]) for row in front])
        axes.plot(*best.T, "o-", color=VERMILION, markersize=7, linewidth=1.6, drawstyle="steps-post", label="Pareto front")
        _log_axis(axes, x, "x")
        _log_axis(axes, y)
        axes.set(xlabel="CPU time per atom (ms)", ylabel=what)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
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
        _log_axis(axes, x, "x")
        _log_axis(axes, y)
        unit = UNITS[quantity]
        axes.set(xlabel=f"{WHAT[quantity]} spread ({unit})", ylabel=f"{WHAT[quantity]} error of the mean ({unit})")
    return figure


def parity(frames: Sequence[Atoms], quantity: str) -> Figure | None:
    """Prediction against reference, and below their difference, for all frames that have both."""
    reference, prediction = _parity_values(frames, quantity)
    if not reference.size:
        return None
    statistics = getattr(errors(frames), quantity)
    unit, scale = ("eV/Å", 1.0) if quantity == "forces" else ("eV/atom", 1000.0)
    difference = (prediction - reference) * scale
    with house_style():
        figure = Figure(figsize=(PANEL[0], 4.3))
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.15]})
        limits = _limits(reference, 0.5, 99.5)
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
        top.set(xlim=limits, ylim=limits, ylabel=f"GAP ({unit})")
        what = {"energy": f"energy\n{EnergyZero(frames).words}", "forces": "force component", "virial": "virial component"}[
            quantity
        ]
        bottom.set(ylim=(-reach, reach), xlabel=f"Reference {what} ({unit})")
        bottom.set_ylabel("GAP − ref.\n(meV/atom)" if scale > 1 else "GAP − ref.\n(eV/Å)")
        lines = [f"RMSE {significant(statistics.rmse)} {UNITS[quantity]}", f"MAE {significant(statistics.mae)} {UNITS[quantity]}"]
        top.text(0.04, 0.96, "\n".join(lines), transform=top.transAxes, va="top", linespacing=1.5)
        outside = (reference < limits[0]) | (reference > limits[1]) | (prediction < limits[0]) | (prediction > limits[1])
        _note_outside(top, int((outside | (np.abs(difference) > reach)).sum()), len(reference))
        figure.align_ylabels([top, bottom])
    return figure


def _parity_values(frames: Sequence[Atoms], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    if quantity != "energy":
        return pairs(frames, quantity)
    zero = EnergyZero(frames)
    both = [a for a in frames if energy(a) is not None and energy(a, PREDICTION) is not None]
    reference, prediction = pairs(both, quantity)
    shift = np.array([zero.of(a) for a in both])
    return reference - shift, prediction - shift


def structure(minimum: Minimum) -> Figure:
    """Projection of the conventional cell of a minimum, with bonds between near neighbours."""
    atoms = _conventional(minimum.atoms)
    repeats = [max(1, math.ceil(SMALLEST_PICTURE / length)) for length in atoms.cell.lengths()]
    atoms = _with_boundary(atoms if len(atoms) * math.prod(repeats) > 64 else atoms.repeat(repeats))
    turn = rotate("-82x,22y,5z")
    positions = atoms.positions @ turn
    corners = np.array(list(np.ndindex(2, 2, 2)))
    edges = [(a, b) for a in range(8) for b in range(a) if np.abs(corners[a] - corners[b]).sum() == 1]
    box = corners @ atoms.cell.array @ turn
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1) + np.where(np.eye(len(atoms)), np.inf, 0)
    radii = 0.55 * covalent_radii[atoms.numbers]
    with house_style():
        figure = Figure(figsize=(2.4, 2.4))
        axes = figure.add_subplot()
        for a, b in edges:
            axes.plot(*box[[a, b], :2].T, color="#9ca3af", linewidth=0.8, zorder=box[:, 2].min() - 1)
        for a, b in np.argwhere(np.triu(distances < BOND_STRETCH * distances.min(initial=np.inf))):
            axes.plot(*positions[[a, b], :2].T, color="#6b7280", linewidth=2, zorder=positions[[a, b], 2].mean())
        for number_, (x, y, depth), radius in zip(atoms.numbers, positions, radii, strict=True):
            colour = jmol_colors[number_]
            axes.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor="#374151", linewidth=0.8, zorder=depth))
        axes.set_aspect("equal")
        axes.margins(0.08)
        axes.set_axis_off()
    return figure


def _with_boundary(atoms: Atoms) -> Atoms:
    """Return a cell with the periodic images of the atoms on its faces, edges and corners added."""
    scaled = atoms.get_scaled_positions(wrap=True)
    scaled[scaled > 1 - 1e-3] -= 1
    shifts = np.array(list(np.ndindex(2, 2, 2)))
    images = [(i, place + shift) for shift in shifts for i, place in enumerate(scaled) if (place + shift < 1 + 1e-3).all()]
    numbers = atoms.numbers[[i for i, _ in images]]
    return Atoms(numbers, scaled_positions=[place for _, place in images], cell=atoms.cell)


def _conventional(atoms: Atoms) -> Atoms:
    """Return the conventional cell, or the cell as it is if spglib finds none."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        found = spglib.standardize_cell(cell, to_primitive=False, no_idealize=False, symprec=0.05)
    except spglib.SpglibError:
        found = None
    if found is None:
        return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    lattice, positions, numbers = found
    return Atoms(numbers, scaled_positions=positions, cell=lattice, pbc=True)
