"""Relaxations: what a step is, what is kept, and what becomes of cells that a potential with holes destroys."""

from collections import Counter

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import spglib
from aiida.orm import Dict
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from pydantic import ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.runners import FOLDER
from aiida_gaprss.selection.sanity import Limits, sane
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

GPA = 160.21766


@pytest.fixture
def relax(monkeypatch):
    """The task, in this process, with ASE's EMT."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import relax

    def run(atoms, deadline=np.inf, calculator=None, **settings):
        task = relax.Relax()
        task.setup({**RelaxSettings(**settings).model_dump(), "calculator": "emt", "arguments": {}})
        task.calculator = calculator or task.calculator
        return task.run(atoms, deadline)

    run.module = relax
    return run


def copper(seed=3, pressure=5.0):
    atoms = bulk("Cu", a=3.8, cubic=True)
    atoms.rattle(0.2, seed=seed)
    atoms.info.update(pressure_GPa=pressure, seed=seed)
    return atoms


def enthalpy(atoms):
    return atoms.info["PRED_energy"] + atoms.info.get("pressure_GPa", 5.0) / GPA * atoms.get_volume()


# --- what a step is ---


def test_a_step_of_cg_is_a_line_search(relax):
    """Against the iterations of SciPy itself on the same cell, whose trials in between are no steps."""
    status, trail = relax(copper(), optimizer="cg", snapshot_steps="all", max_steps=9, fmax=1e-6)
    work = copper()
    work.calc = EMT()
    cell = relax.module.LogCellFilter(work, scalar_pressure=5.0 / GPA)

    def energy(x):
        cell.set_positions(x.reshape(-1, 3))
        return cell.get_potential_energy() / 70

    def gradient(x):
        cell.set_positions(x.reshape(-1, 3))
        return -cell.get_forces().ravel() / 70

    x0 = cell.get_positions().ravel()
    _, _, calls, *_, points = scipy.optimize.fmin_cg(
        energy, x0, gradient, maxiter=9, gtol=1e-12, norm=np.inf, full_output=True, retall=True, disp=False
    )
    assert status == "max_steps"
    assert [atoms.info["step"] for atoms in trail] == list(range(10))
    assert calls > 10, "a line search takes several energies"
    for atoms, x in zip(trail, points, strict=True):
        cell.set_positions(x.reshape(-1, 3))
        assert np.allclose(atoms.cell.array, work.cell.array, atol=1e-4)
        assert np.allclose(atoms.positions, work.positions, atol=1e-4)
    heights = [enthalpy(atoms) for atoms in trail]
    assert heights == sorted(heights, reverse=True), "every line search ends lower"


@pytest.mark.parametrize("optimizer", ["cg", "lbfgs"])
def test_the_time_is_looked_at_inside_of_a_step(relax, monkeypatch, optimizer):
    """The clock counts energies; what is kept is the last step that was finished, not a trial of a line search."""
    clock = EMT()
    clock.counted = 0
    calculate = clock.calculate

    def count(*args, **kwargs):
        clock.counted += 1
        calculate(*args, **kwargs)

    clock.calculate = count
    monkeypatch.setattr(relax.module.time, "time", lambda: clock.counted)
    _, trail = relax(copper(), optimizer=optimizer, snapshot_steps="all", max_steps=20)
    clock.counted = 0
    status, (last,) = relax(copper(), deadline=9, calculator=clock, optimizer=optimizer, snapshot_steps=[], max_steps=20)
    assert status == last.info["relax_status"] == "time_limit"
    assert clock.counted <= 9 + 3
    assert 1 <= last.info["step"] < len(trail) - 1
    assert fr.dumps([last]) == fr.dumps([trail[last.info["step"]]]).replace("on_the_way", "time_limit")


@pytest.mark.parametrize(
    ("wanted", "steps"),
    [("all", list(range(8))), ({"every": 3}, [0, 3, 6, 7]), ([5], [5, 7]), ([], [7]), ([200], [7])],
)
@pytest.mark.parametrize("optimizer", ["cg", "lbfgs"])
def test_snapshots(relax, optimizer, wanted, steps):
    status, trail = relax(copper(), optimizer=optimizer, snapshot_steps=wanted, max_steps=7, fmax=1e-9)
    assert status == "max_steps"
    assert [atoms.info["step"] for atoms in trail] == steps


def test_nothing_is_done_to_a_cell_that_is_relaxed(relax):
    for optimizer in ("cg", "lbfgs", "fire"):
        _, trail = relax(copper(), optimizer=optimizer, fmax=1e-3, max_steps=500, snapshot_steps=[])
        trail[0].info["pressure_GPa"] = 5.0
        status, (again,) = relax(trail[0], optimizer=optimizer, fmax=2e-3)
        assert (status, again.info["step"]) == ("converged", 0)


# --- the cell as a degree of freedom ---


def strained_copper(relax, seed):
    """A cell far from where its filter began, with the filter."""
    atoms = copper(seed)
    atoms.calc = EMT()
    cell = relax.module.LogCellFilter(atoms, scalar_pressure=5.0 / GPA)
    u = np.random.default_rng(seed).normal(0, 0.15, (3, 3))
    x = cell.get_positions()
    x[-3:] += len(atoms) * (u + u.T) / 2
    cell.set_positions(x)
    return atoms, cell, x


@pytest.mark.parametrize("seed", range(4))
def test_the_deformation_is_the_exponential_of_what_the_optimiser_sees(relax, seed):
    """Against the matrix functions of SciPy."""
    atoms, cell, x = strained_copper(relax, seed)
    deformation = scipy.linalg.expm(x[-3:] / len(atoms))
    assert np.allclose(atoms.cell.array, copper().cell.array @ deformation.T, atol=1e-8)
    assert np.allclose(atoms.positions, x[:-3] @ deformation.T, atol=1e-8)
    assert np.allclose(cell.get_positions(), x, atol=1e-8)
    assert np.allclose(scipy.linalg.logm(cell.deform_grad()) * len(atoms), x[-3:], atol=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_forces_are_derivatives_of_the_enthalpy(relax, seed):
    """Against finite differences, and against the symmetric part of what ASE says (it turns the cell, too)."""
    atoms, cell, x = strained_copper(relax, seed)
    forces = cell.get_forces()
    exact = FrechetCellFilter(atoms, scalar_pressure=5.0 / GPA)
    exact.orig_cell = cell.orig_cell
    theirs = exact.get_forces()
    assert np.allclose(forces[:-3], theirs[:-3], atol=1e-7)
    assert np.allclose(forces[-3:], (theirs[-3:] + theirs[-3:].T) / 2, atol=1e-6)
    for row, column in np.ndindex(len(x), 3):
        enthalpies = []
        for sign in (1, -1):
            moved = x.copy()
            moved[row, column] += sign * 1e-4
            if row >= len(atoms):  # U is symmetric: half of the change for either of the two
                moved[-3:] = (moved[-3:] + moved[-3:].T) / 2
            cell.set_positions(moved)
            enthalpies.append(cell.get_potential_energy())
        assert -(enthalpies[0] - enthalpies[1]) / 2e-4 == pytest.approx(forces[row, column], abs=2e-5)


def test_a_cell_that_was_not_deformed(relax):
    """Equal eigenvalues: the derivative has no division by zero."""
    atoms = copper()
    atoms.calc = EMT()
    forces = relax.module.LogCellFilter(atoms, scalar_pressure=5.0 / GPA).get_forces()
    assert np.allclose(forces, FrechetCellFilter(atoms, scalar_pressure=5.0 / GPA).get_forces(), atol=1e-6)


# --- cells that are given up ---


@pytest.mark.parametrize("optimizer", ["cg", "lbfgs", "fire"])
def test_each_end_has_its_name(relax, optimizer):
    settings = {"optimizer": optimizer, "max_steps": 300}
    assert relax(copper(pressure=3000.0), **settings, min_distance=2.0)[0] == "collapsed"
    assert relax(copper(pressure=3000.0), **settings, min_distance={"Cu-Cu": 2.0})[0] == "collapsed"
    assert relax(copper(pressure=3000.0), **settings, volume_factors=(0.8, 2.0))[0] == "collapsed"
    if optimizer != "lbfgs":  # it climbs where the curvature is negative
        assert relax(copper(pressure=-100.0), **settings, volume_factors=(0.5, 2.0))[0] == "exploded"
    if optimizer == "fire":  # in the long steps of cg it explodes first
        status, trail = relax(copper(pressure=-100.0), **settings, volume_factors=(0.01, 100.0), max_neighbour_distance=4.0)
        assert status == trail[-1].info["relax_status"] == "evaporated"


def test_distances_by_pair(relax):
    atoms = bulk("CuAu", "rocksalt", a=5.6)
    assert relax(atoms, min_distance={"Cu-Cu": 3.5, "Au-Cu": 1.5}, max_steps=1)[0] == "max_steps"
    assert relax(atoms, min_distance={"Au-Cu": 2.9})[0] == "collapsed", "in either order"


@pytest.mark.parametrize("limits", [1.9, {"Cu-Cu": 1.8, "Au-Cu": 2.1}])
def test_bounds_on_distances_say_what_neighbour_lists_say(relax, monkeypatch, limits):
    """Cells on random ways: the answer of every step is that of a list, and few lists are made."""
    if isinstance(limits, dict):
        cutoffs = {tuple(pair.split("-")): limit for pair, limit in limits.items()}
    else:
        cutoffs = limits
    lists = []
    import distances as scripts

    original = scripts.neighbor_list
    monkeypatch.setattr(scripts, "neighbor_list", lambda *args: lists.append(args) or original(*args))
    answers, steps = Counter(), 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        atoms = bulk("CuAu", "rocksalt", a=5.2).repeat((2, 1, 1))
        growth = (-0.006, 0.006)[seed % 2]
        distances = relax.module.Distances(relax.module.shortest_distances(limits), reach=3.3)
        for _ in range(60):
            steps += 1
            atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
            strain = growth * np.eye(3) + rng.normal(0, 0.003, (3, 3))
            atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
            close = len(original("i", atoms, cutoffs)) > 0
            alone = atoms.get_volume() > np.pi / 6 * 3.3**3 and len(set(original("i", atoms, 3.3))) < len(atoms)
            assert (distances.too_close(atoms), distances.alone(atoms)) == (close, alone)
            answers.update([("close", close), ("alone", alone)])
    assert min(answers[name, value] for name in ("close", "alone") for value in (False, True)) > 10, answers
    assert len(lists) < steps


@pytest.mark.parametrize(
    ("scale", "limits"),
    [(1.1, {"volume_factors": (0.6, 4.0)}), (1.3, {"min_distance": 2.03}), (1.1, {"volume_factors": (0.7, 4)})],
)
def test_a_trial_too_far_does_not_end_a_relaxation(relax, monkeypatch, scale, limits):
    """Line searches from an expanded cell overshoot. That is no hole; a minimum beyond the limit is."""
    refused = []
    check = relax.module.Relax.check

    def watched(self, *args):
        try:
            check(self, *args)
        except relax.module.GiveUp:
            refused.append(args)
            raise

    monkeypatch.setattr(relax.module.Relax, "check", watched)
    start = copper(seed=8, pressure=0.0)
    start.set_cell(start.cell * scale, scale_atoms=True)
    settings = {"optimizer": "cg", "snapshot_steps": [], "fmax": 0.01}
    _, (free,) = relax(start, **settings, volume_factors=(0.01, 100))
    assert not refused
    status, (last,) = relax(start, **settings, **limits)
    assert refused
    if limits.get("volume_factors", (0, 0))[0] == 0.7:
        assert status == "collapsed"
        assert 0.7 * start.get_volume() < last.get_volume() < start.get_volume(), "the last point within the limits"
    else:
        assert status == "converged"
        assert last.get_volume() == pytest.approx(free.get_volume(), rel=0.01)
        assert last.info["PRED_energy"] == pytest.approx(free.info["PRED_energy"], abs=0.01)


@pytest.mark.parametrize("optimizer", ["cg", "lbfgs"])
def test_energies_that_are_no_numbers(relax, optimizer):
    class Holes(EMT):
        def calculate(self, atoms, *args, **kwargs):
            super().calculate(atoms, *args, **kwargs)
            if atoms.get_volume() < 50:
                for name in ("energy", "free_energy", "forces", "stress"):
                    self.results[name] = self.results[name] * np.nan

    status, trail = relax(copper(pressure=200.0), calculator=Holes(), optimizer=optimizer, snapshot_steps="all")
    assert status == "not_finite"
    assert len(trail) >= 1, "what came before is kept"
    fr.check(trail[-1], "the last frame")


# --- symmetry ---


def symmetric_cells(number=6):
    spec = CellSpec(
        formula={"Cu": 1}, n_atoms=(4, 6, 8), volume_per_atom=(10, 14), min_separation=2.0, n_operations=(2, 4, 8, 12)
    )
    return random_cells(spec, number, seed=4)


def space_group(atoms):
    return spglib.get_symmetry_dataset((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=1e-4).number


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire"])
def test_the_space_group_is_kept(relax, optimizer):
    for atoms in symmetric_cells():
        status, trail = relax(atoms, optimizer=optimizer, symmetry="kept", snapshot_steps={"every": 10}, max_steps=300)
        assert status in ("converged", "max_steps")
        order = len(spglib.get_symmetry(cell(atoms), symprec=1e-4)["rotations"])
        for snapshot in trail:  # a relaxation may find a higher symmetry, but loses none
            assert len(spglib.get_symmetry(cell(snapshot), symprec=1e-4)["rotations"]) % order == 0
        assert space_group(trail[0]) == space_group(atoms)


def cell(atoms):
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"snapshot_steps": "some"}, "all"),
        ({"snapshot_steps": [-1]}, "greater than or equal to 0"),
        ({"snapshot_steps": {"every": 0}}, "greater than 0"),
        ({"min_distance": {"Li_Cu": 1.5}}, "'Li_Cu' is not a pair of elements, expected e.g. Li-Cu"),
        ({"min_distance": {"Li-Qq": 1.5}}, "'Li-Qq' is not a pair"),
        ({"volume_factors": (2.0, 0.5)}, "expected a number below 1 and one above"),
        ({"symmetry": "kept", "optimizer": "cg"}, "kept goes with lbfgs and fire"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValidationError, match=message):
        RelaxSettings(**settings)


# --- with a real GAP ---


def gap_settings(folder, **changes):
    settings = RelaxSettings(**{"max_steps": 60, "snapshot_steps": {"every": 10}, "fmax": 0.02, **changes}).model_dump()
    arguments = {"param_filename": str(folder / "gap.xml")}
    return {**settings, "calculator": "quippy.potential.Potential", "arguments": arguments}


def silicon(number, seed, volumes=(14, 24), separation=1.9, pressure=None):
    spec = CellSpec(formula={"Si": 1}, n_atoms=(2, 3, 4), volume_per_atom=volumes, min_separation=separation)
    frames = random_cells(spec, number, seed)
    for index, atoms in enumerate(frames):
        given = 2.0 * index if pressure is None else pressure
        atoms.info.update(frame_id=f"cell-{index}", config_type="random", pressure_GPa=given)
    return frames


@pytest.mark.parametrize("optimizer", ["cg", "lbfgs"])
def test_the_same_seed_gives_the_same_frames_whatever_the_processes(run_batch, potential_folder, optimizer):
    results = {}
    for name, processes, seed in (("one", 1, 5), ("two", 2, 5), ("other", 2, 6)):
        settings = gap_settings(potential_folder, optimizer=optimizer, max_steps=25) | {"processes": processes}
        done, lines, _ = run_batch("relax", silicon(4, seed), settings, name=name)
        assert sorted(lines) == list(range(4)), done.stderr
        results[name] = [(lines[i]["status"], fr.dumps(fr.loads(lines[i]["frames"]))) for i in range(4)]
    assert results["one"] == results["two"]
    assert not {text for _, text in results["one"]} & {text for _, text in results["other"]}
    assert len({text for _, text in results["one"]}) == 4


def test_a_potential_with_holes(run, python_code, fit_with_binary, silicon_frames):
    """Three frames and a flexible kernel without repulsion: every cell comes back with a status, none ends the job."""
    hollow = {
        "descriptors": [{"kind": "soap", "cutoff": 4.0, "n_max": 4, "l_max": 2, "n_sparse": 8, "delta": 5.0}],
        "sigma": {"energy": 0.001, "forces": 0.05, "virial": 0.05},
    }
    folder, log = fit_with_binary(silicon_frames[:4], settings=hollow)
    assert (folder / "gap.xml").is_file(), log
    cells = silicon(10, seed=9, volumes=(6, 30), separation=1.2, pressure=20.0)
    counts = Counter()
    for optimizer in ("cg", "lbfgs"):
        outputs, node = run(
            RelaxCalculation,
            code=python_code,
            potential=Potential(folder),
            frames=Dataset(cells),
            settings=Dict({"optimizer": optimizer, "max_steps": 40, "min_distance": 1.2, "snapshot_steps": [5]}),
        )
        assert node.is_finished_ok, node.exit_message
        status = outputs["summary"]["status"]
        assert sum(status.values()) == len(cells)
        counts.update(status)
        ends = [a for a in outputs["frames"].get_frames() if a.info["relax_status"] != "on_the_way"]
        assert Counter(a.info["relax_status"] for a in ends) <= Counter(status)
        collapsed = [a for a in ends if a.info["relax_status"] == "collapsed"]
        limits = Limits(min_distance=1.2, volume_per_atom=(4.0, 60.0))
        if optimizer == "lbfgs":
            assert sane(collapsed, limits).kept == []
        else:
            assert len(sane(collapsed, limits).kept) == len(collapsed), "ended at the last point before the hole"
    assert counts["collapsed"] > 0
    assert counts["failed"] == 0
