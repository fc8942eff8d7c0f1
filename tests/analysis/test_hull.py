"""The convex hull against pymatgen's own answers, and by hand."""

import numpy as np
import pytest
from ase import Atoms
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from aiida_gaprss.analysis.hull import LEAST_WEIGHT, Hull, HullError, above_hull, hull_weights, phase_name, reduced_formula
from aiida_gaprss.analysis.zero import EnergyZero
from aiida_gaprss.structures.compositions import reduced, text


def frame(formula, energy_per_atom, kind="random"):
    atoms = Atoms(formula, cell=[5, 5, 5], pbc=True)
    atoms.info.update(REF_energy=energy_per_atom * len(atoms), config_type=kind)
    return atoms


@pytest.fixture
def by_hand():
    """Frames of copper and gold, each with its formation energy and its height above the hull, eV/atom.

    The elements have −3 and −2. CuAu at −3.1 has a formation energy of −0.6; Cu3Au lies above the line from Cu to CuAu (−0.3),
    CuAu3 below that from CuAu to Au.
    """
    return [
        (frame("Cu2", -3.0), 0.0, 0.0),
        (frame("Cu", -2.5), 0.5, 0.5),
        (frame("Au", -2.0), 0.0, 0.0),
        (frame("CuAu", -3.1), -0.6, 0.0),
        (frame("Cu2Au2", -3.0), -0.5, 0.1),
        (frame("Cu3Au", -2.95), -0.2, 0.1),
        (frame("CuAu3", -2.65), -0.4, 0.0),
        (frame("CuAu7", -2.225), -0.1, 0.1),
    ]


def test_weights_of_compositions(by_hand):
    """Only what relaxations have ended at tells how good a composition is, and none is given up."""
    frames = [atoms for atoms, _, _ in by_hand]
    assert hull_weights(frames, 0.1) == {}, "random cells, not relaxed"
    ended = {1: "converged", 4: "converged", 7: "max_steps"}  # by their place in the list
    for place, atoms in enumerate(frames):
        atoms.info["relax_status"] = ended.get(place, "on_the_way")
    # Heights of their lowest end points: Cu 0.5 and CuAu 0.1 (their frames at 0 are none), CuAu7 0.1.
    assert hull_weights(frames, 0.1) == pytest.approx({"Cu": LEAST_WEIGHT, "AuCu": np.exp(-1), "Au7Cu": np.exp(-1)})
    frames[0].info["relax_status"] = "converged"
    assert hull_weights(frames, 0.1)["Cu"] == 1.0


def test_two_elements_by_hand(by_hand):
    frames = [atoms for atoms, _, _ in by_hand]
    hull = Hull(frames)
    assert hull.elements == ["Cu", "Au"]
    assert [phase_name(a) for a in hull.stable] == ["Cu", "CuAu", "CuAu3", "Au"]
    assert hull.stable[1] is frames[3], "the lower of the two frames of CuAu"
    for atoms, formation, height in by_hand:
        assert hull.formation_energy(atoms) == pytest.approx(formation, abs=1e-12)
        assert hull.above(atoms) == pytest.approx(height, abs=1e-12)
    assert np.allclose(above_hull(frames), [height for _, _, height in by_hand])
    assert hull.above(frame("CuAu", -3.2)) == pytest.approx(-0.1), "a frame that the hull was not made of"


def test_many_frames_of_three_elements_against_pymatgen():
    rng = np.random.default_rng(3)
    frames = [frame(symbol, float(e)) for symbol, e in zip(("Li", "Cu", "O"), rng.normal(-3, 0.2, 3), strict=True)]
    for numbers in rng.integers(0, 4, size=(60, 3)):
        if numbers.sum():
            formula = "".join(f"{symbol}{n}" for symbol, n in zip(("Li", "Cu", "O"), numbers, strict=True) if n)
            frames.append(frame(formula, float(rng.normal(-3, 0.4))))
    entries = [PDEntry(Composition(a.get_chemical_formula()), a.info["REF_energy"]) for a in frames]
    diagram = PhaseDiagram(entries)
    hull = Hull(frames)
    assert np.allclose(above_hull(frames), [diagram.get_e_above_hull(entry) for entry in entries], atol=1e-9)
    assert np.allclose([hull.formation_energy(a) for a in frames], [diagram.get_form_energy_per_atom(e) for e in entries])
    assert sorted(phase_name(a) for a in hull.stable) == sorted(entry.name for entry in diagram.stable_entries)


def test_energies_of_several_elements_are_above_the_hull(by_hand):
    zero = EnergyZero([*(atoms for atoms, _, _ in by_hand), frame("Cu", 0.0, "isolated_atom")])
    assert zero.words == "above the convex hull"
    assert [zero.above(atoms) for atoms, _, _ in by_hand] == pytest.approx([height for _, _, height in by_hand], abs=1e-12)
    assert zero.of(frame("Ag", -1.0)) == 0.0


def test_without_a_pure_element_each_composition_has_its_own_zero(by_hand):
    mixed = [atoms for atoms, _, _ in by_hand if len(set(atoms.symbols)) == 2]
    with pytest.raises(HullError, match="Au, Cu alone"):
        Hull(mixed)
    zero = EnergyZero([*mixed, frame("Cu", 0.0, "isolated_atom"), frame("Au", 0.0, "isolated_atom")])
    assert zero.hull is None
    assert zero.words == "above the lowest of its composition"
    assert [zero.above(a) for a in mixed] == pytest.approx([0.0, 0.1, 0.0, 0.0, 0.0], abs=1e-12)
    assert EnergyZero(mixed[:2]).words == "above the lowest", "of one compound only"


def test_one_element_and_none():
    frames = [frame("Si2", -5.0), frame("Si", -4.5)]
    zero = EnergyZero(frames)
    assert zero.words == "above the lowest"
    assert [zero.above(a) for a in frames] == pytest.approx([0.0, 0.5])
    assert EnergyZero([]).words == "above the lowest"
    assert EnergyZero([]).of(frames[0]) == 0.0
    assert np.isnan(above_hull([frame("Si", 0.0, "isolated_atom")])).all()


def test_a_formula_is_written_as_seeds_write_it():
    """Weights of compositions are looked up by it; in the order of Hill carbon would come first."""
    assert reduced_formula(Atoms("C6Al8")) == text(reduced({"Al": 8, "C": 6})) == "Al4C3"
