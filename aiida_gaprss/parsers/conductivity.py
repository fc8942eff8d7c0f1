"""Parser of gaprss.conductivity."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import Dict

from aiida_gaprss.calculations.common import named
from aiida_gaprss.calculations.conductivity import complete
from aiida_gaprss.outside import shown
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import DamageError, number, read_object
from aiida_gaprss.runners.conductivity import RESULTS

#: What the results repeat of the settings.
REPEATED = ("method", "mesh", "zone", "temperatures_K")


class ConductivityParser(FramesParser):
    """Take the results, if they are whole and of these settings."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Store the results."""
        files = self.retrieved.base.repository
        try:
            found = read_object(files.get_object_content(RESULTS, "rb"))
            if "failure" in found:
                return self.exit_codes.ERROR_FAILED.format(message=shown(found["failure"], most=500))
            check(found, complete(self.node.inputs.settings.get_dict()))
        except FileNotFoundError:
            return self.exit_codes.ERROR_NO_RESULTS.format(message=self.last_words())
        except DamageError as fault:
            return self.exit_codes.ERROR_DAMAGED.format(message=f"{RESULTS}: {fault}")
        frames = self.node.inputs.frames.get_frames()
        self.out("results", named(Dict(found), f"thermal conductivity of {frames[0].symbols}", frames, self.node))
        return None


def check(found: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse results that are not whole, or of other settings.

    :raises DamageError: naming key, value, and what was expected.
    """
    for key in REPEATED:
        if found.get(key) != settings[key]:
            raise DamageError(f"{key} is {shown(found.get(key))}, expected {shown(settings[key])}")
    temperatures = len(settings["temperatures_K"])
    shapes: dict[str, tuple[int, ...]] = {"kappa_W/mK": (temperatures,), "kappa_tensor_W/mK": (temperatures, 6)}
    if settings["method"] == "lbte":
        shapes["kappa_rta_W/mK"] = (temperatures,)
    for key, shape in shapes.items():
        if key not in found or not _is_array(found[key], shape):
            raise DamageError(f"{key} is {shown(found.get(key), most=60)}, expected numbers of shape {shape}")
    for key in ("smallest_THz", "imaginary_modes", "residual_force_eV/A"):
        number(found, key)


def _is_array(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        array = np.array(value)
    except ValueError:  # rows of different lengths
        return False
    return array.shape == shape and array.dtype.kind in "fi"
