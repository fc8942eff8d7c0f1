"""Databases of crystals: strategies make frames, a reference labels them, and each strategy has a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from aiida.engine import ExitCode, if_, while_
from aiida.orm import Dict, ProcessNode, Str, WorkChainNode
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
from aiida_gaprss.calculations.relax import DRIVERS, check_potential
from aiida_gaprss.campaign.stages import DATABASE, named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.reference import reference_of
from aiida_gaprss.settings.jobs import LabelSettings
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.strategies.base import Strategy, StrategyError
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.workflows.asks import AskingWorkChain, expose_jobs, expose_reference
from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.trajectories import TrajectoriesWorkChain, why_no_trajectories

#: Of the link to what the program of a reference runs.
TRAJECTORIES = "trajectories"


def made_by(
    strategies: StrategyList, crystals: Sequence[Atoms], given: Mapping[str, Any]
) -> tuple[dict[str, list[Atoms]], list[str]]:
    """Return the frames of each strategy, and why the others cannot have theirs labelled.

    :param given: inputs of ``BuildWorkChain``: ``potential`` or ``calculator``, ``label``.
    """
    made, faults = {}, []
    potential = given.get("potential")
    for name, strategy in strategies.strategies.items():
        try:
            if why := _why_not_run(strategy, given):
                raise StrategyError(f"strategies.{name}: {strategy.kind} {why}")
            made[name] = strategies.frames(name, crystals)
            _check_elements(made[name], name, strategies, crystals, potential)
        except StrategyError as error:
            made.pop(name, None)
            faults.append(str(error))
    return made, faults


def _why_not_run(strategy: Strategy, given: Mapping[str, Any]) -> str | None:
    """Return why the frames of a strategy cannot be run by what is given, or None."""
    if strategy.by_reference:
        why = why_no_trajectories(given.get("label") or {})
        return f"is to be run by the reference (by: reference), but {why}" if why else None
    if "potential" in strategy.needs and not any(given.get(driver) for driver in DRIVERS):
        return "needs a potential, got none (potential: PK; or calculator: …, an ASE calculator)"
    return None


def _check_elements(
    frames: Sequence[Atoms], name: str, strategies: StrategyList, crystals: Sequence[Atoms], potential: Potential | None
) -> None:
    """Refuse frames with elements that the formula lacks, or the potential that runs them.

    :raises StrategyError: with the elements.
    """
    elements, formula = {symbol for atoms in frames for symbol in atoms.symbols}, list(strategies.elements(crystals))
    if unknown := sorted(elements - set(formula)):
        lack = f"frames have {', '.join(unknown)}, the formula has {', '.join(formula)} (formula: …)"
        raise StrategyError(f"strategies.{name}: {lack}")
    known = potential.elements if potential is not None and name in strategies.runs else elements
    if unknown := sorted(elements - set(known)):
        raise StrategyError(f"strategies.{name}: the potential knows {', '.join(known)}, but not {', '.join(unknown)}")


def validate_build(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that every strategy can make its frames, before anything runs."""
    if not {"settings", "crystals", "potential"} <= set(ports) or "settings" not in inputs:
        return None
    strategies = StrategyList(**inputs["settings"].get_dict())
    if all(inputs.get(driver) for driver in DRIVERS):
        return f"give one of {' and '.join(DRIVERS)} at most: one of them runs the trajectories"
    if strategies.runs and not inputs.get("jobs", {}).get("code"):
        return f"jobs.code: {', '.join(strategies.runs)} run a potential, expected a python of the compute machine"
    return "; ".join(made_by(strategies, crystals_in(inputs.get("crystals")), inputs)[1]) or None


