"""Draw the curves of properties: those of all potentials, and of the reference, in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from aiida_gaprss.report.style import COLOURS, MARKERS, WIDE, house_style

#: The reference's; :data:`COLOURS` are for potentials or crystals.
BLACK = "#111827"
STYLES = ("-", "--", ":", "-.")

#: A curve of the reference has this name.
REFERENCE = "reference"

Curves = Mapping[str, Mapping[str, Any]]


def draw(curves: Curves) -> Figure | None:
    """Draw one curve of a crystal.

    :param curves: by what made them, ``reference`` or the name of a potential, as ``Curve.as_dict`` gives them.
    """
    if not curves:
        return None
    first = next(iter(curves.values()))
    with house_style():
        figure = Figure(figsize=WIDE)
        axes = figure.add_subplot()
        _labels(axes, first)
        for number, (name, curve) in enumerate(_ordered(curves)):
            of_reference = name == REFERENCE
            colour = BLACK if of_reference else COLOURS[(number - (REFERENCE in curves)) % len(COLOURS)]
            _lines(axes, curve, name, colour, "-" if not of_reference else "--", MARKERS[number % len(MARKERS)])
        _legend(figure, axes)
    return figure


def draw_together(curves: Mapping[str, Curves]) -> Figure | None:
    """Draw a curve of several crystals in one figure: a colour for each crystal, a line for each potential.

    :param curves: by crystal, then by what made them.
    """
    found = {crystal: of for crystal, of in curves.items() if of}
    if not found:
        return None
    names = [name for name, _ in _ordered({name: of[name] for of in found.values() for name in of})]
    with house_style():
        figure = Figure(figsize=WIDE)
        axes = figure.add_subplot()
        _labels(axes, next(iter(next(iter(found.values())).values())))
        for number, of in enumerate(found.values()):
            colour = COLOURS[number % len(COLOURS)]
            for name, curve in of.items():
                place = names.index(name) - (REFERENCE in names)
                points = name == REFERENCE
                style = "none" if points else STYLES[place % len(STYLES)]
                _lines(axes, {**curve, "points": points}, "", colour, style, MARKERS[number % len(MARKERS)])
        handles = [Line2D([], [], color=COLOURS[n % len(COLOURS)], label=crystal, linewidth=3) for n, crystal in enumerate(found)]
        for name in names if len(names) > 1 else ():
            place = names.index(name) - (REFERENCE in names)
            look: dict[str, Any] = (
                {"marker": "o", "linestyle": "none"} if name == REFERENCE else {"linestyle": STYLES[place % len(STYLES)]}
            )
            handles.append(Line2D([], [], color=BLACK, label=name, markerfacecolor="none", **look))
        figure.legend(handles=handles, loc="outside upper center", ncols=min(3, len(handles)))
    return figure


def _ordered(curves: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what is drawn, the reference first."""
    return sorted(curves.items(), key=lambda item: item[0] != REFERENCE)


def _labels(axes: Axes, curve: Mapping[str, Any]) -> None:
    axes.set(xlabel=curve["xlabel"], ylabel=curve["ylabel"])
    if curve["ticks"]:
        places = [place for place, _ in curve["ticks"]]
        axes.set_xticks(places, [name for _, name in curve["ticks"]])
        if len(set(places)) > 1:
            room = 0.05 * (max(places) - min(places)) if curve["points"] else 0.0
            axes.set_xlim(min(places) - room, max(places) + room)
        axes.grid(True, axis="x", color="#9ca3af")


def _lines(axes: Axes, curve: Mapping[str, Any], label: str, colour: str, style: str, marker: str) -> None:
    x = np.array(curve["x"], dtype=float)
    options: dict[str, Any] = {"color": colour, "label": label or None, "linewidth": 1.3}
    if curve["points"]:
        options |= {"linestyle": "none", "marker": marker, "markersize": 4.5, "markerfacecolor": "none"}
    else:
        options |= {"linestyle": style}
    for line in curve["lines"]:
        axes.plot(x, np.array([np.nan if value is None else value for value in line], dtype=float), **options)
        options.pop("label", None)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)))
