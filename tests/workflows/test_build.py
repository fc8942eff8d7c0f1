"""Databases: every strategy has a dataset, every structure is labelled once, and what fails takes nothing else with it."""

import sys

import numpy as np
import pytest
from aiida.orm import CalcJobNode, Dict
from ase.build import bulk
from helpers import label

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.md import MdCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.workflows.build import BuildWorkChain

WAVES = {"kind": "nondiagonal", "grid": [2, 2, 2], "volumes": [1.0], "copies": 1}
MD = {"kind": "md", "temperatures_K": [300.0], "snapshots": 3, "every_ps": 0.01, "equilibration_ps": 0.01}


def crystals(**named):
    for name, atoms in named.items():
        atoms.info = {"frame_id": name}
    return Dataset(named.values(), level_of_theory="unlabelled")


@pytest.fixture
def build(run, python_code, sw_settings):
    """Build a database of silicon with Stillinger-Weber labels."""

    def build(strategies, **more):
        given = {
            "settings": Dict(StrategyList(strategies=strategies).model_dump()) if strategies else None,
            "crystals": crystals(diamond=bulk("Si", a=5.431)),
            "label": {"ase": {"code": python_code, "settings": Dict(sw_settings)}, "reuse": False},
            **more,
        }
        return run(BuildWorkChain, **{key: value for key, value in given.items() if value is not None})

    return build


def test_a_dataset_for_each_strategy(build, sw, diamond_folder, python_code):
    outputs, node = build(
        {
            "atoms": {"kind": "isolated_atoms"},
            "waves": WAVES,
            "twice": {**WAVES, "displacement_A": 0.0, "strain": 0.0},
            "hot": MD,
        },
        potential=Potential(diamond_folder),
        jobs={"code": python_code},
    )
    assert node.is_finished_ok, node.exit_message
    told = node.outputs.results["strategies"]
    assert {name: (one["frames"], one["labelled"]) for name, one in told.items()} == {
        "atoms": (1, 1),
        "waves": (4, 4),
        "twice": (4, 4),
        "hot": (3, 3),
    }
    assert set(outputs["datasets"]) == set(told)
    frames = [atoms for dataset in outputs["datasets"].values() for atoms in dataset.get_frames()]
    for atoms in frames:
        again = atoms.copy()
        fr.drop_labels(again)
        label(again, sw)
        assert atoms.info["REF_energy"] == pytest.approx(again.info["REF_energy"], abs=1e-6)
        assert atoms.arrays["REF_forces"] == pytest.approx(again.arrays["REF_forces"], abs=1e-6)
    (labelling,) = (job for job in node.called_descendants if isinstance(job, CalcJobNode) and "label" in str(job.process_type))
    assert labelling.inputs.frames.n_frames == len({fr.structure_key(atoms) for atoms in frames}) < len(frames)
    hot = outputs["datasets"]["hot"].get_frames()
    (begun,) = {atoms.info["parent"] for atoms in hot}
    assert begun.startswith("hot-diamond-0000-")
    assert {atoms.info["parameters"] for atoms in hot} == {"300 K"}
    assert {atoms.info["config_type"] for atoms in hot} == {"hot"}
    assert all("PRED_energy" in atoms.info for atoms in hot), "what the potential said stays beside the labels"


def test_what_the_database_lacks_is_labelled(build, run, python_code, sw_settings):
    """Of cells at two volumes those are chosen whose volume the database does not have."""
    near = {**WAVES, "volumes": [1.0], "displacement_A": 0.01}
    database, _ = build({"near": near})
    outputs, node = build(
        {"near": near, "far": {**near, "volumes": [0.8]}},
        settings=Dict(
            StrategyList(
                strategies={"near": near, "far": {**near, "volumes": [0.8]}}, max_labels=3, choose="farthest", seed=2
            ).model_dump()
        ),
        database={"old": database["labels"]},
    )
    assert node.is_finished_ok, node.exit_message
    told = node.outputs.results["strategies"]
    assert (told["near"]["labelled"], told["far"]["labelled"]) == (0, 3)
    assert outputs["labels"].n_frames == 3
    assert told["near"]["frames"] == 0, "what was not chosen is in no dataset"


