"""The runner of work chains in this process: it stops between two steps, or where a process would fail of a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from types import MethodType
from typing import Any, cast

from aiida.common.exceptions import ClosedStorage
from aiida.engine import CalcJob, Process
from aiida.engine.persistence import AiiDAPersister, get_object_loader
from aiida.engine.processes.calcjobs.manager import JobManager
from aiida.engine.runners import Runner
from aiida.engine.transports import TransportQueue
from aiida.orm import CalcJobNode, ProcessNode
from plumpy.exceptions import PersistenceError
from plumpy.persistence import LoadSaveContext
from plumpy.process_states import Excepted, Finished

from aiida_gaprss.workflows.here.claim import NO_ROOM
from aiida_gaprss.workflows.here.programs import PATIENCE, folder_here
from aiida_gaprss.workflows.here.trouble import session, trouble

#: Seconds from one look to the next whether a child has ended.
CHILD_INTERVAL = 0.2

#: Bytes without which a disk counts as full.
FULL = 1_000_000


class Stopped(BaseException):
    """Ends a step in the middle: the process stays as it was last saved. No part of AiiDA takes it for a failure."""


class HereRunner(Runner):
    """Runs processes in this process until they have ended, or until it is told to stop."""

    def __init__(self) -> None:
        # No broker: this process has to ask whether a child has ended; AiiDA would do so once a minute.
        super().__init__(poll_interval=CHILD_INTERVAL, communicator=None, persister=_Persister(self))
        self._transport = _Transports(self)
        self._job_manager = JobManager(self._transport)
        self.stopped: asyncio.Future[str] = self.loop.create_future()
        self.frozen = False  #: no process may change its state any more
        self.no_room: dict[str, str] = {}  #: jobs that have ended on a full disk
        self.folders: dict[str, str] = {}  #: of jobs of this machine that have not ended; no database tells when it is gone

    @property
    def is_daemon_runner(self) -> bool:
        """Tell AiiDA to leave signals alone: during a calcfunction it would take Ctrl-C as a wish to kill that."""
        return True

    def stop_for(self, reason: str) -> None:
        """Stop before the next step of any process."""
        self.frozen = True
        if not self.stopped.done():
            self.stopped.set_result(reason)

    def give_up(self, exception: BaseException | None) -> None:
        """Stop at once if an exception is that of a disk or the database.

        :raises Stopped: then.
        """
        if reason := trouble(exception):
            self.stop_for(reason)
            raise Stopped(reason) from exception

    def instantiate_process(self, process: Any, **inputs: Any) -> Process:
        """Make a process that stops with this runner."""
        return self.watched(super().instantiate_process(process, **inputs))

    def load_process(self, node: ProcessNode) -> Process:
        """Return the process of a node as it was last saved.

        :raises ValueError: if it was not.
        """
        try:
            bundle = AiiDAPersister().load_checkpoint(node.pk)
            process = bundle.unbundle(LoadSaveContext(runner=self, loader=get_object_loader()))
        except PersistenceError as exception:
            raise ValueError(f"<{node.pk}> ({node.process_label}) cannot go on: its state was not saved") from exception
        return self.watched(cast(Process, process))

    def watched(self, process: Process) -> Process:
        """Let a process stop where it would fail or stand still for reasons that are none of its own."""
        transition_to, on_paused, step = process.transition_to, process.on_paused, process.step_until_terminated

        async def step_or_stop() -> None:
            try:
                await step()
            except Exception as exception:  # from within a change of its state: whoever waits for it would wait for ever
                self.stop_for(trouble(exception) or f"{type(exception).__name__}: {exception}")

        def transition_or_stop(new_state: Any, **kwargs: Any) -> None:
            if self.frozen:
                raise Stopped("the runner has stopped")
            if isinstance(new_state, Excepted):
                self.give_up(new_state.exception)
            if isinstance(new_state, Finished) and isinstance(process, CalcJob):
                self.give_up_without_room(process.node)
            transition_to(new_state, **kwargs)
            self.folders.pop(process.node.uuid, None)
            if isinstance(process, CalcJob) and not process.has_terminated() and (folder := folder_here(process.node)):
                self.folders[process.node.uuid] = folder

        def pause_and_stop(_: Process, msg: str | None = None) -> None:
            on_paused(msg)
            self.stop_for(f"{process.node.process_label} <{process.pid}>: {msg}")

        process.transition_to = transition_or_stop  # type: ignore[method-assign]
        process.step_until_terminated = step_or_stop  # type: ignore[method-assign]
        process.on_paused = MethodType(pause_and_stop, process)  # type: ignore[method-assign]
        return process

    def give_up_without_room(self, job: CalcJobNode) -> None:
        """Stop if a job of this machine has ended where the disk is full: who knows what it could not write.

        :raises Stopped: then.
        """
        folder = folder_here(job)
        if folder and Path(folder).is_dir() and shutil.disk_usage(folder).free < FULL:
            self.no_room[job.uuid] = NO_ROOM
            self.give_up(OSError(errno.ENOSPC, "no room", folder))

    def complete(self, processes: list[Process]) -> str | None:
        """Run until the first of these processes has ended; return None, or why not."""
        self.loop.set_exception_handler(self._on_exception)
        tasks: list[asyncio.Future[Any]] = [self.loop.create_task(p.step_until_terminated()) for p in processes]
        self.loop.run_until_complete(asyncio.wait([tasks[0], self.stopped], return_when=asyncio.FIRST_COMPLETED))
        return self.stopped.result() if self.stopped.done() and not processes[0].has_terminated() else None

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exception = context.get("exception")
        if self.frozen or exception is None:  # what comes of it that all was let go
            return
        if isinstance(exception, Stopped | ClosedStorage):  # of a run before this one, which has left a timer in the loop
            return
        if reason := trouble(exception):
            self.stop_for(reason)
            return
        loop.default_exception_handler(context)
        if "handle" in context:  # nobody looks again whether a child has ended, and its caller would wait for ever
            self.stop_for(f"{type(exception).__name__}: {exception}")

    def stop_without_database(self) -> None:
        """Stop if the file of the database is gone: as long as it is open, SQLite would write on, and all of that be lost."""
        engine = session().get_bind()
        if engine.dialect.name == "sqlite" and not Path(engine.url.database).exists():
            self.stop_for(f"the database is gone: there is no {engine.url.database}")

    def let_go(self) -> None:
        """Let all tasks end where they are, connections closed."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))


class _Persister(AiiDAPersister):
    """Stops the runner when a process cannot be saved; AiiDA would go on without."""

    def __init__(self, runner: HereRunner) -> None:
        self.runner = runner

    def save_checkpoint(self, process: Any, tag: str | None = None) -> Any:
        try:
            return super().save_checkpoint(process, tag)
        except PersistenceError as exception:
            self.runner.give_up(exception)
            raise


class _Transports(TransportQueue):
    """Stops the runner when a file does not fit on a disk; AiiDA would try again for minutes."""

    def __init__(self, runner: HereRunner) -> None:
        super().__init__(runner.loop)
        self.runner = runner

    @contextlib.asynccontextmanager
    async def request_transport(self, authinfo: Any) -> AsyncIterator[Any]:
        async with super().request_transport(authinfo) as request:
            try:
                yield request
            except Exception as exception:
                self.runner.give_up(exception)
                raise
