"""Label the frames of a dataset with a reference: an ASE calculator in one batch, or a DFT plugin frame by frame."""

from __future__ import annotations

import re
from typing import Any, cast

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, WorkChain, append_, if_, while_
from aiida.orm import Computer, Dict, Float, Int, List, ProcessNode, Str, load_node

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.bundle import BundleCalculation
from aiida_gaprss.calculations.label import LabelCalculation
from aiida_gaprss.calculations.label_functions import (
    frame_structure,
    gather_labels,
    merge_labels,
    pick_frames,
    settle_labels,
)
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import Level, content_of, difference
from aiida_gaprss.parsers.frames import NOT_REACHED
from aiida_gaprss.reference import PER_FRAME, set_sorted_labels
from aiida_gaprss.reference.common import attempts, level_node, level_of_content, shared
from aiida_gaprss.selection.sanity import Limits, shortest_distances, why_absurd
from aiida_gaprss.workflows.once import OnceWorkChain, called, never_begun
from aiida_gaprss.workflows.pot import FAILED, draw
from aiida_gaprss.workflows.repeat import RepeatingWorkChain
from aiida_gaprss.workflows.scratch import clean_scratch, define_scratch
from aiida_gaprss.workflows.turn import lane_ahead

#: Links per process cost quadratically; results are gathered in shards of this many frames.
SHARD = 25
#: At most so many datasets are merged by one calcfunction.
FAN_IN = 40
#: Frames whose lanes broke down go into other lanes so many times.
ROUNDS = 5
#: Of bundles, if their inputs do not say.
FRAMES_PER_JOB = 50

#: The label of the link to the calculation of a frame: its number, and which attempt it is.
CALL_LABEL = re.compile(r"frame_(\d+)(?:_retry_(\d+))?")


def reference_of(inputs: Any) -> str | None:
    """Return the name of the one reference among the inputs, or None."""
    given = [name for name in ("ase", *PER_FRAME) if inputs.get(name)]
    return given[0] if len(given) == 1 else None


def level_of(inputs: Any) -> Level | str:
    """Return the level of theory of the labels."""
    name = reference_of(inputs)
    assert name is not None
    if name == "ase":
        return LabelCalculation.level_of_theory(inputs["ase"]["settings"])
    return level_of_content(PER_FRAME[name].level_of_theory(inputs[name]))


def _validate(inputs: dict[str, Any], _: Any) -> str | None:
    given = [name for name in ("ase", *PER_FRAME) if inputs.get(name)]
    if len(given) != 1:
        return f"give exactly one reference of {', '.join(('ase', *PER_FRAME))}; got {', '.join(given) or 'none'}"
    if given[0] in PER_FRAME and "frames" in inputs:
        lack = PER_FRAME[given[0]].missing(inputs[given[0]], inputs["frames"].elements)
        if lack:
            return f"{given[0]}: {lack}"
    if "bundle" in inputs and given[0] not in PER_FRAME:
        return f"frames of {given[0]} go into one job anyway; bundles are for {', '.join(PER_FRAME)}"
    if "frames" in inputs:
        level = level_of(inputs)
        for name, node in inputs.get("known", {}).items():
            other = difference({f"known.{name}": node.level, "the reference": level})
            if other:
                return f"known.{name} is at another level of theory: {other}"
    return None


