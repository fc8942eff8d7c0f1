"""Write α-boron (B12 icosahedra, R-3m), which the long campaign should find: python make_target.py FOLDER.

Lattice and coordinates after Decker and Kasper, Acta Cryst. 12, 503 (1959), in the hexagonal setting. No fit learns of it.
"""

import sys
from pathlib import Path

from ase.io import write
from ase.spacegroup import crystal

A, C = 4.908, 12.567  # Å
POLAR, EQUATORIAL = (0.1177, 0.8823, 0.8927), (0.1961, 0.8039, 0.0245)  # two sets of six atoms of an icosahedron

if __name__ == "__main__":
    boron = crystal("BB", [POLAR, EQUATORIAL], spacegroup=166, cellpar=[A, A, C, 90, 90, 120], primitive_cell=True)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "alpha-B12.cif", boron)
