"""Run a task on every frame of ``input.extxyz`` with all cores, keeping each result as soon as it is there.

Called as ``python batch.py relax`` in a folder that holds the task ``relax.py`` and its input.

Results go to ``results.jsonl``, one line per input frame, flushed line by line, so that a job killed at any moment gives back
what it had finished. A line says of which frame it is, and has a checksum (``identity``). ``summary.json`` is written last and
marks a job that came to its own end. Begun again in the same folder, a job does what it had not finished.
"""

from __future__ import annotations

import os

# One thread a process: the cores are kept busy by processes. Set before numpy and quippy start their thread pools.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import ctypes
import io
import json
import mmap
import signal
import sys
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from typing import Any, Protocol

from ase import Atoms
from ase.io import read
from ase.io.extxyz import write_extxyz
from identity import checksum, identity, sealed
from status import NOT_REACHED_WORD

RESULTS = "results.jsonl"
SUMMARY = "summary.json"
INPUT = "input.extxyz"
SETTINGS = "settings.json"

#: Bytes of freed memory that a worker keeps. quippy takes and frees such an amount in every call, and uses some MB of it; given
#: back to the system, and taken again page by page, these are 1.3 ms of the 2.7 ms that a call for a small cell needs.
KEPT_MEMORY = 128 * 1024**2

#: Characters of what is said of a frame; messages of calculators may have a whole output in them.
LONGEST_STATUS = 2000

#: So many frames that kill their workers, and none that does not, end the batch.
HOPELESS = 4


