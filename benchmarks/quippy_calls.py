"""Energies, forces and stresses per second of bare quippy and of the runners: python benchmarks/quippy_calls.py [SECONDS].

Stillinger-Weber and a GAP like the demo's, silicon cells of 2, 8 and 64 atoms, no two calls for the same positions; times of the
processor. "bare" is quippy.potential.Potential, asked for energy, forces and stress at once; "direct" the way of the runners
below its arguments; "steps" are those of relaxations (LBFGS, at most 60), with and without.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from common import fit_silicon, silicon_cells, stillinger_weber
from recipes import keep_memory

from aiida_gaprss.runners import task_of
from aiida_gaprss.settings.jobs import RelaxSettings

SIZES = {2: (1, 1, 1), 8: (2, 2, 1), 64: (4, 4, 2)}


def potentials() -> dict[str, dict[str, Any]]:
    """Return what makes each potential."""
    return {"Stillinger-Weber": stillinger_weber()["arguments"], "GAP": {"param_filename": str(fit_silicon())}}


def task(kind: str, arguments: dict[str, Any], direct: bool) -> Any:
    """Return a task with the potential, called directly or not."""
    from quippy.potential import Potential

    made, calculator = task_of(kind), Potential(**arguments)
    calculator.set_default_properties(["energy", "forces", "stress"])
    made.calculator = calculator
    if direct:
        made.use(calculator)
    return made


def call(evaluate: Any) -> Callable[[Atoms], Any]:
    """Return a function that asks for energy, forces and stress, the shortest way that there is."""
    calculator = evaluate.calculator
    shortcut = getattr(calculator.calculate, "evaluate", None)

    def ask(atoms: Atoms) -> None:
        calculator.calculate(atoms, ["energy", "forces", "stress"], ["positions"])

    return shortcut or ask


def rate(ask: Callable[[Atoms], Any], atoms: Atoms, seconds: float) -> float:
    """Return calls per second of the processor."""
    ask(atoms)
    ask(atoms)
    rng, count, started = np.random.default_rng(1), 0, time.process_time()
    while (spent := time.process_time() - started) < seconds:
        atoms.positions += rng.uniform(-1e-4, 1e-4, 3)
        ask(atoms)
        count += 1
    return count / spent


def steps(relax: Any, cells: list[Atoms]) -> float:
    """Return steps of relaxations per second of the processor."""
    relax.settings = RelaxSettings(max_steps=60, snapshot_steps=[]).model_dump()
    started = time.process_time()
    ends = [frames[-1].info["step"] for cell in cells for frames in [relax.run(cell, np.inf)[1]] if frames]
    return sum(ends) / (time.process_time() - started)


def main() -> None:
    keep_memory()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    cells = silicon_cells(12, (2, 4, 8), seed=2)
    print(f"{'potential':18s} {'what':12s} {'bare/s':>10s} {'direct/s':>10s} {'ratio':>7s} {'bare ms':>9s} {'direct ms':>10s}")
    for name, arguments in potentials().items():
        for n, repeats in SIZES.items():
            rates = [rate(call(task("evaluate", arguments, way)), bulk("Si") * repeats, seconds) for way in (False, True)]
            show(name, f"{n} atoms", rates)
        show(name, "steps", [steps(task("relax", arguments, way), cells) for way in (False, True)])


def show(name: str, what: str, rates: list[float]) -> None:
    bare, direct = rates
    print(
        f"{name:18s} {what:12s} {bare:10.0f} {direct:10.0f} {direct / bare:7.2f} {1e3 / bare:9.2f} {1e3 / direct:10.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
