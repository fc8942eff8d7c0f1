"""How jobs are ended from outside, and what another one may be given."""

from __future__ import annotations

import re
from collections.abc import Sequence

from aiida.orm import CalcJobNode

#: So many jobs in a row that finish nothing, and no more are tried.
TRIES = 3
#: The memory that a job asks for is doubled when it was too little, up to so many times that of the first.
MEMORY_FACTOR = 4

#: What schedulers, and the shell in their place, write when a job is ended from outside.
ENDS = {
    "memory": re.compile(r"exceeded.*memory|memory.*exceeded|oom[-_ ]?kill|out[ _]of[ _]memory", re.I),
    "time": re.compile(r"due to time limit|walltime.*exceeded|exceeded.*walltime|TERM_RUNLIMIT|TIMEOUT", re.I),
    "node": re.compile(r"node[ _]fail", re.I),
    "kill": re.compile(r"\bcancelled\b|\bkilled\b|job deleted|TERM_OWNER", re.I),
}


def why_ended(job: CalcJobNode) -> str | None:
    """Return by what a job was ended from outside (a key of ``ENDS``), or None."""
    said = f"{job.get_scheduler_stderr() or ''}\n{(job.get_detailed_job_info() or {}).get('stdout', '')}"
    return next((end for end, pattern in ENDS.items() if pattern.search(said)), None)


def more_memory(jobs: Sequence[CalcJobNode]) -> int | None:
    """Return the memory (kB) that the job after these may ask its scheduler for; None if the last one did not lack it so."""
    at_first, asked = jobs[0].get_option("max_memory_kb"), jobs[-1].get_option("max_memory_kb")
    if at_first and asked and why_ended(jobs[-1]) == "memory" and asked < MEMORY_FACTOR * at_first:
        return int(2 * asked)
    return None
