"""Wall time of labels through AiiDA's engine against the calculator alone, same cells, same number of processes.

python benchmarks/label_engine.py [LABELS] [ATOMS]

Cells of ATOMS atoms are repeated 2 x 2 x 2. A batch costs a constant of one to two seconds (start of python and quippy, upload,
the poll that notices the end, parsing), so the ratio depends on how much there is to compute.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from common import FOLDER, fit_silicon, load_temporary_profile, silicon_cells

CALCULATOR = None


def start(xml: str) -> None:
    """Load the calculator in a worker."""
    global CALCULATOR
    from quippy.potential import Potential

    CALCULATOR = Potential(param_filename=xml)


def work(atoms):
    """Compute energy, forces and stress."""
    atoms.calc = CALCULATOR
    return atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()


def main() -> None:
    n, size = (int(x) for x in (sys.argv[1:3] + ["200", "16"][len(sys.argv) - 1 :]))
    processes = min(2, os.cpu_count() or 1)
    xml = fit_silicon()
    cells = [a.repeat((2, 2, 2)) for a in silicon_cells(n, (size,), seed=3)]
    started = time.perf_counter()
    with ProcessPoolExecutor(processes, initializer=start, initargs=(str(xml),)) as pool:
        list(pool.map(work, cells))
    alone = time.perf_counter() - started
    print(f"{n} labels of {len(cells[0])} atoms, calculator alone, {processes} processes: {alone:.1f} s", flush=True)

    load_temporary_profile()
    from aiida.engine import run_get_node
    from aiida.orm import Dict, load_code

    from aiida_gaprss.calculations.label import LabelCalculation
    from aiida_gaprss.data.dataset import Dataset

    for number, atoms in enumerate(cells):
        atoms.calc = None
        atoms.info.update(frame_id=f"b-{number}", config_type="random")
    started = time.perf_counter()
    _, node = run_get_node(
        LabelCalculation,
        code=load_code("gaprss-python@localhost"),
        frames=Dataset(cells),
        settings=Dict({"calculator": "quippy.potential.Potential", "arguments": {"param_filename": str(xml)}}),
        metadata={"options": {"processes": processes}},
    )
    engine = time.perf_counter() - started
    assert node.is_finished_ok, node.exit_message
    print(f"through the engine: {engine:.1f} s, of which the job {node.outputs.summary['wall_s']:.1f} s")
    print(f"ratio: {engine / alone:.2f}")
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
