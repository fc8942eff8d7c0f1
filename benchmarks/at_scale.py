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
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from machine import PROJECT, ClusterMachine, Machine

DEMO = PROJECT / "aiida_gaprss" / "examples" / "silicon_sw.yaml"
CODES = "codes: {gap_fit: gap_fit@cluster, python: gaprss-python@cluster}\n"

#: Of the cluster: another one may run beside it.
NUMBER = int(os.environ.get("GAPRSS_CLUSTER_NUMBER", "7"))

#: Seconds from one look to the next.
EVERY = 2.0

#: Prints the size of a campaign, and a hash of all its frames and minima.
DUMP = """
import hashlib, sys
from aiida import load_profile, orm
load_profile()
from aiida_gaprss.report.contents import contents
node = orm.load_node(int(sys.argv[1]))
labels = sum(node.outputs.labels[key].base.attributes.get("energies") for key in node.outputs.labels)
atoms = sum(node.outputs.labels[key].base.attributes.get("atoms") for key in node.outputs.labels)
digest = hashlib.sha256("".join(contents(node).values()).encode()).hexdigest()
print(digest, labels, atoms, (node.mtime - node.ctime).total_seconds())
"""


def outputs(machine: Machine, pk: str) -> tuple[str, int, int, float]:
    """Return a hash of what a campaign has made, its labels and their atoms, and its wall time in seconds."""
    digest, labels, atoms, seconds = machine.run(sys.executable, "-c", DUMP, pk).split()[-4:]
    return digest, int(labels), int(atoms), float(seconds)


def sample(machine: ClusterMachine, daemon: list[psutil.Process]) -> dict[str, float]:
    """Return memory of the daemon's processes and of all jobs (MB), and the numbers of jobs that run and wait."""
    states = [state for _, state in machine.queue()]
    job = 0
    for process in psutil.process_iter(["username"]):
        if process.info["username"] == f"gaprss-hpc-{machine.number}":
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


def take(machine: Machine, campaign: Path, edit: Callable[[str], str] = str) -> None:
    """Copy a campaign, and the structures beside it, to the folder of a machine."""
    machine.make()
    for path in campaign.parent.glob("*.extxyz"):
        (machine.folder / path.name).write_bytes(path.read_bytes())
    (machine.folder / campaign.name).write_text(edit(campaign.read_text()))


def long_jobs(computer: str) -> str:
    """Return what is told of a computer, without its codes, and with a wall time that is enough for the largest fit."""
    return re.sub("max_wallclock_seconds.*", "max_wallclock_seconds: 14400", computer[: computer.index("codes:")])


def on_the_cluster(machine: ClusterMachine, campaign: Path, workers: int) -> tuple[str, int, int, float]:
    """Run a campaign through the daemon on the cluster; print figures."""
    print(machine.start(workers, long_jobs), flush=True)
    take(machine, campaign, lambda text: re.sub(r"^codes:.*\n", "", text, flags=re.M) + CODES)
    pk = re.search(r"<(\d+)>", machine.run("aiida-gaprss", "run", "--submit", campaign.name))[1]  # type: ignore[index]
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
    result = outputs(machine, pk)
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
    take(machine, campaign)
    machine.run("aiida-gaprss", "setup")
    output = machine.run("aiida-gaprss", "run", campaign.name, "--report", "report-embedded")
    pk = re.findall(r"<(\d+)>", output)[-1]
    return outputs(machine, pk)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--no-embedded", action="store_true", help="on the cluster only")
    parser.add_argument("--workers", type=int, default=1, help="of the daemon")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="gaprss-at-scale-"))
    folder.mkdir(exist_ok=True, parents=True)
    folder.chmod(0o755)  # its jobs are those of another user
    print(f"all files are in {folder}", flush=True)
    cluster = ClusterMachine(folder / "cluster-side", NUMBER)
    try:
        there = on_the_cluster(cluster, arguments.campaign, arguments.workers)
    finally:
        cluster.wipe()
    print(f"cluster:  {there[1]} labels, {there[2]} environments, {there[3]:.0f} s")
    if not arguments.no_embedded:
        other = Machine(folder / "embedded-side")
        here = embedded(other, arguments.campaign)
        print(f"embedded: {here[1]} labels, {here[2]} environments, {here[3]:.0f} s")
        print("all labels, relaxed frames and minima are the same" if here[0] == there[0] else "THE FRAMES DIFFER")
        sys.exit(here[0] != there[0])


if __name__ == "__main__":
    main()
