"""Our nodes by AiiDA's own means: ``verdi data``, ``node.export``, ``fields``."""

import csv
import json

import numpy as np
import pytest
from aiida.cmdline.commands.cmd_verdi import verdi as verdi_command
from aiida.common.log import configure_logging
from aiida.orm import QueryBuilder
from ase.db import connect
from ase.io import read
from click.testing import CliRunner
from helpers import tiny_gap

from aiida_gaprss.cli import cli
from aiida_gaprss.cli.nodes import dataset as our_dataset
from aiida_gaprss.cli.potentials import potential as our_potential
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import Level
from aiida_gaprss.models.base import PotentialError


@pytest.fixture
def verdi(aiida_profile):
    """Call ``verdi``; return its exit code and what it printed."""

    def verdi(*words):
        try:
            done = CliRunner().invoke(verdi_command, [str(word) for word in words])
        finally:
            configure_logging(with_orm=True)  # AiiDA's commands take the handler away that stores reports
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return verdi


@pytest.fixture
def gap(tmp_path):
    return Potential(tiny_gap(tmp_path / "gap"))


# --- verdi data ---


def test_the_same_commands(verdi):
    """One for one, those that other modules add, too."""
    for name, group in (("dataset", our_dataset), ("potential", our_potential)):
        code, text = verdi("data", f"gaprss.{name}", "--help")
        assert code == 0
        assert cli.commands[name] is group
        for command in group.commands:
            assert f"\n  {command} " in text


def test_list_show_export(verdi, dataset, tmp_path):
    dataset.label = "my silicon"
    dataset.store()
    code, text = verdi("data", "gaprss.dataset", "list")
    assert code == 0
    assert "my silicon" in text
    assert "random 14" in verdi("data", "gaprss.dataset", "show", dataset.pk)[1]
    code, text = verdi("data", "gaprss.dataset", "export", dataset.pk, tmp_path / "a.xyz")
    assert (code, text) == (0, f"{tmp_path / 'a.xyz'}: 15 frames\n")
    assert len(read(tmp_path / "a.xyz", ":")) == 15
    code, text = verdi("data", "gaprss.dataset", "export", dataset.pk, tmp_path / "a.xyz")
    assert code == 1
    assert "Error: " in text
    assert "is there already; --force writes over it" in text


def test_a_potential(verdi, gap, tmp_path):
    gap.store()
    code, text = verdi("data", "gaprss.potential", "export", gap.pk, tmp_path / "out")
    assert code == 0, text
    assert (tmp_path / "out" / "card.md").is_file()
    code, text = verdi("data", "gaprss.potential", "import", tmp_path / "nothing.xml")
    assert code == 1
    assert "Error: " in text
    assert "no such file" in text


def test_the_profile_that_verdi_is_told(verdi, dataset, aiida_profile):
    dataset.store()
    code, text = verdi("-p", aiida_profile.name, "data", "gaprss.dataset", "show", dataset.pk)
    assert code == 0, text
    assert "Stillinger-Weber" in text


# --- the command, in all formats ---


def test_export_by_the_ending(call, dataset, silicon_frames, tmp_path):
    pk = dataset.store().pk
    energies = [round(a.info["REF_energy"], 8) for a in silicon_frames]
    for name in ("a.xyz", "a.db", "a.csv", "a.json"):
        assert f"{name}: 15 frames" in call("dataset", "export", pk, tmp_path / name)
    assert [a.info["REF_energy"] for a in read(tmp_path / "a.xyz", ":")] == energies
    assert [row.energy for row in connect(tmp_path / "a.db").select()] == energies
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["energy_eV"]) for row in rows] == energies
    cells = [e / len(a) for e, a in zip(energies[1:], silicon_frames[1:], strict=True)]
    assert [float(row["above_hull_eV_per_atom"]) for row in rows[1:]] == pytest.approx([e - min(cells) for e in cells], abs=1e-9)
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["dataset"] == dataset.uuid
    assert [frame["labels"]["energy"] for frame in told["frames"]] == energies
    call("dataset", "export", pk, tmp_path / "b.xyz", "--format", "colabfit")
    assert [a.get_potential_energy() for a in read(tmp_path / "b.xyz", ":")] == energies


def test_what_export_refuses(call, dataset, tmp_path):
    pk = dataset.store().pk
    assert "its ending says no format; expected .xyz" in call("dataset", "export", pk, tmp_path / "frames", ok=False)
    text = call("dataset", "export", pk, tmp_path / "a.csv", "--energy", "e", "--stress-sign", -1, ok=False)
    assert "--energy, --stress-sign: only for extxyz, not for csv" in text
    call("dataset", "export", pk, tmp_path / "frames", "--format", "csv")
    assert "is there already; --force" in call("dataset", "export", pk, tmp_path / "frames", "--format", "db", ok=False)
    call("dataset", "export", pk, tmp_path / "frames", "--format", "db", "--force")
    assert connect(tmp_path / "frames", type="db").count() == 15
    assert "is a folder, expected a file" in call("dataset", "export", pk, tmp_path, "--format", "csv", "--force", ok=False)
    assert "cannot be written: No such file" in call("dataset", "export", pk, tmp_path / "no" / "a.csv", ok=False)


