"""Which process of this machine runs a work chain, and which work chains were interrupted."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from aiida.manage.configuration import get_config, get_profile
from aiida.orm import ProcessNode, QueryBuilder, WorkChainNode

#: Extra of a work chain that a process such as this one runs, not the daemon.
HERE = "gaprss_here"

#: Why a job is begun again: its program was stopped, or had no room on the disk.
STOPPED, NO_ROOM = "stopped", "no room"

#: Bytes that are kept back on the disk for what an interruption has to write.
RESERVE = 4_000_000


class RunsAlreadyError(ValueError):
    """Another process runs this work chain."""


def _lock(node: ProcessNode) -> Path:
    profile = get_profile()
    assert profile is not None
    return Path(get_config().dirpath) / f"gaprss-{profile.name}-{node.pk}.running"


class Claim:
    """Says in a file that this process runs a work chain, however it ends; keeps some room back on the disk.

    The file also holds what whoever goes on must know, were the disk full or the database gone: the jobs that were stopped.
    """

    def __init__(self, node: ProcessNode) -> None:
        self.pk, self.path = node.pk, _lock(node)

    def __enter__(self) -> Claim:
        """Claim the work chain.

        :raises RunsAlreadyError: if another process has.
        """
        self.handle = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.handle.close()
            raise RunsAlreadyError(f"{self.path} is held: another process runs the work chain already") from None
        self.handle.seek(0)
        text = self.handle.read().split(b"\0")[0]
        self.cut: dict[str, str] = json.loads(text) if text else {}
        with contextlib.suppress(OSError):
            os.posix_fallocate(self.handle.fileno(), 0, RESERVE)
        return self

    def note(self, cut: dict[str, str]) -> None:
        """Remember jobs that were stopped, by uuid, with the reason."""
        self.cut = cut
        self.handle.seek(0)
        self.handle.write(json.dumps(cut).encode() + b"\0")
        self.handle.flush()

    def give_room(self) -> None:
        """Give back the room on the disk: now it is needed."""
        self.handle.truncate(max(len(json.dumps(self.cut)), 1))

    def end(self) -> None:
        """Remove the file: nobody will go on with the work chain, or the daemon does."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.handle.close()


def is_run_here(node: ProcessNode) -> bool:
    """Tell whether a process of this machine runs a work chain, other than the daemon."""
    try:
        with _lock(node).open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def is_interrupted(node: ProcessNode) -> bool:
    """Tell whether a work chain was begun by a process such as this one, which went away before it had ended."""
    return not node.is_terminated and bool(node.base.extras.get(HERE, False)) and not is_run_here(node)


def interrupted() -> list[WorkChainNode]:
    """Return all work chains of this profile that were interrupted."""
    filters = {f"extras.{HERE}": True, "attributes.process_state": {"in": ["created", "running", "waiting"]}}
    found = QueryBuilder().append(WorkChainNode, filters=filters).order_by({WorkChainNode: "id"}).all(flat=True)
    return [node for node in found if is_interrupted(node)]
