"""Thermal conductivity against phono3py's own program, in this process and as a job."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from aiida.orm import Dict
from ase import Atoms
from ase.build import bulk
from phono3py import Phono3py
from phonopy.structure.atoms import PhonopyAtoms
from spglib import standardize_cell

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import PropertyError, property_of
from aiida_gaprss.properties.conductivity import Conductivity
from aiida_gaprss.runners import conductivity as runner

#: Without these, noise of the last digits is a thousandth of the conductivity.
OPTIONS = ("--average-degenerate-weights", "--exclude-gamma-acoustic")

SMALL = {"supercell": (1, 1, 1), "mesh": (5, 5, 5)}


@pytest.fixture
def silicon(sw):
    """The crystal and its frames with forces."""
    crystal = bulk("Si", "diamond", 5.431)
    return crystal, Conductivity(**SMALL).computed(sw, crystal)


def by_program(folder, calculator, supercell, *options):
    """Conductivities of silicon by ``phono3py-load``, of forces in supercells made here."""
    diamond = bulk("Si", "diamond", 5.431)
    cell, places, numbers = standardize_cell((diamond.cell.array, diamond.get_scaled_positions(), diamond.numbers))
    unit = PhonopyAtoms(numbers=numbers, cell=cell, scaled_positions=places)
    phono3py = Phono3py(unit, supercell_matrix=np.diag(supercell), primitive_matrix="F")
    phono3py.generate_displacements(distance=0.03)
    forces = []
    for one in phono3py.supercells_with_displacements:
        atoms = Atoms(one.symbols, one.positions, cell=one.cell, pbc=True, calculator=calculator)
        forces.append(atoms.get_forces())
    phono3py.forces = np.array(forces)
    phono3py.save(folder / "phono3py_params.yaml")
    program = Path(sys.executable).parent / "phono3py-load"
    command = [sys.executable, program, "phono3py_params.yaml", "--ts", "300 600 900", *OPTIONS, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    (file,) = folder.glob("kappa-*.hdf5")
    assert done.returncode == 0, done.stdout + done.stderr
    with h5py.File(file) as results:
        return np.array(results["temperature"]), np.array(results["kappa"])


def test_silicon_as_by_phono3py_itself(silicon, sw, tmp_path):
    crystal, done = silicon
    found = Conductivity(**SMALL).result(crystal, done, fr.PREDICTION)
    options = ("--mesh", "5", "5", "5", "--br")
    temperatures, kappa = by_program(tmp_path, sw, (1, 1, 1), *options)
    assert found["temperatures_K"] == temperatures.tolist()
    assert np.allclose(found["kappa_tensor_W/mK"], kappa, rtol=1e-9, atol=1e-9)
    assert found["kappa_W/mK"] == pytest.approx(kappa[:, 0], rel=1e-9)
    assert found["imaginary_modes"] == 0


def test_isotopes_as_by_phono3py_itself(silicon, sw, tmp_path):
    """To what its scattering by isotopes is reproducible: that has no mean over degenerate modes."""
    crystal, done = silicon
    found = Conductivity(**SMALL, isotopes=True).result(crystal, done, fr.PREDICTION)
    _, kappa = by_program(tmp_path, sw, (1, 1, 1), "--mesh", "5", "5", "5", "--br", "--isotope")
    assert found["kappa_W/mK"] == pytest.approx(kappa[:, 0], rel=0.01)


@pytest.mark.full
@pytest.mark.parametrize(("method", "option"), [("rta", "--br"), ("lbte", "--lbte")])
def test_silicon_on_the_mesh_of_the_paper(sw, tmp_path, method, option):
    settings = Conductivity(supercell=(2, 2, 2), method=method)
    found = settings.compute(sw, bulk("Si", "diamond", 5.431))
    options = ("--mesh", "11", "11", "11", option)
    _, kappa = by_program(tmp_path, sw, (2, 2, 2), *options)
    assert np.allclose(found["kappa_tensor_W/mK"], np.reshape(kappa, (3, 6)), rtol=1e-6, atol=1e-5)


def test_more_scattering_and_the_whole_equation(silicon):
    crystal, done = silicon
    plain = Conductivity(**SMALL).result(crystal, done, fr.PREDICTION)
    isotopes = Conductivity(**SMALL, isotopes=True).result(crystal, done, fr.PREDICTION)
    whole = Conductivity(**SMALL, method="lbte").result(crystal, done, fr.PREDICTION)
    assert (np.array(isotopes["kappa_W/mK"]) < 0.99 * np.array(plain["kappa_W/mK"])).all()
    assert whole["kappa_rta_W/mK"] == pytest.approx(plain["kappa_W/mK"], rel=1e-4)
    assert (np.array(whole["kappa_W/mK"]) > np.array(plain["kappa_W/mK"])).all(), "not all that scatters resists"
    scores = Conductivity().scores(isotopes, plain)
    assert scores["kappa_600K_error"] == pytest.approx(isotopes["kappa_W/mK"][1] / plain["kappa_W/mK"][1] - 1)
    assert Conductivity.LIMITS["kappa_300K_error"].light(scores["kappa_300K_error"]) == "look"
    assert Conductivity().scores(plain, None) == {"imaginary_modes": 0}


def test_pairs_that_do_not_feel_each_other_need_not_be_displaced(sw):
    """Atoms of Stillinger and Weber reach 3.77 Å, and act on each other by a common neighbour: third neighbours are the last."""
    crystal = bulk("Si", "diamond", 5.431)
    whole, near = (Conductivity(supercell=(2, 2, 1), mesh=(3, 3, 3), pair_cutoff_A=cutoff) for cutoff in (None, 5.0))
    assert len(near.plan(crystal)) < 0.7 * len(whole.plan(crystal))
    kappas = [settings.compute(sw, crystal)["kappa_W/mK"] for settings in (whole, near)]
    assert kappas[0] == pytest.approx(kappas[1], rel=1e-3)


def test_second_order_constants_of_their_own(silicon, sw):
    crystal, done = silicon
    own = Conductivity(**SMALL, second_supercell=(1, 1, 1))
    assert [atoms.info["part"] for atoms in own.plan(crystal)] == [a.info["part"] for a in done] + ["second_1"]
    found = own.compute(sw, crystal)
    assert found["kappa_W/mK"] == pytest.approx(
        Conductivity(**SMALL).result(crystal, done, fr.PREDICTION)["kappa_W/mK"], rel=1e-3
    )
    larger = Conductivity(**SMALL, second_supercell=(2, 2, 2)).compute(sw, crystal)
    assert larger["kappa_W/mK"] != pytest.approx(found["kappa_W/mK"], rel=0.01)


def test_forces_on_atoms_in_their_places_are_taken_off(sw):
    """Those that are in all frames alike change nothing."""
    scaled = [(1 / 3, 2 / 3, 0.06), (2 / 3, 1 / 3, 0.56), (1 / 3, 2 / 3, 0.44), (2 / 3, 1 / 3, 0.94)]
    cell = [(3.84, 0, 0), (-1.92, 1.92 * np.sqrt(3), 0), (0, 0, 6.27)]
    crystal = Atoms("Si4", scaled_positions=scaled, cell=cell, pbc=True)
    settings = Conductivity(supercell=(1, 1, 1), mesh=(3, 3, 3))
    done = settings.computed(sw, crystal)
    assert done[-1].info["part"] == "third_0"
    found = settings.result(crystal, done, fr.PREDICTION)
    assert found["imaginary_modes"] == 0
    for atoms in done:
        atoms.arrays[f"{fr.PREDICTION}_forces"] += np.array([[0.1, 0.2, 0.3], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    again = settings.result(crystal, done, fr.PREDICTION)
    assert again["kappa_W/mK"] == pytest.approx(found["kappa_W/mK"], rel=1e-6)
    assert again["residual_force_eV/A"] > 1 > found["residual_force_eV/A"]


def test_what_is_wrong_is_told(silicon):
    crystal, done = silicon
    settings = Conductivity(**SMALL)
    with pytest.raises(PropertyError, match="there are 15 frames, expected the 16 of the plan"):
        settings.result(crystal, done[1:], fr.PREDICTION)
    lost = [*done[:-1], done[-1].copy()]
    del lost[-1].arrays[f"{fr.PREDICTION}_forces"]
    lost[-1].info["label_status"] = "failed: not converged"
    with pytest.raises(PropertyError, match="frame third_16 has no PRED_forces: failed: not converged"):
        settings.result(crystal, lost, fr.PREDICTION)
    with pytest.raises(PropertyError, match="frame third_2 is not third_1 of the plan"):
        settings.result(crystal, [done[1], done[0], *done[2:]], fr.PREDICTION)
    (fault,) = settings.faults(crystal, 5.0)
    assert "supercell 1×1×1 of the conventional cell: a displaced atom is 5.43 Å from its image" in fault
    assert "set length_A: 10," in fault
    assert Conductivity(**SMALL, allow_small=True).faults(crystal, 5.0) == []
    assert Conductivity(length_A=10).faults(crystal, 5.0) == []
    assert settings.faults(Atoms("Si"), 2.0) == ["the conductivity needs a crystal that is periodic in all directions"]
    with pytest.raises(PropertyError, match=r"conductivity\.temperatures_K"):
        property_of({"kind": "conductivity", "temperatures_K": []})


def test_noise_of_the_last_digits_stays_noise(silicon):
    """As forces have it from one machine to another, and from a file that rounds."""
    crystal, done = silicon
    expected = Conductivity(**SMALL).result(crystal, done, fr.PREDICTION)["kappa_W/mK"]
    rng = np.random.default_rng(1)
    for atoms in done:
        atoms.arrays[f"{fr.PREDICTION}_forces"] += 1e-10 * rng.normal(size=(8, 3))
    assert Conductivity(**SMALL).result(crystal, done, fr.PREDICTION)["kappa_W/mK"] == pytest.approx(expected, rel=1e-6)


# --- memory ---


def test_the_arrays_that_are_forecast(silicon):
    crystal, done = silicon
    settings = Conductivity(**SMALL, method="lbte")
    found = runner.planned(crystal, settings.model_dump())
    runner._take(found, done, fr.PREDICTION)
    runner._force_constants(found)
    found.mesh_numbers = settings.mesh
    found.init_phph_interaction()
    found.run_thermal_conductivity(is_LBTE=True, temperatures=settings.temperatures_K)
    parts = settings.memory_parts(crystal)
    assert parts["fc3"] == pytest.approx(found.fc3.nbytes / 1e6)
    assert parts["collisions"] == pytest.approx(4 / 3 * found.thermal_conductivity.collision_matrix.nbytes / 1e6)
    assert set(Conductivity().memory_parts(crystal)) == {"fc3", "frames"}


@pytest.mark.full
@pytest.mark.parametrize(
    "settings",
    [
        {"supercell": (3, 3, 3), "mesh": (3, 3, 3)},
        {"supercell": (1, 1, 1), "mesh": (9, 9, 9), "method": "lbte", "temperatures_K": range(300, 700, 10)},
    ],
)
def test_the_memory_that_is_forecast(sw, tmp_path, settings):
    """Of the script as a job runs it: at least what it takes, at most a quarter more."""
    crystal, settings = bulk("Si", "diamond", 5.431), Conductivity(**settings)
    frames = [crystal, *settings.computed(sw, crystal)]
    (tmp_path / "input.extxyz").write_text(fr.dumps(frames))
    (tmp_path / "settings.json").write_text(json.dumps({**settings.model_dump(mode="json"), "prefix": fr.PREDICTION}))
    peak = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    code = f"import runpy; runpy.run_path({runner.__file__!r}, run_name='__main__'); {peak}"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=800, check=True)
    assert "failure" not in json.loads((tmp_path / "results.json").read_text())
    measured = float(done.stdout.split()[-1]) * 1024 / 1e6
    print(f"measured {measured:.0f} MB, forecast {settings.memory_MB(crystal):.0f} MB")
    assert 0.95 * measured < settings.memory_MB(crystal) < 1.25 * measured


# --- as a job ---


def dataset(crystal, done):
    from aiida_gaprss.data.dataset import Dataset

    frames = [crystal.copy(), *(atoms.copy() for atoms in done)]
    for number, atoms in enumerate(frames):
        atoms.info["frame_id"] = f"silicon-{number}"
    return Dataset(frames, level_of_theory="unlabelled")


def job(run, code, frames, options=None, **settings):
    from aiida_gaprss.calculations.conductivity import ConductivityCalculation

    inputs = {"code": code, "frames": frames, "settings": Dict({"prefix": fr.PREDICTION, **settings})}
    return run(ConductivityCalculation, **inputs, metadata={"options": options or {}})


def test_the_job_gives_what_the_property_gives(run, python_code, silicon):
    crystal, done = silicon
    frames = dataset(crystal, done)
    outputs, node = job(run, python_code, frames, {"processes": 1}, **SMALL)
    assert node.is_finished_ok, node.exit_message
    crystal, *done = frames.get_frames()
    expected = Conductivity(**SMALL).result(crystal, done, fr.PREDICTION)
    found = outputs["results"].get_dict()
    assert set(found) == set(json.loads(json.dumps(expected)))
    assert found["kappa_W/mK"] == pytest.approx(expected["kappa_W/mK"], rel=1e-12)
    assert found["kappa_tensor_W/mK"] == [pytest.approx(row, rel=1e-9, abs=1e-9) for row in expected["kappa_tensor_W/mK"]]
    assert "thermal conductivity of Si2" in outputs["results"].label


def test_a_python_without_phono3py_says_so(run, python_code, silicon, tmp_path):
    (tmp_path / "phono3py.py").write_text("raise ModuleNotFoundError(\"No module named 'phono3py'\")\n")
    options = {"prepend_text": f"export PYTHONPATH={tmp_path}"}
    _, node = job(run, python_code, dataset(*silicon), options, **SMALL)
    assert node.exit_status == 310
    assert "No module named 'phono3py'; the python of this code needs phono3py" in node.exit_message


def test_jobs_that_have_no_result(run, python_code, silicon):
    crystal, done = silicon
    _, node = job(run, python_code, dataset(crystal, done[:-1]), **SMALL)
    assert node.exit_status == 310
    assert "there are 15 frames, expected the 16 of the plan" in node.exit_message
    with pytest.raises(ValueError, match=r"conductivity\.mesh"):
        job(run, python_code, dataset(crystal, done), mesh=[0, 1, 1])
    with pytest.raises(ValueError, match="prefix is 'GAP', expected REF or PRED"):
        job(run, python_code, dataset(crystal, done), prefix="GAP")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mesh": [4, 4, 4]}, r"mesh is \[4, 4, 4\], expected \[5, 5, 5\]"),
        ({"kappa_W/mK": [1.0]}, r"kappa_W/mK is \[1.0\], expected numbers of shape \(3,\)"),
        ({"kappa_tensor_W/mK": [[1.0] * 6, [1.0] * 5, []]}, r"kappa_tensor_W/mK is .*, expected numbers of shape \(3, 6\)"),
        ({"imaginary_modes": "no"}, "imaginary_modes is 'no', expected a finite number"),
    ],
)
def test_results_that_are_damaged(silicon, change, message):
    from aiida_gaprss.calculations.conductivity import complete
    from aiida_gaprss.parsers.conductivity import check
    from aiida_gaprss.parsers.results import DamageError

    crystal, done = silicon
    settings = complete({"prefix": fr.PREDICTION, **SMALL})
    found = json.loads(json.dumps(Conductivity(**SMALL).result(crystal, done, fr.PREDICTION)))
    check(found, settings)
    with pytest.raises(DamageError, match=message):
        check({**found, **change}, settings)
