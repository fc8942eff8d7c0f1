"""Checks of the structures and of single values: distances, volumes, duplicates, outliers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from aiida_gaprss.analysis.audit.descriptors import neighbours
from aiida_gaprss.analysis.audit.energies import covalent_volume, in_box
from aiida_gaprss.analysis.audit.result import AuditSettings, Check
from aiida_gaprss.frames import REFERENCE, is_isolated_atom

#: Below this fraction of ``min_distance`` atoms lie on top of each other.
ABSURD = 0.6
#: Volume of a cell in volumes of spheres with the covalent radii: fault, warning below; warning above (no atom in a box).
DENSE, RARE = (0.2, 0.4), 200.0
#: Lattices and distances of duplicates agree within this, Å.
SAME = 0.002
#: Distances that are compared, Å, and numbers that stand for them in a first comparison.
RANGE, QUANTILES = 6.0, 24
#: Robust standard deviations, and eV/atom, below the median of its kind at which an energy is an outlier.
LOW, LOW_ENERGY = 10.0, 1.0


def check_geometry(frames: Sequence[Atoms], names: Sequence[str], settings: AuditSettings) -> Check:
    """Check that no atoms lie on top of each other and that cells have a sane volume.

    Distances count in sums of covalent radii: bonds are near 1, the hardest collisions worth a label near 0.55. Compressed solids
    fill 0.5 to 1 spheres with covalent radii per atom.
    """
    check = Check("geometry")
    near: dict[int, float] = {}
    words: dict[int, str] = {}
    for i, atoms in enumerate(frames):
        reach = 2 * settings.min_distance * float(covalent_radii[atoms.numbers].max())
        first, second, distance, _ = neighbours(atoms, max(reach, 0.1))
        share = distance / (covalent_radii[atoms.numbers[first]] + covalent_radii[atoms.numbers[second]])
        if len(share) and share.min() < settings.min_distance:
            k = int(share.argmin())
            near[i] = float(share[k])
            symbols = atoms.get_chemical_symbols()
            words[i] = f"{symbols[first[k]]} and {symbols[second[k]]} {distance[k]:.3g} Å apart"
    if near:
        order = sorted(near, key=lambda i: near[i])
        absurd = [i for i in order if near[i] < ABSURD * settings.min_distance]
        check.add(
            "fault" if absurd else "warning",
            f"atoms too close in {len(near)} frames, in {names[order[0]]} {words[order[0]]}, {near[order[0]]:.2f} of the sum of "
            "their covalent radii",
            [names[i] for i in order],
        )
    filled = {i: abs(a.cell.volume) / covalent_volume(a) for i, a in enumerate(frames) if not is_isolated_atom(a)}
    dense = sorted((i for i in filled if filled[i] < DENSE[1]), key=lambda i: filled[i])
    if dense:
        i = dense[0]
        check.add(
            "fault" if filled[i] < DENSE[0] else "warning",
            f"{len(dense)} frames are very dense, {names[i]} has {abs(frames[i].cell.volume) / len(frames[i]):.3g} Å³/atom",
            [names[k] for k in dense],
        )
    empty = [i for i in filled if filled[i] > RARE and len(frames[i]) > 3]
    if empty:
        check.add("warning", f"{len(empty)} frames with more than 3 atoms are nearly empty", [names[i] for i in empty])
    if filled:
        volumes = [abs(frames[i].cell.volume) / len(frames[i]) for i in filled if not in_box(frames[i])]
        check.numbers["volume_per_atom"] = [min(volumes), max(volumes)] if volumes else None
    check.numbers["smallest_distance"] = min(near.values()) if near else None
    if check.verdict == "ok":
        check.add("ok", f"no distance below {settings.min_distance:g} of the sum of covalent radii")
    return check


def check_duplicates(frames: Sequence[Atoms], names: Sequence[str], settings: AuditSettings) -> Check:
    """Check that no structure is there twice, above all not with two different energies.

    Two frames are the same structure if composition, volume per atom and all distances up to 6 Å, sorted by pair of elements,
    agree within 0.002 Å: whatever the choice of the cell, its orientation or its repetition. Equal structures whose energies
    differ by more than ``duplicate_energy`` were labelled at two levels of theory.
    """
    check = Check("duplicates")
    groups: dict[tuple, list[int]] = defaultdict(list)
    energy: dict[int, float] = {}
    for i, atoms in enumerate(frames):
        if f"{REFERENCE}_energy" in atoms.info and not is_isolated_atom(atoms):
            numbers, counts = np.unique(atoms.numbers, return_counts=True)
            groups[tuple(numbers), tuple(counts // np.gcd.reduce(counts))].append(i)
            energy[i] = float(atoms.info[f"{REFERENCE}_energy"]) / len(atoms)
    pairs: list[tuple[int, int]] = []
    for members in groups.values():
        if len(members) < 2:
            continue
        lists = [_distances(frames[i]) for i in members]
        prints = np.array([_print(frames[i], d) for i, d in zip(members, lists, strict=True)])
        for a, b in sorted(cKDTree(prints).query_pairs(SAME, p=np.inf)):
            if _same(lists[a], lists[b]):
                pairs.append((members[a], members[b]))
    sets = [sorted(s, key=lambda i: (energy[i], i)) for s in _connected(pairs)]
    sets.sort(key=lambda s: energy[s[0]] - energy[s[-1]])
    different = [s for s in sets if energy[s[-1]] - energy[s[0]] > settings.duplicate_energy]
    equal = [s for s in sets if s not in different]
    largest = energy[sets[0][-1]] - energy[sets[0][0]] if sets else 0.0
    check.numbers.update(structures=len(sets), different=len(different), largest_difference=largest)
    if different:
        first, last = different[0][0], different[0][-1]
        check.add(
            "fault",
            f"{len(different)} structures are there twice or more with different energies, {names[first]} and {names[last]} "
            f"differ by {largest:.3g} eV/atom: two levels of theory, or no convergence",
            [names[i] for s in different for i in s],
        )
    if equal:
        most = max(equal, key=len)
        check.add(
            "warning",
            f"{len(equal)} structures are there twice or more with equal energies, {names[most[0]]} {len(most)} times",
            [names[i] for s in sorted(equal, key=len, reverse=True) for i in s],
        )
    if check.verdict == "ok":
        check.add("ok", "no structure is there twice")
    return check


def _connected(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the sets of indices that pairs connect."""
    if not pairs:
        return []
    members, ends = np.unique(np.array(pairs), return_inverse=True)
    first, second = ends.reshape(-1, 2).T
    graph = csr_matrix((np.ones(len(first)), (first, second)), shape=(len(members), len(members)))
    n, label = connected_components(graph, directed=False)
    return [members[label == k].tolist() for k in range(n)]


