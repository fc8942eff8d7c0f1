"""Silicon quenched from the melt, by our property and by LAMMPS: python benchmarks/melt_quench.py [--seeds 3] [--cells 3].

Stillinger-Weber silicon at the density of the crystal, Langevin dynamics, from 300 K to 3000 K and back at 3·10¹⁴ K/s. LAMMPS
(Debian's package ``lammps``) has the potential, the dynamics and the g(r) of its own: nothing but the protocol is shared. Where
the peaks are and how many neighbours there are is told for both, as mean and standard deviation over the seeds.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.build import bulk
from common import stillinger_weber

LATTICE, COLD, HOT, RATE, HOLD, TIMESTEP = 5.431, 300.0, 3000.0, 300.0, 1.0, 0.002
BIN, SHELL = 0.05, 3.1

LAMMPS = """\
units metal
lattice diamond {lattice}
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 28.085
pair_style sw
pair_coeff * * {file} Si
velocity all create {cold} {seed} mom yes rot no
timestep {timestep}
fix move all nve
compute g all rdf {bins}
"""

STAGE = """\
fix heat all langevin {start} {end} {damping} {seed}
fix mean all ave/time 10 {samples} {steps} c_g[*] mode vector file {name}.rdf
run {steps}
unfix mean
unfix heat
"""

#: LAMMPS averages over the second part of a hold, as our ``last`` snapshots.
STAGES = {
    "crystal": (COLD, COLD),
    "heating": (COLD, HOT),
    "liquid": (HOT, HOT),
    "cooling": (HOT, COLD),
    "amorphous": (COLD, COLD),
}


def theirs(lammps: str, cells: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the first peak (Å) and the neighbours within ``SHELL`` of crystal, liquid and glass, by LAMMPS."""
    folder = Path(tempfile.mkdtemp(prefix="gaprss-lammps-"))
    file = next(Path(place) / "Si.sw" for place in ("/usr/share/lammps/potentials", ".") if (Path(place) / "Si.sw").is_file())
    bins = round(min(5.0, 3.7712) / BIN)  # LAMMPS counts to the cutoff of the potential, 1.8 σ
    head = LAMMPS.format(lattice=LATTICE, cells=cells, file=file, cold=2 * COLD, seed=seed, timestep=TIMESTEP, bins=bins)
    text = [head]
    for number, (name, (start, end)) in enumerate(STAGES.items()):
        steps = round((HOLD if start == end else abs(end - start) / RATE) / TIMESTEP / 20) * 20
        values = {"start": start, "end": end, "damping": 0.1, "seed": 100 * seed + number, "name": name}
        text.append(STAGE.format(samples=steps // 20, steps=steps, **values))
    (folder / "in.lammps").write_text("".join(text), encoding="utf-8")
    done = subprocess.run([lammps, "-in", "in.lammps"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr)
    out = {}
    for name in ("crystal", "liquid", "amorphous"):
        r, g, within = np.loadtxt(folder / f"{name}.rdf", skiprows=4, usecols=(1, 2, 3)).T
        out[name] = (peak(r, g), float(np.interp(SHELL, r + BIN / 2, within)))
    shutil.rmtree(folder)
    return out


def peak(r: np.ndarray, g: np.ndarray) -> float:
    """Return where the parabola through the five highest neighbouring bins has its vertex, Å."""
    top = int(np.argmax(g))
    near = slice(max(top - 2, 0), top + 3)
    a, b, _ = np.polyfit(r[near], g[near], 2)
    return float(-b / (2 * a))


def ours(cells: int, seed: int) -> dict[str, tuple[float, float]]:
    """Return the same by the property, with quippy's Stillinger-Weber potential."""
    from quippy.potential import Potential

    from aiida_gaprss.properties.melt_quench import MeltQuench

    way = MeltQuench(
        repetitions=(cells,) * 3,
        vacancies=0,
        cold_K=COLD,
        hot_K=HOT,
        rate_K_per_ps=RATE,
        hold_ps=HOLD,
        last=25,
        snapshot_ps=0.02,
        timestep_fs=1000 * TIMESTEP,
        ensemble="nvt_langevin",
        bin_A=BIN,
        seed=seed,
    )
    crystal = bulk("Si", a=LATTICE, cubic=True)
    found = way.compute(Potential(**stillinger_weber()["arguments"]), crystal)
    out = {}
    for name in ("crystal", "liquid", "amorphous"):
        shells = found["stages"][name]["structure"]
        r, g = np.array(shells["r_A"]), np.array(shells["g"])
        within = 4 * np.pi * len(crystal) / crystal.get_volume() * np.cumsum(g * r**2) * BIN
        out[name] = (shells["first_peak_A"], float(np.interp(SHELL, r + BIN / 2, within)))
    return out


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=3)
    given = parser.parse_args()
    lammps = shutil.which("lmp") or shutil.which("lmp_serial")
    if not lammps:
        raise SystemExit("no lmp here: on Debian, apt-get install lammps")
    runs: dict[str, list] = {"LAMMPS": [], "ours": []}
    for seed in range(1, given.seeds + 1):
        for name, one in (("LAMMPS", lambda s: theirs(lammps, given.cells, s)), ("ours", lambda s: ours(given.cells, s))):
            started = time.perf_counter()
            runs[name].append(one(seed))
            print(f"{name}, seed {seed}: {time.perf_counter() - started:.0f} s", flush=True)
    print(
        f"\n{8 * given.cells**3} atoms; first peak (Å), neighbours within {SHELL} Å; mean ± standard deviation of {given.seeds}"
    )
    for stage in ("crystal", "liquid", "amorphous"):
        for name, found in runs.items():
            values = np.array([one[stage] for one in found])
            mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(2)
            print(f"{stage:10s} {name:7s} {mean[0]:.3f} ± {spread[0]:.3f}   {mean[1]:.2f} ± {spread[1]:.2f}")


if __name__ == "__main__":
    main()
