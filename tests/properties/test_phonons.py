"""Phonons against published values, phonopy and ASE driven by hand, elastic constants, and formulae of textbooks."""

import gzip

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.data import atomic_masses, atomic_numbers
from ase.phonons import Phonons as AsePhonons
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import PropertyError, property_of
from aiida_gaprss.properties.elastic import elastic_constants, relaxed
from aiida_gaprss.properties.phonons import Phonons

#: THz of a wave whose energy is 1 eV.
THZ = units._e / (2e12 * np.pi * units._hbar)

SMALL = {"length_A": 9.0, "mesh": (4, 4, 4), "points": 5, "temperatures_K": ()}


@pytest.fixture(scope="module")
def copper():
    atoms = bulk("Cu")
    atoms.calc = EMT()
    return relaxed(atoms)


@pytest.fixture(scope="module")
def copper_done(copper):
    return Phonons(**SMALL).computed(EMT(), copper)


def by_hand(atoms, calculator, matrix, q):
    """Frequencies by phonopy alone."""
    cell = PhonopyAtoms(symbols=atoms.get_chemical_symbols(), cell=atoms.cell, scaled_positions=atoms.get_scaled_positions())
    phonon = Phonopy(cell, supercell_matrix=matrix, primitive_matrix=np.eye(3))
    phonon.generate_displacements(distance=0.01, is_plusminus=True)
    forces = []
    for one in phonon.supercells_with_displacements:
        forces.append(forces_of(Atoms(one.symbols, one.positions, cell=one.cell, pbc=True), calculator))
    phonon.produce_force_constants(forces=np.array(forces))
    return np.array([phonon.get_frequencies(point) for point in q])


def forces_of(atoms, calculator):
    atoms.calc = calculator
    return atoms.get_forces()


def at(result, name):
    """Frequencies of a point of the path."""
    path = result["path"]
    for number, ends in enumerate(path["segments"]):
        for end, which in zip(ends, (0, path["points"] - 1), strict=True):
            if end == name:
                return np.array(path["frequencies_THz"][number * path["points"] + which])
    raise KeyError(name)


# --- published values ---


@pytest.mark.parametrize("number", [5, 22, 24])
def test_published_errors_of_potentials_for_silicon(data, number):
    """Every value of George et al. 2020 for the structures whose files are there, and whether modes are imaginary."""
    folder = data / "silicon_phonons"
    published = [line.split() for line in (folder / "results_0.01.txt").read_text().splitlines()[1:]]

    def result(name):
        with gzip.open(folder / f"{number}_{name}_phonopy.yaml.gz", "rt") as file:
            return Phonons(mesh=(4, 4, 4)).result_of(file.read())

    dft, compared = result("dft"), 0
    for name, structure, _, rms, ours, theirs in published:
        if int(structure) == number and (folder / f"{number}_{name}_phonopy.yaml.gz").is_file():
            found = result(name)
            assert Phonons().scores(found, dft)["rms_path_THz"] == pytest.approx(float(rms), abs=1e-3)
            assert (found["imaginary_modes"]["path"] > 0, dft["imaginary_modes"]["path"] > 0) == (
                ours == "True",
                theirs == "True",
            )
            compared += 1
    assert compared == 3


# --- other codes, other ways ---


def test_an_element_without_a_standard_weight():
    """Frequencies go with the square root of the mass: beside the same forces on an element whose mass is known."""
    ratios = []
    for element in ("Po", "Au"):
        crystal, settings = bulk(element, "fcc", 4.1), Phonons(**SMALL)
        done = settings.computed(LennardJones(sigma=2.6, epsilon=0.3, rc=6.0, smooth=True), crystal)
        path = settings.result(crystal, done, fr.PREDICTION)["path"]
        ratios.append(np.max(path["frequencies_THz"]) * np.sqrt(atomic_masses[atomic_numbers[element]]))
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-5)


