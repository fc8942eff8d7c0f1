"""Molecular dynamics of many cells, keeping snapshots, and what another job needs to go on (uploaded with the job)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.nptberendsen import NPTBerendsen
from ase.md.nvtberendsen import NVTBerendsen
from ase.md.verlet import VelocityVerlet
from common import CalculatorTask, GiveUp, stripped
from distances import Distances, shortest_distances
from identity import geometry
from states import Journal
from status import CALCULATOR_FAILED, COLLAPSED, EXPLODED, FINISHED, NOT_FINITE, ON_THE_WAY, TIME_LIMIT

#: Of positions and cells, Å: what a file of frames holds, in which they come and go.
DECIMALS = 8

#: Of what steers: forces (eV/Å) and stress (eV/Å³).
FORCE_DECIMALS, STRESS_DECIMALS = 6, 9

#: K above a multiple of the highest temperature wanted, from which a potential is said to explode: a cell that is not
#: relaxed warms up, which is much only where nearly no temperature was asked for.
MARGIN = 300.0

#: Characters at most of what a calculator has raised.
LONGEST_WORDS = 200

#: Steps at most from one scaling of the cell by Berendsen's barostat to the next.
BAROSTAT_EVERY = 10

#: Of ASE's integrator of Martyna, Tobias and Klein: where it is, and the variables of its thermostat and barostat.
MTK = (
    *("_q", "_p", "_eps", "_p_eps", "_volume0", "_cell0"),
    *("_thermostat._eta", "_thermostat._p_eta", "_barostat._xi", "_barostat._p_xi"),
)


class Watch:
    """Ends a trajectory in which something happens that only a fault of the potential can bring about."""

    def __init__(self, start: Atoms, settings: dict[str, Any]) -> None:
        """:param start: the cell with which the trajectory begins."""
        self.volume = start.get_volume()
        self.factors = settings["volume_factors"]
        self.distances = Distances(shortest_distances(settings["min_distance"]), 0.0)
        self.hottest = settings["max_temperature_factor"] * max(highest(part) for part in settings["program"]) + MARGIN
        self.most = settings["max_energy_change"] * len(start)
        self.energy: float | None = None

    def geometry(self, atoms: Atoms) -> None:
        """Look at a cell before it is calculated: a neighbour list of a collapsed one can exhaust the memory."""
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise GiveUp(NOT_FINITE)
        ratio = atoms.get_volume() / self.volume
        if ratio > self.factors[1]:
            raise GiveUp(EXPLODED)
        if ratio < self.factors[0] or self.distances.too_close(atoms):
            raise GiveUp(COLLAPSED)

    def energies(self, atoms: Atoms) -> None:
        """Look at temperature and potential energy after a step."""
        energy = float(atoms.get_potential_energy())
        self.energy = energy if self.energy is None else self.energy
        if temperature(atoms) > self.hottest or abs(energy - self.energy) > self.most:
            raise GiveUp(EXPLODED)


class CalculatorError(Exception):
    """What a calculator raised, of whatever kind."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error

    def words(self) -> str:
        """Return it as one short line of plain characters."""
        text = f"{type(self.error).__name__}: {self.error}"
        return " ".join(re.sub(r"[^\w .,:;()/=+-]", " ", text, flags=re.ASCII).split())[:LONGEST_WORDS]


class Steering(Calculator):
    """A calculator whose forces are rounded: they steer the trajectory.

    From one process to the next the same GAP gives the same forces only to about 1e-15 eV/Å, and a trajectory makes another one
    of that within some ps. Rounded far above the noise, and far below the error of the integrator, they are the same, and so is
    the trajectory.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012  as its parent

    def __init__(self, task: CalculatorTask, watch: Watch) -> None:
        super().__init__()
        self.task, self.watch = task, watch
        self.with_stress = "stress" in task.calculator.implemented_properties
        self.labelled: Atoms  # what was calculated last, unrounded

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """Return what has changed since the last calculation: positions or cell; ASE's own asks much more, four times a step."""
        known: Any = self.atoms
        same = known is not None and np.array_equal(known.positions, atoms.positions)
        return [] if same and np.array_equal(known.cell.array, atoms.cell.array) else all_changes

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: list[str] = all_changes
    ) -> None:
        """Calculate a cell.

        :raises GiveUp: if it has left the range in which that makes sense.
        :raises CalculatorError: with what the calculator raised.
        """
        super().calculate(atoms, properties, system_changes)
        assert atoms is not None
        self.watch.geometry(atoms)
        try:
            self.labelled = self.task.single_point(atoms, "PRED", self.with_stress)
        except ArithmeticError as error:
            raise GiveUp(NOT_FINITE) from error
        except MemoryError:
            raise
        except Exception as error:
            raise CalculatorError(error) from error
        energy, forces = self.labelled.info["PRED_energy"], self.labelled.arrays["PRED_forces"]
        self.results = {"energy": energy, "free_energy": energy, "forces": np.round(forces, FORCE_DECIMALS)}
        if self.with_stress:
            stress = -self.labelled.info["PRED_virial"][[0, 4, 8, 5, 2, 1]] / atoms.get_volume()
            self.results["stress"] = np.round(stress, STRESS_DECIMALS)


