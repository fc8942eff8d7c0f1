"""Cells of CIFs with partly occupied sites."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial import cKDTree

from aiida_gaprss import frames as fr
from aiida_gaprss.strategies.base import StrategyError, strategy_of
from aiida_gaprss.strategies.seeds import with_texts

EXAMPLES = Path(__file__).parents[2] / "examples"
BORON = (EXAMPLES / "beta_boron.cif").read_text(encoding="utf-8")
BORON_321 = (EXAMPLES / "beta_boron_321.cif").read_text(encoding="utf-8")
CIF = """\
data_alloy
_cell_length_a {a}
_cell_length_b {a}
_cell_length_c {a}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_symmetry_equiv_pos_as_xyz
x,y,z
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{sites}
"""
ALLOY = CIF.format(a=3.8, sites="Cu1 Cu 0 0 0 0.5\nAu1 Au 0 0 0 0.5\nCu2 Cu 0.5 0.5 0 1\nCu3 Cu 0.5 0 0.5 0.25\n")


def made(seed=7, **settings):
    return strategy_of({"kind": "occupancy", **settings}).apply([], {"B": 1}, seed)


@pytest.fixture(scope="module")
def boron():
    return made(text=BORON), made(text=BORON_321)


def shortest(atoms):
    distances = atoms.get_all_distances(mic=True)
    return distances[~np.eye(len(atoms), dtype=bool)].min()


# --- β-boron ---


def test_ten_models_of_boron(boron):
    """297 atoms on full sites and 24 on others: PRL 120, 156001, figure 3, but for sites that could not be had (docs)."""
    _, models = boron
    assert [len(atoms) for atoms in models] == [321] * 10
    assert {str(atoms.symbols) for atoms in models} == {"B321"}
    assert all(np.allclose(atoms.cell.cellpar(), [10.96, 10.96, 23.89, 90, 90, 120]) for atoms in models)
    assert all(1.6 < shortest(atoms) < 1.61 for atoms in models), "no absurd distances: the shortest is one of full sites"
    common = set.intersection(*({tuple(np.round(p, 4)) for p in atoms.positions} for atoms in models))
    assert len(common) >= 297
    rest = [{tuple(np.round(p, 4)) for p in atoms.positions} - common for atoms in models]
    assert len({frozenset(one) for one in rest}) == 10, "ten different ones"
    density = 321 * 10.811 / 0.602214 / models[0].get_volume()
    assert density == pytest.approx(2.32, abs=0.01), "g/cm³"


def test_published_sites_alone(boron):
    """B13 at 74.5 %: 13 of 18; 321 atoms have no place."""
    models, _ = boron
    assert [len(atoms) for atoms in models] == [310] * 10
    with pytest.raises(StrategyError, match=r"occupancy: composition: 321 atoms of B, expected 297 \(on full sites\) to 315"):
        made(text=BORON, composition={"B": 321})


def test_full_sites_of_boron_are_those_of_the_prototype(data):
    """All atoms of AFLOW's cell, and nothing but the hole besides."""
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    prototype = Structure.from_file(data / "boron" / "aflow_A_hR105_166_bc9h4i.cif")
    (all_sites,) = made(text=BORON, composition={"B": 315}, number=1)
    ours = Structure(all_sites.cell.array, all_sites.get_chemical_symbols(), all_sites.positions, coords_are_cartesian=True)
    matcher = StructureMatcher(ltol=1e-3, stol=1e-3, angle_tol=0.01, scale=False)
    assert matcher.fit(prototype, ours)


def test_sites_in_part_are_what_the_file_says():
    """B13 is bonded to the atom in the centre, B15; the holes are the points that are furthest from all sites."""
    sites = strategy_of({"kind": "occupancy", "text": BORON_321}).sites
    part = {number: site["B"] for number, site in enumerate(sites.occupancies) if site["B"] < 1}
    assert Counter(part.values()) == {0.745: 18, 0.44125: 24}
    assert sites.expected["B"] == pytest.approx(321, abs=1e-3)
    holes = [number for number, value in part.items() if value < 0.6]
    framework = [number for number in range(len(sites.positions)) if number not in holes]
    everything = Atoms("B" * len(framework) + "H" * 24, sites.positions[[*framework, *holes]], cell=sites.cell, pbc=True)
    b15 = min(framework, key=lambda n: np.linalg.norm(sites.positions[n] - sites.cell[2] / 2))
    bonded = np.argsort(everything.get_distances(framework.index(b15), range(len(framework)), mic=True))[1:7]
    assert {part.get(framework[number]) for number in bonded} == {0.745}
    borons = everything[everything.numbers == 5].repeat((3, 3, 3))
    room = cKDTree(borons.positions - sites.cell.sum(axis=0))
    distances = room.query(everything.positions[-24:])[0]
    assert Counter(np.round(distances, 2)) == {2.39: 6, 2.21: 18}
    points = np.random.default_rng(1).uniform(size=(100_000, 3)) @ sites.cell
    far = points[room.query(points)[0] > 2.213]
    largest = everything[everything.numbers == 1][distances > 2.3].repeat((3, 3, 3))
    assert len(far)
    assert cKDTree(largest.positions - sites.cell.sum(axis=0)).query(far)[0].max() < 1.0


