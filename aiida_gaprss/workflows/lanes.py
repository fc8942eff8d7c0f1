"""Lanes of frame-by-frame labels: each labels one frame, or one bundle of frames, after another."""

from __future__ import annotations

from typing import Any, cast

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, if_, while_
from aiida.orm import Computer, Dict, Int, List, ProcessNode, Str, load_node

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.bundle import BundleCalculation
from aiida_gaprss.calculations.label_functions import (
    frame_structure,
    gather_labels,
    gather_relaxed,
    pick_frames,
)
from aiida_gaprss.campaign.stages import frame_link, frame_of
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.reference import LABELS, RELAXATION, Asked, define, reference_named, reference_of
from aiida_gaprss.reference.common import attempts, level_node, shared
from aiida_gaprss.runners.status import NOT_REACHED
from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.jobs.limit import lane_ahead
from aiida_gaprss.workflows.jobs.queue import FAILED, draw
from aiida_gaprss.workflows.jobs.restart import RestartingWorkChain
from aiida_gaprss.workflows.jobs.scratch import clean_scratch, define_scratch
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain, called, never_begun

#: Links per process cost quadratically; results are gathered in shards of this many frames.
SHARD = 25
#: Of bundles, if their inputs do not say.
FRAMES_PER_JOB = 50


def is_not_reached(atoms: Any) -> bool:
    """Tell whether no job has come to this frame."""
    return bool(atoms.info["label_status"] == NOT_REACHED)


def result_of(process: ProcessNode, name: str, frame: Any, asked: Asked = LABELS) -> str | None:
    """Return why a calculation did not give what was asked for ``frame``, or None if it did."""
    module = reference_named(name)
    if not process.is_finished_ok:
        return reason_of_failure(process)
    absent = [output for output in asked.outputs(module) if output not in process.outputs]
    if absent:
        return f"{process.process_label} has no output {', '.join(absent)}"
    try:
        asked.put(module, {output: process.outputs[output] for output in asked.outputs(module)}, frame.copy())
    except (ValueError, KeyError) as exception:
        return str(exception)
    return None


#: Of a frame: the calculation that labelled it, or that failed last; which attempt it is; why there is no label, or None.
Result = tuple[Any, int, "str | None"]


def results_of_lane(lane: ProcessNode, name: str, frames: Dataset, tries: int, asked: Asked = LABELS) -> dict[int, Result]:
    """Return by frame number what a lane that broke down had finished: labels, and frames that failed in every attempt."""
    results: dict[int, Result] = {}
    for link in lane.base.links.get_outgoing(node_class=ProcessNode).all():
        found = frame_of(link.link_label)
        if found is None or not link.node.is_terminated or never_begun(link.node):
            continue
        index, attempt = found
        failure = result_of(link.node, name, frames.frame(index), asked)
        if failure is None or attempt + 1 == tries:
            results[index] = (link.node, attempt, failure)
    return results


def gather(frames: Dataset, results: dict[int, Result], name: str, inputs: Any, asked: Asked = LABELS) -> Dataset:
    """Return the frames of ``results`` as was asked, or with the reason why not."""
    outputs, failures = {}, {}
    for index, (process, attempt, failure) in sorted(results.items()):
        if failure is None:
            keys = asked.outputs(reference_named(name))
            outputs.update({f"f{index}_a{attempt}_{key}": process.outputs[key] for key in keys})
        else:
            failures[str(index)] = f"failed: {failure}" + (f" (attempt {attempt + 1})" if attempt else "")
    if asked is RELAXATION:
        return gather_relaxed(frames, List(sorted(results)), Str(name), Dict(failures), **outputs)
    level = level_node(reference_named(name).level_of_theory(inputs))
    return gather_labels(frames, List(sorted(results)), Str(name), level, Dict(failures), **outputs)


