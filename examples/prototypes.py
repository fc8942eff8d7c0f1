"""Known crystals of the examples with real DFT: python prototypes.py MATERIAL FILE.extxyz

MATERIAL is one of the keys of CRYSTALS. Lattice parameters are near those of the literature, good enough to start a relaxation
from (``convergence.py relax``); the space group and the Wyckoff positions are what makes a crystal.
"""

from __future__ import annotations

import sys

from ase import Atoms
from ase.io import write
from ase.spacegroup import crystal

#: Å and degrees of hexagonal cells.
HEXAGONAL = (90, 90, 120)


def of_group(symbols: list[str], positions: list[tuple[float, ...]], group: int, a: float, b: float, c: float) -> Atoms:
    """Return the primitive cell of a crystal of one space group; hexagonal cells from group 143 to 194, else right angles."""
    angles = HEXAGONAL if 143 <= group <= 194 else (90, 90, 90)
    return crystal(symbols, positions, spacegroup=group, cellpar=[a, b, c, *angles], primitive_cell=True)


def cubic(symbols: list[str], positions: list[tuple[float, ...]], group: int, a: float) -> Atoms:
    """Return the primitive cell of a cubic crystal."""
    return of_group(symbols, positions, group, a, a, a)


def uniaxial(symbols: list[str], positions: list[tuple[float, ...]], group: int, a: float, c: float) -> Atoms:
    """Return the primitive cell of a tetragonal or hexagonal crystal."""
    return of_group(symbols, positions, group, a, a, c)


LONSDALEITE = [(1 / 3, 2 / 3, 0.0625)]

CRYSTALS: dict[str, dict[str, Atoms]] = {
    "silicon": {
        "diamond": cubic(["Si"], [(0, 0, 0)], 227, 5.40),
        "lonsdaleite": uniaxial(["Si"], LONSDALEITE, 194, 3.80, 6.28),
        "BC8": cubic(["Si"], [(0.1003, 0.1003, 0.1003)], 206, 6.59),
        "beta-tin": uniaxial(["Si"], [(0, 0, 0)], 141, 4.74, 2.61),
        "simple hexagonal": uniaxial(["Si"], [(0, 0, 0)], 191, 2.62, 2.47),
    },
    "carbon": {
        "diamond": cubic(["C"], [(0, 0, 0)], 227, 3.53),
        "lonsdaleite": uniaxial(["C"], LONSDALEITE, 194, 2.49, 4.14),
        "graphite AB": uniaxial(["C", "C"], [(0, 0, 0.25), (1 / 3, 2 / 3, 0.25)], 194, 2.45, 6.60),
        "graphite AA": uniaxial(["C"], [(1 / 3, 2 / 3, 0)], 191, 2.45, 3.55),
        "bct C4": uniaxial(["C"], [(0.1804, 0.1804, 0)], 139, 4.33, 2.48),
    },
    "silicon carbide": {
        "3C": cubic(["Si", "C"], [(0, 0, 0), (0.25, 0.25, 0.25)], 216, 4.33),
        "2H": uniaxial(["Si", "C"], [(1 / 3, 2 / 3, 0), (1 / 3, 2 / 3, 0.376)], 186, 3.06, 5.03),
        "4H": uniaxial(
            ["Si", "Si", "C", "C"], [(0, 0, 0), (1 / 3, 2 / 3, 0.25), (0, 0, 0.1875), (1 / 3, 2 / 3, 0.4375)], 186, 3.06, 10.03
        ),
        "rocksalt": cubic(["Si", "C"], [(0, 0, 0), (0.5, 0.5, 0.5)], 225, 4.03),
    },
    "aluminium": {
        "fcc": cubic(["Al"], [(0, 0, 0)], 225, 3.97),
        "hcp": uniaxial(["Al"], [(1 / 3, 2 / 3, 0.25)], 194, 2.80, 4.62),
        "dhcp": uniaxial(["Al", "Al"], [(0, 0, 0), (1 / 3, 2 / 3, 0.25)], 194, 2.80, 9.20),
        "bcc": cubic(["Al"], [(0, 0, 0)], 229, 3.18),
    },
    "titania": {
        "rutile": uniaxial(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], 136, 4.56, 2.93),
        "anatase": uniaxial(["Ti", "O"], [(0, 0, 0), (0, 0, 0.208)], 141, 3.75, 9.40),
        "fluorite": cubic(["Ti", "O"], [(0, 0, 0), (0.25, 0.25, 0.25)], 225, 4.75),
    },
    "silica": {
        "quartz": uniaxial(["Si", "O"], [(0.4697, 0, 2 / 3), (0.4135, 0.2669, 0.7858)], 154, 4.88, 5.38),
        "cristobalite": uniaxial(["Si", "O"], [(0, 0, 0), (0.09, 0.25, 0.125)], 122, 4.96, 7.05),
        "stishovite": uniaxial(["Si", "O"], [(0, 0, 0), (0.306, 0.306, 0)], 136, 4.17, 2.66),
    },
    "boron": {
        # B12 icosahedra: Decker and Kasper, Acta Cryst. 12, 503 (1959).
        "alpha-B12": uniaxial(["B", "B"], [(0.1177, 0.8823, 0.8927), (0.1961, 0.8039, 0.0245)], 166, 4.908, 12.567),
        "alpha-Ga": of_group(["B"], [(0, 0.157, 0.090)], 64, 2.94, 5.33, 3.26),
    },
}


def main(material: str, path: str) -> None:
    """Write the crystals of a material, each with its ``name``."""
    for name, atoms in CRYSTALS[material].items():
        atoms.info = {"name": name}
    write(path, list(CRYSTALS[material].values()))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in CRYSTALS:
        sys.exit(f"{__doc__}\nmaterials: {', '.join(CRYSTALS)}")
    main(*sys.argv[1:])
