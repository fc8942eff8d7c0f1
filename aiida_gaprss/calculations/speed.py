"""Measure how long a potential takes for the frames of a dataset."""

from __future__ import annotations

from aiida_gaprss.calculations.tasks import TaskCalculation
from aiida_gaprss.settings.jobs import SpeedJobSettings


class SpeedCalculation(TaskCalculation):
    """Measure the time of energy, forces and stress of all frames.

    Output frames: those that were sent with ``seconds`` and ``processor_seconds``, medians of the calls, and ``PRED_*``.
    """

    TASK = "speed"
    PARSER = "gaprss.speed"
    SETTINGS = SpeedJobSettings
