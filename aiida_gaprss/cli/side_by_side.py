"""What commands print and write of a comparison of campaigns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.told import refuse_failed
from aiida_gaprss.outside.terminal import wide_console

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_gaprss.outside.terminal import PlainConsole


def tell_side_by_side(node: WorkChainNode, folder: Path, force: bool = False) -> Path:
    """Print the tables of a comparison of campaigns, and write its page.

    :raises click.ClickException: if it failed.
    """
    from aiida_gaprss.report.side_by_side import told_of
    from aiida_gaprss.report.side_by_side_page import write_side_by_side

    told = told_of(node)
    print_tables(told, wide_console())
    page = write_side_by_side(told, folder, force)
    click.echo(f"Comparison <{node.pk}>; page: {page}")
    if node.is_terminated:
        refuse_failed(node, f"comparison <{node.pk}> failed")
    return page


def print_tables(told: Mapping[str, Any], console: PlainConsole) -> None:
    """Print the test, all parts, and what is told of files, last."""
    from rich import box
    from rich.table import Table

    from aiida_gaprss.report.side_by_side import OF_PARTS, failures, heads_of_files, rows_of_files, rows_of_parts, words_of_test

    for line in words_of_test(told):
        console.print(line)
    for heads, rows in ((OF_PARTS, rows_of_parts(told)), (heads_of_files(told), rows_of_files(told))):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in heads:
            table.add_column(head, justify="left" if head in ("campaign", "part", "file") else "right")
        for row in rows:
            table.add_row(*row)
        if rows:
            console.print(table)
    for line in failures(told):
        console.print(line)


def show_comparison(node: WorkChainNode, state: str, console: PlainConsole) -> None:
    """Print how far a comparison is, and its tables as far as there are any.

    :param state: in a word; empty: as the node says it.
    """
    from aiida_gaprss.report.side_by_side import told_of

    told = told_of(node)
    console.print(f"comparison {node.label} <{node.pk}>: {state or told['state']}")
    if told["campaigns"]:
        print_tables(told, console)
        return
    jobs = [process for process in node.called if process.process_label in ("EvaluateCalculation", "RelaxCalculation")]
    done = sum(job.is_terminated for job in jobs)
    console.print(f"{done} of {2 * len(node.inputs.potentials)} jobs done, two for each potential")
