"""How many labels recipes of campaigns need: python benchmarks/recipes.py FOLDER [--reference sw cupt] [--seeds 1 2 3].

Recipes are changes of the protocol ``quick``; cells, relaxations, choice, labels and fits are those of a campaign, in this
process. After every fit the potential relaxes the lowest minima that the reference has, and some random cells: its own ground
state is the lowest of all. It *holds* from so many labels on, if from there to the end this is the ground state of the reference,
with its energy to within 10 or 1 meV/atom. Errors of energies and forces are those of minima and distorted copies up to
0.3 eV/atom above the ground state. Each run is a file in FOLDER, and is not done again; ``--table`` and ``--figure PNG`` show
what is there. ``--reference pw`` asks pw.x.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from recipes_loop import State, campaign, driver, settings_of
from recipes_told import draw, table
from recipes_truth import Reference, Truth, end_points, per_atom, references, truth

from aiida_gaprss.runners import task_of
from aiida_gaprss.runners.status import ENDED
from aiida_gaprss.strategies.cells import make_cells


@dataclass(frozen=True)
class Sizes:
    """Labels of the start, of a generation, and of all in the recipes of small batches; cells of a generation."""

    start: int
    batch: int
    most: int
    cells: int

    @property
    def least(self) -> int:
        """Generations that spend all labels, if each takes its batch."""
        return -(-(self.most - self.start) // self.batch)


#: As many labels as make a potential of silicon; and fewer, for slow machines.
USUAL, SMALL = Sizes(40, 10, 100, 24), Sizes(20, 6, 65, 12)

#: Of the lowest minima of the reference, and of random cells, that show the ground state of a potential; lowest end points of a
#: generation that are compared with the ground state.
MINIMA, SHOWN, LOWEST = 3, 5, 10

#: The recipe that asks a committee, and its members.
COMMITTEE, MEMBERS = "boltzmann_committee", 4

#: eV; half as much again as most frames of a training set have.
UNSURE = 0.009


def rules_of(n: int) -> dict[str, list[dict[str, Any]]]:
    """Return the rules of the recipes of small batches, by which ``n`` frames are taken."""
    some, half, rest = {"by": "boltzmann", "n": 9 * n // 5}, {"by": "lowest", "n": -(-n // 2)}, n // 2
    return {
        "lowest": [{"by": "lowest", "n": n}],
        "boltzmann_cur": [{**some, "then": {"by": "cur", "n": n}}],
        "boltzmann_variance": [{**some, "then": {"by": "variance", "n": n}}],
        COMMITTEE: [{**some, "then": {"by": "variance", "n": n}}],
        "boltzmann_maxvol": [{**some, "then": {"by": "maxvol", "n": n}}],
        "lowest_farthest": [half, {"by": "farthest", "of": "all", "n": rest}],
        "lowest_maxvol": [half, {"by": "maxvol", "of": "all", "n": rest}],
        "maxvol": [{"by": "maxvol", "of": "all", "n": n}],
        "random": [{"by": "random", "n": n}],
        "unsure": [{"by": "farthest", "of": "unsure", "n": rest}, {"by": "lowest", "n": n - rest}],
    }


def small_batches(sizes: Sizes, name: str) -> dict[str, Any]:
    """Return the changes of ``quick`` by which few frames are labelled at a time: three generations under pressure, then none."""

    def generation(width: float) -> dict[str, Any]:
        steps = {"max_steps": 60, "snapshot_steps": [5] if width else []}
        steps |= {"stop_where_unsure": UNSURE} if name == "unsure" else {}
        rules = rules_of(sizes.batch)[name]
        return {"cells": {"random": sizes.cells}, "pressure": {"width_GPa": width}, "relax": steps, "select": {"rules": rules}}

    pressed, free = generation(25.0), generation(0.0)
    few = {"initial": {"random": sizes.start}, "max_labels": sizes.most, "max_generations": sizes.least + 2}
    return {**few, "generations": [pressed, pressed, pressed, free]}


def large_batches(sizes: Sizes) -> dict[str, Any]:
    """Return the changes of ``quick`` by which many frames are labelled at a time, as it did before: 50, four times 24, 20."""
    part = sizes.most / 167

    def generation(width: float, *numbers: int) -> dict[str, Any]:
        lowest, ends, snapshots = (max(2, round(part * n)) if n else 0 for n in numbers)
        rules: list[dict[str, Any]] = [{"by": "lowest", "n": lowest}, {"by": "farthest", "n": ends}]
        rules += [{"by": "farthest", "of": "snapshots", "n": snapshots}] if snapshots else []
        steps = {"max_steps": 60, "snapshot_steps": [5] if snapshots else []}
        return {
            "cells": {"random": 2 * sizes.cells},
            "pressure": {"width_GPa": width},
            "relax": steps,
            "select": {"rules": rules},
        }

    pressed, free = generation(25.0, 6, 10, 8), generation(0.0, 10, 10, 0)
    return {"initial": {"random": round(50 * part)}, "generations": [*4 * [pressed], free], "max_labels": sizes.most}


def quick(sizes: Sizes) -> dict[str, Any]:
    """Return the changes of ``quick`` by which its searches until minima hold are generations: the lowest new minima."""
    first = small_batches(sizes, "lowest_farthest")
    generation = {**first["generations"][-1], "select": {"rules": rules_of(sizes.batch)["lowest"]}}
    return {**first, "generations": [first["generations"][0], generation]}


def recipes(sizes: Sizes = USUAL) -> dict[str, dict[str, Any]]:
    """Return the changes of ``quick`` by the names of the recipes, itself the first."""
    others = {name: small_batches(sizes, name) for name in rules_of(sizes.batch)}
    return {"quick": quick(sizes), "large_batches": large_batches(sizes), **others}


def judged(state: State, known: Truth, shown: list[Atoms]) -> dict[str, Any]:
    """Return what is measured after a fit; energies in eV/atom, forces in eV/Å."""
    ends = end_points(**driver(state.xml), cells=[*known.ground[:1], *known.minima[:MINIMA], *shown], steps=60)
    lowest = min(ends, key=lambda atoms: per_atom(atoms, "PRED"))
    task = task_of("evaluate")
    task.setup({**driver(state.xml), "local_energies": False, "variances": False})
    test = [(atoms, task.run(atoms, np.inf)[1][0]) for atoms in known.test]
    forces = np.concatenate([(done.arrays["PRED_forces"] - atoms.arrays["REF_forces"]).ravel() for atoms, done in test])
    energies = [per_atom(done, "PRED") - per_atom(atoms) for atoms, done in test]
    return {
        "labels": state.labels,
        "ground": bool(known.is_ground(lowest)),
        "error": per_atom(lowest, "PRED") - known.energy,
        "rmse_energy": float(np.sqrt(np.mean(np.square(energies)))),
        "rmse_forces": float(np.sqrt(np.mean(np.square(forces)))),
        "found": found(state, known),
    }


def found(state: State, known: Truth) -> bool:
    """Tell whether the ground state is among the low end points of the last generation."""
    ends = [atoms for atoms in state.relaxed if atoms.info["relax_status"] in ENDED]
    return any(known.is_ground(atoms) for atoms in sorted(ends, key=lambda atoms: per_atom(atoms, "PRED"))[:LOWEST])


def run(reference: Reference, known: Truth, recipe: str, seed: int, sizes: Sizes) -> dict[str, Any]:
    """Return the rows of a campaign."""
    settings = settings_of(reference, recipes(sizes)[recipe])
    shown = make_cells(settings.seeds, settings.formula, {"random": SHOWN}, 5_000_000)
    started, rows = time.process_time(), []
    for state in campaign(settings, reference, seed, MEMBERS if recipe == COMMITTEE else 0):
        rows.append(judged(state, known, shown))
        row = rows[-1]
        said = f"{'ground state' if row['ground'] else 'another one':13s} {1000 * row['error']:+8.1f} meV/atom"
        print(f"  {state.labels:4d} {said}, {1000 * row['rmse_energy']:6.1f} meV/atom, {row['rmse_forces']:.3f} eV/Å", flush=True)
    return {"recipe": recipe, "reference": reference.name, "seed": seed, "cpu_s": time.process_time() - started, "rows": rows}


def keep_memory() -> None:
    """Keep freed memory, as the workers of a job do: quippy is twice as fast."""
    for option in (-1, -3):
        getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(option, 128 * 1024**2)


def results_in(folder: Path) -> list[dict[str, Any]]:
    """Return the runs in a folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", nargs="+", choices=[*references()], default=["sw", "cupt"])
    parser.add_argument("--recipes", nargs="+", choices=[*recipes()], default=[*recipes()])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--small", action="store_true", help="65 labels at most; a folder of its own for these")
    parser.add_argument("--table", action="store_true", help="say what the files of FOLDER have, and run nothing")
    parser.add_argument("--figure", type=Path, help="draw it")
    options = parser.parse_args()
    keep_memory()
    sizes = SMALL if options.small else USUAL
    for seed in [] if options.table or options.figure else options.seeds:
        for name in options.reference:
            reference = references()[name]
            known = truth(reference, options.folder)
            for recipe in options.recipes:
                path = options.folder / f"{name}-{recipe}-{seed}.json"
                if not path.is_file():
                    print(f"{name}, {recipe}, seed {seed}", flush=True)
                    path.write_text(json.dumps(run(reference, known, recipe, seed, sizes)), encoding="utf-8")
    print(table(results_in(options.folder)))
    if options.figure:
        draw(results_in(options.folder), options.figure)


if __name__ == "__main__":
    main()
