"""Why a process has failed."""

from __future__ import annotations

from aiida.orm import ProcessNode

from aiida_gaprss.workflows.jobs.submit_once import never_begun


def reason_of_failure(process: ProcessNode) -> str:
    """Return why a process failed, in the words of the deepest one that did: those above only say that something did."""
    for child in sorted(process.called, key=lambda child: child.ctime, reverse=True):
        if not child.is_finished_ok and not never_begun(child):
            return reason_of_failure(child)
    state = process.process_state.value if process.process_state else "unknown"
    # Of an exception only its last line: type and message.
    exception = (process.exception or "").strip().splitlines()[-1:]
    return process.exit_message or ": ".join([f"{process.process_label} ended {state}", *exception])
