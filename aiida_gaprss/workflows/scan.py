"""Many fits to parts of the same data, with one test: what learning curves, searches of hyperparameters and committees share."""

from __future__ import annotations

from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, if_, while_
from aiida.orm import Dict, List, ProcessNode

from aiida_gaprss.analysis.numbers import significant
from aiida_gaprss.calculations.scan_functions import add_rows
from aiida_gaprss.workflows.fit import FitWorkChain
from aiida_gaprss.workflows.fit_checks import completed, held_out, sets_of_test, validate_fit
from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain

#: A table takes two links of every fit; links per process cost quadratically.
MOST_AT_ONCE = 20


def validate_scan(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check what all scans need: a fit that can be done, and a test."""
    if "datasets" not in ports:
        return None
    fault = validate_fit(inputs, ports)
    if fault:
        return fault
    if "test_fraction" not in inputs and not inputs.get("test"):
        return "a test is needed: give test_fraction, the part of the frames that is held out, or test, datasets"
    if inputs["seed"].value < 1:
        return f"seed must be positive, got {inputs['seed'].value}"
    return None


def _validate_concurrent(value: int, _: Any) -> str | None:
    return None if 1 <= value <= MOST_AT_ONCE else f"expected 1 to {MOST_AT_ONCE}, got {value}"


class ScanWorkChain(SubmitOnceWorkChain):
    """Run fits, so many at a time, and gather their errors in a table; a fit that fails is a row with its reason."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.expose_inputs(FitWorkChain, exclude=("leave_out", "metadata"))
        spec.input(
            "max_concurrent",
            valid_type=int,
            non_db=True,
            default=2,
            validator=_validate_concurrent,
            help="Fits at one time; the next ones begin when all of them have ended.",
        )
        spec.inputs.validator = validate_scan
        spec.outline(
            cls.setup,
            if_(cls.holds_out)(cls.hold_frames_out),
            cls.plan,
            while_(cls.has_points)(cls.run_points, cls.inspect_points),
            cls.finish,
        )
        spec.exit_code(410, "ERROR_ALL_FAILED", message="{failed} of {total} fits failed; the first one: {message}")

    def setup(self) -> None:
        """Complete the settings once for all fits."""
        self.ctx.settings = completed(self.inputs.settings, dict(self.inputs.datasets))
        self.ctx.test = sets_of_test(self.inputs)
        self.ctx.held = List([])
        self.ctx.table = Dict({"rows": []})
        self.ctx.queue = []
        self.ctx.begun = 0

    def holds_out(self) -> bool:
        """Tell whether a part of the frames is held out."""
        return "test_fraction" in self.inputs

    def hold_frames_out(self) -> None:
        """Choose the frames of the test, the same for all fits."""
        self.ctx.test, self.ctx.held = held_out(self.inputs)
        self.report(f"{self.ctx.test['held_out'].n_frames} frames held out for the test")

    def plan(self) -> None:
        """Put the points into the queue: plain data, which go into their rows."""
        raise NotImplementedError

    def inputs_of(self, point: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of a fit in which this point differs from the others."""
        raise NotImplementedError

    def finish(self) -> ExitCode | None:
        """Attach the outputs."""
        raise NotImplementedError

    def has_points(self) -> bool:
        """Tell whether there is something left to do."""
        return bool(self.ctx.queue)

    def run_points(self) -> None:
        """Submit the next fits; what the ports refuse is a failed fit, too."""
        number = self.inputs.max_concurrent
        self.ctx.facts = {}
        for point in self.ctx.queue[:number]:
            key = f"fit_{self.ctx.begun:04d}"
            self.ctx.begun += 1
            self.ctx.facts[key] = point
            inputs = AttributeDict(self.exposed_inputs(FitWorkChain))
            inputs.pop("test_fraction", None)
            inputs |= {"settings": self.ctx.settings, "test": self.ctx.test}
            if self.ctx.held.get_list():
                inputs.leave_out = self.ctx.held
            try:
                inputs |= {**self.inputs_of(point), "metadata": {"call_link_label": key}}
                process = self.submit(FitWorkChain, **inputs)
            except ValueError as refusal:
                point["reason"] = str(refusal)
                continue
            self.to_context(**{key: process})
        self.ctx.queue = self.ctx.queue[number:]

    def inspect_points(self) -> None:
        """Add the fits to the table."""
        results: dict[str, Dict] = {}
        for key, point in self.ctx.facts.items():
            fit: ProcessNode | None = self.ctx.get(key)
            if fit is None:
                continue
            point["uuid"] = fit.uuid
            if fit.is_finished_ok:
                point["repaired"] = fit.outputs.settings.uuid != fit.inputs.settings.uuid
                results |= {f"{key}_fit": fit.outputs.results, f"{key}_test": fit.outputs.test_results}
            else:
                point["reason"] = fit.exit_message or reason_of_failure(fit)
        self.ctx.table = add_rows(self.ctx.table, Dict(self.ctx.facts), **results)
        self.ctx.new = self.ctx.table["rows"][-len(self.ctx.facts) :]
        for row in self.ctx.new:
            self.report(f"{self.name_of(row)}: {row['reason'] or errors_in_words(row)}")

    def name_of(self, row: dict[str, Any]) -> str:
        """Return what a reader calls the fit of this row."""
        raise NotImplementedError

    def all_failed(self) -> ExitCode | None:
        """Return the exit code, if no fit of the table has a test."""
        rows = self.ctx.table["rows"]
        reasons = [row["reason"] for row in rows if row["reason"] is not None]
        if len(reasons) < len(rows):
            return None
        return self.exit_codes.ERROR_ALL_FAILED.format(failed=len(rows), total=len(rows), message=reasons[0])


def errors_in_words(row: dict[str, Any]) -> str:
    """Return the errors of a row as a line for a reader."""
    energy, forces = row["energy_rmse"], row["forces_rmse"]
    text = (
        f"{row['frames']} frames; test RMSE {significant(energy)} meV/atom" if energy is not None else f"{row['frames']} frames"
    )
    text += f", {significant(forces)} eV/Å" if forces is not None else ""
    return text + (" (repaired: other settings than asked for)" if row["repaired"] else "")
