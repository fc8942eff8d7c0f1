"""Labels from CASTEP: what is sent, and what is read from recorded output, by the real plugin."""

import gzip
import importlib.metadata
import importlib.util
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
from aiida.orm import Dict, Float, Int, List, StructureData, load_node
from ase import Atoms
from ase.io.castep import read_castep_castep
from ase.units import GPa
from helpers import assert_labels, three_cells

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.reference import castep, set_sorted_labels
from aiida_gaprss.reference.common import one_line
from aiida_gaprss.settings.faults import Fault
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.reuse import datasets_with_labels

pytest.importorskip("aiida_castep", reason="aiida-castep needs Python below 3.12")
pytestmark = pytest.mark.usefixtures("all_calculated")

PARAMETERS = {"cut_off_energy": 500.0, "xc_functional": "PBE", "smearing_width": 0.1, "max_scf_cycles": 100}

#: What stands in recorded.SIC_FORCES, by element and number.
C1, C2, SI1, SI2 = [0.11, -0.12, 0.13], [0.21, -0.22, 0.23], [-0.31, 0.32, -0.33], [-0.01, 0.02, -0.03]


def silicon_carbide():
    """Return the cell of ``recorded.SIC_CASTEP``, its atoms in the order Si1, C1, Si2, C2."""
    atoms = three_cells()["sicsic"]
    atoms.info["frame_id"] = "sic"
    return atoms


@pytest.fixture
def read(parsed):
    """Return the outputs of the plugin's parser for a .castep file."""

    def read(text, atoms, files=None):
        return parsed(
            "castep.castep",
            {"aiida.castep": text, "aiida.bands": recorded.CASTEP_BANDS, **(files or {})},
            {"structure": StructureData(ase=atoms), "parameters": Dict({"PARAM": {"task": "singlepoint"}, "CELL": {}})},
            {"seedname": "aiida", "output_filename": "aiida.castep"},
        )

    return read


@pytest.fixture
def labelled(read):
    """Return the frame with the labels of a .castep file, which is that of its sorted structure."""

    def labelled(text, atoms=None):
        atoms = silicon_carbide() if atoms is None else atoms
        outputs, status = read(text, atoms[np.argsort(atoms.numbers, kind="stable")])
        assert status == 0
        set_sorted_labels(castep, outputs, atoms)
        return atoms

    return labelled


# --- what is read ---


def test_forces_of_the_plugin_alone_are_on_the_wrong_atoms(read):
    """Regression test of a fault of aiida-castep 2.0.1, the reason why cells are sent sorted by atomic number."""
    outputs, status = read(recorded.SIC_CASTEP, silicon_carbide())
    assert status == 0
    forces = outputs["output_array"].get_array("forces")[-1]
    if np.allclose(forces, [SI1, C1, SI2, C2]):
        pytest.skip(f"aiida-castep {importlib.metadata.version('aiida-castep')} has mended the order of forces: delete this test")
    assert np.allclose(forces, [C1, C2, SI1, SI2]), "CASTEP's order, for atoms that were sent as Si, C, Si, C"


def test_forces_are_on_the_right_atoms(labelled):
    assert np.allclose(labelled(recorded.SIC_CASTEP).arrays["REF_forces"], [SI1, C1, SI2, C2])


@pytest.mark.parametrize("name", ["sicsic", "csi", "atom"])
def test_three_cells(labelled, name):
    """The cells that pw.x labels for real (tests/workflows/test_label_espresso.py), here from .castep files."""
    free = recorded.SIC_ENERGIES
    for old, new in (("531.1234567891", "265.10"), ("531.1634567891", "265.17"), ("531.1434567891", "265.135")):
        free = free.replace(old, new)
    pair = recorded.castep_of(three_cells()["csi"], free, recorded.CSI_FORCES, recorded.CSI_STRESS)
    atom = recorded.castep_atom("Si", 8.0, "-101.25")
    text, energy, forces, pressure = {
        "sicsic": (recorded.SIC_CASTEP, -531.1634567891, [SI1, C1, SI2, C2], 22.2222),
        "csi": (pair, -265.17, recorded.CSI_FORCES, 152.2),
        "atom": (atom, -101.25, [[0.0] * 3], None),
    }[name]
    cell = labelled(text, three_cells()[name])
    theirs = read_castep_castep(io.StringIO(text))
    assert_labels(cell, energy, forces, pressure, theirs, rel=1e-5)
    # The other order of species.
    if name == "csi":
        other = labelled(text, cell[[1, 0]])
        assert np.allclose(other.arrays["REF_forces"], recorded.CSI_FORCES[::-1])


