"""Evaluate a potential on frames: energies, forces, virials, local energies and variances (uploaded with the job)."""

from __future__ import annotations

from ase import Atoms
from common import CalculatorTask


class Evaluate(CalculatorTask):
    """Single-point predictions of one potential."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        out = self.single_point(atoms, "PRED")
        if self.settings["local_energies"]:
            out.arrays["PRED_local_energy"] = self.local_energies(atoms)
        if self.settings["variances"]:
            out.arrays["PRED_local_variance"] = self.variances(atoms)
        return "ok", [out]


TASK = Evaluate()
