"""Molecular dynamics of many cells with a potential."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec

from aiida_gaprss.calculations.frames import FramesCalculation, potential_calculator
from aiida_gaprss.calculations.relax import check_potential, validate_potential
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.jobs import MdJobSettings
from aiida_gaprss.settings.model import model_validator_for


class MdCalculation(FramesCalculation):
    """Run a trajectory of each cell of a dataset with a potential, keeping snapshots.

    Output frames: for every cell the snapshots, with ``parent``, ``step``, ``time_ps``, ``temperature_K``, ``md_status`` and the
    potential's energy, forces and virial (``PRED_*``). A trajectory that the end of the job cuts off begins anew in the next one.
    """

    TASK = "md"
    PARSER = "gaprss.md"
    NAMED_BY = "parent"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the potential and the settings."""
        super().define(spec)
        spec.input("potential", valid_type=Potential, validator=check_potential, help="Drives the trajectories.")
        spec.inputs["settings"].validator = model_validator_for(MdJobSettings)
        spec.inputs.validator = validate_potential

    def task_settings(self) -> dict[str, Any]:
        """Return the settings of the trajectories with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return MdJobSettings(**given).complete() | potential_calculator(self.inputs.potential)
