import pytest
from aiida.orm import QueryBuilder, load_node

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.frames import FrameError
from aiida_gaprss.io.extxyz import Keys


def test_attributes_can_be_queried(dataset, silicon_frames):
    dataset.store()
    attributes = dataset.base.attributes.all
    assert attributes["frames"] == len(silicon_frames) == dataset.n_frames
    assert attributes["energies"] == len(silicon_frames)
    assert attributes["virials"] == len(silicon_frames) - 1
    assert attributes["forces"] == 3 * sum(map(len, silicon_frames))
    assert attributes["config_types"] == {"isolated_atom": 1, "random": len(silicon_frames) - 1}
    assert dataset.elements == ["Si"]
    assert dataset.level_of_theory == "Stillinger-Weber"
    query = QueryBuilder().append(Dataset, filters={"attributes.config_types.random": len(silicon_frames) - 1, "id": dataset.pk})
    assert query.count() == 1


def test_frames_come_back_from_the_database(dataset, silicon_frames):
    again = load_node(dataset.store().uuid)
    assert isinstance(again, Dataset)
    assert [a.info["frame_id"] for a in again.get_frames()] == [a.info["frame_id"] for a in silicon_frames]
    frame = again.get_frame("cell-03")
    assert frame.info["REF_energy"] == pytest.approx(silicon_frames[4].info["REF_energy"], abs=1e-8)
    with pytest.raises(KeyError, match="no frame cell-99"):
        again.get_frame("cell-99")


def test_same_frames_same_hash(silicon_frames, copies):
    for atoms in copies:
        atoms.info = dict(reversed(list(atoms.info.items())))
    first, second = Dataset(silicon_frames, "SW").store(), Dataset(copies, "SW").store()
    assert first.base.caching.get_hash() == second.base.caching.get_hash()
    copies[3].info["REF_energy"] += 1e-6
    assert Dataset(copies, "SW").store().base.caching.get_hash() != first.base.caching.get_hash()
    assert Dataset(silicon_frames, "PBE").store().base.caching.get_hash() != first.base.caching.get_hash()


def test_missing_and_doubled_names(copies):
    copies[4].info["frame_id"] = copies[2].info["frame_id"]
    with pytest.raises(FrameError, match="frame_id not unique: cell-01"):
        Dataset(copies)
    del copies[4].info["frame_id"]
    with pytest.raises(FrameError, match=f"frame 5 of {len(copies)} has no frame_id"):
        Dataset(copies)


def test_bad_frames_are_named(copies):
    copies[1].info["REF_energy"] = float("nan")
    with pytest.raises(FrameError, match="frame cell-00: REF_energy is nan"):
        Dataset(copies)


def test_an_empty_dataset():
    node = Dataset([]).store()
    assert node.n_frames == 0
    assert node.get_frames() == []


def test_import_and_export(dataset, tmp_path):
    keys = Keys(energy="energy", forces="forces", stress="stress", stress_unit="GPa")
    dataset.to_file(tmp_path / "a.xyz", keys)
    again = Dataset.from_file(tmp_path / "a.xyz", keys, level_of_theory="Stillinger-Weber")
    assert again.label == "a.xyz"
    for key in ("frames", "atoms", "energies", "forces", "virials", "config_types", "elements"):
        assert again.base.attributes.get(key) == dataset.base.attributes.get(key)
