"""Label frames with single points of any ASE calculator (uploaded with the job)."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator
from common import add_labels, load_class, stripped


class Label:
    """Single-point reference labels; the calculator decides whether a stress is to be had."""

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
        isolated = atoms.info.get("config_type") == "isolated_atom"
        stress = "stress" in self.calculator.implemented_properties and not isolated
        add_labels(work, out, "REF", stress=stress)
        return "ok", [out]


TASK = Label()
