"""The rules by themselves: CUR, farthest points, flat histogram, range classifier, neighbours."""

from itertools import combinations
from math import e

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from scipy.stats import chisquare

from aiida_gaprss.selection.choose import NOISE, cur, farthest, flat_boltzmann, maxvol, most_uncertain
from aiida_gaprss.selection.fingerprints import fingerprint
from aiida_gaprss.selection.neighbours import neighbours, triplets
from aiida_gaprss.selection.ranges import features, outside


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def skewed(rng, n=5):
    cell = np.diag([3.0, 4.0, 5.0]) + rng.uniform(-1.5, 1.5, (3, 3))
    return Atoms(rng.choice(["Si", "C"], n), rng.uniform(-6, 12, (n, 3)), cell=cell, pbc=True)


# --- CUR ---


def test_cur_takes_one_of_each_orthogonal_group(rng):
    # Four groups of parallel vectors, the longest in group 2, then 0, 3, 1.
    axes, _ = np.linalg.qr(rng.normal(size=(30, 4)))
    lengths = [5.0, 1.0, 9.0, 2.0]
    group = rng.permutation(np.repeat(np.arange(4), 6))
    rows = np.array([lengths[g] * (1 + 0.01 * k) * axes[:, g] for k, g in enumerate(group)])
    selection = cur(rows, 24)
    assert [int(group[i]) for i in selection.kept] == [2, 0, 3, 1]
    assert all(rows[i] @ rows[i] == max(rows[j] @ rows[j] for j in range(24) if group[j] == group[i]) for i in selection.kept)
    assert set(selection.rejected.values()) == {"familiar"}
    assert len(selection.rejected) == 20


def test_cur_never_takes_what_the_database_spans(rng):
    known = rng.normal(size=(6, 40))
    spanned = rng.normal(size=(20, 6)) @ known
    new = rng.normal(size=(3, 40))
    selection = cur(np.concatenate([100 * spanned, new]), 10, known)
    assert sorted(selection.kept) == [20, 21, 22]
    assert set(selection.rejected.values()) == {"familiar"}


def test_cur_of_part_of_the_variance(rng):
    # The database knows one direction well and one hardly; only the first counts when it carries what is asked for.
    known = np.array([[10.0, 0, 0]] * 9 + [[0, 0.1, 0]])
    rows = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    assert cur(rows, 2, known, 0.999).kept == [1]
    assert cur(rows, 2, known, 1.0).kept == []


def test_cur_agrees_with_skmatter(rng):
    from skmatter.sample_selection import CUR

    for shape in ((40, 12), (15, 60)):
        rows = np.abs(rng.normal(size=shape)) * np.geomspace(1, 0.1, shape[1])
        theirs = CUR(n_to_select=8, random_state=np.random.default_rng(0)).fit(rows)
        assert cur(rows, 8).kept == [int(i) for i in theirs.selected_idx_]


def test_cur_without_anything_to_choose():
    assert cur(np.empty((0, 3)), 4).kept == []
    assert cur(np.zeros((3, 2)), 4).rejected == dict.fromkeys(range(3), "familiar")
    assert cur(np.ones((5, 2)), 4).kept == [0]
    with pytest.raises(ValueError, match="expected finite numbers"):
        cur(np.array([[np.nan]]), 1)
    with pytest.raises(ValueError, match="known_variance is 0"):
        cur(np.ones((2, 2)), 1, known_variance=0)


# --- maxvol ---


def volume(rows, known, chosen):
    """Return by how much the logarithm of the determinant has grown, as it is written in books."""
    noise = NOISE**2 * np.mean(np.square(np.concatenate([rows, known])).sum(axis=1)) * np.eye(rows.shape[1])
    without = known.T @ known + noise
    return np.linalg.slogdet(without + rows[chosen].T @ rows[chosen])[1] - np.linalg.slogdet(without)[1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("database", "length"), [(0, 4), (3, 8), (12, 5)])
def test_maxvol_beside_all_choices_there_are(seed, database, length):
    rng = np.random.default_rng([seed, database])
    rows, known = 2 * rng.normal(size=(9, length)), rng.normal(size=(database, length))
    taken = maxvol(rows, 3, known, grade=0.0).kept
    assert len(taken) == 3
    every = np.array([volume(rows, known, list(choice)) for choice in combinations(range(9), 3)])
    mine = volume(rows, known, taken)
    assert mine >= (1 - 1 / e) * every.max(), "the bound of greedy choices"
    assert mine >= np.quantile(every, 0.9)
    assert mine >= every.mean(), "no less than what is drawn"
    singles = [volume(rows, known, [i]) for i in range(9)]
    assert taken[0] == int(np.argmax(singles)), "each by itself is the best"
    assert taken[1] == max(set(range(9)) - {taken[0]}, key=lambda i: volume(rows, known, [taken[0], i]))


