"""Holes of crystals."""

import math

import pytest
from ase.build import bulk

from aiida_gaprss.structures.holes import holes


@pytest.mark.parametrize(
    ("crystal", "radii", "neighbours"),
    [
        (bulk("Cu", a=1.0), [1 / 2, math.sqrt(3) / 4], [6, 4]),
        (bulk("Cu", a=1.0, cubic=True), [1 / 2, math.sqrt(3) / 4], [6, 4]),
        (bulk("Fe", a=1.0), [math.sqrt(5) / 4], [4]),
        (bulk("Si", a=1.0), [math.sqrt(3) / 4, math.sqrt(11) / 8], [4, 6]),
        (bulk("Po", a=1.0), [math.sqrt(3) / 2], [8]),
        (bulk("Mg", a=1.0, covera=math.sqrt(8 / 3)), [math.sqrt(0.5), math.sqrt(6) / 4], [6, 4]),
    ],
)
def test_holes_of_simple_crystals(crystal, radii, neighbours):
    """Distances from the atoms as geometry has them, the lattice constant 4 Å."""
    crystal.set_cell(4 * crystal.cell, scale_atoms=True)
    found = holes(crystal, 0.01, 0.1)
    assert [hole.radius for hole in found] == pytest.approx([4 * radius for radius in radii])
    assert [hole.neighbours for hole in found] == neighbours