def test_copper_as_by_phonopy_and_ase(copper, tmp_path):
    found = Phonons(**{**SMALL, "supercell": (4, 4, 4)}).compute(EMT(), copper)
    points = {"Γ": (0, 0, 0), "X": (0.5, 0, 0.5), "L": (0.5, 0.5, 0.5), "W": (0.5, 0.25, 0.75)}
    phonopy = by_hand(copper, EMT(), np.diag([4, 4, 4]), points.values())
    primitive = Atoms(copper.numbers, copper.positions, cell=copper.cell, pbc=True)
    ase = AsePhonons(primitive, EMT(), supercell=(4, 4, 4), name=tmp_path / "ase")
    ase.run()
    ase.read(acoustic=True)
    other = np.sort(ase.band_structure(list(points.values()))) * THZ
    for name, mine, theirs in zip(points, phonopy, other, strict=True):
        assert np.allclose(at(found, name), mine, atol=2e-3), name
        assert np.allclose(at(found, name), theirs, atol=2e-3) or name == "W", name  # ASE has no nearest images: W is no multiple


def test_silicon_of_stillinger_and_weber(sw):
    """Γ by the curvature of the energy when the two sublattices move apart; the rest by phonopy in a cell of another shape."""
    crystal = relaxed_with(sw, bulk("Si", "diamond", 5.431))
    found = Phonons(**{**SMALL, "supercell": (2, 2, 2)}).compute(sw, crystal)
    work, step, energies = crystal.copy(), 0.005, []
    for u in (-step, 0, step):
        work.positions = crystal.positions + np.array([[u / 2, 0, 0], [-u / 2, 0, 0]])
        work.calc = sw
        energies.append(work.get_potential_energy())
    curvature = (energies[0] - 2 * energies[1] + energies[2]) / step**2
    reduced = crystal.get_masses()[0] / 2
    expected = np.sqrt(curvature / reduced) * units.s / (2e12 * np.pi)
    assert expected == pytest.approx(17.9, abs=0.2), "above the 15.5 THz of silicon, as is known of this potential"
    assert at(found, "Γ")[3:] == pytest.approx([expected] * 3, abs=0.01)
    cubic = relaxed_with(sw, bulk("Si", "diamond", 5.431, cubic=True))
    folded = by_hand(cubic, sw, np.diag([1, 1, 1]), [(0, 0, 0)])[0]  # of the cubic cell, X is at Γ
    for frequency in at(found, "X"):
        assert np.abs(folded - frequency).min() < 0.01


def relaxed_with(calculator, atoms):
    atoms.calc = calculator
    return relaxed(atoms)


def test_long_waves_are_sound(copper):
    """Velocities along [100] are √(C11/ρ) and, twice, √(C44/ρ)."""
    settings = Phonons(**{**SMALL, "length_A": 12.0})
    phonon = settings.phonon(copper, settings.computed(EMT(), copper), fr.PREDICTION)
    q = 0.02 * np.array([0.5, 0.0, 0.5])  # towards X
    length = np.linalg.norm(q @ np.linalg.inv(phonon.primitive.cell).T)
    found = phonon.get_frequencies(q) / length * 100  # m/s
    c11, _, c44 = elastic_constants(bulk_cubic(copper)).cubic
    density = copper.get_masses().sum() * units._amu / (copper.get_volume() * 1e-30)
    expected = np.sqrt(np.array([c44, c44, c11]) * 1e9 / density)
    assert found == pytest.approx(expected, rel=0.02)


def bulk_cubic(copper):
    cubic = bulk("Cu", a=(4 * copper.get_volume()) ** (1 / 3), cubic=True)
    cubic.calc = EMT()
    return cubic


def test_modes_are_counted_and_hot_ones_are_classical(copper):
    found = Phonons(**{**SMALL, "mesh": (8, 8, 8), "temperatures_K": (0, 5000)}).compute(EMT(), copper)
    assert sum(found["mesh"]["weights"]) == 8**3
    dos = found["dos"]
    assert np.sum(dos["states_per_THz"]) * (dos["frequency_THz"][1] - dos["frequency_THz"][0]) == pytest.approx(3, rel=0.02)
    classical = 3 * units._k * units._Nav
    assert found["thermal"]["heat_capacity_J_per_K_mol"][1] == pytest.approx(classical, rel=0.01)
    mean = np.average(np.mean(found["mesh"]["frequencies_THz"], axis=1), weights=found["mesh"]["weights"])
    assert found["thermal"]["free_energy_eV_per_atom"][0] == pytest.approx(3 * mean / THZ / 2, rel=0.01), "half a quantum each"
    assert found["largest_THz"] == pytest.approx(max(at(found, "X")), rel=0.1)


