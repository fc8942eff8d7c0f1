"""Parser of gaprss.buildcell."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import spglib
from ase import Atoms

from aiida_gaprss.calculations.buildcell import to_be_made
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import Result, number, one_of

#: Å, to find the space group of positions printed with seven digits.
PRECISION = 1e-3


class BuildcellParser(FramesParser):
    """Name the cells, and say which symmetry they have."""

    WHAT = "cells of buildcell"

    def sources(self) -> list[Atoms]:
        """Return names and seeds of the cells that were to be made."""
        return to_be_made(self.node.inputs)

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse more or fewer than one cell."""
        atoms = one_of(status, results)
        if atoms is not None and "n_operations" in atoms.info:
            number(atoms.info, "n_operations")

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the cell; one that failed is left out."""
        for atoms in results:
            printed = atoms.info.get("n_operations")
            found = None
            with suppress(spglib.SpglibError):  # raised, or not, as whatever else has been imported wants it
                found = spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), PRECISION)
            atoms.info = {**source.info, "config_type": "random", "origin": self.node.uuid}
            if found is not None:
                atoms.info.update(n_operations=len(found.rotations), space_group=int(found.number))
            if printed is not None:
                atoms.info["n_operations"] = int(printed)
        return results

    def summary(self, told: dict[str, Any], lines: dict[int, Result], total: int) -> dict[str, Any]:
        """Return counts and times, and the counts of the reasons of failures."""
        reasons = Counter(line.status.removeprefix("failed: ") for line in lines.values() if line.status.startswith("failed"))
        return {**super().summary(told, lines, total), "failures": dict(sorted(reasons.items()))}

    def level_of_theory(self) -> str:
        """Nothing is labelled yet."""
        return "unlabelled"
