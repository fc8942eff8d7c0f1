"""A step of a work chain that is done again, as its worker went away in the middle, submits nothing twice and loses nothing."""

from __future__ import annotations

from typing import Any, cast

from aiida.engine import ProcessState, WorkChain
from aiida.orm import ProcessNode

#: Extras of a process: the message that lets a worker begin it is with the broker; there never was one.
SENT, NEVER_BEGUN = "gaprss_sent", "gaprss_never_begun"


def called(node: ProcessNode, label: str) -> ProcessNode | None:
    """Return the process that a work chain has called under this label, and that has begun or will; or None."""
    return next((process for process in _with_label(node, label) if _begins(process)), None)


class OnceWorkChain(WorkChain):
    """Submits a process under its link label once, however often the step is done that submits it.

    When a worker of the daemon ends, another one does the step again in which it was. What the first had submitted is taken up. A
    process that it had made, but for which it had not sent the message to the broker, would wait for ever: it is closed, and
    another one takes its place.
    """

    def submit(self, process: Any, inputs: dict[str, Any] | None = None, **kwargs: Any) -> ProcessNode:
        """Submit a process, unless this work chain has called one under the same ``call_link_label``.

        :return: the new process, or that one.
        """
        label = (inputs or kwargs)["metadata"]["call_link_label"]
        if child := called(self.node, label):
            return child
        for child in _with_label(self.node, label):
            if not child.is_terminated:
                child.base.extras.set(NEVER_BEGUN, True)
                child.set_process_status("never begun: the worker that was to submit it went away")
                child.set_process_state(ProcessState.KILLED)  # a message that comes after all does not begin it
                child.delete_checkpoint()
                child.seal()
        child = super().submit(process, inputs, **kwargs)
        child.base.extras.set(SENT, True)
        return child


def _with_label(node: ProcessNode, label: str) -> list[ProcessNode]:
    links = node.base.links.get_outgoing(node_class=ProcessNode, link_label_filter=label).all()
    return [cast(ProcessNode, link.node) for link in links if link.link_label == label]  # in the filter, "_" is any character


def _begins(process: ProcessNode) -> bool:
    """Tell whether a process has begun, or there is a message that lets a worker begin it."""
    extras = process.base.extras.all
    return NEVER_BEGUN not in extras and (process.process_state not in (None, ProcessState.CREATED) or SENT in extras)
