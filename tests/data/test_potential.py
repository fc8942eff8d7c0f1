import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from aiida.orm import QueryBuilder, User, load_node
from aiida.storage.sqlite_temp import SqliteTempBackend
from aiida.tools.archive import create_archive, import_archive
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from helpers import FIT, tiny_gap

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.calculations.frames import potential_files
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.folder import content_hash
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.gap.quip import QUIPPY_RELEASES, init_args, needs
from aiida_gaprss.sharing.card import card, export


def test_what_it_tells_of_itself(potential, silicon_frames, potential_folder):
    potential.store()
    attributes = potential.base.attributes.all
    assert attributes["elements"] == ["Si"]
    assert attributes["cutoff"] == 4.5
    assert attributes["n_sparse"] == [10, 20]
    assert attributes["e0"]["Si"] == pytest.approx(silicon_frames[0].info["REF_energy"])
    assert [line.split()[0] for line in attributes["descriptors"]] == ["distance_2b", "soap"]
    assert potential.base.attributes.get("gap_version") > 1_500_000_000
    assert potential.files[0] == "gap.xml"
    assert sorted(potential.files) == sorted(p.name for p in potential_folder.glob("gap.xml*") if p.suffix != ".idx")


def test_same_files_same_hash(potential_folder):
    first, second = Potential(potential_folder).store(), Potential(potential_folder).store()
    assert first.base.caching.get_hash() == second.base.caching.get_hash()
    assert first.base.attributes.get("content_hash") == second.base.attributes.get("content_hash")


def test_calculator_predicts_as_the_files_do(potential, gap, silicon_frames, evaluated):
    calculator = load_node(potential.store().pk).calculator()
    for ours, theirs in zip(evaluated(silicon_frames, calculator), evaluated(silicon_frames, gap), strict=True):
        assert ours[0] == pytest.approx(theirs[0], abs=1e-10)
        assert np.allclose(ours[1], theirs[1], atol=1e-10)
        assert np.allclose(ours[2], theirs[2], atol=1e-10)


def test_export_with_the_lines_for_lammps(potential, potential_folder, tmp_path):
    path = potential.to_folder(tmp_path / "new" / "folder")
    for name in potential.files:
        assert (path.parent / name).read_bytes() == (potential_folder / name).read_bytes()
    lines = (path.parent / "lammps.txt").read_text()
    label = re.search(r'<GAP_params label="([^"]+)"', path.read_text())[1]
    assert f'pair_coeff * * gap.xml "Potential xml_label={label}" 14' in lines
    again = Potential(path.parent)
    assert again.base.attributes.get("content_hash") == potential.base.attributes.get("content_hash")


# --- elements and LAMMPS ---


@pytest.fixture(scope="module")
def alloy_folder(fit_with_binary):
    """A potential of two elements: Al and Cu, labelled with EMT."""
    frames = []
    for symbol in ("Al", "Cu"):
        atom = Atoms(symbol, cell=[12.0] * 3, pbc=True)
        atom.info.update(frame_id=f"atom-{symbol}", config_type="isolated_atom")
        fr.set_labels(atom, 0.0 if symbol == "Al" else -0.5, np.zeros((1, 3)), None)
        frames.append(atom)
    random = np.random.default_rng(5)
    for number in range(6):
        atoms = bulk("Cu", cubic=True, a=3.7 + 0.05 * number)
        atoms.symbols[number % 4] = "Al"
        atoms.positions += random.normal(scale=0.1, size=(4, 3))
        atoms.info.update(frame_id=f"cell-{number}", config_type="random")
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        atoms.calc = None
        fr.set_labels(atoms, energy, forces, virial.reshape(9))
        frames.append(atoms)
    folder, log = fit_with_binary(frames)
    assert (folder / "gap.xml").is_file(), log
    return folder


def pair_coeff(lines):
    """Return file, initialisation string and atomic numbers of the one such line, as LAMMPS splits it."""
    (line,) = [line for line in lines.splitlines() if line.startswith("pair_coeff")]
    _, first, second, file, init_args, *numbers = shlex.split(line)
    assert (first, second) == ("*", "*")
    return file, init_args, [int(n) for n in numbers]


