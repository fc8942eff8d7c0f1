"""Elastic constants against derivatives of the energy, symmetry and published values of Stillinger-Weber silicon."""

import subprocess
import sys
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from scipy.linalg import sqrtm

from aiida_gaprss.properties.elastic import ElasticConstants, ElasticityError, elastic_constants, relaxed

EXAMPLE = Path(__file__).parents[2] / "examples" / "elastic_constants.py"


@pytest.fixture(scope="module")
def copper():
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    return relaxed(atoms)


@pytest.fixture(scope="module")
def hexagonal():
    """Copper as hcp: atoms are on no inversion centre and move when the cell is strained."""
    atoms = bulk("Cu", "hcp", 2.55, covera=1.63)
    atoms.calc = EMT()
    return relaxed(atoms)


def from_energies(atoms, relax, step=0.004):
    """C_ij = ∂²(E/V₀)/∂η_i∂η_j, in GPa, by second differences of the energy alone."""

    def energy(strain):
        xx, yy, zz, yz, xz, xy = strain
        eta = np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])
        work = atoms.copy()
        work.calc = atoms.calc
        work.set_cell(work.cell @ np.real(sqrtm(np.eye(3) + 2 * eta)), scale_atoms=True)
        if relax:
            assert BFGS(work, logfile=None).run(fmax=1e-5, steps=300)
        return work.get_potential_energy()

    unit = step * np.eye(6)
    c = np.zeros((6, 6))
    for i, j in combinations_with_replacement(range(6), 2):
        second = sum(si * sj * energy(si * unit[i] + sj * unit[j]) for si in (1, -1) for sj in (1, -1))
        c[i, j] = c[j, i] = second / (4 * step**2)
    return c / atoms.get_volume() / units.GPa


@pytest.mark.parametrize("relax", [True, False])
def test_they_are_the_second_derivatives_of_the_energy(hexagonal, relax):
    found = elastic_constants(hexagonal, relax_atoms=relax)
    assert np.allclose(found.voigt, from_energies(hexagonal, relax), atol=0.3)
    assert found.asymmetry < 0.05
    assert found.stable


def test_a_hexagonal_crystal(hexagonal):
    c = elastic_constants(hexagonal).voigt
    assert c[0, 0] == pytest.approx(c[1, 1], abs=0.05)
    assert c[0, 2] == pytest.approx(c[1, 2], abs=0.05)
    assert c[3, 3] == pytest.approx(c[4, 4], abs=0.05)
    assert c[5, 5] == pytest.approx((c[0, 0] - c[0, 1]) / 2, abs=0.05)
    assert np.allclose(c[:3, 3:], 0, atol=0.05)
    clamped = elastic_constants(hexagonal, relax_atoms=False).voigt
    assert clamped[5, 5] > c[5, 5] + 1, "atoms that may move make it softer"
    with pytest.raises(ElasticityError, match="not cubic along x, y and z"):
        _ = elastic_constants(hexagonal).cubic


def test_a_cubic_crystal(copper):
    found = elastic_constants(copper)
    c11, c12, c44 = found.cubic
    ideal = np.diag([c11] * 3 + [c44] * 3)
    ideal[:3, :3] += c12 * (1 - np.eye(3))
    assert np.allclose(found.voigt, ideal, atol=0.01)
    # Hill's averages, written out for cubic crystals.
    voigt = (c11 - c12 + 3 * c44) / 5
    reuss = 5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12))
    assert found.bulk_modulus == pytest.approx((c11 + 2 * c12) / 3)
    assert found.shear_modulus == pytest.approx((voigt + reuss) / 2)
    # The bulk modulus once more, from the energy under hydrostatic strain: B = V d²E/dV².
    energies = []
    for scale in (0.997, 1.0, 1.003):
        work = Atoms(copper.numbers, cell=copper.cell, scaled_positions=copper.get_scaled_positions(), pbc=True)
        work.set_cell(work.cell * scale ** (1 / 3), scale_atoms=True)
        work.calc = EMT()
        energies.append(work.get_potential_energy())
    second = (energies[0] - 2 * energies[1] + energies[2]) / 0.003**2 / copper.get_volume() / units.GPa
    assert found.bulk_modulus == pytest.approx(second, rel=2e-3)