def _distances(atoms: Atoms) -> dict[tuple[int, int], np.ndarray]:
    """Return the sorted distances up to ``RANGE`` by pair of elements."""
    first, second, distance, _ = neighbours(atoms, RANGE)
    low = np.minimum(atoms.numbers[first], atoms.numbers[second])
    high = np.maximum(atoms.numbers[first], atoms.numbers[second])
    order = np.lexsort((distance, high, low))
    out = {}
    for pair in sorted({(int(a), int(b)) for a, b in zip(low, high, strict=True)}):
        mine = order[(low[order] == pair[0]) & (high[order] == pair[1])]
        out[pair] = distance[mine]
    return out


def _print(atoms: Atoms, distances: dict[tuple[int, int], np.ndarray]) -> np.ndarray:
    """Return numbers that hardly differ for equal structures: edge of the volume per atom, quantiles of the distances, Å."""
    kinds = sorted({int(z) for z in atoms.numbers})
    parts = [np.array([np.cbrt(abs(atoms.cell.volume) / len(atoms))])]
    where = (np.arange(QUANTILES) + 0.5) / QUANTILES * 0.9
    for a in kinds:
        for b in kinds[kinds.index(a) :]:
            own = distances.get((a, b), np.zeros(0))
            parts.append(own[(where * len(own)).astype(int)] if len(own) else np.full(QUANTILES, RANGE))
    return np.concatenate(parts)


def _same(first: dict[tuple[int, int], np.ndarray], second: dict[tuple[int, int], np.ndarray]) -> bool:
    """Compare all distances; a longer list is that of a repeated cell. Those near the range may be in one list only."""
    if first.keys() != second.keys():
        return False
    for pair in first:
        short, long = sorted((first[pair], second[pair]), key=len)
        times = max(1, round(len(long) / len(short)))
        repeated = np.repeat(short, times)
        inner = min(int((repeated < RANGE - 0.05).sum()), int((long < RANGE - 0.05).sum()))
        if inner == 0 or abs(len(repeated) - len(long)) > 0.2 * len(long):
            return False
        if np.abs(repeated[:inner] - long[:inner]).max() > SAME:
            return False
    return True


def check_outliers(frames: Sequence[Atoms], names: Sequence[str], settings: AuditSettings) -> Check:
    """Check for forces and energies beyond reason.

    Large forces and high energies may be wanted, so they make warnings beyond limits the user sets. An energy far below those of
    its composition and configuration type has no such excuse: no structure lies eV/atom below its like.
    """
    check = Check("outliers")
    largest: dict[int, float] = {}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    lowest: dict[str, float] = {}
    energy: dict[int, float] = {}
    formula = [a.get_chemical_formula(empirical=True) for a in frames]
    for i, atoms in enumerate(frames):
        forces = atoms.arrays.get(f"{REFERENCE}_forces")
        if forces is not None:
            largest[i] = float(np.linalg.norm(forces, axis=1).max())
        if f"{REFERENCE}_energy" in atoms.info and not is_isolated_atom(atoms):
            energy[i] = atoms.info[f"{REFERENCE}_energy"] / len(atoms)
            groups[formula[i], str(atoms.info.get("config_type"))].append(i)
    low: dict[int, float] = {}
    for members in groups.values():
        values = np.array([energy[i] for i in members])
        middle = float(np.median(values))
        spread = 1.4826 * float(np.median(np.abs(values - middle)))
        low.update({i: middle - energy[i] for i in members if middle - energy[i] > max(LOW_ENERGY, LOW * spread)})
    for i, value in energy.items():
        if i not in low:
            lowest[formula[i]] = min(value, lowest.get(formula[i], value))
    high = {
        i: value - lowest[formula[i]]
        for i, value in energy.items()
        if i not in low and value - lowest[formula[i]] > settings.max_energy
    }
    strong = {i: value for i, value in largest.items() if value > settings.max_force}
    check.numbers["largest_force"] = max(largest.values(), default=None)
    check.numbers["limits"] = {"force": settings.max_force, "energy": settings.max_energy}
    for found, words, unit in (
        (low, "energies far below the median of their composition and type", "eV/atom"),
        (high, f"energies more than {settings.max_energy:g} eV/atom above the lowest of their composition", "eV/atom"),
        (strong, f"forces above {settings.max_force:g} eV/Å", "eV/Å"),
    ):
        if found:
            order = sorted(found, key=lambda i: -found[i])
            check.add(
                "warning",
                f"{len(found)} frames with {words}, {names[order[0]]} with {found[order[0]]:.3g} {unit}",
                [names[i] for i in order],
            )
    if check.verdict == "ok":
        check.add("ok", f"largest force {max(largest.values(), default=0.0):.3g} eV/Å")
    return check
