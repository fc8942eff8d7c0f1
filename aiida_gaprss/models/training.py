"""Join labelled frames to the training set of a fit, with the checks that gap_fit does not make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.selection.copies import copies
from aiida_gaprss.selection.sanity import absurd_labels

#: eV; isolated atoms of an element that differ by less are the same one, calculated twice.
SAME_ZERO = 1e-3


class TrainingSetError(ValueError):
    """A training set that gap_fit would refuse or, worse, misunderstand."""


def join(datasets: Iterable[Sequence[Atoms]], e0: Any = "isolated") -> list[Atoms]:
    """Return the labelled frames of all datasets in their order.

    :param e0: of the settings of the fit: where the energies of the free atoms come from.
    Of the isolated atoms of an element with the same energy, as several campaigns have them, the first is taken.

    :raises TrainingSetError: if a frame id is doubled, an element has no energy of its free atom, an isolated atom is none, or
        nothing is left to fit.
    """
    frames = [atoms for frames in datasets for atoms in frames if fr.is_labelled(atoms)]
    for atoms in frames:
        try:
            fr.check_isolated(atoms, f"frame {atoms.info['frame_id']}")
        except fr.FrameError as exception:
            raise TrainingSetError(str(exception)) from exception
    first = {a.symbols[0]: a for a in reversed(frames) if fr.is_isolated_atom(a)}
    frames = [a for a in frames if not (fr.is_isolated_atom(a) and _again(a, first[a.symbols[0]]))]
    doubled = [name for name, n in Counter(a.info["frame_id"] for a in frames).items() if n > 1]
    if doubled:
        raise TrainingSetError(f"frames in more than one dataset: {', '.join(doubled[:5])} ({len(doubled)} in all)")
    if all(fr.is_isolated_atom(a) for a in frames):
        raise TrainingSetError("no labelled frame but isolated atoms: there is nothing to fit")
    atomic_energies(frames, e0)
    return frames


def _again(atom: Atoms, first: Atoms) -> bool:
    """Tell whether an isolated atom is that of another campaign at the same level."""
    return atom is not first and abs(atom.info["REF_energy"] - first.info["REF_energy"]) < SAME_ZERO


def atomic_energies(frames: Sequence[Atoms], e0: Any = "isolated") -> dict[str, float]:
    """Return the energy (eV) of the free atom of every element in the frames.

    ``isolated`` takes those of the isolated atoms. gap_fit's own ``e0_method=isolated`` takes any frame with one atom, so a
    crystal with one atom a cell would be mistaken for it; we hand it the numbers instead. ``average`` is the least-squares
    solution of E = Σ n(element)·e0(element) over all other frames, weighted per atom (gap_fit's own is one for all elements).

    :raises TrainingSetError: if an element has none, or several.
    """
    elements = sorted({s for atoms in frames for s in atoms.get_chemical_symbols()})
    if isinstance(e0, dict):
        missing = [symbol for symbol in elements if symbol not in e0]
        if missing:
            raise TrainingSetError(f"e0 has no energy of {', '.join(missing)}, which the training set contains")
        return {symbol: float(e0[symbol]) for symbol in elements}
    if e0 == "average":
        cells = [atoms for atoms in frames if not fr.is_in_vacuum(atoms)]
        counts = np.array([[atoms.get_chemical_symbols().count(s) / len(atoms) for s in elements] for atoms in cells])
        solution, _, rank, _ = np.linalg.lstsq(counts, np.array([a.info["REF_energy"] / len(a) for a in cells]), rcond=1e-8)
        if rank < len(elements):
            raise TrainingSetError(f"e0 average: the compositions do not tell the energies of {', '.join(elements)} apart")
        return dict(zip(elements, map(float, solution), strict=True))
    energies: dict[str, float] = {}
    for atoms in frames:
        if fr.is_isolated_atom(atoms):
            symbol = atoms.get_chemical_symbols()[0]
            if symbol in energies:
                raise TrainingSetError(f"more than one isolated atom of {symbol}: which energy is its zero?")
            energies[symbol] = float(atoms.info["REF_energy"])
    missing = [symbol for symbol in elements if symbol not in energies]
    if missing:
        raise TrainingSetError(
            f"no isolated atom for {', '.join(missing)}: a fit needs one labelled frame of a single atom with "
            "config_type=isolated_atom for every element (or e0 in the settings of the fit: average, or numbers)"
        )
    return energies


def leaks(training: Sequence[Atoms], test: Sequence[Atoms]) -> dict[str, str]:
    """Return the ids of the frames of a test that are fitted, too, with the id of the frame that is the same structure.

    The same is what :func:`~aiida_gaprss.selection.copies.copies` says, to the last digit or by symmetry. Isolated atoms do not
    count: every set has them.
    """
    fitted = [atoms for atoms in training if not fr.is_isolated_atom(atoms)]
    tested = [atoms for atoms in test if not fr.is_isolated_atom(atoms)]
    out: dict[str, str] = {}
    for group in copies([*fitted, *tested]):
        if group[0] < len(fitted):
            known = str(fitted[group[0]].info["frame_id"])
            out |= {str(tested[i - len(fitted)].info["frame_id"]): known for i in group if i >= len(fitted)}
    return out


def absurd(frames: Sequence[Atoms]) -> dict[str, str]:
    """Return the ids of the frames whose labels no fit takes without the user's word, with label, value and limit."""
    return {str(frames[i].info["frame_id"]): reason for i, reason in absurd_labels(frames).items()}


def fault_of_absurd(frames: Sequence[Atoms], most: int = 10) -> str | None:
    """Return a sentence on the absurd labels among frames, with the first of them, or None if there are none."""
    found = absurd(frames)
    if not found:
        return None
    texts = [f"{name} ({why})" for name, why in found.items()]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return f"{len(texts)} frames have labels that can hardly be right: {', '.join(texts[:most])}{more}"
