"""Energies above the lowest: the common zero of energy–volume plots, box plots and tables."""

from __future__ import annotations

from collections.abc import Iterable

from ase import Atoms

from aiida_gaprss.frames import REFERENCE, energy

#: Kinds of configuration that belong into a fit but into no picture of the bulk.
NOT_BULK = frozenset({"isolated_atom", "dimer", "trimer"})


def bulk_frames(frames: Iterable[Atoms], prefix: str = REFERENCE) -> list[Atoms]:
    """Return the frames with an energy under ``prefix`` that are neither isolated atoms nor clusters in a box."""
    return [a for a in frames if energy(a, prefix) is not None and a.info.get("config_type") not in NOT_BULK]


class EnergyZero:
    """The lowest energy per atom of every composition among some frames.

    Compositions are not compared: that would need formation energies.
    """

    def __init__(self, frames: Iterable[Atoms], prefix: str = REFERENCE) -> None:
        self.prefix = prefix
        self.lowest: dict[str, float] = {}
        for atoms in bulk_frames(frames, prefix):
            formula, value = atoms.get_chemical_formula(empirical=True), atoms.info[f"{prefix}_energy"] / len(atoms)
            self.lowest[formula] = min(value, self.lowest.get(formula, value))

    def of(self, atoms: Atoms) -> float:
        """Return the zero for a frame, eV/atom; 0 if its composition was not among the frames."""
        return self.lowest.get(atoms.get_chemical_formula(empirical=True), 0.0)

    def above(self, atoms: Atoms) -> float:
        """Return the energy of a frame above the zero, eV/atom.

        :raises KeyError: if the frame has no energy.
        """
        return atoms.info[f"{self.prefix}_energy"] / len(atoms) - self.of(atoms)
