"""Drawing work from a queue: all of it, and nothing twice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiida.common.links import LinkType
from aiida.manage.configuration import get_config
from aiida.orm import List, WorkChainNode

from aiida_gaprss.workflows.jobs.queue import FAILED, draw

DRAW = """
import sys, time
from aiida import load_profile
from aiida.orm import load_node
load_profile(sys.argv[1])
from aiida_gaprss.workflows.jobs.queue import draw
node, queue = load_node(sys.argv[2]), load_node(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
done = []
while given := draw(node, queue, len(done), most=2):
    done += given
    time.sleep(0.01)
print(*done)
"""


@pytest.fixture
def lanes(aiida_profile):
    """Make a queue and processes that have it as input."""

    def lanes(number, elements):
        queue = List(elements).store()
        nodes = []
        for _ in range(number):
            node = WorkChainNode()
            node.base.links.add_incoming(queue, LinkType.INPUT_WORK, "queue")
            nodes.append(node.store())
        return queue, nodes

    return lanes


def test_each_draws_what_no_other_has(lanes):
    queue, (a, b) = lanes(2, [5, 3, 8, 1, 9])
    assert draw(a, queue, 0) == [5]
    assert draw(b, queue, 0) == [3]
    assert draw(b, queue, 1, most=2) == [8, 1]
    assert draw(a, queue, 1) == [9]
    assert draw(a, queue, 2) == draw(b, queue, 3) == []


def test_what_was_drawn_before_a_stop_is_given_again(lanes):
    queue, (a, b) = lanes(2, [0, 1, 2])
    assert draw(a, queue, 0) == [0]
    assert draw(a, queue, 0) == [0], "the process does not know that it has drawn"
    assert draw(b, queue, 0) == [1]
    assert draw(a, queue, 1) == [2]


def test_another_pot_of_the_same_content_is_another(lanes):
    queue, (a,) = lanes(1, [0])
    other, (b,) = lanes(1, [0])
    assert draw(a, queue, 0) == draw(b, other, 0) == [0]


def test_failures_of_all_together_end_it(lanes):
    queue, (a, b) = lanes(2, [0, 1, 2, 3])
    assert draw(a, queue, 0, failures_allowed=1) == [0]
    a.base.extras.set(FAILED, 1)
    assert draw(b, queue, 0, failures_allowed=1) == [1]
    b.base.extras.set(FAILED, 1)
    assert draw(a, queue, 1, failures_allowed=1) == []
    assert draw(a, queue, 1) == [2]


def test_processes_that_draw_at_the_same_time(lanes, aiida_profile):
    queue, nodes = lanes(3, list(range(100)))
    environment = {**os.environ, "AIIDA_PATH": str(Path(get_config().dirpath).parent), "PYTHONWARNINGS": "ignore"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DRAW, aiida_profile.name, node.uuid, queue.uuid],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for node in nodes
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    drawn = [[int(index) for index in process.communicate(timeout=120)[0].split()] for process in processes]
    assert sorted(index for some in drawn for index in some) == list(range(100)), "all, and none twice"
    assert all(drawn)
