"""Label frames with single points of any ASE calculator (uploaded with the job)."""

from __future__ import annotations

from ase import Atoms
from common import CalculatorTask


class Label(CalculatorTask):
    """Single-point reference labels; the calculator decides whether a stress is to be had."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        isolated = atoms.info.get("config_type") == "isolated_atom"
        stress = "stress" in self.calculator.implemented_properties and not isolated
        return "ok", [self.single_point(atoms, "REF", stress)]


TASK = Label()
