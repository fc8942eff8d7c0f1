"""Do the minima that a search has found hold against the reference?

A minimum of a potential holds if the reference agrees with it there: in energy, and in that it leaves no forces and no other
pressure than that of the search. A label of the minimum itself decides; until there is one, whether the potential follows the
label of a frame of the database which is nearly the minimum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.minima import MATCHER, EndPoint
from aiida_gaprss.selection.fingerprints import fingerprints

#: Distance of fingerprints up to which a labelled frame stands for a minimum: silicon strained by 0.002, or shaken by 0.015 Å.
BESIDE = 0.09

#: Distance up to which another label of a minimum would say what there is already: a fifth of that.
SAME_AGAIN = 0.02

#: Frames of other volumes, relative, or of fingerprints further apart are not the same structure, whatever its potential.
SAME_VOLUME, SAME_PRINT = 0.05, 3.0


@dataclass(frozen=True)
class Tolerances:
    """Up to where a potential agrees: eV/atom, eV/Å (largest component), GPa (largest component of the stress)."""

    energy: float = 0.01
    force: float = 0.1
    pressure_GPa: float = 1.0


@dataclass(frozen=True)
class Held:
    """What the reference says of a minimum.

    :param rank: in the order of the potential, from 1.
    :param known: whether the database had this structure before.
    :param judged_by: frame whose label decides; empty, if there is none.
    :param own: whether that is the minimum itself.
    :param energy: predicted minus reference, eV/atom; ``force``: largest component of the difference, eV/Å; ``pressure_GPa``:
        that of the stress, GPa; all of the frame whose label decides, None without one. Where nothing is predicted of that frame
        but the energy of the minimum, differences to a minimum at rest at the pressure of the search.
    :param why: what is out of its tolerance; empty, if the minimum holds.
    """

    rank: int
    frame_id: str
    known: bool
    judged_by: str = ""
    own: bool = False
    energy: float | None = None
    force: float | None = None
    pressure_GPa: float | None = None
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether the reference agrees."""
        return not self.why

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**vars(self), "holds": self.holds}


class Known:
    """The labelled frames of a database, by which minima are known and judged."""

    def __init__(self, frames: Sequence[Atoms], minima: Sequence[Atoms]) -> None:
        """Take the fingerprints of all frames but isolated atoms and dimers.

        :param minima: that will be asked for; their elements count, too.
        """
        self.frames = [a for a in frames if fr.is_labelled(a) and not fr.is_in_vacuum(a)]
        self.points = [EndPoint(_predicted(a), i, 0.0) for i, a in enumerate(self.frames)]
        species = sorted({int(z) for atoms in [*self.frames, *minima] for z in atoms.numbers})
        self.prints = fingerprints(self.frames, species) if self.frames else np.empty((0, 0))
        self.species = species

    def distances(self, minimum: Atoms) -> np.ndarray:
        """Return the distances of fingerprints to all frames, shape (frames,); inf for another composition."""
        if not self.frames:
            return np.empty(0)
        here = fingerprints([minimum], self.species)[0]
        formula = EndPoint(minimum, 0, 0.0).formula
        other = np.array([point.formula != formula for point in self.points])
        return np.where(other, np.inf, np.linalg.norm(self.prints - here, axis=1))

    def beside(self, minimum: Atoms, within: float = BESIDE) -> Atoms | None:
        """Return the labelled frame that stands for a minimum, if there is any within a distance."""
        distances = self.distances(minimum)
        if not len(distances) or distances.min() > within:
            return None
        return self.frames[int(distances.argmin())]

    def has(self, minimum: Atoms) -> bool:
        """Tell whether any frame is the structure of a minimum, but for small strains and displacements."""
        point, distances = EndPoint(minimum, 0, 0.0), self.distances(minimum)
        if len(distances) and distances.min() <= BESIDE:
            return True
        near = [i for i in np.argsort(distances) if distances[i] <= SAME_PRINT]
        return any(_same(point, self.points[int(i)]) for i in near)


def with_predictions(frames: Sequence[Atoms], predictions: Sequence[Atoms]) -> list[Atoms]:
    """Return labelled frames with what one potential says of them, and with nothing of what others have said.

    :param predictions: frames of the same names, as far as the potential was asked.
    """
    told = {atoms.info["frame_id"]: atoms for atoms in predictions}
    out = [atoms.copy() for atoms in frames]
    for atoms in out:
        fr.drop_predictions(atoms)
        if (there := told.get(atoms.info["frame_id"])) is not None:
            fr.take_predictions(atoms, there)
    return out


