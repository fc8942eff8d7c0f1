"""Evaluate a potential on frames: energies, forces, virials, local energies and variances (uploaded with the job)."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from common import CalculatorTask, stripped


class Evaluate(CalculatorTask):
    """Single-point predictions of one potential."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        out = self.single_point(atoms, "GAP")
        if self.settings["local_energies"]:
            energies = np.array(self.calculator.get_property("energies", stripped(atoms)))
            if energies.shape != (len(atoms),):
                raise ValueError(f"the calculator gave local energies of shape {energies.shape} for {len(atoms)} atoms")
            out.arrays["GAP_local_energy"] = energies
        if self.settings["variances"]:
            self.calculator.reset()  # it would not calculate again what it thinks it knows
            self.calculator.calculate(stripped(atoms), ["energy"], ["positions"], calc_args="local_gap_variance")
            out.arrays["GAP_local_variance"] = np.array(self.calculator.extra_results["atoms"]["local_gap_variance"])
        return "ok", [out]


TASK = Evaluate()
