"""The same cells and the same GAP through wfl (https://github.com/libAtoms/workflow) and through the jobs of this package.

python benchmarks/wfl_side_by_side.py [CELLS] [EVALUATIONS] [LABELS] [REPEATS]

Four things, each side in turn, on two processes of one thread each: relaxations and evaluations with a GAP, and labels of a
cheap calculator (Stillinger-Weber) and of the GAP, ours through AiiDA's engine with all provenance, theirs written to a file.
Wall times are of whole commands, from the start of python to the result on disk, and without the start of python and imports.

wfl relaxes with ASE's ``PreconLBFGS``, whose steps are line searches, and knows no other optimiser; ours is ASE's ``LBFGS``. Both
end at the same largest force, and at the same stress as far as that can be told; ``wfl, loose`` is at wfl's default, a stress of
as many eV/Å^3 as the force has eV/Å, which is looser by a factor of twenty.

``GAPRSS_WFL`` is the python of an environment with wfl and the same quippy and ASE; if it is not set, one is made.
``GAPRSS_AUTOPLEX``, of one with autoplex (7 GB with PyTorch), adds its relaxations.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase import units
from ase.io import read, write
from common import FOLDER, fit_silicon, load_temporary_profile, silicon_cells, stillinger_weber

from aiida_gaprss.runners import FOLDER as RUNNERS
from aiida_gaprss.runners import scripts_of
from aiida_gaprss.settings.jobs import RelaxSettings

HERE = Path(__file__).resolve().parent
PROCESSES = 2
SAME = ("ase", "quippy-ase", "f90wrap", "numpy", "scipy", "spglib")

#: Largest force (eV/Å); a stress as tight as our force on a cell is that by the volume per atom (Å^3).
FMAX, VOLUME = 0.02, 20.0

#: GPa
PRESSURE = 5.0

#: quippy's potential that leaves a byte in a file for every evaluation.
COUNTING = """
import os
from quippy import potential_module
from quippy.potential import Potential

FILE = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
calc = potential_module.Potential.calc

def counted(*args, **kwargs):
    os.write(FILE, b".")
    return calc(*args, **kwargs)