def test_lines_for_several_elements(alloy_folder):
    node = Potential(alloy_folder)
    assert node.elements == ["Al", "Cu"]
    assert node.base.attributes.get("e0") == {"Al": 0.0, "Cu": -0.5}
    lines = node.lammps()
    assert pair_coeff(lines) == ("gap.xml", init_args(node.facts), [13, 29])
    assert "in their order: 1 = Al, 2 = Cu" in lines
    assert needs(node.base.attributes.get("gap_version")) in lines
    other = node.lammps(["Cu", "Al"])
    assert pair_coeff(other)[2] == [29, 13]
    assert "1 = Cu, 2 = Al" in other
    assert pair_coeff(node.lammps(["Cu", "Cu"]))[2] == [29, 29], "two types of one element are good LAMMPS"
    with pytest.raises(PotentialError, match="the potential knows Al, Cu, not Si"):
        node.lammps(["Al", "Si"])


@pytest.mark.parametrize("wrapper", ["as written", "none", "another label"])
def test_quip_takes_the_initialisation_string_of_the_lines(alloy_folder, tmp_path, wrapper):
    """LAMMPS hands it to QUIP as it is; here quippy does."""
    folder = shutil.copytree(alloy_folder, tmp_path / "copy")
    text = (folder / "gap.xml").read_text()
    tag = re.search(r"<Potential [^>]*/>", text)[0]
    if wrapper == "none":
        (folder / "gap.xml").write_text(text.replace(tag, ""))
    elif wrapper == "another label":
        (folder / "gap.xml").write_text(text.replace(tag, re.sub(r' label="[^"]*"', ' label="mine"', tag)))
    node = Potential(folder)
    file, arguments_of_lammps, _ = pair_coeff(node.lammps())
    assert (arguments_of_lammps == "Potential xml_label=mine") == (wrapper == "another label")
    script = """
import sys
from ase.build import bulk
from quippy.potential import Potential
atoms = bulk("Cu", cubic=True)
atoms.symbols[0] = "Al"
atoms.calc = Potential(sys.argv[1], param_filename=sys.argv[2])
print("ENERGY", atoms.get_potential_energy())
"""
    energies = []
    for arguments, path in ((arguments_of_lammps, folder / file), ("", alloy_folder / "gap.xml")):
        done = subprocess.run(
            [sys.executable, "-c", script, arguments, path], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        energies.append(float(done.stdout.split("ENERGY")[1]))
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


@pytest.fixture
def anonymous(potential_folder, tmp_path):
    """The folder of a potential whose descriptors name no species, as fits without add_species give."""
    folder = shutil.copytree(potential_folder, tmp_path / "copy")
    text = (folder / "gap.xml").read_text()
    text = re.sub(r"\s*(n_species=1 Z=14 species_Z=\{?14 ?\}?|Z1=14 Z2=14)(?=</descriptor>)", "", text)
    (folder / "gap.xml").write_text(text)
    return folder


TRAINING = """<XYZ_data><![CDATA[
    2
    dft_energy=-1.5 dft_virial={0.0\t0.0\t0.0\t0.0\t0.0\t0.0\t0.0\t0.0\t0.0} Properties=species:S:1:pos:R:3
    Si 0.0 0.0 0.0
    Si 2.3 0.0 0.0
    1
    Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3
    Si 0.0 0.0 0.0
]]></XYZ_data></GAP_params>"""


def test_elements_of_a_file_whose_descriptors_do_not_name_them(anonymous, potential_folder):
    with pytest.raises(PotentialError, match=r"does not tell its elements.*--elements Mo"):
        Potential(anonymous)
    assert Potential(anonymous, elements=["Si"]).elements == ["Si"]
    assert Potential(anonymous, elements=["Si"]).base.attributes.get("embedded") is None
    with pytest.raises(PotentialError, match="a potential of other elements, not of Xx"):
        Potential(anonymous, elements=["Xx"])
    with pytest.raises(PotentialError, match="a potential of Si, not of Ge"):
        Potential(potential_folder, elements=["Ge"])
    text = (anonymous / "gap.xml").read_text()
    (anonymous / "gap.xml").write_text(text.replace("</GAP_params>", TRAINING))
    node = Potential(anonymous)
    assert node.elements == ["Si"]
    assert node.base.attributes.get("embedded") == {"frames": 2, "atoms": 3, "elements": ["Si"]}
    (anonymous / "gap.xml").write_text(text.replace("</GAP_params>", TRAINING.replace("Si 2.3", "2.3 Si")))
    with pytest.raises(PotentialError, match="does not tell its elements"):
        Potential(anonymous)


def test_which_gap_it_needs():
    (old, first), (new, second) = QUIPPY_RELEASES.items()
    assert needs(old) == f"GAP version {old} (2023-06-08) or newer; quippy-ase {first} and later have it"
    assert f"quippy-ase {first} and later" in needs(old - 1)
    assert f"quippy-ase {second} and later" in needs(old + 1)
    assert f"quippy-ase {second} and later" in needs(new)
    assert f"a quippy-ase later than {second}" in needs(new + 1)
    assert needs(0) == "any GAP (the file names no version)"


# --- files that are not as they should be ---


@pytest.fixture
def folder(potential_folder, tmp_path):
    return shutil.copytree(potential_folder, tmp_path / "copy")


def test_another_name_of_the_xml(folder):
    (folder / "gap.xml").rename(folder / "silicon.xml")
    node = Potential(folder, "silicon.xml")
    assert node.main == "silicon.xml"
    assert node.calculator() is not None


def test_missing_files(folder, tmp_path):
    sparse = next(p for p in folder.glob("gap.xml.sparseX.*") if p.suffix != ".idx")
    sparse.unlink()
    with pytest.raises(PotentialError, match=rf"its sparse-point file {re.escape(sparse.name)} is not beside it"):
        Potential(folder)
    with pytest.raises(PotentialError, match=r"other\.xml: no such file"):
        Potential(folder, "other.xml")
    with pytest.raises(PotentialError, match="needs the folder"):
        Potential()


@pytest.mark.parametrize(("text", "message"), [("no xml at all", "not an xml file"), ("<Potential/>", "holds no GAP")])
def test_files_that_are_no_potential(folder, text, message):
    (folder / "gap.xml").write_text(text)
    with pytest.raises(PotentialError, match=message):
        Potential(folder)


def test_a_potential_of_a_newer_gap(folder):
    text = (folder / "gap.xml").read_text()
    made_by = re.search(r'gap_version="(\d+)"', text)[1]  # gap_fit and quippy are of one installation
    (folder / "gap.xml").write_text(re.sub(r'gap_version="\d+"', 'gap_version="1999999999"', text))
    node = Potential(folder)
    here = Path.cwd()
    with pytest.raises(PotentialError, match=r"newer GAP \(version 1999999999\).*install a newer quippy-ase"):
        node.calculator()
    for _ in range(5):  # what follows QUIP's message in its buffer differs, and is not always text
        with pytest.raises(PotentialError, match=rf"than the quippy here \({made_by}\); install a newer quippy-ase"):
            node.calculator()
    assert Path.cwd() == here, "quippy goes to the folder of the xml, and stays there when it fails"


def test_a_message_of_quip_that_is_not_all_text(potential, monkeypatch):
    """As it comes now and then, for the same file."""
    buffer = b"Database was created with a later version of the code.Version of current code is 1686220958. Update.\x01\xc1\x7f"

    class Refusing:
        def Potential(self, *args, **kwargs):
            buffer.decode()

    monkeypatch.setattr("aiida_gaprss.models.gap.quip.import_module", lambda name: Refusing())
    with pytest.raises(PotentialError, match=r"than the quippy here \(1686220958\)"):
        potential.calculator()


def test_a_potential_that_quippy_cannot_read(folder):
    text = (folder / "gap.xml").read_text()
    (folder / "gap.xml").write_text(text.replace("soap cutoff", "soup cutoff"))
    with pytest.raises(PotentialError, match="quippy cannot read this potential"):
        Potential(folder).calculator()


TWO_BASES = """
import sys
from aiida.manage.configuration import load_profile
from aiida.storage.sqlite_temp import SqliteTempBackend
from ase.build import bulk
from quippy.potential import Potential as Quip

load_profile(SqliteTempBackend.create_profile("two-bases"))
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError

def energy(calculator):
    atoms = bulk("Si")
    atoms.calc = calculator
    return atoms.get_potential_energy()

first, second = sys.argv[1:]
print("FIRST", energy(Potential(first).calculator()))
try:
    Potential(second).calculator()
    print("REFUSED", "not at all")
except PotentialError as error:
    print("REFUSED", error)
print("SECOND", energy(Quip(param_filename=second + "/gap.xml")))
"""


def test_a_second_soap_turbo_basis_is_refused_where_quippy_is_silently_wrong(silicon_frames, fit_with_binary):
    folders = []
    for cutoff in (4.0, 5.0):
        turbo = {"kind": "soap_turbo", "cutoff": cutoff, "n_sparse": 20, "n_max": 4, "l_max": 2}
        folder, log = fit_with_binary(silicon_frames, {**FIT, "descriptors": [turbo]})
        assert (folder / "gap.xml").is_file(), log
        folders.append(str(folder))
    energies = []
    for order in (folders, folders[::-1]):
        done = subprocess.run([sys.executable, "-c", TWO_BASES, *order], capture_output=True, text=True, check=True)
        lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("FIRST", "SECOND", "REFUSED")))
        assert "another basis" in lines["REFUSED"]
        energies.append((float(lines["FIRST"]), float(lines["SECOND"])))
    # The fault itself: the same potential alone and as the second one. If quippy is mended one day, the refusal can go.
    assert abs(energies[0][1] - energies[1][0]) > 0.01


