"""The tables of a campaign for the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.table import Table

from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.analysis.numbers import duration, number, significant, space_group
from aiida_gaprss.outside.terminal import PlainConsole
from aiida_gaprss.report.database import DatabaseRecord, strategy_rows
from aiida_gaprss.report.record import CampaignRecord
from aiida_gaprss.report.tables import generation_rows

MINIMA = "Lowest minima (E in eV/atom, pred−ref in meV/atom, V in Å³/atom)"
STRATEGIES = "Strategies: E in eV/atom {above}, largest force in eV/Å"
GENERATIONS = "Generations: median E in eV/atom {above}, energy RMSE in meV/atom on new and on fitted frames"


def minima_table(minima: Sequence[Minimum], limit: int | None = None) -> Table:
    """Return the first ``limit`` minima; E in eV/atom, predicted minus reference in meV/atom, V in Å³/atom."""
    table = Table(box=box.SIMPLE_HEAD, title=MINIMA, title_justify="left", pad_edge=False)
    columns = ("rank", "space group", "atoms", "count", "E_pred", "E_ref", "pred−ref", "V", "")
    for column in columns:
        table.add_column(column, justify="left" if column in ("space group", "") else "right", no_wrap=True)
    for m in minima[:limit]:
        table.add_row(
            str(m.rank),
            f"{space_group(m.symbol)} ({m.space_group})",
            str(m.primitive_atoms),
            str(m.count),
            number(m.predicted_energy, 4),
            number(m.ref_energy, 4),
            number(None if m.error is None else 1000 * m.error, 1),
            number(m.volume, 2),
            "" if m.converged else "not converged",
        )
    return table


def generations_table(record: CampaignRecord) -> Table:
    """Return the parts of a campaign; energies in eV/atom above the lowest or the convex hull, errors in meV/atom."""
    title = GENERATIONS.format(above=record.zero.words)
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    columns = (
        *("generation", "made", "relaxed", "rejected", "selected", "labelled", "failed"),
        *("median E", "RMSE new", "fitted", "time"),
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "generation" else "right", no_wrap=True)
    for row in generation_rows(record):
        table.add_row(
            row["name"],
            *(number(row[key]) for key in ("made", "relaxed", "rejected", "selected", "labelled", "failed")),
            number(row["median_energy_eV/atom"], 3),
            significant(row["new_energy_rmse_meV/atom"]),
            significant(row["training_energy_rmse_meV/atom"]),
            duration(sum(row["seconds"].values())) if row["seconds"] else "–",
        )
    return table


def strategies_table(record: DatabaseRecord) -> Table:
    """Return the strategies of a database; energies in eV/atom above the lowest or the convex hull, forces in eV/Å."""
    title = STRATEGIES.format(above=record.zero.words)
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    columns = ("strategy", "kind", "made", "frames", "labelled", "failed", "atoms", "largest", "median E", "largest F", "dataset")
    for column in columns:
        table.add_column(column, justify="left" if column in ("strategy", "kind") else "right", no_wrap=True)
    for row in strategy_rows(record):
        table.add_row(
            row["strategy"],
            row["kind"],
            *(number(row[key]) for key in ("made", "frames", "labelled", "failed", "atoms", "largest")),
            number(row["median_energy_eV/atom"], 3),
            number(row["largest_force_eV/A"], 2),
            "–" if row["dataset"] is None else f"<{row['dataset']}>",
        )
    return table


def plain(table: Table, width: int = 120) -> str:
    """Return a table as text without colours."""
    stream = io.StringIO()
    PlainConsole(file=stream, width=width, color_system=None, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()).strip("\n") + "\n"
