"""Labelling with a real pw.x that is made to fail: what is lost, what is repeated, what the table of failures says."""

import importlib.util
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import Dict, Float, Int, List, Log, load_node
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.cli.environment import PW_PREPEND
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.settings.computer import MAX_JOBS
from aiida_gaprss.workflows import lanes as lane_module
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.lanes import result_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "boron_qe"
PW = shutil.which("pw.x")

pytestmark = [
    pytest.mark.usefixtures("all_calculated"),
    pytest.mark.slow,
    pytest.mark.skipif(PW is None, reason="pw.x is not installed (Debian: apt-get install quantum-espresso)"),
    pytest.mark.skipif(importlib.util.find_spec("aiida_quantumespresso") is None, reason="needs pip install 'aiida-gaprss[qe]'"),
]

#: Cells are told apart by the z component of their first vector, which is tiny: 0.0001 Å and so on.
WAYS = {"scf_limit": 0.0001, "wall_time": 0.0002, "killed": 0.0003, "unreadable": 0.0004}

#: A pw.x that does to a cell what its first vector says.
FAULTY = f"""#!/bin/bash
# Called as: faulty -in aiida.in > aiida.out
input=$2
vector=$(grep -A1 CELL_PARAMETERS $input | tail -1)
case "$vector" in
    *0.0001*) sed -i 's/electron_maxstep *=.*/electron_maxstep = 1/' $input; exec {PW} -in $input ;;
    *0.0002*) sed -i "s/max_seconds *=.*/max_seconds = 1.0/; s/conv_thr *=.*/conv_thr = 1d-30/" $input
              sed -i "s/electron_maxstep *=.*/electron_maxstep = 5000/" $input
              exec {PW} -in $input ;;
    *0.0003*) {PW} -in $input & sleep 0.3; kill -9 $!; exit 137 ;;
    *0.0004*) {PW} -in $input > /dev/null; rm -rf out/*.save/*.xml out/*.xml; head -c 4000 /dev/urandom; exit 0 ;;
    *) exec {PW} -in $input ;;
esac
"""


@pytest.fixture
def espresso(code_here, tmp_path):
    """Inputs of a coarse but real calculation of boron; mend ``code`` to be faulty."""
    from aiida_pseudo.data.pseudo.upf import UpfData

    subprocess.run([sys.executable, EXAMPLE / "make_pseudopotential.py", tmp_path], check=True, capture_output=True)
    with next(tmp_path.glob("*.UPF")).open("rb") as handle:
        pseudo = UpfData(handle)
    faulty = tmp_path / "faulty"
    faulty.write_text(FAULTY)
    faulty.chmod(0o755)
    system = {"ecutwfc": 20.0, "ecutrho": 120.0, "occupations": "smearing", "smearing": "mv", "degauss": 0.05}
    return {
        "code": code_here(f"faulty-{tmp_path.name}", faulty, "quantumespresso.pw", PW_PREPEND),
        "pseudos": {"B": pseudo},
        "parameters": Dict({"SYSTEM": system, "ELECTRONS": {"conv_thr": 1e-7, "electron_maxstep": 100, "mixing_beta": 0.4}}),
        "kpoint_spacing": Float(0.4),
        "max_iterations": Int(1),
        "options": Dict({"max_wallclock_seconds": 600}),
    }


def boron(number, way=None):
    """A two-atom cell, another one for every number; ``way`` marks it for the faulty program."""
    rng = np.random.default_rng(number)
    cell = np.diag(rng.uniform(2.9, 3.2, 3))
    cell[0, 2] = WAYS.get(way, 0.0)
    atoms = Atoms("B2", scaled_positions=[(0, 0, 0), 0.5 + rng.uniform(-0.05, 0.05, 3)], cell=cell, pbc=True)
    if way == "absurd":
        atoms.positions[1] = atoms.positions[0] + [0.1, 0, 0]
    atoms.info.update(frame_id=f"b-{number:02d}", config_type="random")
    return atoms


def calculations(node):
    """Return how often each frame was calculated (the plugin itself may restart pw.x within one)."""
    found = Counter()
    for process in node.called_descendants:
        if process.process_label == "PwBaseWorkChain":
            found[process.inputs.pw.structure.label] += 1
    return found


class TwiceLabelWorkChain(LabelWorkChain):
    """Submits its lanes twice, as when a worker ends before it has told that it has done so."""

    def run_lanes(self):
        super().run_lanes()
        self._awaitables.clear()
        self.ctx.rounds -= 1
        super().run_lanes()


