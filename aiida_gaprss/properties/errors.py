"""Errors of energies, forces and virials on labelled frames, as a property: what is judged of a test set.

It is of many frames together, not of a crystal (``per_crystal`` is False): :meth:`Errors.of` takes frames that have labels and
predictions, :meth:`Errors.predicted` makes the predictions with an ASE calculator. What an error is: ``analysis/errors.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from ase import Atoms
from ase.calculators.calculator import Calculator
from pydantic import Field

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.errors import IN_NAMES, MEASURES, QUANTITIES, errors, errors_in_groups
from aiida_gaprss.analysis.hull import HullError, above_hull
from aiida_gaprss.properties.base import Limits, Property, PropertyError, labelled, value_of
from aiida_gaprss.settings.model import Positive

_ZUO = (
    "Y. Zuo et al., J. Phys. Chem. A 124, 731 (2020): good machine-learned potentials differ by some meV/atom and 0.1 eV/Å, "
    "about the error of DFT; how much more is bad is our choice"
)
_MOST = "our choice: ten times the limit of the RMSE; a single frame that is far off is a hole or a wrong label"


class Errors(Property):
    """RMSE, MAE and largest error of energies, forces and virials: of all frames, by config type and by height above the hull.

    ``of`` gives the numbers that are judged (``energy_rmse_meV_per_atom``, …) and all groups.
    """

    kind: Literal["errors"] = "errors"
    per_crystal: ClassVar[bool] = False
    referenced: ClassVar[bool] = False
    highest: Positive | None = Field(
        None,
        description="eV/atom above the hull, up to which frames are judged, none in vacuum (default: all are)",
    )

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "not_predicted": Limits(0, 0, "frames", "what a potential cannot compute is no small error"),
        "energy_rmse_meV_per_atom": Limits(5.0, 20.0, "meV/atom", _ZUO),
        "forces_rmse_eV_per_A": Limits(0.15, 0.4, "eV/Å", _ZUO),
        "virial_rmse_meV_per_atom": Limits(
            20.0, 100.0, "meV/atom", "our choice: 20 meV/atom are 0.2 GPa at 16 Å³ per atom, as accurate as stresses of DFT are"
        ),
        "energy_largest_meV_per_atom": Limits(50.0, 200.0, "meV/atom", _MOST),
        "forces_largest_eV_per_A": Limits(1.5, 4.0, "eV/Å", _MOST),
        "virial_largest_meV_per_atom": Limits(200.0, 1000.0, "meV/atom", _MOST),
    }

    def of(self, frames: Sequence[Atoms], others: Sequence[Atoms] = ()) -> dict[str, Any]:
        """Return the errors of frames that have both ``REF_*`` and ``PRED_*``.

        :param others: labelled frames that are part of the hull, but not of the test.
        :raises PropertyError: if no frame has both energies.
        """
        judged = errors(self._judged(frames, others))
        if not judged.energy.frames:
            lacking = fr.PREDICTION if any(fr.is_labelled(atoms) for atoms in frames) else fr.REFERENCE
            raise PropertyError(f"none of the {judged.frames} frames has both energies, expected e.g. {lacking}_energy in each")
        out: dict[str, Any] = {"frames": judged.frames}
        for quantity in QUANTITIES:
            for measure in MEASURES:
                out[f"{quantity}_{measure}_{IN_NAMES[quantity]}"] = getattr(getattr(judged, quantity), measure)
        return {**out, **errors_in_groups(frames, others)}

    def _judged(self, frames: Sequence[Atoms], others: Sequence[Atoms]) -> list[Atoms]:
        if self.highest is None:
            return list(frames)
        try:
            heights = above_hull([*frames, *others])[: len(frames)]
        except HullError as error:
            raise PropertyError(f"errors.highest is {self.highest:g} eV/atom, but there is {error}") from error
        return [atoms for atoms, height in zip(frames, heights, strict=True) if height <= self.highest]

    def predicted(self, calculator: Calculator, frames: Iterable[Atoms]) -> list[Atoms]:
        """Return labelled frames with the predictions of an ASE calculator, in this process.

        :raises PropertyError: if it fails for one.
        """
        return [with_predictions(atoms, labelled(atoms, calculator, fr.PREDICTION), fr.PREDICTION) for atoms in frames]

    def plan(self, crystal: Atoms) -> list[Atoms]:
        """Return a labelled frame as it is.

        :raises PropertyError: if it has no labels: there is nothing to compare with.
        """
        value_of(crystal, "energy", fr.REFERENCE)
        out = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=crystal.pbc)
        out.info = {"part": "frame"}
        return [out]

    def result(self, crystal: Atoms, done: Sequence[Atoms], prefix: str) -> dict[str, Any]:
        """Return the errors of this one frame; of many, use :meth:`of`."""
        value_of(done[0], "energy", prefix)
        return self.of([with_predictions(crystal, done[0], prefix)])

    def scores(self, result: Mapping[str, Any], reference: Mapping[str, Any] | None) -> dict[str, float]:
        """Return RMSE and largest errors, of those quantities that were compared."""
        return {name: float(result[name]) for name in self.LIMITS if result.get(name) is not None}


def with_predictions(atoms: Atoms, done: Atoms, prefix: str) -> Atoms:
    """Return a labelled frame with the results of another one as predictions."""
    out = atoms.copy()
    found = {name: value_of(done, name, prefix) for name in QUANTITIES if f"{prefix}_{name}" in {**done.info, **done.arrays}}
    fr.set_labels(out, found.get("energy"), found.get("forces"), found.get("virial"), fr.PREDICTION)
    return out
