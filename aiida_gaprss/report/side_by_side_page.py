"""Write the report of a comparison of campaigns: one page, its figures, the numbers as CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aiida_gaprss.report.folder import REPORT, claim
from aiida_gaprss.report.page import COURSE, Section, finite, write_csv, write_json, write_page
from aiida_gaprss.report.side_by_side import (
    FIGURES,
    OF_PARTS,
    failures,
    figures,
    heads_of_files,
    rows_of_files,
    rows_of_parts,
    words_of_test,
)

#: Files of a report.
FILES = ("index.html", "parts.csv", REPORT, *(f"{name}.png" for name in FIGURES))


def write_side_by_side(told: Mapping[str, Any], folder: str | Path, force: bool = False) -> Path:
    """Write ``index.html`` and its companions into ``folder`` and return the path of the page.

    :param told: of :func:`aiida_gaprss.report.side_by_side.told_of`.
    :param force: replace files that are there and not of an earlier state of the comparison.
    :raises FolderError: if there are such.
    """
    target = claim(folder, FILES, (told["uuid"],), force)
    write_csv(target / "parts.csv", [_flat(one, row) for one in told["campaigns"] for row in one["rows"]])
    write_json(target / REPORT, summarise(told))
    sections = sections_of(told)
    return write_page(target, "side_by_side", sections, told["state"], told=told, test=words_of_test(told)[0])


def summarise(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return all numbers of the report as plain data that JSON can hold."""
    return dict(finite(dict(told)))


def sections_of(told: Mapping[str, Any]) -> list[Section]:
    """Return the sections of the page, in their order."""
    drawn = figures(told)
    return [_files(told), *(_figure(name, drawn[name]) for name in FIGURES), _lowest(told), _parts(told)]


def _files(told: Mapping[str, Any]) -> Section:
    caption = (
        "Median (range) over the seeds. Labels until the database knows the ground state, and until its error is within the "
        "limits and stays so to the end; > 170: not with all 170. Errors in meV/atom and eV/Å, of the last potential; lost: it "
        "has no minimum of that structure. The ground state is the lowest structure that any of the campaigns has labelled."
    )
    rows = {"heads": heads_of_files(told), "rows": rows_of_files(told), "left": 1, "caption": caption, "lines": failures(told)}
    return Section(
        "files",
        "Labels until it is found, errors at the end",
        missing="Nothing is compared yet.",
        template="side_by_side/table.html.j2",
        told=rows if rows["rows"] else None,
    )


def _figure(name: str, figure: Figure | None) -> Section:
    title, _, caption = FIGURES[name]
    words = f"Thin: each campaign; thick: median over the seeds of a file. {caption}"
    return Section(name, title, words, "No potential has such an error.", {name: lambda: figure})


def _lowest(told: Mapping[str, Any]) -> Section:
    caption = (
        "At rest with the reference, distinct whatever their density; energies above the lowest of them or the convex hull. Each "
        "potential relaxes them: a structure holds if that leaves it what it is."
    )
    rows = {"lines": words_of_test(told)[1:], "caption": caption}
    return Section("lowest", "The lowest structures", template="side_by_side/lines.html.j2", told=rows)


def _parts(told: Mapping[str, Any]) -> Section:
    caption = (
        "Error: of the ground state, meV/atom, potential minus reference. Lowest, error: largest error of an energy relative to "
        "the ground state; swapped: pairs of held structures in the wrong order. Unseen: frames that were in no training set. "
        "Converged, given up: relaxations of new cells with the potential of the part before; given up are those that collapsed, "
        "exploded, evaporated or failed."
    )
    rows = {"heads": OF_PARTS, "rows": rows_of_parts(told), "left": 2, "caption": caption, "lines": []}
    return Section("parts", "Part by part", template="side_by_side/table.html.j2", told=rows, group=COURSE)


def _flat(campaign: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of numbers: energies in meV/atom, forces in eV/Å."""
    out = {"campaign": campaign["name"], "file": campaign["file"], "seed": campaign["seed"]}
    keys = ("tag", "labels", "known", "ground_held", "ground_error", "held", "difference", "swapped", "pairs", "frames")
    out |= {key: row[key] for key in (*keys, "energy_rmse", "forces_rmse", "relaxations", "converged", "given_up")}
    return out | {f"unseen_{key}": value for key, value in row["unseen"].items()}
