"""quippy called below its arguments: the same numbers to the last digit, and ordinary calls where that is not to be had."""

import os
import signal
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_gaprss.runners import task_of
from aiida_gaprss.settings.jobs import RelaxSettings

#: Frames of one set, one after another: others in number, elements' order, cell, directions without images.
FRAMES = 60

#: To which two calls for the same atoms are the same.
DIGITS = 1e-13


@pytest.fixture
def direct():
    """The module, as tasks of this process have it."""
    task_of("evaluate")
    return sys.modules["aiida_gaprss.runners.direct"]


@pytest.fixture(params=["sw", "gap"])
def pair(request, sw_settings, potential_folder):
    """Two tasks with the same potential, called ordinarily and directly."""
    from quippy.potential import Potential

    arguments = sw_settings["arguments"] if request.param == "sw" else {"param_filename": str(potential_folder / "gap.xml")}
    ordinary, other = task_of("evaluate"), task_of("evaluate")
    ordinary.calculator = Potential(**arguments)
    ordinary.calculator.set_default_properties(["energy", "forces", "stress"])
    other.use(Potential(**arguments))
    return ordinary, other


def frames_of_all_kinds(seed=1):
    rng = np.random.default_rng(seed)
    for number in range(FRAMES):
        n = 4 if number % 3 else int(rng.integers(1, 9))
        cell = np.eye(3) * (20.0 * n) ** (1 / 3) + rng.normal(size=(3, 3)) * 0.5
        pbc = [True, True, number % 7 > 0]
        yield Atoms(["Si"] * n, scaled_positions=rng.uniform(-0.5, 1.5, (n, 3)), cell=cell, pbc=pbc)


def test_the_same_to_the_last_digit(pair):
    ordinary, other = pair
    for atoms in frames_of_all_kinds():
        if abs(np.linalg.det(atoms.cell.array)) > 8 * len(atoms):
            expected, found = (task.single_point(atoms, "PRED") for task in (ordinary, other))
            assert found.info["PRED_energy"] == pytest.approx(expected.info["PRED_energy"], rel=DIGITS)
            for name in ("forces", "virial"):
                values = [{**atoms.info, **atoms.arrays}[f"PRED_{name}"] for atoms in (found, expected)]
                assert np.allclose(*values, rtol=0, atol=DIGITS * np.abs(values).max())
    assert other.calculator.calculate.direct is not None, "they were direct calls"


def test_relaxations_are_the_same(pair, silicon_cells):
    tasks = []
    for evaluate in pair:
        task = task_of("relax")
        task.settings, task.calculator = RelaxSettings(max_steps=30, snapshot_steps=[5]).model_dump(), evaluate.calculator
        tasks.append(task)
    for atoms in silicon_cells[1:5]:
        (status, frames), (other_status, others) = (task.run(atoms, np.inf) for task in tasks)
        assert status == other_status
        for expected, found in zip(frames, others, strict=True):
            assert found.info["step"] == expected.info["step"]
            assert np.allclose(found.positions, expected.positions, atol=2e-6)
            assert np.allclose(found.cell.array, expected.cell.array, atol=2e-6)
            assert found.info["PRED_energy"] == pytest.approx(expected.info["PRED_energy"], abs=1e-6)


def test_what_only_ordinary_calls_give(pair, silicon_cells):
    """Local energies add up to the energy of a direct call; a molecule has momenta."""
    _, other = pair
    for _ in range(2):  # the first one is the trial
        energy = other.single_point(silicon_cells[2], "PRED").info["PRED_energy"]
    assert other.local_energies(silicon_cells[2]).sum() == pytest.approx(energy, abs=1e-9)
    moving = silicon_cells[2].copy()
    moving.set_momenta(np.ones((len(moving), 3)))
    moving.calc = other.calculator
    assert moving.get_potential_energy() == pytest.approx(energy, abs=1e-12)


def outcome(task, atoms):
    """Return an energy, or what kind of error there was."""
    try:
        return task.single_point(atoms, "PRED").info["PRED_energy"]
    except Exception as exception:
        return type(exception)


def test_elements_that_it_does_not_know(pair):
    """QUIP ends the process at some of them if nobody catches it, as an ordinary call does."""
    ordinary, other = pair
    for _ in range(2):
        other.single_point(bulk("Si"), "PRED")
    assert outcome(other, bulk("Cu")) == outcome(ordinary, bulk("Cu"))
    assert outcome(other, bulk("Si")) == pytest.approx(outcome(ordinary, bulk("Si")), rel=DIGITS)


def nowhere(*_):
    return 8


def of_another(self):
    return self.potential._handle.ctypes.data


@pytest.mark.parametrize("model", [nowhere, of_another])
def test_an_address_that_is_none_harms_nobody(pair, direct, monkeypatch, silicon_cells, model):
    """The child crashes or gives other numbers; calls are ordinary."""
    ordinary, other = pair
    monkeypatch.setattr(direct.DirectCall, "_model", model)
    monkeypatch.setattr(direct, "PATIENCE", 5.0)
    for atoms in silicon_cells[1:4]:
        expected, found = (task.single_point(atoms, "PRED") for task in (ordinary, other))
        assert found.info["PRED_energy"] == pytest.approx(expected.info["PRED_energy"], rel=DIGITS)
    assert other.calculator.calculate.tried
    assert other.calculator.calculate.direct is None


@pytest.mark.parametrize(
    ("trial", "well"),
    [
        (lambda: True, True),
        (lambda: False, False),
        (lambda: 1 / 0, False),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), False),
        (lambda: os._exit(3), False),
        (signal.pause, False),
    ],
    ids=["good", "bad", "raises", "crashes", "exits", "hangs"],
)
def test_trials(direct, monkeypatch, trial, well):
    monkeypatch.setattr(direct, "PATIENCE", 0.5)
    assert direct.ends_well(trial) is well


def test_potentials_that_are_not_called_directly(direct, sw_settings, silicon_cells):
    """A sum of two, and one with arguments of its own, give what they gave."""
    from quippy.potential import Potential

    one, two = (Potential(**sw_settings["arguments"]) for _ in range(2))  # a sum does not keep its parts alive
    double = Potential("Sum", pot1=one, pot2=two)
    told = Potential(**sw_settings["arguments"], calc_args="do_calc_connect=T")
    expected = Potential(**sw_settings["arguments"]).get_potential_energy(silicon_cells[1])
    for calculator, factor in ((double, 2.0), (told, 1.0)):
        task = task_of("evaluate")
        task.use(calculator)
        for _ in range(2):
            found = task.single_point(silicon_cells[1], "PRED").info["PRED_energy"]
            assert found == pytest.approx(factor * expected, rel=1e-12)
        assert task.calculator.calculate.direct is None


def test_other_calculators_are_left_alone(direct):
    calculator = EMT()
    before = calculator.calculate
    direct.hasten(calculator)
    assert calculator.calculate == before
    assert direct.shortest_way(calculator) is None
    atoms = bulk("Cu")
    atoms.calc = calculator
    assert np.isfinite(atoms.get_potential_energy())
