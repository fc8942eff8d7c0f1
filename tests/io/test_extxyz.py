import gzip
import os

import numpy as np
import pytest
from ase import units

from aiida_gaprss import frames as fr
from aiida_gaprss.frames import FrameError, stress_from_virial
from aiida_gaprss.io.extxyz import Keys, export_frames, import_frames

HEADER = 'Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3{columns} {info} pbc="T T T"'


def write(path, *frames):
    """Write two-atom frames: pairs of extra columns and info."""
    lines = []
    for columns, info in frames:
        lines += ["2", HEADER.format(columns=f":{columns}:R:3" if columns else "", info=info)]
        lines += [f"Si 0 0 0 {'0.1 0.2 0.3' if columns else ''}", f"Si 2 2 2 {'-0.1 -0.2 -0.3' if columns else ''}"]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_keys_and_units_of_another_program(tmp_path):
    path = write(tmp_path / "train.xyz", ("dft_f", 'dft_e=-0.5 dft_s="1 0 0 0 2 0 0 0 3" config_type=bulk'))
    keys = Keys(
        energy="dft_e", forces="dft_f", stress="dft_s", energy_unit="Ha", force_unit="Ha/bohr", stress_unit="GPa", stress_sign=-1
    )
    (atoms,) = import_frames(path, keys)
    assert atoms.info["REF_energy"] == pytest.approx(-0.5 * 27.211386, abs=1e-5)
    assert atoms.arrays["REF_forces"][0, 0] == pytest.approx(0.1 * 51.422067, abs=1e-5)
    # Opposite sign and positive: compressed, as a positive pressure, and so a positive virial.
    assert np.allclose(atoms.info["REF_virial"].reshape(3, 3), np.diag([1, 2, 3]) / 160.21766 * 125, atol=1e-6)
    assert np.allclose(stress_from_virial(atoms.info["REF_virial"], 125) / units.GPa, -np.diag([1, 2, 3]), atol=1e-6)
    assert atoms.info["config_type"] == "bulk"
    assert atoms.info["frame_id"] == "train-00001"
    assert atoms.calc is None


@pytest.mark.parametrize("stress", ["1 2 3 4 5 6", "1 6 5 6 2 4 5 4 3"])
def test_six_or_nine_numbers_of_stress(tmp_path, stress):
    (atoms,) = import_frames(write(tmp_path / "a.xyz", ("", f'e=1 s="{stress}"')), Keys(energy="e", stress="s"))
    assert np.allclose(atoms.info["REF_virial"].reshape(3, 3), -125 * np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]))


def test_keys_that_ase_takes_for_a_calculator(tmp_path):
    path = write(tmp_path / "a.xyz", ("forces", 'energy=-1.5 stress="1 0 0 0 2 0 0 0 3" virial="4 0 0 0 5 0 0 0 6"'))
    (atoms,) = import_frames(path, Keys(energy="energy", forces="forces", stress="stress"))
    assert atoms.info["REF_energy"] == -1.5
    assert atoms.arrays["REF_forces"][1, 2] == -0.3
    assert np.allclose(atoms.info["REF_virial"].reshape(3, 3), -125 * np.diag([1, 2, 3]))
    (atoms,) = import_frames(path, Keys(energy="energy", virial="virial"))
    assert np.allclose(atoms.info["REF_virial"].reshape(3, 3), np.diag([4, 5, 6]))
    assert "REF_forces" not in atoms.arrays


def test_names_of_the_file_are_kept(tmp_path):
    path = write(tmp_path / "a.xyz", ("", "e=1 frame_id=mine"), ("", "e=2"), ("", "e=3 frame_id=17"))
    frames = import_frames(path, Keys(energy="e"), config_type="given")
    assert [str(a.info["frame_id"]) for a in frames] == ["mine", "a-00002", "17"]
    assert {a.info["config_type"] for a in frames} == {"given"}


def test_config_type_under_another_name(tmp_path):
    (atoms,) = import_frames(write(tmp_path / "a.xyz", ("", "e=1 kind=slab")), Keys(energy="e", config_type="kind"))
    assert atoms.info["config_type"] == "slab"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"energy_unit": "erg"}, "unknown energy unit 'erg'; known: eV, Ha"),
        ({"stress_unit": "bar"}, "unknown stress unit 'bar'"),
        ({"force_unit": "N"}, "unknown force unit 'N'"),
        ({"virial": "v", "stress": "s"}, "not both"),
        ({"stress_sign": 0}, "stress_sign must be 1"),
    ],
)
def test_contradictory_keys(keys, message):
    with pytest.raises(FrameError, match=message):
        Keys(**keys)