class LaneWorkChain(SubmitOnceWorkChain):
    """Draws frames for a frame-by-frame reference from a queue, until there is none left that no other lane has begun."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the ports that all lanes have."""
        super().define(spec)
        spec.input("frames", valid_type=Dataset, help="All frames of the labelling, of which this lane does its share.")
        spec.input(
            "queue", valid_type=List, help="Frames to label, of which the lanes with this same input draw one after another."
        )
        spec.input(
            "failures_allowed",
            valid_type=int,
            non_db=True,
            required=False,
            help="When more have failed in this lane and its sisters together, no further frame is begun.",
        )
        define(spec.inputs)
        spec.output_namespace("shards", valid_type=Dataset, dynamic=True, help="What this lane has done.")

    @property
    def computer(self) -> Computer | None:
        """The computer to which the jobs go, if it is that of a code."""
        name = reference_of(self.inputs)
        assert name is not None
        return cast("Computer | None", self.inputs["bundle" if "bundle" in self.inputs else name]["code"].computer)

    def must_wait(self) -> bool:
        """Tell whether older lanes have all the jobs that there may be at one time where those of this one would run."""
        self.ctx.ahead = lane_ahead(self.node, self.computer)
        return self.ctx.ahead is not None

    def wait_for_lane(self) -> Any:
        """Wait for the end of another lane."""
        self.report(f"waits for lane <{self.ctx.ahead.pk}>: there are as many jobs as the computer may have (max_jobs)")
        return ToContext(ahead=self.ctx.ahead)

    def draw(self, most: int) -> list[int]:
        """Return the numbers of up to so many frames that no lane has begun."""
        allowed = self.inputs.get("failures_allowed")
        drawn = draw(self.node, self.inputs.queue, self.ctx.drawn, most=most, failures_allowed=allowed)
        self.ctx.drawn += len(drawn)
        return drawn

    def count_failures(self, number: int) -> None:
        """Let the sisters know that so many frames have failed for good."""
        self.ctx.failed += number
        self.node.base.extras.set(FAILED, self.ctx.failed)


class LabelLaneWorkChain(LaneWorkChain):
    """Label frames one after another, each in a calculation of its own."""

    ASKED = LABELS

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        define_scratch(spec)
        spec.outline(
            while_(cls.must_wait)(cls.wait_for_lane),
            cls.start,
            while_(cls.has_next)(cls.label_next, cls.inspect, if_(cls.shard_is_full)(cls.gather)),
            if_(cls.has_rest)(cls.gather),
        )

    def start(self) -> None:
        """Begin with the first frame."""
        self.ctx.drawn = 0
        self.ctx.attempt = 0
        self.ctx.shard = {}
        self.ctx.failed = 0
        self.ctx.shards = 0
        self.ctx.ended = []
        self.ctx.name = reference_of(self.inputs)

    def has_next(self) -> bool:
        """Draw the next frame, unless the present one is tried again; tell whether there is one."""
        if self.ctx.attempt == 0:
            drawn = self.draw(1)
            if not drawn:
                return False
            (self.ctx.index,) = drawn
        return True

    def label_next(self) -> Any:
        """Submit the calculation of the next frame, or of the same with other settings."""
        frame = self.inputs.frames.frame(self.ctx.index)
        link = frame_link(self.ctx.index, self.ctx.attempt)
        if process := called(self.node, link):  # before the daemon was stopped, so soon that this lane knows nothing of it
            return ToContext(current=process)
        if self.ctx.attempt == 0:
            self.ctx.structure = frame_structure(self.inputs.frames, shared(Int(self.ctx.index)))
        process_class, inputs = self.ASKED.submission(
            reference_named(self.ctx.name),
            self.inputs[self.ctx.name],
            self.ctx.structure,
            fr.is_in_vacuum(frame),
            self.ctx.attempt,
        )
        inputs["metadata"] = {**inputs.get("metadata", {}), "call_link_label": link, "label": frame.info["frame_id"]}
        return ToContext(current=self.submit(process_class, **inputs))

    def inspect(self) -> None:
        """Remember the calculation and whether it gave labels; a failed one is tried again while there are settings to try."""
        process: ProcessNode = self.ctx.current
        self.ctx.ended.append(process.pk)
        failure = result_of(process, self.ctx.name, self.inputs.frames.frame(self.ctx.index), self.ASKED)
        if failure is not None:
            again = self.ctx.attempt + 1 < attempts(self.inputs[self.ctx.name])
            self.report(f"frame {process.label} <{process.pk}>: {failure}" + ("; tried again" if again else ""))
            if again:
                self.ctx.attempt += 1
                return
            self.count_failures(1)
        self.ctx.shard[str(self.ctx.index)] = (process.pk, self.ctx.attempt, failure)
        self.ctx.attempt = 0

    def shard_is_full(self) -> bool:
        """Tell whether it is time to gather."""
        return len(self.ctx.shard) >= SHARD

    def has_rest(self) -> bool:
        """Tell whether labels are left that have not been gathered."""
        return bool(self.ctx.shard)

    def gather(self) -> None:
        """Put the labels of the last calculations on their frames."""
        results: dict[int, Result] = {
            int(index): (load_node(pk), attempt, failure) for index, (pk, attempt, failure) in self.ctx.shard.items()
        }
        shard = gather(self.inputs.frames, results, self.ctx.name, self.inputs[self.ctx.name], self.ASKED)
        self.out(f"shards.shard_{self.ctx.shards:04d}", shard)
        clean_scratch(self, [load_node(pk) for pk in self.ctx.ended])
        self.ctx.ended = []
        self.ctx.shards += 1
        self.ctx.shard = {}
        self.report(f"{self.ctx.drawn} frames of this lane done, {self.ctx.failed} failed")


