"""Lattice thermal conductivity of a crystal from forces in supercells with displaced atoms (uploaded with the job).

Needs python, ase and phono3py. Called as ``python conductivity.py`` in a folder that holds ``settings.json`` and
``input.extxyz``, whose first frame is the crystal and whose others are those of the plan with forces; writes ``results.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

SETTINGS, INPUT, RESULTS = "settings.json", "input.extxyz", "results.json"

#: Decimals of positions and cells in files of frames: with them the crystal is the same before and after.
POSITION_DECIMALS, CELL_DECIMALS = 8, 10

#: Å, up to which a frame is the one that was planned.
SAME_PLACE = 1e-5

#: Å, of the search for symmetry in a cell that has it to the last digit.
SYMMETRY = 1e-5

#: µm, of phonons between walls: a crystal of one metre, as phono3py's own program has it.
LONGEST_PATH = 1e6


class UnsolvableError(ValueError):
    """Frames, or settings, of which there is no conductivity."""


def conventional(crystal: Atoms, tolerance: float) -> Atoms:
    """Return the conventional cell of a crystal, in standard axes, its atoms on the places that symmetry gives them.

    :param tolerance: of the symmetry, Å.
    :raises UnsolvableError: if no symmetry is found.
    """
    from spglib import SpglibError, standardize_cell

    atoms = Atoms(
        crystal.numbers, np.round(crystal.positions, POSITION_DECIMALS), cell=np.round(crystal.cell.array, CELL_DECIMALS)
    )
    try:
        found = standardize_cell((atoms.cell.array, atoms.get_scaled_positions(wrap=False), atoms.numbers), symprec=tolerance)
    except SpglibError:
        found = None
    if found is None:
        raise UnsolvableError(f"no symmetry is found with a tolerance of {tolerance:g} Å; are there atoms closer?")
    cell, places, numbers = found
    return Atoms(numbers=numbers, scaled_positions=places, cell=cell, pbc=True)


def diagonal(cell: Atoms, length: float) -> np.ndarray:
    """Return the matrix of the smallest repetition of a cell whose vectors are at least so long, Å."""
    return np.diag([max(1, int(np.ceil(length / vector - 1e-6))) for vector in cell.cell.lengths()])


def planned(crystal: Atoms, settings: Mapping[str, Any]) -> Any:
    """Return phono3py with displacements for a crystal; without forces yet.

    :param settings: as of the property ``conductivity``.
    """
    from phono3py import Phono3py

    cell = conventional(crystal, settings["symmetry_A"])
    second = settings["second_supercell"]
    found = Phono3py(
        phonopy_atoms(cell),
        supercell_matrix=matrix_of(settings, cell),
        primitive_matrix="auto" if settings["zone"] == "primitive" else np.eye(3),
        phonon_supercell_matrix=None if second is None else np.diag(second),
        symprec=SYMMETRY,
        log_level=0,
    )
    distance = settings["displacement_A"]
    found.generate_displacements(distance=distance, cutoff_pair_distance=settings["pair_cutoff_A"])
    if second is not None:
        found.generate_fc2_displacements(distance=distance)
    return found


def matrix_of(settings: Mapping[str, Any], cell: Atoms) -> np.ndarray:
    """Return the matrix that makes the supercell."""
    return diagonal(cell, settings["length_A"]) if settings["supercell"] is None else np.diag(settings["supercell"])


def frames_of(found: Any) -> list[Atoms]:
    """Return the frames of the plan, each with its ``part``.

    Displaced supercells, of pairs only those within the cutoff; the same for second-order force constants if these have a
    supercell of their own; after each, the supercell as it is where symmetry allows forces in it.
    """
    return [atoms for _, group in _groups(found) for atoms in group if atoms is not None]


def _groups(found: Any) -> Iterator[tuple[str, list[Atoms | None]]]:
    """Yield the name of a kind of supercells, and them; None where a pair is too far apart."""
    kinds = [("third", found.supercells_with_displacements, found.supercell, found.symmetry)]
    if found.phonon_supercell_matrix is not None:
        own = found.phonon_supercells_with_displacements
        kinds.append(("second", own, found.phonon_supercell, found.phonon_supercell_symmetry))
    for name, displaced, supercell, symmetry in kinds:
        group = [None if cell is None else frame(cell, f"{name}_{number}") for number, cell in enumerate(displaced, start=1)]
        yield name, [*group, frame(supercell, f"{name}_0")] if forces_allowed(symmetry) else group


def solved(crystal: Atoms, done: Sequence[Atoms], prefix: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conductivity, as the property tells it.

    :param done: the frames of the plan with ``<prefix>_forces``, eV/Å.
    :raises UnsolvableError: if frames are missing, without forces, or others.
    """
    found = planned(crystal, settings)
    residual = _take(found, done, prefix)
    _force_constants(found)
    found.mesh_numbers = list(settings["mesh"])
    found.init_phph_interaction(**reproducible(found))
    found.run_thermal_conductivity(
        is_LBTE=settings["method"] == "lbte",
        temperatures=list(settings["temperatures_K"]),
        is_isotope=settings["isotopes"],
        boundary_mfp=LONGEST_PATH,
    )
    return {**_told(found, settings), "residual_force_eV/A": residual}


