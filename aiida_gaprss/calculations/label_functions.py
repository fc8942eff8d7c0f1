"""The cheap steps of labelling as calcfunctions: set frames aside, gather labels, merge."""

from __future__ import annotations

import re
from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Dict, Float, Int, List, Str, StructureData
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import frames_of, named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import Level, level_of_content
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


@calcfunction
def settle_labels(frames: Dataset, min_distance_factor: Float, level: Dict, **known: Dataset) -> dict[str, Dataset]:
    """Set aside the frames that need no calculation: those already labelled at this level, and those too absurd for one.

    :param level: of theory, as :func:`aiida_gaprss.levels.content_of` gives it.
    :return: ``settled`` with labels or reasons, and ``left``.
    """
    labels = {fr.structure_key(a): a for a in frames_of(known) if fr.is_labelled(a)}
    settled, left = [], []
    for atoms in frames.get_frames():
        source = labels.get(fr.structure_key(atoms))
        reason = why_absurd(atoms, Limits(min_distance=shortest_distances(atoms, min_distance_factor.value)))
        if source is not None:
            fr.take_labels(atoms, source)
            settled.append(atoms)
        elif reason is not None:
            fr.drop_labels(atoms)
            atoms.info["label_status"] = f"failed: absurd, not calculated: {reason}"
            settled.append(atoms)
        else:
            left.append(atoms)
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