class Task(Protocol):
    """What is done with one frame: ``setup`` once in every worker, ``run`` for every frame."""

    def setup(self, settings: dict[str, Any]) -> None:
        """Prepare the worker, for example load a potential."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        """Return a status (``ok`` or a reason) and the resulting frames."""


_task: Task | None = None
_setup_failure = ""
_frames: list[Atoms] = []
_begun: mmap.mmap


def _start_worker(task: Task, settings: dict[str, Any], frames: list[Atoms], begun: mmap.mmap) -> None:
    global _task, _setup_failure, _frames, _begun
    _frames, _begun = frames, begun
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(1, signal.SIGKILL)  # a worker must not outlive a killed parent
        if hasattr(libc, "mallopt"):  # glibc, see mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            libc.mallopt(-1, KEPT_MEMORY)
            libc.mallopt(-3, KEPT_MEMORY)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        task.setup(settings)
    except Exception as exception:  # raised here it would only show as a dead worker
        traceback.print_exc()
        _setup_failure = f"failed: cannot set up the calculator: {type(exception).__name__}: {exception}"
    _task = task


def _work(index: int, deadline: float) -> str | None:
    if _setup_failure or _task is None:
        return _failure(index, _frames[index], _setup_failure)
    if time.time() >= deadline:
        return None
    _begun[index] = 1
    started, cpu_started = time.perf_counter(), time.process_time()
    who = identity(index, _frames[index])
    try:
        status, frames = _task.run(_frames[index], deadline)
        text = _as_text(frames)
    except Exception as exception:
        traceback.print_exc()
        status, text = f"failed: {type(exception).__name__}: {exception}", ""
    times = {"seconds": round(time.perf_counter() - started, 4), "cpu": round(time.process_time() - cpu_started, 4)}
    return sealed({**who, "status": status[:LONGEST_STATUS], **times, "frames": text})


def _as_text(frames: list[Atoms]) -> str:
    buffer = io.StringIO()
    for frame in frames:
        write_extxyz(buffer, frame, write_results=False)
    return buffer.getvalue()


def _failure(index: int, atoms: Atoms, reason: str) -> str:
    return sealed({**identity(index, atoms), "status": reason[:LONGEST_STATUS], "seconds": 0.0, "cpu": 0.0, "frames": ""})


def finished(frames: list[Atoms]) -> dict[int, str]:
    """Return the lines that a job in this folder that was stopped has left, whole ones of these frames only, by frame."""
    lines: dict[int, str] = {}
    if not os.path.isfile(RESULTS):
        return lines
    with open(RESULTS, encoding="utf-8", errors="replace") as handle:
        for line in handle:
            try:
                result = json.loads(line)
                index = result["index"]
                whole = line.endswith("\n") and result["sum"] == checksum(result)
                mine = identity(index, frames[index]).items() <= result.items()
            except (ValueError, LookupError, TypeError):
                continue
            if whole and mine and not result["status"].startswith(NOT_REACHED_WORD):
                lines[index] = line
    return lines


def cores() -> int:
    """Return the number of cores this job may use."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Batch:
    """Hand the frames to worker processes; survive workers that die."""

    def __init__(self, task: Task, settings: dict[str, Any], frames: list[Atoms]) -> None:
        self.task = task
        self.settings = settings
        self.frames = frames
        self.processes = int(settings.get("processes") or cores())
        # Epoch seconds, understood in every worker; the job stops by itself a little before it would be killed.
        self.deadline = time.time() + float(settings.get("time_limit_s") or 1e9)
        self.done: set[int] = set()
        # Of every frame, whether a worker has begun with it; shared with the workers.
        self.begun = mmap.mmap(-1, max(len(frames), 1))

    def pool(self, processes: int) -> ProcessPoolExecutor:
        # Forked, the workers have the frames without being sent them.
        initargs = (self.task, self.settings, self.frames, self.begun)
        return ProcessPoolExecutor(processes, mp_context=get_context("fork"), initializer=_start_worker, initargs=initargs)

    def keep(self, index: int, line: str) -> None:
        self.output.write(line + "\n")
        self.output.flush()
        self.done.add(index)

    def fail(self, index: int, reason: str) -> None:
        self.keep(index, _failure(index, self.frames[index], reason))

    def run(self) -> None:
        """Process all frames, the largest first so that the cores end together."""
        lines = {} if self.settings.get("begins_anew") else finished(self.frames)
        self.done = set(lines)
        order = sorted(set(range(len(self.frames))) - self.done, key=lambda i: (-len(self.frames[i]), i))
        with open(f"{RESULTS}.new", "w", encoding="utf-8") as handle:
            handle.writelines(lines.values())
        os.replace(f"{RESULTS}.new", RESULTS)
        with open(RESULTS, "a", encoding="utf-8") as self.output:
            dead = 0
            suspects = self.run_pool(order, min(self.processes, max(len(order), 1)))
            while suspects and time.time() < self.deadline:
                # A worker died. Whatever was running is tried again alone, so that only the culprit is given up.
                for index in suspects:
                    if self.run_pool([index], 1):
                        self.fail(index, "failed: the worker process died (memory, crash or kill)")
                        dead += 1
                rest = [i for i in order if i not in self.done]
                if dead >= HOPELESS and dead == len(self.done) - len(lines):  # it is not the frames
                    for index in rest:
                        self.fail(index, f"failed: not tried: the worker process died on the {dead} frames tried")
                    break
                suspects = self.run_pool(rest, self.processes) if rest else []

    def run_pool(self, order: list[int], processes: int) -> list[int]:
        """Run ``order``; return the frames that were worked on when a worker died, or an empty list."""
        waiting = list(reversed(order))
        running: dict[Future[str | None], int] = {}
        for index in order:
            self.begun[index] = 0
        pool = self.pool(processes)
        try:
            while waiting or running:
                # A worker finds its next frame in the queue when it has done one: it need not wait for this process.
                while waiting and len(running) < 2 * processes and time.time() < self.deadline:
                    index = waiting.pop()
                    running[pool.submit(_work, index, self.deadline)] = index
                if not running:
                    break
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    line = future.result()
                    if line is not None:
                        self.keep(running[future], line)
                    del running[future]
        except BrokenProcessPool:
            for future, index in running.items():
                if future.done() and not future.exception() and (line := future.result()):
                    self.keep(index, line)
            left = [index for index in order if index not in self.done]
            return sorted(index for index in left if self.begun[index]) or sorted(left[:processes])
        finally:
            pool.shutdown(wait=not running, cancel_futures=True)
        return []


def main(name: str) -> int:
    """Run the task of module ``name`` on the frames of this folder; return the exit status of the script."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.time()
    if os.path.exists(SUMMARY):  # of a job that was begun before in this folder
        os.remove(SUMMARY)
    task = import_module(name).TASK
    with open(SETTINGS, encoding="utf-8") as handle:
        settings = json.load(handle)
    frames: Any = read(settings.get("input", INPUT), index=":", format="extxyz")
    for index, atoms in enumerate(frames):
        atoms.calc = None
        atoms.info["index"] = index  # what a task names files by
    batch = Batch(task, settings, frames)
    batch.run()
    summary = {
        "frames": len(frames),
        "done": len(batch.done),
        "processes": batch.processes,
        "wall_s": round(time.time() - started, 2),
        "python": sys.version.split()[0],
        "complete": len(batch.done) == len(frames),
    }
    with open(f"{SUMMARY}.part", "w", encoding="utf-8") as handle:
        json.dump(summary, handle)
    os.replace(f"{SUMMARY}.part", SUMMARY)  # it is whole, or not there
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
