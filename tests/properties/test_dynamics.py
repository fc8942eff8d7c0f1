"""Dynamics and melt-quench against exact values, published ones, and ASE's own analysis."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.analysis import DiffusionCoefficient

from aiida_gaprss.properties import trajectories as tr
from aiida_gaprss.properties.base import Limits, PropertyError, property_of
from aiida_gaprss.properties.dynamics import Dynamics
from aiida_gaprss.properties.melt_quench import STAGES, MeltQuench
from aiida_gaprss.settings.jobs import MdSettings
from aiida_gaprss.structures.supercells import nearest_distance

SHORT = {"repetitions": (1, 1, 1), "equilibration_ps": 0.02, "time_ps": 0.1, "snapshot_fs": 10.0, "timestep_fs": 2.0}


def snapshots(atoms, n=1, step=0.1, part="300K"):
    out = [atoms.copy() for _ in range(n)]
    for number, frame in enumerate(out):
        frame.info.update(step=100 * number, time_ps=step * number, temperature_K=300.0, part=part, md_status="on_the_way")
        frame.info["PRED_energy"], frame.arrays["PRED_forces"] = -4.0 * len(atoms), np.zeros((len(atoms), 3))
    out[-1].info.update(md_status="finished", md_end_step=100 * (n - 1))
    return out


# --- what snapshots tell ---


@pytest.mark.parametrize(
    ("crystal", "first", "neighbours", "ratio"),
    [
        (bulk("Si", a=5.431, cubic=True), 5.431 * np.sqrt(3) / 4, 4, np.sqrt(8 / 3)),
        (bulk("Cu", a=3.61, cubic=True), 3.61 / np.sqrt(2), 12, np.sqrt(2)),
        (bulk("Mo", a=3.15, cubic=True), 3.15 * np.sqrt(3) / 2, 8, 2 / np.sqrt(3)),
    ],
)
def test_shells_of_perfect_crystals(crystal, first, neighbours, ratio):
    found = tr.structure([tr.supercell(crystal, 11.0, None)], 0.02)
    assert found["first_peak_A"] == pytest.approx(first, abs=0.011)
    assert found["coordination"] == neighbours
    assert found["coordination_shares"] == {str(neighbours): 1.0}
    r, g = np.array(found["r_A"]), np.array(found["g"])
    assert r[g > 0][:2] / first == pytest.approx([1, ratio], abs=0.01)
    density = len(crystal) / crystal.get_volume()
    shells = 4 * np.pi * density * np.cumsum(g * r**2) * (r[1] - r[0])
    assert shells[r > 1.05 * first][0] == pytest.approx(neighbours, rel=0.01)
    assert nearest_distance(crystal) == pytest.approx(first, rel=1e-9)


def test_shells_with_thermal_motion(sw):
    """Diamond at 300 K keeps four neighbours near 2.352 Å of this potential."""
    found = Dynamics(**SHORT).compute(sw, bulk("Si", cubic=True))["trajectories"]["300K"]
    assert found["structure"]["first_peak_A"] == pytest.approx(2.352, abs=0.04)
    assert found["structure"]["coordination"] == 4
    assert 0.01 < found["lindemann"] < 0.1


def test_errors_of_means():
    """Of a series that remembers: x' = φ x + noise has the standard error σ √((1 + φ)/(1 − φ)/n)."""
    rng, phi, n = np.random.default_rng(1), 0.8, 4000
    told, found = [], []
    for _ in range(100):
        noise, series = rng.normal(size=n), np.empty(n)
        series[0] = noise[0] / np.sqrt(1 - phi**2)
        for number in range(1, n):
            series[number] = phi * series[number - 1] + noise[number]
        mean, error = tr.mean_and_error(series)
        told.append(mean)
        found.append(error)
    exact = np.sqrt(1 / (1 - phi**2)) * np.sqrt((1 + phi) / (1 - phi) / n)
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(exact, rel=0.15)
    assert np.std(told) == pytest.approx(exact, rel=0.15)
    assert tr.mean_and_error([3.0]) == [3.0, 0.0]


