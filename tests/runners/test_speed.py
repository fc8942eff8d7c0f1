"""Times are those of the calls that are made, each with atoms of its own; and the job that measures them."""

import time

import numpy as np
import pytest
from aiida.orm import Dict
from ase.build import bulk
from ase.calculators.emt import EMT
from pydantic import ValidationError

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.runners import task_of
from aiida_gaprss.runners.status import STOPPED
from aiida_gaprss.settings.jobs import SpeedJobSettings, SpeedSettings

WALL, PROCESSOR = (5.0, 0.7, 0.1, 0.3, 0.2), (4.0, 0.4, 0.1, 0.2, 0.3)


class Slow(EMT):
    """Takes a time of its own for each call, and remembers what it was asked for."""

    def __init__(self, clocks):
        super().__init__()
        self.seen, self.clocks = [], clocks

    def calculate(self, atoms=None, *args, **kwargs):
        # The first call takes longest, as with potentials that prepare something.
        self.clocks.pass_by(WALL[len(self.seen)], PROCESSOR[len(self.seen)])
        self.seen.append(atoms.positions.copy())
        super().calculate(atoms, *args, **kwargs)


def speed(calculator, deadline=np.inf, **settings):
    task = task_of("speed")
    task.settings = SpeedSettings(**settings).model_dump()
    task.use(calculator)
    return task.run(bulk("Cu", cubic=True), deadline)


def test_the_time_of_a_call(clocks):
    slow = Slow(clocks)
    status, (out,) = speed(slow, calls=4)
    assert status == "ok"
    assert out.info["seconds"] == pytest.approx(np.median(WALL[1:])), "without the first call"
    assert out.info["processor_seconds"] == pytest.approx(np.median(PROCESSOR[1:]))
    assert len(slow.seen) == 5
    assert np.array_equal(slow.seen[0], bulk("Cu", cubic=True).positions)
    moves = np.array(slow.seen[1:]) - slow.seen[0]
    assert len({move.tobytes() for move in moves}) == 4
    assert 0.005 < moves.std() < 0.015
    again = Slow(clocks)
    speed(again, calls=4)
    assert np.array_equal(slow.seen, again.seen)
    crystal = bulk("Cu", cubic=True)
    crystal.calc = EMT()
    assert out.info["PRED_energy"] == pytest.approx(crystal.get_potential_energy())


def test_a_job_whose_time_is_up():
    assert speed(EMT(), deadline=time.time() - 1) == (STOPPED, [])


def test_settings_that_are_wrong():
    with pytest.raises(ValidationError, match="greater than 0"):
        SpeedJobSettings(tasks={"a": {"calls": 0}})
    with pytest.raises(ValidationError, match="tasks"):
        SpeedSettings(tasks={})


def test_the_job(run, python_code, potential_folder):
    from aiida_gaprss.calculations.speed import SpeedCalculation

    frames = []
    for number, repeats in enumerate((1, 2)):
        atoms = bulk("Si", a=5.43, cubic=True) * (repeats, 1, 1)
        atoms.info.update(frame_id=f"size-{number}", config_type="crystal")
        frames.append(atoms)
    outputs, node = run(
        SpeedCalculation,
        code=python_code,
        frames=Dataset(frames, level_of_theory="unlabelled"),
        potential=Potential(potential_folder),
        settings=Dict({"calls": 2, "tasks": {"size-1": {"calls": 3}}}),
    )
    assert node.is_finished_ok, node.exit_message
    found = outputs["frames"].get_frames()
    assert [atoms.info["parent"] for atoms in found] == ["size-0", "size-1"]
    assert all(0 < atoms.info["seconds"] < 60 for atoms in found)
    assert all(0 < atoms.info["processor_seconds"] < 60 for atoms in found)
    assert found[1].info["PRED_energy"] == pytest.approx(2 * found[0].info["PRED_energy"], abs=1e-6)
