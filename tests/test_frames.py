import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from aiida_gaprss import frames as fr


def frame(**info):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.info.update({"frame_id": "a-1", "config_type": "random", "seed": 3, "generation": 0, **info})
    fr.set_labels(atoms, -10.5, np.arange(24.0).reshape(8, 3) / 7, np.arange(9.0) / 3)
    return atoms


def test_key_order_and_number_types_do_not_change_the_bytes():
    first = frame()
    second = frame()
    second.info = dict(reversed(list(second.info.items())))
    second.info["seed"] = np.int64(3)
    second.info["REF_energy"] = np.float64(-10.5)
    second.info["REF_virial"] = second.info["REF_virial"].reshape(3, 3)
    second.arrays["REF_forces"] = np.asfortranarray(second.arrays["REF_forces"])
    second.positions = np.asfortranarray(second.positions)
    second.info["of no interest"] = "left out"
    second.arrays["momenta"] = np.ones((8, 3))
    second.calc = EMT()
    assert fr.dumps([first]) == fr.dumps([second])


def test_minus_zero_is_zero():
    first, second = frame(), frame()
    first.positions[0] = 0.0
    second.positions[0] = -0.0
    assert fr.dumps([first]) == fr.dumps([second])


@pytest.mark.parametrize("name", ["a-1", "12", "two words", "x=1", "[1,2]", 'a"b', "it's", "γ-B28"])
def test_reading_and_writing_again_gives_the_same_bytes_and_names(name):
    text = fr.dumps([frame(frame_id=name), frame(frame_id="other")])
    again = fr.loads(text)
    assert [atoms.info["frame_id"] for atoms in again] == [name, "other"]
    assert fr.dumps(again) == text
    assert fr.dumps(fr.loads(fr.dumps(again))) == text


@pytest.mark.parametrize("name", ["007", "1e5", "T", "1 2 3", "a\\b", " a"])
def test_names_that_the_file_would_change_are_refused(name):
    with pytest.raises(fr.FrameError, match=r"f: frame_id .* would be read back from the file as"):
        fr.check(frame(frame_id=name), "f")


GOOD = ["a-1", "a12", "two words", "x=1", "[1,2]", "γ-B28", "bulk (old)", "a:b", "x%1", "_x", "x_", "Si@C", "0.5~x", "B12^"]
BAD = [
    "x{1}",
    "it's",
    'a"b',
    "a/b",
    "../x",
    "..",
    ".x",
    "-x",
    "a\\b",
    "a;b",
    "a*b",
    "<b>",
    "[/red]",
    "a|b",
    "$x",
    "`x`",
    "a\x1b[31m",
]
BAD += [
    "a\nb",
    "a  b",
    " a",
    "a ",
    "a.",
    "",
    "12",
    "0.5",
    "1d5",
    "007",
    "1e5",
    "T",
    "1 2 3",
    "a\u202eb",
    "x" * 201,
    "é" * 101,
    "e\u0301",
]


@pytest.mark.parametrize("name", GOOD)
def test_names_that_all_can_read(name):
    assert fr.check_name("config_type", name, "f") == name
    assert fr.plain_name(name) == name
    fr.check(frame(frame_id=name), "f")


@pytest.mark.parametrize("name", BAD)
def test_names_that_some_cannot_read_are_refused_with_a_better_one(name):
    with pytest.raises(fr.FrameError, match=r"^f: config_type .*: .*; call it '.+', for example$") as info:
        fr.check_name("config_type", name, "f")
    better = str(info.value).split("call it ")[1].split(", for example")[0][1:-1]
    assert fr.check_name("config_type", better, "f") == better
    assert info.value.args[0].isprintable()


@pytest.mark.parametrize("name", ["two words", "x=1", "a:b"])
def test_names_in_settings_of_gap_fit(name):
    """And of frames, numbers are names, but not of kinds: gap_fit would use no sigma for them."""
    assert fr.check_name("frame_id", "12", "f") == "12"
    with pytest.raises(fr.FrameError, match="gap_fit needs a name in ASCII without blanks, ':' and '=' here; call it"):
        fr.check_name("config_type", name, "config_type_sigma", in_settings=True)
    assert fr.check_name("config_type", fr.plain_name(name, in_settings=True), "s", in_settings=True)


