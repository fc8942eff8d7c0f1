"""Write the report of a campaign: one page, its figures, and the numbers as CSV and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida_gaprss import frames as frames_
from aiida_gaprss.analysis.numbers import number, significant, space_group
from aiida_gaprss.report import tables
from aiida_gaprss.report.campaign_sections import sections_of
from aiida_gaprss.report.folder import REPORT, claim
from aiida_gaprss.report.hold import held_rows, round_rows
from aiida_gaprss.report.page import figure_files, finite, flattened, write_csv, write_json, write_page
from aiida_gaprss.report.record import CampaignRecord
from aiida_gaprss.report.viewer import BESIDE, put_beside

#: Files of a report besides its figures.
FILES = (
    *("index.html", "validation_*.png", "generations.csv", "minima.csv", "errors.csv", "minima.xyz", REPORT, "structure_*.png"),
    *BESIDE,
)


def write_report(record: CampaignRecord, folder: str | Path, force: bool = False) -> Path:
    """Write ``index.html`` and its companions into ``folder`` and return the path of the page.

    Companions: every figure as PNG, ``minima.csv``, ``errors.csv``, ``generations.csv``, ``minima.xyz`` and
    ``report.json``; the script that shows structures, if it is installed. The same record gives the same bytes. What the
    record lacks is said on the page.

    :param force: replace files that are there and not of an earlier state of the campaign.
    :raises FolderError: if there are such.
    """
    sections = sections_of(record)
    target = claim(folder, [*FILES, *figure_files(sections)], (record.uuid, record.label), force)
    for old in target.glob("structure_*.png"):  # of an earlier state of a running campaign
        old.unlink()
    summary = summarise(record)
    write_csv(target / "generations.csv", [flattened(row) for row in summary["generations"]])
    write_csv(target / "minima.csv", summary["minima"])
    write_csv(target / "errors.csv", summary["errors"])
    (target / "minima.xyz").write_text(frames_.dumps(m.atoms for m in record.minima), encoding="utf-8")
    write_json(target / REPORT, summary)
    turns = put_beside(target)
    return write_page(target, "campaign", sections, record.state, record=record, headline=headline(record), turns=turns)


def headline(record: CampaignRecord) -> list[tuple[str, str, str]]:
    """Return the numbers that stand above everything: name, value, unit."""
    items = []
    if record.minima:
        lowest = record.minima[0]
        items.append(("lowest minimum", space_group(lowest.symbol), f"{number(lowest.predicted_energy, 3)} eV/atom"))
        items.append(("distinct minima", str(len(record.minima)), ""))
    for last in round_rows(record)[-1:]:
        items.append(("of the lowest minima hold", f"{last['holding']} of {last['lowest']}", ""))
    items += _error_of_headline(record)
    items.append(("labels in the training set", f"{len(record.training_set()):,}".replace(",", " "), ""))
    items.append(("generations", str(sum(bool(g.index and g.frames) for g in record.generations)), ""))
    return items


def _error_of_headline(record: CampaignRecord) -> list[tuple[str, str, str]]:
    """Return the errors of energies and forces on what was not fitted, nearest to the hull; empty if none is known."""
    rows = tables.unseen_rows(record)
    kind = [row for row in rows if row["scope"] == rows[0]["scope"]]
    near = next((row for row in kind if row["group"] == tables.NEAREST), kind[0] if kind else None)
    if near is None:
        return []
    where = near["scope"].partition(",")[0] + (f", {near['group']}" if near["group"] != "all" else "") + f" ({near['frames']})"
    keys = (("energy", "energy_rmse_meV/atom", "meV/atom"), ("forces", "forces_rmse_eV/A", "eV/Å"))
    return [(f"RMSE, {name}: {where}", significant(near[key]), unit) for name, key, unit in keys if near[key] is not None]


def summarise(record: CampaignRecord) -> dict[str, Any]:
    """Return all numbers of the report as plain data that JSON can hold."""
    return dict(
        finite(
            {
                "title": record.title,
                "label": record.label,
                "uuid": record.uuid,
                "state": record.state,
                "formula": record.formula,
                "seed": record.seed,
                "reference": record.reference,
                "protocol": record.protocol,
                "versions": dict(sorted(record.versions.items())),
                "final_potential": record.final_potential,
                "labelled_frames": len(record.training_set()),
                "labels": frames_.describe(record.training_set()),
                "ended": record.ended,
                "thresholds": tables.in_units(record.stop.thresholds() if record.stop else {}),
                "energies": record.zero.words,
                "generations": tables.generation_rows(record),
                "unseen": tables.unseen_rows(record),
                "errors": tables.error_rows(record),
                "minima": tables.minima_rows(record.minima, tables.above_hull(record)),
                "found": record.found,
                "hold": record.hold["words"] if record.hold else None,
                "holds": round_rows(record),
                "held_minima": held_rows(record),
                "validations": record.validations,
                "failures": [{"frame_id": f.frame_id, "reason": f.reason} for f in record.failures],
            }
        )
    )
