"""How long energy, forces and stress of a frame take with a potential, as it is used (uploaded with the job).

One thread a process, as in all jobs; the other frames of the job run beside it on the other cores.
"""

from __future__ import annotations

import time

import numpy as np
from ase import Atoms
from common import CalculatorTask, stripped
from status import STOPPED


class Speed(CalculatorTask):
    """Repeated calls with atoms that are displaced anew each time; ``settings`` as in ``SpeedSettings``."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        settings = self.settings_of(atoms)
        rng = np.random.default_rng(settings["seed"])
        out = self.single_point(atoms, "PRED")  # also the call that warms up
        times = []
        for _ in range(settings["calls"]):
            if time.time() > deadline:
                return STOPPED, []
            work = stripped(atoms)  # as in a relaxation or a trajectory: nothing of the last call can be taken again
            work.positions += rng.normal(0, settings["displacement"], work.positions.shape)
            times.append(self.timed(work))
        wall, processor = np.median(times, axis=0)
        out.info.update(seconds=float(wall), processor_seconds=float(processor))
        return "ok", [out]

    def timed(self, atoms: Atoms) -> tuple[float, float]:
        """Return seconds, and seconds of the processor, that energy, forces and stress take."""
        started, processor = time.perf_counter(), time.process_time()
        self.properties(atoms, ["energy", "forces", "stress"])
        return time.perf_counter() - started, time.process_time() - processor


TASK = Speed()
