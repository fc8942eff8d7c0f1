"""Label the frames of a dataset with a reference: an ASE calculator in one batch, or a DFT plugin frame by frame."""

from __future__ import annotations

from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, WorkChain, append_, if_, while_
from aiida.orm import Dict, Int, List, ProcessNode, Str, load_node

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.functions import frame_structure, frames_not_reached, gather_labels, merge_labels
from aiida_gaprss.calculations.label import LabelCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.reference import PER_FRAME

#: Links per process cost quadratically; results are gathered in shards of this many frames.
SHARD = 25
#: At most so many datasets are merged by one calcfunction.
FAN_IN = 40
#: A batch that was cut off is continued so many times.
BATCH_ATTEMPTS = 5


def reference_of(inputs: Any) -> str | None:
    """Return the name of the one reference among the inputs, or None."""
    given = [name for name in ("ase", *PER_FRAME) if inputs.get(name)]
    return given[0] if len(given) == 1 else None


def _validate_reference(inputs: dict[str, Any], _: Any) -> str | None:
    given = [name for name in ("ase", *PER_FRAME) if inputs.get(name)]
    if len(given) != 1:
        return f"give exactly one reference of {', '.join(('ase', *PER_FRAME))}; got {', '.join(given) or 'none'}"
    if given[0] in PER_FRAME and "frames" in inputs:
        missing = sorted(set(inputs["frames"].elements) - set(inputs[given[0]].get("pseudos", {})))
        if missing:
            return f"{given[0]}.pseudos: no pseudopotential for {', '.join(missing)}"
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
        spec.input("max_concurrent", valid_type=int, non_db=True, default=2, help="Frame-by-frame calculations at one time.")
        spec.input(
            "max_failed_fraction",
            valid_type=float,
            non_db=True,
            default=0.3,
            help="Fraction of failed frames above which this is a failure.",
        )
        spec.inputs.validator = _validate_reference
        spec.outline(
            if_(cls.is_batch)(
                while_(cls.batch_is_unfinished)(cls.run_batch, cls.inspect_batch),
            ).else_(
                cls.run_lanes,
                cls.inspect_lanes,
            ),
            cls.finish,
        )
        spec.output("frames", valid_type=Dataset, help="All frames, labelled or with the reason why not.")
        spec.exit_code(400, "ERROR_NOTHING_LABELLED", message="No frame could be labelled; the first one {message}")
        spec.exit_code(
            410, "ERROR_TOO_MANY_FAILED", message="{failed} of {total} frames could not be labelled; the first one {message}"
        )

    def is_batch(self) -> bool:
        """Tell whether all frames go into one job."""
        self.ctx.setdefault("parts", [])
        self.ctx.setdefault("attempts", 0)
        return reference_of(self.inputs) == "ase"

    def batch_is_unfinished(self) -> bool:
        """Tell whether frames are left that the last job did not reach."""
        if self.ctx.attempts == 0:
            return bool(self.inputs.frames.n_frames)
        return self.ctx.incomplete and self.ctx.attempts < BATCH_ATTEMPTS

    def run_batch(self) -> Any:
        """Submit one job for the frames that are left."""
        self.ctx.attempts += 1
        inputs = AttributeDict(self.exposed_inputs(LabelCalculation, namespace="ase"))
        inputs.frames = self.inputs.frames
        if self.ctx.parts:
            inputs.frames = frames_not_reached(self.ctx.parts[-1])
        inputs.setdefault("metadata", {})["call_link_label"] = f"batch_{self.ctx.attempts}"
        return ToContext(batch=self.submit(LabelCalculation, **inputs))

    def inspect_batch(self) -> None:
        """Keep what the job finished."""
        job: ProcessNode = self.ctx.batch
        self.ctx.incomplete = job.exit_status == LabelCalculation.exit_codes.ERROR_INCOMPLETE.status
        if "frames" in job.outputs:
            self.ctx.parts.append(job.outputs.frames)
        if not job.is_finished_ok:
            self.ctx.failure = job.exit_message or str(job.process_state)
            self.report(f"labelling job <{job.pk}>: {self.ctx.failure}")

    def run_lanes(self) -> Any:
        """Start lanes that label one frame after another, side by side."""
        name = reference_of(self.inputs)
        assert name is not None
        frames = self.inputs.frames.get_frames()
        lanes = min(self.inputs.max_concurrent, len(frames))
        # Dealt out by size, so that the lanes end together.
        order = sorted(range(len(frames)), key=lambda i: (-len(frames[i]), i))
        self.report(f"labelling {len(frames)} frames with {PER_FRAME[name].NAME}, {lanes} at a time")
        for lane in range(lanes):
            process = self.submit(
                LabelLaneWorkChain,
                frames=self.inputs.frames,
                indices=List(order[lane::lanes]),
                metadata={"call_link_label": f"lane_{lane + 1}"},
                **{name: self.inputs[name]},
            )
            self.to_context(lanes=append_(process))
        return None

    def inspect_lanes(self) -> None:
        """Keep what the lanes finished."""
        for lane in self.ctx.get("lanes", []):
            self.ctx.parts += (
                [lane.outputs.shards[name] for name in sorted(lane.outputs.shards)] if "shards" in lane.outputs else []
            )
            if not lane.is_finished_ok:
                self.ctx.failure = lane.exit_message or str(lane.process_state)
                self.report(f"lane <{lane.pk}>: {self.ctx.failure}")

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
            parts = [merge_labels(self.inputs.frames, **{f"part_{i:02d}": p for i, p in enumerate(group)}) for group in groups]
        self.out("frames", parts[0])
        frames = parts[0].get_frames()
        reasons = [str(a.info.get("label_status")) for a in frames if not fr.is_labelled(a)]
        total = self.inputs.frames.n_frames
        labelled = len(frames) - len(reasons)  # frames of a lane that ended early are not even among them
        self.report(f"{labelled} of {total} frames labelled, {total - labelled} failed")
        reason = reasons[0] if reasons else self.ctx.get("failure", "unknown")
        if labelled == 0:
            return self.exit_codes.ERROR_NOTHING_LABELLED.format(message=reason)
        if total - labelled > self.inputs.max_failed_fraction * total:
            return self.exit_codes.ERROR_TOO_MANY_FAILED.format(failed=total - labelled, total=total, message=reason)
        return None


