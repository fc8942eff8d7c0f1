"""Strategies that are installed: ours, those of another package, broken ones."""

import re
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import Dict, Int, Str
from ase.build import bulk
from pydantic import ValidationError
from ruamel.yaml import YAML

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.rss_functions import initial_cells, random_cells_under_pressure
from aiida_gaprss.calculations.search_functions import batch_of_cells
from aiida_gaprss.campaign.file import check_campaign, check_given
from aiida_gaprss.campaign.search import DiagnosticSearchSettings
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.settings.model import in_words
from aiida_gaprss.settings.plugins import STRATEGIES, kinds_of
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.strategies.base import Strategy, StrategyError, strategy_of
from aiida_gaprss.strategies.cells import CellStrategy, make_cells
from aiida_gaprss.structures.checks import RandomCellError
from aiida_gaprss.structures.elements import atomic_volume
from aiida_gaprss.workflows.search import validate_search

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
OURS = [
    *("airss", "antisites", "bain", "dimers", "displacements", "distort", "evolutionary", "fragments", "interstitials"),
    *("isolated_atoms", "md", "melt_quench", "nondiagonal", "occupancy", "random", "rattled", "slabs", "strained", "vacancies"),
]
HALF = """\
data_half
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Si1 0 0 0 0.5
Si2 0.5 0.5 0.5 0.5
"""


@pytest.fixture
def other_strategies(other_package):
    """Install a package with the given text as its module, under the given entry points."""

    def other_strategies(text, *entries):
        group = '[project.entry-points."aiida_gaprss.strategies"]'
        other_package("my_strategies", text, "\n".join((group, *entries)))

    return other_strategies


@pytest.fixture
def of_page(other_strategies):
    """Install the package of the page, as it stands there; return what the page has in its campaign file."""
    source = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S) if "my_strategies.py" in block)
    entries = re.search(r'^\[project.entry-points."aiida_gaprss.strategies"\]\n(.*?)```', PAGE, flags=re.S | re.M)[1]
    other_strategies(source, *entries.replace('"', "").splitlines())
    part = next(block for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.S) if "kind: dense" in block)
    return YAML(typ="safe").load(part)["settings"]


def crystals():
    found = [bulk("Si"), bulk("Si", "fcc", 3.9, cubic=True)]
    for name, atoms in zip(("diamond", "fcc"), found, strict=True):
        atoms.info["frame_id"] = name
    return found


def reads(campaign_text, settings, tmp_path):
    """Return the tiny campaign with other settings, given from Python."""
    data = YAML(typ="safe").load(campaign_text)
    data["settings"] |= settings
    return check_given(data)


# --- ours ---


def test_ours_are_installed():
    assert kinds_of(STRATEGIES, Strategy) == OURS
    assert kinds_of(STRATEGIES, CellStrategy) == ["airss", "evolutionary", "fragments", "random"]


@pytest.mark.parametrize(
    ("settings", "number", "types"),
    [
        ({"kind": "random", "n_atoms": [4]}, 1, {"random"}),
        ({"kind": "evolutionary", "n_atoms": [4]}, 1, {"random"}),
        ({"kind": "airss", "text": "#VARVOL=20\n#SPECIES=Si\n#NFORM=2\n#MINSEP=1.7\n"}, 1, {"random"}),
        ({"kind": "fragments", "fragment": "1\nProperties=species:S:1:pos:R:3\nSi 0 0 0", "n_fragments": [2, 4]}, 1, {"random"}),
        ({"kind": "dimers", "points": 4}, 3 * 4, {"dimer"}),
        ({"kind": "distort", "number": 3}, 2 * 4, {"crystal"}),
        ({"kind": "slabs", "miller": [[1, 0, 0]], "copies": 2}, 2 * 3, {"slabs"}),
        ({"kind": "vacancies", "supercell": [2, 2, 2], "copies": 2}, 2 * 3, {"vacancies"}),
        ({"kind": "interstitials", "supercell": [2, 2, 2], "copies": 2, "config_type": "inside"}, 2 * 2 * 3, {"inside"}),
        ({"kind": "occupancy", "text": HALF, "number": 3}, 3, {"occupancy"}),
    ],
)
def test_each_makes_what_it_says(settings, number, types):
    formula = {"Si": 1, "O": 1} if settings["kind"] == "dimers" else {"Si": 1}
    strategy = strategy_of(settings)
    made = strategy.apply(crystals(), formula, 7)
    assert len(made) == number
    assert strategy.most(2, formula) in (number, None)
    assert {atoms.info["config_type"] for atoms in made} == types
    assert fr.dumps(made) == fr.dumps(strategy_of(strategy.model_dump()).apply(crystals(), formula, 7))


