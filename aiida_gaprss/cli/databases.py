"""What ``aiida-gaprss status`` and ``report`` tell of a database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_gaprss.outside.terminal import PlainConsole
    from aiida_gaprss.report.database import DatabaseRecord


def show_database(node: WorkChainNode, state: str, console: PlainConsole) -> None:
    """Print the strategies of a database with what each has made so far, and what failed.

    :param state: in a word; empty: as the node says it.
    """
    from aiida_gaprss.report.database import collect_database

    record = collect_database(node)
    console.print(f"database {record.label or 'without a name'} <{node.pk}>: {state or record.state}")
    _tell(record, console)
    if record.labelling is not None:
        console.print("labels: {} of {} frames calculated".format(*record.labelling))


def report_database(node: WorkChainNode, folder: Path, force: bool) -> Path:
    """Print the strategies of a database, write its report, and return the page."""
    from aiida_gaprss.outside.terminal import wide_console
    from aiida_gaprss.report.database import collect_database
    from aiida_gaprss.report.database_page import write_database

    record = collect_database(node)
    _tell(record, wide_console())
    return write_database(record, folder, force)


def _tell(record: DatabaseRecord, console: PlainConsole) -> None:
    from aiida_gaprss.report.database import strategy_rows
    from aiida_gaprss.report.record import failures_by_reason
    from aiida_gaprss.report.text import strategies_table

    console.print(strategies_table(record))
    for name, fate in record.crystals.items():
        console.print(f"crystal {name}: {fate}")
    for row in strategy_rows(record):
        if row["told"]:
            console.print(f"{row['strategy']}: {row['told']}")
    for reason, names in failures_by_reason(record.failures)[:5]:
        console.print(f"{len(names)} without a label, as {names[0]}: {reason}")
    if record.labels_pk is not None:
        console.print(f"{len(record.labels)} labels, each structure once: <{record.labels_pk}>")


def number_of_labels(node: WorkChainNode) -> int:
    """Return how many labels a database has, without reading a frame."""
    return int(node.outputs.labels.base.attributes.get("energies")) if "labels" in node.outputs else 0
