"""Jobs that are cut off, cancelled or killed: what they finished is kept, and the rest goes into another job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from aiida.engine import CalcJob
from aiida.orm import CalcJobNode, List, Node, Str, WorkChainNode, load_node

from aiida_gaprss.calculations.join_functions import frames_left, join_frames, join_vectors
from aiida_gaprss.calculations.md import steps_made
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.campaign.stages import following, joined
from aiida_gaprss.runners.identity import STATES
from aiida_gaprss.workflows.jobs.ends import TRIES, more_memory, why_ended
from aiida_gaprss.workflows.jobs.scratch import clean_scratch, define_scratch
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain

_NEVER = {CalcJob.exit_codes.ERROR_SCHEDULER_INVALID_ACCOUNT.status}


def is_hopeless(job: CalcJobNode) -> bool:
    """Tell whether another job of the same inputs would end as this one did, or is not wanted."""
    if job.is_killed or job.exit_status in _NEVER:  # killed in AiiDA, by its user
        return True
    return job.exit_status == RelaxCalculation.exit_codes.ERROR_ALL_FAILED.status and why_ended(job) is None


def is_divisible(job: CalcJobNode) -> bool:
    """Tell whether another job can do the rest of the frames."""
    return "frames" in job.inputs


def left_by(job: CalcJobNode) -> list[int]:
    """Return the numbers of the frames that are for another job.

    Trajectories that ran into the time limit of a job go on in the next one. Relaxations begin anew, with all the time of the
    next one; but not if a job does nothing else than that.
    """
    total = job.inputs.frames.n_frames
    if "summary" not in job.outputs:
        return list(range(total))
    summary = job.outputs.summary.get_dict()
    left, cut = summary.get("left", []), summary.get("cut", [])
    return sorted([*left, *cut]) if len(left) + len(cut) < total or STATES in job.outputs else left


def is_done(job: CalcJobNode) -> bool:
    """Tell whether nothing of a job is left to do."""
    return not left_by(job) if is_divisible(job) else job.is_finished_ok


def is_fruitless(job: CalcJobNode) -> bool:
    """Tell whether a job has brought nothing further."""
    if steps_made(_states(job.outputs)) > steps_made(_states(job.inputs)):
        return False
    return len(left_by(job)) == job.inputs.frames.n_frames if is_divisible(job) else not job.is_finished_ok


def _states(links: Any) -> Any:
    return links[STATES] if STATES in links else None  # noqa: SIM401  a manager of links is no mapping


def tries_next(jobs: list[CalcJobNode]) -> bool:
    """Tell whether another job is to follow these."""
    if is_done(jobs[-1]) or is_hopeless(jobs[-1]):
        return False
    return len(jobs) < TRIES or not all(is_fruitless(job) for job in jobs[-TRIES:])


@dataclass
class Outcome:
    """What came of a job and of those that went on where it was cut off."""

    job: CalcJobNode  #: the last one
    outputs: dict[str, Node]

    @property
    def failure(self) -> str | None:
        """Return what went wrong in the end, or None."""
        if self.job.is_finished_ok:
            return None
        return self.job.exit_message or str(self.job.process_state.value if self.job.process_state else "unknown")


class RestartingWorkChain(SubmitOnceWorkChain):
    """Runs jobs under names; after ``while_(cls.jobs_are_left)(cls.restart_jobs)`` they are done, or as far as they come.

    A job that was cut off, cancelled, killed or lost is followed by another for what is left. Frames that are finished are not
    calculated again, and the outcome is in the order of the frames, the same as without the mishap.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the port with the policy for scratch folders."""
        super().define(spec)
        define_scratch(spec)

    def submit_job(self, name: str, process: Any, /, **inputs: Any) -> None:
        """Submit the first job of this name."""
        job = self.submit(process, **inputs)
        self.ctx.setdefault("jobs", {})[name] = [job.pk]
        self.ctx.setdefault("open", []).append(name)
        self.to_context(**{name: job})

    def jobs_are_left(self) -> bool:
        """Tell whether any of the jobs that have ended is to be followed by another."""
        self.ctx.open = [name for name in self.ctx.get("open", []) if tries_next(self._jobs(name))]
        return bool(self.ctx.open)

    def restart_jobs(self) -> None:
        """Submit the jobs that follow."""
        for name in self.ctx.open:
            jobs = self._jobs(name)
            last = jobs[-1]
            why = why_ended(last) or last.exit_message or (last.process_state.value if last.process_state else "unknown")
            inputs: Any = last.get_builder_restart()
            what = "all of it"
            if is_divisible(last):
                left, total = left_by(last), last.inputs.frames.n_frames
                what = f"{len(left)} of {total} frames"
                if len(left) < total:
                    inputs.frames = frames_left(last.inputs.frames, List(left))
                if STATES in last.outputs:
                    inputs.states = last.outputs[STATES]
                    what += ", from where they are"
            more = more_memory(jobs)
            if more is not None:
                inputs.metadata.options.max_memory_kb = more
                what += f" with {more} kB of memory"
            inputs.metadata.call_link_label = following(self._label(name), len(jobs) + 1)
            job = self.submit(inputs.process_class, **inputs._inputs(prune=True))
            self.report(f"{name}: job <{last.pk}> ended before it was done ({why}); job <{job.pk}> does {what}")
            self.ctx.jobs[name] = [*self.ctx.jobs[name], job.pk]
            self.to_context(**{name: job})

    def outcome(self, name: str) -> Outcome:
        """Return what came of the jobs of this name, their parts joined, and remove their scratch folders."""
        jobs = self._jobs(name)
        clean_scratch(self, jobs)
        parts = [job for job in jobs if any(key in job.outputs for key in RESULTS)]
        if len(parts) < 2 or not is_divisible(parts[0]):
            outputs = (parts or jobs)[-1].outputs
            return Outcome(jobs[-1], {key: outputs[key] for key in RESULTS if key in outputs})
        given = {
            f"part_{i:03d}_{key}": part.outputs[key] for i, part in enumerate(parts) for key in JOINED if key in part.outputs
        }
        metadata = {"call_link_label": joined(self._label(name))}
        if "vectors" in parts[0].outputs:
            return Outcome(jobs[-1], dict(join_vectors(jobs[0].inputs.frames, metadata=metadata, **given)))
        key = Str(jobs[0].process_class.NAMED_BY)  # type: ignore[attr-defined]  # FramesCalculation
        return Outcome(jobs[-1], dict(join_frames(jobs[0].inputs.frames, key, metadata=metadata, **given)))

    def _jobs(self, name: str) -> list[CalcJobNode]:
        return [cast(CalcJobNode, load_node(pk)) for pk in self.ctx.jobs[name]]

    def _label(self, name: str) -> str:
        """Return the label of the link to the first job of this name."""
        job = self._jobs(name)[0]
        return str(next(link.link_label for link in job.base.links.get_incoming(node_class=WorkChainNode).all()))


#: Outputs of jobs that are joined, or without which a job has given nothing.
JOINED = ("frames", "vectors", "summary")
RESULTS = JOINED
