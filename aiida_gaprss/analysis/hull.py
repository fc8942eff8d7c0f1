"""Distance of frames above the convex hull of their energies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from aiida_gaprss import frames as fr


class HullError(ValueError):
    """Frames that span no hull."""


def above_hull(frames: Sequence[Atoms]) -> np.ndarray:
    """Return the distance (eV/atom) of every frame above the convex hull of all of them in energy and composition.

    The hull is that of the reference energies at zero pressure (pymatgen's ``PhaseDiagram``). Isolated atoms and dimers in vacuum
    are no phases: they are part of the hull only for an element that has no other frame of its own, and get NaN, like frames
    without energy. For one element this is the energy above the lowest.

    :raises HullError: if an element has neither a frame nor an isolated atom of its own.
    """
    energies = np.array([atoms.info.get("REF_energy", np.nan) for atoms in frames], dtype=float)
    formulas = [Composition(atoms.get_chemical_formula()) for atoms in frames]
    phases = [n for n, atoms in enumerate(frames) if not fr.is_in_vacuum(atoms) and np.isfinite(energies[n])]
    if not phases:
        return np.full(len(frames), np.nan)
    elements = {element for n in phases for element in formulas[n].elements}
    pure = {formulas[n].elements[0] for n in phases if formulas[n].is_element}
    corners = [
        n
        for n, atoms in enumerate(frames)
        if fr.is_isolated_atom(atoms) and np.isfinite(energies[n]) and formulas[n].elements[0] in elements - pure
    ]
    lacking = sorted(str(e) for e in elements - pure - {formulas[n].elements[0] for n in corners})
    if lacking:
        raise HullError(f"no convex hull: neither a labelled frame of {', '.join(lacking)} alone nor its isolated atom")
    # Only the lowest frame of each composition can lie on the hull.
    lowest: dict[Composition, PDEntry] = {}
    for n in [*phases, *corners]:
        composition = formulas[n].reduced_composition
        entry = PDEntry(formulas[n], energies[n])
        if composition not in lowest or entry.energy_per_atom < lowest[composition].energy_per_atom:
            lowest[composition] = entry
    diagram = PhaseDiagram(list(lowest.values()))
    hull = {composition: diagram.get_hull_energy_per_atom(composition) for composition in lowest}
    out = np.full(len(frames), np.nan)
    for n in phases:
        out[n] = energies[n] / len(frames[n]) - hull[formulas[n].reduced_composition]
    return np.where(out < 0, 0.0, out)  # rounding, of frames on the hull


def hull_weights(frames: Sequence[Atoms], kT: float) -> dict[str, float]:
    """Return by reduced composition (Hill order) the weight exp(−d/kT) with which cells of it should be drawn.

    d (eV/atom) is how far the lowest labelled frame of that composition lies above the convex hull. A composition that is not
    there is not known to be bad: whoever draws should give it the weight 1.

    :raises HullError: if the frames span no hull.
    """
    lowest: dict[str, float] = {}
    for atoms, height in zip(frames, above_hull(frames), strict=True):
        if np.isfinite(height):
            key = reduced_formula(atoms)
            lowest[key] = min(float(height), lowest.get(key, np.inf))
    return {key: float(np.exp(-height / kT)) for key, height in sorted(lowest.items())}


def reduced_formula(atoms: Atoms) -> str:
    """Return the composition of a frame as its smallest formula in Hill order, e.g. ``CuLi2``."""
    return str(atoms.symbols.formula.reduce()[0].format("hill"))
