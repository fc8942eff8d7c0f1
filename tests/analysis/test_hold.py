"""Minima beside the reference: which frames stand for them, what is out of its tolerance, and how it is told."""

import numpy as np
import pytest
from ase.build import bulk

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hold import BESIDE, Known, Tolerances, judged, told, with_predictions

DIAMOND = bulk("Si", a=5.43)
TOLERANCES = Tolerances(energy=0.01, force=0.1, pressure_GPa=1.0)
GPA = 1 / 160.21766208  # eV/Å³


def labelled(atoms, energy=-8.0, force=0.0, pressure=0.0, name="known"):
    atoms = atoms.copy()
    forces = np.zeros((len(atoms), 3))
    forces[0, 1] = force
    fr.set_labels(atoms, energy * len(atoms) / 2, forces, pressure * GPA * atoms.get_volume() * np.eye(3).ravel())
    atoms.info["frame_id"] = name
    return atoms


def minimum(atoms, energy=-8.0, name="found"):
    atoms = atoms.copy()
    fr.set_labels(atoms, energy * len(atoms) / 2, np.zeros((len(atoms), 3)), np.zeros(9), prefix=fr.PREDICTION)
    atoms.info.update(frame_id=name, relax_status="converged")
    return atoms


def strained(strain):
    atoms = DIAMOND.copy()
    atoms.set_cell(atoms.cell.array * (1 + strain), scale_atoms=True)
    return atoms


def test_a_frame_stands_for_what_it_is_but_for_less_than_a_label_would_tell():
    known = Known([labelled(DIAMOND)], [])
    assert known.beside(minimum(strained(0.001))).info["frame_id"] == "known"
    assert known.beside(minimum(strained(0.01))) is None
    assert known.has(minimum(strained(0.01))), "the same structure, to be labelled again"
    lonsdaleite = bulk("Si", "hcp", a=3.84, c=6.27)
    lonsdaleite = lonsdaleite.__class__(
        "Si4",
        cell=lonsdaleite.cell,
        pbc=True,
        scaled_positions=[(1 / 3, 2 / 3, 0.0625), (2 / 3, 1 / 3, 0.5625), (2 / 3, 1 / 3, 0.9375), (1 / 3, 2 / 3, 0.4375)],
    )
    assert not known.has(minimum(lonsdaleite)), "the same neighbours, other rings"
    assert known.beside(minimum(lonsdaleite)) is None
    assert not Known([], [DIAMOND]).has(minimum(DIAMOND))


def test_neither_another_element_nor_an_atom_alone_stands_for_a_minimum():
    germanium = DIAMOND.copy()
    germanium.symbols[:] = "Ge"
    alone = labelled(DIAMOND[:1], name="atom")
    alone.set_cell(15 * np.eye(3))
    alone.info["config_type"] = "isolated_atom"
    known = Known([labelled(germanium), alone], [DIAMOND])
    assert not known.has(minimum(DIAMOND))
    assert [a.info["frame_id"] for a in known.frames] == ["known"]


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("seed", range(5))
def test_cells_and_rotations_do_not_matter(seed, repeat):
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", a=5.43).repeat((1, 1, 2))
    atoms.rattle(0.2, rng=rng)
    other = atoms.repeat(repeat)
    other.rotate(float(rng.uniform(0, 360)), rng.normal(size=3), rotate_cell=True)
    known = Known([labelled(atoms)], [])
    assert known.distances(minimum(other)).min() < 1e-6 < BESIDE
    assert known.has(minimum(other))


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ({}, ""),
        ({"energy": -8.018}, ""),
        ({"energy": -8.022}, "energy +11.0 meV/atom"),
        ({"energy": -7.978}, "energy -11.0 meV/atom"),
        ({"force": 0.09}, ""),
        ({"force": -0.12}, "force 0.12 eV/Å"),
        ({"pressure": 0.9}, ""),
        ({"pressure": -1.5}, "pressure off by 1.5 GPa"),
        ({"energy": -8.1, "force": 1.0, "pressure": 2.0}, "energy +50.0 meV/atom; force 1.00 eV/Å; pressure off by 2.0 GPa"),
    ],
)
def test_what_is_out_of_its_tolerance(label, why):
    own = labelled(minimum(DIAMOND), **label, name="found")
    for row in (
        judged(1, minimum(DIAMOND), own, True, TOLERANCES),
        judged(1, minimum(DIAMOND), labelled(DIAMOND, **label), True, TOLERANCES),
    ):
        assert (row.why, row.holds) == (why, not why)
    assert judged(1, minimum(DIAMOND), own, True, TOLERANCES).own
    assert row.judged_by == "known"
    assert not row.own


