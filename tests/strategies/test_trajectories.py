"""Trajectories: where they begin, which snapshots are labelled, and what is refused."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from aiida_gaprss.settings.jobs import MdSettings
from aiida_gaprss.strategies.base import StrategyError, strategy_of


def crystal():
    atoms = bulk("Mo", cubic=True)
    atoms.info["frame_id"] = "bcc"
    return atoms


def snapshots(strategy, status="finished"):
    """What the job leaves of the first trajectory: a frame for each kept step, the first and the last among them."""
    start = strategy.apply([crystal()], {"Mo": 1}, 1)[0]
    task = MdSettings(**start.info["task"])
    total = round(1000 * sum(part.ps for part in task.program) / task.timestep_fs)
    out = []
    for step in sorted({0, total, *range(0, total + 1, task.snapshot_every)}):
        atoms = Atoms(start.numbers, start.positions, cell=start.cell, pbc=True)
        atoms.info = {
            "frame_id": f"s{step}",
            "step": step,
            "md_status": "on_the_way",
            "parameters": start.info.get("parameters", ""),
        }
        out.append(atoms)
    out[-1].info["md_status"] = status
    return out


def test_zuo_for_molybdenum():
    """Five temperatures with 20 snapshots 0.1 ps apart, and two with a vacancy and 40."""
    whole = {"kind": "md", "melting_K": 2896.0, "of_melting": [0.5, 0.9, 1.5, 2.0], "supercell": [3, 3, 3]}
    bulk_md = strategy_of(whole)
    starts = bulk_md.apply([crystal()], {"Mo": 1}, 1)
    assert [len(atoms) for atoms in starts] == [54] * 5
    found = [MdSettings(**atoms.info["task"]).program for atoms in starts]
    assert [[part.start_K for part in program] for program in found] == [[300], [1448], [2606.4], [4344], [5792]]
    assert [atoms.info["step"] for atoms in bulk_md.taken(snapshots(bulk_md))] == list(range(1100, 3001, 100))
    vacancy = strategy_of({**whole, "of_melting": [2.0], "vacancies": 1, "snapshots": 40})
    starts = vacancy.apply([crystal()], {"Mo": 1}, 1)
    assert [len(atoms) for atoms in starts] == [53, 53]
    assert len(vacancy.taken(snapshots(vacancy))) == 40
    assert starts[0].info["parameters"] == "300 K, 1 vacancies"


@pytest.mark.parametrize("every", [0.03, 0.1, 0.25])
@pytest.mark.parametrize("before", [0.0, 0.07, 0.5])
def test_as_many_snapshots_as_are_wanted(every, before):
    strategy = strategy_of({"kind": "md", "every_ps": every, "equilibration_ps": before, "snapshots": 7, "timestep_fs": 2.0})
    steps = [atoms.info["step"] for atoms in strategy.taken(snapshots(strategy))]
    assert len(steps) == 7
    assert min(steps) * 0.002 > before
    assert set(np.diff(steps)) == {round(every / 0.002)}


def test_the_end_of_what_was_given_up_is_not_labelled():
    strategy = strategy_of({"kind": "md", "snapshots": 4, "every_ps": 0.05, "equilibration_ps": 0.0})
    assert len(strategy.taken(snapshots(strategy))) == 4
    assert len(strategy.taken(snapshots(strategy, "exploded"))) == 3


def test_liquid_cooling_and_glass():
    strategy = strategy_of(
        {"kind": "melt_quench", "hot_K": 5000, "rate_K_per_ps": 1000, "melting_ps": 1, "hold_ps": 2, "liquid": 5, "cooling": 3}
    )
    (start,) = strategy.apply([crystal()], {"Mo": 1}, 1)
    program = MdSettings(**start.info["task"]).program
    assert [(part.start_K, part.end_K, pytest.approx(part.ps)) for part in program] == [
        (5000, None, 3),
        (5000, 300, 4.7),
        (300, None, 2),
    ]
    taken = strategy.taken(snapshots(strategy))
    kinds = [atoms.info["config_type"] for atoms in taken]
    assert kinds == ["liquid"] * 5 + ["cooling"] * 3 + ["amorphous"] * 10
    times = np.array([atoms.info["step"] for atoms in taken]) / 1000
    assert times[0] > 1
    assert times[4] == 3
    assert times[7] == pytest.approx(7.7)
    assert times[-1] == pytest.approx(9.7)
    named = strategy_of({"kind": "melt_quench", "hot_K": 5000, "rate_K_per_ps": 1000, "config_type": "melt"})
    assert {atoms.info["config_type"] for atoms in named.taken(snapshots(named))} == {"melt"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "md", "temperatures_K": []}, "expected a temperature at least"),
        ({"kind": "md", "of_melting": [0.5]}, "of_melting needs melting_K"),
        ({"kind": "melt_quench", "hot_K": 200}, r"hot_K is 200, expected more than cold_K \(300\)"),
        ({"kind": "melt_quench"}, "hot_K"),
        ({"kind": "melt_quench", "hot_K": 3000, "liquid": 0, "cooling": 0, "amorphous": 0}, "nothing of the trajectory"),
        ({"kind": "md", "ensemble": "nvt"}, "ensemble"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(StrategyError, match=message):
        strategy_of(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length_A": 100}, r"crystal bcc: the supercell has \d+ atoms, expected 2 to 1000 \(most_atoms\)"),
        ({"supercell": [1, 1, 1], "vacancies": 1}, "1 vacancies in a supercell of 2 atoms leave none to move"),
        ({"supercell": [1, 1, 1], "vacancies": 5}, "5 vacancies in a supercell of 2 atoms"),
    ],
)
def test_crystals_that_do_not_fit(settings, message):
    with pytest.raises(StrategyError, match=message):
        strategy_of({"kind": "md", **settings}).apply([crystal()], {"Mo": 1}, 1)


def test_seeds():
    strategy = strategy_of({"kind": "md", "temperatures_K": [300, 600], "vacancies": 2})
    one, again, other = (strategy.apply([crystal()], {"Mo": 1}, seed) for seed in (1, 1, 2))
    assert [a.info for a in one] == [a.info for a in again]
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(one, again, strict=True))
    assert one[0].info["task"]["seed"] != one[1].info["task"]["seed"] != other[1].info["task"]["seed"]
    assert not np.array_equal(one[0].positions, other[0].positions)
