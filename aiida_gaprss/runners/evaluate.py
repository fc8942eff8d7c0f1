"""Evaluate a potential on frames: energies, forces, virials, local energies and variances (uploaded with the job)."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from common import CalculatorTask, numbers, stripped


class Evaluate(CalculatorTask):
    """Single-point predictions of one potential."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        out = self.single_point(atoms, "PRED")
        if self.settings["local_energies"]:
            energies = self.calculator.get_property("energies", stripped(atoms))
            out.arrays["PRED_local_energy"] = numbers("local energies", energies, (len(atoms),))
        if self.settings["variances"]:
            self.calculator.reset()  # it would not calculate again what it thinks it knows
            self.calculator.calculate(stripped(atoms), ["energy"], ["positions"], calc_args="local_gap_variance")
            variances = self.calculator.extra_results["atoms"]["local_gap_variance"]
            out.arrays["PRED_local_variance"] = numbers("local variances", variances, (len(atoms),))
        for key in ("PRED_local_energy", "PRED_local_variance"):
            if not np.isfinite(out.arrays.get(key, 0.0)).all():
                raise ArithmeticError(f"{key} has a value that is not a finite number")
        return "ok", [out]


TASK = Evaluate()
