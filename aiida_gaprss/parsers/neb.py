"""Parser of gaprss.neb."""

from __future__ import annotations

from ase import Atoms

from aiida_gaprss.outside import shown
from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import DamageError, has_labels, same_species
from aiida_gaprss.runners.status import ENDS, GIVEN_UP, MERGED, NOT_REACHED_WORD


class NebParser(FramesParser):
    """Name each image after its parent and its place on the path."""

    WHAT = "paths"

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse images that are not of this frame, not in order, or without what the potential said of them."""
        if status not in ENDS:
            known = status in (*GIVEN_UP, MERGED) or status.startswith(("failed", NOT_REACHED_WORD))
            if not known or results:
                words = ", ".join((*ENDS, *GIVEN_UP, MERGED))
                raise DamageError(f"status is {shown(status)!r} with {len(results)} frames, expected {words}")
            return
        if not results:
            raise DamageError(f"status is {status!r}, but there is no frame")
        for number, atoms in enumerate(results):
            same_species(source, atoms)
            has_labels(atoms, "PRED", virial=True)
            for key, expected in (("step", number), ("relax_status", status)):
                if (said := atoms.info.get(key)) != expected or isinstance(said, bool):
                    raise DamageError(f"{key} of frame {number + 1} is {shown(repr(said))}, expected {expected!r}")

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the images of one path."""
        self.name_children(source, results)
        for atoms in results:
            atoms.info["config_type"] = "path"
        return results

    def level_of_theory(self) -> str:
        """Images are not labelled yet."""
        return "unlabelled"
