"""Make random cells with buildcell of AIRSS, many in one job."""

from __future__ import annotations

import shlex
from typing import Any

from aiida.engine import CalcJobProcessSpec
from aiida.orm import AbstractCode, Int, Str
from ase import Atoms

from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.io.extxyz import extxyz_text
from aiida_gaprss.settings.jobs import BuildcellSettings
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.structures.building import child_seeds


class BuildcellCalculation(FramesCalculation):
    """Run buildcell on one seed ``n`` times, each with its own ``#SEED`` and time limit.

    ``code`` is a python with ase on the same computer as ``buildcell``. Output frames are as those of the built-in generator;
    cells that failed are counted in ``summary`` with their reasons, and left out.
    """

    TASK = "buildcell"
    PARSER = "gaprss.buildcell"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Replace the frames by what they are made from."""
        super().define(spec)
        del spec.inputs["frames"]
        spec.input("buildcell", valid_type=AbstractCode, help="buildcell of AIRSS, on the computer of the python.")
        spec.inputs["settings"].required = True
        spec.inputs["settings"].validator = model_validator_for(BuildcellSettings)
        spec.input("n", valid_type=Int, help="Number of cells.", validator=_positive)
        spec.input("seed", valid_type=Int, help="Seed from which those of the cells are drawn.", validator=_not_negative)
        spec.input("name", valid_type=Str, help="What the frame ids begin with.")
        spec.input("generation", valid_type=Int, required=False, help="Generation of the search; default: 0.")

    def task_settings(self) -> dict[str, Any]:
        """Return seed, time limit and command."""
        code = self.inputs.buildcell
        command = f"exec {shlex.quote(str(code.get_executable()))}"
        prepend = code.prepend_text.strip()
        settings = BuildcellSettings(**self.inputs.settings.get_dict()).model_dump()
        return {**settings, "command": f"{prepend}\n{command}" if prepend else command}

    def input_frames(self) -> str:
        """Return names and seeds of the cells that are to be made."""
        return extxyz_text(to_be_made(self.inputs))


def to_be_made(inputs: Any) -> list[Atoms]:
    """Return a frame for every cell with its name, seed and generation, but one atom that only keeps the place."""
    generation = inputs.generation.value if "generation" in inputs else 0
    out = []
    for number, seed in enumerate(child_seeds(inputs.seed.value, inputs.n.value)):
        atoms = Atoms("X", cell=[1.0] * 3, pbc=True)
        atoms.info.update(frame_id=f"{inputs.name.value}-{number:04d}", seed=seed, generation=generation)
        out.append(atoms)
    return out


def _positive(node: Int | None, _: Any) -> str | None:
    return f"n is {node.value}, expected a number above 0" if node is not None and node.value < 1 else None


def _not_negative(node: Int | None, _: Any) -> str | None:
    return f"seed is {node.value}, expected a number from 0 up" if node is not None and node.value < 0 else None
