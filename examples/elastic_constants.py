"""Lattice constant and elastic constants of a crystal with a GAP.

    python elastic_constants.py POTENTIAL.xml STRUCTURE ELEMENT A

STRUCTURE is bcc, fcc, diamond, hcp, ... as in ase.build.bulk, A the lattice constant in Å from which the relaxation starts:

    python elastic_constants.py gap.xml bcc Mo 3.15

It needs aiida-gaprss and quippy-ase, but no AiiDA profile.
"""

from __future__ import annotations

import sys

import numpy as np
from ase.build import bulk
from quippy.potential import Potential

from aiida_gaprss.properties.elastic import ElasticityError, elastic_constants, relaxed


def main(xml: str, structure: str, element: str, a: str) -> None:
    """Print a, the elastic constants and the averaged moduli."""
    cubic = structure in ("sc", "bcc", "fcc", "diamond")
    atoms = bulk(element, structure, float(a), cubic=cubic)
    atoms.calc = Potential(param_filename=xml)
    atoms = relaxed(atoms)
    found = elastic_constants(atoms)
    lengths = atoms.cell.lengths()
    print(f"a = {lengths[0]:.4f} Å" + ("" if cubic else f", b = {lengths[1]:.4f} Å, c = {lengths[2]:.4f} Å"))
    print(f"E = {atoms.get_potential_energy() / len(atoms):.4f} eV/atom")
    if cubic:
        print("C11 = {:.1f} GPa, C12 = {:.1f} GPa, C44 = {:.1f} GPa".format(*found.cubic))
    else:
        print("C in GPa (xx yy zz yz xz xy):")
        print(np.array2string(found.voigt, precision=1, suppress_small=True, floatmode="fixed"))
    print(f"bulk modulus {found.bulk_modulus:.1f} GPa, shear modulus {found.shear_modulus:.1f} GPa (Voigt-Reuss-Hill)")
    if not found.stable:
        print("mechanically unstable: a strain lowers the energy")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except ElasticityError as error:
        sys.exit(f"Error: {error}")
