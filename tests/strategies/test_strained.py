"""Strained supercells, held to those of Zuo et al. (2020)."""

import gzip
import io
import re

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read

from aiida_gaprss.strategies.base import StrategyError, strategy_of
from aiida_gaprss.strategies.strained import VOIGT, stretch

AMOUNTS = [-0.10, -0.08, -0.06, -0.04, -0.02, 0.02, 0.04, 0.06, 0.08, 0.10]


def made(crystal, **settings):
    return strategy_of({"kind": "strained", **settings}).apply([crystal], {"Si": 1}, 7)


def green(deformation):
    """The Green–Lagrange strain, which does not feel a rotation."""
    return (deformation.T @ deformation - np.eye(3)) / 2


def published(data, element):
    """Strains of the published cells by mode and amount; numbers of atoms; the ground state's cell."""
    frames = []
    for part in ("training", "test"):
        text = gzip.decompress((data / "mlearn" / f"{element}_{part}.xyz.gz").read_bytes()).decode()
        frames += [a for a in read(io.StringIO(text), ":", format="extxyz") if a.info["config_type"] == "Elastic"]
    (ground,) = [a for a in frames if a.info["description"] == "Ground state crystal"]
    found = {}
    for atoms in frames:
        if told := re.search(r"mode (\d), strain (\S+)", atoms.info["description"]):
            deformation = np.linalg.solve(ground.cell.array, atoms.cell.array).T
            found[int(told[1]), round(float(told[2]), 6)] = green(deformation)
            assert len(atoms) == len(ground)
    return found, ground


@pytest.mark.parametrize(
    ("element", "measure", "repeat", "first", "modes"),
    [("Si", "green-lagrange", 2, 0, [1, 2, 3, 6, 5, 4]), ("Mo", "simple", 3, 1, [1, 2, 3, 6, 4, 5])],
)
def test_as_published(data, element, measure, repeat, first, modes):
    """Sixty cells and the ground state, each strain but for a rotation. Their modes have other numbers, and not the same ones."""
    found, ground = published(data, element)
    crystal = bulk(element, cubic=True)
    crystal.set_cell(ground.cell.array / repeat, scale_atoms=True)
    frames = made(crystal, measure=measure, supercell=[repeat] * 3)
    assert len(frames) == len(found) + 1 == 61
    assert {len(atoms) for atoms in frames} == {len(ground)}
    ours = {atoms.info["parameters"]: green(np.linalg.solve(ground.cell.array, atoms.cell.array).T) for atoms in frames}
    for (mode, amount), strain in found.items():
        assert np.allclose(ours[f"mode {modes[mode - first]}, strain {amount:g}"], strain, atol=2e-6), (mode, amount)


@pytest.mark.parametrize("measure", ["green-lagrange", "simple", "engineering"])
def test_strains_have_no_rotation_and_one_component(measure):
    for mode, (i, j) in enumerate(VOIGT, 1):
        for amount in (-0.1, 0.02, 0.1, 0.4):
            u = stretch(mode, amount, measure)
            assert np.allclose(u, u.T)
            assert np.linalg.eigvalsh(u).min() > 0
            if measure == "green-lagrange":
                expected = np.zeros((3, 3))
                expected[i, j] = expected[j, i] = amount
                assert np.allclose(green(u), expected)
            elif i == j:
                assert np.allclose(u - np.eye(3), amount * np.outer(np.eye(3)[i], np.eye(3)[i]))
            elif measure == "simple":
                assert np.linalg.det(u) == pytest.approx(1)
                angle = np.dot(u[:, i], u[:, j]) / np.linalg.norm(u[:, i]) / np.linalg.norm(u[:, j])
                assert np.tan(np.arcsin(angle)) == pytest.approx(amount), "tangent of the angle of shear"
            else:
                assert u[i, j] == pytest.approx(amount / 2), "engineering shear: twice the component"
                assert np.trace(u) == pytest.approx(3)


def test_small_strains_are_those_of_voigt():
    for mode in range(1, 7):
        engineering = stretch(mode, 1e-4, "engineering")
        assert np.allclose(stretch(mode, 1e-4, "simple"), engineering, atol=2e-8)
        amount = 1e-4 if mode < 4 else 0.5e-4
        assert np.allclose(stretch(mode, amount, "green-lagrange"), engineering, atol=2e-8)


def test_atoms_go_with_the_cell():
    crystal = bulk("Si", cubic=True)
    crystal.rattle(0.05, seed=1)
    frames = made(crystal, supercell=[1, 2, 1], strains=[-0.03, 0, 0.05], modes=[6, 1])
    assert [atoms.info["parameters"] for atoms in frames] == [
        "unstrained",
        *(f"mode {mode}, strain {amount:g}" for mode in (6, 1) for amount in (-0.03, 0.05)),
    ]
    assert np.allclose(frames[0].positions, crystal.repeat((1, 2, 1)).positions)
    for atoms in frames[1:]:
        assert np.allclose(atoms.get_scaled_positions(wrap=False), frames[0].get_scaled_positions(wrap=False))
        deformation = np.linalg.solve(frames[0].cell.array, atoms.cell.array).T
        assert np.allclose(atoms.positions, frames[0].positions @ deformation.T)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modes": [1, 1]}, r"strained.modes: .*\[1, 1\] has the same number twice"),
        ({"modes": [7]}, "strained.modes.0: .*less than or equal to 6"),
        ({"modes": []}, "strained.modes: .*at least 1"),
        ({"strains": [0.1, 0.1]}, r"strained.strains: .*has the same number twice"),
        ({"strains": [-0.5]}, "strained.strains.0: .*greater than -0.5"),
        ({"supercell": [0, 1, 1]}, "strained.supercell.0"),
        ({"measure": "true"}, "strained.measure"),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(StrategyError, match=message):
        made(bulk("Si"), **settings)
