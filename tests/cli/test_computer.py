"""``aiida-gaprss setup --computer``: here over the local transport, so that no cluster is needed; on one in tests/cluster."""

import json
import sys

import pytest
from click.testing import CliRunner

from aiida_gaprss.settings.computer import MAX_JOBS, ComputerSettings, fit_options, job_options
from aiida_gaprss.settings.yamlfile import ConfigError, load

pytestmark = pytest.mark.usefixtures("aiida_profile")


@pytest.fixture
def file(tmp_path):
    """Write the file of a computer that is this machine."""

    def file(name="here", **changes):
        data = {
            "label": name,
            "hostname": "this-machine",
            "transport": "core.local",
            "scheduler": "core.direct",
            "work_dir": str(tmp_path / "scratch"),
            "poll_interval_s": 0.1,
            "connection_interval_s": 0,
            "python": sys.executable,
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))
        return path

    return file


@pytest.fixture
def setup(monkeypatch, aiida_profile):
    """Call the command with the profile of the tests; return what it prints, and its error."""
    from aiida_gaprss.cli import environment
    from aiida_gaprss.cli.setup import setup as command

    monkeypatch.setattr(environment, "load_or_make_profile", lambda: aiida_profile.name)

    def setup(*arguments):
        result = CliRunner().invoke(command, [str(a) for a in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit | ValueError), result.exception
        return result.output + (str(result.exception) if isinstance(result.exception, ValueError) else "")

    return setup


def test_a_job_runs_there(setup, file, gap_fit_binary):
    from aiida.orm import load_code, load_computer

    options = {"max_wallclock_seconds": 600, "resources": {"num_machines": 1, "num_cores_per_mpiproc": 2}}
    codes = {"true": {"executable": "/bin/true", "plugin": "core.arithmetic.add", "prepend_text": "echo", "mpi": False}}
    text = setup("--computer", file(options=options, codes=codes, max_jobs=7))
    assert "works    job <" in text
    assert "agrees   its energies are those of this machine" in text
    assert "gap_fit@here" in text
    computer = load_computer("here")
    assert computer.hostname == "this-machine"
    assert computer.get_property(MAX_JOBS) == 7
    fit, python = load_code("gap_fit@here"), load_code("gaprss-python@here")
    assert str(fit.filepath_executable) == str(gap_fit_binary)
    assert fit.base.extras.get("gaprss_gap_version") == python.base.extras.get("gaprss_gap_version") > 1.6e9
    assert not load_code("true@here").with_mpi
    # What a campaign does not say is taken from the computer.
    assert fit_options(fit, {}) == {**options, "threads": 2}
    assert job_options(computer, {"max_wallclock_seconds": 60})["max_wallclock_seconds"] == 60
    # Once more with other options and another program: the computer is brought up to date, the old code keeps its calculations.
    codes["true"]["executable"] = "/bin/false"
    text = setup("--computer", file(codes=codes), "--no-check")
    assert "job <" not in text
    assert job_options(load_computer("here"), {}) == {}
    assert load_computer("here").get_property(MAX_JOBS) is None
    assert load_code("gap_fit@here").pk == fit.pk
    assert str(load_code("true@here").filepath_executable) == "/bin/false"


def test_options_of_the_computer_reach_the_jobs(setup, file, campaign_text, tmp_path):
    from aiida_gaprss.campaign.file import check_campaign
    from aiida_gaprss.campaign.inputs import builder_inputs

    options = {"queue_name": "main", "resources": {"num_machines": 1, "num_cores_per_mpiproc": 3}}
    setup("--computer", file("queue", options=options), "--no-check")
    text = campaign_text + "codes: {gap_fit: gap_fit@queue, python: gaprss-python@queue}\noptions: {relax: {queue_name: long}}\n"
    inputs = builder_inputs(check_campaign(text, tmp_path / "c.yaml"))
    assert inputs["fit"]["metadata"]["options"] == {**options, "threads": 3}
    assert inputs["relax"]["metadata"]["options"] == {**options, "queue_name": "long"}
    assert inputs["label"]["ase"]["metadata"]["options"] == options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"work_dir": "scratch"}, "work_dir: expected an absolute path"),
        ({"work_dir": "/scratch/{user}"}, "work_dir: the only thing in braces can be {username}"),
        ({"label": "localhost"}, "label: this is the name of this machine"),
        ({"gap_fit": "gap_fit"}, "gap_fit: expected an absolute path"),
        ({"environment": {"folder": "~/env"}}, "python: give either this, or environment"),
        ({"python": None}, "python: give either this, or environment"),
        ({"options": {"wallclock": 1}}, "options.wallclock: unknown key"),
        ({"options": {"max_wallclock_seconds": "1 h"}}, "max_wallclock_seconds: "),
        ({"codes": {"pw": {"executable": "pw.x", "plugin": "x"}}}, "codes.pw.executable"),
        ({"schedular": "core.slurm"}, "schedular: unknown key"),
    ],
)
def test_faults_of_the_file(file, changes, message):
    with pytest.raises(ConfigError, match="line 1, ") as caught:
        load(file(**changes), ComputerSettings, "label: cluster")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheduler": "core.slurmm"}, "core.slurmm"),
        ({"transport_options": {"hots": "a"}}, "transport_options: 'hots' is none of core.local"),
        ({"work_dir": "/proc/nothing"}, "work_dir /proc/nothing cannot be written to"),
        ({"python": "/bin/false"}, "/bin/false has no quippy and ase"),
        ({"gap_fit": "/no/gap_fit"}, "/no/gap_fit is not an executable file"),
        ({"codes": {"pw": {"executable": "/no/pw.x", "plugin": "x"}}}, "codes.pw: /no/pw.x is not an executable file"),
        ({"prepend_text": "exit 3"}, "cannot run a command: status 3"),
        ({"transport": "core.ssh_async", "hostname": "nobody.invalid"}, "no connection to nobody.invalid"),
    ],
)
def test_faults_of_the_computer(setup, file, changes, message):
    assert message in setup("--computer", file(f"faulty-{abs(hash(message))}", **changes))


