"""Run a campaign in this process and show what it is doing."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

from aiida.engine import WorkChain
from aiida.orm import CalcJobNode, ProcessNode, WorkChainNode

from aiida_gaprss.terminal import PlainConsole, styled

#: Seconds from one look to the next: at what is going on, to show it, and whether a child has ended.
INTERVAL, CHILD_INTERVAL = 1.0, 0.2

#: Reports of our own work chains; those of the plugins beneath would drown them.
OURS = re.compile(r"\[\d+\|(Rss|Label|LabelLane|BundleLane|Search|Fit|LearningCurve|Hyperparameters|Committee)WorkChain\|")

#: What a user calls them.
WHAT = {
    "RssWorkChain": "campaign",
    "FitWorkChain": "fit",
    "SearchWorkChain": "structure search",
    "LearningCurveWorkChain": "learning curve",
    "HyperparametersWorkChain": "search",
    "CommitteeWorkChain": "committee",
}


class _Reports(logging.Handler):
    """Print what work chains report, each with the time since the start."""

    def __init__(self, console: PlainConsole) -> None:
        super().__init__(level=logging.INFO)
        self.console = console
        self.started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        from aiida_gaprss.cli.campaign import tidy

        message = record.getMessage()
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        first = message.splitlines()[0] if message else ""
        if record.levelno >= logging.ERROR or OURS.match(message):
            self.console.print(f"{minutes:3d}:{seconds:02d}  ", tidy(first), sep="", soft_wrap=True)


def run_with_progress(process: type[WorkChain], inputs: dict[str, Any]) -> WorkChainNode:
    """Run a work chain here; print its reports and, on a terminal, the job that is running."""
    from aiida.manage import get_manager

    console = PlainConsole()
    # No broker: everything runs in this process, which has to ask whether a child has ended; AiiDA would do so once a minute.
    runner = get_manager().create_runner(communicator=None, poll_interval=CHILD_INTERVAL)
    handler = _Reports(console)
    logger = logging.getLogger("aiida")
    before = [(h, h.level) for h in logger.handlers]
    for old in logger.handlers:  # AiiDA's own lines would say the same twice
        if isinstance(old, logging.StreamHandler):
            old.setLevel(logging.CRITICAL)
    logger.addHandler(handler)
    instance = None
    try:
        from aiida.engine.utils import instantiate_process

        instance = instantiate_process(runner, process, **inputs)
        node = instance.node
        assert isinstance(node, WorkChainNode)
        what = WHAT[node.process_label or ""]
        console.print(f"{what} {node.label} <{node.pk}>, uuid {node.uuid}", soft_wrap=True)
        with console.status("starting") as spinner:

            def tick() -> None:
                if node.is_terminated:
                    return
                if console.is_terminal:
                    spinner.update(styled(running_stage(node) or "working"))
                runner.loop.call_later(INTERVAL, tick)

            runner.loop.call_later(INTERVAL, tick)
            runner.run(instance)
        return node
    finally:
        logger.removeHandler(handler)
        for old, level in before:
            old.setLevel(level)


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
