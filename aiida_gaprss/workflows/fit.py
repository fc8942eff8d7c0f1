"""From datasets to a potential with its errors: forecast, fit, repair of what fails, test."""

from __future__ import annotations

from collections.abc import Mapping
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
from aiida.orm import Bool, CalcJobNode, Dict, Float, Int, List, Str

from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.fit import FitCalculation, settings_and_family, training_set
from aiida_gaprss.calculations.fit_functions import (
    errors_of_predictions,
    first_stages,
    labelled_elements,
    repaired,
    with_stage,
)
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import Forecast, Repair
from aiida_gaprss.models.families import expand
from aiida_gaprss.workflows.fit_checks import (
    completed,
    forecast_of,
    held_out,
    memory_limit,
    sets_of_test,
    too_large,
    validate_fit,
)
from aiida_gaprss.workflows.inputs import Code, fit_inputs, named_nodes
from aiida_gaprss.workflows.jobs.ends import TRIES, more_memory, why_ended
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain

#: A fit is repaired so often at most, to go into the memory of its node.
MOST_REPAIRS = 5
#: Of a fit that was killed without a word, memory or time is to blame if the forecast comes to this part of what there is.
LIKELY = 0.5


class FitWorkChain(SubmitOnceWorkChain, BaseRestartWorkChain):
    """Fit a potential of any family to datasets, with what a careful user would do around it.

    Memory and time are forecast before anything is submitted. Frames may be held out for a test, of every config type in
    proportion. A fit that fails for lack of memory or time, or because its equations are ill-conditioned, is repaired if that may
    be done (``adapt``), as the family knows how; a job that was ended from outside is done again. The potential is tested,
    with errors by config type and by energy above the hull.
    """

    _process_class = FitCalculation

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(
            FitCalculation,
            namespace="fit",
            exclude=("datasets", "settings", "seed", "leave_out", "sparse_frames"),
            namespace_options={"help": "The job of the fit: code of the program, python that evaluates, options."},
        )
        spec.input_namespace("datasets", valid_type=Dataset, dynamic=True, help="Labelled frames, joined in the order of names.")
        spec.input_namespace("test", valid_type=Dataset, dynamic=True, help="Labelled frames to test with.")
        spec.input_namespace(
            "sparse_frames", valid_type=Dataset, dynamic=True, help="Frames whose environments may become sparse points, too."
        )
        spec.input(
            "settings",
            valid_type=Dict,
            help="Settings of a fit of any family (``family``; default: gap), or a protocol and changes.",
        )
        spec.input("seed", valid_type=Int, help="Seed of the held-out frames and of the choice of sparse points.")
        spec.input("test_fraction", valid_type=Float, required=False, help="Part of the frames that is held out for the test.")
        spec.input("leave_out", valid_type=List, required=False, help="Ids of frames that are neither fitted nor tested.")
        spec.input(
            "delta_by_stages",
            valid_type=Bool,
            required=False,
            help="Fit in stages first: of a GAP term by term, the δ of each is the error that those before it leave.",
        )
        spec.input(
            "adapt",
            valid_type=bool,
            non_db=True,
            default=False,
            help="Let the family change the settings when memory is short or equations are ill-conditioned (of a GAP: fewer "
            "sparse points, more jitter), and take more time when it is up.",
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
        spec.output("potential", valid_type=Potential, help="The fitted potential.")
        spec.output("results", valid_type=Dict, help="What the program said of the fit, and its training errors.")
        spec.output("predictions", valid_type=Dataset, required=False, help="Training set with predictions.")
        spec.output("test_predictions", valid_type=Dataset, required=False, help="Test set with predictions.")
        spec.output(
            "test_results", valid_type=Dict, required=False, help="Errors of the test, and the CPU time that an atom took."
        )
        spec.output("settings", valid_type=Dict, help="The settings of the fit, after all repairs.")
        spec.exit_code(410, "ERROR_TOO_LARGE", message="{message}")
        spec.exit_code(420, "ERROR_FIT", message="The fit failed: {message}")
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
        code: Code = None,
        python: Code = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 1,
        **inputs: Any,
    ) -> ProcessBuilder:
        """Return a builder with all inputs of a fit.

        :param datasets: labelled frames, by names of your choice; they are joined in the order of the names.
        :param protocol: hyperparameters (``aiida-gaprss fit --protocol list``); None if ``overrides`` say everything.
        :param overrides: changes of them, as in a file of settings: ``{"sparse_jitter": 1e-9}``.
        :param code: of the program that fits; ``python``: that of the python which evaluates; default: those of this machine.
        :param options: of the job (AiiDA's ``metadata.options``); ``threads`` of OpenMP.
        :param inputs: other inputs, as ``test_fraction=Float(0.1)``, ``adapt=True``.
        :raises ValueError: if there is no such protocol, or no such code.
        """
        settings = {**({"protocol": protocol} if protocol is not None else {}), **(overrides or {})}
        expand(settings, labelled_elements(named_nodes(Dataset, datasets, "datasets")))
        builder = cls.get_builder()
        builder._update({**fit_inputs(datasets, settings, code, python, options, seed), **inputs})
        return builder

    # --- before the fit ---

    def setup(self) -> None:
        """Gather the inputs of the calculation."""
        super().setup()
        inputs = AttributeDict(self.exposed_inputs(FitCalculation, namespace="fit"))
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

    def forecast(self) -> Forecast | None:
        """Return the forecast of the fit as it is now, if there is one."""
        model, _ = settings_and_family(self.ctx.inputs)
        return forecast_of(training_set(self.ctx.inputs, model), model)

    def predict_cost(self) -> ExitCode | None:
        """Say what the fit will cost; let it be made smaller if it may."""
        limit, known, repairs = memory_limit(self.inputs), self.forecast(), 0
        words = ""
        while known is not None and limit is not None and known.memory_MB > limit:
            repairs += 1
            repair = self._repair("memory") if self.inputs.adapt and repairs <= MOST_REPAIRS else None
            if repair is None:
                return self.exit_codes.ERROR_TOO_LARGE.format(message=too_large(known, limit))
            known = self.forecast()
            words = f"; {repair.words}{f', {repairs} times' if repairs > 1 else ''}, to fit {limit:.0f} MB"
        if known is not None:
            text = known.describe()  # all of it to whoever asked for a fit, the sum of it in a campaign
            self.report(f"forecast: {text if self.node.caller is None else text.partition(';')[0]}{words}")
        return None

    def _repair(self, kind: str) -> Repair | None:
        """Let the family change the settings; return what it has changed, None if it knows nothing more."""
        model, family = settings_and_family(self.ctx.inputs)
        repair = family.repaired(model, kind)
        if repair is not None:
            self.ctx.inputs.settings = repaired(self.ctx.inputs.settings, Str(kind))
        return repair

    def has_stage(self) -> bool:
        """Tell whether something of the settings is still to be found by a fit before."""
        wanted = "delta_by_stages" in self.inputs and self.inputs.delta_by_stages.value
        model, family = settings_and_family(self.ctx.inputs)
        return wanted and self.ctx.stage < family.stages(model)

    def run_stage(self) -> Any:
        """Fit the stages so far."""
        inputs = AttributeDict(self.ctx.inputs)
        inputs.settings = first_stages(self.ctx.inputs.settings, Int(self.ctx.stage))
        inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": f"stage_{self.ctx.stage}"}
        return ToContext(stage_fit=self.submit(FitCalculation, **inputs))

    def inspect_stage(self) -> ExitCode | None:
        """Take from the fit what the next stage is to know."""
        fit: CalcJobNode = self.ctx.stage_fit
        if not fit.is_finished_ok:
            return self.exit_codes.ERROR_FIT.format(message=f"of the first {self.ctx.stage} terms: {fit.exit_message}")
        results = fit.outputs.results.get_dict()
        if "errors" not in results:
            return self.exit_codes.ERROR_FIT.format(message="delta_by_stages needs fit.python, which gives training errors")
        model, family = settings_and_family(self.ctx.inputs)
        self.report(family.with_stage(model, self.ctx.stage, results).words)
        self.ctx.inputs.settings = with_stage(self.ctx.inputs.settings, Int(self.ctx.stage), fit.outputs.results)
        self.ctx.stage += 1
        return None

    # --- what may go wrong ---

    def _give_up(self, code: ExitCode, what: str, calculation: CalcJobNode) -> ProcessHandlerReport:
        advice = "" if self.inputs.adapt else " (not repaired: adapt is not set)"
        self.report(f"{what}{advice}")
        return ProcessHandlerReport(True, code.format(message=f"{calculation.exit_message}{advice}"))

    def _described(self) -> str:
        known = self.forecast()
        return "nothing was forecast" if known is None else f"the forecast was {known.describe()}"

    @process_handler(priority=40, exit_codes=[FitCalculation.exit_codes.ERROR_ILL_CONDITIONED])
    def handle_ill_conditioned(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Let the family make the equations better."""
        repair = self._repair("ill-conditioned") if self.inputs.adapt else None
        if repair is None:
            what = "there is nothing more to be changed" if self.inputs.adapt else "the equations are ill-conditioned"
            return self._give_up(self.exit_codes.ERROR_ILL_CONDITIONED, what, calculation)
        self.report(f"the equations are ill-conditioned: {repair.words}")
        return ProcessHandlerReport(True)

    @process_handler(
        priority=30,
        exit_codes=[FitCalculation.exit_codes.ERROR_MEMORY, FitCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_MEMORY],
    )
    def handle_memory(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Ask the scheduler for more memory, or let the family take less."""
        return self._need_less_memory(calculation)

    def _need_less_memory(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        more = more_memory(self.ctx.children)
        if more is not None:
            self.ctx.inputs.metadata.options["max_memory_kb"] = more
            self.report(f"not enough memory: another job with {more} kB")
            return ProcessHandlerReport(True)
        known = self.forecast()
        repair = self._repair("memory") if self.inputs.adapt else None
        if repair is None:
            what = "nothing can be taken away any more" if self.inputs.adapt else self._described()
            return self._give_up(self.exit_codes.ERROR_MEMORY, what, calculation)
        again = self.forecast()
        sizes = f", {known.memory_MB:.0f} → {again.memory_MB:.0f} MB" if known is not None and again is not None else ""
        self.report(f"not enough memory: {repair.words}{sizes}")
        return ProcessHandlerReport(True)

    @process_handler(
        priority=20,
        exit_codes=[FitCalculation.exit_codes.ERROR_TIME, FitCalculation.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME],
    )
    def handle_time(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        """Ask for more time."""
        return self._need_more_time(calculation)

    def _need_more_time(self, calculation: CalcJobNode) -> ProcessHandlerReport:
        given = calculation.get_option("max_wallclock_seconds")
        if not self.inputs.adapt or given is None:
            return self._give_up(self.exit_codes.ERROR_TIME, self._described(), calculation)
        known = self.forecast()
        needed = 0.0 if known is None else 1.5 * known.cpu_seconds / self.ctx.inputs.metadata.options.threads
        wanted = int(max(2 * given, needed))
        self.ctx.inputs.metadata.options["max_wallclock_seconds"] = wanted
        self.report(f"the time was up: {given} → {wanted} s")
        return ProcessHandlerReport(True)

    @process_handler(priority=15, exit_codes=[FitCalculation.exit_codes.ERROR_KILLED])
    def handle_killed(self, calculation: CalcJobNode) -> ProcessHandlerReport | None:
        """Find out by the forecast what was lacking."""
        known, limit = self.forecast(), memory_limit(self.inputs)
        given = calculation.get_option("max_wallclock_seconds")
        memory = known.memory_MB / limit if known is not None and limit else 0.0
        time = known.cpu_seconds / (given * self.ctx.inputs.metadata.options.threads) if known is not None and given else 0.0
        if max(memory, time) < LIKELY:
            return None
        return self._need_less_memory(calculation) if memory > time else self._need_more_time(calculation)

    @process_handler(
        priority=10,
        exit_codes=[
            FitCalculation.exit_codes.ERROR_ABORT,
            FitCalculation.exit_codes.ERROR_COUNTS,
            FitCalculation.exit_codes.ERROR_OTHER_POTENTIAL,
            FitCalculation.exit_codes.ERROR_EVALUATION,
            FitCalculation.exit_codes.ERROR_SCHEDULER_INVALID_ACCOUNT,
        ],
    )
    def handle_certain(self, calculation: CalcJobNode) -> ProcessHandlerReport | None:
        """Do not try again what will fail again, unless the job was ended from outside in the middle of it."""
        if calculation.exit_status != FitCalculation.exit_codes.ERROR_ABORT.status and why_ended(calculation) is not None:
            return None
        return ProcessHandlerReport(True, self.exit_codes.ERROR_FIT.format(message=calculation.exit_message))

    @process_handler(priority=0)
    def handle_others(self, calculation: CalcJobNode) -> ProcessHandlerReport | None:
        """Do again what was cut off, killed or lost, so often."""
        if calculation.is_finished_ok:
            return None
        why = why_ended(calculation) or calculation.exit_message
        if len(self.ctx.children) >= TRIES:
            message = f"{len(self.ctx.children)} times; the last time: {calculation.exit_message}"
            return ProcessHandlerReport(True, self.exit_codes.ERROR_FIT.format(message=message))
        self.report(f"job <{calculation.pk}> ended before it was done ({why}): once more")
        return ProcessHandlerReport(True)

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
        self.ctx.test_results = errors_of_predictions(
            **{f"training_{name}": node for name, node in self.inputs.datasets.items()},
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
        if self.node.caller is None:  # else whoever called it says so
            self._say_how_good(fit)
        return None

    def _say_how_good(self, fit: CalcJobNode) -> None:
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
