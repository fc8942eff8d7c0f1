"""Nodes, users and computers as rows of an archive, without what says who they are of and where they ran."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from aiida.orm import Computer, InstalledCode, QueryBuilder, RemoteData, User

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.models import GAP_VERSION_EXTRA
from aiida_gaprss.sharing.archive import HOST, USER
from aiida_gaprss.sharing.private import PATH, Private
from aiida_gaprss.workflows.rss import RssWorkChain

#: Prefixes of types of nodes.
JOB, CODE, REMOTE, FOLDER = "process.calculation.calcjob.", "data.core.code.", "data.core.remote.", "data.core.folder."
POTENTIAL = "data.gaprss.potential."

#: Data whose files may not be passed on, or are programs.
WITHOUT_FILES = ("data.vasp.potcar_file.", "data.castep.uspdata.", "data.core.code.portable.")

#: Data whose files are published, with the names of their authors, and are never changed.
PUBLISHED = ("data.pseudo.", "data.core.upf.")

#: Pseudopotentials, of whose attributes the card tells those that name them.
_PSEUDOPOTENTIALS = (*PUBLISHED, "data.castep.otfgdata.", "data.castep.uspdata.", "data.vasp.potcar.")
_OF_PSEUDOPOTENTIAL = ("element", "filename", "md5", "otfg_string", "full_name", "title", "potential_set", "sha512")

#: Files of jobs that are lines of a shell, or what a login shell and a scheduler say.
_OF_JOB, _OF_FOLDER = ("_aiidasubmit.sh", ".aiida/"), ("_scheduler-stdout.txt", "_scheduler-stderr.txt")

#: Extras that are kept: of a campaign why it ended, of a code its version of GAP, of a dataset its index.
EXTRAS = frozenset({RssWorkChain.ENDED, GAP_VERSION_EXTRA, Dataset.INDEX})

#: Of codes, what is left out, and what names a program.
_OF_CODE, _PROGRAMS = ("prepend_text", "append_text", "engine_command"), ("filepath_executable", "remote_exec_path")


def private_words() -> Private:
    """Return what this profile and this machine know of persons and places."""
    words: list[str | None] = [socket.gethostname(), str(Path.home()), str(Path.cwd())]
    for user in QueryBuilder().append(User).all(flat=True):
        words += [user.email, f"{user.first_name} {user.last_name}", user.institution]
    for computer in QueryBuilder().append(Computer).all(flat=True):
        words += [computer.hostname, computer.get_workdir().split("{")[0].rstrip("/")]
    for code in QueryBuilder().append(InstalledCode).all(flat=True):
        folder = os.path.dirname(str(code.filepath_executable))
        words += [folder] if not folder.startswith(("/usr", "/bin")) else []
    return Private.of(word for word in words if word and word != "/")


def user_row(pk: int) -> dict[str, Any]:
    """Return the one user of an archive."""
    return {"id": pk, **USER}


def computer_row(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return a computer that keeps its uuid and the kind of its scheduler."""
    return {**row, "label": f"computer-{number}", "hostname": HOST, "description": "", "metadata": {}}


def node_row(
    row: Mapping[str, Any], user: int, private: Private, as_it_is: bool, files: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return a node that keeps its uuid, times and links.

    :param as_it_is: its content is kept, private or not.
    :param files: keys of files that have changed, with the new ones; None for those that are left out.
    """
    kind = str(row["node_type"])
    extras = {key: private.clean(value) for key, value in row["extras"].items() if key in EXTRAS}
    if kind.startswith(REMOTE):
        extras[RemoteData.KEY_EXTRA_CLEANED] = True
    return {
        **row,
        "user_id": user,
        "label": private.replaced(row["label"]),
        "description": private.replaced(row["description"]),
        "attributes": clean_attributes(kind, row["attributes"], private, as_it_is),
        "extras": extras,
        "repository_metadata": _kept(row["repository_metadata"], lambda path, key: _new_key(kind, path, key, files)),
    }


def clean_attributes(kind: str, told: Mapping[str, Any], private: Private, as_it_is: bool = False) -> dict[str, Any]:
    """Return the attributes of a node of this type as they are shared."""
    attributes = _code(told) if kind.startswith(CODE) else dict(told)
    if not as_it_is:
        attributes = private.clean(attributes)
    if kind.startswith(REMOTE):
        attributes["remote_path"] = PATH
    return attributes


def _code(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a code with the name of its program, but not where that is, and without lines of a shell."""
    programs = {key: PurePosixPath(str(attributes[key])).name for key in _PROGRAMS if key in attributes}
    return {**{key: value for key, value in attributes.items() if key not in _OF_CODE}, **programs}


def pseudopotential(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what names a pseudopotential, and whether its file is shared; None for other nodes."""
    kind, attributes = str(row["node_type"]), row["attributes"]
    if not kind.startswith(_PSEUDOPOTENTIALS):
        return None
    told = {key: attributes[key] for key in _OF_PSEUDOPOTENTIAL if isinstance(attributes.get(key), str)}
    return {"kind": kind.rstrip(".").rpartition(".")[2], "shared": kind.startswith(PUBLISHED), **told}


def is_left_out(kind: str, path: str) -> bool:
    """Tell whether a file of a node of this type never leaves."""
    if kind.startswith(WITHOUT_FILES):
        return True
    if kind.startswith(JOB):
        return path.startswith(_OF_JOB)
    return kind.startswith(FOLDER) and path in _OF_FOLDER


def _new_key(kind: str, path: str, key: str, files: Mapping[str, str | None]) -> str | None:
    return None if is_left_out(kind, path) else files.get(key, key)


def files_of(metadata: Mapping[str, Any], folder: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and key of every file in the metadata of a node's repository."""
    for name, item in (metadata.get("o") or {}).items():
        if "k" in item:
            yield folder + name, item["k"]
        else:
            yield from files_of(item, f"{folder}{name}/")


def _kept(metadata: Mapping[str, Any], new_key: Callable[[str, str], str | None], folder: str = "") -> dict[str, Any]:
    """Return the metadata of a repository with other keys, and without the files that have none."""
    kept: dict[str, Any] = {}
    for name, item in (metadata.get("o") or {}).items():
        if "k" not in item:
            kept[name] = _kept(item, new_key, f"{folder}{name}/")
        elif (key := new_key(folder + name, item["k"])) is not None:
            kept[name] = {"k": key}
    return {"o": kept} if kept else {}
