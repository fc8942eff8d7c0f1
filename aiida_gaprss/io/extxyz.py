"""Bring extended XYZ files of other programs, with their own key names and units, to frames and back."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import write
from ase.neighborlist import neighbor_list

from aiida_gaprss.frames import (
    INFO_KEYS,
    NAMES,
    OLD_PREDICTION,
    PREDICTION,
    REFERENCE,
    FrameError,
    canonical,
    check,
    check_name,
    plain_name,
    set_labels,
    stress_from_virial,
    virial_from_stress,
)
from aiida_gaprss.io import xyztext
from aiida_gaprss.outside import OutsideError, read_text, shown, write_file

#: Factors to eV, eV/Å and eV/Å³.
ENERGY_UNITS = {"eV": 1.0, "Ha": units.Hartree, "Ry": units.Rydberg, "meV": 1e-3, "kcal/mol": units.kcal / units.mol}
FORCE_UNITS = {
    "eV/Å": 1.0,
    "eV/A": 1.0,
    "meV/A": 1e-3,
    "Ha/bohr": units.Hartree / units.Bohr,
    "Ry/bohr": units.Rydberg / units.Bohr,
}
STRESS_UNITS = {"eV/Å^3": 1.0, "eV/A^3": 1.0, "GPa": units.GPa, "kbar": 0.1 * units.GPa}

#: Å; within it a potential sees the images of a frame that is not periodic.
REACH = 5.0

#: Our own keys that are numbers; all others are text.
OWN_NUMBERS: dict[str, type] = {
    "generation": int,
    "step": int,
    "seed": int,
    "label_attempt": int,
    "pressure_GPa": float,
    "seconds": float,
    "processor_seconds": float,
    "n_operations": int,
    "space_group": int,
}


@dataclass(frozen=True)
class Keys:
    """Names and units of the labels in somebody's extended XYZ file.

    ``virial`` and ``stress`` exclude each other. ``stress_sign`` is +1 for the sign of ASE (a compressed cell has a negative
    diagonal), −1 for the opposite one, as VASP and Quantum ESPRESSO print it.
    """

    energy: str | None = None
    forces: str | None = None
    virial: str | None = None
    stress: str | None = None
    config_type: str = "config_type"
    energy_unit: str = "eV"
    force_unit: str = "eV/Å"
    stress_unit: str = "eV/Å^3"
    stress_sign: int = 1

    def __post_init__(self) -> None:
        """Refuse unknown units and contradictory keys."""
        for name, value, known in (
            ("energy", self.energy_unit, ENERGY_UNITS),
            ("force", self.force_unit, FORCE_UNITS),
            ("stress", self.stress_unit, STRESS_UNITS),
        ):
            if value not in known:
                raise FrameError(f"unknown {name} unit {value!r}; known: {', '.join(known)}")
        if self.virial and self.stress:
            raise FrameError(f"give a virial key ({self.virial!r}) or a stress key ({self.stress!r}), not both")
        if self.stress_sign not in (1, -1):
            raise FrameError(f"stress_sign must be 1 (ASE) or -1, got {self.stress_sign!r}")

    @property
    def named(self) -> list[str]:
        """The keys of labels that are named."""
        return [name for name in (self.energy, self.forces, self.virial, self.stress) if name]


@dataclass
class _Found:
    """What a file has besides the frames: notes for whoever imports it, and counts of keys, of which notes are made."""

    notes: list[str] = field(default_factory=list)
    keys: Counter[str] = field(default_factory=Counter)
    sizes: dict[str, int] = field(default_factory=dict)
    alone: int = 0
    boxed: int = 0
    without_virial: int = 0


def import_frames(
    path: str | Path,
    keys: Keys,
    config_type: str | None = None,
    refused: list[FrameError] | None = None,
    *,
    notes: list[str] | None = None,
    own_keys: bool = False,
    unlabelled: bool = False,
    box: float | None = None,
) -> list[Atoms]:
    """Read an extended XYZ file, plain or gzip, into frames with checked labels in eV and Å.

    Frames keep a ``frame_id`` and a configuration type that the file gives; otherwise they are named after the file and their
    number. Labels are those of ``keys``, and nothing else that the file holds.

    :param config_type: for frames of which the file says no configuration type.
    :param refused: if given, frames that do not belong in a dataset are left out and the reasons put here.
    :param notes: if given, what else there is to say of the file is put here.
    :param own_keys: the file is one of ours: take all keys of :data:`~aiida_gaprss.frames.INFO_KEYS` and predictions, and, if
        ``keys`` names none, the labels ``REF_energy``, ``REF_forces``, ``REF_virial``.
    :param unlabelled: no label is named, and none is wanted.
    :param box: put frames that are not periodic in a box with so much vacuum (Å) in these directions; they then have no virial.
    :raises FrameError: naming file, frame and value, for anything that does not belong in a dataset, for a named key that no
        frame has, and if no key is named.
    """
    path, keys = Path(path), _own(keys) if own_keys else keys
    how = _How(keys, config_type, own_keys, box)
    found = _Found()
    frames = _read(path, how, found, refused)
    if not frames:
        raise refused[0] if refused else FrameError(f"{shown(path)}: has no frames")
    for name in keys.named:
        if not found.keys[name]:
            have = ", ".join(sorted(shown(key, 40) for key in found.keys))
            raise FrameError(
                f"{path.name}: no frame has the key {shown(name)!r}; the frames have {have or 'nothing but a structure'}"
            )
    if not keys.named and not unlabelled:
        raise FrameError(f"{path.name}: {_hint(found)}")
    if notes is not None:
        notes += [f"{path.name}: {text}" for text in _notes(frames, how, found)]
    return frames


@dataclass(frozen=True)
class _How:
    """How frames are imported: the options of :func:`import_frames`."""

    keys: Keys
    config_type: str | None
    own_keys: bool
    box: float | None


def _own(keys: Keys) -> Keys:
    """Return the keys under which our own files have labels, unless others are named."""
    return keys if keys.named else replace(keys, energy="REF_energy", forces="REF_forces", virial="REF_virial")


def keys_of(path: Path) -> set[str]:
    """Return the keys that the readable frames of an extended XYZ file have besides their structure.

    :raises FrameError: if the file cannot be read.
    """
    return {key for raw, _ in xyztext.read(_text(path), path.name) if raw is not None for key in raw.keys}


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OutsideError as exception:
        raise FrameError(str(exception)) from exception


def _read(path: Path, how: _How, found: _Found, refused: list[FrameError] | None) -> list[Atoms]:
    """Return the frames of a file, and count what it holds."""
    text = _text(path)
    stem = plain_name(path.name.split(".")[0])
    frames: list[Atoms] = []
    read: list[xyztext.RawFrame] = []
    for number, (raw, fault) in enumerate(xyztext.read(text, path.name), start=1):
        try:
            if raw is None:
                raise fault or FrameError(f"frame {number} of {path.name}: not readable")
            found.keys.update(dict.fromkeys(raw.keys, 1))
            found.sizes.update({key: _size(raw, key) for key in raw.keys if key not in found.sizes})
            frames.append(_import_frame(raw, how, found))
        except FrameError as exception:
            if refused is None:
                raise exception from None
            refused.append(exception)
            continue
        frames[-1].info.setdefault("frame_id", f"{stem}-{number:05d}")
        read.append(replace(raw, columns={}))
    if text and not text.endswith("\n"):
        found.notes.append("does not end with an end of line: if it was cut, the last number may lack digits")
    unlike = {i: FrameError(reason) for i, reason in xyztext.unlike(read).items()}
    if unlike and refused is None:
        raise next(iter(unlike.values()))
    if unlike and refused is not None:
        refused += unlike.values()
    return [atoms for i, atoms in enumerate(frames) if i not in unlike]


def _size(raw: xyztext.RawFrame, key: str) -> int:
    """Return how many numbers a key has, negative for those of an atom; 0 for words."""
    if key in raw.columns:
        return -raw.columns[key].shape[1] if raw.columns[key].dtype.kind == "f" else 0
    try:
        values = raw.values(key)
    except FrameError:
        return 0
    return 0 if values is None else values.size


def _import_frame(raw: xyztext.RawFrame, how: _How, found: _Found) -> Atoms:
    keys, where = how.keys, raw.where
    kind = raw.text(keys.config_type)
    name = raw.text("frame_id")
    atoms = _structure(raw, how.box, found)
    atoms.info["config_type"] = check_name("config_type", kind or how.config_type or "unknown", where)
    if name:
        atoms.info["frame_id"] = check_name("frame_id", name, where)
    if how.own_keys:
        _take_own(raw, atoms)
    _take_labels(raw, atoms, keys)
    if not _periodic(raw) and f"{REFERENCE}_virial" in atoms.info:
        del atoms.info[f"{REFERENCE}_virial"]
        found.without_virial += 1
    check(atoms, where)
    return canonical(atoms)


def _periodic(raw: xyztext.RawFrame) -> bool:
    """Tell whether a frame is periodic in all directions, as one with lattice vectors is unless it says otherwise."""
    return all(raw.pbc) if raw.pbc is not None else raw.cell is not None


def _structure(raw: xyztext.RawFrame, box: float | None, found: _Found) -> Atoms:
    """Return the atoms in a cell that is periodic in all directions.

    A frame that is not is taken in the cell it has if that holds it so far from its images that no potential would see them.

    :raises FrameError: if it is not periodic, its cell is none or a tight one, and no box is asked for.
    """
    pbc = raw.pbc if raw.pbc is not None else (raw.cell is not None,) * 3
    positions = raw.columns["pos"]
    if not np.isfinite(positions).all():
        raise FrameError(f"{raw.where}: positions have a value that is not a finite number")
    if positions.size and np.abs(positions).max() > xyztext.FARTHEST:
        raise FrameError(f"{raw.where}: an atom is at {np.abs(positions).max():.3g} Å, expected at most {xyztext.FARTHEST:g}")
    atoms = Atoms(raw.numbers, positions, cell=raw.cell, pbc=pbc)
    if len(atoms) == 0:
        raise FrameError(f"{raw.where}: has no atoms")
    if all(pbc):
        if atoms.cell.rank != 3:
            raise FrameError(f"{raw.where}: has no cell; give it a Lattice (a large one for molecules and isolated atoms)")
        return atoms
    if box is None and atoms.cell.rank == 3 and _far_from_images(atoms):
        found.alone += 1
        atoms.pbc = True
        return atoms
    if box is None:
        why = (
            f'pbc "{" ".join("FT"[int(p)] for p in pbc)}"' if raw.cell is not None or raw.pbc is not None else "it has no Lattice"
        )
        raise FrameError(
            f"{raw.where}: is not periodic in all directions ({why}), so that its labels are not those of a crystal; give it a "
            "Lattice, or say how much vacuum (Å) is to be around it: --box 12"
        )
    missing = [axis for axis in range(3) if pbc[axis] and not atoms.cell.array[axis].any()]
    if missing:
        raise FrameError(f"{raw.where}: has no lattice vector {'abc'[missing[0]]} in a direction in which it is periodic")
    atoms.center(vacuum=box / 2, axis=[axis for axis in range(3) if not pbc[axis]])
    atoms.pbc = True
    found.boxed += 1
    return atoms


def _far_from_images(atoms: Atoms) -> bool:
    """Tell whether no atom comes within :data:`REACH` of another one by making the frame periodic."""
    periodic = atoms.copy()
    periodic.pbc = True
    return len(neighbor_list("i", periodic, REACH)) == len(neighbor_list("i", atoms, REACH))


def _take_own(raw: xyztext.RawFrame, atoms: Atoms) -> None:
    """Take our own keys and predictions from one of our own files."""
    for key in INFO_KEYS:
        text = raw.text(key)
        if text is None or key in atoms.info:
            continue
        if key in OWN_NUMBERS:
            values = raw.values(key)
            number = values.item() if values is not None and values.size == 1 else None
            if number is None or (OWN_NUMBERS[key] is int and number != int(number)):
                raise FrameError(f"{raw.where}: {key} is {shown(text, 40)!r}, expected {INFO_KEYS[key]}")
            atoms.info[key] = int(text) if OWN_NUMBERS[key] is int and text.strip("+-").isdigit() else OWN_NUMBERS[key](number)
        else:
            atoms.info[key] = check_name(key, text, raw.where) if key in NAMES else text
    prefix = OLD_PREDICTION if raw.values(f"{OLD_PREDICTION}_energy") is not None else PREDICTION
    predictions = {name: _expected(raw, f"{prefix}_{name}", size) for name, size in (("energy", 1), ("virial", 9))}
    forces = raw.values(f"{prefix}_forces")
    energy = predictions["energy"]
    set_labels(atoms, None if energy is None else energy.item(), forces, predictions["virial"], PREDICTION)
    for key in ("local_energy", "local_variance"):
        if (values := raw.values(f"{prefix}_{key}")) is not None:
            atoms.arrays[f"{PREDICTION}_{key}"] = values.ravel()


def _expected(raw: xyztext.RawFrame, key: str | None, *sizes: int) -> np.ndarray | None:
    """Return the numbers of a key in the comment line.

    :raises FrameError: if there are others than ``sizes``.
    """
    values = raw.values(key) if key else None
    if values is not None and (values.size not in sizes or key in raw.columns):
        raise FrameError(f"{raw.where}: {shown(key)} has {values.size} numbers, expected {' or '.join(map(str, sizes))}")
    return values


def _take_labels(raw: xyztext.RawFrame, atoms: Atoms, keys: Keys) -> None:
    """Put the labels that ``keys`` names on a frame."""
    where = raw.where
    energy, virial = _expected(raw, keys.energy, 1), _expected(raw, keys.virial, 9)
    stress = _expected(raw, keys.stress, 6, 9)
    forces = raw.values(keys.forces) if keys.forces else None
    if forces is not None and (forces.size != 3 * len(atoms)):
        raise FrameError(f"{where}: {shown(keys.forces)} has {forces.size} numbers, expected 3 for each of {len(atoms)} atoms")
    if stress is not None:
        factor = STRESS_UNITS[keys.stress_unit] * keys.stress_sign
        tensor = stress if stress.size == 6 else stress.reshape(3, 3)
        virial = virial_from_stress(tensor * factor, abs(np.linalg.det(raw.cell)) if raw.cell is not None else 0.0)
    elif virial is not None:
        virial = virial * ENERGY_UNITS[keys.energy_unit]
    set_labels(
        atoms,
        energy=None if energy is None else energy.item() * ENERGY_UNITS[keys.energy_unit],
        forces=None if forces is None else forces * FORCE_UNITS[keys.force_unit],
        virial=virial,
    )


def _looks_like(key: str, size: int) -> str | None:
    """Return the option that would name a key, by its name and the size of its value."""
    for option, sizes in (("energy", (1,)), ("force", (-3,)), ("virial", (9,)), ("stress", (6, 9))):
        if option in key.lower() and size in sizes:
            return "forces" if option == "force" else option
    return None


def _hint(found: _Found) -> str:
    """Say which keys a file has, and which options would name them."""
    keys = [shown(key, 40) for key in found.keys]
    options = {option: key for key in found.keys if (option := _looks_like(key, found.sizes.get(key, 0)))}
    if "virial" in options:
        options.pop("stress", None)
    words = " ".join(f"--{option} {shown(key, 40)}" for option, key in sorted(options.items()))
    return (
        "no key of a label is named, so that the frames would have none. "
        f"They have {', '.join(keys[:20]) or 'nothing but a structure'}{' …' if len(keys) > 20 else ''}. "
        + (
            f"Name what counts, such as {words}; or "
            if words
            else "Name the keys of labels with --energy, --forces, --virial; or "
        )
        + "say --unlabelled"
    )


def _notes(frames: Sequence[Atoms], how: _How, found: _Found) -> list[str]:
    """Return what else there is to say of a file."""
    n = len(frames)
    notes = list(found.notes)
    notes += [f"{shown(key)}: {found.keys[key]} of {n} frames" for key in how.keys.named if found.keys[key] < n]
    words = f"; {found.without_virial} virials left out" if found.without_virial else ""
    if found.boxed:
        notes.append(f"{found.boxed} frames that are not periodic are in a box now, with {how.box:g} Å of vacuum{words}")
    if found.alone:
        notes.append(
            f"{found.alone} frames that are not periodic are taken as periodic: in their cells all images are {REACH:g} Å "
            f"or more away{words}"
        )
    others = [key for key in found.keys if key not in how.keys.named]
    prefixes = tuple(f"{prefix}_" for prefix in (REFERENCE, PREDICTION, OLD_PREDICTION))
    ours = [key for key in others if (key in INFO_KEYS and key not in ("frame_id", "config_type")) or key.startswith(prefixes)]
    if ours and not how.own_keys:
        notes.append(f"not taken: {', '.join(ours)}; say --own-keys if the file is one that we exported")
    labels = [shown(key, 40) for key in others if key not in ours and _looks_like(key, found.sizes.get(key, 0))]
    if labels and how.keys.named:
        notes.append(f"not named, so not taken: {', '.join(labels)}")
    return notes


def export_frames(frames: Sequence[Atoms], path: str | Path, keys: Keys) -> None:
    """Write frames to an extended XYZ file under the names and units of ``keys``, over one that is there."""
    write_file(path, extxyz_text(renamed(frames, keys)).encode(), force=True)


def extxyz_text(frames: Sequence[Atoms]) -> str:
    """Return frames as they are as extended XYZ, for a program, not for a dataset."""
    stream = io.StringIO()
    write(stream, frames, format="extxyz", write_results=False)
    return stream.getvalue()


def renamed(frames: Sequence[Atoms], keys: Keys) -> list[Atoms]:
    """Return copies of frames whose labels have the names and units of ``keys``; those that it does not name are left out."""
    out = []
    for frame in frames:
        atoms = canonical(frame)
        energy = atoms.info.pop(f"{REFERENCE}_energy", None)
        virial = atoms.info.pop(f"{REFERENCE}_virial", None)
        forces = atoms.arrays.pop(f"{REFERENCE}_forces", None)
        if energy is not None and keys.energy:
            atoms.info[keys.energy] = energy / ENERGY_UNITS[keys.energy_unit]
        if virial is not None and keys.virial:
            atoms.info[keys.virial] = virial / ENERGY_UNITS[keys.energy_unit]
        if virial is not None and keys.stress:
            factor = STRESS_UNITS[keys.stress_unit] * keys.stress_sign
            atoms.info[keys.stress] = (stress_from_virial(virial, atoms.get_volume()) / factor).reshape(9)
        if forces is not None and keys.forces:
            atoms.arrays[keys.forces] = forces / FORCE_UNITS[keys.force_unit]
        if keys.config_type != "config_type" and "config_type" in atoms.info:
            atoms.info[keys.config_type] = atoms.info.pop("config_type")
        out.append(atoms)
    return out
