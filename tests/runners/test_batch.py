"""The script that travels with the jobs, run as a job runs it: ``python batch.py TASK`` in a folder."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from helpers import prepare_batch, read_lines

from aiida_gaprss import frames as fr
from aiida_gaprss.runners import FOLDER
from aiida_gaprss.settings.jobs import RelaxSettings

EVALUATE = {"calculator": "emt", "arguments": {}, "local_energies": True, "variances": False, "processes": 2}
LABEL = {"calculator": "emt", "arguments": {}, "processes": 2}

#: A calculator that does what the first atom of a cell tells it: copper is EMT, the others misbehave.
MISCHIEF = """
import os, time
from ase.calculators.emt import EMT

class Mischief(EMT):
    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, fail=None, seconds=0.0):
        super().__init__()
        if fail == "raise":
            raise RuntimeError("no such\\nparameter file")
        if fail == "exit":
            os._exit(3)
        self.seconds = seconds

    def calculate(self, atoms, properties, system_changes):
        symbol = atoms.get_chemical_symbols()[0]
        if symbol == "Au":
            os._exit(1)
        if symbol == "Ag":
            raise ValueError("not\\nconverged")
        time.sleep(self.seconds)
        super().calculate(atoms, properties, system_changes)
        if symbol == "Pt":
            self.results["energy"] = self.results["free_energy"] = float("nan")
"""


class NoisyEMT(EMT):
    """EMT with another noise in the last bits for every seed."""

    def __init__(self, seed):
        super().__init__()
        self.rng = np.random.default_rng(seed)

    def calculate(self, atoms, properties, system_changes):
        super().calculate(atoms, properties, system_changes)
        for name in ("energy", "free_energy", "forces", "stress"):
            value = np.array(self.results[name])
            self.results[name] = value * (1 + self.rng.uniform(-1e-15, 1e-15, value.shape))


def relax_settings(**changes):
    settings = RelaxSettings(max_steps=200, fmax=0.005, snapshot_steps=[0, 3]).model_dump()
    return {**settings, "calculator": "emt", "arguments": {}, "processes": 2, **changes}


def mischief(task, **arguments):
    base = relax_settings() if task == "relax" else {**LABEL, "local_energies": False, "variances": False}
    return {**base, "calculator": "mischief.Mischief", "arguments": arguments}


def crystals(n=5, symbol="Cu"):
    frames = []
    for number in range(n):
        atoms = bulk(symbol, a=3.5 + 0.05 * number, cubic=number % 2 == 1)
        atoms.rattle(0.05, seed=number)
        atoms.info["pressure_GPa"] = 2.0 * number
        frames.append(atoms)
    return frames


def frames_of(line):
    return fr.loads(line["frames"])


# --- evaluate and label ---


def test_evaluate(run_batch, evaluated):
    cells = crystals()
    done, lines, _ = run_batch("evaluate", cells, EVALUATE)
    assert done.returncode == 0, done.stderr
    for index, (energy, forces, virial) in enumerate(evaluated(cells, EMT())):
        assert lines[index]["status"] == "ok"
        (out,) = frames_of(lines[index])
        assert out.info["PRED_energy"] == pytest.approx(energy, abs=1e-7)
        assert np.allclose(out.arrays["PRED_forces"], forces, atol=1e-7)
        assert np.allclose(out.info["PRED_virial"], virial, atol=1e-7)
        assert out.arrays["PRED_local_energy"].sum() == pytest.approx(energy, abs=1e-6)


def test_label_without_virial_for_an_isolated_atom(run_batch):
    cells = crystals(2)
    atom = bulk("Cu", "sc", a=12.0)
    atom.info["config_type"] = "isolated_atom"
    done, lines, folder = run_batch("label", [*cells, atom], LABEL)
    assert done.returncode == 0, done.stderr
    (labelled,), (isolated,) = frames_of(lines[0]), frames_of(lines[2])
    assert {"REF_energy", "REF_virial"} <= set(labelled.info)
    assert "REF_virial" not in isolated.info
    assert "REF_energy" in isolated.info
    assert (folder / "summary.json").is_file()


def test_a_calculator_without_stress(run_batch):
    script = """
from ase.calculators.lj import LennardJones

class NoStress(LennardJones):
    implemented_properties = ["energy", "forces"]