# --- a folder holds one potential, whole ---


def test_a_folder_is_not_written_over_unasked(tmp_path):
    node = Potential(tiny_gap(tmp_path / "gap"))
    folder = tmp_path / "out"
    node.to_folder(folder)
    (folder / "gap.xml").write_text("mine")
    (folder / "notes.txt").write_text("mine, too")
    with pytest.raises(PotentialError, match=r"out holds gap\.xml, gap\.xml\.sparseX\.GAP_tiny1, lammps\.txt already.*--force"):
        node.to_folder(folder)
    assert (folder / "gap.xml").read_text() == "mine"
    node.to_folder(folder, force=True)
    assert Potential(folder).base.attributes.get("content_hash") == node.base.attributes.get("content_hash")
    assert (folder / "notes.txt").read_text() == "mine, too"


def test_two_potentials_are_not_mixed(tmp_path, potential):
    tiny, folder = Potential(tiny_gap(tmp_path / "gap")), tmp_path / "out"
    potential.to_folder(folder)
    with pytest.raises(PotentialError, match="already"):
        tiny.to_folder(folder)
    tiny.to_folder(folder, force=True)  # the same name of the xml: the other one is replaced whole
    assert sorted(p.name for p in folder.iterdir()) == ["gap.xml", "gap.xml.sparseX.GAP_tiny1", "lammps.txt"]
    (folder / "gap.xml").rename(folder / "old.xml")
    for force in (False, True):
        with pytest.raises(PotentialError, match=r"old\.xml"):
            potential.to_folder(folder, force=force)
    assert sorted(p.name for p in folder.iterdir()) == ["gap.xml.sparseX.GAP_tiny1", "lammps.txt", "old.xml"]