@pytest.mark.full
def test_what_the_potential_is_least_sure_of_is_labelled(build, potential, python_code):
    """Its variances decide, as quippy gives them; of those of which it is sure none is labelled."""
    given = {
        "strategies": {"atoms": {"kind": "isolated_atoms"}, "near": {**WAVES, "copies": 2}, "far": {**WAVES, "volumes": [0.55]}},
        "max_labels": 2,
        "choose": "variance",
    }
    outputs, node = build({}, settings=Dict(StrategyList(**given).model_dump()), potential=potential, jobs={"code": python_code})
    assert node.is_finished_ok, node.exit_message
    told, sure = node.outputs.results["strategies"], node.outputs.results["variances"]
    assert {name: one["labelled"] for name, one in told.items()} == {"atoms": 1, "near": 0, "far": 1}
    assert sure["examined"] == 11
    assert sure["chosen"]["median_eV"] > sure["others"]["median_eV"]
    (job,) = (job for job in node.called if job.process_label == "EvaluateCalculation")
    deviations = {a.info["frame_id"]: a.arrays["PRED_local_variance"].max() ** 0.5 for a in job.outputs.frames.get_frames()}
    assert len(deviations) == 11, "each structure once, none in vacuum"
    labelled = [a.info["frame_id"] for a in outputs["labels"].get_frames() if a.info["config_type"] == "far"]
    assert labelled == [max(deviations, key=deviations.get)]
    assert sure["chosen"]["largest_eV"] == pytest.approx(max(deviations.values()))


def test_a_potential_that_does_not_say(build, potential, python_code, dying_python):
    """Nothing is labelled, and the frames are there."""
    given = {"strategies": {"waves": WAVES}, "max_labels": 2, "choose": "variance"}
    _, node = build(
        {},
        settings=Dict(StrategyList(**given).model_dump()),
        potential=potential,
        jobs={"code": dying_python(0, times=9)},
    )
    assert node.exit_status == BuildWorkChain.exit_codes.ERROR_VARIANCES.status, node.exit_message
    assert node.outputs.results["strategies"]["waves"]["frames"] == 4
    assert "labels" not in node.outputs


def strange_crystals():
    """Diamond, one that becomes diamond since its second atom is on the way there, one larger than is allowed."""
    other = bulk("Si", a=5.3)
    other.set_scaled_positions([[0, 0, 0], [0.33, 0.33, 0.33]])
    return crystals(diamond=bulk("Si", a=5.6), other=other, large=bulk("Si", a=5.431, cubic=True))


@pytest.mark.parametrize("by", ["reference", "potential"])
def test_crystals_are_relaxed_and_those_that_change_are_left_out(build, by, diamond_folder, python_code):
    settings = StrategyList(strategies={"waves": WAVES}, relax={"by": by, "most_atoms": 4})
    more = {"potential": Potential(diamond_folder), "jobs": {"code": python_code}} if by == "potential" else {}
    outputs, node = build({}, settings=Dict(settings.model_dump()), crystals=strange_crystals(), **more)
    assert node.is_finished_ok, node.exit_message
    fates = node.outputs.results["crystals"]
    assert fates["diamond"].startswith("kept: Fd-3m (227), volume -"), fates
    assert fates["large"] == "8 atoms, expected at most 4 (relax.most_atoms)"
    assert fates["other"].startswith("became another structure: R-3m (166)"), fates
    (kept,) = outputs["crystals"].get_frames()
    assert kept.info["frame_id"] == "diamond"
    if by == "reference":
        assert kept.get_volume() / 2 == pytest.approx(20.02, abs=0.02), "of Stillinger-Weber silicon"
        assert "before, Fd-3m (227) after" in fates["other"]
    (maker,) = (one for one in node.called if "crystals" in one.inputs and "made" in one.outputs)
    assert maker.inputs.crystals.uuid == outputs["crystals"].uuid
    frames = outputs["datasets"]["waves"].get_frames()
    assert {atoms.info["parent"] for atoms in frames} == {"diamond"}
    assert min(atoms.get_volume() / len(atoms) for atoms in frames) == pytest.approx(kept.get_volume() / 2, rel=0.03)


def test_no_crystal_is_left(build):
    """One that would need more steps than there are."""
    settings = StrategyList(strategies={"waves": WAVES}, relax={"max_steps": 1, "fmax": 1e-6})
    _, node = build({}, settings=Dict(settings.model_dump()), crystals=crystals(diamond=bulk("Si", a=5.9)))
    assert node.exit_status == BuildWorkChain.exit_codes.ERROR_NO_CRYSTALS.status
    assert node.exit_message == "no crystal is left: diamond: not relaxed: max_steps"
    assert node.outputs.results["crystals"] == {"diamond": "not relaxed: max_steps"}


@pytest.mark.full
def test_a_strategy_that_makes_nothing_of_relaxed_crystals(build):
    """It is told, and the others have their labels: three repetitions of what was too large were long enough."""
    given = {"waves": WAVES, "single": {"kind": "displacements", "length_A": 12.3, "most_atoms": 54}}
    settings = StrategyList(strategies=given, relax={})
    _, node = build({}, settings=Dict(settings.model_dump()), crystals=crystals(diamond=bulk("Si", a=5.9)))
    assert node.is_finished_ok, node.exit_message
    told = node.outputs.results["strategies"]
    assert told["waves"]["labelled"] == 4
    assert "the supercell has 128 atoms, expected at most 54" in told["single"]["failure"]


