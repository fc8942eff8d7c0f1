"""Slabs: which planes there are, against published lists, multiplicities and pymatgen; slabs against those of ASE."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bcc110, bcc111, bulk, diamond100, diamond111, fcc100, fcc110, fcc111, hcp0001, surface
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal as spacegroup_crystal
from pymatgen.core.surface import get_symmetrically_distinct_miller_indices
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_gaprss.structures.slabs import Cutter, family, one_of_each, planes_of_crystal, planes_of_lattice, word
from aiida_gaprss.structures.symmetry import CrystalError

#: Zuo et al., J. Phys. Chem. A 124, 731 (2020), whose list lacks 221.
ZUO = ["100", "110", "111", "210", "211", "310", "311", "320", "321", "322", "331", "332"]

RUTILE = spacegroup_crystal(("Ti", "O"), [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.59, 4.59, 2.96, 90, 90, 90])
PYRITE = spacegroup_crystal(("Fe", "S"), [(0, 0, 0), (0.385,) * 3], spacegroup=205, cellpar=[5.42, 5.42, 5.42, 90, 90, 90])
BISMUTH = spacegroup_crystal("Bi", [(0, 0, 0.234)], spacegroup=166, cellpar=[4.546, 4.546, 11.86, 90, 90, 120])


# --- planes ---


@pytest.mark.parametrize("crystal", [bulk("Cu"), bulk("Fe"), bulk("Si"), bulk("GaAs", "zincblende", a=5.65)])
def test_planes_of_cubic_crystals_are_those_of_zuo(crystal):
    found = {word(miller) for miller in planes_of_crystal(crystal, 3, 0.01)}
    assert found == {*ZUO, "221"}


@pytest.mark.parametrize("crystal", [bulk("Cu"), bulk("Mg"), RUTILE, bulk("In", "bct", a=3.25, c=4.95)])
def test_planes_are_pymatgens_where_the_crystal_is_as_symmetric_as_its_lattice(crystal):
    assert planes_of_crystal(crystal, 2, 0.01) == planes_of_lattice(crystal, 2, 0.01)
    structure = AseAtomsAdaptor.get_structure(bulk("Cu", cubic=True))
    assert planes_of_lattice(bulk("Cu"), 2, 0.01) == sorted(
        (tuple(int(i) for i in miller) for miller in get_symmetrically_distinct_miller_indices(structure, 2)),
        key=lambda miller: (max(miller), sum(miller)),
    )


def test_a_crystal_with_less_symmetry_than_its_lattice_has_more_planes():
    """210 and 201 of pyrite have other surfaces; (104) and (10-4) of a rhombohedral crystal are not equal."""
    assert family(PYRITE, (2, 1, 0), 0.01).isdisjoint(family(PYRITE, (2, 0, 1), 0.01))
    assert [word(miller) for miller in planes_of_crystal(PYRITE, 2, 0.01)] == ["100", "110", "111", "210", "201", "211", "221"]
    assert (1, 0, -1) not in family(BISMUTH, (1, 0, 1), 0.01)
    assert (0, 1, -1) in family(BISMUTH, (1, 0, 1), 0.01)
    assert len(planes_of_lattice(PYRITE, 2, 0.01)) == 6


@pytest.mark.parametrize(
    ("crystal", "sizes"),
    [
        (bulk("Cu"), {(1, 0, 0): 6, (1, 1, 0): 12, (1, 1, 1): 8, (2, 1, 0): 24, (2, 1, 1): 24, (3, 2, 1): 48}),
        (PYRITE, {(1, 0, 0): 6, (2, 1, 0): 12, (3, 2, 1): 24}),
        (bulk("Mg"), {(0, 0, 1): 2, (1, 0, 0): 6, (1, 1, 0): 6, (1, 0, 1): 12, (2, 1, 1): 24}),
        (RUTILE, {(0, 0, 1): 2, (1, 0, 0): 4, (1, 1, 0): 4, (1, 0, 1): 8, (1, 1, 1): 8, (2, 1, 1): 16}),
        (BISMUTH, {(0, 0, 1): 2, (1, 0, 1): 6, (1, 1, 0): 6}),
    ],
)
def test_families_are_as_large_as_their_forms(crystal, sizes):
    """Multiplicities of the forms of the Laue classes (International Tables A, chapter 10.1); in any cell."""
    for miller, size in sizes.items():
        assert len(family(crystal, miller, 0.01)) == size
        assert one_of_each(crystal, sorted(family(crystal, miller, 0.01)), 0.01) == [min(family(crystal, miller, 0.01))]
        assert len(family(crystal.repeat((1, 2, 1)), miller, 0.01)) == size


# --- slabs ---


def fingerprint(atoms):
    """Distances of the nearest 40 neighbours of each atom, sorted."""
    i, distances = neighbor_list("id", atoms, 4.6)
    padded = [[*sorted(distances[i == n]), *[9.0] * 40][:40] for n in range(len(atoms))]
    return np.array(sorted(np.round(padded, 3).tolist()))


def area(atoms):
    return np.linalg.norm(np.cross(atoms.cell[0], atoms.cell[1]))


A_CU, A_FE, A_SI = 3.61, 2.87, 5.43


@pytest.mark.parametrize(
    ("crystal", "miller", "build"),
    [
        (bulk("Cu", a=A_CU), (1, 0, 0), lambda n: fcc100("Cu", (1, 1, n), a=A_CU, vacuum=6, periodic=True)),
        (bulk("Cu", a=A_CU), (1, 1, 0), lambda n: fcc110("Cu", (1, 1, n), a=A_CU, vacuum=6, periodic=True)),
        (bulk("Cu", a=A_CU), (1, 1, 1), lambda n: fcc111("Cu", (1, 1, n), a=A_CU, vacuum=6, periodic=True)),
        (bulk("Fe", a=A_FE), (1, 1, 0), lambda n: bcc110("Fe", (1, 1, n), a=A_FE, vacuum=6, periodic=True)),
        (bulk("Fe", a=A_FE), (1, 1, 1), lambda n: bcc111("Fe", (1, 1, n), a=A_FE, vacuum=6, periodic=True)),
        (bulk("Si", a=A_SI), (1, 0, 0), lambda n: diamond100("Si", (1, 1, n), a=A_SI, vacuum=6, periodic=True)),
        (bulk("Si", a=A_SI), (1, 1, 1), lambda n: diamond111("Si", (1, 1, n), a=A_SI, vacuum=6, periodic=True)),
        (bulk("Mg", a=3.2, c=5.2), (0, 0, 1), lambda n: hcp0001("Mg", (1, 1, n), a=3.2, c=5.2, vacuum=6, periodic=True)),
    ],
)
def test_slabs_of_elements_are_those_of_ase(crystal, miller, build):
    """As many atoms in as small a cell, and the same surroundings of each; of silicon 111 ASE has the other termination."""
    (cut,) = Cutter(9, 9).cuts(crystal, [miller])
    theirs = build(len(cut.slabs[0]))
    for ours in cut.slabs:
        assert len(theirs) == len(ours)
        assert area(ours) == pytest.approx(area(theirs), rel=1e-6)
    same = [np.allclose(fingerprint(ours), fingerprint(theirs), atol=2e-3) for ours in cut.slabs]
    assert same == ([False, True] if len(same) == 2 else [True])


@pytest.mark.parametrize(
    ("crystal", "miller"),
    [
        (bulk("Cu", cubic=True), (3, 1, 0)),
        (bulk("Cu", cubic=True), (3, 3, 1)),
        (bulk("NaCl", "rocksalt", a=5.64, cubic=True), (1, 0, 0)),
        (bulk("NaCl", "rocksalt", a=5.64, cubic=True), (2, 1, 1)),
        (RUTILE, (1, 1, 0)),
        (RUTILE, (0, 0, 1)),
    ],
)
def test_the_cell_of_any_plane(crystal, miller):
    """ASE's general slab is that of the conventional cell: its area is a whole multiple of ours; so is the number of atoms."""
    (cut,) = Cutter(9, 9).cuts(crystal, [miller])
    theirs = surface(crystal, miller, 1, vacuum=6, periodic=True)
    times = area(theirs) / area(cut.slabs[0])
    assert times == pytest.approx(round(times), abs=1e-6)
    density = len(crystal) / crystal.get_volume()
    for slab in cut.slabs:
        assert np.allclose(slab.cell.angles()[:2], 90)
        assert slab.cell[2, 2] - np.ptp(slab.positions[:, 2]) > 9
        assert len(slab) / density / area(slab) > 9 - 3
        assert {symbol: slab.symbols.count(symbol) / len(slab) for symbol in set(crystal.symbols)} == pytest.approx(
            {symbol: crystal.symbols.count(symbol) / len(crystal) for symbol in set(crystal.symbols)}
        )


def test_the_termination_with_the_fewest_broken_bonds_is_the_first():
    """Silicon 111: one bond at each atom of the surface, or three."""
    (cut,) = Cutter(9, 9).cuts(bulk("Si", a=A_SI), [(1, 1, 1)])
    broken = [4 * len(slab) - len(neighbor_list("i", slab, 2.6)) for slab in cut.slabs]
    assert broken == [2, 6]


def test_sides_that_differ_are_left_out_on_demand():
    crystal = bulk("GaAs", "zincblende", a=5.65)
    for symmetric, numbers in ((False, [1, 1, 2]), (True, [0, 1, 0])):
        cuts = Cutter(9, 9, symmetric=symmetric).cuts(crystal, [(1, 0, 0), (1, 1, 0), (1, 1, 1)])
        assert [len(cut.slabs) for cut in cuts] == numbers
        assert all(bool(cut.left_out) is (not cut.slabs) for cut in cuts)


def test_two_atoms_at_one_place():
    twice = Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 0)], cell=[3, 3, 3], pbc=True)
    with pytest.raises(CrystalError, match="are two atoms at one place"):
        planes_of_crystal(twice, 1, 0.01)
