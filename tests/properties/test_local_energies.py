"""Local energies against symmetry, pair energies split by hand, and the energy they are parts of."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.io import read

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import PropertyError, labelled, property_of
from aiida_gaprss.properties.local_energies import LocalEnergies, difference, structure
from aiida_gaprss.report.local_figures import local_energies, local_energy_changes
from aiida_gaprss.report.style import png

EXAMPLE = Path(__file__).parents[2] / "examples" / "local_energies.py"

#: Of the parameters of the Stillinger-Weber potential, eV.
EPSILON = 2.1675

LJ = {"sigma": 2.3, "epsilon": 0.2, "rc": 5.0}


def halves(atoms, sigma, epsilon, rc):
    """Half of the energy of each pair to both of its atoms, by loops over all images."""
    shift = 4 * epsilon * ((sigma / rc) ** 12 - (sigma / rc) ** 6)
    out = np.zeros(len(atoms))
    for i, here in enumerate(atoms.positions):
        for there in atoms.positions:
            for image in np.ndindex(7, 7, 7):
                r = np.linalg.norm(there + (np.array(image) - 3) @ atoms.cell.array - here)
                if 1e-6 < r < rc:
                    out[i] += 0.5 * (4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6) - shift)
    return out


def test_pair_energies_belong_to_both_atoms_in_equal_parts():
    crystal = bulk("Cu", cubic=True)
    crystal.positions[1] += (0.3, 0.1, -0.2)
    told = LocalEnergies().compute(LennardJones(**LJ), crystal)["crystal"]
    assert np.allclose(told["local_energies_eV"], halves(crystal, **LJ), rtol=0, atol=1e-10)
    assert told["sum_error_eV"] < 1e-10
    assert np.ptp(told["local_energies_eV"]) > 0.01


def test_sites_that_symmetry_makes_equal():
    """The ordered alloy Cu3Au: the atoms of gold are on 1a, those of copper on 3c."""
    crystal = bulk("Cu", a=3.75, cubic=True)
    crystal.symbols[0] = "Au"
    told = LocalEnergies().compute(EMT(), crystal)["crystal"]
    found = {(site["element"], site["multiplicity"], site["wyckoff"]): site for site in told["sites"]}
    assert set(found) == {("Au", 1, "a"), ("Cu", 3, "c")}
    copper = found["Cu", 3, "c"]
    assert copper["atoms"] == [1, 2, 3]
    assert copper["max_eV"] - copper["min_eV"] < 1e-9
    crystal.calc = EMT()
    assert found["Au", 1, "a"]["mean_eV"] + 3 * copper["mean_eV"] == pytest.approx(crystal.get_potential_energy(), abs=1e-9)


def test_the_sum_holds_to_the_digits_that_a_dataset_keeps(gap):
    """Also after the rounding, which adds 5e-9 (1 + 1/N) eV per atom at most."""
    task = LocalEnergies()
    crystal = bulk("Si", a=5.43, cubic=True) * (2, 2, 2)
    crystal.rattle(0.05, seed=1)
    done = [labelled(atoms, gap, "PRED", local=True) for atoms in task.plan(crystal)]
    exact = task.result(crystal, done, "PRED")
    assert exact["crystal"]["sum_error_eV"] < 1e-8
    kept = fr.canonical(done[0])
    kept.info["part"] = "crystal"
    rounded = task.result(crystal, [kept], "PRED")
    score = task.scores(rounded, None)["sum_error_eV_per_atom"]
    assert 0 < score <= 5e-9 * (1 + 1 / 64)
    assert task.LIMITS["sum_error_eV_per_atom"].light(score) == "good"
    kept.arrays["PRED_local_energy"][3] += 0.001
    assert (
        task.LIMITS["sum_error_eV_per_atom"].light(task.scores(task.result(crystal, [kept], "PRED"), None).popitem()[1]) == "bad"
    )


def test_a_vacancy_is_felt_by_its_neighbours_only(sw):
    """Stillinger-Weber reaches to 3.77 Å: the second neighbours of the hole, at 3.84 Å, and all others are as before."""
    task = property_of({"kind": "local_energies", "vacancy": True, "supercell": [3, 3, 3], "atom": 5})
    crystal = bulk("Si", a=5.43, cubic=True)
    result = task.compute(sw, crystal)
    told = result["vacancy"]
    distance, change = np.array(told["distance_A"]), np.array(told["change_eV"])
    assert len(change) == 215
    near = distance < 2.4
    assert near.sum() == 4
    assert np.abs(change[~near]).max() < 1e-6
    # A neighbour has lost half of a bond: −ε at equilibrium, and there are no three-body terms in the perfect crystal.
    assert change[near] == pytest.approx(EPSILON / 2, abs=1e-4)
    assert told["sum_error_eV"] < 1e-8
    assert task.curves(result)["vacancy"].lines[0] == told["change_eV"]
    assert json.loads(json.dumps(result)) == result


def test_what_is_wrong_is_told_before(hexagonal_copper):
    task = LocalEnergies(vacancy=True, supercell=(2, 2, 2))
    (fault,) = task.faults(bulk("Si", a=5.43, cubic=True), 6.0)
    assert fault == (
        "local_energies.supercell is 2x2x2: the vacancy is 10.86 Å from its image, expected at least twice the cutoff, 12.00 Å, "
        "so that no atom sees two"
    )
    assert task.faults(bulk("Si", a=5.43, cubic=True), 5.4) == []
    assert LocalEnergies().faults(bulk("Si"), 6.0) == []
    (fault,) = LocalEnergies(vacancy=True, atom=2).faults(hexagonal_copper, 5.0)
    assert "local_energies.atom is 2 in a supercell of 2 atoms, expected a number from 0 to 1" in fault
    with pytest.raises(PropertyError, match="frame crystal has no REF_local_energy"):
        LocalEnergies().result(hexagonal_copper, [labelled(LocalEnergies().plan(hexagonal_copper)[0], EMT())], "REF")


@pytest.fixture
def hexagonal_copper():
    return bulk("Cu", "hcp", 2.55, covera=1.63)


def test_two_models_of_a_crystal_site_by_site():
    """As for β-B105 and β-B106: an atom is gone, another is in a hole, all have moved, and are in another order."""
    rng = np.random.default_rng(4)
    first = bulk("Cu", a=3.6, cubic=True) * (2, 2, 2)
    order = rng.permutation(31)
    second = first[np.arange(32) != 7][order]
    second += Atoms("Cu", positions=[(0.9, 0.9, 0.9)])
    second.set_cell(second.cell * 1.01, scale_atoms=True)
    second.rattle(0.05, rng=rng)
    second.positions[3] += second.cell[0]  # another image
    results = {name: LocalEnergies().compute(EMT(), atoms) for name, atoms in (("A", first), ("B", second))}
    found = LocalEnergies().across(results)["B - A"]
    kept = np.delete(np.arange(32), 7)
    assert dict(zip(found["second"], found["first"], strict=True)) == {i: kept[j] for i, j in enumerate(order)}
    assert (found["only_in_first"], found["only_in_second"]) == ([7], [31])
    energies = [np.array(results[name]["crystal"]["local_energies_eV"]) for name in "AB"]
    assert found["change_eV"] == pytest.approx(energies[1][found["second"]] - energies[0][found["first"]])
    lost, gained = energies[0][7], energies[1][31]
    total = results["B"]["crystal"]["energy_eV"] - results["A"]["crystal"]["energy_eV"]
    assert sum(found["change_eV"]) + gained - lost == pytest.approx(total, abs=1e-8)
    assert LocalEnergies().scores(LocalEnergies().across(results), None) == {}


def test_what_is_not_the_same_crystal_is_not_compared():
    crystals = {"fcc": bulk("Cu", cubic=True), "bcc": bulk("Cu", "bcc", 2.9, cubic=True), "gold": bulk("Au", a=3.6, cubic=True)}
    assert LocalEnergies().across({name: LocalEnergies().compute(EMT(), atoms) for name, atoms in crystals.items()}) == {}
    alloys = []
    for number in (0, 1):
        atoms = bulk("Cu", cubic=True)
        atoms.symbols[number] = "Au"
        alloys.append(structure(LocalEnergies().compute(EMT(), atoms)["crystal"]))
    found = difference(*alloys)
    assert (found["first"], found["only_in_first"], found["only_in_second"]) == ([2, 3], [0, 1], [0, 1])


def facecolours(figure):
    return {tuple(np.round(patch.get_facecolor()[:3], 3)) for patch in figure.axes[0].patches}


def test_pictures():
    crystal = bulk("Cu", a=3.75, cubic=True)
    crystal.symbols[0] = "Au"
    crystal.symbols[1] = "Au"
    energies = np.array([-3.0, -2.0, 1.0, 1.0])
    figure = local_energies(crystal, energies, "a $name$")
    assert len(facecolours(figure)) == 3, "both of gold, and copper"
    assert figure.axes[1].get_ylabel() == "Local energy from the mean (eV)\nmean: Au −2.500 eV, Cu 1.000 eV"
    assert figure.axes[1].get_ylim() == (-0.5, 0.5)
    assert png(figure) == png(local_energies(crystal, energies, "a $name$"))
    changes = local_energy_changes(crystal, np.array([np.nan, 0.0, 0.2, -0.1]))
    assert len(facecolours(changes)) == 4
    assert changes.axes[1].get_ylim() == (-0.2, 0.2)
    for nothing in (local_energies(crystal, np.zeros(4)), local_energy_changes(crystal, np.full(4, np.nan))):
        assert png(nothing)


def test_a_cluster_is_drawn_whole():
    """An icosahedron-like shell around the origin lies in the corners of the cell: the picture has it in the middle."""
    cube = np.array(list(np.ndindex(2, 2, 2))) * 1.7 - 0.85
    atoms = Atoms("B8", positions=cube, cell=[6.0] * 3, pbc=True)
    atoms.wrap()
    figure = local_energies(atoms, np.zeros(8))
    assert len(figure.axes[0].patches) == 8
    assert len(figure.axes[0].lines) == 12 + 12, "the edges of the cell, and all bonds"


def test_many_atoms_do_not_hide_the_few():
    atoms = bulk("Si", a=5.43, cubic=True) * (3, 3, 3)
    energies = np.full(216, -4.3)
    energies[100] = -3.0
    patches = local_energies(atoms, energies).axes[0].patches
    assert {patch.get_facecolor()[3] for patch in patches} == {0.35, 1.0}
    assert sum(patch.get_facecolor()[3] == 1.0 for patch in patches) == 1


def test_alpha_boron(data, gap_fit_binary, fit_with_binary):
    """Its two sites, polar and equatorial atoms of the icosahedra, with a GAP fitted to cells of a real search."""
    frames = []
    for number, atoms in enumerate(read(data / "boron" / "random_search_39.xyz", ":")):
        info, forces = atoms.info, atoms.arrays["REF_forces"]
        kind = "isolated_atom" if len(atoms) == 1 else "dimer" if len(atoms) == 2 else "random"
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        frame.info = {"frame_id": f"b{number}", "config_type": kind}
        fr.set_labels(frame, info["REF_energy"], forces)
        frames.append(frame)
    settings = {
        "sigma": {"energy": 0.01, "forces": 0.1, "virial": 0.1},
        "descriptors": [{"kind": "soap", "cutoff": 3.7, "n_max": 6, "l_max": 4, "n_sparse": 80, "delta": 0.5}],
    }
    folder, log = fit_with_binary([a for a in frames if len(a) < 10], settings=settings)
    assert (folder / "gap.xml").is_file(), log
    from quippy.potential import Potential

    crystal = read(data / "boron" / "aflow_A_hR12_166_2h.cif")
    told = LocalEnergies().compute(Potential(param_filename=str(folder / "gap.xml")), crystal)["crystal"]
    assert [(site["multiplicity"], site["wyckoff"]) for site in told["sites"]] == [(6, "h"), (6, "h")]
    assert all(site["max_eV"] - site["min_eV"] < 1e-6 for site in told["sites"])
    assert told["sites"][1]["mean_eV"] - told["sites"][0]["mean_eV"] > 0.01
    assert told["sum_error_eV"] < 1e-8


def test_the_example(potential_folder, tmp_path):
    crystal = bulk("Si", a=5.43, cubic=True)
    crystal.write(tmp_path / "diamond.xyz", format="extxyz")
    crystal.rattle(0.05, seed=3)
    crystal.write(tmp_path / "moved.xyz", format="extxyz")

    def run(*arguments):
        command = [sys.executable, EXAMPLE, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = run(potential_folder / "gap.xml", "diamond.xyz", "moved.xyz")
    assert done.returncode == 0, done.stderr
    assert "Si 8a        8" in done.stdout
    assert "only in the first: []; only in the second: []" in done.stdout
    names = {"diamond_local_energies.png", "moved_local_energies.png", "moved_local_energy_changes.png"}
    assert names <= {path.name for path in tmp_path.iterdir()}
    assert "POTENTIAL.xml STRUCTURE [OTHER]" in run().stderr
