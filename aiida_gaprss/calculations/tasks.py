"""What jobs share that do more with a frame than a single point, by settings that frames may differ in."""

from __future__ import annotations

from typing import Any, ClassVar

from aiida.engine import CalcJobProcessSpec

from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.calculations.relax import define_driver, driver_settings
from aiida_gaprss.settings.jobs import WithTasks
from aiida_gaprss.settings.model import model_validator_for


class TaskCalculation(FramesCalculation):
    """A task of one potential, or of an ASE calculator, on every frame of a dataset."""

    SETTINGS: ClassVar[type[WithTasks]]

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define what does it, and the settings."""
        super().define(spec)
        define_driver(spec)
        spec.inputs["settings"].validator = model_validator_for(cls.SETTINGS)

    def task_settings(self) -> dict[str, Any]:
        """Return the settings with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return self.SETTINGS(**given).complete() | driver_settings(self.inputs)
