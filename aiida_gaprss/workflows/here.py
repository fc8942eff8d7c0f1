"""Work chains that run in this process: it may be interrupted at any moment, and another one goes on from there.

Every process is saved in the database after each of its steps, as those of the daemon are. An interruption ends none of them: the
programs on the compute machines are stopped, and all processes stay as they were last saved. Whoever goes on loads them all; jobs
whose program was stopped are begun again. That a disk is full, or a database gone, is an interruption, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import MethodType
from typing import Any, cast

import psutil
from aiida.common.datastructures import CalcJobState
from aiida.common.exceptions import ClosedStorage
from aiida.engine import CalcJob, Process, ProcessState, WorkChain
from aiida.engine.daemon.execmanager import kill_calculation
from aiida.engine.persistence import AiiDAPersister, get_object_loader
from aiida.engine.processes.calcjobs.manager import JobManager
from aiida.engine.processes.calcjobs.tasks import SUBMIT_COMMAND, UPLOAD_COMMAND
from aiida.engine.runners import Runner
from aiida.engine.transports import TransportQueue
from aiida.manage import get_manager
from aiida.manage.configuration import get_config, get_profile
from aiida.orm import CalcJobNode, ProcessNode, QueryBuilder, RemoteData, WorkChainNode, load_node
from aiida.schedulers.datastructures import JobState
from plumpy.exceptions import PersistenceError
from plumpy.persistence import LoadSaveContext
from plumpy.process_states import Excepted, Finished
from sqlalchemy import exc
from sqlalchemy.orm.exc import DetachedInstanceError

from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.workflows.jobs.submit_once import NEVER_BEGUN, SubmitOnceWorkChain, awaits_begin, close

#: Extra of a work chain that a process such as this one runs, not the daemon.
HERE = "gaprss_here"
#: Why a job is begun again: its program was stopped, or had no room on the disk.
STOPPED, NO_ROOM = "stopped", "no room"

#: Seconds from one look to the next whether a child has ended; until a job that was stopped must be gone.
CHILD_INTERVAL, PATIENCE = 0.2, 10.0
#: Bytes without which a disk counts as full; and those that are kept back for what an interruption has to write.
FULL, RESERVE = 1_000_000, 4_000_000

#: The database does not answer, or what it did not answer has left its session in disorder.
_LOST = (
    *(exc.OperationalError, exc.InterfaceError, exc.InternalError, sqlite3.OperationalError),
    *(exc.InvalidRequestError, DetachedInstanceError),
)


class Stopped(BaseException):
    """Ends a step in the middle: the process stays as it was last saved. No part of AiiDA takes it for a failure."""


class RunsAlreadyError(ValueError):
    """Another process runs this work chain."""


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


def _session() -> Any:
    return cast(Any, get_manager().get_profile_storage()).get_session()


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
        engine = _session().get_bind()
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


# --- who runs what ---


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


# --- to stop ---


def leave(runner: HereRunner, claim: Claim, reason: str) -> list[str]:
    """Stop the programs of a work chain, and note that it is paused; return what could not be done.

    Nothing of that is needed to go on, but that the programs of jobs that were stopped are not taken to have ended by themselves.
    """
    runner.let_go()
    with contextlib.suppress(Exception):
        _session().rollback()
    cut, complaints = dict(claim.cut), []
    for uuid, folder in runner.folders.items():
        cut |= {uuid: STOPPED} if stop_in(folder) else {}
    try:
        root = cast(ProcessNode, load_node(claim.pk))  # anew: a session that was in disorder knows nothing of the nodes it had
        for job in [node for node in root.called_descendants if isinstance(node, CalcJobNode) and not node.is_terminated]:
            try:
                cut |= {job.uuid: STOPPED} if folder_here(job) is None and stop_elsewhere(job) else {}
            except Exception as exception:  # a connection can fail in any way
                complaints.append(f"job <{job.pk}> goes on, it could not be stopped: {type(exception).__name__}: {exception}")
    except Exception as exception:
        if trouble(exception) is None:
            raise
    try:
        claim.note(cut | runner.no_room)
        claim.give_room()
    except OSError as exception:
        complaints.append(f"jobs that were stopped may be taken to have ended: {exception}")
    try:
        root = cast(ProcessNode, load_node(claim.pk))
        root.pause()
        root.set_process_status(f"interrupted: {reason}; it goes on with: aiida-gaprss resume {root.pk}")
    except Exception as exception:
        if trouble(exception) is None:
            raise
    return complaints


def kill(claim: Claim) -> None:
    """End a work chain, and all that it has called and that has not ended, as *Killed*. Their programs are stopped already."""
    root = cast(ProcessNode, load_node(claim.pk))
    for node in [*root.called_descendants, root]:
        if not node.is_terminated:
            close(node, "killed by its user")


def folder_here(job: CalcJobNode) -> str | None:
    """Return the scratch folder of a job that this machine runs without a scheduler; None if it has none, or runs elsewhere."""
    computer = job.computer
    is_here = computer is not None and (computer.transport_type, computer.scheduler_type) == ("core.local", "core.direct")
    return job.get_remote_workdir() if is_here else None


def stop_program(job: CalcJobNode) -> bool:
    """Stop the program of a job; tell whether it was running."""
    folder = folder_here(job)
    return stop_in(folder) if folder else stop_elsewhere(job)


def stop_elsewhere(job: CalcJobNode) -> bool:
    """Stop the program of a job through its scheduler; tell whether it was running."""
    number, computer = job.get_job_id(), job.computer
    if job.get_state() != CalcJobState.WITHSCHEDULER or number is None or computer is None:
        return False
    with job.get_authinfo().get_transport() as transport:
        scheduler = computer.get_scheduler()
        scheduler.set_transport(transport)
        if not _is_queued(scheduler, number):
            return False
        if computer.scheduler_type == "core.direct":  # AiiDA would look for the children on this machine
            transport.exec_command_wait(_KILL_TREE.format(number=int(number)))
        else:
            kill_calculation(job, transport)
        ends = time.monotonic() + PATIENCE
        while _is_queued(scheduler, number) and time.monotonic() < ends:
            time.sleep(0.5)
    return True


_KILL_TREE = 'tree() {{ echo "$1"; for child in $(pgrep -P "$1"); do tree "$child"; done; }}; kill $(tree {number})'


def _is_queued(scheduler: Any, number: str) -> bool:
    job = scheduler.get_jobs(jobs=[number], as_dict=True).get(number)
    return job is not None and job.job_state != JobState.DONE


def stop_in(folder: str) -> bool:
    """Stop all programs that run in a folder of this machine; tell whether there were any."""
    ended = False
    ends = time.monotonic() + PATIENCE
    # Again and again: a script may have begun its next line before it was stopped itself.
    while (found := _programs(folder)) and time.monotonic() < ends:
        ended = True
        for process in sorted(found, key=lambda process: process.create_time()):  # the script first
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(found, timeout=PATIENCE / 4)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=PATIENCE / 4)
    return ended


def _programs(folder: str) -> set[psutil.Process]:
    """Return what runs in a folder, and all children of that; but for those of a terminal, whose user looks around there."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            inside = Path(process.cwd()).is_relative_to(os.path.realpath(folder)) and process.terminal() is None
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if process.pid != os.getpid()}


