"""What autoplex does with the cells of wfl_side_by_side.py; runs in an environment of its own, which has autoplex.

python autoplex_theirs.py relax INPUT OUTPUT SETTINGS
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ase.io import read, write
from autoplex.data.rss.utils import minimize_structures
from pymatgen.io.ase import AseAtomsAdaptor


def main(task: str, source: str, target: str, settings_file: str) -> None:
    sys.path.insert(0, ".")
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    if settings["calculator"].startswith("counting"):
        import counting  # noqa: F401
    logging.disable(logging.INFO)
    cells = read(source, ":")
    started = time.perf_counter()
    folder = Path(tempfile.mkdtemp(dir="."))
    xml = Path(settings["arguments"]["param_filename"])
    for path in xml.parent.glob(f"{xml.name}*"):  # it wants this name
        shutil.copy(path, folder / ("gap_file.xml" if path == xml else path.name))
    pressure = cells[0].info["pressure_GPa"]
    minimize_structures(
        "GAP",
        str(folder.resolve()),
        "cell",
        [AseAtomsAdaptor.get_structure(atoms) for atoms in cells],
        output_file_name=str(folder / "out"),
        scalar_pressure_method="uniform",
        scalar_pressure_low=pressure,
        scalar_pressure_high=pressure,
        max_steps=settings["max_steps"],
        force_tol=settings["fmax"],
        stress_tol=settings["smax"],
        num_processes_rss=settings["processes"],
        keep_symmetry=False,
    )
    write(target, [read(folder / f"out_traj_cell{number}.extxyz", -1) for number in range(len(cells))])
    print(json.dumps({"wall_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
