"""Has a search come to its end? What a generation changed, in numbers (the "consistency" of PRL 120, 156001, made exact)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from pydantic import Field, model_validator

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.energies import energies_per_atom
from aiida_gaprss.analysis.hull import reduced_formula
from aiida_gaprss.runners.status import ENDED
from aiida_gaprss.selection.duplicates import unique
from aiida_gaprss.selection.fingerprints import fingerprints
from aiida_gaprss.settings.model import Count, Model, Positive


class StopSettings(Model):
    """When the generations end: as soon as every threshold that is given has been kept for ``patience`` generations in a row.

    The paper adds generations until new structures no longer alter the potential and the distribution of the labels' energies
    has converged. A search that looks only at what it has found may stop too early; ``new_error`` and ``discovery`` say so.
    """

    energy_change: Positive | None = Field(
        0.01, description="eV/atom; root mean square change of the energies that successive potentials predict for new low minima"
    )
    distribution: Positive | None = Field(
        0.05,
        description="eV/atom; Wasserstein distance of the energies of labelled end points from those of the generation before",
    )
    discovery: Positive | None = Field(
        0.1, le=1.0, description="part of the distinct low minima of a generation that no generation before has seen"
    )
    new_error: Positive | None = Field(
        None, description="eV/atom; root mean square error of the potential on new labelled end points before they were fitted"
    )
    window: Positive = Field(0.3, description="eV/atom above the lowest end point, up to which a minimum is low")
    tolerance: Positive = Field(0.3, description="distance of fingerprints up to which two minima are the same")
    patience: Count = Field(2, description="generations in a row that must keep the thresholds")
    at_least: Count = Field(3, description="generations before which the search does not end")

    @model_validator(mode="after")
    def _some(self) -> StopSettings:
        if not self.thresholds():
            raise ValueError(f"give at least one of {', '.join(CRITERIA)}")
        return self

    def thresholds(self) -> dict[str, float]:
        """Return the thresholds that are given."""
        return {name: getattr(self, name) for name in CRITERIA if getattr(self, name) is not None}


#: The measures of progress, and how a report names them: what it is, unit, factor to that unit.
CRITERIA: dict[str, tuple[str, str, float]] = {
    "energy_change": ("predicted energies of new low minima changed by", "meV/atom", 1000.0),
    "distribution": ("energies of labelled end points moved by", "meV/atom", 1000.0),
    "discovery": ("part of the low minima that is new:", "%", 100.0),
    "new_error": ("error on new end points before the fit:", "meV/atom", 1000.0),
}


def ended_frames(frames: Sequence[Atoms]) -> list[Atoms]:
    """Return the frames at which relaxations ended as they should."""
    return [atoms for atoms in frames if atoms.info.get("relax_status") in ENDED]


def low_end_points(frames: Sequence[Atoms], window: float) -> list[Atoms]:
    """Return the end points that the potential predicts no more than ``window`` (eV/atom) above the lowest of their composition.

    Energies, not enthalpies: every end point may have been relaxed at another pressure.
    """
    ends = ended_frames(frames)
    energies = [(reduced_formula(atoms), atoms.info["PRED_energy"] / len(atoms)) for atoms in ends]
    lowest: dict[str, float] = {}
    for composition, energy in energies:
        lowest[composition] = min(energy, lowest.get(composition, energy))
    return [atoms for atoms, (composition, energy) in zip(ends, energies, strict=True) if energy <= lowest[composition] + window]


def energy_change(before: Sequence[Atoms], after: Sequence[Atoms]) -> float | None:
    """Return the root mean square change (eV/atom) of the predicted energies of the same frames; None without frames.

    :param before: frames with the ``PRED_energy`` of one potential.
    :param after: those that another potential was evaluated on, found by ``frame_id``; what it could not evaluate is left out.
    """
    energies = {a.info["frame_id"]: a.info["PRED_energy"] / len(a) for a in after if "PRED_energy" in a.info}
    changes = [energies[a.info["frame_id"]] - a.info["PRED_energy"] / len(a) for a in before if a.info["frame_id"] in energies]
    return float(np.sqrt(np.mean(np.square(changes)))) if changes else None


def distribution_change(earlier: Sequence[Atoms], later: Sequence[Atoms]) -> float | None:
    """Return the Wasserstein distance (eV/atom) between the reference energies of two sets of frames; None if one is empty.

    The mean distance that energies must be moved to turn one distribution into the other: robust for small samples, without bins.
    """
    from scipy.stats import wasserstein_distance  # half a second, which commands that do not need it are spared

    first, second = energies_per_atom(earlier), energies_per_atom(later)
    return float(wasserstein_distance(first, second)) if len(first) and len(second) else None


def discovery(new: Sequence[Atoms], seen: Sequence[Atoms], tolerance: float) -> tuple[int, int]:
    """Return how many distinct structures are in ``new``, and how many of them are not in ``seen``, by their fingerprints."""
    species = sorted({int(z) for atoms in [*new, *seen] for z in atoms.numbers})
    if not new:
        return 0, 0
    prints = fingerprints(new, species)
    energies = [a.info["PRED_energy"] / len(a) for a in new]
    distinct = unique(prints, tolerance, energies).kept
    fresh = unique(prints[distinct], tolerance, known=fingerprints(seen, species) if seen else None).kept
    return len(distinct), len(fresh)


def new_error(labelled: Sequence[Atoms]) -> float | None:
    """Return the root mean square error (eV/atom) of what was predicted for frames before they were fitted; None without any."""
    errors = [
        (a.info["PRED_energy"] - a.info["REF_energy"]) / len(a) for a in labelled if fr.is_labelled(a) and "PRED_energy" in a.info
    ]
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else None


def progress(
    settings: StopSettings,
    relaxed: Sequence[Atoms],
    evaluated: Sequence[Atoms],
    labelled: Sequence[Atoms],
    labelled_before: Sequence[Atoms],
    seen: Sequence[Atoms],
) -> dict[str, Any]:
    """Return the measures of one generation, with the numbers of frames behind them.

    :param relaxed: frames of the relaxations, with the predictions of the potential that drove them.
    :param evaluated: the low end points among them, with those of the potential fitted after them.
    :param labelled: frames of this generation with labels, ``labelled_before``: of the one before.
    :param seen: low end points of all generations before.
    """
    low = low_end_points(relaxed, settings.window)
    distinct, fresh = discovery(low, seen, settings.tolerance)
    ends = ended_frames(labelled)
    return {
        "energy_change": energy_change(low, evaluated),
        "distribution": distribution_change(ended_frames(labelled_before), ends),
        "discovery": fresh / distinct if distinct else None,
        "new_error": new_error(ends),
        "low_minima": distinct,
        "new_minima": fresh,
        "labelled_end_points": len(ends),
    }


def converged(settings: StopSettings, history: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the last ``patience`` generations have all kept all thresholds; what is not known has not been kept."""
    if len(history) < max(settings.patience, settings.at_least):
        return False
    return all(not missed(settings, row) for row in history[-settings.patience :])


def missed(settings: StopSettings, row: Mapping[str, Any]) -> list[str]:
    """Return the criteria that a generation does not meet."""
    return [name for name, limit in settings.thresholds().items() if row.get(name) is None or row[name] > limit]


def describe(settings: StopSettings, row: Mapping[str, Any]) -> str:
    """Say what a generation changed, and what it may."""
    parts = []
    for name, limit in settings.thresholds().items():
        what, unit, factor = CRITERIA[name]
        value = "unknown" if row.get(name) is None else f"{factor * row[name]:.3g}"
        parts.append(f"{what} {value} {unit} (at most {factor * limit:.3g})")
    return "; ".join(parts)