def test_a_key_that_no_frame_has(tmp_path):
    path = write(tmp_path / "a.xyz", ("dft_f", "dft_e=1"))
    with pytest.raises(FrameError, match=r"a\.xyz: no frame has the key 'dft_energy'; the frames have dft_e, dft_f"):
        import_frames(path, Keys(energy="dft_energy"))


@pytest.mark.parametrize(
    ("info", "keys", "message"),
    [
        ("e=NaN", {"energy": "e"}, "e is NaN, expected finite numbers"),
        ("e=unknown", {"energy": "e"}, "e is 'unknown', expected numbers"),
        ('e=1 v="1 2 3 4 5 6"', {"energy": "e", "virial": "v"}, "v has 6 numbers, expected 9"),
        ('e=1 s="1 2 3"', {"energy": "e", "stress": "s"}, "s has 3 numbers, expected 6"),
        ('e="1 2"', {"energy": "e"}, "e has 2 numbers, expected 1"),
    ],
)
def test_bad_values_are_named_by_frame(tmp_path, info, keys, message):
    path = write(tmp_path / "a.xyz", ("", 'e=1 v="1 0 0 0 1 0 0 0 1" s="1 1 1 0 0 0"'), ("", info))
    with pytest.raises(FrameError, match=rf"frame 2 of a\.xyz: .*{message}"):
        import_frames(path, Keys(**keys))


def test_no_cell(tmp_path):
    (tmp_path / "a.xyz").write_text("1\nProperties=species:S:1:pos:R:3 e=1\nSi 0 0 0\n")
    with pytest.raises(FrameError, match=r"frame 1 of a\.xyz: .*it has no Lattice.*give it a Lattice"):
        import_frames(tmp_path / "a.xyz", Keys(energy="e"))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FrameError, match="no such file"):
        import_frames(tmp_path / "absent.xyz", Keys())
    (tmp_path / "b.xyz").write_text("these are\nnot atoms\n")
    with pytest.raises(FrameError, match=r"frame 1 of b\.xyz, line 1: not readable as extended XYZ: 'these are'"):
        import_frames(tmp_path / "b.xyz", Keys())
    (tmp_path / "c.xyz").write_text("")
    with pytest.raises(FrameError, match=r"c\.xyz"):
        import_frames(tmp_path / "c.xyz", Keys())


def test_a_file_cut_off_in_the_middle(tmp_path):
    path = write(tmp_path / "a.xyz", ("", "e=1"), ("", "e=2"))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(FrameError, match=r"a\.xyz"):
        import_frames(path, Keys(energy="e"))


@pytest.mark.parametrize(
    "keys",
    [
        Keys(energy="REF_energy", forces="REF_forces", virial="REF_virial"),
        Keys(energy="energy", forces="forces", stress="stress"),
        Keys(
            energy="e",
            forces="f",
            stress="s",
            config_type="kind",
            energy_unit="Ry",
            force_unit="Ry/bohr",
            stress_unit="kbar",
            stress_sign=-1,
        ),
    ],
)
def test_round_trip(tmp_path, silicon_frames, keys):
    export_frames(silicon_frames, tmp_path / "a.xyz", keys)
    again = import_frames(tmp_path / "a.xyz", keys)
    for before, after in zip(silicon_frames, again, strict=True):
        assert after.info["frame_id"] == before.info["frame_id"]
        assert after.info["config_type"] == before.info["config_type"]
        assert after.info["REF_energy"] == pytest.approx(before.info["REF_energy"], abs=1e-6)
        assert np.allclose(after.arrays["REF_forces"], before.arrays["REF_forces"], atol=1e-6)
        assert ("REF_virial" in after.info) == ("REF_virial" in before.info)
        if "REF_virial" in before.info:
            assert np.allclose(after.info["REF_virial"], before.info["REF_virial"], atol=1e-5)


def test_published_silicon_data(data, tmp_path):
    path = tmp_path / "Si_training.xyz"
    path.write_bytes(gzip.decompress((data / "mlearn" / "Si_training.xyz.gz").read_bytes()))
    frames = import_frames(path, Keys(energy="dft_energy", forces="dft_force", virial="dft_virial"))
    source = path.read_text()
    assert len(frames) == source.count("Lattice=")
    assert sum("REF_energy" in a.info for a in frames) == source.count("dft_energy=")
    assert sum("REF_virial" in a.info for a in frames) == source.count("dft_virial=")
    assert sum(a.arrays["REF_forces"].size for a in frames) == 3 * sum(map(len, frames))
    assert len({a.info["frame_id"] for a in frames}) == len(frames)


