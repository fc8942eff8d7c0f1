"""What a potential costs: time per atom against the number of atoms, measured as it is used.

Energy, forces and stress of supercells of the crystal, one thread a process, atoms displaced anew in every call
(``runners/speed.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from ase import Atoms
from pydantic import Field

from aiida_gaprss.properties.base import Curve, Limits, Property, PropertyError
from aiida_gaprss.settings.jobs import SpeedSettings
from aiida_gaprss.settings.model import Count, Length, SeedNumber


class Speed(Property):
    """Milliseconds per atom of energy, forces and stress, for supercells of several sizes.

    ``result`` gives ``atoms``, ``ms_per_atom`` (median, by the clock on the wall) and ``processor_ms_per_atom`` for each. Where
    the two differ, the machine was busy with something else, or the potential uses several threads.
    """

    kind: Literal["speed"] = "speed"
    run: ClassVar[str] = "speed"
    referenced: ClassVar[bool] = False
    atoms: list[Count] = Field([2, 8, 64, 216], min_length=1, description="sizes, of which the nearest supercells are taken")
    calls: Count = Field(5, description="of which the median is taken, after one that is not counted")
    displacement_A: Length = Field(0.01, description="standard deviation of the atoms in each call")
    seed: SeedNumber = Field(1, description="of the displacements")

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "ms_per_atom": Limits(
            10.0,
            100.0,
            "ms",
            "our choice: 10,000 steps of 100 atoms take three hours on a core with 10 ms, a day with 100",
        ),
    }

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return the supercells, the smallest first, without those that are there twice."""
        sizes = sorted({_repeats(crystal, n) for n in self.atoms}, key=math.prod)
        cells = {repeats: crystal.repeat(repeats) for repeats in sizes}
        settings = {"calls": self.calls, "displacement": self.displacement_A, "seed": self.seed}
        for repeats, atoms in cells.items():
            atoms.info = {"part": "x".join(map(str, repeats)), "task": settings}
        return list(cells.values())

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return the times per atom, ms.

        :raises PropertyError: if a frame has none.
        """
        missing = [str(atoms.info.get("part", "?")) for atoms in done if "seconds" not in atoms.info]
        if missing or not done:
            raise PropertyError(f"no time was measured of {', '.join(missing) or 'any frame'}")
        return {
            "atoms": [len(atoms) for atoms in done],
            "ms_per_atom": [1000 * atoms.info["seconds"] / len(atoms) for atoms in done],
            "processor_ms_per_atom": [1000 * atoms.info["processor_seconds"] / len(atoms) for atoms in done],
        }

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return the time per atom of the largest cell, ms."""
        return {"ms_per_atom": result["ms_per_atom"][-1]}

    def curves(self, result: Mapping[str, Any]) -> dict[str, Curve]:
        """Return the time per atom against the number of atoms."""
        lines = [result["ms_per_atom"]]
        return {"speed": Curve(result["atoms"], lines, "Number of atoms", "Time per atom (ms)", points=True, together=True)}

    @staticmethod
    def task_settings(given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of the task."""
        return SpeedSettings(**given).model_dump()


def _repeats(crystal: Atoms, n: int) -> tuple[int, ...]:
    """Return how often a cell is repeated to have about ``n`` atoms: its shortest edge is made longer until it has."""
    now: tuple[int, ...] = (1, 1, 1)
    while len(crystal) * math.prod(now) < n:
        shortest = int(np.argmin(crystal.cell.lengths() * now))
        before, now = now, tuple(r + (axis == shortest) for axis, r in enumerate(now))
        if len(crystal) * math.prod(now) * len(crystal) * math.prod(before) > n**2:  # the one before is nearer
            return before
    return now
