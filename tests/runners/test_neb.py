"""Paths of hops: against a band driven by hand, and what becomes of hops that are none."""

import math

import numpy as np
import pytest
from aiida.orm import Dict
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.geometry import find_mic
from ase.mep import NEB
from ase.optimize import BFGS
from pydantic import ValidationError

from aiida_gaprss.calculations.neb import NebCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.runners import task_of
from aiida_gaprss.settings.jobs import NebJobSettings, NebSettings


def hop(symbol="Al", n=2):
    """Return a cell with a vacancy at the origin, the nearest atom, and where that hops to."""
    perfect = bulk(symbol, cubic=True) * (n, n, n)
    atoms = perfect[1:]
    _, distances = find_mic(atoms.positions, atoms.cell)
    return atoms, {"atom": int(distances.argmin()), "to": (0.0, 0.0, 0.0)}


def path(atoms, calculator=None, deadline=math.inf, **settings):
    task = task_of("neb")
    task.settings = NebSettings(**settings).model_dump()
    task.use(calculator or EMT())
    return task.run(atoms, deadline)


@pytest.mark.parametrize("n", [1, pytest.param(3, marks=pytest.mark.full)])
def test_a_path_as_a_band_driven_by_hand(n):
    """With other optimisers, a calculator for each image, other tangents, and a vacancy that is made here."""
    atoms, settings = hop()
    status, images = path(atoms, images=n, fmax=0.01, **settings)
    assert status == "converged"
    ends = [atoms.copy(), atoms.copy()]
    vectors, distances = find_mic(atoms.positions, atoms.cell)
    ends[1].positions[distances.argmin()] -= vectors[distances.argmin()]
    for end in ends:
        end.calc = EMT()
        assert BFGS(end, logfile=None).run(fmax=0.005)
    chain = [ends[0], *(ends[0].copy() for _ in range(n)), ends[1]]
    for image in chain[1:-1]:
        image.calc = EMT()
    band = NEB(chain, climb=True, method="aseneb", k=1.0)
    band.interpolate(mic=True)
    assert BFGS(band, logfile=None).run(fmax=0.01, steps=100)
    energies = [image.get_potential_energy() for image in chain]
    ours = [image.info["PRED_energy"] for image in images]
    assert ours[0] == pytest.approx(energies[0], abs=1e-4)
    assert max(ours) - ours[0] == pytest.approx(max(energies) - energies[0], abs=1e-3)
    assert ours[1] - ours[0] == pytest.approx(ours[-2] - ours[-1], abs=1e-3), "there and back are the same"


def test_the_images_that_come_out():
    atoms, settings = hop()
    status, images = path(atoms, images=1, max_steps=2, **settings)
    assert status == "max_steps"
    assert [image.info["step"] for image in images] == [0, 1, 2]
    assert {image.info["relax_status"] for image in images} == {"max_steps"}
    for image in images:
        work = Atoms(image.numbers, image.positions, cell=image.cell, pbc=True, calculator=EMT())
        assert image.info["PRED_energy"] == pytest.approx(work.get_potential_energy(), abs=1e-6)
        assert np.allclose(image.arrays["PRED_forces"], work.get_forces(), atol=1e-6)
        assert np.allclose(image.cell, atoms.cell)
    status, (alone,) = path(atoms)
    assert (status, alone.info["step"], alone.info["relax_status"]) == ("converged", 0, "converged")
    assert np.allclose(alone.positions, images[0].positions, atol=0.02), "without a hop it is the first end"


def test_images_beyond_the_border_of_the_cell():
    """The place is given in another cell than the atom is in."""
    atoms, settings = hop()
    plain = path(atoms, images=1, max_steps=1, **settings)[1]
    other = path(atoms, images=1, max_steps=1, **{**settings, "to": tuple(3 * atoms.cell[0] - atoms.cell[2])})[1]
    assert plain[2].info["PRED_energy"] == pytest.approx(other[2].info["PRED_energy"], abs=1e-8)
    assert np.allclose(plain[2].positions, other[2].positions, atol=1e-5)


def test_atoms_that_are_too_close():
    """On the way the atom passes others at less than the distance of neighbours."""
    atoms, settings = hop()
    nearest = bulk("Al").cell.lengths()[0]
    assert path(atoms, images=1, min_distance=0.85 * nearest, max_steps=3, **settings)[0] == "max_steps"
    assert path(atoms, images=1, min_distance=0.95 * nearest, max_steps=3, **settings) == ("collapsed", [])
    assert path(atoms, images=1, min_distance=1.05 * nearest, max_steps=3, **settings) == ("collapsed", [])


def test_an_atom_that_falls_back():
    atoms, settings = hop()
    beside = atoms.positions[settings["atom"]] + 0.3
    assert path(atoms, images=1, atom=settings["atom"], to=tuple(beside)) == ("merged", [])