# --- files of strangers ---

LATTICE = 'Lattice="3.6 0 0 0 3.6 0 0 0 3.6"'
PLAIN = "Properties=species:S:1:pos:R:3"
ENERGY = Keys(energy="e")


def one(path, comment, *rows, tail=""):
    path.write_text("\n".join([str(len(rows)), comment, *rows]) + "\n" + tail)
    return path


@pytest.mark.parametrize(
    ("comment", "row", "reason"),
    [
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 0 0 0.5", r"line 4: has 5 words, expected 4 \(species:S:1:pos:R:3\)"),
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 0", "line 4: has 3 words, expected 4"),
        (f"{LATTICE} {PLAIN} e=1", "", "line 4: has 0 words, expected 4"),
        (f"{LATTICE} e=1", "Cu 0 0 0 1 2 3", "has 7 words, expected 4"),
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 1_0 0", "pos is '1_0', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 0x1 0", "pos is '0x1', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 1e400 0", "pos is '1e400', a number too large"),
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 **** 0", "pos is '[*]{4}', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 nan 0", "positions have a value that is not a finite number"),
        (f"{LATTICE} {PLAIN} e=1", "Cu 0 1e7 0", r"an atom is at 1e\+07 Å"),
        (f"{LATTICE} {PLAIN} e=1", "Cu1 0 0 0", "unknown element 'Cu1'"),
        (f"{LATTICE} {PLAIN} e=1", "X 0 0 0", "unknown element"),
        (f"{LATTICE} {PLAIN}:Z:I:1 e=1", "Cu 0 0 0 28", "atom 2 is Cu by species, Ni by Z"),
        (f"{LATTICE} Properties=Z:I:1:pos:R:3 e=1", "300 0 0 0", "Z is 300"),
        (f"{LATTICE} Properties=Z:I:1:pos:R:3 e=1", "29.0 0 0 0", "Z is '29.0' at number 2, expected an integer"),
        (f"{LATTICE} Properties=species:S:1 e=1", "Cu", "has no pos"),
        (f"{LATTICE} Properties=species:S:1:pos:R:2 e=1", "Cu 0 0", "expected pos:R:3"),
        (f"{LATTICE} Properties=species:S:1:pos:R e=1", "Cu 0", "is no list of name:kind:columns"),
        (f"{LATTICE} Properties=species:S:1:pos:R:3:pos:R:3 e=1", "Cu 0 0 0 0 0 0", "each name once"),
        (f"{LATTICE} {PLAIN}:f:Q:1 e=1", "Cu 0 0 0 1", "Properties has 'f:Q:1'"),
        (f"{LATTICE} {PLAIN} e=1_0.5", "Cu 0 0 0", "e is '1_0.5', expected numbers"),
        (f"{LATTICE} {PLAIN} e=T", "Cu 0 0 0", "e is 'T', expected numbers"),
        (f"{LATTICE} {PLAIN} e=0x10", "Cu 0 0 0", "e is '0x10', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1e400", "Cu 0 0 0", "e is '1e400', a number too large"),
        (f"{LATTICE} {PLAIN} e=", "Cu 0 0 0", "e is '', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1(", "Cu 0 0 0", r"e is '1\(', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1,", "Cu 0 0 0", "e is '1,', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1)2(", "Cu 0 0 0", r"e is '1\)2\(', expected numbers"),
        (f'Lattice="3.d6 0 0 0 3.6 0 0 0 3.6" {PLAIN} e=1', "Cu 0 0 0", r"Lattice has a length of 3e\+06 Å"),
        (f"{LATTICE} {PLAIN} e=1 e=2", "Cu 0 0 0", "has the key e twice; which of the two counts"),
        (f"{LATTICE} {LATTICE} {PLAIN} e=1", "Cu 0 0 0", "has the key Lattice twice"),
        (f"{LATTICE} {PLAIN}:e:R:1 e=1", "Cu 0 0 0 1", "has e as a column and in the comment line"),
        (f'Lattice="3.6 0 0 0 3.6 0 0 0" {PLAIN} e=1', "Cu 0 0 0", "Lattice has 8 numbers, expected 9"),
        (f'Lattice="3.6 0 0 0 3.6 0 0 0 x" {PLAIN} e=1', "Cu 0 0 0", "Lattice is 'x', expected numbers"),
        (f"{LATTICE} {PLAIN} e=1 pbc=T F F", "Cu 0 0 0", "a lone T or F"),
        (f'{LATTICE} {PLAIN} e=1 pbc="T T"', "Cu 0 0 0", "expected three of T and F"),
        (f'{LATTICE} {PLAIN} e=1 note="open', "Cu 0 0 0", "\" is not closed: '\"open'"),
        (f'{LATTICE} {PLAIN} e="1"2', "Cu 0 0 0", "expected a blank after"),
        (f"{LATTICE} {PLAIN} = 1", "Cu 0 0 0", "'=' has no key before it"),
        (
            f"{LATTICE} {PLAIN} e=1 config_type=x{{1}}",
            "Cu 0 0 0",
            r"config_type 'x\{1\}': \{ \} cannot be read by .*call it 'x_1'",
        ),
        (f'{LATTICE} {PLAIN} e=1 frame_id="f[/x]"', "Cu 0 0 0", "frame_id .*: / cannot be read"),
        (f"{LATTICE} {PLAIN} e=1 frame_id=../../x", "Cu 0 0 0", "frame_id .*: / cannot be read"),
        (f"{LATTICE} {PLAIN} e=1 config_type=isolated_atom", "Cu 1 1 1", "config_type isolated_atom, but it has 2 atoms"),
    ],
)
def test_what_is_not_exactly_what_it_announces_is_refused(tmp_path, comment, row, reason):
    first = {"Z": "29 1.8 1.8 0", "species:S:1:pos:R:3:Z": "Cu 1.8 1.8 0 29"}
    rows = [next((text for key, text in first.items() if f"Properties={key}" in comment), "Cu 1.8 1.8 0"), row]
    n = len(row.split())
    if n > 4 and "Z:I" not in comment and "Properties" in comment and f"{PLAIN} e" not in comment:
        rows[0] += " 1" * (n - 4)
    with pytest.raises(FrameError, match=rf"frame 1 of a\.xyz.*{reason}"):
        import_frames(one(tmp_path / "a.xyz", comment, *rows), ENERGY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("4", "announces 4 atoms, 0 rows follow: the file is cut"),
        ("\n", "has no frames"),
        ("   \n\n", "has no frames"),
        (f"99999999999\n{LATTICE} {PLAIN} e=1\nCu 0 0 0\n", "announces 99999999999 atoms, 1 rows follow"),
        (f"{'9' * 5000}\n{LATTICE} {PLAIN} e=1\nCu 0 0 0\n", "atoms, 1 rows follow"),
        (f"0\n{LATTICE} {PLAIN} e=1\n", "has no atoms"),
        (f"-1\n{LATTICE} {PLAIN} e=1\n", "'-1', expected a number of atoms"),
        (f"1\n{LATTICE} {PLAIN} e=1\nCu 0 0 0\nCu 1 1 1\n", "expected a number of atoms; frame 1 announces fewer rows"),
        (f"1\n{LATTICE} {PLAIN} e=1\nCu 0 0 0\n1\n", "frame 2 of a.xyz, line 4: announces 1 atoms, 0 rows follow"),
        (f"1\n{LATTICE} {PLAIN} e=1\nCu\xa00 0 0\n", r"line 3 has the character '\\xa0'"),
        (f"1\n{LATTICE} {PLAIN} e=1\nCu 0 0 0\x0c\n", r"line 3 has the character '\\x0c'"),
        (f"1\r{LATTICE} {PLAIN} e=1\rCu 0 0 0\r", r"line 1 has the character '\\r'"),
        (f"2\n{LATTICE} {PLAIN} e=1\nCu 0 0 1.234567\nCu 0 0 1.23", "the file ends within its last row: '1.23' has 2 decimals"),
    ],
)
def test_files_that_are_cut_or_lead_astray(tmp_path, text, reason):
    (tmp_path / "a.xyz").write_bytes(text.encode())
    with pytest.raises(FrameError, match=reason):
        import_frames(tmp_path / "a.xyz", ENERGY)


