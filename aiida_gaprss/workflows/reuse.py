"""Labels that the profile has already: found by fingerprints without opening a file, and taken where it is proven whose they are.

What a user wrote as a level of theory is no proof: the name of a calculator says nothing of its arguments. Two levels that name
all their parts (:class:`~aiida_gaprss.levels.Level`) are; else the provenance of the labels is: the job, or the calculation, that
made them had the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiida.orm import CalcFunctionNode, CalcJobNode, Dict, QueryBuilder, Str, load_node
from ase import Atoms

from aiida_gaprss.calculations.label_functions import labels_to_take
from aiida_gaprss.data.dataset import Dataset, fingerprint, fingerprints
from aiida_gaprss.frames import is_labelled, label_key
from aiida_gaprss.levels import Level, difference
from aiida_gaprss.reference import ASE, level_of, reference_named, reference_of
from aiida_gaprss.workflows.jobs.lock import alone

#: At most so many datasets are linked to a labelling for the labels that it takes from them.
MOST = 40

#: Fingerprints of the frames that a dataset may have labels for, by its pk.
Hits = dict[int, set[str]]


def datasets_with_labels(frames: Dataset, inputs: Any, known: Iterable[Dataset] = ()) -> list[Dataset]:
    """Return few datasets of the profile that have labels for these frames, of the same level of theory; the fullest first.

    Nothing is changed but indices that are missing or wrong, so that it may be done again.

    :param inputs: of ``LabelWorkChain``: one reference.
    :param known: datasets whose labels will be taken anyway.
    """
    has = {label_key(atoms) for node in known for atoms in node.get_frames() if is_labelled(atoms)}
    keys = {fingerprint(atoms): label_key(atoms) for atoms in frames.get_frames()}
    left = {mark for mark, key in keys.items() if key not in has}
    hits = _proven(_hits(left, inputs, set(frames.elements)), inputs) if left else {}
    chosen: list[Dataset] = []
    while hits and len(chosen) < MOST:
        pk = max(hits, key=lambda pk: (len(hits[pk] & left), -pk))
        if not (claimed := hits.pop(pk) & left):
            break
        node: Any = load_node(pk)
        there = _labels(node)
        if taken := {mark for mark in claimed if keys[mark] in there}:
            chosen.append(node)
            left -= taken
        if taken != claimed:  # the index is not ours, as one of an archive
            _index(node)
    return chosen


def _hits(wanted: set[str], inputs: Any, elements: set[str]) -> Hits:
    """Return the datasets whose indices name wanted fingerprints, and whose level of theory may be that of the inputs."""
    level = level_of(inputs)
    of_level = {"attributes.level.code": level.code} if isinstance(level, Level) else {"attributes.level_of_theory": level}
    query = QueryBuilder().append(
        Dataset,
        filters={"attributes.energies": {">": 0}, **of_level},
        project=["id", f"extras.{Dataset.INDEX}", "attributes.elements"],
    )
    found: Hits = {}
    for pk, index, those in query.all():
        marks = fingerprints(index)
        if marks is None:  # of an older version, or spoilt
            marks = fingerprints(_index(load_node(pk))) if elements.intersection(those or ()) else None
        if same := wanted.intersection(marks or ()):
            found[pk] = same
    return found


def _labels(node: Dataset) -> dict[bytes, Atoms]:
    """Return the labels of a dataset that may be taken; none, if it cannot be read."""
    try:
        return labels_to_take(node)
    except Exception:  # whatever stands in a node of somebody's archive
        return {}


def _index(node: Any) -> str:
    """Write the index of a dataset and return it; that of one that cannot be read is empty."""
    with alone():
        try:
            return str(node.index())
        except Exception:  # as above
            return str(node.index([]))


def _is_level(content: Any, level: Level) -> bool:
    """Tell whether what stands in the attributes of a dataset is a level that names all its parts, and no other than this one."""
    try:
        return not difference({"one": Level.from_dict(content), "other": level})
    except Exception:  # as above; None, if there is but a line
        return False


def _proven(hits: Hits, inputs: Any) -> Hits:
    """Return the hits whose labels are proven to be of the level of theory of the inputs."""
    level, name = level_of(inputs), reference_of(inputs)
    assert name is not None
    if not hits:
        return hits
    if isinstance(level, Level):
        proven = _of_level(hits, level)
    elif name == ASE:
        proven = _of_calculator(hits, inputs[ASE]["settings"].get_dict())
    else:
        proven = _of_reference(hits, name, reference_named(name).level_of_theory(inputs[name]))
    return {pk: hits[pk] for pk in proven}


def _of_level(hits: Hits, level: Level) -> list[int]:
    """Return the datasets of this level."""
    query = QueryBuilder().append(Dataset, filters={"id": {"in": list(hits)}}, project=["id", "attributes.level"])
    return [pk for pk, content in query.all() if _is_level(content, level)]


def _of_calculator(hits: Hits, settings: dict[str, Any]) -> list[int]:
    """Return the datasets that a job has made with the same calculator and arguments."""
    query = QueryBuilder().append(Dict, project="attributes", tag="settings")
    job = {"process_type": "aiida.calculations:gaprss.label"}
    query.append(CalcJobNode, with_incoming="settings", edge_filters={"label": "settings"}, filters=job, tag="job")
    query.append(Dataset, with_incoming="job", filters={"id": {"in": list(hits)}}, project="id")
    return [pk for given, pk in query.all() if _calculator(given) == _calculator(settings)]


def _calculator(settings: dict[str, Any]) -> tuple[Any, Any]:
    return settings.get("calculator"), settings.get("arguments") or {}


def _of_reference(hits: Hits, name: str, content: dict[str, Any]) -> list[int]:
    """Return the datasets whose labels were gathered from calculations of this reference with the same settings."""
    content = Dict(content).get_dict()
    query = QueryBuilder().append(Dict, project="attributes", tag="level")
    gathered = {"attributes.process_label": "gather_labels"}
    query.append(CalcFunctionNode, with_incoming="level", edge_filters={"label": "level"}, filters=gathered, tag="gathered")
    query.append(Str, with_outgoing="gathered", edge_filters={"label": "reference"}, filters={"attributes.value": name})
    query.append(Dataset, with_incoming="gathered", filters={"id": {"in": list(hits)}}, project="id")
    return [pk for given, pk in query.all() if given == content]
