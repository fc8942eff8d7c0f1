"""Explicit cells of a crystal whose sites are occupied in part: which of them have an atom, and of which element, is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

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

    def full(self) -> dict[int, str]:
        """Return the sites that one element occupies fully, with it."""
        return {number: symbol for number, site in enumerate(self.occupancies) for symbol, part in site.items() if part >= FULL}

    def choices(self) -> list[tuple[int, str, float]]:
        """Return what the other sites may have: site, element, occupancy."""
        full = self.full()
        return [
            (number, symbol, part)
            for number, site in enumerate(self.occupancies)
            if number not in full
            for symbol, part in site.items()
            if part > 0
        ]


def rounded(expected: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers of atoms nearest to those that are expected."""
    return {symbol: round(number) for symbol, number in expected.items()}


def occupied(sites: Sites, composition: Mapping[str, int], separations: Separations, rng: np.random.Generator) -> Atoms:
    """Return a cell of a composition: atoms on all full sites, the others drawn with the odds that the occupancies give.

    One after another is drawn without replacement, as likely as its occupancy (P. S. Efraimidis and P. G. Spirakis, Inf.
    Process. Lett. 97, 181 (2006)); one that is too close to an atom that is there is passed over.

    :param separations: shortest distance of each pair of elements, Å, under both orders; full sites may be closer to each other.
    :raises RandomCellError: if the composition cannot be met.
    """
    full, choices = sites.full(), sites.choices()
    left = Counter(composition)
    left.subtract(full.values())
    _check(left, choices, composition, full)
    atoms = Atoms(
        [choice[1] for choice in choices], [sites.positions[choice[0]] for choice in choices], cell=sites.cell, pbc=True
    )
    clash = _clashes(atoms, [choice[0] for choice in choices], separations)
    frame = Atoms(list(full.values()), sites.positions[list(full)], cell=sites.cell, pbc=True)
    free = ~_near(atoms, frame, separations)
    parts = np.array([part for _, _, part in choices])
    for _ in range(TRIES):
        chosen = _drawn(rng.exponential(size=len(parts)) / np.maximum(parts, 1e-12), [c[1] for c in choices], clash, free, left)
        if chosen is not None:
            return frame + atoms[chosen]
    raise RandomCellError(f"no cell with {dict(composition)} was found in {TRIES} draws in which atoms keep their distances")


def _check(
    left: Mapping[str, int], choices: list[tuple[int, str, float]], composition: Mapping[str, int], full: Mapping[int, str]
) -> None:
    """Refuse a composition that the sites do not have."""
    room = Counter(symbol for _, symbol, _ in choices)
    for symbol, number in left.items():
        there = Counter(full.values())[symbol]
        if not 0 <= number <= room[symbol]:
            raise RandomCellError(
                f"composition: {composition.get(symbol, 0)} atoms of {symbol}, expected {there} (on full sites) to "
                f"{there + room[symbol]} (with all others)"
            )


def _drawn(
    keys: np.ndarray, symbols: list[str], clash: np.ndarray, free: np.ndarray, left: Mapping[str, int]
) -> list[int] | None:
    """Return what is chosen in the order of the keys; None if it is not enough."""
    wanted, open_, chosen = dict(left), free.copy(), []
    for number in np.argsort(keys):
        symbol = symbols[number]
        if open_[number] and wanted.get(symbol, 0) > 0:
            chosen.append(int(number))
            wanted[symbol] -= 1
            open_ &= ~clash[number]
    return sorted(chosen) if not any(n > 0 for n in wanted.values()) else None


def _clashes(atoms: Atoms, site: list[int], separations: Separations) -> np.ndarray:
    """Tell which choices exclude each other: of one site, or too close; shape (n, n)."""
    numbers = np.asarray(site)
    distances = atoms.get_all_distances(mic=True)
    return np.asarray((distances < _least(atoms, atoms, separations)) | (numbers[:, None] == numbers[None]))


def _near(atoms: Atoms, others: Atoms, separations: Separations) -> np.ndarray:
    """Tell which atoms are too close to others; shape (n,)."""
    if not len(others):
        return np.zeros(len(atoms), dtype=bool)
    both = atoms + others
    distances = both.get_all_distances(mic=True)[: len(atoms), len(atoms) :]
    return np.asarray((distances < _least(atoms, others, separations)).any(axis=1))


def _least(atoms: Atoms, others: Atoms, separations: Separations) -> np.ndarray:
    return np.array([[separations[a, b] for b in others.symbols] for a in atoms.symbols])