class RelaxLaneWorkChain(LabelLaneWorkChain):
    """Let the program of a reference relax crystals one after another, each in a process of its own."""

    ASKED = RELAXATION


class BundleLaneWorkChain(LaneWorkChain, RestartingWorkChain):
    """Label frames bundle after bundle, each in one job; what a job has not reached or could not label goes into the next."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit code."""
        super().define(spec)
        what = {"help": "The jobs of bundles: python of the compute machine, options."}
        spec.expose_inputs(BundleCalculation, namespace="bundle", include=("code", "metadata"), namespace_options=what)
        spec.input(
            "bundle.frames_per_job", valid_type=int, non_db=True, default=FRAMES_PER_JOB, help="Frames that go into one job."
        )
        spec.outline(
            while_(cls.must_wait)(cls.wait_for_lane),
            cls.start,
            while_(cls.has_next)(cls.run_bundle, while_(cls.jobs_are_left)(cls.restart_jobs), cls.inspect),
            cls.finish,
        )
        spec.exit_code(400, "ERROR_NO_LABELS", message="its job gave nothing: {message}")

    def start(self) -> None:
        """Begin with nothing drawn."""
        self.ctx.drawn = self.ctx.failed = self.ctx.number = self.ctx.attempt = 0
        self.ctx.again = []
        self.ctx.failure = None
        self.ctx.name = reference_of(self.inputs)

    def has_next(self) -> bool:
        """Draw the next frames, unless there are such that are tried again with other settings."""
        if self.ctx.failure:
            return False
        self.ctx.attempt = self.ctx.attempt + 1 if self.ctx.again else 0
        self.ctx.indices = self.ctx.again or self.draw(self.inputs.bundle.frames_per_job)
        return bool(self.ctx.indices)

    def run_bundle(self) -> None:
        """Submit the job of these frames."""
        self.ctx.number += 1
        inputs = AttributeDict(self.exposed_inputs(BundleCalculation, namespace="bundle"))
        inputs |= {"frames": pick_frames(self.inputs.frames, List(self.ctx.indices)), self.ctx.name: self.inputs[self.ctx.name]}
        inputs.attempt = shared(Int(self.ctx.attempt))
        inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": f"bundle_{self.ctx.number}"}
        self.submit_job("bundle", BundleCalculation, **inputs)

    def inspect(self) -> None:
        """Keep what the job finished; failed frames are tried again while there are settings to try."""
        bundle = self.outcome("bundle")
        if bundle.failure:
            self.report(f"job <{bundle.job.pk}>: {bundle.failure}")
        if "frames" not in bundle.outputs:
            self.ctx.failure = bundle.failure or "no frames"
            return
        self.out(f"shards.shard_{self.ctx.number:04d}", bundle.outputs["frames"])
        frames = {atoms.info["frame_id"]: atoms for atoms in cast(Dataset, bundle.outputs["frames"]).get_frames()}
        self.ctx.again = []
        for index in self.ctx.indices:
            atoms = frames[self.inputs.frames.frame(index).info["frame_id"]]
            if not fr.is_labelled(atoms) and not is_not_reached(atoms):
                self.ctx.again.append(index)
        if self.ctx.attempt + 1 == attempts(self.inputs[self.ctx.name]):
            self.count_failures(len(self.ctx.again))
            self.ctx.again = []
        if all(is_not_reached(atoms) for atoms in frames.values()):
            self.ctx.failure = bundle.failure or "no frame was reached"

    def finish(self) -> ExitCode | None:
        """Tell whether the lane ended because its jobs give nothing."""
        return self.exit_codes.ERROR_NO_LABELS.format(message=self.ctx.failure) if self.ctx.failure else None
