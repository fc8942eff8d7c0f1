"""Kinds of random cells as settings, and the cells made of them."""

from __future__ import annotations

from collections.abc import Mapping

from ase import Atoms
from pydantic import Field, PositiveFloat, PositiveInt

from aiida_gaprss.seeding import stage_seed
from aiida_gaprss.structures.random_cells import CellSpec, random_cells
from aiida_gaprss.validation import Model


class SeedSettings(Model):
    """One kind of random cells (see ``structures.random_cells.CellSpec``)."""

    n_atoms: list[PositiveInt] = Field(min_length=1, description="atoms per cell, drawn evenly from the list")
    volume_per_atom: tuple[PositiveFloat, PositiveFloat] = Field(description="Å³, drawn uniformly")
    min_separation: PositiveFloat | dict[str, PositiveFloat] = Field(description="Å, for all pairs or by pair (Si-O: 1.6)")
    n_operations: list[PositiveInt] = Field(default=[1], description="symmetry operations, drawn evenly from the list")

    def spec(self, formula: dict[str, int]) -> CellSpec:
        """Return the specification for a chemical formula.

        :raises RandomCellError: if such cells cannot exist.
        """
        return CellSpec(
            formula=formula,
            n_atoms=tuple(self.n_atoms),
            volume_per_atom=self.volume_per_atom,
            min_separation=self.min_separation,
            n_operations=tuple(self.n_operations),
        )


def make_cells(
    kinds: Mapping[str, SeedSettings], formula: Mapping[str, int], counts: Mapping[str, int], seed: int
) -> list[Atoms]:
    """Return ``counts[kind]`` cells of every kind of seed, in that order; those of one kind do not depend on the others."""
    cells: list[Atoms] = []
    for kind, count in counts.items():
        cells += random_cells(kinds[kind].spec(dict(formula)), count, stage_seed(seed, 0, kind))
    return cells