def _predicted(atoms: Atoms) -> Atoms:
    """Return a frame whose energy counts as predicted, as ``EndPoint`` needs one."""
    out = atoms.copy()
    out.info["PRED_energy"] = fr.energy(atoms)
    return out


def _same(one: EndPoint, two: EndPoint) -> bool:
    if abs(one.volume - two.volume) > SAME_VOLUME * two.volume:
        return False
    return bool(MATCHER.fit(one.structure, two.structure, skip_structure_reduction=True))


def judged(
    rank: int, minimum: Atoms, label: Atoms | None, known: bool, tolerances: Tolerances, pressure_GPa: float = 0.0
) -> Held:
    """Return whether a minimum holds.

    :param minimum: relaxed at a pressure, with what the potential says of it.
    :param label: the same frame with labels, or one that stands for it, with what the potential says of that, if it is known;
        None: there is none, and the minimum does not hold.
    """
    row = Held(rank, str(minimum.info["frame_id"]), known)
    if label is None or not fr.is_labelled(label):
        status = label.info.get("label_status") if label is not None else None
        return replace(row, why=f"no label: {status}" if status else "no label")
    own = label.info["frame_id"] == minimum.info["frame_id"]
    predicted = label if "PRED_energy" in label.info else minimum
    energy = _per_atom(predicted, fr.PREDICTION) - _per_atom(label, fr.REFERENCE)
    force, pressure = _apart(label, pressure_GPa)
    row = replace(row, judged_by=str(label.info["frame_id"]), own=own, energy=energy, force=force, pressure_GPa=pressure)
    return replace(row, why="; ".join(_out_of(row, tolerances)))


def _per_atom(atoms: Atoms, prefix: str) -> float:
    return float(atoms.info[f"{prefix}_energy"]) / len(atoms)


def _apart(label: Atoms, pressure_GPa: float) -> tuple[float | None, float | None]:
    """Return the largest differences in forces (eV/Å) and stress (GPa) of potential and reference; None without such labels.

    :param pressure_GPa: at which a frame of which nothing is predicted counts as at rest.
    """
    forces, virial = label.arrays.get("REF_forces"), label.info.get("REF_virial")
    force = pressure = None
    if forces is not None:
        force = float(np.abs(forces - label.arrays.get("PRED_forces", 0.0)).max())
    if virial is not None:
        volume = label.get_volume()
        at_rest = pressure_GPa * units.GPa * volume * np.eye(3).ravel()
        apart = np.ravel(virial) - np.ravel(label.info.get("PRED_virial", at_rest))
        pressure = float(np.abs(apart).max() / volume / units.GPa)
    return force, pressure


def _out_of(row: Held, tolerances: Tolerances) -> list[str]:
    """Return what is out of its tolerance, in words."""
    out = []
    if row.energy is not None and abs(row.energy) > tolerances.energy:
        out.append(f"energy {1000 * row.energy:+.1f} meV/atom")
    if row.force is not None and row.force > tolerances.force:
        out.append(f"force {row.force:.2f} eV/Å")
    if row.pressure_GPa is not None and row.pressure_GPa > tolerances.pressure_GPa:
        out.append(f"pressure off by {row.pressure_GPa:.1f} GPa")
    return out


def told(verdict: Mapping[str, Any]) -> str:
    """Return in words whether minima hold, and if not, which do not, and why there was no other search.

    :param verdict: ``holds``, ``reason``, ``lowest``, ``holding``, ``own``, ``labels``, and ``minima`` (rows of :class:`Held`).
    """
    number, labels = verdict["lowest"], f"{verdict['labels']} labels"
    all_hold = f"the {number} lowest minima hold" if number > 1 else "the lowest minimum holds"
    if verdict["holds"]:
        beside = number - verdict["own"]
        how = f", {beside} of them by labels of frames beside them" if beside else ""
        return f"{all_hold}{how}; {labels}"
    lost = [row for row in verdict["minima"] if not row["holds"]]
    if not lost:
        return f"{verdict['reason']}: {all_hold}, but the last searches brought new ones; {labels}"
    which = ", ".join(f"{row['rank']} ({row['why']})" for row in lost)
    do_not = f"{len(lost)} do not hold" if len(lost) > 1 else "1 does not hold"
    return f"{verdict['reason']}: of the {number} lowest minima {do_not}: {which}; {labels}"
