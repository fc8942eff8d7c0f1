"""Surface energies: broken bonds, a slab by hand, which slabs there are, potentials that fail."""

import math

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS

from aiida_gaprss.properties.base import PropertyError, labelled, property_of
from aiida_gaprss.properties.surfaces import Surfaces

A_SI = 5.431
J_PER_M2 = units.J / units.m**2


def test_broken_bonds_of_stillinger_weber_silicon(sw):
    """No angle changes, and no force is left: each broken bond costs half of the cohesive energy, exactly."""
    found = Surfaces().compute(sw, bulk("Si", a=A_SI))
    bond = -labelled(bulk("Si", a=A_SI), sw).info["REF_energy"] / 4
    expected = {
        "100_0": 2 / (A_SI**2 / 2),
        "110_0": 2 / (A_SI**2 / math.sqrt(2)),
        "111_0": 1 / (A_SI**2 * math.sqrt(3) / 4),
        "111_1": 3 / (A_SI**2 * math.sqrt(3) / 4),
    }
    assert found["left_out"] == []
    for name, bonds in expected.items():
        one = found["surfaces"][name]
        assert one["energy_eV_per_A2"] == pytest.approx(bonds * bond / 2, abs=1e-6)
        assert one["unrelaxed_energy_J_per_m2"] == pytest.approx(bonds * bond / 2 / J_PER_M2, abs=1e-5)
        assert one["largest_displacement_A"] < 1e-3
    assert list(found["surfaces"]) == list(expected)
    assert Surfaces().scores(found, None) == {"surfaces_not_relaxed": 0.0, "negative_surface_energies": 0.0}


def test_a_slab_by_hand():
    """ASE's own slab, as thick, with bulk energies of the primitive cell."""
    kind, crystal = Surfaces(thickness_A=10, vacuum_A=9, fmax=0.002), bulk("Cu", a=3.6)
    found = kind.compute(EMT(), crystal)
    ours = found["surfaces"]["111_0"]
    slab = fcc111("Cu", (2, 1, ours["atoms"]), a=3.6, vacuum=8.0, periodic=True)
    slab.calc = EMT()
    per_atom = labelled(crystal, EMT()).info["REF_energy"]
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
    before = slab.get_potential_energy()
    assert BFGS(slab, logfile=None).run(fmax=0.002)
    for energy, name in ((before, "unrelaxed_energy_J_per_m2"), (slab.get_potential_energy(), "energy_J_per_m2")):
        assert ours[name] == pytest.approx((energy - len(slab) * per_atom) / (2 * area) / J_PER_M2, abs=1e-3)
    assert ours["energy_J_per_m2"] < ours["unrelaxed_energy_J_per_m2"]
    energies = {name: one["energy_J_per_m2"] for name, one in found["surfaces"].items()}
    assert min(energies, key=energies.get) == "111_0", "the closest packed plane is the lowest"


# --- which slabs there are ---


def miller(crystal, **settings):
    return [cut.name for cut in Surfaces(**settings).cuts(crystal)]


def test_indices_that_symmetry_tells_apart():
    assert miller(bulk("Cu"), thickness_A=3, vacuum_A=3) == ["100", "110", "111"]
    assert miller(bulk("Cu"), max_index=2, thickness_A=3, vacuum_A=3) == ["100", "110", "111", "210", "211", "221"]
    assert miller(bulk("Mg"), thickness_A=3, vacuum_A=3) == ["100", "001", "110", "101", "111"]


@pytest.mark.parametrize("crystal", [bulk("Cu", a=3.6), bulk("Mg"), bulk("Si", a=A_SI), bulk("NaCl", "rocksalt", a=5.64)])
def test_slabs_are_as_thick_as_asked_for(crystal):
    kind = Surfaces()
    density = crystal.get_volume() / len(crystal)
    for cut in kind.cuts(crystal):
        assert cut.bulk.get_volume() / len(cut.bulk) == pytest.approx(density, rel=1e-4)
        for slab in cut.slabs:
            area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))
            between = slab.cell[2, 2] - np.ptp(slab.positions[:, 2])
            assert slab.pbc.all()
            assert np.allclose(slab.cell.angles()[:2], 90)
            assert between > kind.vacuum_A
            assert len(slab) * density / area > kind.thickness_A - 3


def test_slabs_that_are_left_out():
    found = {cut.name: cut for cut in Surfaces().cuts(bulk("GaAs", "zincblende", a=5.65))}
    assert len(found["110"].slabs) == 1
    for name, n in (("100", 1), ("111", 2)):
        assert found[name].slabs == ()
        assert len(found[name].left_out) == n
        assert "its two sides differ" in found[name].left_out[0]
    salt = {cut.name: cut for cut in Surfaces().cuts(bulk("NaCl", "rocksalt", a=5.64))}
    assert [len(salt[name].slabs) for name in ("100", "110", "111")] == [1, 1, 0]
    scaled = [(0.02, 0.01, 0.0), (0.45, 0.55, 0.22), (0.03, 0.04, 0.52), (0.52, 0.48, 0.74)]
    crooked = Atoms("CuAuCuPd", scaled_positions=scaled, cell=[[2.7, 0.1, 0], [0.2, 3.9, 0.3], [0.4, -0.2, 5.6]], pbc=True)
    (message,) = Surfaces(thickness_A=4, vacuum_A=4).faults(crooked, 1.0)
    assert "no slab has two equal sides" in message


