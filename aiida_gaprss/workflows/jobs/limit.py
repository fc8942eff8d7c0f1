"""So many lanes on a computer, those of all campaigns of a profile together: the others wait for their turn."""

from __future__ import annotations

from aiida.orm import AbstractCode, Computer, ProcessNode, QueryBuilder, WorkChainNode, load_node

from aiida_gaprss.settings.computer import MAX_JOBS

#: States of processes that do nothing more.
TERMINATED = ["finished", "excepted", "killed"]

#: Work chains with one job at one time, of which a labelling has several.
LANES = ("LabelLaneWorkChain", "BundleLaneWorkChain", "RelaxLaneWorkChain", "TrajectoryLaneWorkChain")


def lane_ahead(node: WorkChainNode, computer: Computer | None) -> ProcessNode | None:
    """Return the lane that has to end before this one may begin, or None if it may.

    The oldest lanes that have not ended may, as many as the computer's ``max_jobs``. Lanes that come later are behind them, so
    that one that may begin need not be asked again; and each waits for an older one, so that they never wait for each other.

    :param computer: to which the jobs of the lane go; None if the code does not say.
    """
    if computer is None or (most := computer.get_property(MAX_JOBS, None)) is None:
        return None
    filters = {
        "id": {"<": node.pk},
        "attributes.process_label": {"in": list(LANES)},
        "attributes.process_state": {"!in": TERMINATED},
    }
    query = QueryBuilder().append(Computer, filters={"id": computer.pk}, tag="computer")
    query.append(AbstractCode, with_computer="computer", tag="code")
    query.append(WorkChainNode, with_incoming="code", filters=filters, project="id")
    ahead = sorted(set(query.all(flat=True)))  # a bundle has two codes there
    if len(ahead) < most:
        return None
    lane = load_node(ahead[-most])
    assert isinstance(lane, ProcessNode)
    return lane