def test_displacements():
    """On straight ways the squares grow with the square of time; a cell that breathes moves nobody; and as ASE fits."""
    atoms = bulk("Cu", cubic=True)
    still = snapshots(atoms, 20)
    for number, frame in enumerate(still):
        frame.set_cell(frame.cell * (1 + 0.01 * np.sin(number)), scale_atoms=True)
    assert tr.diffusion(still)["msd_A2"] == pytest.approx(np.zeros(10), abs=1e-20)
    moving = snapshots(atoms, 20)
    for number, frame in enumerate(moving):
        frame.positions += [0.3 * number, 0, 0]  # beyond the cell: not folded back
    found = tr.diffusion(moving)
    assert found["lag_ps"] == pytest.approx(0.1 * np.arange(1, 11))
    assert found["msd_A2"] == pytest.approx((0.3 * np.arange(1, 11)) ** 2)
    walk, rng = snapshots(atoms * 4, 400), np.random.default_rng(3)
    steps = np.cumsum(rng.normal(0, 0.1, (400, 256, 3)), axis=0)
    for frame, way in zip(walk, steps, strict=True):
        frame.positions += way
    mine = tr.diffusion(walk)["diffusion_cm2/s"]
    assert mine == pytest.approx(0.1**2 / (2 * 0.1) * 1e-4, rel=0.08), "σ²/(2 Δt) of a random walk"
    theirs = DiffusionCoefficient(walk, timestep=100 * units.fs)
    theirs.calculate()
    assert mine == pytest.approx(theirs.get_diffusion_coefficients()[0][0] * units.fs * 1e-1, rel=0.15)


def test_pressure_of_an_ideal_gas():
    gas = snapshots(bulk("Cu", cubic=True))
    gas[0].info["PRED_virial"] = np.zeros(9)
    (pressure,) = tr.series(gas, "PRED")["pressure_GPa"]
    assert pressure * units.GPa == pytest.approx(3 * units.kB * 300 / gas[0].get_volume()), "three of four atoms move freely"
    (density,) = tr.series(gas, "PRED")["density_g/cm3"]
    assert density == pytest.approx(8.94, abs=0.05)


# --- the property ---


@pytest.mark.parametrize("ensemble", ["nvt_langevin", "npt_mtk", "nve"])
def test_one_plan_and_its_results(ensemble):
    copper = bulk("Cu", a=3.6, cubic=True)
    prop = property_of({"kind": "dynamics", "temperatures_K": [100, 600], "ensemble": ensemble, **SHORT, "labels": 3})
    plan = prop.plan(copper)
    assert [a.info["part"] for a in plan] == ["100K", "600K"]
    tasks = [MdSettings(**json.loads(json.dumps(a.info["task"]))) for a in plan]
    assert tasks[0].seed != tasks[1].seed
    assert tasks[0].program[0].ensemble == {"nve": "nvt_langevin"}.get(ensemble, ensemble)
    done = prop.computed(EMT(), copper)
    result = json.loads(json.dumps(prop.result(copper, done, "PRED")))
    assert {key: one["status"] for key, one in result["trajectories"].items()} == {"100K": "finished", "600K": "finished"}
    assert [one["end_ps"] for one in result["trajectories"].values()] == [0.12, 0.12]
    assert ("drift_meV/atom/ps" in result["trajectories"]["100K"]) == (ensemble == "nve")
    chosen = [done[number] for number in prop.to_label(done)]
    assert [a.info["part"] for a in chosen] == 3 * ["100K"] + 3 * ["600K"]
    assert all(a.info["time_ps"] >= 0.02 for a in chosen)
    for number, atoms in enumerate(chosen):  # a reference that is higher by 2 meV and pulls by 0.1 eV/Å along x
        atoms.info["REF_energy"] = atoms.info["PRED_energy"] + 0.002 * len(atoms) * (-1) ** number
        atoms.arrays["REF_forces"] = atoms.arrays["PRED_forces"] + [0.1, 0, 0]
    del chosen[0].info["REF_energy"]
    reference = json.loads(json.dumps(prop.result(copper, chosen, "REF")))
    scores = prop.scores(result, reference)
    assert scores["exploded"] == 0
    assert scores["energy_mae_meV/atom"] == pytest.approx(2.0)
    assert scores["force_mae_eV/A"] == pytest.approx(0.1 / 3)
    assert reference["errors"]["100K"]["snapshots"] == 2
    assert reference["errors"]["600K"]["energy_offset_meV/atom"] == pytest.approx(2 / 3)
    assert reference["all_errors"]["force_rmse_eV/A"] == pytest.approx(0.1 / np.sqrt(3))
    curves = {**prop.curves(result), **prop.curves(reference)}
    assert {"rdf 600K", "msd 100K", "temperature 100K", "energy error 600K", "force error 100K"} <= set(curves)
    assert all(len(line) == len(curve.x) for curve in curves.values() for line in curve.lines)
    assert all(isinstance(limit, Limits) for limit in prop.LIMITS.values())


