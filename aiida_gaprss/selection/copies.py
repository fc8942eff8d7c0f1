"""Frames that are the same structure: to the last digit, or turned, shifted, mirrored, repeated, or in another cell.

Sums over pair distances, which none of that changes, tell nearly all frames apart. Those they do not tell apart are judged by the
surroundings of every atom, with angles and elements. A few decorations of one lattice have the same pairs and angles around every
atom, as L1₁ and D4 of fcc: there the space group differs, and then StructureMatcher has the last word.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import spglib
from ase import Atoms
from numpy.polynomial.legendre import legvander
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.io.ase import AseAtomsAdaptor

from aiida_gaprss import frames as fr
from aiida_gaprss.selection.neighbours import neighbours, triplets

#: Å; pairs and angles within it count.
CUTOFF = 5.0

#: Sums over pairs of two frames of one structure differ by less than this part of them, those of single atoms by less than that.
TOLERANCE, OF_ATOMS = 1e-4, 1e-3

#: Å, centres of what the distances are weighed with; degrees of the Legendre polynomials of the angles.
_CENTRES, _DEGREES = (1.5, 2.2, 2.9, 3.6), 4


def copies(frames: Sequence[Atoms]) -> list[list[int]]:
    """Return the indices of the frames in groups of the same structure, in the order of the first of each.

    Isolated atoms and dimers, whose boxes say nothing, are the same only to the last digit.
    """
    exact: dict[bytes, list[int]] = {}
    for i, atoms in enumerate(frames):
        exact.setdefault(fr.structure_key(atoms), []).append(i)
    groups = list(exact.values())
    of_formula: dict[tuple[tuple[int, float], ...], list[int]] = {}
    for g, group in enumerate(groups):
        if fr.is_in_vacuum(frames[group[0]]):
            continue
        of_formula.setdefault(_composition(frames[group[0]]), []).append(g)
    joined = list(range(len(groups)))  # the first group that each is one with
    for members in of_formula.values():
        _join([frames[groups[g][0]] for g in members], members, joined)
    out: dict[int, list[int]] = {}
    for g, group in enumerate(groups):
        out.setdefault(joined[g], []).extend(group)
    return sorted(sorted(group) for group in out.values())


def _composition(atoms: Atoms) -> tuple[tuple[int, float], ...]:
    numbers, counts = np.unique(atoms.numbers, return_counts=True)
    return tuple((int(z), round(float(n) / len(atoms), 9)) for z, n in zip(numbers, counts, strict=True))


def _join(frames: list[Atoms], members: list[int], joined: list[int]) -> None:
    """Enter for each of some groups of one composition the first that is the same structure.

    :param frames: the first of each group.
    """
    if len(frames) < 2:
        return
    sums = np.array([pair_sums(atoms) for atoms in frames])
    seen: dict[int, np.ndarray] = {}

    def of(i: int) -> np.ndarray:
        return seen.setdefault(i, surroundings(frames[i])) if i not in seen else seen[i]

    scale = np.abs(sums).max(axis=0) + 1e-12
    order = np.argsort(sums[:, 0], kind="stable")
    first = sums[order, 0]
    for place, a in enumerate(order):
        end = int(np.searchsorted(first, first[place] + TOLERANCE * scale[0], side="right"))
        later = order[place + 1 : end]
        near = (np.abs(sums[later] - sums[a]) <= TOLERANCE * np.maximum(np.abs(sums[a]), 1e-3 * scale)).all(axis=1)
        for b in later[near]:
            apart = _root(joined, members[a]) != _root(joined, members[b])
            if apart and _same(of(a), of(b)) and _same_symmetry(frames[a], frames[b]):
                one, other = sorted((_root(joined, members[a]), _root(joined, members[b])))
                joined[other] = one
    for g in members:
        joined[g] = _root(joined, g)


def _root(joined: list[int], g: int) -> int:
    while joined[g] != g:
        g = joined[g]
    return g


def pair_sums(atoms: Atoms) -> np.ndarray:
    """Return volume per atom, and sums over pairs of smooth functions of the distance, per atom and pair of elements."""
    first, second, distances, _ = neighbours(atoms, CUTOFF)
    weights = _weights(distances)
    low = np.minimum(atoms.numbers[first], atoms.numbers[second])
    high = np.maximum(atoms.numbers[first], atoms.numbers[second])
    elements = sorted(set(atoms.numbers.tolist()))
    parts = [weights[(low == a) & (high == b)].sum(axis=0) for i, a in enumerate(elements) for b in elements[i:]]
    return np.concatenate([[abs(float(atoms.cell.volume))], *parts]) / len(atoms)


def _weights(distances: np.ndarray) -> np.ndarray:
    """Return functions of the distance that vanish smoothly at the cutoff, shape (pairs, functions)."""
    smooth = 0.5 * (1 + np.cos(np.pi * distances / CUTOFF))
    bumps = np.exp(-0.5 * ((distances[:, None] - np.array(_CENTRES)) / 0.4) ** 2)
    return np.column_stack([smooth, smooth[:, None] * bumps])


def surroundings(atoms: Atoms) -> np.ndarray:
    """Return what every atom sees within the cutoff, shape (atoms, numbers): its element, distances and angles by element."""
    first, second, distances, vectors = neighbours(atoms, CUTOFF)
    elements = sorted(set(atoms.numbers.tolist()))
    weights = _weights(distances)
    columns = [np.array(atoms.numbers, dtype=float)[:, None]]
    for z in elements:
        mine = atoms.numbers[second] == z
        columns.append(_sum_by(first[mine], weights[mine], len(atoms)))
    a, b = triplets(first, len(atoms))
    cosines = np.einsum("nx,nx->n", vectors[a], vectors[b]) / (distances[a] * distances[b])
    angular = legvander(np.clip(cosines, -1, 1), _DEGREES)[:, 1:] * (weights[a, 0] * weights[b, 0])[:, None]
    near = np.minimum(atoms.numbers[second[a]], atoms.numbers[second[b]])
    far = np.maximum(atoms.numbers[second[a]], atoms.numbers[second[b]])
    for i, z in enumerate(elements):
        for other in elements[i:]:
            mine = (near == z) & (far == other)
            columns.append(_sum_by(first[a[mine]], angular[mine], len(atoms)))
    return np.concatenate(columns, axis=1)


def _sum_by(index: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros((length, values.shape[1]))
    np.add.at(out, index, values)
    return out


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two sets of surroundings are the same: each atom has one like it in the other frame, and as many of each."""
    scale = np.maximum(np.abs(one).max(axis=0), 1e-6)
    if (np.abs(one.mean(axis=0) - other.mean(axis=0)) > OF_ATOMS * scale).any():
        return False
    apart = np.abs((one[:, None] - other[None]) / scale).max(axis=2)
    return bool((apart.min(axis=0) < OF_ATOMS).all() and (apart.min(axis=1) < OF_ATOMS).all())


def _same_symmetry(one: Atoms, other: Atoms) -> bool:
    """Tell whether two frames have one space group, or StructureMatcher takes them for the same."""
    groups = {_space_group(atoms) for atoms in (one, other)}
    if len(groups) == 1:
        return True
    bare = [Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True) for atoms in (one, other)]
    first, second = (AseAtomsAdaptor.get_structure(atoms) for atoms in bare)
    return bool(StructureMatcher(scale=False).fit(first, second))


def _space_group(atoms: Atoms) -> str | None:
    with warnings.catch_warnings(), suppress(spglib.SpglibError):
        warnings.simplefilter("ignore")
        return spglib.get_spacegroup((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    return None