def test_without_a_reference(build):
    outputs, node = build({"waves": WAVES}, label=None)
    assert node.is_finished_ok
    assert node.outputs.results["strategies"]["waves"] == {"frames": 4, "labelled": 0, "atoms": 12, "largest": 4}
    assert not any(fr.is_labelled(atoms) for atoms in outputs["datasets"]["waves"].get_frames())


def test_the_same_seed_gives_the_same_frames(build):
    one, again = (build({"waves": WAVES}, label=None)[0]["datasets"]["waves"].get_frames() for _ in range(2))
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(one, again, strict=True))


def test_labels_that_fail_are_told(build, python_code):
    broken = {"calculator": "ase.calculators.emt.EMT", "arguments": {}, "level_of_theory": "EMT"}  # which knows no silicon
    label_by = {"ase": {"code": python_code, "settings": Dict(broken)}, "reuse": False}
    outputs, node = build({"waves": WAVES}, label=label_by)
    assert node.exit_status == BuildWorkChain.exit_codes.ERROR_LABELS.status
    assert node.outputs.results["strategies"]["waves"]["labelled"] == 0
    frames = outputs["datasets"]["waves"].get_frames()
    assert len(frames) == 4
    assert all(atoms.info["label_status"] != "ok" for atoms in frames)


def test_a_potential_that_explodes_takes_no_other_with_it(build, potential, python_code):
    """The job of the small potential ends at once far above the melting point; the other strategy has its labels."""
    _, node = build(
        {"waves": WAVES, "wild": {**MD, "temperatures_K": [1e5], "closest": 0.99}},
        potential=potential,
        jobs={"code": python_code},
    )
    told = node.outputs.results["strategies"]
    assert told["waves"]["labelled"] == 4
    assert told["wild"].get("frames", 0) < 3


@pytest.mark.parametrize(
    ("strategies", "given", "message"),
    [
        ({"hot": MD}, {}, "jobs.code: hot run a potential, expected a python"),
        ({"waves": WAVES}, {"crystals": None}, "strategies.waves: nondiagonal: needs crystals, got none"),
        ({"cold": {**WAVES, "grid": [0, 1, 1]}}, {}, "grid"),
        (
            {"waves": WAVES},
            {"settings": {"relax": {}}, "label": None},
            "relax: the reference is to relax the crystals, but",
        ),
        ({"waves": WAVES}, {"settings": {"relax": {"most_atoms": 1}}}, "relax.most_atoms: all crystals have more atoms than 1"),
        (
            {"atoms": {"kind": "isolated_atoms"}},
            {"settings": {"relax": {}, "formula": {"Si": 1}}, "crystals": None},
            "no crystals",
        ),
        ({"waves": WAVES}, {"settings": {"choose": "variance", "max_labels": 2}}, "jobs.code: choose: variance run a potential"),
    ],
)
def test_what_is_refused_before_anything_runs(build, strategies, given, message):
    if "settings" in given:
        given["settings"] = Dict(StrategyList(strategies=strategies, **given["settings"]).model_dump())
    with pytest.raises(ValueError, match=message):
        build(strategies, **given)


def test_elements_that_the_potential_does_not_know(build, potential, python_code):
    with pytest.raises(ValueError, match=r"strategies\.hot: the potential knows Si, but not Cu"):
        build({"hot": MD}, crystals=crystals(copper=bulk("Cu")), potential=potential, jobs={"code": python_code})
    given = StrategyList(strategies={"atoms": {"kind": "isolated_atoms"}}, relax={"by": "potential"})
    copper = {"settings": Dict(given.model_dump()), "crystals": crystals(copper=bulk("Cu")), "jobs": {"code": python_code}}
    with pytest.raises(ValueError, match=r"relax: the potential knows Si, but the frames contain Cu"):
        build({}, potential=potential, **copper)
    with pytest.raises(ValueError, match=r"strategies\.hot: md needs a potential, got none"):
        build({"hot": MD}, jobs={"code": python_code})


# --- by any ASE calculator, and in several jobs ---


@pytest.fixture
def by_calculator(build, python_code, sw_settings):
    """Run trajectories with Stillinger-Weber silicon, without labels."""

    def by_calculator(strategy, code=python_code, **options):
        jobs = {"code": code, "metadata": {"options": options}}
        return build({"hot": {**MD, **strategy}}, calculator=Dict(sw_settings), jobs=jobs, label=None)

    return by_calculator