"""
    settings = {**LABEL, "calculator": "nostress.NoStress"}
    _, lines, _ = run_batch("label", crystals(2), settings, extra={"nostress": script})
    assert lines[0]["status"] == "ok", lines
    assert "REF_virial" not in frames_of(lines[0])[0].info


def test_the_number_of_processes_changes_nothing(run_batch):
    cells = crystals()
    results = []
    for processes in (1, 3):
        _, lines, _ = run_batch("relax", cells, relax_settings(processes=processes, max_steps=8), name=f"p{processes}")
        results.append({index: (line["status"], line["frames"]) for index, line in lines.items()})
    assert results[0] == results[1]
    assert sorted(results[0]) == list(range(len(cells)))


# --- relaxation ---


def test_noise_in_the_last_bits_of_the_forces_changes_nothing(monkeypatch):
    """Compiled potentials repeat their forces to about 1e-15 only; a relaxation must not feel it."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from relax import LogCellFilter

    ways = []
    for seed in (1, 2):
        cell = bulk("Cu", a=3.7, cubic=True)
        cell.rattle(0.3, seed=3)
        cell.calc = NoisyEMT(seed)
        filtered = LogCellFilter(cell, scalar_pressure=0.01)
        LBFGS(filtered, logfile=None).run(fmax=1e-3, steps=40)
        ways.append((cell.positions.tolist(), cell.cell.tolist(), filtered.get_potential_energy()))
    assert ways[0] == ways[1]


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire", "cg"])
def test_the_relaxed_cell_bears_its_pressure(run_batch, evaluated, optimizer):
    cells = crystals(4)
    _, lines, _ = run_batch("relax", cells, relax_settings(optimizer=optimizer))
    for index, cell in enumerate(cells):
        assert lines[index]["status"] == "converged", lines[index]
        last = frames_of(lines[index])[-1]
        assert last.info["relax_status"] == "converged"
        ((energy, forces, virial),) = evaluated([last], EMT())
        stress = fr.stress_from_virial(virial, last.get_volume())
        assert np.allclose(-stress * 160.21766, cell.info["pressure_GPa"] * np.eye(3), atol=0.15)
        assert np.abs(forces).max() < 0.005
        assert last.info["PRED_energy"] == pytest.approx(energy, abs=1e-6)


def test_snapshots(run_batch):
    cells = crystals(4)[1::2]
    _, lines, _ = run_batch("relax", cells, relax_settings(snapshot_steps=[0, 3, 7], max_steps=10, fmax=1e-9))
    for index, cell in enumerate(cells):
        snapshots = frames_of(lines[index])
        assert lines[index]["status"] == "max_steps"
        assert [a.info["step"] for a in snapshots] == [0, 3, 7, 10]
        assert [a.info["relax_status"] for a in snapshots] == ["on_the_way"] * 3 + ["max_steps"]
        assert np.allclose(snapshots[0].positions, np.round(cell.positions, 6), atol=1e-10), "rounded to 1e-6 Å"
        energies = [a.info["PRED_energy"] + a.get_volume() * cell.info["pressure_GPa"] / 160.21766 for a in snapshots]
        assert energies[-1] < energies[0]


def test_the_last_step_is_not_kept_twice(run_batch):
    _, lines, _ = run_batch("relax", crystals(2)[1:], relax_settings(snapshot_steps=[10], max_steps=10, fmax=1e-9))
    assert [a.info["step"] for a in frames_of(lines[0])] == [10]


def test_steps_are_those_of_the_optimiser(run_batch):
    cell = crystals(2)[1]
    _, lines, _ = run_batch("relax", [cell], relax_settings(snapshot_steps=[4], max_steps=6))
    cell.calc = EMT()
    LBFGS(FrechetCellFilter(cell, scalar_pressure=2.0 / 160.21766), logfile=None).run(fmax=0.005, steps=4)
    ours = frames_of(lines[0])[0]
    # ASE's cell turns while it deforms, ours does not.
    assert np.allclose(ours.cell.cellpar(), cell.cell.cellpar(), atol=5e-5)
    assert np.allclose(ours.get_scaled_positions(), cell.get_scaled_positions(), atol=1e-6)


def test_collapsed_and_exploded_cells_are_given_up(run_batch):
    soft = crystals(1)[0]
    soft.info["pressure_GPa"] = 5000.0
    burst = crystals(1)[0]
    burst.set_cell(burst.cell * 0.9, scale_atoms=True)
    close = bulk("Cu", cubic=True)
    close.positions[1] = close.positions[0] + [0.4, 0, 0]
    settings = relax_settings(volume_factors=(0.6, 1.3), min_distance=0.8)
    _, lines, _ = run_batch("relax", [soft, burst, close], settings)
    assert lines[0]["status"] == "collapsed"
    assert frames_of(lines[0])[-1].info["relax_status"] == "collapsed"
    assert lines[1]["status"] == "exploded"
    assert lines[2]["status"] == "collapsed", "and not even begun"
    assert frames_of(lines[2]) == []


