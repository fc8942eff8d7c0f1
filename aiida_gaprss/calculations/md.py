"""Molecular dynamics of many cells."""

from __future__ import annotations

import json
from collections.abc import Iterator

from aiida.common import CalcInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJobProcessSpec
from aiida.orm import FolderData

from aiida_gaprss.calculations.tasks import TaskCalculation
from aiida_gaprss.runners.identity import SNAPSHOTS, STATE, STATES
from aiida_gaprss.settings.jobs import MdJobSettings


class MdCalculation(TaskCalculation):
    """Run a trajectory of each cell of a dataset with a potential or an ASE calculator, keeping snapshots.

    Output frames: for every cell the snapshots, with ``parent``, ``step``, ``time_ps``, ``temperature_K``, ``md_status`` and
    energy, forces and virial of what runs it (``PRED_*``). A trajectory that the end of the job cuts off leaves its state
    (``states``), with which the next job goes on; the end is the same as without the cut, to the last digit.
    """

    TASK = "md"
    PARSER = "gaprss.md"
    NAMED_BY = "parent"
    SETTINGS = MdJobSettings

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define what trajectories go on with."""
        super().define(spec)
        spec.input(
            "states", valid_type=FolderData, required=False, help="What another job has left of trajectories of the frames."
        )
        spec.output("states", valid_type=FolderData, required=False, help="What is needed to go on with what was cut off.")

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Let states travel to the job, under the numbers that their frames have there, and back."""
        info = super().prepare_for_submission(folder)
        info.retrieve_temporary_list = [*(info.retrieve_temporary_list or []), (f"{STATES}/*", ".", 2)]
        if "states" in self.inputs:
            node, there = self.inputs.states, {name: number for name, number, _ in states_in(self.inputs.states)}
            folder.get_subfolder(STATES, create=True)
            files = info.local_copy_list or []
            for index, atoms in enumerate(self.inputs.frames.get_frames()):
                if (old := there.get(atoms.info["frame_id"])) is not None:
                    files += [(node.uuid, f.format(index=old), f"{STATES}/{f.format(index=index)}") for f in (STATE, SNAPSHOTS)]
            info.local_copy_list = files
        return info


def states_in(node: FolderData) -> Iterator[tuple[str, int, int]]:
    """Yield name of the frame, number of its files, and steps that were made, of each state; what cannot be read is none."""
    for name in node.base.repository.list_object_names():
        number, _, kind = name.partition(".")
        if kind != "json":
            continue
        try:
            found = json.loads(node.base.repository.get_object_content(name, "rb"))
            yield str(found["frame"]), int(number), int(found["step"])
        except (LookupError, ValueError, TypeError):
            continue


def steps_made(node: FolderData | None) -> int:
    """Return how many steps all trajectories together have come."""
    return sum(steps for _, _, steps in states_in(node)) if node is not None else 0
