"""``aiida-gaprss dataset audit`` as a user types it."""

import json

import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from click.testing import CliRunner
from helpers import label

from aiida_gaprss.cli import cli
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.io.extxyz import Keys, export_frames
from aiida_gaprss.structures.random_cells import CellSpec, random_cells

USUAL = Keys(energy="REF_energy", forces="REF_forces", virial="REF_virial")


@pytest.fixture(scope="session")
def copper():
    spec = CellSpec({"Cu": 1}, n_atoms=(4, 6), volume_per_atom=(10, 16), min_separation=2.1, n_operations=(1, 2))
    atom = Atoms("Cu", cell=[14.0] * 3, pbc=True)
    atom.info.update(frame_id="atom", config_type="isolated_atom")
    frames = [atom]
    for number, atoms in enumerate(random_cells(spec, 30, seed=2)):
        atoms.info.update(frame_id=f"cell-{number:02d}", config_type="random")
        frames.append(atoms)
    for atoms in frames:
        label(atoms, EMT())
    return frames


@pytest.fixture
def file(copper, tmp_path):
    """Write frames, altered, to a file; return its path."""

    def file(change=lambda atoms: None, keys=USUAL, name="copper.xyz", frames=copper):
        frames = [atoms.copy() for atoms in frames]
        for atoms in frames:
            change(atoms)
        export_frames(frames, tmp_path / name, keys)
        return tmp_path / name

    return file


def run(*arguments):
    result = CliRunner().invoke(cli, ["dataset", "audit", *map(str, arguments)], env={"COLUMNS": "250"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def reverse_virials(atoms):
    if "REF_virial" in atoms.info:
        atoms.info["REF_virial"] = -atoms.info["REF_virial"]


def drop_some_forces(atoms):
    if atoms.info["frame_id"] == "cell-03":
        del atoms.arrays["REF_forces"]


def test_sound(file):
    status, text = run(file(), "--strict")
    assert status == 0, text
    assert text.strip().endswith("31 frames: sound")


def test_warnings_are_a_status_with_strict_only(file):
    path = file(drop_some_forces)
    assert run(path)[0] == 0
    status, text = run(path, "--strict")
    assert status == 1
    assert "no forces in 1 of 30 frames: 1 random" in text
    assert "31 frames: 1 warning" in text
    assert run(path, "--strict", "--skip", "labels")[0] == 0


def test_faults(file, tmp_path):
    status, text = run(file(reverse_virials), "--json", tmp_path / "audit.json")
    assert status == 2
    assert "virials are sign reversed" in text
    assert "31 frames: 1 fault" in text
    kept = json.loads((tmp_path / "audit.json").read_text())
    assert kept["verdict"] == "fault"
    assert kept["sources"] == {"copper.xyz": {"frames": 31, "level_of_theory": None}}
    verdicts = {check["name"]: check["verdict"] for check in kept["checks"]}
    assert [name for name, verdict in verdicts.items() if verdict == "fault"] == ["virials"]
    assert next(c for c in kept["checks"] if c["name"] == "virials")["numbers"]["mistake"] == "sign reversed"


def test_units_and_keys_of_a_file(file):
    keys = Keys("dft_energy", "dft_forces", stress="dft_stress", stress_unit="GPa", stress_sign=-1)
    path = file(keys=keys)
    named = ["--energy", "dft_energy", "--forces", "dft_forces", "--stress", "dft_stress", "--stress-unit", "GPa"]
    assert run(path, *named, "--stress-sign", -1)[0] == 0
    for wrong, words in ((["--stress-sign", 1], "sign reversed"), ([], "sign reversed")):
        status, text = run(path, *named, *wrong)
        assert status == 2
        assert words in text
    status, text = run(path)  # the keys are found, their unit cannot be
    assert status == 2
    assert "virials are made from a stress in GPa taken as eV/Å³" in text


def test_labels_that_are_not_finite(file):
    path = file()
    lines = path.read_text().splitlines()
    at = [n for n, line in enumerate(lines) if "REF_energy=" in line]
    for n in at[4:6]:
        lines[n] = " ".join("REF_energy=nan" if word.startswith("REF_energy=") else word for word in lines[n].split(" "))
    path.write_text("\n".join(lines) + "\n")
    status, text = run(path)
    assert status == 2
    assert "2 frames cannot be used: frame 5 of copper.xyz: REF_energy is nan" in text
    assert "29 frames: 1 fault" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.xyz", "no such file"), ("bare.xyz", "name the keys with --energy"), ("text.xyz", "not readable as extended XYZ")],
)
def test_what_cannot_be_read(tmp_path, name, message):
    (tmp_path / "bare.xyz").write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"\nCu 0 0 0\n')
    (tmp_path / "text.xyz").write_text("this is\nno such file\n")
    status, text = run(tmp_path / name)
    assert status == 2  # 1 would mean that there are warnings
    assert message in text
    assert "Traceback" not in text


def test_checks_that_do_not_exist(file):
    status, text = run(file(), "--skip", "colour")
    assert status == 2
    assert "no check 'colour'" in text


def test_datasets_and_levels_of_theory(copper, file, aiida_profile):
    first = Dataset(copper[:16], level_of_theory="EMT").store()
    second = Dataset([copper[0], *copper[16:]], level_of_theory="something else").store()
    same = Dataset(copper[16:], level_of_theory="EMT").store()
    status, text = run(first.pk, same.uuid)
    assert status == 0
    assert "31 frames: sound" in text
    status, text = run(first.pk, second.pk, "--skip", "isolated atoms")
    assert status == 2
    assert "2 levels: EMT" in text
    assert run(first.pk, second.pk, "--skip", "isolated atoms", "--mixed-levels")[0] == 0
    assert run(first.pk, second.pk, "--skip", "isolated atoms", "--mixed-levels", "--strict")[0] == 1
    status, text = run(first.pk, file(frames=copper[16:]))
    assert status == 0
    assert "nothing is said of copper.xyz" in text
    status, text = run(999999)
    assert status == 2
    assert "no node 999999" in text


def test_worst_frames_are_named(file):
    def heavy(atoms):
        if atoms.info["frame_id"] in ("cell-01", "cell-02", "cell-05"):
            atoms.arrays["REF_forces"] = atoms.arrays["REF_forces"] + [100.0, 0.0, 0.0]

    _, text = run(file(heavy), "--frames", 1, "--skip", "forces")
    line = next(line for line in text.splitlines() if line.lstrip().startswith("net force"))
    assert "forces of 3 of 30 frames do not sum to zero" in line
    assert "cell-05" in line or "cell-02" in line or "cell-01" in line
    assert "and 2 more" in text


def test_names_do_not_act(file):
    """Markup of rich, and characters that move the cursor or turn the direction of writing, are shown as they are."""
    status, text = run(file(), file(name="[red]copper.xyz"), file(name="\x1b[2J\u202ecopper.xyz"), "--frames", 200)
    assert status == 0
    assert "[red]copper.xyz: cell-03" in text
    assert "\\x1b[2J\\u202ecopper.xyz: cell-03" in text
    assert not {"\x1b", "\u202e"} & set(text)
    status, text = run("[red]absent[/]\x1b[2J.xyz")
    assert status == 2
    assert "[red]absent[/]\\x1b[2J.xyz: no such file" in text