@pytest.mark.parametrize("name", ["x{1}", "it's", 'a"b', "a}b"])
def test_no_dataset_takes_names_that_quip_cannot_read(name):
    with pytest.raises(fr.FrameError, match=r"f: frame_id .* cannot be read by QUIP; call it"):
        fr.check(frame(frame_id=name), "f")


def test_quip_reads_all_names_that_are_taken(silicon_frames, fit_with_binary):
    """With the real reader of gap_fit, which finds every frame and every label; and with a name that is refused it does not."""

    def named(names):
        frames = [atoms.copy() for atoms in silicon_frames]
        for number, name in enumerate(names, start=1):
            frames[number].info.update(config_type=name, frame_id=f"{name}~{number}")
        return frames

    for atoms in named(GOOD):
        fr.check_name("frame_id", atoms.info["frame_id"], "f")

    folder, log = fit_with_binary(named(GOOD))
    assert (folder / "gap.xml").is_file(), log[-1000:]
    assert re.search(rf"Number of target energies .* found:\s+{len(silicon_frames)}\b", log)
    for name in ("x{1}", "it's", 'a"b'):
        folder, log = fit_with_binary(named([name]))
        assert not (folder / "gap.xml").is_file()


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_nothing_becomes_periodic_by_itself(pbc):
    atoms = frame()
    atoms.pbc = pbc
    assert fr.canonical(atoms).pbc.tolist() == atoms.pbc.tolist()
    with pytest.raises(fr.FrameError, match="is not periodic in all directions"):
        fr.check(atoms, "f")


@pytest.mark.parametrize(
    ("atoms", "reason"),
    [
        (Atoms("Cu", cell=[12.0] * 3, pbc=True), None),
        (Atoms("Cu", cell=[6.0] * 3, pbc=True), None),
        (Atoms("Cu", cell=[[12, 0, 0], [7, 12, 0], [0, 0, 12]], pbc=True), None),
        (Atoms("Cu", cell=[12, 12, 5.9], pbc=True), "the atom is 5.90 Å from its own image"),
        (Atoms("Cu", cell=[[12, 0, 0], [11.5, 3, 0], [0, 0, 12]], pbc=True), "the atom is 3.04 Å from its own image"),
        (bulk("Cu"), "the atom is 2.55 Å from its own image, expected at least 6 Å; a crystal with one atom needs"),
        (Atoms("Cu2", positions=[(0, 0, 0), (0, 0, 2)], cell=[12.0] * 3, pbc=True), "it has 2 atoms"),
    ],
)
def test_one_rule_for_isolated_atoms(atoms, reason):
    atoms.info = {"frame_id": "a", "config_type": "isolated_atom"}
    if reason is None:
        fr.check(atoms, "f")
        return
    with pytest.raises(fr.FrameError, match=f"f: config_type isolated_atom, but {reason}"):
        fr.check(atoms, "f")
    atoms.info["config_type"] = "other"
    fr.check(atoms, "f")


def test_an_error_message_of_many_lines_survives():
    reason = "failed: ValueError: 'x' \"y\"\n z = {1} \\ [2, 3]\n\ttail"
    (again,) = fr.loads(fr.dumps([frame(label_status=reason)]))
    assert again.info["label_status"] == "failed: ValueError: 'x' \"y\" z = {1} / [2, 3] tail"


def test_load_of_a_file(tmp_path):
    (tmp_path / "a.extxyz").write_text(fr.dumps([frame()]))
    (atoms,) = fr.load(tmp_path / "a.extxyz")
    assert atoms.calc is None
    assert atoms.info["REF_virial"].shape == (9,)
    assert np.allclose(atoms.arrays["REF_forces"], frame().arrays["REF_forces"], atol=1e-8)
    assert fr.loads("") == []


