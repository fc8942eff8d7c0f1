"""Non-diagonal supercells: against the original program, against brute force, and what must hold of all of them."""

import json
from fractions import Fraction
from itertools import combinations, product
from math import lcm

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from ase.geometry import minkowski_reduce

from aiida_gaprss.structures.nondiagonal import (
    Supercell,
    compact,
    fewest,
    irreducible,
    primitive,
    smallest,
    supercells,
)
from aiida_gaprss.structures.random_cells import CellSpec, random_cells
from aiida_gaprss.structures.spacegroups import random_lattice
from aiida_gaprss.structures.symmetry import CrystalError

CELLS = {"fcc": bulk("Al"), "bcc": bulk("W"), "hcp": bulk("Mg"), "diamond": bulk("Si")}
GRIDS = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (2, 3, 1), (4, 2, 3), (1, 5, 2), (4, 4, 4)]


def hermite_forms(size):
    """Every lattice of supercells of so many cells once (Hart and Forcade, PRB 77, 224115 (2008), eq. 1, transposed)."""
    for a, d in product(range(1, size + 1), repeat=2):
        if size % (a * d) == 0:
            f = size // (a * d)
            for b, c, e in product(range(d), range(f), range(f)):
                yield np.array([[a, b, c], [0, d, e], [0, 0, f]])


def full_grid(grid):
    return [tuple(Fraction(k, n) for k, n in zip(ks, grid, strict=True)) for ks in product(*map(range, grid))]


def images(crystal, q, grid):
    """Places in the full grid of all images of q, by rotations of the crystal and reversal of time."""
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    found = set()
    for rotation in spglib.get_symmetry(cell, symprec=1e-5)["rotations"]:
        for sign in (1, -1):
            image = [sign * sum(int(rotation[j, i]) * q[j] for j in range(3)) for i in range(3)]
            if all((part * n).denominator == 1 for part, n in zip(image, grid, strict=True)):
                found.add(tuple(int(part * n) % n for part, n in zip(image, grid, strict=True)))
    return found


@pytest.fixture(scope="module")
def crystals():
    """Crystals of all systems: primitive cells of random ones with symmetry, and known ones."""
    spec = CellSpec(
        formula={"Si": 1}, n_atoms=(2, 4), volume_per_atom=(15, 25), min_separation=2.0, n_operations=(1, 2, 3, 4, 6, 8, 12)
    )
    return [primitive(atoms, 1e-5) for atoms in [*random_cells(spec, 10, seed=3), *CELLS.values()]]


@pytest.mark.parametrize(
    ("name", "numbers"), [("fcc", [1, 3, 4, 8]), ("bcc", [1, 3, 4, 8]), ("hcp", [1, 4, 6, 12]), ("diamond", [1, 3, 4, 8])]
)
def test_numbers_of_the_original_program(name, numbers):
    """What generate_supercells of Lloyd-Williams and Monserrat finds for 1³ to 4³ wavevectors."""
    assert [len(supercells(CELLS[name], (n, n, n))) for n in (1, 2, 3, 4)] == numbers


def test_sizes_of_the_original_program(data):
    """Supercell by supercell: which irreducible wavevectors need how many cells, and how many each stands for."""
    compared = 0
    for told in json.loads((data / "ndsc" / "nondiagonal_supercells.json").read_text()).values():
        crystal = Atoms(told["numbers"], scaled_positions=told["scaled_positions"], cell=told["cell"], pbc=True)
        for grid in told["grids"]:
            found = supercells(crystal, grid["mesh"])
            assert [one.size for one in found] == sorted(grid["sizes"])
            assert sorted(weight for one in found for weight in one.weights) == sorted(grid["weights"])
            sizes = {image: one.size for one in found for image in images(crystal, one.q[0], grid["mesh"])}
            for *q, number in grid["kpoint_to_supercell"]:
                place = tuple(round(part * n) % n for part, n in zip(q, grid["mesh"], strict=True))
                assert sizes[place] == grid["sizes"][int(number) - 1]
                compared += 1
    assert compared == 2 * (1 + 3 + 4 + 8) + (1 + 4 + 6 + 12) + (1 + 3 + 4 + 8)


