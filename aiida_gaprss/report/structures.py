"""Pictures of crystals."""

from __future__ import annotations

import math

import numpy as np
import spglib
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.utils import rotate
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.report.style import house_style

#: Atoms nearer than this times the shortest distance in the structure are drawn bonded.
BOND_STRETCH = 1.15

#: Cells are repeated until they are at least so long, Å.
SMALLEST_PICTURE = 5.0

#: … unless that makes more atoms.
MOST_REPEATED = 64

#: How crystals are turned for their pictures.
VIEW = "-82x,22y,5z"


def structure(minimum: Minimum) -> Figure:
    """Projection of the conventional cell of a minimum, with bonds between near neighbours."""
    atoms = pictured(minimum.atoms)
    with house_style():
        figure = Figure(figsize=(2.4, 2.4))
        draw(figure.add_subplot(), atoms, jmol_colors[atoms.numbers])
    return figure


def pictured(atoms: Atoms) -> Atoms:
    """Return what is shown of a crystal: its conventional cell, repeated if it is small, with all atoms on its boundary."""
    cell = conventional(atoms)
    repeats = [max(1, math.ceil(SMALLEST_PICTURE / length)) for length in cell.cell.lengths()]
    return with_boundary(cell if len(cell) * math.prod(repeats) > MOST_REPEATED else cell.repeat(repeats))


def draw(axes: Axes, atoms: Atoms, colours: np.ndarray, scale: np.ndarray | None = None) -> None:
    """Draw a projection of a cell, its edges, and bonds between near neighbours.

    :param colours: of the atoms, shape ``(natoms, 3)``, or ``(natoms, 4)`` with their opacity; ``scale``: of their
        sizes, and of how clearly their bonds are drawn, 0 to 1.
    """
    turn = rotate(VIEW)
    positions = atoms.positions @ turn
    corners = np.array(list(np.ndindex(2, 2, 2)))
    edges = [(a, b) for a in range(8) for b in range(a) if np.abs(corners[a] - corners[b]).sum() == 1]
    box = corners @ atoms.cell.array @ turn
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1) + np.where(np.eye(len(atoms)), np.inf, 0)
    scale = np.ones(len(atoms)) if scale is None else scale
    radii = 0.55 * covalent_radii[atoms.numbers] * scale
    for a, b in edges:
        axes.plot(*box[[a, b], :2].T, color="#9ca3af", linewidth=0.8, zorder=box[:, 2].min() - 1)
    for a, b in np.argwhere(np.triu(distances < BOND_STRETCH * distances.min(initial=np.inf))):
        seen, line = min(scale[a], scale[b]), positions[[a, b]]
        axes.plot(*line[:, :2].T, color="#6b7280", alpha=seen, linewidth=2 * seen, zorder=line[:, 2].min())
    for (x, y, depth), radius, colour in zip(positions, radii, colours, strict=True):
        axes.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor="#374151", linewidth=0.8, zorder=depth))
    axes.set_aspect("equal")
    axes.margins(0.08)
    axes.set_axis_off()


def with_boundary(atoms: Atoms) -> Atoms:
    """Return a cell with the periodic images of the atoms on its faces, edges and corners added; arrays are kept."""
    scaled = atoms.get_scaled_positions(wrap=True)
    scaled[scaled > 1 - 1e-3] -= 1
    shifts = np.array(list(np.ndindex(2, 2, 2)))
    images = [(i, place + shift) for shift in shifts for i, place in enumerate(scaled) if (place + shift < 1 + 1e-3).all()]
    out = atoms[[i for i, _ in images]]
    out.set_scaled_positions([place for _, place in images])
    return out


def conventional(atoms: Atoms) -> Atoms:
    """Return the conventional cell, or the cell as it is if spglib finds none."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        found = spglib.standardize_cell(cell, to_primitive=False, no_idealize=False, symprec=0.05)
    except spglib.SpglibError:
        found = None
    if found is None:
        return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    lattice, positions, numbers = found
    return Atoms(numbers, scaled_positions=positions, cell=lattice, pbc=True)
