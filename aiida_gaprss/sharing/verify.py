"""Check an archive from anywhere before any of it is believed: its parts, the database, the files, the nodes; in this order."""

from __future__ import annotations

import hashlib
import re
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiida.common.exceptions import AiidaException
from aiida.orm import Node, QueryBuilder
from aiida.storage.sqlite_zip.backend import SqliteZipBackend

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.outside import MOST_RATIO, RATIO_FROM, shown, size
from aiida_gaprss.sharing.about_text import text
from aiida_gaprss.sharing.archive import (
    CARD,
    CARD_JSON,
    CRATE,
    DAMAGED,
    DATABASE,
    METADATA,
    MOST_ALL,
    MOST_CARD,
    MOST_DATABASE,
    MOST_FILE,
    MOST_PARTS,
    REPOSITORY,
    ArchiveError,
    card_of,
    json_part,
    opened_zip,
    part,
    pieces_of,
    sha256,
)
from aiida_gaprss.sharing.card_text import to_json
from aiida_gaprss.sharing.private import Private, Unreadable
from aiida_gaprss.sharing.rows import PUBLISHED
from aiida_gaprss.sharing.tables import Tables

#: Parts that every archive has, with their largest sizes.
_PARTS = {
    METADATA: MOST_CARD,
    DATABASE: MOST_DATABASE,
    CARD: MOST_CARD,
    CARD_JSON: MOST_CARD,
    CRATE: MOST_CARD,
}

_KEY = re.compile(rf"{REPOSITORY}([0-9a-f]{{64}})")


@dataclass(frozen=True)
class Checked:
    """An archive that was checked: its card, and what there is of it by uuid (:meth:`Tables.nodes`)."""

    path: Path
    card: dict[str, Any]
    nodes: dict[str, Any]
    links: set[tuple[str, str, str, str]]


def verify(path: Path) -> Checked:
    """Check an archive as a whole.

    :raises ArchiveError: naming the part and what is wrong with it.
    """
    with opened_zip(path) as archive, tempfile.TemporaryDirectory() as folder:
        _check_parts(archive)
        _check_version(archive)
        card = _checked_card(archive)
        database = Path(folder) / DATABASE
        _check_database(archive, card, database)
        with Tables(path, database) as tables:
            tables.check()
            nodes, links, files = tables.nodes(), tables.links(), tables.files()
        _check_files(archive, files)
        _check_count(path, card, {"nodes": len(nodes), "links": len(links), "files": len(set(files))})
        if absent := [one["uuid"] for one in card["what"] if one["uuid"] not in nodes]:
            raise ArchiveError(path, f"its card is of node {shown(absent[0])}, which is not in it")
    for node in read_nodes(path, (Dataset, Potential)):
        _check_node(path, node)
    return Checked(path, card, nodes, links)


def _check_parts(archive: zipfile.ZipFile) -> None:
    """Refuse what is no part of an archive, and what is made to fill disk or memory."""
    where, entries = str(archive.filename), archive.infolist()
    if len(entries) > MOST_PARTS:
        raise ArchiveError(where, f"has {len(entries)} parts, expected at most {MOST_PARTS}")
    if doubled := [name for name, n in Counter(entry.filename for entry in entries).items() if n > 1]:
        raise ArchiveError(where, f"has the part {shown(doubled[0])!r} twice")
    for entry in entries:
        _check_part(where, entry)
    if missing := [name for name in _PARTS if name not in {entry.filename for entry in entries}]:
        raise ArchiveError(where, f"has no {missing[0]}: it is not whole, or not written by aiida-gaprss share")
    if (total := sum(entry.file_size for entry in entries)) > MOST_ALL:
        raise ArchiveError(where, f"has {size(total)} when unpacked, expected at most {size(MOST_ALL)}")


