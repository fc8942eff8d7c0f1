"""From datasets to a potential with its errors: forecast, fit, repair of what fails, test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import (
    BaseRestartWorkChain,
    ExitCode,
    ProcessBuilder,
    ProcessHandlerReport,
    ToContext,
    if_,
    process_handler,
    while_,
)
from aiida.orm import Bool, CalcJobNode, Dict, Float, Int, List
from ase import Atoms

from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.fit_functions import (
    complete_settings,
    errors_of_predictions,
    fewer_sparse_points,
    first_terms,
    hold_out,
    is_complete,
    labelled_elements,
    more_jitter,
    with_delta,
    without_leaks,
)
from aiida_gaprss.calculations.gap_fit import GapFitCalculation, checked_training_set, training_set
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import difference
from aiida_gaprss.models.gap.forecast import Forecast, forecast
from aiida_gaprss.models.gap.protocols import expand
from aiida_gaprss.models.gap.settings import FitSettings
from aiida_gaprss.models.training import fault_of_absurd, leaks
from aiida_gaprss.settings.computer import is_here
from aiida_gaprss.settings.model import in_words
from aiida_gaprss.workflows.inputs import Code, fit_inputs, named_nodes
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain

#: A repair takes this part of the sparse points of many-body terms.
FEWER = 0.6
#: A fit that is adapted to the memory of its node may keep at least this part of its sparse points.
LEAST = 0.05
#: Of a fit that was killed without a word, memory or time is to blame if the forecast comes to this part of what there is.
LIKELY = 0.5
#: A repair multiplies the jitter by this, up to the largest that leaves energies right to about a meV.
MORE_JITTER, LARGEST_JITTER = 100.0, 1e-4


def complete_of(settings: dict[str, Any], datasets: dict[str, Dataset]) -> FitSettings:
    """Return the settings of a fit to these datasets.

    :raises ValueError: if they are wrong, with all their faults.
    """
    from pydantic import ValidationError

    try:
        return FitSettings(**expand(settings, labelled_elements(datasets)))
    except ValidationError as error:
        raise ValueError(in_words(error)) from error


def completed(settings: Dict, datasets: dict[str, Dataset]) -> Dict:
    """Return the node of all settings of a fit to these datasets: the given one, if it has all already."""
    if is_complete(settings.get_dict()):
        return settings
    node: Dict = complete_settings(settings, List(labelled_elements(datasets)), metadata={"call_link_label": "complete_settings"})
    return node


def held_out(inputs: Any) -> tuple[dict[str, Dataset], List]:
    """Return the test, and the ids of all frames that are not fitted, for inputs with a ``test_fraction``."""
    given = {"leave_out": inputs["leave_out"]} if "leave_out" in inputs else {}
    fraction, seed = inputs["test_fraction"], inputs["seed"]
    held = hold_out(fraction, seed, metadata={"call_link_label": "hold_out"}, **given, **dict(inputs["datasets"]))
    return {"held_out": held["test"]}, held["left_out"]


def memory_limit(inputs: Any) -> float | None:
    """Return the memory (MB) that the fit may take, if it is known: as given, asked of the scheduler, or that of this machine."""
    if inputs.get("memory_MB"):
        return float(inputs["memory_MB"])
    fit = inputs.get("fit", {})
    asked = fit.get("metadata", {}).get("options", {}).get("max_memory_kb")
    if asked:
        return float(asked) / 1000.0
    code = fit.get("code")
    if code is not None and is_here(code):
        import psutil

        return float(psutil.virtual_memory().total) / 1e6
    return None


def validate_fit(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that the fit can be done, and has the memory it needs."""
    if "datasets" not in ports or not inputs.get("datasets"):
        return "give at least one dataset" if "datasets" in ports else None
    if ("test_fraction" in inputs or inputs.get("test")) and "python" not in inputs.get("fit", {}):
        return "a test needs fit.python, which evaluates the potential"
    if "test_fraction" in inputs and inputs.get("test"):
        return "give either datasets to test with, or a fraction to hold out"
    try:
        settings = complete_of(inputs["settings"].get_dict(), dict(inputs["datasets"]))
        frames = checked_training_set(inputs, settings)
        known = forecast(frames, settings)
        if fault := _absurd(frames, settings) or _fault_of_test(frames, settings, inputs):
            return fault
    except ValueError as exception:
        return str(exception)
    limit = memory_limit(inputs)
    if limit is not None and known.memory_MB > limit and not inputs.get("adapt"):
        return too_large(known, limit)
    return None


