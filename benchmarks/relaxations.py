"""Relaxations per second of the runner on one and on two processes: python benchmarks/relaxations.py [CELLS]."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

from ase.io import write
from common import FOLDER, fit_silicon, silicon_cells

from aiida_gaprss.runners import FOLDER as RUNNERS
from aiida_gaprss.runners import scripts_of
from aiida_gaprss.settings.jobs import RelaxSettings


def main() -> None:
    cells = silicon_cells(int(sys.argv[1]) if len(sys.argv) > 1 else 60, (4, 6, 8), seed=2)
    xml = fit_silicon()
    for name in scripts_of("relax"):
        shutil.copy(RUNNERS / f"{name}.py", FOLDER)
    write(FOLDER / "input.extxyz", cells, format="extxyz")
    settings = RelaxSettings(max_steps=60, min_distance=1.2).model_dump() | {
        "calculator": "quippy.potential.Potential",
        "arguments": {"param_filename": str(xml)},
    }
    rates = {}
    for processes in (1, 2, 1, 2):
        (FOLDER / "settings.json").write_text(json.dumps(settings | {"processes": processes}), encoding="utf-8")
        started = time.perf_counter()
        subprocess.run([sys.executable, "batch.py", "relax"], cwd=FOLDER, check=True, capture_output=True)
        rate = len(cells) / (time.perf_counter() - started)
        rates.setdefault(processes, []).append(rate)
        print(f"{processes} process{'es' if processes > 1 else ''}: {rate:.2f} relaxations/s", flush=True)
    print(f"ratio of the best: {max(rates[2]) / max(rates[1]):.2f}")
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