def test_time_limit(run_batch):
    cells = crystals(6)
    settings = {**mischief("relax", seconds=0.3), "time_limit_s": 2.0}
    done, lines, folder = run_batch("relax", cells, settings, extra={"mischief": MISCHIEF})
    assert done.returncode == 0, done.stderr
    assert 1 <= len(lines) < len(cells)
    assert {line["status"] for line in lines.values()} == {"time_limit"}
    assert all(frames_of(line)[-1].info["relax_status"] == "time_limit" for line in lines.values())
    assert '"complete": false' in (folder / "summary.json").read_text()


# --- trouble ---


def mixed(bad, n=5):
    cells = crystals(n)
    cells[2].symbols[0] = bad
    return cells


@pytest.mark.parametrize("task", ["label", "relax"])
def test_a_frame_that_fails_keeps_its_reason(run_batch, task):
    _, lines, _ = run_batch(task, mixed("Ag"), mischief(task), extra={"mischief": MISCHIEF})
    assert lines[2]["status"] == "failed: ValueError: not\nconverged"
    assert sum(line["status"].startswith("failed") for line in lines.values()) == 1


def test_a_result_that_is_no_number_is_a_failure(run_batch):
    _, lines, _ = run_batch("label", mixed("Pt"), mischief("label"), extra={"mischief": MISCHIEF})
    assert "not a finite number" in lines[2]["status"]
    assert [lines[i]["status"] for i in (0, 1, 3, 4)] == ["ok"] * 4


@pytest.mark.parametrize("task", ["label", "relax"])
def test_a_frame_that_kills_its_worker_is_given_up_alone(run_batch, task):
    done, lines, _ = run_batch(task, mixed("Au", 7), mischief(task), extra={"mischief": MISCHIEF})
    assert done.returncode == 0, done.stderr
    assert lines[2]["status"].startswith("failed: the worker process died")
    assert sorted(lines) == list(range(7))
    assert {lines[i]["status"] for i in range(7) if i != 2} == {"ok" if task == "label" else "converged"}


def test_a_calculator_that_cannot_be_made(run_batch):
    done, lines, _ = run_batch("label", crystals(), mischief("label", fail="raise"), extra={"mischief": MISCHIEF})
    assert done.returncode == 0, done.stderr
    assert {line["status"] for line in lines.values()} == {
        "failed: cannot set up the calculator: RuntimeError: no such\nparameter file"
    }
    assert len(lines) == 5


def test_an_unknown_calculator(run_batch):
    _, lines, _ = run_batch("label", crystals(2), {**LABEL, "calculator": "nowhere.Nothing"})
    assert lines[0]["status"] == "failed: cannot set up the calculator: ModuleNotFoundError: No module named 'nowhere'"


def test_a_calculator_that_kills_every_worker(run_batch):
    """A potential file that is not what it says makes quippy end the process."""
    done, lines, _ = run_batch("label", crystals(12), mischief("label", fail="exit"), extra={"mischief": MISCHIEF})
    assert done.returncode == 0, done.stderr
    assert sorted(lines) == list(range(12))
    assert all("the worker process died" in line["status"] for line in lines.values())
    tried = [line for line in lines.values() if "not tried" not in line["status"]]
    assert len(tried) < 8, "it is of no use to go on"


def start(tmp_path, cells, settings):
    folder = prepare_batch(tmp_path / "job", "relax", cells, settings, {"mischief": MISCHIEF})
    process = subprocess.Popen([sys.executable, "batch.py", "relax"], cwd=folder, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(read_complete(folder)) < 2:
        time.sleep(0.02)
    return folder, process


def read_complete(folder):
    text = (folder / "results.jsonl").read_text() if (folder / "results.jsonl").is_file() else ""
    return text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]