def test_a_compressed_cell_has_negative_stress_and_positive_virial(labelled):
    atoms = labelled(recorded.SIC_CASTEP)
    virial = atoms.info["REF_virial"].reshape(3, 3)
    volume = 2.9 * 2.9 * 4.1
    # The file says: pressure 22.2222 GPa, stress xx -21.111111 GPa, yz 3.500000 GPa; 160.21766 GPa are 1 eV/Å³.
    assert np.trace(virial) == pytest.approx(3 * 22.2222 / 160.21766 * volume, rel=1e-5)
    assert virial[0, 0] == pytest.approx(21.111111 / 160.21766 * volume, rel=1e-6)
    assert virial[1, 2] == virial[2, 1] == pytest.approx(-3.5 / 160.21766 * volume, rel=1e-6)


def test_the_energy_is_the_free_energy(labelled):
    assert labelled(recorded.SIC_CASTEP).info["REF_energy"] == -531.1634567891
    # With fixed occupancies only the total energy is printed.
    atom = Atoms("Si", cell=[8.0] * 3, pbc=True)
    atom.info.update(frame_id="atom", config_type="isolated_atom")
    atom = labelled(recorded.castep_atom("Si", 8.0, "-101.2345678901"), atom)
    assert atom.info["REF_energy"] == -101.2345678901
    assert "REF_virial" not in atom.info


def test_ase_reads_the_same(labelled):
    theirs = read_castep_castep(io.StringIO(recorded.SIC_CASTEP))
    assert theirs.get_chemical_symbols() == ["C", "C", "Si", "Si"]
    ours = labelled(recorded.SIC_CASTEP)
    order = np.argsort(ours.numbers, kind="stable")
    assert np.allclose(ours.positions[order], theirs.positions, atol=1e-5)
    assert np.allclose(ours.arrays["REF_forces"][order], theirs.get_forces(), atol=1e-9)
    assert ours.info["REF_energy"] == pytest.approx(theirs.get_potential_energy(force_consistent=True), abs=1e-9)
    stress = -ours.info["REF_virial"].reshape(3, 3) / ours.get_volume()
    assert np.allclose(stress, theirs.get_stress(voigt=False), rtol=1e-6)


def test_symmetrised_forces_and_stress(labelled):
    text = recorded.SIC_CASTEP
    for old, new, width in (("Forces", "Symmetrised Forces", 60), ("Stress Tensor", "Symmetrised Stress Tensor", 49)):
        assert f" {old} ".center(width, "*") in text
        text = text.replace(f" {old} ".center(width, "*"), f" {new} ".center(width, "*"))
    atoms = labelled(text)
    assert np.allclose(atoms.arrays["REF_forces"], [SI1, C1, SI2, C2])
    assert atoms.info["REF_virial"][0] == pytest.approx(21.111111 / 160.21766 * 2.9 * 2.9 * 4.1, rel=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (recorded.SIC_STRESS, "", "CASTEP printed no stress"),
        (" Forces *", " Constrained Forces *", "no unconstrained forces"),
        ("force unit                     : eV/A", "force unit                     : N", "expected output in eV, eV/A, GPa"),
        ("energy unit                     : eV", "energy unit                     : hartree", "unit_energy 'hartree'"),
        (recorded.SIC_ENERGIES, recorded.SIC_ENERGIES * 3, "the energy of one SCF in the output, found 3"),
        (recorded.SIC_ENERGIES, "", "the energy of one SCF in the output, found 0"),
        (
            "NB est. 0K",
            "Dispersion corrected final energy*, Ecor          =  -531.5163768370     eV\nNB est. 0K",
            "corrected for dispersion or the finite basis",
        ),
        (
            "NB est. 0K",
            " Total energy corrected for finite basis set =    -531.516014 eV\nNB est. 0K",
            "corrected for dispersion or the finite basis",
        ),
        (recorded.CASTEP_TAIL, recorded.UNCONVERGED_TAIL + recorded.CASTEP_TAIL, "the SCF is not converged"),
        (" * C               2 ", " * Si              3 ", "its forces are of C Si Si Si"),
    ],
)
def test_what_is_no_label(labelled, old, new, message):
    assert old in recorded.SIC_CASTEP
    with pytest.raises(ValueError, match=message):
        labelled(recorded.SIC_CASTEP.replace(old, new))


