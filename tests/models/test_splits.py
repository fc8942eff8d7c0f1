"""Which frames are fitted: random, of every config type in proportion, a larger part containing the smaller ones."""

from collections import Counter
from itertools import pairwise

import pytest
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.models.splits import all_but, stratified

NUMBERS = {"liquid": 40, "crystal": 20, "surface": 5}


@pytest.fixture(scope="module")
def frames():
    out = [Atoms("Si", cell=[12.0] * 3, pbc=True)]
    out[0].info = {"frame_id": "atom", "config_type": "isolated_atom", "REF_energy": 0.0}
    for kind, number in NUMBERS.items():
        for i in range(number):
            atoms = Atoms("Si2", positions=[(0, 0, 0), (1.4, 1.3, 1.2)], cell=[3.0 + 0.001 * len(out)] * 3, pbc=True)
            atoms.info = {"frame_id": f"{kind}-{i}", "config_type": kind, "REF_energy": -1.0}
            out.append(atoms)
    assert all(map(fr.is_labelled, out))
    return out


def fitted(frames, fraction, seed, without=()):
    left_out = set(all_but(frames, fraction, seed, without))
    return {a.info["frame_id"] for a in frames} - left_out


def kinds(names):
    return Counter(name.split("-")[0] for name in names)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nested_and_stratified(frames, seed):
    parts = [fitted(frames, fraction, seed) for fraction in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)]
    for smaller, larger in pairwise(parts):
        assert smaller < larger
    for fraction, part in zip((0.05, 0.1, 0.2, 0.4, 0.8, 1.0), parts, strict=True):
        assert "atom" in part
        assert len(part) - 1 == round(65 * fraction)
        for kind, number in NUMBERS.items():
            assert abs(kinds(part)[kind] - fraction * number) <= 1, (fraction, kind)
    assert len(parts[-1]) == len(frames)


def test_seed(frames):
    assert fitted(frames, 0.4, 1) == fitted(frames[::-1], 0.4, 1) != fitted(frames, 0.4, 2)


def test_without_those_of_a_test(frames):
    held = stratified(frames, 0.2, 1)
    for fraction in (0.3, 1.0):
        part = fitted(frames, fraction, 1, held)
        assert not part & set(held)
        assert len(part) - 1 == round(fraction * 52)
    assert all_but(frames, 1.0, 1, held) == sorted(held)
    assert all_but(frames, 1.0, 1) == []


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_copies_of_a_structure_stay_together(frames, seed):
    """Of a group that is there several times, to the last digit, turned or repeated, all are held out or none."""
    more = list(frames)
    groups = []
    for number in range(1, 41, 4):
        turned, repeated, again = (frames[number].copy() for _ in range(3))
        turned.rotate(33, (3, 1, 2), rotate_cell=True)
        turned.positions -= 0.4
        turned = turned[::-1]
        repeated = repeated.repeat((1, 2, 1))
        for name, atoms in (("turned", turned), ("repeated", repeated), ("again", again)):
            atoms.info = {"frame_id": f"{name}-{number}", "config_type": frames[number].info["config_type"], "REF_energy": -1.0}
            more.append(atoms)
        groups.append({f"{name}-{number}" for name in ("turned", "repeated", "again")} | {frames[number].info["frame_id"]})
    held = set(stratified(more, 0.2, seed))
    assert all(group <= held or not group & held for group in groups)
    assert abs(len(held) - 0.2 * (len(more) - 1)) <= 3
    assert held == set(stratified(more[::-1], 0.2, seed))


def test_nothing_but_copies(frames):
    same = [frames[1].copy() for _ in range(5)]
    for number, atoms in enumerate(same):
        atoms.info["frame_id"] = f"copy-{number}"
    with pytest.raises(ValueError, match="leaves nothing on one side, as copies of a structure stay together"):
        stratified(same, 0.4, 1)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_no_fraction(frames, fraction):
    with pytest.raises(ValueError, match="above 0 and at most 1, got"):
        all_but(frames, fraction, 1)


def test_nothing_left(frames):
    with pytest.raises(ValueError, match=r"0\.001 of 65 frames leaves nothing to fit"):
        all_but(frames, 0.001, 1)
