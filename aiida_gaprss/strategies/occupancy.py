"""Explicit cells of a crystal with partly occupied sites, as β-boron has them.

V. L. Deringer, C. J. Pickard and G. Csányi, PRL 120, 156001 (2018), figure 3: ten cells of 321 atoms, 297 on full sites, 24
distributed over the others.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator
from pymatgen.core import Structure
from pymatgen.io.cif import CifFile

from aiida_gaprss.settings.model import AtomCount, AtomCountOrZero, FrameCount
from aiida_gaprss.strategies.base import CampaignFormula, Strategy, StrategyError
from aiida_gaprss.strategies.seeds import Separations
from aiida_gaprss.structures.checks import RandomCellError, check_element, check_total, pair_separations
from aiida_gaprss.structures.elements import estimated_separations, estimated_volumes
from aiida_gaprss.structures.occupancy import Sites, occupied, rounded
from aiida_gaprss.structures.seeding import stage_seed


class Occupancy(Strategy):
    """Cells of a CIF, each with another choice of the atoms on sites that are occupied in part."""

    kind: Literal["occupancy"] = "occupancy"
    text: str | None = Field(None, description="the CIF")
    file: str | None = Field(None, description="file that holds it instead, relative to the file with the strategies")
    number: FrameCount = Field(10, description="cells")
    composition: dict[str, AtomCountOrZero] | None = Field(
        None, description="atoms of each element in a cell; default: what the occupancies add up to, rounded"
    )
    supercell: tuple[AtomCount, AtomCount, AtomCount] = Field((1, 1, 1), description="repetitions of the cell of the CIF")
    min_separation: Separations | None = Field(
        None,
        description="Å, for all pairs or by pair, of atoms on partly occupied sites from all others; default as for random cells",
    )

    @model_validator(mode="after")
    def _one(self) -> Occupancy:
        if (self.text is None) == (self.file is None):
            raise ValueError("give either text or file")
        return self

    def most(self, crystals: int, formula: CampaignFormula) -> int:
        """Return the number of cells."""
        return self.number

    def frames(self, crystals: Sequence[Atoms], formula: CampaignFormula, seed: int) -> list[Atoms]:
        """Return the cells; each depends on ``seed`` and its number alone.

        :raises StrategyError: if the CIF cannot be read, or the composition cannot be met.
        """
        try:
            sites = self.sites
            composition = self.composition or rounded(sites.expected)
            for symbol in composition:
                check_element("composition", symbol)
            check_total(sum(composition.values()), "composition")
            table = self.separations(sorted({*composition, *sites.expected}))
            frames = []
            for number in range(self.number):
                rng = np.random.default_rng(stage_seed(seed, number, self.kind))
                frames.append(occupied(sites, composition, table, rng))
                frames[-1].info.update(frame_id=f"{self.kind}-{number:04d}", config_type=self.kind)
        except RandomCellError as error:
            raise StrategyError(f"{self.kind}: {error}") from error
        return frames

    @cached_property
    def sites(self) -> Sites:
        """The sites of the supercell.

        :raises StrategyError: if the CIF cannot be read.
        """
        if self.text is None:
            raise StrategyError(f"{self.kind}: {self.file!r} has not been read (see with_texts)")
        structure = self._read(self.text)
        check_total(round(structure.composition.num_atoms * np.prod(self.supercell)), "supercell")
        structure.make_supercell(self.supercell)
        occupancies = []
        for site in structure:
            occupancies.append(Counter[str]())
            for kind, part in site.species.items():  # also of one element in two states of oxidation
                check_element("text", symbol := str(getattr(kind, "symbol", kind)))
                occupancies[-1][symbol] += float(part)  # type: ignore[assignment]
        sites = Sites(structure.cart_coords, structure.lattice.matrix, tuple(occupancies))
        if not sites.choices:
            raise StrategyError(f"{self.kind}: all {len(structure)} sites of the CIF are full, expected some occupied in part")
        return sites

    def _read(self, text: str) -> Structure:
        """Return what is in the CIF, whose occupancies are numbers: the reader takes all else for full sites."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that occupancies are no whole numbers, which is what is wanted
                structure = Structure.from_str(text, fmt="cif", primitive=False)
                told = [part for block in CifFile.from_str(text).data.values() for part in _column(block.data)]
        except Exception as error:  # the reader raises what its parts happen to raise
            raise StrategyError(f"{self.kind}: the CIF is not readable: {error}") from error
        for part in told:
            if not re.fullmatch(r"(0?\.\d+|0|[01]\.\d*|1)(\(\d+\))?", part):
                raise StrategyError(f"{self.kind}: the CIF has an occupancy {part!r}, expected a number between 0 and 1")
        return structure

    def separations(self, symbols: Sequence[str]) -> dict[tuple[str, str], float]:
        """Return the shortest distance of each pair, Å, under both orders."""
        if self.min_separation is not None:
            return pair_separations(self.min_separation, symbols)
        try:
            return estimated_separations({symbol: low for symbol, (low, _) in estimated_volumes(symbols).items()})
        except RandomCellError as error:  # an element of which no density is known
            raise RandomCellError(f"min_separation: cannot be estimated, give it ({error.message})") from error


def _column(block: Mapping[str, Any]) -> list[str]:
    """Return the occupancies of a CIF as they stand there."""
    told = block.get("_atom_site_occupancy", [])
    return [told] if isinstance(told, str) else list(told)
