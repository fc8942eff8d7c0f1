"""How all figures look: colours, sizes, axes; and how they are written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from aiida_gaprss.outside import harmless

#: Okabe and Ito's blue and vermilion: told apart by every reader.
BLUE, VERMILION, ORANGE, GREY = "#0072B2", "#D55E00", "#E69F00", "#6b7280"

#: Okabe and Ito's colours and one more, told apart on white, and markers: for potentials, crystals, strategies beside each other.
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", ORANGE, "#56B4E9", "#8c6d31", GREY)
MARKERS = "osD^vPX*"

WHAT = {"energy": "Energy", "forces": "Force", "virial": "Virial"}

WIDE, PANEL = (5.6, 4.1), (3.7, 3.4)

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


def axis_limits(values: np.ndarray, low: float = 1.0, high: float = 98.0, margin: float = 0.06) -> tuple[float, float]:
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


def note_outside(axes: Axes, outside: int, total: int) -> None:
    """Say above a figure how many of its points lie outside."""
    if outside:
        axes.set_title(f"{outside} of {total} points lie outside", loc="right", color=GREY)


def log_axis(axes: Axes, values: np.ndarray, which: str = "y") -> None:
    """Give an axis, ``x`` or ``y``, a logarithmic scale that holds the positive values, with numbers at few ticks."""
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
