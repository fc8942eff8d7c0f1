"""In which state a work chain is, and whether its nodes are those that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiida.common.exceptions import NotExistent
from aiida.orm import WorkChainNode

from aiida_gaprss.outside import shown
from aiida_gaprss.report.record import PAUSED, RUNNING
from aiida_gaprss.workflows.here.claim import is_interrupted


class CollectError(ValueError):
    """A campaign of which the nodes are not what a campaign makes, as one of an archive that is not whole."""


#: What nodes raise that are missing or hold something else.
STRANGE = (KeyError, TypeError, AttributeError, IndexError, NotExistent)


@contextmanager
def whole(what: str, node: WorkChainNode) -> Iterator[None]:
    """Turn what nodes raise that are missing or hold something else into one error.

    :param what: kind of the process, for the message.
    :raises CollectError: in its place.
    """
    try:
        yield
    except STRANGE as exception:
        why = f"{type(exception).__name__}: {shown(exception)}"
        raise CollectError(f"{what} <{node.pk}> is not whole, or was not made by this package: {why}") from exception


def state_of(node: WorkChainNode) -> str:
    """Return whether a work chain is running, was interrupted, has finished, or how it failed."""
    if node.is_finished_ok:
        return "finished"
    if node.is_finished:
        return f"failed: {node.exit_message}"
    if node.is_terminated:
        return f"failed: {node.process_state.value if node.process_state else 'unknown'}"
    return PAUSED if is_interrupted(node) else RUNNING
