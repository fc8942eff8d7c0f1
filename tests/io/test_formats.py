"""Frames in the formats of others, read back by their own readers."""

import csv
import io
import json
import warnings

import numpy as np
import pytest
from ase import Atoms, units
from ase.db import connect
from ase.io import read
from fuzzing import Tally

from aiida_gaprss.cli.nodes import FORMATS as OF_THE_COMMAND
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import INFO_KEYS, FrameError, canonical
from aiida_gaprss.io.formats import ENDINGS, FORMATS, About, exported, format_of
from aiida_gaprss.levels import Difference, Level

CASTEP = Level("CASTEP", version="20.11", settings={"functional": "PBE"})

#: By hand: 30 Å³; virial 3 eV along x and 6 along y, so that the stress is -0.1, -0.2, 0 eV/Å³ and the pressure 0.1 eV/Å³.
CELL = [2.0, 3.0, 5.0]
VIRIAL = [3.0, 0.15, 0.0, 0.15, 6.0, -0.3, 0.0, -0.3, 0.0]
STRESS = [[-0.1, -0.005, 0.0], [-0.005, -0.2, 0.01], [0.0, 0.01, 0.0]]
PRESSURE_GPa = 16.0217662


def frame(name="a-1", **told):
    atoms = Atoms("SiC", [(0, 0, 0), (1.0, 1.5, 2.25)], cell=CELL, pbc=True)
    atoms.info.update(frame_id=name, config_type="random", REF_energy=-12.34567891, REF_virial=np.array(VIRIAL), **told)
    atoms.arrays["REF_forces"] = np.array([[0.3, 0.0, -0.4], [-0.3, 0.0, 0.4]])
    return atoms


def isolated():
    atoms = Atoms("Si", cell=[12.0] * 3, pbc=True)
    atoms.info.update(frame_id="atom", config_type="isolated_atom", REF_energy=-100.0)
    atoms.arrays["REF_forces"] = np.zeros((1, 3))
    return atoms


def unlabelled():
    atoms = frame("none", label_status="failed: [red]x", generation=2)
    for store, key in ((atoms.info, "REF_energy"), (atoms.info, "REF_virial"), (atoms.arrays, "REF_forces")):
        del store[key]
    return atoms


@pytest.fixture
def rows(tmp_path):
    """Rows of the ASE database of some frames, by the names of these."""

    def rows(*frames, about=None):
        path = tmp_path / "a.db"
        path.write_bytes(exported(frames, "db", about or About()))
        database = connect(path)
        return {row.data["info"]["frame_id"]: row for row in database.select()}, database

    return rows


# --- ASE database ---


def test_ase_reads_the_labels_to_the_last_digit(rows):
    found, _ = rows(frame(generation=3), isolated(), unlabelled())
    atoms = found["a-1"].toatoms()
    assert atoms.get_potential_energy() == atoms.get_potential_energy(force_consistent=True) == -12.34567891
    assert atoms.get_forces().tolist() == [[0.3, 0.0, -0.4], [-0.3, 0.0, 0.4]]
    assert atoms.get_stress() == pytest.approx([-0.1, -0.2, 0.0, 0.01, 0.0, -0.005], abs=1e-15)
    assert atoms.positions.tolist() == [[0, 0, 0], [1.0, 1.5, 2.25]]
    assert atoms.cell.lengths().tolist() == CELL
    assert atoms.pbc.all()
    assert found["a-1"].fmax == pytest.approx(0.5)
    assert found["a-1"].key_value_pairs == {"frame_id": "a-1", "config_type": "random", "generation": 3}
    assert found["atom"].energy == -100.0
    assert "stress" not in found["atom"]
    assert "energy" not in found["none"]
    assert found["none"].label_status == "failed: [red]x"


def test_rows_of_an_ase_database_are_selected(rows):
    _, database = rows(frame("a-1", generation=1), frame("a-2", generation=2), unlabelled(), about=About(CASTEP, uuid="u-1"))
    assert [row.frame_id for row in database.select("generation>1,energy<0")] == ["a-2"]
    assert [row.frame_id for row in database.select("Si=1,config_type=random", frame_id="a-1")] == ["a-1"]
    assert database.metadata["level_of_theory"].startswith("CASTEP 20.11; PBE")
    assert database.metadata["dataset"] == "u-1"
    assert {row.user for row in database.select()} == {""}, "nobody's name"


@pytest.mark.parametrize("name", ["007", "12", "1e5", "True", "nan", "-3", "inf"])
def test_texts_that_ase_takes_for_numbers(rows, name):
    found, database = rows(frame(parameters=name), frame("12"))
    assert found["a-1"].parameters == f"_{name}"
    assert found["a-1"].data["info"]["parameters"] == name
    assert [row.id for row in database.select(parameters=f"_{name}")] == [1]
    assert found["12"].frame_id == "_12"


