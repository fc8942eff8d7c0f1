"""Join labelled frames to the training set of a fit, with the checks that gap_fit does not make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ase import Atoms

from aiida_gaprss import frames as fr


class TrainingSetError(ValueError):
    """A training set that gap_fit would refuse or, worse, misunderstand."""


def join(datasets: Iterable[Sequence[Atoms]]) -> list[Atoms]:
    """Return the labelled frames of all datasets in their order.

    :raises TrainingSetError: if a frame id is doubled, an element has no isolated atom, or nothing else is left to fit.
    """
    frames = [atoms for frames in datasets for atoms in frames if fr.is_labelled(atoms)]
    doubled = [name for name, n in Counter(a.info["frame_id"] for a in frames).items() if n > 1]
    if doubled:
        raise TrainingSetError(f"frames in more than one dataset: {', '.join(doubled[:5])} ({len(doubled)} in all)")
    if all(fr.is_isolated_atom(a) for a in frames):
        raise TrainingSetError("no labelled frame but isolated atoms: there is nothing to fit")
    isolated = {a.get_chemical_symbols()[0] for a in frames if fr.is_isolated_atom(a)}
    elements = {s for a in frames for s in a.get_chemical_symbols()}
    missing = sorted(elements - isolated)
    if missing:
        raise TrainingSetError(
            f"no isolated atom for {', '.join(missing)}: gap_fit needs one labelled frame of a single atom with "
            "config_type=isolated_atom for every element"
        )
    return frames


def atomic_energies(frames: Iterable[Atoms]) -> dict[str, float]:
    """Return the energy (eV) of the isolated atom of every element.

    gap_fit's own ``e0_method=isolated`` takes any frame with one atom, so a crystal with one atom a cell would be
    mistaken for it; we hand it the numbers instead.
    """
    energies: dict[str, float] = {}
    for atoms in frames:
        if fr.is_isolated_atom(atoms):
            symbol = atoms.get_chemical_symbols()[0]
            if symbol in energies:
                raise TrainingSetError(f"more than one isolated atom of {symbol}: which energy is its zero?")
            energies[symbol] = float(atoms.info["REF_energy"])
    return energies
