"""Label frames with single points of any ASE calculator (uploaded with the job)."""

from __future__ import annotations

from ase import Atoms
from common import CalculatorTask


class Label(CalculatorTask):
    """Single-point reference labels; the calculator decides whether a stress is to be had."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        in_vacuum = atoms.info.get("config_type") in ("isolated_atom", "dimer")
        stress = "stress" in self.calculator.implemented_properties and not in_vacuum
        return "ok", [self.single_point(atoms, "REF", stress)]


TASK = Label()
