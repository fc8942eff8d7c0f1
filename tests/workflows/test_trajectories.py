"""Molecular dynamics by the program of a reference: a real pw.x, whole, cut off by its time, killed; and what is refused."""

import importlib.util
import re
import shutil

import numpy as np
import pytest
from aiida.orm import Dict, Float, load_node
from ase import units
from ase.build import bulk
from helpers import silicon_and_carbon

from aiida_gaprss.campaign.cost import calibrated, sizes_of
from aiida_gaprss.cli.environment import PW_PREPEND
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.settings.jobs import ReferenceMdSettings
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.workflows.build import BuildWorkChain
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.trajectories import TrajectoriesWorkChain

HOT = {"kind": "md", "by": "reference", "temperatures_K": [900.0], "supercell": [1, 1, 1], "equilibration_ps": 0.008}
HOT |= {"snapshots": 3, "every_ps": 0.004, "timestep_fs": 2.0, "md_kpoint_spacing": "gamma"}


def crystals(**named):
    for name, atoms in named.items():
        atoms.info = {"frame_id": name}
    return Dataset(list(named.values()), level_of_theory="unlabelled")


def carbide():
    """Two kinds of atoms in an order that codes do not keep."""
    atoms = bulk("SiC", "zincblende", 4.36)[[1, 0]]
    atoms.rattle(0.05, seed=1)
    return atoms


def total_energies(frames):
    """Return energies with those of the motion of 3N - 3 coordinates, eV."""
    return np.array([a.info["PRED_energy"] + 1.5 * (len(a) - 1) * units.kB * a.info["temperature_K"] for a in frames])


@pytest.fixture
def espresso(code_here, tmp_path):
    return {
        "code": code_here("pw-real", shutil.which("pw.x"), "quantumespresso.pw", PW_PREPEND),
        "pseudos": silicon_and_carbon(tmp_path),
        "parameters": Dict({"SYSTEM": {"ecutwfc": 20.0}, "ELECTRONS": {"conv_thr": 1e-9}}),
        "kpoint_spacing": Float(0.2),
    }


@pytest.fixture
def espresso_ports(code_here, python_code):
    code = code_here("pw-none", python_code.filepath_executable, "quantumespresso.pw")
    return {"code": code, "pseudos": {}, "parameters": Dict({"SYSTEM": {"ecutwfc": 20.0}}), "kpoint_spacing": Float(0.2)}


#: Runs pw.x until it has made so many steps, then lets it stop by itself as if its time were up, or kills it.
MORTAL = """#!/bin/bash
deaths=$(cat {count} 2>/dev/null || echo 0)
if [ "$deaths" -ge {times} ]; then exec {pw} "$@"; fi
echo $((deaths + 1)) > {count}
if [ {how} = once ] && [ "$deaths" -gt 0 ]; then exit 1; fi
{pw} "$@" > said &
while kill -0 $! 2>/dev/null; do
  if [ "$(grep -c 'Entering Dynamics' said)" -ge {steps} ]; then
    if [ {how} = stop ]; then touch aiida.EXIT; else kill -KILL $!; fi
  fi
  sleep 0.01
done
rm -f aiida.EXIT
sed 's/Program stopped by user request/Maximum CPU time exceeded/' said
"""


@pytest.fixture
def mortal_pw(code_here, tmp_path):
    """Return a pw.x that the first so many times comes not to its end."""

    def mortal_pw(how, steps, times=1):
        script, pw = tmp_path / f"pw_{how}_{steps}", shutil.which("pw.x")
        script.write_text(MORTAL.format(how=how, steps=steps, times=times, pw=pw, count=tmp_path / f"deaths_{how}_{steps}"))
        script.chmod(0o755)
        return code_here(f"{script.name}-{tmp_path.name}", str(script), "quantumespresso.pw", PW_PREPEND)

    return mortal_pw


@pytest.fixture
def trajectory(run, espresso):
    def trajectory(atoms, reference=espresso, **settings):
        task = ReferenceMdSettings(**{"snapshot_every": 1, "kpoint_spacing": "gamma", **settings}).model_dump()
        outputs, node = run(
            TrajectoriesWorkChain, frames=crystals(a=atoms), tasks=Dict({"a": task}), quantumespresso=reference, max_concurrent=1
        )
        return outputs["frames"].get_frames() if "frames" in outputs else [], node

    return trajectory


needs_pw = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("pw.x") is None, reason="pw.x is not installed (Debian: apt-get install quantum-espresso)"),
    pytest.mark.skipif(importlib.util.find_spec("aiida_quantumespresso") is None, reason="needs pip install 'aiida-gaprss[qe]'"),
]


