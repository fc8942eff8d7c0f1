"""What all kinds of random cells check of what they are given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.neighborlist import neighbor_list

from aiida_gaprss.settings.faults import Fault, Place
from aiida_gaprss.structures.packing import CLOSE_PACKING, largest_separation

#: Minimum separation (Å) of every pair of elements, under both orders.
Separations = Mapping[tuple[str, str], float]


class RandomCellError(ValueError):
    """A specification that cannot be met."""

    def __init__(self, message: str, place: Place = ()) -> None:
        """Keep the place within the specification, if it is known, for those who name it in their own way."""
        self.message, self.place = message, place
        super().__init__(str(Fault(place, message)) if place else message)


class GivenUpError(RandomCellError):
    """Cells that are hard to make: none was found within the work that one may take."""


#: Atoms of a random cell, at most.
MOST_ATOMS = 1000


#: Atoms closer than this are at one place, Å: those of a file that gives a site twice.
AT_ONE_PLACE = 0.1


def at_one_place(atoms: Atoms) -> bool:
    """Tell whether two atoms of a cell, images included, are at one place."""
    return len(neighbor_list("i", atoms, AT_ONE_PLACE)) > 0


def check_total(number: int, what: str) -> None:
    """Refuse contents of more atoms than a random cell may have."""
    if number > MOST_ATOMS:
        raise RandomCellError(f"{what} make cells of up to {number} atoms, expected at most {MOST_ATOMS}")


def check_element(where: str, symbol: object) -> None:
    """Refuse what is not the symbol of a chemical element."""
    if atomic_numbers.get(str(symbol), 0) == 0:
        raise RandomCellError(f"{where}: {symbol!r} is not a chemical element")


def check_count(what: str, value: object, least: int = 1) -> None:
    """Refuse what is not a whole number from ``least`` up."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise RandomCellError(f"{what} is {value!r}, expected a whole number above {least - 1}")


def check_range(name: str, value: tuple[float, ...], lower: float, upper: float, unit: str) -> None:
    """Refuse what is not a range of two numbers between ``lower`` and ``upper``."""
    if len(value) != 2 or not all(isinstance(v, (int, float)) and np.isfinite(v) for v in value):
        raise RandomCellError(f"{name} is {value!r}, expected two numbers ({unit})")
    if value[0] > value[1]:
        raise RandomCellError(f"{name} is {value!r}: the lower end is above the upper end")
    if value[0] <= lower or value[1] >= upper:
        limit = "" if np.isinf(upper) else f" and below {upper:g}"
        raise RandomCellError(f"{name} is {value!r}, expected numbers above {lower:g}{limit} {unit}")


def pair_separations(given: float | Mapping[str, float], symbols: Iterable[str]) -> dict[tuple[str, str], float]:
    """Return the minimum separation (Å) of every pair of elements, under both orders.

    :param given: one distance for all pairs, or one for each as ``{"Si-O": 1.6, ...}``.
    :raises RandomCellError: for a pair that is missing, unknown, or not a positive number.
    """
    symbols = list(symbols)
    pairs = list(combinations_with_replacement(symbols, 2))
    if not isinstance(given, Mapping):
        table = {pair: given for pair in pairs}
    else:
        table = {}
        for key, value in given.items():
            first, _, second = str(key).partition("-")
            if first not in symbols or second not in symbols:
                raise RandomCellError(
                    f"min_separation: {key!r} is not a pair of elements of the formula, expected e.g. "
                    f"'{symbols[0]}-{symbols[-1]}'"
                )
            pair = (first, second) if (first, second) in pairs else (second, first)
            if table.get(pair, value) != value:
                raise RandomCellError(f"min_separation: {key!r} is given twice, as {table[pair]} and {value}")
            table[pair] = value
        for pair in pairs:
            if pair not in table:
                raise RandomCellError(f"min_separation: the pair '{pair[0]}-{pair[1]}' is missing")
    for (first, second), value in table.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < np.inf:
            raise RandomCellError(f"min_separation: {value!r} for {first}-{second}, expected a distance above 0 Å")
    return {**table, **{(b, a): value for (a, b), value in table.items()}}


def check_packing(separations: Separations, counts: Mapping[str, int], volume: float) -> None:
    """Refuse separations that no arrangement of the atoms ``counts`` keeps in a cell of ``volume`` Å³."""
    present = [symbol for symbol, count in counts.items() if count]
    total = sum(counts.values())
    closest = min(separations[a, b] for a in present for b in present)
    # The atoms of one element alone must fit as well.
    limits = [("any two atoms", closest, volume / total)]
    limits += [(f"{s}-{s}", separations[s, s], volume / counts[s]) for s in present]
    for name, separation, available in limits:
        largest = largest_separation(available)
        if separation > largest:
            fraction = np.pi / 6 * separation**3 / available
            raise RandomCellError(
                f"min_separation: {separation:g} Å for {name} cannot be kept at {volume / total:g} Å³ per atom "
                f"(spheres would fill {fraction:.3f} of space, close packing fills {CLOSE_PACKING:.4f}); "
                f"the largest possible separation is {largest:.4f} Å"
            )
