"""Cheap fingerprints of cells: how many neighbours at which distance, and at which angles.

Equal for cells that differ by rotation, choice of cell, or repetition; continuous in the positions. They only have to
tell apart and to measure unfamiliarity; potentials have their own, better descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from aiida_gaprss.selection.neighbours import neighbours, triplets


def fingerprint(
    atoms: Atoms,
    species: Sequence[int] | None = None,
    cutoff: float = 6.0,
    shell: float = 3.6,
    radial: int = 24,
    angular: int = 12,
) -> np.ndarray:
    """Return mean and standard deviation over the atoms of smooth histograms of distances and angles.

    Per atom i and bin r: Σ_j f(r_ij) (2.45/r_ij)² exp(−(r_ij − r)²/2w²), f the cosine cutoff, one set of bins per pair
    of elements; and per bin c: Σ_{j<k} f_ij f_ik exp(−(cos θ_jik − c)²/2w²) over neighbours within ``shell``, one set of bins
    per element of i and pair of elements of j and k: decorations of one lattice may have all distances in common.

    :param species: atomic numbers that get bins, by default those of ``atoms``; give all when cells are compared.
    :param cutoff: Å, of the distances; ``shell``: Å, of the angles.
    :return: 2·pairs·(radial + elements·angular) numbers.
    :raises ValueError: for an atom that is not among ``species``.
    """
    elements = sorted(set(atoms.numbers if species is None else species))
    missing = sorted(set(atoms.numbers) - set(elements))
    if missing:
        raise ValueError(f"atomic numbers {missing} are not among species {elements}")
    first, second, distances, vectors = neighbours(atoms, cutoff)
    grid = np.linspace(0.25 * cutoff, cutoff, radial)
    smooth = 0.5 * (1 + np.cos(np.pi * distances / cutoff)) * (2.45 / distances) ** 2
    width = 1.3 * (grid[1] - grid[0])
    histogram = smooth[:, None] * np.exp(-0.5 * ((distances[:, None] - grid) / width) ** 2)
    low = np.minimum(atoms.numbers[first], atoms.numbers[second])
    high = np.maximum(atoms.numbers[first], atoms.numbers[second])
    parts = []
    for pair in combinations_with_replacement(elements, 2):
        mine = (low == pair[0]) & (high == pair[1])
        part = np.zeros((len(atoms), radial))
        np.add.at(part, first[mine], histogram[mine])
        parts.append(part)
    near = np.flatnonzero(distances < shell)
    a, b = (near[side] for side in triplets(first[near], len(atoms)))
    weight = 0.5 * (1 + np.cos(np.pi * distances / shell))
    cosine = np.einsum("nx,nx->n", vectors[a], vectors[b]) / (distances[a] * distances[b])
    gaussians = np.exp(-0.5 * ((cosine[:, None] - np.linspace(-1, 1, angular)) / 0.15) ** 2)
    contribution = 0.7 * (weight[a] * weight[b])[:, None] * gaussians
    centre, ends = atoms.numbers[first[a]], np.sort(atoms.numbers[np.stack([second[a], second[b]])], axis=0)
    for element in elements:
        for pair in combinations_with_replacement(elements, 2):
            mine = (centre == element) & (ends[0] == pair[0]) & (ends[1] == pair[1])
            part = np.zeros((len(atoms), angular))
            np.add.at(part, first[a[mine]], contribution[mine])
            parts.append(part)
    per_atom = np.concatenate(parts, axis=1)
    return np.concatenate([per_atom.mean(axis=0), per_atom.std(axis=0)])


def fingerprints(frames: Sequence[Atoms], species: Sequence[int] | None = None) -> np.ndarray:
    """Return :func:`fingerprint` of every frame, shape (n frames, length), with bins for all elements that occur."""
    if species is None:
        species = sorted({int(z) for atoms in frames for z in atoms.numbers})
    return np.array([fingerprint(atoms, species) for atoms in frames])
