"""What is kept of a trajectory on its way, so that another job goes on where one was cut off (uploaded with the job).

Of each frame there are two files, named by its number: the snapshots so far, to which is only added, and the state, which is
replaced as a whole and says how many bytes of snapshots belong to it. Numbers are written as they are, to the last bit.
"""

from __future__ import annotations

import io
import os
from typing import Any

from ase import Atoms
from ase.io import read
from ase.io.extxyz import write_extxyz
from identity import SNAPSHOTS, STATE, STATES, digest_of, owner, sealed, whole

#: Settings that do not change a trajectory: when it is cut off, and what other frames do.
NOT_THE_WAY = ("processes", "time_limit_s", "state_every_s", "tasks", "input", "begins_anew")


class Journal:
    """What is kept of the trajectory of one frame; of a frame without a number, nothing."""

    def __init__(self, atoms: Atoms, settings: dict[str, Any]) -> None:
        """:param settings: of the trajectory, and what makes the calculator."""
        self.atoms, self.kept = atoms, "index" in atoms.info
        self.way = digest_of({key: value for key, value in settings.items() if key not in NOT_THE_WAY})
        self.state, self.snapshots = (self._path(name) for name in (STATE, SNAPSHOTS))

    def _path(self, name: str) -> str:
        return os.path.join(STATES, name.format(index=self.atoms.info.get("index", 0)))

    def load(self) -> tuple[dict[str, Any] | None, list[Atoms]]:
        """Return the last state and the snapshots up to it; None if there is none with which this trajectory can go on."""
        state = self._found()
        if state is None:
            self._begin()
            return None, []
        os.truncate(self.snapshots, state["bytes"])
        with open(self.snapshots, encoding="utf-8") as handle:
            frames: Any = read(handle, index=":", format="extxyz")
        for atoms in frames:
            atoms.calc = None
        return state, frames

    def _found(self) -> dict[str, Any] | None:
        if not (self.kept and os.path.isfile(self.state) and os.path.isfile(self.snapshots)):
            return None
        with open(self.state, encoding="utf-8", errors="replace") as handle:
            state = whole(handle.read(), self.atoms)
        if state is None or state["way"] != self.way or state["bytes"] > os.path.getsize(self.snapshots):
            return None
        return state

    def _begin(self) -> None:
        """Begin anew with no snapshots."""
        if self.kept:
            os.makedirs(STATES, exist_ok=True)
            if os.path.exists(self.state):
                os.remove(self.state)
            with open(self.snapshots, "w", encoding="utf-8"):
                pass

    def add(self, snapshot: Atoms) -> None:
        """Keep a snapshot."""
        if self.kept:
            buffer = io.StringIO()
            write_extxyz(buffer, snapshot, write_results=False)
            with open(self.snapshots, "a", encoding="utf-8") as handle:
                handle.write(buffer.getvalue())

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state in the place of the last one; whoever is killed meanwhile leaves one of the two."""
        if not self.kept:
            return
        line = sealed({**owner(self.atoms), "way": self.way, "bytes": os.path.getsize(self.snapshots), **state})
        with open(f"{self.state}.new", "w", encoding="utf-8") as handle:
            handle.write(line)
        os.replace(f"{self.state}.new", self.state)
