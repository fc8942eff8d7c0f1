"""A queue of work from which sister processes draw, each when it is free: none is idle while there is something in it."""

from __future__ import annotations

from aiida.orm import List, QueryBuilder, WorkChainNode

from aiida_gaprss.workflows.jobs.lock import alone

#: Extras of a process: what it has drawn so far, in order; how many of these have failed.
DRAWN, FAILED = "gaprss_drawn", "gaprss_failed"


def draw(node: WorkChainNode, queue: List, done: int, most: int = 1, failures_allowed: int | None = None) -> list[int]:
    """Return up to ``most`` elements of ``queue`` that no process with this input has drawn; empty if there are none.

    What a process has drawn is an extra of its node, of which it is the only writer; a lock lets one process of a profile draw at
    a time. A process that was stopped after a draw and goes on from before it is given the same again.

    :param done: number of elements that this process has drawn before, as it knows.
    :param failures_allowed: if the sisters together had more failures, nothing is given.
    """
    with alone():
        query = QueryBuilder().append(List, filters={"uuid": queue.uuid}, tag="queue")
        query.append(WorkChainNode, with_incoming="queue", project=["uuid", f"extras.{DRAWN}", f"extras.{FAILED}"])
        rows = query.all()
        own = next((list(drawn or []) for uuid, drawn, _ in rows if uuid == node.uuid), [])
        if len(own) > done:
            return own[done:]
        if failures_allowed is not None and sum(failed or 0 for _, _, failed in rows) > failures_allowed:
            return []
        taken = {index for _, drawn, _ in rows for index in drawn or []}
        given = [index for index in queue.get_list() if index not in taken][:most]
        if given:
            node.base.extras.set(DRAWN, own + given)
        return given
