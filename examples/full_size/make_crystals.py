"""Write the known crystals of the campaign: four structures of silicon at their Stillinger-Weber volumes (nearly).

The fit learns of their supercells (``crystals.extxyz``), the search is to find the cells (``targets.extxyz``).
"""

from __future__ import annotations

import sys
from pathlib import Path

from ase import Atoms
from ase.build import bulk
from ase.io import write


def crystals() -> list[Atoms]:
    """Return diamond, hexagonal diamond, beta-tin and simple cubic silicon."""
    lonsdaleite = Atoms(
        "Si4",
        scaled_positions=[(1 / 3, 2 / 3, 0.0625), (2 / 3, 1 / 3, 0.5625), (1 / 3, 2 / 3, 0.4375), (2 / 3, 1 / 3, 0.9375)],
        cell=[3.84, 3.84, 6.27, 90, 90, 120],
        pbc=True,
    )
    beta_tin = Atoms(
        "Si4",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0, 0.5, 0.25), (0.5, 0, 0.75)],
        cell=[5.0, 5.0, 2.75],
        pbc=True,
    )
    named = {
        "diamond": bulk("Si", "diamond", a=5.431),
        "lonsdaleite": lonsdaleite,
        "beta-tin": beta_tin,
        "simple-cubic": bulk("Si", "sc", a=2.61),
    }
    for name, atoms in named.items():
        atoms.info["name"] = name
    return list(named.values())


#: Of these crystals; with 155 atoms in all as large as those of boron, which have 12, 28, 8 and 106.
SUPERCELLS = {"diamond": (4, 4, 2), "lonsdaleite": (2, 2, 2), "beta-tin": (2, 2, 2), "simple-cubic": (3, 3, 3)}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write(folder / "targets.extxyz", crystals())
    write(folder / "crystals.extxyz", [atoms.repeat(SUPERCELLS[atoms.info["name"]]) for atoms in crystals()])