def test_lanes_submitted_by_a_step_done_twice(run, espresso):
    outputs, node = run(
        TwiceLabelWorkChain,
        frames=Dataset([boron(n) for n in range(3)]),
        quantumespresso=espresso,
        max_concurrent=2,
        reuse=False,
    )
    assert node.is_finished_ok, node.exit_message
    assert all(fr.is_labelled(atoms) for atoms in outputs["frames"].get_frames())
    lanes = [child for child in node.called if child.process_label == "LabelLaneWorkChain"]
    assert len(lanes) == 2
    assert len({lane.inputs.queue.uuid for lane in lanes}) == 1
    assert set(calculations(node).values()) == {1}, "no frame is calculated twice"


@pytest.mark.parametrize(
    ("number", "faults"),
    [
        (8, {1: "scf_limit", 2: "wall_time", 4: "killed", 5: "unreadable", 7: "absurd"}),
        pytest.param(
            60,
            {3: "scf_limit", 14: "wall_time", 25: "killed", 36: "unreadable", 47: "absurd", 58: "scf_limit"},
            marks=pytest.mark.full,
        ),
    ],
    ids=["eight", "sixty"],
)
def test_labels_of_which_some_fail(run, espresso, number, faults):
    frames = [boron(n, faults.get(n)) for n in range(number)]
    options = {"max_failed_fraction": 0.2 if number == 60 else 0.7}
    outputs, node = run(LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, max_concurrent=2, **options)
    assert node.is_finished_ok, node.exit_message
    labelled = outputs["frames"].get_frames()
    assert [a.info["frame_id"] for a in labelled] == [a.info["frame_id"] for a in frames]
    reasons = {n: a.info["label_status"] for n, a in enumerate(labelled) if not fr.is_labelled(a)}
    assert set(reasons) == set(faults), f"those and no others: {reasons}"
    for n, fault in faults.items():
        words = {
            "scf_limit": ["not reach self-consistency"],
            "wall_time": ["ran out of walltime"],
            "absurd": ["absurd", "0.100 Å"],
            "killed": ["output files could not be read"],
        }
        assert all(word in reasons[n] for word in words.get(fault, ())), reasons[n]
        if fault == "unreadable":
            assert "UnicodeDecodeError" in reasons[n] or "could not be read" in reasons[n], reasons[n]
    absurd = next(n for n, fault in faults.items() if fault == "absurd")
    count = calculations(node)
    assert all(count[f"b-{n:02d}"] == 1 for n in range(number) if n not in faults), "none was repeated"
    assert count[f"b-{absurd:02d}"] == 0, "no calculation is spent on an absurd cell"

    # Once more, with what is known: only the failed ones are calculated again.
    outputs, node = run(
        LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, known={"before": outputs["frames"]}, **options
    )
    assert set(calculations(node)) == {f"b-{n:02d}" for n in faults if n != absurd}
    again = outputs["frames"].get_frames()
    assert fr.dumps(a for a in again if fr.is_labelled(a)) == fr.dumps(a for a in labelled if fr.is_labelled(a))


def test_a_retry_with_other_settings(run, espresso):
    parameters = espresso["parameters"].get_dict()
    parameters["ELECTRONS"]["electron_maxstep"] = 3
    retries = List([{"electrons": {"electron_maxstep": 80}}])
    espresso |= {"parameters": Dict(parameters), "retries": retries}
    outputs, node = run(LabelWorkChain, frames=Dataset([boron(0)]), quantumespresso=espresso)
    assert node.is_finished_ok, node.exit_message
    (frame,) = outputs["frames"].get_frames()
    assert fr.is_labelled(frame)
    assert frame.info["label_attempt"] == 2
    calculation = load_node(frame.info["label_uuid"])
    assert calculation.inputs.parameters.get_dict()["ELECTRONS"]["electron_maxstep"] == 80


def test_too_many_failures_end_it_early(run, espresso):
    frames = [boron(number, "unreadable") for number in range(12)]
    outputs, node = run(
        LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, max_concurrent=1, max_failed_fraction=0.1
    )
    assert node.exit_code.status == LabelWorkChain.exit_codes.ERROR_NOTHING_LABELLED.status
    assert len(calculations(node)) == 2, "one failure may be, the second is one too many"
    status = Counter(a.info["label_status"] for a in outputs["frames"].get_frames())
    assert status["failed: not tried: too many others failed"] == 10