class TestPw:
    pytestmark = needs_pw

    def test_energies_belong_to_positions_and_temperatures(self, run, trajectory, espresso):
        """What is said of a snapshot is what pw.x says of it alone, and the total energy stays as it is (velocity Verlet)."""
        parameters = Dict({"SYSTEM": {"ecutwfc": 24.0}, "ELECTRONS": {"conv_thr": 1e-10}})
        reference = espresso | {"parameters": parameters}
        frames, node = trajectory(
            carbide(), reference, ensemble="nve", steps=12, temperature_K=800.0, timestep_fs=1.0, kpoint_spacing=0.2
        )
        assert node.is_finished_ok, node.exit_message
        assert [a.info["step"] for a in frames] == list(range(13))
        assert frames[0].info["temperature_K"] == pytest.approx(800)
        assert np.allclose(frames[0].positions, carbide().positions)
        assert frames[5].info["time_ps"] == 0.005
        assert frames[5].get_chemical_symbols() == ["C", "Si"]
        total, potential = total_energies(frames), np.array([a.info["PRED_energy"] for a in frames])
        assert np.ptp(potential) > 0.02
        assert np.ptp(total) < 0.05 * np.ptp(potential)
        chosen = crystals(**{f"s{n}": frames[n].copy() for n in (0, 7)})
        outputs, _ = run(LabelWorkChain, frames=chosen, quantumespresso=reference, reuse=False)
        for alone in outputs["frames"].get_frames():
            there = frames[int(alone.info["frame_id"][1:])]
            assert there.info["PRED_energy"] == pytest.approx(alone.info["REF_energy"], abs=2e-4)
            assert np.allclose(there.arrays["PRED_forces"], alone.arrays["REF_forces"], atol=3e-3)

    def test_what_stops_in_time_goes_on(self, trajectory, espresso, mortal_pw):
        """With its velocities: the total energy is the same all along; no step is made twice."""
        reference = espresso | {"code": mortal_pw("stop", 4, times=2)}
        frames, node = trajectory(carbide(), reference, ensemble="nve", steps=11, temperature_K=800.0)
        assert node.is_finished_ok, node.exit_message
        assert [a.info["step"] for a in frames] == list(range(12))
        assert {a.info["md_status"] for a in frames[:-1]} == {"on_the_way"}
        assert (frames[-1].info["md_status"], frames[-1].info["md_end_step"]) == ("finished", 11)
        assert np.ptp(total_energies(frames)) < 0.05 * np.ptp([a.info["PRED_energy"] for a in frames])
        moved = np.diff([a.positions for a in frames], axis=0)
        assert np.abs(np.diff(moved, axis=0)).max() < 0.5 * np.abs(moved).max(), "smooth, also where it went on"
        jobs = parts(node)
        assert len(jobs) == 3
        assert sum(counted(job) for job in jobs) == 12
        assert ["parent_folder" in job.inputs for job in jobs] == [False, True, True]

    def test_what_is_killed_loses_nothing(self, trajectory, espresso, mortal_pw):
        """Its steps are kept, and the next process goes on from there, with velocities of its own."""
        reference = espresso | {"code": mortal_pw("kill", 4)}
        frames, node = trajectory(carbide(), reference, steps=8, temperature_K=800.0)
        assert node.is_finished_ok, node.exit_message
        assert [a.info["step"] for a in frames] == list(range(9))
        jobs = parts(node)
        assert len(jobs) == 2
        assert "parent_folder" not in jobs[1].inputs
        there = counted(jobs[0])
        away = np.linalg.norm(frames[there].positions - frames[there - 1].positions)
        assert 0 < away < 0.2, "Å: the next step, not the beginning"

    def test_what_comes_no_further_is_told(self, trajectory, espresso, mortal_pw):
        frames, node = trajectory(carbide(), espresso | {"code": mortal_pw("kill", 0, times=9)}, steps=3)
        assert node.exit_status == TrajectoriesWorkChain.exit_codes.ERROR_NOTHING.status
        assert not frames
        frames, node = trajectory(carbide(), espresso | {"code": mortal_pw("once", 2, times=9)}, steps=6)
        assert node.exit_status == TrajectoriesWorkChain.exit_codes.ERROR_INCOMPLETE.status
        assert re.search(r"a \(\d of 7 frames\)", node.exit_message), node.exit_message
        assert frames[-1].info["md_status"] == "interrupted"
        assert frames[-1].info["md_end_step"] == len(frames) - 1 < 6

    def test_a_database_of_the_reference_alone(self, run, espresso):
        """Trajectories at Γ, their snapshots calculated anew with the k-points of the reference."""
        silicon = {**espresso, "pseudos": {"Si": espresso["pseudos"]["Si"]}}
        label = {"quantumespresso": silicon, "max_concurrent": 1, "reuse": False}
        assert calibrated(label) is None
        outputs, node = run(
            BuildWorkChain,
            settings=Dict(StrategyList(strategies={"hot": HOT}).model_dump()),
            crystals=crystals(diamond=bulk("Si", a=5.43)),
            label=label,
        )
        assert node.is_finished_ok, node.exit_message
        frames = outputs["datasets"]["hot"].get_frames()
        assert [a.info["step"] for a in frames] == [6, 8, 10]
        assert [a.info["time_ps"] for a in frames] == [0.012, 0.016, 0.02]
        for atoms in frames:
            assert atoms.info["label_status"] == "ok"
            assert atoms.info["parent"].startswith("hot-diamond-0000-")
            assert (atoms.info["config_type"], atoms.info["parameters"]) == ("hot", "900 K")
            assert abs(atoms.info["PRED_energy"] - atoms.info["REF_energy"]) > 0.1, "of Γ and of a mesh"
            job = load_node(atoms.info["label_uuid"])
            assert job.inputs.kpoints.get_kpoints_mesh()[0] != [1, 1, 1]
        (moved,) = parts(node, "md")
        assert moved.inputs.kpoints.get_kpoints_mesh()[0] == [1, 1, 1]
        assert node.outputs.results["strategies"]["hot"]["labelled"] == 3
        seconds = [job.outputs.output_parameters["wall_time_seconds"] for job in parts(node, "scf")]
        model = calibrated(label)
        assert (model.times, model.smallest, model.largest) == (3, 2, 2)
        assert model.predict(sizes_of(frames[:1], 0.2))[0] == pytest.approx(np.median(seconds)), "by what pw.x says of itself"