@pytest.mark.parametrize(
    ("settings", "number"),
    [
        ({"kind": "nondiagonal", "grid": [2, 2, 2], "copies": 2, "volumes": [1.0]}, 2 * (1 + 3 * 2)),
        ({"kind": "bain", "grid": [1, 1, 1], "copies": 2, "volumes": [1.0], "etas": [0.5]}, 2 * (1 + 2)),
        ({"kind": "displacements", "supercell": [2, 2, 2]}, 2 * (1 + 1)),
        ({"kind": "rattled", "supercell": [2, 2, 2], "volumes": [0.98, 1.02]}, 2 * 2 * 2),
        ({"kind": "strained", "supercell": [1, 1, 1], "strains": [-0.02, 0.02]}, 2 * (1 + 6 * 2)),
    ],
)
def test_as_many_as_the_crystals_make(settings, number):
    """Those whose number is known when they are made; the same from what a record has of their settings."""
    strategy = strategy_of(settings)
    made = strategy.apply(crystals(), {"Si": 1}, 7)
    assert strategy.most(2, {"Si": 1}) is None
    assert len(made) == number
    assert {atoms.info["config_type"] for atoms in made} == {settings["kind"]}
    assert fr.dumps(made) == fr.dumps(strategy_of(strategy.model_dump()).apply(crystals(), {"Si": 1}, 7))


