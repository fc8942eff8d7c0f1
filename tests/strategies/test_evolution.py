"""Cells by variation of structures: what each operator keeps, what becomes of a seed, and of parents that are none."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_gaprss import frames as fr
from aiida_gaprss.strategies.base import StrategyError, strategy_of
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.strategies.evolution import operators_of
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.variation import generator, heredity, permutation, standardised, strain

#: Kinds of cells of one element and of compounds, with sizes that differ.
KINDS = {
    "Si": ({"Si": 1}, {"n_atoms": [5, 8], "volume_per_atom": [16, 24], "min_separation": 2.1}),
    "CuPt": ({"Cu": 1, "Pt": 1}, {"n_atoms": [6, 8], "volume_per_atom": [11, 17], "min_separation": 2.1}),
    "SiO2": (
        {"Si": 1, "O": 2},
        {"n_atoms": [9], "volume_per_atom": [11, 16], "min_separation": {"Si-Si": 2.4, "Si-O": 1.5, "O-O": 2.1}},
    ),
    "LiCu": (
        {"Li": 1, "Cu": 1},
        {"formula": {"Li": [0, 4], "Cu": [0, 4]}, "n_atoms": [4], "volume_per_atom": [11, 24], "min_separation": 2.2},
    ),
}


def seed_of(name, **changes):
    formula, settings = KINDS[name]
    return formula, strategy_of({"kind": "evolutionary", **settings, **changes})


def parents_of(name, number=10, seed=1):
    """Random cells under names, as if they had been found."""
    formula, settings = KINDS[name]
    cells = strategy_of({"kind": "random", **settings}).cells(formula, number, seed)
    for index, atoms in enumerate(cells):
        atoms.info["frame_id"] = f"{name}-{index}"
    return cells


def children(name, number, seed=5, parents=None, **changes):
    formula, kind = seed_of(name, **changes)
    return kind.cells_from(parents_of(name) if parents is None else parents, formula, number, seed)


def only(operator):
    return {"shares": {"heredity": 0, "permutation": 0, "strain": 0, operator: 1}}


def counts(atoms):
    return Counter(atoms.get_chemical_symbols())


def nearest(atoms, pair):
    """The shortest distance of a pair of elements, by ASE, images included."""
    cutoff = 6.0
    first, second, distances = neighbor_list("ijd", atoms, cutoff)
    symbols = np.array(atoms.get_chemical_symbols())
    wanted = (symbols[first] == pair[0]) & (symbols[second] == pair[1])
    return distances[wanted].min(initial=cutoff)


def same(first, second):
    """Whether two cells are one structure, species aside, by pymatgen."""
    plain = [Atoms([14] * len(a), positions=a.positions, cell=a.cell, pbc=True) for a in (first, second)]
    matcher = StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.1, primitive_cell=False, scale=False)
    return matcher.fit(*map(AseAtomsAdaptor.get_structure, plain))


@pytest.mark.parametrize("name", KINDS)
def test_children(name):
    """Composition, volume and distances are those of the parents, the cell is reduced, and each knows where it comes from."""
    parents = {atoms.info["frame_id"]: atoms for atoms in parents_of(name)}
    made = children(name, 40)
    formula, kind = seed_of(name)
    operators = Counter(atoms.info["parameters"].split()[0] for atoms in made)
    assert operators["heredity"] > operators["strain"] > 0
    assert ("permutation" in operators) == (len(formula) > 1)
    for atoms in made:
        operator, _, who = atoms.info["parameters"].partition(" of ")
        if operator.startswith("random"):
            continue
        own = [parents[one] for one in who.split(" and ")]
        assert atoms.info["parent"] == own[0].info["frame_id"]
        assert len(own) == (2 if operator == "heredity" else 1)
        assert all(counts(parent) == counts(atoms) for parent in own)
        volumes = [parent.get_volume() for parent in own]
        assert min(volumes) - 1e-6 <= atoms.get_volume() <= max(volumes) + 1e-6
        for pair, least in kind.spec(formula).separations.items():
            assert nearest(atoms, pair) >= least - 1e-6
        assert np.linalg.det(atoms.cell) > 0
        lengths = atoms.cell.lengths()
        assert lengths.max() <= 4 * lengths.min()
        assert np.all(atoms.cell.angles() >= 60 - 1e-3)
        assert np.all(atoms.cell.angles() <= 120 + 1e-3)
        fr.check(atoms)


@pytest.mark.parametrize("name", KINDS)
def test_the_same_parent_in_another_cell_is_the_same(name):
    """Reduced cell, orientation and order of atoms are a matter of writing."""
    rng = np.random.default_rng(3)
    for atoms in parents_of(name, 4):
        other = atoms[rng.permutation(len(atoms))]
        other.rotate(70, (1, 2, 3), rotate_cell=True)
        other.set_cell(np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]]) @ other.cell.array)
        first, second = standardised(atoms), standardised(other)
        assert np.allclose(first.cell.cellpar(), second.cell.cellpar(), atol=1e-4)
        assert same(first, second)
        assert same(first, atoms)
        assert sorted(first.numbers) == list(first.numbers) == list(second.numbers)


def test_a_child_is_made_of_slabs_of_both():
    """Across the cut, each atom is where it was in one of the parents, unless these were shifted; one slab is of one parent."""
    first, second = (standardised(atoms) for atoms in parents_of("SiO2", 2))
    seen = 0
    for seed in range(40):
        child = heredity([first, second], generator(seed))
        assert counts(child) == counts(first)
        slabs = [of for cut in range(3) if (of := slabs_of(child, first, second, cut))]
        seen += len(slabs) == 1
        for of in slabs:
            assert {0, 1} == set(of), "both parents gave some"
    assert seen > 25, "one in ten is shifted across the cut"


def slabs_of(child, first, second, cut):
    """Which parent each atom is of, in the order along the cut; empty if they are not where they were in these."""
    across = [axis for axis in range(3) if axis != cut]
    places = np.concatenate([atoms.get_scaled_positions()[:, across] for atoms in (first, second)])
    difference = child.get_scaled_positions()[:, None, across] - places
    distances = np.linalg.norm(difference - np.rint(difference), axis=2)
    nearest = distances.argmin(axis=1)
    if distances.min(axis=1).max() > 1e-6 or len(set(nearest)) < len(child):
        return []
    order = child.get_scaled_positions()[:, cut].argsort()
    return list((nearest >= len(first)).astype(int)[order])


def test_permutation_keeps_the_cell_and_the_places():
    for seed, atoms in enumerate(parents_of("SiO2", 8)):
        parent = standardised(atoms)
        child = permutation([parent], generator(seed))
        assert np.array_equal(child.cell.array, parent.cell.array)
        assert counts(child) == counts(parent)
        difference = child.get_scaled_positions()[:, None] - parent.get_scaled_positions()
        at = np.linalg.norm(difference - np.rint(difference), axis=2).argmin(axis=1)
        assert sorted(at) == list(range(len(parent)))
        assert np.any(parent.numbers[at] != child.numbers), "species have changed places"


@pytest.mark.parametrize("deviation", [0.05, 0.25])
def test_strain_keeps_volume_and_scaled_positions(deviation):
    sizes = []
    for seed, atoms in enumerate(parents_of("Si", 12)):
        parent = standardised(atoms)
        child = strain(deviation)([parent], generator(seed))
        assert child.get_volume() == pytest.approx(parent.get_volume())
        difference = child.get_scaled_positions() - parent.get_scaled_positions()
        assert np.allclose(difference - np.rint(difference), 0, atol=1e-8)
        stretch = np.linalg.svd(np.linalg.solve(parent.cell.array, child.cell.array), compute_uv=False)
        sizes.append(np.std(np.log(stretch)))
    assert 0.3 * deviation < np.mean(sizes) < 2 * deviation


def test_seeds():
    first, again, other = children("CuPt", 20), children("CuPt", 20), children("CuPt", 20, seed=6)
    assert fr.dumps(first) == fr.dumps(again)
    assert fr.dumps(first) != fr.dumps(other)
    assert len({fr.structure_key(atoms) for atoms in first}) == 20
    assert fr.dumps(children("CuPt", 7)) == fr.dumps(first[:7]), "cell i depends on seed, i and the parents alone"
    assert fr.dumps(children("CuPt", 20, parents=parents_of("CuPt", seed=2))) != fr.dumps(first)


def test_the_lowest_are_parents_most_often():
    made = children("Si", 300, parents=parents_of("Si", 12), population=6, **only("strain"))
    often = Counter(atoms.info["parent"] for atoms in made if "parent" in atoms.info)
    assert set(often) == {f"Si-{i}" for i in range(6)}, "no more than the population"
    expected = np.array([6, 5, 4, 3, 2, 1]) / 21
    drawn = np.array([often[f"Si-{i}"] for i in range(6)]) / sum(often.values())
    assert np.abs(drawn - expected).max() < 0.09


@pytest.mark.parametrize("operator", ["heredity", "permutation", "strain"])
def test_one_operator_alone(operator):
    made = children("CuPt", 10, **only(operator))
    assert {atoms.info["parameters"].split()[0] for atoms in made} <= {operator, "random:"}


# --- parents that are none ---


def test_without_parents_cells_are_random():
    """The same as of the kind random with this seed; what stands there says so."""
    formula, settings = KINDS["Si"]
    plain = strategy_of({"kind": "random", **settings}).cells(formula, 5, 9)
    made = children("Si", 5, seed=9, parents=[])
    for atoms, expected in zip(made, plain, strict=True):
        assert np.array_equal(atoms.positions, expected.positions)
        assert atoms.info["parameters"] == "random: no parents"
        assert "parent" not in atoms.info
    assert operators_of(made) == "random 5"
    assert operators_of(plain) == ""
    assert fr.dumps(seed_of("Si")[1].cells(formula, 5, 9)) == fr.dumps(made)


def found(*cells):
    for number, atoms in enumerate(cells):
        atoms.info["frame_id"] = f"found-{number}"
    return list(cells)


@pytest.mark.parametrize(
    "parents",
    [
        found(bulk("Si"), bulk("Si", "sc", 2.6).repeat((3, 1, 1))),
        found(bulk("Ge", cubic=True)),
        found(bulk("SiC", "zincblende", 4.36, cubic=True)),
        found(bulk("Si", cubic=True).repeat((2, 1, 1))),
    ],
    ids=["other sizes", "another element", "one more element", "a supercell"],
)
def test_structures_of_other_compositions_are_passed_over(parents):
    assert operators_of(children("Si", 4, parents=parents)) == "random 4"


def test_one_parent_alone_has_no_heredity():
    made = children("Si", 12, parents=found(bulk("Si", cubic=True)))
    assert set(operators_of(made).split()[::2]) == {"strain"}
    made = children("Si", 4, parents=found(bulk("Si", cubic=True)), **only("heredity"))
    assert operators_of(made) == "random 4"


def test_cells_of_one_atom():
    """There is nothing to be cut or exchanged; a strained lattice there is."""
    parents = found(bulk("Si", "sc", 2.7), bulk("Si", "bcc", 3.2))
    made = children("Si", 6, parents=parents, n_atoms=[1])
    assert [len(atoms) for atoms in made] == [1] * 6
    assert set(operators_of(made).split()[::2]) <= {"strain", "random"}
    assert "strain" in operators_of(made)


def test_children_that_cannot_be_made_are_counted():
    """Parents far denser than the separations allow: a random cell takes the place of each child."""
    dense = found(*(bulk("Si", cubic=True) for _ in range(2)))
    for atoms in dense:
        atoms.set_cell(atoms.cell * 0.55, scale_atoms=True)
    made = children("Si", 3, parents=dense, n_atoms=[8])
    assert operators_of(made) == "random 3"
    assert {atoms.info["parameters"] for atoms in made} == {"random: after 100 attempts without a child"}
    assert all(nearest(atoms, ("Si", "Si")) >= 2.1 - 1e-6 for atoms in made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda atoms: atoms.positions.__setitem__((1, 0), np.nan),
            "parent found-1.*positions have a value",
        ),
        (lambda atoms: atoms.cell.__setitem__((0, 0), np.inf), "parent found-1.*cell has a value that is not a finite"),
        (lambda atoms: atoms.set_cell([[1, 0, 0], [2, 0, 0], [0, 0, 1]]), "parent found-1.*cell is missing or flat"),
        (lambda atoms: atoms.set_pbc([True, True, False]), "parent found-1.*is not periodic"),
        (lambda atoms: atoms.info.pop("frame_id"), r"parent 1 \(Si8\) has no frame_id"),
    ],
    ids=["position", "cell", "flat", "not periodic", "no name"],
)
def test_parents_that_are_no_crystals(change, message):
    parents = found(bulk("Si", cubic=True), bulk("Si", cubic=True))
    change(parents[1])
    with pytest.raises(RandomCellError, match=message):
        children("Si", 1, parents=parents)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": {"heredity": 0, "permutation": 0, "strain": 0}}, "all shares are 0, expected one above"),
        ({"shares": {"heredity": -1}}, "shares.heredity.*greater than or equal to 0"),
        ({"shares": {"mating": 1}}, "shares.mating: unknown key"),
        ({"population": 0}, "population.*greater than 0"),
        ({"strain_deviation": 0}, "strain_deviation.*greater than 0"),
        ({"strain_deviation": 5.0}, "strain_deviation.*less than or equal to 1"),
    ],
)
def test_settings_that_are_wrong(changes, message):
    with pytest.raises(StrategyError, match=message):
        seed_of("Si", **changes)


def test_cells_that_cannot_exist_are_told_as_of_random_ones():
    formula, kind = seed_of("Si", min_separation=4.0)
    with pytest.raises(RandomCellError, match=r"min_separation: 4 Å .* cannot be kept"):
        kind.check(formula)
    formula, kind = seed_of("Si")
    with pytest.raises(RandomCellError, match="the element Si is not in the formula of the campaign"):
        strategy_of({**kind.model_dump(), "formula": {"Si": 1}}).check({"Ge": 1})


def test_other_kinds_have_no_use_for_parents():
    formula, settings = KINDS["Si"]
    kinds = {kind: strategy_of({"kind": kind, **settings}) for kind in ("random", "evolutionary")}
    counts = {"random": 4, "evolutionary": 4}
    alone, varied = make_cells(kinds, formula, counts, 3), make_cells(kinds, formula, counts, 3, parents=parents_of("Si"))
    assert fr.dumps(alone[:4]) == fr.dumps(varied[:4])
    assert fr.dumps(alone[4:]) != fr.dumps(varied[4:])
    assert kinds["random"].most_parents == 0
    assert not kinds["random"].suits(parents_of("Si")[0], formula)
