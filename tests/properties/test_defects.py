"""Point defects: exact limits, a script by hand, symmetry, published values of Stillinger-Weber silicon, potentials that fail."""

import math

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.optimize import BFGS
from ase.spacegroup import crystal as spacegroup_crystal
from pydantic import ValidationError

from aiida_gaprss.properties.base import PropertyError, labelled, property_of
from aiida_gaprss.properties.defects import Antisite, Interstitial, Vacancy

A_SI = 5.431


def rutile():
    return spacegroup_crystal(("Ti", "O"), [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.59, 4.59, 2.96, 90, 90, 90])


def alloy():
    """CuAu as L1_0."""
    return Atoms("CuAu", scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5)], cell=[2.8, 2.8, 3.7], pbc=True)


# --- values ---


def test_a_vacancy_whose_neighbours_keep_their_ideal_angles(sw):
    """Four bonds are broken, and no three-body term wakes up: as cut, it costs exactly two bonds, the cohesive energy."""
    crystal = bulk("Si", a=A_SI)
    found = Vacancy(repeat=(4, 4, 4), starts=[0.0]).compute(sw, crystal)
    (one,) = found["defects"].values()
    cohesive = -labelled(crystal, sw).info["REF_energy"] / 2
    assert one["unrelaxed_formation_energy_eV"] == pytest.approx(cohesive, abs=1e-6)
    assert cohesive == pytest.approx(4.335, abs=1e-3)


def test_the_published_vacancy_of_stillinger_weber_silicon(sw):
    """2.82 eV on the scale of Balamane et al., PRB 46, 2250 (1992), who multiply energies by 1.0677; the error goes as 1/N.

    There is a barrier between it and the ideal sites, which are a minimum of this potential, too.
    """
    energies = []
    for n in (3, 4):
        one = Vacancy(repeat=(n, n, n)).compute(sw, bulk("Si", a=A_SI, cubic=True))["defects"]["vacancy_Si_0"]
        energies.append(one["formation_energy_eV"])
    assert (4**3 * energies[1] - 3**3 * energies[0]) / (4**3 - 3**3) == pytest.approx(2.82 / 1.0677, abs=0.01)
    assert one["largest_displacement_A"] == pytest.approx(0.56, abs=0.01)
    assert one["unrelaxed_formation_energy_eV"] - one["formation_energy_eV"] == pytest.approx(one["relaxation_energy_eV"])
    assert one["intact"]
    assert one["starts"][0]["energy_change_eV"] > one["starts"][1]["energy_change_eV"] + 1.5


@pytest.mark.parametrize("symbol", ["Cu", "Al"])
def test_a_vacancy_as_by_hand(symbol):
    found = Vacancy(repeat=(2, 2, 2), fmax=0.002).compute(EMT(), bulk(symbol, cubic=True))
    perfect = bulk(symbol, cubic=True).repeat(2)
    perfect.calc = EMT()
    per_atom = perfect.get_potential_energy() / 32
    hole = perfect.copy()
    del hole[17]
    hole.calc = EMT()
    before = hole.get_potential_energy()
    assert BFGS(hole, logfile=None).run(fmax=0.002)
    (one,) = found["defects"].values()
    assert one["formation_energy_eV"] == pytest.approx(hole.get_potential_energy() - 31 * per_atom, abs=2e-4)
    assert one["unrelaxed_formation_energy_eV"] == pytest.approx(before - 31 * per_atom, abs=1e-6)
    assert one["residual_force_eV_per_A"] < 0.002


def test_interstitials_of_stillinger_weber_silicon(sw):
    """Against relaxations by hand, at places that are known by hand; the ⟨110⟩ dumbbell is the lowest."""
    crystal = bulk("Si", a=A_SI, cubic=True)
    found = Interstitial(repeat=(2, 2, 2), dumbbells=[(1, 1, 0)], fmax=0.005).compute(sw, crystal)["defects"]
    assert [one.get("neighbours") for one in found.values()] == [4, 6, None]
    energies = [one["formation_energy_eV"] for one in found.values()]
    perfect = crystal.repeat(2)
    per_atom = labelled(perfect, sw).info["REF_energy"] / len(perfect)
    for energy, place in zip(energies, [(0.5, 0.5, 0.5), (0.625, 0.375, 0.375)], strict=False):
        work = perfect + Atoms("Si", [A_SI * np.array(place)])
        work.calc = sw
        assert BFGS(work, logfile=None).run(fmax=0.005, steps=200)
        assert energy == pytest.approx(work.get_potential_energy() - 65 * per_atom, abs=2e-3)
    assert min(energies) == energies[2]


