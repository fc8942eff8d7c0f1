"""A potential of a dear level of theory: one of a cheap level, and a fit to the differences between the two."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode, ToContext
from aiida.orm import Dict, WorkChainNode

from aiida_gaprss.analysis.differences import spread_of
from aiida_gaprss.calculations.common import frames_of
from aiida_gaprss.calculations.dataset_functions import joint_level
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.fit_functions import errors_of_predictions
from aiida_gaprss.calculations.level_functions import (
    level_of_potential,
    settings_of_differences,
    sum_of_potentials,
)
from aiida_gaprss.calculations.relax import check_potential
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import Difference, difference, line_of
from aiida_gaprss.models.families import family_named, family_of
from aiida_gaprss.models.training import leaks
from aiida_gaprss.settings.computer import options_in
from aiida_gaprss.workflows.fit import FitWorkChain
from aiida_gaprss.workflows.fit_checks import complete_of, validate_fit
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain

#: Of the link to the fit.
FIT = "fit_of_differences"


def validate_delta(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that the differences are such, and go with the potential; what is wrong with their fit, the fit says."""
    if not {"datasets", "potential", "settings"} <= set(ports) or "potential" not in inputs or not inputs.get("datasets"):
        return None
    potential, datasets = inputs["potential"], dict(inputs["datasets"])
    fault = fault_of_differences(datasets) or _fault_of_elements(potential, datasets) or _fault_of_level(potential, datasets)
    fault = fault or fault_of_tests(datasets, inputs.get("test", {}))
    if fault:
        return fault
    if inputs.get("test") and "python" not in inputs.get("fit", {}):
        return "a test needs fit.python, which evaluates the potential"
    try:
        settings = completed_settings(inputs["settings"].get_dict(), datasets)
        fault = _fault_of_sum(potential, datasets, settings)
    except ValueError as error:
        return str(error)
    return fault or validate_fit({**inputs, "settings": Dict(settings), "test": {}}, ports)


def completed_settings(given: dict[str, Any], datasets: dict[str, Dataset]) -> dict[str, Any]:
    """Return the settings of the fit to differences, as :func:`settings_of_differences` gives them.

    :raises ValueError: if the differences have no labels.
    """
    return family_of(family_named(given)).for_differences(spread_of(frames_of(datasets)), given)


def fault_of_differences(datasets: dict[str, Dataset]) -> str | None:
    """Return why datasets are no differences between the same two levels of theory, or None."""
    for node in datasets.values():
        if not isinstance(node.level, Difference):
            return (
                f"dataset <{node.pk}> has labels, not differences of labels ({node.level_of_theory}); expected what "
                "aiida-gaprss dataset difference has made"
            )
    other = difference({f"dataset <{node.pk}>": node.level for node in datasets.values()})
    return f"differences between other levels of theory: {other}" if other else None


def _level(datasets: dict[str, Dataset]) -> Difference:
    level = joint_level(datasets.values())
    assert isinstance(level, Difference)
    return level


def _fault_of_elements(potential: Potential, datasets: dict[str, Dataset]) -> str | None:
    """Return that differences and potential have other elements, or None: one without differences would stay cheap."""
    there = sorted({symbol for node in datasets.values() for symbol in node.elements})
    if there == potential.elements:
        return None
    return f"the potential knows {', '.join(potential.elements)}, the differences are of {', '.join(there)}; expected the same"


def _fault_of_level(potential: Potential, datasets: dict[str, Dataset]) -> str | None:
    """Return that a potential was not fitted at the cheap level of the differences, if its provenance tells it; or None."""
    known = level_of_potential(potential)
    other = known is not None and difference({f"potential <{potential.pk}>": known, "the cheap level": _level(datasets).cheap})
    return f"the potential is not of the level that was subtracted: {other}" if other else None


def fault_of_tests(datasets: dict[str, Dataset], tests: Any) -> str | None:
    """Return that frames to test the sum with are not of the dear level, or are fitted, too; or None."""
    for name, node in tests.items():
        if other := difference({"the dear level": _level(datasets).dear, f"test.{name}": node.level}):
            return f"test.{name} is at another level of theory than the sum will be: {other}"
        if seen := leaks(frames_of(datasets), node.get_frames()):
            here, there = next(iter(seen.items()))
            pair = f"as {here}, which is {there}"
            return f"test.{name}: {len(seen)} of its frames are fitted, too, {pair}; leave them out (dataset drop)"
    return None


