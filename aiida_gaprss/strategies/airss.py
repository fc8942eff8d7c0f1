"""What a seed of AIRSS says, as a specification that random cells are drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from aiida_gaprss.structures.building import Recipe, Shape, Unit
from aiida_gaprss.structures.checks import RandomCellError, check_packing, check_total
from aiida_gaprss.structures.spacegroups import primitive_operations

#: Displacement of atoms where the symmetry is to be approximate (``~``), as a fraction of the smallest MINSEP.
APPROXIMATE = 0.1


@dataclass(frozen=True, eq=False)
class Entry:
    """Lines of a seed that stay together: one atom, or a rigid unit; ``numbers`` of copies to draw from."""

    unit: Unit
    numbers: tuple[int, ...] = (1,)


@dataclass(frozen=True, eq=False)
class AirssSpec:
    """What an AIRSS seed says, ready to draw from; made by :func:`aiida_gaprss.strategies.airss_file.parse_seed`.

    ``volume``: Å³ for every listed atom, smallest and largest. ``n_form``: copies to draw from; None: as many as operations.
    ``n_atoms``: totals of one copy; None: as they come. ``mixed``: the species of every atom is random. ``separations``: smallest
    and largest MINSEP of every pair, Å. ``strain``: CELLAMP; None: the lattice is random.
    """

    entries: tuple[Entry, ...]
    volume: tuple[float, float] | None
    separations: Mapping[tuple[str, str], tuple[float, float]]
    n_form: tuple[int, ...] | None = None
    n_atoms: tuple[int, ...] | None = None
    mixed: bool = False
    groups: tuple[tuple[int, ...], ...] = ((1,),)
    approximate: bool = False
    slack: float = 0.0
    shape: Shape = field(default_factory=Shape)
    lattice: np.ndarray | None = None
    strain: float | None = None

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that occur."""
        return tuple(dict.fromkeys(symbol for entry in self.entries for symbol in entry.unit.symbols))

    @cached_property
    def listed(self) -> int:
        """Number of atoms that the seed lists."""
        return sum(len(entry.unit.symbols) for entry in self.entries)

    @cached_property
    def volume_range(self) -> tuple[float, float]:
        """Smallest and largest volume per atom, Å³."""
        if self.volume is not None:
            return self.volume[0] / self.listed, self.volume[1] / self.listed
        assert self.lattice is not None
        assert self.strain is not None
        volume = abs(np.linalg.det(self.lattice)) / self.listed
        return float(volume * max(1 - self.strain, 0.1) ** 3), float(volume * (1 + self.strain) ** 3)

    @cached_property
    def smallest_separation(self) -> float:
        """Smallest distance of two atoms, Å, those within a unit included."""
        inside = [
            float(np.linalg.norm(here - there))
            for entry in self.entries
            for number, here in enumerate(entry.unit.offsets)
            for there in entry.unit.offsets[:number]
        ]
        return min([low * (1 - self.slack) for low, _ in self.separations.values()] + inside)

    def check(self) -> None:
        """Check that cells can exist.

        :raises RandomCellError: if no number of units fits the operations, or the separations do not fit the volume.
        """
        copies = max(self.n_form or [len(primitive_operations(groups[0])) for groups in self.groups])
        listed = max(self.n_atoms) if self.n_atoms else sum(len(e.unit.symbols) * max(e.numbers) for e in self.entries)
        check_total(copies * listed, "NFORM, NATOM and NUM")
        if not self._feasible():
            orders = sorted({len(primitive_operations(groups[0])) for groups in self.groups})
            raise RandomCellError(
                f"NFORM and NUM give no number of rigid units that is a multiple of {' or '.join(map(str, orders))} operations"
            )
        if self.n_atoms is None and not self.mixed:
            lows = _both_orders({pair: low * (1 - self.slack) for pair, (low, _) in self.separations.items()})
            single = Counter(s for e in self.entries if len(e.unit.symbols) == 1 for s in e.unit.symbols * max(e.numbers))
            total = sum(len(e.unit.symbols) * max(e.numbers) for e in self.entries)
            if single:
                check_packing(lows, single, total * self.volume_range[1])

    def _feasible(self) -> bool:
        counts = [entry.numbers for entry in self.entries if len(entry.unit.symbols) > 1]
        for groups in self.groups:
            order = len(primitive_operations(groups[0]))
            rests = [{n % order for n in numbers} for numbers in counts]
            for copies in {copies % order for copies in self.n_form or (order,)}:
                if all(any(copies * n % order == 0 for n in numbers) for numbers in rests):
                    return True
        return False

    def recipes(self, rng: np.random.Generator, draws: int, trials: int) -> Iterator[Recipe]:
        """Yield recipes; with slack, most of them keep separations that are smaller by it, after some that do not."""
        groups = self.groups[rng.choice(len(self.groups))]
        in_full = max(draws // 4, 1)
        for shrunk, number in ((0.0, in_full), (self.slack, draws - in_full)) if self.slack else ((0.0, draws),):
            for _ in range(number):
                order = len(primitive_operations(groups[0]))
                copies = int(rng.choice(self.n_form or (order,)))
                contents = self._contents(copies, order, rng)
                if contents is None:
                    continue
                atoms, units, total = contents
                for _ in range(trials):
                    yield self._recipe(int(rng.choice(groups)), atoms, units, total, 1 - shrunk, rng)

    def _contents(self, copies: int, order: int, rng: np.random.Generator) -> tuple[dict[str, int], list[Unit], int] | None:
        """Return single atoms by element, units of one asymmetric part, and the number of atoms; None if they do not fit."""
        if self.mixed:
            assert self.n_atoms is not None
            kinds = rng.choice(len(self.entries), size=int(rng.choice(self.n_atoms)))
            numbers = [int((kinds == index).sum()) for index in range(len(self.entries))]
        else:
            numbers = [int(rng.choice(entry.numbers)) for entry in self.entries]
        sizes = [len(entry.unit.symbols) for entry in self.entries]
        total = sum(number * size for number, size in zip(numbers, sizes, strict=True))
        if not total or (self.n_atoms is not None and total not in self.n_atoms):
            return None
        atoms: dict[str, int] = {}
        units: list[Unit] = []
        for entry, number in zip(self.entries, numbers, strict=True):
            if len(entry.unit.symbols) == 1 and entry.unit.start is None:
                symbol = entry.unit.symbols[0]
                atoms[symbol] = atoms.get(symbol, 0) + number * copies
            elif number * copies % order:
                return None
            else:
                units += [entry.unit] * (number * copies // order)
        return {symbol: count for symbol, count in atoms.items() if count}, units, total * copies

    def _recipe(
        self,
        group: int,
        atoms: dict[str, int],
        units: list[Unit],
        total: int,
        factor: float,
        rng: np.random.Generator,
    ) -> Recipe:
        drawn = {pair: factor * rng.uniform(*ends) for pair, ends in sorted(self.separations.items())}
        table = _both_orders(drawn)
        jitter = APPROXIMATE * min(drawn.values()) if self.approximate else None
        lattice, volume = None, 0.0
        if self.strain is not None:
            assert self.lattice is not None
            lattice, units = self._strained(units, rng)
        else:
            volume = total * rng.uniform(*self.volume_range)
        return Recipe(volume, group, table, atoms, units, self.shape, lattice, jitter)

    def _strained(self, units: list[Unit], rng: np.random.Generator) -> tuple[np.ndarray, list[Unit]]:
        """Return the lattice with a symmetric random strain, and the units at the same fractional positions in it."""
        assert self.lattice is not None
        assert self.strain is not None
        strain = np.diag(rng.uniform(-1, 1, 3) * self.strain)
        strain[np.triu_indices(3, 1)] = rng.uniform(-1, 1, 3) * self.strain / 2
        deform = np.eye(3) + np.triu(strain) + np.triu(strain, 1).T
        moved = [unit if unit.start is None else replace(unit, start=unit.start @ deform) for unit in units]
        return self.lattice @ deform, moved

    def limits(self) -> str:
        """Return what the atoms are to keep."""
        pairs = {"-".join(pair): ends for pair, ends in self.separations.items()}
        low, high = self.volume_range
        return f"MINSEP {pairs} Å at {low:g}–{high:g} Å³ per atom"


def _both_orders(pairs: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {**pairs, **{(b, a): value for (a, b), value in pairs.items()}}