def test_a_real_output(data, read):
    """Eight boron atoms by CASTEP 20.11, from the package EDDPotentials.jl; the numbers below stand in the file."""
    text = gzip.decompress((data / "castep" / "B8-singlepoint.castep.gz").read_bytes()).decode()
    theirs = read_castep_castep(io.StringIO(text))
    outputs, status = read(text, theirs)
    assert status == 0
    energy, forces, stress = castep.labels(outputs, ["B"] * 8)
    assert energy == -658.0427613302
    assert castep.seconds(outputs) == 44.83, "Total time"
    assert forces[0].tolist() == [0.77072, -0.26436, 0.96958]
    assert forces[7].tolist() == [0.09994, 0.09589, -0.35859]
    assert np.trace(stress) / 3 == pytest.approx(-17.8757 * GPa, rel=1e-5)
    assert energy == pytest.approx(theirs.get_potential_energy(force_consistent=True), abs=1e-9)
    assert np.allclose(forces, theirs.get_forces(), atol=1e-9)
    assert np.allclose(stress, theirs.get_stress(voigt=False), rtol=1e-6)


# --- what is sent ---


@pytest.fixture
def registry(tmp_path):
    """Folder of the cases that castep.mock answers: it compares its input files with theirs, value by value."""

    def add(name, cell, param, castep_file):
        for part, files in (("inp", {"aiida.cell": cell, "aiida.param": param}), ("out", {"aiida.castep": castep_file})):
            folder = tmp_path / "registry" / name / part
            folder.mkdir(parents=True)
            for file, text in files.items():
                (folder / file).write_text(text)
        (tmp_path / "registry" / name / "out" / "aiida.bands").write_text(recorded.CASTEP_BANDS)

    add.folder = tmp_path / "registry"
    return add


@pytest.fixture
def inputs(aiida_code_installed, aiida_localhost, registry):
    """Return the inputs of the reference, with the mock program of aiida-castep."""
    from aiida_castep.data.otfg import OTFGData

    code = aiida_code_installed(
        label=f"castep-mock-{registry.folder.parent.name}",
        computer=aiida_localhost,
        default_calc_job_plugin="castep.castep",
        filepath_executable=str(Path(sys.executable).parent / "castep.mock"),
        prepend_text=f"export MOCK_CODE_BASE={registry.folder}",
        with_mpi=False,
    )
    library = OTFGData.get_or_create("C19", use_first=True)[0]
    return {
        "code": code,
        "pseudos": {"C": library, "Si": library},
        "parameters": Dict(PARAMETERS),
        "kpoint_spacing": Float(0.07),
    }


def param_file(label=None, **changes):
    """Return the param file for ``PARAMETERS``; the plugin's work chain writes a label into it, a bundle does not."""
    lines = {
        **{"cut_off_energy": "500.0", "xc_functional": "PBE", "smearing_width": "0.1", "max_scf_cycles": "100"},
        **{"task": "singlepoint", "calculate_stress": "True", "finite_basis_corr": "0", "iprint": "1"},
        **({"comment": label} if label else {}),
        **changes,
    }
    return "".join(f"{key} : {value}\n" for key, value in lines.items())


