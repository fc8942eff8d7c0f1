"""Kinds of seeds as settings: compositions, what is estimated where nothing is given, and how faults are named."""

from collections import Counter

import numpy as np
import pytest
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import neighbor_list
from pydantic import ValidationError
from scipy.stats import chisquare

from aiida_gaprss import frames
from aiida_gaprss.settings.model import Model, complaints
from aiida_gaprss.strategies.cells import Seed, make_cells
from aiida_gaprss.strategies.seeds import AirssSeed, FragmentSeed, RandomSeed, with_texts
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.compositions import reduced, text
from aiida_gaprss.structures.elements import atomic_volume
from aiida_gaprss.structures.random_cells import CellSpec

ALLOY = {"Li": 1, "Cu": 1}

OPEN = {
    "formula": {"Li": [0, 4], "Cu": [0, 4]},
    "n_atoms": [2, 4],
    "volume_per_atom": {"Li": [18, 24], "Cu": [11, 14]},
    "min_separation": {"Li-Li": 2.3, "Cu-Li": 2.1, "Cu-Cu": 2.0},
}


class Holder(Model):
    """What a campaign does with seeds."""

    seeds: dict[str, Seed]


def counts(atoms):
    symbols = list(atoms.symbols)
    return {symbol: symbols.count(symbol) for symbol in ALLOY}


# --- compositions ---


@pytest.fixture(scope="module")
def alloys():
    return RandomSeed(**OPEN, n_operations=[1, 2]).cells(ALLOY, 400, seed=3)


def test_all_compositions_between_the_bounds(alloys):
    drawn = Counter(tuple(counts(atoms).values()) for atoms in alloys)
    assert set(drawn) == {(n, total - n) for total in (2, 4) for n in range(total + 1)}
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_volumes_and_separations_follow_the_composition(alloys):
    for atoms in alloys:
        n = counts(atoms)
        low, high = 18 * n["Li"] + 11 * n["Cu"], 24 * n["Li"] + 14 * n["Cu"]
        assert low - 1e-6 <= atoms.get_volume() <= high + 1e-6
    for atoms in alloys[:60]:
        symbols = atoms.get_chemical_symbols()
        for i, j, d in zip(*neighbor_list("ijd", atoms, 2.4), strict=True):
            assert d >= OPEN["min_separation"]["-".join(sorted((symbols[i], symbols[j])))] - 1e-6


def test_pure_elements_do_not_need_room_for_the_others():
    # 2.6 Å for Li-Li cannot be kept at copper's volume, and need not be.
    seed = RandomSeed(formula={"Li": [0, 2], "Cu": [0, 2]}, volume_per_atom={"Li": [20, 22], "Cu": [10, 11]}, min_separation=2.3)
    made = seed.cells(ALLOY, 30, seed=1)
    assert {"Li2", "Cu2", "Li", "Cu"} <= {atoms.get_chemical_formula() for atoms in made}


