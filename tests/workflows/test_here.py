"""Work chains that run in this process: what ends it is no failure of theirs, and another one goes on from there."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time

import psutil
import pytest
from aiida.common.datastructures import CalcJobState
from aiida.engine import WorkChain, calcfunction
from aiida.orm import CalcJobNode, Int, Str
from plumpy.process_states import PauseInterruption
from sqlalchemy.exc import OperationalError, PendingRollbackError

from aiida_gaprss.cli import progress, told
from aiida_gaprss.cli.progress import Paused, resume_with_progress, run_with_progress
from aiida_gaprss.workflows.here.claim import RESERVE, Claim, RunsAlreadyError, interrupted, is_interrupted, is_run_here
from aiida_gaprss.workflows.here.interruption import went_with_the_power
from aiida_gaprss.workflows.here.programs import stop_in
from aiida_gaprss.workflows.here.runner import HereRunner
from aiida_gaprss.workflows.here.trouble import session, trouble
from aiida_gaprss.workflows.jobs.submit_once import SubmitOnceWorkChain


@calcfunction
def doubled(number, flag):
    """Double a number, if the world lets it: what is to happen stands in a file, which is removed when it has happened."""
    strike(flag.value)
    return Int(2 * number.value)


def strike(flag):
    """Let happen what stands in the file, once."""
    if os.path.exists(flag):
        with open(flag) as handle:
            what = handle.read()
        os.remove(flag)
        if what == "disk":
            raise OSError(errno.ENOSPC, "No space left on device", "/somewhere")
        if what == "database":
            raise OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))
        if what == "fault":
            raise RuntimeError("a fault of the program")
        if what == "pause":  # as AiiDA does when it has not reached a computer five times
            raise PauseInterruption("Pausing after failed transport task: upload_calculation failed 5 times")
        os.kill(os.getpid(), signal.Signals[what])


class Child(WorkChain):
    """Doubles a number, in three steps."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("number")
        spec.input("flag")
        spec.output("result")
        spec.outline(cls.begin, cls.double, cls.end)

    def begin(self):
        if self.inputs.flag.value.endswith("paused"):
            strike(self.inputs.flag.value)
        self.ctx.steps = ["begin"]

    def double(self):
        self.ctx.result = doubled(self.inputs.number, self.inputs.flag)
        self.ctx.steps = [*self.ctx.steps, "double"]

    def end(self):
        self.node.base.extras.set("steps", self.ctx.steps)
        self.out("result", self.ctx.result)


class Parent(SubmitOnceWorkChain):
    """Has two children."""

    @classmethod
    def define(cls, spec):
        super().define(spec)
        spec.input("flag")
        spec.output("result")
        spec.outline(cls.children, cls.end)

    def children(self):
        for number in (1, 2):
            metadata = {"call_link_label": f"child_{number}"}
            flag = self.inputs.flag if number == 2 else Str("/nowhere")
            child = self.submit(Child, number=Int(number), flag=flag, metadata=metadata)
            self.to_context(**{f"child_{number}": child})

    def end(self):
        self.out("result", Int(sum(self.ctx[f"child_{n}"].outputs.result.value for n in (1, 2))).store())


@pytest.fixture
def flag(tmp_path, monkeypatch, aiida_profile_clean):
    monkeypatch.setitem(told.WHAT, "Parent", "parent")
    monkeypatch.setattr(progress, "GRACE", 0.0)
    return tmp_path / "flag"


def run(flag, what):
    """Run a work chain to which something happens; return its node and what was said in the end."""
    flag.write_text(what)
    with pytest.raises(Paused) as paused:
        run_with_progress(Parent, {"flag": Str(str(flag))})
    (node,) = interrupted()
    return node, paused.value


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ("disk", 75, "the disk is full at /somewhere: when that is mended, "),
        ("database", 75, "the database does not answer: database is locked: when that is mended, "),
        ("SIGINT", 130, ""),
        ("SIGTERM", 143, ""),
        ("SIGHUP", 129, ""),
    ],
)
def test_what_is_no_fault_of_the_work_chain_pauses_it(flag, capsys, what, code, said):
    # pytest may run in the background, or behind nohup.
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        node, paused = run(flag, what)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert paused.message == f"parent  <{node.pk}> is paused; {said}it goes on with: aiida-gaprss resume {node.pk}"
    assert paused.exit_code == code
    assert is_interrupted(node)
    assert node.paused
    assert not any(child.is_excepted or child.is_killed for child in node.called)
    assert resume_with_progress(node).outputs.result.value == 6
    assert [child.base.extras.get("steps") for child in node.called] == [["begin", "double"]] * 2
    assert not interrupted()
    assert not node.paused
    assert "Traceback" not in capsys.readouterr().err


def test_what_aiida_pauses_does_not_wait_for_ever(flag):
    flag = flag.with_suffix(".paused")
    node, paused = run(flag, "pause")
    child = node.called[0] if node.called[0].paused else node.called[1]
    assert f"Child <{child.pk}>: Pausing after failed transport task" in paused.message
    assert resume_with_progress(node).outputs.result.value == 6
    assert not child.paused


