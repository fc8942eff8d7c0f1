"""The symmetry of crystals: what is equal, in whichever cell, and the primitive cell."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_gaprss.structures.nondiagonal import primitive, supercells
from aiida_gaprss.structures.symmetry import CrystalError, Symmetry

CRYSTALS = {
    "Cu": bulk("Cu"),
    "Si": bulk("Si"),
    "Mg": bulk("Mg"),
    "NaCl": bulk("NaCl", "rocksalt", a=5.64),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_any_cell_of_a_crystal_has_its_symmetry(name):
    """Repeated, turned, moved: as many kinds of sites and operations, the same primitive cell but for its place."""
    crystal = CRYSTALS[name]
    other = crystal.repeat((2, 1, 3))
    other.rotate(40, (1, 2, 3), rotate_cell=True)
    other.positions += (0.3, 0.7, -0.2)
    one, two = Symmetry(crystal), Symmetry(other)
    assert len(one.sites) == len(two.sites) == len(set(crystal.symbols))
    assert len(one.operations[0]) == len(two.operations[0])
    assert len(two.primitive) == len(crystal)
    small = primitive(other, 0.01)
    assert small.get_volume() == pytest.approx(crystal.get_volume())
    assert small.cell.lengths().max() <= two.primitive.cell.lengths().max() + 1e-9
    ours, theirs = (np.sort(atoms.get_all_distances(mic=True), axis=None) for atoms in (small, two.primitive))
    assert np.allclose(ours, theirs)


def test_one_error_for_all():
    twice = Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 0)], cell=[3, 3, 3], pbc=True)
    for look in (lambda: Symmetry(twice).dataset, lambda: Symmetry(twice).primitive, lambda: primitive(twice, 0.01)):
        with pytest.raises(CrystalError, match=r"no symmetry of the crystal to 0.01 Å: are two atoms at one place\?"):
            look()
    with pytest.raises(CrystalError, match=r"the grid is \[0, 1, 1\], expected three whole numbers above 0"):
        supercells(bulk("Cu"), (0, 1, 1))
