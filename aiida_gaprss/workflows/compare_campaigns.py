"""Campaigns side by side: all their potentials on one test, which is made of all their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode, if_, while_
from aiida.orm import Dict

from aiida_gaprss.analysis.side_by_side import SideBySideSettings
from aiida_gaprss.analysis.testset import unrest
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.calculations.side_by_side_functions import (
    CRYSTALS,
    EVALUATED,
    RELAXED,
    campaigns_side_by_side,
    common_test,
    low_frames,
    low_frames_together,
    of_part,
    rows_of_parts,
    rows_together,
)
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.workflows.asks import AskingWorkChain, expose_jobs, expose_reference, hard_core, validate_concurrent

#: Links per process cost quadratically: at most so many datasets, and parts with two each, in one calcfunction.
FAN_IN, PARTS = 40, 20


def _validate(inputs: dict[str, Any], ports: Any) -> str | None:
    if not {"campaigns", "labels", "potentials"} <= set(ports):
        return None
    labels, potentials = dict(inputs.get("labels", {})), dict(inputs.get("potentials", {}))
    if not labels or not potentials:
        return f"expected labels and potentials, got {len(labels)} datasets and {len(potentials)} potentials"
    parts = {of_part(one["key"], part["tag"]) for one in inputs["campaigns"]["campaigns"] for part in one["parts"]}
    if strange := sorted(parts ^ set(potentials)):
        return f"campaigns and potentials: {', '.join(strange[:5])}: expected one potential for each part that has one, no others"
    if "crystals" in inputs and not inputs.get("label"):
        return "crystals: they need a reference that labels them, expected label"
    elements = {symbol for node in [*labels.values(), *_given(inputs)] for symbol in node.elements}
    for name, node in potentials.items():
        if unknown := sorted(elements - set(node.elements)):
            return f"potentials.{name} does not know {', '.join(unknown)}, which the labels contain"
    return None


def _given(inputs: Mapping[str, Any]) -> list[Dataset]:
    return [inputs["crystals"]] if "crystals" in inputs else []


class CompareCampaignsWorkChain(AskingWorkChain):
    """Put all potentials of all campaigns to one test, and tell how many labels each campaign took to come how far.

    The test is made of the labels of all campaigns, and of given crystals: low frames, each structure once, which every potential
    evaluates in one job; and the lowest structures, which it relaxes in another. A job that fails leaves its row without numbers.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("settings", valid_type=Dict, validator=model_validator_for(SideBySideSettings), help="SideBySideSettings.")
        spec.input("campaigns", valid_type=Dict, help="What is known of the campaigns besides, as comparison_inputs makes it.")
        spec.input_namespace("labels", valid_type=Dataset, dynamic=True, help="Labelled frames: c00_g00, c00_g01, …, c01_g00, …")
        spec.input_namespace("potentials", valid_type=Potential, dynamic=True, help="Potentials, called likewise.")
        spec.input("crystals", valid_type=Dataset, required=False, help="Known crystals, which the reference labels.")
        expose_reference(spec)
        expose_jobs(spec)
        spec.input(
            "max_concurrent", valid_type=int, non_db=True, default=4, validator=validate_concurrent, help="Jobs at one time."
        )
        spec.inputs.validator = _validate
        again = [while_(cls.jobs_are_left)(cls.restart_jobs)]
        spec.outline(
            cls.setup,
            if_(cls.has_crystals)(cls.label, cls.collect_crystals),
            cls.make_test,
            while_(cls.has_jobs)(cls.run_jobs, *again, cls.collect_jobs),
            cls.judge,
        )
        spec.output("comparison", valid_type=Dict, help="Rows of all parts, what is told of campaigns and files, the test.")
        spec.output("test", valid_type=Dataset, help="The common test, with labels.")
        spec.output("lowest", valid_type=Dataset, help="The lowest structures, as they are relaxed.")
        spec.output("facts", valid_type=Dict, help="Of the frames of the test: heights, and who has made them.")
        spec.exit_code(400, "ERROR_NOTHING", message="there is nothing to compare with: {message}")

    @property
    def settings(self) -> SideBySideSettings:
        """The settings as a model."""
        return SideBySideSettings(**self.inputs.settings.get_dict())

    def setup(self) -> None:
        """Tell what is compared."""
        self.ctx.made, self.ctx.crystals = {}, None
        campaigns = self.inputs.campaigns["campaigns"]
        names = ", ".join(one["name"] for one in campaigns)
        self.report(f"{len(self.inputs.potentials)} potentials of {names}")

    def has_crystals(self) -> bool:
        """Tell whether there are known crystals."""
        return "crystals" in self.inputs

    def label(self) -> Any:
        """Let the reference label the crystals."""
        return self.hand_to_reference(self.inputs.crystals)

    def collect_crystals(self) -> None:
        """Take the labelled crystals; tell those that are not at rest, which cannot be among the lowest structures."""
        process = self.ctx.labelling
        if not process.is_finished_ok:
            self.report(f"crystals: {process.exit_message or process.process_state}; going on with those that have labels")
        self.ctx.crystals = process.outputs.frames if "frames" in process.outputs else None
        for atoms in self.ctx.crystals.get_frames() if self.ctx.crystals is not None else ():
            force, pressure = unrest(atoms)
            if force > self.settings.force or pressure > self.settings.pressure:
                left = f"the reference leaves {force:.2g} eV/Å and {pressure:.2g} GPa"
                self.report(f"crystal {atoms.info['frame_id']}: {left}: it is in the test, but not among the lowest structures")

    def make_test(self) -> ExitCode | None:
        """Gather the low frames of all campaigns, and make the common test of them."""
        shards = self.gathered()
        made = common_test(self.inputs.settings, metadata={"call_link_label": "common_test"}, **shards)
        if not made["lowest"].n_frames:
            most = f"{self.settings.force:g} eV/Å and {self.settings.pressure:g} GPa"
            return self.exit_codes.ERROR_NOTHING.format(message=f"no labelled frame is at rest (up to {most})")
        self.ctx.test = made
        for output, name in (("test", "frames"), ("lowest", "lowest"), ("facts", "facts")):
            self.out(output, made[name])
        found = ", ".join(f"{one['symbol']} ({one['space_group']})" for one in made["facts"]["lowest"])
        self.report(f"test of {made['frames'].n_frames} frames; lowest structures: {found}")
        self.ctx.queue = [(name, kind) for name in sorted(self.inputs.potentials) for kind in (EVALUATED, RELAXED)]
        return None

    def gathered(self) -> dict[str, Dataset]:
        """Return the low frames of all campaigns, in few datasets."""
        parts: dict[str, dict[str, Dataset]] = {}
        for name, node in sorted(self.inputs.labels.items()):
            parts.setdefault(name.partition("_")[0], {})[name] = node
        if self.ctx.crystals is not None:
            parts[CRYSTALS] = {of_part(CRYSTALS, CRYSTALS): self.ctx.crystals}
        shards = {
            f"{key}_{number:02d}": low_frames(
                self.inputs.settings, metadata={"call_link_label": f"low_frames_{key}_{number:02d}"}, **some
            )
            for key, nodes in parts.items()
            for number, some in enumerate(_shards(nodes, FAN_IN))
        }
        return self.joined(shards, lambda some, **called: low_frames_together(self.inputs.settings, **called, **some), "frames")

    def joined(self, nodes: dict[str, Any], join: Any, what: str) -> dict[str, Any]:
        """Return nodes joined so often that there are few.

        :param join: makes one node of several; ``what`` they are, for the labels of links.
        """
        level = 0
        while len(nodes) > FAN_IN:
            nodes = {
                f"shard_{level}_{number:02d}": join(some, metadata={"call_link_label": f"{what}_{level}_{number:02d}"})
                for number, some in enumerate(_shards(nodes, FAN_IN))
            }
            level += 1
        return nodes

    def has_jobs(self) -> bool:
        """Tell whether potentials are left."""
        return bool(self.ctx.queue)

    def run_jobs(self) -> None:
        """Submit the next jobs."""
        number = self.inputs.max_concurrent
        self.ctx.running, self.ctx.queue = self.ctx.queue[:number], self.ctx.queue[number:]
        for name, kind in self.ctx.running:
            inputs = {**self.job(f"{name}_{kind}"), "potential": self.inputs.potentials[name]}
            if kind == EVALUATED:
                self.submit_job(f"{name}_{kind}", EvaluateCalculation, frames=self.ctx.test["frames"], **inputs)
            else:
                self.submit_job(
                    f"{name}_{kind}", RelaxCalculation, frames=self.ctx.test["lowest"], settings=self.relax_settings(), **inputs
                )

    def relax_settings(self) -> Dict:
        """Return how the lowest structures are relaxed: a potential in which they fall into a hole has lost them."""
        settings = self.settings.relax.model_dump()
        elements = self.ctx.test["lowest"].elements
        return Dict({**settings, "min_distance": settings["min_distance"] or hard_core(elements)})

    def collect_jobs(self) -> None:
        """Keep what the potentials have made; one that has made nothing is told, and its row is without it."""
        for name, kind in self.ctx.running:
            batch = self.outcome(f"{name}_{kind}")
            if batch.failure:
                self.report(f"{name}, {kind} <{batch.job.pk}>: {batch.failure}")
            if "frames" in batch.outputs:
                self.ctx.made[f"{name}_{kind}"] = batch.outputs["frames"]

    def judge(self) -> None:
        """Make the rows, and what is told of campaigns and files."""
        test = self.ctx.test
        rows: dict[str, Dict] = {}
        for one in self.inputs.campaigns["campaigns"]:
            parts = {part["tag"]: part for part in one["parts"]}
            for number, some in enumerate(_shards(parts, PARTS)):
                key = f"{one['key']}_{number:02d}"
                about = Dict({"key": one["key"], "parts": list(some.values())})
                called = {"metadata": {"call_link_label": f"rows_{key}"}}
                made = self.made_of(one["key"], some)
                rows[key] = rows_of_parts(self.inputs.settings, test["lowest"], test["facts"], about, **called, **made)
        rows = self.joined(rows, lambda some, **called: rows_together(**called, **some), "rows")
        together = rows_together(metadata={"call_link_label": "rows"}, **rows)
        told = campaigns_side_by_side(
            self.inputs.settings, self.inputs.campaigns, test["facts"], together, metadata={"call_link_label": "side_by_side"}
        )
        self.out("comparison", told)

    def made_of(self, key: str, tags: Mapping[str, Any]) -> dict[str, Dataset]:
        """Return what the potentials of some parts of a campaign have made of the test."""
        names = {f"{kind}_{tag}": f"{of_part(key, tag)}_{kind}" for tag in tags for kind in (EVALUATED, RELAXED)}
        return {name: self.ctx.made[found] for name, found in names.items() if found in self.ctx.made}


def _shards(nodes: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
    """Return so many at a time."""
    names = list(nodes)
    return [{name: nodes[name] for name in names[start : start + most]} for start in range(0, len(names), most)]
