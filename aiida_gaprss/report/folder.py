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

#: What commands write into folders that are named for them, besides a report.
RESULTS = ("*.png", "best.yaml", "minima.*", REPORT)

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
    there = sorted(path.name for path in _entries(target) if _fits(path.name, given))
    if there and not force and not {name for name in names if name} & _names_in(target / REPORT):
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise FolderError(
            f"{shown(target)} has {shown(there[0])}{more} of something else: name another folder, or take them away"
        )
    target.mkdir(parents=True, exist_ok=True)
    return target


def refuse_used(folder: str | Path | None, patterns: Iterable[str]) -> None:
    """Refuse a folder before anything is run whose results would replace those of something else in it.

    :param folder: None for one that is named after what is run.
    :param patterns: of the names of the files that would be written.
    :raises FolderError: if it has such files.
    """
    given = tuple(patterns)
    there = sorted(path.name for path in _entries(Path(folder)) if _fits(path.name, given)) if folder is not None else []
    if there:
        raise FolderError(f"{shown(folder)} has results already ({shown(there[0])}): name another folder, or take them away")


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


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
