"""What a few dear labels are worth: a fit to them alone, a fit of differences on a cheap potential, the cheap potential.

    python benchmarks/two_levels.py [vink|tersoff|pw] [--labels FOLDER]

Silicon: 160 cells have cheap labels; 5, 10, 20 and 40 of them, chosen by farthest points, have dear ones, too; 60 other cells
(36 with pw) test at the dear level. Three pairs of levels:

- vink: Stillinger-Weber silicon, and the same with the parameters of Vink et al. for amorphous silicon;
- tersoff: Stillinger-Weber and Tersoff;
- pw: LDA by pw.x (in the path, Debian's Si.pz-vbc.UPF), 12 Ry with k-points 0.12/Å apart and 24 Ry with 0.08/Å.

Cells are strained and displaced crystals; with pw random ones of 2 or 4 atoms, whose labels, of half an hour on a busy core, are
kept in FOLDER.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import read
from common import FOLDER, gap_fit, label, silicon_cells, stillinger_weber
from quippy.potential import Potential

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.differences import differences, spread_of
from aiida_gaprss.io.extxyz import extxyz_text
from aiida_gaprss.models.families import expand, family_of
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.selection.choose import farthest
from aiida_gaprss.selection.fingerprints import fingerprints

# Vink et al., J. Non-Cryst. Solids 282, 248 (2001): Stillinger–Weber with ε = 1.64833 eV and λ = 31.5.
#: Tersoff, Phys. Rev. B 39, 5566 (1989), silicon.
TERSOFF = (
    '<Tersoff_params n_types="1" label="PRB_39"><per_type_data type="1" atomic_num="14" A="1830.8" B="471.18" lambda="2.4799" '
    'mu="1.7322" beta="1.1000e-6" n="0.78734" c="100390" d="16.217" h="-0.59825" R="2.7" S="3.0" />'
    '<per_pair_data type1="1" type2="1" chi="1.0" /></Tersoff_params>'
)
UPF = Path("/usr/share/espresso/pseudo/Si.pz-vbc.UPF")
CHEAP, TESTED, TESTED_BY_PW, DEAR = 160, 60, 36, (5, 10, 20, 40)

INPUT = """\
&CONTROL
 calculation='scf', tprnfor=.true., tstress=.true., pseudo_dir='{pseudo}', outdir='.', prefix='si'
/
&SYSTEM
 ibrav=0, nat={nat}, ntyp=1, ecutwfc={cutoff}, occupations='smearing', smearing='gaussian', degauss=0.01, nosym=.false.
/
&ELECTRONS
 conv_thr=1d-9, mixing_beta=0.5, electron_maxstep=200
