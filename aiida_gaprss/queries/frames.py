"""Frames of all datasets of the profile that fulfil conditions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from aiida.orm import ProcessNode, QueryBuilder, WorkChainNode
from ase import Atoms
from ase.io.extxyz import key_val_dict_to_str

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.conditions import Conditions, fulfils, heights, refuse_unknown
from aiida_gaprss.analysis.hull import HullError, above_hull
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.io.formats import told_of
from aiida_gaprss.levels import DIFFERENCE, Difference, Level, difference, line_of
from aiida_gaprss.outside import shown


class QueryError(ValueError):
    """A question that has no answer."""


@dataclass(frozen=True)
class FoundFrame:
    """A frame, the first dataset that has it, and its energy above the convex hull (eV/atom), if that was asked about."""

    atoms: Atoms
    dataset: Dataset
    above_hull: float | None = None

    @property
    def frame_id(self) -> str:
        """Its name."""
        return str(self.atoms.info["frame_id"])

    def told(self) -> dict[str, Any]:
        """Return what is to be said of it as plain data; energies in eV/atom."""
        info, energy = told_of(self.atoms), fr.energy(self.atoms)
        return {
            "frame_id": self.frame_id,
            "config_type": info.get("config_type"),
            "generation": info.get("generation"),
            "formula": self.atoms.get_chemical_formula(),
            "energy_per_atom": None if energy is None or not np.isfinite(energy) else float(energy) / len(self.atoms),
            "above_hull": self.above_hull,
            "dataset": self.dataset.pk,
            "dataset_uuid": self.dataset.uuid,
            "level_of_theory": self.dataset.level_of_theory,
            "label_uuid": info.get("label_uuid"),
            "origin": info.get("origin"),
        }


def find_frames(
    conditions: Conditions | None = None,
    *,
    code: str | None = None,
    level: str | None = None,
    datasets: Iterable[Dataset] | None = None,
    notes: list[str] | None = None,
) -> list[FoundFrame]:
    """Return the frames that fulfil all conditions, each once: of the same name, structure and label, from the oldest dataset.

    They are labelled frames unless the conditions say otherwise. Differences of labels are no energies, and found only under the
    code ``difference``. The convex hull is that of all frames of one level of theory in the datasets, whatever else is asked;
    atoms and dimers in vacuum are not on it, and not found if a height above it is asked about.

    :param code: that made the labels, such as ``CASTEP``, as the level of theory tells it.
    :param level: words that the line of the level of theory has.
    :param datasets: default: all of the profile.
    :param notes: if given, what was left out, and why, is put here.
    :raises ValueError: for config types that no frame has, and if the only level of theory has no hull.
    """
    wanted = conditions or Conditions(labelled=True)
    groups = _by_level(_nodes(wanted, datasets), code, level)
    found = [_read(nodes, wanted, notes) for nodes in groups]
    if found:
        refuse_unknown((one.atoms for group in found for one in group), wanted)
    return [one for group in found for one in _fulfilling(group, wanted, notes, alone=len(found) == 1)]


def _nodes(wanted: Conditions, datasets: Iterable[Dataset] | None) -> Iterable[Dataset]:
    """Return the datasets that may have such frames, oldest first."""
    if datasets is not None:
        return sorted({node.pk: node for node in datasets}.values(), key=lambda node: node.pk or 0)
    filters = {} if wanted.labelled is False else {"attributes.energies": {">": 0}}
    return QueryBuilder().append(Dataset, filters=filters, tag="n").order_by({"n": "id"}).all(flat=True)


def _by_level(nodes: Iterable[Dataset], code: str | None, level: str | None) -> list[list[Dataset]]:
    """Return datasets in groups whose labels are of one level of theory, without those of another code or level."""
    groups: list[tuple[Level | str, list[Dataset]]] = []
    for node in nodes:
        of = _level(node)
        if of is None or not labelled_by(of, code) or (level or "").casefold() not in line_of(of).casefold():
            continue
        same = next((there for known, there in groups if not difference({"one": known, "other": of})), None)
        if same is None:
            groups.append((of, [node]))
        else:
            same.append(node)
    return [there for _, there in groups]


def _level(node: Dataset) -> Level | str | None:
    """Return the level of a dataset; None for what is none in the node of a stranger."""
    try:
        level = node.level
        difference({"it": level, "itself": level})
        return level if line_of(level) else None
    except Exception:  # whatever stands in somebody's archive
        return None


def labelled_by(level: Level | str, code: str | None) -> bool:
    """Tell whether labels of a level are a code's; of a level that is but a line, whether the line names it."""
    if isinstance(level, Difference):
        return code == DIFFERENCE
    if code is None:
        return True
    if isinstance(level, Level):
        return _plain(level.code) == _plain(code)
    return re.search(rf"(?<!\w){re.escape(code)}(?!\w)", level, re.IGNORECASE) is not None