class Holes(EMT):
    """Gives what it is told to from one of its calculations on."""

    def __init__(self, first, value):
        super().__init__()
        self.left, self.value = first, value

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.left -= 1
        if self.left < 0:
            self.results["forces"] = self.results["forces"] * 0 + self.value
            self.results["energy"] = self.results["free_energy"] = self.value


@pytest.mark.parametrize("first", [0, 1, 30])
def test_a_calculator_that_gives_no_numbers(first):
    atoms, settings = hop()
    ends = path(atoms, Holes(30, 0.0), images=1, max_steps=300, fmax=0.03, **settings)
    assert ends[0] in ("converged", "max_steps"), "the ends need fewer calculations than thirty"
    assert path(atoms, Holes(first, math.nan), images=1, **settings) == ("not_finite", [])


def test_the_time_is_looked_at(monkeypatch):
    """The clock counts calculations. Ends that are cut off are for the next job; of a band there are images."""
    atoms, settings = hop()
    clock = Holes(10**6, 0.0)
    task = task_of("neb")
    monkeypatch.setattr("time.time", lambda: 10**6 - clock.left)
    task.settings = NebSettings(images=1, fmax=1e-4, **settings).model_dump()
    task.use(clock)
    status, images = task.run(atoms, 3)
    assert (status, images) == ("not reached: stopped when the time of the job was up", [])
    clock.left = 10**6
    status, images = task.run(atoms, 45)
    assert status == "time_limit"
    assert 10**6 - clock.left <= 45 + 5
    assert [image.info["step"] for image in images] == [0, 1, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"atom": 1}, "atom and to go together"),
        ({"to": [0, 0, 0]}, "atom and to go together"),
        ({"atom": 1, "to": [0, 0]}, "to"),
        ({"atom": -1, "to": [0, 0, 0]}, "atom"),
        ({"images": 0}, "images"),
        ({"min_distance": {"Xx-Cu": 1.0}}, "'Xx-Cu' is not a pair of elements"),
        ({"tasks": {"a": {"atom": 3}}}, "atom and to go together"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(ValidationError, match=message):
        NebJobSettings(**settings)


def test_an_atom_that_there_is_not():
    atoms, _ = hop()
    with pytest.raises(ValueError, match="atom is 31, but the frame has 31 atoms, numbered from 0"):
        path(atoms, atom=31, to=(0.0, 0.0, 0.0))


def test_a_job_of_its_own_scripts(run_batch):
    """Two frames in one job, each with its own hop; the scripts are those that travel with it."""
    atoms, settings = hop()
    frames = [atoms.copy(), atoms.copy()]
    for number, frame in enumerate(frames):
        frame.info["frame_id"] = f"frame-{number}"
    common = {**NebSettings(images=1, max_steps=2).model_dump(), "calculator": "emt", "arguments": {}, "processes": 1}
    done, lines, _ = run_batch("neb", frames, {**common, "tasks": {"frame-1": settings}})
    assert done.returncode == 0, done.stderr
    assert [lines[number]["frames"].count("relax_status") for number in (0, 1)] == [1, 3]


def test_a_calculation(run, python_code, potential, gap, evaluated):
    """By AiiDA, with a GAP: the images have names, and what the potential says of them."""
    frames = []
    for name in ("hop", "alone"):
        atoms = (bulk("Si") * (2, 2, 2))[1:]
        atoms.info.update(frame_id=name, config_type="vacancy")
        frames.append(atoms)
    task = {"atom": 0, "to": [0.0, 0.0, 0.0]}
    settings = Dict({"images": 1, "max_steps": 2, "tasks": {"hop": task}})
    outputs, node = run(NebCalculation, code=python_code, potential=potential, frames=Dataset(frames), settings=settings)
    assert node.is_finished_ok, node.exit_message
    found = outputs["frames"].get_frames()
    assert [atoms.info["frame_id"] for atoms in found] == ["hop-s0", "hop-s1", "hop-s2", "alone-s0"]
    assert [atoms.info["parent"] for atoms in found] == ["hop"] * 3 + ["alone"]
    assert {atoms.info["potential"] for atoms in found} == {potential.uuid}
    for atoms, (energy, forces, _) in zip(found, evaluated(found, gap), strict=True):
        assert atoms.info["PRED_energy"] == pytest.approx(energy, abs=1e-5)
        assert np.allclose(atoms.arrays["PRED_forces"], forces, atol=1e-4)
    assert node.inputs.settings["tasks"]["hop"] == task
    with pytest.raises(ValueError, match="atom and to go together"):
        run(NebCalculation, code=python_code, potential=potential, frames=Dataset(frames), settings=Dict({"atom": 0}))
