"""Cells by variation of the best structures found: heredity, permutation, lattice strain (Kruglov's training set came from such).

Shares, population and ranks follow USPEX: Oganov and Glass, J. Chem. Phys. 124, 244704 (2006), and its manual (heredity 0.5,
permutation and lattice mutation 0.1 each, of which the sum is scaled to 1; populations of 20 to 60).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator

from aiida_gaprss import frames as fr
from aiida_gaprss.settings.model import CopyCount, Model, Positive, PositiveOrZero
from aiida_gaprss.strategies.base import CampaignFormula
from aiida_gaprss.strategies.seeds import ByComposition
from aiida_gaprss.structures.building import child_seeds
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.compositions import Weights
from aiida_gaprss.structures.random_cells import CellSpec
from aiida_gaprss.structures.variation import Operator, child_of, generator, heredity, permutation, standardised, strain

#: Times that parents are drawn, and an operator is applied to them, for a child before a random cell takes its place.
ATTEMPTS = 100

#: What ``parameters`` of a cell begins with that is no child.
RANDOM = "random"

Deviation: TypeAlias = Annotated[Positive, Field(le=1)]


class Shares(Model):
    """How often each operator is drawn, in proportion; one that has no parents it can be applied to is never."""

    heredity: PositiveOrZero = Field(0.5, description="slabs of two parents of one composition, joined in a cell between theirs")
    permutation: PositiveOrZero = Field(0.1, description="atoms of different species change places; of compounds")
    strain: PositiveOrZero = Field(0.1, description="the lattice is strained at constant volume")

    @model_validator(mode="after")
    def _some(self) -> Shares:
        if not any(self.model_dump().values()):
            raise ValueError("all shares are 0, expected one above")
        return self


class EvolutionarySeed(ByComposition):
    """Children of the lowest distinct structures found so far; random cells, by the same settings, as long as there are none.

    Parents are structures of the compositions and sizes that ``formula`` and ``n_atoms`` allow, whatever kind of cells they came
    from. Children keep composition, number of atoms and about the volume of their parents, and ``min_separation``.
    """

    kind: Literal["evolutionary"]
    population: CopyCount = Field(
        30,
        description="at most so many parents, the lowest distinct ones: of a campaign by the reference energies of its relaxed "
        "cells (of several compositions by their heights above the convex hull), of a search by the enthalpies of its earlier "
        "batches. Rank r of n is drawn with weight n + 1 − r",
    )
    shares: Shares = Field(default_factory=Shares, description="of the operators; their sum does not matter")
    strain_deviation: Deviation = Field(0.25, description="standard deviation of the components of the strain matrix")

    @property
    def most_parents(self) -> int:
        """The population."""
        return self.population

    def suits(self, atoms: Atoms, formula: CampaignFormula) -> bool:
        """Tell whether a structure is of a composition and size that this kind makes."""
        return _counts(atoms) in _allowed(self.spec(formula))

    def cells_from(
        self, parents: Sequence[Atoms], formula: CampaignFormula, n: int, seed: int, weights: Weights | None = None
    ) -> list[Atoms]:
        """Return ``n`` cells; cell i depends on ``seed``, i and the parents alone.

        ``parent`` of each is the ``frame_id`` of the first of its parents, ``parameters`` names the operator and all of them. A
        cell that could not be made of parents is random, and its ``parameters`` says so.

        :param parents: lowest first, each with its ``frame_id``; those that do not suit are passed over.
        :raises RandomCellError: if a random cell cannot be made, or a parent is no crystal.
        """
        _check(parents)
        spec = self.spec(formula)
        allowed = _allowed(spec)
        suited = [atoms for atoms in parents if _counts(atoms) in allowed][: self.population]
        litter = _Litter(suited, self, spec)
        random = spec if weights is None else spec.weighted(weights)
        return [litter.child(child) or self._random(random, child, litter) for child in child_seeds(seed, n)]

    def cells(self, formula: CampaignFormula, n: int, seed: int, weights: Weights | None = None) -> list[Atoms]:
        """Return ``n`` random cells: there are no parents."""
        return self.cells_from([], formula, n, seed, weights)

    def _random(self, spec: CellSpec, seed: int, litter: _Litter) -> Atoms:
        atoms = self.cell(spec, seed)
        why = f"after {ATTEMPTS} attempts without a child" if litter.possible else "no parents"
        atoms.info["parameters"] = f"{RANDOM}: {why}"
        return atoms


class _Litter:
    """What children of some parents are made by."""

    def __init__(self, parents: Sequence[Atoms], settings: EvolutionarySeed, spec: CellSpec) -> None:
        self.names = [str(atoms.info["frame_id"]) for atoms in parents]
        self.parents = [standardised(atoms) for atoms in parents]
        self.keys = [_counts(atoms) for atoms in parents]
        self.spec = spec
        self.operators: dict[str, Operator] = {
            "heredity": heredity,
            "permutation": permutation,
            "strain": strain(settings.strain_deviation),
        }
        shares = settings.shares.model_dump()
        self.possible = {name: shares[name] for name in self.operators if shares[name] and self.firsts(name)}

    def firsts(self, operator: str) -> list[int]:
        """Return the parents, lowest first, that an operator can be applied to, of heredity the first ones."""
        if operator == "heredity":
            several = Counter(self.keys)
            return [i for i, key in enumerate(self.keys) if several[key] > 1 and len(self.parents[i]) > 1]
        return [i for i, key in enumerate(self.keys) if operator != "permutation" or len(key) > 1]

    def child(self, seed: int) -> Atoms | None:
        """Return the child that belongs to a seed, None if none of the attempts succeeded."""
        if not self.possible:
            return None
        rng = generator(seed)
        names, weights = list(self.possible), np.array(list(self.possible.values()))
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        for _ in range(ATTEMPTS):
            chosen = self.draw(name, rng)
            parents = [self.parents[i] for i in chosen]
            child = child_of(parents, self.operators[name], self.spec.separations, self.spec.aspect, rng)
            if child is not None:
                of = " and ".join(self.names[i] for i in chosen)
                child.info.update(seed=seed, parent=self.names[chosen[0]], parameters=f"{name} of {of}")
                return child
        return None

    def draw(self, operator: str, rng: np.random.RandomState) -> list[int]:
        """Draw the parents that an operator needs."""
        first = _ranked(self.firsts(operator), rng)
        if operator != "heredity":
            return [first]
        return [first, _ranked([i for i, key in enumerate(self.keys) if key == self.keys[first] and i != first], rng)]


def _check(parents: Sequence[Atoms]) -> None:
    """Refuse parents that no library can be given.

    :raises RandomCellError: with the name of the parent.
    """
    for index, atoms in enumerate(parents):
        name = atoms.info.get("frame_id")
        if name is None:
            raise RandomCellError(f"parent {index} ({atoms.symbols}) has no frame_id, by which its children could name it")
        try:
            fr.check(atoms, f"parent {name}")
        except fr.FrameError as error:
            raise RandomCellError(str(error)) from error


def _ranked(choices: Sequence[int], rng: np.random.RandomState) -> int:
    """Draw one of n choices, the first with weight n, the last with 1."""
    weights = np.arange(len(choices), 0, -1)
    return int(choices[int(rng.choice(len(choices), p=weights / weights.sum()))])


def _counts(atoms: Atoms) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(atoms.get_chemical_symbols()).items()))


def _allowed(spec: CellSpec) -> set[tuple[tuple[str, int], ...]]:
    return {tuple(sorted((s, n) for s, n in counts.items() if n)) for counts in spec.compositions}


def operators_of(cells: Sequence[Atoms]) -> str:
    """Return how many cells came of which operator, empty if there is no such kind: ``heredity 20, strain 4, random 1``."""
    words = [str(atoms.info["parameters"]).replace(":", " ").split()[0] for atoms in cells if "parameters" in atoms.info]
    return ", ".join(f"{word} {number}" for word, number in Counter(words).most_common())
