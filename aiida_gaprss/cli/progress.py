"""Run a campaign in this process and show what it is doing."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from aiida.engine import Process, WorkChain
from aiida.orm import CalcJobNode, ProcessNode, WorkChainNode
from aiida.orm.utils.log import DBLogHandler

from aiida_gaprss.cli.told import named, tidy
from aiida_gaprss.outside.terminal import PlainConsole, styled
from aiida_gaprss.workflows.here.claim import HERE, Claim
from aiida_gaprss.workflows.here.interruption import kill, leave, revive
from aiida_gaprss.workflows.here.runner import HereRunner

#: Seconds from one look to the next at what is going on, to show it; and in which a second Ctrl-C is waited for.
INTERVAL, GRACE = 1.0, 1.0

#: What ends a run before its end, but can go on.
INTERRUPTIONS: dict[int, str] = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "told to end (SIGTERM)",
    signal.SIGHUP: "the terminal is closed",
}

#: Reports of our own work chains; those of the plugins beneath, and of AiiDA where a fit is begun, would drown them.
OURS = re.compile(
    r"\[\d+\|(Rss|Label|LabelLane|BundleLane|RelaxCrystals|RelaxLane|Search|Validate|Fit|Build|Relabel|Delta"
    r"|Trajectories|TrajectoryLane"
    r"|LearningCurve|Compare|CompareCampaigns|Hyperparameters|Committee)WorkChain\|"
    r"(?!run_process\b|on_terminated\b)"
)

#: What the plugin of Quantum ESPRESSO logs as an error of every trajectory, which has nothing to converge to. Where a relaxation
#: does not converge, its work chain says so, too.
OF_TRAJECTORIES = "ERROR_IONIC_CONVERGENCE_NOT_REACHED"


class _Reports(logging.Handler):
    """Print what work chains report, each with the time since the start."""

    def __init__(self, console: PlainConsole) -> None:
        super().__init__(level=logging.INFO)
        self.console = console
        self.started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        first = message.splitlines()[0] if message else ""
        if (record.levelno >= logging.ERROR and message != OF_TRAJECTORIES) or OURS.match(message):
            say(self.console, f"{minutes:3d}:{seconds:02d}  {tidy(first)}")


class _Stored(logging.Handler):
    """Put records into the database as AiiDA does; where that goes wrong, it would also print a traceback."""

    def __init__(self, handler: DBLogHandler) -> None:
        super().__init__(level=handler.level)
        self.handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            self.handler.emit(record)


class Paused(click.ClickException):
    """A work chain was interrupted, and goes on when it is told to."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        """Say what to do: nothing has failed."""
        with contextlib.suppress(OSError):
            click.echo(self.format_message(), file=file, err=True)


class _Signals:
    """Ctrl-C, SIGTERM and SIGHUP stop a runner after the step that is running; a second Ctrl-C asks for the end of it all."""

    def __init__(self, runner: HereRunner, console: PlainConsole) -> None:
        self.runner, self.console = runner, console
        self.received: list[int] = []

    def __enter__(self) -> _Signals:
        self.before: dict[int, Any] = {}
        for number in INTERRUPTIONS:
            # Ignored: as of a command in the background of a script, or behind nohup.
            if threading.current_thread() is threading.main_thread() and signal.getsignal(number) != signal.SIG_IGN:
                self.before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, _: object) -> None:
        """Say what happens, and let it happen."""
        self.received.append(number)
        if number == signal.SIGHUP:
            hush()
        if len(self.received) == 1:
            again = "; once more, and all is ended for good" if number == signal.SIGINT else ""
            say(self.console, f"{INTERRUPTIONS[number]}: stopping what is running, to go on later{again}")
            self.runner.loop.call_soon_threadsafe(self.runner.stop_for, INTERRUPTIONS[number])
        elif self.kills:
            say(self.console, "ending it for good")

    @property
    def kills(self) -> bool:
        """Tell whether the user wants no more of it."""
        return self.received.count(signal.SIGINT) > 1

    def wait(self) -> None:
        """Give the user the time to say so."""
        ends = time.monotonic() + GRACE
        while signal.SIGINT in self.received and not self.kills and time.monotonic() < ends:
            time.sleep(0.05)


def hush() -> None:
    """Let what is printed on a terminal that is gone go nowhere."""
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                if stream.isatty():
                    os.dup2(nowhere.fileno(), stream.fileno())


def say(console: PlainConsole, *words: str) -> None:
    """Print a line, if there is still anyone to read it, and room to write it."""
    with contextlib.suppress(OSError):
        console.print(*words, sep="", soft_wrap=True)


def run_with_progress(process: type[WorkChain], inputs: dict[str, Any]) -> WorkChainNode:
    """Run a work chain here; print its reports and, on a terminal, the job that is running.

    :raises Paused: if it is interrupted.
    """
    with _shown() as (runner, signals):
        instance = runner.instantiate_process(process, **inputs)
        node = instance.node
        assert isinstance(node, WorkChainNode)
        with Claim(node) as claim:
            node.base.extras.set(HERE, True)
            return _complete(runner, signals, claim, [instance])


def resume_with_progress(node: WorkChainNode) -> WorkChainNode:
    """Go on with a work chain that was interrupted.

    :raises Paused: if it is interrupted again.
    """
    with _shown() as (runner, signals), Claim(node) as claim:
        return _complete(runner, signals, claim, revive(runner, claim, node))


@contextlib.contextmanager
def _shown() -> Iterator[tuple[HereRunner, _Signals]]:
    """Show what work chains report, and nothing else of what AiiDA has to say."""
    console = PlainConsole()
    handler = _Reports(console)
    logger = logging.getLogger("aiida")
    before, told = list(logger.handlers), logging.raiseExceptions
    # AiiDA's own lines would say the same twice.
    kept = [
        _Stored(old) if isinstance(old, DBLogHandler) else old for old in before if not isinstance(old, logging.StreamHandler)
    ]
    logger.handlers, logging.raiseExceptions = [*kept, handler], False
    try:
        runner = HereRunner()
        with _Signals(runner, console) as signals:
            yield runner, signals
    finally:
        logger.handlers, logging.raiseExceptions = before, told


def _complete(runner: HereRunner, signals: _Signals, claim: Claim, processes: list[Process]) -> WorkChainNode:
    console, node = signals.console, processes[0].node
    assert isinstance(node, WorkChainNode)
    name = named(node)
    say(console, f"{name}, uuid {node.uuid}")
    with console.status("starting") as spinner:

        def tick() -> None:
            if runner.frozen or node.is_terminated:
                return
            runner.stop_without_database()
            if console.is_terminal:
                spinner.update(styled(running_stage(node) or "working"))
            runner.loop.call_later(INTERVAL, tick)

        runner.loop.call_later(INTERVAL, tick)
        reason = runner.complete(processes)
        if reason is None:
            claim.end()
            return node
        complaints = leave(runner, claim, reason)
        signals.wait()
    for complaint in complaints:
        say(console, complaint)
    code = 128 + signals.received[0] if signals.received else os.EX_TEMPFAIL
    if signals.kills:
        kill(claim)
        claim.end()
        raise Paused(f"{name} is killed", code)
    what = "" if signals.received else f"{reason}: when that is mended, "
    raise Paused(f"{name} is paused; {what}it goes on with: aiida-gaprss resume {claim.pk}", code)


def running_stage(node: WorkChainNode) -> str:
    """Say which stage of a campaign is running and, where the job can be seen, how far it is."""
    process = _deepest(node)
    if process is None:
        return ""
    text = process.label or process.process_label or "working"
    seconds = int(time.time() - process.ctime.timestamp())
    done = _finished_frames(process)
    return f"{text}: {done}{seconds} s"


def _deepest(node: ProcessNode) -> ProcessNode | None:
    """Return the youngest job beneath a process, or the youngest process that has not ended if there is no job."""
    found = None
    for child in sorted(node.called, key=lambda child: child.ctime, reverse=True):
        if not child.is_terminated:
            deepest = _deepest(child) or child
            if isinstance(deepest, CalcJobNode):
                return deepest
            found = found or deepest  # a lane, for example, that waits for its turn
    return found


def _finished_frames(process: ProcessNode) -> str:
    if not isinstance(process, CalcJobNode) or "frames" not in process.inputs:
        return ""
    folder = process.get_remote_workdir()
    results = Path(folder) / "results.jsonl" if folder else None
    total = process.inputs.frames.n_frames
    if results is None or not results.is_file():  # not begun, or on another machine
        return f"{total} frames, "
    with results.open("rb") as handle:
        return f"{sum(1 for _ in handle)} of {total} frames, "