potential_module.Potential.calc = counted
"""

#: Of a potential of 1.5 ms a cell, and of one of 4 ms; what the engine takes is the same.
LABELS = ("label", "label-gap")

#: What a user's script for labels does: frames in, work chain, frames out.
LABEL = """
import sys, time
from aiida import load_profile
load_profile()
from aiida.manage import get_manager
from aiida.orm import Dict, load_code
from ase.io import read
from aiida_gaprss.workflows.here.runner import CHILD_INTERVAL
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.workflows.label import LabelWorkChain
import json
started = time.perf_counter()
task = sys.argv[1]
settings = json.load(open(f"{task}.json"))
frames = read(f"{task}.extxyz", ":")
ase = {
    "code": load_code("gaprss-python@localhost"),
    "settings": Dict({key: settings[key] for key in ("calculator", "arguments")}),
    "metadata": {"options": {"processes": settings["processes"]}},
}
runner = get_manager().create_runner(communicator=None, poll_interval=CHILD_INTERVAL)  # as aiida-gaprss run
outputs, node = runner.run_get_node(LabelWorkChain, frames=Dataset(frames), ase=ase, reuse=False)
assert node.is_finished_ok, node.exit_message
open(f"ours-{task}.extxyz", "w").write(outputs["frames"].text())
print(json.dumps({"wall_s": time.perf_counter() - started}))
"""


def python_with_wfl() -> str:
    """Return the python of an environment with wfl; make one with our versions if ``GAPRSS_WFL`` names none."""
    if os.environ.get("GAPRSS_WFL"):
        return os.environ["GAPRSS_WFL"]
    folder = FOLDER / "wfl"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    packages = ["wfl", *(f"{name}=={version(name)}" for name in SAME)]
    subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(folder / "bin" / "python")


class Side:
    """Commands of one side, and how long they took."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self.python = python
        self.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "WFL_NUM_PYTHON_SUBPROCESSES": str(PROCESSES),
            "PYTHONWARNINGS": "ignore",
            "CALLS": str(FOLDER / "calls"),
        }

    def versions(self) -> str:
        """Return the versions of what both use."""
        names = (*SAME, *([self.name.split(",")[0]] if self.name != "ours" else []))
        code = f"from importlib.metadata import version\nprint(', '.join(n + ' ' + version(n) for n in {names}))"
        return self.run("-c", code).strip()

    def run(self, *arguments: str) -> str:
        """Return what a command of its python prints."""
        done = subprocess.run(
            [self.python, *arguments], cwd=FOLDER, env=self.environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(arguments)[:80]}: {done.stderr[-2000:]}")
        return done.stdout

    def task(self, task: str) -> tuple[float, float, float]:
        """Run a task; return seconds of the whole, without start and imports, and of CPU."""
        before = os.times()
        if self.name != "ours":
            target = FOLDER / f"{self.name}-{task}.extxyz"
            target.unlink(missing_ok=True)
            settings = json.loads((FOLDER / f"{task}.json").read_text(encoding="utf-8"))
            write_settings("theirs", settings | {"smax": FMAX} if "loose" in self.name else settings)
            script = HERE / ("autoplex_theirs.py" if self.name == "autoplex" else "wfl_theirs.py")
            out = self.run(str(script), task, f"{task}.extxyz", target.name, "theirs.json")
        elif task in LABELS:
            out = self.run("-c", LABEL, task)
        else:
            shutil.copy(FOLDER / f"{task}.json", FOLDER / "settings.json")
            out = self.run("batch.py", task)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return after.elapsed - before.elapsed, json.loads(out.strip().splitlines()[-1])["wall_s"], cpu

    def results(self, task: str) -> list:
        """Return the last frame of each cell."""
        if self.name != "ours":
            return read(FOLDER / f"{self.name}-{task}.extxyz", ":")
        if task in LABELS:
            return read(FOLDER / f"ours-{task}.extxyz", ":")
        lines = [json.loads(line) for line in (FOLDER / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        from aiida_gaprss import frames as fr

        return [fr.loads(line["frames"])[-1] for line in sorted(lines, key=lambda line: line["index"])]

    def calls(self, task: str) -> int:
        """Return the number of evaluations of a task, counted in a run of its own."""
        settings = json.loads((FOLDER / f"{task}.json").read_text(encoding="utf-8"))
        (FOLDER / "calls").unlink(missing_ok=True)
        write_settings(task, settings | {"calculator": "counting.Potential"})
        self.task(task)
        write_settings(task, settings)
        return (FOLDER / "calls").stat().st_size


def write_settings(task: str, settings: dict[str, Any]) -> None:
    """Write the settings of a task, which both sides read."""
    (FOLDER / f"{task}.json").write_text(json.dumps(settings), encoding="utf-8")


def prepare(n: dict[str, int]) -> None:
    """Write cells and settings of the three tasks, and what runs them."""
    for name in {*scripts_of("relax"), *scripts_of("evaluate")}:
        shutil.copy(RUNNERS / f"{name}.py", FOLDER)
    (FOLDER / "counting.py").write_text(COUNTING, encoding="utf-8")
    gap = {
        "calculator": "quippy.potential.Potential",
        "arguments": {"param_filename": str(fit_silicon())},
        "processes": PROCESSES,
    }
    relax = RelaxSettings(fmax=FMAX, max_steps=200, min_distance=1.2, snapshot_steps=[]).model_dump()
    write_settings("relax", relax | gap | {"input": "relax.extxyz", "smax": FMAX / VOLUME})
    write_settings("evaluate", gap | {"input": "evaluate.extxyz", "local_energies": False, "variances": False})
    write_settings("label", stillinger_weber() | {"processes": PROCESSES})
    write_settings("label-gap", gap)
    for seed, task in enumerate(n, start=2):
        cells = silicon_cells(n[task], (4, 6, 8), seed)
        for number, atoms in enumerate(cells):
            atoms.info.update(frame_id=f"cell-{number}", config_type="random", pressure_GPa=PRESSURE)
        write(FOLDER / f"{task}.extxyz", cells, format="extxyz")


def compare_minima(sides: list[Side]) -> None:
    """Print how relaxations ended, and which minima are the lower ones."""
    lowest: dict[str, np.ndarray] = {}
    for side in sides:
        frames = side.results("relax")
        if side.name == "ours":
            energies = [a.info["PRED_energy"] for a in frames]
            steps = [a.info["step"] for a in frames]
            converged = sum(a.info["relax_status"] == "converged" for a in frames)
        elif side.name == "autoplex":
            energies = [a.get_potential_energy() for a in frames]
            steps = [a.info["RSS_minim_iter"] for a in frames]
            converged = sum(step < json.loads((FOLDER / "relax.json").read_text())["max_steps"] for step in steps)
        else:
            energies = [a.info["PRED_energy"] for a in frames]
            steps = [a.info["optimize_n_steps"] for a in frames]
            converged = sum(a.info["optimize_config_type"] == "optimize_last_converged" for a in frames)
        volumes = np.array([a.get_volume() for a in frames])
        lowest[side.name] = (energies + PRESSURE * units.GPa * volumes) / [len(a) for a in frames]
        difference = lowest[side.name] - lowest["ours"]
        mean, median = np.mean(lowest[side.name]), np.median(lowest[side.name])
        print(
            f"  {side.name}: {converged} of {len(frames)} converged, {sum(steps)} steps; enthalpy {mean:.3f} eV/atom in the mean,"
            f" {median:.3f} in the median; within 2 meV/atom of ours {(abs(difference) < 0.002).sum()},"
            f" higher {(difference > 0.002).sum()}, lower {(difference < -0.002).sum()}"
        )


def compare_labels(task: str, sides: list[Side]) -> None:
    """Print whether energies, forces and stresses agree."""
    ours, theirs = (side.results(task) for side in sides)
    prefix = "REF" if task in LABELS else "PRED"
    differences = [
        (
            abs(a.info[f"{prefix}_energy"] - b.info["PRED_energy"]) / len(a),
            np.abs(a.arrays[f"{prefix}_forces"] - b.arrays["PRED_forces"]).max(),
            np.abs(-np.reshape(a.info[f"{prefix}_virial"], (3, 3)) / a.get_volume() - full(b.info["PRED_stress"])).max(),
        )
        for a, b in zip(ours, theirs, strict=True)
    ]
    print("  largest differences: {:.0e} eV/atom, {:.0e} eV/Å, {:.0e} eV/Å^3".format(*np.max(differences, axis=0)))


def table(cells: int, calls: dict[str, int], runs: dict[str, list[tuple[float, ...]]]) -> None:
    """Print best and median times, and rates by the best; behind the first side, how many times its rate is the others'."""
    print(f"  {'':22}" + "".join(f"{name:>24}" for name in runs))

    def line(what: str, texts: list[str]) -> None:
        print(f"  {what:22}" + "".join(f"{text:>24}" for text in texts))

    for i, what in enumerate(("whole command, s", "without its start, s")):
        columns = [[run[i] for run in column] for column in runs.values()]
        pairs = [(min(column), statistics.median(column)) for column in columns]
        line(what, ["{:.2f} ({:.2f})".format(*pair) for pair in pairs])
        line("  ours is faster by", [f"{best / pairs[0][0]:.2f} ({median / pairs[0][1]:.2f})" for best, median in pairs])
    best = {name: [min(run[i] for run in column) for i in range(3)] for name, column in runs.items()}
    line("cells/s", [f"{cells / best[name][0]:.2f}" for name in runs])
    line("evaluations", [f"{calls[name]}" for name in runs])
    line("evaluations/s", [f"{calls[name] / best[name][1]:.0f}" for name in runs])
    # Jobs of AiiDA's engine are no children of the command: their CPU time is not in it.
    line("CPU, s", [f"{best[name][2]:.2f}" for name in runs])


def full(stress: np.ndarray) -> np.ndarray:
    """Return a stress in Voigt's order as a matrix."""
    xx, yy, zz, yz, xz, xy = np.ravel(stress)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def main() -> None:
    given = [int(x) for x in sys.argv[1:]]
    *numbers, repeats = given + [60, 2000, 1000, 3][len(given) :]
    n = dict(zip(("relax", "evaluate", "label"), numbers, strict=True))
    n["label-gap"] = n["label"]
    theirs = python_with_wfl()
    sides = [Side("ours", sys.executable), Side("wfl", theirs)]
    others = [Side("wfl, loose", theirs)]
    if os.environ.get("GAPRSS_AUTOPLEX"):
        others.append(Side("autoplex", os.environ["GAPRSS_AUTOPLEX"]))
    prepare(n)
    load_temporary_profile()
    os.environ["AIIDA_PATH"] = str(FOLDER)
    sides[0].environment |= {"AIIDA_PATH": str(FOLDER), "PATH": os.environ["PATH"]}
    for side in (*sides, *others):
        print(f"{side.name}: {side.versions()}")
    print(f"{PROCESSES} processes of one thread each; best (median) of {repeats}")
    for task in n:
        taking_part = sides + others if task == "relax" else sides
        runs: dict[str, list[tuple[float, ...]]] = {side.name: [] for side in taking_part}
        for repeat in range(repeats):
            for side in taking_part if repeat % 2 == 0 else taking_part[::-1]:
                runs[side.name].append(side.task(task))
        print(f"\n{task}, {n[task]} cells")
        table(n[task], {side.name: side.calls(task) if task not in LABELS else n[task] for side in taking_part}, runs)
        if task == "relax":
            compare_minima(taking_part)
        else:
            compare_labels(task, sides)
        sys.stdout.flush()
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
