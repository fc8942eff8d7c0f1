"""Distorted crystals."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_gaprss.strategies.distort import distorted


def test_no_distortion_leaves_the_crystal():
    crystal = bulk("Si", cubic=True)
    (same,) = distorted(crystal, 1, 0.0, 0.0, (1.0, 1.0), np.random.default_rng(1))
    assert np.allclose(same.positions, crystal.positions)
    assert np.allclose(same.cell.array, crystal.cell.array)


def test_volumes_strains_and_displacements_are_those_asked_for():
    crystal = bulk("Si", cubic=True)
    scaled = distorted(crystal, 400, 0.0, 0.0, (0.8, 1.2), np.random.default_rng(1))
    volumes = np.array([a.get_volume() / crystal.get_volume() for a in scaled])
    assert 0.8 <= volumes.min() < 0.81
    assert 1.19 < volumes.max() <= 1.2
    assert volumes.mean() == pytest.approx(1.0, abs=0.02)
    strained = distorted(crystal, 400, 0.0, 0.05, (1.0, 1.0), np.random.default_rng(2))
    tensors = np.array([np.linalg.solve(crystal.cell.array, a.cell.array) - np.eye(3) for a in strained])
    assert np.allclose(tensors, tensors.transpose(0, 2, 1)), "no rotation"
    assert 0.045 < np.abs(tensors).max() <= 0.05
    shaken = distorted(crystal, 400, 0.1, 0.0, (1.0, 1.0), np.random.default_rng(3))
    steps = np.array([a.positions - crystal.positions for a in shaken])
    assert steps.std() == pytest.approx(0.1, rel=0.02)