def wurtzite(distortion=0.0):
    """A crystal of EMT with a free parameter and one axis: not relaxed, so that forces are on its atoms."""
    scaled = [(1 / 3, 2 / 3, 0), (2 / 3, 1 / 3, 0.5), (1 / 3, 2 / 3, 0.4 + distortion), (2 / 3, 1 / 3, 0.9 + distortion)]
    cell = [(2.7, 0, 0), (-1.35, 1.35 * np.sqrt(3), 0), (0, 0, 5.4)]
    return Atoms("Au2Cu2", scaled_positions=scaled, cell=cell, pbc=True)


def test_forces_on_atoms_in_their_places_are_taken_off():
    """By hand they cancel, because every displacement is made in both directions."""
    settings = Phonons(**{**SMALL, "supercell": (2, 2, 1), "imaginary_THz": 0.0})
    crystal = wurtzite()
    assert settings.plan(crystal)[-1].info["part"] == "supercell"
    found = settings.compute(EMT(), crystal)
    assert found["residual_force_eV/A"] > 0.1
    phonon = settings.phonon(crystal, settings.computed(EMT(), crystal), fr.PREDICTION)
    primitive = Atoms(phonon.primitive.symbols, phonon.primitive.positions, cell=phonon.primitive.cell, pbc=True)
    q = [(0, 0, 0), (0.5, 0, 0), (0, 0.5, 0)]
    expected = by_hand(primitive, EMT(), np.diag([2, 2, 1]), q)
    assert np.allclose([phonon.get_frequencies(one) for one in q[1:]], expected[1:], atol=0.03)
    assert np.allclose(phonon.get_frequencies(q[0])[3:], expected[0][3:], atol=0.03)
    assert expected.min() < -0.5, "the test sees imaginary modes, too"
    assert not found["stable"]


# --- quasi-harmonic approximation ---


def test_thermal_expansion_of_copper(copper):
    """α = (∂S/∂V) / B at the volume of a temperature, of harmonic entropies of crystals of two volumes (Maxwell's relation)."""
    common = {**SMALL, "supercell": (3, 3, 3)}
    qha = {"highest_K": 360, "step_K": 20}
    settings = property_of({"kind": "phonons", **common, "qha": qha})
    assert [a.info["part"] for a in settings.plan(copper)][:3] == ["displacement_1", "volume_0.94", "volume_0.94_displacement_1"]
    found = settings.compute(EMT(), copper)["qha"]
    assert found["within_volumes"]
    assert found["temperatures_K"][-1] == 360
    at = found["temperatures_K"].index(300)
    volume, step, entropies = found["volume_A3_per_atom"][at], 0.01, []
    for factor in (1 - step, 1 + step):
        crystal = bulk("Cu", a=(4 * volume * factor) ** (1 / 3))
        entropies.append(
            Phonons(**{**common, "temperatures_K": (300,)}).compute(EMT(), crystal)["thermal"]["entropy_J_per_K_mol"][0]
        )
    slope = (entropies[1] - entropies[0]) / units._Nav / (2 * step * volume * 1e-30)
    expected = slope / (found["bulk_modulus_GPa"][at] * 1e9) * 1e6
    assert found["thermal_expansion_1e-6/K"][at] == pytest.approx(expected, rel=0.02)
    cold = elastic_constants(bulk_cubic(copper)).bulk_modulus
    assert 0.8 * cold < found["bulk_modulus_GPa"][at] < cold, "heat softens"
    assert found["volume_A3_per_atom"][0] > copper.get_volume(), "zero-point motion"


