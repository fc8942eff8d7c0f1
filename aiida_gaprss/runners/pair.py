"""A pair potential: powers of the inverse distance, switched off smoothly: an ASE calculator and a fit (uploaded with the job).

E = Σ_i E0(Z_i) + ½ Σ_i Σ_j V_ab(r_ij),  V_ab(r) = S(r) Σ_k A_abk (r0/r)^k, with the switching function S of CHARMM (B. R. Brooks
and others, J. Comput. Chem. 4, 187, 1983) between ``switch`` and ``cutoff``. Nearer than the shortest distance that the potential
was fitted to, V goes on along its tangent: high powers say nothing there.

Called as ``python pair.py fit.in``, it fits one by linear least squares (A. Kruglov, lecture on training for global optimisation;
k = 1…15) to the frames that the file names, and says in one line of JSON what it has used. Nothing is optimised but linear
coefficients, so that the result is the only one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers, chemical_symbols
from ase.io import read
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress

#: Singular values smaller than this, relative to the largest, are left out: powers are much alike.
RCOND = 1e-13
#: Rows of the equations that are taken together before they are made triangular.
ROWS = 20_000


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


class Equations:
    """The equations of all frames: columns are isolated atoms, then the powers of every pair of elements."""

    def __init__(self, symbols: Sequence[str], options: Mapping[str, Any]) -> None:
        """Begin without any.

        :param symbols: in the order of atomic numbers; ``options``: see :func:`fit`.
        """
        self.numbers = [atomic_numbers[symbol] for symbol in symbols]
        known = options["e0"]
        self.known = np.array([known.get(symbol, 0.0) for symbol in symbols])  # E0 of these is not fitted
        self.free = np.array([symbol not in known for symbol in symbols])
        self.pairs = list(combinations_with_replacement(self.numbers, 2))
        self.options, self.width = options, len(options["powers"])
        self.scale = options["cutoff"] / 2
        self.shortest = dict.fromkeys(self.pairs, options["cutoff"])
        self.rows: list[np.ndarray] = []
        self.waiting = 0
        self.energies: list[tuple[np.ndarray, float]] = []  #: columns and energy of every frame that is no isolated atom
        self.used = {"energies": 0, "forces": 0, "virials": 0}

    def terms(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return energy, forces and virial of every column: shapes (columns,), (natoms, 3, columns), (9, columns)."""
        n, columns = len(atoms), len(self.numbers) + len(self.pairs) * self.width
        energy, forces, virial = np.zeros(columns), np.zeros((n, 3, columns)), np.zeros((9, columns))
        energy[: len(self.numbers)] = [(atoms.numbers == z).sum() for z in self.numbers]
        o = self.options
        for pair, first, distances, vectors in pairs_of(atoms, o["cutoff"]):
            start = len(self.numbers) + self.pairs.index(pair) * self.width
            at = slice(start, start + self.width)
            self.shortest[pair] = min(self.shortest[pair], float(distances.min()))
            value, slope = basis(distances, o["powers"], self.scale, o["switch"], o["cutoff"])
            energy[at] = value.sum(axis=0) / 2
            push = slope[:, None, :] * (vectors / distances[:, None])[:, :, None]
            owners, starts = np.unique(first, return_index=True)
            forces[owners, :, at] = np.add.reduceat(push, starts, axis=0)
            virial[:, at] = -np.einsum("nak,nb->abk", push, vectors).reshape(9, -1) / 2
        return energy, forces, virial

    def add(self, atoms: Atoms) -> None:
        """Add the labels of a frame."""
        energy, forces, virial = self.terms(atoms)
        if len(atoms) > 1 or energy[len(self.numbers) :].any():
            self.energies.append((energy.copy(), float(atoms.info["REF_energy"])))
        sigma, n = self.options["sigma"], len(atoms)
        counts = energy[: len(self.numbers)].copy()
        energy[: len(self.numbers)] *= self.free
        for name, columns in (("energy", energy[None] / n), ("forces", forces.reshape(3 * n, -1)), ("virial", virial / n)):
            store = atoms.arrays if name == "forces" else atoms.info
            if f"REF_{name}" in store:
                label = np.ravel(store[f"REF_{name}"]) / (1 if name == "forces" else n)
                label = label - (counts @ self.known / n if name == "energy" else 0.0)
                self.rows.append(np.column_stack([columns, label]) / sigma[name])
                self.waiting += len(label)
                self.used[{"energy": "energies", "virial": "virials"}.get(name, name)] += 6 if name == "virial" else len(label)
        if self.waiting > ROWS:
            self.rows = [np.asarray(np.linalg.qr(np.concatenate(self.rows), mode="r"))]
            self.waiting = 0

    def solved(self) -> tuple[np.ndarray, int]:
        """Return the coefficients, those of pairs that no frame has being 0, and the rank of the equations."""
        table = np.concatenate(self.rows)
        size = np.linalg.norm(table[:, :-1], axis=0)
        used = size > 0
        out = np.zeros(len(size))
        found, _, rank, _ = np.linalg.lstsq(table[:, :-1][:, used] / size[used], table[:, -1], rcond=RCOND)
        out[used] = found / size[used]
        out[: len(self.numbers)] += self.known
        return out, int(rank)

    def eta(self, found: np.ndarray) -> float | None:
        """Return ⟨E_pairs⟩/⟨E⟩ of all frames, relative to isolated atoms; None if these were fitted."""
        if self.free.any() or not self.energies:
            return None
        own = len(self.numbers)
        parts = [(columns[own:] @ found[own:], energy - columns[:own] @ found[:own]) for columns, energy in self.energies]
        return float(np.divide(*np.sum(parts, axis=0)))


