"""A campaign that is interrupted again and again, at random moments: does it go on, and is the end the same?

python benchmarks/interruptions.py [CAMPAIGN.yaml | --short] [--only KIND ...] [--moments N] [--apart] [--seed N]

Of each kind (Ctrl-C, SIGTERM, SIGHUP, SIGKILL, a full disk) one campaign is interrupted N times, or (--apart) N campaigns once
each; after every interruption ``aiida-gaprss resume`` goes on. Labels, relaxed frames and minima are compared byte for byte with
those of a campaign that was left alone. Without CAMPAIGN: that of ``aiida-gaprss demo``. A full disk needs root, which mounts a
small one.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from machine import PROJECT, Machine

DEMO = PROJECT / "aiida_gaprss" / "examples" / "silicon_sw.yaml"
#: The same stages, with fewer cells.
SHORT = """\
  initial: {random: 20}
  generations:
    - &under_pressure
      cells: {random: 20}
      pressure: {width_GPa: 25.0, rate: 5.0}
      relax: {max_steps: 60, snapshot_steps: [5]}
      select:
        rules:
          - {by: lowest, n: 3}
          - {by: farthest, n: 5}
          - {by: farthest, of: snapshots, n: 4}
    - *under_pressure
  search:
    cells: {random: 40}
    relax: {max_steps: 120, snapshot_steps: [], fmax: 0.02}