class SparingBerendsen(NPTBerendsen):
    """ASE's, with the cell scaled every few steps by as much as in so many: each time the forces must be calculated anew."""

    def __init__(self, atoms: Atoms, timestep: float, *, taup: float, **given: Any) -> None:
        self.every = int(np.clip(taup / timestep / 20, 1, BAROSTAT_EVERY))
        super().__init__(atoms, timestep, taup=taup / self.every, **given)

    def scale_positions_and_cell(self) -> None:
        if self.nsteps % self.every == 0:
            super().scale_positions_and_cell()


class Trajectory:
    """A cell on its way: what steers and watches it, where it is, and the snapshots so far."""

    def __init__(self, task: CalculatorTask, atoms: Atoms, settings: dict[str, Any]) -> None:
        self.settings = settings
        # Frames with the same settings have random numbers of their own.
        self.rng = np.random.default_rng([settings["seed"], int(geometry(atoms), 16)])
        self.work = started(atoms, settings["program"][0]["start_K"], self.rng)
        self.watch = Watch(self.work, settings)
        self.work.calc = Steering(task, self.watch)
        self.journal = Journal(atoms, settings)
        self.step = 0
        self.dynamics: Any = None
        self.snapshots: list[Atoms] = []
        self.failure = ""

    def go(self, deadline: float) -> str:
        """Go to the end, from where an earlier job has come; return how it ended."""
        try:
            state = self._begin()
            saved = time.time()
            for dynamics in moves(self.work, self.settings, self.rng, self.step, state):
                self._advance(dynamics)
                if (now := time.time()) > deadline:
                    self.journal.save(self.state())
                    raise GiveUp(TIME_LIMIT)
                if now - saved >= self.settings["state_every_s"]:
                    self.journal.save(self.state())
                    saved = now
        except GiveUp as reason:
            return str(reason)
        except CalculatorError as fault:
            if not self.snapshots:  # it has never given anything
                raise fault.error from fault
            self.failure = fault.words()
            return CALCULATOR_FAILED
        return FINISHED

    def _begin(self) -> dict[str, Any]:
        """Return the state of the integrator with which the trajectory goes on, empty at its beginning."""
        state, self.snapshots = self.journal.load()
        if state is None:
            self.keep()
            self.watch.energies(self.work)
            return {}
        self.step, self.watch.energy = state["step"], state["energy"]
        self.rng.bit_generator.state = state["rng"]
        self.work.set_cell(state["cell"])
        self.work.positions = state["positions"]
        self.work.arrays["momenta"][:] = state["momenta"]
        return dict(state["integrator"])

    def _advance(self, dynamics: Any) -> None:
        self.dynamics = dynamics
        self.step += 1
        dynamics.run(1)
        self.watch.energies(self.work)
        if self.step % self.settings["snapshot_every"] == 0:
            self.keep()

    def state(self) -> dict[str, Any]:
        """Return all that the rest of the trajectory depends on, in numbers and words that JSON has."""
        work = self.work
        arrays = {"positions": work.positions, "momenta": work.arrays["momenta"], "cell": work.cell.array}
        numbers = {"step": self.step, "energy": self.watch.energy, "rng": self.rng.bit_generator.state}
        return {
            **numbers,
            **{key: array.tolist() for key, array in arrays.items()},
            "integrator": integrator_state(self.dynamics),
        }

    def keep(self) -> None:
        """Add a snapshot, here and in what is kept for another job."""
        self.snapshots.append(self.snapshot())
        self.journal.add(self.snapshots[-1])

    def snapshot(self) -> Atoms:
        """Return the cell as it is: positions not folded back, so that it shows how far atoms have come."""
        self.work.get_forces()
        out: Atoms = self.work.calc.labelled.copy()
        out.info["step"] = self.step
        out.info["time_ps"] = round(self.step * self.settings["timestep_fs"] / 1000, 9)
        out.info["temperature_K"] = round(temperature(self.work), 6)
        return out


