"""Write a validation: one page, its figures, and the numbers as CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida.orm import WorkChainNode

from aiida_gaprss.properties.speed import Speed
from aiida_gaprss.properties.suite import Suite
from aiida_gaprss.report.folder import REPORT, claim
from aiida_gaprss.report.page import Section, write_csv, write_json, write_page
from aiida_gaprss.report.validation import SIGNS, figures_of, file_name, number_rows, pareto_of, record_of, score_rows
from aiida_gaprss.report.viewer import BESIDE, put_beside, told, with_local_energies

FILES = ("index.html", "scores.csv", "numbers.csv", REPORT, "curve_*.png", *BESIDE)


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
    files: set[str] = set()
    sections = [section_of(record, name, files) for name in record["scorecard"]["properties"]]
    turns = put_beside(folder)
    return write_page(folder, "validation", sections, record["state"], record={**record, "pk": node.pk}, signs=SIGNS, turns=turns)


def section_of(record: Mapping[str, Any], name: str, files: set[str]) -> Section:
    """Return what the page shows of one property.

    :param files: names of the figures of other properties, to which those of this one are added.
    """
    figures = dict(figures_of(record, name))
    if isinstance(Suite(**record["suite"]).properties[name], Speed):
        figures["error and cost"] = pareto_of(record)
    drawings, names = {}, {}
    for title, figure in figures.items():
        file = file_name(f"curve_{name}_{title}", files)
        files.add(file)
        drawings[file] = lambda figure=figure: figure
        names[file] = title.replace("_", " ")
    rows = _rows(record, name)
    return Section(
        name,
        name.replace("_", " ").capitalize(),
        missing="Nothing was computed.",
        drawings=drawings,
        names=names,
        template="validation/property.html.j2",
        told=rows if rows["scores"] or rows["numbers"] else None,
    )


def _rows(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the tables of one property: scores and where their limits are from, numbers; structures to be turned."""
    scores = [row for row in score_rows(record) if row["property"] == name]
    numbers = [row for row in number_rows(record) if row["property"] == name]
    columns = list(dict.fromkeys(key for row in numbers for key in row if key not in ("property", "crystal", "number")))
    sources: dict[str, list[str]] = {}
    for row in scores:
        if "source" in row and row["score"] not in sources.setdefault(row["source"], []):
            sources[row["source"]].append(row["score"])
    return {
        "sources": sources,
        "scores": scores,
        "numbers": numbers,
        "columns": columns,
        "potentials": list(record["scorecard"]["potentials"]),
        "viewer": told(with_local_energies(record, name)),
    }
