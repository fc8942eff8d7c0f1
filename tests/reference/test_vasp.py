"""Labels from VASP: what is sent, and what is read from recorded output, by the real plugin."""

import gzip
import io
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import recorded
from aiida.common import AttributeDict
from aiida.engine import PortNamespace
from aiida.orm import Dict, Float, List, Str, StructureData, load_node
from ase import Atoms
from ase.io import read as ase_read
from ase.units import GPa
from helpers import assert_cats, assert_labels, three_cells

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.reference import set_sorted_labels, vasp
from aiida_gaprss.reference.common import one_line
from aiida_gaprss.workflows.label import LabelWorkChain

pytest.importorskip("aiida_vasp", reason="needs pip install 'aiida-vasp>=5.1'")
pytestmark = pytest.mark.usefixtures("all_calculated")

PARAMETERS = {"ENCUT": 500.0, "EDIFF": 1e-6, "ISMEAR": 0, "SIGMA": 0.05}

#: What stands in recorded.SIC_OUTCAR, by element and number.
C1, C2, SI1, SI2 = [0.11, -0.12, 0.13], [0.21, -0.22, 0.23], [-0.31, 0.32, -0.33], [-0.01, 0.02, -0.03]


def silicon_carbide():
    """Return the cell of ``recorded.SIC_VASPRUN``, its atoms in the order Si1, C1, Si2, C2."""
    atoms = three_cells()["sicsic"]
    atoms.info["frame_id"] = "sic"
    return atoms


@pytest.fixture
def read(parsed):
    """Return the outputs of the plugin's parser for the files of a calculation."""

    def read(files, atoms):
        return parsed(
            "vasp.vasp",
            files,
            {
                "structure": StructureData(ase=atoms),
                "parameters": Dict({"encut": 500.0, **vasp.SET_HERE}),
                "settings": Dict(vasp.PLUGIN_SETTINGS),
            },
            {},
        )

    return read


@pytest.fixture
def labelled(read):
    """Return the frame with the labels of recorded files, which are those of its sorted structure."""

    def labelled(files, atoms=None):
        atoms = silicon_carbide() if atoms is None else atoms
        outputs, _ = read(files, atoms[np.argsort(atoms.numbers, kind="stable")])
        set_sorted_labels(vasp, outputs, atoms)
        return atoms

    return labelled


def changed(*changes):
    """Return the recorded files with some text replaced: (file, old, new)."""
    files = dict(recorded.SIC_VASP)
    for name, old, new in changes:
        assert old in files[name]
        files[name] = files[name].replace(old, new)
    return files


# --- what is read ---


def test_forces_are_on_the_right_atoms(labelled):
    assert np.allclose(labelled(recorded.SIC_VASP).arrays["REF_forces"], [SI1, C1, SI2, C2])


@pytest.mark.parametrize("name", ["sicsic", "csi", "atom"])
def test_three_cells(labelled, name, tmp_path):
    """The cells that pw.x labels for real (tests/workflows/test_label_espresso.py), here from vasprun.xml files."""
    cells = three_cells()
    text, energy, forces, pressure = {
        "sicsic": (recorded.SIC_VASPRUN, -30.12345678, [SI1, C1, SI2, C2], 22.222),
        "csi": (
            recorded.vasprun_of(cells["csi"], -15.25, recorded.CSI_FORCES, recorded.CSI_STRESS),
            -15.25,
            recorded.CSI_FORCES,
            152.2,
        ),
        "atom": (recorded.vasprun_of(cells["atom"], -0.875, [[0.0] * 3], [[0.0] * 3] * 3), -0.875, [[0.0] * 3], None),
    }[name]
    files = {**recorded.SIC_VASP, "vasprun.xml": text}
    cell = labelled(files, cells[name])
    (tmp_path / "vasprun.xml").write_text(text)
    theirs = ase_read(tmp_path / "vasprun.xml", format="vasp-xml")
    assert_labels(cell, energy, forces, pressure, theirs, rel=1e-4)
    if name == "csi":
        other = labelled(files, cell[[1, 0]])
        assert np.allclose(other.arrays["REF_forces"], recorded.CSI_FORCES[::-1])