def test_a_lane_that_breaks_down_loses_nothing(run, espresso, monkeypatch):
    calls = []

    def breaks_once(process, *asked):
        calls.append(process.pk)
        if len(calls) == 2:
            raise RuntimeError("the disk is full")
        return result_of(process, *asked)

    monkeypatch.setattr(lane_module, "result_of", breaks_once)
    frames = [boron(number) for number in range(3)]
    outputs, node = run(LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, max_concurrent=1)
    assert node.is_finished_ok, node.exit_message
    lanes = [child for child in node.called if child.process_label == "LabelLaneWorkChain"]
    assert [lane.is_excepted for lane in sorted(lanes, key=lambda lane: lane.pk)] == [True, False]
    assert all(fr.is_labelled(a) for a in outputs["frames"].get_frames())
    assert set(calculations(node).values()) == {1}, "what the broken lane had finished is not repeated"


def test_labels_at_another_level_are_not_taken_for_known(espresso, dataset):
    from aiida.engine import run as run_process

    with pytest.raises(ValueError, match=r"known\.sw is at another level of theory: .* 'Stillinger-Weber'"):
        run_process(LabelWorkChain, frames=Dataset([boron(0)]), quantumespresso=espresso, known={"sw": dataset})


def test_a_lane_waits_for_its_turn(run, espresso, aiida_localhost):
    """Of two lanes one may begin; the other finds nothing left when its turn has come."""
    aiida_localhost.set_property(MAX_JOBS, 1)
    try:
        frames = [boron(number) for number in range(3)]
        outputs, node = run(LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, max_concurrent=2)
    finally:
        aiida_localhost.set_property(MAX_JOBS, None)
    assert node.is_finished_ok, node.exit_message
    assert all(fr.is_labelled(a) for a in outputs["frames"].get_frames())
    first, second = sorted((lane for lane in node.called if lane.process_label == "LabelLaneWorkChain"), key=lambda lane: lane.pk)
    assert len(first.called) > 0
    assert not any(process.process_label == "PwBaseWorkChain" for process in second.called)
    assert any(f"waits for lane <{first.pk}>" in log.message for log in Log.collection.get_logs_for(second))
    times = sorted((c.ctime, c.mtime) for c in node.called_descendants if c.process_label == "PwBaseWorkChain")
    assert all(end <= begin for (_, end), (begin, _) in pairwise(times)), "never two at one time"


def bundles(node):
    """The jobs in which many frames were calculated."""
    jobs = [child for child in node.called_descendants if child.process_label == "BundleCalculation"]
    return sorted(jobs, key=lambda job: job.pk)


def test_lanes_draw_bundles(run, espresso, python_code):
    """Two lanes do three bundles; failed frames are tried again with other settings, by the lane that had them."""
    parameters = espresso["parameters"].get_dict()
    parameters["ELECTRONS"]["electron_maxstep"] = 6  # enough for some
    espresso |= {"parameters": Dict(parameters), "retries": List([{"ELECTRONS": {"electron_maxstep": 100}}])}
    frames = [boron(number) for number in range(6)]
    outputs, node = run(
        LabelWorkChain,
        frames=Dataset(frames),
        quantumespresso=espresso,
        max_concurrent=2,
        bundle={"code": python_code, "frames_per_job": 2, "metadata": {"options": {"processes": 1}}},
    )
    assert node.is_finished_ok, node.exit_message
    labelled = outputs["frames"].get_frames()
    assert [a.info["frame_id"] for a in labelled] == [a.info["frame_id"] for a in frames]
    assert all(fr.is_labelled(a) for a in labelled)
    jobs = bundles(node)
    first = [job for job in jobs if job.inputs.attempt.value == 0]
    names = [a.info["frame_id"] for job in first for a in job.inputs.frames.get_frames()]
    assert sorted(names) == sorted(a.info["frame_id"] for a in frames), "each once, two in a job"
    assert len(first) == 3
    assert len({job.caller.pk for job in first}) == 2
    again = {a.info["frame_id"] for job in jobs if job.inputs.attempt.value == 1 for a in job.inputs.frames.get_frames()}
    assert again == {a.info["frame_id"] for a in labelled if a.info.get("label_attempt") == 2}
    assert again, "six steps were enough for all of them"


def test_a_bundle_that_is_cut_off(run, espresso, dying_python):
    """Its finished frames count; another job does the rest."""
    frames = [boron(number) for number in range(4)]
    bundle = {"code": dying_python(2), "metadata": {"options": {"processes": 1}}}
    outputs, node = run(LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, bundle=bundle)
    assert node.is_finished_ok, node.exit_message
    labelled = outputs["frames"].get_frames()
    assert [a.info["frame_id"] for a in labelled if fr.is_labelled(a)] == [a.info["frame_id"] for a in frames]
    first, second = bundles(node)
    assert Counter(a.info["label_uuid"] for a in labelled)[first.uuid] >= 2
    assert first.inputs.frames.n_frames == 4
    assert second.inputs.frames.n_frames == Counter(a.info["label_uuid"] for a in labelled)[second.uuid]