def cell_file(cell, positions, grid):
    """Return the cell file: Å, atoms in the order in which CASTEP has them."""
    elements = sorted({line.split()[0] for line in positions})
    pots = "".join(f"{element:5} C19\n" for element in elements)
    block = "%BLOCK {0}\n{1}\n%ENDBLOCK {0}\n"
    lattice = "\n".join(f"{x:18.10f} {y:18.10f} {z:18.10f}" for x, y, z in cell)
    atoms = "\n".join("{:18} {:>18} {:>18} {:>18}".format(*line.split()) for line in positions)
    return block.format("LATTICE_CART", lattice) + block.format("POSITIONS_ABS", atoms) + grid + block.format("SPECIES_POT", pots)


SIC_CELL = cell_file(
    np.diag([2.9, 2.9, 4.1]),
    [
        "C 1.4500000000 0.0000000000 1.0250000000",
        "C 0.0000000000 1.4500000000 3.0750000000",
        "Si 0.0290000000 0.0000000000 0.0000000000",
        "Si 1.4500000000 1.4500000000 2.0500000000",
    ],
    # At most 0.07/Å apart, with Γ: CASTEP shifts an even mesh by a fraction of the reciprocal vector, not of the step.
    "kpoints_mp_grid : 5 5 4\nkpoints_mp_offset : 0.0 0.0 -0.125\n",
)


@pytest.mark.slow
def test_frames_through_the_work_chain(run, registry, inputs):
    """Three calculations by aiida-castep's work chain; the mock program answers only if it is sent exactly what is expected."""
    atom = Atoms("Si", cell=[8.0] * 3, pbc=True)
    atom.info.update(frame_id="atom", config_type="isolated_atom")
    registry("first", SIC_CELL, param_file("sic"), recorded.SIC_CASTEP.replace(recorded.CASTEP_TAIL, recorded.UNCONVERGED_TAIL))
    registry("second", SIC_CELL, param_file("sic", mix_charge_amp="0.3"), recorded.SIC_CASTEP)
    registry(
        "atom",
        cell_file(np.eye(3) * 8, ["Si 0.0000000000 0.0000000000 0.0000000000"], "kpoints_mp_grid : 1 1 1\n"),
        param_file("atom", smearing_width="0.01", spin="2", spin_polarized="True"),
        recorded.castep_atom("Si", 8.0, "-101.2345678901"),
    )
    inputs["retries"] = List([{"MIX_charge_amp": 0.3}])
    inputs["isolated_parameters"] = Dict({"smearing_width": 0.01, "spin": 2, "spin_polarized": True})
    outputs, node = run(LabelWorkChain, frames=Dataset([silicon_carbide(), atom]), castep=inputs, max_concurrent=1)
    assert node.is_finished_ok, node.exit_message
    cell, atom = outputs["frames"].get_frames()

    assert cell.info["label_attempt"] == 2
    assert cell.get_chemical_symbols() == ["Si", "C", "Si", "C"]
    assert np.allclose(cell.arrays["REF_forces"], [SI1, C1, SI2, C2])
    assert cell.info["REF_energy"] == pytest.approx(-531.1634567891, abs=1e-7)
    assert cell.info["REF_virial"][0] == pytest.approx(21.111111 / 160.21766 * 2.9 * 2.9 * 4.1, rel=1e-6)
    assert load_node(cell.info["label_uuid"]).process_label == "CastepCalculation"
    assert atom.info["REF_energy"] == pytest.approx(-101.2345678901, abs=1e-7)
    assert outputs["frames"].level_of_theory == (
        "CASTEP; cut_off_energy 500, smearing_width 0.1, xc_functional PBE; "
        "isolated atoms: smearing_width 0.01, spin 2, spin_polarized True; kpoint spacing 0.07; C C19, Si C19"
    )
    assert_found_again(run, inputs, outputs["frames"])