def test_distorted_cells_know_their_crystal():
    made = strategy_of({"kind": "distort", "number": 1}).apply(crystals(), {"Si": 1}, 7)
    assert [atoms.info["frame_id"] for atoms in made] == [f"crystal-{name}-000{i}" for name in ("diamond", "fcc") for i in (0, 1)]
    assert {atoms.info["parent"] for atoms in made} == {"diamond", "fcc"}
    assert np.allclose(made[2].positions, crystals()[1].positions)
    with pytest.raises(StrategyError, match="distort: needs crystals, got none"):
        strategy_of({"kind": "distort"}).apply([], {"Si": 1}, 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "distrot"}, rf"kind is 'distrot', expected one of {', '.join(OURS)} \(installed for"),
        ({}, "kind is 'None', expected one of airss"),
        ({"kind": "distort", "number": 0}, "distort.number: .*greater than 0"),
        ({"kind": "dimers", "range": [2, 1]}, r"dimers.*: range is \[2.0, 1.0\]"),
        ({"kind": "random", "n_atom": [2]}, "random.n_atom: unknown key"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(StrategyError, match=message):
        strategy_of(settings)


def test_budget_is_that_of_the_strategies(campaign_text, tmp_path):
    changes = {"dimers": {"points": 4}, "crystals": {"number": 3, "when": "end"}, "max_labels": 20}
    settings = RssSettings(**{**check_campaign(campaign_text, tmp_path / "a.yaml").settings.model_dump(), **changes})
    assert list(settings.strategies("start")) == ["dimers"]
    assert list(settings.strategies("end")) == ["crystals"]
    assert settings.label_budget(crystals=2) == min(1 + 4 + 10 + 6, 20) + 2 * 4 + 2
    assert settings.label_budget() == min(1 + 4 + 10 + 6, 20) + 2
    assert set(settings.model_dump()["dimers"]) == {"points", "range"}
    assert set(settings.model_dump()["crystals"]) == {"when", "number", "displacement", "strain", "volume"}


# --- those of another package ---


def test_a_package_of_somebody_else(of_page):
    assert kinds_of(STRATEGIES, Strategy) == sorted([*OURS, "dense", "thinned"])
    strategy = strategy_of({"kind": "thinned", "number": 3})
    made = strategy.apply(crystals(), {"Si": 1}, seed=1)
    assert [len(atoms) for atoms in made] == [15] * 3 + [31] * 3
    assert strategy.most(2, {"Si": 1}) == 6
    with pytest.raises(StrategyError, match="thinned: needs crystals"):
        strategy.apply([], {"Si": 1}, seed=1)
    with pytest.raises(StrategyError, match="expected one of airss, antisites, bain, dense, dimers"):
        strategy_of({"kind": "nothing"})


@pytest.mark.usefixtures("aiida_profile")
def test_cells_of_somebody_else_in_a_campaign(of_page, campaign_text, tmp_path):
    """From the page's part of a campaign file through stored settings to cells in datasets."""
    generation = {"cells": {"squeezed": 3}, "select": {"rules": [{"by": "lowest", "n": 2}]}}
    search = {"cells": {"squeezed": 4}}
    campaign = reads(campaign_text, {**of_page, "generations": [generation], "search": search}, tmp_path)
    assert campaign.settings.model_dump()["seeds"] == {"squeezed": {"kind": "dense", "n_atoms": [4, 8], "part": 0.5}}
    assert campaign.settings.label_budget() == 1 + 20 + 2 + 5
    low, high = campaign.settings.seeds["squeezed"].volume_range({"Si": 1})
    assert (low + high) / 2 == pytest.approx(0.5 * atomic_volume("Si"))
    node = Dict(campaign.settings.model_dump()).store()
    first = [a for a in initial_cells(node, Str("x"), Int(5)).get_frames() if a.info["config_type"] == "random"]
    under_pressure = random_cells_under_pressure(node, Str("x"), Int(1), Int(5)).get_frames()
    assert (len(first), len(under_pressure)) == (20, 3)
    assert {len(atoms) for atoms in first} == {4, 8}
    assert all(low <= atoms.get_volume() / len(atoms) <= high for atoms in [*first, *under_pressure])
    assert all("seed" in atoms.info for atoms in first)
    alone = DiagnosticSearchSettings(**RssSettings(**node.get_dict()).final_search())
    assert validate_search({"settings": Dict(alone.model_dump())}, {"settings"}) is None
    assert len(batch_of_cells(Dict(alone.model_dump()), Str("x"), Int(0), Int(5)).get_frames()) == 4
    assert len(make_cells(alone.seeds, {"Si": 1}, {"squeezed": 2}, 5)) == 2


def test_faults_have_their_line(of_page, campaign_text, tmp_path):
    """Also those which only the specification knows: settings that are right, and cells that cannot exist."""
    start = campaign_text.index("    random:\n")
    end = campaign_text.index("  initial:")
    seeds = """\
    random: {kind: dense, n_atoms: [0], part: much}
    crowded: {kind: dense, n_atoms: []}
    other: {kind: dens, n_atoms: [4]}
    pairs: {kind: dimers}
"""
    text = campaign_text[:start] + seeds + campaign_text[end:]
    with pytest.raises(ConfigError) as caught:
        check_campaign(text, tmp_path / "a.yaml")
    found = {fault.where.removeprefix("settings.seeds."): fault for fault in caught.value.faults}
    assert set(found) == {"random.n_atoms.0", "random.part", "crowded", "other.kind", "pairs.kind"}
    assert found["other.kind"].message.startswith(
        "kind is 'dens', expected one of airss, dense, evolutionary, fragments, random (installed for"
    )
    assert "dimers (aiida_gaprss.strategies.dimers:Dimers) is no CellStrategy; others are airss" in found["pairs.kind"].message
    lines = text.splitlines()
    for where, fault in found.items():
        assert lines[fault.line - 1].strip().startswith(where.partition(".")[0]), fault


# --- broken ones ---

CELLS = """
from aiida_gaprss.strategies.cells import CellStrategy
from pydantic import field_validator

class Broken(CellStrategy):
    n: int = 1
"""
VALIDATOR = """
    @field_validator("n")
    @classmethod
    def check_n(cls, value):
        return 1 / 0

    def spec(self, formula):
        return None
"""


@pytest.mark.parametrize(
    ("text", "entry", "message"),
    [
        ("1 / 0", "broken = my_strategies:Broken", r"broken \(my_strategies:Broken\) cannot be imported: division by zero"),
        ("class Thing: pass", "broken = my_strategies:Thing", r"broken \(my_strategies:Thing\) is no CellStrategy"),
        ("", "broken = my_strategies:Thing", r"broken \(.*cannot be imported: .*Thing"),
        (CELLS, "broken = my_strategies:Broken", r"broken \(my_strategies:Broken\) lacks spec"),
        (
            f"{CELLS}{VALIDATOR}",
            "broken = my_strategies:Broken",
            "my_strategies.Broken fails: ZeroDivisionError: division by",
        ),
        ("", "airss = my_strategies:Thing", "airss is both .* and .*; uninstall one"),
    ],
)
def test_packages_that_are_broken(other_strategies, campaign_text, tmp_path, text, entry, message):
    other_strategies(text, entry)
    kind = entry.split()[0]
    with pytest.raises(ConfigError) as caught:
        reads(campaign_text, {"seeds": {"random": {"n_atoms": [2]}, "a": {"kind": kind, "n": 2}}}, tmp_path)
    (fault,) = caught.value.faults
    assert fault.where == "settings.seeds.a.kind"
    assert re.search(message, fault.message)
    with pytest.raises(ValidationError) as told:
        DiagnosticSearchSettings(formula={"Si": 1}, seeds={"a": {"kind": kind, "n": 2}}, cells={"a": 1})
    assert re.search(f"seeds.a.kind: .*{message}", in_words(told.value))
    reads(campaign_text, {"seeds": {"random": {"n_atoms": [2]}}}, tmp_path)  # nobody else is harmed
    assert "fragments" in kinds_of(STRATEGIES, CellStrategy)


def test_cells_of_somebody_else_that_fail(other_strategies, campaign_text, tmp_path):
    """Settings that are right, and a fault of the package when it is asked for cells."""
    other_strategies(f"{CELLS}    def spec(self, formula):\n        return 1 / 0\n", "broken = my_strategies:Broken")
    with pytest.raises(ConfigError) as caught:
        reads(campaign_text, {"seeds": {"random": {"kind": "broken"}}}, tmp_path)
    assert "broken fails: ZeroDivisionError: division by zero" in str(caught.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("[Atoms('Si'), Atoms('Si')]", "two: made 2 frames, expected at most 1"),
        ("[Atoms('Si')]", "two: a frame has no config_type"),
        ("[Atoms('Si', info={'config_type': 'a'})]", "two: a frame has no frame_id of its own"),
    ],
)
def test_frames_are_as_agreed(other_strategies, made, message):
    head = "from ase import Atoms\nfrom aiida_gaprss.strategies.base import Strategy\n\nclass Two(Strategy):\n"
    methods = f"    def most(self, crystals, formula):\n        return 1\n    def frames(self, *given):\n        return {made}\n"
    other_strategies(head + methods, "two = my_strategies:Two")
    with pytest.raises(StrategyError, match=message):
        strategy_of({"kind": "two"}).apply([], {"Si": 1}, 1)


