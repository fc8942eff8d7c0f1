"""Write crystals of silicon, strained and displaced, for two levels of theory: pool.xyz (100 cells) and test.xyz (40)."""

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io import write

rng = np.random.default_rng(1)
frames = []
for number in range(140):
    atoms = bulk("Si", a=5.431, cubic=number % 3 == 0)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
    atoms.rattle(rng.uniform(0.03, 0.2), rng=rng)
    atoms.info.update(config_type="displaced", frame_id=f"cell-{number:03d}")
    frames.append(atoms)
atom = Atoms("Si", cell=[15.0] * 3, pbc=True, info={"config_type": "isolated_atom", "frame_id": "atom-Si"})
write("pool.xyz", [atom, *frames[:100]], format="extxyz")
write("test.xyz", [atom, *frames[100:]], format="extxyz")
