"""Write the report of a database: one page, its figures, the numbers as CSV and JSON, and all frames as extended XYZ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aiida_gaprss import frames as fr
from aiida_gaprss.report import database_figures as figures
from aiida_gaprss.report.database import DatabaseRecord, strategy_rows
from aiida_gaprss.report.folder import REPORT, claim
from aiida_gaprss.report.page import COURSE, Section, finite, lost, write_csv, write_json, write_page

#: Title, what to look for, and what draws it, by the names of files.
FIGURES: dict[str, tuple[str, str, Callable[[DatabaseRecord], Figure | None]]] = {
    "energy_volume": (
        "Energy and volume",
        "Every labelled frame but isolated atoms and dimers, by the strategy that made it; slabs with their vacuum. "
        "Look for volumes and energies that no strategy covers, and for frames far above the others: they want larger sigmas.",
        figures.energy_volume,
    ),
    "forces": (
        "Largest forces",
        f"Of each frame the largest force on an atom; forces below {figures.SMALLEST_FORCE:g} eV/Å are drawn there. Small "
        "displacements and strains have small ones, and want small sigmas; forces of tens of eV/Å are atoms that are too close.",
        figures.forces,
    ),
}

#: Files of a report.
FILES = ("index.html", "strategies.csv", "labels.xyz", "dataset_*.xyz", REPORT, *(f"{name}.png" for name in FIGURES))


def write_database(record: DatabaseRecord, folder: str | Path, force: bool = False) -> Path:
    """Write ``index.html`` and its companions into ``folder`` and return the path of the page.

    Companions: figures, ``strategies.csv``, ``report.json``, ``labels.xyz`` with all labels, and ``dataset_NAME.xyz`` with the
    frames of each strategy. What is not there yet is said on the page.

    :param force: replace files that are there and not of an earlier state of the database.
    :raises FolderError: if there are such.
    """
    target = claim(folder, FILES, (record.uuid,), force)
    for old in (*target.glob("dataset_*.xyz"), *target.glob("labels.xyz")):  # of an earlier state of one that was running
        old.unlink()
    _write_frames(record, target)
    rows = strategy_rows(record)
    write_csv(target / "strategies.csv", rows)
    write_json(target / REPORT, summarise(record))
    sections = sections_of(record, rows)
    return write_page(target, "database", sections, record.state, record=record, headline=_headline(record))


def sections_of(record: DatabaseRecord, rows: list[dict[str, Any]]) -> list[Section]:
    """Return the sections of the page, in their order.

    :param rows: of the strategies.
    """
    caption = "The reference was handed these and could not label them. All names are in report.json."
    strategies = {"rows": rows, "above": record.zero.words}
    return [
        Section("strategies", "Strategies", template="database/strategies.html.j2", told=strategies),
        *(_figure(name, record) for name in FIGURES),
        Section("crystals", "Crystals", template="database/crystals.html.j2", told=record.crystals or None, group=COURSE),
        Section(
            "variances",
            "How sure the potential is",
            template="database/variances.html.j2",
            told=record.variances or None,
            group=COURSE,
        ),
        lost(record.failures, "Frames without a label", caption),
    ]


def _figure(name: str, record: DatabaseRecord) -> Section:
    title, caption, draw = FIGURES[name]
    return Section(name, title, caption, "No frame has been labelled yet.", {name: lambda: draw(record)})


def summarise(record: DatabaseRecord) -> dict[str, Any]:
    """Return all numbers of the report as plain data that JSON can hold."""
    rows = strategy_rows(record)
    keys = ("title", "uuid", "label", "state", "seed", "reference", "versions", "choice", "crystals", "variances", "seconds")
    failures = [{"frame_id": failure.frame_id, "reason": failure.reason} for failure in record.failures]
    told = {key: getattr(record, key) for key in keys} | {"labels": len(record.labels), "energies": record.zero.words}
    return dict(finite({**told, "strategies": rows, "failures": failures}))


def _write_frames(record: DatabaseRecord, target: Path) -> None:
    """Write all labels, and the frames of each strategy."""
    files = {"labels": record.labels} | {f"dataset_{one.name}": one.frames for one in record.strategies}
    for name, frames in files.items():
        if frames:
            (target / f"{name}.xyz").write_text(fr.dumps(frames), encoding="utf-8")


def _headline(record: DatabaseRecord) -> list[tuple[str, str, str]]:
    made = sum(one.made or 0 for one in record.strategies)
    sizes = [len(atoms) for atoms in record.labels]
    return [
        ("strategies", str(len(record.strategies)), ""),
        ("frames made", f"{made:,}".replace(",", " "), ""),
        ("labels, each structure once", f"{len(record.labels):,}".replace(",", " "), ""),
        ("atoms in them", f"{sum(sizes):,}".replace(",", " "), ""),
        ("without a label", str(len(record.failures)), ""),
    ]
