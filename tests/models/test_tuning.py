"""What is tried in a search of hyperparameters, and the evolution towards the minimum."""

import numpy as np
import pytest
from helpers import FIT
from pydantic import ValidationError
from scipy.optimize import rosen

from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.models.tuning import Tuning, first_population, offspring, survivors, value_at, with_value

SETTINGS = GapSettings(**FIT)


def evolve(function, dimensions, size, generations, seed=4):
    population = first_population(size, dimensions, seed)
    losses = [function(x) for x in population]
    for generation in range(1, generations + 1):
        trials = offspring(population, losses, seed, generation)
        assert np.array(trials).min() >= 0
        assert np.array(trials).max() <= 1
        population, losses = survivors(population, losses, trials, [function(x) for x in trials])
    return np.array(population)[np.argmin(losses)], min(losses)


CENTRE = np.array([0.31, 0.84, 0.07])


def sphere(x):
    return float(((np.array(x) - CENTRE) ** 2).sum())


def test_shifted_sphere():
    place, loss = evolve(sphere, 3, 15, 40)
    assert np.allclose(place, CENTRE, atol=1e-3)
    # The same number of random points comes nowhere near.
    random = np.random.default_rng(4).random((15 * 41, 3))
    assert loss < 1e-3 * min(map(sphere, random))


def test_rosenbrock():
    """Between -2 and 2, with its minimum at (1, 1) in a curved valley."""
    place, loss = evolve(lambda x: rosen(4 * np.array(x) - 2), 2, 20, 60)
    assert np.allclose(4 * place - 2, 1, atol=0.01)
    assert loss < 1e-4


def test_half_of_the_trials_fail():
    place, _ = evolve(lambda x: sphere(x) if x[0] < 0.5 else np.inf, 3, 15, 40)
    assert np.allclose(place, CENTRE, atol=1e-3)
    place, loss = evolve(lambda _: np.inf, 3, 5, 3)
    assert loss == np.inf


def test_the_same_seed_the_same_steps():
    """A step depends on nothing but its arguments."""
    population = first_population(6, 2, 3)
    assert population == first_population(6, 2, 3) != first_population(6, 2, 4)
    losses = [sphere([*x, 0]) for x in population]
    trials = offspring(population, losses, 3, 1)
    assert trials == offspring(population, losses, 3, 1)
    assert trials != offspring(population, losses, 3, 2)
    assert all(t != p for t, p in zip(trials, population, strict=True))
    kept, best = survivors(population, losses, trials, [0.0, *([9.0] * 5)])
    assert kept == [trials[0], *population[1:]]
    assert best == [0.0, *losses[1:]]


def test_latin_hypercube():
    population = np.array(first_population(10, 3, 1))
    assert (np.sort((10 * population).astype(int), axis=0) == np.arange(10)[:, None]).all()
    with pytest.raises(ValueError, match="at least 4 vectors, got 3"):
        first_population(3, 2, 1)


def test_values_of_variables():
    variables = {
        "descriptors.1.n_sparse": {"bounds": [10, 13]},
        "sigma.energy": {"bounds": [1e-4, 1e-2], "log": True},
        "descriptors.0.cutoff": [3.0, 4.0],
    }
    search = Tuning(variables=variables).of(SETTINGS)
    assert search.at([0, 0, 0]) == dict(zip(variables, [10, 1e-4, 3.0], strict=True))
    assert search.at([1, 1, 1]) == dict(zip(variables, [13, 1e-2, 4.0], strict=True))
    assert search.at([0.5, 0.5, 0.49])["sigma.energy"] == pytest.approx(1e-3)
    found = [search.at([x, 0, 0])["descriptors.1.n_sparse"] for x in np.linspace(0.001, 0.999, 400)]
    assert all(isinstance(n, int) for n in found)
    assert [found.count(n) for n in (10, 11, 12, 13)] == [100] * 4
    assert not search.is_grid
    assert search.number() == 15 * 6


def test_grid():
    search = Tuning(variables={"descriptors.0.cutoff": [3.0, 4.0], "sigma.energy": [0.1, 0.2, 0.3]}).of(SETTINGS)
    assert search.is_grid
    assert search.number() == len(search.grid()) == 6
    assert {tuple(point.values()) for point in search.grid()} == {(c, s) for c in (3.0, 4.0) for s in (0.1, 0.2, 0.3)}


@pytest.mark.parametrize(
    ("path", "variable", "message"),
    [
        ("descriptors.2.cutoff", [4.0], r"descriptors.2.cutoff: there is no '2' in descriptors; there is 0 to 1"),
        ("descriptors.1.cutof", [4.0], r"no 'cutof' in descriptors.1; there is kind, cutoff, delta"),
        ("descriptors.-1.cutoff", [4.0], r"no '-1' in descriptors"),
        ("sigma.energy.x", [4.0], r"no 'x' in sigma.energy; there is nothing"),
        ("sigma.energy", [0.1, -1.0], r"variables.sigma.energy: -1.0: .*greater than 0"),
        ("sigma.energy", ["much"], r"variables.sigma.energy: 'much': expected a number"),
        ("sigma.energy", {"bounds": [-1.0, 1.0]}, r"variables.sigma.energy: -1.0: .*greater than 0"),
        ("descriptors.1.n_sparse", {"bounds": [10.5, 20]}, r"bounds \[10.5, 20\]: they must be whole numbers"),
    ],
)
def test_not_in_the_settings(path, variable, message):
    with pytest.raises(ValueError, match=message):
        Tuning(variables={path: variable}).of(SETTINGS)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"variables": {}}, "at least 1 item"),
        ({"variables": {"sigma.energy": []}}, "at least 1 item"),
        ({"variables": {"sigma.energy": {"bounds": [2, 1]}}}, r"bounds \[2, 1\]: the first must be below the second"),
        ({"variables": {"sigma.energy": {"bounds": [1, float("inf")]}}}, "finite number"),
        ({"variables": {"sigma.energy": {"bounds": [0, 1], "log": True}}}, "must be positive for log"),
        ({"variables": {"sigma.energy": {"log": True}}}, "give either values, a list, or bounds"),
        ({"variables": {"sigma.energy": [1]}, "weights": {"energy": 0, "forces": 0}}, "one of the weights"),
        ({"variables": {"sigma.energy": list(range(1, 300))}}, "up to 299 fits; max_trials is 200"),
        ({"variables": {"sigma.energy": {"bounds": [1, 2]}}, "generations": 30}, "up to 248 fits"),
    ],
)
def test_no_search(search, message):
    with pytest.raises(ValidationError, match=message):
        Tuning(**search)


def test_objective():
    weights = Tuning(variables={"sigma.energy": [1]}, weights={"energy": 2, "forces": 0.1}).weights
    assert weights.objective(5.0, 0.03) == pytest.approx(2 * 5 + 0.1 * 30)
    assert weights.objective(5.0, None) is None
    assert weights.objective(np.nan, 0.03) is None
    assert Tuning(variables={"sigma.energy": [1]}, weights={"forces": 0}).weights.objective(5.0, None) == 5.0


def test_dotted_paths():
    settings = SETTINGS.model_dump()
    changed = with_value(settings, "descriptors.1.cutoff", 3.3)
    assert value_at(changed, "descriptors.1.cutoff") == 3.3
    assert value_at(settings, "descriptors.1.cutoff") == 4.5
    changed["descriptors"][1]["cutoff"] = 4.5
    assert changed == settings
    assert with_value(settings, "sparse_jitter", 1e-6)["sparse_jitter"] == 1e-6
