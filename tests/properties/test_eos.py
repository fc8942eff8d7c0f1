"""Equations of state: against ase.eos driven by hand, derivatives of the energy, published values of Δ; phases in their order."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.eos import EquationOfState, birchmurnaghan

from aiida_gaprss.properties.base import PropertyError, labelled, property_of
from aiida_gaprss.properties.elastic import elastic_constants, relaxed
from aiida_gaprss.properties.eos import Eos, delta, fit

KEYS = ("V0_A3_per_atom", "bulk_modulus_GPa", "bulk_modulus_derivative")


@pytest.mark.parametrize("symbol", ["Cu", "Al"])
def test_as_ase_does_it(symbol):
    """By hand, as in ASE's tutorial, with other volumes; B as of elastic constants, which are derivatives of the stress."""
    found = Eos().compute(EMT(), bulk(symbol))
    volumes, energies = [], []
    for scale in np.linspace(0.97, 1.03, 13):
        atoms = bulk(symbol)
        atoms.set_cell(
            atoms.cell * scale ** (1 / 3) * (found["V0_A3_per_atom"] / atoms.get_volume()) ** (1 / 3), scale_atoms=True
        )
        atoms.calc = EMT()
        volumes.append(atoms.get_volume())
        energies.append(atoms.get_potential_energy())
    by_hand = EquationOfState(volumes, energies, eos="birchmurnaghan")
    volume, energy, modulus = by_hand.fit()
    assert found["V0_A3_per_atom"] == pytest.approx(volume, rel=1e-4)
    assert found["E0_eV_per_atom"] == pytest.approx(energy, abs=2e-6)
    assert found["bulk_modulus_GPa"] == pytest.approx(modulus / units.GPa, rel=4e-3)
    atoms = bulk(symbol)
    atoms.calc = EMT()
    atoms = relaxed(atoms)
    assert found["lengths_at_V0_A"] == pytest.approx(atoms.cell.lengths(), rel=2e-5)
    assert found["bulk_modulus_GPa"] == pytest.approx(elastic_constants(atoms).bulk_modulus, rel=4e-3)
    assert found["note"] == ""
    assert found["minimum_in_range"]


def test_the_pressure_at_the_crystal():
    """That of the fit, against the stress of the calculator."""
    crystal = bulk("Cu", a=3.55)
    found = Eos().compute(EMT(), crystal)
    virial = labelled(crystal, EMT()).info["REF_virial"]
    assert found["pressure_at_crystal_GPa"] == pytest.approx(virial[0] / crystal.get_volume() / units.GPa, rel=2e-3)


def test_the_plan():
    crystal = bulk("Cu", "hcp", 2.55, covera=1.63)
    plan = Eos(range=0.1, points=5).plan(crystal)
    assert [atoms.get_volume() / crystal.get_volume() for atoms in plan] == pytest.approx([0.9, 0.95, 1, 1.05, 1.1])
    assert [atoms.info["part"] for atoms in plan] == [f"volume_{factor}00" for factor in ("0.90", "0.95", "1.00", "1.05", "1.10")]
    assert all(np.allclose(atoms.get_scaled_positions(), crystal.get_scaled_positions()) for atoms in plan)
    assert np.allclose(plan[2].cell, crystal.cell)


def test_an_equation_is_found_again():
    volumes = np.linspace(15, 18, 9)
    for zero in (0.0, -1e4):
        found, rms = fit(volumes, birchmurnaghan(volumes, zero, 0.6, 4.4, 16.5))
        assert found["E0_eV_per_atom"] == pytest.approx(zero, abs=1e-7)
        assert [found[key] for key in KEYS] == pytest.approx([16.5, 0.6 / units.GPa, 4.4], rel=1e-5)
        assert rms < 1e-4