def test_faults():
    copper = bulk("Cu")
    assert Surfaces().faults(copper, 6.0) == []
    assert Surfaces(thickness_A=10, vacuum_A=5).faults(copper, 6.0) == [
        "vacuum_A is 5 Å, expected at least the cutoff of the potential, 6.00 Å",
        "thickness_A is 10 Å, expected at least twice the cutoff of the potential, 12.00 Å",
    ]
    assert "periodic in all directions" in Surfaces().faults(Atoms("Cu", cell=[3, 3, 3]), 3.0)[0]
    with pytest.raises(PropertyError, match=r"surfaces.max_index: .*less than or equal to 4"):
        property_of({"kind": "surfaces", "max_index": 9})


# --- against a reference, and potentials that are wrong ---


def test_errors_against_a_reference():
    kind, crystal = Surfaces(thickness_A=8, vacuum_A=8), bulk("Cu", a=3.6)
    done = kind.computed(EMT(), crystal)
    chosen = kind.to_label(done)
    assert [done[number].info["part"] for number in chosen] == [atoms.info["part"] for atoms in kind.plan(crystal)]
    lj = LennardJones(sigma=2.3, epsilon=0.6, rc=6.0, smooth=True)
    theirs = [labelled(done[number], lj) for number in chosen]
    ours, reference = kind.result(crystal, done, "PRED"), kind.result(crystal, theirs, "REF")
    bulk_111, slab = (next(a for a in theirs if a.info["part"] == part) for part in ("bulk_111", "slab_111_0"))
    gained = slab.info["REF_energy"] - len(slab) / len(bulk_111) * bulk_111.info["REF_energy"]
    one = reference["surfaces"]["111_0"]
    assert one["energy_eV_per_A2"] == pytest.approx(gained / 2 / one["area_A2"])
    scores = kind.scores(ours, reference)
    assert set(scores) == set(kind.LIMITS)
    errors = {
        n: 100 * (ours["surfaces"][n]["energy_J_per_m2"] / o["energy_J_per_m2"] - 1) for n, o in reference["surfaces"].items()
    }
    assert scores["surface_energy_error_percent"] == pytest.approx(max(errors.values(), key=abs))
    assert scores["residual_force_eV_per_A"] == pytest.approx(
        max(np.linalg.norm(a.arrays["REF_forces"], axis=1).max() for a in theirs if a.info["part"].startswith("slab"))
    )
    with pytest.raises(PropertyError, match="frame bulk_100: nothing came out"):
        kind.result(crystal, theirs[1:], "REF")
    assert kind.result(crystal, theirs[:1] + theirs[2:], "REF")["surfaces"]["100_0"]["relax_status"] == "nothing came out"
    del theirs[1].info["REF_energy"]
    with pytest.raises(PropertyError, match="frame slab_100_0 has no REF_energy"):
        kind.result(crystal, theirs, "REF")


def test_the_order_of_surfaces():
    """Two of three pairs in the wrong order; one pair too close to have any."""

    def result(*energies):
        one = {"relax_status": "converged", "residual_force_eV_per_A": None}
        return {"surfaces": {str(n): {**one, "energy_J_per_m2": energy} for n, energy in enumerate(energies)}}

    score = Surfaces().scores
    assert score(result(1.0, 2.0, 3.0), result(1.1, 2.1, 3.3))["surfaces_out_of_order"] == 0
    assert score(result(3.0, 2.0, 1.0), result(1.0, 2.0, 3.0))["surfaces_out_of_order"] == 3
    assert score(result(1.0, 3.0, 2.0), result(2.0, 3.0, 1.0))["surfaces_out_of_order"] == 1
    assert score(result(1.0, 1.004), result(1.004, 1.0))["surfaces_out_of_order"] == 0


def test_potentials_that_are_wrong():
    crystal, kind = bulk("Cu", a=3.6), Surfaces(thickness_A=6, vacuum_A=6, max_steps=20)
    found = kind.compute(LennardJones(sigma=2.3, epsilon=-0.3, rc=4.0), crystal)
    scores = kind.scores(found, None)
    assert scores["negative_surface_energies"] + scores["surfaces_not_relaxed"] >= 3
    assert kind.LIMITS["negative_surface_energies"].light(scores["negative_surface_energies"]) == "bad"
    with pytest.raises(PropertyError, match="frame bulk_100: not_finite"):
        kind.compute(LennardJones(sigma=2.3, epsilon=math.nan), crystal)