class BuildWorkChain(AskingWorkChain):
    """Make frames of crystals by strategies, let a reference label them, and give each strategy a dataset.

    A potential, or an ASE calculator, runs what strategies ask it for, each in a job of its own; what the reference is to run,
    its program does, frame by frame. Every structure is labelled once, also where several strategies made it. Without a
    reference the datasets have no labels. A strategy whose job fails is told, and the others go on.
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
            help="A potential that runs molecular dynamics, for strategies that need it.",
        )
        spec.input(
            "calculator",
            valid_type=Dict,
            required=False,
            validator=model_validator_for(LabelSettings),
            help="An ASE calculator that runs it in the place of a potential, as in the settings of gaprss.label.",
        )
        spec.input_namespace(
            "database", valid_type=Dataset, dynamic=True, help="Labelled frames, of which those that are chosen should differ."
        )
        expose_jobs(spec, required=False, populate_defaults=False)
        expose_reference(spec)
        spec.inputs.validator = validate_build
        again = [while_(cls.jobs_are_left)(cls.restart_jobs)]
        spec.outline(
            cls.make,
            if_(cls.has_tasks)(cls.run_tasks, cls.run_by_reference, *again, cls.collect_tasks, cls.collect_by_reference),
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
            self.report(f"{name}: {_counted(found[MADE])}" + (f", to be run by {self._who_runs(name)}" if TASKS in found else ""))

    def _who_runs(self, name: str) -> str:
        if name in self.strategies.by_reference:
            return "the reference"
        return "the potential" if "potential" in self.inputs else "the calculator"

    def has_tasks(self) -> bool:
        """Tell whether a potential has anything to do."""
        return bool(self.ctx.tasks)

    def run_tasks(self) -> None:
        """Hand the potential the frames of the strategies that need it, a job for each."""
        for name, run in self.strategies.runs.items():
            link = f"{name}_{run}"
            driver = {name: self.inputs[name] for name in DRIVERS if name in self.inputs}
            inputs = {**self.job(link), "frames": self.ctx.made[name], **driver}
            tasks = Dict({"tasks": self.ctx.tasks[name].get_dict()})
            self.submit_job(link, CalculationFactory(f"gaprss.{run}"), settings=tasks, **inputs)

    def collect_tasks(self) -> None:
        """Take what is to be labelled of what came out."""
        for name, run in self.strategies.runs.items():
            batch = self.outcome(f"{name}_{run}")
            self._take(name, batch.job, batch.failure, cast("Dataset | None", batch.outputs.get("frames")))

    def run_by_reference(self) -> None:
        """Let the program of the reference run the trajectories of the strategies that want it, one by one."""
        for name in self.strategies.by_reference:
            link = f"{name}_{TRAJECTORIES}"
            inputs = self.exposed_inputs(LabelWorkChain, namespace="label")
            reference = {key: inputs[key] for key in (reference_of(inputs), "max_concurrent") if key is not None}
            given = {"frames": self.ctx.made[name], "tasks": self.ctx.tasks[name], "scratch": self.inputs.scratch, **reference}
            self.to_context(**{link: self.submit(TrajectoriesWorkChain, **given, metadata={"call_link_label": link})})

    def collect_by_reference(self) -> None:
        """Take what is to be labelled of what the program of the reference has run."""
        for name in self.strategies.by_reference:
            process: WorkChainNode = self.ctx[f"{name}_{TRAJECTORIES}"]
            failure = None if process.is_finished_ok else process.exit_message or reason_of_failure(process)
            self._take(name, process, failure, process.outputs.frames if "frames" in process.outputs else None)

    def _take(self, name: str, process: ProcessNode, failure: str | None, done: Dataset | None) -> None:
        """Take what is to be labelled of what has been run; tell what went wrong."""
        made = self.ctx.made.pop(name)
        if failure:
            self.ctx.failures[name] = failure
            self.report(f"{name} <{process.pk}>: {failure}")
        if done is not None:
            self._tell_ends(name, done)
            called = {"metadata": {"call_link_label": f"{name}_taken"}}
            self.ctx.made[name] = taken_frames(self.inputs.settings, Str(name), made, done, **called)
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
        return self.hand_to_reference(
            frames_of_strategies(self.inputs.settings, metadata={"call_link_label": "to_label"}, **nodes)
        )

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
