"""The folder of a report: what is in it is replaced only if it is an earlier state of the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from aiida_gaprss.outside import read_text, shown

#: What says of which process a report is.
REPORT = "report.json"

#: Bytes of the largest one that is read.
MOST_BYTES = 200_000_000


class FolderError(ValueError):
    """A folder that holds something else."""


def claim(folder: str | Path, patterns: Iterable[str], names: Iterable[str | None], force: bool = False) -> Path:
    """Make a folder for a report, and return it.

    :param patterns: of the names of the files that will be written.
    :param names: the uuid, or what else names the process: a report that has one of them is an earlier state of this one.
    :param force: replace whatever is there.
    :raises FolderError: if it has such files that are of something else.
    """
    target = Path(folder)
    given = tuple(patterns)
    there = sorted(path.name for path in _entries(target) if any(fnmatch(path.name, pattern) for pattern in given))
    if there and not force and not {name for name in names if name} & _names_in(target / REPORT):
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise FolderError(
            f"{shown(target)} has {shown(there[0])}{more} of something else: name another folder, or take them away"
        )
    target.mkdir(parents=True, exist_ok=True)
    return target


def _entries(target: Path) -> Iterable[Path]:
    try:
        return list(target.iterdir())
    except FileNotFoundError:
        return ()
    except OSError as exception:
        raise FolderError(f"{shown(target)}: {exception.strerror}") from exception


def _names_in(path: Path) -> set[str]:
    """Return what a report says it is of."""
    try:
        content: Any = json.loads(read_text(path, MOST_BYTES))
    except (ValueError, RecursionError):
        return set()
    parts = [content, content.get("search")] if isinstance(content, dict) else []
    return {part[key] for part in parts if isinstance(part, dict) for key in ("uuid", "label") if isinstance(part.get(key), str)}