def test_no_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.xyz")
    with pytest.raises(FrameError, match="is a named pipe, expected a file"):
        import_frames(tmp_path / "a.xyz", ENERGY)


@pytest.mark.parametrize(
    "comment",
    [
        f"{LATTICE} {PLAIN} e=-1.5D0",
        f"{LATTICE} {PLAIN} e=-1.5d+00 pressure_GPa=[1,2]",
        f"{LATTICE}\t{PLAIN}  e='-1.5' _JSON=\"_JSON {{}}\" flag",
        f'{LATTICE} {PLAIN} e={{-1.5}} seed=None step=1500.5 note="say \\"x\\"" a=b=c',
        f'{LATTICE} {PLAIN} e="_JSON [-1.5]" pbc=[T,T,T] stranger=1 stranger=2',
        f"Lattice={{3.6 0 0 0 3.6 0 0 0 3.6}} {PLAIN} e=[-1.5] pbc=T",
        f"Lattice=[[3.6, 0, 0], [0, 3.6, 0], [0, 0, 3.6]] {PLAIN} e=-1.5 pbc=[T, T, T]",
        f'Lattice="(3.6,0,0),(0,3.6,0),(0,0,3.6)" {PLAIN} e="( -1.5 )"',
    ],
)
def test_all_ways_of_writing_that_mean_one_thing(tmp_path, comment):
    path = one(tmp_path / "a.xyz", comment, "cu 0 0 0", "Cu\t1.8 1.8D0 +0.")
    text = path.read_text()
    for changed in (text, "\ufeff" + text, text.replace("\n", "\r\n"), "\n\n" + text + "\n \n"):
        path.write_bytes(changed.encode())
        (atoms,) = import_frames(path, ENERGY)
        assert atoms.info["REF_energy"] == -1.5
        assert atoms.get_chemical_symbols() == ["Cu", "Cu"]
        assert atoms.positions[1].tolist() == [1.8, 1.8, 0.0]
        assert set(atoms.info) == {"REF_energy", "config_type", "frame_id"}
    path = one(
        tmp_path / "b.xyz", comment, "Cu 0 0 0", tail="\n" + path.read_text().replace("\ufeff", "").replace("\r", "").strip()
    )
    notes = []
    assert len(import_frames(path, ENERGY, notes=notes)) == 2
    assert notes[0].startswith("b.xyz: does not end with an end of line")


