"""Crystals of which a property can be had."""

from __future__ import annotations

from ase import Atoms

from aiida_gaprss.properties.base import PropertyError


def bare(crystal: Atoms, what: str) -> Atoms:
    """Return species, positions and cell of a crystal, and nothing else.

    :param what: the property, as the subject of a complaint in the plural: ``elastic constants``.
    :raises PropertyError: if it is not periodic in all directions, or has no atoms or no volume.
    """
    if not crystal.pbc.all():
        raise PropertyError(f"{what} need a crystal that is periodic in all directions")
    if len(crystal) == 0:
        raise PropertyError(f"{what} need a crystal with atoms, got none")
    if crystal.cell.rank < 3:
        raise PropertyError(f"{what} need a cell with a volume, got lattice vectors {crystal.cell[:].tolist()} Å")
    return Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
