"""One linear model fitted robustly to energies, forces and virials together.

Labels that belong together are explained together: the three kinds determine the same coefficients, so a kind with the wrong
sign or unit cannot be fitted beside the other two. Every kind has the same weight in the fit, every frame of a kind a weight
that falls with the size of its labels (a constant relative error), and all numbers are out of sample: the frames are dealt to
five folds, each of which is predicted by the fit to the others.

Beside the terms of the basis there is one constant per element for the energies, and one for the isotropic part of the virials:
the latter is zero in a converged calculation and takes up the Pulay stress of a basis that is too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from aiida_gaprss.analysis.errors import per_atom
from aiida_gaprss.audit.descriptors import Basis, Terms
from aiida_gaprss.frames import REFERENCE

FOLDS = 5
KINDS = ("energy", "forces", "virial")
#: Ridge, relative to the scaled normal matrix; the one that predicts best is taken.
RIDGES = (1e-3, 1e-5, 1e-7)
_ISOTROPIC = np.eye(3).ravel()


def least_absolute(x: np.ndarray, y: np.ndarray, steps: int = 30) -> np.ndarray:
    """Return the coefficients c that minimise Σ|y − x c|, by iteratively reweighted least squares."""
    weight = np.ones(len(y))
    coefficients = np.zeros(x.shape[1])
    for _ in range(steps):
        coefficients = np.linalg.lstsq(x * weight[:, None], y * weight, rcond=None)[0]
        residual = np.abs(y - x @ coefficients)
        weight = 1 / np.sqrt(np.maximum(residual, 1e-3 * np.median(residual) + 1e-9))
    return coefficients


def label_rows(atoms: Atoms, kind: str) -> np.ndarray | None:
    """Return a label as the model has it, or None: energy (1,) and virial (9,) per atom in eV, forces (3n,) in eV/Å."""
    rows = per_atom(atoms, kind, REFERENCE)
    return voigt_6_to_full_3x3_stress(rows).ravel() if rows is not None and kind == "virial" else rows


@dataclass(frozen=True)
class Block:
    """Rows of one kind of label: matrix (rows, columns), frame of every row, rows per frame."""

    x: np.ndarray
    frame: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Fit:
    """Coefficients per fold, out-of-sample predictions, and unexplained fraction per kind."""

    ridge: float
    coefficients: np.ndarray
    predicted: dict[str, np.ndarray]
    unexplained: dict[str, float]

    @property
    def score(self) -> float:
        """Mean over the kinds of log10 of the unexplained fraction: the lower, the better."""
        return float(np.mean([np.log10(max(u, 1e-4)) for u in self.unexplained.values()]))


class LinearModel:
    """The frames to which the model is fitted, as matrices; labels are given to each fit, so that they can be altered."""

    def __init__(self, frames: Sequence[Atoms], basis: Basis, seed: int = 0) -> None:
        """Compute the terms of all frames."""
        self.basis = basis
        self.n_frames = len(frames)
        self.n_atoms = np.array([len(a) for a in frames], dtype=float)
        self.volume = np.array([abs(a.cell.volume) for a in frames])
        self.fold = np.random.default_rng(seed).permutation(len(frames)) % FOLDS
        fractions = np.array([self._fractions(a) for a in frames])
        terms = [basis.terms(a) for a in frames]
        # Without what the composition explains, energies and pressures of alike cells are well conditioned.
        energies = np.array([t.energy for t in terms]) / self.n_atoms[:, None]
        pressures = np.array([t.virial[[0, 4, 8]].mean(axis=0) for t in terms]) / self.n_atoms[:, None]
        self._energy_of_composition = np.linalg.lstsq(fractions, energies, rcond=None)[0]
        self._pressure_of_composition = np.linalg.lstsq(fractions, pressures, rcond=None)[0]
        self.labels: dict[str, np.ndarray] = {}
        self.blocks: dict[str, Block] = {}
        for kind in KINDS:
            have = [(i, rows) for i, a in enumerate(frames) if (rows := label_rows(a, kind)) is not None]
            if have:
                x = np.concatenate([self.rows(frames[i], terms[i], kind) for i, _ in have])
                owner = np.concatenate([np.full(len(rows), i) for i, rows in have])
                self.blocks[kind] = Block(x, owner, np.bincount(owner, minlength=len(frames)).astype(float))
                self.labels[kind] = np.concatenate([rows for _, rows in have])

    @property
    def n_elements(self) -> int:
        """Number of elements."""
        return len(self.basis.species)

    def _fractions(self, atoms: Atoms) -> np.ndarray:
        return np.array([(atoms.numbers == z).sum() for z in self.basis.species], dtype=float) / len(atoms)

    def rows(self, atoms: Atoms, terms: Terms, kind: str) -> np.ndarray:
        """Return the rows of a frame: columns are energy per element, pressure per element, terms."""
        n, fractions = len(atoms), self._fractions(atoms)
        if kind == "forces":
            return np.concatenate([np.zeros((3 * n, 2 * self.n_elements)), terms.forces], axis=1)
        if kind == "energy":
            own = terms.energy / n - fractions @ self._energy_of_composition
            return np.concatenate([fractions, np.zeros(self.n_elements), own])[None]
        isotropic = np.outer(_ISOTROPIC, fractions)
        own = terms.virial / n - isotropic @ self._pressure_of_composition
        return np.concatenate([np.zeros((9, self.n_elements)), isotropic, own], axis=1)

    def pressure_constants(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the isotropic virial (eV/atom) per element that no energy accounts for, per fold: (folds, elements)."""
        n = self.n_elements
        return coefficients[:, n : 2 * n] - coefficients[:, 2 * n :] @ self._pressure_of_composition.T

    def mean(self, kind: str, values: np.ndarray) -> np.ndarray:
        """Return the mean of row values per frame; 0 for frames without this kind."""
        block = self.blocks[kind]
        return np.bincount(block.frame, values, minlength=self.n_frames) / np.maximum(block.count, 1)

    def has(self, kind: str) -> np.ndarray:
        """Tell which frames have labels of a kind."""
        return self.blocks[kind].count > 0

    def centred(self, kind: str, rows: np.ndarray) -> np.ndarray:
        """Return row values relative to what the composition explains; forces as they are."""
        if kind == "forces":
            return rows
        x = self.blocks[kind].x[:, : 2 * self.n_elements]
        used = np.abs(x).max(axis=1) > 0
        return np.asarray(rows - x @ least_absolute(x[used], rows[used]))

    def size(self, kind: str, labels: np.ndarray) -> np.ndarray:
        """Return the mean square of the labels per frame, energies and pressures relative to their composition's."""
        return self.mean(kind, self.centred(kind, labels) ** 2)

    def scale(self, kind: str, labels: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the size of the labels per frame, and its median, the square below which errors are absolute."""
        size = self.size(kind, labels)
        positive = size[self.has(kind) & (size > 1e-14)]
        return size, float(np.median(positive)) if len(positive) else 1.0

    def fit(
        self,
        labels: Mapping[str, np.ndarray],
        weights: Mapping[str, np.ndarray] | None = None,
        ridges: Sequence[float] = RIDGES,
    ) -> Fit:
        """Fit to ``labels`` (rows, by kind) and predict every fold from the others.

        :param weights: by kind, one per frame; by default as the module's text says.
        """
        scales = {kind: self.scale(kind, labels[kind]) for kind in labels}
        weight = self._normalised(scales, weights)
        best: Fit | None = None
        for ridge, coefficients in self._solve(labels, weight, ridges):
            predicted, unexplained = {}, {}
            for kind, (size, typical) in scales.items():
                predicted[kind] = self.predict(kind, coefficients)
                error = self.mean(kind, (labels[kind] - predicted[kind]) ** 2)
                unexplained[kind] = float((weight[kind] * np.minimum(error, 4 * (typical + size))).sum())
            fit = Fit(ridge, coefficients, predicted, unexplained)
            if best is None or fit.score < best.score:
                best = fit
        assert best is not None
        return best

    def _normalised(
        self, scales: Mapping[str, tuple[np.ndarray, float]], weights: Mapping[str, np.ndarray] | None
    ) -> dict[str, np.ndarray]:
        """Return weights per frame with which every kind of label has the same total weighted square."""
        weight: dict[str, np.ndarray] = {}
        for kind, (size, typical) in scales.items():
            given = np.where(self.has(kind), 1 / (typical + size), 0.0) if weights is None else weights[kind]
            weight[kind] = given / max(float((given * size).sum()), 1e-300)
        return weight

    def need_of_pressure(self, labels: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> float:
        """Return how many times more of the virials is unexplained if their constants per element must be zero."""
        fit = self.fit(labels, weights)
        weight = self._normalised({kind: self.scale(kind, labels[kind]) for kind in labels}, weights)
        n, x = self.n_elements, self.blocks["virial"].x.copy()
        x[:, 2 * n :] += x[:, n : 2 * n] @ self._pressure_of_composition
        x[:, n : 2 * n] = 0.0
        without = copy(self)
        without.blocks = {**self.blocks, "virial": replace(self.blocks["virial"], x=x)}
        errors: list[float] = []
        for coefficients in (fit.coefficients, without._solve(labels, weight, (fit.ridge,))[0][1]):
            model = self if not errors else without
            error = self.mean("virial", (labels["virial"] - model.predict("virial", coefficients)) ** 2)
            errors.append(float((weight["virial"] * error).sum()))
        return errors[1] / max(errors[0], 1e-300)

    def _solve(
        self, labels: Mapping[str, np.ndarray], weight: Mapping[str, np.ndarray], ridges: Sequence[float]
    ) -> list[tuple[float, np.ndarray]]:
        size = 2 * self.n_elements + self.basis.size
        matrix, right = np.zeros((FOLDS, size, size)), np.zeros((FOLDS, size))
        for kind in labels:
            block = self.blocks[kind]
            row_weight = (weight[kind] / np.maximum(block.count, 1))[block.frame]
            fold = self.fold[block.frame]
            for number in range(FOLDS):
                mine = fold == number
                x = block.x[mine]
                weighted = x * row_weight[mine][:, None]
                matrix[number] += weighted.T @ x
                right[number] += weighted.T @ labels[kind][mine]
        total, all_right = matrix.sum(axis=0), right.sum(axis=0)
        scale = np.sqrt(np.diag(total))
        scale[scale == 0] = 1.0
        normal = (total - matrix) / np.outer(scale, scale)
        found = []
        for ridge in ridges:
            penalty = np.full(size, ridge)
            penalty[: 2 * self.n_elements] = 1e-9
            found.append((ridge, np.linalg.solve(normal + np.diag(penalty), (all_right - right) / scale) / scale))
        return found

    def predict(self, kind: str, coefficients: np.ndarray) -> np.ndarray:
        """Return the rows of a kind, each frame predicted by the coefficients that have not seen it."""
        block = self.blocks[kind]
        out = np.zeros(len(block.x))
        fold = self.fold[block.frame]
        for number in range(FOLDS):
            mine = fold == number
            out[mine] = block.x[mine] @ coefficients[number]
        return out

    def robust_fit(self, labels: Mapping[str, np.ndarray], steps: int = 6) -> Fit:
        """Fit with weights that leave out frames which do not fit (iteratively reweighted, Cauchy weights).

        A frame's squared error is measured against that of the median frame, which may grow with the size of what is predicted.
        """
        scales = {kind: self.scale(kind, labels[kind]) for kind in labels}
        weights = {kind: np.where(self.has(kind), 1 / (typical + size), 0.0) for kind, (size, typical) in scales.items()}
        fit = self.fit(labels)
        for _ in range(steps):
            for kind, (_, typical) in scales.items():
                have = self.has(kind)
                error = self.mean(kind, (labels[kind] - fit.predicted[kind]) ** 2)
                allowed = typical + self.size(kind, fit.predicted[kind])
                relative = error / allowed
                weights[kind] = np.where(have, 1 / allowed / (1 + relative / (9 * np.median(relative[have]) + 1e-30)), 0.0)
            candidates = [self.fit(labels, weights, (ridge,)) for ridge in RIDGES]
            fit = min(candidates, key=lambda f: sum(np.log(self.noise(k, labels[k], f, scales[k][1]) + 1e-12) for k in labels))
        return fit

    def noise(self, kind: str, labels: np.ndarray, fit: Fit, typical: float) -> float:
        """Return the median over the frames of the squared error, relative to ``typical`` plus the size of the prediction.

        Labels that symmetry makes zero say nothing of it.
        """
        error = self.mean(kind, (labels - fit.predicted[kind]) ** 2)
        counts = self.has(kind) & (self.size(kind, labels) > 1e-6 * typical)
        return float(
            np.median((error / (typical + self.size(kind, fit.predicted[kind])))[counts if counts.any() else self.has(kind)])
        )