def _check_part(where: str, entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if name not in _PARTS and not _KEY.fullmatch(name):
        raise ArchiveError(where, f"has a part {shown(name)!r}; expected {', '.join(_PARTS)}, and files {REPOSITORY}SHA-256")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        raise ArchiveError(where, f"{shown(name)} is a link or a folder, expected a file")
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(where, f"{name} is encrypted, or packed in an unusual way; expected deflate")
    if entry.file_size > (most := _PARTS.get(name, MOST_FILE)):
        raise ArchiveError(where, f"{name} has {size(entry.file_size)} when unpacked, expected at most {size(most)}")
    if entry.file_size > RATIO_FROM and entry.file_size > MOST_RATIO * entry.compress_size:
        raise ArchiveError(where, f"{name} grows more than {MOST_RATIO} times when unpacked: it is made to fill the disk")


def _check_version(archive: zipfile.ZipFile) -> None:
    metadata, expected = json_part(archive, METADATA), SqliteZipBackend.version_head()
    if (told := metadata.get("export_version")) != expected:
        raise ArchiveError(
            str(archive.filename),
            f"has AiiDA's archive format {shown(told)}, expected {expected}: another version of aiida-core wrote it "
            "(verdi archive migrate changes older ones, after which the card no longer fits)",
        )
    if metadata.get("key_format") != "sha256":
        raise ArchiveError(str(archive.filename), f"has keys of the kind {shown(metadata.get('key_format'))}, expected sha256")


def _checked_card(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the card, if it is one, and one of this archive."""
    where = str(archive.filename)
    card = card_of(Path(where))
    try:
        text(card)
        to_json(card)
        told = {entity["@id"]: entity.get("sha256") for entity in json_part(archive, CRATE)["@graph"]}
    except DAMAGED as exception:
        raise ArchiveError(where, f"its card is damaged: {type(exception).__name__} {shown(exception)}") from exception
    for name in (CARD, CARD_JSON):
        if told.get(name) != hashlib.sha256(part(archive, name, MOST_CARD)).hexdigest():
            raise ArchiveError(where, f"{name} is not the one of which {CRATE} has the SHA-256: it was changed or exchanged")
    return card


def _pieces(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    """Yield the content of a part.

    :raises ArchiveError: if it is damaged.
    """
    try:
        with archive.open(name) as handle:
            yield from pieces_of(handle)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as exception:
        raise ArchiveError(str(archive.filename), f"{name} is damaged: {shown(exception)}") from exception


def _check_database(archive: zipfile.ZipFile, card: Mapping[str, Any], target: Path) -> None:
    """Unpack the database, and compare it with what the card says of it."""
    digest = hashlib.sha256()
    with target.open("wb") as handle:
        for piece in _pieces(archive, DATABASE):
            digest.update(piece)
            handle.write(piece)
    told = card["contents"].get("database")
    if not isinstance(told, dict) or told.get("sha256") != digest.hexdigest():
        raise ArchiveError(str(archive.filename), f"{DATABASE} is not the one that the card is of: it was changed or exchanged")


def _check_files(archive: zipfile.ZipFile, files: Mapping[str, str]) -> None:
    """Compare the files with their keys, and with the nodes.

    :param files: who has a file, by its key.
    """
    where = str(archive.filename)
    there = {found[1] for name in archive.namelist() if (found := _KEY.fullmatch(name))}
    if missing := sorted(set(files) - there):
        raise ArchiveError(where, f"{len(missing)} files are missing: {files[missing[0]]} ({missing[0][:12]}…)")
    if extra := sorted(there - set(files)):
        raise ArchiveError(where, f"{len(extra)} files are of no node: {REPOSITORY}{extra[0]}")
    for key in sorted(there):
        if sha256(_pieces(archive, f"{REPOSITORY}{key}")) != key:
            raise ArchiveError(where, f"{files[key]} was changed: its content does not have the SHA-256 {key[:12]}…")


def _check_count(path: Path, card: Mapping[str, Any], there: Mapping[str, int]) -> None:
    for name, number in there.items():
        if (told := card["contents"].get(name)) != number:
            raise ArchiveError(path, f"has {number} {name}, and its card says {shown(told)}")


def read_nodes(path: Path, kinds: tuple[type[Node], ...]) -> Iterator[Any]:
    """Yield the nodes of some classes in an archive, which are read where they are; nothing is imported.

    :raises ArchiveError: if AiiDA cannot read it.
    """
    try:
        backend = SqliteZipBackend(SqliteZipBackend.create_profile(path))
    except AiidaException as exception:
        raise ArchiveError(path, f"cannot be read by AiiDA: {shown(exception)}") from exception
    try:
        for kind in kinds:
            yield from QueryBuilder(backend=backend).append(kind).all(flat=True)
    finally:
        backend.close()


def _check_node(path: Path, node: Dataset | Potential) -> None:
    """Hold a dataset or a potential to what its class makes sure of when one is made."""
    try:
        if isinstance(node, Potential):
            node.checked_files()
        else:
            _check_dataset(node)
    except Exception as exception:  # whatever a node raises that nobody of ours has made
        what = f"{type(node).__name__.lower()} {node.uuid}"
        raise ArchiveError(path, f"{what} is not what it says: {shown(exception, 500)}") from exception


def _check_dataset(node: Dataset) -> None:
    frames = node.get_frames()
    for atoms in frames:
        fr.check(atoms, f"frame {atoms.info['frame_id']}")
    if doubled := [name for name, n in Counter(a.info["frame_id"] for a in frames).items() if n > 1]:
        raise fr.FrameError(f"frame_id not unique: {', '.join(doubled[:5])}")
    attributes = node.base.attributes.all
    for key, value in fr.describe(frames).items():
        if attributes.get(key) != value:
            raise fr.FrameError(f"{key} is said to be {shown(attributes.get(key))}, and its frames say {shown(value)}")
    if attributes.get("units_version") != Dataset.UNITS_VERSION:
        raise fr.FrameError(f"units_version is {shown(attributes.get('units_version'))}, expected {Dataset.UNITS_VERSION}")
    node.level  # noqa: B018  raises if it is none


def leaks(path: Path, private: Private, as_it_is: Collection[str] = ()) -> list[str]:
    """Return what is private in an archive as it was written, by reading it again; at most ten places."""
    found: list[str] = []
    with opened_zip(path) as archive, tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / DATABASE
        _check_database(archive, card_of(path), database)
        with Tables(path, database) as tables:
            found += [
                f"{where} names {shown(words[0])}" for where, told in tables.texts(as_it_is) if (words := private.found(told))
            ]
            files, free = tables.files(), tables.keys(PUBLISHED, as_it_is)
        for key in set(files) - free:
            try:
                words = private.found_in_file(part(archive, f"{REPOSITORY}{key}", MOST_FILE))
            except Unreadable as exception:
                words = [str(exception)]
            found += [f"{files[key]} names {shown(words[0])}"] if words else []
    return found[:10]