@pytest.mark.parametrize("seed", range(5))
def test_maxvol_of_many_spans_more_than_what_is_drawn(seed):
    rng = np.random.default_rng(seed)
    rows, known = rng.normal(size=(300, 20)) * np.geomspace(1, 0.01, 20), rng.normal(size=(10, 20)) * 0.1
    mine = volume(rows, known, maxvol(rows, 15, known).kept)
    assert all(mine > volume(rows, known, rng.choice(300, 15, replace=False)) for _ in range(100))


def test_maxvol_takes_exact_volumes():
    # Of vectors at right angles the longest; of all that are in their plane, none is needed then.
    rows = np.array([[1.0, 0, 0], [0, 3.0, 0], [0, 0, 2.0], [0.6, 1.8, 0]])
    assert maxvol(rows, 9).kept == [1, 2, 0]
    assert maxvol(rows, 2).rejected == {
        0: "not among the 2 that widen the database most",
        3: "not among the 2 that widen the database most",
    }


@pytest.mark.parametrize("length", [5, 40])
def test_maxvol_takes_nothing_that_lies_between_the_vectors_of_the_database(rng, length):
    known = rng.normal(size=(6, length))
    coefficients = rng.normal(size=(20, 6))
    between = coefficients / np.linalg.norm(coefficients, axis=1)[:, None] * rng.uniform(0, 1, (20, 1)) @ known
    beyond = 3.0 * known[:1] if length == 5 else rng.normal(size=(1, length))
    selection = maxvol(np.concatenate([known, between, beyond]), 10, known)
    assert selection.kept == [26]
    assert selection.rejected == dict.fromkeys(range(26), "familiar")


def test_maxvol_by_its_grade():
    # Twice as far as the database goes is of grade 2, where nothing else is known of that direction.
    known, rows = np.array([[10.0, 0], [0, 10.0]]), np.array([[20.0, 0], [0, 14.0]])
    assert maxvol(rows, 2, known, grade=1.3).kept == [0, 1]
    assert maxvol(rows, 2, known, grade=1.5).kept == [0]
    assert maxvol(rows, 2, known, grade=2.1).kept == []


def test_maxvol_without_anything_to_choose():
    assert maxvol(np.empty((0, 3)), 4, np.ones((2, 3))).kept == []
    assert maxvol(np.zeros((3, 2)), 4).rejected == dict.fromkeys(range(3), "familiar")
    assert maxvol(np.ones((5, 2)), 4).kept == [0], "of equals the first"
    with pytest.raises(ValueError, match="expected finite numbers"):
        maxvol(np.array([[np.nan]]), 1)


# --- the others ---


def test_farthest_agrees_with_skmatter(rng):
    from skmatter.sample_selection import FPS

    known, rows = rng.normal(size=(7, 5)), rng.normal(size=(60, 5))
    theirs = FPS(n_to_select=7 + 12, initialize=list(range(7))).fit(np.concatenate([known, rows]))
    assert farthest(rows, 12, known).kept == [int(i) - 7 for i in theirs.selected_idx_[7:]]


def test_flat_boltzmann_has_its_exact_distribution(rng):
    energies = np.array([0.0, 0.02, 0.03, 0.21, 0.22, 0.55, 0.6, 0.61, 0.62, 1.0])
    counts, edges = np.histogram(energies, bins=10)
    height = [counts[min(int(np.searchsorted(edges, e, side="right")) - 1, 9)] for e in energies]
    expected = np.exp(-energies / 0.4) / height
    drawn = np.bincount([flat_boltzmann(energies, 1, 0.4, rng).kept[0] for _ in range(20000)], minlength=10)
    assert chisquare(drawn, 20000 * expected / expected.sum()).pvalue > 0.01


def test_most_uncertain():
    selection = most_uncertain([0.1, 0.3, 0.2], 2)
    assert selection.kept == [1, 2]
    assert selection.rejected == {0: "not among the 2 most uncertain"}


# --- the range classifier ---


def test_range_by_component():
    known = np.array([[0.0, 10.0], [1.0, 20.0]])
    rows = np.array([[0.5, 15.0], [1.0, 20.0], [1.5, 15.0], [1.2, 12.0], [1.6, 12.0], [0.5, 9.0]])
    selection = outside(rows, known)
    # 2 has one component outside and widens the range up to 1.5, so that 3 is inside; 4 is outside again.
    assert selection.kept == [2, 4, 5]
    assert set(selection.rejected) == {0, 1, 3}
    assert outside(rows).kept[:2] == [0, 1], "nothing is inside the range of an empty database"
    assert outside(np.empty((0, 2)), known).kept == []