def parts(node, kind="md"):
    """Return the calculations of pw.x of a kind that a process has called, in their order."""
    jobs = [job for job in node.called_descendants if job.process_label == "PwCalculation"]
    return sorted((job for job in jobs if job.inputs.parameters["CONTROL"]["calculation"] == kind), key=lambda job: job.pk)


def counted(job):
    """Return how many steps pw.x has made."""
    return job.outputs.retrieved.base.repository.get_object_content("aiida.out").count("Entering Dynamics")


# --- what is refused ---


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"ensemble": "npt_mtk"}, "ensemble is npt_mtk, expected one of nve, nvt_langevin, nvt_berendsen with by: reference"),
        ({"by": "potential", "md_kpoint_spacing": 0.1}, "a potential has no k-points"),
        ({"by": "dft"}, "Input should be 'potential' or 'reference'"),
    ],
)
def test_settings_that_are_wrong(strategy, message):
    with pytest.raises(ValueError, match=message):
        StrategyList(strategies={"hot": {**HOT, **strategy}})


def test_references_that_cannot(run, code_here, python_code, sw_settings):
    def build(**label):
        settings = Dict(StrategyList(strategies={"hot": HOT}).model_dump())
        run(
            BuildWorkChain,
            settings=settings,
            crystals=crystals(diamond=bulk("Si", a=5.43)),
            **({"label": label} if label else {}),
        )

    with pytest.raises(ValueError, match=r"strategies\.hot: md is to be run by the reference .*but there is no reference"):
        build()
    with pytest.raises(ValueError, match=r"an ASE calculator runs in a job of gaprss\.md: give it as calculator"):
        build(ase={"code": python_code, "settings": Dict(sw_settings)})
    code = code_here("castep-none", python_code.filepath_executable, "castep.castep")
    castep = {"code": code, "parameters": Dict({"cut_off_energy": 300}), "kpoint_spacing": Float(0.05), "pseudos": {}}
    with pytest.raises(ValueError, match=r"castep runs no molecular dynamics .*references that do: quantumespresso"):
        build(castep=castep)


def test_tasks_that_are_wrong(run, espresso_ports):
    ports = TrajectoriesWorkChain.spec().inputs
    for tasks, message in (({"a": {"steps": 0}}, "a: .*greater than 0"), ({"b": {}}, "tasks: no settings for a")):
        given = {"frames": crystals(a=carbide()), "tasks": Dict(tasks), "quantumespresso": espresso_ports}
        error = ports.validate(ports.pre_process(given))
        assert re.search(message, error.message, flags=re.S), error.message
