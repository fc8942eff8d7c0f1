import gzip

import numpy as np
import pytest
from ase import units

from aiida_gaprss.extxyz import Keys, export_frames, import_frames
from aiida_gaprss.frames import FrameError, stress_from_virial

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
    with pytest.raises(FrameError, match=r"a\.xyz: no frame has the key 'dft_energy'; the last frame has dft_e, dft_f"):
        import_frames(path, Keys(energy="dft_energy"))


@pytest.mark.parametrize(
    ("info", "keys", "message"),
    [
        ("e=NaN", {"energy": "e"}, "e is nan, expected finite numbers"),
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
    with pytest.raises(FrameError, match=r"frame 1 of a\.xyz: has no cell; give it a Lattice"):
        import_frames(tmp_path / "a.xyz", Keys(energy="e"))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FrameError, match="no such file"):
        import_frames(tmp_path / "absent.xyz", Keys())
    (tmp_path / "b.xyz").write_text("these are\nnot atoms\n")
    with pytest.raises(FrameError, match=r"b\.xyz, after frame 0: not readable as extended XYZ"):
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
