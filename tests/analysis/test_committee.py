"""The spread of a committee, against numbers worked out by hand."""

import numpy as np
import pytest
from scipy.stats import rankdata

from aiida_gaprss.analysis.committee import spread


@pytest.fixture
def members(silicon_frames):
    """Four members whose errors are random and larger for every further frame."""
    rng = np.random.default_rng(1)
    out = []
    for _ in range(4):
        frames = [a.copy() for a in silicon_frames[1:]]
        for number, atoms in enumerate(frames):
            size = 0.001 * 1.5**number
            atoms.info["PRED_energy"] = atoms.info["REF_energy"] + len(atoms) * size * rng.normal()
            atoms.arrays["PRED_forces"] = atoms.arrays["REF_forces"] + 3 * size * rng.normal(size=(len(atoms), 3))
        out.append(frames)
    return out


def test_by_hand(members):
    found = spread(members)
    frames = members[0]
    energies = np.array([[1000 * a.info["PRED_energy"] / len(a) for a in m] for m in members])
    reference = np.array([1000 * a.info["REF_energy"] / len(a) for a in frames])
    deviation = np.sqrt(((energies - energies.mean(0)) ** 2).sum(0) / 3)
    error = np.abs(energies.mean(0) - reference)
    assert found["energy"]["spread"] == pytest.approx(np.sqrt((deviation**2).mean()))
    assert found["energy"]["error"] == pytest.approx(np.sqrt((error**2).mean()))
    assert found["energy"]["spearman"] == pytest.approx(np.corrcoef(rankdata(deviation), rankdata(error))[0, 1])
    assert found["energy"]["values"] == len(frames)
    forces = np.array([np.concatenate([a.arrays["PRED_forces"] for a in m]) for m in members])
    variance = ((forces - forces.mean(0)) ** 2).sum(0) / 3
    wrong = forces.mean(0) - np.concatenate([a.arrays["REF_forces"] for a in frames])
    assert found["forces"]["spread"] == pytest.approx(np.sqrt(variance.sum(1).mean()))
    assert found["forces"]["error"] == pytest.approx(np.sqrt((wrong**2).sum(1).mean()))
    assert found["forces"]["values"] == sum(map(len, frames))
    # Made so that the spread tells the error.
    assert found["forces"]["spearman"] > 0.7
    assert [row["frame_id"] for row in found["frames"]] == [a.info["frame_id"] for a in frames]
    assert [row["energy_spread"] for row in found["frames"]] == pytest.approx(list(deviation))


def test_frames_are_matched_by_name(members):
    other = [members[0], members[1][::-1], *members[2:]]
    assert spread(other) == spread(members)
    shorter = spread([members[0], members[1][2:], *members[2:]])
    assert len(shorter["frames"]) == len(members[0]) - 2


def test_forces_that_are_zero_by_symmetry(members):
    """They do not make the correlation better, as equal ranks would."""
    before = spread(members)
    for frames in members:
        for atoms in frames[:4]:
            atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
            atoms.arrays["PRED_forces"] = np.full((len(atoms), 3), 1e-9)
    zeros = spread(members)["forces"]
    assert zeros["values"] == before["forces"]["values"]
    assert zeros["spearman"] == pytest.approx(spread([frames[4:] for frames in members])["forces"]["spearman"])


def test_what_tells_nothing(members):
    assert spread([members[0]] * 3)["energy"]["spearman"] is None
    assert spread([members[0]] * 3)["energy"]["spread"] == pytest.approx(0, abs=1e-9)
    for frames in members:
        for atoms in frames:
            del atoms.arrays["PRED_forces"]
    assert "forces" not in spread(members)
    with pytest.raises(ValueError, match="at least two members, got 1"):
        spread(members[:1])
    with pytest.raises(ValueError, match="no frame that all members"):
        spread([members[0][:2], members[1][2:]])