def test_the_order_is_that_of_vasp(labelled):
    """Atoms that came back in another order than they were sent are no labels."""
    rows = ["    <rc><c>C </c><c>   1</c></rc>\n", "    <rc><c>Si</c><c>   2</c></rc>\n"]
    files = changed(("vasprun.xml", 2 * rows[0] + 2 * rows[1], rows[1] + 2 * rows[0] + rows[1]))
    with pytest.raises(ValueError, match="VASP was sent C C Si Si, but its 4 forces are of Si C C Si"):
        labelled(files)


def test_a_compressed_cell_has_negative_stress_and_positive_virial(labelled):
    virial = labelled(recorded.SIC_VASP).info["REF_virial"].reshape(3, 3)
    volume = 2.9 * 2.9 * 4.1
    # The OUTCAR says: external pressure 222.22 kB, XX 211.11, YZ -35.0; 1602.1766 kB are 1 eV/Å³.
    assert np.trace(virial) == pytest.approx(3 * 222.22 / 1602.1766 * volume, rel=1e-4)
    assert virial[0, 0] == pytest.approx(211.11 / 1602.1766 * volume, rel=1e-6)
    assert virial[1, 2] == virial[2, 1] == pytest.approx(-35.0 / 1602.1766 * volume, rel=1e-6)


def test_the_energy_is_the_free_energy(labelled):
    # "free  energy   TOTEN  =       -30.12345678 eV"; the plugin's default would be energy(sigma->0), -30.07345678.
    assert labelled(recorded.SIC_VASP).info["REF_energy"] == -30.12345678


@pytest.mark.parametrize(("file", "form"), [("OUTCAR", "vasp-out"), ("vasprun.xml", "vasp-xml")])
def test_ase_reads_the_same(labelled, tmp_path, file, form):
    (tmp_path / file).write_text(recorded.SIC_VASP[file])
    theirs = ase_read(tmp_path / file, format=form)
    assert theirs.get_chemical_symbols() == ["C", "C", "Si", "Si"]
    ours = labelled(recorded.SIC_VASP)
    order = np.argsort(ours.numbers, kind="stable")
    assert np.allclose(ours.positions[order], theirs.positions, atol=1e-5)
    assert np.allclose(ours.arrays["REF_forces"][order], theirs.get_forces(), atol=1e-9)
    assert ours.info["REF_energy"] == pytest.approx(theirs.get_potential_energy(force_consistent=True), abs=1e-9)
    stress = -ours.info["REF_virial"].reshape(3, 3) / ours.get_volume()
    assert np.allclose(stress, theirs.get_stress(voigt=False), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # As many steps as were allowed: VASP goes on as if nothing were wrong.
        ([("OUTCAR", "NELM   =     60", "NELM   =      2")], "the SCF is not converged"),
        ([("OUTCAR", " General timing and accounting informations for this job:", "")], "VASP did not come to its end"),
        ([("vasprun.xml", 'varray name="stress"', 'varray name="tension"')], "VASP printed no stress"),
        ([("vasprun.xml", 'varray name="forces"', 'varray name="faces"')], "VASP printed no forces"),
        ([("vasprun.xml", "e_fr_energy", "e_my_energy")], r"the free energy \(TOTEN\) was not read"),
    ],
)
def test_what_is_no_label(labelled, changes, message):
    with pytest.raises(ValueError, match=message):
        labelled(changed(*changes))


@pytest.fixture
def recorded_vasp(data):
    """Files of a recorded calculation of two silicon atoms, VASP 5.4.4, from the tests of aiida-vasp."""

    def recorded_vasp(name):
        folder = data / "vasp" / name
        names = [*recorded.SIC_VASP]
        return {name: gzip.decompress((folder / f"{name}.gz").read_bytes()).decode() for name in names}

    return recorded_vasp


def test_a_real_output(recorded_vasp, read, tmp_path):
    files = recorded_vasp("converged")
    (tmp_path / "OUTCAR").write_text(files["OUTCAR"])
    theirs = ase_read(tmp_path / "OUTCAR", format="vasp-out")
    outputs, status = read(files, theirs)
    assert status == 0
    energy, forces, stress = vasp.labels(outputs, ["Si", "Si"])
    assert energy == -6.50214658
    assert vasp.seconds(outputs) == 8.668, "Elapsed time"
    assert np.allclose(forces, [[-6.096355, 11.337138, -7.021623], [6.096355, -11.337138, 7.021623]], atol=1e-6)
    # "in kB      13.37991   544.49046   255.28119  -198.81087  -417.05080   161.62424": xx yy zz xy yz zx
    expected = [[13.37991, -198.81087, 161.62424], [-198.81087, 544.49046, -417.05080], [161.62424, -417.05080, 255.28119]]
    assert np.allclose(stress, -np.array(expected) / 1602.1766, rtol=1e-5)
    assert np.trace(stress) / 3 == pytest.approx(-27.105 * GPa, rel=1e-4)
    assert energy == pytest.approx(theirs.get_potential_energy(force_consistent=True), abs=1e-9)
    assert np.allclose(forces, theirs.get_forces(), atol=1e-6)
    assert np.allclose(stress, theirs.get_stress(voigt=False), atol=1e-7)


