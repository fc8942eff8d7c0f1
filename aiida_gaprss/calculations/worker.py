"""A worker of the daemon that has lost its database or its message broker begins anew."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

_watched = False


def watch_connections() -> None:
    """Let this process end when it loses a connection, if it is a worker of the daemon, which then starts another one.

    Without this, a worker whose database restarts keeps a broken session and stands still; and RabbitMQ gives the tasks of a
    worker that it has lost to another one, while the first goes on with them: processes run twice, and break each other.
    """
    global _watched
    if _watched or sys.argv[-2:] != ["daemon", "worker"]:
        return
    _watched = True
    from aiida.manage import get_manager
    from kiwipy.rmq import RmqThreadCommunicator
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "handle_error")
    def _(context: Any) -> None:
        if context.is_disconnect:
            _end("database")

    communicator = get_manager().get_communicator()
    if isinstance(communicator, RmqThreadCommunicator):
        communicator.add_close_callback(_connection_closed)


def _connection_closed(_: Any, reason: BaseException | None) -> None:
    if not isinstance(reason, asyncio.CancelledError | None):  # as when the daemon stops
        _end("message broker")


def _end(lost: str) -> None:
    print(f"aiida-gaprss: this worker has lost its {lost}; another one takes over", file=sys.stderr, flush=True)
    os._exit(1)
