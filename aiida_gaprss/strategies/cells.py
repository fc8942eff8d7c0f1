"""Kinds of random cells: what they have in common, and how a campaign names one of those that are installed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeAlias

from ase import Atoms
from pydantic import BeforeValidator, SerializeAsAny

from aiida_gaprss.settings.plugins import STRATEGIES, by_kind
from aiida_gaprss.strategies.base import CampaignFormula, Strategy
from aiida_gaprss.structures.building import MOST_WORK, Spec, child_seeds, random_cell
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.compositions import Weights
from aiida_gaprss.structures.random_cells import CellSpec
from aiida_gaprss.structures.seeding import stage_seed


class CheckedSpec(Spec, Protocol):
    """A specification that has found itself possible."""

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that occur."""

    @property
    def smallest_separation(self) -> float:
        """Smallest distance of two atoms, Å."""

    @property
    def volume_range(self) -> tuple[float, float]:
        """Smallest and largest volume per atom, Å³."""


class CellStrategy(Strategy):
    """A kind of random cells: what ``seeds`` of a campaign are, and what all of them can be asked.

    Applied once, it makes one cell; how often it is applied say ``initial`` and ``cells`` of a campaign. A kind that makes its
    cells in another way overrides :meth:`cell`; of its specification then only elements, separations and volumes are asked.
    """

    @property
    def most_parents(self) -> int:
        """How many of the structures found so far its cells are made of at most (see :meth:`cells_from`); 0: of none."""
        return 0

    @property
    def of_campaign(self) -> bool:
        """Whether all cells have the composition of the campaign."""
        return False

    def most(self, crystals: int, formula: CampaignFormula) -> int:
        """Return 1."""
        return 1

    def frames(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return one cell; it depends on ``seed`` alone.

        :raises RandomCellError: if it cannot be made.
        """
        atoms = self.cell(self.spec(formula), seed)
        atoms.info.update(config_type="random", frame_id=self.kind)
        return [atoms]

    @abstractmethod
    def spec(self, formula: CampaignFormula) -> CheckedSpec:
        """Return the specification of the cells.

        :param formula: atoms per formula unit of the campaign, for seeds without one of their own.
        :raises RandomCellError: if such cells cannot exist.
        """

    def check(self, formula: CampaignFormula) -> None:
        """Check that the cells can exist, and that the campaign knows their elements.

        :raises RandomCellError: naming the value and what was expected.
        """
        for symbol in self.spec(formula).elements:
            if symbol not in formula:
                raise RandomCellError(f"the element {symbol} is not in the formula of the campaign ({', '.join(formula)})")

    def smallest_separation(self, formula: CampaignFormula) -> float:
        """Return the smallest distance (Å) of two atoms of a cell."""
        return self.spec(formula).smallest_separation

    def volume_range(self, formula: CampaignFormula) -> tuple[float, float]:
        """Return the smallest and largest volume per atom, Å³."""
        return self.spec(formula).volume_range

    def cell(self, spec: Any, seed: int, most_work: float = MOST_WORK) -> Atoms:
        """Return the one cell that belongs to ``seed``, which is in its ``info``.

        :param spec: of :meth:`spec`; ``most_work``: vectors between atoms that may be computed.
        :raises RandomCellError: if it cannot be made.
        """
        return random_cell(spec, seed, most_work=most_work)

    def cells(self, formula: CampaignFormula, n: int, seed: int, weights: Weights | None = None) -> list[Atoms]:
        """Return ``n`` cells; cell i depends on ``seed`` and i alone.

        :param weights: of reduced compositions, for seeds that leave the composition open; others have no use for them.
        :raises RandomCellError: if a cell cannot be made.
        """
        spec = self.spec(formula)
        if weights is not None and isinstance(spec, CellSpec):
            spec = spec.weighted(weights)
        return [self.cell(spec, child) for child in child_seeds(seed, n)]

    def suits(self, atoms: Atoms, formula: CampaignFormula) -> bool:
        """Tell whether a structure can be one of the parents of its cells."""
        return False

    def cells_from(
        self, parents: Sequence[Atoms], formula: CampaignFormula, n: int, seed: int, weights: Weights | None = None
    ) -> list[Atoms]:
        """Return ``n`` cells as :meth:`cells`; of a kind with :attr:`most_parents`, by variation of these.

        :param parents: structures that have been found, lowest first.
        :raises RandomCellError: if a cell cannot be made.
        """
        return self.cells(formula, n, seed, weights)


#: One kind of random cells, of those that are installed; without ``kind``, ``random``.
Seed: TypeAlias = Annotated[SerializeAsAny[CellStrategy], BeforeValidator(by_kind(STRATEGIES, CellStrategy, "random"))]


def make_cells(
    kinds: Mapping[str, Seed],
    formula: CampaignFormula,
    counts: Mapping[str, int],
    seed: int,
    weights: Weights | None = None,
    parents: Sequence[Atoms] = (),
) -> list[Atoms]:
    """Return ``counts[kind]`` cells of every kind of seed, in that order; those of one kind do not depend on the others.

    :param parents: structures that have been found, lowest first, for kinds that vary them.
    :param weights: of reduced compositions (``CuLi2``, elements in alphabetical order), where the seed leaves them open.
    :raises RandomCellError: if a cell cannot be made.
    """
    cells: list[Atoms] = []
    for kind, count in counts.items():
        cells += kinds[kind].cells_from(parents, formula, count, stage_seed(seed, 0, kind), weights)
    return cells
