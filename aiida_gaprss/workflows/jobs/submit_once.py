"""A step of a work chain that is done again, as its worker went away in the middle, submits nothing twice and loses nothing."""

from __future__ import annotations

from typing import Any, cast

from aiida.engine import ProcessState, WorkChain
from aiida.orm import ProcessNode

from aiida_gaprss.calculations.worker import watch_connections
from aiida_gaprss.workflows.jobs.lock import alone

#: Extra of a work chain: the processes for which the broker has a message that lets a worker begin them.
SENT = "gaprss_sent"
#: Extra of a process for which there never was such a message.
NEVER_BEGUN = "gaprss_never_begun"


def called(node: ProcessNode, label: str) -> ProcessNode | None:
    """Return the process that a work chain has called under this label, and that has begun or will; or None."""
    return _living(node, _with_label(node, label))


def never_begun(process: ProcessNode) -> bool:
    """Tell whether a process was closed because nobody would ever have begun it: it means nothing."""
    return bool(process.base.extras.get(NEVER_BEGUN, False))


def close(process: ProcessNode, why: str) -> None:
    """End a process that nobody will run, as *Killed*."""
    process.unpause()
    process.set_process_status(why)
    process.set_process_state(ProcessState.KILLED)
    process.delete_checkpoint()
    process.seal()


class SubmitOnceWorkChain(WorkChain):
    """Submits a process under its link label once, however often the step is done that submits it.

    When a worker of the daemon ends, another one does the step again in which it was. What the first had submitted is taken up. A
    process that it had made, but for which it had not sent the message to the broker, would wait for ever: it is closed, and
    another one takes its place.
    """

    def init(self) -> None:
        """Begin, or go on after a worker of the daemon that has ended."""
        watch_connections()
        super().init()

    def submit(self, process: Any, inputs: dict[str, Any] | None = None, **kwargs: Any) -> ProcessNode:
        """Submit a process, unless this work chain has called one under the same ``call_link_label``.

        :return: the new process, or that one.
        :raises ValueError: if there is no ``call_link_label``.
        """
        label = (inputs or kwargs).get("metadata", {}).get("call_link_label")
        if label is None:
            raise ValueError(f"{process.__name__} needs metadata.call_link_label, a name of its own among what {self.node} calls")
        there = _with_label(self.node, label)
        if child := _living(self.node, there):
            return child
        for dead in there:
            if not dead.is_terminated:
                dead.base.extras.set(NEVER_BEGUN, True)
                close(
                    dead, "never begun: the worker that was to submit it went away"
                )  # a message that comes after all is in vain
        child = super().submit(process, inputs, **kwargs)
        with alone():
            self.node.base.extras.set(SENT, [*self.node.base.extras.get(SENT, []), child.pk])
        return child


def _with_label(node: ProcessNode, label: str) -> list[ProcessNode]:
    links = node.base.links.get_outgoing(node_class=ProcessNode, link_label_filter=label).all()
    return [cast(ProcessNode, link.node) for link in links if link.link_label == label]  # in the filter, "_" is any character


def _living(caller: ProcessNode, processes: list[ProcessNode]) -> ProcessNode | None:
    """Return the process that has begun, or for which there is a message that lets a worker begin it."""
    return next((process for process in processes if not awaits_begin(caller, process)), None)


def awaits_begin(caller: ProcessNode, process: ProcessNode) -> bool:
    """Tell whether a process has not begun, and is not known to its caller, so that it never will."""
    begun = process.process_state not in (None, ProcessState.CREATED) and not never_begun(process)
    return not begun and process.pk not in caller.base.extras.get(SENT, [])
