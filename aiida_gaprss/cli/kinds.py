"""What ``aiida-gaprss status`` and ``report`` know of each kind of process: how it is shown, written, and told as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida.orm import WorkChainNode

    from aiida_gaprss.outside.terminal import PlainConsole

#: Process labels.
CAMPAIGN, DATABASE, COMPARISON, VALIDATION = "RssWorkChain", "BuildWorkChain", "CompareCampaignsWorkChain", "ValidateWorkChain"


@dataclass(frozen=True)
class Kind:
    """What is done with a kind of process.

    :param show: prints how far it is, its state in a word given or as the node says it.
    :param tell: prints what there is of it, writes its page into a folder, and returns that; ``write``: prints nothing.
    :param data: returns all its numbers as plain data, those of ``report.json``.
    """

    show: Callable[[WorkChainNode, str, PlainConsole], None]
    tell: Callable[[WorkChainNode, Path, bool], Path]
    write: Callable[[WorkChainNode, Path, bool], Path]
    data: Callable[[WorkChainNode], dict[str, Any]]


def _collected(show: Any, tell: Any, collect: Any, write: Any, summarise: Any) -> Kind:
    """Return a kind whose page and data are made of what is collected of the node first."""

    def page(node: WorkChainNode, folder: Path, force: bool) -> Path:
        return Path(write(collect(node), folder, force))

    return Kind(show, tell, page, lambda node: dict(summarise(collect(node))))


def _campaign() -> Kind:
    from aiida_gaprss.cli.told import print_report, show_campaign
    from aiida_gaprss.report.collect import collect
    from aiida_gaprss.report.write import summarise, write_report

    return _collected(show_campaign, print_report, collect, write_report, summarise)


def _database() -> Kind:
    from aiida_gaprss.cli.databases import report_database, show_database
    from aiida_gaprss.report.database import collect_database
    from aiida_gaprss.report.database_page import summarise, write_database

    return _collected(show_database, report_database, collect_database, write_database, summarise)


def _comparison() -> Kind:
    from aiida_gaprss.cli.side_by_side import show_comparison, tell_side_by_side
    from aiida_gaprss.report.side_by_side import told_of
    from aiida_gaprss.report.side_by_side_page import summarise, write_side_by_side

    return _collected(show_comparison, tell_side_by_side, told_of, write_side_by_side, summarise)


def _validation() -> Kind:
    from aiida_gaprss.cli.told import show_validation, tell_validation
    from aiida_gaprss.report.validation import record_of
    from aiida_gaprss.report.validation_page import write_validation

    return Kind(show_validation, tell_validation, write_validation, record_of)


_KINDS = {CAMPAIGN: _campaign, DATABASE: _database, COMPARISON: _comparison, VALIDATION: _validation}


def kind_of(node: WorkChainNode) -> Kind:
    """Return what is done with a process.

    :raises KeyError: if it is of no such kind.
    """
    return _KINDS[str(node.process_label)]()
