"""Relax many cells with a GAP, each at its own pressure."""

from __future__ import annotations

from typing import Any, Literal

from aiida.engine import CalcJobProcessSpec
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from aiida_gaprss.calculations.frames import FramesCalculation, potential_calculator
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.validation import model_validator_for


class RelaxSettings(BaseModel):
    """How cells are relaxed; the pressure (GPa) of each stands in its ``pressure_GPa``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    optimizer: Literal["lbfgs", "cg", "fire"] = "lbfgs"
    fmax: PositiveFloat = Field(0.05, description="largest force (eV/Å; for the cell, the generalised force of the filter)")
    max_steps: PositiveInt = 200
    snapshot_steps: list[int] = Field(default=[5], description="steps kept besides the last one")
    min_distance: NonNegativeFloat = Field(0.0, description="Å; two atoms closer than this end the relaxation (collapsed)")
    volume_factors: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.2, 4.0), description="the volume, relative to the start, outside of which a relaxation ends (collapsed, exploded)"
    )


class RelaxCalculation(FramesCalculation):
    """Relax the cells of a dataset with a GAP, keeping snapshots.

    Output frames: for every cell the snapshots that were asked for and the last step, with ``parent``, ``step``, ``relax_status``
    and the potential's energy, forces and virial (``GAP_*``).
    """

    TASK = "relax"
    PARSER = "gaprss.relax"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the potential and the settings."""
        super().define(spec)
        spec.input("potential", valid_type=Potential, help="The GAP that drives the relaxations.")
        spec.inputs["settings"].required = False
        spec.inputs["settings"].validator = model_validator_for(RelaxSettings)
        spec.inputs.validator = validate_elements

    def task_settings(self) -> dict[str, Any]:
        """Return the relaxation settings with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return RelaxSettings(**given).model_dump() | potential_calculator(self.inputs.potential)


def validate_elements(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse frames with elements that the potential does not know."""
    if "potential" in inputs and "frames" in inputs:
        unknown = sorted(set(inputs["frames"].elements) - set(inputs["potential"].elements))
        if unknown:
            known = ", ".join(inputs["potential"].elements)
            return f"the potential knows {known}, but the frames contain {', '.join(unknown)}"
    return None
