"""Random sensible cells: random lattice, random symmetry, random positions, no two atoms too close.

The recipe of random structure searching: Pickard and Needs, J. Phys.: Condens. Matter 23, 053201 (2011).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from aiida_gaprss.structures.building import Recipe, Shape, child_seeds, random_cell, random_cells
from aiida_gaprss.structures.checks import RandomCellError, check_packing, check_range, pair_separations
from aiida_gaprss.structures.compositions import Formula, Weights, compositions, probabilities, ranges
from aiida_gaprss.structures.elements import estimated_separations, estimated_volumes
from aiida_gaprss.structures.spacegroups import space_groups_by_order

__all__ = ["CellSpec", "RandomCellError", "child_seeds", "random_cell", "random_cells"]

#: Smallest and largest volume, Å³: per atom, or of an atom of every element; None: estimated.
Volumes = tuple[float, float] | Mapping[str, tuple[float, float]] | None


@dataclass(frozen=True)
class CellSpec:
    """What random cells are made of.

    ``formula``: atoms per formula unit, or ranges of atoms per cell. ``n_atoms``: totals per primitive cell to draw from,
    multiples of the formula unit; None: any, where the formula gives ranges. ``volume_per_atom``: smallest and largest, Å³,
    drawn uniformly; by element, then summed over the composition; None: estimated from the elements. ``min_separation``:
    smallest distance, Å, for all pairs or per pair as ``{"Si-O": 1.6, ...}``; None: estimated. ``n_operations``: symmetry
    operations of the primitive cell, drawn evenly; the space group is then drawn evenly from those that have as many.
    ``aspect``: largest ratio of two lattice vectors of the reduced cell. ``angles``: range of the angles before the cell is
    reduced, degrees. ``probabilities``: of the compositions, in the order of :attr:`compositions`; None: equal.

    :raises RandomCellError: on construction, naming the value, the field and what was expected.
    """

    formula: Formula
    n_atoms: tuple[int, ...] | None
    volume_per_atom: Volumes = None
    min_separation: float | Mapping[str, float] | None = None
    n_operations: tuple[int, ...] = (1,)
    aspect: float = 4.0
    angles: tuple[float, float] = (50.0, 130.0)
    probabilities: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("n_atoms", "n_operations", "angles"):
            value = getattr(self, name)
            if name == "n_atoms" and value is None:
                continue
            if not isinstance(value, (list, tuple)):
                raise RandomCellError(f"{name} is {value!r}, expected a list of numbers")
            object.__setattr__(self, name, tuple(value))
        self.validate()

    def validate(self) -> None:
        """Check that cells can exist.

        :raises RandomCellError: names the value, the field and what was expected.
        """
        contents = self.compositions
        check_orders(self.n_operations)
        self._check_volumes()
        check_range("angles", self.angles, 0.0, 180.0, "degrees")
        if not (np.isfinite(self.aspect) and self.aspect > 1):
            raise RandomCellError(f"aspect is {self.aspect!r}, expected a number above 1")
        for counts in contents:
            check_packing(self.separations, counts, sum(counts.values()) * self.volumes_of(counts)[0])

    def _check_volumes(self) -> None:
        given = self.volume_per_atom
        if isinstance(given, Mapping):
            missing = [symbol for symbol in self.elements if symbol not in given]
            if missing:
                raise RandomCellError(f"volume_per_atom: {missing[0]} is missing, expected a range for every element")
            for symbol, ends in given.items():
                check_range(f"volume_per_atom: the range of {symbol}", tuple(ends), 0.0, np.inf, "Å³")
        elif given is not None:
            if not isinstance(given, (list, tuple)):
                raise RandomCellError(f"volume_per_atom is {given!r}, expected a list of numbers")
            check_range("volume_per_atom", tuple(given), 0.0, np.inf, "Å³")

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that occur."""
        return tuple(self.formula)

    @cached_property
    def compositions(self) -> list[dict[str, int]]:
        """Atoms per cell of every composition that is drawn."""
        return compositions(self.formula, self.n_atoms)

    @cached_property
    def separations(self) -> dict[tuple[str, str], float]:
        """Minimum separation (Å) of every pair of elements, under both orders.

        :raises RandomCellError: for a pair that is missing, unknown, or not a positive number.
        """
        if self.min_separation is not None:
            return pair_separations(self.min_separation, self.elements)
        given = self.volume_per_atom
        if given is None:
            given = estimated_volumes(self.elements)
        lows = {s: given[s][0] if isinstance(given, Mapping) else given[0] for s in self.elements}
        return estimated_separations(lows)

    @cached_property
    def _volumes(self) -> tuple[float, float] | Mapping[str, tuple[float, float]]:
        if self.volume_per_atom is not None:
            return self.volume_per_atom
        return estimated_volumes(self.elements, None if self.min_separation is None else self.separations)

    def volumes_of(self, counts: Mapping[str, int]) -> tuple[float, float]:
        """Return the smallest and largest volume per atom of a composition, Å³."""
        volumes = self._volumes
        if not isinstance(volumes, Mapping):
            return volumes
        total = sum(counts.values())
        low, high = (sum(count * volumes[symbol][end] for symbol, count in counts.items()) / total for end in (0, 1))
        return low, high

    @cached_property
    def volume_range(self) -> tuple[float, float]:
        """Smallest and largest volume per atom of all compositions, Å³."""
        both = [self.volumes_of(counts) for counts in self.compositions]
        return min(low for low, _ in both), max(high for _, high in both)

    @property
    def smallest_separation(self) -> float:
        """Smallest of the minimum separations, Å."""
        return min(self.separations.values())

    def weighted(self, weights: Weights) -> CellSpec:
        """Return the same with compositions drawn by weight; of a fixed formula there is nothing to weigh.

        :raises RandomCellError: if a weight is negative, or all are 0.
        """
        return replace(self, probabilities=probabilities(self.compositions, weights)) if ranges(self.formula) else self

    def recipes(self, rng: np.random.Generator, draws: int, trials: int) -> Iterator[Recipe]:
        """Yield recipes: operations are drawn once, the composition for every draw, volume and space group for every trial."""
        order = int(rng.choice(self.n_operations))
        shape = Shape(self.aspect, self.angles)
        for _ in range(draws):
            counts = self.compositions[rng.choice(len(self.compositions), p=self.probabilities)]
            total = sum(counts.values())
            for _ in range(trials):
                volume = total * rng.uniform(*self.volumes_of(counts))
                space_group = int(rng.choice(space_groups_by_order()[order]))
                yield Recipe(volume, space_group, self.separations, counts, shape=shape)

    def limits(self) -> str:
        """Return what the atoms are to keep."""
        separation = self.separations if self.min_separation is None else self.min_separation
        return f"min_separation {separation!r} Å at {self.volume_range[0]:g}–{self.volume_range[1]:g} Å³ per atom"


def check_orders(orders: tuple[int, ...]) -> None:
    """Refuse numbers of operations that no space group has.

    :raises RandomCellError: naming the number.
    """
    if not orders:
        raise RandomCellError("n_operations is empty, expected at least one number")
    for order in orders:
        if order not in space_groups_by_order():
            raise RandomCellError(
                f"n_operations: no space group has {order!r} operations in its primitive cell, "
                f"expected some of {', '.join(map(str, space_groups_by_order()))}"
            )