@pytest.mark.parametrize("grid", GRIDS)
def test_each_wavevector_has_its_smallest_cell(crystals, grid):
    for crystal in crystals:
        for one in supercells(crystal, grid):
            (q,) = one.q
            assert one.size == lcm(*(part.denominator for part in q))
            assert all(sum(int(s) * part for s, part in zip(row, q, strict=True)).denominator == 1 for row in one.matrix)
            assert np.linalg.det(one.matrix) > 0.5
            assert len(one.build(crystal)) == one.size * len(crystal)
            assert np.linalg.det(one.build(crystal).cell.array) * np.linalg.det(crystal.cell.array) > 0


@pytest.mark.parametrize("grid", GRIDS)
def test_every_wavevector_is_the_image_of_one(crystals, grid):
    for crystal in crystals:
        waves = irreducible(crystal, grid)
        found = [images(crystal, q, grid) for q, _ in waves]
        assert sum(weight for _, weight in waves) == np.prod(grid)
        assert [len(one) for one in found] == [weight for _, weight in waves]
        assert sorted(place for one in found for place in one) == list(product(*map(range, grid)))


def test_smallest_is_that_of_brute_force():
    """Of all lattices of so many cells one holds the wave; no smaller lattice does."""
    for q in [q for grid in ((4, 3, 2), (6, 1, 4), (5, 5, 1)) for q in full_grid(grid)]:
        size = lcm(*(part.denominator for part in q))
        for cells in range(1, size + 1):
            holding = [
                s
                for s in hermite_forms(cells)
                if all(Fraction(sum(map(lambda a, b: int(a) * b, row, q))).denominator == 1 for row in s)
            ]
            assert len(holding) == (1 if cells == size else 0)
        assert np.array_equal(holding[0], smallest(q))


def test_large_denominators_need_no_search():
    q = (Fraction(1, 7), Fraction(3, 11), Fraction(5, 13))
    form = smallest(q)
    assert round(np.linalg.det(form)) == 1001
    assert not any((int(row[0]) * q[0] + int(row[1]) * q[1] + int(row[2]) * q[2]).denominator - 1 for row in form)


def test_vectors_are_the_shortest_of_their_lattice():
    """The same lattice, Minkowski reduced: no combination of small numbers is shorter than the vector that it could replace."""
    rng = np.random.default_rng(5)
    steps = np.array([step for step in product(range(-2, 3), repeat=3) if any(step)])
    for number in range(40):
        cell = random_lattice(int(rng.integers(1, 231)), rng, (50, 130)) * rng.choice([-1, 1])
        crystal = Atoms("Si", cell=cell * 5, pbc=True)
        form = smallest(
            tuple(Fraction(int(k), int(n)) for k, n in zip(rng.integers(0, 6, 3), rng.integers(1, 7, 3), strict=True))
        )
        matrix = compact(crystal, form)
        assert np.allclose(np.linalg.solve(form.T.astype(float), matrix.T) % 1 % (1 - 1e-9), 0, atol=1e-8), "another lattice"
        assert round(np.linalg.det(matrix)) == round(np.linalg.det(form)), f"left-handed: {number}"
        lengths = np.sort(np.linalg.norm(matrix @ crystal.cell.array, axis=1))
        order = np.argsort(np.linalg.norm(matrix @ crystal.cell.array, axis=1))
        combined = np.linalg.norm(steps @ matrix[order] @ crystal.cell.array, axis=1)
        for place in range(3):
            assert combined[steps[:, place:].any(axis=1)].min() > lengths[place] - 1e-9
        assert np.allclose(lengths, np.sort(np.linalg.norm(minkowski_reduce(form @ crystal.cell.array)[0], axis=1)))


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 2, 1), (4, 4, 4)])
@pytest.mark.parametrize("name", CELLS)
def test_fewest_are_enough_and_cannot_be_fewer(name, grid):
    crystal = CELLS[name]
    found = supercells(crystal, grid)
    classes = [images(crystal, q, grid) for q, _ in irreducible(crystal, grid)]
    q = np.array(list(product(*map(range, grid)))) / np.array(grid)
    places = list(product(*map(range, grid)))

    def covered(some):
        held = {place for one in some for place, yes in zip(places, one.holds(q), strict=True) if yes}
        return all(held & images_of for images_of in classes)

    chosen = fewest(found, crystal, grid)
    assert covered(chosen)
    assert all(not covered(some) for some in combinations(found, len(chosen) - 1))
    assert {wave for one in chosen for wave in one.q} <= {wave for one in found for wave in one.q}
    assert all(one.holds(np.array([wave], dtype=float)).all() for one in chosen for wave in one.q)
    assert [one.size for one in chosen] == sorted(one.size for one in chosen)


