"""Displaced non-diagonal supercells, and those of the Bain path."""

from collections import Counter

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk

from aiida_gaprss.strategies.bain import bain_cell
from aiida_gaprss.strategies.base import StrategyError, strategy_of


def made(kind, crystal, seed=7, **settings):
    return strategy_of({"kind": kind, **settings}).apply([crystal], {"Si": 1}, seed)


def group(atoms):
    return spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4).number


# --- non-diagonal ---


def test_as_many_as_asked_for():
    """Allen and Bartók: supercells of all irreducible wavevectors of 4×4×4, here five copies at five volumes."""
    frames = made("nondiagonal", bulk("Si"))
    assert len(frames) == 5 + 8 * 5 * 5
    assert Counter(len(atoms) for atoms in frames) == {2: 5 + 25, 4: 2 * 25, 8: 5 * 25}
    assert [atoms.info["parameters"] for atoms in frames[:2]] == ["volume 0.94", "volume 0.97"]
    assert frames[-1].info["parameters"].endswith("4 cells, volume 1.06")
    few = made("nondiagonal", bulk("Si"), cover="fewest", copies=1, volumes=[1.0])
    assert Counter(len(atoms) for atoms in few) == {2: 1, 8: 5}


def test_displacements_strains_and_volumes():
    frames = made("nondiagonal", bulk("Al"), grid=[2, 2, 2], copies=100, volumes=[0.9, 1.1], displacement_A=0.0, strain=0.02)[2:]
    per_atom = np.array([atoms.get_volume() / len(atoms) for atoms in frames]) / bulk("Al").get_volume()
    wanted = np.tile(np.repeat([0.9, 1.1], 100), 3)
    assert np.abs(per_atom / wanted - 1).max() < 0.062, "three components of 0.02 on the diagonal"
    assert np.mean(per_atom / wanted) == pytest.approx(1, abs=0.004)
    perfect = made("nondiagonal", bulk("Al"), grid=[2, 2, 2], copies=1, volumes=[0.9, 1.1], displacement_A=0.0, strain=0.0)[2:]
    strains = [
        np.linalg.solve(perfect[number // 100].cell.array, atoms.cell.array) - np.eye(3) for number, atoms in enumerate(frames)
    ]
    assert np.allclose(strains, np.transpose(strains, (0, 2, 1))), "no rotation"
    assert 0.0195 < np.abs(strains).max() <= 0.02
    still = made("nondiagonal", bulk("Al"), grid=[2, 2, 2], copies=50, volumes=[1.0], displacement_A=0.1, strain=0.0)[1:]
    places = made("nondiagonal", bulk("Al"), grid=[2, 2, 2], copies=1, volumes=[1.0], displacement_A=0.0, strain=0.0)[1:]
    steps = np.concatenate([atoms.positions - places[number // 50].positions for number, atoms in enumerate(still)])
    assert steps.std() == pytest.approx(0.1, rel=0.05)


def test_the_crystal_at_each_volume_is_not_displaced():
    frames = made("nondiagonal", bulk("Si", cubic=True), grid=[1, 1, 1], copies=1)
    assert [group(atoms) for atoms in frames[:5]] == [227] * 5
    assert [atoms.get_volume() / 40.02 for atoms in frames[:5]] == pytest.approx([0.94, 0.97, 1.0, 1.03, 1.06], rel=1e-3)


@pytest.mark.parametrize(
    ("crystal", "settings", "message"),
    [
        (bulk("Si"), {"grid": [0, 4, 4]}, "nondiagonal.grid.0"),
        (bulk("Si"), {"grid": [50, 50, 50]}, r"crystal 0000: grid \[50, 50, 50\] has 125000 wavevectors, expected at most 8000"),
        (bulk("Si"), {"grid": [7, 11, 13]}, r"grid \[7, 11, 13\] needs 2002 atoms, expected at most 1000 \(most_atoms\)"),
        (bulk("Si"), {"volumes": []}, "nondiagonal.volumes"),
        (bulk("Si"), {"volumes": [0.01]}, "nondiagonal.volumes.0"),
        (bulk("Si"), {"strain": 0.5}, "nondiagonal.strain"),
        (Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1e-9]], cell=[3, 3, 3], pbc=True), {}, "are two atoms at one place"),
        (Atoms("Si", cell=[9, 9, 9], pbc=[1, 1, 0]), {}, "crystal 0000: is not periodic in all directions"),
    ],
)
def test_what_cannot_be(crystal, settings, message):
    with pytest.raises(StrategyError, match=message):
        made("nondiagonal", crystal, **settings)


# --- Bain ---


def lattice(a, c):
    return Atoms("W", cell=np.array([[-a, a, c], [a, -a, c], [a, a, -c]]) / 2, pbc=True)


@pytest.mark.parametrize(
    ("eta", "number"), [(0.0, 229), (1.0, 225), (0.02, 139), (0.5, 139), (0.98, 139), (1.3, 139), (-0.2, 139)]
)
def test_symmetry_along_the_path(eta, number):
    cell = bain_cell("W", 15.8, eta)
    assert group(cell) == number
    assert cell.get_volume() == pytest.approx(15.8)


def test_the_equation_as_printed_does_not_lead_to_fcc():
    """With a and c of eq. 7 exchanged, η = 1 is tetragonal, and the volume changes on the way."""
    x = 2 ** (1 / 3)
    right, printed = lattice(1 / np.sqrt(x), x), lattice(x, 1 / np.sqrt(x))
    assert (group(right), group(printed)) == (225, 139)
    assert right.get_volume() == pytest.approx(lattice(1, 1).get_volume())
    assert printed.get_volume() / lattice(1, 1).get_volume() == pytest.approx(x**1.5), "a² c is x² / √x"


def test_frames_of_the_path():
    frames = made("bain", bulk("W", cubic=True), volumes=[1.0], copies=1, grid=[2, 2, 2])
    perfect = [
        atoms for atoms in frames if atoms.info["parameters"].endswith(", volume 1") and " q " not in atoms.info["parameters"]
    ]
    assert [group(atoms) for atoms in perfect] == [229, 139, 225]
    assert {round(atoms.get_volume(), 6) for atoms in perfect} == {round(bulk("W").get_volume(), 6)}
    by_eta = Counter(atoms.info["parameters"].split(",")[0] for atoms in frames)
    assert by_eta == {"eta 0": 1 + 3, "eta 0.5": 1 + 4, "eta 1": 1 + 3}, "fewer symmetries, more wavevectors"
    assert {atoms.info["config_type"] for atoms in frames} == {"bain"}


@pytest.mark.parametrize(
    ("crystal", "settings", "message"),
    [
        (bulk("NaCl", "rocksalt", 5.6), {}, "bain: crystal 0000: is NaCl, expected one element: cells on the path have one atom"),
        (bulk("W"), {"etas": [2.0]}, "bain.etas.0: .*less than or equal to 1.5"),
        (bulk("W"), {"etas": []}, "bain.etas"),
        (bulk("W"), {"symmetry_A": 0.2}, "bain.symmetry_A"),
    ],
)
def test_bain_paths_that_cannot_be(crystal, settings, message):
    with pytest.raises(StrategyError, match=message):
        made("bain", crystal, **settings)