def test_frames_without_a_key_that_others_have_are_told(tmp_path):
    frames = [("f", 'e=1 v="1 0 0 0 1 0 0 0 1"'), ("f", "e=1"), ("", 'e=2 v="1 0 0 0 1 0 0 0 1" other_energy=3')]
    path, notes = write(tmp_path / "a.xyz", *frames), []
    import_frames(path, Keys(energy="e", forces="f", virial="v"), notes=notes)
    assert notes == ["a.xyz: f: 2 of 3 frames", "a.xyz: v: 2 of 3 frames", "a.xyz: not named, so not taken: other_energy"]


def test_what_others_keep_under_our_names_is_not_ours(tmp_path):
    info = 'REF_energy=-99 REF_virial="9 9 9 9 9 9 9 9 9" PRED_energy=5 label_status="not converged" parent=p origin=o seed=None'
    path, notes = write(tmp_path / "a.xyz", ("REF_forces", f"e=1 {info}"), ("REF_forces", info)), []
    frames = import_frames(path, ENERGY, notes=notes)
    assert [set(a.info) for a in frames] == [{"REF_energy", "config_type", "frame_id"}, {"config_type", "frame_id"}]
    assert frames[0].info["REF_energy"] == 1
    assert all("REF_forces" not in a.arrays for a in frames)
    assert any(
        "not taken: REF_energy, REF_virial, PRED_energy, label_status, parent, origin, seed, REF_forces" in n for n in notes
    )
    (named, _) = import_frames(path, Keys(energy="REF_energy"))
    assert named.info["REF_energy"] == -99
    assert "REF_virial" not in named.info
    with pytest.raises(FrameError, match="seed is 'None', expected numbers"):
        import_frames(path, Keys(), own_keys=True)


