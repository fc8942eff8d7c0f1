"""Local energies of a structure with a GAP: a table by crystallographic site, and a picture.

    python local_energies.py POTENTIAL.xml STRUCTURE [OTHER]

STRUCTURE is a file that ASE can read. OTHER is another structure with about the same cell: then the second table is by how much
the local energies of its atoms are higher than those of the same atoms of STRUCTURE, and the second picture shows that.
Pictures are written where the script is called, as STRUCTURE_local_energies.png and OTHER_local_energy_changes.png.

It needs aiida-gaprss and quippy-ase, but no AiiDA profile.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# More threads than one make quippy slower, and OpenBLAS complain with every atom.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.io import read
from quippy.potential import Potential

from aiida_gaprss.properties.base import PropertyError
from aiida_gaprss.properties.local_energies import LocalEnergies, difference, structure
from aiida_gaprss.report.local_figures import local_energies, local_energy_changes
from aiida_gaprss.report.style import png


def compute(xml: str, path: str) -> dict[str, Any]:
    """Return local energies of the structure in a file."""
    result: dict[str, Any] = LocalEnergies().compute(Potential(param_filename=xml), read(path))
    return dict(result["crystal"])


def show(told: dict[str, Any], path: str) -> None:
    """Print the table of sites, and write the picture."""
    print(f"{path}: {len(told['symbols'])} atoms, {told['energy_eV']:.6f} eV, off by {told['sum_error_eV']:.1e} from the sum")
    print("site     atoms   mean (eV)   lowest (eV)  highest (eV)")
    for site in told["sites"]:
        name = f"{site['element']} {site['multiplicity']}{site['wyckoff']}"
        print(f"{name:8} {site['multiplicity']:5d} {site['mean_eV']:11.5f} {site['min_eV']:13.5f} {site['max_eV']:13.5f}")
    atoms = structure(told)
    write(local_energies(atoms, atoms.arrays["local_energy"], Path(path).stem), f"{Path(path).stem}_local_energies.png")


def compare(first: dict[str, Any], second: dict[str, Any], path: str) -> None:
    """Print by how much the atoms of the second structure are higher, those that changed most first; write the picture."""
    atoms: Atoms = structure(second)
    found = difference(structure(first), atoms)
    changes = np.full(len(atoms), np.nan)
    changes[found["second"]] = found["change_eV"]
    print("\natom   was   change (eV)   moved (Å)")
    rows = zip(found["second"], found["first"], found["change_eV"], found["distance_A"], strict=True)
    for mine, other, change, distance in sorted(rows, key=lambda row: -abs(row[2])):
        print(f"{mine:4d} {other:5d} {change:13.5f} {distance:11.3f}")
    print(f"only in the first: {found['only_in_first']}; only in the second: {found['only_in_second']}")
    write(local_energy_changes(atoms, changes, Path(path).stem), f"{Path(path).stem}_local_energy_changes.png")


def write(figure: Any, name: str) -> None:
    """Write a picture, and say so."""
    Path(name).write_bytes(png(figure))
    print(f"picture: {name}")


def main(xml: str, path: str, other: str | None = None) -> None:
    """Show one structure, or two and their difference."""
    first = compute(xml, path)
    show(first, path)
    if other is not None:
        second = compute(xml, other)
        show(second, other)
        compare(first, second, other)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except (PropertyError, OSError) as error:
        sys.exit(f"Error: {error}")