def reason_of_failure(process: ProcessNode) -> str:
    """Return why a process failed, in the words of the deepest one that did: those above only say that something did."""
    for child in sorted(process.called, key=lambda child: child.ctime, reverse=True):
        if not child.is_finished_ok:
            return reason_of_failure(child)
    state = process.process_state.value if process.process_state else "unknown"
    return process.exit_message or f"{process.process_label} ended {state}"


class LabelLaneWorkChain(WorkChain):
    """Label frames one after another with a frame-by-frame reference."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports and outline."""
        super().define(spec)
        spec.input("frames", valid_type=Dataset)
        spec.input("indices", valid_type=List, help="Frames of this lane, in the order in which they are labelled.")
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
        self.ctx.position = 0
        self.ctx.shard = []
        self.ctx.failures = {}
        self.ctx.calculations = {}
        self.ctx.shards = 0
        self.ctx.name = reference_of(self.inputs)

    def has_next(self) -> bool:
        """Tell whether a frame is left."""
        return self.ctx.position < len(self.inputs.indices)

    def label_next(self) -> Any:
        """Submit the calculation of the next frame."""
        index = self.inputs.indices[self.ctx.position]
        frame = self.inputs.frames.get_frames()[index]
        structure = frame_structure(self.inputs.frames, Int(index))
        process, inputs = PER_FRAME[self.ctx.name].submission(self.inputs[self.ctx.name], structure, fr.is_isolated_atom(frame))
        inputs["metadata"] = {"call_link_label": f"frame_{index:04d}", "label": frame.info["frame_id"]}
        return ToContext(current=self.submit(process, **inputs))

    def inspect(self) -> None:
        """Remember the outputs or the reason why there are none."""
        index = self.inputs.indices[self.ctx.position]
        process: ProcessNode = self.ctx.current
        outputs = [name for name in PER_FRAME[self.ctx.name].OUTPUTS if name in process.outputs]
        if process.is_finished_ok and len(outputs) == len(PER_FRAME[self.ctx.name].OUTPUTS):
            self.ctx.calculations[str(index)] = process.pk
        else:
            reason = reason_of_failure(process)
            self.ctx.failures[str(index)] = f"failed: {reason}"
            self.report(f"frame {process.label} <{process.pk}>: {reason}")
        self.ctx.shard.append(index)
        self.ctx.position += 1

    def shard_is_full(self) -> bool:
        """Tell whether it is time to gather."""
        return len(self.ctx.shard) >= SHARD

    def has_rest(self) -> bool:
        """Tell whether labels are left that have not been gathered."""
        return bool(self.ctx.shard)

    def gather(self) -> None:
        """Put the labels of the last calculations on their frames."""
        module = PER_FRAME[self.ctx.name]
        outputs = {}
        for index in self.ctx.shard:
            if str(index) in self.ctx.calculations:
                process = load_node(self.ctx.calculations[str(index)])
                outputs.update({f"f{index}_{name}": process.outputs[name] for name in module.OUTPUTS})
        level = module.level_of_theory(self.inputs[self.ctx.name])
        failures = {str(index): self.ctx.failures[str(index)] for index in self.ctx.shard if str(index) in self.ctx.failures}
        shard = gather_labels(self.inputs.frames, List(self.ctx.shard), Str(self.ctx.name), Str(level), Dict(failures), **outputs)
        self.out(f"shards.shard_{self.ctx.shards:04d}", shard)
        self.ctx.shards += 1
        self.ctx.shard = []
        self.report(
            f"{self.ctx.position} of {len(self.inputs.indices)} frames of this lane done, {len(self.ctx.failures)} failed"
        )
