"""Parser of gaprss.describe."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData
from ase import Atoms

from aiida_gaprss.calculations.common import named
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import DamageError, Result, one_of, same_geometry

#: Of the length of a vector, whose numbers are rounded.
TOLERANCE = 1e-6


class DescribeParser(FramesParser):
    """Gather the vectors in the order of the frames."""

    WHAT = "vectors"

    length: int | None = None  #: of the vectors, once there is one

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse vectors of another structure, of another length than the first, and such that are not of length one."""
        atoms = one_of(status, results)
        if atoms is None:
            return
        same_geometry(source, atoms)
        vector = np.asarray(atoms.info.get("vector"))
        expected = self.length or vector.size
        if vector.dtype.kind not in "fi" or vector.size != expected or not abs(np.linalg.norm(vector) - 1) < TOLERANCE:
            raise DamageError(
                f"vector has {vector.size} values ({vector.dtype}), expected {expected} numbers that make a unit vector"
            )
        self.length = vector.size

    def collect(self, sources: list[Atoms], results: list[tuple[str, list[Atoms]]]) -> None:
        """Make the array of vectors; frames without one get nan, and keep their reason for the summary."""
        rows = [np.ravel(frames[0].info["vector"]) if frames else None for _, frames in results]
        length = max((len(row) for row in rows if row is not None), default=0)
        vectors = np.array([np.full(length, np.nan) if row is None else row for row in rows]).reshape(len(rows), length)
        node = ArrayData()
        node.set_array("vectors", vectors)
        self.out("vectors", named(node, self.WHAT, sources, self.node))
        self.missing = {
            str(source.info["frame_id"]): status for source, (status, frames) in zip(sources, results, strict=True) if not frames
        }

    def summary(self, told: dict[str, Any], lines: dict[int, Result], total: int) -> dict[str, Any]:
        """Return the summary, with the reason of every frame that has no vector."""
        return {**super().summary(told, lines, total), "missing": self.missing}
