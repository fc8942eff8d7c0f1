"""Import an archive that was checked: all of it, or nothing."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from aiida.common.exceptions import AiidaException
from aiida.common.utils import batch_iter
from aiida.manage.configuration import get_config
from aiida.orm import ImportGroup, Node, QueryBuilder, load_group, load_node
from aiida.tools.archive import import_archive
from aiida.tools.archive.exceptions import ArchiveImportError
from aiida.tools.archive.imports import IMPORT_LOGGER

from aiida_gaprss.outside import shown
from aiida_gaprss.sharing.archive import ArchiveError
from aiida_gaprss.sharing.private import ADDRESS, PATH, WORD, Private
from aiida_gaprss.sharing.rows import clean_attributes, private_words
from aiida_gaprss.sharing.verify import Checked, verify

#: Uuids of nodes that are asked for at once.
_BATCH = 5000


@dataclass(frozen=True)
class Opened:
    """An archive in a profile.

    :param nodes: those that it is of; ``new``, ``old``: numbers of nodes that the profile had not, and had.
    """

    card: dict[str, Any]
    nodes: list[Any]
    new: int
    old: int
    group: str


def identity(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is exchanged."""
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def checked(path: Path) -> tuple[Checked, tuple[int, ...]]:
    """Check an archive, and return what is in it, and which file that was.

    :raises ArchiveError: with the reason why it is not to be opened.
    """
    which = identity(path) if path.is_file() else ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_config(create=True)  # else AiiDA's first query does, and warns of what AiiDA itself does
    return verify(path), which


def open_archive(found: Checked, which: tuple[int, ...]) -> Opened:
    """Import an archive that was checked into the profile that is loaded; a failure leaves the profile as it was.

    :raises ArchiveError: if it was exchanged meanwhile, contradicts what the profile has, or cannot be imported.
    """
    path = found.path
    here = _here(found)
    _refuse_contradictions(found, here)
    if identity(path) != which:
        raise ArchiveError(path, "was changed while it was read: nothing was imported; try it again")
    try:
        with _quiet():
            pk = import_archive(path, import_new_extras=True, merge_extras=("k", "n", "l"))
    except (AiidaException, ArchiveImportError, ValueError, OSError) as exception:
        raise ArchiveError(path, f"could not be imported, and nothing of it was: {shown(exception)}") from exception
    if absent := set(found.nodes) - set(_here(found)):
        raise ArchiveError(
            path, f"was imported without {len(absent)} of its nodes, such as {min(absent)}: remove what was imported"
        )
    nodes = [load_node(str(UUID(one["uuid"]))) for one in found.card["what"]]
    return Opened(found.card, nodes, len(found.nodes) - len(here), len(here), _named_group(pk, found))


@contextmanager
def _quiet() -> Iterator[None]:
    """Let AiiDA not tell every step of an import."""
    level = IMPORT_LOGGER.level
    IMPORT_LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        IMPORT_LOGGER.setLevel(level)


def _named_group(pk: int | None, found: Checked) -> str:
    """Give the group of what was imported a name that a person knows again, and return it."""
    if pk is None:
        return ""
    group: Any = load_group(pk)
    wanted = f"archive {shown(found.path.name, 150)} {group.label}"
    if QueryBuilder().append(ImportGroup, filters={"label": wanted}).count() == 0:
        group.label = wanted
    return str(group.label)


def _here(found: Checked) -> dict[str, tuple[str, str | None, dict[str, Any]]]:
    """Return type, type of process and attributes of the nodes of an archive that the profile has."""
    here: dict[str, Any] = {}
    for _, batch in batch_iter(sorted(found.nodes), _BATCH):
        query = QueryBuilder().append(
            Node, filters={"uuid": {"in": batch}}, project=["uuid", "node_type", "process_type", "attributes"]
        )
        here |= {uuid: (kind, process, attributes) for uuid, kind, process, attributes in query.all()}
    return here


def _refuse_contradictions(found: Checked, here: Mapping[str, Any]) -> None:
    """Refuse nodes that claim to be some of the profile and are others, and links that are added to processes that have ended.

    AiiDA keeps what it has, and would link what is new to it.
    """
    private = private_words()
    for uuid, (kind, process, attributes) in here.items():
        there, by, content = found.nodes[uuid]
        if (kind, process) != (there, by) or (kind.startswith("data.") and not _same(kind, attributes, content, private)):
            raise ArchiveError(
                found.path, f"has a node {uuid}, which the profile has with other content: one of them is not genuine"
            )
    processes = {uuid for uuid, (kind, *_) in here.items() if kind.startswith("process.")}
    claimed = {link for link in found.links if processes & set(link[:2])}
    for link in sorted(claimed - _links_here(sorted(processes))):
        raise ArchiveError(
            found.path, f"adds a link {shown(link[3])} from {link[0]} to {link[1]}, of which a process has ended in this profile"
        )


def _same(kind: str, attributes: Mapping[str, Any], content: str, private: Private) -> bool:
    """Tell whether a node of the profile has these attributes, but for what is not shared."""
    told = json.loads(content)
    if clean_attributes(kind, attributes, private) == told:
        return True
    return any(word in content for word in (PATH, ADDRESS, WORD)) and set(told) <= set(attributes)


def _links_here(processes: Sequence[str]) -> set[tuple[str, str, str, str]]:
    """Return the links of some processes of the profile, as :attr:`Checked.links`."""
    links: set[tuple[str, str, str, str]] = set()
    for _, batch in batch_iter(processes, _BATCH):
        query = QueryBuilder().append(Node, filters={"uuid": {"in": batch}}, tag="process", project="uuid")
        query.append(Node, with_outgoing="process", project="uuid", edge_project=["type", "label"])
        links |= {(node, process, kind, label) for process, node, kind, label in query.all()}
        query = QueryBuilder().append(Node, filters={"uuid": {"in": batch}}, tag="process", project="uuid")
        query.append(Node, with_incoming="process", project="uuid", edge_project=["type", "label"])
        links |= {(process, node, kind, label) for process, node, kind, label in query.all()}
    return links
