"""Explicit cells of a crystal whose sites are occupied in part: which of them have an atom, and of which element, is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from aiida_gaprss.structures.checks import RandomCellError, Separations

#: An occupancy from here on is that of a full site.
FULL = 0.999

#: Draws of a cell, before it is given up.
TRIES = 1000


@dataclass(frozen=True, eq=False)
class Sites:
    """The sites of a cell.

    ``positions``: Å, shape (n, 3); ``cell``: (3, 3); ``occupancies``: of each site by element, their sum at most one.
    """

    positions: np.ndarray
    cell: np.ndarray
    occupancies: tuple[Mapping[str, float], ...]

    @property
    def expected(self) -> dict[str, float]:
        """Atoms of each element, on the average."""
        out: Counter[str] = Counter()
        for site in self.occupancies:
            for symbol, part in site.items():
                out[symbol] += part  # type: ignore[assignment]
        return dict(out)

    @cached_property
    def full(self) -> dict[int, str]:
        """The sites that one element occupies fully, with it."""
        return {number: symbol for number, site in enumerate(self.occupancies) for symbol, part in site.items() if part >= FULL}

    @cached_property
    def choices(self) -> list[tuple[int, str, float]]:
        """What the other sites may have: site, element, occupancy."""
        return [
            (number, symbol, part)
            for number, site in enumerate(self.occupancies)
            if number not in self.full
            for symbol, part in site.items()
            if part > 0
        ]

    @cached_property
    def never_empty(self) -> np.ndarray:
        """Tell of each choice whether its site always has an atom, of one element or another; shape (n,)."""
        return np.array([sum(self.occupancies[number].values()) >= FULL for number, _, _ in self.choices], dtype=bool)

    @cached_property
    def rates(self) -> np.ndarray:
        """Rates of the choices, shape (n,): waiting times drawn with them are below one as often as the occupancies say."""
        total = np.array([sum(self.occupancies[number].values()) for number, _, _ in self.choices])
        return -np.log1p(-np.minimum(total, FULL)) * np.array([part for _, _, part in self.choices]) / total


def rounded(expected: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers of atoms nearest to those that are expected."""
    return {symbol: round(number) for symbol, number in expected.items()}


def occupied(sites: Sites, composition: Mapping[str, int], separations: Separations, rng: np.random.Generator) -> Atoms:
    """Return a cell of a composition: atoms on all full sites, the others drawn with the odds that the occupancies give.

    A waiting time is drawn for every choice, below one with a probability that is its occupancy p: exponential, of the rate
    −ln(1 − p), divided among the elements of a site as their occupancies are. The shortest are taken until the composition is
    met, and what is too close to an atom that is there, or has its site, is passed over. So each site is filled as often as its
    occupancy says if the composition is what the occupancies add up to (but for terms of the order of one over the number of
    sites) and if nothing is passed over. Sites that are never empty come first.

    :param separations: shortest distance of each pair of elements, Å, under both orders; sites that are never empty may be
        closer to each other.
    :raises RandomCellError: if the composition cannot be met.
    """
    clash, free = _exclusions(sites, separations)
    left = _left(sites, composition, free)
    symbols = [symbol for _, symbol, _ in sites.choices]
    for _ in range(TRIES):
        waiting = rng.exponential(size=len(symbols)) / sites.rates
        order = np.lexsort((waiting, ~sites.never_empty))
        chosen = _drawn(order, symbols, clash, free, left)
        if chosen is not None and not _empty(sites, chosen):
            return _atoms(sites, sites.full.items()) + _atoms(sites, [sites.choices[number][:2] for number in chosen])
    raise RandomCellError(
        f"composition: no cell with {dict(composition)} was found in {TRIES} draws in which atoms keep their distances; lower "
        "min_separation, or give another composition"
    )


def _atoms(sites: Sites, occupied: Iterable[tuple[int, str]]) -> Atoms:
    pairs = list(occupied)
    return Atoms([s for _, s in pairs], sites.positions[[n for n, _ in pairs]].reshape(-1, 3), cell=sites.cell, pbc=True)


def _left(sites: Sites, composition: Mapping[str, int], free: np.ndarray) -> dict[str, int]:
    """Return how many atoms of each element are to be put on sites that are not full.

    :raises RandomCellError: if the sites do not have so many, or would have to be empty that never are.
    """
    there = Counter(sites.full.values())
    open_ = [choice for choice, ok in zip(sites.choices, free, strict=True) if ok]
    room = Counter(symbol for _, symbol, _ in open_)
    for symbol in {**composition, **there}:
        number, least, most = composition.get(symbol, 0), there[symbol], there[symbol] + room[symbol]
        if not least <= number <= most:
            raise RandomCellError(
                f"composition: {number} atoms of {symbol}, expected {least} (on full sites) to {most} (with all others that are "
                "not too close to these)"
            )
    least = len({number for (number, _, _), never in zip(sites.choices, sites.never_empty, strict=True) if never})
    total, most = sum(composition.values()) - len(sites.full), len({number for number, _, _ in open_})
    if not least <= total <= most:
        raise RandomCellError(
            f"composition: {total + len(sites.full)} atoms in all, expected {least + len(sites.full)} to {most + len(sites.full)}"
            ": one on each site, and none missing where the occupancies add up to one"
        )
    return {symbol: number - there[symbol] for symbol, number in composition.items()}


def _drawn(
    order: np.ndarray, symbols: list[str], clash: np.ndarray, free: np.ndarray, left: Mapping[str, int]
) -> list[int] | None:
    """Return the choices that are taken, in this order; None if they are not enough."""
    wanted, open_, chosen = dict(left), free.copy(), []
    for number in order:
        symbol = symbols[number]
        if open_[number] and wanted.get(symbol, 0) > 0:
            chosen.append(int(number))
            wanted[symbol] -= 1
            open_ &= ~clash[number]
    return sorted(chosen) if not any(wanted.values()) else None


def _empty(sites: Sites, chosen: list[int]) -> bool:
    """Tell whether a site that is never empty has no atom."""
    taken = {sites.choices[number][0] for number in chosen}
    return any(never and site not in taken for (site, _, _), never in zip(sites.choices, sites.never_empty, strict=True))


def _exclusions(sites: Sites, separations: Separations) -> tuple[np.ndarray, np.ndarray]:
    """Tell which choices exclude each other, of one site or too close, and which are not too close to full sites.

    :return: shapes (n, n), (n,).
    """
    numbers, frame = np.array([number for number, _, _ in sites.choices]), _atoms(sites, sites.full.items())
    atoms = _atoms(sites, [choice[:2] for choice in sites.choices])
    close = (atoms + frame).get_all_distances(mic=True)[: len(atoms)] < _least(atoms, atoms + frame, separations)
    never = sites.never_empty
    clash = (close[:, : len(atoms)] & ~np.outer(never, never)) | (numbers[:, None] == numbers[None])
    return clash, ~close[:, len(atoms) :].any(axis=1) | never


def _least(atoms: Atoms, others: Atoms, separations: Separations) -> np.ndarray:
    """Return the shortest distances, Å, shape (n, m)."""
    return np.array([[separations[a, b] for b in others.symbols] for a in atoms.symbols])