def test_keys_are_those_that_ase_takes(rows):
    """Neither reserved nor formulas, of which it warns."""
    values = {key: 1 if key in ("generation", "seed", "step") else f"x {key}" for key in INFO_KEYS}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, _ = rows(frame(**{key: value for key, value in values.items() if key not in ("frame_id", "config_type")}))
    assert set(found["a-1"].key_value_pairs) == set(INFO_KEYS)


def test_predictions_are_beside(rows):
    atoms = frame(PRED_energy=-12.0)
    atoms.arrays["PRED_forces"] = np.ones((2, 3))
    found, _ = rows(atoms)
    assert found["a-1"].data["predictions"]["energy"] == -12.0
    assert np.array(found["a-1"].data["predictions"]["forces"]).tolist() == np.ones((2, 3)).tolist()
    assert found["a-1"].energy == -12.34567891


# --- ColabFit ---


def test_colabfit(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(exported([frame(seed=5), isolated()], "colabfit", About(CASTEP)))
    atoms, alone = read(path, ":")
    assert atoms.get_potential_energy() == -12.34567891
    assert atoms.arrays["atomic_forces"].tolist() == [[0.3, 0.0, -0.4], [-0.3, 0.0, 0.4]]
    assert np.allclose(atoms.info["cauchy_stress"], np.ravel(STRESS), atol=1e-12), "nine numbers, row by row"
    assert atoms.info["names"] == atoms.info["frame_id"] == "a-1"
    assert atoms.info["labels"] == "random"
    assert atoms.info["software"] == "CASTEP 20.11"
    assert atoms.info["method"].startswith("CASTEP 20.11; PBE")
    assert atoms.info["seed"] == 5
    assert not [key for key in (*atoms.info, *atoms.arrays) if key.startswith("REF_")]
    assert "cauchy_stress" not in alone.info


def test_a_compressed_crystal_has_a_negative_stress_and_a_positive_pressure():
    """By ASE's own EMT, not by us."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from helpers import label

    atoms = bulk("Cu", a=3.4)
    atoms.info.update(frame_id="cu", config_type="fcc")
    label(atoms, EMT())
    (again,) = read(io.StringIO(exported([atoms], "colabfit", About()).decode()), ":", format="extxyz")
    squeezed = bulk("Cu", a=3.4)
    squeezed.calc = EMT()
    stress = again.info["cauchy_stress"].reshape(3, 3)
    assert np.allclose(stress, squeezed.get_stress(voigt=False), atol=1e-8)
    assert stress[0, 0] < 0
    (row,) = csv.DictReader(io.StringIO(exported([atoms], "csv", About()).decode()))
    assert float(row["label_pressure_GPa"]) == pytest.approx(-squeezed.get_stress()[:3].mean() / units.GPa, abs=1e-6)


# --- CSV ---


def test_csv():
    text = exported([frame(generation=2, origin="o-1", pressure_GPa=5.0), isolated(), unlabelled()], "csv", About()).decode()
    first, alone, none = csv.DictReader(io.StringIO(text))
    assert set(INFO_KEYS) < set(first)
    assert (first["frame_id"], first["config_type"], first["generation"], first["origin"]) == ("a-1", "random", "2", "o-1")
    assert (first["formula"], first["atoms"]) == ("CSi", "2")
    assert float(first["volume_A3"]) == pytest.approx(30.0)
    assert float(first["energy_eV"]) == -12.34567891
    assert float(first["energy_eV_per_atom"]) == -12.34567891 / 2
    assert float(first["max_force_eV_per_A"]) == pytest.approx(0.5)
    assert float(first["label_pressure_GPa"]) == pytest.approx(PRESSURE_GPa, rel=1e-6)
    assert first["pressure_GPa"] == "5.0", "the pressure of its relaxation is another one"
    assert first["above_hull_eV_per_atom"] == "", "nobody asked"
    assert alone["label_pressure_GPa"] == none["energy_eV"] == none["max_force_eV_per_A"] == ""
    assert none["label_status"] == "failed: [red]x"


def test_heights_in_the_csv(alloy_frames):
    """Of copper and gold: those of pure copper by hand, the lowest of it has none."""
    content, _ = Dataset(alloy_frames, level_of_theory="EMT")._exportcontent("csv")
    found = {row["frame_id"]: row for row in csv.DictReader(io.StringIO(content.decode()))}
    copper = {a.info["frame_id"]: a.info["REF_energy"] / len(a) for a in alloy_frames if set(a.symbols) == {"Cu"} and len(a) > 1}
    for name, energy in copper.items():
        assert float(found[name]["above_hull_eV_per_atom"]) == pytest.approx(energy - min(copper.values()), abs=1e-9)
    assert found["alloy-00"]["above_hull_eV_per_atom"] == "", "an atom in vacuum is no phase"
    assert min(float(row["above_hull_eV_per_atom"] or 0) for row in found.values()) == 0


def test_no_heights_without_a_hull(alloy_frames):
    mixed = [atoms for atoms in alloy_frames if len(set(atoms.symbols)) == 2]
    for node in (Dataset(mixed, "EMT"), Dataset(alloy_frames, Difference.of("one", "other"))):
        content, _ = node._exportcontent("csv")
        assert {row["above_hull_eV_per_atom"] for row in csv.DictReader(io.StringIO(content.decode()))} == {""}


# --- JSON ---


def test_json_has_everything():
    atoms = frame(generation=2, PRED_energy=-12.0)
    atoms.arrays["PRED_local_energy"] = np.array([-5.0, -7.0])
    told = json.loads(exported([atoms, isolated()], "json", About(CASTEP, uuid="u-1")))
    assert (told["format"], told["version"], told["dataset"]) == ("aiida-gaprss frames", 1, "u-1")
    first, alone = told["frames"]
    assert first["symbols"] == ["Si", "C"]
    assert np.array(first["cell"]).diagonal().tolist() == CELL
    assert first["positions"][1] == [1.0, 1.5, 2.25]
    assert first["labels"]["energy"] == -12.34567891
    assert np.array(first["labels"]["virial"]).ravel().tolist() == VIRIAL
    assert first["labels"]["forces"] == [[0.3, 0.0, -0.4], [-0.3, 0.0, 0.4]]
    assert first["predictions"] == {"energy": -12.0, "local_energy": [-5.0, -7.0]}
    assert (first["generation"], first["frame_id"]) == (2, "a-1")
    assert "virial" not in alone["labels"]
    assert {"energy", "forces", "virial"} < set(told["units"])
    assert set(told["keys"]) == set(INFO_KEYS)


# --- all of them ---


def test_the_command_knows_all_formats():
    assert tuple(FORMATS) == OF_THE_COMMAND
    assert tuple(Dataset.get_export_formats()) == tuple(sorted(FORMATS))
    assert set(ENDINGS.values()) == set(FORMATS) - {"colabfit"}


def test_endings():
    assert [format_of(f"my.frames{ending}") for ending in ENDINGS] == list(ENDINGS.values())
    for name in ("frames", "a.txt", ".db", "a.xyz.gz"):
        with pytest.raises(FrameError, match=r"its ending says no format; expected \.xyz, .*--format"):
            format_of(name)
    with pytest.raises(FrameError, match="no format 'cfg'; there are extxyz, db"):
        exported([], "cfg", About())


@pytest.mark.parametrize("name", FORMATS)
def test_no_frames(name):
    content = exported([], name, About())
    assert content == b"" or name in ("db", "csv", "json")


def test_frames_that_are_none():
    atoms = frame()
    atoms.info["REF_energy"] = float("nan")
    for name in set(FORMATS) - {"extxyz"}:
        with pytest.raises(FrameError, match="frame a-1: REF_energy is nan, expected finite numbers"):
            exported([atoms], name, About())


#: What texts of a frame may hold, since strangers may have written it.
HOSTILE = (
    '"',
    "'",
    "=",
    "\n",
    "\r",
    "\t",
    ",",
    ";",
    "{",
    "}",
    "[",
    "]",
    "\\",
    "\x1b[31m",
    "\x00",
    "T",
    "nan",
    "=cmd()",
    "<b>",
    "'; DROP TABLE systems; --",
    "é",
    "𝛼",
    "_JSON ",
    "energy=1",
    " ",
)


def test_hostile_texts_break_no_format(rows, times):
    """Every frame comes back with its numbers, and its names are those of ours that a dataset holds."""
    rng, tally = np.random.default_rng(4), Tally("exports")
    for number in range(times(15)):
        text = "".join(rng.choice(HOSTILE, rng.integers(1, 6)))
        keys = rng.choice([key for key in INFO_KEYS if key not in ("frame_id", "parent", "config_type")], 4, replace=False)
        atoms = frame(f"a={number}, (b)", **dict.fromkeys(keys.tolist(), text))
        level = Level("CODE", settings={"functional": text}) if number % 2 else text
        tally.attempt(repr(text), lambda atoms=atoms, level=level: _all_formats(atoms, About(level), rows))
    tally.check()
    assert tally.counts["accepted"] == tally.counts["tried"]


def _all_formats(atoms, about, rows):
    wanted, name = canonical(atoms).info, atoms.info["frame_id"]
    for form in ("extxyz", "colabfit"):
        (again,) = read(io.StringIO(exported([atoms], form, about).decode()), ":", format="extxyz")
        assert again.info["frame_id"] == name
        energy = again.info["REF_energy"] if form == "extxyz" else again.get_potential_energy()
        assert energy == -12.34567891
        assert np.allclose(again.positions, atoms.positions)
    (row,) = csv.DictReader(io.StringIO(exported([atoms], "csv", about).decode(), newline=""))
    assert (row["frame_id"], float(row["energy_eV"])) == (name, -12.34567891)
    (told,) = json.loads(exported([atoms], "json", about))["frames"]
    assert {key: told[key] for key in INFO_KEYS if key in wanted} == {key: wanted[key] for key in INFO_KEYS if key in wanted}
    found, _ = rows(atoms, about=about)
    assert found[name].energy == -12.34567891
    assert dict(found[name].data["info"]) == {key: wanted[key] for key in INFO_KEYS if key in wanted}