def assert_found_again(run, inputs, labelled):
    """Who asks again at the same level gets the same labels without a calculation; at another one, the mock has no answer."""
    frames = [silicon_carbide(), *labelled.get_frames()[1:]]
    fr.drop_labels(frames[1])
    again, node = run(LabelWorkChain, frames=Dataset(frames), castep={**inputs, "max_iterations": Int(2)}, reuse=True)
    assert fr.dumps(again["frames"].get_frames()) == labelled.text()
    assert not [child for child in node.called_descendants if child.process_label == "CastepBaseWorkChain"]
    for key, value in (("kpoint_spacing", Float(0.05)), ("isolated_parameters", Dict({"smearing_width": 0.02}))):
        assert datasets_with_labels(Dataset(frames), {"castep": {**inputs, key: value}}) == []
    assert_strange_nodes_are_passed_over(inputs, labelled)
    assert len(datasets_with_labels(Dataset(frames), {"castep": inputs})) == 1


def assert_strange_nodes_are_passed_over(inputs, labelled):
    """As those of an archive: of no level, without a frame, of a label that is no number; they seem to have what is asked for."""
    moved = labelled.get_frames()
    for atoms in moved:
        atoms.positions[0, 0] += 0.001
    strange = [Dataset(moved, level_of_theory=labelled.level) for _ in range(3)]
    strange[0].base.attributes.set("level", {"code": "CASTEP"})
    for node, text in zip(strange[1:], ("1\nodd\n", labelled.text().replace("-531.16345679", "nan")), strict=True):
        node.base.repository.put_object_from_bytes(text.encode(), Dataset.FILENAME)
    for node in strange:
        node.store()
    assert "nan" in strange[2].text()
    assert datasets_with_labels(Dataset(moved), {"castep": inputs}) == []


@pytest.mark.slow
def test_a_plugin_that_raises_gives_a_reason(run, registry, inputs):
    """aiida-castep's handler of calculations that ran out of time raises on aiida-core 2: its work chain ends excepted."""
    registry("stopped", SIC_CELL, param_file("sic"), recorded.SIC_HEAD + recorded.OUT_OF_TIME_TAIL)
    inputs["max_iterations"] = Int(2)
    _, node = run(LabelWorkChain, frames=Dataset([silicon_carbide()]), castep=inputs)
    assert node.exit_status == LabelWorkChain.exit_codes.ERROR_NOTHING_LABELLED.status
    assert node.exit_message.endswith("Calculation self-terminated due to time limit")
    assert [child.process_state.value for child in node.called_descendants if child.process_label == "CastepBaseWorkChain"] == [
        "excepted"
    ]


def test_bundled_frames(run, registry, inputs, python_code, tmp_path):
    """Many in one job: the mock program gets the same input as one by one, and labels are the same."""
    from aiida_castep.data.usp import UspData

    (tmp_path / "C_by_hand.usp").write_text("made by hand\n")
    inputs["pseudos"]["C"] = UspData(file=str(tmp_path / "C_by_hand.usp"), element="C")
    inputs["isolated_parameters"] = Dict({"smearing_width": 0.01})
    registry("cell", SIC_CELL.replace("C     C19", "C     C_by_hand.usp"), param_file(), recorded.SIC_CASTEP)
    atom, absent = Atoms("Si", cell=[8.0] * 3, pbc=True), silicon_carbide()
    atom.info.update(frame_id="atom", config_type="isolated_atom")
    absent.info["frame_id"] = "absent"
    absent.positions[0] += 0.1
    registry(
        "atom",
        cell_file(np.eye(3) * 8, ["Si 0.0000000000 0.0000000000 0.0000000000"], "kpoints_mp_grid : 1 1 1\n"),
        param_file(smearing_width="0.01"),
        recorded.castep_atom("Si", 8.0, "-101.2345678901"),
    )
    frames = Dataset([silicon_carbide(), atom, absent])
    outputs, node = run(LabelWorkChain, frames=frames, castep=inputs, bundle={"code": python_code}, max_failed_fraction=0.5)
    assert node.is_finished_ok, node.exit_message
    cell, atom, absent = outputs["frames"].get_frames()
    assert cell.info["label_status"] == "ok"
    assert np.allclose(cell.arrays["REF_forces"], [SI1, C1, SI2, C2])
    assert cell.info["REF_energy"] == pytest.approx(-531.1634567891, abs=1e-7)
    assert cell.info["REF_virial"][0] == pytest.approx(21.111111 / 160.21766 * 2.9 * 2.9 * 4.1, rel=1e-6)
    assert atom.info["REF_energy"] == pytest.approx(-101.2345678901, abs=1e-7)
    assert "REF_virial" not in atom.info
    assert absent.info["label_status"].startswith("failed: the program wrote no aiida.castep (ended with status")
    job = load_node(cell.info["label_uuid"])
    kept = zipfile.ZipFile(io.BytesIO(job.outputs.retrieved.base.repository.get_object_content("raw/00000.zip", "rb")))
    assert {"aiida.cell", "aiida.param", "aiida.castep"} <= set(kept.namelist())
    assert job.base.repository.list_object_names("frames") == ["00000", "00001", "00002"]
    assert "pseudo" not in job.base.repository.list_object_names()


