"""Frames that are the same structure, however they are written, and those that only look like it."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read

from aiida_gaprss.selection.copies import copies


def disordered(seed=0, symbols="Si4C4"):
    rng = np.random.default_rng(seed)
    return Atoms(symbols, cell=5 * np.eye(3) + rng.normal(0, 0.3, (3, 3)), scaled_positions=rng.random((8, 3)), pbc=True)


def shifted(atoms):
    atoms.positions += [0.3, -0.7, 1.1]
    atoms.wrap()
    return atoms


def turned(atoms):
    atoms.rotate(50, (1, 1, 0.3), rotate_cell=True)
    return atoms


def mirrored(atoms):
    atoms.set_cell(atoms.cell.array * [1, 1, -1], scale_atoms=True)
    return atoms


def other_cell(atoms):
    scaled = atoms.get_positions()
    atoms.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, -1, 1]]) @ atoms.cell.array)
    atoms.set_positions(scaled)
    atoms.wrap()
    return atoms


WAYS = {
    "again": lambda a: a,
    "shifted": shifted,
    "turned": turned,
    "mirrored": mirrored,
    "other order": lambda a: a[::-1],
    "repeated": lambda a: a.repeat((1, 2, 1)),
    "other cell": other_cell,
    "rounded": lambda a: Atoms(a.numbers, np.round(a.positions, 5), cell=np.round(a.cell.array, 5), pbc=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_structure_in_many_ways(way):
    frames = [disordered(seed) for seed in range(6)]
    assert copies([*frames, WAYS[way](frames[2].copy()), WAYS[way](frames[5].copy())]) == [[0], [1], [2, 6], [3], [4], [5, 7]]


def test_all_ways_at_once():
    frames = [disordered(), disordered(1)]
    frames += [WAYS[way](disordered()) for way in WAYS]
    assert copies(frames) == [[0, *range(2, len(frames))], [1]]


def test_other_structures_are_told_apart():
    one, exchanged, strained, moved = (disordered() for _ in range(4))
    exchanged.numbers[[0, 7]] = exchanged.numbers[[7, 0]]
    strained.set_cell(strained.cell.array * 1.001, scale_atoms=True)
    moved.positions[0, 0] += 0.01
    frames = [one, exchanged, strained, moved, bulk("Si"), bulk("Si", a=5.5), bulk("Ge"), bulk("C")]
    assert copies(frames) == [[i] for i in range(len(frames))]


def test_decorations_of_one_lattice():
    """Two ways to put two kinds of atoms on the sites of a supercell, with the same numbers of each."""
    lattice = bulk("Al", a=4.0).repeat((2, 2, 2))
    layers, mixed = lattice.copy(), lattice.copy()
    layers.symbols[:4] = "Ti"
    mixed.symbols[[0, 1, 2, 4]] = "Ti"
    assert len(copies([layers, mixed, turned(layers.copy()), shifted(mixed.copy())])) == 2


def test_atoms_and_dimers_in_vacuum_are_the_same_only_to_the_digit():
    dimers = [
        Atoms("Cu2", positions=[(0, 0, 0), (0, 0, d)], cell=[20.0] * 3, pbc=True, info={"config_type": "dimer"})
        for d in (6, 7, 7)
    ]
    assert copies(dimers) == [[0], [1, 2]]


def test_published_elastic_cells(data):
    """Of the strained cells of silicon each is there three times, along three axes."""
    import gzip
    import io

    text = gzip.decompress((data / "mlearn" / "Si_training.xyz.gz").read_bytes()).decode()
    frames = read(io.StringIO(text), ":", format="extxyz")
    groups = [group for group in copies(frames) if len(group) > 1]
    assert sum(map(len, groups)) == 54
    for group in groups:
        energies = [frames[i].info["dft_energy"] / len(frames[i]) for i in group]
        assert np.ptp(energies) < 1e-6
        assert {frames[i].info["config_type"] for i in group} == {"Elastic"}
