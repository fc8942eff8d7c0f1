"""Cells of rigid fragments: at random places and orientations, repeated by the operations of a space group.

The third kind of seeds of Deringer, Pickard and Csányi, arXiv:1710.10475: B12 icosahedra, 3 or 4 in a cell (36 or 48 atoms).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase import Atoms

from aiida_gaprss.structures.building import Recipe, Shape, Unit
from aiida_gaprss.structures.checks import RandomCellError, check_count, check_element, check_range, check_total, pair_separations
from aiida_gaprss.structures.elements import estimated_separations, estimated_volumes
from aiida_gaprss.structures.random_cells import check_orders
from aiida_gaprss.structures.spacegroups import primitive_operations, space_groups_by_order


def icosahedron(symbol: str, edge: float) -> Atoms:
    """Return the twelve corners of a regular icosahedron, cyclic permutations of (0, ±½, ±φ/2)·edge with φ = (1 + √5)/2.

    :param edge: Å; in α-B12 the mean over the icosahedron is 1.77.
    """
    golden = (1 + np.sqrt(5)) / 2
    corners = [np.roll((0.0, a, b * golden), turn) for turn in range(3) for a in (-0.5, 0.5) for b in (-0.5, 0.5)]
    return Atoms([symbol] * 12, positions=edge * np.array(corners))


@dataclass(frozen=True, eq=False)
class FragmentSpec:
    """What cells of rigid fragments are made of.

    ``fragment``: its atoms, at any place. ``n_fragments``: numbers per primitive cell to draw from. ``n_operations``: symmetry
    operations, drawn evenly; ``space_groups``: international numbers, drawn evenly, instead. Fragments are in general positions:
    their number is a multiple of that of the operations, and combinations for which it is not are not drawn; no atom lies inside
    another fragment. ``volume_per_atom``:
    Å³, drawn uniformly; None: estimated. ``min_separation``: Å, between atoms of different fragments and of free atoms; None:
    estimated. ``free_atoms``: per cell, a number or a range of each element.

    :raises RandomCellError: on construction, naming the value, the field and what was expected.
    """

    fragment: Atoms
    n_fragments: tuple[int, ...]
    n_operations: tuple[int, ...] = (1,)
    space_groups: tuple[int, ...] | None = None
    volume_per_atom: tuple[float, float] | None = None
    min_separation: float | Mapping[str, float] | None = None
    free_atoms: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    aspect: float = 4.0

    def __post_init__(self) -> None:
        """Check that cells can exist."""
        if not len(self.fragment):
            raise RandomCellError("fragment has no atoms")
        for symbol in self.fragment.symbols:
            check_element("fragment", symbol)
        if not self.n_fragments:
            raise RandomCellError("n_fragments is empty, expected at least one number")
        for number in self.n_fragments:
            check_count("n_fragments: a number", number)
        for number in self.space_groups or ():
            if number not in range(1, 231):
                raise RandomCellError(f"space_groups: {number!r} is no space group, expected numbers from 1 to 230")
        check_orders(self.n_operations)
        for symbol, ends in self.free_atoms.items():
            check_element("free_atoms", symbol)
            check_count(f"free_atoms: the smallest number of {symbol}", ends[0], least=0)
            if ends[0] > ends[1]:
                raise RandomCellError(f"free_atoms: the range of {symbol} is {list(ends)}: the lower end is above the upper end")
        most = max(self.n_fragments) * len(self.fragment) + sum(high for _, high in self.free_atoms.values())
        check_total(most, "n_fragments and free_atoms")
        if self.volume_per_atom is not None:
            check_range("volume_per_atom", self.volume_per_atom, 0.0, np.inf, "Å³")
        if not self.choices:
            orders = sorted({order for _, order in self._groups})
            raise RandomCellError(
                f"n_fragments: {', '.join(map(str, self.n_fragments))} is no multiple of the {' or '.join(map(str, orders))} "
                f"operations; fragments are in general positions"
            )
        _ = self.separations

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that occur."""
        return tuple(dict.fromkeys([*self.fragment.get_chemical_symbols(), *self.free_atoms]))

    @cached_property
    def _groups(self) -> list[tuple[tuple[int, ...], int]]:
        """Return (space groups to draw from, their number of operations) for everything that is drawn evenly."""
        if self.space_groups is not None:
            return [((number,), len(primitive_operations(number))) for number in self.space_groups]
        return [(space_groups_by_order()[order], order) for order in self.n_operations]

    @cached_property
    def choices(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Space groups to draw from, and the numbers of fragments that they repeat."""
        pairs = [(groups, tuple(n for n in self.n_fragments if n % order == 0)) for groups, order in self._groups]
        return [(groups, numbers) for groups, numbers in pairs if numbers]

    @cached_property
    def separations(self) -> dict[tuple[str, str], float]:
        """Minimum separation (Å) of every pair of elements, under both orders."""
        if self.min_separation is not None:
            return pair_separations(self.min_separation, self.elements)
        if self.volume_per_atom is not None:
            return estimated_separations({symbol: self.volume_per_atom[0] for symbol in self.elements})
        return estimated_separations({symbol: low for symbol, (low, _) in estimated_volumes(self.elements).items()})

    @property
    def smallest_separation(self) -> float:
        """Smallest distance of two atoms, Å, those within the fragment included."""
        inside = self.fragment.get_all_distances()[np.triu_indices(len(self.fragment), 1)]
        return float(min([*self.separations.values(), *inside]))

    @cached_property
    def volume_range(self) -> tuple[float, float]:
        """Smallest and largest volume per atom, Å³."""
        if self.volume_per_atom is not None:
            return self.volume_per_atom
        volumes = estimated_volumes(self.elements)
        kinds = Counter(self.fragment.get_chemical_symbols())
        low, high = (sum(n * volumes[symbol][end] for symbol, n in kinds.items()) / len(self.fragment) for end in (0, 1))
        return low, high

    def recipes(self, rng: np.random.Generator, draws: int, trials: int) -> Iterator[Recipe]:
        """Yield recipes: operations are drawn once, fragments and free atoms for every draw, the rest for every trial."""
        groups, numbers = self.choices[rng.choice(len(self.choices))]
        offsets = self.fragment.positions - self.fragment.positions.mean(axis=0)
        unit = Unit(tuple(self.fragment.get_chemical_symbols()), offsets, solid=True)
        for _ in range(draws):
            number = int(rng.choice(numbers))
            free = {symbol: int(rng.integers(low, high + 1)) for symbol, (low, high) in self.free_atoms.items()}
            total = number * len(self.fragment) + sum(free.values())
            for _ in range(trials):
                volume = total * rng.uniform(*self.volume_range)
                group = int(rng.choice(groups))
                units = [unit] * (number // len(primitive_operations(group)))
                yield Recipe(volume, group, self.separations, free, units, Shape(self.aspect))

    def limits(self) -> str:
        """Return what the atoms are to keep."""
        separation = self.separations if self.min_separation is None else self.min_separation
        low, high = self.volume_range
        return f"min_separation {separation!r} Å between fragments at {low:g}–{high:g} Å³ per atom"