# --- what is refused ---


def refusal(parameters):
    """Return why the port refuses these parameters, or None."""
    namespace = PortNamespace()
    castep.define(namespace)
    error = namespace["parameters"].validate(Dict(parameters))
    return error.message if error else None


@pytest.mark.parametrize(
    "parameters",
    [
        {"cut_off_energy": 500},
        {"basis_precision": "precise"},
        {"CUT_OFF_ENERGY": 500.0, "Task": "SinglePoint", "calculate_stress": "true", "finite_basis_corr": "NONE"},
        {"cut_off_energy": 500.0, "symmetry_generate": True, "sedc_apply": False, "write_checkpoint": "none"},
    ],
)
def test_good_parameters(parameters):
    assert refusal(parameters) is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"xc_functional": "PBE"}, r"cut_off_energy \(eV\) or basis_precision must be given"),
        ({"cut_off_energy": "500 eV"}, "cut_off_energy must be a positive number"),
        ({"cut_off_energy": True}, "cut_off_energy must be a positive number"),
        ({"cut_off_energy": 500, "task": "geometryoptimisation"}, "task is set to singlepoint here, got 'geometryoptimisation'"),
        ({"cut_off_energy": 500, "calculate_stress": False}, "calculate_stress is set to True here"),
        ({"cut_off_energy": 500, "finite_basis_corr": 2}, "finite_basis_corr is set to 0 here, got 2"),
        ({"cut_off_energy": 500, "SEDC_apply": "TRUE"}, "dispersion corrections"),
        ({"cut_off_energy": 500, "sedc_scheme": "TS"}, "dispersion corrections"),
        ({"cut_off_energy": 500, "write_none": True}, "the bands file must be written"),
        ({"cut_off_energy": 500, "write_bands": False}, "the bands file must be written"),
        ({"cut_off_energy": 500, "energy_unit": "Ry"}, "the output is read in eV"),
        ({"cut_off_energy": 500, "reuse": "x.check"}, "every label is calculated from scratch"),
        ({"cut_off_energy": 500, "kpoints_mp_spacing": 0.05}, "k-points are given by kpoint_spacing"),
        ({"cut_off_energy": 500, "kpoint_mp_grid": "4 4 4"}, "k-points are given by kpoint_spacing"),
        ({"cut_off_energy": 500, "species_pot": ["C C19"]}, "pseudopotentials are given by pseudos"),
        ({"cut_off_energy": 500, "snap_to_symmetry": True}, "atoms would be moved"),
        ({"cut_off_energy": 500, "fix_all_ions": True}, "constrained atoms"),
        ({"cut_off_energy": 500, "nup": 4}, "its value fits one of them"),
        ({"PARAM": {"cut_off_energy": 500}}, "give CASTEP keywords flat"),
        # By the plugin:
        ({"cut_off_energy": 500, "basis_precision": "fine"}, "only one is allowed"),
        ({"cut_off_energy": 500, "xc_functionl": "PBE"}, "keyword 'xc_functionl' is not recognized"),
    ],
)
def test_bad_parameters(parameters, message):
    found = refusal(parameters)
    assert found is not None
    assert re.search(message, found), found