def test_chemical_potentials():
    """Formation energies shift with them, and those of a pair of antisites together do not."""
    crystal = alloy()
    settings = {"repeat": (3, 3, 2), "max_steps": 20}
    elements = Antisite(chemical_potentials="elements", **settings).compute(EMT(), crystal)
    potentials = elements["chemical_potentials_eV"]
    for symbol, potential in potentials.items():
        atoms = bulk(symbol)
        lowest = min(
            labelled(Atoms(symbol, cell=atoms.cell * x, pbc=True), EMT()).info["REF_energy"] for x in np.linspace(0.97, 1.03, 61)
        )
        assert potential == pytest.approx(lowest, abs=1e-4)
    given = Antisite(chemical_potentials={"Cu": potentials["Cu"], "Au": potentials["Au"] - 0.5}, **settings).compute(
        EMT(), crystal
    )
    both = [
        [result["defects"][name]["formation_energy_eV"] for name in ("antisite_Au_on_Cu_0", "antisite_Cu_on_Au_1")]
        for result in (elements, given)
    ]
    assert both[1][0] - both[0][0] == pytest.approx(0.5)
    assert both[1][1] - both[0][1] == pytest.approx(-0.5)
    assert sum(both[0]) == pytest.approx(sum(one["energy_change_eV"] for one in elements["defects"].values()))


def test_a_compound_without_chemical_potentials():
    found = Vacancy(repeat=(2, 2, 2), max_steps=2, starts=[0.0]).compute(EMT(), alloy())
    assert found["chemical_potentials"] == "none are set for Au, Cu: energies only, no formation energies"
    for one in found["defects"].values():
        assert one["formation_energy_eV"] is None
        assert one["energy_change_eV"] > 0
    assert Vacancy().curves(found) == {}


# --- which defects there are ---


@pytest.mark.parametrize(
    ("kind", "crystal", "names"),
    [
        (Vacancy, bulk("Cu", cubic=True), ["vacancy_Cu_0"]),
        (Vacancy, bulk("NaCl", "rocksalt", a=5.64, cubic=True), ["vacancy_Na_0", "vacancy_Cl_1"]),
        (Vacancy, rutile(), ["vacancy_Ti_0", "vacancy_O_2"]),
        (Antisite, rutile(), ["antisite_O_on_Ti_0", "antisite_Ti_on_O_2"]),
        (Interstitial, bulk("Cu"), ["interstitial_Cu_0", "interstitial_Cu_1"]),
    ],
)
def test_one_of_each_kind(kind, crystal, names):
    defects = kind().defects(crystal)
    assert [defect.name for defect in defects] == names
    plan = kind(starts=[0.0, 0.1]).plan(crystal)
    assert len(plan) == len({atoms.info["part"] for atoms in plan}) == 1 + 2 * len(names)
    for defect in defects:
        assert len(defect.atoms) - len(plan[0]) == sum(defect.change.values())


def test_a_skewed_cell_is_the_same_crystal():
    skewed = bulk("Cu")
    skewed.set_cell(np.array([[1, 0, 0], [3, 1, 0], [2, -2, 1]]) @ skewed.cell.array)
    for kind in (Vacancy, Interstitial):
        ours, plain = (kind(length_A=7, starts=[0.0]).plan(crystal) for crystal in (skewed, bulk("Cu")))
        for one, other in zip(ours, plain, strict=True):
            energies = [labelled(atoms, EMT()).info["REF_energy"] for atoms in (one, other)]
            assert energies[0] == pytest.approx(energies[1], abs=1e-6)


