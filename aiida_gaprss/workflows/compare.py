"""Strategies at equal cost: the same fit to as many frames of each as a cost allows, and what crystals are by the potentials."""

from __future__ import annotations

from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext, if_, while_
from aiida.orm import Dict, Float, Int, List, load_node

from aiida_gaprss.calculations.compare_functions import DRAWN, LEFT_OUT, comparison, frames_at_cost
from aiida_gaprss.properties.suite import Suite
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.scan import MOST_AT_ONCE, ScanWorkChain, validate_scan
from aiida_gaprss.workflows.validate import ValidateWorkChain, faults_of, lack_of_tests


def _validate(inputs: dict[str, Any], ports: Any) -> str | None:
    if not {"datasets", "strategies", "costs"} <= set(ports) or not inputs.get("datasets"):
        return None
    strategies, costs = inputs["strategies"].get_list(), inputs["costs"].get_list()
    if len(strategies) < 2 or len(set(strategies)) < len(strategies) or set(strategies) - set(inputs["datasets"]):
        return f"strategies: expected two or more of {', '.join(inputs['datasets'])}, got {strategies}"
    if not costs or len(set(costs)) < len(costs) or not all(isinstance(x, int | float) and x > 0 for x in costs):
        return f"costs: expected different numbers above 0, got {costs}"
    if inputs["repeats"].value < 1:
        return f"repeats: expected at least 1, got {inputs['repeats'].value}"
    return validate_scan(inputs, ports) or _fault_of_validation(inputs.get("validate"))


def _fault_of_validation(given: Any) -> str | None:
    """Return what is wrong with crystals, properties and reference, or None."""
    if not given:
        return None
    if not any(given.get(name) for name in ("label", "reference_potential", "values")):
        return "validate: errors of properties need a reference, expected label, reference_potential or values"
    suite = Suite(**given["settings"].get_dict())
    others = {"reference": given["reference_potential"]} if "reference_potential" in given else {}
    faults = faults_of(suite, given["crystals"], others, given.get("label"), given.get("test"))
    return "; ".join(filter(None, [lack_of_tests(suite, given.get("test", {})), *faults])) or None


class CompareWorkChain(ScanWorkChain):
    """Fit to random frames of one strategy after another, as many as each cost allows, and compute properties with all fits.

    Datasets that are no strategies, and isolated atoms and dimers, are part of every fit. In one repeat the frames are drawn in
    the same order for all costs; repeats have another order and other sparse points.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports and outline."""
        super().define(spec)
        spec.input("strategies", valid_type=List, help="Names of the datasets that are compared.")
        spec.input("costs", valid_type=List, help="Σ N³ n_k of the frames of a strategy in a fit, at most.")
        spec.input("repeats", valid_type=Int, default=lambda: Int(3), help="Fits of each strategy at each cost.")
        spec.input("spacing", valid_type=Float, required=False, help="Of k-points, 1/Å without 2π; default: one for each frame.")
        options = {"required": False, "populate_defaults": False, "help": "Crystals, properties and reference; default: none."}
        spec.expose_inputs(ValidateWorkChain, namespace="validate", exclude=("potentials",), namespace_options=options)
        spec.inputs.validator = _validate
        spec.outline(
            cls.setup,
            if_(cls.holds_out)(cls.hold_frames_out),
            cls.plan,
            while_(cls.has_points)(cls.run_points, cls.inspect_points),
            while_(cls.has_potentials)(cls.run_validation, cls.inspect_validation),
            cls.finish,
        )
        spec.output("comparison", valid_type=Dict, help="A row for each fit; mean and standard deviation by strategy and cost.")
        spec.exit_code(420, "ERROR_VALIDATION", message="no properties: {message}; the errors of the tests are there")

    def plan(self) -> None:
        """Queue all strategies at all costs."""
        repeats, strategies = self.inputs.repeats.value, list(self.inputs.strategies)
        points = [(r, s, float(cost)) for r in range(repeats) for s in strategies for cost in sorted(self.inputs.costs)]
        self.ctx.queue = [
            {"name": f"{strategy}_{number:03d}", "strategy": strategy, "cost": cost, "repeat": repeat}
            for number, (repeat, strategy, cost) in enumerate(points)
        ]
        self.ctx.validated, self.ctx.scorecards, self.ctx.failures = 0, {}, []

    def inputs_of(self, point: dict[str, Any]) -> dict[str, Any]:
        """Draw the frames of a point."""
        seed, repeat = self.inputs.seed.value, point["repeat"]
        drawn = frames_at_cost(
            Dict({"strategy": point["strategy"], "cost": point["cost"], "seed": stage_seed(seed, repeat, point["strategy"])}),
            self.inputs.strategies,
            self.ctx.held,
            **({"spacing": self.inputs.spacing} if "spacing" in self.inputs else {}),
            **dict(self.inputs.datasets),
        )
        point |= drawn[DRAWN].get_dict()
        return {"leave_out": drawn[LEFT_OUT], "seed": Int(stage_seed(seed, repeat, "fit"))}

    def name_of(self, row: dict[str, Any]) -> str:
        """Return strategy, cost and repeat."""
        return f"{row['strategy']} for {row['cost']:.3g}, repeat {row['repeat'] + 1}"

    def has_potentials(self) -> bool:
        """Tell whether potentials are left whose properties are wanted."""
        rows = [row for row in self.ctx.table["rows"] if row["reason"] is None]
        self.ctx.rows = rows[self.ctx.validated :][:MOST_AT_ONCE]
        return bool(self.ctx.rows) and bool(self.inputs.get("validate"))

    def run_validation(self) -> Any:
        """Compute the properties of crystals with the next potentials."""
        inputs = AttributeDict(self.exposed_inputs(ValidateWorkChain, namespace="validate"))
        inputs.potentials = {row["name"]: load_node(row["uuid"]).outputs.potential for row in self.ctx.rows}
        link = f"validation_{self.ctx.validated:04d}"
        inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": link}
        self.ctx.validated += len(self.ctx.rows)
        return ToContext(validation=self.submit(ValidateWorkChain, **inputs))

    def inspect_validation(self) -> None:
        """Keep the scores."""
        process = self.ctx.validation
        if "scorecard" in process.outputs:
            self.ctx.scorecards = {**self.ctx.scorecards, f"s{len(self.ctx.scorecards):03d}": process.outputs.scorecard}
        if not process.is_finished_ok:
            self.ctx.failures = [*self.ctx.failures, reason_of_failure(process)]
            self.report(f"validation <{process.pk}>: {self.ctx.failures[-1]}")

    def finish(self) -> ExitCode | None:
        """Return the comparison."""
        self.out("comparison", comparison(self.ctx.table, **self.ctx.scorecards))
        if self.ctx.failures:
            return self.exit_codes.ERROR_VALIDATION.format(message=self.ctx.failures[0])
        return self.all_failed()
