"""Levels of theory: what may stand in one training set, and what their line says."""

from dataclasses import replace

import numpy as np
import pytest

from aiida_gaprss.levels import (
    NOT_TOLD,
    Level,
    Sampling,
    content_of,
    difference,
    exactly,
    joined,
    level_of_content,
    sampling_of_mesh,
)

SETTINGS = {"functional": "PBE", "cutoff": "cutoff 500 eV", "smearing": "Gaussian smearing 0.1 eV", "spin": "not spin-polarised"}
SILICON = Level(
    code="VASP",
    version="6.4.1",
    settings=SETTINGS,
    elements={"pseudopotential": {"Si": "PAW_PBE Si 05Jan2001"}, "Hubbard": {}},
    sampling=exactly(0.03),
)


def with_settings(level, **changes):
    return replace(level, settings={**level.settings, **changes})


def differs(*levels):
    """Return the one answer for the levels in any order."""
    answers = [difference({str(n): level for n, level in enumerate(some)}) for some in (levels, levels[::-1])]
    assert len({answer is None for answer in answers}) == 1
    return answers[0]


def test_the_same():
    assert differs(SILICON, SILICON) is None
    assert differs(SILICON, replace(SILICON, version="5.4.4", n_kpoints="8")) is None
    assert differs(SILICON) is None
    assert difference({}) is None


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_counts(name):
    assert name in differs(SILICON, with_settings(SILICON, **{name: "another"}))


def test_a_setting_that_only_one_has():
    assert "electric field: none, 0.1 V/Å" in difference(
        {"a": SILICON, "b": with_settings(SILICON, **{"electric field": "0.1 V/Å"})}
    )


def test_elements_are_compared_where_they_are_shared():
    carbon = replace(SILICON, elements={"pseudopotential": {"C": "PAW_PBE C 08Apr2002"}, "Hubbard": {"C": "p U 2 eV"}})
    both = replace(SILICON, elements={"pseudopotential": {"C": "PAW_PBE C_h", "Si": "PAW_PBE Si 05Jan2001"}})
    assert differs(SILICON, carbon) is None
    assert differs(SILICON, both) is None
    assert "pseudopotential of C" in differs(carbon, both)
    assert "Hubbard of C: p U 2 eV, none" in difference({"a": carbon, "b": both})


def test_what_only_one_tells():
    sha = replace(SILICON, also={"SHA256 of Si": "abc"})
    assert differs(SILICON, sha) is None
    assert "SHA256 of Si: abc, def" in difference({"a": sha, "b": replace(SILICON, also={"SHA256 of Si": "def"})})


def test_not_told_mixes_with_its_own_only():
    one = with_settings(SILICON, functional=NOT_TOLD)
    assert "functional: not told by both" in differs(one, one)
    assert differs(one.told_by("a"), one.told_by("a")) is None
    assert "not told" in differs(one.told_by("a"), one.told_by("b"))
    assert "functional" in differs(one.told_by("a"), SILICON)
    untold = replace(SILICON, sampling=None)
    assert "k-points: not told by both" in differs(untold, untold)
    assert "k-points: not told by one" in differs(untold, SILICON)
    assert differs(untold.told_by("a"), untold.told_by("a")) is None


def test_isolated_atoms_have_some_settings_of_their_own():
    atom = with_settings(SILICON, spin="spin-polarised", smearing="fixed occupancies").of_isolated_atom()
    assert differs(SILICON, atom) is None
    assert joined([atom, SILICON]) == replace(SILICON, sampling=SILICON.sampling)
    assert "cutoff" in differs(SILICON, with_settings(atom, cutoff="cutoff 400 eV"))
    assert "spacing" in differs(SILICON, replace(SILICON, sampling=exactly(0.05)), atom)


# --- sampling ---


def meshes(spacing, rule, rng, n=8):
    """Return samplings of random cells whose meshes a rule makes of a spacing."""
    found = []
    for _ in range(n):
        cell = np.diag(rng.uniform(2.5, 12.0, 3)) + rng.uniform(-0.5, 0.5, (3, 3))
        lengths = np.linalg.norm(np.linalg.inv(cell).T, axis=1)
        found.append(sampling_of_mesh(cell, [max(1, int(rule(length / spacing))) for length in lengths]))
    return found


