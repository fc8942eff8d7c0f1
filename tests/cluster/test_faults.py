"""Campaigns on a cluster on which something breaks. More faults: ``benchmarks/faults.py``."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "cluster" / "cluster.sh"

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.full]

#: The reference, but slow enough to be hit in the middle of a batch.
SLOW = """
import time
from quippy.potential import Potential
class Slow(Potential):
    def calculate(self, *args, **kwargs):
        time.sleep(0.3)
        super().calculate(*args, **kwargs)
"""


def running(cluster, script, results=0):
    """Wait for a job that runs ``script`` and has so many results; return its number and folder."""
    slurm = f"SLURM_CONF={cluster.folder}/cluster/slurm/slurm.conf"
    end = time.monotonic() + 240
    while time.monotonic() < end:
        for line in cluster("env", slurm, "squeue", "-h", "-t", "R", "-o", "%i %Z", check=False).splitlines():
            number, _, folder = line.partition(" ")
            path = Path(folder) / "results.jsonl"
            if (Path(folder) / script).exists() and (path.read_text().count("\n") if path.exists() else 0) >= results:
                return number, Path(folder)
        time.sleep(0.1)
    raise AssertionError(f"no job with {script} has been seen")


def python_of(folder):
    """Return the process group leader of the batch that runs in a folder."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == folder and b"batch.py" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no python in {folder}")


def test_jobs_killed_and_cancelled(cluster, campaigns, campaign_text, results_here):
    """The labels in the middle, the relaxations before they begin: what is there is kept, and the end is the same."""
    (cluster.folder / "slow_silicon.py").write_text(SLOW)
    assert "quippy.potential.Potential" in campaign_text
    text = campaign_text.replace("quippy.potential.Potential", "slow_silicon.Slow")
    label = f"{{prepend_text: export PYTHONPATH={cluster.folder}, processes: 1}}"
    text += f"options: {{label: {label}, relax: {{prepend_text: sleep 3}}}}\n"
    pk = campaigns.submit(text)
    _, folder = running(cluster, "label.py", results=4)
    os.kill(python_of(folder), signal.SIGKILL)
    number, _ = running(cluster, "relax.py")
    cluster("env", f"SLURM_CONF={cluster.folder}/cluster/slurm/slurm.conf", "scancel", number)
    assert campaigns.results(pk) == results_here
    assert 4 <= (folder / "results.jsonl").read_text().count("\n") < 11, "the batch was cut"
    report = cluster("verdi", "process", "report", pk)
    assert "relax: job <" in report
    assert "ended before it was done (kill)" in report


def test_a_broker_that_restarts(cluster, campaigns, campaign_text, results_here):
    """RabbitMQ is away for some seconds, in the middle of it."""
    delay = random.Random(1).uniform(1, 25)
    pk = campaigns.submit(campaign_text)
    time.sleep(delay)
    cluster("bash", SCRIPT, "stop", "rabbitmq")
    cluster("bash", SCRIPT, "start", "rabbitmq")
    assert campaigns.results(pk) == results_here
