"""Frames as a database of ASE: energies, forces and stress as results of a calculator, names and origins as key-value pairs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.db.core import now, reserved_keys, str_represents
from ase.db.row import AtomsRow
from ase.stress import full_3x3_to_voigt_6_stress

from aiida_gaprss.frames import INFO_KEYS, REFERENCE, stress_from_virial


def ase_database(frames: Sequence[Atoms], beside: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> bytes:
    """Return an ASE database (SQLite) of frames.

    :param beside: for each frame, what is put into ``data`` as it is; its ``info`` becomes key-value pairs, too.
    :param metadata: of the database.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frames.db")
        with connect(path, use_lock_file=False) as database:
            for atoms, told in zip(frames, beside, strict=True):
                database.write(_row(atoms), pairs(told["info"]), data=dict(told))
            database.metadata = {**metadata, "key_descriptions": {key: (key, words, "") for key, words in INFO_KEYS.items()}}
        return path.read_bytes()


def _row(atoms: Atoms) -> AtomsRow:
    """Return a frame as a row that is nobody's: ASE would write the name of the user into it."""
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    plain.calc = calculator_of(atoms)
    row: Any = AtomsRow(plain)
    row.user, row.ctime = "", now()
    return row


def calculator_of(atoms: Atoms) -> SinglePointCalculator | None:
    """Return the labels of a frame as results of a calculator (eV, eV/Å, eV/Å³ with the sign of ASE); None without labels."""
    results: dict[str, Any] = {}
    if f"{REFERENCE}_energy" in atoms.info:
        results["energy"] = results["free_energy"] = float(atoms.info[f"{REFERENCE}_energy"])
    if f"{REFERENCE}_forces" in atoms.arrays:
        results["forces"] = atoms.arrays[f"{REFERENCE}_forces"]
    if f"{REFERENCE}_virial" in atoms.info:
        stress = stress_from_virial(atoms.info[f"{REFERENCE}_virial"], atoms.get_volume())
        results["stress"] = full_3x3_to_voigt_6_stress(stress) + 0.0
    if not results:
        return None
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return SinglePointCalculator(plain, **results)


def pairs(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a frame as ASE takes key-value pairs.

    ASE takes no text that it would read as a number or a truth value: such a one has an underscore before it.
    """
    return {key: _pair(value) for key, value in info.items() if key not in reserved_keys}


def _pair(value: Any) -> Any:
    doubtful = isinstance(value, str) and any(str_represents(value, kind) for kind in (bool, int, float))
    return f"_{value}" if doubtful else value
