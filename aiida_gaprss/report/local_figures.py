"""Pictures of structures with the atoms coloured by their local energies."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgba
from matplotlib.figure import Figure

from aiida_gaprss.analysis.numbers import number
from aiida_gaprss.properties.local_energies import from_means
from aiida_gaprss.report.structures import BOND_STRETCH, draw, with_boundary
from aiida_gaprss.report.style import house_style

#: From low to high energies, and from lower to higher ones; both are told apart by every reader.
ENERGIES, CHANGES = "viridis", "PuOr_r"

#: Of atoms without a value.
UNKNOWN = "#d1d5db"

#: From so many atoms on, those near the median hide the others: they are drawn small and faint …
MANY = 60
#: … if their values are nearer to the median than this part of the largest distance from it.
COMMON = 0.1

#: Of their sizes, bonds and opacity.
FAINT = 0.35

#: eV; smaller differences are noise, and get one colour.
NOISE = 1e-6


def local_energies(atoms: Atoms, energies: np.ndarray, title: str = "") -> Figure:
    """Projection of a structure, atoms coloured by their local energies relative to the mean of their element.

    :param energies: eV, shape ``(natoms,)``.
    """
    values, means = from_means(atoms, energies)
    told = ", ".join(f"{symbol} {number(mean, 3)} eV" for symbol, mean in means.items())
    limits = (min(float(values.min()), -NOISE), max(float(values.max()), NOISE))
    return _picture(atoms, values, limits, ENERGIES, f"Local energy from the mean (eV)\nmean: {told}", title)


def local_energy_changes(atoms: Atoms, changes: np.ndarray, title: str = "") -> Figure:
    """Projection of a structure, atoms coloured by how their local energies differ from those of another one.

    :param changes: eV, shape ``(natoms,)``; NaN for atoms that the other one has not, which are grey.
    """
    reach = max(float(np.nanmax(np.abs(changes), initial=0.0)), NOISE)
    return _picture(atoms, changes, (-reach, reach), CHANGES, "Change of the local energy (eV)", title)


def _together(atoms: Atoms) -> Atoms:
    """Return a cell with its origin moved by halves of its vectors so that the fewest bonds are cut: clusters stay whole."""
    distances = atoms.get_all_distances(mic=True) + np.where(np.eye(len(atoms)), np.inf, 0)
    first, second = np.nonzero(distances < BOND_STRETCH * distances.min(initial=np.inf))

    def cut(shift: np.ndarray) -> int:
        places = atoms.get_scaled_positions() + shift
        places -= np.floor(places + 1e-6)
        apart = np.linalg.norm((places[first] - places[second]) @ atoms.cell.array, axis=1)
        return int((apart > distances[first, second] + 1e-3).sum())

    out = atoms.copy()
    out.positions += min(np.array(list(np.ndindex(2, 2, 2))) / 2, key=cut) @ atoms.cell.array
    return out


def _around(atoms: Atoms, few: np.ndarray) -> Atoms:
    """Return a cell with its origin moved so that some of its atoms are in the middle.

    :param few: which, shape ``(natoms,)`` of truth values.
    """
    turns = np.exp(2j * np.pi * atoms.get_scaled_positions()[few]).mean(axis=0)
    out = atoms.copy()
    out.positions += (0.5 - np.angle(turns) / (2 * np.pi)) @ atoms.cell.array
    return out


def _common(values: np.ndarray) -> np.ndarray:
    """Return which atoms of many are like most others, as truth values; of few atoms none is."""
    distance = np.abs(values - np.nanmedian(values)) if np.isfinite(values).any() else np.zeros(len(values))
    return (distance < COMMON * np.nanmax(distance)) & (len(values) > MANY)


def _picture(atoms: Atoms, values: np.ndarray, limits: tuple[float, float], colours: str, label: str, title: str) -> Figure:
    """Draw a structure with a colour bar.

    :param values: eV, NaN if unknown; ``limits``: what the colours reach from and to, eV.
    """
    scale = ScalarMappable(Normalize(*limits), colormaps[colours])
    common = _common(values)
    rgba = np.asarray(scale.to_rgba(values))
    rgba[np.isnan(values)] = to_rgba(UNKNOWN)
    rgba[common, 3] = FAINT
    cell = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    for name, array in (("colour", rgba), ("size", np.where(common, FAINT, 1.0))):
        cell.set_array(name, array)
    cell = with_boundary(_around(cell, ~common) if common.any() else _together(cell))
    with house_style():
        figure = Figure(figsize=(4.6, 3.6))
        axes = figure.add_subplot()
        draw(axes, cell, cell.arrays["colour"], cell.arrays["size"])
        axes.set_title(title)
        bar = figure.colorbar(scale, ax=axes, shrink=0.8)
        bar.set_label(label)
        bar.outline.set_visible(False)
    return figure
