"""Databases of crystals: strategies make frames, a reference labels them, and each strategy has a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from aiida.engine import ExitCode, if_, while_
from aiida.orm import Dict, ProcessNode, Str, WorkChainNode
from aiida.plugins import CalculationFactory
from ase import Atoms

from aiida_gaprss.calculations.build_functions import (
    FATES,
    KEPT,
    MADE,
    TASKS,
    crystals_to_relax,
    fate_in_words,
    frames_of_strategies,
    frames_to_examine,
    kept_crystals,
    labels_of_strategy,
    strategy_frames,
    taken_frames,
)
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.relax import RelaxCalculation, check_potential, validate_potential
from aiida_gaprss.campaign.crystals import crystals_in
from aiida_gaprss.campaign.stages import CRYSTALS, DATABASE, VARIANCES, named
from aiida_gaprss.campaign.strategies import lack_of_relaxation, lack_of_variances, made_by, small_enough
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.reference import reference_of
from aiida_gaprss.selection.choose import deviation
from aiida_gaprss.settings.jobs import DRIVERS, LabelSettings
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.strategies.lists import NoFramesError, StrategyList
from aiida_gaprss.workflows.asks import expose_jobs, expose_reference, hard_core
from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.reference_crystals import ReferenceCrystalsWorkChain, why_absent
from aiida_gaprss.workflows.trajectories import TrajectoriesWorkChain

#: Of the link to what the program of a reference runs.
TRAJECTORIES = "trajectories"


def validate_build(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that every strategy can make its frames, before anything runs: of the crystals as they are given."""
    if not {"settings", "crystals", "potential"} <= set(ports) or "settings" not in inputs:
        return None
    strategies, crystals = StrategyList(**inputs["settings"].get_dict()), crystals_in(inputs.get("crystals"))
    if all(inputs.get(driver) for driver in DRIVERS):
        return f"give one of {' and '.join(DRIVERS)} at most: one of them runs the trajectories"
    if lack := _lack_of_potential(strategies, inputs) or _lack_of_crystals(strategies, inputs, crystals):
        return lack
    small = [crystals[number] for number in small_enough(strategies, crystals)]
    return "; ".join(map(str, made_by(strategies, small, inputs)[1])) or None


def _lack_of_potential(strategies: StrategyList, inputs: dict[str, Any]) -> str | None:
    """Return what is missing for what a potential is to do; None if nothing."""
    if not (asking := strategies.asking_potential):
        return None
    code, potential = inputs.get("jobs", {}).get("code"), inputs.get("potential")
    if not code:
        return f"jobs.code: {', '.join(asking)} run a potential, expected a python of the compute machine"
    if potential is None:
        return (
            "potential: none is given, and choose: variance asks it how sure it is" if strategies.choose == "variance" else None
        )
    lack = lack_of_variances(potential) if strategies.choose == "variance" else None
    return lack or validate_potential({"potential": potential, "code": code}, None)


def _lack_of_crystals(strategies: StrategyList, inputs: dict[str, Any], crystals: Sequence[Atoms]) -> str | None:
    """Return what is missing to relax the crystals; None if nothing."""
    relax, potential = strategies.relax, inputs.get("potential")
    if relax is None:
        return None
    if crystals and not small_enough(strategies, crystals):
        return f"relax.most_atoms: all crystals have more atoms than {relax.most_atoms}"
    lack = None if crystals else "there are no crystals to be relaxed"
    lack = lack or lack_of_relaxation(relax, inputs.get("label"), potential or inputs.get("calculator"))
    if not lack and relax.by == "potential" and potential is not None:
        lack = validate_potential({"potential": potential, "frames": inputs["crystals"]}, None)
    return f"relax: {lack}" if lack else None


