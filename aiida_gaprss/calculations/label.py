"""Label the frames of a dataset with single points of any ASE calculator, many in one job."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec

from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.settings.jobs import LabelSettings
from aiida_gaprss.settings.model import model_validator_for


class LabelCalculation(FramesCalculation):
    """Give every frame energy, forces and virial (``REF_*``) of an ASE calculator; failed ones keep their reason."""

    TASK = "label"
    PARSER = "gaprss.label"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Make the settings obligatory."""
        super().define(spec)
        spec.inputs["settings"].required = True
        spec.inputs["settings"].validator = model_validator_for(LabelSettings)

    def task_settings(self) -> dict[str, Any]:
        """Return calculator and arguments."""
        settings = LabelSettings(**self.inputs.settings.get_dict())
        return settings.model_dump(exclude={"level_of_theory"})
