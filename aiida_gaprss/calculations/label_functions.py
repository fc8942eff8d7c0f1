"""The cheap steps of labelling as calcfunctions: set frames aside, gather labels, merge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Bool, Dict, Float, Int, List, Str, StructureData
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import frames_of, named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import OUR_SETTINGS, Level, attempts_at_another, level_of_content
from aiida_gaprss.reference import LABELS, RELAXATION, Asked, reference_named
from aiida_gaprss.reference.common import level_of_content as level_of_reference
from aiida_gaprss.reference.common import sorted_by_number
from aiida_gaprss.runners.status import CONVERGED
from aiida_gaprss.selection.sanity import Limits, shortest_distances, why_absurd


@calcfunction
def frame_structure(frames: Dataset, index: Int) -> StructureData:
    """Return one frame as the StructureData that DFT plugins want, its atoms sorted by atomic number."""
    atoms = frames.frame(index.value)
    structure = StructureData(ase=sorted_by_number(atoms)[0])
    structure.label = atoms.info["frame_id"]
    return structure


#: Names of datasets among the ``known`` ones begin so if they were found: nobody has said that their labels may be taken.
FOUND = "found_"


def labels_to_take(node: Dataset) -> dict[bytes, Atoms]:
    """Return the frames of a dataset whose labels may stand for a calculation of the same level, by ``frames.label_key``."""
    level = node.level
    return {fr.label_key(atoms): atoms for atoms in node.get_frames() if _to_take(atoms, level)}


def _to_take(atoms: Atoms, level: Level | str) -> bool:
    """Tell whether a label is sound, all there, and not by an attempt that was allowed to change the level.

    Imported outputs may lack the stress. What isolated atoms and dimers have of their own is not among what is compared of them.
    Nodes of somebody's archive may hold anything.
    """
    try:
        fr.check(atoms)
    except fr.FrameError:
        return False
    if not fr.is_labelled(atoms) or atoms.info.get("label_attempt", 1) in attempts_at_another(level):
        return False
    if isinstance(level, str):
        return True
    if fr.is_in_vacuum(atoms):
        return OUR_SETTINGS in level.also
    return f"{fr.REFERENCE}_forces" in atoms.arrays and f"{fr.REFERENCE}_virial" in atoms.info


def _known(nodes: Mapping[str, Dataset]) -> dict[bytes, Atoms]:
    """Return labelled frames by ``frames.label_key``: of what was given, whatever it is, else of what was found."""
    given = {name: node for name, node in nodes.items() if not name.startswith(FOUND)}
    found = [labels_to_take(node) for name, node in sorted(nodes.items(), reverse=True) if name not in given]
    labels = {key: atoms for keys in found for key, atoms in keys.items()}
    return labels | {fr.label_key(a): a for a in frames_of(given) if fr.is_labelled(a)}


@calcfunction
def settle_labels(frames: Dataset, min_distance_factor: Float, level: Dict, once: Bool, **known: Dataset) -> dict[str, Dataset]:
    """Set aside the frames that need no calculation: those already labelled at this level, those too absurd for one, and copies.

    :param level: of theory, as :func:`aiida_gaprss.levels.content_of` gives it.
    :param once: whether of frames that are the same only the first is left.
    :param known: labelled frames; of datasets whose names begin with ``found_``, only those that :func:`labels_to_take` returns.
    :return: ``settled`` with labels or reasons, and ``left``. Copies are in neither.
    """
    labels = _known(known)
    settled: list[Atoms] = []
    left: list[Atoms] = []
    seen: set[bytes] = set()
    for atoms in frames.get_frames():
        key = fr.label_key(atoms)
        reason = why_absurd(atoms, Limits(min_distance=shortest_distances(atoms, min_distance_factor.value)))
        if key in labels:
            fr.drop_labels(atoms)
            fr.take_labels(atoms, labels[key])
            settled.append(atoms)
        elif reason is not None:
            fr.drop_labels(atoms)
            atoms.info["label_status"] = f"failed: absurd, not calculated: {reason}"
            settled.append(atoms)
        elif key not in seen or not once.value:
            left.append(atoms)
        seen.add(key)
    return {
        "settled": named(
            Dataset(settled, level_of_theory=level_of_content(level.get_dict())), "frames that need no calculation", settled
        ),
        "left": named(Dataset(left, level_of_theory="unlabelled"), "frames to be labelled", left),
    }


@calcfunction
def gather_labels(frames: Dataset, indices: List, reference: Str, level: Dict, failures: Dict, **outputs: Any) -> Dataset:
    """Put the labels of single calculations on the frames ``indices``.

    ``outputs`` are the nodes named in ``OUTPUTS`` of the reference as ``f<index>_a<attempt>_<name>``;
    ``failures`` says per index why there are none.
    """
    out = _gathered(LABELS, frames, indices, reference, failures, outputs)
    return named(Dataset(out, level_of_theory=level_of_reference(level.get_dict())), "some labels", out)


@calcfunction
def gather_relaxed(frames: Dataset, indices: List, reference: Str, failures: Dict, **outputs: Any) -> Dataset:
    """Put the crystals ``indices`` where single calculations have relaxed them to; see ``gather_labels``.

    What a program says at the end of a relaxation need not be a label: its k-points may be those of the cell where it began.
    """
    out = _gathered(RELAXATION, frames, indices, reference, failures, outputs)
    for atoms in (atoms for atoms in out if fr.is_labelled(atoms)):
        atoms.info["relax_status"] = CONVERGED
    return named(Dataset(out, level_of_theory="unlabelled"), "some crystals that the reference has relaxed", out)


def _gathered(
    asked: Asked, frames: Dataset, indices: List, reference: Str, failures: Dict, outputs: dict[str, Any]
) -> list[Atoms]:
    module = reference_named(reference.value)
    given: dict[int, dict[str, Any]] = {}
    attempt: dict[int, int] = {}
    for key, node in outputs.items():
        match = re.fullmatch(r"f(\d+)_a(\d+)_(\w+)", key)
        assert match is not None
        given.setdefault(int(match[1]), {})[match[3]] = node
        attempt[int(match[1])] = int(match[2])
    out = []
    for index in indices.get_list():
        atoms = frames.frame(index)
        fr.drop_labels(atoms)
        reason = failures.get_dict().get(str(index))
        if index in given:
            nodes = given[index]
            atoms.info["label_uuid"] = nodes[asked.outputs(module)[0]].creator.uuid
            try:
                asked.put(module, nodes, atoms)
            except (ValueError, KeyError) as exception:
                reason = f"failed: {exception}"
            if attempt[index]:
                atoms.info["label_attempt"] = attempt[index] + 1
        atoms.info["label_status"] = reason or "ok"
        out.append(atoms)
    return out


@calcfunction
def pick_frames(frames: Dataset, indices: List) -> Dataset:
    """Return some frames of a dataset that are to be labelled."""
    picked = [frames.frame(index) for index in indices.get_list()]
    return named(Dataset(picked, level_of_theory="unlabelled"), "some frames to be labelled", picked)


@calcfunction
def merge_labels(frames: Dataset, reason: Str, **parts: Dataset) -> Dataset:
    """Join the parts of a labelled dataset in the order of ``frames``; labels win over failures.

    :param reason: why frames that are in no part have no label; they are then kept with it. Empty: they are left out.
    """
    best: dict[str, Atoms] = {}
    level: Level | str = "unknown"
    for _, node in sorted(parts.items()):
        level = node.level
        for atoms in node.get_frames():
            name = atoms.info["frame_id"]
            if name not in best or not fr.is_labelled(best[name]):
                best[name] = atoms
    out = []
    for atoms in frames.get_frames():
        if atoms.info["frame_id"] in best:
            out.append(best[atoms.info["frame_id"]])
        elif reason.value:
            fr.drop_labels(atoms)
            atoms.info["label_status"] = f"failed: {reason.value}"
            out.append(atoms)
    return named(Dataset(out, level_of_theory=level), "labels", out)


@calcfunction
def label_copies(frames: Dataset, labelled: Dataset) -> Dataset:
    """Return all ``frames`` in their order: as they are ``labelled``, and copies with what became of the one calculated."""
    done = {atoms.info["frame_id"]: atoms for atoms in labelled.get_frames()}
    sources = {fr.label_key(atoms): atoms for atoms in sorted(done.values(), key=fr.is_labelled)}
    out = []
    for atoms in frames.get_frames():
        source = done.get(atoms.info["frame_id"])
        if source is None or not fr.is_labelled(source):
            source = sources.get(fr.label_key(atoms), source)
        if source is not None:
            fr.drop_labels(atoms)
            fr.take_labels(atoms, source)
            out.append(atoms)
    return named(Dataset(out, level_of_theory=labelled.level), "labels", out)
