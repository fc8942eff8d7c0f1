"""Supercells for phonons: single displacements as symmetry has them, and all atoms rattled."""

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.spacegroup import crystal as in_space_group

from aiida_gaprss.strategies.base import StrategyError, strategy_of

QUARTZ = in_space_group(
    ["Si", "O"], [(0.4697, 0, 0), (0.4135, 0.2669, 0.1191)], spacegroup=152, cellpar=[4.916, 4.916, 5.405, 90, 90, 120]
)
TRICLINIC = Atoms("Si2", scaled_positions=[[0, 0, 0], [0.37, 0.41, 0.56]], cell=[4.1, 4.7, 5.3, 81, 97, 105], pbc=True)
LOPSIDED = Atoms(
    "SiOC", scaled_positions=[[0, 0, 0], [0.3, 0.41, 0.56], [0.62, 0.77, 0.13]], cell=[4.1, 4.7, 5.3, 81, 97, 105], pbc=True
)


def made(kind, crystal, **settings):
    return strategy_of({"kind": kind, **settings}).apply([crystal], {"Si": 1}, 7)


def moved(atoms, perfect):
    """What is displaced in a supercell: displacements of all atoms, Å."""
    vectors = atoms.get_scaled_positions(wrap=False) - perfect.get_scaled_positions(wrap=False)
    return (vectors - np.rint(vectors)) @ atoms.cell.array


@pytest.mark.parametrize(
    ("crystal", "number"),
    [
        (bulk("Si"), 1),  # T_d at each atom, both alike: one displacement
        (bulk("Al"), 1),  # O_h
        (bulk("NaCl", "rocksalt", 5.64), 2),  # O_h at each of two atoms
        (bulk("Mg"), 1),  # -6m2: one aslant, which the threefold axis and the mirror carry into three, and its reverse
        (TRICLINIC, 6),  # inversion carries one atom into the other, nothing the reverse of a displacement into it
        (LOPSIDED, 18),  # no symmetry: six of each atom
    ],
)
def test_as_many_as_symmetry_leaves(crystal, number):
    frames = made("displacements", crystal, supercell=[2, 2, 2])
    assert len(frames) == 1 + number
    for atoms in frames[1:]:
        lengths = np.linalg.norm(moved(atoms, frames[0]), axis=1)
        assert (lengths > 1e-6).sum() == 1
        assert lengths.max() == pytest.approx(0.01)


@pytest.mark.parametrize("element", ["Po", "Cf", "Lr"])
def test_elements_without_a_standard_weight(element):
    """Phonopy knows no mass of them, and none is needed to displace atoms."""
    perfect, frame = made("displacements", bulk(element, "fcc", 4.5), supercell=[2, 2, 2])
    assert set(frame.symbols) == {element}
    assert np.linalg.norm(moved(frame, perfect)) == pytest.approx(0.01)


@pytest.mark.parametrize("crystal", [bulk("Si"), bulk("Mg"), QUARTZ, TRICLINIC, LOPSIDED])
def test_images_of_the_displacements_are_all_that_is_needed(crystal):
    """With the operations of the crystal each atom goes in three independent directions, each of them forwards and backwards."""
    perfect, *frames = made("displacements", crystal, supercell=[1, 1, 1])
    cell = (perfect.cell.array, perfect.get_scaled_positions(), perfect.numbers)
    found = spglib.get_symmetry(cell, symprec=1e-4)
    images = {n: [] for n in range(len(perfect))}
    for atoms in frames:
        vectors = moved(atoms, perfect)
        (place,) = np.flatnonzero(np.linalg.norm(vectors, axis=1) > 1e-6)
        for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
            distance = cell[1] - (rotation @ cell[1][place] + translation)
            to = np.abs(distance - np.rint(distance)).max(axis=1).argmin()
            images[to].append(rotation @ np.linalg.solve(perfect.cell.array.T, vectors[place]))
    for vectors in map(np.array, images.values()):
        assert np.linalg.matrix_rank(vectors, tol=1e-6) == 3
        reverse = np.abs(vectors[:, None] + vectors[None]).max(axis=2).min(axis=1) < 1e-8
        assert np.linalg.matrix_rank(vectors[reverse], tol=1e-6) == 3
    assert len(frames) <= 6 * len(perfect) / (1 if crystal is LOPSIDED else 2)


