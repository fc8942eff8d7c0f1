"""A small linear basis of pair, density and angular terms, with derivatives.

Total energies, forces and virials of a potential that is linear in these terms are linear in the same coefficients, so that one
kind of label can be held against another without any fit of a real potential. The terms are

* pairs: Σ_{i<j} T_k(x_ij) f_c(r_ij), T_k Chebyshev polynomials of the Morse variable x ∝ exp(−λ(r/d₀ − 1)), for every pair of
  elements (the radial functions of Drautz, Phys. Rev. B 99, 014104 (2019));
* densities: ρ_im = Σ_j exp(−a_m(r_ij/d₀ − 1)) f_c(r_ij), as √ρ (the embedding of Finnis and Sinclair) and ρ²;
* angles: Σ_jk g_m(r_ij) g_m(r_ik) cosᵖθ_jik for p = 1, 2, 3, computed as |Σ_j g_m r̂_ij^{⊗p}|², the partial densities of the
  modified embedded-atom method (Baskes, Phys. Rev. B 46, 2727 (1992)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from pymatgen.optimization.neighbors import find_points_in_spheres
from scipy.sparse import csr_matrix

#: Decay of the Morse variable, of the densities; powers of the cosine.
_MORSE = 2.0
_DECAYS = (2.0, 4.0, 7.0)
_POWERS = (1, 2, 3)
#: Keeps the derivative of √ρ finite.
_FLOOR = 0.05


def neighbours(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return all ordered pairs within ``cutoff`` Å: first atom, second atom, distance, vector from first to second.

    The cell is taken as periodic in all directions, as a dataset has it. pymatgen's compiled search is about a hundred times
    faster than ASE's.
    """
    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    cell = np.ascontiguousarray(atoms.cell.array, dtype=float)
    first, second, images, distances = find_points_in_spheres(
        positions, positions, r=float(cutoff), pbc=np.ones(3, dtype=np.int64), lattice=cell, tol=1e-8
    )
    itself = (first == second) & (np.abs(images).max(axis=1, initial=0) == 0)
    first, second, images, distances = first[~itself], second[~itself], images[~itself], distances[~itself]
    return first, second, distances, positions[second] + images @ cell - positions[first]


@dataclass(frozen=True)
class Terms:
    """The terms of one frame: ``energy`` (k,), ``forces`` (3n, k) = −∂/∂x, ``virial`` (9, k) = −∂/∂strain."""

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