@pytest.mark.parametrize(("number", "least"), [(4, 2), pytest.param(8, 3, marks=pytest.mark.full)])
def test_jobs_that_are_too_short_for_their_bundle(run, espresso, python_code, code_here, tmp_path, number, least):
    """Each does what it has the time for; what was stopped in the middle goes to the next one, as often as it takes."""
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/bash\nsleep 6\nexec {PW} "$@"\n')
    slow.chmod(0o755)
    frames = [boron(n) for n in range(number)]
    outputs, node = run(
        LabelWorkChain,
        frames=Dataset(frames),
        quantumespresso=espresso | {"code": code_here(f"slow-{tmp_path.name}", slow, "quantumespresso.pw", PW_PREPEND)},
        max_concurrent=1,
        bundle={"code": python_code, "metadata": {"options": {"processes": 1, "max_wallclock_seconds": 20}}},
    )
    assert node.is_finished_ok, node.exit_message
    labelled = outputs["frames"].get_frames()
    assert [a.info["frame_id"] for a in labelled if fr.is_labelled(a)] == [a.info["frame_id"] for a in frames]
    jobs = bundles(node)
    assert len(jobs) >= least
    assert len({job.caller.pk for job in jobs}) == 1, "no lane gave up"
    assert all(Counter(a.info["label_uuid"] for a in labelled)[job.uuid] for job in jobs), "no job was for nothing"


def test_bundles_that_give_nothing(run, espresso, code_here):
    """After three jobs of a lane there is no hope, and no other frame is begun."""
    code = code_here("no-python", "/bin/false", "gaprss.label")
    frames = [boron(number) for number in range(4)]
    bundle = {"code": code, "frames_per_job": 1}
    _, node = run(LabelWorkChain, frames=Dataset(frames), quantumespresso=espresso, bundle=bundle, max_concurrent=1)
    assert node.exit_status == LabelWorkChain.exit_codes.ERROR_NOTHING_LABELLED.status
    assert "its job gave nothing" in node.exit_message
    assert len(bundles(node)) == 3


def test_bundled_frames_get_the_same_labels(run, espresso, python_code):
    frames = [boron(0), boron(7, "unreadable"), boron(1), boron(2), Atoms("B", cell=[6] * 3, pbc=True)]
    frames[4].info.update(frame_id="atom", config_type="isolated_atom")
    dataset = Dataset(frames)
    bundle = {"code": python_code, "frames_per_job": 3, "metadata": {"options": {"processes": 2}}}
    outputs, node = run(LabelWorkChain, frames=dataset, quantumespresso=espresso, bundle=bundle, max_failed_fraction=0.5)
    assert node.is_finished_ok, node.exit_message
    assert len(bundles(node)) == 2
    one_by_one, _ = run(LabelWorkChain, frames=dataset, quantumespresso=espresso, max_failed_fraction=0.5)
    assert outputs["frames"].level_of_theory == one_by_one["frames"].level_of_theory
    for index, (ours, theirs) in enumerate(zip(outputs["frames"].get_frames(), one_by_one["frames"].get_frames(), strict=True)):
        assert ours.info["frame_id"] == theirs.info["frame_id"]
        assert fr.is_labelled(ours) == fr.is_labelled(theirs) == (ours.info["frame_id"] != "b-07"), ours.info["label_status"]
        if not fr.is_labelled(ours):
            continue
        # The plugin converts with a Rydberg of its own, smaller by 1e-7 of it, and pw.x prints 8 decimals of a force in Ry/bohr.
        assert ours.info["REF_energy"] == pytest.approx(theirs.info["REF_energy"], rel=1.5e-7)
        assert np.allclose(ours.arrays["REF_forces"], theirs.arrays["REF_forces"], rtol=1e-6, atol=1e-6)
        assert ("REF_virial" in ours.info) == ("REF_virial" in theirs.info) == (len(ours) > 1)
        if len(ours) > 1:
            assert np.allclose(ours.info["REF_virial"], theirs.info["REF_virial"], rtol=1e-6, atol=1e-4)
        job = load_node(ours.info["label_uuid"])
        assert f"{index % 3:05d}.zip" in job.outputs.retrieved.base.repository.list_object_names("raw")