def test_what_there_is_no_expansion_of(copper):
    qha = {"volumes": (0.96, 0.98, 1.0, 1.02, 1.04)}
    settings = Phonons(**{**SMALL, "supercell": (2, 2, 2), "qha": qha})
    simple = bulk("Cu", "sc", 2.4)
    found = settings.compute(EMT(), simple)
    assert found["qha"] is None
    assert found["qha_why_not"] == "there are imaginary modes at the volumes 0.96, 0.98, 1, 1.02, 1.04"
    assert "expansion" not in settings.curves(found)
    done = settings.computed(EMT(), copper)
    assert "expansion" in settings.curves(settings.result(copper, done, fr.PREDICTION))
    with pytest.raises(PropertyError, match="frame volume_1 of the plan is missing"):
        settings.result(copper, done[:5], fr.PREDICTION)
    del done[3].info[f"{fr.PREDICTION}_energy"]
    with pytest.raises(PropertyError, match=r"frame volume_0\.98 has no PRED_energy"):
        settings.result(copper, done, fr.PREDICTION)


# --- polar crystals ---


def polar_at_gamma(crystal, direction, **polar):
    settings = Phonons(**{**SMALL, "supercell": (2, 2, 2), "polar": polar or None})
    phonon = settings.phonon(crystal, settings.computed(EMT(), crystal), fr.PREDICTION)
    phonon.run_qpoints([[0, 0, 0]], nac_q_direction=direction)
    return np.sort(phonon.get_qpoints_dict()["frequencies"][0]), phonon


def test_longitudinal_modes_of_a_polar_crystal():
    """ω²(LO) − ω²(TO) = Z²e²/(ε₀ ε V μ) of a cubic crystal of two atoms (Born and Huang)."""
    charge, dielectric = 0.8, 2.5
    crystal = relaxed_with(EMT(), Atoms("CuAu", [(0, 0, 0), (1.5, 1.5, 1.5)], cell=[3.0] * 3, pbc=True))
    tensor = lambda size: (size * np.eye(3)).tolist()  # noqa: E731
    plain, _ = polar_at_gamma(crystal, None)
    polar, _ = polar_at_gamma(crystal, [1, 0, 0], born=[tensor(charge), tensor(-charge)], dielectric=tensor(dielectric))
    copper, gold = crystal.get_masses()
    reduced = copper * gold / (copper + gold) * units._amu
    volume = crystal.get_volume() * 1e-30
    squared = (charge * units._e) ** 2 / (units._eps0 * dielectric * volume * reduced) / (2e12 * np.pi) ** 2
    assert (polar[-1] ** 2 - plain[-1] ** 2) == pytest.approx(squared, rel=1e-3)
    assert polar[-2] == pytest.approx(plain[-1], abs=1e-3), "transverse modes stay"
    text = f"14.4\n{dielectric} 0 0 0 {dielectric} 0 0 0 {dielectric}\n{charge} 0 0 0 {charge} 0 0 0 {charge}\n"
    text += f"{-charge} 0 0 0 {-charge} 0 0 0 {-charge}"
    assert polar_at_gamma(crystal, [1, 0, 0], text=text)[0] == pytest.approx(polar, abs=1e-4)


def test_tensors_are_turned_with_the_crystal():
    """Charges are of the axes and atoms of the crystal as it is given, however it lies."""
    along = np.diag([0.3, 0.3, 1.2])
    crystal = wurtzite()
    given = {"born": [along.tolist()] * 2 + [(-along).tolist()] * 2, "dielectric": np.diag([2.0, 2.0, 4.0]).tolist()}
    expected, _ = polar_at_gamma(crystal, [0, 0, 1], **given)
    assert not np.allclose(polar_at_gamma(crystal, None)[0], expected, atol=0.1)
    turned = crystal.copy()
    turned.rotate(73, (1, 2, -0.5), rotate_cell=True)
    turn = np.linalg.solve(crystal.cell.array, turned.cell.array)
    turned.translate((0.3, 0.4, 0.5))
    order = [2, 0, 3, 1]
    tensors = [(turn.T @ np.array(given["born"][atom]) @ turn).tolist() for atom in order]
    dielectric = (turn.T @ np.array(given["dielectric"]) @ turn).tolist()
    assert np.allclose(polar_at_gamma(turned[order], [0, 0, 1], born=tensors, dielectric=dielectric)[0], expected, atol=1e-3)
    with pytest.raises(PropertyError, match=r"polar.born has 1 tensors, expected one for each of the 4 atoms"):
        polar_at_gamma(crystal, None, born=[along.tolist()], dielectric=dielectric)
    with pytest.raises(PropertyError, match=r"phonons.polar: .*expected born and dielectric, or text"):
        property_of({"kind": "phonons", "polar": {"born": tensors}})