# --- what is told before ---


def test_faults():
    copper = bulk("Cu")
    assert Vacancy().faults(copper, 5.0) == []
    (message,) = Vacancy(length_A=9).faults(copper, 5.43)
    assert (
        "a defect is 10.21 Å from its own image, expected at least twice the cutoff of the potential, 10.86 Å; set length_A: 10.9"
        in message
    )
    assert Vacancy(length_A=10.9).faults(copper, 5.43) == []
    assert "defect is 5.11 Å" in Vacancy(repeat=(2, 5, 5)).faults(copper, 4.0)[0]
    assert "antisites need a compound, but the crystal is Cu" in Antisite().faults(copper, 3.0)[0]
    assert "periodic in all directions" in Vacancy().faults(Atoms("Cu", cell=[3, 3, 3]), 3.0)[0]
    assert "Au missing" in Vacancy(chemical_potentials={"Cu": 0.0}).faults(alloy(), 3.0)[0]
    assert "ASE has no simple crystal of O" in Vacancy(chemical_potentials="elements").faults(rutile(), 3.0)[0]
    assert "elements: Ag is not in the crystal, which has Cu" in Interstitial(elements=["Ag"]).faults(copper, 3.0)[0]
    assert "no hole is 5 Å from all atoms" in Interstitial(hole_radius_A=5).faults(copper, 3.0)[0]
    assert "[0, 0, 0] is no direction" in Interstitial(dumbbells=[(0, 0, 0)]).faults(copper, 3.0)[0]
    twice = Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 0)], cell=[3, 3, 3], pbc=True)
    assert "are two atoms at one place" in Vacancy().faults(twice, 1.0)[0]


@pytest.mark.parametrize(
    "settings", [{"starts": []}, {"starts": [0.7]}, {"repeat": [0, 1, 1]}, {"chemical_potentials": "oxygen"}]
)
def test_settings_that_are_wrong(settings):
    with pytest.raises(ValidationError):
        Vacancy(**settings)
    with pytest.raises(PropertyError, match=r"vacancy\."):
        property_of({"kind": "vacancy", **settings})


# --- against a reference ---


@pytest.fixture(scope="module")
def morse():
    """Another copper."""
    return MorsePotential(epsilon=0.35, r0=2.86, rho0=3.9, rcut1=4.0, rcut2=5.0)


def test_errors_against_a_reference(morse):
    """The reference labels the end points of the potential only; the forces that it leaves there are told."""
    crystal, kind = bulk("Cu"), Vacancy(repeat=(3, 3, 3), starts=[0.0, 0.1])
    done = kind.computed(EMT(), crystal)
    chosen = kind.to_label(done)
    assert len(chosen) == 2
    assert all(done[number].info["relax_status"] == "converged" for number in chosen)
    theirs = [labelled(done[number], morse) for number in chosen]
    ours, reference = kind.result(crystal, done, "PRED"), kind.result(crystal, theirs, "REF")
    one, other = (result["defects"]["vacancy_Cu_0"] for result in (ours, reference))
    energies = [atoms.info["REF_energy"] for atoms in theirs]
    assert other["formation_energy_eV"] == pytest.approx(energies[1] - 26 / 27 * energies[0])
    assert other["unrelaxed_formation_energy_eV"] is None
    force = np.linalg.norm(theirs[1].arrays["REF_forces"], axis=1).max()
    scores = kind.scores(ours, reference)
    assert scores["residual_force_eV_per_A"] == pytest.approx(force)
    error = one["formation_energy_eV"] - other["formation_energy_eV"]
    assert scores["formation_energy_error_eV"] == pytest.approx(error)
    assert scores["formation_energy_error_percent"] == pytest.approx(100 * error / other["formation_energy_eV"])
    assert set(scores) == set(kind.LIMITS)
    assert set(kind.scores(ours, None)) == {"defects_not_relaxed", "defects_lost", "negative_formation_energies"}
    assert set(kind.scores(ours, None).values()) == {0.0}
    assert kind.curves(ours)["formation energies"].ticks == [(0.0, "vacancy_Cu_0")]


