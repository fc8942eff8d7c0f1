"""Label the frames of a dataset with single points of any ASE calculator, many in one job."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec
from pydantic import BaseModel, ConfigDict, Field

from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.validation import model_validator_for


class LabelSettings(BaseModel):
    """The ASE calculator that makes the labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calculator: str = Field(description="name that ASE knows (emt, lj, …) or the dotted path of a class")
    arguments: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the class")
    level_of_theory: str | None = Field(None, description="one line naming the level of theory; default: the calculator's name")


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