class BuildWorkChain(ReferenceCrystalsWorkChain):
    """Make frames of crystals by strategies, let a reference label them, and give each strategy a dataset.

    The crystals may be relaxed before, and those left out that become another structure. A potential, or an ASE calculator, runs
    what strategies ask it for, each in a job of its own; what the reference is to run, its program does, frame by frame. Every
    structure is labelled once, also where several strategies made it. Without a reference the datasets have no labels. A
    strategy whose job fails is told, and the others go on.
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
            help="What runs molecular dynamics, relaxes crystals, and says how sure it is of frames, where that is asked for.",
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
            cls.setup,
            if_(cls.relaxes)(cls.relax_crystals, *again, cls.collect_crystals),
            cls.make,
            if_(cls.has_tasks)(cls.run_tasks, cls.run_by_reference, *again, cls.collect_tasks, cls.collect_by_reference),
            if_(cls.examines)(cls.examine, *again, cls.collect_examined),
            if_(cls.has_reference)(cls.label, cls.collect_labels),
            cls.tell,
        )
        spec.output_namespace(
            "datasets", valid_type=Dataset, dynamic=True, help="Of each strategy, labelled if a reference was given."
        )
        spec.output("labels", valid_type=Dataset, required=False, help="All frames that the reference was handed, each once.")
        spec.output("crystals", valid_type=Dataset, required=False, help="Crystals that were relaxed, and not left out.")
        spec.output("results", valid_type=Dict, help="What each strategy made and cost.")
        spec.exit_code(400, "ERROR_NOTHING", message="nothing could be made: {message}")
        spec.exit_code(402, "ERROR_NO_CRYSTALS", message="no crystal is left: {message}")
        spec.exit_code(404, "ERROR_VARIANCES", message="the potential does not say how sure it is, nothing is chosen: {message}")
        spec.exit_code(410, "ERROR_LABELS", message="labels: {message}; the datasets have what there is")

    @property
    def strategies(self) -> StrategyList:
        """The settings as a model."""
        return StrategyList(**self.inputs.settings.get_dict())

    def setup(self) -> None:
        """Begin with the crystals that are given."""
        self.ctx.made, self.ctx.tasks, self.ctx.failures, self.ctx.label_failure = {}, {}, {}, ""
        self.ctx.ended, self.ctx.fates, self.ctx.examined = {}, {}, None
        self.ctx.crystals = self.inputs.get("crystals")

    # --- crystals ---

    def relaxes(self) -> bool:
        """Tell whether the crystals are relaxed first."""
        return self.strategies.relax is not None

    def relax_crystals(self) -> Any:
        """Let the reference or the potential relax those that are not too large."""
        relax = self.strategies.relax
        assert relax is not None
        called = {"metadata": {"call_link_label": "crystals_to_relax"}}
        crystals = crystals_to_relax(self.inputs.settings, self.inputs.crystals, **called)
        self.report(f"{crystals.n_frames} crystals are relaxed by the {relax.by}")
        settings = Dict({**relax.job.model_dump(), "min_distance": hard_core(crystals.elements)})
        if relax.by == "reference":
            return self.relax_by_reference(settings, crystals)
        inputs = {**self.job(CRYSTALS), "frames": crystals, **self._driver}
        self.submit_job(CRYSTALS, RelaxCalculation, settings=settings, **inputs)
        return None

    def collect_crystals(self) -> ExitCode | None:
        """Take the crystals that are what they were; the others are told, with the reason."""
        found = kept_crystals(
            self.inputs.settings, self.inputs.crystals, metadata={"call_link_label": "kept_crystals"}, **self._relaxed()
        )
        self.ctx.crystals, self.ctx.fates = found[KEPT], found[FATES].get_dict()
        self.out("crystals", found[KEPT])
        for name, fate in self.ctx.fates.items():
            self.report(f"crystal {name}: {fate_in_words(fate)}")
        if not found[KEPT].n_frames:
            self.out("results", Dict({"strategies": {}, "crystals": self.ctx.fates}).store())
            why = "; ".join(f"{name}: {fate}" for name, fate in self.ctx.fates.items())
            return self.exit_codes.ERROR_NO_CRYSTALS.format(message=why)
        return None

    def _relaxed(self) -> dict[str, Any]:
        """Return what has been relaxed, and what went wrong, as inputs of a calcfunction."""
        if CRYSTALS in self.ctx.get("jobs", {}):
            batch = self.outcome(CRYSTALS)
            frames, summary = batch.outputs.get("frames"), cast("Dict | None", batch.outputs.get("summary"))
            failure = batch.failure or why_absent(summary) or ""
        else:
            frames, failure = self.relaxed_by_reference()
        return {"failure": Str(failure), **({"relaxed": frames} if frames is not None else {})}

    # --- frames ---

    def make(self) -> None:
        """Make the frames of each strategy; of relaxed crystals, one may have none."""
        given = {"crystals": self.ctx.crystals} if self.ctx.crystals is not None else {}
        for name in self.strategies.strategies:
            called = {"metadata": {"call_link_label": f"{name}_frames"}}
            try:
                found = strategy_frames(self.inputs.settings, Str(name), **given, **called)
            except NoFramesError as error:
                self.ctx.failures[name] = error.fault.message
                self.report(f"{name}: {error.fault.message}")
                continue
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

    @property
    def _running(self) -> list[tuple[str, str]]:
        """Strategies with frames for a potential, and what it does with them."""
        return [(name, run) for name, run in self.strategies.runs.items() if name in self.ctx.tasks]

    @property
    def _by_reference(self) -> list[str]:
        """Strategies with frames for the program of the reference."""
        return [name for name in self.strategies.by_reference if name in self.ctx.tasks]

    @property
    def _driver(self) -> dict[str, Any]:
        """The potential, or the calculator, as an input of a job."""
        return {name: self.inputs[name] for name in DRIVERS if name in self.inputs}

    def run_tasks(self) -> None:
        """Hand the potential the frames of the strategies that need it, a job for each."""
        for name, run in self._running:
            link = f"{name}_{run}"
            inputs = {**self.job(link), "frames": self.ctx.made[name], **self._driver}
            tasks = Dict({"tasks": self.ctx.tasks[name].get_dict()})
            self.submit_job(link, CalculationFactory(f"gaprss.{run}"), settings=tasks, **inputs)

    def collect_tasks(self) -> None:
        """Take what is to be labelled of what came out."""
        for name, run in self._running:
            batch = self.outcome(f"{name}_{run}")
            self._take(name, batch.job, batch.failure, cast("Dataset | None", batch.outputs.get("frames")))

    def run_by_reference(self) -> None:
        """Let the program of the reference run the trajectories of the strategies that want it, one by one."""
        for name in self._by_reference:
            link = f"{name}_{TRAJECTORIES}"
            inputs = self.exposed_inputs(LabelWorkChain, namespace="label")
            reference = {key: inputs[key] for key in (reference_of(inputs), "max_concurrent") if key is not None}
            given = {"frames": self.ctx.made[name], "tasks": self.ctx.tasks[name], "scratch": self.inputs.scratch, **reference}
            self.to_context(**{link: self.submit(TrajectoriesWorkChain, **given, metadata={"call_link_label": link})})

    def collect_by_reference(self) -> None:
        """Take what is to be labelled of what the program of the reference has run."""
        for name in self._by_reference:
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
            if not failure and not self.ctx.made[name].n_frames:
                self.ctx.failures[name] = f"no snapshot could be taken; {self.ctx.ended.get(name, 'there are none')}"

    def _tell_ends(self, name: str, done: Dataset) -> None:
        """Tell which trajectories were given up, and why: they have fewer snapshots than was said."""
        if ended := given_up(done.get_frames()):
            self.ctx.ended[name] = ended
            self.report(f"{name}: {ended}")

    # --- choice and labels ---

    def examines(self) -> bool:
        """Tell whether frames are chosen by how sure the potential is of them."""
        return self.strategies.choose == "variance" and self.has_reference()

    def examine(self) -> None:
        """Let the potential say how sure it is of each structure."""
        nodes = {f"{MADE}_{name}": node for name, node in self.ctx.made.items()}
        frames = frames_to_examine(metadata={"call_link_label": "to_examine"}, **nodes)
        inputs = {**self.job(VARIANCES), "frames": frames, "potential": self.inputs.potential}
        self.submit_job(VARIANCES, EvaluateCalculation, settings=Dict({"variances": True}), **inputs)

    def collect_examined(self) -> ExitCode | None:
        """Take the variances; a frame that the potential cannot evaluate is not chosen."""
        batch = self.outcome(VARIANCES)
        self.ctx.examined = batch.outputs.get("frames")
        asked = batch.job.inputs.frames.n_frames
        if self.ctx.examined is None or (asked and not self.ctx.examined.n_frames):
            self._give_datasets()
            return self.exit_codes.ERROR_VARIANCES.format(message=batch.failure or "no frame could be evaluated")
        return None

    def has_reference(self) -> bool:
        """Tell whether there is a reference, and anything to be labelled."""
        return bool(self.inputs.get("label")) and any(node.n_frames for node in self.ctx.made.values())

    def label(self) -> Any:
        """Hand the reference all frames, each structure once."""
        nodes = {f"{MADE}_{name}": node for name, node in self.ctx.made.items()}
        nodes |= {named(DATABASE, name): node for name, node in self.inputs.get("database", {}).items()}
        nodes |= {"examined": self.ctx.examined} if self.ctx.examined is not None else {}
        chosen = frames_of_strategies(self.inputs.settings, metadata={"call_link_label": "to_label"}, **nodes)
        if self.ctx.examined is not None:
            self.ctx.sure = sureness(chosen.get_frames(), self.ctx.examined.get_frames())
            self.report(f"variances: {in_words(self.ctx.sure)}")
        return self.hand_to_reference(chosen)

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
        self._give_datasets()
        if self.ctx.label_failure:
            return self.exit_codes.ERROR_LABELS.format(message=self.ctx.label_failure)
        if not any(node.n_frames for node in self.ctx.made.values()):
            why = [f"{name}: {words}" for name, words in [*self.ctx.failures.items(), *self.ctx.ended.items()]]
            return self.exit_codes.ERROR_NOTHING.format(message="; ".join(why) or "no strategy has frames")
        return None

    def _give_datasets(self) -> None:
        """Give the dataset of each strategy, and the results."""
        told = {name: told_of(node) for name, node in self.ctx.made.items()}
        told |= {name: {**told.get(name, {}), "failure": why} for name, why in self.ctx.failures.items()}
        told |= {name: {**told.get(name, {}), "given_up": ended} for name, ended in self.ctx.ended.items()}
        for name, node in self.ctx.made.items():
            self.out(f"datasets.{name}", node)
            self.report(f"{name}: {told[name]['labelled']} of {node.n_frames} frames labelled")
        results: dict[str, Any] = {"strategies": told}
        results |= {"crystals": self.ctx.fates} if self.ctx.fates else {}
        results |= {"variances": self.ctx.sure} if "sure" in self.ctx else {}
        self.out("results", Dict(results).store())


def sureness(chosen: Sequence[Atoms], examined: Sequence[Atoms]) -> dict[str, Any]:
    """Return how many frames were examined, and the median and largest predicted deviations (eV) of the chosen and the others."""
    names = {atoms.info["frame_id"] for atoms in chosen}
    found: dict[str, Any] = {"examined": len(examined)}
    for key, wanted in (("chosen", True), ("others", False)):
        values = [deviation(atoms) for atoms in examined if (atoms.info["frame_id"] in names) is wanted]
        found[key] = {"frames": len(values)}
        found[key] |= {"median_eV": float(np.median(values)), "largest_eV": max(values)} if values else {}
    return found


def in_words(sure: dict[str, Any]) -> str:
    """Return :func:`sureness` as a sentence."""
    parts = [f"{sure['examined']} frames examined"]
    for key in (key for key in ("chosen", "others") if sure[key]["frames"]):
        one = sure[key]
        parts.append(f"{one['frames']} {key}: median {one['median_eV']:.3g}, largest {one['largest_eV']:.3g} eV")
    return "; ".join(parts)


def given_up(done: Sequence[Atoms]) -> str:
    """Return in words which trajectories ended before their time; of frames of a run without any, or whole ones, nothing."""
    ends = [atoms.info for atoms in done if atoms.info.get("md_status", "on_the_way") not in ("on_the_way", "finished")]
    words = [f"{info['parent']} at step {info.get('md_end_step', info['step'])} ({_why(info)})" for info in ends]
    return f"given up: {', '.join(words[:10])}{' …' if len(words) > 10 else ''}" if words else ""


def _why(info: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (str(info["md_status"]), str(info.get("md_failure", "")))))


def _counted(node: Dataset) -> str:
    told = told_of(node)
    return f"{told['frames']} frames, {told['atoms']} atoms, the largest has {told['largest']}"


def told_of(node: Dataset) -> dict[str, Any]:
    """Return numbers of frames, labels and atoms of a dataset."""
    sizes = [len(atoms) for atoms in node.get_frames()]
    labelled = int(node.base.attributes.get("energies"))
    return {"frames": len(sizes), "labelled": labelled, "atoms": sum(sizes), "largest": max(sizes, default=0)}