@pytest.mark.parametrize("rule", [np.ceil, lambda x: np.floor(x + 0.5)], ids=["up", "nearest"])
@pytest.mark.parametrize("spacing", [0.02, 0.03, 0.06])
def test_meshes_of_one_spacing_belong_together(spacing, rule):
    rng = np.random.default_rng(5)
    levels = [replace(SILICON, sampling=sampling) for sampling in meshes(spacing, rule, rng)]
    assert differs(*levels) is None
    assert differs(joined(levels[:4]), joined(levels[4:])) is None
    if rule is np.ceil:
        assert differs(joined(levels), replace(SILICON, sampling=exactly(spacing))) is None


@pytest.mark.parametrize("rule", [np.ceil, lambda x: np.floor(x + 0.5)], ids=["up", "nearest"])
def test_meshes_of_two_spacings_do_not(rule):
    rng = np.random.default_rng(6)
    levels = [
        joined([replace(SILICON, sampling=sampling) for sampling in meshes(spacing, rule, rng, 12)])
        for spacing in (0.02, 0.03, 0.05)
    ]
    for one, two in ((0, 1), (1, 2), (0, 2)):
        assert "spacing" in differs(levels[one], levels[two])


def test_all_meshes_must_have_one_spacing():
    """Each two of three may have one in common, but not all."""
    pairs = [((0.02, 0.03), (1.0, 0.0)), ((0.028, 0.05), (1.0, 0.0)), ((0.02, 0.024), (1.0, 0.0))]
    first, second, third = (replace(SILICON, sampling=Sampling(*pair)) for pair in pairs)
    assert differs(first, second) is None
    assert differs(first, third) is None
    assert "spacing" in differs(first, second, third)


def test_vacuum_needs_no_points():
    cell = np.diag([3.0, 3.0, 25.0])
    slab = np.array([[0, 0, 0.1], [0.5, 0.5, 0.2], [0.0, 0.0, 0.3]])
    assert sampling_of_mesh(cell, (12, 12, 1), slab).up == pytest.approx((1 / 36, 1 / 33))
    assert sampling_of_mesh(cell, (12, 12, 1)).up == pytest.approx((1 / 25, 1 / 33))
    assert str(sampling_of_mesh(np.eye(3) * 12, (1, 1, 1), np.zeros((1, 3)))) == "of vacuum only"
    assert sampling_of_mesh(np.eye(3) * 4, (1, 1, 1), np.zeros((1, 3))).up == (0.25, None)
    assert sampling_of_mesh(np.zeros((3, 3)), (1, 1, 1)) is None


# --- lines, and what is stored ---


def test_line():
    assert SILICON.line == (
        "VASP 6.4.1; PBE; cutoff 500 eV; k-point spacing 0.03/Å; Gaussian smearing 0.1 eV; not spin-polarised; "
        "pseudopotentials Si PAW_PBE Si 05Jan2001"
    )
    assert "VASP 6.4.1; functional not told; " in with_settings(SILICON, functional=NOT_TOLD).line
    assert "k-points not told (8 irreducible)" in replace(SILICON, sampling=None, n_kpoints="8").line


@pytest.mark.parametrize("level", [SILICON, SILICON.of_isolated_atom(), replace(SILICON, sampling=None).told_by("x"), "by hand"])
def test_stored(level):
    assert level_of_content(content_of(level)) == level


def test_lines_are_compared_as_lines():
    assert differs("EMT", "EMT") is None
    assert differs(SILICON.line, SILICON) is None
    assert "'EMT'" in differs("EMT", SILICON)
    assert joined(["EMT", "EMT"]) == "EMT"
    assert joined(["b", "a", SILICON]) == f"{SILICON.line} | a | b"
    mixed = joined([SILICON, with_settings(SILICON, functional="LDA")])
    assert mixed.count(" | ") == 1
    assert differs(mixed, mixed) is None
    assert differs(mixed, SILICON) is not None
