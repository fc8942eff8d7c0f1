"""The database of an archive, read without AiiDA, and held to what AiiDA and this package write."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any
from uuid import UUID

from aiida.storage.sqlite_zip.models import SqliteBase

from aiida_gaprss.outside import shown
from aiida_gaprss.sharing.archive import HOST, USER, ArchiveError
from aiida_gaprss.sharing.private import KEYS, PATH
from aiida_gaprss.sharing.rows import CODE, EXTRAS, REMOTE, WITHOUT_FILES, files_of, is_left_out

#: Types of nodes that an archive may have: processes, and data of AiiDA, of this package, of the DFT plugins. Not among them are
#: data that name a class which is to be imported (enum, jsonable) or that hold programs.
_PROCESS = re.compile(
    r"process\.(calculation\.(calcfunction\.CalcFunction|calcjob\.CalcJob)|workflow\.(workfunction|workchain)\.Work(Function|Chain))Node\."
)
_DATA = re.compile(r"data\.(core|gaprss|pseudo|castep|quantumespresso|vasp)(\.[a-z0-9_]+)*\.[A-Za-z0-9]+\.")
_NOT = ("data.core.enum.", "data.core.jsonable.", "data.core.pickled.")

#: Where processes come from: entry points, which name what is installed, and functions of known packages.
_FUNCTION = re.compile(r"(aiida|aiida_gaprss|aiida_castep|aiida_pseudo|aiida_quantumespresso|aiida_vasp)(\.\w+)+")
_ENTRY_POINT = re.compile(r"aiida\.(calculations|workflows):[\w.]+")

#: Tables that must be empty, and those that have one row.
_EMPTY = ("db_dbauthinfo", "db_dbcomment", "db_dblog", "db_dbgroup", "db_dbgroup_dbnodes")

#: Links, by the kinds of nodes at their ends.
_LINKS = {
    "call_calc": ("process.workflow.", "process.calculation."),
    "call_work": ("process.workflow.", "process.workflow."),
    "create": ("process.calculation.", "data."),
    "input_calc": ("data.", "process.calculation."),
    "input_work": ("data.", "process.workflow."),
    "return": ("process.workflow.", "data."),
}

#: Longest labels and descriptions, characters.
_LONGEST = 100_000

#: Steps of SQLite's machine after which a query is given up: what a view or an index can be made to do has no end.
_MOST_STEPS = 10**11

#: Steps between two looks at their number.
_STEPS = 10**6

_LABEL = re.compile(r"\w{1,255}", re.ASCII)


class Tables:
    """The tables of the database of an archive; a context."""

    def __init__(self, path: Path, database: Path) -> None:
        """:param path: of the archive, for messages; ``database``: the file that was in it."""
        self.path = path
        self.connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
        self.connection.set_progress_handler(self._step, _STEPS)
        self.steps = 0

    def __enter__(self) -> Tables:
        """Return the tables."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the database."""
        self.connection.close()

    def _step(self) -> int:
        self.steps += _STEPS
        return int(self.steps > _MOST_STEPS)

    def rows(self, query: str) -> Iterator[Any]:
        """Yield rows.

        :raises ArchiveError: if the database is none, or damaged.
        """
        try:
            yield from self.connection.execute(query)
        except (sqlite3.Error, OverflowError, UnicodeError) as exception:
            raise self.fault(f"is damaged: {shown(exception)}") from exception

    def fault(self, message: str) -> ArchiveError:
        """Return the error that says what is wrong with the database."""
        return ArchiveError(self.path, f"its database {message}")

    def check(self) -> None:
        """Check everything that can be checked without AiiDA.

        :raises ArchiveError: naming the row, the value, and what was expected.
        """
        self._check_schema()
        self._check_persons()
        for row in self._node_rows():
            try:
                self._check_node(*row)
            except RecursionError as exception:
                raise self.fault(f"has node {shown(row[0])} with content in too many levels") from exception
        self._check_links()

    def _check_schema(self) -> None:
        """Refuse tables, columns, views, triggers that AiiDA does not make."""
        self.connection.execute("PRAGMA trusted_schema=OFF")
        expected = {table.name: {column.name for column in table.columns} for table in SqliteBase.metadata.sorted_tables}
        for kind, name in self.rows("SELECT type, name FROM sqlite_master"):
            if kind not in ("table", "index") or (kind == "table" and name not in expected):
                raise self.fault(f"has a {shown(kind)} {shown(name)!r}, expected the tables of AiiDA only")
        for table, columns in expected.items():
            there = {row[1]: row[6] for row in self.rows(f"PRAGMA table_xinfo('{table}')")}
            if set(there) != columns or any(there.values()):
                raise self.fault(
                    f"has a table {table} of {shown(', '.join(sorted(there)))}; expected {', '.join(sorted(columns))}"
                )
        if (found := next(self.rows("PRAGMA integrity_check(1)"))[0]) != "ok":
            raise self.fault(f"is damaged: {shown(found)}")
        if broken := next(self.rows("PRAGMA foreign_key_check"), None):
            raise self.fault(f"has a row in {shown(broken[0])} that refers to one which is not there")

    def _check_persons(self) -> None:
        for table in _EMPTY:
            if number := next(self.rows(f"SELECT count(*) FROM {table}"))[0]:
                raise self.fault(f"has {number} rows in {table}, expected none")
        users = list(self.rows("SELECT email, first_name, last_name, institution FROM db_dbuser"))
        if users != [tuple(USER.values())]:
            raise self.fault(f"is of users {shown(users)}, expected the one who stands for all: {USER['email']}")
        names = "uuid, label, hostname, description, metadata, scheduler_type, transport_type"
        for uuid, label, host, description, metadata, *plugins in self.rows(f"SELECT {names} FROM db_dbcomputer"):
            nameless = (host, description, self._json(metadata, uuid)) == (HOST, "", {})
            if not nameless or not _is_uuid(uuid) or not re.fullmatch(r"computer-\d+", str(label)):
                raise self.fault(f"has a computer {shown(label)} on host {shown(host)}, expected a nameless one without settings")
            if not all(re.fullmatch(r"[a-z0-9_.]+", str(plugin)) for plugin in plugins):
                raise self.fault(f"has a computer with the plugins {shown(plugins)}, expected names of entry points")

    def _node_rows(self) -> Iterator[Any]:
        names = "uuid, node_type, process_type, label, description, attributes, extras, repository_metadata"
        yield from self.rows(f"SELECT {names} FROM db_dbnode")

    def _json(self, content: Any, where: str) -> Any:
        try:
            value = json.loads(content, parse_constant=_no_constant)
        except (ValueError, TypeError, RecursionError) as exception:
            raise self.fault(f"has no JSON at {shown(where)}: {shown(exception)}") from exception
        if not isinstance(value, dict):
            raise self.fault(f"has a {type(value).__name__} at {shown(where)}, expected keys and values")
        return value

    def _check_node(self, uuid: Any, kind: Any, process: Any, label: Any, description: Any, *contents: Any) -> None:
        if not _is_uuid(uuid):
            raise self.fault(f"has a node with the uuid {shown(uuid)!r}")
        where = f"node {uuid}"
        if not _is_known(kind):
            expected = "a process or data of AiiDA, aiida-gaprss or a DFT plugin"
            raise self.fault(f"has {where} of type {shown(kind)!r}, expected {expected}")
        if kind.startswith("process.") and not _is_process_of_known(process):
            expected = "an entry point of AiiDA or a function of a known package"
            raise self.fault(f"has {where} made by {shown(process)!r}, expected {expected}")
        if any(not isinstance(words, str) or len(words) > _LONGEST for words in (label, description)):
            raise self.fault(f"has {where} with a label or description that is no text, or too long")
        attributes, extras, files = (self._json(content, where) for content in contents)
        self._check_content(where, kind, attributes, extras)
        self._check_files(where, kind, files)

    def _check_content(self, where: str, kind: str, attributes: dict[str, Any], extras: dict[str, Any]) -> None:
        """Refuse what could run or remove something, or says where something ran."""
        if kind.startswith("process.") and attributes.get("sealed") is not True:
            raise self.fault(f"has {where}, a process that has not ended")
        if found := sorted(KEYS & _keys(attributes)):
            raise self.fault(f"has {where} with {found[0]}, which no archive of aiida-gaprss share has")
        if extra := sorted(set(extras) - EXTRAS - ({"cleaned"} if kind.startswith(REMOTE) else set())):
            raise self.fault(f"has {where} with the extra {shown(extra[0])}; expected {', '.join(sorted(EXTRAS))} only")
        if kind.startswith(REMOTE) and (paths := [text for text in _strings(attributes) if "/" in text and text != PATH]):
            raise self.fault(f"has {where}, a folder elsewhere: {shown(paths[0])}, expected {PATH}")
        if kind.startswith(CODE) and "/" in str(attributes.get("filepath_executable", "")):
            raise self.fault(
                f"has {where}, a code at {shown(attributes['filepath_executable'])}, expected the name of its program"
            )

    def _check_files(self, where: str, kind: str, metadata: dict[str, Any]) -> None:
        try:
            files = list(files_of(metadata))
        except (AttributeError, TypeError, RecursionError, KeyError) as exception:
            raise self.fault(f"has {where} with a damaged list of files") from exception
        for name, key in files:
            for part in name.split("/"):
                if part in ("", ".", "..") or part != shown(part) or "\\" in part:
                    raise self.fault(f"has {where} with a file {shown(name)!r}, expected a plain name")
            if not isinstance(key, str) or not re.fullmatch(r"[0-9a-f]{64}", key):
                raise self.fault(f"has {where} with a file {shown(name)} of key {shown(key)}, expected a SHA-256")
            if is_left_out(kind, name):
                what = "a licensed file or a program" if kind.startswith(WITHOUT_FILES) else "what a shell or a scheduler said"
                raise self.fault(f"has {where} with {shown(name)}: {what}, which no archive of aiida-gaprss share has")

    def _check_links(self) -> None:
        """Refuse links that AiiDA does not make, and circles, in which whoever follows them would walk for ever."""
        sorter: TopologicalSorter[int] = TopologicalSorter()
        kinds = dict(self.rows("SELECT id, node_type FROM db_dbnode"))
        made: set[tuple[int, str]] = set()
        for source, target, kind, label in self.rows("SELECT input_id, output_id, type, label FROM db_dblink"):
            ends = _LINKS.get(kind)
            if ends is None or not (kinds[source].startswith(ends[0]) and kinds[target].startswith(ends[1])):
                raise self.fault(f"has a link {shown(label)!r} of type {shown(kind)!r} between nodes that have none such")
            if not isinstance(label, str) or not _LABEL.fullmatch(label):
                raise self.fault(f"has a link with the label {shown(label)!r}, expected letters, digits and _")
            if kind in ("call_calc", "call_work", "create"):
                if (target, kind[:4]) in made:
                    raise self.fault(f"has two links of type {kind} to one node")
                made.add((target, kind[:4]))
            if kind != "return":
                sorter.add(target, source)
        try:
            sorter.prepare()
        except CycleError as exception:
            raise self.fault("has links that lead in a circle") from exception

    def nodes(self) -> dict[str, Any]:
        """Return type, type of process and content of every node by its uuid; the content as it is written."""
        query = "SELECT uuid, node_type, process_type, attributes FROM db_dbnode"
        return {str(UUID(uuid)): (kind, process, content) for uuid, kind, process, content in self.rows(query)}

    def links(self) -> set[tuple[str, str, str, str]]:
        """Return all links: uuids of both ends, type, label."""
        query = (
            "SELECT a.uuid, b.uuid, l.type, l.label FROM db_dblink l "
            "JOIN db_dbnode a ON a.id = l.input_id JOIN db_dbnode b ON b.id = l.output_id"
        )
        return {(str(UUID(a)), str(UUID(b)), kind, label) for a, b, kind, label in self.rows(query)}

    def files(self) -> dict[str, str]:
        """Return who has a file, by its key."""
        owners: dict[str, str] = {}
        for uuid, kind, content in self.rows("SELECT uuid, node_type, repository_metadata FROM db_dbnode"):
            for name, key in files_of(json.loads(content)):
                owners.setdefault(key, f"{shown(name)} of {kind.rstrip('.').rpartition('.')[2]} {UUID(uuid)}")
        return owners

    def keys(self, kinds: tuple[str, ...], uuids: Collection[str]) -> set[str]:
        """Return the keys of all files of nodes of some types, and of some nodes."""
        rows = self.rows("SELECT uuid, node_type, repository_metadata FROM db_dbnode")
        wanted = (content for uuid, kind, content in rows if kind.startswith(kinds) or str(UUID(uuid)) in uuids)
        return {key for content in wanted for _, key in files_of(json.loads(content))}

    def texts(self, but: Collection[str] = ()) -> Iterator[tuple[str, str]]:
        """Yield all texts of the nodes, with their places, but those of some nodes."""
        for uuid, kind, _, label, description, attributes, extras, files in self._node_rows():
            if str(UUID(uuid)) in but:
                continue
            where = f"{kind.rstrip('.').rpartition('.')[2]} {UUID(uuid)}"
            yield where, "\n".join([label, description, *_strings(json.loads(attributes)), *_strings(json.loads(extras))])
            yield where, "\n".join(name for name, _ in files_of(json.loads(files)))


def _is_known(kind: Any) -> bool:
    if not isinstance(kind, str) or kind.startswith(_NOT):
        return False
    return bool(_PROCESS.fullmatch(kind) or _DATA.fullmatch(kind))


def _is_process_of_known(process: Any) -> bool:
    return isinstance(process, str) and bool(_ENTRY_POINT.fullmatch(process) or _FUNCTION.fullmatch(process))


def _is_uuid(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(UUID(text))
    except ValueError:
        return False


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _keys(value: Any) -> set[str]:
    """Return all keys in plain data, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(_keys, value.values()))
    return set().union(*map(_keys, value)) if isinstance(value, list) else set()


def _strings(value: Any) -> Iterator[str]:
    """Yield all keys and texts in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
