"""What the tests share: codes of this machine, a classical reference, a small dataset and a small potential.

Every program is real: gap_fit and quippy come with quippy-ase, AiiDA runs in a profile that is made for the tests.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import helpers
import numpy as np
import pytest
from ase import Atoms
from fuzzing import TALLIES
from helpers import FIT, REFERENCES, label, prepare_batch, read_lines
from ruamel.yaml import YAML
from sqlalchemy import event
from sqlalchemy.engine import Engine

import aiida_gaprss
from aiida_gaprss import frames as fr
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.models.training import atomic_energies
from aiida_gaprss.structures.random_cells import CellSpec, random_cells


def pytest_addoption(parser):
    parser.addoption("--fuzz", type=float, default=1.0, metavar="N", help="N times as many inputs for the fuzzers (tests/fuzz)")


def pytest_collection_modifyitems(items):
    """Put the files last in which tests empty the profile, and these tests last: others look at what one test has made."""
    files = {item.path for item in items if _empties(item)}
    items.sort(key=lambda item: (item.path in files, _empties(item)))


def _empties(item):
    return "aiida_profile_clean" in getattr(item, "fixturenames", ())


#: Files that one process runs, as they share what takes minutes to make: the cluster, and the campaign with all parts.
TOGETHER = {
    "cluster": ("tests/cluster/",),
    "looped": (
        "tests/report/test_live.py",
        "tests/report/test_loop.py",
        "tests/sharing/test_archives.py",
        "tests/workflows/test_rss_course.py",
    ),
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let one process run a whole file (-n), in the order of the files, or several that belong together."""
    from xdist.scheduler.loadfile import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return next((name for name, parts in TOGETHER.items() if file.startswith(parts)), file)

    config.option.loadscopereorder = False
    return Files(config, log)


def pytest_terminal_summary(terminalreporter):
    for tally in TALLIES:
        terminalreporter.write_line(f"fuzzed {tally}")


@pytest.fixture
def times(request):
    """Return how many inputs a fuzzer tries, of a number that takes a few seconds."""
    return lambda n: max(1, int(n * request.config.getoption("--fuzz")))


def pytest_configure(config):
    # AiiDA's temporary profiles: sessions closed between tests, and a configuration folder that is meant to be new.
    config.addinivalue_line("filterwarnings", "ignore:Object of type <Db:sqlalchemy.exc.SAWarning")
    config.addinivalue_line("filterwarnings", "ignore:Creating AiiDA configuration folder")


@event.listens_for(Engine, "connect")
def _forgo_safety(connection, _):
    """Let SQLite not wait for the disk: the profile of the tests need not survive a power cut."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


pytest_plugins = "aiida.tools.pytest_fixtures"

EXAMPLE = Path(aiida_gaprss.__file__).parent / "examples" / "silicon_sw.yaml"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """More threads make the evaluation of a GAP slower."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def one_schema():
    """Let the plugin of Quantum ESPRESSO build the schema of pw.x's xml once, not for every output, which takes a second each."""
    try:
        from aiida_quantumespresso.parsers.parse_xml import parse
    except ImportError:
        return
    parse.XMLSchema = lru_cache(parse.XMLSchema)


@pytest.fixture(scope="session")
def data():
    """Folder of published reference data, which is not part of the package."""
    folder = os.environ.get("GAPRSS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set GAPRSS_DATA to the folder of reference data to run this test")
    return Path(folder)