# --- to go on ---


def revive(runner: HereRunner, claim: Claim, root: ProcessNode) -> list[Process]:
    """Return a work chain that was interrupted, and all that it waits for, as they were last saved.

    :raises ValueError: if it was not saved.
    """
    out = _revive(runner, claim.cut, root)
    claim.note({})
    return out


def _revive(runner: HereRunner, cut: dict[str, str], root: ProcessNode) -> list[Process]:
    process = runner.load_process(root)
    if isinstance(process, CalcJob) and (root.uuid in cut or went_with_the_power(process.node)):
        begin_again(process, in_place=cut.get(root.uuid) != NO_ROOM)
    if process.paused:
        process.play()
    process.node.unpause()
    out = [process]
    awaited = {awaitable.pk for awaitable in process._awaitables} if isinstance(process, WorkChain) else set()
    for child in root.called:
        if child.is_terminated:
            continue
        known = isinstance(process, SubmitOnceWorkChain) and not awaits_begin(root, child)
        if isinstance(child, WorkChainNode | CalcJobNode) and (child.pk in awaited or known):
            out += _revive(runner, cut, child)
        else:  # the step that called it is done again, and calls another
            child.base.extras.set(NEVER_BEGUN, True)
            for node in [*child.called_descendants, child]:
                if not node.is_terminated:
                    if isinstance(node, CalcJobNode):
                        stop_program(node)
                    close(node, "the step that called it was interrupted, and done again")
    return out


def went_with_the_power(job: CalcJobNode) -> bool:
    """Tell whether this machine has been started since it last ran a job, of which nobody knows whether it had ended."""
    running = job.get_state() == CalcJobState.WITHSCHEDULER and folder_here(job) is not None
    return running and job.mtime.timestamp() < psutil.boot_time()


def begin_again(job: CalcJob, in_place: bool) -> None:
    """Begin a job anew: if wanted, and if it goes on by itself with what it has in its folder, there; else in an empty one."""
    node = job.node
    links = node.base.links.get_outgoing().all_link_labels()
    in_place = in_place and isinstance(job, FramesCalculation) and "remote_folder" in links
    forgotten = ["retrieved"] if in_place else ["retrieved", "remote_folder"]
    for label in forgotten:
        job._outputs.pop(label, None)
    node.set_state(CalcJobState.SUBMITTING if in_place else CalcJobState.UPLOADING)
    command = SUBMIT_COMMAND if in_place else UPLOAD_COMMAND
    job.transition_to(job.create_state(ProcessState.WAITING, None, msg="begun again", data={"command": command}))
    for label in forgotten:
        _forget(node, label)
    for key in ("exit_status", "exit_message", CalcJobNode.SCHEDULER_JOB_ID_KEY):
        with contextlib.suppress(AttributeError):
            node.base.attributes.delete(key)


def _forget(job: CalcJobNode, label: str) -> None:
    """Remove an output of a job, which AiiDA would take to be there already; of a scratch folder its content, too."""
    for link in job.base.links.get_outgoing(link_label_filter=label).all():
        if isinstance(link.node, RemoteData):
            with job.get_authinfo().get_transport() as transport:
                if transport.isdir(link.node.get_remote_path()):
                    transport.rmtree(link.node.get_remote_path())
        with job.backend.transaction():  # aiida.tools.delete_nodes would follow the link to the job, and to the campaign
            job.backend.delete_nodes_and_connections([cast(int, link.node.pk)])
