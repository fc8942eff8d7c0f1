"""Random sensible cells: random lattice, random symmetry, random positions, no two atoms too close.

The recipe of random structure searching: Pickard and Needs, J. Phys.: Condens. Matter 23, 053201 (2011).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import spglib
from ase import Atoms
from ase.data import atomic_numbers

from aiida_gaprss.structures.packing import CLOSE_PACKING, largest_separation, push_apart, separations
from aiida_gaprss.structures.spacegroups import (
    Operations,
    Site,
    primitive_operations,
    random_lattice,
    random_site,
    space_groups_by_order,
)

#: Different numbers of atoms drawn for one cell, and random trials for each, before giving up.
DRAWS, TRIALS = 20, 100
#: Steps of the repulsion in one trial.
STEPS = 200


#: Of fractional coordinates.
DECIMALS = 9


class RandomCellError(ValueError):
    """A specification that cannot be met."""


@dataclass(frozen=True)
class CellSpec:
    """What random cells are made of.

    ``formula``: atoms per formula unit. ``n_atoms``: totals per primitive cell to draw from, multiples of the formula
    unit. ``volume_per_atom``: smallest and largest, Å³, drawn uniformly. ``min_separation``: smallest distance, Å, for
    all pairs or per pair as ``{"Si-O": 1.6, ...}``. ``n_operations``: symmetry operations of the primitive cell, drawn
    evenly; the space group is then drawn evenly from those that have as many. ``aspect``: largest ratio of two lattice
    vectors of the reduced cell. ``angles``: range of the angles before the cell is reduced, degrees.

    :raises RandomCellError: on construction, see :meth:`validate`.
    """

    formula: Mapping[str, int]
    n_atoms: tuple[int, ...]
    volume_per_atom: tuple[float, float]
    min_separation: float | Mapping[str, float]
    n_operations: tuple[int, ...] = (1,)
    aspect: float = 4.0
    angles: tuple[float, float] = (50.0, 130.0)

    def __post_init__(self) -> None:
        for name in ("n_atoms", "volume_per_atom", "n_operations", "angles"):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)):
                raise RandomCellError(f"{name} is {value!r}, expected a list of numbers")
            object.__setattr__(self, name, tuple(value))
        self.validate()

    def validate(self) -> None:
        """Check that cells can exist.

        :raises RandomCellError: names the value, the field and what was expected.
        """
        if not self.formula:
            raise RandomCellError("formula is empty, expected at least one element, e.g. {'Si': 1}")
        for symbol, count in self.formula.items():
            if atomic_numbers.get(symbol, 0) == 0:
                raise RandomCellError(f"formula: {symbol!r} is not a chemical element")
            _check_count(f"formula: the number of {symbol}", count)
        unit = sum(self.formula.values())
        for name in ("n_atoms", "n_operations"):
            if not getattr(self, name):
                raise RandomCellError(f"{name} is empty, expected at least one number")
        for total in self.n_atoms:
            _check_count("n_atoms: a total", total)
            if total % unit:
                raise RandomCellError(
                    f"n_atoms: {total} is not a multiple of the {unit} atoms of the formula unit {_text(self.formula)}"
                )
        for order in self.n_operations:
            if order not in space_groups_by_order():
                raise RandomCellError(
                    f"n_operations: no space group has {order!r} operations in its primitive cell, "
                    f"expected some of {', '.join(map(str, space_groups_by_order()))}"
                )
        _check_range("volume_per_atom", self.volume_per_atom, 0.0, np.inf, "Å³")
        _check_range("angles", self.angles, 0.0, 180.0, "degrees")
        if not (np.isfinite(self.aspect) and self.aspect > 1):
            raise RandomCellError(f"aspect is {self.aspect!r}, expected a number above 1")
        self._check_separations()

    def pair_separations(self) -> dict[tuple[str, str], float]:
        """Return the minimum separation (Å) of every pair of elements, under both orders.

        :raises RandomCellError: for a pair that is missing, unknown, or not a positive number.
        """
        symbols = list(self.formula)
        pairs = list(combinations_with_replacement(symbols, 2))
        if not isinstance(self.min_separation, Mapping):
            given = {pair: self.min_separation for pair in pairs}
        else:
            given = {}
            for key, value in self.min_separation.items():
                first, _, second = str(key).partition("-")
                if first not in symbols or second not in symbols:
                    raise RandomCellError(
                        f"min_separation: {key!r} is not a pair of elements of the formula, expected e.g. "
                        f"'{symbols[0]}-{symbols[-1]}'"
                    )
                pair = (first, second) if (first, second) in pairs else (second, first)
                if given.get(pair, value) != value:
                    raise RandomCellError(f"min_separation: {key!r} is given twice, as {given[pair]} and {value}")
                given[pair] = value
            for pair in pairs:
                if pair not in given:
                    raise RandomCellError(f"min_separation: the pair '{pair[0]}-{pair[1]}' is missing")
        for (first, second), value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
                raise RandomCellError(f"min_separation: {value!r} for {first}-{second}, expected a distance above 0 Å")
        return {**given, **{(b, a): value for (a, b), value in given.items()}}

    def _check_separations(self) -> None:
        pairs = self.pair_separations()
        smallest = self.volume_per_atom[0]
        unit = sum(self.formula.values())
        limits = [("any two atoms", min(pairs.values()), smallest)]
        # The atoms of one element alone must fit as well.
        limits += [(f"{s}-{s}", pairs[s, s], smallest * unit / n) for s, n in self.formula.items()]
        for name, separation, volume in limits:
            largest = largest_separation(volume)
            if separation > largest:
                fraction = np.pi / 6 * separation**3 / volume
                raise RandomCellError(
                    f"min_separation: {separation:g} Å for {name} cannot be kept at {smallest:g} Å³ per atom "
                    f"(spheres would fill {fraction:.3f} of space, close packing fills {CLOSE_PACKING:.4f}); "
                    f"the largest possible separation is {largest:.4f} Å"
                )


def _check_count(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise RandomCellError(f"{what} is {value!r}, expected a whole number above 0")


def _check_range(name: str, value: tuple[float, ...], lower: float, upper: float, unit: str) -> None:
    if len(value) != 2 or not all(isinstance(v, (int, float)) and np.isfinite(v) for v in value):
        raise RandomCellError(f"{name} is {value!r}, expected two numbers ({unit})")
    if value[0] > value[1]:
        raise RandomCellError(f"{name} is {value!r}: the lower end is above the upper end")
    if value[0] <= lower or value[1] >= upper:
        limit = "" if np.isinf(upper) else f" and below {upper:g}"
        raise RandomCellError(f"{name} is {value!r}, expected numbers above {lower:g}{limit} {unit}")


def _text(formula: Mapping[str, int]) -> str:
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in formula.items())


def random_cells(spec: CellSpec, n: int, seed: int) -> list[Atoms]:
    """Return ``n`` random cells; cell i depends on ``seed`` and i alone.

    ``info`` of each has ``seed`` (what :func:`random_cell` makes this one cell from), ``n_operations`` and
    ``space_group`` (international number).

    :raises RandomCellError: if a cell cannot be made.
    """
    return [random_cell(spec, child) for child in child_seeds(seed, n)]


def child_seeds(seed: int, n: int) -> list[int]:
    """Return ``n`` independent seeds below 2⁵² (exact in any file format); the first k do not depend on ``n``.

    :raises RandomCellError: for a negative or fractional seed or number.
    """
    for name, value in (("seed", seed), ("n", n)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise RandomCellError(f"{name} is {value!r}, expected a whole number from 0 up")
    children = np.random.SeedSequence(int(seed)).spawn(int(n))
    return [int(child.generate_state(1, np.uint64)[0] >> np.uint64(12)) for child in children]


def random_cell(spec: CellSpec, seed: int, draws: int = DRAWS, trials: int = TRIALS) -> Atoms:
    """Return the one random cell that belongs to ``seed``.

    :param draws: how many numbers of atoms are tried, each in up to ``trials`` random cells.
    :raises RandomCellError: if no cell is found within the bounded number of trials.
    """
    rng = np.random.default_rng(seed)
    order = int(rng.choice(spec.n_operations))
    totals = []
    for _ in range(draws):
        totals.append(int(rng.choice(spec.n_atoms)))
        for _ in range(trials):
            atoms = _trial(spec, order, totals[-1], rng)
            if atoms is not None:
                atoms.info["seed"] = int(seed)
                return atoms
    raise RandomCellError(
        f"no cell with n_operations {order} and {', '.join(map(str, sorted(set(totals))))} atoms kept min_separation "
        f"{spec.min_separation!r} Å at {spec.volume_per_atom[0]:g}–{spec.volume_per_atom[1]:g} Å³ per atom in "
        f"{draws * trials} trials (seed {seed}); expected smaller separations, larger volumes, or other n_operations"
    )


def _trial(spec: CellSpec, order: int, total: int, rng: np.random.Generator) -> Atoms | None:
    volume = total * rng.uniform(*spec.volume_per_atom)
    space_group = int(rng.choice(space_groups_by_order()[order]))
    operations = primitive_operations(space_group)
    primitive = random_lattice(space_group, rng, spec.angles) * volume ** (1 / 3)
    lattice = spglib.niggli_reduce(primitive)
    if lattice is None:
        return None
    lengths = np.linalg.norm(lattice, axis=1)
    pairs = spec.pair_separations()
    # Every atom is repeated by every lattice vector.
    if lengths.max() > spec.aspect * lengths.min() or lengths.min() < max(pairs[s, s] for s in spec.formula):
        return None
    operations = operations.in_basis(np.rint(lattice @ np.linalg.inv(primitive)))

    symbols: list[str] = []
    sites: list[Site] = []
    units = total // sum(spec.formula.values())
    for symbol, count in spec.formula.items():
        left = count * units
        while left:
            site = random_site(operations, left, rng)
            if site is None:
                return None
            sites.append(site)
            symbols += [symbol] * len(site.members)
            left -= len(site.members)

    fractional, representatives, symmetrise = _expand(operations, sites)
    minimum = np.array([[pairs[a, b] for b in symbols] for a in symbols])
    moved = push_apart(fractional, lattice, minimum, representatives, symmetrise, STEPS)
    if moved is None or (separations(moved, lattice, float(minimum.max())) < minimum - 1e-9).any():
        return None
    # In the orientation of the conventional cell, whose axes lie along those of space: pw.x finds rotations in no other, and
    # spares the k-points that they make equivalent. Rounded, so that an atom on the border of the cell is not here on one side
    # and there on the other.
    atoms = Atoms(symbols, scaled_positions=np.round(moved, DECIMALS) % 1.0, cell=lattice, pbc=True)
    atoms.info.update({"n_operations": order, "space_group": space_group})
    return atoms


def _expand(operations: Operations, sites: list[Site]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all points, the index of the first of each orbit, and the map from their displacements to all."""
    total = sum(len(site.members) for site in sites)
    fractional = np.empty((total, 3))
    symmetrise = np.zeros((total, 3, len(sites), 3))
    representatives = np.empty(len(sites), dtype=int)
    start = 0
    for index, site in enumerate(sites):
        rows = slice(start, start + len(site.members))
        representatives[index] = start
        fractional[rows] = operations.images(site.point)[site.members]
        symmetrise[rows, :, index] = operations.rotations[site.members] @ site.freedom
        start = rows.stop
    return fractional, representatives, symmetrise
