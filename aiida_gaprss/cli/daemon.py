"""Does the daemon do what campaigns need of it?"""

from __future__ import annotations

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
