"""Checks of the structures and of single values: distances, volumes, outliers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from aiida_gaprss.audit.descriptors import neighbours
from aiida_gaprss.audit.energies import covalent_volume, in_box
from aiida_gaprss.audit.result import AuditSettings, Check
from aiida_gaprss.frames import REFERENCE, is_in_vacuum, is_isolated_atom
from aiida_gaprss.selection.alone import REACH, alone
from aiida_gaprss.selection.sanity import absurd_labels

#: Below this fraction of ``min_distance`` atoms lie on top of each other.
ABSURD = 0.6
#: Volume of a cell in volumes of spheres with the covalent radii: fault, warning below.
DENSE = (0.2, 0.4)
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
    lost = {i: int(alone(frames[i]).sum()) for i in filled if not is_in_vacuum(frames[i])}
    apart = sorted((i for i in lost if lost[i]), key=lambda i: -lost[i] / len(frames[i]))
    if apart:
        i = apart[0]
        check.add(
            "warning",
            f"{len(apart)} frames fell apart: in {names[i]} {lost[i]} of {len(frames[i])} atoms have no neighbour within "
            f"{REACH:g} sums of covalent radii",
            [names[k] for k in apart],
        )
    if filled:
        volumes = [abs(frames[i].cell.volume) / len(frames[i]) for i in filled if not in_box(frames[i])]
        check.numbers["volume_per_atom"] = [min(volumes), max(volumes)] if volumes else None
    check.numbers["smallest_distance"] = min(near.values()) if near else None
    if check.verdict == "ok":
        check.add("ok", f"no distance below {settings.min_distance:g} of the sum of covalent radii")
    return check


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
    absurd = absurd_labels(frames)
    if absurd:
        i = next(iter(absurd))
        sentence = (
            f"{len(absurd)} labels are absurd, so that no fit takes them without your word, that of {names[i]}: {absurd[i]}"
        )
        check.add("warning", sentence, [names[k] for k in absurd])
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
