"""Relax both ends of a hop and the path between them, by a nudged elastic band with a climbing image (uploaded with the job).

G. Henkelman, B. P. Uberuaga and H. Jónsson, J. Chem. Phys. 113, 9901 (2000), with the tangents of G. Henkelman and H. Jónsson,
J. Chem. Phys. 113, 9978 (2000), as ASE has them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.geometry import find_mic
from ase.mep import NEB
from ase.optimize import FIRE
from common import CalculatorTask, stripped
from relax import Distances, GiveUp, Relax, shortest_distances
from status import COLLAPSED, CONVERGED, ENDED, MAX_STEPS, MERGED, NOT_FINITE, STOPPED, TIME_LIMIT

#: The image climbs when the forces on the band are below so many times ``fmax``.
CLIMBS_BELOW = 5

#: Å; of two ends no atom of which is farther apart there is one.
SAME = 0.1

#: Of ``RelaxSettings``, for the ends.
OF_ENDS = {
    "optimizer": "lbfgs",
    "snapshot_steps": [],
    "cell": "fixed",
    "symmetry": "free",
    "volume_factors": (0.2, 4.0),
}


class Band(NEB):
    """Images that share a calculator, which is asked nothing of structures that make no sense."""

    def __init__(self, images: list[Atoms], calculator: Calculator, shortest: np.ndarray, deadline: float) -> None:
        """:param images: with the labels of the two ends; :param shortest: Å, by atomic numbers, see ``Distances``."""
        for image in images[1:-1]:
            image.calc = calculator
        super().__init__(images, method="improvedtangent", allow_shared_calculator=True)
        self.distances = [Distances(shortest, 0.0) for _ in images]
        self.deadline = deadline

    def get_forces(self) -> np.ndarray:
        """Return the forces on the inner images.

        :raises GiveUp: if atoms are too close, a number is not finite, or the time is over.
        """
        if time.time() > self.deadline:
            raise GiveUp(TIME_LIMIT)
        for image, distances in zip(self.images, self.distances, strict=True):
            if not np.isfinite(image.positions).all():
                raise GiveUp(NOT_FINITE)
            if distances.too_close(image):
                raise GiveUp(COLLAPSED)
        forces = np.asarray(super().get_forces())
        if not (np.isfinite(forces).all() and np.isfinite(np.asarray(self.energies)).all()):
            raise GiveUp(NOT_FINITE)
        return forces


class Neb(CalculatorTask):
    """The path of one atom to another place; ``settings`` as in ``NebSettings``."""

    def run(self, atoms: Atoms, deadline: float) -> tuple[str, list[Atoms]]:
        """Return how it ended, and the images in their order with ``step`` 0, 1, …; without a hop the relaxed frame alone."""
        settings = self.settings_of(atoms)
        self.relax = Relax()
        self.relax.use(self.calculator)
        keys = ("fmax", "max_steps", "min_distance", "max_neighbour_distance")
        self.relax.settings = {**OF_ENDS, **{key: settings[key] for key in keys}}
        ends, said = [], []
        for end in ends_of(atoms, settings):
            status, frames = self.relax.run(end, deadline)
            if status == TIME_LIMIT:
                return STOPPED, []
            if status not in ENDED:
                return status, []
            ends += frames
            said.append(status)
        if len(ends) == 1:
            return said[0], self.told(ends, said[0])
        if largest_move(*ends) < SAME:
            return MERGED, []
        try:
            status, images = self.path(ends, settings, deadline)
            status = next((one for one in said if one != CONVERGED), status) if status == CONVERGED else status
            return status, self.told(images, status)
        except GiveUp as reason:
            return str(reason), []

    def path(self, ends: Sequence[Atoms], settings: dict[str, Any], deadline: float) -> tuple[str, list[Atoms]]:
        """Return how the relaxation of a band ended, and its images; first without, then with a climbing one.

        :raises GiveUp: if it was given up.
        """
        images = [known(ends[0]), *(stripped(ends[0]) for _ in range(settings["images"])), known(ends[1])]
        band = Band(images, self.calculator, shortest_distances(settings["min_distance"]), deadline)
        band.interpolate(settings["interpolation"], mic=True)
        left = settings["max_steps"]
        try:
            for band.climb, fmax in ((False, CLIMBS_BELOW * settings["fmax"]), (True, settings["fmax"])):
                optimizer = FIRE(band, logfile=None)
                converged = optimizer.run(fmax=fmax, steps=left)
                left -= optimizer.nsteps
        except GiveUp as reason:
            if str(reason) != TIME_LIMIT:
                raise
            return TIME_LIMIT, images
        return CONVERGED if converged else MAX_STEPS, images

    def told(self, images: Sequence[Atoms], status: str) -> list[Atoms]:
        """Return the images with what the potential says of them."""
        out = [self.relax.snapshot(image, number) for number, image in enumerate(images)]
        for image in out:
            image.info["relax_status"] = status
        return out


def ends_of(atoms: Atoms, settings: dict[str, Any]) -> list[Atoms]:
    """Return the frame, and the frame with the atom at the place that it is to hop to, at its nearest image.

    :raises ValueError: if there is no such atom.
    """
    first, atom = stripped(atoms), settings["atom"]
    if atom is None:
        return [first]
    if atom >= len(atoms):
        raise ValueError(f"atom is {atom}, but the frame has {len(atoms)} atoms, numbered from 0")
    last = stripped(atoms)
    vector, _ = find_mic(np.asarray(settings["to"]) - atoms.positions[atom], atoms.cell, atoms.pbc)
    last.positions[atom] += vector
    return [first, last]


def largest_move(first: Atoms, last: Atoms) -> float:
    """Return how far the atom that moves most does, Å."""
    return float(find_mic(last.positions - first.positions, first.cell, first.pbc)[1].max())


def known(end: Atoms) -> Atoms:
    """Return a relaxed end with what the potential has said of it, which is not asked again."""
    out = stripped(end)
    out.calc = SinglePointCalculator(out, energy=end.info["PRED_energy"], forces=end.arrays["PRED_forces"])
    return out


TASK = Neb()
