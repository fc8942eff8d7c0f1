"""Crystals of files that ASE reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import read

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import FrameError, check, plain_name
from aiida_gaprss.outside import lack_of_file, size, words_of
from aiida_gaprss.structures.checks import AT_ONE_PLACE, MOST_ATOMS, at_one_place

#: Bytes of a file of crystals, and how many crystals it may hold.
MOST_BYTES, MOST_CRYSTALS = 20_000_000, 1000


def structures_of(path: Path, known: Collection[str] = (), periodic: bool = False) -> list[Atoms]:
    """Return the structures of a file.

    :param known: elements that a campaign has; default: any.
    :param periodic: refuse what does not say that it repeats in all directions.
    :raises ValueError: if they cannot be read, or are no crystals, or have other elements.
    """
    lack = lack_of_file(path)
    if lack or path.stat().st_size > MOST_BYTES:
        raise ValueError(lack or f"{path} has {size(path.stat().st_size)}, expected at most {size(MOST_BYTES)}")
    try:
        found: Any = read(path, index=":")
    except Exception as exception:  # ASE's readers raise anything
        raise ValueError(f"{path} cannot be read: {words_of(exception)}") from exception
    if not 0 < len(found) <= MOST_CRYSTALS:
        raise ValueError(f"{path} holds {len(found)} structures, expected 1 to {MOST_CRYSTALS}")
    for atoms in found:
        strange = sorted(set(atoms.get_chemical_symbols()) - set(known)) if known else []
        if strange:
            raise ValueError(f"{path} contains {', '.join(strange)}, which the formula does not ({', '.join(known)})")
        if not 0 < len(atoms) <= MOST_ATOMS:
            raise ValueError(f"{path} holds a structure of {len(atoms)} atoms, expected 1 to {MOST_ATOMS}")
        if _is_disordered(atoms):
            raise ValueError(f"{path} has sites that are occupied in part, expected full ones; the strategy occupancy fills them")
        if not atoms.cell.volume > 0:
            raise ValueError(f"{path} holds a structure without a cell, expected a crystal")
        if periodic and not atoms.pbc.all():
            raise ValueError(f"{path} holds a structure that does not repeat in all directions, expected a crystal")
    return list(found)


def _is_disordered(atoms: Atoms) -> bool:
    """Tell whether a file has partly occupied sites, of which ASE reads the element that is there most often."""
    occupancies = atoms.info.get("occupancy")
    kinds = occupancies.values() if isinstance(occupancies, dict) else ()
    return any(isinstance(kind, dict) and any(part != 1 for part in kind.values()) for kind in kinds)


def named_crystals(path: Path, known: Collection[str] = (), periodic: bool = False) -> dict[str, Atoms]:
    """Return the crystals of a file, called by their ``name`` in the file, or after it; bare and periodic.

    :param periodic: as of :func:`structures_of`.
    :raises ValueError: as :func:`structures_of`.
    """
    found = structures_of(path, known, periodic)
    out: dict[str, Atoms] = {}
    for number, atoms in enumerate(found):
        label = str(atoms.info.get("name", path.stem + (f"-{number}" if len(found) > 1 else "")))
        label = plain_name(re.sub(r"[^\w.+-]+", "-", label), "crystal")
        if label in out:
            raise ValueError(f"{path} holds two crystals {label}; give each a name of its own (name=… in extended XYZ)")
        out |= called(label, atoms)
        _check(path, out[label])
    return out


def called(name: str, atoms: Atoms) -> dict[str, Atoms]:
    """Return a crystal by its name: bare, periodic, with the name as ``frame_id``."""
    crystal = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    crystal.info.update(frame_id=name, config_type="crystal")
    return {name: crystal}


def _check(path: Path, crystal: Atoms) -> None:
    """Refuse what no dataset takes, and no reference can calculate."""
    try:
        check(crystal)
    except FrameError as error:
        raise ValueError(f"{path} holds a structure that is no crystal: {error}") from error
    if at_one_place(crystal):
        raise ValueError(f"{path} holds a structure with two atoms at one place (closer than {AT_ONE_PLACE:g} Å)")


def crystals_of(paths: Sequence[Path]) -> Dataset:
    """Return the crystals of files.

    :raises ValueError: as :func:`structures_of`, and if two have one name.
    """
    frames: dict[str, Atoms] = {}
    for path in paths:
        for label, crystal in named_crystals(path, periodic=True).items():
            if label in frames:
                raise ValueError(f"{path}: there is another crystal {label}; call its file otherwise")
            frames[label] = crystal
    return Dataset(frames.values(), level_of_theory="unlabelled")


def crystals_in(node: Dataset | None) -> list[Atoms]:
    """Return the crystals of a dataset, with their names and nothing else."""
    out = []
    for atoms in node.get_frames() if node is not None else ():
        out.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        out[-1].info["frame_id"] = atoms.info["frame_id"]
    return out
