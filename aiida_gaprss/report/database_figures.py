"""The figures of a database. Each function returns a matplotlib ``Figure``, or None if there is nothing to show."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from aiida_gaprss.analysis.zero import bulk_frames
from aiida_gaprss.report.database import DatabaseRecord, largest_force
from aiida_gaprss.report.figures import Group, energies_and_volumes, wide
from aiida_gaprss.report.style import COLOURS, MARKERS, house_style, log_axis

#: eV/Å, below which a force is none: atoms that symmetry holds in place.
SMALLEST_FORCE = 1e-3

#: Bins of the histogram of forces for a factor of ten.
PER_DECADE = 6


def groups_of(record: DatabaseRecord) -> list[Group]:
    """Return the labelled frames of each strategy that are not in vacuum; when colours begin again, it is with another marker."""
    found = []
    for number, one in enumerate(record.strategies):
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        found.append(Group(one.name, bulk_frames(one.labelled), COLOURS[number % len(COLOURS)], marker))
    return [group for group in found if group.frames]


def energy_volume(record: DatabaseRecord) -> Figure | None:
    """Reference energy above the lowest, or above the convex hull (eV/atom), against volume (Å³/atom), by strategy."""
    groups = groups_of(record)
    return energies_and_volumes(groups, record.zero) if groups else None


def forces(record: DatabaseRecord) -> Figure | None:
    """Histogram of the largest force of each frame (eV/Å), by strategy."""
    groups = [(group, [f for atoms in group.frames if (f := largest_force(atoms)) is not None]) for group in groups_of(record)]
    groups = [(group, values) for group, values in groups if values]
    if not groups:
        return None
    every = np.array([max(value, SMALLEST_FORCE) for _, values in groups for value in values])
    low, high = np.floor(PER_DECADE * np.log10(every.min())), np.ceil(PER_DECADE * np.log10(every.max()) + 1e-6)
    edges = 10 ** (np.arange(low, max(high, low + 1) + 1) / PER_DECADE)
    with house_style():
        figure = Figure(figsize=wide(len(groups)))
        axes = figure.add_subplot()
        stacked = [np.maximum(values, SMALLEST_FORCE) for _, values in groups]
        axes.hist(
            stacked,
            bins=list(edges),
            stacked=True,
            color=[group.colour for group, _ in groups],
            label=[f"{group.name} ({len(values)})" for group, values in groups],
            edgecolor="white",
            linewidth=0.4,
        )
        log_axis(axes, edges, "x")
        axes.set(xlabel="Largest force in the frame (eV/Å)", ylabel="Frames")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
