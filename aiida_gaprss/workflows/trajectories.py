"""Molecular dynamics by the program of a reference, in parts: what one has made is kept, and the next goes on."""

from __future__ import annotations

from typing import Any, cast

from aiida.engine import ExitCode, ToContext, append_, if_, while_
from aiida.orm import CalcJobNode, Dict, Int, List, ProcessNode, Str, load_node
from ase import Atoms

from aiida_gaprss.calculations.label_functions import frame_structure
from aiida_gaprss.calculations.trajectory_functions import gather_trajectory, join_trajectories, trajectory_end
from aiida_gaprss.campaign.stages import part_link, part_of_frame
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.reference import define, lack_of_moving, moving, reference_of
from aiida_gaprss.reference.base import Moved
from aiida_gaprss.reference.common import attempts, shared, sorted_by_number
from aiida_gaprss.settings.jobs import ReferenceMdSettings
from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.jobs.scratch import clean_scratch, define_scratch
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain, called
from aiida_gaprss.workflows.lanes import LaneWorkChain

#: Calcfunctions have links that cost quadratically: so many trajectories at most are joined.
FAN_IN = 40


def job_of(process: ProcessNode) -> CalcJobNode | None:
    """Return the last job of a process that has brought its files back, or None."""
    jobs = [job for job in (process, *process.called_descendants) if isinstance(job, CalcJobNode) and "retrieved" in job.outputs]
    return max(jobs, key=lambda job: int(job.pk or 0), default=None)


def moved_by(process: ProcessNode, name: str, frame: Atoms) -> Moved:
    """Return what a process has made of the trajectory of a frame; nothing, if it has left nothing that may be used."""
    job = job_of(process)
    try:
        if job is not None:
            return moving(name).moved(job.outputs.retrieved, sorted_by_number(frame)[0].get_chemical_symbols())
    except ValueError:
        pass
    return Moved([], [], None)


def parts_of(lane: ProcessNode, index: int) -> list[ProcessNode]:
    """Return the processes that a lane has had for a frame, in their order."""
    found = {}
    for link in lane.base.links.get_outgoing(node_class=ProcessNode).all():
        if (place := part_of_frame(link.link_label)) is not None and place[0] == index and link.node.is_terminated:
            found[place[1]] = cast(ProcessNode, link.node)
    return [found[number] for number in sorted(found)]


def gathered(frames: Dataset, index: int, name: str, task: Dict, processes: list[ProcessNode], reason: str) -> Dataset | None:
    """Return the snapshots that processes have made of a frame; None if there is none."""
    made = [process for process in processes if moved_by(process, name, frames.frame(index)).steps]
    folders = {f"part_{number:03d}": cast(CalcJobNode, job_of(one)).outputs.retrieved for number, one in enumerate(made)}
    return gather_trajectory(frames, shared(Int(index)), Str(name), task, Str(reason), **folders) if folders else None


