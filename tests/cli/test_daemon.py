"""A campaign in the daemon, which is killed in the middle."""

import os
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import zmq
from helpers import shell_in

from aiida_gaprss.cli.daemon import REPAIR

BIN = Path(sys.executable).parent

STATE = """
from aiida import load_profile
load_profile()
from aiida.orm import load_node
node = load_node({pk})
labels = [child for child in node.called_descendants]
print("STATE", node.process_state.value, node.exit_status, len([c for c in labels if c.is_terminated]), len(labels))
"""

RESULT = """
from aiida import load_profile
load_profile()
from aiida.orm import load_node
node = load_node({pk})
names = [a.info["frame_id"] for tag in node.outputs.labels for a in node.outputs.labels[tag].get_frames()]
energies = sum(node.outputs.labels[tag].base.attributes.get("energies") for tag in node.outputs.labels)
print("RESULT", node.is_finished_ok, len(names), len(set(names)), energies, node.outputs.results["frames"])
"""


@pytest.fixture
def shell(tmp_path):
    """Run commands with an AiiDA of their own; its daemon is stopped at the end in any case."""
    shell = shell_in(tmp_path)
    yield shell
    shell("verdi", "daemon", "stop", check=False)
    for pid in daemon_processes(tmp_path, b""):  # also what a killed daemon leaves running
        os.kill(pid, signal.SIGKILL)


def eventually(what, seconds=240):
    """Wait until ``what()`` is true; return it."""
    end = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)
    return result


def daemon_processes(tmp_path, word=b"verdi"):
    """Return the processes of the daemon of this test, known by their AIIDA_PATH and a word of the command."""
    mark = f"AIIDA_PATH={tmp_path / 'aiida'}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if word in command and any(variable.startswith(mark) for variable in variables):
                found.append(int(entry.name))
    return found


def wait_for(shell, pk, done, seconds):
    """Wait until ``done(state, exit status, finished, begun)``; return what was seen last."""
    end = time.monotonic() + seconds
    while True:
        text = shell(sys.executable, "-c", STATE.format(pk=pk))
        words = next(line for line in text.splitlines() if line.startswith("STATE")).split()[1:]
        if done(words[0], words[1], int(words[2]), int(words[3])) or time.monotonic() > end:
            return words
        time.sleep(1)


def repair(shell):
    """Do what the documents and ``aiida-gaprss status`` say."""
    for command in REPAIR.split("; "):
        shell(*command.split())


@pytest.mark.slow
def test_a_campaign_outlives_its_daemon(shell, campaign_text, tmp_path):
    text = campaign_text[: campaign_text.index("  search:")] + "  search: null\n"
    (tmp_path / "tiny.yaml").write_text(text)
    assert "Ready" in shell("aiida-gaprss", "setup")
    assert "start the daemon" in shell("aiida-gaprss", "run", "tiny.yaml", "--submit", check=False)
    shell("verdi", "daemon", "start")
    text = shell("aiida-gaprss", "run", "tiny.yaml", "--submit")
    pk = int(text.split("<")[1].split(">")[0])

    before = wait_for(shell, pk, lambda state, status, finished, begun: finished >= 3, 240)
    assert before[0] in ("waiting", "running", "created"), "to be killed in the middle"
    processes = daemon_processes(tmp_path)
    assert processes
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    assert "the daemon is not running" in shell("aiida-gaprss", "status", pk)
    shell("verdi", "daemon", "start")
    repair(shell)
    after = wait_for(shell, pk, lambda state, *_: state in ("finished", "excepted", "killed"), 400)
    assert after[:2] == ["finished", "0"], shell("verdi", "process", "report", pk, check=False)
    text = shell(sys.executable, "-c", RESULT.format(pk=pk))
    words = next(line for line in text.splitlines() if line.startswith("RESULT")).split()[1:]
    assert words[0] == "True"
    assert int(words[1]) == int(words[2]) == int(words[3]) == int(words[4]) > 11


@pytest.mark.slow
@pytest.mark.full
def test_workers_that_hear_nothing(shell, campaign_text, tmp_path):
    """As after a kill: a worker begins while the address of the message broker is still that of the killed one."""
    (tmp_path / "tiny.yaml").write_text(campaign_text)
    shell("aiida-gaprss", "setup")
    shell("verdi", "daemon", "start")
    (address,) = eventually(lambda: [*(tmp_path / "aiida").glob(".aiida/broker/*/broker.sockets")])
    right = address.read_text()
    with TemporaryDirectory() as wrong, zmq.Context() as context, context.socket(zmq.ROUTER) as old_broker:
        old_broker.bind(f"ipc://{wrong}/router.sock")
        address.write_text(wrong)
        (worker,) = eventually(lambda: daemon_processes(tmp_path, b"daemon\0worker"))
        os.kill(worker, signal.SIGKILL)  # the daemon begins another one
        assert old_broker.poll(60000), "it calls the old broker"
        address.write_text(right)
        pk = int(shell("aiida-gaprss", "run", "tiny.yaml", "--submit").split("<")[1].split(">")[0])
        eventually(lambda: "no worker of the daemon hears" in shell("aiida-gaprss", "status", pk))
    repair(shell)
    assert wait_for(shell, pk, lambda state, status, finished, begun: finished >= 1, 240)[2] != "0"
    assert REPAIR not in shell("aiida-gaprss", "status", pk)
