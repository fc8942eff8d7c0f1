"""How far do pairs go alone? A Lennard-Jones mixture as exact reference, and η of real data.

    python benchmarks/pair_potential.py [CELLS] [FIGURE.png]

CELLS (10,000) random cells A_xB_y of three stoichiometries are labelled by ASE's Lennard-Jones, and a pair potential is fitted to
9 of 10; the others test it. η = ⟨E_pairs⟩/⟨E⟩, energies relative to isolated atoms, is told of boron (published DFT in the folder
$GAPRSS_DATA), of silicon (Stillinger–Weber) and of copper (ASE's effective medium theory), too.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import matplotlib
import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from common import label, stillinger_weber
from quippy.potential import Potential
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aiida_gaprss import frames as fr
from aiida_gaprss.io.extxyz import Keys, import_frames
from aiida_gaprss.models.pair.fit import PairFit, fit_pairs
from aiida_gaprss.models.pair.settings import PairSettings
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

A, B = "Ar", "Kr"
#: ε and σ of each pair: reduced units, written as eV and Å.
PARAMETERS = {(A, A): (1.0, 1.0), (A, B): (1.5, 0.8), (B, B): (0.5, 0.88)}
CUTOFF = 3.0
RECIPES = (({A: 1, B: 1}, (4, 8)), ({A: 2, B: 1}, (3, 6)), ({A: 1, B: 3}, (4, 8)))


def lennard_jones(pair: tuple[str, str]) -> LennardJones:
    epsilon, sigma = PARAMETERS[pair]
    return LennardJones(sigma=sigma, epsilon=epsilon, rc=CUTOFF, ro=0.66 * CUTOFF, smooth=True)


def label_mixture(atoms: Atoms) -> Atoms:
    """Label by ASE's Lennard-Jones, which knows one kind of atom: pairs A–B are those of all atoms less those of either kind."""
    every, first = np.ones(len(atoms), bool), np.array([s == A for s in atoms.get_chemical_symbols()])
    energy, forces, stress = 0.0, np.zeros((len(atoms), 3)), np.zeros(6)
    parts = {(A, A): [(first, 1)], (B, B): [(~first, 1)], (A, B): [(every, 1), (first, -1), (~first, -1)]}
    for pair, masks in parts.items():
        for mask, sign in masks:
            work = atoms[mask]
            work.calc = lennard_jones(pair)
            energy += sign * work.get_potential_energy()
            forces[mask] += sign * work.get_forces()
            stress += sign * work.get_stress()
    fr.set_labels(atoms, energy, forces, fr.virial_from_stress(stress, atoms.get_volume()))
    return atoms


def mixture(number: int) -> list[Atoms]:
    """Return labelled cells."""
    cells = []
    for seed, (formula, sizes) in enumerate(RECIPES):
        spec = CellSpec(formula, sizes, (0.8, 1.6), 0.8)
        cells += random_cells(spec, number // len(RECIPES), seed=seed + 1)
    for index, atoms in enumerate(track(cells, "labels", transient=True)):
        atoms.info.update(frame_id=f"cell-{index:05d}", config_type="random")
        label_mixture(atoms)
    return cells


def draw(fit: PairFit, path: Path) -> None:
    """Draw the recovered curves on the true ones."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    r = np.linspace(0.7, CUTOFF, 500)
    figure, axes = plt.subplots(figsize=(5.6, 4.1), layout="constrained")
    for (pair, (_, sigma)), colour in zip(PARAMETERS.items(), ("#0072B2", "#D55E00", "#009E73"), strict=True):
        near = r > 0.95 * sigma
        true = [Atoms("Ar2", [(0, 0, 0), (x, 0, 0)], calculator=lennard_jones(pair)).get_potential_energy() for x in r[near]]
        axes.plot(r[near], true, color=colour, lw=4, alpha=0.35, label=f"{pair[0]}–{pair[1]}, true")
        axes.plot(r[near], fit.calculator().curve(*pair, r[near])[0], color=colour, lw=1, label="fitted")
    axes.set(xlabel="Distance (σ of Ar–Ar)", ylabel="Energy (ε of Ar–Ar)", ylim=(-2, 3))
    axes.legend(frameon=False, ncols=3, fontsize=8)
    figure.savefig(path, dpi=160)


def real_data() -> dict[str, list[Atoms]]:
    """Return labelled frames by name."""
    out: dict[str, list[Atoms]] = {}
    if folder := os.environ.get("GAPRSS_DATA"):
        keys = Keys(energy="REF_energy", forces="REF_forces", stress="REF_stress")
        out["boron, DFT"] = import_frames(Path(folder) / "boron/random_search_39.xyz", keys)
    out["silicon, Stillinger–Weber"] = made("Si", (18, 30), 2.3, Potential(**stillinger_weber()["arguments"]))
    out["copper, effective medium"] = made("Cu", (10, 16), 2.1, EMT())
    return out


def made(symbol: str, volumes: tuple[float, float], separation: float, calculator: Any) -> list[Atoms]:
    """Return an isolated atom and 100 random cells with labels."""
    atom = Atoms(symbol, cell=[14.0] * 3, pbc=True, info={"config_type": "isolated_atom"})
    frames = [atom, *random_cells(CellSpec({symbol: 1}, (4, 6, 8), volumes, separation), 100, seed=1)]
    for index, atoms in enumerate(frames):
        atoms.info.update(frame_id=f"{symbol}-{index:03d}", config_type=atoms.info.get("config_type", "random"))
    return label(frames, calculator)


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    began = time.time()
    cells = mixture(number)
    labelled = time.time()
    training = [atoms for index, atoms in enumerate(cells) if index % 10]
    fit = fit_pairs(training, PairSettings(cutoff=CUTOFF, sigma_energy=1e-3, sigma_forces=1e-2, sigma_virial=1e-2))
    energies = np.array([atoms.info["REF_energy"] / len(atoms) for atoms in cells])
    errors = []
    for atoms in cells[::10]:
        work = atoms.copy()
        work.calc = fit.calculator()
        errors.append(work.get_potential_energy() / len(work) - atoms.info["REF_energy"] / len(work))
    rmse = float(np.sqrt(np.mean(np.square(errors))))
    console = Console()
    console.print(
        f"{len(cells)} cells, labelled in {labelled - began:.0f} s, fitted in {time.time() - labelled:.0f} s; energies "
        f"{energies.min():.1f} … {energies.max():.1f} ε/atom, spread {energies.std():.2f}; RMSE of {len(errors)} test cells "
        f"{rmse:.1e} ε/atom, {rmse / energies.std():.1e} of the spread"
    )
    if len(sys.argv) > 2:
        draw(fit, Path(sys.argv[2]))
    table = Table("data", "frames", "η of pairs", "energy RMSE (meV/atom)", "forces RMSE (eV/Å)", box=None)
    for name, frames in real_data().items():
        found = fit_pairs(frames)
        eta = "–" if found.eta is None else f"{found.eta:.3f}"
        values = (eta, f"{found.errors.energy.rmse:.0f}", f"{found.errors.forces.rmse:.2f}")
        table.add_row(name, str(len(frames)), *values)
    console.print(table)


if __name__ == "__main__":
    main()
