"""Evaluate a potential on frames: energies, forces, virials, local energies (uploaded with the job)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from common import add_labels, load_class, stripped


class Evaluate:
    """Single-point predictions of one potential."""

    settings: dict[str, Any]
    calculator: Calculator

    def setup(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.calculator = load_class(settings["calculator"])(**settings["arguments"])

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        out = stripped(atoms)
        out.info = {}
        work = stripped(atoms)
        work.info = {}
        work.calc = self.calculator
        add_labels(work, out, "GAP")
        if self.settings["local_energies"]:
            energies = np.array(self.calculator.get_property("energies", work))
            if energies.shape != (len(work),):
                raise ValueError(f"the calculator gave local energies of shape {energies.shape} for {len(work)} atoms")
            out.arrays["GAP_local_energy"] = energies
        return "ok", [out]


TASK = Evaluate()