def test_our_own_files_come_back_whole(tmp_path, silicon_frames):
    frames = [atoms.copy() for atoms in silicon_frames]
    for number, atoms in enumerate(frames):
        known = {
            "generation": 2,
            "seed": 2**61 + number,
            "pressure_GPa": 1.5,
            "step": 3,
            "label_status": 'bad: "x"',
            "parent": "7",
        }
        atoms.info.update(known, origin="8f2c", PRED_energy=-1.0, PRED_virial=np.arange(9.0))
        atoms.arrays["PRED_forces"] = atoms.arrays["REF_forces"] * 2
        atoms.arrays["PRED_local_energy"] = np.arange(len(atoms)) * 0.5
    for keys in (Keys(), Keys(energy="e", forces="f", stress="s", stress_unit="GPa")):
        written = keys if keys.named else Keys(energy="REF_energy", forces="REF_forces", virial="REF_virial")
        export_frames(frames, tmp_path / "a.xyz", written)
        again = import_frames(tmp_path / "a.xyz", keys, own_keys=True)
        if not keys.named:
            assert fr.dumps(again) == fr.dumps(frames)
        for before, after in zip(frames, again, strict=True):
            plain = {k: v for k, v in before.info.items() if k in fr.INFO_KEYS}
            assert {k: v for k, v in after.info.items() if k in fr.INFO_KEYS} == plain
            assert after.info["PRED_energy"] == -1.0


def test_a_file_whose_labels_nobody_names(tmp_path):
    path = write(tmp_path / "a.xyz", ("dft_force", 'DFT_energy=1 stress="1 1 1 0 0 0" temperature=300'))
    with pytest.raises(
        FrameError, match=r"They have DFT_energy, stress, temperature, dft_force.*--energy DFT_energy --forces"
    ) as info:
        import_frames(path, Keys())
    assert "--stress stress; or say --unlabelled" in str(info.value)
    (atoms,) = import_frames(path, Keys(), unlabelled=True)
    assert not fr.is_labelled(atoms)


TRIMER = ("Cu 0 0 0 0.1 0 0", "Cu 2.4 0 0 -0.1 0.2 0", "Cu 1.2 2.1 0 0 -0.2 0")
TRIMER_INFO = f'{PLAIN}:f:R:3 e=4 v="1 0 0 0 1 0 0 0 0"'


@pytest.mark.parametrize("pbc", ['pbc="F F F"', 'pbc="T T F"', 'pbc="0 1 1"', None])
def test_what_is_not_periodic_does_not_become_so_silently(tmp_path, pbc):
    comment = f'Lattice="4 0 0 0 4 0 0 0 3" {TRIMER_INFO} {pbc}' if pbc else TRIMER_INFO
    path, keys = one(tmp_path / "a.xyz", comment, *TRIMER), Keys(energy="e", forces="f", virial="v")
    with pytest.raises(FrameError, match=r"is not periodic in all directions .*--box 12"):
        import_frames(path, keys)
    notes = []
    (atoms,) = import_frames(path, keys, box=12.0, notes=notes)
    assert notes == ["a.xyz: 1 frames that are not periodic are in a box now, with 12 Å of vacuum; 1 virials left out"]
    assert atoms.pbc.all()
    free = [k for k in range(3) if not pbc or pbc.split('"')[1].split()[k] in ("F", "0")]
    extent = np.ptp(atoms.positions, axis=0)
    for k in range(3):
        expected = extent[k] + 12 if k in free else [4, 4, 3][k]
        assert atoms.cell.array[k, k] == pytest.approx(expected)
    assert "REF_virial" not in atoms.info
    assert atoms.info["REF_energy"] == 4
    assert np.allclose(atoms.get_all_distances()[0], [0, 2.4, np.hypot(1.2, 2.1)])


def test_a_molecule_in_a_large_cell_is_taken_and_told(tmp_path):
    path = one(tmp_path / "a.xyz", f'Lattice="9 0 0 0 9 0 0 0 9" {TRIMER_INFO} pbc="F F F"', *TRIMER)
    notes = []
    (atoms,) = import_frames(path, Keys(energy="e", virial="v"), notes=notes)
    assert atoms.cell.array[0, 0] == 9
    assert "REF_virial" not in atoms.info
    assert any("taken as periodic: in their cells all images are 5 Å or more away; 1 virials left out" in note for note in notes)


def test_refused_frames_are_gathered_if_that_is_wanted(tmp_path):
    path = write(tmp_path / "a.xyz", ("", "e=1"), ("", "e=1_0"), ("", "e=3"))
    refused = []
    frames = import_frames(path, ENERGY, refused=refused)
    assert [a.info["frame_id"] for a in frames] == ["a-00001", "a-00003"]
    assert [str(fault) for fault in refused] == ["frame 2 of a.xyz: e is '1_0', expected numbers"]


def test_frames_are_named_after_a_file_with_any_name(tmp_path):
    (atoms,) = import_frames(write(tmp_path / "it's {mine}.v2.xyz", ("", "e=1")), ENERGY)
    assert atoms.info["frame_id"] == "it_s _mine-00001"