def _fault_of_sum(potential: Potential, datasets: dict[str, Dataset], settings: dict[str, Any]) -> str | None:
    """Return why what will be fitted cannot be added to the potential, or None."""
    model = complete_of(settings, datasets)
    if model.family != potential.family.NAME:
        return f"the potential is of the family {potential.family.NAME}, the fit of {model.family}; expected the same"
    fault = potential.family.fault_of_sum(potential.facts, model, potential.elements)
    return f"the potentials could not be added: {fault}" if fault else None


class DeltaWorkChain(SubmitOnceWorkChain):
    """Fit a potential to the differences between a dear and a cheap level, and add it to a potential of the cheap one.

    The sum is a potential like any other, of the dear level. δ and sigmas of the fit are in proportion to the differences where
    the settings say none.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("potential", valid_type=Potential, validator=check_potential, help="Of the cheap level.")
        spec.expose_inputs(FitWorkChain, exclude=("metadata", "test", "test_fraction", "leaks"))
        spec.input_namespace("test", valid_type=Dataset, dynamic=True, help="Labels of the dear level to test the sum with.")
        spec.inputs.validator = validate_delta
        spec.outline(cls.fit, cls.add, cls.test, cls.results)
        spec.output("potential", valid_type=Potential, help="The sum, of the dear level.")
        spec.output("difference", valid_type=Potential, help="The potential of the differences.")
        spec.output("settings", valid_type=Dict, help="Of the fit to the differences, after all repairs.")
        spec.output("results", valid_type=Dict, help="What the fit to the differences has said, and its training errors.")
        spec.output("predictions", valid_type=Dataset, required=False, help="The differences with their predictions.")
        spec.output("test_predictions", valid_type=Dataset, required=False, help="The test with predictions of the sum.")
        spec.output("test_results", valid_type=Dict, required=False, help="Errors of the sum in the test.")
        spec.exit_code(420, "ERROR_FIT", message="The fit to the differences failed: {message}")
        spec.exit_code(440, "ERROR_TEST", message="The sum could not be tested: {message}")

    def fit(self) -> Any:
        """Fit the differences."""
        inputs = self.exposed_inputs(FitWorkChain)
        inputs["settings"] = settings_of_differences(
            self.inputs.settings, metadata={"call_link_label": "settings_of_differences"}, **self.inputs.datasets
        )
        inputs["metadata"] = {"call_link_label": FIT, "label": "differences"}
        self.report(f"{sum(node.n_frames for node in self.inputs.datasets.values())} differences are fitted")
        return ToContext(fitting=self.submit(FitWorkChain, **inputs))

    def add(self) -> ExitCode | None:
        """Add what was fitted to the potential."""
        process: WorkChainNode = self.ctx.fitting
        for name in ("settings", "results", "predictions"):
            if name in process.outputs:
                self.out(name, process.outputs[name])
        if not process.is_finished_ok:
            return self.exit_codes.ERROR_FIT.format(message=process.exit_message or process.process_state)
        self.out("difference", process.outputs.potential)
        self.ctx.sum = sum_of_potentials(
            self.inputs.potential, process.outputs.potential, metadata={"call_link_label": "sum_of_potentials"}
        )
        self.out("potential", self.ctx.sum)
        self.report(f"the sum is of the level {line_of(_level(dict(self.inputs.datasets)).dear)}")
        return None

    def test(self) -> Any:
        """Evaluate the sum on labels of the dear level."""
        options = options_in(self.inputs.fit.metadata)
        kept = {key: options[key] for key in ("resources", "max_wallclock_seconds", "queue_name", "account") if key in options}
        for name, node in sorted(self.inputs.get("test", {}).items()):
            link = f"test_{name}"
            given = {"code": self.inputs.fit.python, "potential": self.ctx.sum, "frames": node}
            process = self.submit(EvaluateCalculation, **given, metadata={"options": kept, "call_link_label": link})
            self.to_context(**{link: process})

    def results(self) -> ExitCode | None:
        """Compare."""
        jobs = {name: self.ctx[f"test_{name}"] for name in sorted(self.inputs.get("test", {}))}
        if not jobs:
            return None
        if failed := [job for job in jobs.values() if not job.is_finished_ok]:
            return self.exit_codes.ERROR_TEST.format(message=failed[0].exit_message or failed[0].process_state)
        errors = errors_of_predictions(
            **{f"frames_{name}": job.outputs.frames for name, job in jobs.items()},
            **{f"summary_{name}": job.outputs.summary for name, job in jobs.items()},
        )
        if len(jobs) == 1:
            self.out("test_predictions", next(iter(jobs.values())).outputs.frames)
        self.out("test_results", errors)
        return None
