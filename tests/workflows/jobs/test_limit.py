"""Lanes of all campaigns together: as many at one time as their computer may have."""

import pytest
from aiida.common.links import LinkType
from aiida.orm import WorkChainNode
from plumpy import ProcessState

from aiida_gaprss.settings.computer import MAX_JOBS
from aiida_gaprss.workflows.jobs.limit import lane_ahead


@pytest.fixture
def limit(aiida_localhost):
    """Let this machine have so many jobs."""

    def limit(number):
        aiida_localhost.set_property(MAX_JOBS, number)
        return aiida_localhost

    yield limit
    aiida_localhost.set_property(MAX_JOBS, None)


@pytest.fixture
def lanes(code_here):
    """Make lanes that wait for a calculation."""
    made = []

    def lanes(number, label="LabelLaneWorkChain"):
        for _ in range(number):
            node = WorkChainNode()
            for name in ("python", "pw"):  # a bundle has two codes of one computer
                code = code_here(f"turn-{name}", "/bin/true", "core.arithmetic.add")
                node.base.links.add_incoming(code, LinkType.INPUT_WORK, f"{name}__code")
            node.store()
            node.set_process_label(label)
            node.set_process_state(ProcessState.WAITING)
            made.append(node)
        return made[-number:]

    yield lanes
    for node in made:
        end(node)


def end(node):
    if not node.is_terminated:
        node.set_process_state(ProcessState.FINISHED)
        node.seal()


def test_the_oldest_begin(limit, lanes):
    computer = limit(2)
    a, b, c, d, e = lanes(3) + lanes(2, "BundleLaneWorkChain")
    assert lane_ahead(a, computer) is lane_ahead(b, computer) is None
    assert [lane_ahead(lane, computer).pk for lane in (c, d, e)] == [a.pk, b.pk, c.pk], "each waits for another one"
    end(b)
    assert lane_ahead(c, computer) is None
    assert [lane_ahead(lane, computer).pk for lane in (d, e)] == [a.pk, c.pk]
    end(a)
    assert lane_ahead(d, computer) is None
    assert lane_ahead(e, computer).pk == c.pk
    lanes(1, "FitWorkChain")
    assert lane_ahead(lanes(1)[0], computer).pk == d.pk, "only lanes count"


def test_no_limit_and_other_computers(limit, lanes, aiida_computer_local):
    computer = limit(None)
    *_, last = lanes(3)
    assert lane_ahead(last, computer) is None
    other = aiida_computer_local(label="other-for-turns")
    other.set_property(MAX_JOBS, 1)
    assert lane_ahead(last, other) is None, "the jobs of the others are elsewhere"


def test_status_shows_the_job_and_not_the_lane_that_waits(lanes, aiida_localhost):
    from aiida.orm import CalcJobNode

    from aiida_gaprss.cli.progress import running_stage

    campaign = WorkChainNode().store()
    made = []
    for caller, node, link in (
        (campaign, WorkChainNode(label="first lane"), LinkType.CALL_WORK),
        (0, CalcJobNode(label="b-03", computer=aiida_localhost), LinkType.CALL_CALC),
        (campaign, WorkChainNode(label="second lane"), LinkType.CALL_WORK),
    ):
        node.base.links.add_incoming(caller or made[0], link, f"call_{len(made)}")
        node.store()
        node.set_process_state(ProcessState.WAITING)
        made.append(node)
    try:
        assert running_stage(campaign).startswith("b-03: ")
        end(made[1])
        assert running_stage(campaign).startswith("second lane: ")
    finally:
        for node in made:
            end(node)