def test_a_kind_that_was_uninstalled(campaign_text, tmp_path):
    """Stored settings that name it are told so."""
    settings = check_campaign(campaign_text, tmp_path / "a.yaml").settings.model_dump()
    settings["seeds"]["random"] = {"kind": "dense", "n_atoms": [4]}
    with pytest.raises(ValidationError) as caught:
        RssSettings(**settings)
    assert in_words(caught.value).startswith(
        "seeds.random.kind: kind is 'dense', expected one of airss, evolutionary, fragments, random"
    )


def test_cells_made_in_another_way(other_strategies):
    text = """
from types import SimpleNamespace
from ase import Atoms
from aiida_gaprss.strategies.cells import CellStrategy

class Chains(CellStrategy):
    def spec(self, formula):
        return SimpleNamespace(elements=tuple(formula), smallest_separation=2.0, volume_range=(10.0, 10.0))

    def cell(self, spec, seed, most_work=0.0):
        return Atoms(spec.elements[0], cell=[2, 2, 2.5], pbc=True, info={"seed": seed})
"""
    other_strategies(text, "chains = my_strategies:Chains")
    chains = strategy_of({"kind": "chains"})
    assert [atoms.info["config_type"] for atoms in chains.apply([], {"Si": 1}, 3)] == ["random"]
    assert len({atoms.info["seed"] for atoms in chains.cells({"Si": 1}, 3, 1)}) == 3
    assert chains.smallest_separation({"Si": 1}) == 2.0
    chains.check({"Si": 1})
    with pytest.raises(RandomCellError, match="the element O is not in the formula"):
        strategy_of({"kind": "random", "formula": {"O": 1}, "n_atoms": [2]}).check({"Si": 1})
