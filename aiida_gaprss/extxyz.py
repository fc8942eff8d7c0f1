"""Bring extended XYZ files of other programs, with their own key names and units, to frames and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import iread, write
from ase.io.extxyz import XYZError

from aiida_gaprss.frames import REFERENCE, FrameError, canonical, check, set_labels, stress_from_virial, virial_from_stress

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


def import_frames(
    path: str | Path, keys: Keys, config_type: str | None = None, refused: list[FrameError] | None = None
) -> list[Atoms]:
    """Read an extended XYZ file into frames with checked labels in eV and Å.

    Frames keep a ``frame_id`` that the file gives; otherwise they are named after the file and their number.

    :param config_type: for frames of which the file says no configuration type.
    :param refused: if given, frames that do not belong in a dataset are left out and the reasons put here.
    :raises FrameError: naming file, frame and value, for anything that does not belong in a dataset, for a named key that no
        frame has.
    """
    path = Path(path)
    if not path.is_file():
        raise FrameError(f"{path}: no such file")
    frames: list[Atoms] = []
    found = {name: 0 for name in (keys.energy, keys.forces, keys.virial, keys.stress) if name}
    try:
        for number, source in enumerate(iread(path, index=":", format="extxyz"), start=1):
            try:
                frames.append(_import_frame(source, keys, config_type, f"frame {number} of {path.name}", found))
            except FrameError as fault:
                if refused is None:
                    raise
                refused.append(fault)
                continue
            frames[-1].info.setdefault("frame_id", f"{path.name.split('.')[0]}-{number:05d}")
    except (XYZError, KeyError, ValueError) as exception:
        if isinstance(exception, FrameError):
            raise
        raise FrameError(f"{path.name}, after frame {len(frames)}: not readable as extended XYZ: {exception}") from exception
    if not frames:
        raise refused[0] if refused else FrameError(f"{path}: has no frames")
    for name, count in found.items():
        if count == 0:
            have = sorted({*source.info, *source.arrays, *(source.calc.results if source.calc else ())})
            raise FrameError(f"{path.name}: no frame has the key {name!r}; the last frame has {', '.join(have)}")
    return frames


def _import_frame(source: Atoms, keys: Keys, config_type: str | None, where: str, found: dict[str, int]) -> Atoms:
    results = dict(source.calc.results) if source.calc is not None else {}

    def get(name: str | None) -> np.ndarray | None:
        if name is None:
            return None
        for store in (source.arrays, source.info, results):
            if name in store:
                found[name] += 1
                try:
                    value = np.asarray(store[name], dtype=float)
                except (TypeError, ValueError) as exception:
                    raise FrameError(f"{where}: {name} is {store[name]!r}, expected numbers") from exception
                if not np.isfinite(value).all():
                    raise FrameError(f"{where}: {name} is {store[name]!r}, expected finite numbers")
                return value
        return None

    if not source.cell.rank == 3:
        raise FrameError(f"{where}: has no cell; give it a Lattice (a large one for molecules and isolated atoms)")
    atoms = source.copy()
    atoms.info[keys.config_type] = source.info.get(keys.config_type, config_type or "unknown")
    atoms.info["config_type"] = str(atoms.info[keys.config_type])
    energy, forces, virial, stress = get(keys.energy), get(keys.forces), get(keys.virial), get(keys.stress)
    if energy is not None and energy.size != 1:
        raise FrameError(f"{where}: {keys.energy} has {energy.size} numbers, expected 1")
    if stress is not None:
        if stress.size not in (6, 9):
            raise FrameError(f"{where}: {keys.stress} has {stress.size} numbers, expected 6 (xx yy zz yz xz xy) or 9 (3×3)")
        if stress.size == 9:
            stress = stress.reshape(3, 3)
        factor = STRESS_UNITS[keys.stress_unit] * keys.stress_sign
        virial = virial_from_stress(stress * factor, atoms.get_volume())
    elif virial is not None:
        if virial.size != 9:
            raise FrameError(f"{where}: {keys.virial} has {virial.size} numbers, expected 9 (3×3)")
        virial = virial.reshape(9) * ENERGY_UNITS[keys.energy_unit]
    set_labels(
        atoms,
        energy=None if energy is None else energy.item() * ENERGY_UNITS[keys.energy_unit],
        forces=None if forces is None else forces * FORCE_UNITS[keys.force_unit],
        virial=virial,
    )
    check(atoms, where)
    return canonical(atoms)


def export_frames(frames: Sequence[Atoms], path: str | Path, keys: Keys) -> None:
    """Write frames to an extended XYZ file under the names and units of ``keys``."""
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
    write(Path(path), out, format="extxyz", write_results=False)