def _absurd(frames: Sequence[Atoms], settings: FitSettings) -> str | None:
    """Return that labels are out of all bounds, with frames, values and limits, or None."""
    found = None if settings.keep_absurd else fault_of_absurd(frames)
    keep = "leave them out (leave_out; --absurd drop), or say keep_absurd: true in the settings of the fit (--absurd keep)"
    return f"{found}; {keep}" if found else None


def _fault_of_test(training: Sequence[Atoms], settings: FitSettings, inputs: Any) -> str | None:
    """Return what is wrong with the datasets of a test: another level of theory, or frames that are fitted, too; or None."""
    for name, node in sorted(inputs.get("test", {}).items()):
        levels = {key: d.level for key, d in sorted(inputs["datasets"].items()) if d.base.attributes.get("energies")}
        other = difference({**levels, f"test.{name}": node.level})
        if other and not settings.mixed_levels:
            return (
                f"test.{name} was labelled at another level of theory than the datasets: {other}; the errors would be those of "
                "the levels; if they may be mixed, say mixed_levels: true in the settings of the fit"
            )
        seen = {} if inputs.get("leaks") == "drop" else leaks(training, node.get_frames())
        if seen:
            pairs = ", ".join(f"{here} is {there}" for here, there in seen.items())
            return f"test.{name}: {len(seen)} of its frames are fitted, too: {pairs}; --leaks drop leaves them out of the test"
    return None


def sets_of_test(inputs: Any) -> dict[str, Dataset]:
    """Return the datasets of the test, without frames that are fitted, too, if these are to be dropped."""
    given = dict(inputs.get("test", {}))
    if inputs.get("leaks") != "drop":
        return given
    left_out = {"leave_out": inputs["leave_out"]} if "leave_out" in inputs else {}
    return {
        name: without_leaks(node, **left_out, **dict(inputs["datasets"]), metadata={"call_link_label": f"without_leaks_{name}"})
        for name, node in given.items()
    }


def too_large(known: Forecast, limit: float) -> str:
    """Say that a fit does not go into the memory there is, and what may be done."""
    return (
        f"the fit needs {known.describe()}, and may have {limit:.0f} MB; take fewer sparse points or frames, a descriptor with "
        "smaller n_max and l_max, or soap_turbo; or say adapt: then sparse points are taken away until it fits"
    )


