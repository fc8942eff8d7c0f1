"""The programs of jobs, on this machine or another, and how they are stopped."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import psutil
from aiida.common.datastructures import CalcJobState
from aiida.engine.daemon.execmanager import kill_calculation
from aiida.orm import CalcJobNode
from aiida.schedulers.datastructures import JobState

#: Seconds until a job that was stopped must be gone.
PATIENCE = 10.0


def folder_here(job: CalcJobNode) -> str | None:
    """Return the scratch folder of a job that this machine runs without a scheduler; None if it has none, or runs elsewhere."""
    computer = job.computer
    is_here = computer is not None and (computer.transport_type, computer.scheduler_type) == ("core.local", "core.direct")
    return job.get_remote_workdir() if is_here else None


def stop_program(job: CalcJobNode) -> bool:
    """Stop the program of a job; tell whether it was running."""
    folder = folder_here(job)
    return stop_in(folder) if folder else stop_elsewhere(job)


def stop_elsewhere(job: CalcJobNode) -> bool:
    """Stop the program of a job through its scheduler; tell whether it was running."""
    number, computer = job.get_job_id(), job.computer
    if job.get_state() != CalcJobState.WITHSCHEDULER or number is None or computer is None:
        return False
    with job.get_authinfo().get_transport() as transport:
        scheduler = computer.get_scheduler()
        scheduler.set_transport(transport)
        if not _is_queued(scheduler, number):
            return False
        if computer.scheduler_type == "core.direct":  # AiiDA would look for the children on this machine
            transport.exec_command_wait(_KILL_TREE.format(number=int(number)))
        else:
            kill_calculation(job, transport)
        ends = time.monotonic() + PATIENCE
        while _is_queued(scheduler, number) and time.monotonic() < ends:
            time.sleep(0.5)
    return True


_KILL_TREE = 'tree() {{ echo "$1"; for child in $(pgrep -P "$1"); do tree "$child"; done; }}; kill $(tree {number})'


def _is_queued(scheduler: Any, number: str) -> bool:
    job = scheduler.get_jobs(jobs=[number], as_dict=True).get(number)
    return job is not None and job.job_state != JobState.DONE


def stop_in(folder: str) -> bool:
    """Stop all programs that run in a folder of this machine; tell whether there were any."""
    ended = False
    ends = time.monotonic() + PATIENCE
    # Again and again: a script may have begun its next line before it was stopped itself.
    while (found := _programs(folder)) and time.monotonic() < ends:
        ended = True
        for process in sorted(found, key=lambda process: process.create_time()):  # the script first
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(found, timeout=PATIENCE / 4)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=PATIENCE / 4)
    return ended


def _programs(folder: str) -> set[psutil.Process]:
    """Return what runs in a folder, and all children of that; but for those of a terminal, whose user looks around there."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            inside = Path(process.cwd()).is_relative_to(os.path.realpath(folder)) and process.terminal() is None
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if process.pid != os.getpid()}
