"""Make random cells with buildcell of AIRSS, one for every frame, which only says name and seed (uploaded with the job)."""

from __future__ import annotations

import ctypes
import io
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read
from common import stripped
from status import STOPPED

#: As many integers as gfortran's random numbers are seeded by.
SEED_SIZE = 8


def _die_with_the_worker() -> None:
    if sys.platform == "linux":  # a search that never ends must not outlive a killed job
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Buildcell:
    """buildcell; ``settings`` are ``command``, a shell line, ``text`` of the seed, and ``timeout_s`` for one cell."""

    settings: dict[str, Any]

    def setup(self, settings: dict[str, Any]) -> None:
        """Remember the settings."""
        self.settings = settings

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        """Run buildcell once and read the cell that it printed."""
        integers = np.random.SeedSequence(int(atoms.info["seed"])).generate_state(SEED_SIZE) >> 1
        text = f"{self.settings['text']}\n#SEED={' '.join(map(str, integers))}\n"
        left = deadline - time.time()
        limit = min(float(self.settings["timeout_s"]), max(left, 0.0))
        process = subprocess.Popen(
            ["/bin/bash", "-c", self.settings["command"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_the_worker,
            text=True,
            errors="replace",
        )
        try:
            printed, messages = process.communicate(text, timeout=limit)
        except subprocess.TimeoutExpired:
            if left <= float(self.settings["timeout_s"]):
                return STOPPED, []
            return f"failed: timeout: no cell within {limit:g} s", []
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        last = "".join(f"; its last words: {line}" for line in messages.strip().splitlines()[-1:])
        if process.returncode != 0:
            return f"failed: status: buildcell ended with status {process.returncode}{last}", []
        if not printed.strip():
            return f"failed: empty: buildcell printed nothing{last}", []
        try:
            cell = read_cell(printed)
        except Exception as exception:  # the reader raises what its parts happen to raise
            return f"failed: unreadable: {type(exception).__name__}: {exception}", []
        # What it says of the symmetry that it imposed: "Symm: P1  Nops:   1".
        match = re.search(r"Nops:\s*(\d+)", messages)
        if match:
            cell.info["n_operations"] = int(match[1])
        return "ok", [cell]


def read_cell(text: str) -> Atoms:
    """Return the atoms of a CASTEP cell file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a CASTEP that is not needed
        atoms = stripped(read(io.StringIO(text), format="castep-cell"))
    atoms.info = {}
    if not len(atoms) or not np.isfinite(atoms.positions).all() or abs(atoms.get_volume()) < 1e-3:
        raise ValueError("no atoms, no volume, or a position that is not a finite number")
    atoms.pbc = True
    return atoms


TASK = Buildcell()
