"""Databases of crystals: strategies make frames, a reference labels them, and each strategy has a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, if_, while_
from aiida.orm import Dict, Str, WorkChainNode
from aiida.plugins import CalculationFactory
from ase import Atoms

from aiida_gaprss.calculations.build_functions import (
    MADE,
    TASKS,
    crystals_in,
    frames_of_strategies,
    labels_of_strategy,
    strategy_frames,
    taken_frames,
)
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.relax import check_potential
from aiida_gaprss.campaign.stages import DATABASE, named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.strategies.base import StrategyError
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.workflows.jobs.restart import RestartingWorkChain
from aiida_gaprss.workflows.label import LabelWorkChain


def faults_of(strategies: StrategyList, crystals: Dataset | None, potential: Potential | None) -> list[str]:
    """Return what is wrong with strategies for crystals and a potential: each is tried."""
    known = crystals_in(crystals)
    found = [fault_of(strategies, name, known, potential) for name in strategies.strategies]
    return [fault for fault in found if fault is not None]


def fault_of(strategies: StrategyList, name: str, crystals: Sequence[Atoms], potential: Potential | None) -> str | None:
    """Return why one strategy cannot have its frames of crystals labelled; None if it can."""
    strategy = strategies.strategies[name]
    if "potential" in strategy.needs and potential is None:
        return f"strategies.{name}: {strategy.kind} needs a potential, got none (potential: PK)"
    try:
        made = strategies.frames(name, crystals)
    except StrategyError as error:
        return str(error)
    elements, formula = {symbol for atoms in made for symbol in atoms.symbols}, list(strategies.elements(crystals))
    if unknown := sorted(elements - set(formula)):
        return f"strategies.{name}: frames have {', '.join(unknown)}, the formula has {', '.join(formula)} (formula: …)"
    if strategy.run is not None and potential is not None and (unknown := sorted(elements - set(potential.elements))):
        return f"strategies.{name}: the potential knows {', '.join(potential.elements)}, but not {', '.join(unknown)}"
    return None


def validate_build(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that every strategy can make its frames, before anything runs."""
    if not {"settings", "crystals", "potential"} <= set(ports) or "settings" not in inputs:
        return None
    strategies = StrategyList(**inputs["settings"].get_dict())
    if strategies.runs and not inputs.get("jobs", {}).get("code"):
        return f"jobs.code: {', '.join(strategies.runs)} run a potential, expected a python of the compute machine"
    return "; ".join(faults_of(strategies, inputs.get("crystals"), inputs.get("potential"))) or None


