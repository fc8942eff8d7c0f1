"""Which of many frames are worth a label: python benchmarks/choices.py.

Stillinger-Weber silicon in five lattices; the first GAP knows twenty strained cells of diamond. So many frames of the same 474
are labelled, chosen as ``aiida-gaprss build`` chooses, or by the largest standard deviation alone; the next GAP is fitted to all,
and tested with 150 others.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from common import gap_fit, label, stillinger_weber

from aiida_gaprss import frames as fr
from aiida_gaprss.models.families import family_of
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.selection.choose import deviation, most_uncertain
from aiida_gaprss.selection.databases import chosen
from aiida_gaprss.strategies.lists import StrategyList

LATTICES = {"diamond": 5.43, "bcc": 3.25, "fcc": 4.1, "sc": 2.6, "hcp": 2.75}
KINDS: dict[str, Any] = {
    "waves": {"kind": "nondiagonal", "grid": [2, 2, 2], "volumes": [0.85, 1.0, 1.15], "copies": 4, "displacement_A": 0.15},
    "strained": {"kind": "strained", "supercell": [1, 1, 1]},
    "shaken": {"kind": "rattled", "supercell": [2, 2, 2], "displacement_A": 0.3, "copies": 4},
}
SETTINGS = GapSettings(
    descriptors=[
        {"kind": "distance_2b", "cutoff": 5.0, "n_sparse": 15, "delta": 2.0},
        {"kind": "soap", "cutoff": 4.5, "n_max": 6, "l_max": 4, "n_sparse": 250, "delta": 0.5},
    ],
    sigma={"energy": 0.002, "forces": 0.05, "virial": 0.05},
    regularisation=[],
)


def fitted(frames: Sequence[Atoms]) -> Any:
    """Return the calculator of a GAP fitted to labelled frames."""
    from quippy.potential import Potential

    folder, family = Path(tempfile.mkdtemp(prefix="gaprss-choices-")), family_of("gap")
    job = family.job(frames, SETTINGS, 1, "train.extxyz")
    for name, text in {"train.extxyz": fr.dumps(frames), **job.files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run([gap_fit(), *job.argv], cwd=folder, check=True, capture_output=True)
    return Potential(param_filename=str(folder / family.MAIN))


def predicted(calculator: Any, frames: Sequence[Atoms], variances: bool = False) -> list[Atoms]:
    """Return copies of frames with what a GAP says of them, as ``gaprss.evaluate`` does."""
    out = []
    for atoms in frames:
        work = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
        out.append(atoms.copy())
        out[-1].info["PRED_energy"], out[-1].arrays["PRED_forces"] = work.get_potential_energy(), work.get_forces()
        if variances:
            calculator.reset()
            calculator.calculate(work, ["energy"], ["positions"], calc_args="local_gap_variance")
            out[-1].arrays["PRED_local_variance"] = np.array(calculator.extra_results["atoms"]["local_gap_variance"])
    return out


def errors(calculator: Any, test: Sequence[Atoms]) -> str:
    """Return root mean square errors of energies and forces."""
    done = predicted(calculator, test)
    energies = [(a.info["PRED_energy"] - a.info["REF_energy"]) / len(a) for a in done]
    forces = np.concatenate([(a.arrays["PRED_forces"] - a.arrays["REF_forces"]).ravel() for a in done])
    return f"{1000 * np.sqrt(np.mean(np.square(energies))):6.0f} meV/atom, {np.sqrt(np.mean(forces**2)):.2f} eV/Å"


def split(seed: int) -> tuple[list[Atoms], dict[str, list[Atoms]], list[Atoms]]:
    """Return frames that the first GAP knows, those that may be labelled, by strategy, and those of the test."""
    crystals = [bulk("Si", name, a=a) for name, a in LATTICES.items()]
    for name, atoms in zip(LATTICES, crystals, strict=True):
        atoms.info["frame_id"] = name
    strategies = StrategyList(strategies={"atoms": {"kind": "isolated_atoms"}, **KINDS}, seed=5)
    made = {name: strategies.frames(name, crystals) for name in strategies.strategies}
    every = [atoms for name in KINDS for atoms in made[name]]
    test = [every[number] for number in np.random.default_rng(seed).permutation(len(every))[:150]]
    left = {name: [atoms for atoms in made[name] if not any(atoms is other for other in test)] for name in KINDS}
    first = [atoms.copy() for atoms in left["strained"] if atoms.info["parent"] == "diamond"][:20]
    return [made["atoms"][0], *first], left, test


def main() -> None:
    """Print the errors by choice, for three divisions into candidates and test."""
    from quippy.potential import Potential

    reference = Potential(**stillinger_weber()["arguments"])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=40)
    number = parser.parse_args().labels
    for seed in (1, 2, 3):
        known, left, test = split(seed)
        known, test = label(known, reference), label(test, reference)
        before, pool = fitted(known), [atoms for frames in left.values() for atoms in frames]
        print(f"{len(pool)} frames; before: {errors(before, test)}", flush=True)
        examined = predicted(before, pool, variances=True)
        for how in ("random", "farthest", "cur", "variance"):
            listed = StrategyList(strategies=KINDS, max_labels=number, choose=how, seed=seed)
            taken = chosen(listed, left, known[1:], examined if how == "variance" else ())
            print(f"{number} {how:10s} {errors(fitted([*known, *label(taken, reference)]), test)}", flush=True)
        alone = [pool[place] for place in most_uncertain([deviation(atoms) for atoms in examined], number).kept]
        print(f"{number} σ alone    {errors(fitted([*known, *label(alone, reference)]), test)}", flush=True)


if __name__ == "__main__":
    main()
