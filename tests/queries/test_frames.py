"""Frames of all datasets that fulfil conditions."""

import json

import numpy as np
import pytest
from aiida.orm import CalcFunctionNode, QueryBuilder
from ase.build import bulk

from aiida_gaprss.analysis.conditions import Conditions
from aiida_gaprss.analysis.hull import HullError
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import Difference, Level
from aiida_gaprss.queries import find_frames
from aiida_gaprss.queries.frames import labelled_by

CASTEP = Level("CASTEP", settings={"functional": "PBE", "cutoff": "400 eV"}, untold="m")
VASP = Level("VASP", settings={"functional": "PBE", "cutoff": "520 eV"}, untold="m")


def cell(name, energy, generation=None, kind="random", a=3.6, symbol="Cu"):
    """A cell of four atoms, energy in eV/atom; without label if it is None."""
    atoms = bulk(symbol, a=a, cubic=True)
    atoms.info = {"frame_id": name, "config_type": kind}
    atoms.info |= {} if energy is None else {"REF_energy": 4 * energy}
    atoms.info |= {} if generation is None else {"generation": generation}
    return atoms


@pytest.fixture
def profile(aiida_profile_clean):
    """Copper at two levels, silver at one; the CASTEP labels are in two datasets, of which the second has all again."""
    first = [cell("c-0", -3.0, 0), cell("c-1", -3.5, 1, a=3.7), cell("none", None, 2, a=3.9)]
    second = [*first[:2], cell("c-2", -3.45, 2, a=3.8), cell("c-3", -3.3, 3, "snapshot", a=3.5)]
    return {
        "first": Dataset(first, CASTEP).store(),
        "second": Dataset(second, CASTEP).store(),
        "vasp": Dataset([cell("v-0", -9.0, 2), cell("v-1", -8.95, 2, a=3.7)], VASP).store(),
        "line": Dataset([cell("s-0", -2.0, 2, symbol="Ag", a=4.1)], "QUICKSTEP PBE 400 Ry").store(),
        "difference": Dataset([cell("d-0", -6.0, 2)], Difference.of(VASP, CASTEP)).store(),
    }


def names(found):
    return [one.frame_id for one in found]


def test_each_frame_once_from_the_oldest_dataset(profile):
    found = find_frames(code="CASTEP")
    assert names(found) == ["c-0", "c-1", "c-2", "c-3"]
    assert [one.dataset.uuid for one in found] == [profile[key].uuid for key in ("first", "first", "second", "second")]
    assert found[0].told() == {
        "frame_id": "c-0",
        "config_type": "random",
        "generation": 0,
        "formula": "Cu4",
        "energy_per_atom": -3.0,
        "above_hull": None,
        "dataset": profile["first"].pk,
        "dataset_uuid": profile["first"].uuid,
        "level_of_theory": CASTEP.line,
        "label_uuid": None,
        "origin": None,
    }


def test_the_question_of_the_page(profile):
    """Frames of generation 2 and later, at most 0.1 eV/atom above the hull, by CASTEP: its lowest is c-1 of generation 1."""
    found = find_frames(Conditions(from_generation=2, max_above_hull=0.1), code="castep")
    assert names(found) == ["c-2"]
    assert found[0].above_hull == pytest.approx(0.05)
    found = find_frames(Conditions(from_generation=2, max_above_hull=0.25), code="CASTEP")
    assert names(found) == ["c-2", "c-3"]
    assert names(find_frames(Conditions(from_generation=2, to_generation=2, max_above_hull=0.25))) == ["c-2", "v-0", "v-1", "s-0"]


def test_a_hull_of_each_level(profile):
    found = {one.frame_id: one.above_hull for one in find_frames(Conditions(max_above_hull=100.0))}
    assert found == pytest.approx({"c-0": 0.5, "c-1": 0, "c-2": 0.05, "c-3": 0.2, "v-0": 0, "v-1": 0.05, "s-0": 0})


def test_levels_without_a_hull(profile, alloy_frames):
    """One that has none is left out with a note; alone, it is refused."""
    alloy = Dataset([atoms for atoms in alloy_frames if len(set(atoms.symbols)) == 2], "EMT").store()
    notes = []
    assert "v-0" in names(find_frames(Conditions(max_above_hull=0.1), notes=notes))
    assert len(notes) == 1
    assert f"{alloy.n_frames} frames of EMT left out: no convex hull: neither a labelled frame of" in notes[0]
    with pytest.raises(HullError, match="no convex hull"):
        find_frames(Conditions(max_above_hull=0.1), datasets=[alloy])


