"""What is chosen of a generation, and what is said of the rest."""

import numpy as np
import pytest
from ase import Atoms, units
from pydantic import ValidationError

from aiida_gaprss import frames as fr
from aiida_gaprss.selection.fingerprints import fingerprints
from aiida_gaprss.selection.generation import choose_frames
from aiida_gaprss.selection.sanity import Limits
from aiida_gaprss.selection.settings import SelectionSettings
from aiida_gaprss.settings.jobs import RelaxSettings

LIMITS = Limits(min_distance=1.4, volume_per_atom=(5.0, 60.0))


def cell(name, a, energy, status="converged", **info):
    """Return a simple cubic cell; fingerprints differ with ``a``."""
    atoms = Atoms("Si", cell=[a] * 3, pbc=True)
    atoms.info.update(frame_id=name, PRED_energy=energy, relax_status=status, **info)
    return atoms


@pytest.fixture
def six():
    """Six cells far from each other, energies in the order 3 1 5 0 4 2."""
    energies = [-2.0, -4.0, 0.0, -5.0, -1.0, -3.0]
    return [cell(f"c{i}", 2.0 + 0.2 * i, energy) for i, energy in enumerate(energies)]


@pytest.fixture
def relaxed(run_batch, silicon_cells, sw_settings):
    """Real relaxed frames of silicon, with early snapshots."""
    cells = [atoms.copy() for atoms in silicon_cells[1:]]
    for number, atoms in enumerate(cells):
        atoms.info["pressure_GPa"] = 2.0 * number
    settings = RelaxSettings(fmax=0.05, max_steps=40, snapshot_steps=[2], min_distance=1.0).model_dump()
    settings |= {"calculator": sw_settings["calculator"], "arguments": sw_settings["arguments"]}
    done, lines, _ = run_batch("relax", cells, settings)
    assert done.returncode == 0, done.stderr
    frames = []
    for index, line in sorted(lines.items()):
        for atoms in fr.loads(line["frames"]):
            atoms.info.update(frame_id=f"r{index}-s{atoms.info['step']}", pressure_GPa=2.0 * index)
            frames.append(atoms)
    return frames


def choose(candidates, rules, known=(), seed=1, limits=LIMITS, rows=None, known_rows=None, **settings):
    """Return names chosen and the report, which is checked to be complete."""
    chosen, report = choose_frames(candidates, known, SelectionSettings(rules=rules, **settings), limits, seed, rows, known_rows)
    names = [a.info["frame_id"] for a in candidates]
    assert sorted(report["reasons"]) == sorted(names), "one reason for each candidate"
    assert report["candidates"] == len(names) == report["chosen"] + sum(report["rejected"].values())
    assert report["chosen"] == len(chosen) == sum(report["chosen_as"].values()) == len({a.info["frame_id"] for a in chosen})
    assert [a.info["frame_id"] for a in chosen] == [name for name in names if report["reasons"][name].startswith("chosen: ")], (
        "in the order of the candidates"
    )
    return [a.info["frame_id"] for a in chosen], report


# --- rules ---


def test_rules_take_in_turn_and_nothing_twice(six):
    names, report = choose(six, [{"by": "lowest", "n": 2}, {"by": "lowest", "n": 1}, {"by": "all"}])
    assert names == [f"c{i}" for i in range(6)]
    assert report["reasons"]["c3"] == report["reasons"]["c1"] == "chosen: lowest"
    assert report["chosen_as"] == {"lowest": 3, "all": 3}


def test_frames_where_relaxations_were_stopped(six):
    for number, status in enumerate(["unsure", "on_the_way", "collapsed", "unsure"]):
        six[number].info["relax_status"] = status
    names, report = choose(six, [{"by": "lowest", "of": "unsure", "n": 1}])
    assert names == ["c3"]
    assert report["chosen_as"] == {"lowest of unsure": 1}
    assert report["reasons"]["c0"] == "not needed: not among the 1 lowest in energy"
    assert report["reasons"]["c1"] == report["reasons"]["c4"] == "not needed: no rule takes such frames"
    assert choose(six, [{"by": "all", "of": "snapshots"}])[0] == ["c0", "c1", "c2", "c3"], "snapshots, too"


def by_hand(rows, seen, n):
    """Return which of the rows are farthest, one after another."""
    seen, taken = [*seen], []
    for _ in range(min(n, len(rows))):
        nearest = [min((np.linalg.norm(row - other) for other in seen), default=np.inf) for row in rows]
        taken.append(int(np.argmax(nearest)))
        seen.append(rows[taken[-1]])
    return taken


