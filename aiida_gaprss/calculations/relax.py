"""Relax many cells with a potential or an ASE calculator, each at its own pressure."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec
from aiida.orm import Dict

from aiida_gaprss.calculations.frames import FramesCalculation, potential_calculator
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.settings.jobs import DRIVERS, LabelSettings, RelaxJobSettings
from aiida_gaprss.settings.model import model_validator_for

#: How complaints about such settings begin.
UNSURE_ASKED = "settings.stop_where_unsure: "


class RelaxCalculation(FramesCalculation):
    """Relax the cells of a dataset with a potential, keeping snapshots.

    Output frames: for every cell the snapshots that were asked for and the last step, with ``parent``, ``step``, ``relax_status``
    and energy, forces and virial (``PRED_*``) of the potential, or of the ASE calculator that is given in its place.
    """

    TASK = "relax"
    PARSER = "gaprss.relax"
    NAMED_BY = "parent"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define what drives the relaxations, and the settings."""
        super().define(spec)
        define_driver(spec)
        spec.inputs["settings"].validator = model_validator_for(RelaxJobSettings)

    def task_settings(self) -> dict[str, Any]:
        """Return the relaxation settings with the calculator."""
        given = self.inputs.settings.get_dict() if "settings" in self.inputs else {}
        return RelaxJobSettings(**given).model_dump() | driver_settings(self.inputs)


def define_driver(spec: CalcJobProcessSpec) -> None:
    """Define the ports of what drives a task: a potential, or an ASE calculator in its place."""
    spec.input("potential", valid_type=Potential, required=False, validator=check_potential, help="The potential that does it.")
    spec.input(
        "calculator",
        valid_type=Dict,
        required=False,
        validator=model_validator_for(LabelSettings),
        help="An ASE calculator that does it, as in the settings of gaprss.label; where the cell moves it must know the stress.",
    )
    spec.inputs.validator = _validate_driver


def driver_settings(inputs: Any) -> dict[str, Any]:
    """Return the part of the task settings that makes the calculator of what drives it."""
    if "calculator" in inputs:
        return LabelSettings(**inputs["calculator"].get_dict()).model_dump(include={"calculator", "arguments"})
    return potential_calculator(inputs["potential"])


def _validate_driver(inputs: dict[str, Any], ports: Any) -> str | None:
    given = [name for name in DRIVERS if inputs.get(name) is not None]
    if set(DRIVERS) <= set(ports) and len(given) != 1:  # where it is exposed, others may give the potential
        return f"give one of {' and '.join(DRIVERS)}, got {' and '.join(given) or 'none'}"
    return _lack_of_variances(inputs) or validate_potential(inputs, ports)


def _lack_of_variances(inputs: dict[str, Any]) -> str | None:
    """Return why what drives relaxations that are to stop where it is unsure cannot tell, or None."""
    settings = inputs["settings"].get_dict() if "settings" in inputs else {}
    if not settings.get("stop_where_unsure"):
        return None
    if "potential" in inputs:
        return lack_of_variances(inputs["potential"])
    return f"{UNSURE_ASKED}an ASE calculator has no variances to stop by; a potential of gap has"


def lack_of_variances(potential: Potential) -> str | None:
    """Return why relaxations with a potential cannot stop where it is unsure, or None."""
    family = potential.family
    return None if family.VARIANCES else f"{UNSURE_ASKED}a potential of the family {family.NAME} has no variances to stop by"


def check_potential(potential: Potential | None, _: Any) -> str | None:
    """Refuse a potential whose files are not those that were imported or fitted, or must not be used."""
    try:
        if potential is not None:
            potential.check()
    except PotentialError as exception:
        return str(exception)
    return None


def validate_potential(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse a potential that the code cannot read, and frames with elements that the potential does not know."""
    if "potential" in inputs and "code" in inputs:
        code, node = inputs["code"], inputs["potential"]
        if fault := node.family.fault_of_code(node.facts, code.base.extras.all, code.full_label):
            return fault
    if "potential" in inputs and "frames" in inputs:
        unknown = sorted(set(inputs["frames"].elements) - set(inputs["potential"].elements))
        if unknown:
            known = ", ".join(inputs["potential"].elements)
            return f"the potential knows {known}, but the frames contain {', '.join(unknown)}"
    return None
