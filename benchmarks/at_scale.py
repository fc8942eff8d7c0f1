"""A campaign on a cluster: wall time, share of the engine, memory, storage; and the same campaign without services.

python benchmarks/at_scale.py [CAMPAIGN.yaml] [--no-embedded] [--folder FOLDER]

As root on Debian or Ubuntu: starts the cluster of examples/cluster (SLURM behind SSH, PostgreSQL, RabbitMQ), runs the campaign
there through the daemon, and looks at it every two seconds. Then runs it again on a profile with SQLite and jobs of this machine,
and compares all labels, relaxed frames and minima byte for byte. All files are in FOLDER (default: a temporary one): samples.csv,
and the report of either.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

PROJECT = Path(__file__).parents[1]
SCRIPT = PROJECT / "examples" / "cluster" / "cluster.sh"
DEMO = PROJECT / "aiida_gaprss" / "examples" / "silicon_sw.yaml"
CODES = "codes: {gap_fit: gap_fit@cluster, python: gaprss-python@cluster}\n"

#: Of the cluster: another one may run beside it.
NUMBER = int(os.environ.get("GAPRSS_CLUSTER_NUMBER", "7"))

#: Seconds from one look to the next.
EVERY = 2.0

#: Prints the outputs of a campaign without the names of what made them; times, memory and storage go to the standard error.
DUMP = """
import hashlib, re, sys
from aiida import load_profile, orm
load_profile()
node = orm.load_node(int(sys.argv[1]))
texts = [space[key].text() for space in (node.outputs.labels, node.outputs.relaxed) for key in sorted(space)]
texts += [node.outputs.minima_frames.text()] if "minima_frames" in node.outputs else []
text = re.sub("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", "".join(texts))
labels = sum(node.outputs.labels[key].base.attributes.get("energies") for key in node.outputs.labels)
atoms = sum(node.outputs.labels[key].base.attributes.get("atoms") for key in node.outputs.labels)
print(hashlib.sha256(text.encode()).hexdigest(), labels, atoms, (node.mtime - node.ctime).total_seconds())
"""


class Machine:
    """Commands with an AiiDA of their own in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        self.folder = folder
        (folder / "aiida").mkdir(parents=True)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIIDA")},
            "AIIDA_PATH": str(folder / "aiida"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
            # The same kernels of the BLAS on either side: others round in other places.
            "OPENBLAS_CORETYPE": "Haswell",
        }

    def run(self, *command: object, check: bool = True, timeout: float | None = None) -> str:
        """Run a command; return what it prints."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}: {done.stdout}")
        return done.stdout

    def outputs(self, pk: str) -> tuple[str, int, int, float]:
        """Return a hash of all frames of a campaign, its labels and their atoms, and its wall time in seconds."""
        digest, labels, atoms, seconds = self.run(sys.executable, "-c", DUMP, pk).split()[-4:]
        return digest, int(labels), int(atoms), float(seconds)

    def daemon(self) -> list[psutil.Process]:
        """Return the processes of the daemon of this AiiDA."""
        found = []
        for process in psutil.process_iter():
            try:
                of_this = process.environ().get("AIIDA_PATH", "").startswith(self.environment["AIIDA_PATH"])
                if of_this and "daemon" in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found


def sample(machine: Machine, daemon: list[psutil.Process]) -> dict[str, float]:
    """Return memory of the daemon's processes and of all jobs (MB), and the numbers of jobs that run and wait."""
    states = machine.run("squeue", "--noheader", "--format=%T", check=False).split()
    job = 0
    for process in psutil.process_iter(["username"]):
        if process.info["username"] == f"gaprss-hpc-{NUMBER}":
            try:
                job += process.memory_info().rss
            except psutil.Error:
                continue
    alive = [process.memory_info().rss / 1e6 for process in daemon if process.is_running()]
    return {
        "daemon_MB": round(sum(alive), 1),
        "largest_worker_MB": round(max(alive, default=0.0), 1),
        "jobs_MB": round(job / 1e6, 1),
        "running": states.count("RUNNING"),
        "queued": len(states),
    }


