"""Parser of gaprss.evaluate."""

from __future__ import annotations

from functools import cached_property

from ase import Atoms

from aiida_gaprss.parsers.frames import FramesParser
from aiida_gaprss.parsers.results import has_labels, one_of, per_atom, same_geometry
from aiida_gaprss.settings.jobs import EvaluateSettings


class EvaluateParser(FramesParser):
    """Put the predictions beside what the frames already carry."""

    WHAT = "predictions"

    @cached_property
    def settings(self) -> EvaluateSettings:
        """Return what was asked for."""
        return EvaluateSettings(**(self.node.inputs.settings.get_dict() if "settings" in self.node.inputs else {}))

    def check(self, source: Atoms, status: str, results: list[Atoms]) -> None:
        """Refuse predictions of another structure, or such that lack what was asked for."""
        one_prediction(source, status, results)
        if not results:
            return
        (atoms,) = results
        if self.settings.local_energies:
            per_atom(atoms, "PRED_local_energy")
        if self.settings.variances:
            per_atom(atoms, "PRED_local_variance")

    def merge(self, source: Atoms, status: str, results: list[Atoms]) -> list[Atoms]:
        """Return the frame with its predictions, or nothing if it was not evaluated."""
        for atoms in results:
            source.info.update({key: value for key, value in atoms.info.items() if key.startswith("PRED_")})
            source.arrays.update({key: value for key, value in atoms.arrays.items() if key.startswith("PRED_")})
            source.info["potential"] = self.potential
            return [source]
        return []


def one_prediction(source: Atoms, status: str, results: list[Atoms]) -> None:
    """Refuse a prediction that is not of this structure, or is not whole.

    :raises DamageError: naming the value, and what was expected.
    """
    atoms = one_of(status, results)
    if atoms is not None:
        same_geometry(source, atoms)
        has_labels(atoms, "PRED", virial=True)
