"""Relax crystals by the program of a reference, frame by frame."""

from __future__ import annotations

from typing import Any

from aiida_gaprss.reference import ASE, lack_of_relaxing
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.lanes import RelaxLaneWorkChain


def _fault(inputs: dict[str, Any]) -> str | None:
    if "bundle" in inputs:
        return "bundle: relaxations go one by one"
    if inputs.get(ASE):
        return f"{ASE}: an ASE calculator relaxes all crystals in one job, gaprss.relax"
    return lack_of_relaxing(inputs)


class RelaxCrystalsWorkChain(LabelWorkChain):
    """Relax every frame of a dataset by the program of a reference, cell and atoms at zero pressure.

    As a labelling in all else: so many at one time, retries, what it does when a lane breaks down. The frames that come out have
    what the program says of them at the end of the relaxation; one that failed is where it was, with the reason.
    """

    LANE = RelaxLaneWorkChain
    DOES, DONE = "relaxing", "relaxed"

    @classmethod
    def define(cls, spec: Any) -> None:
        """Add that the reference must be able to."""
        super().define(spec)
        if "reuse" in spec.inputs:  # labels that there are of a crystal are of another one than the relaxed
            spec.inputs["reuse"].default = False
        of_labels = spec.inputs.validator
        spec.inputs.validator = lambda inputs, ports: of_labels(inputs, ports) or _fault(inputs)
        spec.exit_code(400, "ERROR_NOTHING_LABELLED", message="No crystal could be relaxed; the first one {message}")
        spec.exit_code(
            410, "ERROR_TOO_MANY_FAILED", message="{failed} of {total} crystals could not be relaxed; the first one {message}"
        )
