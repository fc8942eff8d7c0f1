"""Structures that can be turned in the browser, offline: those of a page as data for chemiscope, whose script lies beside it.

chemiscope (https://chemiscope.org, BSD-3) is looked for, not required: its wheel holds the script. Only numbers and the symbols
of elements are handed to it; names from outside stay in the page, where they are text.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss.properties.local_energies import from_means, structure
from aiida_gaprss.report.structures import pictured, with_boundary

#: The script and its licence, as they lie beside a page.
SCRIPT, LICENCE = BESIDE = "chemiscope.min.js", "chemiscope.LICENSE"

#: Structures with more atoms are left to programs that are made for them.
MOST_ATOMS = 2000

#: Decimals of Å and eV.
DECIMALS = 5


@dataclass(frozen=True)
class Shown:
    """A structure by its name on the page; ``energies``: of its atoms, eV, if they are known."""

    name: str
    atoms: Atoms
    energies: np.ndarray | None = None


def installed_script() -> Path | None:
    """Return chemiscope's script, None if it is not installed; nothing is imported."""
    spec = importlib.util.find_spec("chemiscope")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder, "sphinx", "static", SCRIPT)
        if path.is_file():
            return path
    return None


def put_beside(folder: Path) -> bool:
    """Put script and licence beside a page; tell whether there is one."""
    path = installed_script()
    if path is None:
        return (folder / SCRIPT).is_file()
    shutil.copyfile(path, folder / SCRIPT)
    try:
        licences = [file for file in distribution("chemiscope").files or () if file.name == "LICENSE"]
    except PackageNotFoundError:
        licences = []
    for file in licences:
        shutil.copyfile(str(file.locate()), folder / LICENCE)
    return True


def told(structures: Iterable[Shown]) -> dict[str, Any] | None:
    """Return names of structures and what chemiscope is given of them, in one order; None if there is none."""
    kept = [one for one in structures if len(one.atoms) <= MOST_ATOMS and np.isfinite(one.atoms.positions).all()]
    if not kept:
        return None
    return {"names": [one.name for one in kept], "data": [_data(one) for one in kept]}


def _data(shown: Shown) -> dict[str, Any]:
    """Return a structure as chemiscope has it: positions and cell in Å, flat; local energies from their means in eV."""
    atoms = pictured(shown.atoms) if shown.energies is None else _with_energies(shown.atoms, shown.energies)
    x, y, z = np.round(atoms.positions, DECIMALS).T.tolist()
    out: dict[str, Any] = {"size": len(atoms), "names": atoms.get_chemical_symbols(), "x": x, "y": y, "z": z}
    if atoms.pbc.any():
        out["cell"] = np.round(atoms.cell.array, DECIMALS).ravel().tolist()
    if shown.energies is not None:
        out["energies"] = np.round(atoms.arrays["energies"], DECIMALS).tolist()
    return out


def _with_energies(atoms: Atoms, energies: np.ndarray) -> Atoms:
    """Return a cell with the atoms on its boundary, all with their local energies from the mean of their element, eV."""
    out = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    out.set_array("energies", from_means(atoms, energies)[0])
    return with_boundary(out) if out.pbc.all() else out


def with_local_energies(record: Mapping[str, Any], name: str) -> list[Shown]:
    """Return the structures of a validation of which a property tells local energies, by crystal, part and potential.

    :param record: of ``report.validation.record_of``.
    """
    found = []
    for maker, crystals in record["results"].items():
        for crystal in record["crystals"]:
            for part, one in crystals.get(crystal, {}).get(name, {}).items():
                if isinstance(one, Mapping) and "local_energies_eV" in one:
                    energies = np.array(one["local_energies_eV"], dtype=float)
                    found.append(Shown(f"{crystal}, {part}, {maker}", structure(one), energies))
    return found
