"""A pot of work from which sister processes draw, each when it is free: none is idle while there is something in it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiida.orm import List, QueryBuilder, WorkChainNode

#: Extras of a process: what it has drawn so far, in order; how many of these have failed.
DRAWN, FAILED = "gaprss_drawn", "gaprss_failed"


def draw(node: WorkChainNode, pot: List, done: int, most: int = 1, failures_allowed: int | None = None) -> list[int]:
    """Return up to ``most`` elements of ``pot`` that no process with this input has drawn; empty if there are none.

    What a process has drawn is an extra of its node, of which it is the only writer; a lock lets one process of a profile draw at
    a time. A process that was stopped after a draw and goes on from before it is given the same again.

    :param done: number of elements that this process has drawn before, as it knows.
    :param failures_allowed: if the sisters together had more failures, nothing is given.
    """
    with alone():
        query = QueryBuilder().append(List, filters={"uuid": pot.uuid}, tag="pot")
        query.append(WorkChainNode, with_incoming="pot", project=["uuid", f"extras.{DRAWN}", f"extras.{FAILED}"])
        rows = query.all()
        own = next((list(drawn or []) for uuid, drawn, _ in rows if uuid == node.uuid), [])
        if len(own) > done:
            return own[done:]
        if failures_allowed is not None and sum(failed or 0 for _, _, failed in rows) > failures_allowed:
            return []
        taken = {index for _, drawn, _ in rows for index in drawn or []}
        given = [index for index in pot.get_list() if index not in taken][:most]
        if given:
            node.base.extras.set(DRAWN, own + given)
        return given


@contextmanager
def alone() -> Iterator[None]:
    """Keep all other processes of this profile out: extras are written all at once, and what another writes would be lost."""
    from aiida.manage.configuration import get_config, get_profile

    profile = get_profile()
    assert profile is not None
    with (Path(get_config().dirpath) / f"gaprss-{profile.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