def test_weights_of_compositions():
    seed = RandomSeed(**OPEN)
    by_name = seed.cells(ALLOY, 300, seed=1, weights={"CuLi": 3.0, "Li": 1.0})
    drawn = Counter(text(reduced(counts(atoms))) for atoms in by_name)
    assert set(drawn) == {"CuLi", "Li"}
    assert chisquare([drawn["CuLi"], drawn["Li"]], [225, 75]).pvalue > 1e-3
    sizes = Counter(len(atoms) for atoms in by_name)
    assert chisquare(list(sizes.values())).pvalue > 1e-3
    by_function = seed.cells(ALLOY, 20, seed=1, weights=lambda c: 3.0 * (c == {"Cu": 1, "Li": 1}) + (c == {"Li": 1}))
    assert frames.dumps(by_function) == frames.dumps(by_name[:20])
    # A fixed composition has nothing to weigh.
    fixed = RandomSeed(n_atoms=[2, 4], volume_per_atom=[15, 18], min_separation=2.0)
    assert frames.dumps(fixed.cells(ALLOY, 3, 1, {"Li": 1.0})) == frames.dumps(fixed.cells(ALLOY, 3, 1))


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"Cu5Li": 1.0}, "all compositions have weight 0"), ({"Li": -1.0}, "the weight of composition Li is -1.0")],
)
def test_weights_that_are_none(weights, message):
    with pytest.raises(RandomCellError, match=message):
        RandomSeed(**OPEN).cells(ALLOY, 1, seed=1, weights=weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formula": {"Li": [0, 4], "Cu": 1}}, r"Li has a range .* and Cu a number .* e.g. Cu: \[1, 1\]"),
        ({"formula": {"Li": [4, 0], "Cu": [0, 1]}}, r"the range of Li is \[4, 0\]: the lower end is above"),
        ({"n_atoms": [9]}, "the ranges allow no composition with a total of 9"),
        ({"formula": {"Li": [0, 1000], "Cu": [0, 1000]}}, "the ranges allow 1002001 compositions"),
        ({"volume_per_atom": {"Li": [18, 24]}}, "volume_per_atom: Cu is missing"),
        ({"formula": {"Li": 1, "Cu": 1}, "n_atoms": None}, "n_atoms is missing"),
        (
            {"formula": {"Li": [0, 4], "Si": [0, 4]}, "min_separation": 2.0, "volume_per_atom": None},
            "the element Si is not in the",
        ),
    ],
)
def test_errors_of_compositions(changes, message):
    with pytest.raises(RandomCellError, match=message):
        RandomSeed(**{**OPEN, **changes}).check(ALLOY)


# --- what is estimated ---


@pytest.mark.parametrize(("symbol", "volume"), [("Si", 20.0), ("B", 7.3), ("Mo", 15.6), ("Cu", 11.8), ("Mg", 23.0), ("Li", 20.0)])
def test_volumes_of_elemental_solids(symbol, volume):
    assert atomic_volume(symbol) == pytest.approx(volume, rel=0.09)
    low, high = RandomSeed(n_atoms=[2]).volume_range({symbol: 1})
    assert low < volume < high


@pytest.mark.parametrize("formula", [{"Si": 1}, {"B": 1}, {"Mo": 1}, {"Cu": 1}, {"Li": 1}, {"Si": 1, "O": 2}, {"Mg": 1, "O": 1}])
def test_cells_without_volume_and_separation(formula):
    seed = RandomSeed(n_atoms=[2 * sum(formula.values()), 4 * sum(formula.values())], n_operations=[1, 2, 4])
    spec = seed.spec(formula)
    radius = {symbol: covalent_radii[atomic_numbers[symbol]] for symbol in formula}
    for (a, b), separation in spec.separations.items():
        assert 0.6 * (radius[a] + radius[b]) < separation <= 0.8 * (radius[a] + radius[b]) + 1e-3
    made = seed.cells(formula, 10, seed=1)
    volumes = [atoms.get_volume() / len(atoms) for atoms in made]
    low, high = seed.volume_range(formula)
    assert low <= min(volumes)
    assert max(volumes) <= high
    assert min(neighbor_list("d", atoms, 6.0).min() for atoms in made) >= seed.smallest_separation(formula) - 1e-6


def test_an_estimated_volume_has_room_for_a_given_separation():
    spec = RandomSeed(n_atoms=[4], min_separation=2.4).spec({"B": 1})
    filled = np.pi / 6 * 2.4**3 / spec.volume_range[0]
    assert filled == pytest.approx(0.6, abs=1e-3)
    assert len(RandomSeed(n_atoms=[4], min_separation=2.4).cells({"B": 1}, 5, seed=1)) == 5


def test_an_element_without_density():
    with pytest.raises(RandomCellError, match="no volume is known for At, give one"):
        RandomSeed(n_atoms=[2]).check({"At": 1})


# --- settings ---


def test_a_seed_without_kind_is_random():
    seeds = Holder(seeds={"a": {"n_atoms": [2]}, "b": {"kind": "fragments", "fragment": "B12"}}).seeds
    assert isinstance(seeds["a"], RandomSeed)
    assert isinstance(seeds["b"], FragmentSeed)
    again = Holder(**Holder(seeds=seeds).model_dump())
    assert again.seeds == seeds


