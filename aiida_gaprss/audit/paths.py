"""Energies of neighbouring frames against the work of forces and virials between them: no model at all.

Between two frames of the same atoms in the same order, along the straight line that joins their fractional coordinates s and
cells h, the energy changes by dE = −Σ_i F_i·(ds_i h) − W:(h⁻¹ dh), with the virial W = −∂E/∂ε. The trapezoidal rule with the
labels of both ends is exact for harmonic motion, so thermal displacements of a few tenths of an Å are still near enough.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from aiida_gaprss.frames import REFERENCE

#: Neighbours per frame; largest displacement of an atom, Å, and largest strain component of a pair.
NEIGHBOURS, DISPLACEMENT, STRAIN = 4, 1.0, 0.2
#: Frames of the same atoms that are compared with each other; more are thinned evenly.
GROUP = 600
#: Noise of energies, eV/atom, and parts of what two ends of a path differ by that the trapezoidal rule may be wrong by.
NOISE, CURVED = np.geomspace(1e-6, 3.0, 27), np.array([0.01, 0.03, 0.1, 0.3])


@dataclass(frozen=True)
class Paths:
    """Pairs of frames, shape (n, 2), and per atom in eV: energy differences, and work by the labels of either end (n, 2).

    ``work_forces`` and ``work_virial`` are what the change of energy would be if the labels of one end held along the way;
    ``work_pressure`` is the same for an isotropic virial of 1 eV/atom at both ends.
    """

    pairs: np.ndarray
    energy: np.ndarray
    work_forces: np.ndarray
    work_virial: np.ndarray
    work_pressure: np.ndarray

    def __len__(self) -> int:
        return len(self.pairs)

    def select(self, mask: np.ndarray) -> Paths:
        """Return some of the pairs."""
        return Paths(
            *(values[mask] for values in (self.pairs, self.energy, self.work_forces, self.work_virial, self.work_pressure))
        )

    @property
    def work(self) -> np.ndarray:
        """Change of energy by the trapezoidal rule."""
        return (self.work_forces + self.work_virial).mean(axis=1)

    @property
    def curvature(self) -> np.ndarray:
        """By how much the two ends differ, which bounds the error of the rule."""
        return np.abs(np.diff(self.work_forces, axis=1)[:, 0]) + np.abs(np.diff(self.work_virial, axis=1)[:, 0])

    def with_other(self, kind: str, factor: float) -> Paths:
        """Return the same pairs if labels of ``kind`` were ``factor`` times as large."""
        key = "work_forces" if kind == "forces" else "work_virial"
        return replace(self, **{key: getattr(self, key) * factor})

    @property
    def n_independent(self) -> int:
        """Number of energy differences that do not follow from others."""
        return min(len(self), len(np.unique(self.pairs)) - 1) if len(self) else 0

    def likelihood(self, more: np.ndarray | float = 0.0) -> tuple[float, np.ndarray]:
        """Return how well the work explains the energy differences, in nats per pair, and the error that each pair may have.

        What is left over is taken as noise: of the energies, the same for all pairs, and a part of what the two ends differ by.
        Both are as large as explains the data best, so that labels which are right are not refuted by noisy energies, whatever
        their noise is. Student's t distribution with three degrees of freedom forgives single jumps, as those of a basis set.

        :param more: work in addition, eV/atom.
        """
        left = np.abs(self.energy - self.work - more)
        noise = NOISE[None, :, None]
        error = np.sqrt(noise**2 + (CURVED[:, None, None] * self.curvature) ** 2)
        mean = (-np.log(error) - 2 * np.log1p((left / error) ** 2 / 3)).mean(axis=2)
        best = np.unravel_index(int(mean.argmax()), mean.shape)
        return float(mean[best]), error[best[0], best[1]]

    def misfit(self) -> np.ndarray:
        """Return per pair |ΔE − work| / (|ΔE| + |work|): near 0 if labels agree, 1 for a wrong sign or a wrong unit."""
        return np.abs(self.energy - self.work) / (np.abs(self.energy) + np.abs(self.work) + 1e-4)


def find_paths(frames: Sequence[Atoms]) -> Paths:
    """Return the paths between each frame and its nearest neighbours with energies and forces.

    Pairs whose cells differ are left out if a virial is missing.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, atoms in enumerate(frames):
        if f"{REFERENCE}_energy" in atoms.info and f"{REFERENCE}_forces" in atoms.arrays:
            groups[tuple(int(z) for z in atoms.numbers)].append(index)
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    for members in groups.values():
        thinned = members[:: -(-len(members) // GROUP)]
        for first, second in _near(thinned, frames):
            if (first, second) not in found:
                work = _work(frames[first], frames[second])
                if work is not None:
                    found[first, second] = work
    table = np.array(list(found.values()), dtype=float).reshape(-1, 6)
    return Paths(np.array(list(found), dtype=int).reshape(-1, 2), table[:, 0], table[:, 1:3], table[:, 3:5], table[:, 5])


def _near(members: list[int], frames: Sequence[Atoms]) -> list[tuple[int, int]]:
    if len(members) < 2:
        return []
    cells = np.array([frames[i].cell.array for i in members])
    scaled = np.array([frames[i].get_scaled_positions(wrap=False) for i in members])
    size = np.cbrt(np.abs(np.linalg.det(cells[0])) / scaled.shape[1])
    pairs = []
    for position, index in enumerate(members):
        strain = np.abs(np.linalg.solve(cells[position], cells) - np.eye(3)).max(axis=(1, 2))
        shift = (_shortest(scaled - scaled[position])) @ cells[position]
        length = np.sqrt((shift**2).sum(axis=2))
        distance = np.sqrt((length**2).mean(axis=1)) + strain * size
        near = (length.max(axis=1) < DISPLACEMENT) & (strain < STRAIN) & (distance > 1e-4)
        near[position] = False
        candidates = np.flatnonzero(near)
        for other in candidates[np.argsort(distance[candidates], kind="stable")][:NEIGHBOURS]:
            pairs.append((min(index, members[other]), max(index, members[other])))
    return pairs


def _shortest(difference: np.ndarray) -> np.ndarray:
    """Return differences of fractional coordinates over the nearest images."""
    return difference - np.round(difference)


def _work(first: Atoms, second: Atoms) -> tuple[float, ...] | None:
    n, cells = len(first), (first.cell.array, second.cell.array)
    shift = _shortest(second.get_scaled_positions(wrap=False) - first.get_scaled_positions(wrap=False))
    shift -= shift.mean(axis=0)  # moving all atoms costs nothing, whatever the net force
    strains = [np.linalg.solve(cell, cells[1] - cells[0]) for cell in cells]
    forces = [
        -(atoms.arrays[f"{REFERENCE}_forces"] * (shift @ cell)).sum() / n
        for atoms, cell in zip((first, second), cells, strict=True)
    ]
    virial = [0.0, 0.0]
    if np.abs(strains[0]).max() > 1e-6:
        labels = [atoms.info.get(f"{REFERENCE}_virial") for atoms in (first, second)]
        if any(label is None for label in labels):
            return None
        virial = [
            -(np.asarray(label, dtype=float).reshape(3, 3) * strain).sum() / n
            for label, strain in zip(labels, strains, strict=True)
        ]
    energy = (second.info[f"{REFERENCE}_energy"] - first.info[f"{REFERENCE}_energy"]) / n
    return energy, *forces, *virial, -float(np.mean([np.trace(strain) for strain in strains]))
