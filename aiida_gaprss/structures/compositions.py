"""Compositions of cells: fixed formulas, ranges of atoms per element, and weights to draw them by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import gcd

from aiida_gaprss.structures.checks import RandomCellError, check_count, check_element, check_total

#: Atoms per formula unit; or the smallest and the largest number of atoms per cell.
Formula = Mapping[str, int | tuple[int, int]]

#: Weight of a reduced composition: by its text (``CuLi2``, elements in alphabetical order), or a function of its counts.
Weights = Mapping[str, float] | Callable[[Mapping[str, int]], float]

#: More compositions than these are more than anyone wants to list.
MOST = 100_000


def reduced(counts: Mapping[str, int]) -> dict[str, int]:
    """Return a composition divided by what its counts have in common, elements in alphabetical order, zeros left out."""
    divisor = gcd(*counts.values())
    return {symbol: counts[symbol] // divisor for symbol in sorted(counts) if counts[symbol]}


def text(counts: Mapping[str, int]) -> str:
    """Return counts as a formula: ``SiO2``."""
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in counts.items() if count)


def ranges(formula: Formula) -> dict[str, tuple[int, ...]]:
    """Return the ranges of atoms per cell that a formula gives; none, if it gives numbers per formula unit.

    :raises RandomCellError: if it gives ranges for some elements and numbers for others.
    """
    given = {symbol: tuple(value) for symbol, value in formula.items() if isinstance(value, (list, tuple))}
    other = [symbol for symbol in formula if symbol not in given]
    if given and other:
        raise RandomCellError(
            f"formula: {next(iter(given))} has a range of atoms per cell and {other[0]} a number per formula unit; "
            f"expected ranges for all, e.g. {other[0]}: [{formula[other[0]]}, {formula[other[0]]}]"
        )
    return given


def compositions(formula: Formula, n_atoms: tuple[int, ...] | None) -> list[dict[str, int]]:
    """Return the atoms per cell that a formula allows.

    :param n_atoms: totals; may be None if the formula gives ranges.
    :raises RandomCellError: if there are none, or the formula is none.
    """
    if not formula:
        raise RandomCellError("formula is empty, expected at least one element, e.g. {'Si': 1}")
    for symbol in formula:
        check_element("formula", symbol)
    if n_atoms is not None:
        if not n_atoms:
            raise RandomCellError("n_atoms is empty, expected at least one number")
        for total in n_atoms:
            check_count("n_atoms: a total", total)
    if between := ranges(formula):
        return _between(between, n_atoms)
    unit: dict[str, int] = {}
    for symbol, count in formula.items():
        check_count(f"formula: the number of {symbol}", count)
        unit[symbol] = int(count)  # type: ignore[arg-type]  # it is no range
    if n_atoms is None:
        raise RandomCellError("n_atoms is missing, expected a list of totals (it may be left out with ranges in the formula)")
    size = sum(unit.values())
    for total in n_atoms:
        if total % size:
            raise RandomCellError(f"n_atoms: {total} is not a multiple of the {size} atoms of the formula unit {text(unit)}")
    check_total(max(n_atoms), "n_atoms")
    return [{symbol: count * (total // size) for symbol, count in unit.items()} for total in n_atoms]


def _between(between: Mapping[str, tuple[int, ...]], n_atoms: tuple[int, ...] | None) -> list[dict[str, int]]:
    spans = []
    number = 1
    for symbol, ends in between.items():
        if len(ends) != 2:
            raise RandomCellError(f"formula: the range of {symbol} is {list(ends)}, expected two numbers of atoms per cell")
        for end in ends:
            check_count(f"formula: an end of the range of {symbol}", end, least=0)
        if ends[0] > ends[1]:
            raise RandomCellError(f"formula: the range of {symbol} is {list(ends)}: the lower end is above the upper end")
        spans.append(range(ends[0], ends[1] + 1))
        number *= len(spans[-1])
    if number > MOST:
        raise RandomCellError(f"formula: the ranges allow {number} compositions, expected at most {MOST}")
    allowed = [
        dict(zip(between, counts, strict=True))
        for counts in product(*spans)
        if sum(counts) and (n_atoms is None or sum(counts) in n_atoms)
    ]
    if not allowed:
        totals = "" if n_atoms is None else f" with a total of {', '.join(map(str, n_atoms))}"
        raise RandomCellError(f"formula: the ranges allow no composition{totals}")
    check_total(max(sum(counts.values()) for counts in allowed), "the ranges of formula")
    return allowed


def probabilities(allowed: Sequence[Mapping[str, int]], weights: Weights) -> tuple[float, ...]:
    """Return the probability of each of the compositions ``allowed``.

    The weight of a reduced composition, 0 where a mapping does not name it, is shared evenly by its multiples.

    :raises RandomCellError: if a weight is negative, or all are 0.
    """
    names = [text(reduced(counts)) for counts in allowed]
    given = {}
    for name, counts in zip(names, allowed, strict=True):
        given[name] = float(weights.get(name, 0.0) if isinstance(weights, Mapping) else weights(reduced(counts)))
        if not 0 <= given[name] < float("inf"):
            raise RandomCellError(f"the weight of composition {name} is {given[name]}, expected a number from 0 up")
    if not any(given.values()):
        raise RandomCellError(f"all compositions have weight 0; expected one of {', '.join(sorted(set(names))[:5])}, …")
    whole = sum(given.values())
    multiples = Counter(names)
    return tuple(given[name] / multiples[name] / whole for name in names)
