"""What potentials were fitted to: the calculations behind one, and those that saw a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aiida.orm import CalcFunctionNode, CalcJobNode, ProcessNode, QueryBuilder, load_node
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset, fingerprint, fingerprints
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import Difference
from aiida_gaprss.outside import shown
from aiida_gaprss.queries.frames import QueryError, datasets_with, frames_in

#: Type of the process that fits, and the inputs of it that have frames: fitted ones, and structures for sparse points.
FIT, DATASETS, SPARSE = "aiida.calculations:gaprss.fit", "datasets", "sparse_frames"

#: What became of a frame in a fit.
FITTED, LEFT_OUT, SPARSE_POINTS = "fitted", "left out", "sparse points"

#: Uuids in one query; databases take no endless lists.
AT_ONCE = 500


@dataclass
class Behind:
    """The calculations that a potential rests on.

    :param calculations: of this profile, the oldest first; :param frames: by their uuids, the ids of what they have labelled.
    :param elsewhere: uuids that frames tell and this profile does not have; :param untold: frames that tell none, as those of
        imported files.
    """

    calculations: list[ProcessNode] = field(default_factory=list)
    frames: dict[str, list[str]] = field(default_factory=dict)
    elsewhere: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Saw:
    """A potential and what became of a frame in its fit: ``fitted``, ``left out`` (a test), or ``sparse points`` only."""

    potential: Potential
    frame_id: str
    dataset: Dataset
    how: str


def calculations_behind(potential: Potential) -> Behind:
    """Return the calculations that labelled the training set of a potential, of a sum those of both parts.

    :raises QueryError: if its provenance does not tell what it was fitted to.
    """
    out = Behind()
    for atoms in training_frames(potential):
        name, uuid = str(atoms.info["frame_id"]), atoms.info.get("label_uuid")
        if _is_uuid(uuid):
            out.frames.setdefault(str(uuid), []).append(name)
        else:
            out.untold.append(name)
    known = _processes(out.frames)
    out.calculations = sorted(known, key=lambda node: node.pk or 0)
    out.elsewhere = sorted(set(out.frames) - {node.uuid for node in known})
    return out


def _is_uuid(text: Any) -> bool:
    try:
        return str(UUID(str(text))) == text
    except ValueError:
        return False


def _processes(uuids: Iterable[str]) -> list[ProcessNode]:
    given = sorted(uuids)
    found: list[ProcessNode] = []
    for start in range(0, len(given), AT_ONCE):
        query = QueryBuilder().append(ProcessNode, filters={"uuid": {"in": given[start : start + AT_ONCE]}})
        found += query.all(flat=True)
    return found


def training_frames(potential: Potential) -> list[Atoms]:
    """Return the frames whose labels a potential was fitted to, each once; behind differences of labels both that they are of.

    :raises QueryError: if its provenance does not tell them.
    """
    fits = list(_fits_of(potential))
    if not fits:
        raise QueryError(
            f"potential <{potential.pk}> was imported, and this profile does not have its fit: nothing tells what it rests on"
        )
    frames = [atoms for fit in fits for atoms in _fitted(fit)]
    return list({(str(a.info["frame_id"]), str(a.info.get("label_uuid")), fr.label_key(a)): a for a in frames}.values())


def _fits_of(potential: Potential) -> Iterator[ProcessNode]:
    """Yield the process that fitted a potential; of a sum, those of its parts."""
    maker = potential.creator
    if maker is not None and maker.process_type == FIT:
        yield maker
    elif maker is not None:
        for part in maker.base.links.get_incoming(node_class=Potential).all_nodes():
            yield from _fits_of(part)


def _fitted(fit: Any) -> Iterator[Atoms]:
    """Yield the labelled frames that a fit was given and did not leave out."""
    left_out = _left_out(fit)
    for link in fit.base.links.get_incoming(node_class=Dataset).all():
        if _role(link.link_label) == DATASETS:
            frames = [atoms for atoms in frames_in(link.node) if fr.is_labelled(atoms)]
            yield from _sources(link.node, [atoms for atoms in frames if atoms.info["frame_id"] not in left_out])


def _role(label: str) -> str:
    """Return the namespace in the label of a link."""
    return label.partition("__")[0]


def _left_out(fit: Any) -> set[str]:
    return set(fit.inputs.leave_out.get_list()) if "leave_out" in fit.inputs else set()


def _sources(node: Dataset, frames: list[Atoms]) -> Iterator[Atoms]:
    """Yield frames of a dataset; if these are differences of labels, the frames at both levels that they are of."""
    if not isinstance(node.level, Difference) or node.creator is None:
        yield from frames
        return
    wanted = {fr.structure_key(atoms) for atoms in frames}
    for source in node.creator.base.links.get_incoming(node_class=Dataset).all_nodes():
        there = [atoms for atoms in frames_in(source) if fr.is_labelled(atoms)]
        yield from _sources(source, [a for a in there if fr.structure_key(a) in wanted or fr.is_in_vacuum(a)])


def potentials_that_saw(frame: str | Atoms, dataset: Dataset | None = None) -> list[Saw]:
    """Return the potentials in whose fits a structure was, under whatever name; sums of such potentials, too.

    :param frame: its id, or the frame itself, of which the structure counts.
    :param dataset: in which the frame of this id is looked up; needed if several structures have the name.
    :raises QueryError: if there is no such frame, or several.
    """
    atoms = _frame(frame, dataset) if isinstance(frame, str) else frame
    key, mark = fr.label_key(atoms), fingerprint(atoms)
    known: dict[int, list[Atoms]] = {}
    found = []
    for pk, index, *use in _uses(set(atoms.get_chemical_symbols())):
        if pk not in known:
            known[pk] = _same(pk, index, key, mark)
        found += [saw for there in known[pk] if (saw := _saw(there, pk, *use)) is not None]
    return _with_sums(found)


def _frame(frame_id: str, dataset: Dataset | None) -> Atoms:
    nodes = [dataset] if dataset is not None else datasets_with(frame_id)
    frames = [(node, atoms) for node in nodes for atoms in frames_in(node) if atoms.info["frame_id"] == frame_id]
    structures = {fr.label_key(atoms): node for node, atoms in reversed(frames)}
    if not structures:
        where = "this profile" if dataset is None else f"dataset <{dataset.pk}>"
        raise QueryError(f"no frame {shown(frame_id)!r} in {where}")
    if len(structures) > 1:
        pks = ", ".join(f"<{pk}>" for pk in sorted(node.pk or 0 for node in structures.values()))
        raise QueryError(
            f"{len(structures)} structures are called {shown(frame_id)!r}: say which, with one of the datasets {pks}"
        )
    return frames[0][1]


def _uses(elements: set[str]) -> Iterator[tuple[Any, ...]]:
    """Yield pk and index of the datasets with these elements that fits were given, the label of the link, and pks of both."""
    index, has = f"extras.{Dataset.INDEX}", {"attributes.elements": {"contains": sorted(elements)}}
    query = QueryBuilder().append(Dataset, filters=has, project=["id", index], tag="data")
    query.append(
        CalcJobNode,
        with_incoming="data",
        filters={"process_type": FIT},
        project="id",
        edge_project="label",
        edge_tag="link",
        tag="fit",
    )
    query.append(Potential, with_incoming="fit", project="id", tag="potential").order_by({"potential": "id"})
    for row in query.dict():
        yield row["data"]["id"], row["data"][index], row["link"]["label"], row["fit"]["id"], row["potential"]["id"]


def _same(pk: int, index: Any, key: bytes, mark: str) -> list[Atoms]:
    """Return the frames of a dataset that are a structure; none, if the dataset cannot be read.

    :param index: of the dataset; it has labelled frames only, so that the others are looked for if these are none.
    :param key: of the structure, :param mark: its fingerprint.
    """
    node: Any = load_node(pk)
    marks = fingerprints(index)
    if marks is not None and mark not in marks and len(marks) == node.base.attributes.get("frames", None):
        return []
    with suppress(QueryError):
        return [atoms for atoms in frames_in(node) if fr.label_key(atoms) == key]
    return []


def _saw(atoms: Atoms, pk: int, label: str, fit: int, potential: int) -> Saw | None:
    """Return what became of a frame of a dataset in a fit; None if it has no label and was not there for sparse points.

    :param label: of the link from dataset to fit.
    """
    sparse, name = _role(label) == SPARSE, str(atoms.info["frame_id"])
    if not sparse and not fr.is_labelled(atoms):
        return None
    node: Any = load_node(pk)
    whole: Any = load_node(potential)
    how = SPARSE_POINTS if sparse else LEFT_OUT if name in _left_out(load_node(fit)) else FITTED
    return Saw(whole, name, node, how)


def _with_sums(found: list[Saw]) -> list[Saw]:
    """Return what was found, and the same of the sums of these potentials."""
    out, known = list(found), {saw.potential.pk for saw in found}
    new = known
    while new:
        query = QueryBuilder().append(Potential, filters={"id": {"in": sorted(new)}}, project="id", tag="part")
        query.append(CalcFunctionNode, with_incoming="part", tag="sum").append(Potential, with_incoming="sum", project="*")
        rows = query.all()
        out += [Saw(whole, saw.frame_id, saw.dataset, saw.how) for pk, whole in rows for saw in out if saw.potential.pk == pk]
        new = {whole.pk for _, whole in rows} - known
        known = known | new
    return list({(saw.potential.pk, saw.frame_id, saw.dataset.pk, saw.how): saw for saw in out}.values())