def test_virial_is_minus_the_derivative_of_the_energy_by_strain():
    atoms = bulk("Cu", a=3.5, cubic=True)
    atoms.rattle(0.05, seed=2)
    atoms.set_cell(atoms.cell.array @ np.array([[1.01, 0.02, 0], [0.02, 1, 0.01], [0, 0.01, 0.98]]), scale_atoms=True)
    atoms.calc = EMT()
    virial = fr.virial_from_stress(atoms.get_stress(), atoms.get_volume()).reshape(3, 3)
    assert np.allclose(virial.ravel(), fr.virial_from_stress(atoms.get_stress(voigt=False), atoms.get_volume()))
    step = 1e-5
    for i in range(3):
        for j in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * step / 2
                strain[j, i] += sign * step / 2
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
                strained.calc = EMT()
                energies.append(strained.get_potential_energy())
            assert -(energies[0] - energies[1]) / (2 * step) == pytest.approx(virial[i, j], abs=1e-5)
    assert np.trace(virial) > 0, "a compressed crystal pushes outwards"
    assert np.allclose(fr.stress_from_virial(virial.ravel(), atoms.get_volume()), atoms.get_stress(voigt=False))


def change(what):
    atoms = frame()
    what(atoms)
    return atoms


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda a: a.info.update(REF_energy=np.nan), "REF_energy is nan, expected finite"),
        (lambda a: a.info.update(REF_energy="low"), "REF_energy is 'low', expected numbers"),
        (lambda a: a.info.update(REF_virial=np.ones(6)), "REF_virial has 6 numbers, expected 9"),
        (lambda a: a.info.update(PRED_virial=np.full(9, np.inf)), "PRED_virial contains inf, expected finite"),
        (lambda a: a.arrays.update(REF_forces=np.ones((8, 2))), "REF_forces has 16 numbers, expected 24"),
        (lambda a: a.arrays["REF_forces"].__setitem__((0, 0), np.nan), "REF_forces contains nan, expected finite"),
        (lambda a: a.positions.__setitem__((0, 0), np.nan), "positions have a value that is not a finite"),
        (lambda a: a.set_cell(None), "cell is missing or flat"),
        (lambda a: a.set_cell([5, 5, 0]), "cell is missing or flat"),
        (lambda a: a.set_cell([5, 5, np.inf]), "cell has a value that is not a finite"),
        (lambda a: a.set_atomic_numbers([0] + [14] * 7), "unknown element"),
        (lambda a: a.__delitem__(slice(None)), "has no atoms"),
    ],
)
def test_refusals_name_frame_and_value(broken, message):
    with pytest.raises(fr.FrameError, match=f"frame 3 of x.*{message}"):
        fr.check(change(broken), "frame 3 of x")


def test_stress_of_wrong_shape():
    with pytest.raises(fr.FrameError, match=r"\(6,\) or \(3, 3\), got \(4,\)"):
        fr.virial_from_stress(np.ones(4), 1.0)


def test_describe():
    atom = Atoms("O", cell=[9] * 3, pbc=True, info={"config_type": "isolated_atom", "REF_energy": -1.0})
    plain = bulk("Si")
    found = fr.describe([frame(), atom, plain])
    assert found == {
        "frames": 3,
        "atoms": 11,
        "elements": ["O", "Si"],
        "config_types": {"isolated_atom": 1, "random": 1, "unknown": 1},
        "energies": 2,
        "forces": 24,
        "virials": 1,
    }
    assert fr.is_isolated_atom(atom)
    assert not fr.is_isolated_atom(bulk("Cu")), "a crystal of one atom is no isolated atom"
    assert fr.is_labelled(atom)
    assert not fr.is_labelled(plain)


@pytest.mark.parametrize("text", ["=", "x=", "a==", "energy=", "_JSON", "_JSON {", "_JSON ="])
def test_texts_that_would_swallow_what_follows(text):
    """A message that ends with an equals sign, or begins as ASE marks JSON: the labels after it stay what they are."""
    atoms = Atoms("Cu", cell=[3.0] * 3, pbc=True)
    atoms.info.update(frame_id="cu", config_type="fcc", origin=text, label_status=text, md_failure=text, REF_energy=-3.5)
    (again,) = fr.loads(fr.dumps([atoms]))
    assert set(again.info) - {"origin", "label_status", "md_failure"} == {"frame_id", "config_type", "REF_energy"}
    assert (again.info["frame_id"], again.info["REF_energy"]) == ("cu", -3.5)
    assert fr.dumps([again]) == fr.dumps([atoms])
    atoms.info["frame_id"] = text
    with pytest.raises(fr.FrameError, match="would be read back from the file as"):
        fr.check(atoms)
