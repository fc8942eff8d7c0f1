"""Find the paths of many hops with a potential or an ASE calculator."""

from __future__ import annotations

from aiida_gaprss.calculations.tasks import TaskCalculation
from aiida_gaprss.settings.jobs import NebJobSettings


class NebCalculation(TaskCalculation):
    """Relax the frames of a dataset and the paths on which one atom of each hops, with a potential.

    Output frames: for every hop the images in their order, with ``parent``, ``step`` (the number of the image, from 0),
    ``relax_status`` and the potential's energy, forces and virial (``PRED_*``); for a frame without a hop the relaxed frame.
    """

    TASK = "neb"
    PARSER = "gaprss.neb"
    NAMED_BY = "parent"
    SETTINGS = NebJobSettings
