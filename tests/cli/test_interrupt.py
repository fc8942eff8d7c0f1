"""What is interrupted goes on, and its end is that of a run that was left alone: the real command, in an AiiDA of its own."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import shell_in

pytestmark = pytest.mark.slow

#: Of a job that is held: seconds after which it goes on anyway, that no test leaves one behind.
HELD = 120

#: Prints labels, relaxed frames and minima of a campaign, and what was calculated for it.
DUMP = """
import json, sys
from aiida import load_profile, orm
load_profile()
from aiida_gaprss.report.contents import contents
node = orm.load_node(int(sys.argv[1]))
jobs = [job for job in node.called_descendants if isinstance(job, orm.CalcJobNode)]
print("DUMP" + json.dumps({
    "state": node.process_state.value, "sealed": node.is_sealed, "contents": contents(node),
    "jobs": sorted(job.process_label for job in jobs), "ok": all(job.is_finished_ok for job in jobs),
    "alive": [n.pk for n in node.called_descendants if not n.is_terminated],
}))
"""


class World:
    """An AiiDA in a folder, with programs that can be held."""

    def __init__(self, folder):
        self.folder = folder
        self.shell = shell_in(folder)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AIIDA")},
            "AIIDA_PATH": str(folder / "aiida"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GAPRSS_TEST_WORLD": str(folder),
        }
        self.shell("aiida-gaprss", "setup")

    def add_codes(self, gap_fit):
        """Register a gap_fit and a python that wait before their work while there is a file that says so."""
        for name, real, plugin in (("gap_fit", gap_fit, "gaprss.fit"), ("python", sys.executable, "gaprss.label")):
            script = self.folder / f"held_{name}"
            script.write_text(
                f"#!/bin/bash\n# $2 is the task of a python\nfor i in $(seq {HELD}0); do\n"
                f"  [ -e {self.folder}/hold_{name}_$2 ] || break\n  touch {self.folder}/held\n  sleep 0.1\ndone\n"
                f'exec {real} "$@"\n'
            )
            script.chmod(0o755)
            options = ["--label", f"held_{name}", "--computer", "localhost", "--default-calc-job-plugin", plugin]
            options += ["--filepath-executable", script, "--no-with-mpi"]
            self.shell("verdi", "code", "create", "core.code.installed", "--non-interactive", *options)

    def hold(self, name, task=""):
        (self.folder / f"hold_{name}_{task}").touch()

    def release(self):
        for path in [*self.folder.glob("hold_*"), self.folder / "held"]:
            path.unlink(missing_ok=True)

    def begin(self, *words):
        self.output = self.folder / "output.txt"
        with self.output.open("w") as handle:
            self.process = subprocess.Popen(
                ["aiida-gaprss", *map(str, words)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=listen,
            )

    def until(self, condition):
        """Wait for a condition while the command runs."""
        ends = time.monotonic() + 240
        while not condition():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < ends, self.text()
            time.sleep(0.02)

    def until_held(self):
        self.until((self.folder / "held").exists)

    def text(self):
        return self.output.read_text()

    def last(self, status):
        """Wait until the command has ended; return its last line, if it ended as it should."""
        assert self.process.wait(timeout=120) == status, self.text()
        assert "Traceback" not in self.text()
        assert self.left() == []
        return self.text().strip().splitlines()[-1]

    def pk(self):
        return re.search(r"<(\d+)>, uuid", self.text())[1]

    def left(self):
        """Return the commands that still run for this AiiDA."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("GAPRSS_TEST_WORLD") == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.cmdline())
            except psutil.Error:
                continue
        return found

    def dump(self, pk):
        text = self.shell(sys.executable, "-c", DUMP, pk)
        return json.loads(text[text.index("DUMP") + 4 :])


def listen():
    """Let signals do what they do: some are ignored where tests run behind nohup, or in the background of a script."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


#: A calculator that takes its time, so that a job can be hit in the middle.
SLOW = """
import time
from quippy.potential import Potential
class Slow(Potential):
    def calculate(self, *args, **kwargs):
        time.sleep(0.5)
        super().calculate(*args, **kwargs)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory, gap_fit_binary):
    world = World(tmp_path_factory.mktemp("world"))
    world.add_codes(gap_fit_binary)
    (world.folder / "slow.py").write_text(SLOW)
    return world


@pytest.fixture(autouse=True)
def released(world):
    yield
    world.release()


@pytest.fixture(scope="module")
def campaign_file(world, campaign_text):
    """A short campaign whose labels take some seconds."""
    text = campaign_text[: campaign_text.index("  search:")] + "  search: null\n"
    text = text.replace("quippy.potential.Potential", "slow.Slow").replace("{random: 10}", "{random: 6}")
    options = f"options: {{label: {{prepend_text: export PYTHONPATH={world.folder}, processes: 1}}, relax: {{processes: 1}}}}\n"
    text += "codes: {gap_fit: held_gap_fit@localhost, python: held_python@localhost}\n" + options
    (world.folder / "campaign.yaml").write_text(text)
    return world.folder / "campaign.yaml"


@pytest.fixture(scope="module")
def finished(world, campaign_file):
    """A campaign that is left alone."""
    world.begin("run", campaign_file)
    assert world.process.wait(timeout=600) == 0, world.text()
    return world.pk()


@pytest.fixture(scope="module")
def undisturbed(world, finished):
    """What it makes."""
    return world.dump(finished)


def results(world):
    """Return the files to which jobs write what they have finished."""
    return set(world.folder.glob("aiida/.aiida/scratch/gaprss/*/*/*/results.jsonl"))


