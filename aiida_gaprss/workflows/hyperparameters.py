"""Search for the hyperparameters of a fit."""

from __future__ import annotations

import json
import math
from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict, load_node
from pydantic import ValidationError

from aiida_gaprss.analysis.numbers import significant
from aiida_gaprss.calculations.scan_functions import rank_trials, with_values
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.families import fit_settings
from aiida_gaprss.models.tuning import Tuning, first_population, offspring, survivors
from aiida_gaprss.settings.model import in_words
from aiida_gaprss.workflows.fit_checks import complete_of
from aiida_gaprss.workflows.scan import ScanWorkChain, validate_scan


def _validate(inputs: dict[str, Any], ports: Any) -> str | None:
    fault = validate_scan(inputs, ports)
    if fault or "search" not in ports or "datasets" not in ports:
        return fault
    try:
        Tuning(**inputs["search"].get_dict()).of(complete_of(inputs["settings"].get_dict(), dict(inputs["datasets"])))
    except ValidationError as error:
        return in_words(error, prefix="search.")
    except (ValueError, TypeError) as error:
        return f"search.{error}"
    return None


class HyperparametersWorkChain(ScanWorkChain):
    """Try hyperparameters, each in a fit of its own with the same seed, training frames and test.

    Lists of values are combined in all ways. Where a variable has bounds, differential evolution looks for the smallest weighted
    sum of the errors of energy and forces. What was tried is not tried again; what fails counts as infinitely bad.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports."""
        super().define(spec)
        spec.input("search", valid_type=Dict, help="What is tried, and what is made small (Tuning).")
        spec.inputs.validator = _validate
        spec.output("trials", valid_type=Dict, help="A row for each trial, the best first.")
        spec.output(
            "pareto", valid_type=Dict, required=False, help="Trials that no other outdoes in both error and time per atom."
        )
        spec.output("best", valid_type=Dict, required=False, help="Settings of the best trial.")
        spec.output("potential", valid_type=Potential, required=False, help="Potential of the best trial.")
        spec.exit_code(420, "ERROR_NO_OBJECTIVE", message="The frames of the test lack an error that has a weight.")

    @property
    def tuning(self) -> Tuning:
        """What is tried."""
        return Tuning(**self.inputs.search.get_dict()).of(fit_settings(**self.ctx.settings.get_dict()))

    def plan(self) -> None:
        """Queue the grid, or the first population."""
        tuning = self.tuning
        self.ctx.objectives = {}
        self.ctx.generation = 0
        self.ctx.population, self.ctx.losses = [], []
        if tuning.is_grid:
            self.queue_new(tuning.grid())
        else:
            self.ctx.candidates = first_population(tuning.size, len(tuning.variables), self.inputs.seed.value)
            self.queue_new([tuning.at(vector) for vector in self.ctx.candidates])
        kind = "a grid" if tuning.is_grid else f"differential evolution, {tuning.size} at a time"
        self.report(f"{kind}: at most {tuning.number()} fits")

    def queue_new(self, trials: list[dict[str, Any]]) -> None:
        """Queue the trials that have not been done, each once."""
        new = {_key(values): {"values": values} for values in trials}
        self.ctx.queue = [point for key, point in new.items() if key not in self.ctx.objectives]

    def has_points(self) -> bool:
        """Tell whether there is something left to try; make the next generation when the last one is done."""
        tuning = self.tuning
        while not self.ctx.queue and not tuning.is_grid and self.ctx.generation < tuning.generations:
            done = self.ctx.objectives
            losses = [done[_key(tuning.at(vector))] for vector in self.ctx.candidates]
            if self.ctx.generation == 0:
                self.ctx.population, self.ctx.losses = self.ctx.candidates, losses
            else:
                found = survivors(self.ctx.population, self.ctx.losses, self.ctx.candidates, losses)
                self.ctx.population, self.ctx.losses = found
            self.ctx.generation += 1
            self.ctx.candidates = offspring(self.ctx.population, self.ctx.losses, self.inputs.seed.value, self.ctx.generation)
            self.queue_new([tuning.at(vector) for vector in self.ctx.candidates])
            self.report(f"generation {self.ctx.generation}: best so far {significant(min(self.ctx.losses))}")
        return bool(self.ctx.queue)

    def inputs_of(self, point: dict[str, Any]) -> dict[str, Any]:
        """Make the settings of a trial."""
        return {"settings": with_values(self.ctx.settings, Dict(point))}

    def inspect_points(self) -> None:
        """Remember how good the trials were."""
        super().inspect_points()
        weights = self.tuning.weights
        for row in self.ctx.new:
            found = weights.objective(row.get("energy_rmse"), row.get("forces_rmse"))
            self.ctx.objectives[_key(row["values"])] = math.inf if found is None else found

    def name_of(self, row: dict[str, Any]) -> str:
        """Return the values of a trial."""
        return ", ".join(f"{path} {value}" for path, value in row["values"].items())

    def finish(self) -> ExitCode | None:
        """Return all trials and the best."""
        tables = rank_trials(self.ctx.table, self.inputs.search)
        self.out("trials", tables["trials"])
        best = tables["trials"]["rows"][0]
        if best["objective"] is None:
            return self.all_failed() or self.exit_codes.ERROR_NO_OBJECTIVE
        self.out("pareto", tables["pareto"])
        fit = load_node(best["uuid"])
        self.out("best", fit.outputs.settings)
        self.out("potential", fit.outputs.potential)
        self.report(f"best of {len(tables['trials']['rows'])}: {self.name_of(best)}; objective {significant(best['objective'])}")
        return None


def _key(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