def children(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in out.split()]


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_results_survive_the_end_of_the_job(tmp_path, kill):
    cells = crystals(8)
    folder, process = start(tmp_path, cells, mischief("relax", seconds=0.02))
    workers = children(process.pid)
    assert process.poll() is None, "the job was to be killed in the middle"
    process.send_signal(kill)
    assert process.wait(60) != 0
    lines = read_lines(folder)
    assert 2 <= len(lines) < len(cells)
    for line in lines.values():
        assert line["status"] == "converged"
        assert frames_of(line)[-1].info["relax_status"] == "converged"
    assert not (folder / "summary.json").exists()
    for _ in range(500):
        if not any(alive(pid) for pid in workers):
            break
        time.sleep(0.02)
    else:
        pytest.fail("a worker outlived its job")


def test_a_job_that_is_begun_again_does_the_rest(run_batch, tmp_path):
    """And the end is that of one that was left alone; lines that were cut off count for nothing."""
    cells = crystals(8)
    folder, process = start(tmp_path, cells, mischief("relax", seconds=0.02))
    process.kill()
    process.wait(60)
    before = read_lines(folder)
    assert 2 <= len(before) < len(cells)
    with (folder / "results.jsonl").open("a") as handle:
        handle.write('{"index": 7, "status": "not reached: stopped", "seconds": 0, "cpu": 0, "frames": ""}\n{"index": 6, "sta')
    subprocess.run([sys.executable, "batch.py", "relax"], cwd=folder, check=True, capture_output=True)
    after = read_lines(folder)
    assert {index: after[index] for index in before} == before, "nothing is done twice"
    _, alone, _ = run_batch("relax", cells, mischief("relax"), "alone", {"mischief": MISCHIEF})
    assert {i: (x["status"], x["frames"]) for i, x in after.items()} == {i: (x["status"], x["frames"]) for i, x in alone.items()}
    assert json.loads((folder / "summary.json").read_text())["complete"]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as handle:
            return handle.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_number_of_cores(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    from batch import cores

    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "7")
    assert cores() == 7
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert cores() == 3
    monkeypatch.delenv("SLURM_CPUS_PER_TASK")
    monkeypatch.delenv("SLURM_CPUS_ON_NODE")
    assert cores() == len(os.sched_getaffinity(0))


#: What a calculator gives of one atom that is no label, by the element that makes it do so; and what is said of it.
WRONG = {
    "Ag": ("forces", "np.zeros((3, 3))", r"forces of shape \(3, 3\), expected \(1, 3\)"),
    "Au": ("forces", "np.zeros(3)", r"forces of shape \(3,\), expected \(1, 3\)"),
    "Pt": ("forces", "np.zeros((1, 3), complex)", "forces of type ndarray .complex128., expected real numbers"),
    "Pd": ("forces", "[['a', 'b', 'c']]", "forces of type list .<U1., expected real numbers"),
    "Ni": ("stress", "np.zeros(3)", r"stress of shape \(3,\), expected \(3, 3\)"),
    "Al": ("free_energy", "'low'", "energy of type str .<U3., expected real numbers"),
    "C": ("free_energy", "np.zeros(2)", r"energy of shape \(2,\), expected \(\)"),
}

WRONG_SCRIPT = """
import numpy as np
from ase.calculators.emt import EMT

class Wrong(EMT):
    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, **what):
        super().__init__()
        self.what = what

    def calculate(self, atoms, properties, system_changes):
        super().calculate(atoms, properties, system_changes)
        for name, value, _ in [self.what[s] for s in atoms.get_chemical_symbols() if s in self.what]:
            self.results[name] = eval(value)
"""


@pytest.mark.parametrize("task", ["label", "evaluate", "relax"])
def test_a_calculator_that_gives_something_else(run_batch, task):
    """The frame is refused with the reason, and no other frame suffers."""
    cells = crystals(2)
    for symbol in WRONG:
        cells.append(bulk("Cu", a=3.6))
        cells[-1].symbols = symbol
    base = relax_settings(max_steps=2, fmax=1e-9) if task == "relax" else {**LABEL, "local_energies": False, "variances": False}
    settings = {**base, "calculator": "wrong.Wrong", "arguments": WRONG}
    done, lines, _ = run_batch(task, cells, settings, extra={"wrong": WRONG_SCRIPT})
    assert done.returncode == 0, done.stderr
    assert [lines[index]["status"] for index in (0, 1)] == ["max_steps" if task == "relax" else "ok"] * 2
    for index, (_, _, reason) in enumerate(WRONG.values(), start=2):
        assert lines[index]["status"].startswith("failed: "), lines[index]
        assert lines[index]["frames"] == ""
        if task != "relax":  # there, ASE's filter stumbles over it first
            assert re.search(reason, lines[index]["status"]), lines[index]["status"]


