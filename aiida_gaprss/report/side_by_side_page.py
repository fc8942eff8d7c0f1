"""Write the report of a comparison of campaigns: one page, its figures, the numbers as CSV and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida_gaprss.report.folder import REPORT, claim
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
from aiida_gaprss.report.write import finite, save_figure, write_csv, write_json, write_page

#: Files of a report.
FILES = ("index.html", "parts.csv", REPORT, *(f"{name}.png" for name in FIGURES))


def write_side_by_side(told: Mapping[str, Any], folder: str | Path, force: bool = False) -> Path:
    """Write ``index.html`` and its companions into ``folder`` and return the path of the page.

    :param told: of :func:`aiida_gaprss.report.side_by_side.told_of`.
    :param force: replace files that are there and not of an earlier state of the comparison.
    :raises FolderError: if there are such.
    """
    target = claim(folder, FILES, (told["uuid"],), force)
    sections = []
    for name, figure in figures(told).items():
        title, _, caption = FIGURES[name]
        path = target / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)
        image = save_figure(figure, path) if figure is not None else None
        sections.append({"title": title, "caption": caption, "image": image})
    write_csv(target / "parts.csv", [_flat(one, row) for one in told["campaigns"] for row in one["rows"]])
    write_json(target / REPORT, dict(finite(dict(told))))
    return write_page(
        target,
        "side_by_side.html.j2",
        told=told,
        sections=sections,
        files=(heads_of_files(told), rows_of_files(told)),
        parts=(OF_PARTS, rows_of_parts(told)),
        test=words_of_test(told),
        failures=failures(told),
    )


def _flat(campaign: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of numbers: energies in meV/atom, forces in eV/Å."""
    out = {"campaign": campaign["name"], "file": campaign["file"], "seed": campaign["seed"]}
    keys = ("tag", "labels", "known", "ground_held", "ground_error", "held", "difference", "swapped", "pairs", "frames")
    out |= {key: row[key] for key in (*keys, "energy_rmse", "forces_rmse", "relaxations", "converged", "given_up")}
    return out | {f"unseen_{key}": value for key, value in row["unseen"].items()}
