"""The common zero of energies in energy–volume plots, box plots and tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hull import Energy, Hull, HullError, reduced_formula, reference_energy

#: Kinds of configuration that belong into a fit but into no picture of the bulk.
NOT_BULK = frozenset({"isolated_atom", "dimer", "trimer"})


def bulk_frames(frames: Iterable[Atoms]) -> list[Atoms]:
    """Return the frames with a reference energy that are neither isolated atoms nor clusters in a box."""
    return [a for a in frames if fr.is_labelled(a) and a.info.get("config_type") not in NOT_BULK]


class EnergyZero:
    """The convex hull of the reference energies of some frames; for one element, the lowest of them.

    Where frames of several elements lack one of these by itself, there is no hull (``hull`` is None) and every composition has
    its own zero, the lowest of its energies: frames of different compositions are then not to be compared.
    """

    def __init__(self, frames: Iterable[Atoms], energy: Energy = reference_energy) -> None:
        """Take the zero from the energies, or from what else ``energy`` says of a frame (eV)."""
        self._energy = energy
        bulk = [a for a in frames if np.isfinite(energy(a)) and a.info.get("config_type") not in NOT_BULK]
        self.hull: Hull | None = None
        self.lowest: dict[str, float] = {}
        try:
            self.hull = Hull(bulk, energy)
        except HullError:
            for atoms in bulk:
                formula, value = reduced_formula(atoms), energy(atoms) / len(atoms)
                self.lowest[formula] = min(value, self.lowest.get(formula, value))

    @property
    def words(self) -> str:
        """What energies are above, for axes and headings."""
        if self.hull is not None and len(self.hull.elements) > 1:
            return "above the convex hull"
        return "above the lowest of its composition" if len(self.lowest) > 1 else "above the lowest"

    def of(self, atoms: Atoms) -> float:
        """Return the zero for a frame, eV/atom; 0 for a composition that the frames say nothing of."""
        if self.hull is not None:
            return self.hull.of(atoms) if self.hull.knows(atoms) else 0.0
        return self.lowest.get(reduced_formula(atoms), 0.0)

    def above(self, atoms: Atoms) -> float:
        """Return the energy of a frame above the zero, eV/atom; NaN without energy."""
        return self._energy(atoms) / len(atoms) - self.of(atoms)
