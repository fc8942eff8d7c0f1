"""Frames in the formats of others: extended XYZ, ColabFit's names, an ASE database, CSV, JSON.

Each is a function of frames and of what is known :class:`About` them, and returns the bytes of one file. Numbers are those of
the frames to the last digit; units and signs stand in ``docs/datasets.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units

from aiida_gaprss.frames import (
    INFO_KEYS,
    PREDICTION,
    REFERENCE,
    FrameError,
    canonical,
    check,
    energy,
    one_line,
    stress_from_virial,
)
from aiida_gaprss.io.asedb import ase_database
from aiida_gaprss.io.extxyz import Keys, extxyz_text, renamed
from aiida_gaprss.levels import Difference, Level, line_of
from aiida_gaprss.outside import shown
from aiida_gaprss.outside.tables import csv_text

#: Names of our labels in extended XYZ; of ColabFit's (energy eV, forces eV/Å, stress eV/Å³, with the sign of ASE).
OURS = Keys(energy="REF_energy", forces="REF_forces", virial="REF_virial")
COLABFIT = Keys(energy="energy", forces="atomic_forces", stress="cauchy_stress")

#: What the numbers of the JSON file are in.
UNITS = {
    "cell": "Å, lattice vectors as rows",
    "positions": "Å, Cartesian",
    "energy": "eV, force-consistent, of the whole cell",
    "forces": "eV/Å",
    "virial": "eV, −stress·volume (positive diagonal: compressed), rows of a 3×3 tensor",
    "local_energy": "eV",
    "local_variance": "eV²",
}

#: Columns of the CSV file that are computed; after them come those of ``INFO_KEYS``.
COMPUTED = {
    "formula": "chemical formula of the cell, elements in the order of Hill",
    "atoms": "number of atoms",
    "volume_A3": "volume of the cell, Å³",
    "energy_eV": "reference energy of the cell",
    "energy_eV_per_atom": "reference energy per atom",
    "above_hull_eV_per_atom": "height above the convex hull of the frames of this file; empty in vacuum and without a hull",
    "max_force_eV_per_A": "largest force on an atom",
    "label_pressure_GPa": "pressure of the label, −trace(stress)/3: positive if compressed",
}

_NAMES = ("frame_id", "config_type", "generation")


@dataclass(frozen=True)
class About:
    """What is known of frames besides themselves.

    :param heights: above a convex hull, eV/atom, one for each frame, NaN for those without; empty if nobody asked for them.
    """

    level: Level | str = "unknown"
    energy_zero: str = "as computed"
    uuid: str | None = None
    heights: Sequence[float] = field(default_factory=list)

    @property
    def method(self) -> str:
        """The level of theory in one line."""
        return one_line(line_of(self.level).replace("\\n", " "))

    @property
    def software(self) -> str | None:
        """Program and version that made the labels, if the level tells them."""
        known = isinstance(self.level, Level) and not isinstance(self.level, Difference)
        return f"{self.level.code} {self.level.version}".strip() if known else None  # type: ignore[union-attr]

    def told(self) -> dict[str, Any]:
        """Return it as plain data."""
        known = {"level_of_theory": self.method, "software": self.software, "energy_zero": self.energy_zero, "dataset": self.uuid}
        return {key: value for key, value in known.items() if value is not None}


def to_extxyz(frames: Sequence[Atoms], about: About, keys: Keys = OURS) -> bytes:
    """Return extended XYZ with all that is known of the frames, labels under the names and units of ``keys``."""
    return extxyz_text(renamed(frames, keys)).encode()


def to_colabfit(frames: Sequence[Atoms], about: About) -> bytes:
    """Return extended XYZ with the names of ColabFit's columns; our own keys of the frames stay besides."""
    out = renamed(frames, COLABFIT)
    of_all = {"method": about.method, "software": about.software}
    for atoms in out:
        own = {"names": atoms.info.get("frame_id"), "labels": atoms.info.get("config_type"), **of_all}
        atoms.info.update({key: value for key, value in own.items() if value})
    return extxyz_text(out).encode()


def to_csv(frames: Sequence[Atoms], about: About) -> bytes:
    """Return a table with one row for each frame, and no structures."""
    heights = about.heights or [math.nan] * len(frames)
    rows = [_row(atoms, height) for atoms, height in zip(frames, heights, strict=True)]
    columns = [*_NAMES, *COMPUTED, *(key for key in INFO_KEYS if key not in _NAMES)]
    return csv_text(rows, columns).encode()