@pytest.mark.parametrize(
    ("seed", "where", "message"),
    [
        ({"n_atoms": 2}, ("n_atoms",), "Input should be a valid list (got 2)"),
        ({"n_atom": [2]}, ("n_atom",), "unknown key"),
        ({"kind": "airs"}, ("kind",), "kind is 'airs', expected one of airss, evolutionary, fragments, random (installed for"),
        (3, (), "expected keys and values (got 3)"),
        ({"kind": "airss"}, (), "give either text or file"),
        ({"kind": "airss", "text": "a", "file": "b"}, (), "give either text or file"),
        ({"kind": "fragments", "fragment": "C60"}, ("fragment",), "no fragment is called 'C60'; known: B12"),
        ({"kind": "fragments", "fragment": "2\n\nH 0 0"}, ("fragment",), "not readable as extended XYZ"),
        ({"kind": "fragments", "fragment": {"symbols": ["H"], "positions": []}}, ("fragment",), "1 symbols and 0 positions"),
        ({"volume_per_atom": {"Si": 3}}, ("volume_per_atom", "Si"), "valid tuple (got 3)"),
        ({"volume_per_atom": [1]}, ("volume_per_atom", 1), "missing"),
        ({"min_separation": {"Si-Si": -1}}, ("min_separation", "Si-Si"), "greater than 0 (got -1)"),
        ({"formula": {"Li": [0, -1]}}, ("formula", "Li", 1), "greater than or equal to 0 (got -1)"),
    ],
)
def test_faults_are_named_with_their_place(seed, where, message):
    with pytest.raises(ValidationError) as caught:
        Holder(seeds={"random": seed})
    (fault,) = complaints(caught.value)
    place, said = fault.place, fault.message
    assert place == ("seeds", "random", *where)
    assert message in said


def test_the_file_of_an_airss_seed(tmp_path):
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "al.cell").write_text("#VARVOL=17\n#SPECIES=Al%NUM=4\n#NFORM=1\n#MINSEP=2.0\n")
    given = {"random": {"n_atoms": [2]}, "airss": {"kind": "airss", "file": "seeds/al.cell"}, "wrong": 3}
    settled, faults = with_texts(given, tmp_path)
    assert not faults
    assert settled["random"] == given["random"]
    assert settled["wrong"] == 3
    assert set(settled["airss"]) == {"kind", "text"}
    assert len(AirssSeed(**settled["airss"]).cells({"Al": 1}, 1, seed=1)[0]) == 4
    _, faults = with_texts({"b": {"kind": "airss", "file": "none.cell"}, "c": {"kind": "airss", "file": "seeds"}}, tmp_path)
    assert set(faults) == {"b", "c"}
    assert faults["b"].endswith("none.cell: no such file")
    assert faults["c"].endswith("seeds: is a folder, expected a file")
    with pytest.raises(RandomCellError, match=r"'seeds/al.cell' has not been read"):
        AirssSeed(**given["airss"]).check({"Al": 1})


def test_all_kinds_together():
    kinds = Holder(
        seeds={
            "random": {"n_atoms": [4, 6], "volume_per_atom": [7, 9], "min_separation": 1.5, "n_operations": [1, 2]},
            "b12": {"kind": "fragments", "fragment": "B12", "n_fragments": [3]},
            "airss": {"kind": "airss", "text": "#VARVOL=7.2\n#SPECIES=B\n#NFORM=4-6\n#MINSEP=1.5\n"},
        }
    ).seeds
    made = make_cells(kinds, {"B": 1}, {"airss": 2, "b12": 2, "random": 3}, seed=5)
    assert [len(atoms) == 36 for atoms in made] == [False, False, True, True, False, False, False]
    assert all({"seed", "n_operations", "space_group"} <= set(atoms.info) for atoms in made)
    # Those of one kind depend on its name, not on the other kinds.
    alone = make_cells(kinds, {"B": 1}, {"random": 3}, seed=5)
    assert frames.dumps(alone) == frames.dumps(made[4:])
    spec = kinds["random"].spec({"B": 1})
    assert isinstance(spec, CellSpec)
