"""Forecast against measurement: peak memory and CPU time of gap_fit.

python benchmarks/forecast.py                            # the fits that the coefficients were not made from
python benchmarks/forecast.py --all --only Cu --save FILE # all fits whose names begin so; keep the measurements
python benchmarks/forecast.py --calibrate                # measure the fits that the coefficients are made from, print new ones
python benchmarks/forecast.py --calibrate --use FILE     # the same from kept measurements, the median of each fit

Random cells of copper, palladium and two alloys with EMT labels need no data; the sets of other elements need GAPRSS_DATA,
the folder of reference data. Every fit takes less than three CPU-minutes. Run it when the machine does nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import iread
from common import label
from scipy.optimize import least_squares, nnls

from aiida_gaprss import frames as fr
from aiida_gaprss.models.gap import forecast as model
from aiida_gaprss.models.gap.log import read_log
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

HEAD = """\
| fit | frames | atoms | rows x columns | MB forecast | measured | ratio | CPU-s forecast | measured | ratio |
|---|---|---|---|---|---|---|---|---|---|"""

SIGMA = {"energy": 0.01, "forces": 0.1, "virial": 0.1}

#: A light process that runs gap_fit: a child's peak memory is never less than that of the process which started it.
LAUNCHER = """
import json, os, sys
log = open("gap_fit.out", "w")
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[
    (os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)])