def test_an_export_of_other_names_is_replaced_whole(tmp_path, potential):
    """Its card tells which files are its."""
    folder = tiny_gap(tmp_path / "gap")
    (folder / "gap.xml").rename(folder / "tiny.xml")
    export(Potential(folder, "tiny.xml"), tmp_path / "out")
    with pytest.raises(PotentialError, match=r"tiny\.xml already"):
        export(potential, tmp_path / "out")
    export(potential, tmp_path / "out", force=True)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {*potential.files, "lammps.txt", "card.md", "card.json"}


def test_a_failure_leaves_nothing_half(tmp_path, monkeypatch):
    node = Potential(tiny_gap(tmp_path / "gap"))
    written = Path.write_bytes

    def full(path, content):
        if path.name == "lammps.txt":
            raise OSError(28, "No space left on device")
        return written(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PotentialError, match="out: cannot be written: No space left on device"):
        node.to_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- nodes that never passed the constructor ---


def everything(folder):
    """Return all that lies in a folder, by name."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


CODE = b"open('touched', 'w').write('executed')\n"


def elsewhere(name):
    """Return files of a potential of which one is named so, in the xml, too."""

    def files(right):
        xml = right["gap.xml"].replace(b'"gap.xml.sparseX.GAP_tiny1"', f'"{name}"'.encode())
        xml = re.sub(b' sparseX_md5sum="[^"]*"', b"", xml)
        return {"gap.xml": xml, name: CODE if name.endswith("py") else right["gap.xml.sparseX.GAP_tiny1"]}

    return files


def entity(right):
    return {**right, "gap.xml": b'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + right["gap.xml"]}


def other_points(right):
    return {**right, "gap.xml.sparseX.GAP_tiny1": b"2.0\n2.6\n3.0\n"}


#: Files and attributes of a node in an archive that was made by hand, and what is said of them.
ARCHIVED = {
    "runner": (elsewhere("../batch.py"), {}, r"sparseX_filename is '\.\./batch\.py', expected a plain file name"),
    "two up": (elsewhere("../../x"), {}, r"sparseX_filename is '\.\./\.\./x', expected a plain file name"),
    "absolute": (elsewhere("/tmp/gaprss-outside"), {}, "sparseX_filename is '/tmp/gaprss-outside', expected a plain file name"),
    "name of the xml": (dict, {"main": "../gap.xml"}, r"name of the xml is '\.\./gap\.xml', expected a plain file name"),
    "of an older version": (
        dict,
        {"main": None, "xml": "../gap.xml"},
        r"name of the xml is '\.\./gap\.xml', expected a plain file name",
    ),
    "list of files": (dict, {"files": ["gap.xml", "../batch.py"]}, "its files are said to be"),
    "points": (other_points, {}, "another md5 sum than the xml says"),
    "hash": (dict, {"content_hash": "0" * 64}, "do not have the content hash that the node tells"),
    "entity": (entity, {}, "begins a document type"),
    "a line of LAMMPS": (dict, {"init_args": 'x"\nshell touch pwned\n"'}, "its init_args is said to be"),
    "label without the string": (dict, {"init_args": None, "label": 'x"\nshell touch pwned'}, "its (init_args|label) is said"),
    "cutoff": (dict, {"cutoff": 99.0}, "its cutoff is said to be 99.0, and its files say 4.5"),
    "elements": (dict, {"elements": ["\x1b[31m"]}, "its elements are said to be"),
}


@pytest.fixture
def archive(tmp_path):
    """An archive with nodes that were written past everything that checks, in a profile of somebody else."""
    folder = tiny_gap(tmp_path / "gap")
    right = {name: (folder / name).read_bytes() for name in ("gap.xml", "gap.xml.sparseX.GAP_tiny1")}
    other = SqliteTempBackend(SqliteTempBackend.create_profile("somebody-else"))
    user = User(email="somebody@else", backend=other).store()
    nodes, repository = [], other.get_repository()
    for label, (change, attributes, _) in {**ARCHIVED, "right": (dict, {}, "")}.items():
        files = change(right)
        node = Potential(folder, backend=other, user=user)
        node.label = label
        node.base.attributes.set_many({"files": list(files), "content_hash": content_hash(files), **attributes})
        node.store()
        keys = {name: {"k": repository.put_object_from_filelike(io.BytesIO(content))} for name, content in files.items()}
        session = other.get_session()
        row = session.get(node.backend_entity.MODEL_CLASS, node.pk)
        row.repository_metadata = {"o": keys}
        session.commit()
        nodes.append(node)
    create_archive(nodes, filename=tmp_path / "strange.aiida", backend=other, test_run=False)
    return tmp_path / "strange.aiida"


def test_an_archive_made_by_hand(archive, tmp_path, run, python_code, monkeypatch):
    """Import, export, evaluate: nothing outside is touched, and the message names the node and the name."""
    import_archive(archive)
    place = tmp_path / "a" / "b"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    before = everything(tmp_path)
    cell = bulk("Cu")
    cell.info = {"frame_id": "cell", "config_type": "bulk"}
    for label, (_, _, message) in ARCHIVED.items():
        (node,) = QueryBuilder().append(Potential, filters={"label": label}).all(flat=True)
        where = rf"potential <{node.pk}>: .*{message}"
        uses = (node.check, node.checked_files, node.calculator, node.lammps, partial(card, node), partial(export, node, "out"))
        for use in uses:
            with pytest.raises(PotentialError, match=where):
                use()
        with pytest.raises(ValueError, match=where):
            run(EvaluateCalculation, code=python_code, frames=Dataset([cell]), potential=node)
        with pytest.raises(PotentialError, match=where):
            potential_files(node)
    assert everything(tmp_path) == before
    assert not Path("/tmp/gaprss-outside").exists()
    (node,) = QueryBuilder().append(Potential, filters={"label": "right"}).all(flat=True)
    export(node, "out")
    assert sorted(os.listdir("out")) == ["card.json", "card.md", "gap.xml", "gap.xml.sparseX.GAP_tiny1", "lammps.txt"]
    outputs, job = run(EvaluateCalculation, code=python_code, frames=Dataset([cell]), potential=node)
    assert job.is_finished_ok, job.exit_message
    assert outputs["frames"].get_frames()[0].info["PRED_energy"] == pytest.approx(energy_of(node.calculator(), cell))


def energy_of(calculator, cell):
    atoms = cell.copy()
    atoms.calc = calculator
    return atoms.get_potential_energy()
