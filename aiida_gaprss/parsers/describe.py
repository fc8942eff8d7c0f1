"""Parser of gaprss.describe."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.orm import ArrayData
from ase import Atoms

from aiida_gaprss.parsers.frames import FramesParser


class DescribeParser(FramesParser):
    """Gather the vectors in the order of the frames."""

    def collect(self, sources: list[Atoms], results: list[tuple[str, list[Atoms]]]) -> None:
        """Make the array of vectors; frames without one get nan, and keep their reason for the summary."""
        rows = [np.ravel(frames[0].info["vector"]) if frames else None for _, frames in results]
        length = max((len(row) for row in rows if row is not None), default=0)
        vectors = np.array([np.full(length, np.nan) if row is None else row for row in rows]).reshape(len(rows), length)
        node = ArrayData()
        node.set_array("vectors", vectors)
        self.out("vectors", node)
        self.missing = {
            str(source.info["frame_id"]): status for source, (status, frames) in zip(sources, results, strict=True) if not frames
        }

    def summary(self, lines: dict[int, dict[str, Any]], total: int) -> dict[str, Any]:
        """Return the summary, with the reason of every frame that has no vector."""
        return {**super().summary(lines, total), "missing": self.missing}
