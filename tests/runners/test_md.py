"""Molecular dynamics: exact limits of every ensemble, the same seed, and what becomes of a potential that cannot run it."""

import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from pydantic import ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.trajectories import diffusion
from aiida_gaprss.runners import task_of
from aiida_gaprss.settings.jobs import MdJobSettings, MdSettings

GPA = units.GPa


class Field(Calculator):
    """Atoms that do not see each other: on springs of their own (eV/Å²), in a box whose volume costs energy (GPa)."""

    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, sites, spring=0.0, modulus=0.0, noise=0.0):
        super().__init__()
        self.sites, self.spring, self.modulus, self.noise = np.asarray(sites, dtype=float), spring, modulus * GPA, noise
        self.volume, self.calls = None, 0

    def calculate(self, atoms=None, properties=(), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.volume = self.volume or atoms.get_volume()
        away, strain = atoms.positions - self.sites, atoms.get_volume() / self.volume - 1
        noise = self.noise * np.random.default_rng().normal(size=away.shape)
        energy = self.spring / 2 * np.sum(away**2) + self.modulus / 2 * self.volume * strain**2
        stress = self.modulus * strain * np.array([1, 1, 1, 0, 0, 0])
        self.results = {"energy": energy, "forces": -self.spring * away + noise, "stress": stress}


def copper(n=2, a=3.6):
    return bulk("Cu", a=a, cubic=True) * (n, n, n)


def run(atoms, calculator, deadline=math.inf, **settings):
    task = task_of("md")
    settings.setdefault("min_distance", 0.0)
    settings.setdefault("max_energy_change", 1e6)
    task.settings = MdSettings(**settings).model_dump()
    task.use(calculator)
    return task.run(atoms, deadline)


def at(kelvin, ps):
    return [{"start_K": kelvin, "ps": ps}]


def kelvins(frames, since=0.0):
    return np.array([a.info["temperature_K"] for a in frames if a.info["time_ps"] >= since])


# --- exact limits ---


def test_equipartition():
    """Each of 3N - 3 coordinates has kT/2 of kinetic and of potential energy."""
    atoms = copper(2) * (2, 1, 1)
    coordinates = 3 * len(atoms) - 3
    status, frames = run(
        atoms, Field(atoms.positions, spring=2.0), program=at(500.0, 3.0), timestep_fs=4.0, snapshot_every=5, friction_per_ps=20.0
    )
    assert status == "finished"
    late = [a for a in frames if a.info["time_ps"] > 0.3]
    potential = np.mean([a.info["PRED_energy"] for a in late]) / (coordinates / 2 * units.kB)
    assert np.mean(kelvins(late)) == pytest.approx(500, rel=0.03)
    assert potential == pytest.approx(500, rel=0.03)
    for frame in late[::50]:
        assert np.allclose(frame.get_center_of_mass(), atoms.get_center_of_mass(), atol=1e-6)


def test_the_centre_of_mass_has_no_temperature():
    """Of two atoms: counted as six coordinates, their temperature would be half of that wanted."""
    atoms = copper(1)[:2]
    md = task_of("md")
    module = __import__(type(md).__module__, fromlist=["started"])
    found = [module.temperature(module.started(atoms, 300.0, np.random.default_rng(seed))) for seed in range(2000)]
    assert np.mean(found) == pytest.approx(300, rel=0.05)
    _, frames = run(atoms, Field(atoms.positions, spring=1.0), ensemble="nvt_berendsen", program=at(300.0, 1.0))
    assert kelvins(frames, 0.8).mean() == pytest.approx(300, rel=0.1)


@pytest.mark.parametrize("ensemble", ["npt_mtk", "npt_berendsen"])
def test_volume_under_pressure(ensemble):
    """Of a gas in an elastic box, with the exact distribution of its volume: V^(N-1) exp(-(U + pV)/kT)."""
    atoms, kelvin, pressure, modulus = copper(1), 1500.0, 2.0, 20.0
    volume = atoms.get_volume()
    settings = {"timestep_fs": 2.0, "snapshot_every": 10, "thermostat_ps": 0.05, "barostat_ps": 0.1, "bulk_modulus_GPa": modulus}
    status, frames = run(
        atoms,
        Field(atoms.positions, modulus=modulus),
        ensemble=ensemble,
        program=at(kelvin, 5.0),
        pressure_GPa=pressure,
        **settings,
    )
    assert status == "finished"
    v = np.linspace(0.5, 1.5, 20001) * volume
    exponent = (len(atoms) - 1) * np.log(v) - (modulus * GPA / 2 * volume * (v / volume - 1) ** 2 + pressure * GPA * v) / (
        units.kB * kelvin
    )
    weights = np.exp(exponent - exponent.max())
    late = [a for a in frames if a.info["time_ps"] > 0.5]
    found = np.array([a.get_volume() for a in late])
    assert found.mean() == pytest.approx(np.average(v, weights=weights), rel=0.01)
    assert np.mean(kelvins(late)) == pytest.approx(kelvin, rel=0.05)
    if ensemble == "npt_mtk":  # Berendsen's barostat does not sample it
        exact = np.sqrt(np.average((v - np.average(v, weights=weights)) ** 2, weights=weights))
        assert found.std() == pytest.approx(exact, rel=0.2)


def test_energy_is_conserved_to_second_order():
    """As velocity Verlet does; harmonic, and ASE's EMT."""

    def spread(step, calculator, atoms):
        program = [{"start_K": 300.0, "ps": 0.2}]
        _, frames = run(atoms, calculator, ensemble="nve", program=program, timestep_fs=step, snapshot_every=1)
        kinetic = 1.5 * (len(atoms) - 1) * units.kB * kelvins(frames)
        return np.ptp(kinetic + [a.info["PRED_energy"] for a in frames])

    atoms = copper(1)
    ratio = spread(4.0, Field(atoms.positions, spring=5.0), atoms) / spread(2.0, Field(atoms.positions, spring=5.0), atoms)
    assert ratio == pytest.approx(4, rel=0.1)
    assert spread(10.0, EMT(), atoms) / spread(5.0, EMT(), atoms) == pytest.approx(4, rel=0.3)
    assert spread(2.0, EMT(), atoms) < 1e-3 * 3 * len(atoms) * units.kB * 300


def test_diffusion_of_free_particles():
    """Einstein: D = kT/(mγ), of which a fixed centre of mass takes an Nth."""
    atoms, kelvin, friction = copper(4), 800.0, 50.0
    _, frames = run(
        atoms, Field(atoms.positions), program=at(kelvin, 1.5), timestep_fs=2.0, snapshot_every=10, friction_per_ps=friction
    )
    found = diffusion([a for a in frames if a.info["time_ps"] > 0.2])["diffusion_cm2/s"]
    boltzmann, unit, avogadro = 1.380649e-23, 1e-3, 6.02214076e23  # J/K, kg per gram, SI
    mass = 63.546 * unit / avogadro
    exact = boltzmann * kelvin / (mass * friction * 1e12) * 1e4 * (1 - 1 / len(atoms))
    assert found == pytest.approx(exact, rel=0.12)


def test_a_program():
    """Temperatures follow it, and a part of it may have an ensemble of its own."""
    atoms = copper(4)
    program = [
        {"start_K": 200.0, "ps": 0.2},
        {"start_K": 200.0, "end_K": 1000.0, "ps": 1.0},
        {"start_K": 1000.0, "ps": 0.2},
        {"start_K": 1000.0, "ps": 0.1, "ensemble": "nve"},
    ]
    _, frames = run(atoms, Field(atoms.positions), program=program, snapshot_every=100, friction_per_ps=100.0)
    found = {round(a.info["time_ps"], 3): a.info["temperature_K"] for a in frames}
    for time, kelvin in ((0.1, 200), (0.7, 600), (1.2, 1000), (1.4, 1000)):
        assert found[time] == pytest.approx(kelvin, rel=0.15)
    assert found[1.5] == pytest.approx(found[1.4], abs=1e-3), "free atoms keep their energy"
    assert [a.info["step"] for a in frames] == [*range(0, 1501, 100)]


# --- random numbers ---


def test_the_same_seed_gives_the_same_trajectory():
    """Also where the last bits of the forces are noise, as from one process to the next those of a GAP."""
    atoms = copper(1)
    settings = {"program": at(900.0, 0.2), "snapshot_every": 50}

    def text(noise=1e-14, start=atoms, **more):
        _, frames = run(start, Field(atoms.positions, spring=1.0, noise=noise), **settings, **more)
        return fr.dumps(frames)

    assert text() == text()
    assert text() == text(noise=0.0)
    assert text() != text(noise=1e-3)
    assert text(seed=2) != text()
    other = copper(1)
    other.positions[0, 0] += 1e-3
    assert text(start=other)[200:] != text()[200:], "another frame has random numbers of its own"
    moved = copper(1)
    moved.positions += 1e-10
    assert text(start=moved) == text(), "what the file of a job would round off is no other frame"


# --- the end ---


def test_the_step_of_an_explosion():
    """Atoms on tops of hills: at the temperature T0 cosh²(ωt), so that the step is known."""
    atoms, spring = copper(2), 3.0
    settings = {"ensemble": "nve", "program": at(100.0, 5.0), "timestep_fs": 0.5, "snapshot_every": 20}
    status, frames = run(atoms, Field(atoms.positions, spring=-spring), **settings)
    first = frames[0].info["temperature_K"]
    omega = np.sqrt(spring / atoms.get_masses()[0]) * 0.5 * units.fs
    exact = np.arccosh(np.sqrt((10 * 100 + 300) / first)) / omega
    assert status == "exploded"
    last = frames[-1].info
    assert last["md_status"] == "exploded"
    assert last["md_end_step"] == pytest.approx(exact, abs=1.5)
    assert last["step"] == last["md_end_step"] // 20 * 20, "the frames before are kept"
    assert {a.info["md_status"] for a in frames[:-1]} == {"on_the_way"}
    assert all("md_end_step" not in a.info for a in frames[:-1])
    settings["program"] = at(100.0, (last["md_end_step"] + 20) * 0.5e-3)
    assert run(atoms, Field(atoms.positions, spring=-spring), **settings, max_temperature_factor=1e3)[0] == "finished"


def test_atoms_that_fall_into_each_other():
    atoms = copper(1)
    together = Field(np.repeat(atoms.positions[:1], 4, axis=0), spring=0.5)
    status, frames = run(atoms, together, program=at(10.0, 5.0), min_distance=1.5, max_temperature_factor=1e6)
    assert status == frames[-1].info["md_status"] == "collapsed"
    calls = together.calls
    assert calls == frames[-1].info["md_end_step"], "the cell with the fault is not calculated"


@pytest.mark.parametrize(("modulus", "pressure", "status"), [(1e-3, -20.0, "exploded"), (1e-3, 20.0, "collapsed")])
def test_a_cell_that_yields(modulus, pressure, status):
    atoms = copper(1)
    found, _ = run(
        atoms,
        Field(atoms.positions, modulus=modulus),
        ensemble="npt_berendsen",
        program=at(300.0, 5.0),
        pressure_GPa=pressure,
        bulk_modulus_GPa=20.0,
    )
    assert found == status


@pytest.mark.parametrize(("after", "frames"), [(1, 0), (30, 3)])
def test_energies_that_are_no_numbers(after, frames):
    atoms = copper(1)
    calculator = Field(atoms.positions)
    calculate = calculator.calculate

    def broken(*args, **kwargs):
        calculate(*args, **kwargs)
        if calculator.calls >= after:
            calculator.results["energy"] = math.nan

    calculator.calculate = broken
    status, found = run(atoms, calculator, program=at(300.0, 1.0), snapshot_every=10)
    assert status == "not_finite"
    assert len(found) == frames
    assert not found or found[-1].info["md_end_step"] == after - 1


@pytest.mark.parametrize(("after", "frames"), [(2, 1), (30, 3)])
def test_a_calculator_that_raises_on_the_way(after, frames):
    """As one whose SCF does not converge: what it gave before stays."""
    atoms = copper(1)
    calculator = Field(atoms.positions)
    calculate = calculator.calculate

    def broken(*args, **kwargs):
        if calculator.calls + 1 >= after:
            raise RuntimeError("no convergence in 'scf'\x1b[31m\n" + 500 * "!" + "the end")
        calculate(*args, **kwargs)

    calculator.calculate = broken
    status, found = run(atoms, calculator, program=at(300.0, 1.0), snapshot_every=10)
    assert status == "calculator_failed"
    assert [atoms.info["step"] for atoms in found] == [0, 10, 20][:frames]
    assert [atoms.info["md_status"] for atoms in found] == ["on_the_way"] * (frames - 1) + ["calculator_failed"]
    assert found[-1].info["md_failure"] == "RuntimeError: no convergence in scf 31m the end"


def test_a_calculator_that_never_gives_anything_is_an_error():
    atoms = copper(1)
    calculator = Field(atoms.positions)

    def broken(*args, **kwargs):
        raise RuntimeError("no license")

    calculator.calculate = broken
    with pytest.raises(RuntimeError, match="no license"):
        run(atoms, calculator, program=at(300.0, 1.0), snapshot_every=10)


def test_an_energy_that_falls_without_end():
    atoms = copper(1)
    falling = Field(atoms.positions)
    calculate = falling.calculate

    def fall(*args, **kwargs):
        calculate(*args, **kwargs)
        falling.results["energy"] = -1.0 * falling.calls

    falling.calculate = fall
    status, frames = run(atoms, falling, program=at(300.0, 1.0), max_energy_change=10.0)
    assert (status, frames[-1].info["md_end_step"]) == ("exploded", 41), "four atoms with 10 eV each"


def test_the_time_of_a_job(monkeypatch):
    """What is done is handed back; it is the beginning of the whole."""
    atoms = copper(1)
    clock = Field(atoms.positions, spring=1.0)
    settings = {"program": at(300.0, 0.1), "snapshot_every": 10}
    _, whole = run(atoms, Field(atoms.positions, spring=1.0), **settings)
    monkeypatch.setattr("time.time", lambda: clock.calls)
    status, frames = run(atoms, clock, deadline=34, **settings)
    assert status == frames[-1].info["md_status"] == "time_limit"
    assert [a.info["step"] for a in frames] == [0, 10, 20, 30, 34]
    assert frames[-1].info["md_end_step"] == 34
    assert fr.dumps(frames[:4]) == fr.dumps(whole[:4])


class Killed(BaseException):
    """What ends a job in the middle of anything."""


def mortal(calculator, calls):
    """Let a calculator end the job after so many calls."""
    calculate = calculator.calculate

    def counted(*args, **kwargs):
        calculate(*args, **kwargs)
        if calculator.calls >= calls:
            raise Killed

    calculator.calculate = counted
    return calculator


#: Ensembles, and the temperature at the end of what runs with them, if it can change.
WAYS = [("nve", None), ("nvt_langevin", 300.0), ("nvt_berendsen", 300.0), ("npt_berendsen", 300.0), ("npt_mtk", None)]


@pytest.mark.parametrize(("ensemble", "end"), WAYS)
def test_what_was_cut_off_goes_on(ensemble, end, tmp_path, monkeypatch):
    """Killed anywhere, again and again, it is the same trajectory to the last digit as without."""
    program = [{"start_K": 700.0, "ps": 0.012, "ensemble": "nvt_langevin"}, {"start_K": 700.0, "end_K": end, "ps": 0.03}]
    settings = {"ensemble": ensemble, "program": program, "snapshot_every": 4, "state_every_s": 0.0, "barostat_ps": 0.02}
    atoms = copper(1)
    atoms.info = {"frame_id": "a", "index": 3}

    def job(folder, calls):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        calculator = Field(atoms.positions, spring=2.0, modulus=30.0, noise=1e-14)
        calculator.volume = atoms.get_volume()
        return run(atoms, mortal(calculator, calls), **settings)

    _, whole = job("whole", math.inf)
    for calls in (6, 7, 12, 40):
        jobs, frames = 0, []
        while not frames and jobs < 60:
            try:
                _, frames = job(f"{calls}", calls)
            except Killed:
                jobs += 1
        assert jobs > 0
        assert fr.dumps(frames) == fr.dumps(whole)


def test_states_of_others_are_not_taken(tmp_path, monkeypatch):
    """Of another frame or other settings, or damaged: the trajectory begins anew, and is right."""
    monkeypatch.chdir(tmp_path)
    settings = {"program": at(500.0, 0.02), "snapshot_every": 5, "state_every_s": 0.0}
    state = Path("states/00000.json")

    def job(calls=math.inf, away=0.0, **more):
        atoms = copper(1)
        atoms.positions[0, 0] += away
        atoms.info = {"frame_id": "a", "index": 0}
        return fr.dumps(run(atoms, mortal(Field(copper(1).positions, spring=2.0), calls), **{**settings, **more})[1])

    whole = job()
    for other in ({"away": 0.01}, {"seed": 5}):
        state.unlink()
        with pytest.raises(Killed):
            job(9, **other)
        assert job() == whole
    for path, spoil in (
        (state, lambda text: text.replace("0", "1", 1)),
        (state, lambda _: "{"),
        (state.with_suffix(".xyz"), lambda text: text[:9]),
    ):
        state.unlink()
        with pytest.raises(Killed):
            job(9)
        path.write_text(spoil(path.read_text()))
        assert job() == whole


def test_what_cannot_run():
    with pytest.raises(ValueError, match="a single atom does not move"):
        run(Atoms("Cu", cell=[4] * 3, pbc=True), EMT())
    atoms = copper(1)
    blind = Field(atoms.positions)
    blind.implemented_properties = ["energy", "forces"]
    with pytest.raises(ValueError, match="npt_mtk needs the stress, which the calculator does not give"):
        run(atoms, blind, ensemble="npt_mtk")
    assert "PRED_virial" not in run(atoms, blind, program=at(300.0, 0.01))[1][0].info


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"program": []}, "at least 1 item"),
        (
            {"program": [{"start_K": 300, "ps": 1}, {"start_K": 300, "end_K": 900, "ps": 1}], "ensemble": "npt_mtk"},
            "segment 2: from 300 to 900 K with npt_mtk, which keeps to one temperature; nvt_langevin and the berendsen",
        ),
        ({"min_distance": {"Cu": 2.0}}, "'Cu' is not a pair of elements, expected e.g. Li-Cu"),
        ({"volume_factors": [1.2, 3.0]}, "expected a number below 1 and one above"),
        ({"tasks": {"a": {"program": [{"start_K": -1, "ps": 1}]}}}, "greater than 0"),
        ({"tasks": {"a": {"temperature": 300}}}, "Extra inputs"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(ValidationError, match=message):
        MdJobSettings(**settings)