# --- others ---


def test_same_seed_same_cells():
    assert fr.dumps(made(text=BORON_321, number=3)) == fr.dumps(made(text=BORON_321, number=5)[:3])
    assert fr.dumps(made(text=BORON_321, number=3)) != fr.dumps(made(text=BORON_321, number=3, seed=8))
    assert [atoms.info["frame_id"] for atoms in made(text=ALLOY, composition={"Cu": 2}, number=2)] == [
        "occupancy-0000",
        "occupancy-0001",
    ]


def test_an_alloy_in_a_supercell():
    cells = made(text=ALLOY, supercell=[2, 2, 1], number=20)
    assert {str(sorted(Counter(atoms.get_chemical_symbols()).items())) for atoms in cells} == {"[('Au', 2), ('Cu', 7)]"}
    assert all(atoms.get_volume() == pytest.approx(4 * 3.8**3) for atoms in cells)
    taken = {frozenset(map(tuple, np.round(atoms.positions[atoms.symbols == "Au"], 3))) for atoms in cells}
    assert len(taken) > 3


def test_two_states_of_one_element_on_a_site():
    text = CIF.format(a=3.8, sites="Fe1 Fe2+ 0 0 0 0.5\nFe2 Fe3+ 0 0 0 0.5\nO1 O2- 0.5 0.5 0.5 0.5\n")
    sites = strategy_of({"kind": "occupancy", "text": text}).sites
    assert [dict(site) for site in sites.occupancies] == [{"Fe": 1.0}, {"O": 0.5}]


def test_a_file_is_read_with_the_others(tmp_path):
    (tmp_path / "alloy.cif").write_text(ALLOY)
    settled, faults = with_texts(
        {"alloy": {"kind": "occupancy", "file": "alloy.cif"}, "no": {"kind": "occupancy", "file": "no"}}, tmp_path
    )
    assert settled["alloy"] == {"kind": "occupancy", "text": ALLOY}
    assert set(faults) == {"no"}
    with pytest.raises(StrategyError, match=r"occupancy: 'alloy.cif' has not been read \(see with_texts\)"):
        made(file="alloy.cif")


FULL = CIF.format(a=3, sites="Cu1 Cu 0 0 0 1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either text or file"),
        ({"text": ALLOY, "file": "a.cif"}, "give either text or file"),
        ({"text": "nothing"}, "occupancy: the CIF is not readable"),
        (
            {"text": ALLOY.replace("0.25", "much")},
            "occupancy: the CIF has an occupancy 'much', expected a number between 0 and 1",
        ),
        ({"text": ALLOY.replace("0.25", "?")}, r"occupancy: the CIF has an occupancy '\?', expected a number between 0 and 1"),
        ({"text": ALLOY.replace("0.25", "-0.25")}, "occupancy: the CIF has an occupancy '-0.25', expected a number between 0"),
        ({"text": CIF.format(a=3, sites="Cu1 Cu 0 0 0 0.8\nAu1 Au 0 0 0 0.5")}, "occupancy: the CIF is not readable: .*"),
        ({"text": FULL}, "occupancy: all 1 sites of the CIF are full, expected some occupied in part"),
        ({"text": ALLOY, "composition": {"Xx": 1}}, "occupancy: composition: 'Xx' is not a chemical element"),
        ({"text": ALLOY, "composition": {"Cu": 1}}, "occupancy: composition: 1 atoms in all, expected 2 to 3"),
        ({"text": ALLOY, "composition": {"Ag": 1, "Cu": 2}}, r"occupancy: composition: 1 atoms of Ag, expected 0 \(on full"),
        ({"text": ALLOY, "supercell": [20, 20, 20]}, "occupancy: supercell make cells of up to 18000 atoms, expected at most"),
        ({"text": ALLOY, "min_separation": {"Cu-Cu": 2.0}}, "occupancy: min_separation: the pair 'Au-Au' is missing"),
        ({"text": ALLOY, "number": 0}, "occupancy.number: .*greater than 0"),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(StrategyError, match=message):
        made(**settings)