def on_the_cluster(machine: Machine, campaign: Path, workers: int) -> tuple[str, int, int, float]:
    """Run a campaign through the daemon on the cluster, which is there; print figures."""
    machine.run("bash", SCRIPT, "profile", "cluster")
    computer = (SCRIPT.parent / "computer.yaml").read_text().replace("/tmp/gaprss-cluster/", f"{machine.folder}/cluster/")
    computer = computer[: computer.index("codes:")].replace("hostname: gaprss-cluster", f"hostname: gaprss-cluster-{NUMBER}")
    (machine.folder / "computer.yaml").write_text(re.sub("max_wallclock_seconds.*", "max_wallclock_seconds: 14400", computer))
    print(machine.run("aiida-gaprss", "setup", "--computer", "computer.yaml"), flush=True)
    machine.run("verdi", "daemon", "start", workers)
    text = re.sub(r"^codes:.*\n", "", campaign.read_text(), flags=re.M) + CODES
    here = machine.folder / campaign.name
    here.write_text(text)
    pk = re.search(r"<(\d+)>", machine.run("aiida-gaprss", "run", "--submit", here))[1]  # type: ignore[index]
    os.environ["AIIDA_PATH"] = machine.environment["AIIDA_PATH"]
    from aiida import load_profile
    from aiida.manage import get_manager
    from aiida.orm import ProcessNode, QueryBuilder

    load_profile()
    started, rows, daemon = time.time(), [], machine.daemon()
    state = QueryBuilder().append(ProcessNode, filters={"id": int(pk)}, project="attributes.process_state")
    with (machine.folder / "samples.csv").open("w", newline="") as handle:
        while state.first(flat=True) not in ("finished", "excepted", "killed"):
            row = {"seconds": round(time.time() - started, 1), **sample(machine, daemon)}
            if not rows:
                writer = csv.DictWriter(handle, row)
                writer.writeheader()
            rows.append(row)
            writer.writerow(row)
            handle.flush()
            time.sleep(EVERY)
    get_manager().reset_profile()  # its database is about to end
    result = machine.outputs(pk)
    print(machine.run("aiida-gaprss", "report", pk, "-o", "report-cluster"))
    print(machine.run("aiida-gaprss", "storage", pk))
    tell(rows, result[3])
    left = sum(1 for path in (machine.folder / "cluster" / "scratch").rglob("*") if path.is_file())
    print(f"files left in the scratch: {left}")
    return result


def tell(rows: list[dict[str, float]], seconds: float) -> None:
    """Print what the samples say."""
    column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    idle = 100 * np.mean(column["queued"] == 0)
    print(f"wall time {seconds:.0f} s; no job in the queue at {idle:.1f} % of the looks: the share of the engine")
    print(f"largest memory: jobs {column['jobs_MB'].max():.0f} MB, daemon {column['daemon_MB'].max():.0f} MB in all")
    times, memory = column["seconds"], column["daemon_MB"]
    quarters = [
        memory[(times >= low) & (times <= high)] for low, high in np.array([(0, 1), (1, 2), (2, 3), (3, 4)]) / 4 * times[-1]
    ]
    text = ", ".join(f"{part.mean():.0f}" for part in quarters if len(part))
    print(f"daemon by quarter of the time: {text} MB (mean)")
    late = times > 0.25 * times[-1]
    if late.sum() > 10:
        slope = np.polyfit(times[late] / 3600, memory[late], 1)[0]
        print(f"daemon after the first quarter: {slope:+.1f} MB per hour")


def embedded(machine: Machine, campaign: Path) -> tuple[str, int, int, float]:
    """Run the campaign on SQLite and local jobs."""
    (machine.folder / campaign.name).write_text(campaign.read_text())
    machine.run("aiida-gaprss", "setup")
    output = machine.run("aiida-gaprss", "run", campaign.name, "--report", "report-embedded")
    pk = re.findall(r"<(\d+)>", output)[-1]
    return machine.outputs(pk)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--no-embedded", action="store_true", help="on the cluster only")
    parser.add_argument("--workers", type=int, default=1, help="of the daemon")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="gaprss-at-scale-"))
    folder.mkdir(exist_ok=True, parents=True)
    folder.chmod(0o755)
    print(f"all files are in {folder}", flush=True)
    cluster = Machine(folder / "cluster-side")
    cluster.environment |= {
        "GAPRSS_CLUSTER": str(cluster.folder / "cluster"),
        "GAPRSS_CLUSTER_NUMBER": str(NUMBER),
        "SLURM_CONF": str(cluster.folder / "cluster" / "slurm" / "slurm.conf"),
    }
    for path in arguments.campaign.parent.glob("*.extxyz"):
        (cluster.folder / path.name).write_bytes(path.read_bytes())
    try:
        cluster.run("bash", SCRIPT, "start")
        there = on_the_cluster(cluster, arguments.campaign, arguments.workers)
    finally:
        cluster.run("verdi", "daemon", "stop", check=False)
        cluster.run("bash", SCRIPT, "wipe", check=False)
    print(f"cluster:  {there[1]} labels, {there[2]} environments, {there[3]:.0f} s")
    if not arguments.no_embedded:
        other = Machine(folder / "embedded-side")
        for path in arguments.campaign.parent.glob("*.extxyz"):
            (other.folder / path.name).write_bytes(path.read_bytes())
        here = embedded(other, arguments.campaign)
        print(f"embedded: {here[1]} labels, {here[2]} environments, {here[3]:.0f} s")
        print("all labels, relaxed frames and minima are the same" if here[0] == there[0] else "THE FRAMES DIFFER")
        sys.exit(here[0] != there[0])


if __name__ == "__main__":
    main()