_, status, usage = os.wait4(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


@dataclass(frozen=True)
class Case:
    """A fit: frames of a source, the labels they keep (energies, forces, virials), the descriptors."""

    name: str
    source: str
    frames: int
    labels: str
    descriptors: tuple[dict, ...]
    held_out: bool = False


def pair(cutoff: float, n_sparse: int = 20) -> dict:
    return {"kind": "distance_2b", "cutoff": cutoff, "n_sparse": n_sparse}


def triplet(cutoff: float, n_sparse: int = 100) -> dict:
    return {"kind": "angle_3b", "cutoff": cutoff, "n_sparse": n_sparse}


def soap(cutoff: float, n_max: int, l_max: int, n_sparse: int, kind: str = "soap", **more: str) -> dict:
    return {"kind": kind, "cutoff": cutoff, "n_max": n_max, "l_max": l_max, "n_sparse": n_sparse, **more}


def turbo(cutoff: float, n_max: int, l_max: int, n_sparse: int) -> dict:
    return soap(cutoff, n_max, l_max, n_sparse, "soap_turbo")


CASES = [
    Case("small", "Cu", 20, "ef", (pair(4.0, 10),)),
    Case("Cu 2b", "Cu", 300, "efv", (pair(6.0, 50),)),
    Case("Cu 2b+soap(4,3)", "Cu", 60, "ef", (pair(5.0), soap(4.5, 4, 3, 50))),
    Case("Cu soap(8,6)", "Cu", 100, "efv", (soap(4.5, 8, 6, 300),)),
    Case("Cu soap_turbo(8,8)", "Cu", 200, "efv", (pair(5.0), turbo(5.0, 8, 8, 500))),
    Case("Pd soap_turbo(8,4)", "Pd", 400, "ef", (turbo(4.5, 8, 4, 300),)),
    Case("Pd soap(6,6), energies", "Pd", 500, "e", (soap(5.0, 6, 6, 1500),)),
    Case("AlCu soap(6,4)", "AlCu", 80, "efv", (soap(4.5, 6, 4, 400),)),
    Case("AlCu 3b", "AlCu", 150, "ef", (triplet(4.0, 200),)),
    Case("AlCu soap(8,4), energies", "AlCu", 200, "e", (pair(5.0), soap(4.5, 8, 4, 600))),
    Case("AlCu soap(4,4)", "AlCu", 120, "ef", (soap(5.0, 4, 4, 250),)),
    Case("Si 2b", "Si", 80, "efv", (pair(6.0, 50),)),
    Case("Si 2b+3b", "Si", 30, "ef", (pair(5.0), triplet(4.0, 200))),
    Case("Si soap(8,4)", "Si", 20, "ef", (soap(5.0, 8, 4, 300),)),
    Case("Si soap_turbo(8,8)", "Si", 30, "efv", (turbo(5.0, 8, 8, 800),)),
    Case("Si soap(10,8), energies", "Si", 60, "e", (soap(5.0, 10, 8, 800),)),
    Case("Mo 3b", "Mo", 40, "efv", (triplet(4.0, 50),)),
    Case("Mo soap(4,4)", "Mo", 30, "efv", (soap(4.5, 4, 4, 1500),)),
    Case("Mo soap(8,8)", "Mo", 10, "ef", (soap(5.0, 8, 8, 400),)),
    Case("Mo soap_turbo(6,4), energies", "Mo", 190, "e", (pair(5.0), turbo(5.0, 6, 4, 1500))),
    Case("B 2b+soap(12,6)", "B", 39, "efv", (pair(5.0), soap(4.5, 12, 6, 200))),
    Case("LiCu 2b+soap(6,4)", "LiCu", 152, "efv", (pair(5.0), soap(4.5, 6, 4, 300))),
    Case("Cu soap_turbo(4,3), 2500 points", "Cu", 300, "ef", (turbo(4.5, 4, 3, 2500),)),
    # Held out: never used for the coefficients.
    Case("Cu 2b+soap(8,8)", "Cu", 150, "efv", (pair(5.5, 30), soap(4.8, 8, 8, 400)), held_out=True),
    Case("Cu 2b+3b", "Cu", 250, "ef", (pair(5.5, 40), triplet(3.6, 150)), held_out=True),
    Case("Pd 2b+soap_turbo(8,6)", "Pd", 250, "efv", (pair(5.0), turbo(4.8, 8, 6, 700)), held_out=True),
    Case("Pd 2b+soap_turbo(4,4), 2000 points", "Pd", 300, "efv", (pair(5.0), turbo(4.5, 4, 4, 2000)), held_out=True),
    Case("AlCu 2b+soap(5,5)", "AlCu", 150, "efv", (pair(5.0), soap(4.2, 5, 5, 300)), held_out=True),
    Case("AlCu soap(6,6), energies", "AlCu", 300, "e", (soap(4.8, 6, 6, 800),), held_out=True),
    Case("Si 2b+3b+soap(8,6)", "Si", 25, "efv", (pair(5.0), triplet(3.8, 100), soap(4.5, 8, 6, 500)), held_out=True),
    Case("Si 2b+soap_turbo(8,5)", "Si", 60, "ef", (pair(5.0), turbo(4.7, 8, 5, 1000)), held_out=True),
    Case("Mo soap(8,6)", "Mo", 30, "ef", (soap(4.7, 8, 6, 700),), held_out=True),
    Case("Mg 2b+soap(8,6)", "Mg", 500, "efv", (pair(6.0), soap(5.0, 8, 6, 100)), held_out=True),
    Case("B 2b+3b+soap(8,6)", "B", 39, "efv", (pair(5.0), triplet(3.5, 100), soap(4.5, 8, 6, 250)), held_out=True),
    Case("LiCu 2b+3b+soap(8,3)", "LiCu", 152, "ef", (pair(5.0), triplet(3.5, 60), soap(5.0, 8, 3, 200)), held_out=True),
    Case("AgAuPt 2b+soap(4,4)", "AgAuPt", 100, "efv", (pair(5.0), soap(4.6, 4, 4, 250)), held_out=True),
    Case("AlCu 2b+3b+soap(7,5)", "AlCu", 100, "efv", (pair(5.2), triplet(3.7, 80), soap(4.6, 7, 5, 350)), held_out=True),
    Case("Si soap_turbo(6,6), energies", "Si", 200, "e", (turbo(5.0, 6, 6, 2000),), held_out=True),
    Case("Mo 2b+soap(8,8)", "Mo", 40, "efv", (pair(5.0), soap(5.0, 8, 8, 400)), held_out=True),
    Case("large: Pd 2b+soap(8,8)", "Pd", 400, "efv", (pair(5.5, 30), soap(5.2, 8, 8, 700)), held_out=True),
]

EMT_CELLS = {
    "Cu": CellSpec({"Cu": 1}, (4, 8, 12, 16), (10.0, 14.0), 2.0, (1, 2, 4)),
    "Pd": CellSpec({"Pd": 1}, (4, 6, 8, 12), (13.0, 19.0), 2.2, (1, 2, 4)),
    "AgAuPt": CellSpec({"Ag": 1, "Au": 1, "Pt": 1}, (3, 6, 9), (13.0, 20.0), 2.2, (1, 2, 4)),
    "AlCu": CellSpec({"Al": 1, "Cu": 1}, (4, 8, 12), (11.0, 17.0), 2.1, (1, 2, 4)),
}
FILES = {
    "Si": ("mlearn/Si_training.xyz.gz", "dft"),
    "Mo": ("mlearn/Mo_training.xyz.gz", "dft"),
    "B": ("boron/random_search_39.xyz", "REF"),
    "LiCu": ("licu/LiCu_iter0_fitting.xyz", "REF"),
    "Mg": ("magnesium_strain/Mg_hcp_500.extxyz.gz", ""),
}


def load(source: str, n: int) -> list[Atoms] | None:
    """Return labelled frames, evenly taken from a source; None if it is not on this machine."""
    if source in EMT_CELLS:
        return label(random_cells(EMT_CELLS[source], n, seed=5), EMT())
    path, prefix = FILES[source]
    folder = os.environ.get("GAPRSS_DATA")
    if not folder:
        return None
    frames = []
    for atoms in iread(Path(folder) / path, index=":", format="extxyz"):
        stored = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc else {})}
        labels = {key.removeprefix(f"{prefix}_"): value for key, value in stored.items()}
        virial = labels.get("virial")
        if "stress" in labels and len(atoms) > 2:
            virial = fr.virial_from_stress(labels["stress"], atoms.get_volume())
        out = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        fr.set_labels(out, labels["energy"], labels.get("force", labels.get("forces")), virial)
        frames.append(out)
    return [frames[i] for i in np.linspace(0, len(frames) - 1, n).astype(int)]


