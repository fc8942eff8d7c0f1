"""The cheap steps around many fits as calcfunctions: settings of a trial, tables of errors, spread of a committee."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import calcfunction
from aiida.orm import Dict, Str

from aiida_gaprss.analysis.committee import spread
from aiida_gaprss.analysis.errors import QUANTITIES
from aiida_gaprss.analysis.pareto import front
from aiida_gaprss.calculations.common import named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.models.tuning import Tuning, with_value

#: The columns of a table of fits: RMSE and MAE of the test, in the units of ``analysis.errors``.
MEASURES = tuple(f"{quantity}_{measure}" for quantity in QUANTITIES for measure in ("rmse", "mae"))


@calcfunction
def with_values(settings: Dict, point: Dict) -> Dict:
    """Return the settings with the ``values`` of a trial, by dotted path (of which a Dict has none at its top)."""
    out = settings.get_dict()
    for path, value in point["values"].items():
        out = with_value(out, path, value)
    return named(Dict(out), "settings of a trial")


@calcfunction
def add_rows(table: Dict, facts: Dict, **results: Dict) -> Dict:
    """Return a table with new rows: what is known of the fits, and their errors.

    :param facts: by key, what goes into the row; those that failed have a ``reason``.
    :param results: ``KEY_fit`` and ``KEY_test``, what the fit and the test said of those that did not.
    """
    rows = list(table["rows"])
    for key, known in sorted(facts.get_dict().items()):
        row: dict[str, Any] = {**known, "reason": known.get("reason")}
        if f"{key}_test" in results:
            fit, test = results[f"{key}_fit"].get_dict(), results[f"{key}_test"].get_dict()
            row |= {"frames": fit["frames"], "atoms": fit["atoms"], "test_frames": test["frames"]}
            row |= {f"{q}_{m}": test["errors"][q][m] for q in QUANTITIES for m in ("rmse", "mae")}
            row["ms_per_atom"] = test["ms_per_atom"]
        rows.append(row)
    return named(Dict({"rows": rows}), "table of fits")


@calcfunction
def learning_curve(table: Dict) -> Dict:
    """Return the rows, and mean and standard deviation of the errors for each size."""
    rows = sorted(table["rows"], key=lambda row: (row["size"], row["repeat"]))
    sizes = []
    for size in sorted({row["size"] for row in rows}):
        mine = [row for row in rows if row["size"] == size and row["reason"] is None]
        summary: dict[str, Any] = {"size": size, "fits": len(mine)}
        for key in ("frames", "atoms", *MEASURES):
            values = [row[key] for row in mine if row[key] is not None]
            summary[key] = float(np.mean(values)) if values else None
            if key in MEASURES:
                summary[f"{key}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        sizes.append(summary)
    return named(Dict({"rows": rows, "sizes": sizes}), "learning curve")


@calcfunction
def rank_trials(table: Dict, search: Dict) -> dict[str, Dict]:
    """Return all trials, the best first and the failed last, and those that no other outdoes in both error and time."""
    weights = Tuning(**search.get_dict()).weights
    rows = [{**row, "objective": weights.objective(row.get("energy_rmse"), row.get("forces_rmse"))} for row in table["rows"]]
    rows.sort(key=lambda row: np.inf if row["objective"] is None else row["objective"])
    done = [row for row in rows if row["objective"] is not None]
    chosen = front([(row["ms_per_atom"], row["objective"]) for row in done])
    return {
        "trials": named(Dict({"rows": rows}), "all trials, the best first"),
        "pareto": named(Dict({"rows": [done[i] for i in chosen]}), "trials that no other outdoes"),
    }


@calcfunction
def spread_of_members(by: Str, **predictions: Dataset) -> Dict:
    """Return the spread among the members on the frames of the test, and what it tells of the error."""
    frames = [predictions[name].get_frames() for name in sorted(predictions)]
    return named(Dict({"by": by.value, **spread(frames)}), "spread of a committee")