def test_holds():
    one = Supercell(np.diag([2, 1, 3]), (), ())
    q = np.array([[0.5, 0, 0], [0, 0, 1 / 3], [0.5, 0, 2 / 3], [0, 0.5, 0], [0.25, 0, 0]])
    assert one.holds(q).tolist() == [True, True, True, False, False]
    assert one.size == 6


def test_a_supercell_is_the_crystal():
    """The same density and neighbours, atoms of the crystal only."""
    crystal = CELLS["diamond"]
    for one in supercells(crystal, (3, 3, 3)):
        atoms = one.build(crystal)
        assert atoms.get_volume() / len(atoms) == pytest.approx(crystal.get_volume() / 2)
        distances = atoms.get_all_distances(mic=True)
        assert np.allclose(distances[distances > 0].min(), 5.43 * np.sqrt(3) / 4)
        relative = np.linalg.solve(crystal.cell.array.T, (atoms.positions[:, None] - crystal.positions).reshape(-1, 3).T).T
        whole = np.abs(relative - np.rint(relative)).max(axis=1).reshape(len(atoms), 2) < 1e-8
        assert (whole.sum(axis=1) == 1).all()


def test_primitive_cell_lies_where_the_crystal_lies():
    crystal = bulk("Si", cubic=True)
    crystal.rotate(33, (1, 2, 3), rotate_cell=True)
    cell = primitive(crystal, 1e-3)
    assert len(cell) == 2
    assert np.allclose(cell.cell.lengths(), 5.43 / np.sqrt(2))
    again = np.linalg.solve(cell.cell.array.T, crystal.cell.array.T).T
    assert np.allclose(again, np.rint(again)), "the vectors of the crystal are those of the cell, not rotated"


def test_symmetry_to_the_tolerance():
    """A crystal that a relaxation left a little beside its symmetry has the wavevectors of that symmetry."""
    crystal = bulk("Si", cubic=True)
    crystal.rattle(3e-4, seed=1)
    cell = primitive(crystal, 1e-2)
    assert len(supercells(cell, (4, 4, 4), 1e-2)) == 8
    assert len(fewest(supercells(cell, (4, 4, 4), 1e-2), cell, (4, 4, 4), 1e-2)) == 5
    assert len(supercells(cell, (4, 4, 4))) > 8


@pytest.mark.parametrize("grid", [(0, 2, 2), (2, 2), (2, -1, 2)])
def test_grids_that_cannot_be(grid):
    with pytest.raises(CrystalError, match="expected three whole numbers above 0"):
        supercells(CELLS["fcc"], grid)


def test_atoms_at_one_place():
    crystal = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1e-9]], cell=[3, 3, 3], pbc=True)
    with pytest.raises(CrystalError, match="are two atoms at one place"):
        primitive(crystal, 1e-2)
