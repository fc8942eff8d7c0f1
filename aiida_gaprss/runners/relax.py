"""Relax cells at a pressure each with a GAP, keeping snapshots (uploaded with the job; needs ase and quippy)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.filters import FrechetCellFilter
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE, LBFGS
from ase.optimize.sciopt import SciPyFminCG
from common import CalculatorTask, stripped

#: Of the positions and cells that are handed back, Å.
DECIMALS = 6

#: Of what passes between optimiser and cell filter: positions and log deformations (Å), forces (eV/Å), energies (eV).
POSITION_DECIMALS, FORCE_DECIMALS, ENERGY_DECIMALS = 9, 7, 9

OPTIMIZERS = {"lbfgs": LBFGS, "fire": FIRE, "cg": SciPyFminCG}


class GiveUp(Exception):
    """The relaxation has left the range in which it makes sense, or its time is over."""


class RoundedCellFilter(FrechetCellFilter):
    """A cell filter that swallows the noise in the last bits.

    From one process to the next the same GAP gives the same forces only to about 1e-15 eV/Å, and SciPy's matrix exponential,
    which moves the cell, estimates norms with numpy's global random numbers. A long relaxation now and then makes another minimum
    of that. Rounded far above the noise and far below ``fmax``, the numbers that steer are the same.
    """

    def get_positions(self) -> np.ndarray:
        return np.round(super().get_positions(), POSITION_DECIMALS)

    def set_positions(self, new: np.ndarray, **kwargs: Any) -> None:  # type: ignore[override]  # as its parent
        super().set_positions(np.round(new, POSITION_DECIMALS), **kwargs)

    def get_forces(self, **kwargs: Any) -> np.ndarray:
        return np.round(super().get_forces(**kwargs), FORCE_DECIMALS)

    def get_potential_energy(self, force_consistent: bool = True, **kwargs: Any) -> float:
        return float(round(super().get_potential_energy(force_consistent), ENERGY_DECIMALS))


class Relax(CalculatorTask):
    """Relaxation of one cell; ``settings`` as in ``RelaxSettings``."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        work = stripped(atoms)
        work.info = {}
        work.calc = self.calculator
        volume = work.get_volume() / len(work)
        pressure = float(atoms.info.get("pressure_GPa", 0.0)) * units.GPa
        snapshots: list[Atoms] = []
        kept = set(self.settings["snapshot_steps"])
        step = -1
        try:  # before the first energy: a neighbour list of a collapsed cell can exhaust the memory
            self.check(work, volume)
        except GiveUp as reason:
            return str(reason), []

        def observe() -> None:
            nonlocal step
            step += 1
            if step in kept:
                snapshots.append(self.snapshot(work, step))
            self.check(work, volume)
            if time.time() > deadline:
                raise GiveUp("time_limit")

        optimizer = OPTIMIZERS[self.settings["optimizer"]](RoundedCellFilter(work, scalar_pressure=pressure), logfile=None)
        optimizer.attach(observe, interval=1)
        try:
            converged = optimizer.run(fmax=self.settings["fmax"], steps=self.settings["max_steps"])
            status = "converged" if converged else "max_steps"
        except GiveUp as reason:
            status = str(reason)
        if not snapshots or snapshots[-1].info["step"] != step:
            try:
                snapshots.append(self.snapshot(work, step))
            except ArithmeticError:
                status = "not_finite"
        for frame in snapshots:
            last = frame.info["step"] == step
            frame.info["relax_status"] = status if last else "on_the_way"
        return status, snapshots

    def check(self, atoms: Atoms, start_volume: float) -> None:
        """Give up a cell that a hole of the potential has collapsed, or that has evaporated."""
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise GiveUp("not_finite")
        volume = atoms.get_volume() / len(atoms)
        low, high = self.settings["volume_factors"]
        if volume > high * start_volume:
            raise GiveUp("exploded")
        shortest = self.settings["min_distance"]
        if volume < low * start_volume or (shortest > 0 and len(neighbor_list("i", atoms, shortest)) > 0):
            raise GiveUp("collapsed")

    def snapshot(self, atoms: Atoms, step: int) -> Atoms:
        # Rounded, so that noise in the last bits is not handed on to labels and fits, where it would grow.
        out = stripped(atoms)
        out.set_cell(np.round(atoms.cell.array, DECIMALS))
        out.positions = np.round(atoms.positions, DECIMALS)
        out = self.single_point(out, "GAP")
        out.info["step"] = step
        return out


TASK = Relax()
