"""Relax cells at a pressure each with a potential, keeping snapshots (uploaded with the job)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixSymmetry
from ase.filters import UnitCellFilter
from ase.optimize import FIRE, LBFGS
from ase.optimize.optimize import Optimizer
from ase.optimize.sciopt import OptimizerConvergenceError, SciPyFminCG
from ase.stress import voigt_6_to_full_3x3_stress
from common import CalculatorTask, GiveUp, stripped
from direct import shortest_way
from distances import Distances, shortest_distances
from status import COLLAPSED, CONVERGED, EVAPORATED, EXPLODED, MAX_STEPS, NOT_FINITE, ON_THE_WAY, STALLED, TIME_LIMIT, UNSURE

#: Of the positions and cells that are handed back, Å.
DECIMALS = 6

#: Of what passes between optimiser and cell filter: positions and log deformations (Å), forces (eV/Å), energies (eV).
POSITION_DECIMALS, FORCE_DECIMALS, ENERGY_DECIMALS = 9, 7, 9

#: Å³; no frame of a dataset has a smaller cell.
FLAT = 1e-3

#: Å, of the symmetry that is kept; random cells have theirs to 1e-8.
SYMMETRY_TOLERANCE = 1e-4

#: Returns energy (eV), forces (eV/Å) and stress (eV/Å³, six components) of atoms.
Evaluation = Callable[[Atoms], tuple[float, np.ndarray, np.ndarray]]

#: Steps from one look at the neighbours to the next: atoms do not leave in a step.
NEIGHBOURS_EVERY = 10


class LogCellFilter(UnitCellFilter):
    """Positions and cell for an optimiser: z, and below it the number of atoms times U, where F = exp(U) deforms the first cell.

    Atoms are at F z. As ASE's ``FrechetCellFilter``, without the rotations: U is symmetric, and so all follows from its
    eigenvalues λ, at a hundredth of the cost of matrix functions. Where the derivative of the enthalpy by F is -V F⁻ᵀ with the
    virial V (ASE's ``UnitCellFilter``), that by U in its eigenvectors is -V_ij sinh(λ_i - λ_j)/(λ_i - λ_j), by the formula of
    Daleckii and Krein (N. J. Higham, Functions of Matrices, SIAM 2008, theorem 3.11).

    What passes is rounded: from one process to the next the same GAP gives the same forces only to about 1e-15 eV/Å, and a long
    relaxation now and then makes another minimum of that. Far above the noise and far below ``fmax``, the numbers that steer are
    the same.
    """

    def __init__(self, atoms: Atoms, scalar_pressure: float, fixed: bool = False, evaluate: Evaluation | None = None) -> None:
        """:param fixed: the cell stays as it is; :param evaluate: another way to energy, forces and stress than the atoms'."""
        super().__init__(atoms, cell_factor=1.0, scalar_pressure=scalar_pressure)
        self.fixed = fixed
        self.evaluate = evaluate
        self.found: tuple[float, np.ndarray, np.ndarray] | None = None  # of the atoms where they are
        self.forces: np.ndarray | None = None  # optimisers ask for them three times a step

    def get_positions(self) -> np.ndarray:
        out = super().get_positions()
        stretches, axes = np.linalg.eigh((out[-3:] + out[-3:].T) / 2)
        out[-3:] = len(self.atoms) * (axes * np.log(stretches)) @ axes.T
        return np.round(out, POSITION_DECIMALS)

    def set_positions(self, new: np.ndarray, **kwargs: Any) -> None:  # type: ignore[override]  # as its parent
        self.found = self.forces = None
        new = np.round(new, POSITION_DECIMALS)
        logs, axes = np.linalg.eigh((new[-3:] + new[-3:].T) / (2 * len(self.atoms)))
        new[-3:] = (axes * np.exp(logs)) @ axes.T
        super().set_positions(new, **kwargs)

    def get_forces(self, **kwargs: Any) -> np.ndarray:
        if self.forces is None:
            stress, forces = self._stress_and_forces()
            stress += self.scalar_pressure * np.eye(3)
            deformation = self.deform_grad()
            stretches, axes = np.linalg.eigh((deformation + deformation.T) / 2)
            differences = np.subtract.outer(np.log(stretches), np.log(stretches))
            factors = np.sinc(1j * differences / np.pi).real  # sinh(x)/x
            virial = -self.atoms.get_volume() * axes.T @ stress @ axes
            cell = axes @ (virial * factors) @ axes.T / len(self.atoms) * (not self.fixed)
            forces = np.round(np.vstack([forces @ deformation, cell]), FORCE_DECIMALS)
            if not np.isfinite(forces).all():
                raise GiveUp(NOT_FINITE)
            self.forces = forces
        return self.forces.copy()

    def get_potential_energy(self, force_consistent: bool = True, **kwargs: Any) -> float:
        if self.evaluate:
            energy = self._evaluated(self.evaluate)[0] + self.scalar_pressure * self.atoms.get_volume()
        else:
            energy = super().get_potential_energy(force_consistent)
        return float(round(energy, ENERGY_DECIMALS))

    def _stress_and_forces(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the stress of the potential, eV/Å³, shape ``(3, 3)``, and the forces of the atoms, eV/Å."""
        if self.evaluate:
            _, forces, stress = self._evaluated(self.evaluate)
            return voigt_6_to_full_3x3_stress(stress), forces
        return self.atoms.get_stress(voigt=False), self.atoms.get_forces()

    def _evaluated(self, evaluate: Evaluation) -> tuple[float, np.ndarray, np.ndarray]:
        if self.found is None:
            self.found = evaluate(self.atoms)
        return self.found


class ConjugateGradients(SciPyFminCG):
    """SciPy's conjugate gradients (Polak-Ribiere), safe from what lies beyond a line search.

    A step is a line search, of some energies and forces. Its trials may go anywhere: one that ``check`` refuses counts as uphill
    and is not calculated, so that the search turns back; when it keeps running there, the cell is given up. Steps are reported,
    and the relaxation ends, at the point that the search accepts, where SciPy leaves the atoms at the last trial.
    """

    #: Refused trials of one line search before the cell is given up; each shortens the step to about a third.
    REFUSED = 6

    def __init__(self, atoms: LogCellFilter, check: Callable[[], None], deadline: float, **kwargs: Any) -> None:
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
            raise GiveUp(TIME_LIMIT)
        try:
            self.optimizable.set_x(x)
            self.check()
            value = float(self.optimizable.get_value()) / self.H0
            if not math.isfinite(value):
                raise GiveUp(NOT_FINITE)
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
                    raise GiveUp(STALLED)
                self.accept(self.accepted)
        except GiveUp:
            self.optimizable.set_x(self.accepted)
            raise


def is_kept(step: int, wanted: Any) -> bool:
    """Tell whether this step is wanted besides the last one."""
    if isinstance(wanted, dict):
        return bool(step % wanted["every"] == 0)
    return wanted == "all" or step in wanted


class Relax(CalculatorTask):
    """Relaxation of one cell; ``settings`` as in ``RelaxSettings``."""

    def setup(self, settings: dict[str, Any]) -> None:
        """Make the calculator."""
        super().setup(settings)
        if settings["symmetry"] == "kept":
            import spglib  # noqa: F401  a machine without it says so at once

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        work = stripped(atoms)
        work.info = {}
        work.calc = self.calculator
        settings = self.settings_of(atoms)
        volume = work.get_volume() / len(work)
        pressure = float(atoms.info.get("pressure_GPa", 0.0)) * units.GPa
        snapshots: list[Atoms] = []
        step = -1
        self.distances = Distances(shortest_distances(settings["min_distance"]), settings["max_neighbour_distance"])
        factors = settings["volume_factors"]
        try:  # before the first energy: a neighbour list of a collapsed cell can exhaust the memory
            self.check(work, volume, factors)
            self.check_neighbours(work)
        except GiveUp as reason:
            return str(reason), []
        if settings["symmetry"] == "kept":
            work.set_constraint(FixSymmetry(work, symprec=SYMMETRY_TOLERANCE))

        def observe() -> None:
            nonlocal step
            step += 1
            self.check(work, volume, factors)
            if step % NEIGHBOURS_EVERY == 0:
                self.check_neighbours(work)
            if step and step % settings.get("unsure_every", 1) == 0:
                self.check_sure(work, settings.get("stop_where_unsure"))
            if is_kept(step, settings["snapshot_steps"]):
                snapshots.append(self.snapshot(work, step))
            if time.time() > deadline:
                raise GiveUp(TIME_LIMIT)

        evaluate = None if work.constraints else shortest_way(self.calculator)
        filtered = LogCellFilter(work, pressure, fixed=settings["cell"] == "fixed", evaluate=evaluate)
        if settings["optimizer"] == "cg":
            optimizer: Optimizer = ConjugateGradients(filtered, lambda: self.check(work, volume, factors), deadline, logfile=None)
        else:
            optimizer = {"lbfgs": LBFGS, "fire": FIRE}[settings["optimizer"]](filtered, logfile=None)
        optimizer.attach(observe, interval=1)
        try:
            converged = optimizer.run(fmax=settings["fmax"], steps=settings["max_steps"])
            status = CONVERGED if converged else MAX_STEPS
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
            frame.info["relax_status"] = status if last else ON_THE_WAY
        return status, snapshots

    def check(self, atoms: Atoms, start_volume: float, factors: tuple[float, float]) -> None:
        """Give up a cell that a hole of the potential has collapsed or blown up."""
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise GiveUp(NOT_FINITE)
        volume = atoms.get_volume() / len(atoms)
        low, high = factors
        if volume > high * start_volume:
            raise GiveUp(EXPLODED)
        if volume < low * start_volume or self.distances.too_close(atoms):
            raise GiveUp(COLLAPSED)

    def check_neighbours(self, atoms: Atoms) -> None:
        """Give up a cell with an atom that no other is near."""
        if self.distances.alone(atoms):
            raise GiveUp(EVAPORATED)

    def check_sure(self, atoms: Atoms, most: float | None) -> None:
        """Give up a cell with an atom whose energy has a standard deviation of more than ``most``, eV."""
        if most is not None and self.variances(atoms).max() > most**2:
            raise GiveUp(UNSURE)

    def snapshot(self, atoms: Atoms, step: int) -> Atoms:
        # Rounded, so that noise in the last bits is not handed on to labels and fits, where it would grow.
        out = stripped(atoms)
        out.set_cell(np.round(atoms.cell.array, DECIMALS))
        out.positions = np.round(atoms.positions, DECIMALS)
        if not (np.isfinite(out.positions).all() and np.isfinite(out.cell.array).all()):
            raise GiveUp(NOT_FINITE)
        if out.get_volume() < FLAT:
            raise GiveUp(COLLAPSED)
        try:
            out = self.single_point(out, "PRED")
        except ArithmeticError as error:
            raise GiveUp(NOT_FINITE) from error
        out.info["step"] = step
        return out


TASK = Relax()
