"""A campaign on the test cluster, undisturbed and then once with each of many faults: does it end, the same, and at what price?

python benchmarks/faults.py [--seed N] [--only NAME ...] [--list]
python benchmarks/faults.py --storm broker 20     # this again and again, at random moments, under three campaigns at a time

Root on Debian or Ubuntu, as for examples/cluster/cluster.sh. Everything is in GAPRSS_CLUSTER (default /tmp/gaprss-faults) and
removed at the end. A fault comes at a chosen moment (so many frames of a job are there), or after a random time, drawn with the
seed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from machine import PROJECT, ClusterMachine

from aiida_gaprss.campaign.file import load_campaign

MACHINE = ClusterMachine(
    Path(os.environ.get("GAPRSS_FAULTS", "/tmp/gaprss-faults")), int(os.environ.get("GAPRSS_CLUSTER_NUMBER", "6"))
)
FOLDER, CLUSTER = MACHINE.folder, MACHINE.cluster
SCRATCH = CLUSTER / "scratch"
WORKERS = 2
ENDED = ("finished", "excepted", "killed")

#: Stillinger-Weber silicon that takes its time, so that a batch of labels can be hit in the middle.
SLOW = """
import time
from quippy.potential import Potential
class Slow(Potential):
    def calculate(self, *args, **kwargs):
        time.sleep(0.2)
        super().calculate(*args, **kwargs)
"""

CAMPAIGN = """\
name: tiny
seed: 11
scratch: keep
reuse_labels: false
reference:
  ase: {ase}
codes: {{gap_fit: gap_fit@cluster, python: gaprss-python@cluster}}
options:
  label: {{prepend_text: export PYTHONPATH={work}, processes: 2}}
  relax: {{processes: 1{relax}}}
settings:
  formula: {{Si: 1}}
  seeds:
    random: {{n_atoms: [2, 3], volume_per_atom: [17.0, 24.0], min_separation: 2.1, n_operations: [1, 2]}}
  initial: {{random: 10}}
  generations:
    - cells: {{random: 20}}
      pressure: {{width_GPa: 10.0}}
      relax: {{max_steps: 50, snapshot_steps: [3]}}
      select:
        rules:
          - {{by: lowest, n: 2}}
          - {{by: farthest, n: 4}}
          - {{by: farthest, of: snapshots, n: 4}}
  fit:
    descriptors:
      - {{kind: distance_2b, cutoff: 4.5, n_sparse: 10}}
      - {{kind: soap, cutoff: 4.5, n_max: 6, l_max: 4, n_sparse: 40, delta: 0.5}}
    sigma: {{energy: 0.005, forces: 0.05, virial: 0.05}}
    config_type_sigma: {{isolated_atom: {{energy: 0.0001, forces: 0.01, virial: 1.0}}}}
  final_fit: null
  search:
    cells: {{random: 8}}
    relax: {{max_steps: 30, fmax: 0.1}}
    label: 2
"""

#: Prints the results of a campaign, and what was calculated for them.
DUMP = """
import json, sys
from collections import Counter
from pathlib import Path
from aiida import load_profile, orm
load_profile()
from aiida_gaprss.report.contents import contents
node = orm.load_node(int(sys.argv[1]))
jobs, frames = Counter(), Counter()
for job in node.called_descendants:
    if isinstance(job, orm.CalcJobNode):
        jobs[job.process_label] += 1
        path = Path(job.get_remote_workdir() or "/nowhere") / "results.jsonl"
        if path.is_file():
            frames[job.process_label] += path.read_text(errors="replace").count("\\n")
