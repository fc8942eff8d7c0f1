"""Measure how long a potential takes for the frames of a dataset."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec

from aiida_gaprss.calculations.frames import FramesCalculation, potential_calculator
from aiida_gaprss.calculations.relax import check_potential, validate_potential
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.jobs import SpeedJobSettings
from aiida_gaprss.settings.model import model_validator_for


class SpeedCalculation(FramesCalculation):
    """Measure the time of energy, forces and stress of all frames.

    Output frames: those that were sent with ``seconds`` and ``processor_seconds``, medians of the calls, and ``PRED_*``.
    """

    TASK = "speed"
    PARSER = "gaprss.speed"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the potential and the settings."""
        super().define(spec)
        spec.input("potential", valid_type=Potential, validator=check_potential, help="The potential to measure.")
        spec.inputs["settings"].validator = model_validator_for(SpeedJobSettings)
        spec.inputs.validator = validate_potential

    def task_settings(self) -> dict[str, Any]:
        """Return the settings with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return SpeedJobSettings(**given).model_dump() | potential_calculator(self.inputs.potential)