def test_atoms_in_vacuum_are_no_phases(profile, silicon_frames):
    node = Dataset(silicon_frames, "SW").store()
    found = find_frames(Conditions(max_above_hull=1000.0), datasets=[node])
    assert names(found) == [a.info["frame_id"] for a in silicon_frames[1:]]
    lowest = min(a.info["REF_energy"] / len(a) for a in silicon_frames[1:])
    heights = [a.info["REF_energy"] / len(a) - lowest for a in silicon_frames[1:]]
    assert np.allclose([one.above_hull for one in found], heights, atol=1e-8)
    assert len(find_frames(datasets=[node])) == len(silicon_frames)


def test_other_conditions(profile):
    assert names(find_frames(Conditions(config_types=["snapshot"]))) == ["c-3"]
    assert names(find_frames(Conditions(elements=["Ag"]))) == ["s-0"]
    assert names(find_frames(Conditions(labelled=False))) == ["none"]
    assert names(find_frames(code="difference")) == ["d-0"]
    assert names(find_frames(level="520 ev")) == ["v-0", "v-1"]
    assert names(find_frames(level="pbe", code="Quickstep")) == ["s-0"]
    assert find_frames(code="QE") == []
    with pytest.raises(ValueError, match="no frame is of config type 'liquid'; there are random, snapshot"):
        find_frames(Conditions(config_types=["liquid"]))
    with pytest.raises(ValueError, match="generations are 3 to 2, expected the smaller number first"):
        Conditions(from_generation=3, to_generation=2)


@pytest.mark.parametrize(
    ("level", "code", "is_it"),
    [
        (Level("Quantum ESPRESSO"), "quantumespresso", True),
        (Level("Quantum ESPRESSO"), "espresso", False),
        ("VASP PBE 520 eV", "vasp", True),
        ("my VASP-like code", "VASP", True),
        ("NOVASP", "VASP", False),
        ("a.b*c", "a.b*c", True),
        ("unknown", None, True),
        (Difference.of("a", "b"), None, False),
    ],
)
def test_codes(level, code, is_it):
    assert labelled_by(level, code) is is_it


def test_nodes_of_strangers(profile):
    """What cannot be read is told and left out."""
    spoilt = Dataset([cell("x-0", -3.0)], CASTEP)
    spoilt.base.repository.put_object_from_bytes(b"2\nno frame\n", Dataset.FILENAME)
    spoilt.store()
    for number, strange in enumerate(({"code": 3}, {**CASTEP.as_dict(), "settings": ["x"]}, "CASTEP")):
        node = Dataset([cell(f"x-{number}", -3.0)], CASTEP)
        node.base.attributes.set("level", strange)
        node.store()
    notes = []
    assert names(find_frames(code="CASTEP", notes=notes)) == ["c-0", "c-1", "c-2", "c-3"]
    assert len(notes) == 1
    assert notes[0].startswith(f"dataset <{spoilt.pk}> cannot be read")


def test_the_command(profile, call):
    before = QueryBuilder().append(CalcFunctionNode).count()
    text = call("query", "frames", "--from-generation", 2, "--max-above-hull", 0.1, "--code", "CASTEP")
    assert "c-2" in text
    assert "1 frames of 1 datasets" in text
    told = json.loads(call("query", "frames", "--in", profile["vasp"].pk, "--max-above-hull", 0.1, "--json"))
    assert [(one["frame_id"], one["above_hull"]) for one in told] == [("v-0", 0.0), ("v-1", pytest.approx(0.05))]
    assert "no such frame" in call("query", "frames", "--code", "QE")
    assert json.loads(call("query", "frames", "--code", "QE", "--json")) == []
    assert "none" in call("query", "frames", "--unlabelled")
    assert "no dataset, campaign, database or fit" in call("query", "frames", "--in", 99999, ok=False)
    assert QueryBuilder().append(CalcFunctionNode).count() == before


def test_filter_has_the_same_conditions(profile, call):
    """And keeps provenance."""
    text = call("dataset", "filter", profile["second"].pk, "--from-generation", 2, "--max-above-hull", 0.1)
    assert ": 1 frames, 1 energies" in text
    text = call("dataset", "filter", profile["second"].pk, "--to-generation", 0, "--elements", "Ag", ok=False)
    assert "no frame fulfils" in text