def test_what_the_potential_itself_leaves_is_not_its_error():
    """A relaxation out of steps, or under a pressure."""
    own = labelled(minimum(DIAMOND), force=0.5, pressure=20.0, name="found")
    own.arrays["PRED_forces"][0, 1] = 0.45
    own.info["PRED_virial"] = 19.5 * GPA * DIAMOND.get_volume() * np.eye(3).ravel()
    row = judged(1, own, own, True, TOLERANCES, pressure_GPa=20.0)
    assert row.holds
    assert row.force == pytest.approx(0.05)
    assert row.pressure_GPa == pytest.approx(0.5)
    beside = judged(1, minimum(DIAMOND), labelled(DIAMOND, pressure=20.4), True, TOLERANCES, pressure_GPa=20.0)
    assert beside.pressure_GPa == pytest.approx(0.4)


def test_beside_a_minimum_it_counts_whether_the_potential_follows_the_label():
    """What the reference leaves in a frame beside the minimum is no error, if the potential knows it."""
    (beside,) = with_predictions([labelled(DIAMOND, pressure=3.0)], [])
    assert judged(1, minimum(DIAMOND), beside, True, TOLERANCES).why == "pressure off by 3.0 GPa", "nothing is predicted of it"
    told = beside.copy()
    fr.set_labels(told, fr.energy(beside) - 0.008, beside.arrays["REF_forces"], 0.9 * beside.info["REF_virial"], prefix="PRED")
    (follows,) = with_predictions([beside], [told])
    row = judged(1, minimum(DIAMOND), follows, True, TOLERANCES)
    assert row.holds, row.why
    assert row.energy == pytest.approx(-0.004)
    assert row.pressure_GPa == pytest.approx(0.3)


def test_what_another_potential_said_is_forgotten():
    stale = labelled(DIAMOND)
    fr.set_labels(stale, 0.0, np.ones((2, 3)), np.ones(9), prefix="PRED")
    (bare,) = with_predictions([stale], [])
    assert not [key for key in [*bare.info, *bare.arrays] if key.startswith("PRED_")]
    assert stale.info["PRED_energy"] == 0.0


def test_a_minimum_without_a_label_does_not_hold():
    assert judged(1, minimum(DIAMOND), None, False, TOLERANCES).why == "no label"
    failed = minimum(DIAMOND)
    failed.info["label_status"] = "SCF not converged"
    assert judged(1, minimum(DIAMOND), failed, False, TOLERANCES).why == "no label: SCF not converged"


def test_energies_alone_can_be_held_to():
    """A reference may give no forces and no stress."""
    label = labelled(DIAMOND)
    del label.arrays["REF_forces"], label.info["REF_virial"]
    row = judged(1, minimum(DIAMOND), label, True, TOLERANCES)
    assert (row.force, row.pressure_GPa, row.holds) == (None, None, True)


def test_words():
    good = judged(1, minimum(DIAMOND), labelled(DIAMOND), True, TOLERANCES).as_dict()
    bad = judged(2, minimum(DIAMOND), labelled(DIAMOND, energy=-8.1), True, TOLERANCES).as_dict()
    verdict = {"holds": True, "reason": "", "lowest": 2, "holding": 2, "own": 2, "labels": 12, "minima": [good, good]}
    assert told(verdict) == "the 2 lowest minima hold; 12 labels"
    assert told({**verdict, "own": 1}) == "the 2 lowest minima hold, 1 of them by labels of frames beside them; 12 labels"
    lost = {**verdict, "holds": False, "reason": "all 12 labels are spent", "minima": [good, bad]}
    assert told(lost) == "all 12 labels are spent: of the 2 lowest minima 1 does not hold: 2 (energy +50.0 meV/atom); 12 labels"
    new = {**verdict, "holds": False, "reason": "all 3 rounds have been made"}
    assert "but the last searches brought new ones" in told(new)