class LabelWorkChain(RepeatingWorkChain):
    """Give every frame of a dataset the labels of one reference.

    A frame whose calculation fails stays in the output with the reason in ``label_status``; only when too many fail does
    the work chain end with an error, and then, too, its output holds everything that was labelled.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("frames", valid_type=Dataset, help="Frames to label.")
        spec.expose_inputs(
            LabelCalculation,
            namespace="ase",
            exclude=("frames",),
            namespace_options={"required": False, "populate_defaults": False},
        )
        for name, module in PER_FRAME.items():
            spec.input_namespace(name, required=False, populate_defaults=False, help=f"Labels from {module.NAME}.")
            module.define(spec.inputs[name])
        spec.expose_inputs(
            BundleCalculation,
            namespace="bundle",
            include=("code", "metadata"),
            namespace_options={
                "required": False,
                "populate_defaults": False,
                "help": "Give it, and frames of a frame-by-frame reference are calculated many in one job.",
            },
        )
        spec.input("bundle.frames_per_job", valid_type=int, non_db=True, required=False, help=f"Default: {FRAMES_PER_JOB}.")
        spec.input_namespace(
            "known", valid_type=Dataset, dynamic=True, help="Labelled frames of the same level of theory; not calculated again."
        )
        spec.input(
            "min_distance_factor",
            valid_type=float,
            non_db=True,
            default=0.3,
            help="Cells with atoms closer than this times the sum of their covalent radii are not calculated; 0: all are.",
        )
        spec.input("max_concurrent", valid_type=int, non_db=True, default=2, help="Frame-by-frame calculations at one time.")
        spec.input(
            "max_failed_fraction",
            valid_type=float,
            non_db=True,
            default=0.3,
            help="Fraction of failed frames above which no more are tried, and this is a failure.",
        )
        spec.inputs.validator = _validate
        spec.outline(
            cls.settle,
            if_(cls.is_batch)(
                if_(cls.has_frames_left)(cls.run_batch, while_(cls.jobs_are_left)(cls.repeat_jobs), cls.inspect_batch),
            ).else_(
                while_(cls.frames_are_left)(cls.run_lanes, cls.inspect_lanes),
            ),
            cls.finish,
        )
        spec.output("frames", valid_type=Dataset, help="All frames, labelled or with the reason why not.")
        spec.exit_code(400, "ERROR_NOTHING_LABELLED", message="No frame could be labelled; the first one {message}")
        spec.exit_code(
            410, "ERROR_TOO_MANY_FAILED", message="{failed} of {total} frames could not be labelled; the first one {message}"
        )

    def settle(self) -> None:
        """Set aside the frames that need no calculation."""
        self.ctx.parts = []
        self.ctx.rounds = 0
        self.ctx.setbacks = 0
        self.ctx.left = self.inputs.frames
        self.ctx.failed = 0
        factor = self.inputs.min_distance_factor
        absurd = sum(
            why_absurd(a, Limits(min_distance=shortest_distances(a, factor))) is not None for a in self.inputs.frames.get_frames()
        )
        if absurd or self.inputs.get("known"):
            parts = settle_labels(
                self.inputs.frames,
                Float(factor),
                Dict(content_of(level_of(self.inputs))),
                metadata={"call_link_label": "settle"},
                **self.inputs.get("known", {}),
            )
            self.ctx.parts = [parts["settled"]]
            self.ctx.left = parts["left"]
            known = parts["settled"].base.attributes.get("energies")
            self.ctx.failed = parts["settled"].n_frames - known
            self.report(f"not calculated: {known} frames that are labelled already, {self.ctx.failed} that are absurd")

    def is_batch(self) -> bool:
        """Tell whether all frames go into one job."""
        return reference_of(self.inputs) == "ase"

    def has_frames_left(self) -> bool:
        """Tell whether there is anything to calculate."""
        return bool(self.ctx.left.n_frames)

    def run_batch(self) -> None:
        """Submit one job for all frames."""
        inputs = AttributeDict(self.exposed_inputs(LabelCalculation, namespace="ase"))
        inputs.frames = self.ctx.left
        inputs.setdefault("metadata", {})["call_link_label"] = "batch"
        self.submit_job("batch", LabelCalculation, **inputs)

    def inspect_batch(self) -> None:
        """Keep what the job, and those that went on where it ended, finished."""
        batch = self.outcome("batch")
        if "frames" in batch.outputs:
            self.ctx.parts.append(batch.outputs["frames"])
        if batch.failure:
            self.ctx.failure = batch.failure
            self.report(f"labelling job <{batch.job.pk}>: {self.ctx.failure}")

    @property
    def failures_allowed(self) -> int:
        """Number of frames that may fail."""
        return int(self.inputs.max_failed_fraction * self.inputs.frames.n_frames)

    def frames_are_left(self) -> bool:
        """Tell whether frames are left, the policy allows to go on, and there is hope."""
        if self.ctx.rounds == 0:
            self.ctx.todo = list(range(self.ctx.left.n_frames))
        return bool(self.ctx.todo) and self.ctx.setbacks < ROUNDS and self.ctx.failed <= self.failures_allowed

    def run_lanes(self) -> None:
        """Start lanes side by side, each of which labels one frame, or one bundle of frames, after another."""
        self.ctx.rounds += 1
        self.ctx.lanes = []
        name = reference_of(self.inputs)
        assert name is not None
        sizes = {index: len(self.ctx.left.frame(index)) for index in self.ctx.todo}
        # The largest first, so that the lanes end together.
        order = sorted(sizes, key=lambda index: (-sizes[index], index))
        per_job, where, more = 1, "", {}
        lane_class: type[WorkChain] = LabelLaneWorkChain
        if "bundle" in self.inputs:
            per_job = self.inputs.bundle.get("frames_per_job", FRAMES_PER_JOB)
            where = f"{per_job} in a job, "
            lane_class, more = BundleLaneWorkChain, {"bundle": self.inputs.bundle}
        lanes = min(self.inputs.max_concurrent, -(-len(order) // per_job))
        self.report(f"labelling {len(order)} frames with {PER_FRAME[name].NAME}, {where}{lanes} at a time")
        links = [f"lane_{lane + 1}" + (f"_round_{self.ctx.rounds}" if self.ctx.rounds > 1 else "") for lane in range(lanes)]
        # If this step is done again, lanes draw from the same pot as those that there are.
        first = called(self.node, links[0])
        pot = first.inputs.pot if first else List(order).store()
        for link in links:
            process = self.submit(
                lane_class,
                frames=self.ctx.left,
                pot=pot,
                failures_allowed=self.failures_allowed - self.ctx.failed,
                scratch=self.inputs.scratch,
                metadata={"call_link_label": link},
                **{name: self.inputs[name]},
                **more,
            )
            self.to_context(lanes=append_(process))

    def inspect_lanes(self) -> None:
        """Keep what the lanes finished, also what a lane that broke down had not yet gathered."""
        frames: list[Any] = []
        failure = "its lane broke down"
        for lane in self.ctx.lanes:
            shards = [lane.outputs.shards[key] for key in sorted(lane.outputs.shards)] if "shards" in lane.outputs else []
            if not lane.is_finished_ok:
                failure = str(lane.exit_message or f"its lane ended {lane.process_state}")
                self.report(f"lane <{lane.pk}> broke down: {failure}")
                shards += self.not_gathered(lane, shards)
            self.ctx.parts += shards
            frames += [atoms for shard in shards for atoms in shard.get_frames()]
        clean_scratch(self, [lane for lane in self.ctx.lanes if not lane.is_finished_ok])
        done = {atoms.info["frame_id"] for atoms in frames if not is_not_reached(atoms)}
        self.ctx.failed += len(done - {atoms.info["frame_id"] for atoms in frames if fr.is_labelled(atoms)})
        self.ctx.todo = [index for index in self.ctx.todo if self.ctx.left.frame(index).info["frame_id"] not in done]
        self.ctx.setbacks += bool(self.ctx.todo)
        stuck = BundleLaneWorkChain.exit_codes.ERROR_NO_LABELS.status
        if not done and all(lane.exit_status == stuck for lane in self.ctx.lanes):  # each of them has tried several times
            self.ctx.setbacks = ROUNDS
        if self.ctx.todo:  # should they be left for good
            many = self.ctx.failed > self.failures_allowed
            self.ctx.failure = "not tried: too many others failed" if many else failure

    def not_gathered(self, lane: ProcessNode, shards: list[Dataset]) -> list[Dataset]:
        """Return what a lane that broke down had finished besides its shards."""
        name = reference_of(self.inputs)
        assert name is not None
        if "bundle" in self.inputs:
            jobs = [job for job in lane.called if job.process_label == BundleCalculation.__name__ and "frames" in job.outputs]
            return [job.outputs.frames for job in jobs]
        gathered = {a.info["frame_id"] for shard in shards for a in shard.get_frames()}
        results = results_of_lane(lane, name, self.ctx.left, attempts(self.inputs[name]))
        rest = {i: result for i, result in results.items() if self.ctx.left.frame(i).info["frame_id"] not in gathered}
        return [gather(self.ctx.left, rest, name, self.inputs[name])] if rest else []

    def finish(self) -> ExitCode | None:
        """Merge the parts and count."""
        parts = list(self.ctx.parts)
        if self.inputs.frames.n_frames == 0:  # for example, a search found no minimum
            self.out("frames", self.inputs.frames)
            return None
        if not parts:
            return self.exit_codes.ERROR_NOTHING_LABELLED.format(message=self.ctx.get("failure", "unknown"))
        in_order = reference_of(self.inputs) == "ase"
        while len(parts) > 1 or not in_order:
            in_order = True
            groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
            reason = Str(self.ctx.get("failure", "") if len(groups) == 1 else "")
            parts = [
                merge_labels(self.inputs.frames, reason, **{f"part_{i:02d}": p for i, p in enumerate(group)}) for group in groups
            ]
        self.out("frames", parts[0])
        total = self.inputs.frames.n_frames
        labelled = parts[0].base.attributes.get("energies")
        reasons: list[str] = []
        if labelled < parts[0].n_frames:
            reasons = [str(a.info.get("label_status")) for a in parts[0].get_frames() if not fr.is_labelled(a)]
        self.report(f"{labelled} of {total} frames labelled, {total - labelled} failed")
        first = reasons[0] if reasons else self.ctx.get("failure", "unknown")
        if labelled == 0:
            return self.exit_codes.ERROR_NOTHING_LABELLED.format(message=first)
        if total - labelled > self.inputs.max_failed_fraction * total:
            return self.exit_codes.ERROR_TOO_MANY_FAILED.format(failed=total - labelled, total=total, message=first)
        return None


def is_not_reached(atoms: Any) -> bool:
    """Tell whether no job has come to this frame."""
    return bool(atoms.info["label_status"] == NOT_REACHED)


def reason_of_failure(process: ProcessNode) -> str:
    """Return why a process failed, in the words of the deepest one that did: those above only say that something did."""
    for child in sorted(process.called, key=lambda child: child.ctime, reverse=True):
        if not child.is_finished_ok and not never_begun(child):
            return reason_of_failure(child)
    state = process.process_state.value if process.process_state else "unknown"
    # Of an exception only its last line: type and message.
    exception = (process.exception or "").strip().splitlines()[-1:]
    return process.exit_message or ": ".join([f"{process.process_label} ended {state}", *exception])


def result_of(process: ProcessNode, name: str, frame: Any) -> str | None:
    """Return why a calculation gave no labels for ``frame``, or None if it did."""
    module = PER_FRAME[name]
    if not process.is_finished_ok:
        return reason_of_failure(process)
    absent = [output for output in module.OUTPUTS if output not in process.outputs]
    if absent:
        return f"{process.process_label} has no output {', '.join(absent)}"
    try:
        set_sorted_labels(module, {output: process.outputs[output] for output in module.OUTPUTS}, frame.copy())
    except (ValueError, KeyError) as exception:
        return str(exception)
    return None


#: Of a frame: the calculation that labelled it, or that failed last; which attempt it is; why there is no label, or None.
Result = tuple[Any, int, "str | None"]


def results_of_lane(lane: ProcessNode, name: str, frames: Dataset, tries: int) -> dict[int, Result]:
    """Return by frame number what a lane that broke down had finished: labels, and frames that failed in every attempt."""
    results: dict[int, Result] = {}
    for link in lane.base.links.get_outgoing(node_class=ProcessNode).all():
        match = CALL_LABEL.fullmatch(link.link_label)
        if match is None or not link.node.is_terminated or never_begun(link.node):
            continue
        index, attempt = int(match[1]), int(match[2] or 0)
        failure = result_of(link.node, name, frames.frame(index))
        if failure is None or attempt + 1 == tries:
            results[index] = (link.node, attempt, failure)
    return results


def gather(frames: Dataset, results: dict[int, Result], name: str, inputs: Any) -> Dataset:
    """Return the frames of ``results`` with their labels, or with the reason why they have none."""
    outputs, failures = {}, {}
    for index, (process, attempt, failure) in sorted(results.items()):
        if failure is None:
            outputs.update({f"f{index}_a{attempt}_{key}": process.outputs[key] for key in PER_FRAME[name].OUTPUTS})
        else:
            failures[str(index)] = f"failed: {failure}" + (f" (attempt {attempt + 1})" if attempt else "")
    level = level_node(PER_FRAME[name].level_of_theory(inputs))
    return gather_labels(frames, List(sorted(results)), Str(name), level, Dict(failures), **outputs)


class LaneWorkChain(OnceWorkChain):
    """Draws frames for a frame-by-frame reference from a pot, until there is none left that no other lane has begun."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the ports that all lanes have."""
        super().define(spec)
        spec.input("frames", valid_type=Dataset)
        spec.input(
            "pot", valid_type=List, help="Frames to label, of which the lanes with this same input draw one after another."
        )
        spec.input(
            "failures_allowed",
            valid_type=int,
            non_db=True,
            required=False,
            help="When more have failed in this lane and its sisters together, no further frame is begun.",
        )
        for name, module in PER_FRAME.items():
            spec.input_namespace(name, required=False, populate_defaults=False)
            module.define(spec.inputs[name])
        spec.output_namespace("shards", valid_type=Dataset, dynamic=True)

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

    def wait_for_turn(self) -> Any:
        """Wait for the end of another lane."""
        self.report(f"waits for lane <{self.ctx.ahead.pk}>: there are as many jobs as the computer may have (max_jobs)")
        return ToContext(ahead=self.ctx.ahead)

    def draw(self, most: int) -> list[int]:
        """Return the numbers of up to so many frames that no lane has begun."""
        allowed = self.inputs.get("failures_allowed")
        drawn = draw(self.node, self.inputs.pot, self.ctx.drawn, most=most, failures_allowed=allowed)
        self.ctx.drawn += len(drawn)
        return drawn

    def count_failures(self, number: int) -> None:
        """Let the sisters know that so many frames have failed for good."""
        self.ctx.failed += number
        self.node.base.extras.set(FAILED, self.ctx.failed)


