"""Slots of the daemon, before a campaign is handed to it."""

import pytest
from aiida.engine import ProcessState
from aiida.engine.daemon.client import DaemonClient, DaemonNotRunningException
from aiida.manage import get_manager
from aiida.orm import CalcJobNode

from aiida_gaprss.cli import campaign as command
from aiida_gaprss.cli.daemon import lack_of_slots, paused_processes, processes_at_once


@pytest.fixture
def workers(aiida_profile, monkeypatch):
    """Pretend that the daemon has so many workers with so many slots; None: it does not run."""

    def workers(number, slots=200):
        def answer(self, timeout=None):
            if number is None:
                raise DaemonNotRunningException("not running")
            return number

        monkeypatch.setattr(DaemonClient, "get_number_of_workers", answer)
        get_manager().get_config().set_option("daemon.worker_process_slots", slots, scope=aiida_profile.name)

    yield workers
    get_manager().get_config().unset_option("daemon.worker_process_slots", scope=aiida_profile.name)


@pytest.mark.parametrize(
    ("label", "processes"),
    [
        ({"ase": {}, "max_concurrent": 2}, 4),
        ({"quantumespresso": {}, "max_concurrent": 20}, 62),
        ({"vasp": {}, "max_concurrent": 20, "bundle": {}}, 42),
    ],
)
def test_processes_of_a_campaign(label, processes):
    assert processes_at_once({"label": label}) == processes


def test_enough_or_not(workers):
    workers(2, 100)
    assert lack_of_slots(150) is None
    text = lack_of_slots(302)
    assert "302 processes at one time" in text
    assert "slots for 200 (2 workers, 100 each)" in text
    assert "daemon.worker_process_slots 151" in text
    workers(None)
    assert lack_of_slots(10**6) is None


def test_a_process_that_waits_takes_one(workers):
    from aiida.orm import CalcJobNode
    from plumpy import ProcessState

    workers(1, 10)
    assert lack_of_slots(10) is None
    node = CalcJobNode().store()
    node.set_process_state(ProcessState.WAITING)
    try:
        assert "1 are alive already" in lack_of_slots(10)
    finally:
        node.set_process_state(ProcessState.KILLED)
        node.seal()


def test_a_campaign_is_refused(workers, campaign_text, campaign_codes, tmp_path):
    from aiida.orm import QueryBuilder, WorkChainNode
    from click import ClickException

    from aiida_gaprss.campaign.file import check_campaign

    workers(1, 3)
    before = QueryBuilder().append(WorkChainNode).count()
    with pytest.raises(ClickException, match=r"cannot be submitted: .* slots for 3 \(1 workers, 3 each\)"):
        command.submit_campaign(check_campaign(campaign_text, tmp_path / "c.yaml"))
    assert QueryBuilder().append(WorkChainNode).count() == before


def test_paused_processes(aiida_profile):
    """AiiDA itself pauses what it cannot submit or retrieve; nothing goes on until somebody says so."""
    assert paused_processes() is None
    node = CalcJobNode().store()
    node.set_process_state(ProcessState.WAITING)
    node.set_process_status("Pausing after failed transport task: upload_calculation failed 5 times consecutively")
    assert paused_processes() is None
    node.pause()
    text = paused_processes()
    assert text.startswith(f"1 process is paused (<{node.pk}>: Pausing after failed transport task: upload_calculation failed")
    assert text.endswith("when the cause is gone: verdi process play --all")
    node.set_process_state(ProcessState.KILLED)
    assert paused_processes() is None
