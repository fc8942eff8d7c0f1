"""An AiiDA in a folder of its own, without services or on the cluster of examples/cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]
SCRIPT = PROJECT / "examples" / "cluster" / "cluster.sh"


class Machine:
    """Commands with an AiiDA of their own in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIIDA")},
            "AIIDA_PATH": str(folder / "aiida"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
            # The same kernels of the BLAS wherever a job runs: others round in other places.
            "OPENBLAS_CORETYPE": "Haswell",
        }

    def make(self) -> None:
        """Make the folder."""
        (self.folder / "aiida").mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)

    def run(self, *command: object, check: bool = True, seconds: float | None = None) -> str:
        """Run a command in the folder; return what it prints, or ``no answer`` when it has not ended after so many seconds.

        :raises RuntimeError: if it fails and ``check`` is set.
        """
        try:
            done = subprocess.run(
                [str(word) for word in command],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "no answer"
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}")
        return done.stdout

    def daemon(self, *words: str) -> list[psutil.Process]:
        """Return the processes of the daemon of this AiiDA whose command has all these words."""
        return self.processes("AIIDA_PATH", self.environment["AIIDA_PATH"], "verdi", "daemon", *words)

    @staticmethod
    def processes(variable: str, value: str, *words: str) -> list[psutil.Process]:
        """Return the processes with a variable that begins so in their environment, and all these words in their command."""
        found = []
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                if process.environ().get(variable, "").startswith(value) and all(word in command for word in words):
                    found.append(process)
            except psutil.Error:
                continue
        return found


class ClusterMachine(Machine):
    """An AiiDA with PostgreSQL, RabbitMQ and a daemon, and ``cluster``: SLURM behind SSH."""

    def __init__(self, folder: Path, number: int) -> None:
        """:param number: of the cluster: others may run beside it."""
        super().__init__(folder)
        self.number = number
        self.cluster = folder / "cluster"
        self.environment |= {
            "GAPRSS_CLUSTER": str(self.cluster),
            "GAPRSS_CLUSTER_NUMBER": str(number),
            "SLURM_CONF": str(self.cluster / "slurm" / "slurm.conf"),
        }

    def script(self, *words: object, check: bool = True, **variables: str) -> None:
        """Call cluster.sh."""
        self.run("env", *(f"{key}={value}" for key, value in variables.items()), "bash", SCRIPT, *words, check=check)

    def start(self, workers: int, edit: Callable[[str], str] = str) -> str:
        """Start everything; return what the setup of the computer says.

        :param workers: of the daemon.
        :param edit: changes computer.yaml.
        """
        self.make()
        self.script("start")
        if not re.search(r"^\W*cluster$", self.run("verdi", "profile", "list", check=False), re.M):
            self.script("profile", "cluster")
        text = (SCRIPT.parent / "computer.yaml").read_text().replace("/tmp/gaprss-cluster/", f"{self.cluster}/")
        if self.number:
            text = text.replace("hostname: gaprss-cluster", f"hostname: gaprss-cluster-{self.number}")
        (self.folder / "computer.yaml").write_text(edit(text))
        said = self.run("aiida-gaprss", "setup", "--computer", "computer.yaml")
        self.run("verdi", "daemon", "start", workers, check=False)  # it may run already
        return said

    def query(self, sql: str) -> list[list[str]]:
        """Ask the database itself, which does not load the daemon."""
        where = ("-h", self.cluster / "postgresql", "-p", 25432 + 10 * self.number, "-U", "postgres", "-d", "cluster")
        text = self.run("psql", "-q", "-A", "-t", "-F", "\t", *where, "-c", sql)
        return [line.split("\t") for line in text.splitlines() if line]

    def queue(self) -> list[list[str]]:
        """Return number and state of every job in the queue."""
        lines = self.run("squeue", "--noheader", "--format=%i %T", check=False).splitlines()
        return [line.split() for line in lines if re.fullmatch(r"\d+ [A-Z_]+", line)]

    def wipe(self) -> None:
        """Stop everything and remove the cluster."""
        self.run("verdi", "daemon", "stop", check=False)
        # Those of a daemon that was killed live on.
        for process in self.processes("AIIDA_PATH", self.environment["AIIDA_PATH"]):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.script("wipe", check=False)