@pytest.mark.parametrize(
    ("name", "message"), [("elec-unconverged", "the SCF is not converged"), ("unfinished", "VASP did not come to its end")]
)
def test_real_outputs_without_labels(recorded_vasp, read, name, message):
    outputs, status = read(recorded_vasp(name), Atoms("Si2", positions=[(0, 0, 0), (1, 1, 1)], cell=[4] * 3, pbc=True))
    assert status != 0, "the plugin sees it, too"
    with pytest.raises(ValueError, match=message):
        vasp.labels(outputs, ["Si", "Si"])


# --- what is sent ---


@pytest.fixture
def potentials(tmp_path, aiida_profile):
    """A family of files that hold what aiida-vasp reads of a POTCAR."""
    from aiida_vasp.data.potcar import PotcarData

    for name, element in (("C", "C"), ("Si", "Si"), ("Si_sv", "Si")):
        folder = tmp_path / "by_hand" / name
        folder.mkdir(parents=True)
        (folder / "POTCAR").write_text(recorded.potcar(name if name == element else f"{element}_sv"))
    PotcarData.upload_potcar_family(tmp_path / "by_hand", "by_hand", "for tests", stop_if_existing=False)


@pytest.fixture
def inputs(potentials):
    """Return the inputs of the reference without a program."""
    return {
        "parameters": Dict(PARAMETERS),
        "potential_family": Str("by_hand"),
        "potential_mapping": Dict({"C": "C", "Si": "Si"}),
        "kpoint_spacing": Float(0.07),
    }


@pytest.fixture
def registry(tmp_path):
    """Folder of the cases that mock-vasp answers: it compares its input files with theirs, value by value."""

    def add(name, incar, files):
        kpoints = "Γ-centred, at most 0.07/Å apart\n0\nGamma\n5 5 4\n0 0 0\n"
        poscar = recorded.SIC_CONTCAR.replace("sic\n", "another comment\n")
        for part, content in (("inp", {"INCAR": incar, "KPOINTS": kpoints, "POSCAR": poscar}), ("out", files)):
            folder = tmp_path / "registry" / name / part
            folder.mkdir(parents=True)
            for file, text in content.items():
                (folder / file).write_text(text)

    add.folder = tmp_path / "registry"
    return add


@pytest.fixture
def code(registry, aiida_code_installed, aiida_localhost):
    """Return the mock program of aiida-vasp."""
    return aiida_code_installed(
        label=f"mock-vasp-{registry.folder.parent.name}",
        computer=aiida_localhost,
        default_calc_job_plugin="vasp.vasp",
        filepath_executable=str(Path(sys.executable).parent / "mock-vasp"),
        prepend_text=f"export MOCK_VASP_REG_BASE={registry.folder}",
        with_mpi=False,
    )


INCAR = "ENCUT = 500.0\nEDIFF = 1e-06\nISMEAR = 0\nSIGMA = 0.05\nNSW = 0\nIBRION = -1\nISIF = 2\n"