def test_farthest_from_all_that_is_known_and_taken(six):
    rows = fingerprints(six)
    left = [i for i in (1, 5, 0, 4, 2)]  # after the lowest, c3, in the order of energy
    far = [left[k] for k in by_hand(rows[left], rows[[3]], 3)]
    names, report = choose(six, [{"by": "lowest", "n": 1}, {"by": "farthest", "n": 3}])
    assert names == [f"c{i}" for i in sorted([3, *far])]
    other = next(f"c{i}" for i in left if i not in far)
    assert report["reasons"][other] == "not needed: not among the 1 lowest in energy; not among the 3 least familiar"


@pytest.mark.parametrize(("lowest", "unfamiliar", "snapshots"), [(6, 10, 8), (10, 10, 0)])
def test_rules_one_after_another_by_hand(relaxed, silicon_frames, lowest, unfamiliar, snapshots):
    """Lowest that are new, then the unfamiliar, then unfamiliar snapshots."""
    rules = [{"by": "lowest", "n": lowest}, {"by": "farthest", "n": unfamiliar}]
    rules += [{"by": "farthest", "of": "snapshots", "n": snapshots}] if snapshots else []
    known = [atoms for atoms in silicon_frames if len(atoms) > 1][:5]
    rows, seen = fingerprints(relaxed), list(fingerprints(known))
    energy = [a.info["PRED_energy"] / len(a) for a in relaxed]
    ends = [i for i in np.argsort(energy, kind="stable") if relaxed[i].info["relax_status"] in ("converged", "max_steps")]
    distinct = []
    for i in ends:
        if all(np.linalg.norm(rows[i] - rows[j]) > 0.3 for j in distinct):
            distinct.append(int(i))
    taken = [i for i in distinct if min(np.linalg.norm(rows[i] - row) for row in seen) > 0.09][:lowest]
    pool = [i for i in distinct if i not in taken]
    taken += [pool[k] for k in by_hand(rows[pool], [*seen, *rows[taken]], unfamiliar)]
    on_the_way = [i for i in range(len(relaxed)) if i not in ends]
    taken += [on_the_way[k] for k in by_hand(rows[on_the_way], [*seen, *rows[taken]], snapshots)]
    names, _report = choose(relaxed, rules, known=known, limits=Limits())
    assert len(names) > 10
    assert names == [relaxed[i].info["frame_id"] for i in sorted(taken)]


def test_lowest_passes_over_what_the_database_holds(six):
    known = [cell("k", 2.6, -5.0), Atoms("Si", cell=[9] * 3, pbc=True, info={"config_type": "isolated_atom"})]
    names, report = choose(six, [{"by": "lowest", "n": 2}], known)
    assert names == ["c1", "c5"]
    assert report["reasons"]["c3"] == "not needed: the database holds it"
    assert choose(six, [{"by": "lowest", "n": 2, "only_new": False}], known)[0] == ["c1", "c3"]


def test_two_steps(six):
    names, report = choose(six, [{"by": "lowest", "n": 3, "then": {"by": "cur", "n": 2}}])
    assert len(names) == 2
    assert set(names) < {"c1", "c3", "c5"}
    assert report["chosen_as"] == {"lowest then cur": 2}
    assert {report["reasons"][f"c{i}"] for i in (0, 2, 4)} == {"not needed: not among the 3 lowest in energy"}


def test_enthalpy_is_that_of_the_frames_own_pressure():
    low = cell("low", 2.5, -4.0, pressure_GPa=30.0)
    high = cell("high", 2.8, -3.0, pressure_GPa=0.0)
    assert -4.0 + 30 * units.GPa * 2.5**3 > -3.0
    rule = {"by": "lowest", "n": 1}
    assert choose([low, high], [rule])[0] == ["low"]
    assert choose([low, high], [{**rule, "energy_of": "enthalpy"}])[0] == ["high"]
    cold = {"by": "boltzmann", "n": 1, "kT": 1e-4}
    assert choose([low, high], [cold])[0] == ["high"]
    assert choose([low, high], [{**cold, "energy_of": "energy"}])[0] == ["low"]


def test_most_uncertain_by_their_worst_atom(six):
    for number, atoms in enumerate(six):
        atoms.arrays["PRED_local_variance"] = np.array([(3 - number) ** 2 * 1e-4])
    assert choose(six, [{"by": "variance", "n": 2}])[0] == ["c0", "c1"]
    del six[4].arrays["PRED_local_variance"]
    with pytest.raises(ValueError, match="candidate c4 has no PRED_local_variance; run"):
        choose(six, [{"by": "variance", "n": 2}])


