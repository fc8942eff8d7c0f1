"""What jobs share in which a potential does more with a frame than a single point, by settings that frames may differ in."""

from __future__ import annotations

from typing import Any, ClassVar

from aiida.engine import CalcJobProcessSpec

from aiida_gaprss.calculations.frames import FramesCalculation, potential_calculator
from aiida_gaprss.calculations.relax import check_potential, validate_potential
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.jobs import WithTasks
from aiida_gaprss.settings.model import model_validator_for


class TaskCalculation(FramesCalculation):
    """A task of one potential on every frame of a dataset."""

    SETTINGS: ClassVar[type[WithTasks]]

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the potential and the settings."""
        super().define(spec)
        spec.input("potential", valid_type=Potential, validator=check_potential, help="The potential that does it.")
        spec.inputs["settings"].validator = model_validator_for(cls.SETTINGS)
        spec.inputs.validator = validate_potential

    def task_settings(self) -> dict[str, Any]:
        """Return the settings with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return self.SETTINGS(**given).complete() | potential_calculator(self.inputs.potential)