def _plain(name: str) -> str:
    return re.sub(r"\W", "", name).casefold()


def _read(nodes: Sequence[Dataset], wanted: Conditions, notes: list[str] | None) -> list[FoundFrame]:
    """Return the frames of datasets of one level, each once."""
    found: dict[Any, FoundFrame] = {}
    for node in nodes:
        try:
            frames = [atoms for atoms in frames_in(node) if fr.is_labelled(atoms) == (wanted.labelled is not False)]
        except QueryError as exception:
            _note(notes, str(exception))
            continue
        for atoms in frames:
            found.setdefault((atoms.info["frame_id"], fr.label_key(atoms), fr.energy(atoms)), FoundFrame(atoms, node))
    return list(found.values())


def frames_in(node: Dataset) -> list[Atoms]:
    """Return the frames of a dataset, as it may be one of a stranger.

    :raises QueryError: if it cannot be read, or has frames without a name.
    """
    try:
        frames = node.get_frames()
    except Exception as exception:  # as above
        raise QueryError(f"dataset <{node.pk}> cannot be read: {type(exception).__name__}: {shown(exception)}") from exception
    for atoms in frames:
        if "frame_id" not in atoms.info or not isinstance(fr.energy(atoms) or 0.0, Real):
            raise QueryError(f"dataset <{node.pk}> cannot be read: it has a frame without a name, or an energy that is no number")
    return frames


def _fulfilling(group: list[FoundFrame], wanted: Conditions, notes: list[str] | None, alone: bool) -> list[FoundFrame]:
    """Return the frames of one level that fulfil the conditions.

    :param alone: there is no other level.
    """
    frames = [one.atoms for one in group]
    try:
        hull = above_hull(frames) if wanted.max_above_hull is not None else None
    except HullError as exception:
        if alone:
            raise
        _note(notes, f"{len(group)} frames of {shown(group[0].dataset.level_of_theory)} left out: {exception}")
        return []
    above = heights(frames) if wanted.max_above is not None else [0.0] * len(frames)
    out = []
    for i, one in enumerate(group):
        height = None if hull is None else float(hull[i])
        if fulfils(one.atoms, wanted, above[i], height or 0.0) and (height is None or np.isfinite(height)):
            out.append(FoundFrame(one.atoms, one.dataset, height))
    return out


def _note(notes: list[str] | None, text: str) -> None:
    if notes is not None:
        notes.append(text)


def datasets_with(frame_id: str, campaign: WorkChainNode | None = None) -> list[Dataset]:
    """Return the datasets that hold a frame, oldest first."""
    query = QueryBuilder()
    if campaign is not None:
        processes = [campaign.pk, *(process.pk for process in campaign.called_descendants)]
        query.append(ProcessNode, filters={"id": {"in": processes}}, tag="process")
        query.append(Dataset, with_incoming="process", tag="dataset")
    else:
        query.append(Dataset, tag="dataset")
    query.order_by({"dataset": "ctime"})
    needle = key_val_dict_to_str({"frame_id": frame_id})  # as it stands in the file
    found: dict[int, Dataset] = {}
    for node in query.all(flat=True):
        if node.pk not in found and _has(node, needle, frame_id):
            found[node.pk] = node
    return list(found.values())


def _has(node: Dataset, needle: str, frame_id: str) -> bool:
    """Tell whether a dataset has a frame; one that cannot be read has none.

    :param needle: what its file has then.
    """
    try:
        return needle in node.text() and any(atoms.info["frame_id"] == frame_id for atoms in node.get_frames())
    except Exception:  # as above
        return False
