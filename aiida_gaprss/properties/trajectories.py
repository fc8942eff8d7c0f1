"""What snapshots of a trajectory tell: means with their errors, structure, diffusion, and how far a potential was wrong there.

Units: ps, K, GPa, Å, eV. Positions are not folded back into the cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.geometry.rdf import get_rdf
from ase.neighborlist import neighbor_list
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import Limits, Property, PropertyError, value_of
from aiida_gaprss.settings.jobs import MdSettings

#: Of all properties that are made of trajectories.
WHOLE: Mapping[str, Limits] = {
    "exploded": Limits(0, 0, "trajectories", "a potential that cannot run MD is of no use for it"),
    "unfinished": Limits(0, 0, "trajectories", "what was cut off, or did not begin, says nothing"),
}

#: Blocks of a trajectory, whose means are taken as independent.
BLOCKS = 5

#: How far a peak of g(r) stands above its surroundings, relative to the highest: less is noise.
PROMINENCE = 0.2

#: Bins over which g(r) is smoothed before its peaks are looked for.
SMOOTH = 1.5

#: Snapshots at most of which a radial distribution function is made, and its largest radius, Å.
IMAGES, FARTHEST = 50, 10.0

#: g/cm³ of one atomic mass unit in an Å³; cm²/s of an Å²/ps.
DENSITY, DIFFUSION = 1e24 / units.mol, 1e-4

NOTHING = "no snapshot came back: the potential gives no finite number for the first step, or its job has failed"


class OfTrajectories(Property):
    """A property that is made of trajectories of a supercell."""

    run: ClassVar[str] = "md"

    def faults(self, crystal: Atoms, reach: float) -> list[str]:
        """Return what is wrong, also with a supercell in which an atom is within the cutoff of its own image."""
        try:
            return reach_fault(self.plan(crystal)[0], reach)
        except PropertyError as error:
            return [str(error)]

    @staticmethod
    def task_settings(given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings of a trajectory."""
        return MdSettings(**given).model_dump()


def supercell(crystal: Atoms, length: float, repetitions: Sequence[int] | None) -> Atoms:
    """Return so many cells of a crystal, or as few as have planes at least ``length`` (Å) apart in each direction."""
    base = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
    times = repetitions or [max(1, int(np.ceil(length / width - 1e-9))) for width in widths(base)]
    return base * tuple(times)


def widths(atoms: Atoms) -> np.ndarray:
    """Return the distances between opposite faces of the cell, Å, shape (3,)."""
    return np.asarray(1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1))


def mean_and_error(values: Sequence[float] | np.ndarray) -> list[float]:
    """Return the mean of a series, and its standard error from the means of blocks (Flyvbjerg and Petersen, JCP 91, 461, 1989).

    Blocks must be longer than what the series remembers; with fewer values than two blocks need, each is one of its own.
    """
    blocks = [float(np.mean(block)) for block in np.array_split(np.asarray(values), min(BLOCKS, len(values)))]
    error = float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))) if len(blocks) > 1 else 0.0
    return [float(np.mean(values)), error]


def kinetic_energy(atoms: Atoms) -> float:
    """Return the kinetic energy (eV) of a snapshot, whose centre of mass is at rest: 3N − 3 degrees of freedom."""
    return 1.5 * (len(atoms) - 1) * units.kB * float(atoms.info["temperature_K"])


def series(snapshots: Sequence[Atoms], prefix: str) -> dict[str, list[float]]:
    """Return what changes with time, by name: one number per snapshot.

    The pressure is that of the virial W and of the motion, (2 K + tr W)/(3 V) (Allen and Tildesley, Computer Simulation of
    Liquids, 2017, section 2.4); without virials there is none.
    """
    out: dict[str, list[float]] = {
        "time_ps": [float(a.info["time_ps"]) for a in snapshots],
        "temperature_K": [float(a.info["temperature_K"]) for a in snapshots],
        "potential_energy_eV/atom": [float(value_of(a, "energy", prefix)) / len(a) for a in snapshots],
        "total_energy_eV/atom": [(float(value_of(a, "energy", prefix)) + kinetic_energy(a)) / len(a) for a in snapshots],
        "density_g/cm3": [float(a.get_masses().sum() / a.get_volume()) * DENSITY for a in snapshots],
    }
    if all(f"{prefix}_virial" in a.info for a in snapshots):
        traces = [float(np.trace(np.reshape(a.info[f"{prefix}_virial"], (3, 3)))) for a in snapshots]
        out["pressure_GPa"] = [
            (2 * kinetic_energy(a) + trace) / (3 * a.get_volume()) / units.GPa for a, trace in zip(snapshots, traces, strict=True)
        ]
    return out