class BuildWorkChain(RestartingWorkChain):
    """Make frames of crystals by strategies, let a reference label them, and give each strategy a dataset.

    A potential runs what strategies ask it for, each in a job of its own. Every structure is labelled once, also where several
    strategies made it. Without a reference the datasets have no labels. A strategy whose job fails is told, and the others go on.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("settings", valid_type=Dict, validator=model_validator_for(StrategyList), help="Strategies (StrategyList).")
        spec.input("crystals", valid_type=Dataset, required=False, help="Crystals, called by their frame_id.")
        spec.input(
            "potential",
            valid_type=Potential,
            required=False,
            validator=check_potential,
            help="What runs molecular dynamics, for strategies that need it.",
        )
        spec.input_namespace(
            "database", valid_type=Dataset, dynamic=True, help="Labelled frames, of which those that are chosen should differ."
        )
        spec.expose_inputs(
            EvaluateCalculation,
            namespace="jobs",
            include=("code", "metadata"),
            namespace_options={
                "required": False,
                "populate_defaults": False,
                "help": "The jobs of the potential: python of the compute machine, options.",
            },
        )
        spec.expose_inputs(
            LabelWorkChain,
            namespace="label",
            exclude=("frames", "scratch"),
            namespace_options={
                "required": False,
                "populate_defaults": False,
                "help": "A reference that labels frames, as in a campaign.",
            },
        )
        spec.inputs.validator = validate_build
        again = [while_(cls.jobs_are_left)(cls.restart_jobs)]
        spec.outline(
            cls.make,
            if_(cls.has_tasks)(cls.run_tasks, *again, cls.collect_tasks),
            if_(cls.has_reference)(cls.label, cls.collect_labels),
            cls.tell,
        )
        spec.output_namespace(
            "datasets", valid_type=Dataset, dynamic=True, help="Of each strategy, labelled if a reference was given."
        )
        spec.output("labels", valid_type=Dataset, required=False, help="All frames that the reference was handed, each once.")
        spec.output("results", valid_type=Dict, help="What each strategy made and cost.")
        spec.exit_code(400, "ERROR_NOTHING", message="nothing could be made: {message}")
        spec.exit_code(410, "ERROR_LABELS", message="labels: {message}; the datasets have what there is")

    @property
    def strategies(self) -> StrategyList:
        """The settings as a model."""
        return StrategyList(**self.inputs.settings.get_dict())

    def make(self) -> None:
        """Make the frames of each strategy."""
        self.ctx.made, self.ctx.tasks, self.ctx.failures, self.ctx.label_failure = {}, {}, {}, ""
        self.ctx.ended = {}
        given = {"crystals": self.inputs.crystals} if "crystals" in self.inputs else {}
        for name in self.strategies.strategies:
            called = {"metadata": {"call_link_label": f"{name}_frames"}}
            found = strategy_frames(self.inputs.settings, Str(name), **given, **called)
            self.ctx.made[name] = found[MADE]
            if TASKS in found:
                self.ctx.tasks[name] = found[TASKS]
            self.report(f"{name}: {_counted(found[MADE])}" + (", to be run by the potential" if TASKS in found else ""))

    def has_tasks(self) -> bool:
        """Tell whether a potential has anything to do."""
        return bool(self.ctx.tasks)

    def run_tasks(self) -> None:
        """Hand the potential the frames of the strategies that need it, a job for each."""
        inputs = AttributeDict(self.exposed_inputs(EvaluateCalculation, namespace="jobs"))
        options = {key: value for key, value in inputs.metadata.get("options", {}).items() if not key.endswith("_name")}
        for name, run in self.strategies.runs.items():
            link = f"{name}_{run}"
            metadata = {"call_link_label": link, "label": link.replace("_", " "), "options": options}
            given = {"code": inputs.code, "potential": self.inputs.potential, "frames": self.ctx.made[name]}
            tasks = Dict({"tasks": self.ctx.tasks[name].get_dict()})
            self.submit_job(link, CalculationFactory(f"gaprss.{run}"), settings=tasks, metadata=metadata, **given)

    def collect_tasks(self) -> None:
        """Take what is to be labelled of what came out."""
        for name, run in self.strategies.runs.items():
            batch, made = self.outcome(f"{name}_{run}"), self.ctx.made.pop(name)
            if batch.failure:
                self.ctx.failures[name] = batch.failure
                self.report(f"{name} <{batch.job.pk}>: {batch.failure}")
            if "frames" in batch.outputs:
                self._tell_ends(name, batch.outputs["frames"])
                called = {"metadata": {"call_link_label": f"{name}_taken"}}
                self.ctx.made[name] = taken_frames(self.inputs.settings, Str(name), made, batch.outputs["frames"], **called)
                self.report(f"{name}: {_counted(self.ctx.made[name])} taken")

    def _tell_ends(self, name: str, done: Dataset) -> None:
        """Tell which trajectories were given up, and why: they have fewer snapshots than was said."""
        if ended := given_up(done.get_frames()):
            self.ctx.ended[name] = ended
            self.report(f"{name}: {ended}")

    def has_reference(self) -> bool:
        """Tell whether there is a reference, and anything to be labelled."""
        return bool(self.inputs.get("label")) and any(node.n_frames for node in self.ctx.made.values())

    def label(self) -> Any:
        """Hand the reference all frames, each structure once."""
        nodes = {f"{MADE}_{name}": node for name, node in self.ctx.made.items()}
        nodes |= {named(DATABASE, name): node for name, node in self.inputs.get("database", {}).items()}
        to_label = frames_of_strategies(self.inputs.settings, metadata={"call_link_label": "to_label"}, **nodes)
        self.report(f"{to_label.n_frames} frames for the reference")
        inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, namespace="label"))
        inputs |= {"frames": to_label, "scratch": self.inputs.scratch}
        inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": "label"}
        return ToContext(labelling=self.submit(LabelWorkChain, **inputs))

    def collect_labels(self) -> None:
        """Hand the labels back to the strategies."""
        process: WorkChainNode = self.ctx.labelling
        if not process.is_finished_ok:
            self.ctx.label_failure = str(process.exit_message or process.process_state)
            self.report(f"reference: {self.ctx.label_failure}")
        if "frames" in process.outputs:
            self.out("labels", process.outputs.frames)
            for name, made in self.ctx.made.items():
                called = {"metadata": {"call_link_label": f"{name}_labels"}}
                self.ctx.made[name] = labels_of_strategy(Str(name), made, process.outputs.frames, **called)

    def tell(self) -> ExitCode | None:
        """Give the datasets, and what each cost."""
        told = {name: told_of(node) for name, node in self.ctx.made.items()}
        told |= {name: {**told.get(name, {}), "failure": why} for name, why in self.ctx.failures.items()}
        told |= {name: {**told.get(name, {}), "given_up": ended} for name, ended in self.ctx.ended.items()}
        for name, node in self.ctx.made.items():
            self.out(f"datasets.{name}", node)
            self.report(f"{name}: {told[name]['labelled']} of {node.n_frames} frames labelled")
        self.out("results", Dict({"strategies": told}).store())
        if self.ctx.label_failure:
            return self.exit_codes.ERROR_LABELS.format(message=self.ctx.label_failure)
        if not any(node.n_frames for node in self.ctx.made.values()):
            why = [f"{name}: {words}" for name, words in [*self.ctx.failures.items(), *self.ctx.ended.items()]]
            return self.exit_codes.ERROR_NOTHING.format(message="; ".join(why) or "no strategy has frames")
        return None


def given_up(done: Sequence[Atoms]) -> str:
    """Return in words which trajectories ended before their time; of frames of a run without any, or whole ones, nothing."""
    ends = [atoms.info for atoms in done if atoms.info.get("md_status", "on_the_way") not in ("on_the_way", "finished")]
    words = [f"{info['parent']} at step {info.get('md_end_step', info['step'])} ({info['md_status']})" for info in ends]
    return f"given up: {', '.join(words[:10])}{' …' if len(words) > 10 else ''}" if words else ""


def _counted(node: Dataset) -> str:
    told = told_of(node)
    return f"{told['frames']} frames, {told['atoms']} atoms, the largest has {told['largest']}"


def told_of(node: Dataset) -> dict[str, Any]:
    """Return numbers of frames, labels and atoms of a dataset."""
    sizes = [len(atoms) for atoms in node.get_frames()]
    labelled = int(node.base.attributes.get("energies"))
    return {"frames": len(sizes), "labelled": labelled, "atoms": sum(sizes), "largest": max(sizes, default=0)}
