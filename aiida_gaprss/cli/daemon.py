"""Does the daemon do what campaigns need of it?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from aiida.engine import WorkChain

#: Gives the steps whose message was lost with a broker to the new one.
REPAIR = "verdi daemon stop; verdi process repair --force; verdi daemon start"


def daemon_trouble() -> str | None:
    """Return why submitted campaigns stand still and what to do about it, or None if the daemon can do its work.

    Workers that were begun beside the remains of a killed daemon may listen where its message broker was: AiiDA reports them as
    running, and tasks wait for ever. The broker of ``core.zeromq`` knows how many workers it has.
    """
    from aiida.engine.daemon.client import (
        DaemonNotRunningException,
        DaemonStalePidException,
        DaemonTimeoutException,
        get_daemon_client,
    )
    from aiida.manage import get_manager

    broker = get_manager().get_broker()
    if broker is None:
        return None
    try:
        get_daemon_client().get_status(timeout=5)
    except DaemonTimeoutException:  # busy; nothing is known
        return None
    except (DaemonNotRunningException, DaemonStalePidException):
        return "the daemon is not running; a campaign that was submitted goes on after: verdi daemon start"
    known = broker.probe_service_status()
    waiting, listeners = known.get("pending_tasks"), known.get("task_subscribers")
    if isinstance(waiting, int) and waiting and listeners == 0:
        return f"{waiting} steps wait, and no worker of the daemon hears its message broker; this mends it: {REPAIR}"
    return None


def hand_over(process: type[WorkChain], inputs: dict[str, Any], what: str) -> Any:
    """Submit a work chain to the daemon; return its node.

    :param what: it is called in messages.
    :raises click.ClickException: if there is no daemon.
    """
    from aiida.common.exceptions import InvalidOperation
    from aiida.engine import submit

    try:
        return submit(process, **inputs)
    except InvalidOperation as exception:
        raise click.ClickException(
            f"the {what} cannot be submitted: {exception} (start the daemon: verdi daemon start)"
        ) from exception


def submit_and_tell(process: type[WorkChain], inputs: dict[str, Any], what: str, follow: str = "verdi process status") -> None:
    """Submit a work chain to the daemon, and say how to follow it.

    :param follow: command that shows how far it is.
    :raises click.ClickException: if there is no daemon.
    """
    node = hand_over(process, inputs, what)
    click.echo(f"submitted <{node.pk}>; follow it with: {follow} {node.pk}")


def paused_processes() -> str | None:
    """Return how many processes of the profile AiiDA has paused, why, and what to do about it; None if there is none.

    It pauses a calculation whose computer it could not reach five times in a row, at longer and longer intervals.
    """
    from aiida.orm import ProcessNode, QueryBuilder

    from aiida_gaprss.workflows.here.claim import HERE

    filters: dict[str, Any] = {"attributes.paused": True, "attributes.process_state": {"in": ["created", "running", "waiting"]}}
    filters["extras"] = {"!has_key": HERE}  # those wait for aiida-gaprss resume
    query = QueryBuilder().append(ProcessNode, filters=filters, project=["id", "attributes.process_status"])
    found = query.order_by({ProcessNode: "id"}).all()
    if not found:
        return None
    number = "1 process is paused" if len(found) == 1 else f"{len(found)} processes are paused"
    pk, reason = found[0]
    return f"{number} (<{pk}>: {reason}); when the cause is gone: verdi process play --all"


def processes_at_once(inputs: dict[str, Any]) -> int:
    """Return how many processes of a campaign may live at one time: each of them takes a slot of the daemon, also while it waits.

    :param inputs: of ``RssWorkChain``.
    """
    from aiida_gaprss.reference import per_frame

    label = inputs["label"]
    if not any(name in label for name in per_frame()):
        return 4  # the campaign, its search, two jobs
    each = 2 if "bundle" in label else 3  # a lane, its job; or a lane, the work chain of the plugin, its calculation
    return 2 + each * int(label["max_concurrent"])


def lack_of_slots(needed: int) -> str | None:
    """Return what to do if the daemon has not the slots for ``needed`` more processes, or None.

    Where those that wait fill all slots, what they wait for never begins.
    """
    from aiida.engine.daemon.client import DaemonException, get_daemon_client
    from aiida.manage.configuration import get_config_option
    from aiida.orm import ProcessNode, QueryBuilder

    try:
        workers = get_daemon_client().get_number_of_workers(timeout=5)
    except DaemonException:  # not running, or busy: that is told elsewhere
        return None
    each = int(get_config_option("daemon.worker_process_slots"))
    states = {"attributes.process_state": {"in": ["created", "running", "waiting"]}}
    alive = QueryBuilder().append(ProcessNode, filters=states).count()
    if alive + needed <= workers * each:
        return None
    enough = -(-(alive + needed) // max(workers, 1))
    return (
        f"it has up to {needed} processes at one time, {alive} are alive already, and the daemon has slots for {workers * each} "
        f"({workers} workers, {each} each): they would wait for calculations that never begin. Lower max_concurrent, or: "
        f"verdi config set daemon.worker_process_slots {enough}; verdi daemon restart"
    )
