"""The rows of the tables, once for CSV, JSON, the page and the terminal: plain data, units in the column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aiida_gaprss.analysis.convergence import CRITERIA, distribution_change, ended_frames, new_error
from aiida_gaprss.analysis.errors import (
    MEASURES,
    QUANTITIES,
    Errors,
    errors,
    errors_by,
    errors_by_height,
    errors_from,
    height_label,
)
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.analysis.zero import bulk_frames
from aiida_gaprss.campaign.stages import order, tag_of
from aiida_gaprss.report.record import CampaignRecord, Counts

Row = dict[str, Any]

NEW = "new frames, before they were fitted"
TRAINING = "training set, after the fit"
FINAL = "all labelled frames, final potential"
HELD_OUT = "held out of the last fit"
CHECKED = "minima of the last search, labelled to check them"

#: Frames that are nearest to the hull.
NEAREST = height_label(0.0)

_UNITS = {"energy": "meV/atom", "forces": "eV/A", "virial": "meV/atom"}


def generation_rows(record: CampaignRecord) -> list[Row]:
    """Return one row per part of a campaign: what was made, lost and labelled, how high the energies, how wrong the potential."""
    zero = record.zero
    rows = []
    for generation, progress in zip(record.generations, progress_of(record), strict=True):
        above = [zero.above(atoms) for atoms in bulk_frames(generation.frames)]
        counts = generation.counts
        rows.append(
            {
                "tag": generation.tag,
                "name": generation.name,
                "made": counts.made,
                "relaxed": counts.relaxed,
                "relax_status": dict(sorted(counts.relax_status.items())),
                "candidates": counts.candidates,
                "chosen_as": dict(sorted(counts.chosen_as.items())),
                "rejected": _rejected(counts),
                "rejected_reasons": dict(sorted(counts.rejected.items())),
                "selected": counts.selected,
                "labelled": generation.labelled,
                "failed": counts.failed,
                "found": counts.found,
                "median_energy_eV/atom": float(np.median(above)) if above else None,
                "new_energy_rmse_meV/atom": generation.new_errors.energy.rmse,
                "training_energy_rmse_meV/atom": generation.training_errors.get("energy_rmse"),
                "progress": in_units(progress),
                "seconds": dict(generation.seconds),
                "potential": generation.potential,
            }
        )
    return rows


def progress_of(record: CampaignRecord) -> list[Row]:
    """Return what each part of a campaign changed, in eV/atom; empty for all but the generations.

    Where it was not measured, it is what the labelled frames tell by themselves: how far the energies of the end points moved,
    and how wrong the previous potential was on them.
    """
    frames = {generation.tag: ended_frames(generation.frames) for generation in record.generations}
    rows: list[Row] = []
    for generation in record.generations:
        if not generation.index or generation.progress:
            rows.append(dict(generation.progress))
            continue
        ends = frames[generation.tag]
        rows.append(
            {
                "distribution": distribution_change(frames.get(tag_of(generation.index - 1), []), ends),
                "new_error": new_error(ends),
                "labelled_end_points": len(ends),
            }
        )
    return rows


def in_units(measures: Mapping[str, Any]) -> Row:
    """Return measures of progress, or their thresholds, in the units of a report, which their names then end with."""
    out = {}
    for name, value in measures.items():
        _, unit, factor = CRITERIA.get(name, ("", "", 1))
        out[f"{name}_{unit}" if unit else name] = None if value is None else factor * value
    return out


def counted(rows: Sequence[Row], key: str) -> list[str]:
    """Return the names that are counted under a key in any of the rows, in order of their first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row[key]))


def _rejected(counts: Counts) -> int | None:
    """Return the number of rejected cells; without reasons it is 0 only where cells were counted at all."""
    return None if counts.made is None and not counts.rejected else sum(counts.rejected.values())


def minima_rows(minima: Sequence[Minimum], heights: Mapping[str, float] | None = None) -> list[Row]:
    """Return one row per minimum, energies in eV/atom and meV/atom, volume in Å³/atom.

    :param heights: above the convex hull by the reference, meV/atom, by ``frame_id`` (see :func:`above_hull`).
    """
    return [
        {
            "rank": m.rank,
            "frame_id": m.frame_id,
            "formula": m.formula,
            "space_group": m.space_group,
            "symbol": m.symbol,
            "primitive_atoms": m.primitive_atoms,
            "count": m.count,
            "converged_count": m.converged_count,
            "converged": m.converged,
            "relax_status": m.relax_status,
            "above_lowest_meV/atom": 1000 * m.above_lowest,
            "above_hull_meV/atom": (heights or {}).get(m.frame_id),
            "E_pred_eV/atom": m.predicted_energy,
            "H_pred_eV/atom": m.predicted_enthalpy,
            "E_ref_eV/atom": m.ref_energy,
            "E_pred-E_ref_meV/atom": None if m.error is None else 1000 * m.error,
            "volume_A3/atom": m.volume,
            "pressure_GPa": m.pressure_GPa,
        }
        for m in minima
    ]