"""
SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP, "SIGKILL": signal.SIGKILL}
DISK = "full disk"
KINDS = (*SIGNALS, DISK)

#: Bytes of the disk that is filled; seconds after which a process that was interrupted is said to hang.
SIZE, PATIENCE = "700m", 120.0
#: Seconds in which what watches a job that has ended sees that it has.
GRACE = 5.0

#: Prints what a campaign has made, and how many jobs and frames were calculated for it.
DUMP = """
import hashlib, json, sys
from aiida import load_profile, orm
load_profile()
from aiida_gaprss.report.contents import contents
node = orm.load_node(int(sys.argv[1]))
jobs = [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode)]
print("DUMP" + json.dumps({
    "state": node.process_state.value, "message": node.exit_message or (node.exception or "")[-300:],
    "contents": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in contents(node).items()},
    "jobs": len(jobs), "alive": sum(not n.is_terminated for n in node.called_descendants),
}))
"""


@dataclass
class Story:
    """What became of a campaign."""

    machine: Machine
    pk: str = ""
    moments: list[float] = field(default_factory=list)  #: seconds of running after which it was interrupted
    ends: list[float] = field(default_factory=list)  #: seconds that the process then took to end
    faults: list[str] = field(default_factory=list)
    dump: dict[str, object] = field(default_factory=dict)

    def begin(self, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Run aiida-gaprss; return when the campaign has been named."""
        output = self.machine.folder / "output.txt"
        with output.open("wb") as handle:
            process = subprocess.Popen(
                ["aiida-gaprss", *words],
                cwd=self.machine.folder,
                env=self.machine.environment,
                stdout=handle,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_listen,
            )
        while process.poll() is None:
            if match := re.search(r"campaign .*<(\d+)>, uuid", output.read_text(errors="replace")):
                self.pk = match[1]
                break
            time.sleep(0.05)
        return process, output

    def live(self, words: list[str], moments: list[float], interrupt: object) -> float:
        """Run to the end with interruptions after so many seconds of running; return the seconds that it ran."""
        ran = 0.0
        waiting = list(moments)
        while True:
            process, output = self.begin(*words)
            began = time.monotonic()
            if waiting:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(waiting[0] - ran, 0.1))
                ran += time.monotonic() - began
                if process.poll() is None:
                    waiting = [moment for moment in waiting if moment > ran]
                    self.moments.append(ran)
                    began = time.monotonic()
                    self.interrupt(process, interrupt)
                    self.ends.append(time.monotonic() - began)
                    self.look(output, interrupt)
                    words = ["resume", self.pk] if self.pk else words
                    continue
            else:
                process.wait()
                ran += time.monotonic() - began
            if process.returncode and "has ended: finished" not in output.read_text(errors="replace"):
                self.faults.append(f"ended with {process.returncode}: {output.read_text(errors='replace').strip()[-300:]}")
            break
        text = self.machine.run(sys.executable, "-c", DUMP, self.pk, check=False)
        found = re.search("DUMP(.*)", text)
        self.dump = json.loads(found[1]) if found else {"state": text[-300:]}
        return ran

    def interrupt(self, process: subprocess.Popen[bytes], how: object) -> None:
        """Interrupt, and wait until the process has ended."""
        ballast = self.machine.folder / "disk" / "ballast"
        if how == DISK:
            fill(ballast)
        else:
            process.send_signal(how)  # type: ignore[arg-type]
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.faults.append(f"hung after {self.moments[-1]:.1f} s")
            process.kill()
        finally:
            ballast.unlink(missing_ok=True)

    def look(self, output: Path, how: object) -> None:
        """Look at what a process left that was interrupted."""
        text = output.read_text(errors="replace").strip()
        if "Traceback" in text:
            self.faults.append(f"traceback after {self.moments[-1]:.1f} s: {text[-200:]}")
        if how == signal.SIGKILL:  # nobody stopped its jobs
            return
        last = text.splitlines()[-1] if text else ""
        if "labels in the training set" in text:  # it had ended
            return
        if f"aiida-gaprss resume {self.pk}" not in last:
            self.faults.append(f"last line after {self.moments[-1]:.1f} s: {last}")
        if left := self.machine.processes("PWD", str(self.machine.folder)):
            _, left = psutil.wait_procs(left, timeout=GRACE)
            names = [" ".join(p.cmdline()[:3]) for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
            if names:
                self.faults.append(f"left running: {names}")


def _listen() -> None:
    """Let signals do what they do: some are ignored where this runs behind nohup, or in the background of a script."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def fill(path: Path) -> None:
    """Fill a disk to the last byte."""
    with path.open("wb", buffering=0) as handle, suppress(OSError):
        while True:
            handle.write(bytes(1 << 20))
    with path.open("ab", buffering=0) as handle, suppress(OSError):
        while True:
            handle.write(bytes(512))


def prepared(folder: Path, campaign: str, disk: bool) -> Machine:
    """Return a machine with an AiiDA, all of it on a disk of its own if that is to be filled."""
    machine = Machine(folder)
    folder.mkdir(parents=True)
    if disk:
        (folder / "disk").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder / "disk"], check=True)
        machine.environment["AIIDA_PATH"] = str(folder / "disk" / "aiida")
        (folder / "disk" / "aiida").mkdir()
    else:
        machine.make()
    machine.environment["PWD"] = str(folder)
    machine.run("aiida-gaprss", "setup")
    (folder / "campaign.yaml").write_text(campaign)
    return machine


def main() -> int:
    """Interrupt, compare, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", nargs="?", type=Path, default=DEMO)
    parser.add_argument("--short", action="store_true", help="the demo with fewer cells: two generations, 50 labels at most")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--apart", action="store_true", help="every moment in a campaign of its own")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    text = given.campaign.read_text()
    if given.short:
        text = text.replace("\nreference:", f"\n{SHORT}reference:")
    folder = Path(tempfile.mkdtemp(prefix="gaprss-interruptions-"))
    good = True
    try:
        alone = Story(prepared(folder / "alone", text, disk=False))
        seconds = alone.live(["run", "campaign.yaml"], [], None)
        print(f"undisturbed: {seconds:.0f} s, {alone.dump}", flush=True)
        for kind in given.only:
            moments = sorted(draw.uniform(0.0, seconds) for _ in range(given.moments))
            for number, part in enumerate([[m] for m in moments] if given.apart else [moments]):
                where = folder / f"{kind.replace(' ', '_')}_{number}"
                story = Story(prepared(where, text, kind == DISK))
                try:
                    ran = story.live(["run", "campaign.yaml"], part, SIGNALS.get(kind, kind))
                    same = story.dump.get("contents") == alone.dump["contents"] and story.dump.get("alive") == 0
                    good &= same and not story.faults
                    print(
                        f"{kind}: interrupted after {', '.join(f'{m:.0f}' for m in story.moments)} s; "
                        f"ended within {max(story.ends, default=0):.1f} s; ran {ran:.0f} s; {story.dump.get('jobs')} jobs; "
                        f"{'the same' if same else f'NOT THE SAME: {story.dump}'}"
                        + "".join(f"\n    {fault}" for fault in story.faults),
                        flush=True,
                    )
                finally:
                    if kind == DISK:
                        subprocess.run(["umount", where / "disk"], check=False)
    finally:
        if good:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"left to be looked at: {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
