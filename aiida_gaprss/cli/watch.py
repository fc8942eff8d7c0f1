"""Looking again and again at what runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aiida.orm import ProcessNode

#: Seconds between two looks at a status, and between two pages, if none are given.
STATUS_S, PAGE_S = 10.0, 60.0


def watched(seconds: float, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option of a command that may be repeated until something has ended.

    :param seconds: taken where the option is given without a number.
    """
    return click.option(
        "--watch",
        type=click.FloatRange(min=1),
        is_flag=False,
        flag_value=seconds,
        metavar="[SECONDS]",
        help=f"{what} until it has ended, every {seconds:g} s or as often as you say, after CAMPAIGN. Ctrl-C ends this alone.",
    )


def has_ended(node: ProcessNode) -> bool:
    """Ask the database: what this process has read of a node may be old."""
    from aiida.orm import ProcessNode, QueryBuilder

    from aiida_gaprss.workflows.jobs.limit import TERMINATED

    filters = {"uuid": node.uuid, "attributes.process_state": {"in": TERMINATED}}
    query = QueryBuilder().append(ProcessNode, filters=filters)
    return query.count() > 0


def until_ended(node: ProcessNode, seconds: float, look: Callable[[], None]) -> bool:
    """Look every so many seconds while a process has not ended; tell whether it has, and nobody has interrupted this."""
    try:
        while not has_ended(node):
            look()
            time.sleep(seconds)
    except KeyboardInterrupt:
        click.echo()
        return False
    return True
