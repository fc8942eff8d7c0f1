"""What wfl does with the cells of wfl_side_by_side.py; runs in an environment of its own, which has wfl and not this package.

python wfl_theirs.py relax|evaluate|label INPUT OUTPUT SETTINGS
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from pathlib import Path

from wfl.calculators import generic
from wfl.configset import ConfigSet, OutputSpec
from wfl.generate.optimize import optimize


def main(task: str, source: str, target: str, settings_file: str) -> None:
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    sys.path.insert(0, ".")  # a calculator may lie in the folder
    module, _, name = settings["calculator"].rpartition(".")
    calculator = (getattr(import_module(module), name), [], settings["arguments"])
    started = time.perf_counter()
    if task == "relax":
        optimize(
            ConfigSet(source),
            OutputSpec(target),
            calculator,
            fmax=settings["fmax"],
            smax=settings["smax"],
            steps=settings["max_steps"],
            pressure=("info", "pressure_GPa"),
            keep_symmetry=False,
            traj_subselect="last",
            results_prefix="GAP_",
        )
    else:
        properties = ["energy", "forces", "stress"]
        generic.calculate(ConfigSet(source), OutputSpec(target), calculator, properties=properties, output_prefix="GAP_")
    print(json.dumps({"wall_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
