"""Labels by pw.x through SLURM, of which so many may be in the queue at one time: are they, and never more?

python benchmarks/queue_limit.py [FRAMES] [MOST] [SECONDS] [LABELLINGS]      default: 500 frames, 20 at one time, jobs of 30 s, 1

Of several labellings side by side each has so many frames and asks for so many jobs; MOST is the computer's ``max_jobs``, too.
pw.x itself needs half a second for these cells; before it, the job sleeps, so that it is as long as a short one of a real
calculation.

Root on Debian or Ubuntu and Debian's quantum-espresso. Everything is in a temporary folder and removed at the end.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from machine import PROJECT, ClusterMachine

SUBMIT = """
import sys
from pathlib import Path
import numpy as np
from aiida import load_profile
load_profile()
from aiida.engine import submit
from aiida.orm import Dict, Float, Int, load_code
from aiida_pseudo.data.pseudo.upf import UpfData
from ase import Atoms
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.workflows.label import LabelWorkChain
frames = []
for number in range(int(sys.argv[1])):
    rng = np.random.default_rng([number, int(sys.argv[4])])
    atoms = Atoms("B", cell=np.diag(rng.uniform(2.0, 2.4, 3)), pbc=True)
    atoms.info.update(frame_id=f"b-{number:03d}", config_type="random")
    frames.append(atoms)
with next(Path.cwd().glob("*.UPF")).open("rb") as handle:
    pseudo = UpfData(handle).store()
system = {"ecutwfc": 15.0, "ecutrho": 60.0, "occupations": "smearing", "smearing": "mv", "degauss": 0.05}
options = {"max_wallclock_seconds": 600, "max_memory_kb": 800000, "prepend_text": f"sleep {sys.argv[3]}"}
options["resources"] = {"num_machines": 1, "num_mpiprocs_per_machine": 1, "num_cores_per_mpiproc": 1}
node = submit(
    LabelWorkChain,
    frames=Dataset(frames),
    max_concurrent=int(sys.argv[2]),
    quantumespresso={
        "code": load_code("pw@cluster"),
        "pseudos": {"B": pseudo},
        "parameters": Dict({"SYSTEM": system, "ELECTRONS": {"conv_thr": 1e-6, "electron_maxstep": 100, "mixing_beta": 0.4}}),
        "kpoint_spacing": Float(0.5),
        "max_iterations": Int(1),
        "options": Dict(options),
    },
)
print("PK", node.pk)
"""

RESULT = """
import sys
from aiida import load_profile
load_profile()
from aiida.orm import load_node
node = load_node(int(sys.argv[1]))
times = [c.outputs.output_parameters["wall_time_seconds"] for c in node.called_descendants
         if c.process_label == "PwCalculation" and c.is_finished_ok]
labels = node.outputs.frames.base.attributes.get("energies") if "frames" in node.outputs else 0
print("RESULT", node.exit_status, labels, sum(times) / max(len(times), 1))
"""


def lanes(machine: ClusterMachine, pk: int) -> list[tuple[float, float]]:
    """Return begin and end of the calculation of every frame, as AiiDA saw them."""
    rows = machine.query(
        "select extract(epoch from ctime), extract(epoch from mtime) from db_dbnode "
        f"where id > {pk} and attributes->>'process_label' = 'PwBaseWorkChain' order by ctime"
    )
    return [(float(begin), float(end)) for begin, end in rows]


def below(intervals: list[tuple[float, float]], most: int) -> tuple[float, float, float]:
    """Return for how long fewer than ``most`` were active while others waited: in all, at longest; and the mean number active."""
    first, last = intervals[0][0], intervals[-1][0]  # from the first to the last begin, frames wait
    events = sorted([(begin, 1) for begin, _ in intervals] + [(end, -1) for _, end in intervals])
    total = longest = area = 0.0
    active, since = 0, first
    full = False
    for when, change in events:
        if when > last:
            break
        area += active * (when - since)
        if full and active < most:
            total += when - since
            longest = max(longest, when - since)
        active, since = active + change, when
        full = full or active == most
    return total, longest, area / max(last - first, 1e-9)


def main() -> None:
    frames, most, seconds, labellings = (int(x) for x in (sys.argv[1:5] + ["500", "20", "30", "1"][len(sys.argv) - 1 :]))
    machine = ClusterMachine(Path(tempfile.mkdtemp(prefix="gaprss-queue-")), int(os.environ.get("GAPRSS_CLUSTER_NUMBER", "5")))
    machine.environment["GAPRSS_CLUSTER_CPUS"] = str(max(most, os.cpu_count() or 1))
    samples: list[tuple[float, int]] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.5):
            samples.append((time.time(), len(machine.queue())))

    try:
        machine.start(2, lambda text: f"max_jobs: {most}\n{text}" if labellings > 1 else text)
        machine.run(sys.executable, PROJECT / "examples" / "boron_qe" / "make_pseudopotential.py", machine.folder)
        began = time.time()
        pks = []
        for number in range(labellings):
            said = machine.run(sys.executable, "-c", SUBMIT, frames, most, seconds, number)
            pks.append(int(said.split("PK")[1].split()[0]))
        watch = threading.Thread(target=sample)
        watch.start()
        ended = f"id in ({', '.join(map(str, pks))}) and attributes->>'process_state' in ('finished', 'excepted', 'killed')"
        while int(machine.query(f"select count(*) from db_dbnode where {ended}")[0][0]) < labellings:
            time.sleep(1)
        wall = time.time() - began
        done.set()
        watch.join()
        intervals = lanes(machine, pks[0])
        total, longest, mean = below(intervals, most)
        waiting = [n for when, n in samples if intervals[0][0] < when < intervals[-1][0]]
        results = [machine.run(sys.executable, "-c", RESULT, pk).split("RESULT")[1].split()[:3] for pk in pks]
        labels = sum(int(result[1]) for result in results)
        engine = sum(float(result[2]) for result in results) / labellings
        cycle = sum(end - begin for begin, end in intervals) / len(intervals)
        frames *= labellings
        print(f"{frames} frames in {labellings} labellings, {most} at one time, jobs of {seconds} s and pw.x")
        print(f"{wall:.0f} s, {wall / frames:.2f} s a label; exit status {', '.join(result[0] for result in results)}")
        print(f"labels: {labels}, lost: {frames - labels}")
        print(f"most jobs in the queue at one time: {max(n for _, n in samples)}")
        print(f"jobs in the queue while frames wait, mean: {sum(waiting) / max(len(waiting), 1):.1f}")
        print(f"calculations active in AiiDA while frames wait, mean: {mean:.2f}")
        print(f"fewer than {most} of them while frames wait: {total:.1f} s in all, at most {longest:.1f} s together")
        print(f"a label takes {cycle:.1f} s from begin to end, of which pw.x {engine:.2f} s")
    finally:
        done.set()
        if not os.environ.get("GAPRSS_KEEP"):
            machine.wipe()
            shutil.rmtree(machine.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