@pytest.fixture
def written(tmp_path):
    """Write a text to a file and return its path."""

    def written(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return written


class TookTooLong(pytest.fail.Exception, SystemExit):
    """Ends a test whatever catches exceptions in it: asyncio lets none out of a callback that is no SystemExit."""


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item, settings):
    """Show where a test stands that has no time left, and end it; once more, if it goes on all the same."""

    def end(*_):
        faulthandler.dump_traceback(file=sys.__stderr__)
        raise TookTooLong(f"took longer than {settings.timeout:g} s")

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, 60)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_cancel_timer(item):
    """Stop the clock of a test that has ended."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return True


class Clocks:
    """Stands still until it is told what has passed, on the wall and of the processor."""

    def __init__(self):
        self.wall = self.processor = 0.0

    def pass_by(self, wall: float, processor: float) -> None:
        self.wall += wall
        self.processor += processor


@pytest.fixture
def clocks(monkeypatch):
    """Replace the clocks that measure calls: what a busy machine takes is not in any test."""
    clocks = Clocks()
    monkeypatch.setattr("time.perf_counter", lambda: clocks.wall)
    monkeypatch.setattr("time.process_time", lambda: clocks.processor)
    return clocks


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """Install a package of one module: its name, its text, and its entry points as in a pyproject.toml."""

    def other_package(name, text, entries):
        (tmp_path / f"{name}.py").write_text(text)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", entries).replace('"', "")
        (info / "entry_points.txt").write_text(groups)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        installed.append(name)

    installed = []
    yield other_package
    for name in installed:
        sys.modules.pop(name, None)


# --- programs ---


@pytest.fixture(scope="session")
def gap_fit_binary():
    quippy = pytest.importorskip("quippy")
    path = Path(quippy.__file__).parent / "gap_fit"
    if not os.access(path, os.X_OK):
        pytest.skip("this quippy has no gap_fit")
    return path


@pytest.fixture
def aiida_localhost(aiida_localhost):
    """AiiDA's own, without a login shell for every word to the scheduler: what such a shell reads may take half of a second."""
    aiida_localhost.configure(safe_interval=0.0, use_login_shell=False)
    return aiida_localhost


@pytest.fixture
def code_here(aiida_code_installed, aiida_localhost):
    """Return a code of this machine by its full name; AiiDA's own fixture takes one of another computer for it."""

    def code_here(label, path, plugin, prepend_text=""):
        from aiida.common.exceptions import NotExistent
        from aiida.orm import load_code

        try:
            return load_code(f"{label}@{aiida_localhost.label}")
        except NotExistent:
            return aiida_code_installed(
                label=label,
                computer=aiida_localhost,
                default_calc_job_plugin=plugin,
                filepath_executable=str(path),
                prepend_text=prepend_text,
                with_mpi=False,
            )

    return code_here


@pytest.fixture
def python_code(code_here):
    return code_here("gaprss-python", sys.executable, "gaprss.label")


@pytest.fixture
def gap_fit_code(code_here, gap_fit_binary):
    return code_here("gap_fit", gap_fit_binary, "gaprss.fit")


@pytest.fixture
def dying_python(aiida_code_installed, aiida_localhost, tmp_path):
    """Return a python that is killed, workers and all, once so many results are there."""

    def make(results, times=1):
        script = tmp_path / f"python_dying_after_{results}"
        count = tmp_path / "deaths"
        script.write_text(
            f"""#!/bin/bash
set -m
deaths=$(cat {count} 2>/dev/null || echo 0)
{sys.executable} "$@" &
job=$!
while kill -0 $job 2>/dev/null; do
  lines=$(cat results.jsonl 2>/dev/null | wc -l)
  if [ "$deaths" -lt {times} ] && [ "$lines" -ge {results} ]; then
    echo $((deaths + 1)) > {count}
    kill -KILL -$job
    exit 137
  fi
  sleep 0.02
done
wait $job
"""
        )
        script.chmod(0o755)
        return aiida_code_installed(
            label=f"{script.name}-{tmp_path.name}",  # another test's code of the same label would be taken
            computer=aiida_localhost,
            default_calc_job_plugin="gaprss.label",
            filepath_executable=str(script),
        )

    return make


@pytest.fixture
def mortal_emt(tmp_path):
    """Label settings and job options of an EMT that kills its job, several times, when so many results are there."""

    def make(after, times=1):
        (tmp_path / "mortal_emt.py").write_text(
            f"""
import os, signal, time
from ase.calculators.emt import EMT

class MortalEMT(EMT):
    frames = 0

    def calculate(self, atoms, *args, **kwargs):
        super().calculate(atoms, *args, **kwargs)
        deaths = "{tmp_path}/deaths"
        self.frames += 1
        if self.frames > {after} and os.path.getsize(deaths) < {times}:
            with open(deaths, "a") as handle:
                handle.write("x")
            while open("results.jsonl").read().count("\\n") < {after}:
                time.sleep(0.01)
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
"""
        )
        (tmp_path / "deaths").touch()
        settings = {"calculator": "mortal_emt.MortalEMT", "arguments": {}, "level_of_theory": "EMT"}
        return settings, {"prepend_text": f"export PYTHONPATH={tmp_path}", "processes": 1}

    return make


@pytest.fixture
def run():
    """Run a process to its end in this interpreter and return its outputs and node."""

    def run(process, **inputs):
        from aiida.engine import run_get_node

        return run_get_node(process, **inputs)

    return run


