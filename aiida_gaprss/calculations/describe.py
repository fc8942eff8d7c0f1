"""SOAP vectors of the frames of a dataset, by which a selection measures how unfamiliar they are."""

from __future__ import annotations

from typing import Any

from aiida.engine import CalcJobProcessSpec
from aiida.orm import ArrayData

from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.selection.settings import DescribeSettings
from aiida_gaprss.settings.model import model_validator_for


class DescribeCalculation(FramesCalculation):
    """Describe every frame by one vector: the mean of the SOAP power spectra of its atoms, element by element.

    p = ⊕_Z (1/N) Σ_{i of element Z} p_i, divided by its length, with p_i the normalised power spectrum around atom i: the
    same for cells that differ by rotation, choice of cell, or repetition. The product of two vectors is the mean of the SOAP
    kernels (ζ = 1) of all pairs of atoms of the same element, normalised.
    """

    TASK = "describe"
    PARSER = "gaprss.describe"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the settings and the vectors."""
        super().define(spec)
        spec.inputs["settings"].validator = model_validator_for(DescribeSettings)
        spec.inputs["settings"].required = True
        spec.inputs.validator = validate_elements
        del spec.outputs["frames"]
        spec.output(
            "vectors",
            valid_type=ArrayData,
            required=False,
            help="`vectors` (frames, m) in the order of the frames; rows of frames that could not be described are nan.",
        )

    def task_settings(self) -> dict[str, Any]:
        """Return the settings."""
        return DescribeSettings(**self.inputs.settings.get_dict()).model_dump()


def validate_elements(inputs: dict[str, Any], _: Any) -> str | None:
    """Refuse frames with elements that the settings do not name."""
    if "frames" in inputs and "settings" in inputs:
        named = DescribeSettings(**inputs["settings"].get_dict()).elements
        unknown = sorted(set(inputs["frames"].elements) - set(named))
        if unknown:
            return f"settings: elements are {', '.join(named)}, but the frames contain {', '.join(unknown)}"
    return None
