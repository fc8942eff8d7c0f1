"""Pair potentials: an exact reference is recovered, derivatives are those of the energy, what cannot be fitted is refused."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from audit_frames import copper
from helpers import label

from aiida_gaprss.frames import FrameError
from aiida_gaprss.models.pair.fit import PairFitError, fit_pairs
from aiida_gaprss.models.pair.settings import PairSettings
from aiida_gaprss.runners.pair import PairPotential
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

CUTOFF, E0 = 3.0, {"Ar": -1.5, "Kr": 2.0}
#: ε and σ, in eV and Å.
KINDS = {("Ar", "Ar"): (1.0, 1.0), ("Ar", "Kr"): (1.5, 0.8), ("Kr", "Kr"): (0.5, 0.88)}
SETTINGS = PairSettings(cutoff=CUTOFF, sigma_energy=1e-3, sigma_forces=1e-2, sigma_virial=1e-2)


def lj(pair):
    """That of ASE; its smooth cutoff is the switching function of CHARMM."""
    return LennardJones(epsilon=KINDS[pair][0], sigma=KINDS[pair][1], rc=CUTOFF, ro=0.66 * CUTOFF, smooth=True)


def labelled(atoms):
    """ASE's Lennard-Jones knows one kind of atom: pairs of unlike ones are those of all less those of either kind."""
    first = np.array([symbol == "Ar" for symbol in atoms.get_chemical_symbols()])
    energy, forces, stress = sum(E0[s] for s in atoms.get_chemical_symbols()), np.zeros((len(atoms), 3)), np.zeros(6)
    unlike = [(np.ones(len(atoms), bool), 1), (first, -1), (~first, -1)]
    for pair, masks in ((("Ar", "Ar"), [(first, 1)]), (("Kr", "Kr"), [(~first, 1)]), (("Ar", "Kr"), unlike)):
        for mask, sign in masks:
            if not mask.any():
                continue
            work = atoms[mask]
            work.calc = lj(pair)
            energy += sign * work.get_potential_energy()
            forces[mask] += sign * work.get_forces()
            stress += sign * work.get_stress()
    atoms.info["REF_energy"] = energy
    atoms.arrays["REF_forces"] = forces
    xx, yy, zz, yz, xz, xy = -stress * atoms.get_volume()
    atoms.info["REF_virial"] = np.array([xx, xy, xz, xy, yy, yz, xz, yz, zz])
    return atoms


@pytest.fixture(scope="module")
def cells():
    frames = []
    for symbol in E0:
        frames.append(Atoms(symbol, cell=[9.0] * 3, pbc=True, info={"config_type": "isolated_atom"}))
    for seed, (formula, sizes) in enumerate((({"Ar": 1, "Kr": 1}, (4,)), ({"Ar": 2, "Kr": 1}, (3,)), ({"Ar": 1, "Kr": 3}, (4,)))):
        frames += random_cells(CellSpec(formula, sizes, (0.9, 1.6), 0.8), 12, seed=seed + 1)
    return [labelled(atoms) for atoms in frames]


@pytest.fixture(scope="module")
def fit(cells):
    return fit_pairs(cells[:-6], SETTINGS)


def test_a_lennard_jones_mixture_is_recovered(cells, fit):
    assert fit.eta == pytest.approx(1, abs=1e-9)
    assert fit.content["e0_eV"] == pytest.approx(E0)
    for atoms in cells[-6:]:  # which it was not fitted to
        work = atoms.copy()
        work.calc = fit.calculator()
        assert work.get_potential_energy() == pytest.approx(atoms.info["REF_energy"], abs=1e-6)
        assert np.allclose(work.get_forces(), atoms.arrays["REF_forces"], atol=1e-5)
        virial = -work.get_stress(voigt=False) * work.get_volume()
        assert np.allclose(virial.ravel(), atoms.info["REF_virial"], atol=1e-5)


@pytest.mark.parametrize("pair", KINDS)
def test_curves_are_the_true_ones(fit, pair):
    shortest = next(p["shortest_A"] for p in fit.content["pairs"] if sorted(p["elements"]) == sorted(pair))
    r = np.linspace(shortest, CUTOFF, 40)
    true = [Atoms("Ar2", [(0, 0, 0), (x, 0, 0)], calculator=lj(pair)).get_potential_energy() for x in r]
    assert np.allclose(fit.calculator().curve(*pair, r)[0], true, atol=1e-5)


def test_derivatives(cells, fit):
    atoms = cells[5].copy()
    atoms.calc = fit.calculator()
    assert np.allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-4)
    assert np.allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-6), atol=1e-4)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())


def test_nearer_than_any_it_goes_on_along_its_tangent(fit):
    nearest = fit.content["pairs"][0]["shortest_A"]
    r = np.array([nearest - 0.2, nearest - 0.1, nearest - 1e-6, nearest, nearest + 1e-6])
    value, slope = fit.calculator().curve("Ar", "Ar", r)
    assert value[2] == pytest.approx(value[3], rel=1e-4)
    assert slope[0] == slope[1] == pytest.approx(slope[3])
    assert value[0] - value[1] == pytest.approx(-0.1 * slope[3])


def test_pairs_alone_do_not_bind_a_metal():
    """And where no isolated atom is there, nothing is said of how far they go."""
    frames = copper()
    found = fit_pairs(frames)
    assert 0.5 < found.eta < 1.2
    assert found.errors.energy.rmse > 10, "effective medium theory is no sum of pairs"
    assert fit_pairs(frames[1:]).eta is None


def test_the_file_is_the_potential(fit, cells, tmp_path):
    path = tmp_path / "pair.json"
    path.write_text(json.dumps(fit.content))
    energies = []
    for calculator in (fit.calculator(), PairPotential(str(path))):
        atoms = cells[4].copy()
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1]


def test_what_cannot_be_fitted(fit):
    with pytest.raises(PairFitError, match="no frame has an energy"):
        fit_pairs([Atoms("Cu", cell=[3] * 3, pbc=True)])
    broken = copper()[:3]
    broken[2].info["REF_energy"] = float("nan")
    with pytest.raises(FrameError, match=r"frame cell-001: REF_energy is nan, expected finite numbers"):
        fit_pairs(broken)
    far = Atoms("Cu", cell=[12.0] * 3, pbc=True)
    label(far, EMT())
    with pytest.raises(PairFitError, match="no two atoms are nearer than the cutoff of 3 Å"):
        fit_pairs([far], PairSettings(cutoff=3.0))
    with pytest.raises(ValueError, match="knows Ar, Kr, but not Cu"):
        Atoms("Cu", cell=[3] * 3, pbc=True, calculator=fit.calculator()).get_potential_energy()
    with pytest.raises(ValueError, match="switch: 4 Å, expected less than the cutoff of 3 Å"):
        PairSettings(cutoff=3.0, switch=4.0)
    with pytest.raises(ValueError, match="expected each once"):
        PairSettings(powers=[1, 1])
