"""Numbers that stand for a label that was not calculated: zeros, half a tensor, one value again and again.

A zero is a placeholder only where symmetry does not demand it: forces vanish on an atom at a centre of inversion, the shear of a
virial in an orthorhombic cell. Frames in which no atom is near another are not judged: where nothing acts, a short-ranged
potential gives true zeros.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import spglib
from ase import Atoms

from aiida_gaprss.frames import REFERENCE, is_in_vacuum
from aiida_gaprss.selection.alone import acting, alone
from aiida_gaprss.selection.neighbours import neighbours

#: Positions within which atoms count as symmetric, Å: a zero is believed rather than not.
SYMPREC = 1e-2
#: Å; what is less apart along an axis adds less to a virial than its last digit, which goes as the square.
FLAT = 1e-4

#: Zeros that chance would leave in fewer than this many of the frames at hand are no chance.
CHANCE = 1e-3

#: Off-diagonal parts of a virial differ by less than this part of its largest element, and by less than so many eV per atom.
ASYMMETRY, ASYMMETRY_EV = 1e-2, 2e-3

#: Distances (Å) and volumes (parts of it) by which structures differ: to the digits that are kept; and so much that no relaxation
#: at its end, where energies are the same to their last digit, takes one to the other.
EXACT, APART = (1e-4, 1e-5), (2e-2, 2e-3)

#: Pairs of the symmetric parts of a 3×3 tensor, in the nine numbers xx xy xz yx yy yz zx zy zz.
_UPPER, _LOWER = [1, 2, 5], [3, 6, 7]
_DIAGONAL = [0, 4, 8]
_AXES = "xyz"
_COMPONENTS = [a + b for a in _AXES for b in _AXES]


@dataclass
class Placeholders:
    """Frames of which one label is a placeholder.

    ``label``: energy, forces or virial. ``kind``: what they have in common, for a reader. ``reasons``: why, by the index of the
    frame.
    """

    label: str
    kind: str
    reasons: dict[int, str] = field(default_factory=dict)


def find_placeholders(frames: Sequence[Atoms], prefix: str = REFERENCE) -> list[Placeholders]:
    """Return the placeholders among the labels of frames that belong together, by kind; a label is named once.

    :param prefix: of the labels, as in :mod:`aiida_gaprss.frames`.
    """
    judged = [i for i, atoms in enumerate(frames) if not is_in_vacuum(atoms) and not nothing_acts(atoms)]
    found: list[Placeholders] = []
    named: set[tuple[str, int]] = set()
    for label, kind, find in _KINDS:
        reasons = {i: why for i, why in find(frames, judged, prefix).items() if (label, i) not in named}
        if reasons:
            named |= {(label, i) for i in reasons}
            found.append(Placeholders(label, kind, reasons))
    return found


def drop_placeholders(frames: Sequence[Atoms], found: Sequence[Placeholders], prefix: str = REFERENCE) -> None:
    """Take the labels that are placeholders off the frames; a frame without an energy keeps no other label."""
    for group in found:
        for i in group.reasons:
            atoms = frames[i]
            for label in ("energy", "forces", "virial") if group.label == "energy" else (group.label,):
                (atoms.arrays if label == "forces" else atoms.info).pop(f"{prefix}_{label}", None)


def nothing_acts(atoms: Atoms) -> bool:
    """Tell whether every atom is so far from all others that a short-ranged potential has no forces."""
    return bool(alone(atoms).all())


# --- energies ---


def _zero_energies(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    zero = [i for i in judged if frames[i].info.get(f"{prefix}_energy") == 0]
    return dict.fromkeys(zero, "its energy is exactly 0")


def _repeated_energies(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    """Return frames of other structure with the same energy to the last digit, three or more of them."""
    groups: dict[tuple[float, bytes], list[int]] = {}
    for i in judged:
        energy = frames[i].info.get(f"{prefix}_energy")
        if energy:
            groups.setdefault((float(energy), np.sort(frames[i].numbers).tobytes()), []).append(i)
    energies = [energy for energy, _ in groups]
    if not energies or len(judged) ** 3 * (10.0 ** -_decimals(energies) / (np.std(energies) or 1.0)) ** 2 > CHANCE:
        return {}
    return {
        i: f"its energy {energy:g} eV is that of {len(same) - 1} other structures"
        for (energy, _), group in groups.items()
        if len(same := _others(frames, group, APART)) > 2
        for i in same
    }


# --- forces ---


def _forces(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, np.ndarray]:
    name = f"{prefix}_forces"
    return {i: np.asarray(frames[i].arrays[name], dtype=float) for i in judged if name in frames[i].arrays}


def _zero_forces(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    zero = [i for i, forces in _forces(frames, judged, prefix).items() if not forces.any()]
    return {i: "its forces are exactly 0, which its symmetry does not demand" for i in zero if _allowed_forces(frames[i]).any()}


def _partly_zero_forces(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    """Return frames in which the force on some atoms is exactly zero, as on atoms that were held, or one component of all."""
    labels = {i: forces for i, forces in _forces(frames, judged, prefix).items() if forces.any()}
    chance = _chance_of_zero(labels.values())
    total = sum(len(forces) for forces in labels.values())
    out: dict[int, str] = {}
    for i, forces in labels.items():
        if not (forces == 0).all(axis=1).any() and not (forces == 0).all(axis=0).any():
            continue
        allowed = _allowed_forces(frames[i])
        held = np.flatnonzero((forces == 0).all(axis=1) & (allowed.sum(axis=1) > 1) & _pulled(frames[i]))
        flat = _flat_axes(frames[i])
        lost = [k for k in range(3) if (forces[:, k] == 0).all() and allowed[:, k].any() and _AXES[k] not in flat]
        if len(held) and chance**2 * total < CHANCE:
            out[i] = f"the forces on {len(held)} of its {len(forces)} atoms are exactly 0, which its symmetry does not demand"
        elif lost and chance ** min(_independent(allowed[:, k]) for k in lost) * len(labels) < CHANCE:
            names = " and ".join(_AXES[k] for k in lost)
            out[i] = f"all forces along {names} are exactly 0, which its symmetry does not demand"
    return out


def _independent(allowed: np.ndarray) -> int:
    """Return how many of the forces along an axis that symmetry allows are independent: their sum is zero."""
    return max(int(allowed.sum()) - 1, 0)


def _repeated_forces(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    out: dict[int, str] = {}
    labels = {i: forces for i, forces in _forces(frames, judged, prefix).items() if forces.any()}
    for i, forces in labels.items():
        if len(forces) > 1 and (forces == forces.flat[0]).all():
            out[i] = f"all its forces are the one number {forces.flat[0]:g}"
    return out | _repeated(frames, labels, "forces", lambda i: frames[i].numbers.tobytes())


# --- virials ---


def _virials(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, np.ndarray]:
    name = f"{prefix}_virial"
    return {i: np.asarray(frames[i].info[name], dtype=float).reshape(9) for i in judged if name in frames[i].info}


def _zero_virials(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    """Return the frames whose virial is nothing but zeros: no symmetry demands a trace of exactly zero."""
    return {i: "its virial is exactly 0" for i, v in _virials(frames, judged, prefix).items() if not v.any()}


def _half_virials(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    """Return the frames whose virial has numbers on one side of its diagonal and zeros on the other."""
    out: dict[int, str] = {}
    for i, v in _virials(frames, judged, prefix).items():
        above, below = v[_UPPER], v[_LOWER]
        size = max(1e-6, 1e-6 * float(np.abs(v).max()))
        for full, empty, side in ((above, below, "below"), (below, above, "above")):
            if (np.abs(full) > size).any() and not empty.any():
                out[i] = f"its virial has zeros {side} the diagonal and numbers on the other side: half a tensor"
    return out


def _asymmetric_virials(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    """Return the frames whose virial is not symmetric, as it is for every energy that rotations leave alone."""
    out: dict[int, str] = {}
    for i, v in _virials(frames, judged, prefix).items():
        difference = np.abs(v[_UPPER] - v[_LOWER])
        if (difference > ASYMMETRY * np.abs(v).max() + ASYMMETRY_EV * len(frames[i])).any():
            k = int(difference.argmax())
            name, other = _COMPONENTS[_UPPER[k]], _COMPONENTS[_LOWER[k]]
            out[i] = f"its virial is not symmetric: {name} is {v[_UPPER[k]]:.4g} eV, {other} is {v[_LOWER[k]]:.4g} eV"
    return out


def _partly_zero_virials(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    """Return the frames in whose virial components are exactly zero that symmetry allows, as in those of constrained cells."""
    labels = {i: v for i, v in _virials(frames, judged, prefix).items() if v.any()}
    chance = _chance_of_zero(labels.values())
    out: dict[int, str] = {}
    for i, v in labels.items():
        diagonal = [k for k in _DIAGONAL if v[k] == 0]
        shear = [k for k in _UPPER if v[k] == 0]
        if not diagonal and not shear:
            continue
        allowed = _allowed_virial(frames[i])
        lost = [k for k in diagonal + shear if allowed[k] and not set(_COMPONENTS[k]) & _flat_axes(frames[i])]
        if lost and chance ** len(lost) * len(labels) < CHANCE:
            names = ", ".join(_COMPONENTS[k] for k in sorted(lost))
            out[i] = f"{names} of its virial are exactly 0, which its symmetry does not demand"
    return out


def _repeated_virials(frames: Sequence[Atoms], judged: list[int], prefix: str) -> dict[int, str]:
    out: dict[int, str] = {}
    labels = {i: v for i, v in _virials(frames, judged, prefix).items() if v.any()}
    for i, v in labels.items():
        if (v == v[0]).all():
            out[i] = f"its virial is nine times {v[0]:g}"
        elif len(set(v[_DIAGONAL])) == 1 and not v[_UPPER + _LOWER].any() and not _is_cubic(frames[i]):
            out[i] = (
                f"its virial is three times {v[0]:g} without shear, which its symmetry does not demand: a pressure, no tensor"
            )
    return out | _repeated(frames, labels, "virial", lambda i: np.sort(frames[i].numbers).tobytes())


#: Label, what is wrong, and how it is found; what comes first names a frame.
_KINDS: tuple[tuple[str, str, Callable[[Sequence[Atoms], list[int], str], dict[int, str]]], ...] = (
    ("energy", "energies that are exactly 0", _zero_energies),
    ("energy", "energies that are one number", _repeated_energies),
    ("forces", "forces that are exactly 0", _zero_forces),
    ("forces", "forces that are exactly 0 in part", _partly_zero_forces),
    ("forces", "forces that are one value again and again", _repeated_forces),
    ("virial", "virials that are exactly 0", _zero_virials),
    ("virial", "virials of which one half is missing", _half_virials),
    ("virial", "virials that are not symmetric", _asymmetric_virials),
    ("virial", "virials that are one value again and again", _repeated_virials),
    ("virial", "virials that are exactly 0 in part", _partly_zero_virials),
)


# --- what they share ---


def _repeated(frames: Sequence[Atoms], labels: dict[int, np.ndarray], name: str, kind: Callable[[int], bytes]) -> dict[int, str]:
    """Return the frames that have a block of numbers in common with a frame of another structure."""
    groups: dict[tuple[bytes, bytes], list[int]] = {}
    for i, label in labels.items():
        groups.setdefault((label.tobytes(), kind(i)), []).append(i)
    verb = "are those" if name == "forces" else "is that"
    return {
        i: f"its {name} {verb} of {len(same) - 1} other structure{'s' if len(same) > 2 else ''}, number for number"
        for group in groups.values()
        if len(same := _others(frames, group, APART if name == "virial" else EXACT)) > 1
        for i in same
    }


def _others(frames: Sequence[Atoms], group: list[int], apart: tuple[float, float] = EXACT) -> list[int]:
    """Return the frames of a group that are not all the same structure, or none.

    :param apart: distances (Å) and volumes (parts of it) by which structures differ.
    """
    if len(group) < 2:
        return []
    first = _shape(frames[group[0]])
    unlike = [i for i in group[1:] if not _alike(first, _shape(frames[i]), apart)]
    return [group[0], *unlike] if unlike else []


def _shape(atoms: Atoms) -> np.ndarray:
    """Return numbers that do not change when a cell is turned, shifted, or its atoms are exchanged."""
    _, _, distances, _ = neighbours(atoms, 5.0)
    near = np.sort(distances)
    return np.concatenate([[atoms.get_volume() / len(atoms), len(near) / len(atoms)], near[: 6 * len(atoms)]])


def _alike(one: np.ndarray, other: np.ndarray, apart: tuple[float, float]) -> bool:
    n = min(len(one), len(other))  # the number of pairs within a sphere changes by a digit of one of them
    return bool(np.allclose(one[2:n], other[2:n], rtol=0, atol=apart[0]) and np.allclose(one[:1], other[:1], rtol=apart[1]))


def _chance_of_zero(labels: Iterable[np.ndarray]) -> float:
    """Return the probability that a number of these is a zero by rounding: its last digit by its size."""
    values = np.concatenate([np.zeros(0), *(np.ravel(label) for label in labels)])
    values = np.abs(values[values != 0])
    if not values.size:
        return 1.0
    return float(min(1.0, 10.0 ** -_decimals(values) / np.median(values)))


def _decimals(values: Iterable[float] | np.ndarray) -> int:
    """Return to how many decimals numbers are given, at most 8."""
    numbers = np.asarray(list(values), dtype=float)[:2000]
    return next((d for d in range(9) if np.allclose(numbers, np.round(numbers, d), rtol=0, atol=1e-9)), 8)


def _operations(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotations (Cartesian, shape (n, 3, 3)) of a cell, and where each brings every atom, shape (n, atoms)."""
    scaled, cell = atoms.get_scaled_positions(wrap=False), atoms.cell.array
    found = None
    with warnings.catch_warnings(), suppress(spglib.SpglibError):
        warnings.simplefilter("ignore")
        found = spglib.get_symmetry((cell, scaled, atoms.numbers), symprec=SYMPREC)
    if found is None:  # as for atoms that coincide
        return np.eye(3)[None], np.arange(len(atoms))[None]
    rotations = cell.T @ found["rotations"] @ np.linalg.inv(cell.T)
    images = []
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        apart = (scaled @ rotation.T + translation)[:, None] - scaled[None]
        apart -= np.round(apart)
        images.append((np.linalg.norm(apart @ cell, axis=2) + 1e3 * (atoms.numbers[:, None] != atoms.numbers)).argmin(axis=1))
    return rotations, np.array(images)