def test_several_strains_and_the_point_group(copper):
    assert np.allclose(elastic_constants(copper, (0.001, 0.002)).voigt, elastic_constants(copper).voigt, atol=0.1)
    rotated = copper.copy()
    rotated.rotate(30, (1, 2, 3), rotate_cell=True)
    rotated.calc = EMT()
    plain, averaged = elastic_constants(rotated), elastic_constants(rotated, symmetrise=True)
    assert np.allclose(plain.voigt, averaged.voigt, atol=0.05)
    assert plain.bulk_modulus == pytest.approx(elastic_constants(copper).bulk_modulus, abs=0.05)
    assert plain.shear_modulus == pytest.approx(elastic_constants(copper).shear_modulus, abs=0.05)
    with pytest.raises(ElasticityError, match="not cubic along x, y and z"):
        _ = plain.cubic


def test_averaging_over_the_point_group_mends_what_breaks_it(copper):
    """A calculator with a fault in one direction, as a coarse k-point mesh makes."""

    class Faulty(EMT):
        def calculate(self, atoms=None, *args, **kwargs):
            super().calculate(atoms, *args, **kwargs)
            self.results["stress"][0] += 0.02 * (atoms.cell.lengths()[0] - copper.cell.lengths()[0])

    atoms = copper.copy()
    atoms.calc = Faulty()
    plain, averaged = elastic_constants(atoms), elastic_constants(atoms, symmetrise=True)
    assert plain.voigt[0, 0] > plain.voigt[1, 1] + 5
    assert averaged.voigt[0, 0] == pytest.approx(np.trace(plain.voigt[:3, :3]) / 3)


def test_stillinger_weber_silicon_as_published(sw):
    """Relaxed: Cowley, PRL 60, 2379 (1988). Clamped C44: Balamane et al., PRB 46, 2250 (1992), who scale energies by 1.0677."""
    atoms = bulk("Si", cubic=True)
    atoms.calc = sw
    atoms = relaxed(atoms)
    assert elastic_constants(atoms).cubic == pytest.approx((151.4, 76.4, 56.4), abs=0.06)
    assert elastic_constants(atoms, relax_atoms=False).cubic[2] == pytest.approx(117.2 / 1.0677, abs=0.2)


def test_what_cannot_be_done(copper):
    stretched = copper.copy()
    stretched.set_cell(stretched.cell * 1.01, scale_atoms=True)
    with pytest.raises(ElasticityError, match="has no calculator"):
        elastic_constants(stretched)
    stretched.calc = EMT()
    with pytest.raises(ElasticityError, match=r"not relaxed: its stress is .* GPa"):
        elastic_constants(stretched)
    with pytest.raises(ElasticityError, match="not relaxed to 1e-05 eV/Å after 1 steps"):
        relaxed(stretched, steps=1)
    with pytest.raises(ElasticityError, match="strains must not be zero"):
        elastic_constants(copper, (0.0, 0.01))
    slab = copper.copy()
    slab.pbc = (True, True, False)
    slab.calc = EMT()
    with pytest.raises(ElasticityError, match="periodic in all directions"):
        elastic_constants(slab)


def test_an_unstable_crystal_is_told():
    assert not ElasticConstants(np.diag([100.0, 100, 100, 50, 50, -1]), 0.0, 0.0).stable


def test_the_example(potential_folder):
    done = subprocess.run(
        [sys.executable, EXAMPLE, potential_folder / "gap.xml", "diamond", "Si", "5.43"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "C11 = " in done.stdout
    assert "a = 5." in done.stdout
    wrong = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=False)
    assert wrong.returncode != 0
    assert "POTENTIAL.xml STRUCTURE ELEMENT A" in wrong.stderr
