"""An interruption: how a work chain is left, ended for good, or gone on with."""

from __future__ import annotations

import contextlib
from typing import cast

import psutil
from aiida.common.datastructures import CalcJobState
from aiida.engine import CalcJob, Process, ProcessState, WorkChain
from aiida.engine.processes.calcjobs.tasks import SUBMIT_COMMAND, UPLOAD_COMMAND
from aiida.orm import CalcJobNode, ProcessNode, RemoteData, WorkChainNode, load_node

from aiida_gaprss.calculations.frames import FramesCalculation
from aiida_gaprss.workflows.here.claim import NO_ROOM, STOPPED, Claim
from aiida_gaprss.workflows.here.programs import folder_here, stop_elsewhere, stop_in, stop_program
from aiida_gaprss.workflows.here.runner import HereRunner
from aiida_gaprss.workflows.here.trouble import session, trouble
from aiida_gaprss.workflows.jobs.submit_once import NEVER_BEGUN, SubmitOnceWorkChain, awaits_begin, close


def leave(runner: HereRunner, claim: Claim, reason: str) -> list[str]:
    """Stop the programs of a work chain, and note that it is paused; return what could not be done.

    Nothing of that is needed to go on, but that the programs of jobs that were stopped are not taken to have ended by themselves.
    """
    runner.let_go()
    with contextlib.suppress(Exception):
        session().rollback()
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