said = [log.message for n in (node, *node.called_descendants) for log in orm.Log.collection.get_logs_for(n)]
print("DUMP" + json.dumps({
    "ok": node.is_finished_ok, "state": node.process_state.value, "message": node.exit_message or (node.exception or "")[-300:],
    "contents": contents(node), "jobs": jobs, "frames": frames,
    "said": [text for text in said if "ended before" in text],
}))
"""


def run(*command: Any, check: bool = True, seconds: float = 600) -> str:
    """Run a command and return what it says."""
    return MACHINE.run(*command, check=check, seconds=seconds)


@dataclass
class Campaign:
    """A campaign that the daemon runs."""

    pk: int
    began: float = field(default_factory=time.monotonic)
    by_hand: list[str] = field(default_factory=list)

    def state(self) -> str:
        return MACHINE.query(f"select attributes->>'process_state' from db_dbnode where id = {self.pk}")[0][0]

    def jobs(self, label: str) -> list[tuple[int, str, str, Path]]:
        """Return the jobs of a kind that have not ended: pk, state, number in the queue, folder."""
        rows = MACHINE.query(
            "select id, attributes->>'state', attributes->>'job_id', attributes->>'remote_workdir' from db_dbnode "
            f"where id > {self.pk} and attributes->>'process_label' = '{label}' "
            "and attributes->>'process_state' not in ('finished', 'excepted', 'killed') order by id"
        )
        return [(int(row[0]), row[1], row[2], Path(row[3] or "/nowhere")) for row in rows]

    def wait_for(self, label: str, frames: int = 0, nth: int = 1) -> tuple[str, Path]:
        """Wait until the nth job of a kind runs and has written so many results; return its number and its folder."""
        seen: list[int] = []
        while time.monotonic() - self.began < 300:
            for pk, _, number, folder in self.jobs(label):
                seen += [] if pk in seen else [pk]
                if seen.index(pk) == nth - 1 and number:
                    path = folder / "results.jsonl"
                    done = path.read_text().count("\n") if path.is_file() else 0
                    if (folder / "_scheduler-stderr.txt").exists() and done >= frames:
                        return number, folder
            time.sleep(0.05)
        raise RuntimeError(f"no {label} was seen")

    def wait(self, seconds: float) -> None:
        """Wait for the end; do what the documents say where nothing has moved for long."""
        last, moved, tried = "", time.monotonic(), 0
        while self.state() not in ENDED and time.monotonic() - self.began < seconds:
            now = str([*MACHINE.query(f"select max(mtime), count(*) from db_dbnode where id >= {self.pk}"), MACHINE.queue()])
            if now != last:
                last, moved = now, time.monotonic()
            paused = MACHINE.query(
                f"select id from db_dbnode where id > {self.pk} and attributes->>'paused' = 'true' "
                "and attributes->>'process_state' not in ('finished', 'excepted', 'killed')"
            )
            if paused:
                self.hand("verdi process play --all")
                moved = time.monotonic()
            elif time.monotonic() - moved > 130 and tried < 2:
                tried += 1
                for command in ("verdi daemon stop", "verdi process repair --force", f"verdi daemon start {WORKERS}"):
                    self.hand(command)
                moved = time.monotonic()
            time.sleep(0.5)

    def hand(self, command: str) -> None:
        """Do what a user has to do."""
        self.by_hand.append(command)
        run(*command.split(), check=False)


def next_job() -> int:
    """Return how many jobs SLURM has been given."""
    match = re.search(r"NEXT_JOB_ID\s*=\s*(\d+)", run("scontrol", "show", "config", check=False))
    return int(match[1]) if match else 0


def kill(victims: list[psutil.Process]) -> None:
    """Kill processes without a word."""
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def jobs_of_user(words: str) -> list[psutil.Process]:
    """Return the processes of jobs of this cluster whose command has these words."""
    return MACHINE.processes("HOME", f"{CLUSTER}/home", words)


# --- the faults ---


def daemon_killed(campaign: Campaign) -> None:
    kill(MACHINE.daemon())
    time.sleep(3)
    campaign.hand(f"verdi daemon start {WORKERS}")


def worker_killed(campaign: Campaign) -> None:
    kill(MACHINE.daemon("worker")[:1])


def daemon_restarted(campaign: Campaign) -> None:
    campaign.hand("verdi daemon stop")
    time.sleep(3)
    campaign.hand(f"verdi daemon start {WORKERS}")


def broker_restarted(campaign: Campaign) -> None:
    MACHINE.script("stop", "rabbitmq")
    time.sleep(5)
    MACHINE.script("start", "rabbitmq")


def database_restarted(campaign: Campaign) -> None:
    MACHINE.script("stop", "postgresql", PG_STOP="fast")
    time.sleep(3)
    MACHINE.script("start", "postgresql")


def database_crashed(campaign: Campaign) -> None:
    MACHINE.script("stop", "postgresql", PG_STOP="immediate")
    time.sleep(3)
    MACHINE.script("start", "postgresql")


def ssh_cut(campaign: Campaign) -> None:
    MACHINE.script("stop", "sshd")
    time.sleep(30)
    MACHINE.script("start", "sshd")


def controller_restarted(campaign: Campaign) -> None:
    # Not by SIGKILL: it would forget jobs of the last seconds, give their numbers again, and drain the node for it.
    os.kill(int((CLUSTER / "slurm" / "slurmctld.pid").read_text()), signal.SIGTERM)
    time.sleep(10)
    run("slurmctld")


def node_rebooted(campaign: Campaign) -> None:
    campaign.wait_for("RelaxCalculation", 5)
    kill([psutil.Process(int((CLUSTER / "slurm" / "slurmd.pid").read_text()))])
    kill(MACHINE.processes("SLURM_CONF", f"{CLUSTER}/slurm/slurm.conf", "slurmstepd") + jobs_of_user("batch.py"))
    time.sleep(5)
    run("slurmd", "-b")  # tells that the node was booted


def cancelled(label: str, frames: int = 0, nth: int = 1) -> Callable[[Campaign], None]:
    def cancel(campaign: Campaign) -> None:
        number, _ = campaign.wait_for(label, frames, nth)
        run("scancel", number)

    return cancel


def cancelled_twice(campaign: Campaign) -> None:
    for nth in (1, 2):
        number, _ = campaign.wait_for("RelaxCalculation", 4, nth)
        run("scancel", number)


def job_killed(campaign: Campaign) -> None:
    """As the kernel does for lack of memory: python and its workers, not the job script."""
    campaign.wait_for("LabelCalculation", 4)
    kill(jobs_of_user("batch.py label"))


def disk_full(campaign: Campaign) -> None:
    """The scratch folder is a small file system in this run; something else fills it for half a minute."""
    campaign.wait_for("RelaxCalculation", 4)
    ballast = SCRATCH / "ballast"
    with ballast.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"x" * 4096)
        except OSError:
            pass
    time.sleep(30)
    ballast.unlink()


def cut_after_the_end(label: str, name: str) -> Callable[[Campaign], None]:
    def cut(campaign: Campaign) -> None:
        """The daemon is away when the job ends, and finds half a file."""
        number, folder = campaign.wait_for(label)
        campaign.hand("verdi daemon stop")
        while number in [job for job, _ in MACHINE.queue()]:
            time.sleep(0.3)
        path = folder / name
        os.truncate(path, path.stat().st_size // 2)
        campaign.hand(f"verdi daemon start {WORKERS}")

    return cut


@dataclass
class Fault:
    """What happens, and when."""

    what: str
    inject: Callable[[Campaign], None]
    when: str = ""  #: empty: after a random time
    relax: str = ""  #: further options of the relaxations
    small_disk: bool = False


RELAXING, LABELLING, FITTING = "relaxing, 5 of 20 cells done", "labelling, 4 of 11 frames done", "fitting"


def at(label: str, frames: int, fault: Callable[[Campaign], None]) -> Callable[[Campaign], None]:
    def inject(campaign: Campaign) -> None:
        campaign.wait_for(label, frames)
        fault(campaign)

    return inject


def nothing(campaign: Campaign) -> None:
    """No fault."""


FAULTS = {
    "daemon-kill-1": Fault("daemon killed", daemon_killed),
    "daemon-kill-2": Fault("daemon killed", daemon_killed),
    "daemon-kill-3": Fault("daemon killed", daemon_killed),
    "worker-kill-1": Fault("one worker killed", worker_killed),
    "worker-kill-2": Fault("one worker killed", at("RelaxCalculation", 5, worker_killed), RELAXING),
    "daemon-restart": Fault("daemon stopped and started", at("RelaxCalculation", 5, daemon_restarted), RELAXING),
    "broker-1": Fault("RabbitMQ down for 5 s", broker_restarted),
    "broker-2": Fault("RabbitMQ down for 5 s", broker_restarted),
    "broker-3": Fault("RabbitMQ down for 5 s", broker_restarted),
    "database-fast": Fault("PostgreSQL restarted", at("RelaxCalculation", 5, database_restarted), RELAXING),
    "database-1": Fault("PostgreSQL restarted", database_restarted),
    "database-crash": Fault("PostgreSQL killed (-m immediate)", at("RelaxCalculation", 5, database_crashed), RELAXING),
    "database-crash-1": Fault("PostgreSQL killed (-m immediate)", database_crashed),
    "ssh-1": Fault("SSH cut, down for 30 s", ssh_cut),
    "ssh-2": Fault("SSH cut, down for 30 s", ssh_cut),
    "ssh-3": Fault("SSH cut, down for 30 s", ssh_cut),
    "cancel-relax": Fault("relaxations cancelled", cancelled("RelaxCalculation", 5), RELAXING),
    "cancel-relax-twice": Fault("relaxations cancelled, twice", cancelled_twice, "4 of 20, then 4 of the rest"),
    "cancel-fit": Fault("fit cancelled", cancelled("FitCalculation"), FITTING),
    "cancel-label": Fault("labels cancelled", cancelled("LabelCalculation", 4), LABELLING),
    "cancel-search": Fault("relaxations of the search cancelled", cancelled("RelaxCalculation", 3, 3), "searching, 3 cells done"),
    "job-kill": Fault("python of the labels killed", job_killed, LABELLING),
    "memory": Fault("relaxations ask for 120 MB", nothing, "from the start", relax=", max_memory_kb: 120000"),
    "wall-time": Fault("relaxations get 4 s", nothing, "from the start", relax=", max_wallclock_seconds: 4"),
    "disk-full": Fault("scratch full for 30 s", disk_full, RELAXING, small_disk=True),
    "half-results": Fault(
        "half of the results lost before they are fetched", cut_after_the_end("RelaxCalculation", "results.jsonl"), "relaxing"
    ),
    "half-potential": Fault("half of gap.xml lost before it is fetched", cut_after_the_end("FitCalculation", "gap.xml"), FITTING),
    "slurmctld": Fault("slurmctld down for 10 s", at("RelaxCalculation", 5, controller_restarted), RELAXING),
    "slurmctld-1": Fault("slurmctld down for 10 s", controller_restarted),
    "node": Fault("node reboots", node_rebooted, RELAXING),
}


# --- one run ---


def mounted() -> bool:
    return os.path.ismount(SCRATCH)


def submit(relax: str = "") -> Campaign:
    """Submit the campaign, with further options of the relaxations."""
    (FOLDER / "tiny.yaml").write_text((FOLDER / "campaign.in").read_text().replace("@relax@", relax))
    match = re.search(r"<(\d+)>", run("aiida-gaprss", "run", "--submit", "tiny.yaml"))
    assert match is not None
    return Campaign(int(match[1]))


def dump(campaign: Campaign) -> dict[str, Any]:
    """Return what a campaign has made, and with which jobs."""
    text = run(sys.executable, "-c", DUMP, campaign.pk)
    out: dict[str, Any] = json.loads(text[text.index("DUMP") + 4 :].splitlines()[0])
    return out


def one_run(fault: Fault, delay: float) -> dict[str, Any]:
    """Run a campaign with a fault; return what came of it."""
    if fault.small_disk:
        run("mount", "-t", "tmpfs", "-o", "size=300m,mode=777", "tmpfs", SCRATCH)
    before, started = next_job(), time.monotonic()
    campaign = submit(fault.relax)
    try:
        if not fault.when:
            time.sleep(max(0.0, delay - (time.monotonic() - started)))
        fault.inject(campaign)
        campaign.wait(500)
    finally:
        wall = time.monotonic() - campaign.began
        state = campaign.state()
        if state not in ENDED:
            run("verdi", "process", "report", campaign.pk, check=False)
        out = dump(campaign)
        if fault.small_disk:
            run("umount", "-l", SCRATCH)
    return out | {"wall": wall, "by_hand": campaign.by_hand, "slurm": next_job() - before, "state": state, "pk": campaign.pk}


#: What can be done again and again.
STORMS = {"broker": broker_restarted, "database": database_restarted, "worker": worker_killed, "daemon": daemon_killed}


def storm(name: str, times: int, seed: int) -> str:
    """Do the same so many times at random moments, beneath three campaigns at a time; return what came of them."""
    rng = random.Random(f"{seed} storm {name}")
    normal = one_run(Fault("none", nothing, "never"), 0.0)
    campaigns: list[Campaign] = []
    for turn in range(times):
        while sum(campaign.state() not in ENDED for campaign in campaigns) < 3:
            campaigns.append(submit())
        time.sleep(rng.uniform(0.5, 12.0))
        STORMS[name](campaigns[-1])
        print(f"{turn + 1} of {times}, {len(campaigns)} campaigns", file=sys.stderr, flush=True)
        time.sleep(15)  # for the workers to begin
    for campaign in campaigns:
        campaign.wait(3600)
    results = [dump(campaign) for campaign in campaigns]
    same = sum(result["ok"] and result["contents"] == normal["contents"] for result in results)
    replaced = MACHINE.query("select count(*) from db_dbnode where extras ? 'gaprss_never_begun'")[0][0]
    hand = sum("repair" in command for campaign in campaigns for command in campaign.by_hand)
    ended = sum(campaign.state() in ENDED for campaign in campaigns)
    return (
        f"{name}, {times} times: of {len(campaigns)} campaigns {ended} ended, {same} of them like the undisturbed one; "
        f"{replaced} processes replaced that nobody would have begun; verdi process repair needed {hand} times"
    )


def write_campaign() -> None:
    """Write the campaign, but for what a fault changes in it."""
    reference = load_campaign(PROJECT / "aiida_gaprss" / "examples" / "silicon_sw.yaml").config.reference.ase
    assert reference is not None
    (FOLDER / "slow_silicon.py").write_text(SLOW)
    ase = {**reference.model_dump(), "calculator": "slow_silicon.Slow"}
    (FOLDER / "campaign.in").write_text(CAMPAIGN.format(ase=json.dumps(ase), work=FOLDER, relax="@relax@"))


def wipe() -> None:
    """Leave nothing behind."""
    if mounted():
        run("umount", "-l", SCRATCH, check=False)
    MACHINE.wipe()
    shutil.rmtree(FOLDER, ignore_errors=True)


def row(fault: Fault, when: str, result: dict[str, Any], normal: dict[str, Any]) -> str:
    """Return a row of the table."""
    if not result["ok"]:
        end = f"**{result['state']}**: {result['message'].strip()}"
    else:
        different = [key for key, text in result["contents"].items() if text != normal["contents"][key]]
        end = f"**differs**: {', '.join(different)}" if different else "identical"
    twice = {key: n - normal["frames"].get(key, 0) for key, n in result["frames"].items()}
    twice = {key.removesuffix("Calculation"): n for key, n in twice.items() if n}
    jobs = {key: n - normal["jobs"].get(key, 0) for key, n in result["jobs"].items()}
    jobs = {key.removesuffix("Calculation"): n for key, n in jobs.items() if n}
    again = ", ".join([f"{n:+d} frames {key}" for key, n in twice.items()] + [f"{n:+d} job {key}" for key, n in jobs.items()])
    lost = result["slurm"] - normal["slurm"] - sum(jobs.values())
    again += f", {lost:+d} job in the queue" if lost else ""
    said = "; ".join(
        re.sub(r" <\d+>|; the output holds those that are finished.", "", text.split("]: ")[-1]) for text in result["said"]
    )
    hand = "; ".join(result["by_hand"]) or "nothing"
    extra = f"{result['wall'] - normal['wall']:+.0f} s"
    return f"| {fault.what} | {when} | {said or 'went on'} | {hand} | {extra} | {end} | {again or 'nothing'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[*FAULTS], choices=[*FAULTS], metavar="NAME")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--storm", nargs=2, metavar=("NAME", "TIMES"), help=f"one of {', '.join(STORMS)}")
    given = parser.parse_args()
    if given.storm and not (given.storm[0] in STORMS and given.storm[1].isdigit()):
        parser.error(f"--storm {' '.join(given.storm)}: expected one of {', '.join(STORMS)}, and how many times")
    if given.list:
        print("\n".join(FAULTS))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        MACHINE.start(WORKERS, lambda text: text[: text.index("codes:")])
        write_campaign()
        if given.storm:
            print(storm(given.storm[0], int(given.storm[1]), given.seed), flush=True)
            return
        normal = one_run(Fault("none", nothing, "never"), 0.0)
        assert normal["ok"], normal["message"]
        print(f"undisturbed: {normal['wall']:.0f} s, jobs {normal['jobs']}, frames {normal['frames']}\n", flush=True)
        print(
            "| fault | when | what happened | by hand | wall time | result | calculated again |\n|---|---|---|---|---|---|---|",
            flush=True,
        )
        for name in given.only:
            fault = FAULTS[name]
            delay = random.Random(f"{given.seed} {name}").uniform(2.0, normal["wall"] - 3.0)
            try:
                result = one_run(fault, delay)
            except (RuntimeError, ValueError, OSError) as error:
                print(
                    f"| {fault.what} | {fault.when or f'{delay:.1f} s'} | could not be tried: {str(error)[-300:]} |", flush=True
                )
                continue
            print(row(fault, fault.when or f"random: {delay:.1f} s", result, normal), flush=True)
    finally:
        if not os.environ.get("GAPRSS_KEEP"):
            wipe()


if __name__ == "__main__":
    main()