@pytest.mark.slow
def test_frames_through_the_work_chain(run, registry, inputs, code):
    """Four calculations by aiida-vasp's work chain; the mock program answers only if it is sent exactly what is expected."""
    unknown = silicon_carbide()
    unknown.positions[0] += 0.1
    unknown.info["frame_id"] = "unknown"

    registry("first", INCAR, changed(("OUTCAR", "NELM   =     60", "NELM   =      2")))
    registry("second", INCAR + "ALGO = All\n", recorded.SIC_VASP)
    inputs |= {"code": code, "retries": List([{"algo": "All"}])}
    outputs, node = run(
        LabelWorkChain, frames=Dataset([silicon_carbide(), unknown]), vasp=inputs, max_concurrent=1, max_failed_fraction=0.5
    )
    assert node.is_finished_ok, node.exit_message
    cell, unknown = outputs["frames"].get_frames()
    assert cell.info["label_status"] == "ok"
    assert cell.info["label_attempt"] == 2
    assert cell.get_chemical_symbols() == ["Si", "C", "Si", "C"]
    assert np.allclose(cell.arrays["REF_forces"], [SI1, C1, SI2, C2])
    assert cell.info["REF_energy"] == -30.12345678
    assert cell.info["REF_virial"][0] == pytest.approx(211.11 / 1602.1766 * 2.9 * 2.9 * 4.1, rel=1e-6)
    assert load_node(cell.info["label_uuid"]).process_label == "VaspCalculation"
    assert not fr.is_labelled(unknown)
    assert unknown.info["label_status"] == "failed: an object that is marked by the parser as critical is missing. (attempt 2)"
    level = outputs["frames"].level_of_theory
    assert re.fullmatch(
        r"VASP; ediff 1e-06, encut 500, ismear 0, sigma 0.05; kpoint spacing 0.07; C C \w{8}, Si Si \w{8}", level
    ), level


def test_bundled_frames(run, registry, inputs, code, python_code):
    """Many in one job: the mock program gets the same input as one by one, labels are the same, and no POTCAR is passed on."""
    unknown = silicon_carbide()
    unknown.positions[0] += 0.1
    unknown.info["frame_id"] = "unknown"
    registry("only", INCAR, recorded.SIC_VASP)
    inputs["code"] = code
    frames = Dataset([silicon_carbide(), unknown])
    outputs, node = run(LabelWorkChain, frames=frames, vasp=inputs, bundle={"code": python_code}, max_failed_fraction=0.5)
    assert node.is_finished_ok, node.exit_message
    cell, unknown = outputs["frames"].get_frames()
    assert cell.info["label_status"] == "ok"
    assert np.allclose(cell.arrays["REF_forces"], [SI1, C1, SI2, C2])
    assert cell.info["REF_energy"] == -30.12345678
    assert cell.info["REF_virial"][0] == pytest.approx(211.11 / 1602.1766 * 2.9 * 2.9 * 4.1, rel=1e-6)
    assert unknown.info["label_status"].startswith("failed: the program wrote no vasprun.xml (ended with status")
    job = load_node(cell.info["label_uuid"])
    kept = zipfile.ZipFile(io.BytesIO(job.outputs.retrieved.base.repository.get_object_content("raw/00000.zip", "rb")))
    assert {"INCAR", "POSCAR", "KPOINTS", "OUTCAR", "vasprun.xml"} <= set(kept.namelist())
    assert_cats(job)
    names = [name for folder, _, files in job.base.repository.walk() for name in files]
    assert "INCAR" in names
    assert not [name for name in [*names, *kept.namelist()] if "POTCAR" in name]
    remote = Path(job.outputs.remote_folder.get_remote_path())
    assert (remote / "pseudo" / "POTCAR.Si").read_text() == recorded.potcar("Si")


def test_isolated_atoms_get_the_gamma_point_and_their_own_tags(inputs):
    inputs |= {
        "code": AttributeDict({"with_mpi": False}),
        "isolated_parameters": Dict({"sigma": 0.001, "ISPIN": 2, "NUPDOWN": 2}),
    }
    structure = StructureData(ase=Atoms("Si", cell=[15.0] * 3, pbc=True))
    _, sent = vasp.submission(inputs, structure, isolated=True)
    assert sent["kpoints"].get_kpoints_mesh() == ([1, 1, 1], [0.0, 0.0, 0.0])
    assert sent["parameters"]["incar"] == {
        **{"encut": 500.0, "ediff": 1e-6, "ismear": 0, "sigma": 0.001, "ispin": 2, "nupdown": 2},
        **{"nsw": 0, "ibrion": -1, "isif": 2},
    }
    assert vasp.missing(inputs, ["Si"]) == [], "what fits one cell only may be given for isolated atoms"


# --- what is refused ---


def refusal(parameters):
    """Return why the port refuses these parameters, or None."""
    namespace = PortNamespace()
    vasp.define(namespace)
    error = namespace["parameters"].validate(Dict(parameters))
    return error.message if error else None


GOOD = {"encut": 400, "ediff": 1e-6}


