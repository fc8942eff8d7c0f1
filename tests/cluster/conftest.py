"""A cluster for the tests of this folder: SLURM behind SSH, PostgreSQL, RabbitMQ, a daemon."""

import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from helpers import shell_in

from aiida_gaprss.report.contents import contents

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / "examples" / "cluster" / "cluster.sh"
PROGRAMS = ("slurmctld", "slurmd", "munged", "/usr/sbin/sshd", "rabbitmqctl", "runuser")

DUMP = """
import json, sys
from aiida import load_profile, orm
load_profile()
from aiida_gaprss.report.contents import contents
print(json.dumps(contents(orm.load_node(sys.argv[1]))))
"""


@pytest.fixture(scope="session")
def cluster():
    """The script that drives the cluster, which runs, and the environment of its commands."""
    lacking = [program for program in PROGRAMS if not shutil.which(program)]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root and Debian's packages (cluster.sh install); not here: {', '.join(lacking) or 'root'}")
    folder = Path(tempfile.mkdtemp(prefix="gaprss-cluster-", dir="/tmp"))
    folder.chmod(0o755)
    # A number of its own: another cluster of this machine is left alone.
    run = shell_in(folder, GAPRSS_CLUSTER=str(folder / "cluster"), GAPRSS_CLUSTER_NUMBER="9")
    run.folder = folder
    try:
        run("bash", SCRIPT, "start")
        yield run
    finally:
        run("verdi", "daemon", "stop", check=False)
        run("bash", SCRIPT, "wipe", check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def profile(cluster):
    """A profile on PostgreSQL and RabbitMQ whose daemon runs, and the computer ``cluster`` with its codes."""
    cluster("bash", SCRIPT, "profile", "cluster")
    text = (SCRIPT.parent / "computer.yaml").read_text().replace("/tmp/gaprss-cluster/", f"{cluster.folder}/cluster/")
    text = text.replace("hostname: gaprss-cluster", "hostname: gaprss-cluster-9")
    # As many threads as here, and the kernels of the BLAS that are used here.
    text = text.replace("num_cores_per_mpiproc: 2", f"num_cores_per_mpiproc: {os.cpu_count()}")
    kernels = f"export OPENBLAS_CORETYPE={core}" if (core := os.environ.get("OPENBLAS_CORETYPE")) else '""'
    text = re.sub(r"^prepend_text:.*$", f"prepend_text: {kernels}", text, flags=re.M)
    if not Path("/usr/bin/pw.x").exists():
        text = text[: text.index("codes:")]
    (cluster.folder / "computer.yaml").write_text(text)
    said = cluster("aiida-gaprss", "setup", "--computer", cluster.folder / "computer.yaml")
    assert "installing quippy-ase" in said  # nothing was there before
    assert "works    job <" in said
    assert "agrees   its energies are those of this machine" in said
    cluster("verdi", "daemon", "start", 2)
    return said


class Campaigns:
    """Campaigns over the cluster, by its daemon."""

    codes = "codes: {gap_fit: gap_fit@cluster, python: gaprss-python@cluster}\n"

    def __init__(self, cluster):
        self.cluster = cluster

    def submit(self, text):
        """Submit a campaign; return its pk."""
        (self.cluster.folder / "tiny.yaml").write_text(text + self.codes)
        return re.search(r"<(\d+)>", self.cluster("aiida-gaprss", "run", "--submit", "tiny.yaml"))[1]

    def results(self, pk):
        """Wait for the end; return what the campaign has made."""
        ended = f"verdi process show {pk} | grep -qE '^state +(Fin|Exc|Kil)'"
        self.cluster("timeout", 500, "bash", "-c", f"until {ended}; do sleep 1; done")
        assert "finished" in self.cluster("aiida-gaprss", "status", pk), self.cluster(
            "verdi", "process", "report", pk, check=False
        )
        (self.cluster.folder / "dump.py").write_text(DUMP)
        return json.loads(self.cluster(sys.executable, "dump.py", pk).splitlines()[-1])


@pytest.fixture
def campaigns(cluster, profile):
    return Campaigns(cluster)


@pytest.fixture
def results_here(campaign):
    """What the same campaign makes over SQLite and local jobs."""
    made = contents(campaign)
    assert all(made.values()), "labels, relaxed cells, minima"
    return made
