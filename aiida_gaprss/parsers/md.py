"""Parser of gaprss.md."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from aiida_gaprss.outside import shown
from aiida_gaprss.parsers.frames import INHERITED, FramesParser
from aiida_gaprss.parsers.results import DamageError, has_labels, number, same_species
from aiida_gaprss.runners.status import FINISHED, GIVEN_UP, NOT_REACHED_WORD, ON_THE_WAY, TIME_LIMIT

#: How a trajectory ends that has a last frame of its own.
ENDS = (FINISHED, TIME_LIMIT)


class MdParser(FramesParser):
    """Name each snapshot after its parent and step."""

    WHAT = "snapshots of trajectories"

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse snapshots that are not of this cell, not in order, or without what the potential said of them."""
        if status in ENDS and not results:
            raise DamageError(f"status is {status!r}, but there is no frame")
        if status not in (*ENDS, *GIVEN_UP):
            if not status.startswith(("failed", NOT_REACHED_WORD)) or results:
                expected = ", ".join((*ENDS, *GIVEN_UP))
                raise DamageError(f"status is {shown(status)!r} with {len(results)} frames, expected {expected}")
            return
        after = -1
        for place, atoms in enumerate(results, start=1):
            same_species(source, atoms)
            has_labels(atoms, "PRED", virial=True)
            after = _whole(atoms, "step", f"frame {place}", after + 1)
            for key in ("time_ps", "temperature_K"):
                if (value := number(atoms.info, key)) < 0:
                    raise DamageError(f"{key} of frame {place} is {value:g}, expected nothing below zero")
            said, expected = atoms.info.get("md_status"), status if place == len(results) else ON_THE_WAY
            if said != expected:
                raise DamageError(f"md_status of frame {place} is {shown(repr(said))}, expected {expected!r}")
        if results:
            end = _whole(results[-1], "md_end_step", "the last frame", after)
            if status in ENDS and end != after:
                raise DamageError(f"md_end_step is {end}, expected {after}, the step of the last frame of what is {status!r}")

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the snapshots of one trajectory."""
        self.name_children(source, results, INHERITED)
        for atoms in results:
            atoms.info["config_type"] = "md"
        return results

    def level_of_theory(self) -> str:
        """Snapshots are not labelled yet."""
        return "unlabelled"


def _whole(atoms: Atoms, key: str, where: str, least: int) -> int:
    """Return a number of a step.

    :raises DamageError: if it is missing, something else, or below ``least``.
    """
    value = atoms.info.get(key)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DamageError(f"{key} of {where} is {shown(repr(value))}, expected a number of {least} or more")
    return int(value)