class TrajectoryLaneWorkChain(LaneWorkChain):
    """Run trajectories one after another, each in processes that go on where the one before them has stopped."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports and outline."""
        super().define(spec)
        define_scratch(spec)
        spec.input("tasks", valid_type=Dict, help="Settings of each frame (ReferenceMdSettings), by frame_id.")
        spec.outline(
            while_(cls.must_wait)(cls.wait_for_lane),
            cls.start,
            while_(cls.has_next)(cls.begin, while_(cls.is_on_the_way)(cls.run_part, cls.inspect), cls.gather),
        )

    def start(self) -> None:
        """Begin with nothing drawn."""
        self.ctx.drawn = self.ctx.failed = 0
        self.ctx.name = reference_of(self.inputs)

    def has_next(self) -> bool:
        """Draw the next frame; tell whether there is one."""
        drawn = self.draw(1)
        self.ctx.index = drawn[0] if drawn else None
        return bool(drawn)

    @property
    def frame(self) -> Atoms:
        """The frame that is run."""
        return self.inputs.frames.frame(self.ctx.index)

    @property
    def settings(self) -> ReferenceMdSettings:
        """The settings of its trajectory."""
        return ReferenceMdSettings(**self.inputs.tasks[self.frame.info["frame_id"]])

    def begin(self) -> None:
        """Begin a trajectory."""
        self.ctx.parts, self.ctx.done, self.ctx.attempt, self.ctx.before, self.ctx.reason = [], 0, 0, None, ""
        self.ctx.structure = frame_structure(self.inputs.frames, shared(Int(self.ctx.index)))

    def is_on_the_way(self) -> bool:
        """Tell whether steps are left, and there is hope."""
        return self.ctx.done <= self.settings.steps and self.ctx.attempt < attempts(self.inputs[self.ctx.name])

    def run_part(self) -> Any:
        """Submit what goes on."""
        before = load_node(self.ctx.before) if self.ctx.before is not None else None
        left = self.settings.steps + 1 - self.ctx.done
        process_class, inputs = moving(self.ctx.name).motion(
            self.inputs[self.ctx.name], self.ctx.structure, self.settings, left, before, self.ctx.attempt
        )
        link = part_link(self.ctx.index, len(self.ctx.parts))
        inputs["metadata"] = {**inputs.get("metadata", {}), "call_link_label": link, "label": self.frame.info["frame_id"]}
        return ToContext(current=self.submit(process_class, **inputs))

    def inspect(self) -> None:
        """Keep what it has made; what has made nothing is tried again while there are settings to try."""
        process: ProcessNode = self.ctx.current
        self.ctx.parts.append(process.pk)
        found, job = moved_by(process, self.ctx.name, self.frame), job_of(process)
        self.ctx.done += len(found.steps)
        self.ctx.reason = "" if process.is_finished_ok else reason_of_failure(process)
        if not found.steps or job is None:
            self.ctx.before = None
            self.ctx.attempt += 1
            self.report(f"frame {process.label} <{process.pk}>: no step was made: {self.ctx.reason or 'no reason is given'}")
            return
        self.ctx.attempt, self.ctx.before = 0, job.pk
        if self.is_on_the_way():
            self.report(f"frame {process.label} <{process.pk}>: {self.ctx.done} steps so far ({self.ctx.reason}); it goes on")
            self.ctx.structure = trajectory_end(job.outputs.retrieved, Str(self.ctx.name), self.ctx.structure)

    def gather(self) -> None:
        """Hand out the snapshots of the trajectory, and remove the folders of its processes."""
        processes = [cast(ProcessNode, load_node(pk)) for pk in self.ctx.parts]
        task = Dict(self.settings.model_dump())
        found = gathered(self.inputs.frames, self.ctx.index, self.ctx.name, task, processes, self.ctx.reason)
        if found is not None:
            self.out(f"shards.shard_{self.ctx.index:04d}", found)
        clean_scratch(self, processes)