@pytest.mark.parametrize(
    ("own", "other", "published"),
    [
        ((20.233, 13.840, 3.323), (20.2191, 13.839, 3.34), 0.042),
        ((7.909, 123.377, 3.245), (7.9099, 122.903, 3.04), 0.022),
        ((7.239, 233.928, 3.434), (7.2405, 237.290, 3.47), 0.158),
        ((11.638, 207.335, 3.552), (11.6366, 208.991, 3.58), 0.106),
        ((28.884, 52.766, 3.650), (28.8848, 54.2195, 3.72), 0.217),
        ((18.572, 51.031, 3.840), (18.5590, 51.378, 3.89), 0.140),
    ],
)
def test_delta_as_published(own, other, published):
    """ABINIT with GTH pseudopotentials against WIEN2k: Li, Be, B, C, N, O in the tables of cp2k-data, by the script of Δ."""
    own, other = (dict(zip(KEYS, values, strict=True)) for values in (own, other))
    assert 1000 * delta(own, other) == pytest.approx(published, abs=0.0015)


def test_delta_of_a_shift():
    """Of two parabolas, in the limit of a small shift s: Δ² = (B s/V)² ⟨(V − V₀)²⟩ = (B s/V)² (0.06 V)²/3."""
    modulus, shift = 100.0, 1e-3
    first, second = (
        {"V0_A3_per_atom": v, "bulk_modulus_GPa": modulus, "bulk_modulus_derivative": 1.0} for v in (20 + shift, 20.0)
    )
    assert delta(first, second) == pytest.approx(modulus * units.GPa * shift * 0.06 / np.sqrt(3), rel=0.02)


def test_scores():
    crystal = bulk("Cu")
    own, reference = (
        Eos().compute(EMT(), crystal),
        Eos().compute(LennardJones(sigma=2.27, epsilon=0.4, rc=7, smooth=True), crystal),
    )
    assert set(Eos(same_zero=True).scores(own, own).values()) == {0.0}
    scores = Eos().scores(own, reference)
    ratio = own["V0_A3_per_atom"] / reference["V0_A3_per_atom"]
    assert scores["V0_percent"] == pytest.approx(100 * (ratio - 1))
    assert scores["lattice_parameter_percent"] == pytest.approx(
        100 * (own["lengths_at_V0_A"][0] / reference["lengths_at_V0_A"][0] - 1)
    )
    assert scores["delta_meV_per_atom"] == pytest.approx(1000 * delta(own, reference))
    assert "E0_meV_per_atom" not in scores
    difference = 1000 * (own["E0_eV_per_atom"] - reference["E0_eV_per_atom"])
    assert Eos(same_zero=True).scores(own, reference)["E0_meV_per_atom"] == pytest.approx(difference)
    assert Eos().scores(own, None) == {"no_minimum": 0.0}
    assert all(Eos.LIMITS[name].source for name in scores)
    json.dumps([own, scores], allow_nan=False)


def test_a_minimum_outside():
    found = Eos().compute(EMT(), bulk("Cu", a=3.3))
    assert not found["minimum_in_range"]
    assert found["note"].startswith(f"the minimum at {found['V0_A3_per_atom']:.3f} Å³/atom is outside of 8.4")
    good = Eos().compute(EMT(), bulk("Cu"))
    assert Eos().scores(found, good)["no_minimum"] == 1
    assert Eos().scores(found, found)["no_minimum"] == 0
    assert Eos.LIMITS["no_minimum"].light(1.0) == "bad"


def test_no_minimum_at_all():
    """Atoms that only repel each other: nothing crashes, and the light is red."""
    found = Eos().compute(LennardJones(sigma=4.0, epsilon=0.01, rc=4.2), bulk("Cu"))
    assert found["V0_A3_per_atom"] is None or not found["minimum_in_range"]
    assert found["note"]
    flat = Eos().compute(LennardJones(sigma=0.5), bulk("Cu"))
    assert flat["V0_A3_per_atom"] is None
    assert flat["note"].startswith("no minimum can be fitted between ")
    assert Eos().scores(flat, Eos().compute(EMT(), bulk("Cu"))) == {"no_minimum": 1.0}
    assert Eos().curves(flat)["energy"].lines[0] == [0.0] * 9
    assert Eos().across({"a": flat, "b": flat})["ground_state"] == {}
    json.dumps([found, flat], allow_nan=False)


