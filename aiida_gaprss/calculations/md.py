"""Molecular dynamics of many cells with a potential."""

from __future__ import annotations

from aiida_gaprss.calculations.tasks import TaskCalculation
from aiida_gaprss.settings.jobs import MdJobSettings


class MdCalculation(TaskCalculation):
    """Run a trajectory of each cell of a dataset with a potential, keeping snapshots.

    Output frames: for every cell the snapshots, with ``parent``, ``step``, ``time_ps``, ``temperature_K``, ``md_status`` and the
    potential's energy, forces and virial (``PRED_*``). A trajectory that the end of the job cuts off begins anew in the next one.
    """

    TASK = "md"
    PARSER = "gaprss.md"
    NAMED_BY = "parent"
    SETTINGS = MdJobSettings
