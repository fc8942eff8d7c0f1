"""From structures of AiiDA to frames and back, as calcfunctions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiida.engine import calcfunction
from aiida.orm import Bool, Dict, Str, StructureData
from ase import Atoms

from aiida_gaprss.calculations.common import named, process_uuid
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import FrameError, check, check_name, plain_name
from aiida_gaprss.outside import shown
from aiida_gaprss.structures.checks import AT_ONE_PLACE, at_one_place


@calcfunction
def structures_to_frames(names: Dict, config_type: Str, merge_kinds: Bool, **structures: StructureData) -> Dataset:
    """Make frames without labels of structures.

    :param names: frame ids by the names of the inputs, :func:`names_for`.
    :param merge_kinds: of several kinds of an element make one.
    """
    frames = []
    for key, frame_id in sorted(names.get_dict().items()):
        frames.append(frame_of(structures[key], str(frame_id), config_type.value, merge_kinds.value))
        frames[-1].info["origin"] = process_uuid()
    return named(Dataset(frames, level_of_theory="unlabelled"), "structures")


@calcfunction
def frame_to_structure(frames: Dataset, frame_id: Str) -> StructureData:
    """Return one frame as a structure, its atoms in their order."""
    atoms = frames.get_frame(frame_id.value)
    structure = StructureData(ase=Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
    structure.label = frame_id.value
    return structure


def frame_of(structure: StructureData, frame_id: str, config_type: str = "crystal", merge_kinds: bool = False) -> Atoms:
    """Return a structure as a frame.

    Masses are left out: they do not change energies and forces.

    :raises FrameError: naming the structure, if sites are partly occupied, an element has several kinds (as of two spins) which
        nobody said to merge, it does not repeat in all directions, two atoms are at one place, or no dataset would take it.
    """
    where = f"structure <{structure.pk}>" if structure.is_stored else "structure"
    kinds = {kind.name: kind for kind in structure.kinds}
    if structure.is_alloy or structure.has_vacancies:
        raise FrameError("has sites that are occupied in part, expected full ones; the strategy occupancy fills them", where)
    if (several := _several_kinds(structure)) and not merge_kinds:
        raise FrameError(
            f"has several kinds of {several}, which a frame cannot hold; --merge-kinds takes them as one, if labels are the same",
            where,
        )
    symbols = [kinds[site.kind_name].symbol for site in structure.sites]
    positions = [site.position for site in structure.sites]
    atoms = Atoms(symbols, positions, cell=structure.cell, pbc=structure.pbc)
    atoms.info.update(frame_id=check_name("frame_id", frame_id, where), config_type=check_name("config_type", config_type, where))
    check(atoms, where)
    if at_one_place(atoms):
        raise FrameError(f"has two atoms at one place (closer than {AT_ONE_PLACE:g} Å)", where)
    return atoms


def _several_kinds(structure: StructureData) -> str | None:
    """Return the first element of which there are several kinds, with their names."""
    by_element: dict[str, list[str]] = {}
    for kind in structure.kinds:
        by_element.setdefault(kind.symbol, []).append(kind.name)
    found = [f"{symbol} ({', '.join(map(shown, names))})" for symbol, names in sorted(by_element.items()) if len(names) > 1]
    return found[0] if found else None


def names_for(structures: Iterable[StructureData]) -> dict[str, tuple[str, StructureData]]:
    """Return frame ids and structures by the names of inputs.

    A frame is called by the label that no other one has, or by the formula and a part of the uuid.

    :raises FrameError: if a structure is there twice.
    """
    nodes = list(structures)
    labels = [plain_name(node.label) if node.label else "" for node in nodes]
    if len({node.uuid for node in nodes}) < len(nodes):
        raise FrameError("one of the structures is there twice")
    out = {}
    for number, (node, label) in enumerate(zip(nodes, labels, strict=True)):
        alone = bool(label) and labels.count(label) == 1
        name = label if alone else plain_name(f"{label or node.get_formula('hill_compact')}-{node.uuid[:8]}")
        out[f"s{number:05d}"] = (name, node)
    return out


def dataset_of(structures: Iterable[StructureData], config_type: str = "crystal", merge_kinds: bool = False) -> Dataset:
    """Return a stored dataset of structures, made by :func:`structures_to_frames`; what is wrong is said before anything runs.

    :raises FrameError: as :func:`frame_of` and :func:`names_for`.
    """
    found: Mapping[str, tuple[str, StructureData]] = names_for(structures)
    for name, node in found.values():
        frame_of(node, name, config_type, merge_kinds)
    names = Dict({key: name for key, (name, _) in found.items()})
    nodes = {key: node for key, (_, node) in found.items()}
    return structures_to_frames(names, Str(config_type), Bool(merge_kinds), **nodes)
