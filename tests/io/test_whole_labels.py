"""A label from an output is whole, or it is none: rows, sums, copies, zeros, cuts."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pytest
import recorded
from ase import Atoms, units

from aiida_gaprss.frames import FrameError
from aiida_gaprss.io.common import Step
from aiida_gaprss.io.outputs import read_outputs, recognise
from aiida_gaprss.io.placeholders import not_calculated

GPA = 1 / 160.21766
NAMES = {"castep": "a.castep", "outcar": "OUTCAR", "vasprun": "vasprun.xml", "pwx": "a.out"}


@pytest.fixture
def texts(boron):
    return {
        "castep": recorded.SIC_CASTEP,
        "outcar": recorded.SIC_OUTCAR,
        "vasprun": recorded.SIC_VASPRUN,
        "pwx": boron,
    }


def test_the_texts_are_sound(texts, written):
    for code, text in texts.items():
        result = read_outputs([written(NAMES[code], text)])
        assert len(result.frames) == (2 if code == "pwx" else 1), code
        assert result.refused == []
        assert result.notes == [], code
        for atoms in result.frames:
            assert "REF_virial" in atoms.info


@pytest.mark.parametrize(
    ("code", "old", "new", "reason"),
    [
        # an atom of the table is lost, doubled, or cannot be read
        (
            "castep",
            "            x  C            2         0.000000   0.500000   0.750000   x\n",
            "",
            "3 rows, .* announces 4 ions",
        ),
        ("castep", "0.500000   0.750000   x", "0.500000   ********   x", "position of atom 2 is not a number"),
        ("castep", "x  C            2", "x  C[9]         2", r"line \d+, of the table of atoms, cannot be read: x  C\[9\]"),
        ("castep", "x  C            2", "x  C            7", "not in the order of their numbers"),
        ("castep", "Total number of ions in cell =    4", "Total number of ions in cell = ****", "how many atoms"),
        (
            "outcar",
            "ions per type =               2   2",
            "ions per type =               2   1",
            "table of positions and forces has 4",
        ),
        (
            "outcar",
            "      0.00000      1.45000      3.07500         0.210000     -0.220000      0.230000\n",
            "",
            "3 rows, expected 4",
        ),
        ("vasprun", "<rc><c>C </c><c>   1</c></rc>\n", "", "list of atoms"),
        ("vasprun", "    <v>       0.00000000       0.50000000       0.75000000 </v>\n", "", "positions have 3 rows, expected 4"),
        ("pwx", "number of atoms/cell      =            2", "number of atoms/cell      =            3", "header cannot be read"),
        # forces
        ("castep", "0.21000     -0.22000", "0.21000     ********", "force on atom 2 is not a number"),
        ("castep", " * Si              1     -0.31000", " * Si              2     -0.31000", "not those in its table of atoms"),
        ("castep", " * C               2", " ? C               2", "of the forces, cannot be read"),
        ("outcar", "0.210000     -0.220000", "0.210000     *********", "row 2 of its positions and forces cannot be read"),
        ("outcar", "0.210000     -0.220000", "0.210000     -0.320000", "forces sum to 0.1.* more than the drift"),
        ("vasprun", "   <v>       0.21000000      -0.22000000       0.23000000 </v>\n", "", "forces have 3 rows, expected 4"),
        ("vasprun", "0.21000000      -0.22000000", "0.21000000", "row 2 of its forces cannot be read"),
        ("pwx", "atom    2 type  1   force", "atom    1 type  1   force", "table of forces has 2 rows"),
        # stress
        ("castep", " *  y      1.500000", " *  y      ********", "stress cannot be read"),
        ("castep", " *  y      1.500000", " *  y      1.600000", "stress is not symmetric"),
        ("castep", " *  x    -21.111111", " *  x    -21.911111", "not the pressure that is printed with it"),
        ("outcar", "in kB     211.11000", "in kB     219.11000", "stress in kB is not that in eV"),
        ("outcar", "-25.00000\n", "*********\n", "stress cannot be read"),
        ("vasprun", "<v>     -15.00000000     222.2", "<v>      15.00000000     222.2", "stress is not symmetric"),
        ("vasprun", "<v>     211.11000000", "<v>     ************", "row 1 of its stress cannot be read"),
        # cell
        (
            "castep",
            "     2.9000000     0.0000000     0.0000000   ",
            "     2.8000000     0.0000000     0.0000000   ",
            "reciprocal cell",
        ),
        ("outcar", "     2.900000000  0.000000000", "     2.800000000  0.000000000", "reciprocal cell"),
        ("pwx", "a(2) = (   0.0", "a(2) = (   0.2", "reciprocal cell"),
        # energy
        (
            "castep",
            "Final free energy (E-TS)    =  -531.1634567891",
            "Final free energy (E-TS)    =  **************",
            "free energy cannot",
        ),
        ("castep", "Final free energy (E-TS)    =  -531.1634567891     eV\n", "", "only one of its energies E and E-TS"),
        ("castep", "-531.1634567891", "-531.1734567891", "do not belong together"),
        ("castep", "-5.31163457E+002", "-5.31263457E+002", "not that of the last SCF cycle"),
        (
            "outcar",
            "free  energy   TOTEN  =       -30.12345678",
            "free  energy   TOTEN  =       ************",
            "free energy cannot be read",
        ),
        ("vasprun", '    <i name="e_fr_energy">    -30.12345678 </i>', "", "x"),
    ],
)
def test_damaged(code, old, new, reason, texts, written, changed):
    text = texts[code]
    if code == "vasprun" and reason == "x":  # in the last electronic step and in the ionic one
        text, new, reason = text, '    <i name="e_fr_energy">    -30.22345678 </i>', "not that of its last electronic step"
    path = written(NAMES[code], changed(text, (old, new)))
    try:
        found = [str(item) for item in read_outputs([path]).refused]  # pw.x's has another step
    except FrameError as exception:
        found = [str(exception)]
    assert re.search(reason, " ".join(found), re.DOTALL), found


def test_a_damaged_step_keeps_its_number(texts, written, changed):
    text = changed(
        texts["pwx"], ("!    total energy              =     -22.61474588", "!    total energy              =     -22.61574588")
    )
    result = read_outputs([written("a.out", text)])
    assert [atoms.info["frame_id"] for atoms in result.frames] == ["a-00002"]
    assert "step 1: its total energy -22.61574588 Ry is not its internal energy less TS" in str(result.refused[0])
    lost = re.sub(r"(?m)^!    total energy.*\n", "", texts["pwx"], count=1)
    result = read_outputs([written("a.out", lost)])
    assert [item.reason for item in result.refused] == ["its SCF has no total energy"]
    assert [atoms.info["frame_id"] for atoms in result.frames] == ["a-00002"]


def test_positions_of_a_later_step(texts, written, changed):
    lines = texts["pwx"].splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if line.startswith("ATOMIC_POSITIONS"))
    for damage in (lines[: at + 1] + lines[at + 2 :], [*lines[: at + 1], lines[at + 1], *lines[at + 1 :]]):
        result = read_outputs([written("a.out", "".join(damage))])
        assert len(result.frames) == 1
        assert result.refused[0].step == 2
        assert "positions" in result.refused[0].reason


# --- the stress before constraints ---


def test_stress_before_constraints_on_the_cell(written, changed):
    """CASTEP prints a second tensor, of which components are taken away; it is named "Constrained"."""
    constrained = changed(
        recorded.SIC_STRESS,
        ("***************** Stress Tensor *****************", "*********** Constrained Stress Tensor ***********"),
        ("-21.111111", "  0.000000"),
        ("Pressure:   22.2222", "Pressure:   15.1852"),
    )
    text = changed(recorded.SIC_CASTEP, (recorded.SIC_STRESS, recorded.SIC_STRESS + constrained))
    (atoms,) = read_outputs([written("a.castep", text)]).frames
    assert atoms.info["REF_virial"][0] == pytest.approx(21.111111 * GPA * atoms.get_volume(), rel=1e-6)
    alone = read_outputs([written("b.castep", changed(recorded.SIC_CASTEP, (recorded.SIC_STRESS, constrained)))])
    assert "REF_virial" not in alone.frames[0].info
    assert "stress left out where only that after constraints on the cell is printed" in alone.notes[0]
    symmetrised = changed(recorded.SIC_CASTEP, ("** Stress Tensor **", " Symmetrised Stress Tensor "))
    symmetrised = re.sub(r"\*+ Symmetrised Stress Tensor \*+", "*********** Symmetrised Stress Tensor ***********", symmetrised)
    assert "REF_virial" in read_outputs([written("c.castep", symmetrised)]).frames[0].info
    strange = read_outputs([written("d.castep", re.sub("Symmetrised Stress", "Other Stress", symmetrised))])
    assert "REF_virial" not in strange.frames[0].info
    assert "'Other Stress Tensor'" in strange.notes[0]


def test_warnings_of_an_inaccurate_ground_state(written, changed):
    warning = " Warning: There are no empty bands for at least one kpoint and spin; this may\n"
    text = changed(recorded.SIC_CASTEP, ("      1  -5.31", warning + "      1  -5.31"))
    result = read_outputs([written("a.castep", text)])
    assert result.notes[0].endswith(
        "a.castep: CASTEP warns 1 time that there are no empty bands: the ground state may be inaccurate (nextra_bands)"
    )


def test_pair_potentials_are_no_dft(written, changed):
    block = " ******************************* Developer Code ********************************\n PP=T\n PP: LJ=T :ENDPP\n ****\n"
    for old, new in (
        ("                           -------------------------------\n", block),
        ("\nFinal energy, E", "   ******     PairParams     ******\n\nFinal energy, E"),
    ):
        with pytest.raises(FrameError, match="energies are those of a pair potential"):
            read_outputs([written("a.castep", changed(recorded.SIC_CASTEP, (old, new + old if new is block else new)))])
    without_scf = re.sub(r"(?m)^.*<-- SCF\n", "", recorded.SIC_CASTEP)
    with pytest.raises(FrameError, match="no SCF belongs to its energy"):
        read_outputs([written("a.castep", without_scf)])


# --- cuts ---


def test_a_cut_run_is_said_to_be_cut(texts, written):
    """Also where it is cut between two steps."""
    text = texts["pwx"]
    with pytest.raises(FrameError, match="step 1: incomplete: the run ends during this step"):
        read_outputs([written("a.out", text[: text.index("ATOMIC_POSITIONS")])])
    result = read_outputs([written("a.out", text[: text.rindex("ATOMIC_POSITIONS") + 200])])
    assert len(result.frames) == 2
    assert result.notes[0].endswith("the run was cut off: it has no end")
    for name, mark in (("OUTCAR", " General timing"), ("vasprun.xml", ' <structure name="finalpos"')):
        text = recorded.SIC_VASP[name]
        result = read_outputs([written(name, text[: text.index(mark)])])
        assert len(result.frames) == 1
        assert result.notes[0].endswith("the run was cut off: it has no end")


def test_a_line_search_that_is_cut(written):
    """Its last trial is not the one that the energies belong to."""
    rows = [
        " BFGS: starting iteration         1 with trial guess (lambda=  1.000000)\n",
        " +------------+-------------+-------------+-----------------+ <-- min BFGS\n",
        " |    Step    |   lambda    |   F.delta'  |    enthalpy     | <-- min BFGS\n",
        " +------------+-------------+-------------+-----------------+ <-- min BFGS\n",
        " |  previous  |    0.000000 |    0.306114 |     -531.063457 | <-- min BFGS\n",
        " | trial step |    1.000000 |   -0.064103 |     -531.063457 | <-- min BFGS\n",
        " |  line step |    0.342394 |   -0.025132 |     -531.163457 | <-- min BFGS\n",
        " +------------+-------------+-------------+-----------------+ <-- min BFGS\n",
    ]
    head = recorded.SIC_HEAD.replace("single point energy", "geometry optimization")
    step = recorded.SIC_ENERGIES + recorded.SIC_FORCES + recorded.SIC_STRESS
    text = head + rows[0] + head[head.index("Calculating total energy") :] + step + "".join(rows[1:])
    result = read_outputs([written("a.castep", text)])
    assert len(result.frames) == 1
    assert "the run was cut off" in result.notes[0]
    for end in (len(text) - len(rows[-1]), len(text) - len(rows[-1]) - 30, len(text) - len(rows[-1]) - len(rows[-2])):
        with pytest.raises(FrameError, match="step 1: incomplete: the run ends during this step"):
            read_outputs([written("a.castep", text[:end])])


def test_a_line_search_that_reverts(written, changed):
    """CASTEP prints the structure that it goes back to after the energies of the one that it tried."""
    head = recorded.SIC_HEAD.replace("single point energy", "geometry optimization")
    atoms = head[
        head.index("                                     Cell Contents") : head.index(
            "                           -------------------------------\n                              k-Points"
        )
    ]
    scf = head[head.index("Calculating total energy") :]
    lower = [text.replace("-531.", "-532.").replace("-5.31163457", "-5.32163457") for text in (scf, recorded.SIC_ENERGIES)]
    text = "".join(
        [
            head,
            recorded.SIC_ENERGIES,
            " LBFGS: finished iteration     0 with enthalpy= -5.31163457E+002 eV\n",
            " LBFGS: starting iteration         1 with trial guess (lambda=  1.000000)\n",
            changed(atoms, ("0.010000   0.000000", "0.020000   0.000000")),
            *lower,
            recorded.SIC_FORCES,
            " LBFGS: reverting to earlier configuration\n",
            atoms,
            " LBFGS: finished iteration     1 with enthalpy= -5.31163457E+002 eV\n",
            recorded.CASTEP_TAIL,
        ]
    )
    first, tried = read_outputs([written("a.castep", text)]).frames
    assert first.get_scaled_positions()[2, 0] == pytest.approx(0.01)
    assert tried.get_scaled_positions()[2, 0] == pytest.approx(0.02)
    assert tried.info["REF_energy"] == pytest.approx(-532.1634567891)


# --- what stands for "not calculated" ---


def test_labels_that_are_lost_are_told(texts, written):
    forces = texts["pwx"]
    begin, end = forces.index("     Forces acting on atoms"), forces.index("     Computing stress")
    result = read_outputs([written("a.out", forces[:begin] + forces[end:])])
    assert [note.split(": ")[1] for note in result.notes] == ["1 of 2 steps without forces"]


SILICON = Atoms(
    "Si2", cell=np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.7, scaled_positions=[[0, 0, 0], [0.25, 0.25, 0.25]], pbc=True
)


def test_zeros_that_symmetry_demands():
    stress = np.eye(3) * 0.01
    forces, _, notes = not_calculated(Step(SILICON, -1.0, np.zeros((2, 3)), stress))
    assert forces is not None
    assert notes == []
    atom = Atoms("Si", cell=[12, 12, 12], pbc=True)
    assert not_calculated(Step(atom, -1.0, np.zeros((1, 3)), np.zeros((3, 3))))[2] == []


@pytest.mark.parametrize(
    ("forces", "stress", "note"),
    [
        (np.zeros((2, 3)), None, "forces are exactly 0, which its symmetry does not demand"),
        (np.full((2, 3), 0.5), None, "forces are 0.5 eV/Å in all directions"),
        (np.eye(3)[:2], np.zeros((3, 3)), "stress is exactly 0 in all components"),
        (np.eye(3)[:2], np.full((3, 3), 0.1), "stress has one value in all components"),
    ],
)
def test_numbers_that_stand_for_nothing(forces, stress, note):
    moved = SILICON.copy()
    moved.positions[0] += [0.05, 0.02, -0.01]
    kept_forces, kept_stress, notes = not_calculated(Step(moved, -1.0, forces, stress))
    assert len(notes) == 1
    assert note in notes[0]
    assert (kept_forces is None) == ("forces" in note)
    assert kept_stress is None


def test_zeros_in_an_output_are_left_out_with_a_note(written):
    text = re.sub(r"(?m)^( \* (?:C|Si) +\d+ ).*$", r"\1     0.00000      0.00000      0.00000 *", recorded.SIC_CASTEP)
    result = read_outputs([written("a.castep", text)])
    assert "REF_forces" not in result.frames[0].arrays
    assert "step 1: all its forces are exactly 0, which its symmetry does not demand: left out" in result.notes[0]


# --- files ---


def test_the_same_run_twice(written, texts, tmp_path):
    path = written("a.out", texts["pwx"])
    with gzip.open(tmp_path / "a.out.gz", "wt") as handle:
        handle.write(texts["pwx"])
    result = read_outputs([tmp_path])
    assert len(result.frames) == 2
    assert result.notes == [f"{tmp_path / 'a.out.gz'}: not read, its content is that of {path}"]
    other = written("b.out", texts["pwx"].replace("Program PWSCF", "Program PWSCF "))  # another file of the same run
    result = read_outputs([path, other])
    assert len(result.frames) == 2
    assert result.notes == [f"{other}: 2 steps left out, with structure and labels as in {path}"]


def test_two_runs_of_vasp_in_one_folder(written, changed):
    """An OUTCAR is that of the vasprun.xml beside it if its energies are."""
    written("run/vasprun.xml", recorded.SIC_VASPRUN)
    same = written("run/OUTCAR", recorded.SIC_OUTCAR)
    with pytest.raises(FrameError, match="different levels"):  # those made by hand have other settings
        read_outputs([written("run/OUTCAR.2", recorded.SIC_OUTCAR.replace("-30.12345678", "-31.12345678")), same.parent])
    result = read_outputs([same.parent], mixed_levels=True)
    assert sorted(atoms.info["REF_energy"] for atoms in result.frames) == [-31.12345678, -30.12345678]
    assert [note.split(": ")[1] for note in result.notes] == ["left out, vasprun.xml beside it is of the same run"]


def test_the_same_labels_of_two_levels(written, changed):
    """Numbers that do not follow the settings are not taken for a copy without a word."""
    text = recorded.SIC_CASTEP
    other = changed(text, ("cut-off                   :   500.0000", "cut-off                   :   400.0000"))
    with pytest.raises(FrameError, match="cutoff: cutoff 500 eV, cutoff 400 eV"):
        read_outputs([written("a.castep", text), written("b.castep", other)])


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "OUTCAR")
    assert recognise(tmp_path / "OUTCAR") is None
    with pytest.raises(FrameError, match="not an output of"):
        read_outputs([tmp_path / "OUTCAR"])
    with pytest.raises(FrameError, match="no output of"):
        read_outputs([tmp_path])


def test_a_bomb(tmp_path):
    path = tmp_path / "OUTCAR.gz"
    with gzip.open(path, "wb") as handle:
        handle.write(b" vasp.6.4.1\n")
        for _ in range(64):
            handle.write(b"\0" * 2**20)
    assert recognise(path) == "OUTCAR"
    with pytest.raises(FrameError, match=r"grows .* times when decompressed"):
        read_outputs([path])


def test_xml_entities_are_refused(written, changed):
    declaration = '<?xml version="1.0"?>\n<!DOCTYPE m [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>\n'
    text = declaration + recorded.SIC_VASPRUN.split("\n", 1)[1]
    with pytest.raises(FrameError, match="declares xml entities or a document type"):
        read_outputs([written("vasprun.xml", text)])


def test_endless_nesting_is_refused(written):
    text = recorded.SIC_VASPRUN.replace("</modeling>", "<a>" * 100_000 + "</modeling>", 1)
    with pytest.raises(FrameError, match="more than 32 elements within each other"):
        read_outputs([written("vasprun.xml", text)])


def test_control_characters_are_written_out(tmp_path):
    path = tmp_path / "evil\x1b[31m.castep"
    path.write_text(recorded.SIC_CASTEP.replace("x  C            2", "x  \x1b[2J          2"))
    with pytest.raises(FrameError) as caught:
        read_outputs([path])
    assert "\x1b" not in str(caught.value)
    assert r"evil\x1b[31m.castep" in str(caught.value)


def test_parts_that_pw_tells_of_terms_are_no_labels():
    """A run with a PAW potential and ``verbosity='high'``: parts of the energy, tables of contributions to forces and stress."""
    (frame,) = read_outputs([Path(__file__).parent / "boron_paw_verbose.out.gz"]).frames
    assert frame.info["REF_energy"] == pytest.approx(-21.95656764 * units.Rydberg, abs=1e-7)
    force = np.array([-0.02524433, -0.00234361, -0.01245103]) * units.Rydberg / units.Bohr
    assert frame.arrays["REF_forces"] == pytest.approx(np.array([force, -force]), abs=1e-7)
    stress = 0.00004242 * units.Rydberg / units.Bohr**3  # pw.x's sign is that of a virial
    assert frame.info["REF_virial"].reshape(3, 3)[0, 1] == pytest.approx(stress * frame.get_volume(), abs=2e-5)
