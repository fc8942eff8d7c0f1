"""Parser of gaprss.relax."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from aiida_gaprss.frames import INHERITED
from aiida_gaprss.outside import shown
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import DamageError, has_labels, same_species
from aiida_gaprss.runners.status import CONVERGED, ENDS, GIVEN_UP, NOT_REACHED_WORD, ON_THE_WAY


class RelaxParser(FramesParser):
    """Name each snapshot after its parent and step."""

    WHAT = "relaxed frames"

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse snapshots that are not of this cell, not in order, or without what the potential said of them."""
        if status in ENDS and not results:
            raise DamageError(f"status is {status!r}, but there is no frame")
        if status not in (*ENDS, *GIVEN_UP):
            if not status.startswith(("failed", NOT_REACHED_WORD)) or results:
                raise DamageError(
                    f"status is {shown(status)!r} with {len(results)} frames, expected {', '.join(ENDS + GIVEN_UP)}"
                )
            return
        last = -2  # a relaxation that is given up before its first step has the step -1
        for number, atoms in enumerate(results, start=1):
            same_species(source, atoms)
            has_labels(atoms, "PRED", virial=True)
            step = atoms.info.get("step")
            if isinstance(step, bool) or not isinstance(step, int | np.integer) or step <= last:
                raise DamageError(f"step of frame {number} is {shown(repr(step))}, expected a number above {last}")
            last = int(step)
            said, expected = atoms.info.get("relax_status"), status if number == len(results) else ON_THE_WAY
            if said != expected:
                raise DamageError(f"relax_status of frame {number} is {shown(repr(said))}, expected {expected!r}")

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the snapshots of one cell."""
        self.name_children(source, results, INHERITED)
        for atoms in results:
            atoms.info["config_type"] = "minimum" if atoms.info["relax_status"] == CONVERGED else "snapshot"
        return results

    def level_of_theory(self) -> str:
        """Snapshots are not labelled yet."""
        return "unlabelled"