def test_features_do_not_depend_on_the_description_of_the_crystal():
    primitive, cubic = bulk("Si", "diamond", 5.43), bulk("Si", "diamond", 5.43, cubic=True)
    turned = cubic.repeat((1, 2, 1))
    turned.rotate(33, (1, 2, 3), rotate_cell=True)
    one, two, three = (features(atoms, [14]) for atoms in (primitive, cubic, turned))
    assert one.shape == (48,)
    np.testing.assert_allclose(two, one, rtol=1e-9)
    np.testing.assert_allclose(three, one, rtol=1e-9)
    assert outside(np.array([two, three]), one[None]).kept == []


def test_features_of_a_trimer(rng):
    # Si-C at 2, C-C at 2√2, right angle at Si; the box is out of reach.
    atoms = Atoms("SiC2", [[0, 0, 0], [2, 0, 0], [0, 2, 0]], cell=[30] * 3, pbc=True)
    row = features(atoms, [6, 14], cutoff=6.0)
    f = lambda r: 0.5 * (1 + np.cos(np.pi * r / 6.0))  # noqa: E731
    far = 2 * np.sqrt(2)
    powers = np.arange(1, 16)
    np.testing.assert_allclose(row[:15], f(far) / far**powers / 3)  # C-C
    np.testing.assert_allclose(row[15:30], 2 * f(2) / 2.0**powers / 3)  # C-Si
    np.testing.assert_allclose(row[30:45], 0)  # Si-Si
    # λ = -1, ξ = 1, η·36 = 0.1 is the first angular function: angles of 90°, 45° and 45°.
    shape = np.exp(-0.1 / 36 * (4 + 4 + 8)) * f(2) ** 2 * f(far)
    assert row[45] == pytest.approx(shape * sum((1 - np.cos(np.radians(angle))) / 2 for angle in (90, 45, 45)) / 3)
    assert row[-1] == pytest.approx(9000)


# --- neighbours ---


def test_neighbours_are_those_of_ase(rng):
    for _ in range(20):
        atoms = skewed(rng)
        first, second, distances, vectors = neighbours(atoms, 5.0)
        theirs = neighbor_list("ijdD", atoms, 5.0)
        ours_sorted = np.lexsort((*vectors.round(6).T, second, first))
        theirs_sorted = np.lexsort((*theirs[3].round(6).T, theirs[1], theirs[0]))
        assert (first[ours_sorted] == theirs[0][theirs_sorted]).all()
        assert (second[ours_sorted] == theirs[1][theirs_sorted]).all()
        np.testing.assert_allclose(vectors[ours_sorted], theirs[3][theirs_sorted], atol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), distances)
        assert (np.diff(first) >= 0).all()


def test_triplets():
    a, b = triplets(np.array([0, 0, 0, 2, 2, 3]), 5)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (3, 4)]
    assert all(len(side) == 0 for side in triplets(np.array([], dtype=int), 2))


def test_fingerprint_is_its_formula(rng):
    """Atom by atom, with loops and ASE's neighbours."""
    atoms = skewed(rng)
    grid, cosines = np.linspace(1.5, 6.0, 24), np.linspace(-1, 1, 12)
    width = 1.3 * (grid[1] - grid[0])
    first, second, distances, vectors = neighbor_list("ijdD", atoms, 6.0)
    rows = []
    for i in range(len(atoms)):
        parts = {pair: np.zeros(24) for pair in ((6, 6), (6, 14), (14, 14))}
        for j, r in zip(second[first == i], distances[first == i], strict=True):
            weight = 0.5 * (1 + np.cos(np.pi * r / 6.0)) * (2.45 / r) ** 2
            parts[tuple(sorted((int(atoms.numbers[i]), int(atoms.numbers[j]))))] += weight * np.exp(
                -((r - grid) ** 2) / 2 / width**2
            )
        near = np.flatnonzero((first == i) & (distances < 3.6))
        pairs = ((6, 6), (6, 14), (14, 14))
        angles = {(centre, pair): np.zeros(12) for centre in (6, 14) for pair in pairs}
        for p, a in enumerate(near):
            for b in near[p + 1 :]:
                weight = np.prod([0.5 * (1 + np.cos(np.pi * distances[k] / 3.6)) for k in (a, b)])
                cosine = vectors[a] @ vectors[b] / distances[a] / distances[b]
                ends = tuple(sorted(int(atoms.numbers[second[k]]) for k in (a, b)))
                angles[int(atoms.numbers[i]), ends] += weight * np.exp(-0.5 * ((cosine - cosines) / 0.15) ** 2)
        rows.append(np.concatenate([*parts.values(), *(0.7 * part for part in angles.values())]))
    expected = np.concatenate([np.mean(rows, axis=0), np.std(rows, axis=0)])
    np.testing.assert_allclose(fingerprint(atoms, [6, 14]), expected, atol=1e-10)
