"""Errors against values worked out by hand."""

import math

import numpy as np
import pytest
from ase import Atoms

from aiida_gaprss.analysis.errors import errors, errors_by, pairs
from aiida_gaprss.frames import set_labels


def dimer(natoms: int = 2, **info) -> Atoms:
    atoms = Atoms("Si" * natoms, positions=np.arange(3 * natoms).reshape(natoms, 3), cell=[9, 9, 9], pbc=True)
    atoms.info.update(info)
    return atoms


def labelled(energy_error: float, force_error: float, virial_error: float, natoms: int = 2, **info) -> Atoms:
    """Errors: of the total energy, of the very first force component, of the xy = yx virial."""
    atoms = dimer(natoms, **info)
    forces, virial = np.ones((natoms, 3)), np.arange(9.0).reshape(3, 3)
    virial = virial + virial.T
    set_labels(atoms, -10.0, forces, virial)
    wrong_forces, wrong_virial = forces.copy(), virial.copy()
    wrong_forces[0, 0] += force_error
    wrong_virial[0, 1] += virial_error
    wrong_virial[1, 0] += virial_error
    set_labels(atoms, -10.0 + energy_error, wrong_forces, wrong_virial, prefix="PRED")
    return atoms


def test_by_hand():
    result = errors([labelled(0.02, 0.6, 0.12), labelled(-0.08, 0.0, 0.0, natoms=4)])
    # energies: +10 and −20 meV/atom
    assert result.energy.mae == pytest.approx(15.0)
    assert result.energy.rmse == pytest.approx(math.sqrt((100 + 400) / 2))
    assert result.energy.largest == pytest.approx(20.0)
    # forces: one of 6 + 12 components is wrong by 0.6
    assert result.forces.values == 18
    assert result.forces.mae == pytest.approx(0.6 / 18)
    assert result.forces.rmse == pytest.approx(0.6 / math.sqrt(18))
    # virials: one of 6 + 6 independent components is wrong by 0.12 eV over 2 atoms
    assert result.virial.values == 12
    assert result.virial.mae == pytest.approx(60 / 12)
    assert result.virial.rmse == pytest.approx(60 / math.sqrt(12))
    assert result.flat()["virial_rmse"] == result.virial.rmse


def test_missing_labels_are_counted():
    no_prediction = dimer()
    set_labels(no_prediction, -10.0, np.ones((2, 3)))
    result = errors([labelled(0.02, 0.0, 0.0), no_prediction, dimer()])
    assert (result.frames, result.energy.frames, result.energy.missing) == (3, 1, 2)
    assert result.energy.rmse == pytest.approx(10.0)


def test_nothing_to_compare():
    result = errors([dimer()])
    assert result.energy.rmse is None
    assert result.forces.missing == 1
    assert result.flat() == {}
    assert errors([]).energy.missing == 0
    assert pairs([], "forces")[0].shape == (0,)


def test_groups():
    frames = [
        labelled(0.02, 0, 0, generation=1, config_type="b"),
        labelled(0.04, 0, 0, generation=0, config_type="a"),
        labelled(0.06, 0, 0, generation=10, config_type="a"),
        labelled(0.08, 0, 0),
    ]
    assert list(errors_by(frames, "generation")) == [0, 1, 10, "unknown"]
    by_type = errors_by(frames, "config_type")
    assert by_type["a"].energy.mae == pytest.approx(25.0)
    assert by_type["b"].frames == 1
    assert list(errors_by(frames, len)) == [2]