# --- a program for every frame ---

PLACES = {"folder": "frames/{index}", "packed": "raw/{index}.zip"}

#: Names of frames that lead elsewhere, where they are taken for names of files.
NASTY = (
    "..",
    "/tmp/gaprss-elsewhere",
    "../../gaprss-elsewhere",
    "~",
    "-rf",
    "a b",
    "x" * 300,
    "$(touch gaprss-elsewhere)",
    ".",
    "a/b",
)


def test_program(run_batch):
    frames = crystals(4)
    command = 'echo "ran in $(basename $PWD)"; touch large; [ $(basename $PWD) != 2 ] || { echo "no memory" >&2; exit 7; }'
    settings = {"command": command, "output": "out.txt", "keep": ["out.txt"], **PLACES, "processes": 2}
    inputs = {f"frames/{number}/in.txt": "" for number in range(4)}
    done, lines, folder = run_batch("program", frames, settings, files=inputs)
    assert done.returncode == 0, done.stderr
    assert [lines[index]["status"] for index in range(4)] == ["ok", "ok", "ended with status 7: no memory", "ok"]
    with zipfile.ZipFile(folder / "raw" / "3.zip") as archive:
        assert archive.namelist() == ["out.txt"], "what is not named is not kept"
        assert archive.read("out.txt") == b"ran in 3\n"
    assert not (folder / "frames" / "3").exists(), "the scratch is cleared"


def test_names_of_frames_lead_nowhere(run_batch, tmp_path):
    frames = crystals(len(NASTY))
    for atoms, name in zip(frames, NASTY, strict=True):
        atoms.info["frame_id"] = name
    settings = {"command": "pwd", "output": "out.txt", "keep": ["out.txt"], **PLACES, "processes": 2}
    inputs = {f"frames/{number}/in.txt": "" for number in range(len(NASTY))}
    done, lines, folder = run_batch("program", frames, settings, files=inputs)
    assert done.returncode == 0, done.stderr
    assert {line["status"] for line in lines.values()} == {"ok"}
    assert [lines[index]["frame"] for index in range(len(NASTY))] == list(NASTY)
    for number in range(len(NASTY)):
        with zipfile.ZipFile(folder / "raw" / f"{number}.zip") as archive:
            assert archive.read("out.txt").decode() == f"{folder / 'frames' / str(number)}\n"
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert not list((folder / "frames").iterdir())
    assert sorted(path.name for path in (folder / "raw").iterdir()) == sorted(f"{n}.zip" for n in range(len(NASTY)))


def test_a_program_that_is_still_running_when_the_time_is_up(run_batch):
    frames = crystals(1)
    settings = {"command": "sleep 600; touch done.txt", "output": "out.txt", "keep": [], **PLACES, "time_limit_s": 2.0}
    _, lines, _ = run_batch("program", frames, settings, files={"frames/0/in.txt": ""})
    assert lines[0]["status"].startswith("not reached")


def test_a_program_that_was_stopped_begins_anew(tmp_path):
    """Not from what it has left; and a frame that was packed is done, even if nobody knows."""
    frames = crystals(2)
    command = (
        "cat in.txt wave sub/wave 2>/dev/null; mkdir sub; echo old | tee wave > sub/wave; [ ! -e ../../slow ] || sleep 5; true"
    )
    settings = {"command": command, "output": "out.txt", "keep": ["out.txt"], **PLACES, "processes": 1}
    folder = prepare_batch(tmp_path / "job", "program", frames, settings)
    for path in ("frames/0", "frames/1"):
        (folder / path).mkdir(parents=True)
        (folder / path / "in.txt").write_text("in\n")
    (folder / "slow").touch()
    process = subprocess.Popen([sys.executable, "batch.py", "program"], cwd=folder, stdout=subprocess.DEVNULL)
    while not list(folder.glob("frames/*/sub/wave")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait(60)
    (folder / "slow").unlink()
    for _ in range(2):
        subprocess.run([sys.executable, "batch.py", "program"], cwd=folder, check=True, capture_output=True)
        assert [line["status"] for _, line in sorted(read_lines(folder).items())] == ["ok", "ok"]
        for name in (0, 1):
            with zipfile.ZipFile(folder / "raw" / f"{name}.zip") as archive:
                assert archive.read("out.txt") == b"in\n"
        (folder / "results.jsonl").unlink()
