"""The rows of the tables, once for CSV, JSON, the page and the terminal: plain data, units in the column names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aiida_gaprss.analysis.errors import QUANTITIES, Errors, errors, errors_by
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.analysis.zero import EnergyZero, bulk_frames
from aiida_gaprss.report.record import CampaignRecord, Counts

Row = dict[str, Any]

NEW = "new frames, before they were fitted"
TRAINING = "training set, after the fit"
FINAL = "all labelled frames, final potential"

_UNITS = {"energy": "meV/atom", "forces": "eV/A", "virial": "meV/atom"}


def generation_rows(record: CampaignRecord) -> list[Row]:
    """Return one row per generation: what was made, lost and labelled, how high the energies, how wrong the potential."""
    zero = EnergyZero(record.labelled_frames())
    rows = []
    for generation in record.generations:
        above = [zero.above(atoms) for atoms in bulk_frames(generation.frames)]
        new = errors(generation.frames)
        rows.append(
            {
                "index": generation.index,
                "name": generation.name,
                "made": generation.counts.made,
                "relaxed": generation.counts.relaxed,
                "rejected": _rejected(generation.counts),
                "rejected_reasons": dict(sorted(generation.counts.rejected.items())),
                "selected": generation.counts.selected,
                "labelled": generation.labelled,
                "failed": generation.counts.failed,
                "median_energy_eV/atom": float(np.median(above)) if above else None,
                "new_energy_rmse_meV/atom": new.energy.rmse,
                "training_energy_rmse_meV/atom": generation.training_errors.get("energy_rmse"),
                "seconds": dict(generation.seconds),
                "potential": generation.potential,
            }
        )
    return rows


def _rejected(counts: Counts) -> int | None:
    """Return the number of rejected cells; without reasons it is 0 only where cells were counted at all."""
    return None if counts.made is None and not counts.rejected else sum(counts.rejected.values())


def minima_rows(minima: Sequence[Minimum]) -> list[Row]:
    """Return one row per minimum, energies in eV/atom and meV/atom, volume in Å³/atom."""
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
            "E_GAP_eV/atom": m.gap_energy,
            "H_GAP_eV/atom": m.gap_enthalpy,
            "E_ref_eV/atom": m.ref_energy,
            "E_GAP-E_ref_meV/atom": None if m.error is None else 1000 * m.error,
            "volume_A3/atom": m.volume,
            "pressure_GPa": m.pressure_GPa,
        }
        for m in minima
    ]


def error_rows(record: CampaignRecord) -> list[Row]:
    """Return the errors by generation before and after the fit, and of the final potential by kind of frame."""
    rows = []
    for generation in record.generations:
        new = errors(generation.frames)
        if new.flat():
            rows.append(_error_row(NEW, "generation", generation.name, new))
        if generation.training_errors:
            rows.append(_training_row(generation.name, generation.training_errors))
    if record.final_frames:
        rows.append(_error_row(FINAL, "all", "all", errors(record.final_frames)))
        for key in ("config_type", "generation"):
            for group, value in errors_by(record.final_frames, key).items():
                rows.append(_error_row(FINAL, key, str(group), value))
    return rows


def _error_row(scope: str, grouped_by: str, group: str, value: Errors) -> Row:
    row: Row = {"scope": scope, "grouped_by": grouped_by, "group": group, "frames": value.frames}
    for quantity in QUANTITIES:
        statistics = getattr(value, quantity)
        for measure in ("rmse", "mae", "largest"):
            row[f"{quantity}_{measure}_{_UNITS[quantity]}"] = getattr(statistics, measure)
        row[f"{quantity}_frames"] = statistics.frames
    return row


def _training_row(group: str, training: dict[str, float]) -> Row:
    row: Row = {"scope": TRAINING, "grouped_by": "generation", "group": group, "frames": None}
    for quantity in QUANTITIES:
        for measure in ("rmse", "mae", "largest"):
            row[f"{quantity}_{measure}_{_UNITS[quantity]}"] = training.get(f"{quantity}_{measure}")
        row[f"{quantity}_frames"] = None
    return row


def stages(record: CampaignRecord) -> list[str]:
    """Return the names of the stages that took time, in the order in which they first appear."""
    return list(dict.fromkeys(stage for generation in record.generations for stage in generation.seconds))


def duration(seconds: float | None) -> str:
    """Return a time as a reader wants it: ``4.2 s``, ``3 min 05 s``, ``2 h 14 min``."""
    if seconds is None:
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def number(value: float | int | None, digits: int | None = None) -> str:
    """Return a number with so many decimals (default: as it is), with a true minus sign; ``–`` for None."""
    if value is None:
        return "–"
    if digits is None:
        return str(value).replace("-", "−")
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def significant(value: float | None) -> str:
    """Return an error with three significant digits and no exponent."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, 2 - int(np.floor(np.log10(abs(value))))) if np.isfinite(value) else 0
    return number(value, min(decimals, 6))


def space_group(symbol: str) -> str:
    """Return a Hermann–Mauguin symbol with its screw axes as subscripts: ``P6_3/mmc`` becomes ``P6₃/mmc``."""
    for digit, subscript in zip("123456", "₁₂₃₄₅₆", strict=True):
        symbol = symbol.replace(f"_{digit}", subscript)
    return symbol