def prepare(case: Case) -> tuple[list[Atoms], GapSettings] | None:
    """Return frames and settings of a case; None without the data."""
    frames = load(case.source, case.frames)
    if frames is None:
        return None
    for atoms in frames:
        if "f" not in case.labels:
            atoms.arrays.pop("REF_forces", None)
        if "v" not in case.labels:
            atoms.info.pop("REF_virial", None)
    return frames, GapSettings(descriptors=list(case.descriptors), sigma=SIGMA)


def measure(frames: list[Atoms], settings: GapSettings, threads: int = 1) -> dict:
    """Run gap_fit; return its CPU time, peak memory, and the CPU time of its parts from the log."""
    import quippy

    elements = {s for atoms in frames for s in atoms.get_chemical_symbols()}
    folder = Path(tempfile.mkdtemp(prefix="gaprss-forecast-"))
    (folder / "train.xyz").write_text(fr.dumps(frames), encoding="utf-8")
    command = settings.command("train.xyz", "gap.xml", 1, dict.fromkeys(elements, 0.0))
    (folder / "gap_fit.in").write_text(command, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(Path(quippy.__file__).parent / "gap_fit"), "config_file=gap_fit.in"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1", "OMP_STACKSIZE": "64M"},
        capture_output=True,
        text=True,
        check=True,
    )
    status, cpu, peak_kB = json.loads(done.stdout)
    log = (folder / "gap_fit.out").read_text(encoding="utf-8")
    if status or "SYSTEM ABORT" in log:
        raise RuntimeError(f"gap_fit failed, see {folder}")
    shutil.rmtree(folder)
    # "TIMER: Solve linear system      done in .15968 cpu secs, .27392 wall clock secs."
    found = re.findall(r"^TIMER: (.*?) +done in +([0-9.E+-]+) cpu", log, re.MULTILINE)
    timers = {name: float(seconds) for name, seconds in found}
    covariances = [timers[f"gpFull_covarianceMatrix_sparse_Coordinate{i + 1}"] for i in range(len(read_log(log).descriptors))]
    return {
        "gap_fit": read_log(log).version,
        "cpu": cpu,
        "peak_MB": peak_kB * 1024 / 1e6,
        "preparation": cpu - timers["GP sparsify"],
        "covariances": covariances,
        "solution": timers["GP sparsify"] - sum(covariances),
    }


def kept(path: Path) -> dict[str, dict]:
    """Return the median of the measurements of every case on one thread."""
    lines = defaultdict(list)
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if line.get("threads", 1) == 1:
            lines[line["case"]].append(line)
    out = {}
    for name, several in lines.items():
        middle = {key: float(np.median([m[key] for m in several])) for key in ("cpu", "peak_MB", "preparation", "solution")}
        covariances = np.median([m["covariances"] for m in several], axis=0).tolist()
        out[name] = {"gap_fit": several[-1]["gap_fit"], "covariances": covariances, **middle}
    return out


def compare(case: Case, size: model.Forecast, measured: dict) -> None:
    """Print a line of the table."""
    print(
        f"| {case.name} | {size.frames} | {size.atoms} | {size.rows} x {size.columns} | {size.memory_MB:.0f} | "
        f"{measured['peak_MB']:.0f} | {size.memory_MB / measured['peak_MB']:.2f} | {size.cpu_seconds:.1f} | "
        f"{measured['cpu']:.1f} | {size.cpu_seconds / measured['cpu']:.2f} |",
        flush=True,
    )


