"""SOAP against soap_turbo at equal test error on silicon: python benchmarks/descriptors.py.

Random cells and rattled diamond with Stillinger-Weber labels; with GAPRSS_DATA, the silicon of Zuo et al. instead. A fit with
SOAP sets the error; of the fits with soap_turbo, the one with the fewest sparse points that is as good is compared: CPU time of
gap_fit, and time to evaluate energy, forces and stress of an atom, one thread each.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from common import FOLDER, gap_fit, labelled_silicon, silicon_cells

from aiida_gaprss import frames as fr
from aiida_gaprss.io.extxyz import Keys, extxyz_text, import_frames
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.models.training import atomic_energies

SIGMA = {"energy": 0.005, "forces": 0.05, "virial": 0.1}
PAIR = {"kind": "distance_2b", "cutoff": 5.0, "n_sparse": 20}
SOAP = {"cutoff": 5.0, "n_max": 8, "l_max": 6, "atom_sigma": 0.5, "delta": 0.5}

EVALUATE = """
import sys, time, json
import numpy as np
from ase.io import read
from quippy.potential import Potential
frames = read("test.extxyz", ":")
calculator = Potential(param_filename=sys.argv[1])
energies, forces, seconds = [], [], 1e9
for attempt in range(2):
    started = time.process_time()
    for atoms in frames:
        atoms.calc = calculator
        atoms.get_stress()
        if not attempt:
            energies.append((atoms.get_potential_energy() - atoms.info["REF_energy"]) / len(atoms))
            forces.append((atoms.get_forces() - atoms.arrays["REF_forces"]).ravel())
    seconds = min(seconds, time.process_time() - started)
    calculator.reset()
rms = lambda x: float(np.sqrt(np.mean(np.square(x))))
print(json.dumps([1000 * rms(energies), rms(np.concatenate(forces)), 1000 * seconds / sum(map(len, frames))]))
"""


def sets() -> tuple[list[Atoms], list[Atoms], str]:
    """Return training and test frames, and the zero of energy."""
    data = os.environ.get("GAPRSS_DATA")
    if data:
        import gzip

        parts = []
        for name in ("training", "test"):
            path = FOLDER / f"{name}.xyz"
            path.write_bytes(gzip.decompress((Path(data) / "mlearn" / f"Si_{name}.xyz.gz").read_bytes()))
            parts.append(import_frames(path, Keys(energy="dft_energy", forces="dft_force")))
        return parts[0][::3], parts[1], "average"
    generator = np.random.default_rng(1)
    cells = silicon_cells(300, (4, 6, 8), seed=1)
    for _ in range(40):
        atoms = bulk("Si", cubic=True)
        atoms.rattle(0.1, rng=generator)
        cells.append(atoms)
    frames = labelled_silicon(cells)
    return [*frames[:1], *frames[1::2]], frames[2::2], "isolated"


def measure(name: str, settings: GapSettings, training: list[Atoms]) -> list[float]:
    """Return energy error (meV/atom), force error (eV/Å), ms/atom, and CPU seconds of the fit."""
    folder = FOLDER / name
    folder.mkdir()
    (folder / "train.extxyz").write_text(extxyz_text(training), encoding="utf-8")
    shutil.copy(FOLDER / "test.extxyz", folder)
    (folder / "in").write_text(settings.command("train.extxyz", "gap.xml", 1, atomic_energies(training, settings.e0)))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([gap_fit(), "config_file=in"], cwd=folder, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not (folder / "gap.xml").is_file():
        raise SystemExit(done.stdout[-500:] + done.stderr[-500:])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    output = subprocess.run([sys.executable, "-c", EVALUATE, "gap.xml"], cwd=folder, capture_output=True, text=True, check=True)
    return [*json.loads(output.stdout.splitlines()[-1]), seconds]


def main() -> None:
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_STACKSIZE": "64M"}
    training, test, zero = sets()
    (FOLDER / "test.extxyz").write_text(extxyz_text([a for a in test if not fr.is_isolated_atom(a)]), encoding="utf-8")
    print(f"{len(training)} frames, {sum(map(len, training))} atoms; test {len(test)} frames; {time.strftime('%Y-%m-%d')}")
    print("| fit | energy RMSE, meV/atom | forces RMSE, eV/Å | ms/atom | CPU-s of the fit |\n|---|---|---|---|---|")
    goal: list[float] = []
    for kind, n_sparse in (("soap", 500), *(("soap_turbo", n) for n in (250, 350, 500, 700, 1000, 1500))):
        many = {"kind": kind, **SOAP, "n_sparse": n_sparse}
        found = measure(f"{kind}{n_sparse}", GapSettings(descriptors=[PAIR, many], sigma=SIGMA, e0=zero), training)
        print(
            f"| {kind}, {n_sparse} sparse points | {found[0]:.2f} | {found[1]:.3f} | {found[2]:.2f} | {found[3]:.1f} |",
            flush=True,
        )
        if kind == "soap":
            goal = found
        elif found[1] <= goal[1] and found[0] <= goal[0]:
            ratios = f"ms/atom {goal[2] / found[2]:.1f}, CPU time of the fit {goal[3] / found[3]:.1f}"
            print(f"soap / soap_turbo at equal error: {ratios}")
            break
    else:
        print("soap_turbo did not reach the error of SOAP")
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
