"""Write a validation: one page, its figures, and the numbers as CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida.orm import WorkChainNode

from aiida_gaprss.properties.speed import Speed
from aiida_gaprss.properties.suite import Suite
from aiida_gaprss.report.folder import REPORT, claim
from aiida_gaprss.report.validation import SIGNS, figures_of, file_name, number_rows, pareto_of, record_of, score_rows
from aiida_gaprss.report.write import save_figure, write_csv, write_json, write_page

FILES = ("index.html", "scores.csv", "numbers.csv", REPORT, "curve_*.png")


def write_validation(node: WorkChainNode, folder: Path, force: bool = False) -> Path:
    """Write ``index.html``, ``scores.csv``, ``numbers.csv``, ``report.json`` and the figures; return the page.

    :raises FolderError: if the folder has such files that are of something else.
    """
    record = record_of(node)
    claim(folder, FILES, (node.uuid,), force)
    for old in folder.glob("curve_*.png"):
        old.unlink()
    write_csv(folder / "scores.csv", score_rows(record))
    write_csv(folder / "numbers.csv", number_rows(record))
    write_json(folder / REPORT, record)
    return write_page(
        folder,
        "validation.html.j2",
        record=record,
        signs=SIGNS,
        sections=[section_of(record, name, folder) for name in record["scorecard"]["properties"]],
    )


def section_of(record: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """Return what the page shows of one property; its figures are written into the folder."""
    images, files = {}, set[str]()
    figures = figures_of(record, name)
    if isinstance(Suite(**record["suite"]).properties[name], Speed):
        figures["error and cost"] = pareto_of(record)
    for title, figure in figures.items():
        if figure is not None:
            file = file_name(f"curve_{name}_{title}", files)
            files.add(file)
            images[title] = save_figure(figure, folder / f"{file}.png")
    potentials = list(record["scorecard"]["potentials"])
    rows = [row for row in score_rows(record) if row["property"] == name]
    numbers = [row for row in number_rows(record) if row["property"] == name]
    columns = list(dict.fromkeys(key for row in numbers for key in row if key not in ("property", "crystal", "number")))
    sources: dict[str, list[str]] = {}
    for row in rows:
        if "source" in row and row["score"] not in sources.setdefault(row["source"], []):
            sources[row["source"]].append(row["score"])
    return {
        "sources": sources,
        "name": name,
        "images": images,
        "scores": rows,
        "numbers": numbers,
        "columns": columns,
        "potentials": potentials,
    }
