"""Evaluate a potential on the frames of a dataset."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec

from aiida_gaprss.calculations.frames import FramesCalculation, potential_calculator
from aiida_gaprss.calculations.relax import check_potential, validate_potential
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.jobs import EvaluateSettings
from aiida_gaprss.settings.model import model_validator_for


class EvaluateCalculation(FramesCalculation):
    """Predict energies, forces, virials (``PRED_*``) and, if asked for, local energies of all frames."""

    TASK = "evaluate"
    PARSER = "gaprss.evaluate"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the potential and the settings."""
        super().define(spec)
        spec.input("potential", valid_type=Potential, validator=check_potential, help="The potential to evaluate.")
        spec.inputs["settings"].validator = model_validator_for(EvaluateSettings)
        spec.inputs.validator = _validate

    def task_settings(self) -> dict[str, Any]:
        """Return the settings with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return EvaluateSettings(**given).model_dump() | potential_calculator(self.inputs.potential)


def _validate(inputs: dict[str, Any], ports: Any) -> str | None:
    if fault := validate_potential(inputs, ports):
        return fault
    if "potential" in inputs and "settings" in inputs and inputs["settings"].get_dict().get("variances"):
        family = inputs["potential"].family
        return None if family.VARIANCES else f"settings.variances: a potential of the family {family.NAME} has none"
    return None