@dataclass(frozen=True)
class Basis:
    """The terms for ``species`` (atomic numbers, sorted), a typical distance d₀ and a cutoff in Å."""

    species: tuple[int, ...]
    distance: float
    cutoff: float
    n_radial: int = 8

    @cached_property
    def _pair_index(self) -> np.ndarray:
        index = np.zeros((len(self.species), len(self.species)), dtype=int)
        for k, (a, b) in enumerate(combinations_with_replacement(range(len(self.species)), 2)):
            index[a, b] = index[b, a] = k
        return index

    @property
    def _neighbour_kinds(self) -> int:
        """Elements that the densities tell apart; with many elements, none, for the number of terms."""
        return len(self.species) if len(self.species) <= 3 else 1

    @property
    def size(self) -> int:
        """Number of terms."""
        n = len(self.species)
        return n * (n + 1) // 2 * self.n_radial + n * self._neighbour_kinds * len(_DECAYS) * (2 + len(_POWERS))

    def terms(self, atoms: Atoms) -> Terms:
        """Return the terms of a frame."""
        n, kind = len(atoms), np.searchsorted(self.species, atoms.numbers)
        first, second, r, vector = neighbours(atoms, self.cutoff)
        energy, forces, virial = np.zeros(self.size), np.zeros((n, 3, self.size)), np.zeros((3, 3, self.size))
        unit = vector / r[:, None]
        start = 0

        def add(values: np.ndarray, mine: np.ndarray, gradient: np.ndarray) -> None:
            """Store terms and their derivatives with respect to the vectors of the pairs ``mine``, shape (pairs, 3, m)."""
            nonlocal start
            m = len(values)
            columns = slice(start, start + m)
            energy[columns] = values
            number = np.arange(len(mine))
            ends = csr_matrix(
                (np.repeat((1.0, -1.0), len(mine)), (np.r_[first[mine], second[mine]], np.r_[number, number])),
                shape=(n, len(mine)),
            )
            forces[:, :, columns] = (ends @ gradient.reshape(len(mine), 3 * m)).reshape(n, 3, m)
            virial[:, :, columns] = -(vector[mine].T @ gradient.reshape(len(mine), 3 * m)).reshape(3, 3, m)
            start += m

        smooth, d_smooth = (1 - r / self.cutoff) ** 2, -2 * (1 - r / self.cutoff) / self.cutoff
        radial, d_radial = self._radial(r, smooth, d_smooth)
        index = self._pair_index[kind[first], kind[second]]
        for pair in range(len(self.species) * (len(self.species) + 1) // 2):
            mine = np.flatnonzero(index == pair)
            gradient = 0.5 * unit[mine][:, :, None] * d_radial[mine][:, None, :]
            add(0.5 * radial[mine].sum(axis=0), mine, gradient)

        decays = np.array(_DECAYS)
        g = np.exp(-decays * (r[:, None] / self.distance - 1))
        d_g = g * (d_smooth[:, None] - decays / self.distance * smooth[:, None])
        g = g * smooth[:, None]
        for centre in range(len(self.species)):
            for neighbour in range(self._neighbour_kinds):
                near = kind[first] == centre
                if self._neighbour_kinds > 1:
                    near &= kind[second] == neighbour
                mine = np.flatnonzero(near)
                i, u, gm, dgm = first[mine], unit[mine], g[mine], d_g[mine]
                gather = csr_matrix((np.ones(len(mine)), (i, np.arange(len(mine)))), shape=(n, len(mine)))
                rho = gather @ gm
                at_centre = kind == centre
                add(
                    (np.sqrt(rho + _FLOOR) - np.sqrt(_FLOOR))[at_centre].sum(axis=0),
                    mine,
                    u[:, :, None] * (0.5 / np.sqrt(rho + _FLOOR)[i] * dgm)[:, None, :],
                )
                add((rho**2).sum(axis=0), mine, u[:, :, None] * (2 * rho[i] * dgm)[:, None, :])
                for power in _POWERS:
                    add(*_angular(power, gather, i, mine, u, r[mine], gm, dgm))
        return Terms(energy, forces.reshape(3 * n, -1), virial.reshape(9, -1))

    def _radial(self, r: np.ndarray, smooth: np.ndarray, d_smooth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return Chebyshev polynomials times cutoff, and derivatives, shape (pairs, n_radial)."""
        y, far, near = (np.exp(-_MORSE * (x / self.distance - 1)) for x in (r, self.cutoff, 0.4 * self.distance))
        x = 2 * (y - far) / (near - far) - 1
        d_x = -2 * _MORSE / self.distance * y / (near - far)
        t, d_t = np.ones((len(r), self.n_radial)), np.zeros((len(r), self.n_radial))
        t[:, 1], d_t[:, 1] = x, 1.0
        for k in range(2, self.n_radial):
            t[:, k] = 2 * x * t[:, k - 1] - t[:, k - 2]
            d_t[:, k] = 2 * t[:, k - 1] + 2 * x * d_t[:, k - 1] - d_t[:, k - 2]
        return t * smooth[:, None], d_t * (d_x * smooth)[:, None] + t * d_smooth[:, None]


def _angular(
    power: int, gather: csr_matrix, i: np.ndarray, mine: np.ndarray, u: np.ndarray, r: np.ndarray, g: np.ndarray, d_g: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return |Σ_j g r̂^{⊗p}|² summed over the centres, the pairs, and the derivatives with respect to the pairs' vectors."""
    powers = u
    for _ in range(power - 1):
        powers = (powers[:, :, None] * u[:, None, :]).reshape(len(u), powers.shape[1] * 3)
    values, gradient = np.zeros(g.shape[1]), np.zeros((len(u), 3, g.shape[1]))
    for m in range(g.shape[1]):
        moment = gather @ (g[:, m, None] * powers)
        values[m] = (moment**2).sum()
        vector = moment[i]
        for _ in range(power - 1):
            vector = np.einsum("pax,px->pa", vector.reshape(len(u), vector.shape[1] // 3, 3), u)
        along = np.einsum("px,px->p", vector, u)
        gradient[:, :, m] = (
            2 * (along * (d_g[:, m] - power * g[:, m] / r))[:, None] * u + (2 * power * g[:, m] / r)[:, None] * vector
        )
    return values, mine, gradient


def basis_for(frames: Sequence[Atoms], sample: int = 100) -> Basis | None:
    """Return a basis whose cutoff is 2.1 median nearest-neighbour distances, 4 to 6.5 Å; None if no atom has a neighbour.

    :param sample: number of frames, evenly spread, from which the distance is taken.
    """
    nearest: list[float] = []
    for atoms in frames[:: max(1, len(frames) // sample)]:
        first, _, distances, _ = neighbours(atoms, 6.0)
        smallest = np.full(len(atoms), np.inf)
        np.minimum.at(smallest, first, distances)
        nearest += smallest[np.isfinite(smallest)].tolist()
    if not nearest:
        return None
    distance = float(np.median(nearest))
    species = tuple(sorted({int(z) for atoms in frames for z in atoms.numbers}))
    return Basis(species, distance, float(np.clip(2.1 * distance, 4.0, 6.5)))