def _take(found: Any, done: Sequence[Atoms], prefix: str) -> float:
    """Give the forces to phono3py; return the largest force on an atom in its place, eV/Å."""
    plan = frames_of(found)
    if len(plan) != len(done):
        raise UnsolvableError(f"there are {len(done)} frames, expected the {len(plan)} of the plan")
    left, largest = iter(zip(plan, done, strict=True)), 0.0
    for name, group in _groups(found):
        forces = [None if atoms is None else forces_of(*next(left), prefix) for atoms in group]
        nothing = np.zeros((len(group[0] or ()), 3))  # of pairs too far apart, whose third-order constants are zero
        at_rest = forces.pop() if group[-1] is not None and group[-1].info["part"] == f"{name}_0" else None
        at_rest = nothing if at_rest is None else at_rest
        largest = max(largest, float(np.linalg.norm(at_rest, axis=1).max()))
        taken = np.array([nothing if one is None else one - at_rest for one in forces])
        if name == "third":
            found.forces = taken
        else:
            found.phonon_forces = taken
    return largest


def _force_constants(found: Any) -> None:
    """Make symmetric force constants, as versions 3 and 4 of phono3py want it."""
    separate = found.phonon_supercell_matrix is not None
    if hasattr(found, "symmetrize_fc3"):
        found.produce_fc3(is_compact_fc=True)
        if separate:
            found.produce_fc2(is_compact_fc=True)
        found.symmetrize_fc3()
        found.symmetrize_fc2()
        return
    found.produce_fc3(symmetrize_fc3r=True, is_compact_fc=True)
    if separate:
        found.produce_fc2(symmetrize_fc2=True, is_compact_fc=True)


def reproducible(found: Any) -> dict[str, bool]:
    """Return what keeps the last digits of forces out of the conductivity, if this version of phono3py can.

    Scattering into degenerate modes is their sum's, but the tetrahedron method has a weight for each, by the eigenvectors that
    rounding has chosen: without the mean, forces that differ by 1e-12 eV/Å change the conductivity by a thousandth.
    """
    known = signature(found.init_phph_interaction).parameters
    return {name: True for name in ("average_degenerate_weights", "exclude_gamma_acoustic") if name in known}


