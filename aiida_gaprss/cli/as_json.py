"""What ``aiida-gaprss status`` tells, as plain data: for the terminal, and for scripts (``--json``, docs/report.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.kinds import CAMPAIGN, COMPARISON, DATABASE, VALIDATION, kind_of
from aiida_gaprss.cli.told import WHAT, tidy

if TYPE_CHECKING:
    from aiida.orm import Log, WorkChainNode

#: So many of the last messages of a process are shown.
LAST_WORDS = 5


def echo_json(document: Mapping[str, Any]) -> None:
    """Print a document, in ASCII: nothing in it acts on a terminal.

    :raises ValueError: if a number is not finite.
    """
    click.echo(json.dumps(document, indent=1, allow_nan=False))


def listed() -> dict[str, Any]:
    """Return the campaigns of the profile, their comparisons, and the databases that are no part of one, in the order of time."""
    from aiida.orm import QueryBuilder, WorkChainNode

    labels = {"attributes.process_label": {"in": [CAMPAIGN, DATABASE, COMPARISON]}}
    query = QueryBuilder().append(WorkChainNode, filters=labels, tag="c").order_by({"c": "id"})
    nodes = (node for node in query.all(flat=True) if node.process_label == CAMPAIGN or node.caller is None)
    return {"processes": [_row(node) for node in nodes]}


def _row(node: WorkChainNode) -> dict[str, Any]:
    from aiida_gaprss.report.state import state_of

    return {
        "pk": node.pk,
        "uuid": node.uuid,
        "what": WHAT[str(node.process_label)],
        "name": node.label,
        "state": state_of(node),
        "labels": _labels(node),
        "begun": node.ctime.astimezone().isoformat(timespec="seconds"),
    }


def _labels(node: WorkChainNode) -> int:
    from aiida_gaprss.cli.databases import number_of_labels
    from aiida_gaprss.report.collect import training_labels

    if node.process_label == COMPARISON:
        return node.outputs.test.n_frames if "test" in node.outputs else 0
    if node.process_label == VALIDATION:
        return node.outputs.labels.n_frames if "labels" in node.outputs else 0
    return number_of_labels(node) if node.process_label == DATABASE else training_labels(node)


def status_of(node: WorkChainNode) -> dict[str, Any]:
    """Return how far a process is: what the list says of it, what runs, what it has said last, what is amiss, and its numbers."""
    words = [(log.time.astimezone().isoformat(timespec="seconds"), tidy(log.message)) for log in last_words(node)]
    data = kind_of(node).data(node)
    rows: dict[str, Any] = {key: data[key] for key in ("generations", "strategies", "campaigns", "scorecard") if key in data}
    return {
        **_row(node),
        "ended": node.is_terminated,
        "now": running_now(node) or None,
        "said": [{"time": time, "message": message} for time, message in words],
        "trouble": troubles(node),
        **rows,
    }


def last_words(node: WorkChainNode) -> Sequence[Log]:
    """Return the last messages of a process, the latest last."""
    from aiida.orm import Log

    found: Sequence[Log] = Log.collection.get_logs_for(node, order_by=[{"time": "asc"}])[-LAST_WORDS:]
    return found


def running_now(node: WorkChainNode) -> str:
    """Return what is running of a process, empty if nothing is."""
    from aiida_gaprss.cli.progress import running_stage
    from aiida_gaprss.workflows.here.claim import is_interrupted

    return "" if node.is_terminated or is_interrupted(node) else running_stage(node)


def troubles(node: WorkChainNode) -> list[str]:
    """Return what keeps the daemon from going on with a process that has not ended."""
    return list(_troubles(node))


def _troubles(node: WorkChainNode) -> Iterator[str]:
    from aiida_gaprss.cli.daemon import daemon_trouble, paused_processes
    from aiida_gaprss.workflows.here.claim import HERE

    if not node.is_terminated and not node.base.extras.get(HERE, False):
        yield from (trouble for trouble in (paused_processes(), daemon_trouble()) if trouble)