def test_a_fault_of_the_work_chain_ends_it(flag):
    flag.write_text("fault")
    node = run_with_progress(Parent, {"flag": Str(str(flag))})
    assert node.is_excepted
    assert "RuntimeError" in node.called[1].exception or "RuntimeError" in node.called[0].exception
    assert not is_interrupted(node)


def test_a_child_that_was_made_and_never_begun(flag, monkeypatch):
    """The process was killed between the two: the step is done again, and takes another child."""
    submit = SubmitOnceWorkChain.submit

    def submit_and_die(self, process, inputs=None, **kwargs):
        if kwargs["number"].value == 2:
            self.runner.instantiate_process(process, **kwargs)
            strike(str(flag))
        return submit(self, process, inputs, **kwargs)

    monkeypatch.setattr(SubmitOnceWorkChain, "submit", submit_and_die)
    node, _ = run(flag, "disk")
    monkeypatch.setattr(SubmitOnceWorkChain, "submit", submit)
    assert resume_with_progress(node).outputs.result.value == 6
    assert sorted(child.process_state.value for child in node.called) == ["finished", "finished", "killed"]


def test_a_work_chain_that_was_not_saved(flag):
    node, _ = run(flag, "disk")
    node.delete_checkpoint()
    with pytest.raises(ValueError, match=rf"<{node.pk}> \(Parent\) cannot go on: its state was not saved"):
        resume_with_progress(node)


def test_a_signal_that_is_ignored_stays_ignored(flag):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        flag.write_text("SIGHUP")
        assert run_with_progress(Parent, {"flag": Str(str(flag))}).is_finished_ok
    finally:
        signal.signal(signal.SIGHUP, before)


def test_only_one_process_runs_a_work_chain(flag):
    node, _ = run(flag, "disk")
    assert not is_run_here(node)
    Claim(node).path.unlink()
    with Claim(node) as claim:
        assert is_run_here(node)
        assert not is_interrupted(node)
        assert claim.path.stat().st_size >= RESERVE, "room is kept back"
        with pytest.raises(RunsAlreadyError, match="another process runs the work chain already"):
            resume_with_progress(node)
        claim.note({"some": "stopped"})
        claim.give_room()
        assert claim.path.stat().st_size < 100
    with Claim(node) as claim:
        assert claim.cut == {"some": "stopped"}
        claim.end()
    assert not claim.path.exists()


@pytest.mark.parametrize(
    ("exception", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "the disk is full at /a/b"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full at "),
        (OperationalError("x", {}, Exception("server closed\nthe connection")), "the database does not answer: server closed"),
        (PendingRollbackError("rolled back"), "the database does not answer: rolled back"),
        (OSError(errno.EACCES, "Permission denied"), None),
        (ValueError("no"), None),
    ],
)
def test_trouble(aiida_profile, exception, said):
    def found(caught):
        told = trouble(caught)
        return told is None if said is None else told.startswith(said)

    assert found(exception)
    outer = RuntimeError("a step failed")
    outer.__context__ = exception
    assert found(outer), "what an exception came of counts, too"


def test_all_programs_of_a_folder_are_stopped(tmp_path):
    """Also those that do not want to, and the next line of a script."""
    (tmp_path / "sub").mkdir()
    stubborn = f"{sys.executable} -c \"import signal, time; signal.signal(15, signal.SIG_IGN); open('on', 'w'); time.sleep(60)\""
    script = f"cd sub; {stubborn} & cd ..; sleep 60; sleep 61"
    process = subprocess.Popen(["bash", "-c", script], cwd=tmp_path, start_new_session=True)
    while not (tmp_path / "sub" / "on").exists():
        time.sleep(0.02)
    assert stop_in(str(tmp_path))
    process.wait(10)
    assert not [p for p in psutil.process_iter(["cwd"]) if (p.info["cwd"] or "").startswith(str(tmp_path))]
    assert not stop_in(str(tmp_path))


def test_a_job_that_went_with_the_power(aiida_localhost, tmp_path, monkeypatch):
    job = CalcJobNode(computer=aiida_localhost).store()
    job.set_remote_workdir(str(tmp_path))
    job.set_state(CalcJobState.WITHSCHEDULER)
    assert not went_with_the_power(job)
    monkeypatch.setattr(psutil, "boot_time", lambda: time.time() + 60)
    assert went_with_the_power(job)
    job.set_state(CalcJobState.RETRIEVING)
    assert not went_with_the_power(job), "it was seen to have ended"


def test_a_database_whose_file_is_gone(aiida_profile):
    runner = HereRunner()
    runner.stop_without_database()
    engine = session().get_bind()
    if engine.dialect.name != "sqlite":
        pytest.skip("only SQLite has a file")
    assert not runner.stopped.done()
    os.rename(engine.url.database, engine.url.database + ".away")
    try:
        runner.stop_without_database()
    finally:
        os.rename(engine.url.database + ".away", engine.url.database)
    assert runner.stopped.result().startswith("the database is gone: there is no ")
