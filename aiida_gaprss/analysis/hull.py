"""The convex hull of frames in energy and composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from pymatgen.core import Composition

from aiida_gaprss import frames as fr
from aiida_gaprss.runners.status import ENDED
from aiida_gaprss.structures.compositions import reduced, text

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry

#: eV/atom; a height smaller than this is rounding.
ROUNDING = 1e-9


class HullError(ValueError):
    """Frames that span no hull."""


#: Energy or enthalpy of a frame, eV; NaN if it has none.
Energy = Callable[[Atoms], float]


def reference_energy(atoms: Atoms) -> float:
    """Return the reference energy of a frame, eV; NaN if it has none."""
    return float(atoms.info.get("REF_energy", np.nan))


class Hull:
    """The convex hull of energies in composition (pymatgen's ``PhaseDiagram``), by default of the reference energies.

    Isolated atoms and dimers in vacuum are no phases: an isolated atom is part of the hull only for an element that has no other
    frame of its own. Frames without energy are left out. The hull of one element is its lowest energy.

    :param energy: of a frame; another one than the reference energy, or an enthalpy.
    :raises HullError: if there is no phase, or an element has neither a frame nor an isolated atom of its own.
    """

    def __init__(self, frames: Sequence[Atoms], energy: Energy = reference_energy) -> None:
        # Brings plotly and matplotlib along: a second, which commands and daemons that need no hull are spared.
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        self._energy = energy
        labelled = [atoms for atoms in frames if np.isfinite(energy(atoms))]
        phases = [atoms for atoms in labelled if not fr.is_in_vacuum(atoms)]
        if not phases:
            raise HullError("no convex hull: no labelled frame but atoms and dimers in vacuum")
        elements = {symbol for atoms in phases for symbol in atoms.symbols}
        pure = {atoms.symbols[0] for atoms in phases if len(set(atoms.symbols)) == 1}
        corners = [atoms for atoms in labelled if fr.is_isolated_atom(atoms) and atoms.symbols[0] in elements - pure]
        lacking = sorted(elements - pure - {atoms.symbols[0] for atoms in corners})
        if lacking:
            raise HullError(f"no convex hull: neither a labelled frame of {', '.join(lacking)} alone nor its isolated atom")
        # Only the lowest frame of each composition can lie on the hull.
        self._lowest: dict[str, Atoms] = {}
        for atoms in [*phases, *corners]:
            key = reduced_formula(atoms)
            if key not in self._lowest or self._per_atom(atoms) < self._per_atom(self._lowest[key]):
                self._lowest[key] = atoms
        self._diagram = PhaseDiagram([self._entry(atoms) for atoms in self._lowest.values()])
        self._energies: dict[str, float] = {}

    @property
    def elements(self) -> list[str]:
        """Its elements, in the order of electronegativity, as in the names of phases."""
        return [str(element) for element in sorted(self._diagram.elements)]

    @property
    def stable(self) -> list[Atoms]:
        """The lowest frames of the compositions that lie on the hull, those with the most of the first element first."""
        names = {entry.composition.reduced_formula for entry in self._diagram.stable_entries}
        on_it = [atoms for atoms in self._lowest.values() if phase_name(atoms) in names]
        return sorted(on_it, key=lambda atoms: [-self.fraction(atoms, element) for element in self.elements])

    def knows(self, atoms: Atoms) -> bool:
        """Tell whether the hull has all elements of a frame."""
        return set(atoms.symbols) <= set(self.elements)

    def of(self, atoms: Atoms) -> float:
        """Return the energy of the hull at the composition of a frame, eV/atom."""
        key = reduced_formula(atoms)
        if key not in self._energies:
            self._energies[key] = float(self._diagram.get_hull_energy_per_atom(Composition(key)))
        return self._energies[key]

    def above(self, atoms: Atoms) -> float:
        """Return how far a frame lies above the hull, eV/atom; negative below it, NaN without energy."""
        height = self._per_atom(atoms) - self.of(atoms)
        return 0.0 if abs(height) < ROUNDING else height

    def formation_energy(self, atoms: Atoms) -> float:
        """Return the energy of a frame relative to the lowest frames of its elements, eV/atom; NaN without energy."""
        return float(self._diagram.get_form_energy_per_atom(self._entry(atoms)))

    def _per_atom(self, atoms: Atoms) -> float:
        return self._energy(atoms) / len(atoms)

    def _entry(self, atoms: Atoms) -> PDEntry:
        from pymatgen.analysis.phase_diagram import PDEntry

        return PDEntry(Composition(atoms.get_chemical_formula()), self._energy(atoms))

    @staticmethod
    def fraction(atoms: Atoms, element: str) -> float:
        """Return the atomic fraction of an element."""
        return float(np.mean([symbol == element for symbol in atoms.symbols]))


def above_hull(frames: Sequence[Atoms]) -> np.ndarray:
    """Return the distance (eV/atom) of every frame above the convex hull of all of them in energy and composition.

    Isolated atoms and dimers in vacuum get NaN, like frames without energy. For one element this is the energy above the lowest.

    :raises HullError: if an element has neither a frame nor an isolated atom of its own.
    """
    out = np.full(len(frames), np.nan)
    phases = [n for n, atoms in enumerate(frames) if np.isfinite(reference_energy(atoms)) and not fr.is_in_vacuum(atoms)]
    if phases:
        hull = Hull(frames)
        out[phases] = [hull.above(frames[n]) for n in phases]
    return out


#: Of a composition, however high its relaxed frames lie: a few cells need not have found its best structures.
LEAST_WEIGHT = 0.1


def hull_weights(frames: Sequence[Atoms], kT: float) -> dict[str, float]:
    """Return by reduced composition (see :func:`reduced_formula`) the weight exp(−d/kT) with which cells of it should be drawn.

    d (eV/atom) is how far the lowest labelled end point of a relaxation of that composition lies above the convex hull of all
    labels. Random cells tell nothing of it before they are relaxed: a composition that has no end point is not there, and whoever
    draws should give it the weight 1. No weight is below :data:`LEAST_WEIGHT`.

    :raises HullError: if the frames span no hull.
    """
    lowest: dict[str, float] = {}
    for atoms, height in zip(frames, above_hull(frames), strict=True):
        if np.isfinite(height) and atoms.info.get("relax_status") in ENDED:
            key = reduced_formula(atoms)
            lowest[key] = min(float(height), lowest.get(key, np.inf))
    return {key: max(float(np.exp(-height / kT)), LEAST_WEIGHT) for key, height in sorted(lowest.items())}


def reduced_formula(atoms: Atoms) -> str:
    """Return the composition of a frame as its smallest formula, elements in alphabetical order, e.g. ``CuLi2``."""
    return text(reduced(atoms.symbols.formula.count()))


def phase_name(atoms: Atoms) -> str:
    """Return the composition of a frame as chemists write it, e.g. ``Li2Cu``."""
    return str(Composition(atoms.get_chemical_formula()).reduced_formula)
