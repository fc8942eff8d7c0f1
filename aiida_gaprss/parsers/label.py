"""Parser of gaprss.label."""

from __future__ import annotations

from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import has_labels, one_of, same_geometry
from aiida_gaprss.reference import ase


class LabelParser(FramesParser):
    """Put the labels on the frames; a frame without one keeps the reason."""

    WHAT = "labels"

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse labels of another structure, and such that are not whole."""
        atoms = one_of(status, results)
        if atoms is not None:
            same_geometry(source, atoms)
            has_labels(atoms, "REF", virial=False if fr.is_in_vacuum(source) else None)

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the frame with its labels and status."""
        fr.drop_labels(source)
        for atoms in results:
            fr.take_labels(source, atoms)
        source.info["label_uuid"] = self.node.uuid
        source.info["label_status"] = status
        return [source]

    def level_of_theory(self) -> str:
        """Return the calculator's level of theory."""
        return ase.level_of_theory(self.node.inputs.settings)