@pytest.fixture
def run_batch(tmp_path):
    """Run ``python batch.py TASK`` in a folder of its own, as a job would; return process, results by index and folder."""

    def run_batch(task, frames, settings, name="job", extra=None, files=None):
        folder = prepare_batch(tmp_path / name, task, frames, settings, extra)
        for path, text in (files or {}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        done = subprocess.run(
            [sys.executable, "batch.py", task], cwd=folder, capture_output=True, text=True, timeout=300, check=False
        )
        return done, read_lines(folder), folder

    return run_batch


# --- frames, reference, potential ---


@pytest.fixture(scope="session")
def sw_settings():
    """Label settings of Stillinger-Weber silicon, as in the example campaign."""
    return YAML(typ="safe").load(EXAMPLE.read_text())["reference"]["ase"]


@pytest.fixture
def sw(sw_settings):
    """Calculator of Stillinger-Weber silicon."""
    from quippy.potential import Potential

    return Potential(**sw_settings["arguments"])


@pytest.fixture(scope="session")
def tersoff_settings():
    """Label settings of Tersoff silicon, as in the example of two levels."""
    example = Path(__file__).parents[1] / "examples" / "two_levels" / "tersoff.yaml"
    return {**YAML(typ="safe").load(example.read_text("utf-8"))["reference"]["ase"], "level_of_theory": "Tersoff"}


@pytest.fixture
def tersoff(tersoff_settings):
    """Calculator of Tersoff silicon."""
    from quippy.potential import Potential

    return Potential(**tersoff_settings["arguments"])


@pytest.fixture(scope="session")
def silicon_cells():
    """Random silicon cells without labels, after the isolated atom."""
    spec = CellSpec(formula={"Si": 1}, n_atoms=(2, 3, 4), volume_per_atom=(16, 26), min_separation=2.1, n_operations=(1, 2, 4))
    atom = Atoms("Si", cell=[12.0] * 3, pbc=True)
    atom.info.update(frame_id="atom-Si", config_type="isolated_atom")
    cells = [atom]
    for number, atoms in enumerate(random_cells(spec, 14, seed=7)):
        atoms.info.update(frame_id=f"cell-{number:02d}", config_type="random")
        cells.append(atoms)
    return cells


@pytest.fixture(scope="session")
def silicon_frames(silicon_cells, sw_settings):
    """The same with labels of the Stillinger-Weber potential, made here without the package's own runner."""
    from quippy.potential import Potential

    calculator = Potential(**sw_settings["arguments"])
    frames = []
    for cell in silicon_cells:
        frames.append(cell.copy())
        label(frames[-1], calculator)
    return frames


@pytest.fixture
def copies(silicon_frames):
    """Copies of the labelled frames, to be changed at will."""
    return [atoms.copy() for atoms in silicon_frames]


@pytest.fixture(scope="session")
def alloy_frames():
    """Small cells of copper and gold with labels of ASE's EMT: two kinds of frames, isolated atoms, pure and mixed."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    rng = np.random.default_rng(5)
    frames = [Atoms(symbol, cell=[12.0] * 3, pbc=True) for symbol in ("Cu", "Au")]
    for number in range(28):
        atoms = bulk("Cu", a=3.8, cubic=True)
        mixture = rng.choice(["Cu", "Au"], 4)
        atoms.symbols = ["Cu"] * 4 if number < 2 else ["Au"] * 4 if number < 4 else mixture
        atoms = atoms if number % 3 else atoms.repeat((2, 1, 1))
        atoms.rattle(0.1, rng=rng)
        atoms.set_cell(atoms.cell * (1 + rng.normal(0, 0.03)), scale_atoms=True)
        frames.append(atoms)
    for number, atoms in enumerate(frames):
        kind = "isolated_atom" if number < 2 else "alloy" if number % 2 else "other"
        atoms.info = {"frame_id": f"alloy-{number:02d}", "config_type": kind}
        label(atoms, EMT())
    return frames


@pytest.fixture
def dataset(silicon_frames):
    from aiida_gaprss.data.dataset import Dataset

    return Dataset(silicon_frames, level_of_theory="Stillinger-Weber")


@pytest.fixture(scope="session")
def fit_with_binary(gap_fit_binary, tmp_path_factory):
    """Run gap_fit itself on frames; return its folder and its log."""

    from aiida_gaprss.io.extxyz import extxyz_text

    def fit(frames, settings=FIT, seed=1, extra="", keep=(), edit=str):
        folder = tmp_path_factory.mktemp("gap_fit")
        training = [fr.canonical(atoms) for atoms in frames]
        for atoms, source in zip(training, frames, strict=True):
            atoms.info.update({key: source.info[key] for key in keep if key in source.info})
            atoms.arrays.update({key: source.arrays[key] for key in keep if key in source.arrays})
        (folder / "train.extxyz").write_text(extxyz_text(training))
        e0 = atomic_energies(frames, GapSettings(**settings).e0)
        command = GapSettings(**settings).command("train.extxyz", "gap.xml", seed, e0)
        (folder / "gap_fit.in").write_text(edit(command) + extra)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_STACKSIZE": "64M"}
        done = subprocess.run(
            [gap_fit_binary, "config_file=gap_fit.in"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return folder, done.stdout + done.stderr

    return fit


@pytest.fixture(scope="session")
def fitted(fit_with_binary, silicon_frames):
    """Folder and log of one small fit."""
    folder, log = fit_with_binary(silicon_frames)
    assert (folder / "gap.xml").is_file(), log
    return folder, log


@pytest.fixture(scope="session")
def potential_folder(fitted):
    return fitted[0]


@pytest.fixture(scope="session")
def diamond_folder(fit_with_binary, silicon_frames, sw_settings):
    """A GAP fitted to Stillinger-Weber silicon that knows diamond: small cells, random ones and crystals displaced."""
    from ase.build import bulk
    from quippy.potential import Potential

    calculator = Potential(**sw_settings["arguments"])
    spec = CellSpec(formula={"Si": 1}, n_atoms=(1, 2), volume_per_atom=(11, 28), min_separation=1.9, n_operations=(1, 2, 4, 8))
    rng = np.random.default_rng(2)
    cells = random_cells(spec, 90, seed=3)
    for name, a, number in (("diamond", 5.43, 24), ("sc", 2.6, 8), ("bcc", 3.2, 8), ("fcc", 4.1, 8), ("hcp", 2.8, 8)):
        for scale in np.linspace(0.92, 1.09, number):
            atoms = bulk("Si", name, a=a * scale)
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.03, (3, 3))), scale_atoms=True)
            atoms.rattle(0.08, rng=rng)
            cells.append(atoms)
    for number, atoms in enumerate(cells):
        atoms.info = {"frame_id": f"small-{number}", "config_type": "small"}
        label(atoms, calculator)
    soap = {"kind": "soap", "cutoff": 4.5, "n_max": 6, "l_max": 4, "n_sparse": 120, "delta": 0.5}
    folder, log = fit_with_binary([silicon_frames[0], *cells], settings={**FIT, "descriptors": [FIT["descriptors"][0], soap]})
    assert (folder / "gap.xml").is_file(), log
    return folder


@pytest.fixture
def potential(potential_folder):
    from aiida_gaprss.data.potential import Potential

    return Potential(potential_folder)


@pytest.fixture
def gap(potential_folder):
    """Calculator of the small potential, loaded without the package."""
    from quippy.potential import Potential

    return Potential(param_filename=str(potential_folder / "gap.xml"))


@pytest.fixture
def evaluated():
    """Return energy, forces and virial of frames by direct use of a calculator."""

    def evaluated(frames, calculator):
        out = []
        for atoms in frames:
            work = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
            virial = (-work.get_stress(voigt=False) * work.get_volume()).reshape(9)
            out.append((work.get_potential_energy(), np.array(work.get_forces()), virial))
        return out

    return evaluated


@pytest.fixture
def all_calculated(monkeypatch):
    """Let ``gaprss.label`` calculate what is asked for, whatever labels other tests have made: for tests of jobs."""
    from aiida_gaprss.workflows.label import LabelWorkChain

    monkeypatch.setattr(LabelWorkChain.spec().inputs["reuse"], "default", False)


# --- a whole campaign ---


@pytest.fixture(scope="session")
def campaign_text():
    """A campaign of half a minute on silicon, after the example: file text whose lines can be replaced.

    All tests share a profile, so that it must not look for the labels of another one.
    """
    reference = EXAMPLE.read_text()[EXAMPLE.read_text().index("reference:") :]
    return f"""\
name: tiny
seed: 11
{reference}
reuse_labels: false
settings:
  formula: {{Si: 1}}
  hold: null
  seeds:
    random:
      n_atoms: [2, 3]
      volume_per_atom: [17.0, 24.0]
      min_separation: 2.1
      n_operations: [1, 2]
  initial: {{random: 10}}
  generations:
    - cells: {{random: 6}}
      pressure: {{width_GPa: 10.0}}
      relax: {{max_steps: 12, snapshot_steps: [3]}}
      select:
        rules:
          - {{by: lowest, n: 2}}
          - {{by: farthest, n: 2}}
          - {{by: farthest, of: snapshots, n: 2}}
  fit: {json.dumps(FIT)}
  final_fit: null
  validate: null
  search:
    cells: {{random: 4}}
    relax: {{max_steps: 40, fmax: 0.1}}
    label: 2
"""


@pytest.fixture
def dft_campaign_text(campaign_text):
    """Return a small campaign on SiC with the example of a DFT code, some of its text replaced."""
    start, end = campaign_text.index("reference:"), campaign_text.index("settings:")
    rest = campaign_text[end:].replace("{Si: 1}", "{Si: 1, C: 1}").replace("[2, 3]", "[2, 4]")
    rest = rest.replace("  fit: {", '  fit: {"regularisation": [], ')

    def dft_campaign_text(name, *replacements):
        reference = REFERENCES[name]
        for old, new in replacements:
            assert old in reference
            reference = reference.replace(old, new)
        return campaign_text[:start] + reference + rest

    return dft_campaign_text


@pytest.fixture
def call():
    """Call the command within the loaded profile (:func:`helpers.call`)."""
    return helpers.call


@pytest.fixture(scope="session")
def remembered():
    """What one test made and others look at."""
    return {}


def _is_there(uuid):
    """Tell whether a node is there still: another test may have emptied the profile."""
    from aiida.orm import Node, QueryBuilder

    return uuid is not None and QueryBuilder().append(Node, filters={"uuid": uuid}).count() > 0


@pytest.fixture
def campaign_codes(python_code, gap_fit_code):
    """The codes under the names that ``aiida-gaprss setup`` gives them."""
    return python_code, gap_fit_code


@pytest.fixture
def campaign(run, campaign_codes, campaign_text, remembered, tmp_path):
    """The node of a finished campaign; it runs once."""
    from aiida.orm import load_node

    from aiida_gaprss.campaign.file import check_campaign
    from aiida_gaprss.campaign.inputs import builder_inputs
    from aiida_gaprss.workflows.rss import RssWorkChain

    if not _is_there(remembered.get("campaign")):
        _, node = run(RssWorkChain, **builder_inputs(check_campaign(campaign_text, tmp_path / "tiny.yaml")))
        remembered["campaign"] = node.uuid
    return load_node(remembered["campaign"])


@pytest.fixture
def looped_campaign(run, campaign_codes, campaign_text, dataset, remembered, tmp_path):
    """The node of one with all parts, which runs once: a dataset, measured generations, crystals, a search, refinement.

    Its thresholds are so wide that it ends after two generations of three.
    """
    from aiida.orm import load_node
    from ase.build import bulk

    from aiida_gaprss.campaign.file import check_campaign
    from aiida_gaprss.campaign.inputs import builder_inputs
    from aiida_gaprss.workflows.rss import RssWorkChain

    if not _is_there(remembered.get("looped")):
        bulk("Si").write(tmp_path / "diamond.cif")
        dataset.store()
        text = campaign_text.replace("initial: {random: 10}", "initial: {random: 4}").replace("name: tiny", "name: loop")
        text = text.replace("  fit: {", '  max_generations: 3\n  fit: {"mixed_levels": true, ')
        text = text.replace("    label: 2", "    label: 2\n    again: 2")
        text = text.replace("validate: null", "validate: {geometry: given, properties: {elastic: }}")
        text += f"""
  stop: {{energy_change: 20.0, distribution: 20.0, discovery: 1.0, new_error: 20.0, patience: 1, at_least: 2}}
  crystals: {{number: 3}}
  refine:
    max_labels: 4
    choose: variance
    strategies: {{waves: {{kind: nondiagonal, grid: [1, 1, 2], volumes: [0.98, 1.0], copies: 2}}}}
start: {{database: [{dataset.pk}]}}
crystals: [{tmp_path / "diamond.cif"}]
"""
        _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "loop.yaml")))
        assert node.is_finished_ok, node.exit_message
        remembered["looped"] = node.uuid
    return load_node(remembered["looped"])
