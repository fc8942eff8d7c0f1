"""Parser of gaprss.evaluate."""

from __future__ import annotations

from ase import Atoms

from aiida_gaprss.parsers.frames import FramesParser


class EvaluateParser(FramesParser):
    """Put the predictions beside what the frames already carry."""

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the frame with its predictions, or nothing if it was not evaluated."""
        for atoms in results:
            source.info.update({key: value for key, value in atoms.info.items() if key.startswith("GAP_")})
            source.arrays.update({key: value for key, value in atoms.arrays.items() if key.startswith("GAP_")})
            source.info["potential"] = self.node.inputs.potential.uuid
            return [source]
        return []
