"""Cells drawn from partly occupied sites: as often as the occupancies say, to the atom, and never too close."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms

from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.occupancy import Sites, occupied, rounded


def table(least, symbols):
    return {(a, b): least for a in symbols for b in symbols}


def lattice(*occupancies, spacing=3.0):
    """Sites in a row, one after another, far from each other."""
    positions = np.array([[spacing * n, 0, 0] for n in range(len(occupancies))])
    return Sites(positions, np.diag([spacing * len(occupancies), 9.0, 9.0]), occupancies)


def places(sites, atoms):
    """The site of each atom, and what is on each site."""
    distances = np.linalg.norm(atoms.positions[:, None] - sites.positions[None], axis=2)
    found = distances.argmin(axis=1)
    assert np.allclose(distances.min(axis=1), 0)
    assert len(set(found)) == len(found), "two atoms on one site"
    return dict(zip(found.tolist(), atoms.get_chemical_symbols(), strict=True))


def frequencies(sites, composition, least, draws):
    """How often each site has each element."""
    rng, counts = np.random.default_rng(1), Counter()
    for _ in range(draws):
        atoms = occupied(sites, composition, table(least, composition), rng)
        assert Counter(atoms.get_chemical_symbols()) == Counter({s: n for s, n in composition.items() if n})
        counts.update(places(sites, atoms).items())
    return {key: number / draws for key, number in counts.items()}


def test_sites_are_filled_as_often_as_their_occupancy():
    """Those of β-boron: a site of three quarters beside some of a few percent."""
    parts = [0.745] * 18 + [0.272] * 18 + [0.085] * 18 + [0.037] * 36
    sites = lattice(*({"B": part} for part in parts))
    number = rounded(sites.expected)["B"]
    found = frequencies(sites, {"B": number}, 1.0, 300)
    for part in set(parts):
        of_part = np.mean([found.get((n, "B"), 0) for n, p in enumerate(parts) if p == part])
        error = np.sqrt(part * (1 - part) / 300 / parts.count(part))
        assert of_part == pytest.approx(part * number / sum(parts), abs=0.01 * part + 4 * error), part


def test_an_alloy_on_shared_sites():
    """Sites of two elements that are never empty, with vacancies elsewhere."""
    sites = lattice(*[{"Cu": 0.7, "Au": 0.3}] * 20, *[{"Cu": 0.4}] * 10, {"Ni": 1.0})
    found = frequencies(sites, rounded(sites.expected), 1.0, 400)
    assert rounded(sites.expected) == {"Cu": 18, "Au": 6, "Ni": 1}
    assert found[30, "Ni"] == 1
    assert all(found[n, "Cu"] + found[n, "Au"] == pytest.approx(1) for n in range(20)), "never empty"
    assert np.mean([found[n, "Au"] for n in range(20)]) == pytest.approx(0.3)
    assert np.mean([found[n, "Cu"] for n in range(20, 30)]) == pytest.approx(0.4)
    assert np.ptp([found[n, "Au"] for n in range(20)]) < 0.2


def test_shared_sites_with_vacancies():
    sites = lattice(*[{"Cu": 0.5, "Au": 0.2}] * 30)
    found = frequencies(sites, {"Cu": 15, "Au": 6}, 1.0, 300)
    assert all(
        found[n, "Cu"] == pytest.approx(0.5, abs=0.12) and found[n, "Au"] == pytest.approx(0.2, abs=0.1) for n in range(30)
    )


def test_distances_are_kept():
    """Pairs of halves 0.8 Å apart, across the border of the cell too: one of each, never both."""
    positions = np.array([[x + d, 0, 0] for x in (3.0, 6.0, 9.0, 11.9) for d in (0.0, 0.8)])
    sites = Sites(positions, np.diag([12.0, 5.0, 5.0]), tuple([{"Si": 0.5}] * 8))
    for seed in range(50):
        atoms = occupied(sites, {"Si": 4}, table(1.5, ["Si"]), np.random.default_rng(seed))
        distances = atoms.get_all_distances(mic=True)
        assert distances[~np.eye(4, dtype=bool)].min() >= 1.5
    with pytest.raises(RandomCellError, match=r"no cell with \{'Si': 5\} was found in 1000 draws .* lower min_separation"):
        occupied(sites, {"Si": 5}, table(1.5, ["Si"]), np.random.default_rng(1))
    assert len(occupied(sites, {"Si": 5}, table(0.5, ["Si"]), np.random.default_rng(1))) == 5


def test_full_sites_are_always_there_however_close():
    """To each other; what is occupied in part keeps away from them."""
    positions = np.array([[0, 0, 0], [1.0, 0, 0], [1.2, 0, 0], [5.0, 0, 0]])
    sites = Sites(positions, np.diag([9.0, 9.0, 9.0]), ({"Si": 1.0}, {"Si": 1.0}, {"Si": 0.9}, {"Si": 0.1}))
    for seed in range(30):
        atoms = occupied(sites, {"Si": 3}, table(1.5, ["Si"]), np.random.default_rng(seed))
        assert set(places(sites, atoms)) == {0, 1, 3}
    with pytest.raises(RandomCellError, match=r"composition: 4 atoms of Si, expected 2 \(on full sites\) to 3 \(with all others"):
        occupied(sites, {"Si": 4}, table(1.5, ["Si"]), np.random.default_rng(1))


@pytest.mark.parametrize(
    ("composition", "message"),
    [
        ({"Cu": 1, "Au": 1, "Ni": 1}, "3 atoms in all, expected 4 to 6: one on each site, and none missing"),
        ({"Cu": 6, "Ni": 1}, r"6 atoms of Cu, expected 0 \(on full sites\) to 5"),
        ({"Cu": 3, "Au": 2}, r"0 atoms of Ni, expected 1 \(on full sites\) to 1"),
        ({"Cu": 3, "Au": 2, "Ni": 2}, "2 atoms of Ni, expected 1"),
        ({"Cu": 5, "Au": 1, "Ni": 1}, "7 atoms in all, expected 4 to 6"),
        ({"Ni": 1}, "1 atoms in all, expected 4 to 6"),
        ({"Cu": 3, "Au": 1, "Ni": 1, "Ag": 1}, r"1 atoms of Ag, expected 0 \(on full sites\) to 0"),
    ],
)
def test_compositions_that_cannot_be(composition, message):
    sites = lattice(*[{"Cu": 0.5, "Au": 0.5}] * 3, *[{"Cu": 0.5}] * 2, {"Ni": 1.0})
    with pytest.raises(RandomCellError, match=message):
        occupied(sites, composition, table(1.0, ["Cu", "Au", "Ni", "Ag"]), np.random.default_rng(1))


def test_the_least_and_the_most_that_can_be():
    sites = lattice(*[{"Cu": 0.5, "Au": 0.5}] * 3, *[{"Cu": 0.5}] * 2, {"Ni": 1.0})
    for composition in ({"Cu": 1, "Au": 2, "Ni": 1}, {"Cu": 5, "Ni": 1}, {"Cu": 3, "Ni": 1}, {"Cu": 2, "Au": 3, "Ni": 1}):
        atoms = occupied(sites, composition, table(1.0, ["Cu", "Au", "Ni"]), np.random.default_rng(1))
        assert {0, 1, 2, 5} <= set(places(sites, atoms))
        assert Counter(atoms.get_chemical_symbols()) == Counter(composition)


def test_numbers_are_rounded():
    assert rounded({"Si": 2.6, "O": 0.4}) == {"Si": 3, "O": 0}


def test_a_cell_of_vacancies_only_beside_its_image():
    """A site is not too close to itself in the next cell: that is for the CIF to say."""
    sites = Sites(np.array([[0.0, 0, 0], [2, 2, 2]]), np.eye(3) * 4, ({"Si": 0.5}, {"Si": 0.5}))
    atoms = occupied(sites, {"Si": 1}, table(5.0, ["Si"]), np.random.default_rng(1))
    assert isinstance(atoms, Atoms)
    assert len(atoms) == 1