class TrajectoriesWorkChain(SubmitOnceWorkChain):
    """Let the program of a reference run a trajectory of each frame, so many at one time.

    A part of a trajectory that its job's time has cut off is kept, and so is that of a job that was killed; the next one goes on.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        define_scratch(spec)
        spec.input("frames", valid_type=Dataset, help="Where trajectories begin.")
        spec.input(
            "tasks", valid_type=Dict, validator=_validate_tasks, help="Settings of each (ReferenceMdSettings), by frame_id."
        )
        spec.input("max_concurrent", valid_type=int, non_db=True, default=2, help="Trajectories at one time.")
        define(spec.inputs)
        spec.inputs.validator = _validate
        spec.outline(if_(cls.has_frames)(cls.run_lanes, cls.collect))
        spec.output("frames", valid_type=Dataset, required=False, help="Snapshots of all trajectories.")
        spec.exit_code(400, "ERROR_NOTHING", message="No trajectory has made a step; {message}")
        spec.exit_code(410, "ERROR_INCOMPLETE", message="Trajectories that came not to their end: {message}")

    def has_frames(self) -> bool:
        """Tell whether there is anything to run."""
        return bool(self.inputs.frames.n_frames)

    def run_lanes(self) -> None:
        """Start lanes side by side, the largest frames first."""
        sizes = [len(atoms) for atoms in self.inputs.frames.get_frames()]
        order = sorted(range(len(sizes)), key=lambda index: (-sizes[index], index))
        links = [f"lane_{lane + 1}" for lane in range(min(self.inputs.max_concurrent, len(order)))]
        # If this step is done again, lanes draw from the same queue as those that there are.
        first = called(self.node, links[0])
        queue = first.inputs.queue if first else List(order).store()
        name = reference_of(self.inputs)
        assert name is not None
        given = {"frames": self.inputs.frames, "tasks": self.inputs.tasks, "queue": queue, name: self.inputs[name]}
        for link in links:
            metadata = {"call_link_label": link}
            process = self.submit(TrajectoryLaneWorkChain, **given, scratch=self.inputs.scratch, metadata=metadata)
            self.to_context(lanes=append_(process))

    def collect(self) -> ExitCode | None:
        """Join what the lanes have made, also what one that broke down had not gathered."""
        found: dict[int, Dataset] = {}
        for lane in self.ctx.lanes:
            shards = lane.outputs.shards if "shards" in lane.outputs else {}
            found |= {int(key.rpartition("_")[2]): shards[key] for key in shards}
            if not lane.is_finished_ok:
                self.report(f"lane <{lane.pk}> broke down: {reason_of_failure(lane)}")
                found |= self._not_gathered(lane, set(found))
        if not found:
            reasons = [reason_of_failure(lane) for lane in self.ctx.lanes if not lane.is_finished_ok] or self._reasons()
            return self.exit_codes.ERROR_NOTHING.format(message=(reasons or ["no reason is given"])[0])
        parts = [found[index] for index in sorted(found)]
        while len(parts) > 1:
            groups = [parts[first : first + FAN_IN] for first in range(0, len(parts), FAN_IN)]
            parts = [join_trajectories(**{f"part_{n:02d}": part for n, part in enumerate(group)}) for group in groups]
        self.out("frames", parts[0])
        return self._incomplete(parts[0])

    def _reasons(self) -> list[str]:
        """Return why processes of the lanes have failed."""
        return [reason_of_failure(child) for lane in self.ctx.lanes for child in lane.called if not child.is_finished_ok]

    def _not_gathered(self, lane: ProcessNode, there: set[int]) -> dict[int, Dataset]:
        """Return the snapshots that a lane which broke down has left, by frame."""
        name = reference_of(self.inputs)
        out: dict[int, Dataset] = {}
        assert name is not None
        for index in set(range(self.inputs.frames.n_frames)) - there:
            task = Dict(self.inputs.tasks[self.inputs.frames.frame(index).info["frame_id"]])
            node = gathered(self.inputs.frames, index, name, task, parts_of(lane, index), "its lane broke down")
            out |= {index: node} if node is not None else {}
        return out

    def _incomplete(self, done: Dataset) -> ExitCode | None:
        """Tell which trajectories came not to their end."""
        ends = {atoms.info["parent"]: int(atoms.info["step"]) for atoms in done.get_frames()}
        left = []
        for atoms in self.inputs.frames.get_frames():
            name = atoms.info["frame_id"]
            wanted = ReferenceMdSettings(**self.inputs.tasks[name]).steps
            if ends.get(name, -1) < wanted:
                left.append(f"{name} ({ends.get(name, -1) + 1} of {wanted + 1} frames)")
        why = f"; {self._reasons()[-1]}" if left and self._reasons() else ""
        return self.exit_codes.ERROR_INCOMPLETE.format(message=", ".join(left[:10]) + why) if left else None


def _validate_tasks(node: Dict | None, _: Any) -> str | None:
    try:
        for name, task in (node.get_dict() if node is not None else {}).items():
            what = name
            ReferenceMdSettings(**task)
    except (ValueError, TypeError) as error:
        return f"{what}: {error}"
    return None


def _validate(inputs: dict[str, Any], _: Any) -> str | None:
    if why := lack_of_moving(inputs):
        return why
    if "frames" in inputs and "tasks" in inputs:
        lack = sorted({str(atoms.info["frame_id"]) for atoms in inputs["frames"].get_frames()} - set(inputs["tasks"].get_dict()))
        return f"tasks: no settings for {', '.join(lack[:5])}" if lack else None
    return None
