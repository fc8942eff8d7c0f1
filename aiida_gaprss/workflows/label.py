"""Label the frames of a dataset with a reference: an ASE calculator in one batch, or a DFT plugin frame by frame."""

from __future__ import annotations

import re
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, WorkChain, append_, if_, while_
from aiida.orm import Dict, Float, Int, List, ProcessNode, Str, load_node

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.bundle import BundleCalculation
from aiida_gaprss.calculations.functions import (
    frame_structure,
    frames_not_reached,
    gather_labels,
    merge_labels,
    pick_frames,
    settle_labels,
)
from aiida_gaprss.calculations.label import LabelCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.reference import PER_FRAME, set_sorted_labels
from aiida_gaprss.reference.common import attempts, level_node, one_line, shared
from aiida_gaprss.selection.sanity import Limits, shortest_distances, why_absurd
from aiida_gaprss.workflows.pot import FAILED, draw

#: Links per process cost quadratically; results are gathered in shards of this many frames.
SHARD = 25
#: At most so many datasets are merged by one calcfunction.
FAN_IN = 40
#: A batch that was cut off, lanes that broke down, or bundles that gave nothing are continued so many times.
ROUNDS = 5

#: The label of the link to the calculation of a frame: its number, and which attempt it is.
CALL_LABEL = re.compile(r"frame_(\d+)(?:_retry_(\d+))?")


def reference_of(inputs: Any) -> str | None:
    """Return the name of the one reference among the inputs, or None."""
    given = [name for name in ("ase", *PER_FRAME) if inputs.get(name)]
    return given[0] if len(given) == 1 else None


def level_of(inputs: Any) -> str:
    """Return the level of theory of the labels in one line."""
    name = reference_of(inputs)
    assert name is not None
    if name == "ase":
        return LabelCalculation.level_of_theory(inputs["ase"]["settings"])
    return one_line(PER_FRAME[name].level_of_theory(inputs[name]))


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
            if node.level_of_theory != level:
                return f"known.{name} is at another level of theory: {node.level_of_theory!r}, expected {level!r}"
    return None


