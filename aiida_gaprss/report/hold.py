"""Searches until the lowest minima hold, and the scorecards of all potentials: rows and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aiida_gaprss.campaign.stages import in_words, order
from aiida_gaprss.report.record import CampaignRecord
from aiida_gaprss.report.style import COLOURS, MARKERS, WIDE, house_style, log_axis

#: meV/atom, below which errors of minima are drawn as this.
SMALLEST_ERROR = 0.1

#: Scores below this part of what is good are drawn as this; names of more potentials are turned.
SMALLEST_RATIO, MANY_POTENTIALS = 0.01, 8


def round_rows(record: CampaignRecord) -> list[dict[str, Any]]:
    """Return a row for each search: labels in the training set before it, minima, how many hold, which were new, errors."""
    labels = labels_before(record)
    rows = []
    for tag in order(record.holds):
        verdict = record.holds[tag]
        errors = [1000 * abs(row["energy"]) for row in verdict["minima"] if row["energy"] is not None]
        counts = {key: verdict[key] for key in ("lowest", "holding", "new", "labelled")}
        worst = max(errors) if errors else None
        rows.append({"tag": tag, "name": in_words(tag), "labels": labels[tag], **counts, "largest_error_meV/atom": worst})
    return rows


def labels_before(record: CampaignRecord) -> dict[str, int]:
    """Return the number of labels in the training set before every part of a campaign."""
    tags = [generation.tag for generation in record.generations]
    counts = accumulate((len(generation.frames) for generation in record.generations), initial=len(record.isolated))
    return dict(zip(tags, counts, strict=False))


def held_rows(record: CampaignRecord) -> list[dict[str, Any]]:
    """Return what the reference says of the lowest minima of the last search, errors in meV/atom, eV/Å, GPa."""
    if not record.holds:
        return []
    symbols = {minimum.frame_id: minimum.symbol for minimum in record.minima}
    last = record.holds[order(record.holds)[-1]]["minima"]
    return [
        {
            "rank": row["rank"],
            "frame_id": row["frame_id"],
            "symbol": symbols.get(row["frame_id"], ""),
            "known": row["known"],
            "judged_by": row["judged_by"],
            "own": row["own"],
            "E_pred-E_ref_meV/atom": None if row["energy"] is None else 1000 * row["energy"],
            "force_eV/A": row["force"],
            "pressure_GPa": row["pressure_GPa"],
            "holds": row["holds"],
            "why": row["why"],
        }
        for row in last
    ]


def minima_by_round(record: CampaignRecord) -> Figure | None:
    """Draw the error in energy of the lowest minima of every search (meV/atom), by the labels that its potential has seen."""
    rows = round_rows(record)
    points = [(place, row) for place, one in enumerate(rows) for row in record.holds[one["tag"]]["minima"]]
    known = [(place, row) for place, row in points if row["energy"] is not None]
    if not known:
        return None
    with house_style():
        figure = Figure(figsize=WIDE)
        axes = figure.add_subplot()
        errors = np.array([max(1000 * abs(row["energy"]), SMALLEST_ERROR) for _, row in known])
        for holds, colour, marker in ((True, COLOURS[2], "o"), (False, COLOURS[1], "X")):
            mine = [(place, error) for (place, row), error in zip(known, errors, strict=True) if row["holds"] is holds]
            axes.plot(*np.array(mine).reshape(-1, 2).T, marker, color=colour, alpha=0.7, label=_HOLDS[holds])
        axes.set_xticks(range(len(rows)), [f"{one['tag']}\n{one['labels']}" for one in rows])
        axes.set(xlabel="search, and labels in the training set", ylabel="Error of a minimum (meV/atom)")
        log_axis(axes, errors)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


_HOLDS = {True: "holds", False: "does not hold: energy, force or pressure"}


def scores_by_part(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Draw every score that has a limit, as a multiple of what is good, potential by potential.

    :param names: of the potentials, in their order; ``rows``: as of ``report.validation.in_a_row``.
    """
    drawn = [row for row in rows if row.get("good") and sum(_is_number(row.get(name)) for name in names) > 1]
    if not drawn:
        return None
    with house_style():
        figure = Figure(figsize=(WIDE[0], WIDE[1] + 0.09 * len(drawn)))
        axes = figure.add_subplot()
        every = []
        for number, row in enumerate(drawn):
            there = _ratios(names, row)
            every += [ratio for _, ratio in there]
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number // len(COLOURS) % len(MARKERS)]
            axes.plot(*np.array(there).T, label=_label(row), markersize=4, linewidth=1, color=colour, marker=marker)
        log_axis(axes, np.array([*every, 1.0]))
        axes.axhspan(axes.get_ylim()[0], 1, color=COLOURS[2], alpha=0.08)
        axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > MANY_POTENTIALS else 0)
        axes.set(ylabel="Score, in units of what is good", xlabel="potential after")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7.5)
    return figure


def _ratios(names: Sequence[str], row: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return place and ratio of a score to what is good, for each potential that has it."""
    there = [(place, row[name]) for place, name in enumerate(names) if _is_number(row.get(name))]
    return [(place, max(abs(value) / row["good"], SMALLEST_RATIO)) for place, value in there]


def _label(row: Mapping[str, Any]) -> str:
    return f"{row['property']}, {row['crystal']}: {row['score']}".replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
