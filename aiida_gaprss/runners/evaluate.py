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
            out.arrays["PRED_local_energy"] = self.local_energies(atoms)
        if self.settings["variances"]:
            self.calculator.reset()  # it would not calculate again what it thinks it knows
            self.calculator.calculate(stripped(atoms), ["energy"], ["positions"], calc_args="local_gap_variance")
            variances = self.calculator.extra_results["atoms"]["local_gap_variance"]
            out.arrays["PRED_local_variance"] = numbers("local variances", variances, (len(atoms),))
            if not np.isfinite(variances).all():
                raise ArithmeticError("a local variance is not a finite number")
        return "ok", [out]


TASK = Evaluate()