def test_labels_that_are_missing(morse):
    crystal, kind = bulk("Cu"), Vacancy(repeat=(2, 2, 2), starts=[0.0], max_steps=2)
    done = kind.computed(EMT(), crystal)
    theirs = [labelled(done[number], morse) for number in kind.to_label(done)]
    del theirs[1].info["REF_energy"]
    theirs[1].info["label_status"] = "failed: not converged"
    with pytest.raises(PropertyError, match="frame vacancy_Cu_0 has no REF_energy: failed: not converged"):
        kind.result(crystal, theirs, "REF")
    with pytest.raises(PropertyError, match="frame perfect: nothing came out"):
        kind.result(crystal, theirs[1:], "REF")
    found = kind.result(crystal, theirs[:1], "REF")["defects"]["vacancy_Cu_0"]
    assert (found["relax_status"], found["formation_energy_eV"], found["intact"]) == ("nothing came out", None, None)
    scores = kind.scores(kind.result(crystal, theirs[:1], "REF"), None)
    assert scores == {"defects_not_relaxed": 1.0, "defects_lost": 0.0, "negative_formation_energies": 0.0}


# --- potentials that are wrong ---


class Blind(EMT):
    """Bonds turned upside down: a hole gains energy, and nothing that is out of balance finds a minimum."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        for name in ("energy", "free_energy", "forces", "stress"):
            self.results[name] = -self.results[name]


def test_a_potential_that_falls_apart():
    kind = Vacancy(repeat=(2, 2, 2), max_steps=30)
    found = kind.compute(Blind(), bulk("Cu", cubic=True))
    scores = kind.scores(found, None)
    assert found["defects"]["vacancy_Cu_0"]["starts"][1]["relax_status"] == "max_steps"
    for name in ("defects_not_relaxed", "negative_formation_energies"):
        assert scores[name] == 1
        assert kind.LIMITS[name].light(scores[name]) == "bad"


def test_relaxations_that_were_given_up():
    """They have no energies, and no label is paid for; without the perfect supercell there is nothing to tell."""
    crystal, kind = bulk("Cu"), Vacancy(repeat=(2, 2, 2), max_steps=2)
    done = kind.computed(EMT(), crystal)
    last = max(number for number, atoms in enumerate(done) if atoms.info["part"] == "vacancy_Cu_0")
    done[last].info["relax_status"] = "evaporated"
    assert [done[number].info["part"] for number in kind.to_label(done)] == ["perfect", "vacancy_Cu_0_start_1"]
    one = kind.result(crystal, done, "PRED")["defects"]["vacancy_Cu_0"]
    assert [start["relax_status"] for start in one["starts"]] == ["evaporated", "max_steps"]
    assert one["relax_status"] == "max_steps"
    done[-1].info["relax_status"] = "collapsed"
    one = kind.result(crystal, done, "PRED")["defects"]["vacancy_Cu_0"]
    assert (one["relax_status"], one["formation_energy_eV"], one["intact"]) == ("evaporated", None, None)
    done[0].info["relax_status"] = "collapsed"
    with pytest.raises(PropertyError, match="frame perfect: its relaxation ended as collapsed"):
        kind.result(crystal, done, "PRED")


def test_a_potential_without_numbers():
    with pytest.raises(PropertyError, match="frame perfect: not_finite"):
        Vacancy(repeat=(2, 2, 2)).compute(LennardJones(epsilon=math.nan, sigma=2.3, rc=4.0), bulk("Cu"))


def test_a_defect_that_becomes_another_one():
    """An atom that goes by more than half the way to its neighbours, as is not to be had of EMT, is moved by hand."""
    kind = Interstitial(repeat=(2, 2, 2), holes=1, max_steps=60)
    crystal = bulk("Cu", cubic=True)
    found = kind.compute(EMT(), crystal)
    assert kind.scores(found, None)["defects_lost"] == 0
    done = kind.computed(EMT(), crystal)
    done[-1].positions[5] += 1.5
    found = kind.result(crystal, done, "PRED")
    assert kind.scores(found, None)["defects_lost"] == 1
