"""A folder that holds one potential, whole: written at once, and never over or beside another one unasked."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiida_gaprss.models.base import CARD_JSON, EXPORTED, Family, PotentialError, Source
from aiida_gaprss.models.families import families
from aiida_gaprss.outside import OutsideError, read_bytes, read_text, shown

_MOST_JSON = 2**26


def read_potential(folder: Path, main: str, family: Family) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what the files of a potential in a folder tell, and all of them by name, the main one first.

    :raises PotentialError: if a file is missing, is no potential of this family, does not belong to the others, or must not be
        opened.
    """
    where = shown(folder / main)
    if not os.path.lexists(folder / main):
        raise PotentialError(f"{where}: no such file")
    return family.open(_Folder(folder), main, where)


class _Folder(Source):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        return os.path.lexists(self.folder / name)

    def content(self, name: str, most: int) -> bytes:
        try:
            return read_bytes(self.folder / name, most, as_it_is=True)
        except OutsideError as exception:
            raise PotentialError(str(exception)) from exception


def content_hash(files: Mapping[str, bytes]) -> str:
    """Return the hash of names and contents of the files of a potential, in their order."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + content)
    return digest.hexdigest()


def write_whole(files: Mapping[str, bytes], folder: Path, force: bool = False) -> None:
    """Write the files of a potential to a folder: all, or none if it fails.

    :param files: the main one first.
    :param force: replace the potential that is there, with all its files.
    :raises PotentialError: if there is a potential or a file of these names already, and without ``force``; and with it, if there
        are files of a potential that are not all replaced.
    """
    old = _in_the_way(files, folder)
    if old and not force:
        raise PotentialError(
            f"{shown(folder)} holds {', '.join(sorted(map(shown, old)))} already, and two potentials in one folder may be taken "
            "for one: choose another folder, or replace what is there (--force)"
        )
    left = sorted(old - _replaced(files, folder))
    if left:
        raise PotentialError(
            f"{shown(folder)} holds {', '.join(map(shown, left))}, of another potential, which this one does not replace: "
            "choose another folder, or remove them yourself"
        )
    new = not folder.exists()
    try:
        _exchange(files, old, folder)
    except OSError as exception:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise PotentialError(f"{shown(folder)}: cannot be written: {exception.strerror or exception}") from exception


def _exchange(files: Mapping[str, bytes], old: set[str], folder: Path) -> None:
    """Write all files beside their places, and put them there when that has succeeded, the main one last."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as there:
        for name, content in files.items():
            Path(there, name).write_bytes(content)
        for name in old - files.keys():
            (folder / name).unlink()
        for name in reversed(list(files)):
            os.replace(Path(there, name), folder / name)


def _in_the_way(files: Mapping[str, bytes], folder: Path) -> set[str]:
    """Return the names in a folder that the files would replace, or that belong to a potential."""
    if not folder.is_dir():
        return set()
    names = {name.casefold() for name in (*files, *EXPORTED)}
    return {name for name in os.listdir(folder) if name.casefold() in names or family_of_file(folder / name) is not None}


def family_of_file(path: Path) -> Family | None:
    """Return the family, of those that are installed, of whose potentials a file is one; None if it is of none."""

    def content() -> bytes:
        with suppress(OutsideError):  # of a folder, or of whatever else nobody can read as a potential
            return read_bytes(path)
        return b""

    return next((family for family in families() if family.owns(path.name, content)), None)


def _replaced(files: Mapping[str, bytes], folder: Path) -> set[str]:
    """Return the names that may go: those of the new files, and those of a whole potential that was exported here."""
    names = {*files, *EXPORTED}
    for family in families():
        for path in folder.glob(f"*{Path(family.MAIN).suffix}"):
            with suppress(PotentialError):
                _, there = read_potential(folder, path.name, family)
                if path.name in files or content_hash(there) == _told_by_card(folder):
                    names |= there.keys()
    return names


def _told_by_card(folder: Path) -> str | None:
    """Return the content hash in the card of an export."""
    try:
        content = json.loads(read_text(folder / CARD_JSON, _MOST_JSON))
        return str(content["potential"]["content_hash"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