def test_a_potential_that_explodes():
    """Lennard-Jones copper that wants to be twice as dense flies apart; it is said when."""
    wrong = LennardJones(sigma=3.2, epsilon=2.0, rc=5.0)
    prop = Dynamics(**SHORT)
    result = prop.compute(wrong, bulk("Cu", a=3.6, cubic=True))
    found = result["trajectories"]["300K"]
    assert found["status"] == "exploded"
    assert 0 < found["end_step"] < 60
    assert found["end_ps"] == pytest.approx(found["end_step"] * 0.002)
    assert "means" not in found, "there is nothing to be averaged"
    assert prop.scores(result, None) == {"exploded": 1, "unfinished": 0}
    cut = {"trajectories": {"300K": {"status": "time_limit"}, "900K": {"status": "not_reached"}}}
    assert prop.scores(cut, None) == {"exploded": 0, "unfinished": 2}, "what was cut off is not good"
    assert prop.LIMITS["exploded"].light(1) == "bad"
    with pytest.raises(PropertyError, match="frame 300K: not_finite"):
        prop.compute(LennardJones(epsilon=float("nan")), bulk("Cu", a=3.6, cubic=True))


def test_what_is_refused():
    copper = bulk("Cu")
    assert Dynamics(length_A=10).faults(bulk("Cu", cubic=True), 6.0) == []
    (fault,) = Dynamics(length_A=4).faults(bulk("Cu", cubic=True), 8.0)
    assert "less than the cutoff of 8.00 Å: atoms feel their own images; set length_A to 8.00 or more" in fault
    assert "two atoms at least" in Dynamics(length_A=1).faults(copper, 1.0)[0]
    assert "periodic in all directions" in Dynamics().faults(Atoms("Cu2", cell=[5] * 3), 1.0)[0]
    assert "expected more than cold_K (300)" in MeltQuench(hot_K=200).faults(copper, 1.0)[0]
    assert "12 vacancies in a supercell of 8 atoms leave none" in MeltQuench(length_A=4).faults(copper, 1.0)[0]
    with pytest.raises(PropertyError, match="no snapshot came back"):
        Dynamics().result(copper, [], "PRED")
    with pytest.raises(PropertyError, match="no snapshot has REF_energy"):
        Dynamics().result(copper, snapshots(copper), "REF")


# --- melt and quench ---


def test_the_protocol_of_the_paper():
    """512 atoms less 12; 150 ps for 1500 K at 10¹³ K/s; 10,000 steps from one snapshot to the next."""
    (frame,) = MeltQuench().plan(bulk("Si", cubic=True))
    assert len(frame) == 500
    task = MdSettings(**frame.info["task"])
    assert task.snapshot_every == 10_000
    assert [(part.start_K, part.end_K, part.ps) for part in task.program] == [
        (300, 300, 50),
        (300, 1800, 150),
        (1800, 1800, 50),
        (1800, 300, 150),
        (300, 300, 50),
    ]
    again, other = (MeltQuench(seed=seed).plan(bulk("Si", cubic=True))[0] for seed in (1, 2))
    assert np.array_equal(again.positions, frame.positions)
    assert not np.array_equal(other.positions, frame.positions)


def test_errors_by_stage():
    """Means are over the last snapshots of each stage, as in table II."""
    prop = MeltQuench(hold_ps=2, hot_K=400, cold_K=300, rate_K_per_ps=50, last=2, timestep_fs=1.0)
    done = snapshots(bulk("Si", cubic=True), 101)
    for number, atoms in enumerate(done):
        atoms.info["REF_energy"] = atoms.info["PRED_energy"] - 0.001 * len(atoms) * number
        atoms.arrays["REF_forces"] = atoms.arrays["PRED_forces"] - 0.01 * number
    stages = prop.stages(done)
    assert {name: len(mine) for name, mine in stages.items()} == dict(zip(STAGES, (21, 20, 20, 20, 20), strict=True))
    found = prop.result(done[0], done, "REF")
    scores = prop.scores({"status": "finished"}, found)
    assert scores["crystal_energy_mae_meV/atom"] == pytest.approx((19 + 20) / 2)
    assert scores["liquid_force_rmse_eV/A"] == pytest.approx((0.59 + 0.60) / 2)
    assert scores["amorphous_energy_mae_meV/atom"] == pytest.approx((99 + 100) / 2)
    assert set(prop.LIMITS) <= {"exploded", *scores}
    assert len(prop.curves(found)["energy error along the way"].x) == 101