def _told(found: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    solution = found.thermal_conductivity
    frequencies = np.asarray(found.get_phonon_data()[0])
    tensors = np.asarray(solution.kappa)[0]
    out = {
        "method": settings["method"],
        "mesh": list(settings["mesh"]),
        "zone": settings["zone"],
        "temperatures_K": [float(t) for t in settings["temperatures_K"]],
        "kappa_W/mK": tensors[:, :3].mean(axis=1).tolist(),
        "kappa_tensor_W/mK": tensors.tolist(),
        "smallest_THz": float(frequencies.min()),
        "imaginary_modes": int((frequencies < -settings["imaginary_THz"]).sum()),
        "supercell": np.asarray(found.supercell_matrix).tolist(),
        "frames": len(frames_of(found)),
        "phono3py": str(found.version),
    }
    if settings["method"] == "lbte":
        out["kappa_rta_W/mK"] = np.asarray(solution.kappa_RTA)[0][:, :3].mean(axis=1).tolist()
    return out


def forces_of(ours: Atoms, theirs: Atoms, prefix: str) -> np.ndarray:
    """Return the forces of a frame, eV/Å, after looking whether it is the one of the plan.

    :raises UnsolvableError: if it is not, or has none.
    """
    check_same(ours, theirs)
    if f"{prefix}_forces" not in theirs.arrays:
        raise UnsolvableError(f"frame {ours.info['part']} has no {prefix}_forces: {theirs.info.get('label_status', '')}")
    return np.asarray(theirs.arrays[f"{prefix}_forces"], dtype=float)


def check_same(ours: Atoms, theirs: Atoms) -> None:
    """Refuse a frame that is not the one of the plan.

    :raises UnsolvableError: naming both.
    """
    if len(ours) == len(theirs) and (ours.numbers == theirs.numbers).all():
        apart = max(np.abs(ours.positions - theirs.positions).max(), np.abs(ours.cell.array - theirs.cell.array).max())
        if apart < SAME_PLACE:
            return
    part = theirs.info.get("part", theirs.info.get("frame_id", "?"))
    raise UnsolvableError(f"frame {part} is not {ours.info['part']} of the plan for this crystal and these settings")


def forces_allowed(symmetry: Any) -> bool:
    """Tell whether an atom in its place may feel a force: whether its site symmetry leaves a vector as it is.

    :param symmetry: phonopy's, of a supercell.
    """
    sites = [symmetry.get_site_symmetry(int(atom)) for atom in symmetry.get_independent_atoms()]
    return any(np.abs(np.mean(operations, axis=0)).max() > 1e-8 for operations in sites)


def frame(cell: Any, part: str) -> Atoms:
    """Return a cell of phonopy as a frame of a plan."""
    out = ase_atoms(cell)
    out.info["part"] = part
    return out


def ase_atoms(cell: Any) -> Atoms:
    """Return a cell of phonopy as ASE's."""
    return Atoms(numbers=cell.numbers, scaled_positions=cell.scaled_positions, cell=cell.cell, pbc=True)


def phonopy_atoms(atoms: Atoms) -> Any:
    """Return a cell of ASE as phonopy's.

    Phonopy has no masses of elements without a standard atomic weight (Po, Am, Lr, …), and takes no cell of them
    even where masses do not matter: such cells have those of ASE, the mass number of the isotope that lives longest.
    """
    from phonopy.structure.atoms import PhonopyAtoms

    cell = {"cell": atoms.cell.array, "scaled_positions": atoms.get_scaled_positions()}
    try:
        return PhonopyAtoms(atoms.get_chemical_symbols(), **cell)
    except RuntimeError:
        return PhonopyAtoms(atoms.get_chemical_symbols(), masses=atoms.get_masses(), **cell)


def main() -> None:
    """Solve what is in this folder."""
    with open(SETTINGS, encoding="utf-8") as handle:
        settings = json.load(handle)
    if settings.get("processes"):
        os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(settings["processes"])
    try:
        crystal, *done = read(INPUT, index=":", format="extxyz")
        results = solved(crystal, done, settings["prefix"], settings)
    except ImportError as error:
        results = {"failure": f"{error}; the python of this code needs phono3py: pip install phono3py"}
    except (ArithmeticError, ValueError, RuntimeError) as error:
        results = {"failure": f"{type(error).__name__}: {error}"}
    with open(RESULTS, "w", encoding="utf-8") as handle:
        json.dump(results, handle, indent=1)


if __name__ == "__main__":
    main()