def _row(atoms: Atoms, height: float) -> dict[str, Any]:
    total, volume = energy(atoms), atoms.get_volume()
    row: dict[str, Any] = {"formula": atoms.get_chemical_formula(), "atoms": len(atoms), "volume_A3": float(volume)}
    if total is not None:
        row |= {"energy_eV": float(total), "energy_eV_per_atom": float(total) / len(atoms)}
    if math.isfinite(height):
        row["above_hull_eV_per_atom"] = float(height)
    if (forces := atoms.arrays.get(f"{REFERENCE}_forces")) is not None:
        row["max_force_eV_per_A"] = float(np.linalg.norm(forces, axis=1).max())
    if (virial := atoms.info.get(f"{REFERENCE}_virial")) is not None:
        row["label_pressure_GPa"] = -float(np.trace(stress_from_virial(virial, volume))) / 3 / units.GPa
    return {**row, **told_of(atoms)}


def to_json(frames: Sequence[Atoms], about: About) -> bytes:
    """Return everything that is known of the frames, with units and what the keys mean."""
    content = {
        "format": "aiida-gaprss frames",
        "version": 1,
        **about.told(),
        "units": UNITS,
        "keys": INFO_KEYS,
        "frames": [_plain(atoms) for atoms in frames],
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def _plain(atoms: Atoms) -> dict[str, Any]:
    told: dict[str, Any] = {
        **told_of(atoms),
        "symbols": atoms.get_chemical_symbols(),
        "cell": atoms.cell.tolist(),
        "pbc": atoms.pbc.tolist(),
        "positions": atoms.positions.tolist(),
    }
    for name, prefix in (("labels", REFERENCE), ("predictions", PREDICTION)):
        if values := numbers_of(atoms, prefix):
            told[name] = values
    return told


def told_of(atoms: Atoms) -> dict[str, Any]:
    """Return the keys of a frame that are no labels: texts, finite numbers and truth values.

    Whatever else stands in the file of a stranger becomes a text; numbers that are not finite are left out.
    """
    known = {key: _simple(atoms.info[key]) for key in INFO_KEYS if key in atoms.info}
    return {key: value for key, value in known.items() if not (isinstance(value, float) and not math.isfinite(value))}


def _simple(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value  # as ASE reads numbers
    return value if isinstance(value, str | bool | int | float) else shown(value)


def numbers_of(atoms: Atoms, prefix: str) -> dict[str, Any]:
    """Return the labels (``REF``) or predictions (``PRED``) of a frame as plain numbers and lists of rows."""
    out: dict[str, Any] = {}
    if f"{prefix}_energy" in atoms.info:
        out["energy"] = float(atoms.info[f"{prefix}_energy"])
    if f"{prefix}_virial" in atoms.info:
        out["virial"] = np.asarray(atoms.info[f"{prefix}_virial"]).reshape(3, 3).tolist()
    arrays = ("forces", "local_energy", "local_variance")
    return out | {key: atoms.arrays[f"{prefix}_{key}"].tolist() for key in arrays if f"{prefix}_{key}" in atoms.arrays}


def to_database(frames: Sequence[Atoms], about: About) -> bytes:
    """Return an ASE database, whose calculators have the labels."""
    beside = [{"info": told_of(atoms), "predictions": numbers_of(atoms, PREDICTION)} for atoms in frames]
    return ase_database(frames, beside, {**about.told(), "title": about.method})


Writer = Callable[..., bytes]

#: Formats by their names, with what writes them.
FORMATS: Mapping[str, Writer] = {
    "extxyz": to_extxyz,
    "db": to_database,
    "csv": to_csv,
    "json": to_json,
    "colabfit": to_colabfit,
}

#: Endings of files that leave no doubt.
ENDINGS = {".xyz": "extxyz", ".extxyz": "extxyz", ".db": "db", ".csv": "csv", ".json": "json"}


def format_of(path: str | Path) -> str:
    """Return the format that the ending of a file asks for.

    :raises FrameError: if it asks for none.
    """
    name = Path(path).name
    if (known := ENDINGS.get(Path(path).suffix.lower())) is None:
        raise FrameError(
            f"{shown(name)}: its ending says no format; expected {', '.join(ENDINGS)}, "
            f"or --format with one of {', '.join(FORMATS)}"
        )
    return known


def exported(frames: Sequence[Atoms], fileformat: str, about: About, **options: Any) -> bytes:
    """Return frames as the bytes of a file.

    :param options: ``keys`` of extended XYZ.
    :raises FrameError: for another format, and, but for extended XYZ, frames that no dataset would take.
    """
    if fileformat not in FORMATS:
        raise FrameError(f"no format {shown(fileformat)!r}; there are {', '.join(FORMATS)}")
    for atoms in frames if fileformat != "extxyz" else ():
        check(atoms, f"frame {shown(atoms.info.get('frame_id'))}")
    return FORMATS[fileformat]([canonical(atoms) for atoms in frames], about, **options)