def test_snapshots_and_end_points(six):
    for atoms in six[:3]:
        atoms.info["relax_status"] = "on_the_way"
    assert choose(six, [{"by": "all"}])[0] == ["c3", "c4", "c5"]
    names, report = choose(six, [{"by": "lowest", "of": "snapshots", "n": 2}])
    assert names == ["c0", "c1"]
    assert report["chosen_as"] == {"lowest of snapshots": 2}
    assert report["reasons"]["c4"] == "not needed: no rule takes such frames"
    assert choose(six, [{"by": "random", "of": "all", "n": 9}])[0] == [f"c{i}" for i in range(6)]


def test_the_same_seed_the_same_choice(six):
    rules = [{"by": "random", "n": 2}, {"by": "boltzmann", "n": 2, "kT": 5.0}]
    assert choose(six, rules, seed=4) == choose(six, rules, seed=4)
    assert len({tuple(choose(six, rules, seed=s)[0]) for s in range(12)}) > 3


# --- vectors ---


def test_given_vectors_are_what_is_measured(six):
    # Other than the fingerprints have it, c1, c4 and c5 are alike; c2 cannot be described; the database knows the first axis.
    vectors = np.array([[1.0, 0, 0], [0, 1, 0], [np.nan] * 3, [0, 0, 1], [0, 1, 0], [0, 0.9, 0]])
    known = [cell("k0", 3.1, 0.0), cell("k1", 3.2, 0.0)]
    rows = np.array([[1.0, 0, 0], [np.nan] * 3])
    for by in ("cur", "farthest", "maxvol"):
        rules = [{"by": by, "n": 2}]
        names, report = choose(six, rules, known, rows=vectors, known_rows=rows, vectors={"kind": "soap"})
        assert names == ["c1", "c3"]
        assert report["rejected"] == {"no vector": 1, "not needed": 3}


@pytest.mark.parametrize(
    ("rows", "known_rows", "message"),
    [
        (None, None, "vectors: the candidates have none"),
        (np.ones((6, 2)), None, "vectors: the database have none"),
        (np.ones((5, 2)), np.ones((1, 2)), r"vectors have shape \(5, 2\), expected \(6, 2\)"),
        (np.ones((6, 2)), np.ones((1, 3)), r"known_vectors have shape \(1, 3\), expected \(1, 2\)"),
    ],
)
def test_vectors_that_do_not_fit(six, rows, known_rows, message):
    with pytest.raises(ValueError, match=message):
        choose(six, [{"by": "cur", "n": 2}], [cell("k", 3.1, 0.0)], rows=rows, known_rows=known_rows, vectors={})


# --- before the rules ---


def test_what_is_not_considered(six):
    six[0].info["PRED_energy"] = float("nan")
    six[1].set_cell([1.3] * 3)
    six[2].info["config_type"] = "isolated_atom"
    six[4].arrays["PRED_forces"] = np.array([[0.0, 0.0, 99.0]])
    six.append(cell("twin", 2.6, -4.9))
    names, report = choose(six, [{"by": "all"}], limits=Limits(volume_per_atom=(5, 60), max_force=50.0))
    assert names == ["c3", "c5"]
    assert report["rejected"] == {"absurd": 2, "duplicate": 1, "in vacuum": 1, "not finite": 1}
    assert report["reasons"]["twin"] == "duplicate: duplicate of frame c3"
    assert report["reasons"]["c0"] == "not finite: the energy is nan"
    del six[5].info["PRED_energy"]
    with pytest.raises(ValueError, match="candidate c5 has no PRED_energy"):
        choose(six, [{"by": "all"}])


def test_range_filter(six):
    known = [cell("k0", 2.3, 0.0), cell("k1", 2.9, 0.0), Atoms("Si", cell=[20] * 3, info={"config_type": "isolated_atom"})]
    names, report = choose(six, [{"by": "all"}], known, range_filter={"features": ["volume"]})
    # 2.0, 2.2 and 3.0 Å; 2.2 is inside once 2.0 has been seen
    assert names == ["c0", "c5"]
    inside = "inside the range already seen: every feature is inside the range already seen"
    assert [report["reasons"][f"c{i}"] for i in (1, 2, 3, 4)] == [inside] * 4