def test_melt_and_quench_in_a_hurry(sw):
    """Of a small cell: the crystal is gone, atoms keep their distance, and it is cold in the end."""
    prop = MeltQuench(
        **{"repetitions": (1, 1, 1), "vacancies": 1, "hot_K": 6000.0, "rate_K_per_ps": 30000.0, "hold_ps": 0.15, "last": 3},
        **{"snapshot_ps": 0.02, "timestep_fs": 2.0, "ensemble": "nvt_berendsen"},
    )
    result = prop.compute(sw, bulk("Si", cubic=True))
    assert (result["status"], result["atoms"]) == ("finished", 7)
    assert list(result["stages"]) == list(STAGES)
    crystal, liquid, glass = (result["stages"][stage]["means"] for stage in ("crystal", "liquid", "amorphous"))
    assert liquid["temperature_K"][0] > 3000 > 2000 > glass["temperature_K"][0]
    assert liquid["potential_energy_eV/atom"][0] > crystal["potential_energy_eV/atom"][0] + 0.2
    assert {"rdf liquid", "rdf amorphous", "temperature", "density"} <= set(prop.curves(result))


@pytest.mark.full
def test_silicon_quenched_from_the_melt(sw):
    """At 3·10¹⁴ K/s and the density of the crystal, beside LAMMPS with 216 atoms (``benchmarks/melt_quench.py``).

    There the first peaks of liquid and glass are at 2.492 ± 0.030 and 2.447 ± 0.007 Å, for three seeds each.
    """
    prop = MeltQuench(
        **{"repetitions": (2, 2, 2), "vacancies": 0, "hot_K": 3000.0, "rate_K_per_ps": 300.0, "hold_ps": 1.0, "last": 20},
        **{"snapshot_ps": 0.02, "timestep_fs": 2.0, "ensemble": "nvt_langevin"},
    )
    result = prop.compute(sw, bulk("Si", cubic=True))
    crystal, liquid, glass = (result["stages"][stage]["structure"] for stage in ("crystal", "liquid", "amorphous"))
    assert crystal["first_peak_A"] == pytest.approx(2.352, abs=0.01)
    assert liquid["first_peak_A"] == pytest.approx(2.492, abs=0.1)
    assert glass["first_peak_A"] == pytest.approx(2.447, abs=0.04)
    assert glass["coordination_shares"]["4"] + glass["coordination_shares"]["5"] > 0.85
    assert glass["coordination_shares"]["5"] > 0
    assert liquid["coordination"] > glass["coordination"] + 1


@pytest.mark.full
def test_the_liquid_of_lennard_jones():
    """Energy and pressure per atom at T* = 0.85, ρ* = 0.776 as NIST has them (Lennard-Jones, with long-range corrections)."""
    sigma, epsilon, density, reach = 3.405, 0.0103, 0.776, 2.5
    crystal = bulk("Ar", "fcc", a=sigma * (4 / density) ** (1 / 3), cubic=True)
    kelvin = 0.85 * epsilon / units.kB
    settings = {"temperatures_K": [kelvin], "repetitions": (3, 3, 3), "equilibration_ps": 20.0, "time_ps": 30.0}
    prop = Dynamics(**settings, timestep_fs=10.0, snapshot_fs=100.0)
    (found,) = prop.compute(LennardJones(sigma=sigma, epsilon=epsilon, rc=reach * sigma), crystal)["trajectories"].values()
    assert found["atoms"] == 108
    shift = 4 * (reach**-12 - reach**-6) * 2 / 3 * np.pi * density * reach**3  # ASE's is zero at the cutoff
    tail = 8 / 3 * np.pi * density * (reach**-9 / 3 - reach**-3)
    energy, error = (value / epsilon for value in found["means"]["potential_energy_eV/atom"])
    assert energy + shift + tail == pytest.approx(-5.5121, abs=max(0.03, 3 * error))
    pressure, error = (value * units.GPa * sigma**3 / epsilon for value in found["means"]["pressure_GPa"])
    tail = 16 / 3 * np.pi * density**2 * (2 / 3 * reach**-9 - reach**-3)
    assert pressure + tail == pytest.approx(0.0068, abs=max(0.1, 3 * error))
    assert found["structure"]["first_peak_A"] == pytest.approx(1.09 * sigma, rel=0.03)
    assert found["motion"]["diffusion_cm2/s"] > 1e-6, "it flows"
