"""Label the frames of a dataset with a reference: an ASE calculator in one batch, or a DFT plugin frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, WorkChain, append_, if_, while_
from aiida.orm import Bool, Dict, Float, List, ProcessNode, Str

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.bundle import BundleCalculation
from aiida_gaprss.calculations.label import LabelCalculation
from aiida_gaprss.calculations.label_functions import (
    FOUND,
    label_copies,
    merge_labels,
    settle_labels,
)
from aiida_gaprss.campaign.file import check_reference
from aiida_gaprss.campaign.inputs import label_inputs
from aiida_gaprss.campaign.stages import SETTLE
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import content_of, difference
from aiida_gaprss.reference import ASE, bundled, define, level_of, names, per_frame, reference_named, reference_of
from aiida_gaprss.reference.common import attempts
from aiida_gaprss.selection.sanity import Limits, shortest_distances, why_absurd
from aiida_gaprss.settings.plugins import KindError
from aiida_gaprss.settings.yamlfile import Given
from aiida_gaprss.workflows.inputs import node_of
from aiida_gaprss.workflows.jobs.restart import RestartingWorkChain
from aiida_gaprss.workflows.jobs.scratch import clean_scratch
from aiida_gaprss.workflows.jobs.submit_once import called
from aiida_gaprss.workflows.lanes import (
    FRAMES_PER_JOB,
    BundleLaneWorkChain,
    LabelLaneWorkChain,
    gather,
    is_not_reached,
    results_of_lane,
)
from aiida_gaprss.workflows.reuse import datasets_with_labels

#: At most so many datasets are merged by one calcfunction.
FAN_IN = 40
#: Frames whose lanes broke down go into other lanes so many times.
ROUNDS = 5


def _validate(inputs: dict[str, Any], _: Any) -> str | None:
    given = [name for name in names() if inputs.get(name)]
    if len(given) != 1:
        return f"give exactly one reference of {', '.join(names())}; got {', '.join(given) or 'none'}"
    if lack := _lack_of(given[0], inputs):
        return lack
    if "frames" in inputs:
        level = level_of(inputs)
        for name, node in inputs.get("known", {}).items():
            other = difference({f"known.{name}": node.level, "the reference": level})
            if other:
                return f"known.{name} is at another level of theory: {other}"
    return None


def _lack_of(name: str, inputs: dict[str, Any]) -> str | None:
    """Return what a reference says of the inputs for it, and whether its frames go into bundles."""
    if name == ASE:
        lack = f"frames of {ASE} go into one job anyway; bundles are for {', '.join(per_frame())}"
        return lack if "bundle" in inputs else None
    try:
        module = bundled(name) if "bundle" in inputs else reference_named(name)
    except KindError as error:
        return str(error)
    faults = module.missing(inputs[name], inputs["frames"].elements) if "frames" in inputs else []
    return f"{name}: {'; '.join(map(str, faults))}" if faults else None


class LabelWorkChain(RestartingWorkChain):
    """Give every frame of a dataset the labels of one reference.

    A frame whose calculation fails stays in the output with the reason in ``label_status``; only when too many fail does
    the work chain end with an error, and then, too, its output holds everything that was labelled.
    """

    #: What does it frame by frame, and how that is called.
    LANE: type[LabelLaneWorkChain] = LabelLaneWorkChain
    DOES, DONE = "labelling", "labelled"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("frames", valid_type=Dataset, help="Frames to label.")
        spec.expose_inputs(
            LabelCalculation,
            namespace="ase",
            exclude=("frames",),
            namespace_options={
                "required": False,
                "populate_defaults": False,
                "help": "Labels from any ASE calculator, in one job.",
            },
        )
        define(spec.inputs)
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
            "reuse",
            valid_type=bool,
            non_db=True,
            default=True,
            help="Take labels of the same frames at the same level of theory from wherever they are in the profile.",
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
                if_(cls.has_frames_left)(cls.run_batch, while_(cls.jobs_are_left)(cls.restart_jobs), cls.inspect_batch),
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

    @classmethod
    def get_builder_from_protocol(
        cls, frames: Dataset, reference: Mapping[str, Any], *, codes: Mapping[str, str] | None = None, **campaign: Any
    ) -> ProcessBuilder:
        """Return a builder with all inputs of labels; there is one protocol only, that of the reference.

        :param frames: to be labelled.
        :param reference: what labels them, as under ``reference`` in a campaign file: ``{"ase": {"calculator": "emt"}}``.
        :param codes: names of codes, as under ``codes`` there.
        :param campaign: other keys of a campaign file: ``options``, ``bundle``, ``max_concurrent``, ``max_failed_fraction``,
            ``reuse_labels``.
        :raises ValueError: with everything that is wrong, each with its place.
        """
        elements = node_of(Dataset, frames, "frames").elements
        data = {"reference": reference, "codes": codes or {}, **campaign}
        builder = cls.get_builder()
        builder._update(
            {"frames": frames, **label_inputs(check_reference(data, Given(data), Path.cwd() / "reference", elements))}
        )
        return builder

    def settle(self) -> None:
        """Set aside the frames that need no calculation."""
        self.ctx.parts = []
        self.ctx.rounds = 0
        self.ctx.setbacks = 0
        self.ctx.left = self.inputs.frames
        self.ctx.failed = 0
        self.ctx.copies = 0
        factor = self.inputs.min_distance_factor
        frames = self.inputs.frames.get_frames()
        absurd = any(why_absurd(a, Limits(min_distance=shortest_distances(a, factor))) is not None for a in frames)
        known = dict(self.inputs.get("known", {}))
        if self.inputs.reuse:
            found = datasets_with_labels(self.inputs.frames, self.inputs, known.values())
            known = {f"{FOUND}{node.pk}": node for node in found} | known
        once = self.inputs.reuse and len({fr.label_key(atoms) for atoms in frames}) < len(frames)
        if absurd or known or once:
            self.set_aside(known)

    def set_aside(self, known: Mapping[str, Dataset]) -> None:
        """Take the labels of known frames; leave out the absurd ones and, if labels are reused, copies."""
        parts = settle_labels(
            self.inputs.frames,
            Float(self.inputs.min_distance_factor),
            Dict(content_of(level_of(self.inputs))),
            Bool(self.inputs.reuse),
            metadata={"call_link_label": SETTLE},
            **known,
        )
        self.ctx.parts = [parts["settled"]]
        self.ctx.left = parts["left"]
        labelled, total = parts["settled"].base.attributes.get("energies"), self.inputs.frames.n_frames
        self.ctx.failed = parts["settled"].n_frames - labelled
        self.ctx.copies = total - parts["settled"].n_frames - parts["left"].n_frames
        if labelled:
            where = ", ".join(f"<{node.pk}>" for node in known.values())
            self.report(f"{labelled} of {total} frames are labelled already, in datasets {where}")
        if self.ctx.failed or self.ctx.copies:
            self.report(f"not calculated: {self.ctx.failed} absurd frames, {self.ctx.copies} copies of others")

    def is_batch(self) -> bool:
        """Tell whether all frames go into one job."""
        return reference_of(self.inputs) == ASE

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
        lane_class: type[WorkChain] = self.LANE
        if "bundle" in self.inputs:
            per_job = self.inputs.bundle.get("frames_per_job", FRAMES_PER_JOB)
            where = f"{per_job} in a job, "
            lane_class, more = BundleLaneWorkChain, {"bundle": self.inputs.bundle}
        lanes = min(self.inputs.max_concurrent, -(-len(order) // per_job))
        self.report(f"{self.DOES} {len(order)} frames with {reference_named(name).NAME}, {where}{lanes} at a time")
        links = [f"lane_{lane + 1}" + (f"_round_{self.ctx.rounds}" if self.ctx.rounds > 1 else "") for lane in range(lanes)]
        # If this step is done again, lanes draw from the same queue as those that there are.
        first = called(self.node, links[0])
        queue = first.inputs.queue if first else List(order).store()
        for link in links:
            process = self.submit(
                lane_class,
                frames=self.ctx.left,
                queue=queue,
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
        asked = self.LANE.ASKED
        results = results_of_lane(lane, name, self.ctx.left, attempts(self.inputs[name]), asked)
        rest = {i: result for i, result in results.items() if self.ctx.left.frame(i).info["frame_id"] not in gathered}
        return [gather(self.ctx.left, rest, name, self.inputs[name], asked)] if rest else []

    def finish(self) -> ExitCode | None:
        """Merge the parts and count."""
        parts = list(self.ctx.parts)
        if self.inputs.frames.n_frames == 0:  # for example, a search found no minimum
            self.out("frames", self.inputs.frames)
            return None
        if not parts:
            return self.exit_codes.ERROR_NOTHING_LABELLED.format(message=self.ctx.get("failure", "unknown"))
        in_order = reference_of(self.inputs) == ASE
        while len(parts) > 1 or not in_order:
            in_order = True
            groups = [parts[i : i + FAN_IN] for i in range(0, len(parts), FAN_IN)]
            reason = Str(self.ctx.get("failure", "") if len(groups) == 1 else "")
            parts = [
                merge_labels(self.inputs.frames, reason, **{f"part_{i:02d}": p for i, p in enumerate(group)}) for group in groups
            ]
        if self.ctx.copies:
            parts = [label_copies(self.inputs.frames, parts[0])]
        self.out("frames", parts[0])
        total = self.inputs.frames.n_frames
        labelled = parts[0].base.attributes.get("energies")
        reasons: list[str] = []
        if labelled < parts[0].n_frames:
            reasons = [str(a.info.get("label_status")) for a in parts[0].get_frames() if not fr.is_labelled(a)]
        self.report(f"{labelled} of {total} frames {self.DONE}, {total - labelled} failed")
        first = reasons[0] if reasons else self.ctx.get("failure", "unknown")
        if labelled == 0:
            return self.exit_codes.ERROR_NOTHING_LABELLED.format(message=first)
        if total - labelled > self.inputs.max_failed_fraction * total:
            return self.exit_codes.ERROR_TOO_MANY_FAILED.format(failed=total - labelled, total=total, message=first)
        return None
