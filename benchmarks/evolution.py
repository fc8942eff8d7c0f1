"""Attempts until the ground state is found, by random cells and with evolutionary ones: python benchmarks/evolution.py [CASE …].

Generations of 30 relaxations, each until the lowest energy that is known has been found to 1 meV/atom, or there have been
``--most`` attempts: ``random``, all cells random; ``mixed``, from the second generation on half of them children of the 30
lowest distinct structures found so far. Both begin with the same cells of a seed. The reference relaxes by itself: no potential
is fitted, so that nothing else differs.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss.analysis.minima import symmetry, unique_minima
from aiida_gaprss.runners import task_of
from aiida_gaprss.runners.status import ENDED
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.strategies.cells import CellStrategy, make_cells
from aiida_gaprss.strategies.base import strategy_of
from aiida_gaprss.structures.seeding import stage_seed

#: Cells of a generation, and eV/atom up to which the ground state has been found.
GENERATION, TOLERANCE = 30, 0.001


@dataclass(frozen=True)
class Case:
    """A reference and cells of it; ``known``: the lowest energy that a long search has found, eV/atom."""

    formula: dict[str, int]
    cells: dict[str, Any]
    known: float
    relax: dict[str, Any] = field(default_factory=dict)


CASES = {
    "Cu3Pt": Case({"Cu": 3, "Pt": 1}, {"n_atoms": [12], "volume_per_atom": [10, 16], "min_separation": 2.1}, -0.1003),
    "Cu3Pt16": Case({"Cu": 3, "Pt": 1}, {"n_atoms": [16], "volume_per_atom": [10, 16], "min_separation": 2.1}, -0.1003),
}


def relaxed(cells: list[Atoms], settings: dict[str, Any]) -> Iterator[Atoms | None]:
    """Yield the end point of each cell, None where the relaxation was given up."""
    task = task_of("relax")
    told = RelaxSettings(fmax=0.02, max_steps=300, snapshot_steps=[], min_distance=1.0, **settings)
    task.setup({**told.model_dump(), "calculator": "emt", "arguments": {}})
    for atoms in cells:
        status, frames = task.run(atoms, np.inf)
        if status not in ENDED:
            yield None
            continue
        frames[-1].info.update(frame_id=f"{atoms.info['frame_id']}-end", parameters=atoms.info.get("parameters", "random"))
        yield frames[-1]


def energy(atoms: Atoms) -> float:
    """Return the energy of an end point, eV/atom."""
    return float(atoms.info["PRED_energy"]) / len(atoms)


def cells_of(case: Case, kinds: dict[str, CellStrategy], number: int, seed: int, found: list[Atoms], mixed: bool) -> list[Atoms]:
    """Return the cells of a generation, from 1, in random order."""
    counts = {"random": GENERATION}
    parents = []
    if mixed and number > 1:
        counts = {"random": GENERATION // 2, "evolutionary": GENERATION - GENERATION // 2}
        parents = [minimum.atoms for minimum in unique_minima(found, window=np.inf, limit=30)]
    cells = make_cells(kinds, case.formula, counts, stage_seed(seed, number, "cells"), parents=parents)
    order = np.random.default_rng(stage_seed(seed, number, "order")).permutation(len(cells))
    return [cells[i] for i in order]


def search(case: Case, seed: int, mixed: bool, most: int, operations: list[int]) -> tuple[int | None, list[Atoms], str]:
    """Return the attempt that has found the ground state, None if none did, all end points, and what the finder was."""
    told = {**case.cells, "n_operations": operations}
    kinds = {kind: strategy_of({"kind": kind, **told}) for kind in ("random", "evolutionary")}
    found: list[Atoms] = []
    attempts = 0
    for number in range(1, most // GENERATION + 1):
        cells = cells_of(case, kinds, number, seed, found, mixed)
        for index, atoms in enumerate(cells):
            atoms.info["frame_id"] = f"g{number}-{index:02d}"
        ends = list(relaxed(cells, case.relax))
        for end in ends:
            attempts += 1
            if end is not None and energy(end) <= case.known + TOLERANCE:
                return attempts, [*found, end], str(end.info["parameters"]).split()[0]
        found += [end for end in ends if end is not None]
    return None, found, ""