class Md(CalculatorTask):
    """Molecular dynamics of one cell; ``settings`` as in ``MdSettings``."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        """Return how the trajectory ended, and its snapshots.

        :raises ValueError: for a single atom.
        """
        if len(atoms) < 2:
            raise ValueError("a single atom does not move: its centre of mass stays where it is")
        way = Trajectory(self, atoms, self.settings_of(atoms))
        status = way.go(deadline)
        snapshots = way.snapshots
        if status in (FINISHED, TIME_LIMIT) and snapshots[-1].info["step"] != way.step:
            snapshots.append(way.snapshot())
        for frame in snapshots:
            frame.info["md_status"] = ON_THE_WAY
        for frame in snapshots[-1:]:
            frame.info.update(md_status=status, md_end_step=way.step, **({"md_failure": way.failure} if way.failure else {}))
        return status, snapshots


def started(atoms: Atoms, kelvin: float, rng: np.random.Generator) -> Atoms:
    """Return a copy whose momenta are drawn from the distribution of Maxwell and Boltzmann, with its centre of mass at rest."""
    work = stripped(atoms)
    work.info = {}
    work.positions = np.round(work.positions, DECIMALS)
    spread = np.sqrt(work.get_masses() * units.kB * kelvin)
    work.set_constraint(FixCom())
    work.set_momenta(rng.standard_normal((len(work), 3)) * spread[:, np.newaxis])
    return work


def temperature(atoms: Atoms) -> float:
    """Return the temperature (K) of atoms whose centre of mass is at rest."""
    return float(2 * atoms.get_kinetic_energy() / (3 * (len(atoms) - 1) * units.kB))


def highest(segment: dict[str, Any]) -> float:
    """Return the highest temperature of a segment, K."""
    return float(max(segment["start_K"], segment["end_K"] or 0.0))


def moves(work: Atoms, settings: dict[str, Any], rng: np.random.Generator, done: int, state: dict[str, Any]) -> Iterator[Any]:
    """Yield for each step what makes it, with the temperature that it is to have in the end.

    :param done: so many steps have been made, and ``state`` is that of the integrator after the last of them.
    """
    for segment in settings["program"]:
        start, end = segment["start_K"], segment["end_K"] or segment["start_K"]
        steps = max(1, round(1000 * segment["ps"] / settings["timestep_fs"]))
        made, done = min(done, steps), max(done - steps, 0)
        if made == steps:
            continue
        dynamics: Any = integrator(work, segment["ensemble"] or settings["ensemble"], start, settings, rng)
        if made:
            take_up(dynamics, state)
        for number in range(made + 1, steps + 1):
            if end != start:
                dynamics.set_temperature(temperature_K=start + (end - start) * number / steps)
            yield dynamics


def integrator_state(dynamics: Any) -> dict[str, Any]:
    """Return what an integrator knows besides its atoms and its settings."""
    state: dict[str, Any] = {"nsteps": dynamics.nsteps}
    for path in MTK if isinstance(dynamics, IsotropicMTKNPT) else ():
        state[path] = np.asarray(attrgetter(path)(dynamics)).tolist()
    return state


def take_up(dynamics: Any, state: dict[str, Any]) -> None:
    """Let an integrator go on with the state of another one."""
    for path, value in state.items():
        owner, _, name = path.rpartition(".")
        setattr(attrgetter(owner)(dynamics) if owner else dynamics, name, np.array(value) if isinstance(value, list) else value)


def integrator(
    work: Atoms, ensemble: str, kelvin: float, settings: dict[str, Any], rng: np.random.Generator
) -> MolecularDynamics:
    """Return ASE's dynamics of an ensemble.

    :raises ValueError: if a cell is to follow the pressure, and the calculator gives no stress.
    """
    if ensemble.startswith("npt") and not work.calc.with_stress:
        raise ValueError(f"{ensemble} needs the stress, which the calculator does not give")
    given: dict[str, Any] = {"atoms": work, "timestep": settings["timestep_fs"] * units.fs}
    ps, pressure = 1000 * units.fs, settings["pressure_GPa"] * units.GPa
    # What moves is 3N - 3 coordinates. ASE's MTK takes no constraint, and has 3N at a temperature that is so much lower.
    work.set_constraint(() if ensemble == "npt_mtk" else FixCom())
    if ensemble == "nve":
        return VelocityVerlet(**given)
    if ensemble == "npt_mtk":
        given |= {"pressure_au": pressure, "tdamp": settings["thermostat_ps"] * ps, "pdamp": settings["barostat_ps"] * ps}
        return IsotropicMTKNPT(temperature_K=kelvin * (1 - 1 / len(work)), **given)
    given |= {"temperature_K": kelvin, "fixcm": False}
    if ensemble == "nvt_langevin":
        return Langevin(friction=settings["friction_per_ps"] / ps, rng=rng, **given)
    given["taut"] = settings["thermostat_ps"] * ps
    if ensemble == "nvt_berendsen":
        return NVTBerendsen(**given)
    compressibility = 1 / (settings["bulk_modulus_GPa"] * units.GPa)
    return SparingBerendsen(pressure_au=pressure, taup=settings["barostat_ps"] * ps, compressibility_au=compressibility, **given)


TASK = Md()
