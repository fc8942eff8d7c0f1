"""β-B105 and a model of β-B106, for local_energies.py: python beta_boron_106.py writes beta_B105.xyz and beta_B106.xyz.

β-B105 has every site of beta_boron.cif full. β-B106 lacks one of six atoms B13, as the model of that name in V. L. Deringer,
C. J. Pickard, G. Csányi, PRL 120, 156001 (2018) does; its two atoms more are in the holes H1 of beta_boron_321.cif, points that a
program found, where the published model has sites of which no coordinates could be had.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write
from spglib import find_primitive

HERE = Path(__file__).parent

#: Of the holes on the threefold axis, along it, and of a site B13, hexagonal axes.
HOLE, B13 = 0.2379, (0.060563, 0.939437, 0.552137)


def crystals() -> dict[str, Atoms]:
    """Return the two crystals, rhombohedral axes."""
    hexagonal = read(HERE / "beta_boron.cif", fractional_occupancies=False)
    cell, places, numbers = find_primitive((hexagonal.cell.array, hexagonal.get_scaled_positions(), hexagonal.numbers), 1e-3)
    full = Atoms(numbers, scaled_positions=places, cell=cell, pbc=True)
    return {"beta_B105": full, "beta_B106": changed(full, hexagonal)}


def changed(full: Atoms, hexagonal: Atoms) -> Atoms:
    """Return the crystal without one B13, and with both holes filled."""
    out = full.copy()
    axis = full.cell.array.sum(axis=0)
    out += Atoms("B2", positions=[HOLE * axis, -HOLE * axis])
    out.wrap()
    centre = 0.5 * axis  # B15, about which the six B13 are
    distances = np.linalg.norm(out.positions - centre, axis=1)
    del out[int(np.argsort(distances)[1])]
    return out


if __name__ == "__main__":
    for name, atoms in crystals().items():
        write(f"{name}.xyz", atoms)
        distances = atoms.get_all_distances(mic=True) + 9 * np.eye(len(atoms))
        print(f"{name}.xyz: {len(atoms)} atoms, shortest distance {distances.min():.3f} Å")