def _allowed_forces(atoms: Atoms) -> np.ndarray:
    """Return for every atom and axis whether symmetry lets it have a force, shape (n, 3), if all forces have a sum of zero.

    Along a screw axis, for example, all atoms would be pulled alike.
    """
    rotations, images = _operations(atoms)
    n = len(atoms)
    mean = np.zeros((n, 3, n, 3))
    for rotation, image in zip(rotations, images, strict=True):
        mean[image, :, np.arange(n), :] += rotation / len(rotations)
    whole = mean - mean.sum(axis=2, keepdims=True) / n
    return np.abs(np.einsum("aiai->ai", whole)) > 1e-3


def _mean_of_tensors(atoms: Atoms) -> np.ndarray:
    """Return the 9×9 matrix that makes a tensor as symmetric as the cell is."""
    rotations = _operations(atoms)[0]
    return np.asarray(np.einsum("nij,nkl->ikjl", rotations, rotations).reshape(9, 9) / len(rotations))


def _allowed_virial(atoms: Atoms) -> np.ndarray:
    """Return for each of the nine numbers of a virial whether symmetry lets it differ from zero."""
    mean = _mean_of_tensors(atoms)
    transposed = np.array([0, 3, 6, 1, 4, 7, 2, 5, 8])
    return np.abs(np.diag(mean + mean[:, transposed])) > 1e-3


def _pulled(atoms: Atoms) -> np.ndarray:
    """Return for every atom whether another one is near; images of its own pull it nowhere."""
    first, second, _, _ = acting(atoms)
    out = np.zeros(len(atoms), dtype=bool)
    out[first[first != second]] = True
    return out


def _flat_axes(atoms: Atoms) -> set[str]:
    """Return the axes along which no two near atoms are apart, as across flat sheets and along rows: nothing need pull there."""
    _, _, _, vectors = acting(atoms)
    return {_AXES[k] for k in range(3) if not (np.abs(vectors[:, k]) > FLAT).any()}


def _is_cubic(atoms: Atoms) -> bool:
    """Tell whether symmetry leaves nothing of a tensor but a pressure."""
    mean = _mean_of_tensors(atoms)
    return bool(np.linalg.norm(mean @ np.diag([1.0, -1.0, 0.0]).reshape(9)) < 1e-6) and bool(
        np.linalg.norm(mean @ np.diag([0.0, 1.0, -1.0]).reshape(9)) < 1e-6
    )
