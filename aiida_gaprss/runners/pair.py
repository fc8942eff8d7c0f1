"""A pair potential as an ASE calculator: powers of the inverse distance, switched off smoothly (uploaded with the job).

E = Σ_i E0(Z_i) + ½ Σ_i Σ_j V_ab(r_ij),  V_ab(r) = S(r) Σ_k A_abk (r0/r)^k, with the switching function S of CHARMM (B. R. Brooks
and others, J. Comput. Chem. 4, 187, 1983) between ``switch`` and ``cutoff``. Nearer than the shortest distance that the potential
was fitted to, V goes on along its tangent: high powers say nothing there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress


def switching(r: np.ndarray, switch: float, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return S(r) and dS/dr: 1 up to ``switch``, 0 from ``cutoff`` on, twice continuous in r² between; shapes as ``r``."""
    inner, outer, square = switch**2, cutoff**2, r**2
    width = (outer - inner) ** 3
    value = (outer - square) ** 2 * (outer + 2 * square - 3 * inner) / width
    slope = 12 * r * (outer - square) * (inner - square) / width
    between = (r > switch) & (r < cutoff)
    return np.where(between, value, np.where(r <= switch, 1.0, 0.0)), np.where(between, slope, 0.0)


def basis(r: np.ndarray, powers: Sequence[int], scale: float, switch: float, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return S(r)(r0/r)^k and its derivative for all powers, shape (len(r), len(powers)) each.

    :param scale: r0, Å.
    """
    k = np.asarray(powers, dtype=float)
    s, ds = switching(r, switch, cutoff)
    terms = (scale / r[:, None]) ** k
    return terms * s[:, None], terms * (ds[:, None] - s[:, None] * k / r[:, None])


def pairs_of(atoms: Atoms, cutoff: float) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]]:
    """Return by pair of atomic numbers, the smaller first: first atoms (ascending), distances, vectors; each pair twice."""
    first, second, distances, vectors = neighbor_list("ijdD", atoms, cutoff)
    kinds = np.sort(np.stack([atoms.numbers[first], atoms.numbers[second]], axis=1), axis=1)
    for a, b in np.unique(kinds, axis=0).tolist():
        mine = (kinds == (a, b)).all(axis=1)
        yield (a, b), first[mine], distances[mine], vectors[mine]


class PairPotential(Calculator):
    """A pair potential from its JSON file or content (see :mod:`aiida_gaprss.models.pair`)."""

    implemented_properties = ["energy", "energies", "free_energy", "forces", "stress"]  # noqa: RUF012  as ASE declares it

    def __init__(self, param_filename: str | None = None, content: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the potential."""
        super().__init__(**kwargs)
        if content is None:
            content = json.loads(Path(str(param_filename)).read_text(encoding="utf-8"))
        self.content = content
        self.cutoff, self.switch = float(content["cutoff_A"]), float(content["switch_A"])
        self.e0 = {str(symbol): float(value) for symbol, value in content["e0_eV"].items()}
        self.pairs = {tuple(sorted(pair["elements"])): pair for pair in content["pairs"]}

    def curve(self, first: str, second: str, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return V(r) and dV/dr of a pair of elements, eV and eV/Å.

        :raises KeyError: for elements that the potential does not know.
        """
        pair = self.pairs[tuple(sorted((first, second)))]
        content, a = self.content, np.asarray(pair["coefficients_eV"], dtype=float)
        nearest = float(pair["shortest_A"])
        value, slope = basis(np.maximum(r, nearest), content["powers"], content["scale_A"], self.switch, self.cutoff)
        v, dv = value @ a, slope @ a
        return v + np.where(r < nearest, dv * (r - nearest), 0.0), dv

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = all_changes) -> None:
        """Compute all properties.

        :raises ValueError: for elements that the potential does not know.
        """
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        assert atoms is not None
        unknown = sorted(set(atoms.get_chemical_symbols()) - set(self.e0))
        if unknown:
            raise ValueError(f"the potential knows {', '.join(self.e0)}, but not {', '.join(unknown)}")
        energies = np.array([self.e0[symbol] for symbol in atoms.get_chemical_symbols()])
        forces, virial = np.zeros((len(atoms), 3)), np.zeros((3, 3))
        for (a, b), first, distances, vectors in pairs_of(atoms, self.cutoff):
            v, dv = self.curve(chemical_symbols[a], chemical_symbols[b], distances)
            push = (dv / distances)[:, None] * vectors  # dE/d(r_j − r_i), each pair being there twice
            np.add.at(energies, first, v / 2)
            np.add.at(forces, first, push)
            virial -= push.T @ vectors / 2
        energy = float(energies.sum())
        self.results = {"energies": energies, "energy": energy, "free_energy": energy, "forces": forces}
        if atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(-virial / atoms.get_volume())
