"""How far cutoff and mesh of a campaign's reference are converged, measured with pw.x itself, without AiiDA.

    python convergence.py relax CAMPAIGN.yaml CRYSTALS.extxyz RELAXED.extxyz [KEY=VALUE …]
    python convergence.py table CAMPAIGN.yaml CRYSTALS.extxyz N KEY VALUE VALUE … [KEY=VALUE …]
    python convergence.py cost CAMPAIGN.yaml N [KEY=VALUE …]

``relax``  relaxes crystals, cell and atoms, at zero pressure.
``table``  varies one setting: ``kpoint_spacing`` (1/Å without 2π), or a number of SYSTEM such as ``ecutwfc``. The last value is
           the one that the others are held to. Besides the crystals: the first one distorted, and N of the campaign's initial
           cells.
``cost``   seconds of single points of N of the campaign's initial cells.

KEY=VALUE takes another value than the campaign does. ``ecutrho`` keeps its ratio to ``ecutwfc``. Energies of crystals and cells
are told as differences to the first crystal, seconds are those that pw.x had a processor. Pseudopotentials are those of Debian's
quantum-espresso-data, or of the folder GAPRSS_PSEUDO.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.io import read, write

from aiida_gaprss.campaign.file import Campaign, check_given
from aiida_gaprss.settings.yamlfile import parse
from aiida_gaprss.settings.yamlfile import read as read_text
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.structures.seeding import stage_seed

PSEUDO = Path(os.environ.get("GAPRSS_PSEUDO", "/usr/share/espresso/pseudo"))

#: Of a relaxation: Ry, Ry/Bohr, kbar; how often it begins again, with the plane waves of the cell where it ended.
THRESHOLDS = {"CONTROL": {"etot_conv_thr": 1e-6, "forc_conv_thr": 1e-4}, "CELL": {"press_conv_thr": 0.1}}
ROUNDS = 2

#: Of the distorted crystal: standard deviation of atoms, Å, largest strain, seed.
SHAKEN, STRAINED, SEED = 0.08, 0.03, 1


@dataclass(frozen=True)
class Settings:
    """What pw.x is told: namelists, 1/Å without 2π between points of the mesh, pseudopotentials by element."""

    namelists: dict[str, dict[str, Any]]
    spacing: float
    pseudos: dict[str, str]

    def with_value(self, key: str, value: float) -> Settings:
        """Return the settings with another value of one of them; ``ecutrho`` keeps its ratio to ``ecutwfc``."""
        if key == "kpoint_spacing":
            return replace(self, spacing=value)
        system = dict(self.namelists["SYSTEM"])
        if key == "ecutwfc" and "ecutrho" in system:
            system["ecutrho"] *= value / system[key]
        return replace(self, namelists={**self.namelists, "SYSTEM": {**system, key: value}})


@dataclass(frozen=True)
class Point:
    """A single point: eV/atom, eV/Å, pressure in GPa, seconds of a processor."""

    energy: float
    forces: np.ndarray
    pressure: float
    seconds: float


def campaign_of(path: str) -> Campaign:
    """Return a campaign of the examples, with the published pseudopotentials; what it looks for at the end is left out."""
    data, _lines = parse(read_text(Path(path)), Path(path), "protocol: quick")
    data.pop("targets", None)
    pseudos = data["reference"]["quantumespresso"]["pseudos"]
    pseudos.update({symbol: str(PSEUDO / Path(name).name) for symbol, name in pseudos.items()})
    return check_given(data)


def settings_of(campaign: Campaign, changes: list[str]) -> Settings:
    """Return the settings of a campaign's reference, with the values of ``KEY=VALUE``."""
    told: Any = campaign.config.reference.settings
    names = {symbol: Path(name).name for symbol, name in told.pseudos.items()}
    settings = Settings(told.parameters, told.kpoint_spacing, names)
    for change in changes:
        key, value = change.split("=")
        settings = settings.with_value(key, float(value))
    return settings


