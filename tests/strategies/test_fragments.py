"""Rigid fragments: they stay what they are, keep their distance, and have the symmetry that was asked for."""

from collections import Counter

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.neighborlist import neighbor_list

from aiida_gaprss import frames
from aiida_gaprss.strategies.fragments import icosahedron
from aiida_gaprss.strategies.seeds import FragmentSeed
from aiida_gaprss.structures.building import random_cell
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.spacegroups import primitive_operations

BORON = {"B": 1}
EDGE = 1.77


def b12(**changes):
    """The third kind of seeds of the boron preprint: 36 or 48 atoms."""
    settings = {"fragment": "B12", "volume_per_atom": [7.5, 10.0], "min_separation": 1.6}
    return FragmentSeed(kind="fragments", **{**settings, **changes})


def intact(atoms, size, edges, edge):
    """Tell whether the atoms, ``size`` at a time, have as many pairs at the distance ``edge``, to 1e-6 Å."""
    first, second, distances = neighbor_list("ijd", atoms, edge + 1e-6)
    edge_like = (first // size == second // size) & (np.abs(distances - edge) < 1e-6)
    return (np.bincount(first[edge_like] // size, minlength=len(atoms) // size) == 2 * edges).all()


def operations_of(atoms):
    return spglib.get_symmetry((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4)


def test_icosahedron_is_regular():
    atoms = icosahedron("B", EDGE)
    distances = atoms.get_all_distances()[np.triu_indices(12, 1)]
    assert (np.abs(distances - EDGE) < 1e-12).sum() == 30
    golden = (1 + np.sqrt(5)) / 2
    assert sorted(np.unique(np.round(distances / EDGE, 9))) == pytest.approx([1, golden, np.sqrt(golden + 2)], abs=1e-8)
    assert np.linalg.norm(atoms.positions, axis=1) == pytest.approx(EDGE * np.sin(2 * np.pi / 5), abs=1e-12)


@pytest.fixture(scope="module")
def cells():
    return b12().cells(BORON, 60, seed=2)


def test_cells_of_three_and_four_icosahedra(cells):
    assert {len(atoms) for atoms in cells} == {36, 48}
    assert all(intact(atoms, 12, 30, EDGE) for atoms in cells)
    # Within an icosahedron it is 1.77 Å or more.
    assert min(neighbor_list("d", atoms, 3.0).min() for atoms in cells) >= 1.6 - 1e-6
    volumes = [atoms.get_volume() / len(atoms) for atoms in cells]
    assert min(volumes) >= 7.5
    assert max(volumes) <= 10.0
    stored = frames.loads(frames.dumps(cells))
    assert all(intact(atoms, 12, 30, EDGE) for atoms in stored)


def test_operations_are_there(cells):
    assert set(Counter(atoms.info["n_operations"] for atoms in cells)) == {1, 2, 3, 4}
    for atoms in cells:
        assert len(atoms) // 12 % atoms.info["n_operations"] == 0
        assert len(operations_of(atoms)["rotations"]) >= atoms.info["n_operations"]


@pytest.mark.parametrize("group", [4, 5, 14, 19, 33, 144, 146])
def test_space_group_that_was_asked_for(group):
    order = len(primitive_operations(group))
    seed = b12(n_fragments=[order], space_groups=[group])
    for atoms in seed.cells(BORON, 3, seed=group):
        assert atoms.info["space_group"] == group
        found = operations_of(atoms)
        assert len(found["rotations"]) >= order
        # Every operation, applied, carries the cell into itself; that of the group is among the subgroups of what is there.
        scaled = atoms.get_scaled_positions()
        for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
            difference = (scaled @ rotation.T + translation)[:, None] - scaled[None, :]
            vectors = (difference - np.rint(difference)) @ atoms.cell.array
            assert np.linalg.norm(vectors, axis=2).min(axis=1).max() < 1e-5
        kinds = Counter(_kind(matrix) for matrix in found["rotations"])
        wanted = Counter(_kind(matrix) for matrix in primitive_operations(group).rotations)
        assert not wanted - kinds


def _kind(rotation):
    return round(np.linalg.det(rotation)), round(np.trace(rotation))


def test_same_seed_same_cells(cells):
    again = b12().cells(BORON, 60, seed=2)
    assert frames.dumps(again) == frames.dumps(cells)
    assert frames.dumps(b12().cells(BORON, 3, seed=2)) == frames.dumps(cells[:3])


def test_fragments_of_ones_own_and_free_atoms():
    water = {"symbols": ["O", "H", "H"], "positions": [(0, 0, 0.1), (0, 0.76, -0.5), (0, -0.76, -0.5)]}
    bond = np.hypot(0.76, 0.6)
    text = "3\nProperties=species:S:1:pos:R:3\nO 0 0 0.1\nH 0 0.76 -0.5\nH 0 -0.76 -0.5\n"
    settings = {"n_fragments": [2, 4], "n_operations": [1, 2], "volume_per_atom": [10, 14], "free_atoms": {"Na": [1, 2]}}
    least = {"O-O": 2.4, "O-H": 1.5, "H-H": 1.5, "Na-O": 2.0, "Na-H": 2.0, "Na-Na": 2.5}
    for fragment in (water, text):
        seed = FragmentSeed(kind="fragments", fragment=fragment, min_separation=least, **settings)
        seed.check({"Na": 1, "O": 1, "H": 2})
        for atoms in seed.cells({"Na": 1, "O": 1, "H": 2}, 6, seed=1):
            symbols = np.array(atoms.get_chemical_symbols())
            assert (symbols == "Na").sum() in (1, 2)
            molecules = atoms[symbols != "Na"]
            assert len(molecules) in (6, 12)
            assert intact(molecules, 3, 2, bond)
            first, second, distances = neighbor_list("ijd", atoms, 2.5)
            for i, j, d in zip(first, second, distances, strict=True):
                if i // 3 != j // 3 or "Na" in (symbols[i], symbols[j]):
                    pair = f"{symbols[i]}-{symbols[j]}"
                    assert d >= least.get(pair, least.get("-".join(pair.split("-")[::-1]))) - 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_fragments": [3], "n_operations": [2, 4]}, "n_fragments: 3 is no multiple of the 2 or 4 operations"),
        ({"n_operations": [5]}, "no space group has 5 operations"),
        ({"space_groups": [231]}, "231 is no space group"),
        ({"min_separation": {"B-C": 1.0}}, "'B-C' is not a pair of elements"),
        ({"free_atoms": {"Xx": 1}}, "free_atoms: 'Xx' is not a chemical element"),
        ({"free_atoms": {"C": 1}}, "the element C is not in the formula of the campaign \\(B\\)"),
        ({"volume_per_atom": [9, 8]}, "the lower end is above the upper end"),
    ],
)
def test_errors_name_value_and_place(changes, message):
    with pytest.raises(RandomCellError, match=message):
        b12(**changes).check(BORON)


def test_giving_up_says_why():
    spec = b12(volume_per_atom=[2.5, 2.6], n_operations=[4], n_fragments=[4]).spec(BORON)
    with pytest.raises(RandomCellError, match=r"48 atoms kept min_separation 1.6 Å between fragments at 2.5–2.6 Å³ .* 4 trials"):
        random_cell(spec, 1, draws=2, trials=2)


def test_no_atom_enters_a_fragment():
    """Corners are 1.68 Å from the centre: a separation of 1.6 Å alone would let atoms in."""
    for atoms in b12(volume_per_atom=[5.5, 6.0]).cells(BORON, 8, seed=4):
        first, second, vectors = neighbor_list("ijD", atoms, 2 * EDGE * np.sin(2 * np.pi / 5) + 1e-6)
        _, _, distances = neighbor_list("ijd", atoms, EDGE + 1e-6)
        assert distances.min() >= 1.6 - 1e-6
        # The opposite corner of the same icosahedron is the only atom at just that distance; half-way lies the centre.
        opposite = np.abs(np.linalg.norm(vectors, axis=1) - 2 * EDGE * np.sin(2 * np.pi / 5)) < 1e-6
        same = opposite & (first // 12 == second // 12)
        centres = atoms.positions[first[same]] + vectors[same] / 2
        shifted = atoms.copy()
        shifted.extend(Atoms("X" * len(centres), positions=centres))
        i, j, d = neighbor_list("ijd", shifted, 1.2)
        assert not ((i >= len(atoms)) & (j < len(atoms)) & (d > 1e-3)).any()
