"""Standard cells of a crystal and the path of its band structure.

Both belong together: a path is a list of fractional points of one choice of the primitive cell. Symmetry is found once, with a
wide tolerance, and the cells have it to the last digit, so that whoever looks for it again with a narrow one finds the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import seekpath
from ase import Atoms
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from pymatgen.symmetry.bandstructure import HighSymmKpath
from spglib import SpglibError

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import PropertyError

Convention: TypeAlias = Literal["setyawan", "seekpath"]

#: Two ends of a straight part of a path, each with its name and its fractional coordinates.
Segment: TypeAlias = tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]

#: Of the lengths (relative) and angles (degrees) of a cell that is to be another one turned.
LENGTHS, ANGLES = 0.01, 1.0


@dataclass(frozen=True)
class Standard:
    """Standard cells of a crystal, turned to standard axes, their atoms on the places that symmetry gives them.

    :param to_primitive: phonopy's primitive matrix: the columns are the primitive vectors in terms of the conventional ones.
    :param path: through the Brillouin zone of the primitive cell.
    """

    conventional: Atoms
    primitive: Atoms
    to_primitive: np.ndarray
    path: list[Segment]


def standard_of(crystal: Atoms, tolerance: float, convention: Convention) -> Standard:
    """Return the standard cells and the path of a crystal.

    The crystal is rounded first as datasets round it: what has been through a file gives the same cells.

    :param tolerance: of the symmetry, Å.
    :param convention: ``setyawan``: W. Setyawan and S. Curtarolo, Comput. Mater. Sci. 49, 299 (2010), by pymatgen; ``seekpath``:
        Y. Hinuma et al., Comput. Mater. Sci. 128, 140 (2017).
    :raises PropertyError: if the crystal is not periodic in all directions, or no symmetry is found.
    """
    if not crystal.pbc.all():
        raise PropertyError("phonons need a crystal that is periodic in all directions")
    atoms = fr.canonical(Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the cell is none of these, which is why it is made
            return _setyawan(atoms, tolerance) if convention == "setyawan" else _seekpath(atoms, tolerance)
    except (SpglibError, TypeError, ValueError, seekpath.hpkot.SymmetryDetectionError) as error:
        raise PropertyError(f"no symmetry is found with a tolerance of {tolerance:g} Å; are there atoms closer?") from error


def _setyawan(atoms: Atoms, tolerance: float) -> Standard:
    structure = AseAtomsAdaptor.get_structure(atoms)
    found = HighSymmKpath(structure, symprec=tolerance)
    symmetry = SpacegroupAnalyzer(structure, symprec=tolerance)
    matrix = symmetry.get_conventional_to_primitive_transformation_matrix(international_monoclinic=False)  # as the path's cells
    points, path = found.kpath["kpoints"], found.kpath["path"]
    return Standard(
        conventional=_atoms(found.conventional),
        primitive=_atoms(found.prim),
        to_primitive=np.asarray(matrix, dtype=float).T,
        path=_segments([pair for names in path for pair in pairwise(names)], points),
    )


def _seekpath(atoms: Atoms, tolerance: float) -> Standard:
    found = seekpath.get_path((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=tolerance)

    def cell(name: str) -> Atoms:
        places = {"scaled_positions": found[f"{name}_positions"], "cell": found[f"{name}_lattice"]}
        return Atoms(numbers=found[f"{name}_types"], pbc=True, **places)

    return Standard(
        conventional=cell("conv"),
        primitive=cell("primitive"),
        to_primitive=np.asarray(found["primitive_transformation_matrix"], dtype=float),
        path=_segments(found["path"], found["point_coords"]),
    )


def _segments(pairs: Sequence[Sequence[str]], points: dict[str, Sequence[float]]) -> list[Segment]:
    first, last = ([(_name(pair[end]), np.asarray(points[pair[end]], dtype=float)) for pair in pairs] for end in (0, 1))
    return list(zip(first, last, strict=True))


def _name(name: str) -> str:
    return "Γ" if name in ("\\Gamma", "GAMMA") else name.replace("\\Sigma", "Σ").replace("SIGMA", "Σ")


def _atoms(structure: Structure) -> Atoms:
    return Atoms(
        numbers=[site.specie.number for site in structure],
        scaled_positions=structure.frac_coords,
        cell=structure.lattice.matrix,
        pbc=True,
    )


def turned_onto(crystal: Atoms, cell: Atoms, tolerance: float) -> tuple[np.ndarray, list[int]]:
    """Return how a crystal is turned to make it that of another cell, and which of its atoms is which of that.

    :param cell: a primitive cell of the same crystal.
    :param tolerance: up to which atoms are on the same place, Å.
    :return: a matrix R, shape (3, 3), by which vectors are turned (``v @ R``) and tensors (``Rᵀ T R``); for each atom of the cell
        the number of one of the crystal.
    :raises PropertyError: if it is not the same crystal.
    """
    lattice = Lattice(cell.cell.array)
    for _, turn, scale in lattice.find_all_mappings(Lattice(crystal.cell.array), ltol=LENGTHS, atol=ANGLES):
        places = crystal.get_scaled_positions() @ scale
        for shift in cell.get_scaled_positions() - places[0]:
            which = _same_places(places + shift, crystal, cell, tolerance)
            if which is not None:
                left, _, right = np.linalg.svd(np.linalg.inv(np.asarray(turn)))
                return left @ right, which
    raise PropertyError(f"{crystal.symbols} is not the crystal whose primitive cell is {cell.symbols}")


def _same_places(places: np.ndarray, crystal: Atoms, cell: Atoms, tolerance: float) -> list[int] | None:
    """Return for each atom of the cell one of the crystal, if all atoms are on places of the cell."""
    between = places[:, None] - cell.get_scaled_positions()[None]
    distances = np.linalg.norm((between - np.round(between)) @ cell.cell.array, axis=2)
    same = (distances < tolerance) & (crystal.numbers[:, None] == cell.numbers[None])
    if not (same.any(axis=0).all() and same.any(axis=1).all()):
        return None
    return [int(number) for number in same.argmax(axis=0)]
