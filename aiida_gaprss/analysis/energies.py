"""Distribution of reference energies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr


def energies_per_atom(frames: Sequence[Atoms], prefix: str = fr.REFERENCE) -> np.ndarray:
    """Return the energies per atom (eV) of all frames that have one and are not in vacuum."""
    kept = [a for a in frames if f"{prefix}_energy" in a.info and not fr.is_in_vacuum(a)]
    return np.array([a.info[f"{prefix}_energy"] / len(a) for a in kept])


def energy_summary(frames: Sequence[Atoms]) -> str:
    """Say how many labels there are and how their energies lie, those of isolated atoms and dimers aside."""
    labels, energies = sum(map(fr.is_labelled, frames)), energies_per_atom(frames)
    if not len(energies):
        return f"{labels or 'no'} labels"
    cells = "" if labels == len(energies) else f" ({len(energies)} of cells)"
    lowest, median = energies.min(), np.median(energies)
    return f"{labels} labels{cells}, reference energy lowest {lowest:.3f}, median {median:.3f} eV/atom"
