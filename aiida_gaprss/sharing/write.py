"""Write an archive: everything that is needed of what is shared, and nothing of who made it and where."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from aiida.common.utils import batch_iter
from aiida.manage import get_manager
from aiida.orm import Computer, Node, ProcessNode, QueryBuilder
from aiida.orm.entities import EntityTypes
from aiida.tools.archive.implementations.sqlite_zip.main import ArchiveFormatSqlZip
from aiida.tools.graph.graph_traversers import get_nodes_export

from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.outside import shown
from aiida_gaprss.sharing import about_text, crate
from aiida_gaprss.sharing.about import Terms, about
from aiida_gaprss.sharing.archive import CARD, CARD_JSON, CRATE, DATABASE, MOST_FILE, pieces_of, sha256
from aiida_gaprss.sharing.card_text import to_json
from aiida_gaprss.sharing.private import Licensed, Private, Unreadable
from aiida_gaprss.sharing.rows import (
    POTENTIAL,
    PUBLISHED,
    WITHOUT_FILES,
    computer_row,
    files_of,
    is_left_out,
    node_row,
    private_words,
    pseudopotential,
    user_row,
)
from aiida_gaprss.sharing.verify import leaks, verify

#: Nodes that are read at once.
BATCH = 500

#: The one user of an archive.
_USER = 1


class ShareError(ValueError):
    """Something that cannot be shared as it is."""


@dataclass
class LeftOut:
    """What became of files: number of those left out or changed, names of those that may not, or cannot, be shared."""

    files_of_jobs: int = 0
    files_changed: int = 0
    licensed: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Shared:
    """An archive that was written: where, its card, and all files of it."""

    path: Path
    card: dict[str, Any]
    files: list[Path]


@dataclass(frozen=True)
class _Graph:
    nodes: list[int]
    links: list[Any]


def share(nodes: Sequence[Node], path: Path, terms: Terms, as_it_is: Collection[str] = (), force: bool = False) -> Shared:
    """Write an archive of nodes and all that they were made of, its card and metadata; all, or nothing.

    :param as_it_is: uuids of nodes whose content is shared even if paths or names are in it.
    :param force: write over an archive that is there.
    :raises ShareError: if a process has not ended, a potential is not what it was or names a path, or files are there.
    :raises ArchiveError: if what was written is not what it should be, which would be a fault of this package.
    """
    files = beside_of(path)
    if not path.absolute().parent.is_dir():
        raise ShareError(f"{shown(path.absolute().parent)}: no such folder")
    there = [file for file in (path, *files.values()) if os.path.lexists(file)]
    if there and not force:
        raise ShareError(f"{shown(there[0])} is there already: name another file, or write over it (--force)")
    graph = _graph(nodes)
    private = private_words()
    _refuse(graph, private, as_it_is)
    content = about(nodes, terms, datetime.now(timezone.utc).isoformat(timespec="seconds"))
    kept = {key: content[key] for key in ("authors", "cite", "licence", "name")}  # names that the user wants there
    content = {**private.clean(content), **kept}
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".share-") as folder:
        new = Path(folder) / path.name
        content |= _write(graph, new, private, as_it_is)
        _add_cards(new, content)
        verify(new)
        if found := leaks(new, private, as_it_is):
            raise ShareError("; ".join(found))
        _put_beside(new, content, {part: Path(folder) / file.name for part, file in files.items()})
        for file in (path, *files.values()):
            os.replace(Path(folder) / file.name, file)
    return Shared(path, content, [path, *files.values()])


def beside_of(path: Path) -> dict[str, Path]:
    """Return the files that lie beside an archive, by what they are called inside."""
    stem = path.name.removesuffix(".aiida")
    return {
        CARD: path.with_name(f"{stem}.md"),
        CARD_JSON: path.with_name(f"{stem}.json"),
        CRATE: path.with_name(f"{stem}-{CRATE}"),
    }


def _graph(nodes: Sequence[Node]) -> _Graph:
    """Return nodes with all that they were made of.

    :raises ShareError: if a process among them has not ended.
    """
    traversed = get_nodes_export({int(node.pk or 0) for node in nodes}, get_links=True)
    pks = sorted(traversed["nodes"])
    query = QueryBuilder().append(ProcessNode, filters={"id": {"in": pks}, "attributes.sealed": {"!in": [True]}}, project="id")
    if running := query.all(flat=True):
        named, remedy = ", ".join(f"<{pk}>" for pk in running[:5]), f"aiida-gaprss resume {running[0]} goes on with it"
        raise ShareError(f"process {named} has not ended: {remedy}, and Ctrl-C twice there ends it for good; then share")
    return _Graph(pks, sorted(traversed.get("links") or []))


def _refuse(graph: _Graph, private: Private, as_it_is: Collection[str]) -> None:
    """Refuse potentials that are spoilt, or that name paths or persons: their files are never changed."""
    for node in QueryBuilder().append(Potential, filters={"id": {"in": graph.nodes}}).all(flat=True):
        try:
            files = node.checked_files()
        except PotentialError as exception:
            raise ShareError(f"cannot be shared: {exception}") from exception
        for name, content in files.items() if node.uuid not in as_it_is else ():
            if found := private.found_in_file(content):
                raise ShareError(
                    f"potential <{node.pk}>: its {name} names {shown(found[0])}, and files of potentials are never changed; "
                    f"if everybody may read that: --as-it-is {node.pk}"
                )


def _rows(entity: type, pks: Collection[int]) -> Iterator[dict[str, Any]]:
    if not pks:
        return
    query = QueryBuilder().append(entity, filters={"id": {"in": list(pks)}}, tag="entity", project=["**"])
    for row in query.iterdict(batch_size=BATCH):
        yield dict(row["entity"])


def _write(graph: _Graph, path: Path, private: Private, as_it_is: Collection[str]) -> dict[str, Any]:
    """Write what AiiDA knows of as an archive; return what the card says of it."""
    told = _Told()
    with ArchiveFormatSqlZip().open(path, mode="x") as writer:
        writer.update_metadata({"ctime": datetime.now(timezone.utc).isoformat(), "creation_parameters": {}})
        files = _write_files(writer, _owners(graph), private, as_it_is, told.left_out)
        writer.bulk_insert(EntityTypes.USER, [user_row(_USER)])
        rows = enumerate(_rows(Computer, _computers(graph)), start=1)
        writer.bulk_insert(EntityTypes.COMPUTER, [computer_row(row, number) for number, row in rows])
        for _, batch in batch_iter(_rows(Node, graph.nodes), BATCH):
            told.count(batch, private)
            nodes = [node_row(row, _USER, private, row["uuid"] in as_it_is, files.changed) for row in batch]
            writer.bulk_insert(EntityTypes.NODE, nodes)
        for _, batch in batch_iter(graph.links, BATCH, _link_row):
            writer.bulk_insert(EntityTypes.LINK, batch, allow_defaults=True)
    contents = {"nodes": len(graph.nodes), "links": len(graph.links), "files": files.number, "bytes": files.size}
    return {
        "contents": {**contents, "kinds": dict(sorted(told.kinds.items()))},
        "pseudopotentials": sorted(told.pseudopotentials, key=str),
        "left_out": vars(told.left_out),
    }


def _computers(graph: _Graph) -> set[int]:
    """Return the pks of the computers of nodes."""
    query = QueryBuilder().append(Node, filters={"id": {"in": graph.nodes}}, tag="node")
    return set(query.append(Computer, with_node="node", project="id").all(flat=True))


@dataclass
class _Told:
    """What the card says of the nodes, counted while they are written."""

    left_out: LeftOut = field(default_factory=LeftOut)
    kinds: Counter[str] = field(default_factory=Counter)
    pseudopotentials: list[dict[str, Any]] = field(default_factory=list)

    def count(self, rows: Sequence[dict[str, Any]], private: Private) -> None:
        """Count nodes and the files that never leave, and name pseudopotentials and licensed files."""
        self.kinds.update(row["node_type"] for row in rows)
        self.pseudopotentials += [private.clean(told) for row in rows if (told := pseudopotential(row))]
        for row in rows:
            kind = row["node_type"]
            names = [name for name, _ in files_of(row["repository_metadata"]) if is_left_out(kind, name)]
            if kind.startswith(WITHOUT_FILES):
                self.left_out.licensed += [str(_Owner(row["uuid"], kind, name)) for name in names]
            else:
                self.left_out.files_of_jobs += len(names)


def _link_row(link: Any) -> dict[str, Any]:
    return {"input_id": link.source_id, "output_id": link.target_id, "label": link.link_label, "type": link.link_type}


@dataclass(frozen=True)
class _Owner:
    """The first node that has a file, and what the file is called there."""

    uuid: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} of {self.kind.rstrip('.').rpartition('.')[2]} {self.uuid}"


def _owners(graph: _Graph) -> dict[str, _Owner]:
    """Return the owners of all files that are kept, by their keys; a potential before others."""
    owners: dict[str, _Owner] = {}
    for row in _rows(Node, graph.nodes):
        kind = row["node_type"]
        for name, key in files_of(row["repository_metadata"]):
            if not is_left_out(kind, name) and (key not in owners or kind.startswith((POTENTIAL, *PUBLISHED))):
                owners[key] = _Owner(row["uuid"], kind, name)
    return owners


@dataclass
class _Files:
    changed: dict[str, str | None] = field(default_factory=dict)
    number: int = 0
    size: int = 0


def _write_files(
    writer: Any, owners: dict[str, _Owner], private: Private, as_it_is: Collection[str], left_out: LeftOut
) -> _Files:
    """Write the files of nodes without what is private in them."""
    files, written = _Files(), set[str]()
    repository = get_manager().get_profile_storage().get_repository()
    for key, stream in repository.iter_object_streams(set(owners)):
        content = _clean(stream.read(MOST_FILE + 1), owners[key], private, as_it_is, left_out)
        new = None if content is None else hashlib.sha256(content).hexdigest()
        if new != key:
            files.changed[key] = new
        if content is not None and new not in written:
            written.add(str(new))
            writer.put_object(io.BytesIO(content), key=new)
            files.number, files.size = files.number + 1, files.size + len(content)
    left_out.files_changed = sum(new is not None for new in files.changed.values())
    return files


def _clean(content: bytes, owner: _Owner, private: Private, as_it_is: Collection[str], left_out: LeftOut) -> bytes | None:
    """Return a file as it is shared, or None."""
    if len(content) > MOST_FILE:
        left_out.unreadable.append(f"{owner}: is larger than {MOST_FILE} bytes")
        return None
    if owner.uuid in as_it_is or owner.kind.startswith((POTENTIAL, *PUBLISHED)):
        return content
    try:
        return private.clean_file(content)
    except Licensed as exception:
        left_out.licensed.append(f"{owner}: {exception}")
    except Unreadable as exception:
        left_out.unreadable.append(f"{owner}: {exception}")
    return None


def _add_cards(path: Path, content: dict[str, Any]) -> None:
    """Add the card and the metadata to an archive; the card tells the size and the hash of the database."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(DATABASE) as handle:
            digest = sha256(pieces_of(handle))
        content["contents"]["database"] = {"sha256": digest, "bytes": archive.getinfo(DATABASE).file_size}
        cards = {CARD: about_text.text(content).encode(), CARD_JSON: to_json(content).encode()}
        hashes = {DATABASE: digest, **{name: hashlib.sha256(card).hexdigest() for name, card in cards.items()}}
        for name, card in {**cards, CRATE: crate.inside(content, hashes).encode()}.items():
            archive.writestr(name, card)


def _put_beside(archive: Path, content: dict[str, Any], files: dict[str, Path]) -> None:
    with archive.open("rb") as handle:
        digest = sha256(pieces_of(handle))
    with zipfile.ZipFile(archive) as inside:
        for part in (CARD, CARD_JSON):
            with inside.open(part) as source, files[part].open("wb") as target:
                shutil.copyfileobj(source, target)
    names = {part: files[part].name for part in (CARD, CARD_JSON)}
    files[CRATE].write_text(crate.beside(content, archive, names, digest), encoding="utf-8")