def test_a_campaign_interrupted_at_every_kind_of_step(world, campaign_file, undisturbed):
    assert undisturbed["state"] == "finished"
    before = results(world)
    world.begin("run", campaign_file)
    world.until(lambda: any(path.read_bytes().count(b"\n") >= 2 for path in results(world) - before))
    world.process.send_signal(signal.SIGINT)
    line = world.last(130)
    pk = world.pk()
    assert line == f"campaign tiny <{pk}> is paused; it goes on with: aiida-gaprss resume {pk}"
    assert "interrupted: stopping what is running" in world.text()
    status = world.shell("aiida-gaprss", "status")
    assert re.search(rf"{pk} +campaign +tiny +paused", status)
    assert f"aiida-gaprss resume {pk}" in status
    assert f"aiida-gaprss resume {pk}" in world.shell("aiida-gaprss", "status", pk)
    # In the middle of a fit, and of a relaxation; then a job is killed with all that runs it.
    for program, task, number in (("gap_fit", "", signal.SIGTERM), ("python", "relax", signal.SIGHUP)):
        world.hold(program, task)
        world.begin("resume")  # it is the only one
        world.until_held()
        world.process.send_signal(number)
        assert f"aiida-gaprss resume {pk}" in world.last(128 + number)
        world.release()
    world.begin("resume", pk)
    world.until(lambda: "generation 1" in world.text())
    world.process.kill()
    world.process.wait()
    world.begin("resume", pk)
    world.until(lambda: "chosen" in world.text())
    assert "is running, in another process" in world.shell("aiida-gaprss", "resume", pk, check=False)
    assert "Report:" in world.last(0)
    assert world.dump(pk) == undisturbed  # the same jobs, too: none was repeated, none has failed
    assert "has ended" in world.shell("aiida-gaprss", "resume", pk, check=False)
    assert "nothing was interrupted" in world.shell("aiida-gaprss", "resume", check=False)


@pytest.mark.full
def test_twice_is_for_good(world, campaign_file):
    world.hold("python", "label")
    world.begin("run", campaign_file)
    world.until_held()
    world.process.send_signal(signal.SIGINT)
    world.until(lambda: "once more" in world.text())
    world.process.send_signal(signal.SIGINT)
    pk = world.pk()
    assert world.last(130) == f"campaign tiny <{pk}> is killed"
    dump = world.dump(pk)
    assert (dump["state"], dump["sealed"], dump["alive"]) == ("killed", True, [])
    assert f"campaign tiny <{pk}> has ended: killed" in world.shell("aiida-gaprss", "resume", pk, check=False)


@pytest.mark.full
def test_a_fit(world, undisturbed, finished):
    """No gap_fit goes on when the command that wants it is interrupted."""
    find = "from aiida import load_profile, orm; load_profile(); print(orm.load_node({}).outputs.labels.g00.pk)"
    dataset = world.shell(sys.executable, "-c", find.format(finished)).split()[-1]
    (world.folder / "fit.yaml").write_text("descriptors: [{kind: distance_2b, cutoff: 4.5, n_sparse: 10}]\nprotocol: default\n")
    fit = ["fit", dataset, "--settings", "fit.yaml", "--code", "held_gap_fit@localhost", "--threads", 1]
    world.hold("gap_fit")
    world.begin(*fit)
    world.until_held()
    world.process.send_signal(signal.SIGINT)
    line = world.last(130)
    assert re.fullmatch(rf"fit .* <{world.pk()}> is paused; it goes on with: aiida-gaprss resume {world.pk()}", line)
    assert line in world.shell("aiida-gaprss", "status")
    world.release()
    world.begin("resume")
    assert "Figures:" in world.last(0)
    assert re.search(r"Potential <\d+>", world.text())


@pytest.mark.full
def test_a_database_that_does_not_answer(world, campaign_file, undisturbed):
    """Another program has locked it: the campaign is not lost, and goes on when the database is there again."""
    (database,) = world.folder.glob("aiida/**/database.sqlite")
    world.hold("gap_fit")
    world.begin("run", campaign_file)
    world.until_held()
    with sqlite3.connect(database, timeout=60) as other:
        other.execute("BEGIN EXCLUSIVE")
        world.release()
        world.process.wait(timeout=300)
    pk = world.pk()
    line = world.last(os.EX_TEMPFAIL)
    assert re.search(r"paused; the database does not answer: database is locked: when that is mended, it goes on with", line)
    world.begin("resume", pk)
    assert "Report:" in world.last(0)
    assert world.dump(pk)["contents"] == undisturbed["contents"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, which can be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", disk]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a disk that can be filled needs root, and mount")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.full
def test_a_full_disk(small_disk, gap_fit_binary, world, campaign_file, undisturbed):
    """Everything is on it: database, repository, jobs."""
    small = World(small_disk)
    small.add_codes(gap_fit_binary)
    text = campaign_file.read_text().replace(str(world.folder), str(small.folder))
    (small.folder / "campaign.yaml").write_text(text)
    (small.folder / "slow.py").write_text(SLOW)
    small.hold("python", "relax")
    small.begin("run", "campaign.yaml")
    small.until_held()
    with (small.folder / "ballast").open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(1 << 16))
        except OSError:
            pass
    (small.folder / "hold_python_relax").unlink()
    line = small.last(os.EX_TEMPFAIL)
    pk = small.pk()
    assert re.search(rf"is paused; the disk is full.*: when that is mended, it goes on with: aiida-gaprss resume {pk}", line)
    (small.folder / "ballast").unlink()
    small.begin("resume", pk)
    assert "Report:" in small.last(0)
    assert small.dump(pk)["contents"] == undisturbed["contents"]