class LabelLaneWorkChain(LaneWorkChain):
    """Label frames one after another, each in a calculation of its own."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define the outline."""
        super().define(spec)
        define_scratch(spec)
        spec.outline(
            while_(cls.must_wait)(cls.wait_for_turn),
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
        link = f"frame_{self.ctx.index:04d}" + (f"_retry_{self.ctx.attempt}" if self.ctx.attempt else "")
        if process := called(self.node, link):  # before the daemon was stopped, so soon that this lane knows nothing of it
            return ToContext(current=process)
        if self.ctx.attempt == 0:
            self.ctx.structure = frame_structure(self.inputs.frames, shared(Int(self.ctx.index)))
        process_class, inputs = PER_FRAME[self.ctx.name].submission(
            self.inputs[self.ctx.name], self.ctx.structure, fr.is_in_vacuum(frame), self.ctx.attempt
        )
        inputs["metadata"] = {"call_link_label": link, "label": frame.info["frame_id"]}
        return ToContext(current=self.submit(process_class, **inputs))

    def inspect(self) -> None:
        """Remember the calculation and whether it gave labels; a failed one is tried again while there are settings to try."""
        process: ProcessNode = self.ctx.current
        self.ctx.ended.append(process.pk)
        failure = result_of(process, self.ctx.name, self.inputs.frames.frame(self.ctx.index))
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
        shard = gather(self.inputs.frames, results, self.ctx.name, self.inputs[self.ctx.name])
        self.out(f"shards.shard_{self.ctx.shards:04d}", shard)
        clean_scratch(self, [load_node(pk) for pk in self.ctx.ended])
        self.ctx.ended = []
        self.ctx.shards += 1
        self.ctx.shard = {}
        self.report(f"{self.ctx.drawn} frames of this lane done, {self.ctx.failed} failed")


class BundleLaneWorkChain(LaneWorkChain, RepeatingWorkChain):
    """Label frames bundle after bundle, each in one job; what a job has not reached or could not label goes into the next."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit code."""
        super().define(spec)
        spec.expose_inputs(BundleCalculation, namespace="bundle", include=("code", "metadata"))
        spec.input("bundle.frames_per_job", valid_type=int, non_db=True, default=FRAMES_PER_JOB)
        spec.outline(
            while_(cls.must_wait)(cls.wait_for_turn),
            cls.start,
            while_(cls.has_next)(cls.run_bundle, while_(cls.jobs_are_left)(cls.repeat_jobs), cls.inspect),
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