def settings(**changes):
    given = {"parameters": Dict(PARAMETERS), "kpoint_spacing": Float(0.07), "pseudos": {"Si": Dict({"otfg_entry": "C19"})}}
    return {**given, **changes}


def test_what_is_missing():
    assert castep.missing(settings(), ["Si"]) == []
    assert castep.missing(settings(), ["C", "Si"]) == [Fault(("pseudos",), "no pseudopotential for C")]
    retries = List([{"mix_charge_amp": 0.2}, {"Elec_Method": "edft", "nextra_bands": 20}])
    assert castep.missing(settings(retries=retries), ["Si"]) == []
    retries = List([{"mix_charge_amp": 0.2}, {"smearing_width": 0.5}])
    (fault,) = castep.missing(settings(retries=retries), ["Si"])
    assert fault.place == ("retries", 1)
    assert fault.message.startswith("smearing_width would change the level of theory")
    # Smearing and spin of isolated atoms may differ, but not from one attempt to the next.
    atoms = Dict({"smearing_width": 0.01, "spin": 2, "nup": 3})
    message = "Incompatible keys found: ('spin', 'nup') - only one is allowed."
    assert castep.missing(settings(isolated_parameters=atoms), ["Si"]) == [Fault(("isolated_parameters",), message)]
    assert castep.missing(settings(isolated_parameters=Dict({"smearing_width": 0.01, "spin": 2})), ["Si"]) == []


def test_level_of_theory():
    """It holds what decides a label, and is the same for other ways to the same density."""
    level = castep.level_of_theory(settings())
    assert list(level) == ["code", "settings", "kpoint_spacing", "pseudos", "in_words"]
    assert level["settings"] == {"cut_off_energy": 500.0, "smearing_width": 0.1, "xc_functional": "PBE"}
    same = {
        **PARAMETERS,
        "max_scf_cycles": 30,
        "mixing_scheme": "broyden",
        "nextra_bands": 9,
        "metals_method": "edft",
        "iprint": 2,
    }
    assert castep.level_of_theory(settings(parameters=Dict(same))) == level
    for change in (
        {"fine_grid_scale": 3},
        {"spin_fix": -1},
        {"elec_method": "none"},
        {"elec_energy_tol": 1e-3},
        {"hubbard_u": ["x"]},
    ):
        other = castep.level_of_theory(settings(parameters=Dict({**PARAMETERS, **change})))
        assert other != level
        assert one_line(other) != one_line(level)


def test_meshes_contain_gamma():
    """Points of Monkhorst and Pack with the offset as a fraction of the reciprocal vector, as CASTEP has it."""
    inputs = {**settings(), "code": AttributeDict({"with_mpi": False})}
    for edge in (2.5, 3.0, 4.4, 7.5, 15.0):
        structure = StructureData(ase=Atoms("Si", cell=[edge] * 3, pbc=True))
        _, sent = castep.submission(inputs, structure, isolated=False)
        (n, *_), (offset, *_) = sent["calc"]["kpoints"].get_kpoints_mesh()
        assert 1 / (n * edge) <= 0.07 < 1 / (max(n - 1, 0.5) * edge)
        points = (2 * np.arange(1, n + 1) - n - 1) / (2 * n) + offset
        assert np.abs(points).min() < 1e-12
        assert np.all(points > -0.5 - 1e-12)
        assert np.all(points < 0.5 + 1e-12)
    _, sent = castep.submission(inputs, structure, isolated=True)
    assert sent["calc"]["kpoints"].get_kpoints_mesh() == ([1, 1, 1], [0.0, 0.0, 0.0])
