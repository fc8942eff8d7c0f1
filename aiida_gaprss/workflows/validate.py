"""May these potentials be used? Their properties beside those of a reference, and a scorecard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.engine import ExitCode, if_, while_
from aiida.orm import Dict, List, Str, WorkChainNode
from aiida.plugins import CalculationFactory

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.relax import RelaxCalculation, check_potential
from aiida_gaprss.calculations.validate_functions import (
    DONE,
    INDEX,
    PLANNED,
    TASKS,
    TEST,
    frames_beside,
    frames_to_label,
    labels_of_potential,
    property_results,
    relaxed_crystals,
    solver_frames,
    validation_plan,
    validation_scorecard,
)
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.properties.planning import ERROR, crystals_by_name
from aiida_gaprss.properties.suite import Suite
from aiida_gaprss.reference import lack_of_relaxing
from aiida_gaprss.runners.status import CONVERGED
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.workflows.asks import expose_jobs, expose_reference, hard_core
from aiida_gaprss.workflows.reference_crystals import REFERENCE, ReferenceCrystalsWorkChain

#: Tasks that are timed run when all others have ended.
TIMED = ("speed",)


def validate_validation(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that crystals, potentials and suite go together, before anything runs."""
    if not {"settings", "crystals", "potentials"} <= set(ports) or not {"settings", "crystals", "potentials"} <= set(inputs):
        return None
    given = [name for name in ("label", "reference_potential", "values") if inputs.get(name)]
    if len(given) > 1:
        return f"give one reference at most, got {' and '.join(given)}"
    potentials = dict(inputs["potentials"])
    if not potentials:
        return "potentials: give at least one"
    if REFERENCE in potentials:
        return f"potentials: {REFERENCE} is the name of the reference, choose another one"
    others = {REFERENCE: inputs["reference_potential"]} if "reference_potential" in inputs else {}
    suite = Suite(**inputs["settings"].get_dict())
    if lack := lack_of_tests(suite, inputs.get("test", {})):
        return lack
    faults = faults_of(suite, inputs["crystals"], {**potentials, **others}, inputs.get("label"), inputs.get("test"))
    return "; ".join(faults) or None


def lack_of_tests(suite: Suite, tests: Any) -> str | None:
    """Return what is wrong with labelled frames for properties that are of many frames together."""
    asked = [name for name, wanted in suite.properties.items() if not wanted.per_crystal]
    if asked and not any(node.base.attributes.get("energies") for node in tests.values()):
        return f"{', '.join(asked)}: needs labelled frames, expected a dataset of such as test"
    return "test: no property of the suite is of labelled frames, expected errors among them" if tests and not asked else None


def faults_of(
    suite: Suite,
    crystals: Dataset,
    potentials: dict[str, Potential],
    label: Any = None,
    tests: Mapping[str, Dataset] | None = None,
) -> list[str]:
    """Return what is wrong with crystals for potentials and properties, and with a reference that is to relax them.

    :param label: the inputs of the reference, if it labels frames; ``tests``: labelled frames.
    """
    tests = tests or {}
    lack = lack_of_relaxing(label) if label and suite.reference_geometry == "relaxed" else None
    out = [f"reference_geometry is relaxed, but {lack}"] if lack else []
    for name, node in potentials.items():
        unknown = sorted(
            {*crystals.elements, *(symbol for test in tests.values() for symbol in test.elements)} - set(node.elements)
        )
        if unknown:
            out.append(f"crystals: potential {name} knows {', '.join(node.elements)}, but not {', '.join(unknown)}")
    reach = max((float(node.facts.get("cutoff") or 0.0) for node in potentials.values()), default=0.0)
    for crystal, atoms in crystals_by_name(crystals.get_frames()).items():
        for name, wanted in ((name, one) for name, one in suite.properties.items() if one.per_crystal):
            out += [f"{name} of {crystal}: {fault}" for fault in wanted.faults(atoms, reach)]
    return out


