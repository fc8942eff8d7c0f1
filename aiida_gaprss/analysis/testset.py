"""A test that several campaigns have in common: all their low frames, each structure once, and the lowest distinct structures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hull import reduced_formula
from aiida_gaprss.analysis.zero import EnergyZero, bulk_frames
from aiida_gaprss.selection.copies import copies
from aiida_gaprss.structures.matching import is_same

#: eV/atom; heights that differ by less are equal: of phases on the hull, compounds come before elements.
EQUAL = 1e-6


@dataclass(frozen=True)
class Maker:
    """Who has made a labelled frame: the campaign, the part of it, and what the frame is called there."""

    campaign: str
    tag: str
    name: str


def called(campaign: str, tag: str, number: int) -> str:
    """Return the name that a frame has in the test."""
    return f"{campaign}.{tag}.{number:04d}"


def maker_of(atoms: Atoms) -> Maker:
    """Return who has made a frame that :func:`gathered` has given."""
    campaign, tag, _ = str(atoms.info["frame_id"]).split(".")
    return Maker(campaign, tag, str(atoms.info["parent"]))


def gathered(frames: Iterable[Atoms], campaign: str, tag: str) -> list[Atoms]:
    """Return the labelled frames of a part of a campaign, bare but for their labels, with names that say where they are from.

    Isolated atoms and clusters in a box are left out.
    """
    out = []
    for number, atoms in enumerate(bulk_frames(frames)):
        bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        fr.take_labels(bare, atoms)
        bare.info.update(frame_id=called(campaign, tag, number), parent=atoms.info["frame_id"])
        bare.info["config_type"] = atoms.info.get("config_type", "default")
        out.append(bare)
    return out


def within(frames: Sequence[Atoms], window: float) -> list[Atoms]:
    """Return the frames at most ``window`` (eV/atom) above the convex hull of them all; for one element, above the lowest.

    What this leaves out of a part, it leaves out of the whole: more frames can only bring the hull down.
    """
    zero = EnergyZero(frames)
    return [atoms for atoms in frames if zero.above(atoms) <= window]


def once(frames: Sequence[Atoms]) -> list[list[Atoms]]:
    """Return the frames in groups of the same structure, turned, shifted, repeated or not; the first of each stands for all."""
    return [[frames[index] for index in group] for group in copies(frames)]


def unrest(atoms: Atoms) -> tuple[float, float]:
    """Return the largest component of a force (eV/Å) and of the stress (GPa) that the reference leaves; 0 where it told none."""
    forces, virial = atoms.arrays.get(f"{fr.REFERENCE}_forces"), atoms.info.get(f"{fr.REFERENCE}_virial")
    stress = fr.stress_from_virial(virial, atoms.get_volume()) / units.GPa if virial is not None else np.zeros(1)
    return float(np.abs(forces).max(initial=0.0)) if forces is not None else 0.0, float(np.abs(stress).max())


def by_height(frames: Sequence[Atoms], zero: EnergyZero) -> list[Atoms]:
    """Return frames in the order of their heights above the hull; of equal ones, those of most elements come first."""
    return sorted(frames, key=lambda atoms: (round(zero.above(atoms) / EQUAL), -len(set(atoms.symbols)), len(atoms)))


def lowest(frames: Sequence[Atoms], zero: EnergyZero, number: int, rest: tuple[float, float]) -> list[Atoms]:
    """Return the lowest distinct structures among the frames that are at rest, the lowest frame of each, lowest first.

    :param number: at most so many; ``rest``: eV/Å and GPa, what :func:`unrest` may be at most.
    """
    found: list[Atoms] = []
    for atoms in by_height(frames, zero):
        if len(found) == number:
            break
        if all(np.less_equal(unrest(atoms), rest)) and not any(is_structure(atoms, other) for other in found):
            found.append(atoms)
    return found


def is_structure(atoms: Atoms, other: Atoms) -> bool:
    """Tell whether two frames are of one composition and one structure, whatever their density."""
    return reduced_formula(atoms) == reduced_formula(other) and is_same(atoms, other)


def known_by(frames: Iterable[Atoms], ground: Atoms, within_energy: float) -> dict[str, list[str]]:
    """Return by campaign the tags of the parts that have labelled a structure.

    :param frames: of :func:`gathered`.
    :param ground: the structure; ``within_energy``: eV/atom that a frame of it may lie above it, as one under pressure does.
    """
    highest = fr.energy(ground) / len(ground) + within_energy  # type: ignore[operator]  # it has a label
    found: dict[str, list[str]] = {}
    for atoms in frames:
        maker = maker_of(atoms)
        if maker.tag in found.get(maker.campaign, ()) or fr.energy(atoms) / len(atoms) > highest:  # type: ignore[operator]
            continue
        if is_structure(atoms, ground):
            found.setdefault(maker.campaign, []).append(maker.tag)
    return found


def is_seen(makers: Iterable[Maker], campaign: str, tags: Collection[str], left_out: Collection[str]) -> bool:
    """Tell whether one of the copies of a frame was in the training set of a potential.

    :param makers: of the copies; ``campaign``: of the potential.
    :param tags: of the parts in its training set, without the frames ``left_out``, by the names that they have in the campaign.
    """
    return any(one.campaign == campaign and one.tag in tags and one.name not in left_out for one in makers)
