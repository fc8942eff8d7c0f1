"""Evaluate a potential on frames: energies, forces, virials, local energies (uploaded with the job)."""

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
        return "ok", [out]


TASK = Evaluate()
