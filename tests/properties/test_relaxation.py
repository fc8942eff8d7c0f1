"""Crystals that a potential keeps, and such that it turns into others."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_gaprss.frames import loads
from aiida_gaprss.properties.base import PropertyError, property_of
from aiida_gaprss.properties.elastic import relaxed
from aiida_gaprss.properties.relaxation import Relaxation
from aiida_gaprss.settings.jobs import RelaxJobSettings


def lights(task, result):
    return {name: task.LIMITS[name].light(score) for name, score in task.scores(result, None).items()}


def test_copper_stays_fcc():
    """Its end is that of ASE's own optimiser and cell filter."""
    crystal = bulk("Cu", a=3.65)
    task = property_of({"kind": "relaxation", "disturbed": 2, "supercell": [2, 1, 1]})
    result = task.compute(EMT(), crystal)
    assert not result["changed"]
    assert (result["unfinished"], result["space_group"], result["space_group_changed"]) == (0, "Fm-3m (225)", False)
    assert [end["part"] for end in result["ends"]] == ["crystal", "disturbed_1", "disturbed_2"]
    crystal.calc = EMT()
    expected = relaxed(crystal)
    change = 100 * (expected.get_volume() / crystal.get_volume() - 1)
    assert [end["volume_change_percent"] for end in result["ends"]] == pytest.approx([change] * 3, abs=0.05)
    gain = 1000 * (crystal.get_potential_energy() - expected.get_potential_energy())
    assert result["energy_gain_meV_per_atom"] == pytest.approx(gain, abs=0.05)
    assert lights(task, result) == {
        "changed": "good",
        "unfinished": "good",
        "space_group_changed": "good",
        "volume_change_percent": "look",
    }
    assert json.loads(json.dumps(result)) == result


def test_bcc_copper_is_a_saddle_point_and_becomes_fcc():
    """Symmetry keeps the crystal itself, whose forces are zero; disturbed, it gains the difference of the two crystals."""
    task = Relaxation(disturbed=1)
    crystal = bulk("Cu", "bcc", a=2.87)
    result = task.compute(EMT(), crystal)
    assert not result["ends"][0]["changed"]
    changed = [end for end in result["ends"] if end["changed"]]
    assert {end["space_group"] for end in changed} == {"Fm-3m (225)"}
    assert lights(task, result)["changed"] == "bad"
    fcc = bulk("Cu")
    fcc.calc = crystal.calc = EMT()
    gain = crystal.get_potential_energy() - relaxed(fcc).get_potential_energy()
    assert result["energy_gain_meV_per_atom"] == pytest.approx(1000 * gain, abs=0.2)


def test_an_instability_that_doubles_the_cell():
    """A chain of pairs: only a supercell lets atoms of neighbouring cells come together."""

    class Dimerising(EMT):
        """EMT, and a force that brings atoms together two by two along x."""

        def calculate(self, atoms=None, *args, **kwargs):
            super().calculate(atoms, *args, **kwargs)
            if len(atoms) == 2:
                gap = atoms.get_distance(0, 1, mic=True) - 2.0
                direction = atoms.get_distance(0, 1, mic=True, vector=True) / (gap + 2.0)
                self.results["energy"] += 5.0 * gap**2
                self.results["free_energy"] = self.results["energy"]
                self.results["forces"] = self.results["forces"] + np.outer([10.0, -10.0], gap * direction)

    crystal = bulk("Cu")
    alone = Relaxation(disturbed=1).compute(Dimerising(), crystal)
    doubled = Relaxation(disturbed=1, supercell=(2, 1, 1), max_steps=60).compute(Dimerising(), crystal)
    assert not alone["changed"]
    assert doubled["changed"]


def test_what_is_not_finished_or_given_up():
    task = Relaxation(disturbed=1, max_steps=2, fmax=1e-6)
    result = task.compute(EMT(), bulk("Cu", a=3.4))
    assert result["unfinished"] == 2
    assert lights(task, result)["unfinished"] == "bad"
    done = task.computed(EMT(), bulk("Cu"))
    done[-1].info["relax_status"] = "exploded"
    assert task.result(bulk("Cu"), done, "PRED")["changed"]
    lost = task.result(bulk("Cu"), [atoms for atoms in done if atoms.info["part"] == "crystal"], "PRED")
    assert lost["changed"]
    assert lost["ends"][1] == {"part": "disturbed_1", "status": "no frame", "changed": True}
    assert lights(task, lost)["changed"] == "bad"
    with pytest.raises(PropertyError, match="frame crystal: the relaxation gave no frame"):
        task.result(bulk("Cu"), done[2:], "PRED")


def test_the_plan():
    task = Relaxation(disturbed=2, supercell=(1, 2, 1), symprec_A=0.02)
    plan = task.plan(bulk("Cu"))
    again = task.plan(bulk("Cu"))
    assert [len(atoms) for atoms in plan] == [1, 2, 2]
    assert all(
        np.array_equal(a.positions, b.positions) and np.array_equal(a.cell, b.cell) for a, b in zip(plan, again, strict=True)
    )
    assert not np.allclose(plan[1].cell, plan[2].cell)
    assert plan[0].info["task"] == {"fmax": 0.001, "max_steps": 500, "cell": "free", "snapshot_steps": [0]}
    assert task.faults(Atoms("Cu2", positions=[(0, 0, 0), (2, 0, 0)]), 5.0) == [
        "a relaxation of the cell needs a crystal that is periodic in all directions"
    ]


def test_the_job_and_this_process_give_the_same(run_batch):
    """As the one job of all relaxations has the settings of each frame."""
    task = Relaxation(disturbed=1, max_steps=30)
    crystal = bulk("Cu", a=3.65)
    plan = task.plan(crystal)
    tasks = {}
    for atoms in plan:
        atoms.info["frame_id"] = atoms.info["part"]
        tasks[atoms.info["frame_id"]] = atoms.info.pop("task")
    settings = {**RelaxJobSettings(tasks=tasks).model_dump(), "calculator": "emt", "arguments": {}}
    done, lines, _ = run_batch("relax", plan, settings)
    assert done.returncode == 0, done.stderr
    found = []
    for number, atoms in enumerate(plan):
        frames = loads(lines[number]["frames"])
        for frame in frames:
            frame.info["part"] = atoms.info["part"]
        found += frames
    expected = task.compute(EMT(), crystal)
    result = task.result(crystal, found, "PRED")
    assert result["ends"][1]["steps"] == expected["ends"][1]["steps"]
    assert result["energy_gain_meV_per_atom"] == pytest.approx(expected["energy_gain_meV_per_atom"], abs=1e-4)
    assert task.scores(result, None) == pytest.approx(task.scores(expected, None), abs=1e-3)
