"""Known crystals, and the same ones in other settings."""

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell

CRYSTALS = {
    225: bulk("Cu", "fcc", a=3.6),
    194: bulk("Cu", "hcp", a=2.55, c=4.16),
    229: bulk("Cu", "bcc", a=2.87),
    227: bulk("Cu", "diamond", a=5.4),
}


def relaxed(atoms: Atoms, energy_per_atom: float, frame_id: str, status: str = "converged", **info) -> Atoms:
    out = atoms.copy()
    out.info = {"frame_id": frame_id, "relax_status": status, "PRED_energy": energy_per_atom * len(out), **info}
    return out


def other_setting(atoms: Atoms, matrix: list[list[int]], seed: int) -> Atoms:
    """The same crystal in another cell, rotated, shifted, with its atoms in another order and a little noise."""
    rng = np.random.default_rng(seed)
    out = make_supercell(atoms, matrix)
    out = out[rng.permutation(len(out))]
    out.rotate(rng.uniform(0, 360), rng.normal(size=3), rotate_cell=True)
    out.positions += rng.uniform(size=3) + rng.normal(0, 0.003, (len(out), 3))
    out.wrap()
    return out


MATRICES = [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 1, 0], [0, 1, 0], [0, 0, 2]], [[2, 1, 0], [0, 1, 1], [1, 0, 1]]]
