"""Find the paths of many hops with a potential."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec

from aiida_gaprss.calculations.frames import FramesCalculation, potential_calculator
from aiida_gaprss.calculations.relax import check_potential, validate_potential
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.jobs import NebJobSettings
from aiida_gaprss.settings.model import model_validator_for


class NebCalculation(FramesCalculation):
    """Relax the frames of a dataset and the paths on which one atom of each hops, with a potential.

    Output frames: for every hop the images in their order, with ``parent``, ``step`` (the number of the image, from 0),
    ``relax_status`` and the potential's energy, forces and virial (``PRED_*``); for a frame without a hop the relaxed frame.
    """

    TASK = "neb"
    PARSER = "gaprss.neb"
    NAMED_BY = "parent"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the potential and the settings."""
        super().define(spec)
        spec.input("potential", valid_type=Potential, validator=check_potential, help="Drives the relaxations.")
        spec.inputs["settings"].validator = model_validator_for(NebJobSettings)
        spec.inputs.validator = validate_potential

    def task_settings(self) -> dict[str, Any]:
        """Return the settings of the paths with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return NebJobSettings(**given).model_dump() | potential_calculator(self.inputs.potential)
