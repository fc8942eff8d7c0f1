"""The common test of campaigns: low frames once, the lowest structures, who has made and seen what."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.testset import gathered, is_seen, known_by, lowest, maker_of, once, unrest, within
from aiida_gaprss.analysis.zero import EnergyZero

REST = (0.2, 1.0)


def frame(name, atoms, per_atom, force=0.0, GPa=0.0, kind="minimum"):
    out = atoms.copy()
    virial = fr.virial_from_stress(-GPa / 160.21766 * np.eye(3), out.get_volume())
    fr.set_labels(out, per_atom * len(out), np.full((len(out), 3), force), virial)
    out.info.update(frame_id=name, config_type=kind, generation=3, pressure_GPa=GPa, PRED_energy=1.0)
    return out


@pytest.fixture
def crystals():
    """Diamond, the same turned and repeated, diamond under pressure, simple cubic, fcc off its equilibrium, an isolated atom."""
    again = bulk("Si", cubic=True)
    again.rotate(40, "z", rotate_cell=True)
    return [
        frame("diamond", bulk("Si"), -4.33),
        frame("again", again, -4.33),
        frame("dense", bulk("Si", a=5.25), -4.31, GPa=9.0),
        frame("cubic", bulk("Si", "sc", a=2.6), -4.05, force=0.1),
        frame("fcc", bulk("Si", "fcc", a=3.9), -4.2, force=0.9),
        frame("atom", Atoms("Si", cell=[12.0] * 3, pbc=True), -0.8, kind="isolated_atom"),
        frame("high", bulk("Si", "bcc", a=3.1), -3.7),
    ]


def test_gathered_frames_keep_their_labels_and_nothing_else(crystals):
    found = gathered(crystals, "c00", "g03")
    assert [maker_of(a).name for a in found] == ["diamond", "again", "dense", "cubic", "fcc", "high"]
    assert {(maker_of(a).campaign, maker_of(a).tag) for a in found} == {("c00", "g03")}
    assert len({a.info["frame_id"] for a in found}) == len(found)
    assert not {"PRED_energy", "generation", "pressure_GPa"} & set(found[0].info)
    assert found[0].info["REF_energy"] == crystals[0].info["REF_energy"]
    assert "high" not in [maker_of(a).name for a in within(found, 0.3)]


def test_what_one_campaign_leaves_out_all_leave_out(times):
    """Frames are sorted out campaign by campaign, and then together: the same as together at once."""
    rng = np.random.default_rng(5)
    for _ in range(times(40)):
        parts = [
            gathered([frame(str(i), bulk(rng.choice(["Cu", "Au"])), e) for i, e in enumerate(rng.random(8))], f"c{c:02d}", "g00")
            for c in range(3)
        ]
        together = [a.info["frame_id"] for a in within([a for part in parts for a in part], 0.3)]
        one_by_one = [a for part in parts for a in within(part, 0.3)]
        assert [a.info["frame_id"] for a in within(one_by_one, 0.3)] == together


def test_each_structure_once(crystals):
    groups = once(gathered(crystals, "c00", "g00"))
    assert [maker_of(a).name for a in groups[0]] == ["diamond", "again"]
    assert len(groups) == 5


def test_lowest_structures_are_at_rest_and_distinct_whatever_their_density(crystals):
    found = gathered(crystals, "c00", "g00")
    assert unrest(found[2]) == pytest.approx((0.0, 9.0))
    zero = EnergyZero(found)
    assert [maker_of(a).name for a in lowest(found, zero, 5, REST)] == ["diamond", "cubic", "high"]
    assert [maker_of(a).name for a in lowest(found, zero, 5, (1.0, 10.0))] == ["diamond", "fcc", "cubic", "high"]
    assert [maker_of(a).name for a in lowest(found, zero, 2, REST)] == ["diamond", "cubic"]


def test_known_is_who_has_labelled_the_structure(crystals):
    diamond, again, dense, cubic, *_ = crystals
    parts = {("c00", "g00"): [cubic], ("c00", "g01"): [dense], ("c01", "g00"): [again], ("c02", "g00"): [cubic]}
    frames = [a for (campaign, tag), some in parts.items() for a in gathered(some, campaign, tag)]
    assert known_by(frames, diamond, 0.05) == {"c00": ["g01"], "c01": ["g00"]}
    assert known_by(frames, diamond, 0.01) == {"c01": ["g00"]}, "under pressure it lies 20 meV/atom above"


def test_seen_are_frames_of_the_training_set_and_their_copies(crystals):
    diamond, again, *_ = crystals
    makers = [maker_of(a) for tag, a in (("g02", diamond), ("g01", again)) for a in gathered([a], "c00", tag)]
    assert is_seen(makers, "c00", {"g00", "g01"}, set())
    assert not is_seen(makers, "c00", {"g00", "g01"}, {"again"}), "held out for a test"
    assert not is_seen(makers, "c00", {"g00"}, set())
    assert not is_seen(makers, "c01", {"g00", "g01"}, set()), "another campaign has seen it"