def above_hull(record: CampaignRecord) -> dict[str, float]:
    """Return how far the minima lie above the convex hull by the reference, meV/atom, by ``frame_id``.

    The hull is that of the labelled frames and of the minima that the reference has checked; others are left out. There are no
    such numbers for a single element, where the energies themselves say it.
    """
    checked = record.checked_minima()
    hull = record.zero_with_minima.hull
    if hull is None or len(hull.elements) == 1:
        return {}
    return {atoms.info["frame_id"]: 1000 * hull.above(atoms) for atoms in checked}


def error_rows(record: CampaignRecord) -> list[Row]:
    """Return the errors by generation before and after the fit, and of the final potential by kind of frame."""
    rows = []
    for generation in record.generations:
        new = generation.new_errors
        if new.flat():
            rows.append(_error_row(NEW, "generation", generation.name, new))
        if generation.training_errors:
            rows.append(_training_row(generation.name, generation.training_errors))
    if record.final_frames:
        rows.append(_error_row(FINAL, "all", "all", errors(record.final_frames)))
        for kind, value in errors_by(record.final_frames, "config_type").items():
            rows.append(_error_row(FINAL, "config_type", str(kind), value))
    for generation in record.generations:
        names = {atoms.info.get("frame_id") for atoms in generation.frames}
        members = [atoms for atoms in record.final_frames if atoms.info.get("frame_id") in names]
        if members:
            rows.append(_error_row(FINAL, "generation", generation.name, errors(members)))
    return rows


def _error_row(scope: str, grouped_by: str, group: str, value: Errors) -> Row:
    row: Row = {"scope": scope, "grouped_by": grouped_by, "group": group, "frames": value.frames}
    for quantity in QUANTITIES:
        statistics = getattr(value, quantity)
        for measure in MEASURES:
            row[f"{quantity}_{measure}_{_UNITS[quantity]}"] = getattr(statistics, measure)
        row[f"{quantity}_frames"] = statistics.frames
    return row


def _training_row(group: str, training: dict[str, float]) -> Row:
    row: Row = {"scope": TRAINING, "grouped_by": "generation", "group": group, "frames": None}
    for quantity in QUANTITIES:
        for measure in MEASURES:
            row[f"{quantity}_{measure}_{_UNITS[quantity]}"] = training.get(f"{quantity}_{measure}")
        row[f"{quantity}_frames"] = None
    return row


def stages(record: CampaignRecord) -> list[str]:
    """Return the names of the stages that took time, in the order in which they first appear."""
    return list(dict.fromkeys(stage for generation in record.generations for stage in generation.seconds))


def unseen_rows(record: CampaignRecord) -> list[Row]:
    """Return the errors of potentials on frames that these had not seen: of all, and by energy above the hull.

    The latest of each kind: minima that the reference has checked and no potential was fitted to; frames that the last fit
    has held out; new frames of the last part of the campaign, before they were fitted.
    """
    trained = {str(atoms.info.get("frame_id")) for atoms in record.training_set()}
    checked = [atoms for atoms in record.checked_minima() if str(atoms.info.get("frame_id")) not in trained]
    rows = [_error_row(CHECKED, "all", "all", errors(checked))] if checked else []
    if record.tests:
        rows += _test_rows(record.tests[order(record.tests)[-1]])
    last = next((generation for generation in reversed(record.generations) if generation.new_errors.flat()), None)
    if last is not None:
        heights = np.array([record.zero.above(atoms) for atoms in last.frames])
        groups = {"all": last.new_errors, **errors_by_height(last.frames, heights)}
        rows += [_error_row(f"{NEW}: {last.name}", "height", group, value) for group, value in groups.items()]
    return rows


def _test_rows(test: Mapping[str, Any]) -> list[Row]:
    groups = {"all": test["errors"], **test["errors_by_height"]}
    return [_error_row(HELD_OUT, "height", str(group), errors_from(value)) for group, value in groups.items()]


def whole_test(test: dict[str, Any]) -> dict[str, Any]:
    """Return the results of a test, which may be those of a stranger.

    :raises TypeError, KeyError: if they are no such results.
    """
    _test_rows(test)
    return test