def random_cells(campaign: Campaign, n: int) -> list[Atoms]:
    """Return the first of the initial cells of a campaign."""
    seed = stage_seed(campaign.config.seed, 0, "initial")
    settings = campaign.settings
    return make_cells(settings.seeds, settings.formula, {next(iter(settings.seeds)): n}, seed)


def mesh(atoms: Atoms, spacing: float) -> tuple[int, ...]:
    """Return the divisions of the Γ-centred mesh that the plugin takes."""
    lengths = np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    return tuple(max(1, math.ceil(round(length / spacing, 5))) for length in lengths)


def cpu_seconds() -> float:
    """Return the seconds that the programs begun here have had a processor: what other work does is not told."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def run_of(atoms: Atoms, settings: Settings, calculation: str) -> Iterator[tuple[Atoms, float]]:
    """Run pw.x and give what its output tells, with the seconds that it took."""
    namelists = {key: dict(value) for key, value in settings.namelists.items()}
    for name, values in {**THRESHOLDS, "IONS": {}}.items() if calculation == "vc-relax" else ():
        namelists[name] = {**values, **namelists.get(name, {})}
    told = {"calculation": calculation, "tprnfor": True, "tstress": True, "pseudo_dir": str(PSEUDO)}
    with tempfile.TemporaryDirectory() as folder:
        namelists["CONTROL"] = {**namelists.get("CONTROL", {}), **told, "outdir": folder}
        source, output = Path(folder, "pw.in"), Path(folder, "pw.out")
        write(source, atoms, format="espresso-in", input_data=namelists, pseudopotentials=settings.pseudos,
              kpts=mesh(atoms, settings.spacing), koffset=(0, 0, 0))  # fmt: skip
        before = cpu_seconds()
        with output.open("w") as stream:
            subprocess.run(["pw.x", "-in", str(source)], stdout=stream, check=True, cwd=folder)
        yield read(output, format="espresso-out", index=-1), cpu_seconds() - before


def point_of(found: Atoms, seconds: float) -> Point:
    """Return what an output tells; of a relaxation it is the SCF at its end, in the plane waves of the relaxed cell."""
    pressure = -np.trace(found.get_stress(voigt=False)) / 3 / units.GPa
    return Point(found.get_potential_energy() / len(found), found.get_forces(), pressure, seconds)


def single_point(atoms: Atoms, settings: Settings) -> Point:
    """Return energy, forces and pressure of a structure."""
    with run_of(atoms, settings, "scf") as (found, seconds):
        return point_of(found, seconds)


def relaxed(atoms: Atoms, settings: Settings) -> Atoms:
    """Return a crystal with neither forces nor pressure in the plane waves of its own cell."""
    name = atoms.info["name"]
    for _ in range(ROUNDS):
        with run_of(atoms, settings, "vc-relax") as (found, seconds):
            atoms = Atoms(found.numbers, scaled_positions=found.get_scaled_positions(), cell=found.cell, pbc=True)
            point = point_of(found, seconds)
    lengths = ", ".join(f"{value:.4f}" for value in atoms.cell.cellpar())
    print(f"{name:20} {atoms.get_volume() / len(atoms):8.3f} {point.energy:12.4f} {point.pressure:7.2f}  {lengths}", flush=True)
    atoms.info["name"] = name
    return atoms


def distorted(atoms: Atoms) -> Atoms:
    """Return a crystal with its cell strained and its atoms displaced."""
    rng = np.random.default_rng(SEED)
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-STRAINED, STRAINED, (3, 3))), scale_atoms=True)
    out.positions += rng.normal(0, SHAKEN, (len(out), 3))
    return out


def relax(path: str, crystals: str, out: str, *changes: str) -> None:
    """Relax the crystals of a file into another."""
    settings = settings_of(campaign_of(path), list(changes))
    print(f"{'crystal':20} {'Å³/atom':>8} {'eV/atom':>12} {'GPa':>7}  a, b, c (Å), α, β, γ of the primitive cell")
    Path(out).unlink(missing_ok=True)
    for atoms in read(crystals, ":"):
        write(out, relaxed(atoms, settings), format="extxyz", columns=["symbols", "positions"], append=True)


def row(points: list[Point], best: list[Point], n: int) -> str:
    """Return the errors of one value against the best one: of crystals, of the distorted one, of random cells; seconds.

    :param points, best: those of ``n`` crystals, of the distorted one, of random cells.
    """
    errors = [1000 * (a.energy - points[0].energy - b.energy + best[0].energy) for a, b in zip(points, best, strict=True)]
    forces = [float(abs(a.forces - b.forces).max()) for a, b in zip(points[n:], best[n:], strict=True)]
    pressures = [a.pressure - b.pressure for a, b in zip(points, best, strict=True)]
    cells = errors[n + 1 :] or [math.nan]
    shown = [*(f"{error:+.1f}" for error in errors[1 : n + 1]), f"{np.sqrt(np.mean(np.square(cells))):.1f}"]
    shown += [f"{np.abs(cells).max():.1f}", f"{max(forces):.3f}", f"{pressures[0]:+.2f}", f"{max(map(abs, pressures)):.1f}"]
    return " | ".join([*shown, f"{np.mean([point.seconds for point in points[n + 1 :] or points]):.1f}"])


def table(path: str, crystals: str, n_cells: str, key: str, *rest: str) -> None:
    """Print a table of errors, a row for every value of one setting."""
    campaign, frames = campaign_of(path), read(crystals, ":")
    settings = settings_of(campaign, [word for word in rest if "=" in word])
    values = [float(word) for word in rest if "=" not in word]
    structures = [*frames, distorted(frames[0]), *random_cells(campaign, int(n_cells))]
    found = {value: _points(structures, settings.with_value(key, value), value) for value in values}
    best = found[values[-1]]
    names = [atoms.info["name"] for atoms in frames]
    differences = [f"{name} {1000 * (point.energy - best[0].energy):.1f}" for name, point in zip(names, best, strict=False)]
    print(f"\nmeV/atom above {names[0]} at {key} = {values[-1]:g}: {', '.join(differences[1:])}\n")
    heads = [key, *names[1:], "distorted", "cells RMS", "max", "forces eV/Å", f"P {names[0]} GPa", "P max GPa", "s per cell"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for value in values:
        print(f"| {value:g} | {row(found[value], best, len(frames))} |")


def _points(structures: list[Atoms], settings: Settings, value: float) -> list[Point]:
    points = [single_point(atoms, settings) for atoms in structures]
    print(f"{value:g}: {sum(point.seconds for point in points):.0f} s", file=sys.stderr, flush=True)
    return points


def cost(path: str, n: str, *changes: str) -> None:
    """Print the seconds of single points of random cells."""
    campaign = campaign_of(path)
    settings = settings_of(campaign, list(changes))
    cells = random_cells(campaign, int(n))
    seconds = [single_point(atoms, settings).seconds for atoms in cells]
    for atoms, taken in zip(cells, seconds, strict=True):
        shape = f"{atoms.get_chemical_formula():10} {atoms.get_volume() / len(atoms):6.1f} Å³/atom"
        print(f"{shape}  mesh {'×'.join(map(str, mesh(atoms, settings.spacing)))}  {taken:.1f} s")
    print(f"mean {np.mean(seconds):.1f} s")


COMMANDS = {"relax": (relax, 3), "table": (table, 5), "cost": (cost, 2)}


if __name__ == "__main__":
    command, least = COMMANDS.get((sys.argv[1:] or [""])[0], (None, 0))
    if command is None or len(sys.argv) < 2 + least:
        sys.exit(__doc__)
    command(*sys.argv[2:])