class ValidateWorkChain(ReferenceCrystalsWorkChain):
    """Compute the properties of crystals with potentials, and with a reference, by the same plan, and judge them.

    All frames of all properties of a potential are one job, however many crystals; another one for each other task: relaxations,
    paths, molecular dynamics. The reference labels each frame once. Potentials and reference take the crystals as given, or as
    each of them relaxes them; what a potential has relaxed, or run through, the reference labels as it is.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("settings", valid_type=Dict, validator=model_validator_for(Suite), help="Properties and limits (Suite).")
        spec.input("crystals", valid_type=Dataset, help="Crystals, called by their frame_id.")
        spec.input_namespace("potentials", valid_type=Potential, dynamic=True, help="The potentials, by names of your choice.")
        spec.input_namespace(
            "test", valid_type=Dataset, dynamic=True, help="Labelled frames that potentials are compared with (errors)."
        )
        expose_reference(spec)
        spec.input(
            "reference_potential",
            valid_type=Potential,
            required=False,
            validator=check_potential,
            help="A potential as reference.",
        )
        spec.input(
            "values",
            valid_type=Dict,
            required=False,
            help='Numbers as reference: {"source": …, "crystals": {crystal: {property: …}}}.',
        )
        expose_jobs(spec)
        spec.inputs.validator = validate_validation
        again = [while_(cls.jobs_are_left)(cls.restart_jobs)]
        spec.outline(
            cls.setup,
            if_(cls.relaxes)(cls.relax_crystals, *again, cls.collect_crystals),
            cls.plan,
            while_(cls.has_jobs)(cls.run_jobs, *again, cls.collect_jobs),
            if_(cls.has_labels)(cls.label, *again, cls.collect_labels),
            if_(cls.has_solvers)(cls.solve, *again, cls.collect_solved),
            cls.judge,
        )
        spec.output("scorecard", valid_type=Dict, help="Scores with their lights, of all potentials.")
        spec.output_namespace("results", valid_type=Dict, dynamic=True, help="Properties of each potential.")
        spec.output_namespace("beside", valid_type=Dict, dynamic=True, help="Of the reference, for what each potential has made.")
        spec.output("reference", valid_type=Dict, required=False, help="Properties of the reference.")
        spec.output("labels", valid_type=Dataset, required=False, help="All frames that the reference has labelled.")
        spec.output_namespace("crystals", valid_type=Dataset, dynamic=True, help="As potentials and reference have relaxed them.")
        spec.output_namespace("frames", valid_type=Dataset, dynamic=True, help="What came out of the tasks of each potential.")
        spec.exit_code(400, "ERROR_NOTHING", message="nothing could be computed: {message}")
        spec.exit_code(
            410, "ERROR_LABELS", message="the reference gave nothing: {message}; the properties of the potentials are there"
        )

    @property
    def suite(self) -> Suite:
        """The settings as a model."""
        return Suite(**self.inputs.settings.get_dict())

    def setup(self) -> None:
        """Gather the participants."""
        self.ctx.potentials = dict(self.inputs.potentials)
        if "reference_potential" in self.inputs:
            self.ctx.potentials[REFERENCE] = self.inputs.reference_potential
        self.ctx.crystals, self.ctx.lost = {}, {}
        self.ctx.outputs, self.ctx.plans, self.ctx.failures, self.ctx.solved = {}, {}, {}, {}
        self.ctx.labels = None
        self.ctx.label_failure = ""
        names = ", ".join(crystals_by_name(self.inputs.crystals.get_frames()))
        self.report(f"{', '.join(self.suite.properties)} of {names}, with {', '.join(self.ctx.potentials)}")

    # --- crystals ---

    def relaxes(self) -> bool:
        """Tell whether anyone relaxes the crystals, and who."""
        self.ctx.relaxing = list(self.inputs.potentials) if self.suite.geometry == "relaxed" else []
        if self.suite.reference_geometry == "relaxed" and self.has_labels():
            self.ctx.relaxing = [*self.ctx.relaxing, REFERENCE]
        return bool(self.ctx.relaxing)

    def relax_crystals(self) -> Any:
        """Let each potential relax the crystals, and the reference."""
        settings = {**self.suite.relax.model_dump(), "min_distance": self.hard_core(self.suite.relax.min_distance)}
        for name in (name for name in self.ctx.relaxing if name in self.ctx.potentials):
            inputs = {**self.job(f"{name}_crystals"), "frames": self.inputs.crystals, "potential": self.ctx.potentials[name]}
            self.submit_job(f"{name}_crystals", RelaxCalculation, settings=Dict(settings), **inputs)
        by_label = REFERENCE in self.ctx.relaxing and REFERENCE not in self.ctx.potentials
        return self.relax_by_reference(Dict(settings), self.inputs.crystals) if by_label else None

    def hard_core(self, given: Any = None) -> Any:
        """Return the shortest distances (Å) that are given, or those below which atoms are in a hole of a potential."""
        return given or hard_core(self.inputs.crystals.elements)

    def collect_crystals(self) -> None:
        """Take the relaxed crystals; one that a potential could not relax is told, and has no properties."""
        for name in self.ctx.relaxing:
            if name == REFERENCE:
                self.ctx.crystals[name] = self.collect_reference_crystals()
                self.out(f"crystals.{name}", self.ctx.crystals[name])
                continue
            batch = self.outcome(f"{name}_crystals")
            frames = batch.outputs["frames"].get_frames() if "frames" in batch.outputs else []
            for atoms in (atoms for atoms in frames if atoms.info["relax_status"] != CONVERGED):
                self.report(f"{name}: crystal {atoms.info['parent']}: {atoms.info['relax_status']}")
            if not frames:
                self.ctx.failures[name] = batch.failure or "no crystal could be relaxed"
                self.report(f"{name}: {self.ctx.failures[name]}")
                continue
            called = {"metadata": {"call_link_label": f"{name}_relaxed"}}
            found = relaxed_crystals(self.inputs.crystals, batch.outputs["frames"], **called)
            self.ctx.crystals[name], self.ctx.lost[name] = found["crystals"], found["lost"]
            self.out(f"crystals.{name}", found["crystals"])

    def crystals_of(self, name: str) -> Dataset:
        """Return the crystals as a participant has them."""
        return self.ctx.crystals.get(name, self.inputs.crystals)

    # --- frames of potentials ---

    def plan(self) -> ExitCode | None:
        """Plan frames: of all participants together where they have the same crystals."""
        plans: dict[str, Any] = {}
        alive = [name for name in self.ctx.potentials if name not in self.ctx.failures]
        needed = [*alive, *([REFERENCE] if "label" in self.inputs and self.inputs.label else [])]
        for name in needed:
            crystals = self.crystals_of(name)
            if crystals.uuid not in plans:
                called = {"metadata": {"call_link_label": f"{name if name in self.ctx.crystals else 'given'}_plan"}}
                lost = {"lost": self.ctx.lost[name]} if name in self.ctx.lost else {}
                plans[crystals.uuid] = validation_plan(
                    self.inputs.settings, crystals, **lost, **self.given(name), **self.tests, **called
                )
            self.ctx.plans[name] = plans[crystals.uuid]
        if not alive:
            return self.exit_codes.ERROR_NOTHING.format(message="; ".join(self.ctx.failures.values()))
        together = [[run for run in self.suite.runs if run not in TIMED], [run for run in self.suite.runs if run in TIMED]]
        self.ctx.queue = [[(name, run) for run in runs for name in alive if self.computes(name, run)] for runs in together]
        return None

    def given(self, name: str) -> dict[str, Dataset]:
        """The crystals as they were given, as an input of calcfunctions, where a participant has others."""
        return {"given": self.inputs.crystals} if name in self.ctx.crystals else {}

    @property
    def tests(self) -> dict[str, Dataset]:
        """The labelled frames, as inputs of calcfunctions."""
        return {f"{TEST}{key}": node for key, node in self.inputs.get("test", {}).items()}

    def computes(self, name: str, run: str) -> bool:
        """Tell whether a potential does a task: the one that is the reference labels all its frames at once, later."""
        return f"{PLANNED}{run}" in self.ctx.plans[name] and name != REFERENCE

    def has_jobs(self) -> bool:
        """Tell whether tasks are left."""
        self.ctx.queue = [jobs for jobs in self.ctx.queue if jobs]
        return bool(self.ctx.queue)

    def run_jobs(self) -> None:
        """Submit the jobs that may run beside each other: of each task one for each potential."""
        self.ctx.running, self.ctx.queue = self.ctx.queue[0], self.ctx.queue[1:]
        for name, run in self.ctx.running:
            plan = self.ctx.plans[name]
            settings = self.task_settings(run, plan[f"{TASKS}{run}"].get_dict() if f"{TASKS}{run}" in plan else {})
            inputs = {**self.job(f"{name}_{run}"), "frames": plan[f"{PLANNED}{run}"], "potential": self.ctx.potentials[name]}
            self.submit_job(f"{name}_{run}", CalculationFactory(f"gaprss.{run}"), settings=Dict(settings), **inputs)

    def task_settings(self, run: str, tasks: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of a task."""
        if run == "evaluate":
            return {"local_energies": any(one.local for one in self.suite.properties.values())}
        common = {"min_distance": self.hard_core()} if run == "relax" else {}
        return {**common, **({"tasks": tasks} if tasks else {})}

    def collect_jobs(self) -> None:
        """Keep what came out."""
        for name, run in self.ctx.running:
            batch = self.outcome(f"{name}_{run}")
            if batch.failure:
                self.report(f"{name}, {run} <{batch.job.pk}>: {batch.failure}")
            if "frames" in batch.outputs:
                self.ctx.outputs.setdefault(name, {})[run] = batch.outputs["frames"]
                self.out(f"frames.{name}_{run}", batch.outputs["frames"])

    # --- reference ---

    def has_labels(self) -> bool:
        """Tell whether there is a reference that labels frames."""
        return bool(self.inputs.get("label")) or "reference_potential" in self.inputs

    def label(self) -> Any:
        """Hand the reference all frames, each once: those of its own plan, and those that potentials have made."""
        plan = self.ctx.plans.get(REFERENCE, {})
        frames = {"index": plan[INDEX], "planned": plan[f"{PLANNED}evaluate"]} if self.has_plan else {}
        for name in self.ctx.outputs:
            done = self.done_of(name, but="evaluate")
            given = {**done, **({"crystals": self.ctx.crystals[name]} if name in self.ctx.crystals else {})}
            if given:
                called = {"metadata": {"call_link_label": f"{name}_beside"}}
                index = self.ctx.plans[name][INDEX]
                frames[f"of_{name}"] = frames_beside(self.inputs.settings, index, Str(name), **called, **given)
        if REFERENCE in self.ctx.crystals:
            called = {"metadata": {"call_link_label": f"{REFERENCE}_beside"}}
            given = {"crystals": self.ctx.crystals[REFERENCE]}
            index = self.ctx.plans[REFERENCE][INDEX]
            frames[f"of_{REFERENCE}"] = frames_beside(self.inputs.settings, index, Str(REFERENCE), **called, **given)
        to_label = frames_to_label(self.inputs.settings, metadata={"call_link_label": "to_label"}, **frames)
        if "reference_potential" in self.inputs:
            self.report(f"{to_label.n_frames} frames for the reference")
            inputs = {**self.job("reference_labels"), "frames": to_label, "potential": self.inputs.reference_potential}
            self.submit_job("reference_labels", EvaluateCalculation, **inputs)
            return None
        return self.hand_to_reference(to_label)

    @property
    def has_plan(self) -> bool:
        """Whether the reference has frames of its own."""
        return REFERENCE in self.ctx.plans and f"{PLANNED}evaluate" in self.ctx.plans[REFERENCE]

    def done_of(self, name: str, but: str = "") -> dict[str, Dataset]:
        """Return what came out of the tasks of a potential."""
        return {f"{DONE}{run}": node for run, node in self.ctx.outputs.get(name, {}).items() if run != but}

    def collect_labels(self) -> None:
        """Take the labels, as far as they came."""
        if "reference_potential" in self.inputs:
            batch = self.outcome("reference_labels")
            if "frames" in batch.outputs:
                called = {"metadata": {"call_link_label": "labels"}}
                self.ctx.labels = labels_of_potential(batch.outputs["frames"], **called)
            self.ctx.label_failure = batch.failure or ""
        else:
            process: WorkChainNode = self.ctx.labelling
            self.ctx.labels = process.outputs.frames if "frames" in process.outputs else None
            self.ctx.label_failure = "" if process.is_finished_ok else str(process.exit_message or process.process_state)
        if self.ctx.label_failure:
            self.report(f"reference: {self.ctx.label_failure}")
        if self.ctx.labels is not None:
            self.out("labels", self.ctx.labels)
            if not self.ctx.labels.base.attributes.get("energies"):
                self.ctx.labels = None
                self.ctx.label_failure = self.ctx.label_failure or "no frame could be labelled"
            if REFERENCE in self.ctx.crystals:
                self.tell_residuals(self.ctx.crystals[REFERENCE], self.ctx.labels)

    # --- results ---

    def has_solvers(self) -> bool:
        """Tell whether results are made by jobs of their own."""
        return any(one.solver for one in self.suite.properties.values())

    def solve(self) -> None:
        """Submit the jobs that make results of frames."""
        self.ctx.solving = []
        for who in (*self.inputs.potentials, REFERENCE):
            for name, wanted in self.suite.properties.items():
                if wanted.solver and who in self.ctx.plans and (who != REFERENCE or self.ctx.labels is not None):
                    for number, crystal in enumerate(self.ctx.plans[who][INDEX].get_dict()):
                        self.solve_one(who, name, number, crystal)

    def solve_one(self, who: str, name: str, number: int, crystal: str) -> None:
        """Submit the job that makes one result."""
        plan, wanted = self.ctx.plans[who], self.suite.properties[name]
        entries = plan[INDEX][crystal].get(name)
        done = self.ctx.labels if who == REFERENCE else self.ctx.outputs.get(who, {}).get("evaluate")
        if not isinstance(entries, list) or done is None:
            return
        of_suite = list(self.suite.properties).index(name)
        link = f"{who}_{wanted.solver}_{number:02d}_{of_suite:02d}"
        frames = solver_frames(
            self.crystals_of(who),
            plan[f"{PLANNED}evaluate"],
            done,
            plan[INDEX],
            Str(crystal),
            Str(name),
            List([fr.REFERENCE] if who == REFERENCE else []),
            metadata={"call_link_label": f"frames_{link}"},
        )
        settings = {**wanted.model_dump(), "prefix": fr.REFERENCE if who == REFERENCE else fr.PREDICTION}
        self.submit_job(
            link, CalculationFactory(f"gaprss.{wanted.solver}"), frames=frames, settings=Dict(settings), **self.job(link)
        )
        self.ctx.solving.append((who, f"solved_{number:02d}__{of_suite:02d}", link))

    def collect_solved(self) -> None:
        """Keep the results of these jobs, or why there are none."""
        for who, key, link in self.ctx.solving:
            job = self.outcome(link)
            given = job.job.outputs
            found = given.results if "results" in given else Dict({ERROR: job.failure or "no results"}).store()
            self.ctx.solved.setdefault(who, {})[key] = found

    def judge(self) -> ExitCode | None:
        """Make results and scorecard."""
        found: dict[str, Any] = {}
        for name in self.inputs.potentials:
            if name not in self.ctx.plans:
                found[f"results_{name}"] = self.without_results(self.ctx.failures[name])
                continue
            found[f"results_{name}"] = self.results(name, fr.PREDICTION, f"{name}_results", **self.done_of(name))
            self.out(f"results.{name}", found[f"results_{name}"])
            if self.ctx.labels is not None and (done := self.done_of(name, but="evaluate")):
                found[f"beside_{name}"] = self.results(
                    name, fr.REFERENCE, f"{name}_beside_results", labels=self.ctx.labels, **done
                )
                self.out(f"beside.{name}", found[f"beside_{name}"])
        if self.ctx.labels is not None and self.has_plan:
            found[REFERENCE] = self.results(REFERENCE, fr.REFERENCE, "reference_results", labels=self.ctx.labels)
            self.out(REFERENCE, found[REFERENCE])
        elif self.has_labels() and (why := self.why_no_reference()):
            found[REFERENCE] = self.without_results(why)
        if "values" in self.inputs:
            found["values"] = self.inputs["values"]
        card = validation_scorecard(self.inputs.settings, metadata={"call_link_label": "scorecard"}, **found)
        self.out("scorecard", card)
        for name, row in card["potentials"].items():
            self.report(f"{name}: {', '.join(f'{key} {light or chr(8211)}' for key, light in row['lights'].items())}")
        if self.has_labels() and self.ctx.labels is None and self.ctx.label_failure:
            return self.exit_codes.ERROR_LABELS.format(message=self.ctx.label_failure)
        return None

    def why_no_reference(self) -> str:
        """Return why there is nothing of a reference that was to label frames; empty if it was asked for none."""
        return self.ctx.failures.get(REFERENCE) or self.ctx.label_failure

    def without_results(self, why: str) -> Dict:
        """Return what stands in the place of the properties of a participant that gave nothing."""
        names = crystals_by_name(self.inputs.crystals.get_frames())
        asked = [name for name, one in self.suite.properties.items() if one.per_crystal]
        return Dict({crystal: {name: {ERROR: why} for name in asked} for crystal in names}).store()

    def results(self, name: str, prefix: str, link: str, **nodes: Any) -> Dict:
        """Return the properties of a participant."""
        plan = self.ctx.plans[name]
        if f"{PLANNED}evaluate" in plan:
            nodes[f"{PLANNED}evaluate"] = plan[f"{PLANNED}evaluate"]
        if name == REFERENCE or prefix == fr.PREDICTION:
            nodes |= self.ctx.solved.get(name, {})
        nodes |= self.given(name)
        if prefix == fr.PREDICTION:
            nodes |= self.tests
        called = {"metadata": {"call_link_label": link}}
        found: Dict = property_results(self.inputs.settings, self.crystals_of(name), plan[INDEX], Str(prefix), **called, **nodes)
        return found