def test_a_bad_fit_is_told():
    done = [labelled(atoms, EMT()) for atoms in Eos().plan(bulk("Cu"))]
    done[6].info["REF_energy"] += 0.02
    assert "the fit is bad: its points are off by " in Eos().result(bulk("Cu"), done, "REF")["note"]
    del done[4].info["REF_energy"]
    with pytest.raises(PropertyError, match=r"frame volume_1\.0000 has no REF_energy"):
        Eos().result(bulk("Cu"), done, "REF")


@pytest.fixture(scope="module")
def phases():
    return {"fcc": bulk("Cu"), "hcp": bulk("Cu", "hcp", 2.55, covera=1.633), "bcc": bulk("Cu", "bcc", 2.87), "Al": bulk("Al")}


@pytest.fixture(scope="module")
def states(phases):
    return {name: Eos().compute(EMT(), crystal) for name, crystal in phases.items()}


def test_phases_against_each_other(phases, states):
    """As of the relaxed crystals: EMT has hcp a little below fcc."""
    told = Eos().across(states)
    assert told["ground_state"] == {"Cu": "hcp"}, "aluminium has nothing to be compared with"
    relative = told["relative_meV_per_atom"]["Cu"]
    assert relative["hcp"] == 0
    lowest = {}
    for name in ("fcc", "hcp", "bcc"):
        start = phases[name].copy()
        start.calc = EMT()
        lowest[name] = 1000 * relaxed(start).get_potential_energy() / len(start)
    assert relative["bcc"] - relative["fcc"] == pytest.approx(lowest["bcc"] - lowest["fcc"], abs=0.01)
    assert relative["fcc"] == pytest.approx(lowest["fcc"] - lowest["hcp"], abs=0.1)
    curves = Eos().curves(told)
    assert set(curves) == {"phases/fcc", "phases/hcp", "phases/bcc"}
    assert all(curve.together for curve in curves.values())
    assert min(curves["phases/bcc"].lines[0]) == pytest.approx(relative["bcc"], abs=1)
    json.dumps(told, allow_nan=False)


def test_scores_of_phases(states):
    true = Eos().across(states)
    assert Eos().scores(true, true) == {"largest_difference_meV_per_atom": 0.0, "wrong_ground_state": 0.0}
    shifted = {
        name: {**state, "E0_eV_per_atom": state["E0_eV_per_atom"] - 0.1 * (name == "bcc")} for name, state in states.items()
    }
    wrong = Eos().across(shifted)
    assert wrong["ground_state"] == {"Cu": "bcc"}
    scores = Eos().scores(wrong, true)
    assert scores == pytest.approx({"largest_difference_meV_per_atom": -100.0, "wrong_ground_state": 1.0})
    gap = true["relative_meV_per_atom"]["Cu"]["bcc"]
    assert Eos(order_within_meV=gap + 1).scores(wrong, true)["wrong_ground_state"] == 0
    assert Eos().scores(Eos().across({"fcc": states["fcc"], "Al": states["Al"]}), true) == {}
    assert Eos().scores(true, None) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points": 8}, "eos.points: points is 8, expected an odd number from 5 on"),
        ({"points": 3}, "eos.points: points is 3, expected an odd number from 5 on"),
        ({"range": 0.7}, r"eos.range: range is 0.7, expected a part of the volume from 0.005 to 0.5"),
        ({"range": 0}, r"eos.range: range is 0, expected a part"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(PropertyError, match=message):
        property_of({"kind": "eos", **settings})


def test_what_is_no_crystal():
    dimer = Atoms("Cu2", positions=[(0, 0, 0), (2, 0, 0)])
    assert Eos().faults(dimer, 5.0) == ["equations of state need a crystal that is periodic in all directions"]