@pytest.mark.parametrize("by", ["lowest", "boltzmann", "random", "farthest", "cur", "maxvol", "variance"])
def test_little_to_choose_from(six, by):
    for atoms in six:
        atoms.arrays["PRED_local_variance"] = np.zeros(1)
    rules = [{"by": by, "n": 50}, {"by": by, "of": "snapshots", "n": 3, "then": {"by": "cur", "n": 2}}]
    assert len(choose(six, rules)[0]) == 6, "fewer than asked for"
    assert choose([], rules)[0] == []
    twins = [cell(f"t{i}", 2.5, -1.0) for i in range(5)]
    for atoms in twins:
        atoms.arrays["PRED_local_variance"] = np.zeros(1)
    assert choose(twins, rules)[0] == ["t0"]
    assert choose(twins, rules, [cell("k", 2.5, -1.0)])[0] == ([] if by in ("lowest", "farthest", "cur", "maxvol") else ["t0"])
    alike = choose(twins, rules, tolerance=0.0)[0]
    assert len(alike) == (1 if by in ("farthest", "cur", "maxvol") else 5)
    collapsed = [cell(f"x{i}", 1.0, -9.0) for i in range(3)]
    assert choose(collapsed, rules)[1]["rejected"] == {"absurd": 3}


def test_relaxed_frames(relaxed, silicon_frames):
    rules = [
        {"by": "boltzmann", "kT": 0.3, "n": 8, "then": {"by": "cur", "n": 3}},
        {"by": "farthest", "of": "snapshots", "n": 2},
        {"by": "cur", "of": "all", "n": 2},
        {"by": "maxvol", "of": "all", "n": 3},
    ]
    known = silicon_frames[:4]
    names, report = choose(relaxed, rules, known, limits=Limits(), range_filter={})
    assert len(names) == 10, report
    assert report["chosen_as"] == {"boltzmann then cur": 3, "farthest of snapshots": 2, "cur of all": 2, "maxvol of all": 3}
    assert choose(relaxed, rules, known, limits=Limits(), range_filter={})[0] == names
    assert choose(relaxed, rules, relaxed, limits=Limits(), range_filter={})[0] == [], "all of them seen before"


# --- settings ---


@pytest.mark.parametrize(
    ("rules", "more", "message"),
    [
        ([], {}, "at least 1 item"),
        ([{"by": "lowest"}], {}, "lowest needs n, the largest number of frames"),
        ([{"by": "all", "n": 3}], {}, "all takes every frame and has no n"),
        ([{"by": "random", "n": 3, "kT": 0.1}], {}, "kT is for boltzmann, not for random"),
        ([{"by": "cur", "n": 3, "energy_of": "energy"}], {}, "energy_of is for lowest and boltzmann, not for cur"),
        ([{"by": "cur", "n": 3, "only_new": True}], {}, "only_new is for lowest, not for cur"),
        ([{"by": "farthest", "n": 3, "known_variance": 0.9}], {}, "known_variance is for cur, not for farthest"),
        ([{"by": "cur", "n": 3, "grade": 2.0}], {}, "grade is for maxvol, not for cur"),
        ([{"by": "maxvol", "n": 3, "grade": -1.0}], {}, "greater than or equal to 0"),
        ([{"by": "cur", "n": 3, "then": {"by": "cur", "n": 4}}], {}, "then: takes 4 of the 3 frames of the first rule"),
        ([{"by": "cur", "n": 3, "then": {"by": "all"}}], {}, "then: all would take what is taken already"),
        ([{"by": "cur", "n": 3, "then": {"by": "cur", "n": 1, "of": "all"}}], {}, "`of` belongs there"),
        ([{"by": "lowest", "n": 3}], {"vectors": {}}, "no rule measures with them; those that do are farthest, cur, maxvol"),
        ([{"by": "best", "n": 3}], {}, "'lowest', 'boltzmann'"),
        ([{"by": "lowest", "n": 3}], {"lowest": 3}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense(rules, more, message):
    with pytest.raises(ValidationError, match=message):
        SelectionSettings(rules=rules, **more)


def test_most_that_can_be_chosen():
    rules = [{"by": "lowest", "n": 4}, {"by": "boltzmann", "n": 50, "then": {"by": "cur", "n": 5}}]
    assert SelectionSettings(rules=rules).at_most(20, 2) == 9
    assert SelectionSettings(rules=rules).at_most(3, 0) == 3
    assert SelectionSettings(rules=[{"by": "all"}, {"by": "random", "of": "snapshots", "n": 7}]).at_most(20, 2) == 27
    assert SelectionSettings(rules=[{"by": "all", "of": "all"}]).at_most(20, 2) == 60
    assert SelectionSettings(rules=[{"by": "all", "then": {"by": "cur", "n": 6}}]).at_most(20, 2) == 6
