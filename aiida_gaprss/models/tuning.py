"""Tuning of hyperparameters: what is tried, and differential evolution step by step with plain data as its state.

The evolution is best/1/bin of Storn and Price (J. Global Optim. 11, 341); scipy's own cannot be asked for points and told their
values later. All vectors lie in the unit cube. Every step has its own random numbers, from the seed and the number of the
generation: what was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator
from scipy.stats import qmc

from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.models.families import fit_settings
from aiida_gaprss.settings.model import Count, Model, PositiveOrZero, Real, complaints

Vectors = list[list[float]]

#: The difference of two vectors is added with a weight between these two, drawn anew in every generation (dither).
WEIGHTS = (0.5, 1.0)
#: A coordinate comes from the mutant with this probability, else from the parent.
CROSSOVER = 0.7
#: A mutant is made of three vectors that are not its parent, one of them the best, which may be the parent.
SMALLEST = 4


def first_population(size: int, dimensions: int, seed: int) -> Vectors:
    """Return ``size`` vectors that fill the unit cube evenly (Latin hypercube).

    :raises ValueError: if they are too few for a mutant to be made.
    """
    if size < SMALLEST:
        raise ValueError(f"a population needs at least {SMALLEST} vectors, got {size}")
    generator = np.random.default_rng([seed, 0])
    return [[float(x) for x in row] for row in qmc.LatinHypercube(d=dimensions, seed=generator).random(size)]


def offspring(population: Vectors, losses: Sequence[float], seed: int, generation: int) -> Vectors:
    """Return a trial vector for each of the population; coordinates that leave the cube are drawn anew.

    :param losses: of the population; infinite for what failed.
    :param generation: counted from 1.
    """
    generator = np.random.default_rng([seed, generation])
    parents = np.array(population)
    size, dimensions = parents.shape
    best = parents[int(np.argmin(losses))]
    weight = generator.uniform(*WEIGHTS)
    out = parents.copy()
    for index in range(size):
        first, second = generator.choice([i for i in range(size) if i != index], 2, replace=False)
        mutant = best + weight * (parents[first] - parents[second])
        outside = (mutant < 0) | (mutant > 1)
        mutant[outside] = generator.random(int(outside.sum()))
        taken = generator.random(dimensions) < CROSSOVER
        taken[generator.integers(dimensions)] = True
        out[index, taken] = mutant[taken]
    return [[float(x) for x in row] for row in out]


def survivors(
    population: Vectors, losses: Sequence[float], trials: Vectors, trial_losses: Sequence[float]
) -> tuple[Vectors, list[float]]:
    """Return the better of each parent and its trial, and their losses."""
    pairs = zip(zip(losses, population, strict=True), zip(trial_losses, trials, strict=True), strict=True)
    kept = [trial if trial[0] <= parent[0] else parent for parent, trial in pairs]
    return [vector for _, vector in kept], [loss for loss, _ in kept]


class Variable(Model):
    """Values of one setting that are tried: those of a list, or any between two bounds."""

    values: list[Any] | None = Field(None, min_length=1)
    bounds: tuple[Real, Real] | None = Field(None, description="lowest and highest value")
    log: bool = Field(False, description="search the logarithm")
    integer: bool = Field(False, description="whole numbers only; so are all where the setting is one")

    @model_validator(mode="after")
    def _one_of_both(self) -> Variable:
        if (self.values is None) == (self.bounds is None):
            raise ValueError("give either values, a list, or bounds, [low, high]")
        if self.bounds is not None:
            low, high = self.bounds
            if not (np.isfinite(self.bounds).all() and low < high):
                raise ValueError(f"bounds [{low:g}, {high:g}]: the first must be below the second")
            if self.log and low <= 0:
                raise ValueError(f"bounds [{low:g}, {high:g}]: they must be positive for log")
            if self.integer and not (low.is_integer() and high.is_integer()):
                raise ValueError(f"bounds [{low:g}, {high:g}]: they must be whole numbers, as the setting is")
        return self

    def at(self, place: float) -> Any:
        """Return the value at a place between 0 and 1, to four digits; whole numbers have equal shares unless log."""
        if self.values is not None:
            return self.values[min(int(place * len(self.values)), len(self.values) - 1)]
        assert self.bounds is not None
        low, high = self.bounds
        ends = np.array([low - 0.5, high + 0.5] if self.integer else [low, high])
        value = float(np.exp(np.log(ends) @ [1 - place, place]) if self.log else ends @ [1 - place, place])
        value = min(max(round(value) if self.integer else float(f"{value:.4g}"), low), high)
        return int(value) if self.integer else float(value)


class Weights(Model):
    """What is made small: energy · RMSE in meV/atom + forces · RMSE in meV/Å, of the test."""

    energy: PositiveOrZero = 1.0
    forces: PositiveOrZero = 1.0

    @model_validator(mode="after")
    def _some(self) -> Weights:
        if not self.energy + self.forces > 0:
            raise ValueError("one of the weights must be above 0")
        return self

    def objective(self, energy_rmse: float | None, forces_rmse: float | None) -> float | None:
        """Return the weighted sum (energy in meV/atom, forces in eV/Å), or None if an error is lacking that has a weight."""
        total = 0.0
        for weight, value in ((self.energy, energy_rmse), (1000.0 * self.forces, forces_rmse)):
            if weight:
                if value is None or not np.isfinite(value):
                    return None
                total += weight * value
        return total


class Tuning(Model):
    """Hyperparameters to be tried: every combination of lists of values, or differential evolution as soon as one has bounds."""

    variables: dict[str, Variable] = Field(
        min_length=1, description="by dotted path, e.g. descriptors.1.cutoff; a plain list is that of the values"
    )
    weights: Weights = Weights()
    population: Annotated[Count, Field(ge=SMALLEST)] | None = Field(None, description="default: 5 for each variable, at least 8")
    generations: Count = Field(5, description="after the first population")
    max_trials: Count = Field(200, description="more fits than this are refused")

    @field_validator("variables", mode="before")
    @classmethod
    def _plain_lists(cls, given: Any) -> Any:
        return {k: {"values": v} if isinstance(v, list) else v for k, v in given.items()} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _affordable(self) -> Tuning:
        if self.number() > self.max_trials:
            raise ValueError(f"these are up to {self.number()} fits; max_trials is {self.max_trials}")
        return self

    @property
    def is_grid(self) -> bool:
        """Tell whether every combination is tried."""
        return all(variable.values is not None for variable in self.variables.values())

    @property
    def size(self) -> int:
        """Size of the population."""
        return self.population or max(8, 5 * len(self.variables))

    def number(self) -> int:
        """Return the largest number of fits."""
        if self.is_grid:
            return math.prod(len(variable.values or ()) for variable in self.variables.values())
        return self.size * (self.generations + 1)

    def grid(self) -> list[dict[str, Any]]:
        """Return every combination."""
        return [
            dict(zip(self.variables, chosen, strict=True))
            for chosen in product(*(v.values or () for v in self.variables.values()))
        ]

    def at(self, vector: Sequence[float]) -> dict[str, Any]:
        """Return the values at a point of the unit cube."""
        return {path: variable.at(x) for (path, variable), x in zip(self.variables.items(), vector, strict=True)}

    def of(self, settings: BaseFit) -> Tuning:
        """Return the search with whole numbers where the settings have them.

        :raises ValueError: if a path is not in the settings, or one of the values is not allowed there; all faults.
        """
        complete = settings.model_dump()
        faults, variables = [], {}
        for path, variable in self.variables.items():
            try:
                now = value_at(complete, path)
                whole = isinstance(now, int) and not isinstance(now, bool)
                variables[path] = Variable(**{**variable.model_dump(), "integer": variable.integer or whole})
            except ValidationError as error:
                faults += [f"variables.{path}: {fault.message}" for fault in complaints(error)]
                continue
            except KeyError as error:
                faults.append(f"variables.{path}: {error.args[0]}")
                continue
            tried = variable.values if variable.values is not None else [variables[path].at(x) for x in (0.0, 1.0)]
            for value in tried:
                try:
                    fit_settings(**with_value(complete, path, value))
                except ValidationError as error:
                    faults += [f"variables.{path}: {value!r}: {fault.message}" for fault in complaints(error)]
        if faults:
            raise ValueError("; ".join(faults))
        return self.model_copy(update={"variables": variables})


def value_at(settings: Any, path: str) -> Any:
    """Return the value at a dotted path, e.g. ``descriptors.1.cutoff``.

    :raises KeyError: if there is none; the message says what there is.
    """
    value, done = settings, ""
    for part in path.split("."):
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            there = (
                f"0 to {len(value) - 1}"
                if isinstance(value, list)
                else ", ".join(value)
                if isinstance(value, dict)
                else "nothing"
            )
            raise KeyError(f"there is no {part!r} in {done or 'the settings'}; there is {there or 'nothing'}")
        done = f"{done}.{part}".strip(".")
    return value


def with_value(settings: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the settings with another value at a path that is there."""
    out = copy.deepcopy(settings)
    *parents, last = path.split(".")
    place: Any = value_at(out, ".".join(parents)) if parents else out
    place[int(last) if isinstance(place, list) else last] = value
    return out
