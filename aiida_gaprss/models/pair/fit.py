"""Fit a pair potential to energies, forces and virials by linear least squares.

E = Σ E0 + Σ_pairs V(r) with V a sum of powers of 1/r (A. Kruglov, lecture on training for global optimisation; k = 1…15),
evaluated by :class:`aiida_gaprss.runners.pair.PairPotential`. Nothing is optimised but linear coefficients, so that the result is
the only one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from pydantic import Field, model_validator

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.errors import Errors, errors
from aiida_gaprss.runners.common import CalculatorTask
from aiida_gaprss.runners.pair import PairPotential, basis, pairs_of
from aiida_gaprss.settings.model import Count, Length, Model, Positive

#: Singular values smaller than this, relative to the largest, are left out: powers are much alike.
RCOND = 1e-13
#: Rows of the equations that are taken together before they are made triangular.
ROWS = 20_000


class PairFitError(ValueError):
    """Frames that no pair potential can be fitted to."""


class PairSettings(Model):
    """Settings of a pair potential."""

    family: Literal["pair"] = "pair"
    cutoff: Length = Field(6.0, description="Å; beyond it there is no interaction")
    switch: Length | None = Field(None, description="Å; where it begins to be switched off; default: 0.66 of the cutoff")
    powers: list[Count] = Field(default_factory=lambda: list(range(1, 16)), min_length=1, description="k of the terms 1/r^k")
    sigma_energy: Positive = Field(0.01, description="expected error, eV/atom")
    sigma_forces: Positive = Field(0.1, description="expected error, eV/Å")
    sigma_virial: Positive = Field(0.1, description="expected error, eV/atom")

    @property
    def switch_A(self) -> float:
        """Where the interaction begins to be switched off, Å."""
        return 0.66 * self.cutoff if self.switch is None else self.switch

    @model_validator(mode="after")
    def _order(self) -> PairSettings:
        if self.switch_A >= self.cutoff:
            raise ValueError(f"switch: {self.switch_A:g} Å, expected less than the cutoff of {self.cutoff:g} Å")
        if len(set(self.powers)) < len(self.powers):
            raise ValueError(f"powers: {self.powers}, expected each once")
        return self


@dataclass(frozen=True)
class PairFit:
    """A fitted pair potential."""

    content: dict[str, Any]  #: of its JSON file
    eta: float | None  #: ⟨E_pairs⟩/⟨E⟩ of the training set, relative to isolated atoms; None if an element has none there
    errors: Errors  #: of the training set

    def calculator(self) -> PairPotential:
        """Return an ASE calculator."""
        return PairPotential(content=self.content)


class _Equations:
    """The equations of all frames: columns are isolated atoms, then the powers of every pair of elements."""

    def __init__(self, symbols: Sequence[str], settings: PairSettings, scale: float, isolated: Mapping[str, float]) -> None:
        self.numbers = [atomic_numbers[symbol] for symbol in symbols]
        self.known = np.array([isolated.get(symbol, 0.0) for symbol in symbols])  # E0 of these is not fitted
        self.free = np.array([symbol not in isolated for symbol in symbols])
        self.pairs = list(combinations_with_replacement(self.numbers, 2))
        self.settings, self.scale = settings, scale
        self.width = len(settings.powers)
        self.shortest = dict.fromkeys(self.pairs, settings.cutoff)
        self.rows: list[np.ndarray] = []
        self.waiting = 0

    def terms(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return energy, forces and virial of every column: shapes (columns,), (natoms, 3, columns), (9, columns)."""
        n, columns = len(atoms), len(self.numbers) + len(self.pairs) * self.width
        energy, forces, virial = np.zeros(columns), np.zeros((n, 3, columns)), np.zeros((9, columns))
        energy[: len(self.numbers)] = [(atoms.numbers == z).sum() for z in self.numbers]
        for pair, first, distances, vectors in pairs_of(atoms, self.settings.cutoff):
            start = len(self.numbers) + self.pairs.index(pair) * self.width
            at = slice(start, start + self.width)
            self.shortest[pair] = min(self.shortest[pair], float(distances.min()))
            value, slope = basis(distances, self.settings.powers, self.scale, self.settings.switch_A, self.settings.cutoff)
            energy[at] = value.sum(axis=0) / 2
            push = slope[:, None, :] * (vectors / distances[:, None])[:, :, None]
            owners, starts = np.unique(first, return_index=True)
            forces[owners, :, at] = np.add.reduceat(push, starts, axis=0)
            virial[:, at] = -np.einsum("nak,nb->abk", push, vectors).reshape(9, -1) / 2
        return energy, forces, virial

    def add(self, atoms: Atoms) -> None:
        """Add the labels of a frame."""
        energy, forces, virial = self.terms(atoms)
        s, n = self.settings, len(atoms)
        counts = energy[: len(self.numbers)].copy()
        energy[: len(self.numbers)] *= self.free
        for name, columns, sigma in (
            ("energy", energy[None] / n, s.sigma_energy),
            ("forces", forces.reshape(3 * n, -1), s.sigma_forces),
            ("virial", virial / n, s.sigma_virial),
        ):
            store = atoms.arrays if name == "forces" else atoms.info
            if f"{fr.REFERENCE}_{name}" in store:
                label = np.ravel(store[f"{fr.REFERENCE}_{name}"]) / (1 if name == "forces" else n)
                label = label - (counts @ self.known / n if name == "energy" else 0.0)
                self.rows.append(np.column_stack([columns, label]) / sigma)
                self.waiting += len(label)
        if self.waiting > ROWS:
            self._triangular()

    def _triangular(self) -> None:
        self.rows = [np.asarray(np.linalg.qr(np.concatenate(self.rows), mode="r"))]
        self.waiting = 0

    def solved(self) -> np.ndarray:
        """Return the coefficients; those of pairs that no frame has are 0."""
        table = np.concatenate(self.rows)
        size = np.linalg.norm(table[:, :-1], axis=0)
        used = size > 0
        out = np.zeros(len(size))
        out[used] = np.linalg.lstsq(table[:, :-1][:, used] / size[used], table[:, -1], rcond=RCOND)[0] / size[used]
        out[: len(self.numbers)] += self.known
        return out