#: What acts in a shell, unless it is quoted.
ACTING = ("; touch MARK; ", "$(touch MARK)", "`touch MARK`", "' && touch MARK '", '" | touch MARK #', "*?[a] b")


def with_value(path, value):
    """Return the changes of the file that put a value at a place."""
    first, *rest = path.split(".")
    for key in reversed(rest):
        value = [value] if key == "0" else {key: value}
    return {first: value}


WORDS = ("label", "hostname", "transport", "scheduler", "options.queue_name", "options.account", "codes.a;b", "codes.a.plugin")
LINES = ("work_dir", "mpirun_command.0", "shebang", "python", "gap_fit", "codes.a.executable", "environment.packages.0")


@pytest.mark.parametrize("field", WORDS)
def test_words_that_would_act_are_refused(file, field):
    for acting in ACTING:
        with pytest.raises(ConfigError, match=r"expected a (word|name)"):
            load(file(**with_value(field, f"a{acting}")), ComputerSettings, "label: cluster")


@pytest.mark.parametrize("field", [*WORDS, *LINES])
def test_fields_of_one_line(file, field):
    with pytest.raises(ConfigError):
        load(file(**with_value(field, "/a\nb")), ComputerSettings, "label: cluster")


@pytest.mark.parametrize("field", LINES[:-1])
def test_lines_do_not_act_in_a_shell(setup, file, tmp_path, monkeypatch, field):
    """Whatever stands in a field that is no script reaches the shell as one word."""
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    before = {"work_dir": f"{tmp_path}/", "shebang": "#!/bin/bash"}.get(field, "/bin/true")
    changes = with_value(field, before + "".join(ACTING).replace("MARK", str(mark)))
    if field.startswith("codes"):
        changes["codes"]["a"]["plugin"] = "core.arithmetic.add"
    text = setup("--computer", file(f"acting-{field.replace('.', '-')}", **{"gap_fit": "/bin/true", **changes}), "--no-check")
    assert not mark.exists()
    assert "computer acting-" in text


PYTHON = """\
#!/bin/bash
for word in "$@"; do printf '%s\\0' "$word" >> {log}; done; printf '\\n' >> {log}
case "$*" in
  *sys.version_info*) echo 11;;
  "-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python";;
  *gap_fit*) echo '{{"ase": "3", "gap_fit": "/bin/true", "python": "x"}}';;
  *quippy*) exit 1;;
esac
"""