class LabelWorkChain(WorkChain):
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
        spec.input("bundle.frames_per_job", valid_type=int, non_db=True, required=False, help="Default: 50.")
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
                while_(cls.batch_is_unfinished)(cls.run_batch, cls.inspect_batch),
            ).else_(
                while_(cls.frames_are_left)(
                    if_(cls.is_bundled)(cls.run_bundles, cls.inspect_bundles).else_(cls.run_lanes, cls.inspect_lanes),
                ),
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
                Str(level_of(self.inputs)),
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

    def batch_is_unfinished(self) -> bool:
        """Tell whether frames are left that the last job did not reach."""
        if self.ctx.rounds == 0:
            return bool(self.ctx.left.n_frames)
        return self.ctx.incomplete and self.ctx.rounds < ROUNDS

    def run_batch(self) -> Any:
        """Submit one job for the frames that are left."""
        self.ctx.rounds += 1
        inputs = AttributeDict(self.exposed_inputs(LabelCalculation, namespace="ase"))
        inputs.frames = self.ctx.left
        if self.ctx.rounds > 1:
            inputs.frames = frames_not_reached(self.ctx.parts[-1])
        inputs.setdefault("metadata", {})["call_link_label"] = f"batch_{self.ctx.rounds}"
        return ToContext(batch=self.submit(LabelCalculation, **inputs))

    def inspect_batch(self) -> None:
        """Keep what the job finished."""
        job: ProcessNode = self.ctx.batch
        self.ctx.incomplete = job.exit_status == LabelCalculation.exit_codes.ERROR_INCOMPLETE.status
        if "frames" in job.outputs:
            self.ctx.parts.append(job.outputs.frames)
        else:
            self.ctx.incomplete = False
        if not job.is_finished_ok:
            self.ctx.failure = job.exit_message or str(job.process_state)
            self.report(f"labelling job <{job.pk}>: {self.ctx.failure}")

    def is_bundled(self) -> bool:
        """Tell whether many frames go into one job."""
        return "bundle" in self.inputs

    def run_bundles(self) -> None:
        """Submit jobs of many frames each, so many at a time."""
        self.ctx.rounds += 1
        self.ctx.bundles = []
        name = reference_of(self.inputs)
        assert name is not None
        inputs = AttributeDict(self.exposed_inputs(BundleCalculation, namespace="bundle"))
        per_job = self.inputs.bundle.get("frames_per_job", 50)
        tries = self.ctx.setdefault("tries", {})
        for attempt in sorted({tries.get(index, 0) for index in self.ctx.todo}):
            todo = [index for index in self.ctx.todo if tries.get(index, 0) == attempt]
            for start in range(0, len(todo), per_job):
                if len(self.ctx.bundles) == self.inputs.max_concurrent:
                    break
                number = len(self.ctx.bundles) + 1
                frames = pick_frames(self.ctx.left, List(todo[start : start + per_job]))
                metadata = {**inputs.get("metadata", {}), "call_link_label": f"bundle_{self.ctx.rounds}_{number}"}
                process = self.submit(
                    BundleCalculation,
                    code=inputs.code,
                    frames=frames,
                    attempt=shared(Int(attempt)),
                    metadata=metadata,
                    **{name: self.inputs[name]},
                )
                self.ctx.bundles.append(process.pk)
                self.to_context(**{f"bundle_{number}": process})
        self.report(f"labelling {len(self.ctx.todo)} frames with {PER_FRAME[name].NAME}, {per_job} in a job")

    def inspect_bundles(self) -> None:
        """Keep what the jobs finished; frames they did not reach, and failed ones with settings left to try, are left."""
        name = reference_of(self.inputs)
        assert name is not None
        number_of = {self.ctx.left.frame(index).info["frame_id"]: index for index in self.ctx.todo}
        tries = attempts(self.inputs[name])
        stuck = True
        for number in range(1, len(self.ctx.bundles) + 1):
            job = self.ctx[f"bundle_{number}"]
            if not job.is_finished_ok:
                self.ctx.failure = job.exit_message or str(job.process_state)
                self.report(f"job <{job.pk}>: {self.ctx.failure}")
            if "frames" not in job.outputs:
                continue
            self.ctx.parts.append(job.outputs.frames)
            for atoms in job.outputs.frames.get_frames():
                index = number_of[atoms.info["frame_id"]]
                if str(atoms.info["label_status"]).startswith("not reached"):
                    continue
                stuck = False
                if not fr.is_labelled(atoms):
                    self.ctx.tries[index] = self.ctx.tries.get(index, 0) + 1
                    if self.ctx.tries[index] < tries:
                        continue
                    self.ctx.failed += 1
                self.ctx.todo.remove(index)
        self.ctx.setbacks += stuck
        self.tell_what_is_left("its job ended before")

    @property
    def failures_allowed(self) -> int:
        """Number of frames that may fail."""
        return int(self.inputs.max_failed_fraction * self.inputs.frames.n_frames)

    def frames_are_left(self) -> bool:
        """Tell whether frames are left, the policy allows to go on, and there is hope."""
        if self.ctx.rounds == 0:
            self.ctx.todo = list(range(self.ctx.left.n_frames))
        return bool(self.ctx.todo) and self.ctx.setbacks < ROUNDS and self.ctx.failed <= self.failures_allowed

    def run_lanes(self) -> Any:
        """Start lanes that label one frame after another, side by side."""
        self.ctx.rounds += 1
        self.ctx.lanes = []
        name = reference_of(self.inputs)
        assert name is not None
        sizes = {index: len(self.ctx.left.frame(index)) for index in self.ctx.todo}
        # The largest first, so that the lanes end together.
        order = sorted(sizes, key=lambda index: (-sizes[index], index))
        lanes = min(self.inputs.max_concurrent, len(order))
        self.report(f"labelling {len(order)} frames with {PER_FRAME[name].NAME}, {lanes} at a time")
        pot = List(order).store()
        for lane in range(lanes):
            process = self.submit(
                LabelLaneWorkChain,
                frames=self.ctx.left,
                pot=pot,
                failures_allowed=self.failures_allowed - self.ctx.failed,
                metadata={"call_link_label": f"lane_{lane + 1}" + (f"_round_{self.ctx.rounds}" if self.ctx.rounds > 1 else "")},
                **{name: self.inputs[name]},
            )
            self.to_context(lanes=append_(process))
        return None

    def inspect_lanes(self) -> None:
        """Keep what the lanes finished, also what a lane that broke down had not yet gathered."""
        name = reference_of(self.inputs)
        assert name is not None
        for lane in self.ctx.lanes:
            shards = [lane.outputs.shards[key] for key in sorted(lane.outputs.shards)] if "shards" in lane.outputs else []
            if not lane.is_finished_ok:
                reason = lane.exit_message or str(lane.process_state)
                self.report(f"lane <{lane.pk}> broke down: {reason}")
                gathered = {a.info["frame_id"] for shard in shards for a in shard.get_frames()}
                results = results_of_lane(lane, name, self.ctx.left, attempts(self.inputs[name]))
                rest = {i: result for i, result in results.items() if self.ctx.left.frame(i).info["frame_id"] not in gathered}
                if rest:
                    shards.append(gather(self.ctx.left, rest, name, self.inputs[name]))
            self.ctx.parts += shards
            self.ctx.failed += sum(shard.n_frames - shard.base.attributes.get("energies") for shard in shards)
            done = {a.info["frame_id"] for shard in shards for a in shard.get_frames()}
            self.ctx.todo = [index for index in self.ctx.todo if self.ctx.left.frame(index).info["frame_id"] not in done]
        self.ctx.setbacks += bool(self.ctx.todo)
        self.tell_what_is_left("its lane broke down")

    def tell_what_is_left(self, reason: str) -> None:
        """Remember why the frames that are left have no label, should they be left for good."""
        if self.ctx.todo:
            many = self.ctx.failed > self.failures_allowed
            self.ctx.failure = "not tried: too many others failed" if many else reason

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


def reason_of_failure(process: ProcessNode) -> str:
    """Return why a process failed, in the words of the deepest one that did: those above only say that something did."""
    for child in sorted(process.called, key=lambda child: child.ctime, reverse=True):
        if not child.is_finished_ok:
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
        if match is None or not link.node.is_terminated:
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


class LabelLaneWorkChain(WorkChain):
    """Label frames one after another with a frame-by-frame reference, until none is left that no other lane has begun."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports and outline."""
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
        spec.outline(
            cls.start,
            while_(cls.has_next)(cls.label_next, cls.inspect, if_(cls.shard_is_full)(cls.gather)),
            if_(cls.has_rest)(cls.gather),
        )
        spec.output_namespace("shards", valid_type=Dataset, dynamic=True)

    def start(self) -> None:
        """Begin with the first frame."""
        self.ctx.drawn = 0
        self.ctx.attempt = 0
        self.ctx.shard = {}
        self.ctx.failed = 0
        self.ctx.shards = 0
        self.ctx.name = reference_of(self.inputs)

    def has_next(self) -> bool:
        """Draw the next frame, unless the present one is tried again; tell whether there is one."""
        if self.ctx.attempt == 0:
            drawn = draw(self.node, self.inputs.pot, self.ctx.drawn, failures_allowed=self.inputs.get("failures_allowed"))
            if not drawn:
                return False
            (self.ctx.index,) = drawn
            self.ctx.drawn += 1
        return True

    def label_next(self) -> Any:
        """Submit the calculation of the next frame, or of the same with other settings."""
        frame = self.inputs.frames.frame(self.ctx.index)
        link = f"frame_{self.ctx.index:04d}" + (f"_retry_{self.ctx.attempt}" if self.ctx.attempt else "")
        begun = self.node.base.links.get_outgoing(node_class=ProcessNode, link_label_filter=link).first()
        if begun is not None:  # before the daemon was stopped, so soon that this lane knows nothing of it
            return ToContext(current=begun.node)
        if self.ctx.attempt == 0:
            self.ctx.structure = frame_structure(self.inputs.frames, shared(Int(self.ctx.index)))
        process, inputs = PER_FRAME[self.ctx.name].submission(
            self.inputs[self.ctx.name], self.ctx.structure, fr.is_in_vacuum(frame), self.ctx.attempt
        )
        inputs["metadata"] = {"call_link_label": link, "label": frame.info["frame_id"]}
        return ToContext(current=self.submit(process, **inputs))

    def inspect(self) -> None:
        """Remember the calculation and whether it gave labels; a failed one is tried again while there are settings to try."""
        process: ProcessNode = self.ctx.current
        failure = result_of(process, self.ctx.name, self.inputs.frames.frame(self.ctx.index))
        if failure is not None:
            again = self.ctx.attempt + 1 < attempts(self.inputs[self.ctx.name])
            self.report(f"frame {process.label} <{process.pk}>: {failure}" + ("; tried again" if again else ""))
            if again:
                self.ctx.attempt += 1
                return
            self.ctx.failed += 1
            self.node.base.extras.set(FAILED, self.ctx.failed)
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
        self.ctx.shards += 1
        self.ctx.shard = {}
        self.report(f"{self.ctx.drawn} frames of this lane done, {self.ctx.failed} failed")