def fit_pairs(frames: Sequence[Atoms], settings: PairSettings | None = None) -> PairFit:
    """Fit a pair potential to labelled frames.

    E0 is the energy of the isolated atom; of an element without one it is what fits best, and then there is no η.

    :param frames: with ``REF_energy`` (eV), ``REF_forces`` (eV/Å), ``REF_virial`` (eV), as far as they have them.
    :raises PairFitError: if no frame has an energy, or no two atoms are within the cutoff.
    :raises FrameError: for a frame that must not be fitted, as one with a label that is no finite number.
    """
    settings = settings or PairSettings()
    known = [atoms for atoms in frames if fr.is_labelled(atoms)]
    symbols = sorted({symbol for atoms in known for symbol in atoms.get_chemical_symbols()}, key=lambda s: atomic_numbers[s])
    if not known:
        raise PairFitError("no frame has an energy")
    isolated = _isolated(known)
    equations = _Equations(symbols, settings, settings.cutoff / 2, isolated)
    for number, atoms in enumerate(known):
        fr.check(atoms, f"frame {atoms.info.get('frame_id', number)}")
        equations.add(atoms)
    if min(equations.shortest.values()) >= settings.cutoff:
        raise PairFitError(f"no two atoms are nearer than the cutoff of {settings.cutoff:g} Å")
    found = equations.solved()
    content = _content(equations, found, symbols)
    return _judged(content, known, all(symbol in isolated for symbol in symbols))


def _content(equations: _Equations, found: np.ndarray, symbols: Sequence[str]) -> dict[str, Any]:
    settings, n = equations.settings, len(symbols)
    return {
        "kind": "pair potential",
        "cutoff_A": settings.cutoff,
        "switch_A": settings.switch_A,
        "scale_A": equations.scale,
        "powers": list(settings.powers),
        "e0_eV": {symbol: float(value) for symbol, value in zip(symbols, found, strict=False)},
        "pairs": [
            {
                "elements": [chemical_symbols[a], chemical_symbols[b]],
                "shortest_A": equations.shortest[a, b],
                "coefficients_eV": found[n + place * equations.width : n + (place + 1) * equations.width].tolist(),
            }
            for place, (a, b) in enumerate(equations.pairs)
        ],
    }


def _isolated(frames: Sequence[Atoms]) -> dict[str, float]:
    return {atoms.symbols[0]: float(atoms.info[f"{fr.REFERENCE}_energy"]) for atoms in frames if fr.is_isolated_atom(atoms)}


def _judged(content: dict[str, Any], frames: Sequence[Atoms], has_zero: bool) -> PairFit:
    """Return the fit with its errors, and the part of the cohesive energy that is that of pairs."""
    task = CalculatorTask()
    task.use(PairPotential(content=content))
    known, parts = [], []
    for atoms in frames:
        predicted = task.single_point(atoms, fr.PREDICTION)
        out = atoms.copy()
        out.info.update(predicted.info)
        out.arrays.update(predicted.arrays)
        known.append(out)
        if not fr.is_isolated_atom(atoms):
            own = sum(content["e0_eV"][symbol] for symbol in atoms.get_chemical_symbols())
            parts.append((out.info[f"{fr.PREDICTION}_energy"] - own, atoms.info[f"{fr.REFERENCE}_energy"] - own))
    eta = float(np.divide(*np.sum(parts, axis=0))) if parts and has_zero else None
    return PairFit(content, eta, errors(known))
