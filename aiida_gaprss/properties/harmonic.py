"""What is told of a crystal whose force constants are known: bands, density of states, imaginary modes, thermal properties.

All of it is phonopy's (A. Togo, L. Chaput, T. Tadano and I. Tanaka, J. Phys.: Condens. Matter 35, 353001 (2023)). Imaginary
frequencies are negative numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import units
from phonopy import Phonopy

from aiida_gaprss.properties.standard import Segment

#: Decimals of what is kept: frequencies (THz), points.
DECIMALS = 6

#: THz, below which a mode is a shift of all atoms, that numerical noise keeps from zero; it has no part in thermal properties.
ACOUSTIC = 1e-3

#: Fractional coordinates within which two points are the same.
SAME_POINT = 1e-5


def bands(phonon: Phonopy, path: Sequence[Segment], points: int) -> dict[str, Any]:
    """Return frequencies along a path.

    :param points: of each segment, both ends counted.
    :return: ``segments``: names of the ends; ``q``: fractional coordinates, shape (segments × points, 3);
        ``distance_1/A``: along the path, without 2π; ``frequencies_THz``, of each point in rising order.
    """
    lines = [np.linspace(first, last, points) for (_, first), (_, last) in path]
    phonon.run_band_structure(lines)
    found: dict[str, Any] = {**phonon.get_band_structure_dict()}
    return {
        "segments": [[first, last] for (first, _), (last, _) in path],
        "points": points,
        "q": rounded(np.concatenate(lines)),
        "distance_1/A": rounded(np.concatenate(found["distances"])),
        "frequencies_THz": rounded(np.sort(np.concatenate(found["frequencies"]), axis=1)),
    }


def mesh(phonon: Phonopy, numbers: Sequence[int]) -> dict[str, Any]:
    """Return frequencies on a mesh around Γ, of points that symmetry does not make equal, with their weights."""
    phonon.run_mesh(list(numbers), is_gamma_center=True)
    found: dict[str, Any] = {**phonon.get_mesh_dict()}
    return {
        "numbers": list(numbers),
        "q": rounded(found["qpoints"]),
        "weights": [int(weight) for weight in found["weights"]],
        "frequencies_THz": rounded(np.sort(found["frequencies"], axis=1)),
    }


def density_of_states(phonon: Phonopy, pitch: float) -> dict[str, Any]:
    """Return the density of states by the tetrahedron method, after :func:`mesh`; its integral is the number of modes.

    :param pitch: of the frequencies, THz.
    """
    phonon.run_total_dos(freq_pitch=pitch, use_tetrahedron_method=True)
    found = phonon.get_total_dos_dict()
    return {"frequency_THz": rounded(found["frequency_points"]), "states_per_THz": rounded(found["total_dos"])}


def thermal(phonon: Phonopy, temperatures: Sequence[float]) -> dict[str, Any]:
    """Return harmonic thermal properties per atom, after :func:`mesh`; they leave out imaginary modes and the three of zero."""
    phonon.run_thermal_properties(temperatures=list(temperatures), cutoff_frequency=ACOUSTIC)
    found, atoms = phonon.get_thermal_properties_dict(), len(phonon.primitive)
    return {
        "temperatures_K": [float(t) for t in temperatures],
        "free_energy_eV_per_atom": rounded(found["free_energy"] * units.kJ / units.mol / atoms),
        "entropy_J_per_K_mol": rounded(found["entropy"] / atoms),
        "heat_capacity_J_per_K_mol": rounded(found["heat_capacity"] / atoms),
    }


def at_gamma(phonon: Phonopy) -> np.ndarray:
    """Return the frequencies at Γ, THz, in rising order of their size: the first three are the acoustic ones."""
    phonon.run_qpoints([[0.0, 0.0, 0.0]])
    frequencies = np.asarray(phonon.get_qpoints_dict()["frequencies"][0])
    return frequencies[np.argsort(np.abs(frequencies))]


def imaginary(part: Mapping[str, Any], threshold: float) -> int:
    """Return how many modes of a path or a mesh are below minus a threshold, THz; of a mesh with their weights."""
    below = (np.asarray(part["frequencies_THz"]) < -threshold).sum(axis=1)
    return int(below @ np.asarray(part.get("weights", np.ones(len(below)))))


def why_not(part: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return why frequencies of two crystals cannot be compared one by one, or None if they can."""
    ours, theirs = (np.asarray(one["frequencies_THz"]).shape for one in (part, other))
    if ours != theirs:
        return f"{ours[0]} points with {ours[1]} branches against {theirs[0]} points with {theirs[1]} branches"
    if "segments" in part and part["segments"] == other.get("segments"):
        return None  # where ends depend on the shape of the cell, each crystal has its own
    apart = np.abs(np.asarray(part["q"]) - np.asarray(other["q"])).max(axis=1)
    if apart.max() > SAME_POINT:
        number = int(apart.argmax())
        here, there = (" ".join(f"{x:.4g}" for x in one["q"][number]) for one in (part, other))
        return f"point {number + 1} is {here} against {there}: are the symmetries the same?"
    return None


def differences(part: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, float]:
    """Return the root of the mean square of the differences of frequencies over all points and branches, and the largest, THz.

    As J. George et al., J. Chem. Phys. 153, 044104 (2020), define it for a path; points of a mesh count by their weights.
    """
    apart = np.asarray(part["frequencies_THz"]) - np.asarray(other["frequencies_THz"])
    squares = np.average((apart**2).mean(axis=1), weights=part.get("weights"))
    return float(np.sqrt(squares)), float(np.abs(apart).max())


def rounded(values: Any) -> list[Any]:
    """Return numbers as they are kept."""
    return (np.round(np.asarray(values, dtype=float), DECIMALS) + 0.0).tolist()
