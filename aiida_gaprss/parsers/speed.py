"""Parser of gaprss.speed."""

from __future__ import annotations

from ase import Atoms

from aiida_gaprss.parsers.evaluate import one_prediction
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import DamageError, number

TIMES = ("seconds", "processor_seconds")


class SpeedParser(FramesParser):
    """Put times and predictions on the frames that were sent."""

    WHAT = "timed frames"

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse times that no call can have taken, and predictions of another structure."""
        one_prediction(source, status, results)
        for atoms in results:
            for key in TIMES:
                if not 0 <= number(atoms.info, key) < 1e8:
                    raise DamageError(f"{key} is {atoms.info[key]}, expected seconds")

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the frame with what was measured, or nothing if it was not."""
        for atoms in results:
            source.info.update({key: value for key, value in atoms.info.items() if key.startswith("PRED_") or key in TIMES})
            source.arrays.update({key: value for key, value in atoms.arrays.items() if key.startswith("PRED_")})
            source.info.update(parent=source.info["frame_id"], origin=self.node.uuid, potential=self.potential)
            return [source]
        return []