def test_a_file_is_written_whole_or_not_at_all(dataset, tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ValueError, match=r"a\.csv: cannot be written: No space left on device"):
        dataset.export(path, overwrite=True)
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]


def test_where_a_link_leads(dataset, tmp_path):
    (tmp_path / "there.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to("there.csv")
    dataset.export(tmp_path / "link.csv", overwrite=True)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text().startswith("frame_id,")


# --- node.export ---


def test_nodes_are_exported_as_others_of_aiida(dataset, gap, tmp_path):
    path = str(tmp_path / "a.json")
    assert dataset.export(path) == [path]
    with pytest.raises(ValueError, match="is there already"):
        dataset.export(path)
    assert dataset.export(path, "csv", overwrite=True) == [path]
    with pytest.raises(ValueError, match=r"The format cif is not implemented for Dataset\. Currently .*: colabfit,csv,db"):
        dataset.export(tmp_path / "a.cif", "cif")
    written = gap.export(tmp_path / "out")
    assert sorted(written) == sorted(str(tmp_path / "out" / name) for name in [*gap.files, "lammps.txt"])
    with pytest.raises(PotentialError, match="already"):
        gap.export(tmp_path / "out")
    gap.export(tmp_path / "out", "folder", overwrite=True)
    with pytest.raises(PotentialError, match="no format 'tar' of a potential; there is folder"):
        gap.export(tmp_path / "other", "tar")
    content, beside = gap._exportcontent("folder", main_file_name=str(tmp_path / "other" / "gap.xml"))
    assert {**beside, str(tmp_path / "other" / "gap.xml"): content} == {
        str(tmp_path / "other" / name): text for name, text in gap.checked_files().items()
    }


# --- fields ---


def attributes_of(kind):
    return {key for key, field in kind.fields._dict.items() if field.backend_key.startswith("attributes.")} - {"source"}


def test_fields_are_the_attributes_of_a_new_node(dataset, silicon_frames, gap):
    whole = Dataset(silicon_frames, Level("CASTEP"))
    assert attributes_of(Dataset) == set(whole.base.attributes.all)
    assert attributes_of(Dataset) - set(dataset.base.attributes.all) == {"level"}
    of_others = {"xml", "terms", "card_of_origin"}  # of older nodes, sums, imported ones
    assert attributes_of(Potential) - of_others == set(gap.base.attributes.all) - of_others - {"label"}
    assert Potential.fields.label.backend_key == "label", "that of the node"


def test_fields_have_the_types_of_the_attributes(dataset, gap):
    for node in (dataset, gap):
        for key, value in node.base.attributes.all.items():
            if value is not None and key != "label":
                kind = type(node).fields[key].dtype
                assert isinstance(value, kind), f"{key}: {value!r} is no {kind}"
        told = node.store().serialize()["attributes"]
        assert {key: told[key] for key in node.base.attributes.all} == node.base.attributes.all


def test_fields_in_queries(dataset, silicon_frames, gap):
    pk, other = dataset.store().pk, Dataset(silicon_frames, Level("CASTEP")).store().pk
    fields = Dataset.fields

    def found(condition):
        return set(QueryBuilder().append(Dataset, filters=condition, project="id").all(flat=True)) & {pk, other}

    assert found(fields.elements.contains(["Si"])) == {pk, other}
    assert found(fields.elements.contains(["Si", "C"])) == set()
    assert found((fields.energies > 14) & (fields.level_of_theory == "Stillinger-Weber")) == {pk}
    assert found(fields.level["code"] == "CASTEP") == {other}
    assert found(fields.config_types.has_key("isolated_atom")) == {pk, other}
    assert found(fields.config_types["random"] > 14) == set()
    node = gap.store()
    filters = (Potential.fields.cutoff < 5.0) & Potential.fields.elements.contains(["Cu"])
    assert node.pk in QueryBuilder().append(Potential, filters=filters, project="id").all(flat=True)


def test_nodes_of_older_versions(silicon_frames):
    """They lack attributes, and are read, told and exported."""
    node = Dataset(silicon_frames, "SW")
    for key in ("energy_zero", "units_version", "virials"):
        node.base.attributes.delete(key)
    node.store()
    assert node.serialize()["attributes"]["virials"] is None
    content, _ = node._exportcontent("json")
    assert json.loads(content)["energy_zero"] == "as computed"
    assert np.allclose([a.info["REF_energy"] for a in node.get_frames()], [a.info["REF_energy"] for a in silicon_frames])
