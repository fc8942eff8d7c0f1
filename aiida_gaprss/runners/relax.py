"""Relax cells at a pressure each with a GAP, keeping snapshots (uploaded with the job; needs ase and quippy)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE, LBFGS
from ase.optimize.optimize import Optimizer
from ase.optimize.sciopt import OptimizerConvergenceError, SciPyFminCG
from common import CalculatorTask, stripped

#: Of the positions and cells that are handed back, Å.
DECIMALS = 6

#: Of what passes between optimiser and cell filter: positions and log deformations (Å), forces (eV/Å), energies (eV).
POSITION_DECIMALS, FORCE_DECIMALS, ENERGY_DECIMALS = 9, 7, 9

#: Å, of the symmetry that is kept; random cells have theirs to 1e-8.
SYMMETRY_TOLERANCE = 1e-4

#: Steps from one look at the neighbours to the next: it costs as much as a cheap potential, and atoms do not leave in a step.
NEIGHBOURS_EVERY = 10


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


class ConjugateGradients(SciPyFminCG):
    """SciPy's conjugate gradients (Polak-Ribiere), safe from what lies beyond a line search.

    A step is a line search, of some energies and forces. Its trials may go anywhere: one that ``check`` refuses counts as uphill
    and is not calculated, so that the search turns back; when it keeps running there, the cell is given up. Steps are reported,
    and the relaxation ends, at the point that the search accepts, where SciPy leaves the atoms at the last trial.
    """

    #: Refused trials of one line search before the cell is given up; each shortens the step to about a third.
    REFUSED = 6

    def __init__(self, atoms: RoundedCellFilter, check: Callable[[], None], deadline: float, **kwargs: Any) -> None:
        super().__init__(atoms, **kwargs)  # type: ignore[arg-type]  # filters are what its parents are made for
        self.check = check
        self.deadline = deadline
        self.refused = 0
        self.outside: np.ndarray | None = None

    def accept(self, x: np.ndarray) -> None:
        self.optimizable.set_x(x)
        self.accepted = x.copy()
        self.value = self.optimizable.get_value() / self.H0
        self.refused = 0

    def f(self, x: np.ndarray) -> float:
        if time.time() > self.deadline:
            raise GiveUp("time_limit")
        try:
            self.optimizable.set_x(x)
            self.check()
            value = float(self.optimizable.get_value()) / self.H0
            if not math.isfinite(value):
                raise GiveUp("not_finite")
        except GiveUp:
            self.refused += 1
            if self.refused > self.REFUSED:
                raise
            self.outside = x.copy()
            return self.value
        return value

    def fprime(self, x: np.ndarray) -> np.ndarray:
        if self.outside is not None and np.array_equal(x, self.outside):
            return np.zeros_like(x)
        return super().fprime(x)

    def callback(self, x: np.ndarray) -> None:
        self.accept(x)
        super().callback(x)

    def call_fmin(self, fmax: float, steps: int) -> None:
        self.accept(self.x0())
        if self.gradient_converged(self.optimizable.get_gradient()):
            return
        last = self.nsteps + steps
        try:
            while self.nsteps < last:
                before = self.nsteps
                with suppress(OptimizerConvergenceError):  # no lower point along the line: once more, down the gradient
                    super().call_fmin(fmax, last - self.nsteps)
                if self.nsteps == before:
                    raise GiveUp("stalled")
                self.accept(self.accepted)
        except GiveUp:
            self.optimizable.set_x(self.accepted)
            raise


class Relax(CalculatorTask):
    """Relaxation of one cell; ``settings`` as in ``RelaxSettings``."""

    def setup(self, settings: dict[str, Any]) -> None:
        """Make the calculator."""
        super().setup(settings)
        shortest = settings["min_distance"]
        if isinstance(shortest, dict):
            shortest = {tuple(pair.split("-")): distance for pair, distance in shortest.items()}
        self.shortest: float | dict[Any, float] = shortest
        if settings["symmetry"] == "kept":
            import spglib  # noqa: F401  a machine without it says so at once

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        work = stripped(atoms)
        work.info = {}
        work.calc = self.calculator
        volume = work.get_volume() / len(work)
        pressure = float(atoms.info.get("pressure_GPa", 0.0)) * units.GPa
        snapshots: list[Atoms] = []
        step = -1
        np.random.seed(int(atoms.info.get("seed", 0)) % 2**32)  # SciPy draws from it, whatever the worker did before
        try:  # before the first energy: a neighbour list of a collapsed cell can exhaust the memory
            self.check(work, volume)
            self.check_neighbours(work)
        except GiveUp as reason:
            return str(reason), []
        if self.settings["symmetry"] == "kept":
            work.set_constraint(FixSymmetry(work, symprec=SYMMETRY_TOLERANCE))

        def observe() -> None:
            nonlocal step
            step += 1
            self.check(work, volume)
            if step % NEIGHBOURS_EVERY == 0:
                self.check_neighbours(work)
            if self.is_kept(step):
                snapshots.append(self.snapshot(work, step))
            if time.time() > deadline:
                raise GiveUp("time_limit")

        filtered = RoundedCellFilter(work, scalar_pressure=pressure)
        if self.settings["optimizer"] == "cg":
            optimizer: Optimizer = ConjugateGradients(filtered, lambda: self.check(work, volume), deadline, logfile=None)
        else:
            optimizer = {"lbfgs": LBFGS, "fire": FIRE}[self.settings["optimizer"]](filtered, logfile=None)
        optimizer.attach(observe, interval=1)
        try:
            converged = optimizer.run(fmax=self.settings["fmax"], steps=self.settings["max_steps"])
            status = "converged" if converged else "max_steps"
            self.check_neighbours(work)
        except GiveUp as reason:
            status = str(reason)
        if not snapshots or snapshots[-1].info["step"] != step:
            try:
                snapshots.append(self.snapshot(work, step))
            except GiveUp as reason:
                status = str(reason)
        for frame in snapshots:
            last = frame.info["step"] == step
            frame.info["relax_status"] = status if last else "on_the_way"
        return status, snapshots

    def is_kept(self, step: int) -> bool:
        """Tell whether this step is wanted besides the last one."""
        wanted = self.settings["snapshot_steps"]
        if isinstance(wanted, dict):
            return bool(step % wanted["every"] == 0)
        return wanted == "all" or step in wanted

    def check(self, atoms: Atoms, start_volume: float) -> None:
        """Give up a cell that a hole of the potential has collapsed or blown up."""
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise GiveUp("not_finite")
        volume = atoms.get_volume() / len(atoms)
        low, high = self.settings["volume_factors"]
        if volume > high * start_volume:
            raise GiveUp("exploded")
        if volume < low * start_volume or (self.shortest and len(neighbor_list("i", atoms, self.shortest)) > 0):
            raise GiveUp("collapsed")

    def check_neighbours(self, atoms: Atoms) -> None:
        """Give up a cell with an atom that no other is near."""
        reach = self.settings["max_neighbour_distance"]
        # A sphere of half the reach around an atom that is alone is free of others, and of its own images.
        if reach and atoms.get_volume() > np.pi / 6 * reach**3:
            together = np.unique(neighbor_list("i", atoms, reach))
            if len(together) < len(atoms):
                raise GiveUp("evaporated")

    def snapshot(self, atoms: Atoms, step: int) -> Atoms:
        # Rounded, so that noise in the last bits is not handed on to labels and fits, where it would grow.
        out = stripped(atoms)
        out.set_cell(np.round(atoms.cell.array, DECIMALS))
        out.positions = np.round(atoms.positions, DECIMALS)
        if not (np.isfinite(out.positions).all() and np.isfinite(out.cell.array).all()):
            raise GiveUp("not_finite")
        try:
            out = self.single_point(out, "GAP")
        except ArithmeticError as error:
            raise GiveUp("not_finite") from error
        out.info["step"] = step
        return out


TASK = Relax()