@pytest.mark.parametrize(
    "parameters",
    [
        GOOD,
        PARAMETERS,
        {**GOOD, "NSW": 0, "IBRION": -1, "ISIF": 3, "ISTART": 0, "ICHARG": 2, "LREAL": False, "IVDW": 12, "METAGGA": "R2SCAN"},
    ],
)
def test_good_parameters(parameters):
    assert refusal(parameters) is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"ediff": 1e-6}, r"ENCUT \(eV\) must be given as a positive number, got None"),
        ({"encut": "400 eV", "ediff": 1e-6}, r"ENCUT \(eV\) must be given as a positive number, got '400 eV'"),
        ({"encut": 400}, r"EDIFF \(eV\) must be given"),
        ({"encut": 400, "ediff": -5}, r"EDIFF \(eV\) must be given as a positive number"),
        ({**GOOD, "NSW": 10}, "NSW must be 0 or absent: labels are single points, got 10"),
        ({**GOOD, "IBRION": 2}, "IBRION must be -1 or absent"),
        ({**GOOD, "ISIF": 0}, "with 0 VASP would not calculate the whole stress"),
        ({**GOOD, "kspacing": 0.2}, "KSPACING must not be given: k-points are given by kpoint_spacing"),
        ({**GOOD, "ICHARG": 11}, "ICHARG must be 2 or absent"),
        ({**GOOD, "PSTRESS": 100}, "PSTRESS must not be given"),
        ({**GOOD, "MAGMOM": "2*1.0"}, "MAGMOM must not be given for all cells"),
        ({**GOOD, "LDAUU": [0, 4]}, "LDAUU must not be given for all cells"),
        ({**GOOD, "nbands": 20}, "NBANDS must not be given for all cells"),
        ({"incar": GOOD}, "give INCAR tags flat, not under incar"),
        ({**GOOD, "ENCUTT": 400}, "encutt is not a support VASP parameter"),  # the plugin's words
    ],
)
def test_bad_parameters(parameters, message):
    found = refusal(parameters)
    assert found is not None
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("changes", "elements", "message"),
    [
        ({}, ["C", "Si"], None),
        ({"retries": [{"algo": "All"}, {"AMIX": 0.1, "NELM": 200}]}, ["C"], None),
        ({}, ["B", "C"], "potential_mapping: no potential for B"),
        ({"potential_family": "absent"}, ["C"], "potential_family: no family 'absent' in this profile"),
        (
            {"potential_mapping": {"C": "C_h"}},
            ["C"],
            "potential_mapping: No POTCAR found for full name C_h",
        ),
        ({"potential_mapping": {"C": "Si_sv"}}, ["C"], "potential_mapping: Si_sv is a potential of Si, not of C"),
        ({"retries": [{"SIGMA": 0.2}]}, ["C"], "retries.0: sigma would change the level of theory"),
        ({"retries": [{"nbands": 30}]}, ["C"], "retries.0: NBANDS must not be given for all cells"),
        ({"isolated_parameters": {"NSW": 3}}, ["C"], "isolated_parameters: NSW must be 0 or absent"),
    ],
)
def test_what_is_missing(inputs, changes, elements, message):
    node_of = {dict: Dict, list: List, str: Str}
    found = vasp.missing({**inputs, **{key: node_of[type(value)](value) for key, value in changes.items()}}, elements)
    assert found == [] if message is None else [str(fault).startswith(message) for fault in found] == [True], found


def test_level_of_theory(inputs):
    """It holds what decides a label, and is the same for other ways to the same density."""
    level = vasp.level_of_theory(inputs)
    assert list(level) == ["code", "settings", "kpoint_spacing", "potentials", "in_words"]
    assert level["settings"] == {"encut": 500.0, "ediff": 1e-6, "ismear": 0, "sigma": 0.05}
    same = Dict({**PARAMETERS, "ALGO": "Fast", "NELM": 200, "NCORE": 4, "LWAVE": False, "ISIF": 2, "amix": 0.2})
    assert vasp.level_of_theory({**inputs, "parameters": same}) == level
    for change in ({"GGA": "PS"}, {"PREC": "Accurate"}, {"IVDW": 12}, {"LREAL": "Auto"}, {"sigma": 0.1}, {"ISPIN": 2}):
        other = vasp.level_of_theory({**inputs, "parameters": Dict({**PARAMETERS, **change})})
        assert one_line(other) != one_line(level)
    other = vasp.level_of_theory({**inputs, "potential_mapping": Dict({"C": "C", "Si": "Si_sv"})})
    assert one_line(other) != one_line(level)