def calibrate(sizes: dict[str, model.Forecast], measured: dict[str, dict]) -> model.Coefficients:
    """Return the coefficients that give the measurements best, relative errors counted."""
    names = list(sizes)
    totals = [measured[name]["cpu"] for name in names]

    def part(key: str, work: Callable[[model.Forecast], dict[str, float]]) -> dict[str, float]:
        return non_negative([work(sizes[name]) for name in names], [measured[name][key] for name in names], totals)

    single = [
        (model.covariance_work(d), seconds, measured[name]["cpu"])
        for name in names
        for d, seconds in zip(sizes[name].descriptors, measured[name]["covariances"], strict=True)
    ]
    coefficients = model.Coefficients(
        date=datetime.date.today().isoformat(),
        machine=processor(),
        gap_fit=next(iter(measured.values()))["gap_fit"],
        preparation=part("preparation", model.preparation_work),
        covariance=non_negative(*zip(*single, strict=True)),
        solution=part("solution", model.solution_work),
        memory={},
    )
    # Megabytes; "copies" are numbers of arrays, "kept" is a share.
    start = {
        "program": 20.0,
        "pair": 1e-4,
        "derivative": 16e-6,
        "instance": 1e-4,
        "copies of an instance": 3.0,
        "coordinates kept": 0.2,
        "copies of the rectangle": 2.0,
        "copies of the square": 2.0,
    }

    def errors(values: np.ndarray) -> list[float]:
        memory = dict(zip(start, values * list(start.values()), strict=True))
        trial = dataclasses.replace(coefficients, memory=memory)
        return [
            np.log(dataclasses.replace(sizes[name], coefficients=trial).memory_MB / measured[name]["peak_MB"]) for name in names
        ]

    best = least_squares(errors, np.ones(len(start)), bounds=(0.01, 100)).x
    memory = dict(zip(start, (float(x) for x in best * list(start.values())), strict=True))
    return dataclasses.replace(coefficients, memory=memory)


def non_negative(works: Iterable[dict[str, float]], seconds: Iterable[float], totals: Iterable[float]) -> dict[str, float]:
    """Return seconds per unit of work, none negative; errors count relative to the time of the part, or a tenth of the whole."""
    works, measured = list(works), np.array(list(seconds))
    names = sorted({name for work in works for name in work})
    weights = 1.0 / np.maximum(np.maximum(measured, 0.1 * np.array(list(totals))), 0.05)
    matrix = np.array([[work.get(name, 0.0) for name in names] for work in works]) * weights[:, None]
    scale = np.abs(matrix).max(axis=0)
    return dict(zip(names, (float(x) for x in nnls(matrix / scale, measured * weights)[0] / scale), strict=True))


def processor() -> str:
    """Return the name of this machine's processor."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else platform.processor()


def show(coefficients: model.Coefficients) -> str:
    """Return coefficients as they stand in the module."""
    lines = ["MEASURED = Coefficients("]
    for field in dataclasses.fields(coefficients):
        value = getattr(coefficients, field.name)
        if isinstance(value, str):
            lines.append(f'    {field.name}="{value}",')
        else:
            entries = [f'        "{name}": {float(f"{number:.3g}")!r},' for name, number in value.items()]
            lines += [f"    {field.name}={{", *entries, "    },"]
    return "\n".join([*lines, ")"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibrate", action="store_true", help="make new coefficients")
    parser.add_argument("--all", action="store_true", help="measure also the fits that the coefficients are made from")
    parser.add_argument("--only", default="", help="beginning of the names of the fits")
    parser.add_argument("--threads", type=int, default=1, help="of gap_fit; the forecast is for one")
    parser.add_argument("--save", type=Path, help="file that measurements are added to")
    parser.add_argument("--use", type=Path, help="file of measurements, instead of measuring")
    options = parser.parse_args()

    known = kept(options.use) if options.use else {}
    sizes, measured = {}, {}
    if not options.calibrate:
        print(HEAD, flush=True)
    for case in CASES:
        if not case.name.startswith(options.only) or (case.held_out is options.calibrate and not options.all):
            continue
        prepared = prepare(case)
        if prepared is None:
            print(f"{case.name}: needs GAPRSS_DATA", file=sys.stderr)
            continue
        if options.use and case.name not in known:
            continue
        sizes[case.name] = model.forecast(*prepared)
        measured[case.name] = known.get(case.name) or measure(*prepared, options.threads)
        if options.save:
            with options.save.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps({"case": case.name, "threads": options.threads, **measured[case.name]}) + "\n")
        if not options.calibrate:
            compare(case, sizes[case.name], measured[case.name])
    if options.calibrate:
        made_from = {case.name for case in CASES if not case.held_out}
        new = calibrate({name: size for name, size in sizes.items() if name in made_from}, measured)
        print(HEAD)
        for case in CASES:
            if case.name in sizes:
                compare(case, dataclasses.replace(sizes[case.name], coefficients=new), measured[case.name])
        print(show(new))


if __name__ == "__main__":
    main()
