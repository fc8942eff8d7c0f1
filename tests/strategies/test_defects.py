"""Point defects as frames to be labelled: those of the properties, how many of each, how they are displaced."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import find_mic
from ase.spacegroup import crystal as spacegroup_crystal

from aiida_gaprss import frames as fr
from aiida_gaprss.properties.base import property_of
from aiida_gaprss.strategies.base import StrategyError, strategy_of

CRYSTALS = {
    "copper": bulk("Cu", a=3.6),
    "iron": bulk("Fe"),
    "silicon": bulk("Si", cubic=True),
    "magnesium": bulk("Mg"),
    "salt": bulk("NaCl", "rocksalt", a=5.64),
    "rutile": spacegroup_crystal(
        ("Ti", "O"), [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.59, 4.59, 2.96, 90, 90, 90]
    ),
    "spinel": spacegroup_crystal(
        ("Mg", "Al", "O"), [(0.125,) * 3, (0.5,) * 3, (0.2624,) * 3], spacegroup=227, setting=2, cellpar=[8.08] * 3 + [90] * 3
    ),
}


def made(kind, *names, seed=1, **settings):
    crystals = [CRYSTALS[name].copy() for name in names]
    for name, atoms in zip(names, crystals, strict=True):
        atoms.info["frame_id"] = name
    return strategy_of({"kind": kind, **settings}).apply(crystals, {"Si": 1}, seed)


def words(frames):
    """What the defects are, each once."""
    return list(dict.fromkeys(atoms.info["parameters"].partition(", volume")[0] for atoms in frames))


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("vacancies", "copper", ["vacancy Cu 0"]),
        ("vacancies", "silicon", ["vacancy Si 0"]),
        ("vacancies", "magnesium", ["vacancy Mg 0"]),
        ("vacancies", "salt", ["vacancy Na 0", "vacancy Cl 1"]),
        ("vacancies", "rutile", ["vacancy Ti 0", "vacancy O 2"]),
        ("vacancies", "spinel", ["vacancy Mg 0", "vacancy Al 8", "vacancy O 24"]),
        ("antisites", "salt", ["antisite Cl on Na 0", "antisite Na on Cl 1"]),
        ("interstitials", "copper", ["interstitial Cu 0, 6 neighbours at 1.80 A", "interstitial Cu 1, 4 neighbours at 1.56 A"]),
        ("interstitials", "iron", ["interstitial Fe 0, 4 neighbours at 1.60 A"]),
        ("interstitials", "silicon", ["interstitial Si 0, 4 neighbours at 2.35 A", "interstitial Si 1, 6 neighbours at 2.25 A"]),
        ("interstitials", "salt", ["interstitial Cl 0, 8 neighbours at 2.44 A", "interstitial Na 0, 8 neighbours at 2.44 A"]),
    ],
)
def test_one_of_each_kind(kind, name, expected):
    frames = made(kind, name, copies=0, length_A=8, most_atoms=1000)
    assert words(frames) == expected
    assert len(frames) == len(expected)
    assert {atoms.info["config_type"] for atoms in frames} == {kind}
    assert all(atoms.cell.lengths().min() > 8 - 1e-6 for atoms in frames)


@pytest.mark.parametrize("name", ["copper", "silicon", "salt", "rutile"])
@pytest.mark.parametrize(
    ("strategy", "kind"), [("vacancies", "vacancy"), ("interstitials", "interstitial"), ("antisites", "antisite")]
)
def test_they_are_those_of_the_property(strategy, kind, name):
    """As made, without any relaxation: what the potential is validated on is what it may be trained on."""
    crystal = CRYSTALS[name]
    if kind == "antisite" and len(set(crystal.symbols)) == 1:
        with pytest.raises(StrategyError, match=f"antisites: crystal {name}: antisites need a compound, but the crystal is"):
            made(strategy, name)
        return
    ours = made(strategy, name, copies=0, supercell=[2, 2, 2])
    theirs = [defect.atoms for defect in property_of({"kind": kind, "repeat": [2, 2, 2]}).defects(crystal)]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.numbers, other.numbers)
        assert np.allclose(one.positions, other.positions)
        assert np.allclose(one.cell.array, other.cell.array)


def test_volumes_and_copies():
    frames = made("vacancies", "copper", "silicon", supercell=[2, 2, 2], volumes=[0.94, 1.0], copies=30, displacement_A=0.1)
    assert len(frames) == 2 * 2 * 31
    assert [frames[n].info["parameters"] for n in (0, 1, 31)] == [
        "vacancy Cu 0, volume 0.94, as made",
        "vacancy Cu 0, volume 0.94, displaced",
        "vacancy Cu 0, volume 1, as made",
    ]
    assert [atoms.info["parent"] for atoms in (frames[61], frames[62])] == ["copper", "silicon"]
    for name, first, volume in (("copper", 0, 0.94), ("copper", 31, 1.0), ("silicon", 62, 0.94)):
        crystal = CRYSTALS[name]
        assert len(frames[first]) == 8 * len(crystal) - 1
        assert frames[first].get_volume() == pytest.approx(8 * volume * crystal.get_volume())
        moved = [atoms.positions - frames[first].positions for atoms in frames[first + 1 : first + 31]]
        assert np.std(moved) == pytest.approx(0.1, rel=0.1)


def test_what_is_missing_is_the_only_difference():
    for name in ("copper", "rutile"):
        perfect = CRYSTALS[name].repeat((2, 2, 3))
        for atoms in made("vacancies", name, supercell=[2, 2, 3], copies=0):
            nearest = [find_mic(atoms.positions - place, atoms.cell)[1].min() for place in perfect.positions]
            assert sum(distance > 0.1 for distance in nearest) == 1
            assert len(atoms) == len(perfect) - 1


def test_dumbbells_and_elements():
    frames = made("interstitials", "silicon", supercell=[2, 2, 2], copies=0, holes=1, dumbbells=[[1, 1, 0], [0, 0, 1]])
    assert words(frames)[1:] == ["dumbbell Si 0 110", "dumbbell Si 0 001"]
    assert [len(atoms) for atoms in frames] == [65] * 3
    assert words(made("interstitials", "salt", elements=["Na"], supercell=[2, 2, 2])) == [
        "interstitial Na 0, 8 neighbours at 2.44 A"
    ]


@pytest.mark.parametrize("kind", ["vacancies", "interstitials", "antisites"])
def test_the_same_seed_gives_the_same_frames(kind):
    """Those of a crystal do not depend on the other crystals."""
    settings = {"supercell": [2, 2, 2], "copies": 2}
    frames = made(kind, "rutile", "salt", **settings)
    alone = made(kind, "salt", **settings)
    assert fr.dumps(frames) == fr.dumps(made(kind, "rutile", "salt", **settings))
    assert fr.dumps(frames[-len(alone) :]) == fr.dumps(alone)
    assert fr.dumps(frames) != fr.dumps(made(kind, "rutile", "salt", seed=2, **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "vacancies", "copies": -1}, "vacancies.copies: .*greater than or equal to 0"),
        ({"kind": "vacancies", "volumes": []}, "vacancies.volumes: .*at least 1"),
        ({"kind": "vacancies", "volumes": [4]}, "vacancies.volumes.0: .*less than or equal to 3"),
        ({"kind": "antisites", "supercell": [0, 1, 1]}, "antisites.supercell.0: .*greater than 0"),
        ({"kind": "vacancies", "holes": 1}, "vacancies.holes: unknown key"),
        ({"kind": "interstitials", "hole_radius_A": 0}, "interstitials.hole_radius_A: .*greater than 0"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(StrategyError, match=message):
        strategy_of(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kind": "vacancies", "supercell": [900, 900, 900]},
            r"supercell has 729000000 atoms, expected at most 300 \(most_atoms\)",
        ),
        ({"kind": "vacancies", "length_A": 30}, r"supercell has 1728 atoms, expected at most 300 \(most_atoms\)"),
        ({"kind": "antisites"}, "antisites need a compound, but the crystal is Cu"),
        ({"kind": "interstitials", "hole_radius_A": 3}, "no hole is 3 Å from all atoms: set hole_radius_A smaller"),
        ({"kind": "interstitials", "elements": ["Ag"]}, "elements: Ag is not in the crystal, which has Cu"),
        ({"kind": "interstitials", "dumbbells": [[0, 0, 0]]}, r"dumbbells: \[0, 0, 0\] is no direction"),
    ],
)
def test_crystals_that_have_no_such_defects(settings, message):
    with pytest.raises(StrategyError, match=f"{settings['kind']}: crystal copper: .*{message}"):
        made(settings.pop("kind"), "copper", **settings)


def test_no_crystals():
    with pytest.raises(StrategyError, match="vacancies: needs crystals, got none"):
        made("vacancies")
    with pytest.raises(StrategyError, match="vacancies: crystal 0000: is not periodic in all directions"):
        strategy_of({"kind": "vacancies"}).apply([Atoms("Cu", cell=[3, 3, 3])], {"Cu": 1}, 1)
    twice = Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 0)], cell=[3, 3, 3], pbc=True)
    with pytest.raises(StrategyError, match=r"vacancies: crystal Cu2: there are two atoms at one place"):
        strategy_of({"kind": "vacancies"}).apply([twice], {"Cu": 1}, 1)