def fit(frames: Sequence[Atoms], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fit a pair potential; return the content of its file, and what was used.

    :param frames: with ``REF_energy`` (eV), and ``REF_forces`` (eV/Å), ``REF_virial`` (eV) as far as they have them.
    :param options: ``cutoff`` and ``switch`` (Å), ``powers``, ``sigma`` (``energy`` and ``virial`` per atom, ``forces``), and
        ``e0`` (eV by symbol), energies of isolated atoms, which are fitted where they are not given.
    :raises ValueError: if no two atoms are within the cutoff.
    """
    symbols = sorted({s for atoms in frames for s in atoms.get_chemical_symbols()}, key=lambda s: atomic_numbers[s])
    equations = Equations(symbols, options)
    for atoms in frames:
        equations.add(atoms)
    if min(equations.shortest.values()) >= options["cutoff"]:
        raise ValueError(f"no two atoms are nearer than the cutoff of {options['cutoff']:g} Å")
    found, rank = equations.solved()
    n, width = len(symbols), equations.width
    content = {
        "kind": "pair potential",
        "cutoff_A": options["cutoff"],
        "switch_A": options["switch"],
        "scale_A": equations.scale,
        "powers": list(options["powers"]),
        "e0_eV": dict(zip(symbols, found[:n].tolist(), strict=True)),
        "pairs": [
            {
                "elements": [chemical_symbols[a], chemical_symbols[b]],
                "shortest_A": equations.shortest[a, b],
                "coefficients_eV": found[n + place * width : n + (place + 1) * width].tolist(),
            }
            for place, (a, b) in enumerate(equations.pairs)
        ],
        "eta": equations.eta(found),
    }
    return content, {"counts": equations.used, "rank": rank, "columns": len(found), "eta_2body": content["eta"]}


def main(path: str) -> None:
    """Fit what a file asks for: ``training`` and ``output`` are names of files, the rest are options of :func:`fit`."""
    options = json.loads(Path(path).read_text(encoding="utf-8"))
    content, said = fit(read(options["training"], ":"), options)  # type: ignore[arg-type]
    Path(options["output"]).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