class FitWorkChain(SubmitOnceWorkChain, BaseRestartWorkChain):
    """Fit a GAP to datasets, with what a careful user would do around gap_fit.

    Memory and time are forecast before anything is submitted. Frames may be held out for a test, of every config type in
    proportion. A fit that fails for lack of memory or time, or because its equations are ill-conditioned, is repaired if that may
    be done (``adapt``). The potential is tested, with errors by config type and by energy above the hull.
    """

    _process_class = GapFitCalculation

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(
            GapFitCalculation,
            namespace="fit",
            exclude=("datasets", "settings", "seed", "leave_out", "sparse_frames"),
            namespace_options={"help": "The job of the fit: code of gap_fit, python that evaluates, options."},
        )
        spec.input_namespace("datasets", valid_type=Dataset, dynamic=True, help="Labelled frames, joined in the order of names.")
        spec.input_namespace("test", valid_type=Dataset, dynamic=True, help="Labelled frames to test with.")
        spec.input_namespace(
            "sparse_frames", valid_type=Dataset, dynamic=True, help="Frames whose environments may become sparse points, too."
        )
        spec.input("settings", valid_type=Dict, help="FitSettings, or a protocol and what is to be changed in it.")
        spec.input("seed", valid_type=Int, help="Seed of the held-out frames and of the choice of sparse points.")
        spec.input("test_fraction", valid_type=Float, required=False, help="Part of the frames that is held out for the test.")
        spec.input("leave_out", valid_type=List, required=False, help="Ids of frames that are neither fitted nor tested.")
        spec.input(
            "delta_by_stages",
            valid_type=Bool,
            required=False,
            help="Fit term by term first: the δ of each is the error that those before it leave.",
        )
        spec.input(
            "adapt",
            valid_type=bool,
            non_db=True,
            default=False,
            help="Take fewer sparse points when memory is short, more time when it is up, more jitter when equations are "
            "ill-conditioned.",
        )
        spec.input(
            "leaks",
            valid_type=str,
            non_db=True,
            default="refuse",
            validator=lambda value, _: None if value in ("refuse", "drop") else f"expected refuse or drop, got {value!r}",
            help="What becomes of frames of the test that are fitted, too.",
        )
        spec.input(
            "memory_MB",
            valid_type=(int, float),
            non_db=True,
            required=False,
            help="Memory it may take; default: of the node.",
        )
        spec.inputs.validator = validate_fit
        spec.outline(
            cls.setup,
            if_(cls.holds_out)(cls.hold_frames_out),
            cls.predict_cost,
            while_(cls.has_stage)(cls.run_stage, cls.inspect_stage),
            while_(cls.should_run_process)(cls.run_process, cls.inspect_process),
            if_(cls.has_test)(cls.run_test, cls.inspect_test),
            cls.results,
        )
        spec.output("potential", valid_type=Potential)
        spec.output("results", valid_type=Dict, help="What gap_fit said of the fit, and its training errors.")
        spec.output("predictions", valid_type=Dataset, required=False, help="Training set with predictions.")
        spec.output("test_predictions", valid_type=Dataset, required=False, help="Test set with predictions.")
        spec.output(
            "test_results", valid_type=Dict, required=False, help="Errors of the test, and the CPU time that an atom took."
        )
        spec.output("settings", valid_type=Dict, help="The settings of the fit, after all repairs.")
        spec.exit_code(410, "ERROR_TOO_LARGE", message="{message}")
        spec.exit_code(420, "ERROR_FIT", message="gap_fit failed: {message}")
        spec.exit_code(430, "ERROR_MEMORY", message="not enough memory: {message}")
        spec.exit_code(431, "ERROR_TIME", message="not enough time: {message}")
        spec.exit_code(432, "ERROR_ILL_CONDITIONED", message="ill-conditioned equations: {message}")
        spec.exit_code(440, "ERROR_TEST", message="The potential could not be tested: {message}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        datasets: Mapping[str, Dataset],
        protocol: str | None = "default",
        overrides: Mapping[str, Any] | None = None,
        *,
        gap_fit: Code = None,
        python: Code = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 1,
        **inputs: Any,
    ) -> ProcessBuilder:
        """Return a builder with all inputs of a fit.

        :param datasets: labelled frames, by names of your choice; they are joined in the order of the names.
        :param protocol: hyperparameters (``aiida-gaprss fit --protocol list``); None if ``overrides`` say everything.
        :param overrides: changes of them, as in a file of settings: ``{"sparse_jitter": 1e-9}``.
        :param gap_fit: code of gap_fit; ``python``: that of the python which evaluates; default: those of this machine.
        :param options: of the job (AiiDA's ``metadata.options``); ``threads`` of OpenMP.
        :param inputs: other inputs, as ``test_fraction=Float(0.1)``, ``adapt=True``.
        :raises ValueError: if there is no such protocol, or no such code.
        """
        settings = {**({"protocol": protocol} if protocol is not None else {}), **(overrides or {})}
        expand(settings, labelled_elements(named_nodes(Dataset, datasets, "datasets")))
        builder = cls.get_builder()
        builder._update({**fit_inputs(datasets, settings, gap_fit, python, options, seed), **inputs})
        return builder

    # --- before the fit ---

    def setup(self) -> None:
        """Gather the inputs of the calculation."""
        super().setup()
        inputs = AttributeDict(self.exposed_inputs(GapFitCalculation, namespace="fit"))
        inputs.datasets = dict(self.inputs.datasets)
        if self.inputs.get("sparse_frames"):
            inputs.sparse_frames = dict(self.inputs.sparse_frames)
        inputs.seed = self.inputs.seed
        inputs.settings = completed(self.inputs.settings, dict(self.inputs.datasets))
        if "leave_out" in self.inputs:
            inputs.leave_out = self.inputs.leave_out
        self.ctx.inputs = inputs
        self.ctx.test = sets_of_test(self.inputs)
        self.ctx.stage = 1

    def holds_out(self) -> bool:
        """Tell whether a part of the frames is held out."""
        return "test_fraction" in self.inputs

    def hold_frames_out(self) -> None:
        """Choose the frames of the test."""
        self.ctx.test, self.ctx.inputs.leave_out = held_out(self.inputs)
        self.report(f"{self.ctx.test['held_out'].n_frames} frames held out for the test")

    def forecast(self, settings: Dict) -> Forecast:
        """Return the forecast of the fit with these settings."""
        model = FitSettings(**settings.get_dict())
        return forecast(training_set(self.ctx.inputs, model), model)

    def predict_cost(self) -> ExitCode | None:
        """Say what the fit will cost; take sparse points away if it may be made to fit."""
        limit = memory_limit(self.inputs)
        known = self.forecast(self.ctx.inputs.settings)
        part = 1.0
        while limit is not None and known.memory_MB > limit:
            part *= FEWER
            if part < LEAST:
                return self.exit_codes.ERROR_TOO_LARGE.format(message=too_large(known, limit))
            self.ctx.inputs.settings = fewer_sparse_points(self.ctx.inputs.settings, Float(FEWER))
            known = self.forecast(self.ctx.inputs.settings)
        self.report(
            f"forecast: {known.describe()}" + (f"; {part:.0%} of the sparse points, to fit {limit:.0f} MB" if part < 1 else "")
        )
        return None

    def has_stage(self) -> bool:
        """Tell whether a δ is still to be found by a fit of the terms before it."""
        wanted = "delta_by_stages" in self.inputs and self.inputs.delta_by_stages.value
        return wanted and self.ctx.stage < len(self.ctx.inputs.settings.get_dict()["descriptors"])

    def run_stage(self) -> Any:
        """Fit the first terms."""
        inputs = AttributeDict(self.ctx.inputs)
        inputs.settings = first_terms(self.ctx.inputs.settings, Int(self.ctx.stage))
        inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": f"stage_{self.ctx.stage}"}
        return ToContext(stage_fit=self.submit(GapFitCalculation, **inputs))

    def inspect_stage(self) -> ExitCode | None:
        """Take the δ of the next term from the error of the fit."""
        fit: CalcJobNode = self.ctx.stage_fit
        if not fit.is_finished_ok:
            return self.exit_codes.ERROR_FIT.format(message=f"of the first {self.ctx.stage} terms: {fit.exit_message}")
        if "errors" not in fit.outputs.results.get_dict():
            return self.exit_codes.ERROR_FIT.format(message="delta_by_stages needs fit.python, which gives training errors")
        self.ctx.inputs.settings = with_delta(self.ctx.inputs.settings, Int(self.ctx.stage), fit.outputs.results)
        term = self.ctx.inputs.settings.get_dict()["descriptors"][self.ctx.stage]
        self.report(f"δ of {term['kind']}: {term['delta']:.4g} eV")
        self.ctx.stage += 1
        return None

    # --- what may go wrong ---

    def _give_up(self, code: ExitCode, what: str, calculation: CalcJobNode) -> ProcessHandlerReport:
        advice = "" if self.inputs.adapt else " (not repaired: adapt is not set)"
        self.report(f"{what}{advice}")
        return ProcessHandlerReport(True, code.format(message=f"{calculation.exit_message}{advice}"))

    @process_handler(priority=40, exit_codes=[GapFitCalculation.exit_codes.ERROR_ILL_CONDITIONED])
    def handle_ill_conditioned(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Take a larger jitter."""
        jitter = FitSettings(**self.ctx.inputs.settings.get_dict()).sparse_jitter
        if not self.inputs.adapt or jitter >= LARGEST_JITTER:
            return self._give_up(self.exit_codes.ERROR_ILL_CONDITIONED, f"jitter {jitter:g}", calculation)
        factor = min(max(MORE_JITTER, 1e-10 / jitter), LARGEST_JITTER / jitter)
        self.ctx.inputs.settings = more_jitter(self.ctx.inputs.settings, Float(factor))
        self.report(f"the equations are ill-conditioned: sparse_jitter {jitter:g} → {jitter * factor:g}")
        return ProcessHandlerReport(True)

    @process_handler(
        priority=30,
        exit_codes=[GapFitCalculation.exit_codes.ERROR_MEMORY, GapFitCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY],
    )
    def handle_memory(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Take fewer sparse points."""
        return self._need_less_memory(calculation)

    def _need_less_memory(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        known = self.forecast(self.ctx.inputs.settings)
        if not self.inputs.adapt:
            return self._give_up(self.exit_codes.ERROR_MEMORY, f"the forecast was {known.describe()}", calculation)
        self.ctx.inputs.settings = fewer_sparse_points(self.ctx.inputs.settings, Float(FEWER))
        again = self.forecast(self.ctx.inputs.settings)
        if again.columns == known.columns:
            return self._give_up(self.exit_codes.ERROR_MEMORY, "there are no more sparse points to take away", calculation)
        self.report(f"not enough memory: {FEWER:.0%} of the sparse points, {known.memory_MB:.0f} → {again.memory_MB:.0f} MB")
        return ProcessHandlerReport(True)

    @process_handler(
        priority=20,
        exit_codes=[GapFitCalculation.exit_codes.ERROR_TIME, GapFitCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME],
    )
    def handle_time(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Ask for more time."""
        return self._need_more_time(calculation)

    def _need_more_time(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        given = calculation.get_option("max_wallclock_seconds")
        known = self.forecast(self.ctx.inputs.settings)
        if not self.inputs.adapt or given is None:
            return self._give_up(self.exit_codes.ERROR_TIME, f"the forecast was {known.describe()}", calculation)
        wanted = int(max(2 * given, 1.5 * known.cpu_seconds / self.ctx.inputs.metadata.options.threads))
        self.ctx.inputs.metadata.options["max_wallclock_seconds"] = wanted
        self.report(f"the time was up: {given} → {wanted} s")
        return ProcessHandlerReport(True)

    @process_handler(priority=15, exit_codes=[GapFitCalculation.exit_codes.ERROR_KILLED])
    def handle_killed(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Find out by the forecast what was lacking; if neither, try once more."""
        known, limit = self.forecast(self.ctx.inputs.settings), memory_limit(self.inputs)
        given = calculation.get_option("max_wallclock_seconds")
        memory = known.memory_MB / limit if limit else 0.0
        time = known.cpu_seconds / (given * self.ctx.inputs.metadata.options.threads) if given else 0.0
        if max(memory, time) >= LIKELY:
            return self._need_less_memory(calculation) if memory > time else self._need_more_time(calculation)
        if self.ctx.iteration > 1:
            return self._give_up(self.exit_codes.ERROR_FIT, f"killed again; the forecast was {known.describe()}", calculation)
        self.report("gap_fit was killed, though by the forecast there is memory and time enough: once more")
        return ProcessHandlerReport(True)

    @process_handler(
        priority=10,
        exit_codes=[
            GapFitCalculation.exit_codes.ERROR_ABORT,
            GapFitCalculation.exit_codes.ERROR_COUNTS,
            GapFitCalculation.exit_codes.ERROR_EVALUATION,
        ],
    )
    def handle_certain(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Do not try again what will fail again."""
        return ProcessHandlerReport(True, self.exit_codes.ERROR_FIT.format(message=calculation.exit_message))

    # --- after the fit ---

    def has_test(self) -> bool:
        """Tell whether there are frames to test with, and a potential."""
        return bool(self.ctx.test) and self.ctx.children[-1].is_finished_ok

    def run_test(self) -> Any:
        """Evaluate the potential on the frames of the test."""
        fit: CalcJobNode = self.ctx.children[-1]
        asked = dict(self.inputs.fit.metadata.options)
        options = {key: asked[key] for key in ("resources", "max_wallclock_seconds", "queue_name", "account") if key in asked}
        for key, node in sorted(self.ctx.test.items()):
            process = self.submit(
                EvaluateCalculation,
                code=self.inputs.fit.python,
                potential=fit.outputs.potential,
                frames=node,
                metadata={"options": options, "call_link_label": f"test_{key}"},
            )
            self.to_context(**{f"test_{key}": process})

    def inspect_test(self) -> ExitCode | None:
        """Compare."""
        jobs = {key: self.ctx[f"test_{key}"] for key in sorted(self.ctx.test)}
        failed = [job for job in jobs.values() if not job.is_finished_ok]
        if failed:
            return self.exit_codes.ERROR_TEST.format(message=failed[0].exit_message)
        training = self.ctx.children[-1].outputs.predictions
        self.ctx.test_results = errors_of_predictions(
            training,
            **{f"frames_{key}": job.outputs.frames for key, job in jobs.items()},
            **{f"summary_{key}": job.outputs.summary for key, job in jobs.items()},
        )
        if len(jobs) == 1:
            self.out("test_predictions", next(iter(jobs.values())).outputs.frames)
        self.out("test_results", self.ctx.test_results)
        return None

    def results(self) -> ExitCode | None:
        """Attach the outputs of the fit, and say how good it is."""
        fit: CalcJobNode = self.ctx.children[-1]
        if not fit.is_finished_ok:  # and may still be tried, but not that often
            return self.exit_codes.ERROR_FIT.format(message=f"{self.ctx.iteration} times; the last time: {fit.exit_message}")
        for name in ("potential", "results", "predictions"):
            if name in fit.outputs:
                self.out(name, fit.outputs[name])
        self.out("settings", self.ctx.inputs.settings)
        results = fit.outputs.results.get_dict()
        text = f"fitted to {results['frames']} frames, {results['atoms']} atoms"
        for name, values in (
            ("training", results),
            ("test", self.ctx.test_results.get_dict() if "test_results" in self.ctx else {}),
        ):
            if "errors" in values:
                energy, forces = values["errors"]["energy"]["mae"], values["errors"]["forces"]["mae"]
                text += f"; {name} MAE {energy:.3g} meV/atom" + (f", {forces:.3g} eV/Å" if forces is not None else "")
        self.report(text)
        return None