def test_an_environment_is_made_of_words(setup, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mark, log = tmp_path / "mark", tmp_path / "log"
    folder = tmp_path / "a $(touch mark) b"
    folder.mkdir()
    (folder / "python").write_text(PYTHON.format(log=log))
    (folder / "python").chmod(0o755)
    monkeypatch.setenv("PLACE", str(folder))
    packages = [f"package{acting.replace('MARK', str(mark))}" for acting in ACTING]
    environment = {"folder": "${PLACE}/env", "python": "$PLACE/python", "packages": packages}
    text = setup("--computer", file("made", python=None, environment=environment), "--no-check")
    assert "Ready." in text
    assert not mark.exists()
    assert (folder / "env" / "bin" / "python").exists()
    installed = next(line for line in log.read_text().split("\0\n") if line.startswith("-m\0pip"))
    assert installed.split("\0")[-len(packages) - 1 :] == ["--", *packages]


def test_a_python_without_quippy(setup, file, tmp_path):
    """One for which there are no wheels: nothing is made, unless packages are named."""
    log = tmp_path / "log"
    python = tmp_path / "python"
    python.write_text(PYTHON.format(log=log).replace("echo 11", "echo 14"))
    python.chmod(0o755)
    environment = {"folder": str(tmp_path / "env"), "python": str(python)}
    text = setup("--computer", file("newer", python=None, environment=environment), "--no-check")
    assert "environment.python: quippy-ase (GAP) has no wheels for Python 3.14, only for 3.10 to 3.13" in text
    assert "Ready." not in text
    assert not (tmp_path / "env").exists()
    environment["packages"] = ["a-build-of-my-own"]
    assert "Ready." in setup("--computer", file("newer", python=None, environment=environment), "--no-check")


@pytest.mark.parametrize("key", ["folder", "python"])
@pytest.mark.parametrize("acting", ["${A:-$(id)}", "${A@P}", "a b", "'a", "~root\\", "", "a|b", "a>b", *ACTING])
def test_paths_of_an_environment_that_are_none(file, key, acting):
    environment = {"folder": "~/gap/${USER}_$A", "python": "/opt/python-3.11/bin/python3", key: acting}
    with pytest.raises(ConfigError, match=f"environment.{key}: expected a path|environment.{key}: String should have at least"):
        load(file(python=None, environment=environment), ComputerSettings, "label: cluster")


def test_a_login_that_talks(setup, file):
    """What modules and logins print is not taken for an answer."""
    text = setup("--computer", file("talking", prepend_text="echo Welcome to the cluster"), "--no-check")
    assert "Ready." in text
    assert "Welcome" not in text


def test_a_job_that_fails(setup, file, tmp_path):
    script = tmp_path / "gap_fit"
    script.write_text("#!/bin/bash\necho 'no licence' >&2; exit 1\n")
    script.chmod(0o755)
    text = setup("--computer", file("broken", gap_fit=str(script)))
    assert "failed: gap_fit wrote no log; its last words: no licence" in text
    assert "its folder there: " in text


def test_energies_that_differ(setup, file, monkeypatch):
    monkeypatch.setattr("aiida_gaprss.cli.computer.AGREEMENT", -1.0)
    assert "its energies differ from those of this machine by" in setup("--computer", file("other"))


def test_a_gap_fit_with_mpi(setup, file):
    """The command that starts MPI stands before gap_fit, and not before the python of the same job."""
    from aiida.orm import load_code

    setup("--computer", file("mpi", gap_fit_mpi=True, mpirun_command=["env", "RANKS={tot_num_mpiprocs}"]))
    job = load_code("gap_fit@mpi").base.links.get_outgoing().one().node
    assert job.is_finished_ok
    script = job.base.repository.get_object_content("_aiidasubmit.sh")
    (fit,) = (line for line in script.splitlines() if "config_file=" in line and "watch.sh" not in line)
    (evaluation,) = (line for line in script.splitlines() if "batch.py" in line)
    assert fit.startswith("'env' 'RANKS=1' ")
    assert "RANKS" not in evaluation


def test_only_its_file_says_where_programs_are(setup, file):
    assert "--python is for this machine" in setup("--computer", file(), "--python", "python3")


def test_threads_here(gap_fit_code):
    import os

    assert fit_options(gap_fit_code, {})["threads"] == os.cpu_count()
    assert fit_options(gap_fit_code, {"threads": 1})["threads"] == 1
