"""Migration of vacancies: barriers against saddle points that symmetry gives, hops that symmetry tells apart."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms
from ase.geometry import find_mic
from ase.optimize import BFGS

from aiida_gaprss.properties.base import PropertyError, labelled, property_of
from aiida_gaprss.properties.defects import Vacancy
from aiida_gaprss.properties.migration import Migration, hops


@pytest.fixture(scope="module")
def aluminium():
    """The path in aluminium: the property, its crystal, and what comes out of its plan."""
    kind, crystal = Migration(repeat=(2, 2, 2), images=1, fmax=0.01), bulk("Al", cubic=True)
    return kind, crystal, kind.computed(EMT(), crystal)


def test_the_saddle_point_is_half_way(aluminium):
    """By symmetry: an atom held there feels no force, and the others are relaxed without any band."""
    kind, crystal, done = aluminium
    found = kind.result(crystal, done, "PRED")["hops"]["hop_Al_0_1"]
    perfect = crystal.repeat(2)
    vectors, distances = find_mic(perfect.positions[1:], perfect.cell)
    nearest = distances.argmin()
    energies = []
    for part in (0.0, 0.5):
        work = perfect[1:]
        work.positions[nearest] -= part * vectors[nearest]
        work.set_constraint(FixAtoms([nearest] if part else []))
        work.calc = EMT()
        assert BFGS(work, logfile=None).run(fmax=0.003)
        assert np.abs(work.get_forces(apply_constraint=False)).max() < 0.01
        energies.append(work.get_potential_energy())
    assert found["barrier_eV"] == pytest.approx(energies[1] - energies[0], abs=1e-3)
    assert found["barrier_back_eV"] == pytest.approx(found["barrier_eV"], abs=1e-3)
    bulk_energy = labelled(perfect, EMT()).info["REF_energy"]
    assert found["activation_energy_eV"] == pytest.approx(energies[1] - 31 / 32 * bulk_energy, abs=1e-3)
    assert found["residual_force_eV_per_A"] < 0.02
    assert found["distance_A"] == pytest.approx(crystal.cell[0, 0] / math.sqrt(2))
    assert found["path_A"][1] == pytest.approx(found["path_A"][2] / 2, abs=1e-3)
    assert found["path_A"][2] > found["distance_A"]


def test_the_vacancy_is_that_of_the_other_property(aluminium):
    kind, crystal, done = aluminium
    vacancy = Vacancy(repeat=(2, 2, 2), fmax=0.005, starts=[0.0]).compute(EMT(), crystal)["defects"]["vacancy_Al_0"]
    ours = kind.result(crystal, done, "PRED")["hops"]["hop_Al_0_1"]
    assert ours["formation_energy_eV"] == pytest.approx(vacancy["formation_energy_eV"], abs=1e-3)


def test_errors_against_a_reference(aluminium):
    """The reference labels the images of the potential."""
    kind, crystal, done = aluminium
    morse = MorsePotential(epsilon=0.3, r0=2.9, rho0=3.5, rcut1=4.0, rcut2=5.0)
    assert kind.to_label(done) == [0, 1, 2, 3]
    theirs = [labelled(atoms, morse) for atoms in done]
    energies = [atoms.info["REF_energy"] for atoms in theirs]
    ours, reference = kind.result(crystal, done, "PRED"), kind.result(crystal, theirs, "REF")
    mine, other = (result["hops"]["hop_Al_0_1"] for result in (ours, reference))
    assert other["barrier_eV"] == pytest.approx(max(energies[1:]) - energies[1])
    assert other["activation_energy_eV"] == pytest.approx(max(energies[1:]) - 31 / 32 * energies[0])
    scores = kind.scores(ours, reference)
    assert set(scores) == set(kind.LIMITS)
    assert scores["barrier_error_eV"] == pytest.approx(mine["barrier_eV"] - other["barrier_eV"])
    assert scores["barrier_error_percent"] == pytest.approx(100 * (mine["barrier_eV"] / other["barrier_eV"] - 1))
    assert scores["activation_error_percent"] == pytest.approx(
        100 * (mine["activation_energy_eV"] / other["activation_energy_eV"] - 1)
    )
    assert kind.scores(ours, None) == {"paths_not_converged": 0.0}
    (curve,) = kind.curves(ours).values()
    assert (len(curve.x), curve.lines[0][0]) == (3, 0.0)


def test_what_is_missing_is_told(aluminium):
    kind, crystal, done = aluminium
    found = kind.result(crystal, done[:1], "PRED")["hops"]["hop_Al_0_1"]
    assert (found["relax_status"], found["barrier_eV"]) == ("nothing came out", None)
    assert kind.scores({"hops": {"hop_Al_0_1": found}}, None) == {"paths_not_converged": 1.0}
    assert kind.curves({"hops": {"hop_Al_0_1": found}}) == {}
    alone = kind.result(crystal, done[1:], "PRED")["hops"]["hop_Al_0_1"]
    assert alone["barrier_eV"] > 0.1
    assert alone["activation_energy_eV"] is None
    with pytest.raises(PropertyError, match="frame hop_Al_0_1 has no REF_energy"):
        kind.result(crystal, [labelled(done[0], EMT()), *done[1:]], "REF")


def test_a_compound_has_no_activation_energy():
    crystal = Atoms("CuAu", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[2.8, 2.8, 3.7], pbc=True)
    found = Migration(repeat=(3, 3, 2), images=1, max_steps=2).compute(EMT(), crystal)["hops"]
    assert list(found) == ["hop_Cu_0_0", "hop_Au_1_1"]
    for one in found.values():
        assert one["barrier_eV"] > 0
        assert one["activation_energy_eV"] is None
        assert one["relax_status"] == "max_steps"


TITANIUM = bulk("Ti", "hcp", 2.95, covera=1.587)


@pytest.mark.parametrize(
    ("crystal", "shell", "names"),
    [
        (bulk("Cu"), 1.1, ["hop_Cu_0_0"]),
        (bulk("Si"), 1.1, ["hop_Si_0_1"]),
        (bulk("Fe"), 1.1, ["hop_Fe_0_0"]),
        (bulk("Fe"), 1.2, ["hop_Fe_0_0", "hop_Fe_0_0_2"]),
        (TITANIUM, 1.1, ["hop_Ti_0_0", "hop_Ti_0_1"]),
        (TITANIUM, 1.0, ["hop_Ti_0_1"]),
        (bulk("NaCl", "rocksalt", a=5.64), 1.1, ["hop_Na_0_0", "hop_Cl_1_1"]),
    ],
)
def test_one_hop_of_each_kind(crystal, shell, names):
    """In larger cells of the crystal, turned and moved, they are as many and as long."""
    found = hops(crystal, 0.01, shell)
    assert [hop.name for hop in found] == names
    larger = crystal.repeat((2, 1, 2))
    larger.rotate(40, (1, 2, 3), rotate_cell=True)
    larger.positions += (0.3, 0.7, -0.2)
    lengths = [sorted(hop.distance for hop in some) for some in (found, hops(larger, 0.01, shell))]
    assert lengths[0] == pytest.approx(lengths[1])


def test_the_atom_that_hops_is_next_to_the_vacancy():
    for crystal in (TITANIUM, bulk("Si"), bulk("NaCl", "rocksalt", a=5.64)):
        kind = Migration(length_A=9)
        plan = kind.plan(crystal)
        assert "atom" not in plan[0].info["task"]
        for atoms, hop in zip(plan[1:], hops(crystal, 0.01, kind.shell), strict=True):
            task = kind.task_settings(atoms.info["task"])
            place, atom = np.array(task["to"]), task["atom"]
            assert find_mic(atoms.positions - place, atoms.cell)[1].min() > 0.9 * hop.distance or len(set(crystal.numbers)) > 1
            assert find_mic(atoms.positions[atom] - place, atoms.cell)[1] == pytest.approx(hop.distance)
            assert atoms.symbols[atom] == crystal.symbols[hop.vacancy]


def test_faults_and_settings():
    assert Migration().faults(bulk("Cu"), 5.0) == []
    assert "is too small: a defect is" in Migration(length_A=7).faults(bulk("Cu"), 5.0)[0]
    assert "periodic in all directions" in Migration().faults(Atoms("Cu", cell=[3, 3, 3]), 3.0)[0]
    with pytest.raises(PropertyError, match=r"migration.shell: .*greater than or equal to 1"):
        property_of({"kind": "migration", "shell": 0.9})


def test_a_potential_without_numbers():
    with pytest.raises(PropertyError, match="frame perfect: not_finite"):
        Migration(repeat=(2, 2, 2)).compute(MorsePotential(epsilon=math.nan), bulk("Cu"))
