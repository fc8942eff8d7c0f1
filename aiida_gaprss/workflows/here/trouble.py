"""What is wrong with a disk or the database, of which no work chain may fail."""

from __future__ import annotations

import errno
import sqlite3
from typing import Any, cast

from aiida.manage import get_manager
from aiida.manage.configuration import get_config
from sqlalchemy import exc
from sqlalchemy.orm.exc import DetachedInstanceError

#: The database does not answer, or what it did not answer has left its session in disorder.
_LOST = (
    *(exc.OperationalError, exc.InterfaceError, exc.InternalError, sqlite3.OperationalError),
    *(exc.InvalidRequestError, DetachedInstanceError),
)


def trouble(exception: BaseException | None) -> str | None:
    """Return what is wrong with a disk or the database, if an exception came of that; else None."""
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        seen.add(id(exception))
        if isinstance(exception, OSError) and exception.errno in (errno.ENOSPC, errno.EDQUOT):
            return "the disk is full" + (f" at {exception.filename}" if exception.filename else "")
        if isinstance(exception, _LOST) or type(exception) in (exc.DatabaseError, sqlite3.DatabaseError):
            return _of_database(exception)
        exception = exception.__cause__ or exception.__context__
    return None


def _of_database(exception: BaseException) -> str:
    text = str(getattr(exception, "orig", None) or exception).strip().splitlines()[0]
    if "disk is full" in text or "No space left" in text:
        return f"the disk is full at {get_config().dirpath}"
    return f"the database does not answer: {text}"


def session() -> Any:
    """Return the session of the database."""
    return cast(Any, get_manager().get_profile_storage()).get_session()