@pytest.mark.parametrize("crystal", [bulk("Si"), bulk("Mg"), QUARTZ, TRICLINIC])
@pytest.mark.parametrize("kind", ["displacements", "rattled"])
def test_vectors_are_fifteen_angstrom(crystal, kind):
    settings = {"volumes": [1.0]} if kind == "rattled" else {}
    frames = made(kind, crystal, **settings)
    lengths = frames[0].cell.lengths()
    assert lengths.min() >= 15
    assert len(frames[0]) % len(crystal) == 0
    smaller = made(kind, crystal, length_A=float(lengths.min()) + 0.01, **settings)
    assert len(smaller[0]) > len(frames[0]), "no shorter than needed"


def test_the_primitive_cell_is_repeated():
    """Whatever cell it is given in."""
    other = make_supercell(bulk("Si"), [[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    assert {len(atoms) for atoms in made("displacements", other, supercell=[2, 2, 2])} == {16}
    assert {len(atoms) for atoms in made("rattled", other, supercell=[2, 2, 3])} == {24}


def test_what_a_relaxation_left_does_not_break_the_symmetry():
    crystal = bulk("Si", cubic=True)
    crystal.rattle(5e-4, seed=3)
    assert len(made("displacements", crystal, supercell=[2, 2, 2])) == 2
    assert len(made("displacements", crystal, supercell=[1, 1, 1], symmetry_A=1e-5)) > 10


def test_perfect_or_not():
    frames = made("displacements", bulk("Si"), supercell=[2, 2, 2], displacement_A=0.03)
    assert [atoms.info["parameters"] for atoms in frames] == ["perfect", "displacement 0.03"]
    (alone,) = made("displacements", bulk("Si"), supercell=[2, 2, 2], displacement_A=0.03, perfect=False)
    assert np.allclose(alone.positions, frames[1].positions)


def test_rattled():
    frames = made("rattled", bulk("Si"), copies=20, displacement_A=0.02, supercell=[3, 3, 3])
    assert len(frames) == 100
    places = bulk("Si").repeat(3)
    ratios = np.array([atoms.get_volume() / places.get_volume() for atoms in frames])
    assert np.allclose(ratios, np.repeat([0.94, 0.97, 1.0, 1.03, 1.06], 20))
    steps = np.concatenate([moved_from_lattice(atoms) for atoms in frames])
    assert steps.std(axis=0) == pytest.approx(0.02, rel=0.05)
    assert abs(steps.mean()) < 1e-3
    assert len({atoms.positions.tobytes() for atoms in frames}) == 100


def moved_from_lattice(atoms):
    """Displacements from the nearest places of diamond in the same cell, Å."""
    from aiida_gaprss.structures.nondiagonal import primitive

    perfect = primitive(bulk("Si"), 1e-2).repeat(3)
    vectors = atoms.get_scaled_positions(wrap=False) - perfect.get_scaled_positions(wrap=False)
    return (vectors - np.rint(vectors)) @ atoms.cell.array


@pytest.mark.parametrize("kind", ["displacements", "rattled"])
@pytest.mark.parametrize(
    ("crystal", "settings", "message"),
    [
        (
            bulk("Si"),
            {"supercell": [20, 20, 20]},
            r"crystal 0000: the supercell has 16000 atoms, expected at most 1000 \(most_atoms",
        ),
        (bulk("Si"), {"length_A": 40.0}, r"crystal 0000: the supercell has \d+ atoms, expected at most 1000"),
        (Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1e-9]], cell=[3, 3, 3], pbc=True), {}, "are two atoms at one place"),
        (Atoms("Si", cell=[9, 9, 9]), {}, "crystal 0000: is not periodic in all directions"),
        (bulk("Si"), {"displacement_A": 0.0}, "displacement_A: .*greater than 0"),
    ],
)
def test_what_cannot_be(kind, crystal, settings, message):
    with pytest.raises(StrategyError, match=message):
        made(kind, crystal, **settings)
