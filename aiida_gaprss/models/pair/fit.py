"""Fit a pair potential in this process, and say how far pairs alone go.

E = Σ E0 + Σ_pairs V(r) with V a sum of powers of 1/r, evaluated by :class:`aiida_gaprss.runners.pair.PairPotential`, where the
method is told, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.errors import Errors, errors
from aiida_gaprss.models.pair.settings import PairSettings
from aiida_gaprss.runners.common import CalculatorTask
from aiida_gaprss.runners.pair import PairPotential, fit


class PairFitError(ValueError):
    """Frames that no pair potential can be fitted to."""


@dataclass(frozen=True)
class PairFit:
    """A fitted pair potential."""

    content: dict[str, Any]  #: of its JSON file
    eta: float | None  #: ⟨E_pairs⟩/⟨E⟩ of the training set, relative to isolated atoms; None if an element has none there
    errors: Errors  #: of the training set

    def calculator(self) -> PairPotential:
        """Return an ASE calculator."""
        return PairPotential(content=self.content)


def fit_pairs(frames: Sequence[Atoms], settings: PairSettings | None = None) -> PairFit:
    """Fit a pair potential to labelled frames.

    E0 is the energy of the isolated atom; of an element without one it is what fits best, and then there is no η.

    :param frames: with ``REF_energy`` (eV), ``REF_forces`` (eV/Å), ``REF_virial`` (eV), as far as they have them.
    :raises PairFitError: if no frame has an energy, or no two atoms are within the cutoff.
    :raises FrameError: for a frame that must not be fitted, as one with a label that is no finite number.
    """
    settings = settings or PairSettings()
    known = [atoms for atoms in frames if fr.is_labelled(atoms)]
    if not known:
        raise PairFitError("no frame has an energy")
    for number, atoms in enumerate(known):
        fr.check(atoms, f"frame {atoms.info.get('frame_id', number)}")
    isolated = {atoms.symbols[0]: float(atoms.info[f"{fr.REFERENCE}_energy"]) for atoms in known if fr.is_isolated_atom(atoms)}
    options = {"cutoff": settings.cutoff, "switch": settings.switch_A, "powers": list(settings.powers), "sigma": settings.sigma}
    try:
        content, _ = fit(known, {**options, "e0": isolated})
    except ValueError as error:
        raise PairFitError(str(error)) from error
    return PairFit(content, content["eta"], _errors(content, known))


def _errors(content: dict[str, Any], frames: Sequence[Atoms]) -> Errors:
    """Return the errors of a pair potential on labelled frames."""
    task = CalculatorTask()
    task.use(PairPotential(content=content))
    known = []
    for atoms in frames:
        predicted = task.single_point(atoms, fr.PREDICTION)
        out = atoms.copy()
        out.info.update(predicted.info)
        out.arrays.update(predicted.arrays)
        known.append(out)
    return errors(known)