# --- the plan ---


def test_the_same_crystal_has_the_same_phonons(copper, copper_done):
    """As another cell, turned, shifted, and through a file that rounds."""
    settings = Phonons(**SMALL)
    expected = settings.result(copper, copper_done, fr.PREDICTION)
    cubic = bulk_cubic(copper)
    cubic.rotate(31, (0.3, 1, 2), rotate_cell=True)
    cubic.translate((0.1, 0.2, 0.3))
    assert settings.incomparable(settings.compute(EMT(), cubic), expected) == {}
    assert settings.scores(settings.compute(EMT(), cubic), expected)["max_error_THz"] < 1e-3
    crystal = fr.loads(fr.dumps([wurtzite()]))[0]
    for ours, theirs in zip(settings.plan(wurtzite()), settings.plan(crystal), strict=True):
        assert np.array_equal(ours.positions, theirs.positions)
    done = fr.loads(fr.dumps(copper_done))
    found = settings.result(fr.loads(fr.dumps([copper]))[0], done, fr.PREDICTION)
    assert settings.scores(found, expected)["max_error_THz"] < 1e-4


def test_a_crystal_that_is_nearly_symmetric(sw):
    """Atoms 1e-3 Å off: as many displacements as of the ideal crystal, and nearly the same phonons."""
    crystal = bulk("Si", "diamond", 5.431)
    rough = crystal.copy()
    rough.rattle(1e-3, seed=1)
    settings = Phonons(**SMALL)
    assert len(settings.plan(rough)) == len(settings.plan(crystal)) == 1
    scores = settings.scores(settings.compute(sw, rough), settings.compute(sw, crystal))
    assert scores["max_error_THz"] < 0.05


def test_paths_and_cells_agree(sw):
    crystal = bulk("Si", "diamond", 5.431)
    common = {**SMALL, "supercell": (2, 2, 2)}
    setyawan, seekpath = (Phonons(**{**common, "path": path}).compute(sw, crystal) for path in ("setyawan", "seekpath"))
    conventional = Phonons(**{**common, "cell": "conventional"}).compute(sw, crystal)
    for point in "ΓXL":
        assert np.allclose(at(setyawan, point), at(seekpath, point), atol=0.01)
        assert point == "L" or np.allclose(at(setyawan, point), at(conventional, point), atol=0.01)
    assert np.shape(conventional["path"]["frequencies_THz"])[1] == 6, "of the primitive cell"


def test_what_is_judged(copper, copper_done):
    settings = Phonons(**SMALL)
    good = settings.result(copper, copper_done, fr.PREDICTION)
    stiff = [atoms.copy() for atoms in copper_done]
    for atoms in stiff:
        atoms.arrays[f"{fr.PREDICTION}_forces"] = 1.21 * atoms.arrays[f"{fr.PREDICTION}_forces"]
    scores = settings.scores(settings.result(copper, stiff, fr.PREDICTION), good)
    weights = good["mesh"]["weights"]
    mean = np.average(np.mean(np.square(good["mesh"]["frequencies_THz"]), axis=1), weights=weights)
    assert scores["rms_mesh_THz"] == pytest.approx(0.1 * np.sqrt(mean), rel=1e-4), "a tenth of every frequency"
    assert scores["max_error_THz"] == pytest.approx(0.1 * good["largest_THz"], rel=1e-4)
    assert (scores["false_imaginary"], scores["missed_imaginary"]) == (0, 0)
    assert "imaginary_modes" not in scores
    assert settings.scores(good, None) == {"acoustic_at_gamma_THz": good["acoustic_at_gamma_THz"], "imaginary_modes": 0}
    assert good["acoustic_at_gamma_THz"] < 0.01