def means(found: dict[str, list[float]], since: float = 0.0) -> dict[str, list[float]]:
    """Return mean and standard error of each series, from a time (ps) on."""
    used = [number for number, time in enumerate(found["time_ps"]) if time >= since - 1e-9]
    return {key: mean_and_error([values[n] for n in used]) for key, values in found.items() if key != "time_ps"}


def drift(found: dict[str, list[float]]) -> float:
    """Return the slope of the total energy, meV per atom and ps: zero in an NVE run with an exact integrator."""
    return 1000 * float(np.polyfit(found["time_ps"], found["total_energy_eV/atom"], 1)[0])


def structure(snapshots: Sequence[Atoms], width: float) -> dict[str, Any]:
    """Return the radial distribution function of snapshots, its first peak, and the coordination within it.

    ASE's ``get_rdf``, up to half the distance of opposite faces. The first peak is that of g(r) a little smoothed, interpolated
    by a parabola; the first shell ends where g(r) is lowest between the first two peaks, and the coordination numbers count the
    neighbours to there.

    :param width: of the bins, Å.
    """
    images = list(snapshots)[:: -(-len(snapshots) // IMAGES)]
    farthest = min(FARTHEST, *(0.499 * float(widths(a).min()) for a in images))
    g, r = get_rdf(images, farthest, max(int(farthest / width), 1))
    out: dict[str, Any] = {"r_A": r.tolist(), "g": g.tolist()}
    smooth = gaussian_filter1d(g, SMOOTH)
    peaks = find_peaks(np.append(smooth, 0.0), prominence=PROMINENCE * smooth.max())[0] if g.max() > 0 else []
    if not len(peaks):
        return out
    out["first_peak_A"] = _vertex(r, smooth, peaks[0])
    between = g[peaks[0] : peaks[1] if len(peaks) > 1 else None]
    end = peaks[0] + int(np.flatnonzero(between == between.min()).mean())
    out["first_shell_A"] = float(r[end])
    counts = np.concatenate([np.bincount(neighbor_list("i", a, out["first_shell_A"]), minlength=len(a)) for a in images])
    out["coordination"] = float(counts.mean())
    out["coordination_shares"] = {str(n): float(np.mean(counts == n)) for n in sorted(set(counts.tolist()))}
    return out


def _vertex(r: np.ndarray, g: np.ndarray, at: int) -> float:
    """Return where the parabola through a peak and its neighbours has its vertex."""
    if not 0 < at < len(g) - 1:
        return float(r[at])
    left, middle, right = g[at - 1 : at + 2]
    return float(r[at] + (r[1] - r[0]) * (left - right) / (2 * (left - 2 * middle + right)))


def unfolded(snapshots: Sequence[Atoms]) -> np.ndarray:
    """Return where atoms are in the mean cell, Å, shape (snapshots, atoms, 3): without the strain of a cell that breathes."""
    cell = np.mean([a.cell.array for a in snapshots], axis=0)
    return np.array([np.linalg.solve(a.cell.array.T, a.positions.T).T @ cell for a in snapshots])


def diffusion(snapshots: Sequence[Atoms]) -> dict[str, Any]:
    """Return the mean squared displacement, averaged over atoms and origins in time, and what follows from it.

    The diffusion coefficient is a sixth of the slope (A. Einstein) from a tenth to a half of the trajectory. In a crystal that is
    small and means nothing: there the root mean square distance of atoms from where they are on the average tells more, relative
    to the nearest neighbours as Lindemann's index (F. A. Lindemann, Phys. Z. 11, 609, 1910).

    :param snapshots: at equal distances in time; four at least.
    """
    ways = unfolded(snapshots)
    step = float(snapshots[1].info["time_ps"] - snapshots[0].info["time_ps"])
    lags = np.arange(1, len(ways) // 2 + 1)
    msd = np.array([np.mean(np.sum((ways[lag:] - ways[:-lag]) ** 2, axis=2)) for lag in lags])
    late = lags >= lags[-1] / 5
    slope = np.polyfit(lags[late] * step, msd[late], 1)[0] if late.sum() > 1 else msd[-1] / (lags[-1] * step)
    return {
        "lag_ps": (lags * step).tolist(),
        "msd_A2": msd.tolist(),
        "diffusion_cm2/s": float(slope) / 6 * DIFFUSION,
        "rms_displacement_A": float(np.sqrt(np.mean(np.sum((ways - ways.mean(axis=0)) ** 2, axis=2)))),
    }


def errors(snapshots: Sequence[Atoms], prefix: str) -> dict[str, list[float]]:
    """Return how far the potential was wrong at each snapshot that has the labels ``prefix`` and its own (``PRED``).

    ``energy_error_meV/atom`` is signed; of the forces there are mean and root mean square over all components, eV/Å.
    """
    out: dict[str, list[float]] = {key: [] for key in ("time_ps", "energy_error_meV/atom", "force_mae_eV/A", "force_rmse_eV/A")}
    for atoms in snapshots:
        if f"{prefix}_energy" not in atoms.info or f"{prefix}_forces" not in atoms.arrays:
            continue  # its run has failed
        energy = float(value_of(atoms, "energy", fr.PREDICTION)) - float(atoms.info[f"{prefix}_energy"])
        forces = value_of(atoms, "forces", fr.PREDICTION) - atoms.arrays[f"{prefix}_forces"]
        row = (atoms.info["time_ps"], 1000 * energy / len(atoms), np.abs(forces).mean(), np.sqrt(np.mean(forces**2)))
        for key, value in zip(out, row, strict=True):
            out[key].append(float(value))
    return out


def mean_errors(found: dict[str, list[float]], last: int | None = None) -> dict[str, float]:
    """Return means over snapshots, or the last of them: size of the energy error and the error itself, force errors."""
    used = {key: np.array(values[-last:] if last else values) for key, values in found.items()}
    energies = used["energy_error_meV/atom"]
    return {
        "snapshots": len(energies),
        "energy_mae_meV/atom": float(np.abs(energies).mean()),
        "energy_offset_meV/atom": float(energies.mean()),
        "force_mae_eV/A": float(used["force_mae_eV/A"].mean()),
        "force_rmse_eV/A": float(used["force_rmse_eV/A"].mean()),
    }


def of_parts(done: Sequence[Atoms]) -> dict[str, list[Atoms]]:
    """Return the snapshots of each trajectory, by the ``part`` of the plan."""
    out: dict[str, list[Atoms]] = {}
    for atoms in done:
        out.setdefault(str(atoms.info["part"]), []).append(atoms)
    return out


def end_of(snapshots: Sequence[Atoms], timestep: float) -> dict[str, Any]:
    """Return how a trajectory ended, and when: ``status``, ``end_step``, ``end_ps``.

    :param timestep: fs.
    """
    last = snapshots[-1].info
    step = int(last["md_end_step"] if "md_end_step" in last else last["step"])
    return {"status": str(last.get("md_status", "unknown")), "end_step": step, "end_ps": round(step * timestep / 1000, 9)}


def evenly(numbers: Sequence[int], most: int) -> list[int]:
    """Return so many of these numbers at equal distances, the last among them."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[-1 - round(k * len(numbers) / most)] for k in reversed(range(most))]


def reach_fault(atoms: Atoms, reach: float) -> list[str]:
    """Return what is wrong with a supercell in which an atom is within the cutoff of its own image."""
    width = float(widths(atoms).min())
    if width >= reach:
        return []
    return [
        f"the supercell of {len(atoms)} atoms is {width:.2f} Å wide, less than the cutoff of {reach:.2f} Å: atoms feel their own "
        f"images; set length_A to {reach:.2f} or more, or more repetitions"
    ]
