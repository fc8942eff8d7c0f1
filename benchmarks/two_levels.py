"""What a few dear labels are worth: a fit to them alone, a fit of differences on a cheap potential, the cheap potential.

    python benchmarks/two_levels.py [--pw] [--labels FOLDER]

Silicon, 160 random cells of 2 to 8 atoms with cheap labels; 5, 10, 20 and 40 of them, chosen by farthest points, have dear ones,
too; 60 other cells test at the dear level. Without --pw Stillinger–Weber is cheap and Tersoff dear: a difference about half as large
as the labels. With --pw (pw.x in the path, Debian's Si.pz-vbc.UPF) LDA with 12 Ry and few k-points is cheap, with 24 Ry and many dear,
cells have 2 or 4 atoms; the labels, of half an hour, are kept in FOLDER. Smearings and choices are the same for both levels.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from ase import Atoms
from ase.io import read
from common import FOLDER, silicon_cells

from aiida_gaprss import frames as fr

#: Tersoff, Phys. Rev. B 39, 5566 (1989), silicon.
TERSOFF = (
    '<Tersoff_params n_types="1" label="PRB_39"><per_type_data type="1" atomic_num="14" A="1830.8" B="471.18" lambda="2.4799" '
    'mu="1.7322" beta="1.1000e-6" n="0.78734" c="100390" d="16.217" h="-0.59825" R="2.7" S="3.0" />'
    '<per_pair_data type1="1" type2="1" chi="1.0" /></Tersoff_params>'
)
UPF = Path("/usr/share/espresso/pseudo/Si.pz-vbc.UPF")
CHEAP, TESTED, DEAR = 160, 60, (5, 10, 20, 40)

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


def cells_of(sizes: tuple[int, ...]) -> list[Atoms]:
    """Return the isolated atom, and the cells with names."""
    frames = [Atoms("Si", cell=[10.0] * 3, pbc=True), *silicon_cells(CHEAP + TESTED, sizes)]
    for number, atoms in enumerate(frames):
        atoms.info.update(config_type="random" if number else "isolated_atom", frame_id=f"cell-{number:03d}")
    return frames


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pw", action="store_true")
    parser.add_argument("--labels", type=Path, default=FOLDER)
    asked = parser.parse_args()
    frames = cells_of((2, 4))
    by_pw(frames, 12.0, 0.12, asked.labels / "cheap")
    from aiida_gaprss.selection.choose import farthest
    from aiida_gaprss.selection.fingerprints import fingerprints

    pool = frames[1 : 1 + CHEAP]
    order = farthest(fingerprints(pool, [14]), 40).kept
    dear = [frames[0], *(pool[i] for i in order), *frames[1 + CHEAP :]]
    import time

    t = time.time()
    for d in dear:
        by_pw([d.copy()], 24.0, 0.08, asked.labels / "dear")
        print(len(d), d.info["frame_id"], round(time.time() - t, 1), flush=True)