def jobs_of(node):
    """Return the jobs of trajectories, in their order."""
    return sorted((job for job in node.called if job.process_label == "MdCalculation"), key=lambda job: job.pk)


def test_an_ase_calculator_runs(by_calculator, sw, sw_settings):
    outputs, node = by_calculator({})
    assert node.is_finished_ok, node.exit_message
    frames = outputs["datasets"]["hot"].get_frames()
    assert [atoms.info["step"] for atoms in frames] == [20, 30, 40]
    for atoms in frames:
        again = atoms.copy()
        label(again, sw)
        assert atoms.info["PRED_energy"] == pytest.approx(again.info["REF_energy"], abs=1e-6)
        assert "potential" not in atoms.info
    (job,) = jobs_of(node)
    assert job.inputs.calculator.get_dict() == sw_settings
    assert "potential" not in job.inputs


def told(outputs):
    """Return all that is said of the snapshots, but which job it was."""
    frames = outputs["datasets"]["hot"].get_frames()
    for atoms in frames:
        del atoms.info["origin"]
    return fr.dumps(frames)


@pytest.fixture
def in_haste(monkeypatch):
    """Change the settings that jobs are given, those of each frame, too."""
    given = MdCalculation.task_settings

    def in_haste(**changes):
        def changed(self):
            settings = {**given(self), **changes}
            return {**settings, "tasks": {name: {**task, **changes} for name, task in settings["tasks"].items()}}

        monkeypatch.setattr(MdCalculation, "task_settings", changed)

    return in_haste


#: Runs a script with a clock on which every look at it takes a millisecond, so that jobs end after a number of steps.
CLOCK = """
import itertools, runpy, sys, time
looks = itertools.count()
time.time = lambda: 1e9 + next(looks) / 1000
sys.argv = sys.argv[1:]
sys.path.insert(0, ".")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def counting_python(code_here, tmp_path):
    (tmp_path / "clock.py").write_text(CLOCK)
    script = tmp_path / "counting_python"
    script.write_text(f'#!/bin/bash\nexec {sys.executable} {tmp_path}/clock.py "$@"\n')
    script.chmod(0o755)
    return code_here(f"counting-{tmp_path.name}", str(script), "gaprss.label")


def test_trajectories_in_several_jobs(by_calculator, in_haste, counting_python):
    """Each is cut off by its time, and the next goes on: the snapshots are the same, byte for byte."""
    strategy = {"ensemble": "npt_mtk", "snapshots": 5, "every_ps": 0.04}
    whole, _ = by_calculator(strategy)
    in_haste(time_limit_s=0.1)
    outputs, node = by_calculator(strategy, code=counting_python)
    assert node.is_finished_ok, node.exit_message
    first, second, *_ = jobs_of(node)
    assert "states" not in first.inputs
    assert second.inputs.states.uuid == first.outputs.states.uuid
    assert second.outputs.frames.get_frames()[0].info["step"] == 0, "all snapshots, also those of the job before"
    assert told(outputs) == told(whole)


@pytest.mark.full
def test_trajectories_of_jobs_that_are_killed(by_calculator, in_haste, killed_python):
    """With nothing but the states that they have left."""
    strategy = {"temperatures_K": [300.0], "snapshots": 10, "every_ps": 0.02}
    whole, _ = by_calculator(strategy)
    in_haste(state_every_s=0.0)
    outputs, node = by_calculator(strategy, code=killed_python)
    assert node.is_finished_ok, node.exit_message
    first, second = jobs_of(node)
    assert "frames" not in first.outputs
    assert second.inputs.states.uuid == first.outputs.states.uuid
    assert told(outputs) == told(whole)


@pytest.fixture
def killed_python(code_here, tmp_path):
    """Return a python that is killed the first time, once a trajectory has come some steps."""
    script, once = tmp_path / "killed_python", tmp_path / "once"
    script.write_text(
        f"""#!/bin/bash
set -m
{sys.executable} "$@" &
job=$!
while kill -0 $job 2>/dev/null; do
  if [ ! -e {once} ] && [ "$(ls states/*.json 2>/dev/null)" ]; then touch {once}; kill -KILL -$job; exit 137; fi
  sleep 0.01
done
wait $job
"""
    )
    script.chmod(0o755)
    return code_here(f"killed-{tmp_path.name}", str(script), "gaprss.label")


def test_one_thing_runs_trajectories(build, potential, python_code, sw_settings):
    with pytest.raises(ValueError, match="give one of potential and calculator at most"):
        build({"hot": MD}, potential=potential, calculator=Dict(sw_settings), jobs={"code": python_code})
    with pytest.raises(ValueError, match="'nonsense' is no calculator"):
        build({"hot": MD}, calculator=Dict({"calculator": "nonsense"}), jobs={"code": python_code})
