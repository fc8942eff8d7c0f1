"""An archive: AiiDA's own format, with a card and metadata of RO-Crate in the same zip file; its parts and their sizes."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from aiida_gaprss.outside import OutsideError, lack_of_file, shown, size

#: Version of what this package adds to AiiDA's format.
FORMAT = "aiida-gaprss archive 1"

#: Parts of AiiDA's format.
METADATA, DATABASE, REPOSITORY = "metadata.json", "db.sqlite3", "repo/"

#: Parts that this package adds; the first two also lie beside the archive, under its name.
CARD, CARD_JSON, CRATE = "card.md", "card.json", "ro-crate-metadata.json"

#: Most that is read, bytes: of cards, of the database, of one file of a node, of all together; and most parts.
MOST_CARD, MOST_DATABASE, MOST_FILE, MOST_ALL, MOST_PARTS = 2**26, 2**34, 2**30, 2**37, 10_000_000

#: Who owns all nodes of an archive.
USER = {"email": "shared@aiida-gaprss.invalid", "first_name": "", "last_name": "", "institution": ""}

#: Host of all computers of an archive.
HOST = "not-shared"


#: What a card that is none raises when it is read.
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


class ArchiveError(OutsideError):
    """An archive that is damaged, not whole, or holds what it must not."""


def pieces_of(handle: IO[bytes]) -> Iterator[bytes]:
    """Yield what is left of a file, a megabyte at a time."""
    yield from iter(lambda: handle.read(2**20), b"")


def sha256(pieces: Iterable[bytes]) -> str:
    """Return the SHA-256 of a content that comes in pieces."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def opened_zip(path: Path) -> zipfile.ZipFile:
    """Return an archive as a zip file.

    :raises ArchiveError: if there is none.
    """
    if lack := lack_of_file(path):
        raise ArchiveError(path, lack.removeprefix(f"{shown(path)}: ").removesuffix(f": {shown(path)}"))
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as exception:
        raise ArchiveError(path, f"is no archive of AiiDA, or is cut: {shown(exception)}") from exception


def part(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Return one part of an archive.

    :raises ArchiveError: if it is missing, too large, or damaged.
    """
    where = str(archive.filename)
    try:
        with archive.open(name) as handle:
            content = handle.read(most + 1)
    except KeyError as exception:
        raise ArchiveError(where, f"has no {name}, as every archive of aiida-gaprss share") from exception
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as exception:
        raise ArchiveError(where, f"{name} is damaged: {shown(exception)}") from exception
    if len(content) > most:
        raise ArchiveError(where, f"{name} has more than {size(most)}, expected at most that")
    return content


def json_part(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """Return a part of an archive that is a mapping in JSON.

    :raises ArchiveError: if it is none, or as :func:`part`.
    """
    content = part(archive, name, MOST_CARD)
    try:
        out = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exception:
        raise ArchiveError(str(archive.filename), f"{name} is no JSON: {shown(exception)}") from exception
    if not isinstance(out, dict):
        raise ArchiveError(str(archive.filename), f"{name} holds a {type(out).__name__}, expected keys and values")
    return out


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def card_of(path: Path) -> dict[str, Any]:
    """Return the card in an archive, of which nothing else is read.

    :raises ArchiveError: if there is none, or it is of another format.
    """
    with opened_zip(path) as archive:
        content = json_part(archive, CARD_JSON)
    if content.get("format") != FORMAT:
        raise ArchiveError(
            path, f"has the format {shown(content.get('format'))!r}, expected {FORMAT!r}: another version wrote it"
        )
    return content