def test_a_crystal_that_is_unstable(copper, copper_done):
    settings = Phonons(**SMALL)
    stable = settings.result(copper, copper_done, fr.PREDICTION)
    simple = settings.compute(EMT(), bulk("Cu", "sc", 2.4))
    assert not simple["stable"]
    assert simple["smallest_THz"] < -1
    assert settings.scores(simple, None)["imaginary_modes"] > 10
    assert settings.scores(simple, stable)["false_imaginary"] == 1
    assert settings.scores(stable, simple)["missed_imaginary"] == 1
    assert set(settings.incomparable(simple, stable)) == {"path", "mesh"}
    assert not {"rms_path_THz", "max_error_THz"} & set(settings.scores(simple, stable))


def test_curves(copper, copper_done):
    settings = Phonons(**SMALL)
    curves = settings.curves(settings.result(copper, copper_done, fr.PREDICTION))
    bands = curves["bands"]
    assert [name for _, name in bands.ticks] == ["Γ", "X", "W", "K", "Γ", "L", "U", "W", "L", "K|U", "X"]
    assert bands.ticks[-1][0] == pytest.approx(bands.x[-1])
    assert len(bands.lines) == 3
    assert len(bands.lines[0]) == len(bands.x)
    assert len(curves["dos"].x) == len(curves["dos"].lines[0])


def test_supercells_that_are_too_small(copper):
    """The length that is told is long enough."""
    small = Phonons(**{**SMALL, "supercell": (2, 2, 2)})
    (fault,) = small.faults(copper, 6.0)
    assert "supercell 2×2×2 of the primitive cell: a displaced atom is 5.08 Å from its image" in fault
    assert "expected at least 12.00 Å, twice the cutoff of 6.00 Å" in fault
    length = float(fault.split("set length_A: ")[1].split(",")[0])
    assert Phonons(length_A=length).faults(copper, 6.0) == []
    assert Phonons(**{**SMALL, "supercell": (2, 2, 2), "allow_small": True}).faults(copper, 6.0) == []
    assert small.faults(copper, 2.5) == []
    skewed = Phonons(supercell=((1, 0, 0), (5, 5, 0), (0, 0, 5)))
    assert skewed.faults(copper, 3.0), "its vectors are long, but combinations of them are not"


def test_what_is_wrong_is_told(copper, copper_done):
    settings = Phonons(**SMALL)
    lost = [atoms.copy() for atoms in copper_done]
    del lost[0].arrays[f"{fr.PREDICTION}_forces"]
    lost[0].info["label_status"] = "failed: not converged"
    with pytest.raises(PropertyError, match="frame displacement_1 has no PRED_forces: failed: not converged"):
        settings.result(copper, lost, fr.PREDICTION)
    with pytest.raises(PropertyError, match="there are 0 frames, expected the 1 of the plan"):
        settings.result(copper, [], fr.PREDICTION)
    with pytest.raises(PropertyError, match="frame displacement_1 is not displacement_1 of the plan"):
        Phonons(**{**SMALL, "displacement_A": 0.05}).result(copper, copper_done, fr.PREDICTION)
    assert settings.faults(Atoms("Cu"), 3.0) == ["phonons need a crystal that is periodic in all directions"]
    close = Atoms("Cu2", [(0, 0, 0), (0, 0, 0.001)], cell=[3, 3, 3], pbc=True)
    assert "no symmetry is found with a tolerance of 0.01 Å" in settings.faults(close, 3.0)[0]
    with pytest.raises(PropertyError, match="supercell"):
        Phonons(supercell=((1, 0, 0), (1, 0, 0), (0, 0, 1))).plan(copper)
