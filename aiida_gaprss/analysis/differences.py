"""Labels of the same structures at two levels of theory: which frames are pairs, their differences, and how large these are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr

#: eV/atom; labels of the same structure at the same level that differ by more cannot both be right.
SAME_LABEL = 1e-3


class PairError(ValueError):
    """Frames of two levels of theory that make no differences."""


@dataclass
class Differences:
    """Frames whose labels are dear minus cheap, and the ids of the dear ones that no cheap one is the same structure as."""

    frames: list[Atoms] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Spread:
    """Root mean squares of labels without isolated atoms: of the energy relative to these, of forces, of the virial.

    Units: eV/atom, eV/Å, eV/atom; None for what no frame has. ``deviation`` is the standard deviation of the energies, eV/atom.
    """

    energy: float
    deviation: float
    forces: float | None
    virial: float | None

    def __str__(self) -> str:
        """Return it as words."""
        parts = [f"energy {1000 * self.energy:.3g} meV/atom (standard deviation {1000 * self.deviation:.3g})"]
        parts += [f"forces {self.forces:.3g} eV/Å"] if self.forces is not None else []
        parts += [f"virial {self.virial:.3g} eV/atom"] if self.virial is not None else []
        return ", ".join(parts)


def differences(dear: Sequence[Atoms], cheap: Sequence[Atoms]) -> Differences:
    """Return the frames of a dear level with the labels of the same structures at a cheap one taken off theirs.

    Two frames are a pair if they are the same structure to the digits that frames have (:func:`aiida_gaprss.frames.label_key`);
    isolated atoms if they are of the same element, as their boxes mean nothing. A difference has those labels that both have,
    keeps name, kind and origin of the dear frame, and nothing that is said of its labels or predicted.

    :raises PairError: if there is no pair, or two cheap labels of one structure contradict each other.
    """
    known = _by_structure([atoms for atoms in cheap if fr.is_labelled(atoms)])
    out = Differences()
    for atoms in (atoms for atoms in dear if fr.is_labelled(atoms)):
        if (partner := known.get(_key(atoms))) is None:
            out.alone.append(str(atoms.info["frame_id"]))
        else:
            out.frames.append(_difference(atoms, partner))
    if not any(not fr.is_isolated_atom(atoms) for atoms in out.frames):
        raise PairError(_no_pair(dear, cheap))
    return out


def spread_of(frames: Sequence[Atoms]) -> Spread:
    """Return how large the labels of frames are, energies relative to the isolated atoms among them; to 0 without these.

    :raises PairError: if no frame but isolated atoms has labels.
    """
    zero = {atoms.symbols[0]: float(atoms.info["REF_energy"]) for atoms in frames if fr.is_isolated_atom(atoms)}
    bulk = [atoms for atoms in frames if fr.is_labelled(atoms) and not fr.is_isolated_atom(atoms)]
    if not bulk:
        raise PairError("no labelled frames but isolated atoms: nothing tells how large the labels are")
    energies = [(atoms.info["REF_energy"] - sum(zero.get(s, 0.0) for s in atoms.symbols)) / len(atoms) for atoms in bulk]
    forces = [atoms.arrays["REF_forces"].ravel() for atoms in bulk if "REF_forces" in atoms.arrays]
    virials = [np.asarray(atoms.info["REF_virial"]) / len(atoms) for atoms in bulk if "REF_virial" in atoms.info]
    return Spread(
        energy=_root_mean_square([np.array(energies)]) or 0.0,
        deviation=float(np.std(energies)),
        forces=_root_mean_square(forces),
        virial=_root_mean_square(virials),
    )


def _root_mean_square(parts: Sequence[np.ndarray]) -> float | None:
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2))) if parts else None


def _key(atoms: Atoms) -> bytes:
    """Return what the two frames of a pair have in common."""
    return atoms.numbers.tobytes() if fr.is_isolated_atom(atoms) else fr.label_key(atoms)


def _by_structure(frames: Sequence[Atoms]) -> dict[bytes, Atoms]:
    """Return the first frame of each structure.

    :raises PairError: if another one has another energy.
    """
    known: dict[bytes, Atoms] = {}
    for atoms in frames:
        first = known.setdefault(_key(atoms), atoms)
        apart = abs(atoms.info["REF_energy"] - first.info["REF_energy"]) / len(atoms)
        if apart > SAME_LABEL:
            raise PairError(
                f"frames {first.info['frame_id']} and {atoms.info['frame_id']} of the cheap level are the same structure, and "
                f"their energies differ by {apart:.3g} eV/atom, expected {SAME_LABEL:g} at most: "
                "leave the wrong one out (dataset drop)"
            )
    return known


def _difference(dear: Atoms, cheap: Atoms) -> Atoms:
    """Return a frame with the labels of one minus those of the other, as far as both have them."""
    out = dear.copy()
    fr.drop_labels(out)
    fr.drop_predictions(out)
    forces, virial = f"{fr.REFERENCE}_forces", f"{fr.REFERENCE}_virial"
    fr.set_labels(
        out,
        dear.info["REF_energy"] - cheap.info["REF_energy"],
        dear.arrays[forces] - cheap.arrays[forces] if forces in dear.arrays and forces in cheap.arrays else None,
        np.subtract(dear.info[virial], cheap.info[virial]) if virial in dear.info and virial in cheap.info else None,
    )
    return out


def _no_pair(dear: Sequence[Atoms], cheap: Sequence[Atoms]) -> str:
    """Say why no frames are pairs."""
    elements = [sorted({s for atoms in frames for s in atoms.symbols}) for frames in (dear, cheap)]
    labelled = [sum(map(fr.is_labelled, frames)) for frames in (dear, cheap)]
    ours, theirs = (", ".join(symbols) or "no atoms" for symbols in elements)
    if not set(elements[0]) & set(elements[1]):
        return f"no pairs: the dear frames are of {ours}, the cheap ones of {theirs}; expected the same elements"
    return (
        f"no pairs: none of the {labelled[0]} labelled dear frames is the same structure as one of the {labelled[1]} labelled "
        "cheap ones (isolated atoms apart), to all digits; label frames of the cheap dataset again (aiida-gaprss relabel)"
    )
