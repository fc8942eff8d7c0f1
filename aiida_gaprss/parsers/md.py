"""Parser of gaprss.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida.orm import FolderData
from ase import Atoms

from aiida_gaprss.calculations.common import named
from aiida_gaprss.frames import INHERITED
from aiida_gaprss.outside import shown
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import DamageError, frames_in, has_labels, number, same_species
from aiida_gaprss.runners.identity import SNAPSHOTS, STATE, STATES, whole
from aiida_gaprss.runners.status import CALCULATOR_FAILED, FINISHED, GIVEN_UP, NOT_REACHED_WORD, ON_THE_WAY, TIME_LIMIT

#: How a trajectory ends that has a last frame of its own.
ENDS = (FINISHED, TIME_LIMIT)
ALL_ENDS = (*ENDS, *GIVEN_UP, CALCULATOR_FAILED)


class MdParser(FramesParser):
    """Name each snapshot after its parent and step."""

    WHAT = "snapshots of trajectories"

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse snapshots that are not of this cell, not in order, or without what the potential said of them."""
        if status in (*ENDS, CALCULATOR_FAILED) and not results:
            raise DamageError(f"status is {status!r}, but there is no frame")
        if status not in ALL_ENDS:
            if not status.startswith(("failed", NOT_REACHED_WORD)) or results:
                expected = ", ".join(ALL_ENDS)
                raise DamageError(f"status is {shown(status)!r} with {len(results)} frames, expected {expected}")
            return
        after = -1
        for place, atoms in enumerate(results, start=1):
            after = self._check_snapshot(source, atoms, place, after)
            said, expected = atoms.info.get("md_status"), status if place == len(results) else ON_THE_WAY
            if said != expected:
                raise DamageError(f"md_status of frame {place} is {shown(repr(said))}, expected {expected!r}")
            if not isinstance(atoms.info.get("md_failure", ""), str):
                raise DamageError(f"md_failure of frame {place} is no text")
        if results:
            end = _whole(results[-1].info, "md_end_step", "the last frame", after)
            if status in ENDS and end != after:
                raise DamageError(f"md_end_step is {end}, expected {after}, the step of the last frame of what is {status!r}")

    def _check_snapshot(self, source: Atoms, atoms: Atoms, place: int, after: int) -> int:
        """Return the step of a snapshot.

        :raises DamageError: if it is not of this cell, not beyond ``after``, or lacks something.
        """
        same_species(source, atoms)
        has_labels(atoms, "PRED", virial=None if "calculator" in self.node.inputs else True)
        for key in ("time_ps", "temperature_K"):
            if (value := number(atoms.info, key)) < 0:
                raise DamageError(f"{key} of frame {place} is {value:g}, expected nothing below zero")
        return _whole(atoms.info, "step", f"frame {place}", after + 1)

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the snapshots of one trajectory."""
        self.name_children(source, results, INHERITED)
        for atoms in results:
            atoms.info["config_type"] = "md"
        return results

    def keep_states(self, folder: Path, sources: list[Atoms], unfinished: list[int]) -> None:
        """Keep the states of trajectories that were cut off; what is not whole, or of another frame, is none."""
        kept = FolderData()
        for index in unfinished:
            found = self._state(folder / STATES, index, sources[index])
            for name, content in zip((STATE, SNAPSHOTS), found, strict=False):
                kept.base.repository.put_object_from_bytes(content, name.format(index=index))
        if kept.base.repository.list_object_names():
            self.out("states", named(kept, "states of trajectories that were cut off", sources, self.node))

    def _state(self, folder: Path, index: int, source: Atoms) -> list[bytes]:
        """Return a state and the snapshots up to it, or nothing."""
        try:
            text, snapshots = ((folder / name.format(index=index)).read_bytes() for name in (STATE, SNAPSHOTS))
            state = whole(text.decode("ascii"), source)
            if state is None:
                return []
            snapshots = snapshots[: _whole(state, "bytes", "the state", 1)]
            step, after = _check_state(state, len(source)), -1
            for place, atoms in enumerate(frames_in(snapshots.decode("utf-8")), start=1):
                after = self._check_snapshot(source, atoms, place, after)
        except (OSError, LookupError, ValueError, TypeError):  # DamageError is one
            return []
        if after > step:
            return []
        return [text, snapshots]

    def level_of_theory(self) -> str:
        """Snapshots are not labelled yet."""
        return "unlabelled"


def _check_state(state: dict[str, Any], atoms: int) -> int:
    """Return how many steps a state is from the beginning.

    :raises ValueError: if its numbers are not those of so many atoms, or not finite.
    """
    for key, rows in (("positions", atoms), ("momenta", atoms), ("cell", 3)):
        array = np.array(state[key], dtype=float)
        if array.shape != (rows, 3) or not np.isfinite(array).all():
            raise DamageError(f"{key} of the state: shape {array.shape}, expected finite numbers of shape {(rows, 3)}")
    return _whole(state, "step", "the state", 1)


def _whole(found: Mapping[str, Any], key: str, where: str, least: int) -> int:
    """Return a number of a step.

    :raises DamageError: if it is missing, something else, or below ``least``.
    """
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DamageError(f"{key} of {where} is {shown(repr(value))}, expected a number of {least} or more")
    return int(value)