/
ATOMIC_SPECIES
Si 28.0855 {upf}
K_POINTS automatic
{mesh} 0 0 0
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS angstrom
{positions}
"""


def mesh_of(atoms: Atoms, spacing: float) -> list[int]:
    """Return the divisions of a mesh of k-points at most ``spacing`` (1/Å without 2π) apart; one of an isolated atom."""
    lengths = np.linalg.norm(np.linalg.inv(atoms.cell.array).T, axis=1)
    return [1, 1, 1] if fr.is_isolated_atom(atoms) else [int(n) for n in np.ceil(lengths / spacing - 1e-9)]


def by_pw(frames: Sequence[Atoms], cutoff: float, spacing: float, folder: Path) -> None:
    """Put the labels of pw.x on frames; those of earlier runs are read."""
    folder.mkdir(parents=True, exist_ok=True)
    for atoms in frames:
        name = atoms.info["frame_id"]
        output = folder / f"{name}.out"
        if not (output.is_file() and "JOB DONE" in output.read_text()):
            lines = [" ".join(f"{x:.10f}" for x in row) for row in atoms.cell.array]
            text = INPUT.format(
                pseudo=UPF.parent,
                upf=UPF.name,
                nat=len(atoms),
                cutoff=cutoff,
                mesh=" ".join(map(str, mesh_of(atoms, spacing))),
                cell="\n".join(lines),
                positions="\n".join(f"Si {x:.10f} {y:.10f} {z:.10f}" for x, y, z in atoms.positions),
            )
            done = subprocess.run(["pw.x"], input=text, cwd=folder, capture_output=True, text=True, check=False)
            output.write_text(done.stdout)
        found = read(output, format="espresso-out")
        virial = None if fr.is_isolated_atom(atoms) else fr.virial_from_stress(found.get_stress(), atoms.get_volume())
        fr.set_labels(atoms, found.get_potential_energy(), found.get_forces(), virial)


def named(cells: Sequence[Atoms]) -> list[Atoms]:
    """Return the isolated atom and the cells, with names."""
    frames = [Atoms("Si", cell=[10.0] * 3, pbc=True), *cells]
    for number, atoms in enumerate(frames):
        atoms.info.update(config_type="cell" if number else "isolated_atom", frame_id=f"cell-{number:03d}")
    return frames


def displaced() -> list[Atoms]:
    """Return crystals of 2 or 8 atoms, strained and displaced."""
    rng, cells = np.random.default_rng(1), []
    for number in range(CHEAP + TESTED):
        atoms = bulk("Si", a=5.431, cubic=number % 4 == 0)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
        atoms.rattle(rng.uniform(0.03, 0.2), rng=rng)
        cells.append(atoms)
    return cells


def copied(frames: Sequence[Atoms]) -> list[Atoms]:
    return [atoms.copy() for atoms in frames]


def by_calculators(frames: Sequence[Atoms], which: str) -> tuple[list[Atoms], dict[str, Atoms]]:
    """Return the frames with cheap labels, and all by their names with dear ones."""
    given = stillinger_weber()["arguments"]
    vink = re.sub(r'eps="2.1675"', 'eps="1.64833"', given["param_str"]).replace('lambda="21.0"', 'lambda="31.5"')
    others = {"vink": {**given, "param_str": vink}, "tersoff": {"args_str": "IP Tersoff", "param_str": TERSOFF}}
    cheap, dear = (label(copied(frames), Potential(**arguments)) for arguments in (given, others[which]))
    return cheap, {atoms.info["frame_id"]: atoms for atoms in dear}


def by_dft(frames: Sequence[Atoms], folder: Path) -> tuple[list[Atoms], dict[str, Atoms]]:
    """Return the frames with cheap labels, and those that need them with dear ones."""
    cheap = copied(frames)
    by_pw(cheap, 12.0, 0.12, folder / "cheap")
    wanted = copied([frames[0], *(frames[1 + number] for number in order_of(frames)), *frames[1 + CHEAP :]])
    by_pw(wanted, 24.0, 0.08, folder / "dear")
    return cheap, {atoms.info["frame_id"]: atoms for atoms in wanted}


def order_of(frames: Sequence[Atoms]) -> list[int]:
    """Return which cells are labelled at the dear level, as farthest points choose them."""
    return farthest(fingerprints(frames[1 : 1 + CHEAP], [14]), max(DEAR)).kept


def fit(frames: Sequence[Atoms], settings: GapSettings) -> Potential:
    """Return the calculator of a GAP."""
    folder, family, training = Path(tempfile.mkdtemp(prefix="fit-", dir=FOLDER)), family_of("gap"), copied(frames)
    family.prepare(training, settings)
    job = family.job(training, settings, 1, "train.extxyz")
    for name, text in {"train.extxyz": extxyz_text(training), **job.files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    subprocess.run([gap_fit(), *job.argv], cwd=folder, check=True, capture_output=True)
    return Potential(param_filename=str(folder / family.MAIN))


def errors(potentials: Sequence[Potential], test: Sequence[Atoms]) -> tuple[float, float]:
    """Return the root mean square errors of the sum of potentials: meV/atom, eV/Å."""
    energies, forces = [], []
    for atoms in test:
        works = [Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=one) for one in potentials]
        energies.append((sum(w.get_potential_energy() for w in works) - atoms.info["REF_energy"]) / len(atoms))
        forces.append((sum(w.get_forces() for w in works) - atoms.arrays["REF_forces"]).ravel())
    return 1000 * _rms(np.array(energies)), _rms(np.concatenate(forces))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def settings_of(spread: Any = None, **changes: Any) -> GapSettings:
    """Return the default settings, with fewer sparse points; of differences those that ``aiida-gaprss delta`` takes."""
    if spread is not None:
        return GapSettings(**expand(family_of("gap").for_differences(spread, changes), ["Si"]))
    soap = {"kind": "soap", "cutoff": "2.2 b", "n_max": 8, "l_max": 6, "n_sparse": 300, "delta": 0.5}
    terms = [{"kind": "distance_2b", "cutoff": "2.2 b"}, soap]
    return GapSettings(**expand({"protocol": "default", "descriptors": terms}, ["Si"]))


#: As in the fits of labels, for comparison.
SHARP = [
    {"kind": "distance_2b", "cutoff": "2.2 b", "n_sparse": 15, "delta": 0.05},
    {"kind": "soap", "cutoff": "2.2 b", "n_max": 8, "l_max": 6, "atom_sigma": 0.5, "n_sparse": 200, "delta": 0.05},
]


def compare(cheap: Sequence[Atoms], dear: dict[str, Atoms]) -> None:
    """Print a row for each number of dear labels."""
    pool, test = cheap[: 1 + CHEAP], [dear[atoms.info["frame_id"]] for atoms in cheap[1 + CHEAP :]]
    potential = fit(pool, settings_of())
    on_cheap, on_dear = errors([potential], cheap[1 + CHEAP :]), errors([potential], test)
    print(f"cheap potential: {on_cheap[0]:.1f} meV/atom, {on_cheap[1]:.3f} eV/Å at its own level, ", end="")
    print(f"{on_dear[0]:.1f}, {on_dear[1]:.3f} at the dear one")
    print("| dear labels | dear alone | differences added | the same, SOAP as sharp as for labels |\n|---|---|---|---|")
    order = order_of(cheap)
    for number in DEAR:
        known = [dear[cheap[0].info["frame_id"]], *(dear[cheap[1 + n].info["frame_id"]] for n in order[:number])]
        found = differences(known, pool).frames
        spread = spread_of(found)
        changes = [{}, {"descriptors": [{**term, "delta": spread.energy} for term in SHARP]}]
        rows = [errors([fit(known, settings_of())], test)]
        rows += [errors([potential, fit(found, settings_of(spread, **change))], test) for change in changes]
        print(f"| {number} | {' | '.join(f'{energy:.1f}, {forces:.3f}' for energy, forces in rows)} |   {spread}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pair", nargs="?", choices=("vink", "tersoff", "pw"), default="vink", help="levels")
    parser.add_argument("--labels", type=Path, default=FOLDER, help="folder of the outputs of pw.x")
    asked = parser.parse_args()
    if asked.pair == "pw":
        compare(*by_dft(named(silicon_cells(CHEAP + TESTED_BY_PW, (2, 4))), asked.labels))
    else:
        compare(*by_calculators(named(displaced()), asked.pair))
