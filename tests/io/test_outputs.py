"""Outputs of CASTEP, VASP and pw.x brought in. Numbers in the asserts are those one reads in the files, unless said otherwise."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from aiida_gaprss.frames import FrameError
from aiida_gaprss.io import castep, espresso, outcar, vasprun
from aiida_gaprss.io.common import Output, Step
from aiida_gaprss.io.outputs import EXTXYZ, _frame, read_outputs, recognise

#: GPa and kbar in eV/Å³, Ry in eV, bohr in Å (CODATA 2018), for conversions by hand.
GPA = 1 / 160.21766
KBAR = GPA / 10
RY, BOHR = 13.605693, 0.5291772


@pytest.fixture
def castep_text(data):
    """Return the text of a recorded .castep file."""
    return lambda name: gzip.decompress((data / "castep" / f"{name}.castep.gz").read_bytes()).decode()


@pytest.fixture
def vasp_text(data):
    """Return the text of a recorded OUTCAR or vasprun.xml."""
    return lambda run, name: gzip.decompress((data / "vasp" / run / f"{name}.gz").read_bytes()).decode()


def changed(text, old, new, count=1):
    """Replace ``old`` where it stands for the first time; it must be there."""
    assert old in text, old
    return text.replace(old, new, count)


def moved(text, n):
    """The recorded B8 run with its first atom n times 1e-6 further along the first lattice vector: another frame."""
    row = re.search(r"x  B            1         (0\.\d{6})", text)
    return changed(text, row[0], f"{row[0][:-8]}{float(row[1]) + 1e-6 * n:.6f}")


def energies(frames):
    return [atoms.info["REF_energy"] for atoms in frames]


def numbers(frames):
    return [int(atoms.info["frame_id"].rsplit("-", 1)[1]) for atoms in frames]


def pressure(atoms):
    """Pressure in GPa: a third of the trace of the virial per volume."""
    return atoms.info["REF_virial"].reshape(3, 3).trace() / 3 / atoms.get_volume() / GPA


# --- CASTEP ---


def test_castep_single_point(data):
    path = data / "castep" / "B8-singlepoint.castep.gz"
    result = read_outputs([path])
    (atoms,) = result.frames
    assert result.refused == []
    assert result.files == [path]
    # "Final free energy (E-TS)", neither "Final energy, E" nor "NB est. 0K energy".
    assert atoms.info["REF_energy"] == pytest.approx(-658.0427613302, abs=1e-9)
    assert atoms.arrays["REF_forces"][0] == pytest.approx([0.77072, -0.26436, 0.96958])
    assert atoms.arrays["REF_forces"][7] == pytest.approx([0.09994, 0.09589, -0.35859])
    # The stress tensor has a negative diagonal, and CASTEP says "Pressure: 17.8757": the virial of a compressed cell is positive.
    assert pressure(atoms) == pytest.approx(17.8757, abs=1e-4)
    volume = 51.518446
    assert atoms.info["REF_virial"][[0, 1, 2]] == pytest.approx(
        np.array([17.473519, -5.064942, -4.367193]) * GPA * volume, rel=1e-5
    )
    assert atoms.info["REF_virial"][5] == pytest.approx(-10.060143 * GPA * volume, rel=1e-5)
    assert atoms.cell.array[1] == pytest.approx([0.6697997, 3.9994532, 0])
    assert atoms.get_scaled_positions()[3] == pytest.approx([0.425947, 0.965895, 0.189247], abs=1e-6)
    assert atoms.info["frame_id"] == "B8-singlepoint-00001"
    assert atoms.info["config_type"] == "unknown"
    assert atoms.info["label_status"] == "ok"
    assert "origin" not in atoms.info
    # |b| of the first reciprocal vector is 1.9907/Å with 2π, divided by 7 (the grid is 7 6 6): 0.0453/Å without.
    assert result.level_of_theory == (
        "CASTEP 20.11; PBE; cutoff 340 eV; k-point spacing 0.0453–0.0502/Å; Gaussian smearing 0.2 eV; not spin-polarised; "
        "no dispersion correction; no finite basis correction; standard grid 1.75; projectors reciprocal space; "
        "pseudopotentials B B_QC5_PBE_OTF.usp"
    )


def test_castep_fixed_occupancies(data):
    result = read_outputs([data / "castep" / "Si-quickstart.castep.gz"])
    assert energies(result.frames) == pytest.approx([-337.9095600890], abs=1e-9)
    assert "REF_virial" not in result.frames[0].info  # the stress was not computed
    assert "CASTEP 19.1; LDA; cutoff 163.268 eV" in result.level_of_theory
    assert "fixed occupancies" in result.level_of_theory
    assert "Si 3|1.8|5|6|7|30:31:32" in result.level_of_theory


def test_castep_geometry_run(data):
    result = read_outputs([data / "castep" / "H2-geom.castep.gz"])
    assert energies(result.frames) == pytest.approx(
        [
            *(-28.81014821265, -31.16117962823, -31.65522184944, -31.22548944449),
            *(-31.67955911256, -31.69610120805, -31.69654126594, -31.69654969917),
        ],
        abs=1e-8,
    )
    assert numbers(result.frames) == [1, 2, 3, 4, 5, 6, 7, 8]
    # Forces and positions (box of 5 Å) of the first step, of the quad step of the second iteration, and of the last.
    assert [a.arrays["REF_forces"][0, 0] for a in result.frames][::5] == pytest.approx([4.05345, -0.17595])
    assert result.frames[7].arrays["REF_forces"][1] == pytest.approx([0.00041, 0, 0])
    assert result.frames[0].positions[1] == pytest.approx([1.5, 0, 0])
    assert result.frames[7].positions[:, 0] == pytest.approx([5 * 0.074668, 5 * 0.225332])


def test_castep_molecular_dynamics(data):
    frames = read_outputs([data / "castep" / "N2-md.castep.gz"]).frames
    assert len(frames) == 21  # the start and 20 steps
    assert energies(frames)[::10] == pytest.approx([-542.2483827348, -542.2516025338, -542.2656549251], abs=1e-8)
    assert frames[1].positions[0] == pytest.approx([5.0, 5.0, 5.0], abs=0.01)
    # The step's own forces; after "Finished MD" CASTEP prints others, with those of the Langevin thermostat: -1.20079 -0.77671.
    assert frames[20].arrays["REF_forces"][0] == pytest.approx([-1.23688, 0.16052, -0.18176])


def test_castep_forces_after_the_end_of_molecular_dynamics(castep_text, written):
    """Also if CASTEP calls them forces, without a word of constraints."""
    head, end = castep_text("N2-md").split(" Finished MD")
    end = changed(end, "*** Constrained Forces ***", "*** Forces ***")
    frames = read_outputs([written("a.castep", f"{head} Finished MD{end}")]).frames
    assert frames[20].arrays["REF_forces"][0] == pytest.approx([-1.23688, 0.16052, -0.18176])


def test_castep_stress_of_molecular_dynamics(castep_text, written):
    """The recorded run with a stress tensor, that of another one, in its first step."""
    other = castep_text("B8-singlepoint")
    tensor = other[other.index(" ***************** Stress Tensor") : other.index(" Pseudo atomic calculation", 12000)]
    text = castep_text("N2-md")
    at = text.index("x   Potential Energy")
    at = text.rindex("            xxxxx", 0, at)
    result = read_outputs([written("a.castep", text[:at] + tensor + text[at:])], steps="first")
    assert "REF_virial" not in result.frames[0].info
    assert result.frames[0].arrays["REF_forces"][0, 0] == pytest.approx(2.40468)
    assert len(result.notes) == 1
    assert "stress of molecular dynamics left out" in result.notes[0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # ASE's, of warnings in the file
@pytest.mark.parametrize("name", ["B8-singlepoint", "H2-geom", "N2-md", "Si-geom-stress", "Si-quickstart"])
def test_castep_as_ase_reads_it(castep_text, written, name):
    """But for the forces of the last step of the dynamics run, and the energies that are corrected for the basis set."""
    path = written(f"{name}.castep", castep_text(name))
    frames = read_outputs([path]).frames
    others = read(path, index=":", format="castep-castep")
    assert len(frames) == len(others)
    for number, (atoms, other) in enumerate(zip(frames, others, strict=True), start=1):
        assert np.allclose(atoms.cell.array, other.cell.array, atol=1e-9)
        assert np.allclose(atoms.positions, other.positions, atol=1e-6)
        assert list(atoms.symbols) == list(other.symbols)
        if name != "Si-geom-stress":
            assert atoms.info["REF_energy"] == pytest.approx(other.calc.results["free_energy"], abs=1e-8)
        if "forces" in other.calc.results and (name, number) != ("N2-md", 21):
            assert np.allclose(atoms.arrays["REF_forces"], other.calc.results["forces"], atol=1e-9)
        assert ("REF_virial" in atoms.info) == ("stress" in other.calc.results)
        if "REF_virial" in atoms.info:
            virial = -other.get_stress(voigt=False) * other.get_volume()
            assert np.allclose(atoms.info["REF_virial"].reshape(3, 3), virial, atol=1e-8)


def plane_waves(cell, cutoff):
    """Return, for each k-point of a 4×4×4 Monkhorst-Pack mesh, the number of plane waves over that of a continuous basis."""
    hartree, bohr = 27.211386, 0.529177211
    reciprocal = 2 * np.pi * np.linalg.inv(cell / bohr).T
    grid = np.stack(np.meshgrid(*[np.arange(-8, 9)] * 3, indexing="ij"), -1).reshape(-1, 3)
    points = (np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) + 0.5) / 4
    counts = [(0.5 * (((grid + k) @ reciprocal) ** 2).sum(axis=1) <= cutoff / hartree).sum() for k in points]
    volume = abs(np.linalg.det(cell)) / bohr**3
    return np.array(counts) * 6 * np.pi**2 / (volume * (2 * cutoff / hartree) ** 1.5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_castep_energy_corrected_for_the_finite_basis(data, castep_text, written):
    result = read_outputs([data / "castep" / "Si-geom-stress.castep.gz"])
    frames = result.frames
    assert len(frames) == 91
    # "Total energy corrected for finite basis set", then trial, line and quad step of the tables of the minimiser; the final free
    # energies of these steps are -216.0299367739 (after those of two smaller cutoffs), -216.0269816518, -216.0212717224 …
    assert energies(frames)[:4] == pytest.approx([-216.028366, -216.030391, -216.026269, -216.030382], abs=1e-9)
    assert [pressure(a) for a in frames[:4]] == pytest.approx([2.3075 + 0.54, 2.3075, -2.2682, 1.2234], abs=1e-4)
    assert [a.get_volume() for a in frames[:3]] == pytest.approx([39.167950, 39.391439, 40.375775], abs=1e-5)
    assert "finite basis correction automatic, energies corrected" in result.level_of_theory
    assert "REF_forces" not in frames[0].info
    assert frames[90].arrays["REF_forces"] == pytest.approx(np.zeros((2, 3)))  # those of the final configuration

    # What the correction is, counted here: -2/3 dE/dlog(Ecut) ln(N/N₀), on the free energy; "dEtot/dlog(Ecut) = -1.313172eV".
    free = [a.calc.results["free_energy"] for a in read(written("Si.castep", castep_text("Si-geom-stress")), index=":")]
    for atoms, energy in list(zip(frames, free, strict=True))[:12]:
        correction = 2 / 3 * 1.313172 * np.log(plane_waves(atoms.cell.array, 120.0)).mean()
        assert atoms.info["REF_energy"] - energy == pytest.approx(correction, abs=2e-6)

    # The stress is the derivative of the corrected energy, and of no other.
    near = sorted((a.get_volume(), pressure(a) * GPA, a.info["REF_energy"], e) for a, e in zip(frames, free, strict=True))
    volumes, pressures, corrected, uncorrected = np.array([row for row in near if 40.1 < row[0] < 40.7]).T
    work = -np.trapezoid(pressures, volumes) if hasattr(np, "trapezoid") else -np.trapz(pressures, volumes)
    assert corrected[-1] - corrected[0] == pytest.approx(work, rel=0.02)
    assert abs(uncorrected[-1] - uncorrected[0] - work) > 0.3 * work


def test_castep_correction_for_the_finite_basis_that_is_not_printed(castep_text, written):
    """The recorded single point, with the line of its header and its energy as a run with the correction has them."""
    text = changed(
        castep_text("Si-quickstart"),
        "finite basis set correction                    : none",
        "finite basis set correction : automatic",
    )
    with pytest.raises(FrameError, match=r"a\.castep, step 1: its energy corrected for the finite basis set is not printed"):
        read_outputs([written("a.castep", text)])
    line = " Total energy corrected for finite basis set =    -337.905000 eV\n"
    text = changed(text, "(energy not corrected for finite basis set)\n", f"(energy not corrected for finite basis set)\n{line}")
    assert energies(read_outputs([written("b.castep", text)]).frames) == [-337.905]


SEDC = """
(SEDC) Total Energy Correction : -0.567289E+00 eV

Dispersion corrected final energy*, Ecor          =  -658.5837894529     eV
Dispersion corrected final free energy* (Ecor-TS) =  -658.6100503302     eV
NB dispersion corrected est. 0K energy* (Ecor-0.5TS) =  -658.5969198916     eV
"""


def with_dispersion(text, scheme, printed):
    """A recorded output with a dispersion correction, in the words in which CASTEP prints one."""
    on = f"correction    : on\n SEDC with                                      : {scheme} correction scheme"
    text = changed(text, "correction    : off", on)
    return re.sub(
        r"(NB est\. 0K energy.*\n|\(energy not corrected for finite basis set\)\n)", lambda m: m[0] + printed, text, count=1
    )


def test_castep_dispersion(castep_text, written):
    text = with_dispersion(castep_text("B8-singlepoint"), "TS", SEDC)
    result = read_outputs([written("a.castep", text)])
    assert energies(result.frames) == pytest.approx([-658.6100503302], abs=1e-9)
    assert "dispersion correction TS;" in result.level_of_theory
    # Older versions print only the correction and the energy that is not the free one.
    only = SEDC.split("Dispersion corrected final free")[0]
    text = with_dispersion(castep_text("B8-singlepoint"), "G06", only)
    assert energies(read_outputs([written("b.castep", text)]).frames) == pytest.approx([-658.0427613302 - 0.567289], abs=1e-9)
    text = with_dispersion(castep_text("Si-quickstart"), "TS", "\nDispersion corrected final energy* =  -338.5595600890     eV\n")
    assert energies(read_outputs([written("c.castep", text)]).frames) == pytest.approx([-338.5595600890], abs=1e-9)


@pytest.mark.parametrize(
    ("scheme", "printed", "reason"),
    [
        ("TS", "", "dispersion correction TS, but no dispersion-corrected free energy printed"),
        ("TS", SEDC.replace("free energy", "energy").replace("(SEDC)", "("), "but no dispersion-corrected free energy printed"),
        ("TSsurf", SEDC, "dispersion correction TSsurf: it cannot be told whether forces and stress include it"),
    ],
)
def test_castep_dispersion_that_cannot_be_told(castep_text, written, scheme, printed, reason):
    with pytest.raises(FrameError, match=reason):
        read_outputs([written("a.castep", with_dispersion(castep_text("B8-singlepoint"), scheme, printed))])


def test_castep_minimiser_without_the_dispersion(castep_text, written):
    """If the minimiser worked with another energy, the forces it prints are of that one."""
    text = with_dispersion(castep_text("H2-geom"), "TS", "\nDispersion corrected final energy* =  -28.91014821265     eV\n")
    with pytest.raises(FrameError) as caught:
        read_outputs([written("a.castep", text)])
    reasons = str(caught.value)
    assert "step 1: its forces belong to another energy: the minimiser works with -28.810148 eV, not -28.910148 eV" in reasons
    assert "step 2: dispersion correction TS, but no dispersion-corrected free energy printed" in reasons


def test_castep_enthalpy_under_pressure(castep_text, written):
    """The recorded run as if under 1 GPa in its box of 125 Å³; the first enthalpy is made to fit, the others are not."""
    text = changed(castep_text("H2-geom"), "0.00000   0.00000   0.00000\n" + " " * 36 + "0.00000", "1.0 0.0 0.0\n 1.0")
    text = text.replace(" " * 46 + "0.00000\n", " " * 46 + "1.0\n", 1)
    fitting = -28.81014821265 + 125 * GPA
    result = read_outputs([written("a.castep", changed(text, "enthalpy= -2.88101482E+001", f"enthalpy= {fitting:.8E}"))])
    assert energies(result.frames) == pytest.approx([-28.81014821265])
    assert len(result.refused) == 7
    assert all("belong to another energy" in refused.reason for refused in result.refused)


WARNING = " *Warning* max. SCF cycles performed but system has not reached the groundstate.\n"


def test_castep_scf_not_converged(castep_text, written):
    """Recorded runs with CASTEP's warning in them."""
    text = castep_text("B8-singlepoint")
    text = changed(text, "Final energy, E ", f"{WARNING}Final energy, E ")
    with pytest.raises(FrameError, match=r"a\.castep, step 1: the SCF is not converged"):
        read_outputs([written("a.castep", text)])
    text = castep_text("H2-geom")
    third = text.index("Final energy =  -31.65522184944")
    result = read_outputs([written("b.castep", text[:third] + WARNING + text[third:])])
    assert numbers(result.frames) == [1, 2, 4, 5, 6, 7, 8]
    assert [(refused.path.name, refused.step) for refused in result.refused] == [("b.castep", 3)]
    with pytest.raises(FrameError, match=r"b\.castep, step 3: the SCF is not converged"):
        read_outputs([written("b.castep", text[:third] + WARNING + text[third:])], steps="2:3")


def test_castep_unfinished(castep_text, written):
    """Recorded runs cut off after an energy, before its forces, and within an SCF."""
    text = castep_text("H2-geom")
    path = written("a.castep", text[: text.index("-31.67955911256     eV") + 25])
    result = read_outputs([path])
    assert numbers(result.frames) == [1, 2, 3, 4]
    assert [str(refused) for refused in result.refused] == [f"{path}, step 5: incomplete: the run ends during this step"]
    assert numbers(read_outputs([path], steps="last").frames) == [4]
    path = written("b.castep", text[: text.index("Final energy =")])
    with pytest.raises(FrameError, match=r"b\.castep, step 1: incomplete"):
        read_outputs([path])
    path = written("c.castep", text[: text.index("Unit Cell")])
    with pytest.raises(FrameError, match=r"c\.castep: the run ended before it began to compute"):
        read_outputs([path])
    # A step that CASTEP calls finished is complete, though the run is not.
    text = castep_text("N2-md")
    result = read_outputs([written("d.castep", text[: text.index("finished MD iteration          7") + 32])])
    assert len(result.frames) == 8
    assert result.refused == []


@pytest.mark.parametrize("name", ["H2-geom", "N2-md"])
def test_castep_cut_off_anywhere(castep_text, written, name):
    """What is read of a beginning is a beginning of what is read of the whole."""
    text = castep_text(name)
    lines = text.splitlines(keepends=True)
    whole = castep.read(text).steps
    counts = []
    for end in range(60, len(lines), 37):
        part = "".join(lines[:end])[:-11]  # within a line
        steps = castep.read(part).steps
        counts.append(len(steps))
        for step, other in zip(steps, whole[: len(steps)], strict=True):
            assert step.problem is None
            assert step.energy == other.energy
            assert np.array_equal(step.forces, other.forces)
            assert step.atoms == other.atoms
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == len(whole)


def test_castep_forces_after_constraints(castep_text, written):
    """The recorded run as one with a fixed atom, marked as CASTEP does; only the final forces are printed without constraints."""

    def fixed(match):
        return f" * H               1 {match[1]:>12}(cons'd){match[2]:>13}(cons'd){match[3]:>13}(cons'd) *"

    text = re.sub(r"^ \* H               1 +(\S+) {10,}(\S+) {10,}(\S+) +\*$", fixed, castep_text("H2-geom"), flags=re.MULTILINE)
    assert text.count("(cons'd)") == 3 * 9  # eight steps and the final configuration
    result = read_outputs([written("a.castep", text)])
    assert ["REF_forces" in a.arrays for a in result.frames] == [False] * 7 + [True]
    assert len(energies(result.frames)) == 8
    assert any("forces left out" in note for note in result.notes)
    # Where both are printed, those before constraints.
    head, end = castep_text("H2-geom").split("Unconstrained Forces")
    block, end = end.split("Constrained Forces")
    text = f"{head}Unconstrained Forces{block}Constrained Forces{end.replace('0.00041', '0.00099')}"
    assert read_outputs([written("b.castep", text)]).frames[7].arrays["REF_forces"][1, 0] == pytest.approx(0.00041)


def test_castep_two_runs_in_one_file(castep_text, written):
    text = castep_text("H2-geom")
    result = read_outputs([written("a.castep", text + text[: text.index("-31.16117962823")])])
    assert len(result.frames) == 9
    assert energies(result.frames)[8] == energies(result.frames)[0]
    assert [refused.step for refused in result.refused] == [10]
    other = castep_text("Si-quickstart")
    with pytest.raises(FrameError, match="different levels of theory"):
        read_outputs([written("b.castep", text + other)])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("single point energy", "phonon calculation", "type of calculation is 'phonon calculation'"),
        (
            "energy unit                     : eV",
            "energy unit                     : hartree",
            "energy unit is hartree, expected eV",
        ),
        ("force unit                     : eV/A", "force unit                     : eV/nm", "force unit is eV/nm"),
    ],
)
def test_castep_that_is_not_read(castep_text, written, old, new, reason):
    with pytest.raises(FrameError, match=rf"a\.castep: .*{reason}"):
        read_outputs([written("a.castep", changed(castep_text("B8-singlepoint"), old, new))])


# --- VASP ---


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_vasp(data, name):
    result = read_outputs([data / "vasp" / "converged" / f"{name}.gz"])
    (atoms,) = result.frames
    # TOTEN; "energy(sigma->0)" is -6.50161629, "energy without entropy" -6.50108600.
    assert atoms.info["REF_energy"] == pytest.approx(-6.50214658, abs=1e-9)
    assert atoms.arrays["REF_forces"] == pytest.approx(
        np.array([[-6.096355, 11.337138, -7.021623], [6.096355, -11.337138, 7.021623]]), abs=1e-6
    )
    # OUTCAR: "FORCE on cell =-STRESS in cart. coord. units (eV)", Total, XX YY ZZ XY YZ ZX: the virial itself.
    xx, yy, zz, xy, yz, zx = 0.34146, 13.89564, 6.51489, -5.07374, -10.64333, 4.12472
    assert atoms.info["REF_virial"].reshape(3, 3) == pytest.approx(
        np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]), abs=1.5e-5
    )
    assert pressure(atoms) == pytest.approx(27.105, abs=1e-3)  # "external pressure = 271.05 kB"
    assert atoms.positions[0] == pytest.approx([4.10155, 4.12889, 4.23826], abs=1e-5)
    assert atoms.info["frame_id"] == "converged-00001"  # the folder; the file's name says nothing
    spacing = "k-point spacing 0.0792–0.106/Å"  # 0.316719/4 and /3; the OUTCAR has the list of k-points only
    assert result.level_of_theory == (
        f"VASP 5.4.4; PBE; cutoff 300 eV; {spacing}; Gaussian smearing 0.05 eV; not spin-polarised; no dispersion correction; "
        "precision accurate; real-space projection; LASPH; pseudopotentials Si PAW_PBE Si 05Jan2001"
    )


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_vasp_scf_not_converged(data, name, vasp_text):
    """VASP says that EDIFF is reached, and ASE reads the energy; it was stopped after NELM = 8 steps."""
    with pytest.raises(FrameError, match=r"step 1: the SCF is not converged: it stopped at NELM = 8 electronic steps"):
        read_outputs([data / "vasp" / "elec-unconverged" / f"{name}.gz"])
    assert "aborting loop because EDIFF is reached" in vasp_text("elec-unconverged", "OUTCAR")


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_vasp_unfinished(data, name):
    with pytest.raises(FrameError, match=rf"{name}.gz, step 1: incomplete: the run ends during this step"):
        read_outputs([data / "vasp" / "unfinished" / f"{name}.gz"])


def test_vasp_folder(data):
    result = read_outputs([data / "vasp"])
    assert [a.info["frame_id"] for a in result.frames] == ["converged-00001"]
    assert "k-point spacing" in result.level_of_theory  # the vasprun.xml, with eight decimals
    assert result.frames[0].positions[0] == pytest.approx([4.101546, 4.12888964, 4.23826420], abs=1e-8)
    refused = [(item.path.parent.name, item.path.name, item.step) for item in result.refused]
    assert refused == [
        ("elec-unconverged", "vasprun.xml.gz", 1),
        ("unfinished", "OUTCAR.gz", 1),
        ("unfinished", "vasprun.xml.gz", 1),
    ]
    assert [note.split(": ")[1] for note in result.notes] == ["left out, vasprun.xml.gz beside it is of the same run"] * 2


def two_steps(text, name):
    """A recorded file whose only ionic step stands in it twice, the second time as step 2 and with a lower energy."""
    if name == "OUTCAR":
        begin, end = text.index("--------------------------------------- Iteration      1(   1)"), text.index("     LOOP+:  cpu")
        second = text[begin:end].replace("Iteration      1(", "Iteration      2(")
        return text[:end] + second.replace("TOTEN  =        -6.50214658", "TOTEN  =        -6.60214658") + text[end:], end + len(
            second
        )
    begin, end = text.index(" <calculation>"), text.index("</calculation>") + len("</calculation>\n")
    return text[:end] + text[begin:end].replace("-6.50214658", "-6.60214658") + text[end:], 2 * end - begin


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_vasp_several_steps(vasp_text, written, name):
    text, end = two_steps(vasp_text("converged", name), name)
    result = read_outputs([written(f"run/{name}", text)])
    assert energies(result.frames) == pytest.approx([-6.50214658, -6.60214658])
    assert numbers(result.frames) == [1, 2]
    assert result.refused == []
    # Cut off in the second: the first can be used.
    path = written(f"cut/{name}", text[: end - 10000])
    result = read_outputs([path])
    assert energies(result.frames) == pytest.approx([-6.50214658])
    assert [str(refused) for refused in result.refused] == [
        f"{path}, step 2: incomplete: the run ends during this step" + (", in electronic step 12" if name == "OUTCAR" else "")
    ]
    # Cut off between the steps: all that began is complete.
    between = text.index("FREE ENERGIE OF THE ION-ELECTRON SYSTEM" if name == "OUTCAR" else "</calculation>") + 500
    result = read_outputs([written(f"between/{name}", text[: between if name == "OUTCAR" else between - 480])])
    assert numbers(result.frames) == [1]
    assert result.refused == []
    # Only 12 electronic steps allowed, as many as were done.
    old, new = ('name="NELM">    20', 'name="NELM">    12') if name == "vasprun.xml" else ("NELM   =     20;", "NELM   =     12;")
    with pytest.raises(FrameError, match="step 2: the SCF is not converged: it stopped at NELM = 12"):
        read_outputs([written(f"nelm/{name}", changed(text, old, new, -1))])


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_vasp_cut_off_anywhere(vasp_text, name):
    text, _ = two_steps(vasp_text("converged", name), name)
    reader = outcar.read if name == "OUTCAR" else vasprun.read
    counts = []
    for end in [*range(3000, len(text), len(text) // 40), len(text)]:
        output = reader(text[:end])
        counts.append(len(output.steps))
        assert [step.energy for step in output.steps] == pytest.approx([-6.50214658, -6.60214658][: len(output.steps)])
        assert output.steps or output.refused
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 2


def test_vasp_6_says_that_it_is_not_converged(vasp_text, written):
    text = changed(vasp_text("converged", "OUTCAR"), "because EDIFF is reached -", "EDIFF was not reached (unconverged) -")
    with pytest.raises(FrameError, match="VASP says that EDIFF was not reached"):
        read_outputs([written("OUTCAR", text)])


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml"])
def test_vasp_without_a_whole_stress(vasp_text, written, name):
    """ISIF = 1 gives the trace only."""
    old, new = ('name="ISIF">     2', 'name="ISIF">     1') if name == "vasprun.xml" else ("ISIF   =      2", "ISIF   =      1")
    (atoms,) = read_outputs([written(name, changed(vasp_text("converged", name), old, new, -1))]).frames
    assert "REF_virial" not in atoms.info
    assert "REF_forces" in atoms.arrays


def test_vasp_forces_on_fixed_atoms(vasp_text, written):
    """VASP prints forces as they are; a reader that applies constraints gives zero."""
    free, fixed = '<v type="logical" > T T T </v>', '<v type="logical" > F F F </v>'
    flags = f' </varray>\n  <varray name="selective" >\n{fixed}\n{free}\n  </varray>'
    text = vasp_text("converged", "vasprun.xml")
    at = text.index('<structure name="initialpos"')
    path = written("vasprun.xml", text[:at] + changed(text[at:], "0.40000000 </v>\n  </varray>", f"0.40000000 </v>\n {flags}"))
    assert read(path, format="vasp-xml").get_forces()[0] == pytest.approx([0, 0, 0])
    (atoms,) = read_outputs([path]).frames
    assert atoms.arrays["REF_forces"][0] == pytest.approx([-6.09635501, 11.33713775, -7.02162328])


def test_vasp_enthalpy_is_not_the_energy(vasp_text, written):
    """With PSTRESS (here 100 kB), the energy of an ionic step in vasprun.xml is an enthalpy."""
    text = changed(
        vasp_text("converged", "vasprun.xml"), 'name="PSTRESS">      0.00000000', 'name="PSTRESS">    100.00000000', -1
    )
    at = text.rindex("-6.50214658")
    enthalpy = -6.50214658 + 100 * KBAR * 40.88829285
    (atoms,) = read_outputs([written("vasprun.xml", f"{text[:at]}{enthalpy:.8f}{text[at + 11 :]}")]).frames
    assert atoms.info["REF_energy"] == pytest.approx(-6.50214658, abs=5e-6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("GGA     =    --", "GGA     =    PS")], "PBEsol; cutoff"),
        ([("METAGGA=      F", "METAGGA=   SCAN")], "SCAN; cutoff"),
        (
            [("LHFCALC =     F", "LHFCALC =     T"), ("AEXX    =    0.0000", "AEXX    =    0.2500\n   HFSCREEN=    0.2000")],
            "hybrid of PBE with AEXX 0.25 and HFSCREEN 0.2; cutoff",
        ),
        ([("ISMEAR =     0", "ISMEAR =     1")], "Methfessel-Paxton smearing of order 1 0.05 eV"),
        ([("ISMEAR =     0", "ISMEAR =    -5")], "tetrahedra (Blöchl); not spin"),
        ([("ISPIN  =      1", "ISPIN  =      2")], "; spin-polarised"),
        ([(" POTCAR: ", "   IVDW = 12\n POTCAR: ")], "dispersion correction D3-BJ"),
        ([("LREAL  =      T", "LREAL  =      F")], "reciprocal-space projection"),
        ([("NELECT =       8.0000", "NELECT =       7.0000")], "charge +1"),
    ],
)
def test_vasp_level_of_theory(vasp_text, written, changes, expected):
    """Lines of the recorded OUTCAR as VASP writes them with other settings."""
    text = vasp_text("converged", "OUTCAR")
    for old, new in changes:
        text = changed(text, old, new)
    assert expected in read_outputs([written("OUTCAR", text)]).level_of_theory


def test_vasp_force_field_learnt_on_the_fly(vasp_text, written):
    text = changed(vasp_text("converged", "OUTCAR"), " POTCAR: ", "   ML_LMLFF = .TRUE.\n POTCAR: ")
    with pytest.raises(FrameError, match="force field learnt on the fly"):
        read_outputs([written("OUTCAR", text)])


# --- all codes ---


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("all", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("last", [8]),
        ("first", [1]),
        ("::3", [1, 4, 7]),
        ("2:4", [3, 4]),
        ("-2:", [7, 8]),
        ("::-1", [8, 7, 6, 5, 4, 3, 2, 1]),
    ],
)
def test_chosen_steps(data, steps, expected):
    frames = read_outputs([data / "castep" / "H2-geom.castep.gz"], steps=steps).frames
    assert numbers(frames) == expected


@pytest.mark.parametrize("steps", ["", "3", "some", "1:2:3:4", "::0", "a:b", ":"])
def test_steps_that_cannot_be_chosen(data, steps):
    path = data / "castep" / "H2-geom.castep.gz"
    if steps == ":":
        assert len(read_outputs([path], steps=steps).frames) == 8
    else:
        with pytest.raises(FrameError, match="steps must"):
            read_outputs([path], steps=steps)


def test_no_step_in_the_slice(data):
    with pytest.raises(FrameError, match=r"H2-geom\.castep\.gz: has 8 steps, none of them in 20:"):
        read_outputs([data / "castep" / "H2-geom.castep.gz"], steps="20:")


def test_several_files(castep_text, written):
    """Two runs of one level; of a third, which gives nothing, the reason is kept."""
    text = castep_text("H2-geom")
    written("a/run.castep", text)
    written("b/run.castep", text[: text.index("-31.16117962823")])
    written("b/POSCAR", "no output\n")
    bad = written("c.castep", changed(text, "geometry optimization", "phonon calculation"))
    result = read_outputs([bad.parent, bad.parent / "a", bad.parent / "a" / "run.castep"], steps="last")
    assert [a.info["frame_id"] for a in result.frames] == ["a-run-00008", "b-run-00001"]
    assert [(refused.path.name, refused.step) for refused in result.refused] == [("run.castep", 2), ("c.castep", None)]
    assert [path.parent.name for path in result.files] == ["a", "b"]


def test_names_do_not_depend_on_the_steps(castep_text, written):
    path = written("x y.castep", castep_text("H2-geom"))
    assert read_outputs([path], steps="last").frames[0].info["frame_id"] == "x_y-00008"


def test_names_are_unique(castep_text, vasp_text, written):
    text = castep_text("B8-singlepoint")
    files = ("1/a.castep", "2/a.castep", "2/a.out", "2/b.castep", "2/a.castep.txt", "aiida.out")
    paths = [written(name, moved(text, n)) for n, name in enumerate(files)]
    names = [a.info["frame_id"] for a in read_outputs(paths).frames]
    assert len(set(names)) == len(paths)
    assert names[0] == "1-a-00001"
    assert names[3] == "b-00001"
    assert names[5] == f"{paths[5].parent.name}-00001"


def test_different_levels_of_theory(data):
    paths = [data / "castep" / "B8-singlepoint.castep.gz", data / "castep" / "Si-quickstart.castep.gz"]
    with pytest.raises(FrameError) as caught:
        read_outputs(paths)
    message = str(caught.value)
    assert "different levels of theory in one import; import them separately, or say --mixed-levels" in message
    assert re.search(
        r"B8-singlepoint\.castep\.gz and \S+/Si-quickstart\.castep\.gz differ in functional: PBE, LDA; cutoff: ", message
    )
    mixed = read_outputs(paths, mixed_levels=True)
    assert len(mixed.frames) == 2
    assert mixed.level_of_theory.count(" | ") == 1
    assert re.search(r"CASTEP 19\.1; LDA; cutoff 163\.268 eV.* \| CASTEP 20\.11; PBE; cutoff 340 eV", mixed.level_of_theory)


def test_the_pseudopotential_of_a_shared_element(castep_text, written):
    text = castep_text("B8-singlepoint")
    paths = [
        written("a.castep", text),
        written("b.castep", changed(moved(text, 1), "B B_QC5_PBE_OTF.usp", "B B_C19_PBE_OTF.usp")),
    ]
    with pytest.raises(FrameError, match=r"pseudopotential of B: B_QC5_PBE_OTF.usp, B_C19_PBE_OTF.usp"):
        read_outputs(paths)


def test_meshes_that_one_spacing_gives(castep_text, written):
    """A spacing of 0.05/Å gives 7 6 6 (0.0453, at most 0.0502); 9 8 8 needs one below 0.0396."""
    text = castep_text("B8-singlepoint")
    a, b, c = (
        written(f"{name}.castep", changed(moved(text, n), "is  7  6  6", f"is  {mesh}"))
        for n, (name, mesh) in enumerate(zip("abc", ("7 6 6", "7 6 6", "9 8 8"), strict=True))
    )
    result = read_outputs([a, b])
    assert result.notes == []
    assert "k-point spacing 0.0453–0.0502/Å" in result.level_of_theory
    with pytest.raises(FrameError, match=r"a\.castep and \S+c\.castep differ in k-point spacing: 0\.0453–0\.0502/Å, 0\.0352"):
        read_outputs([a, b, c])
    assert len(read_outputs([a, b, c], mixed_levels=True).frames) == 3


def test_versions_may_differ(castep_text, written):
    text = castep_text("B8-singlepoint")
    paths = [
        written("a.castep", text),
        written("b.castep", changed(moved(text, 1), "CASTEP version 20.11|", "CASTEP version 19.1 |")),
    ]
    assert read_outputs(paths).level_of_theory.startswith("CASTEP 20.11, 19.1; PBE")


def test_isolated_atom(data):
    atom = Atoms("B", cell=[10, 10, 10], pbc=True)
    frame = _frame(Output([Step(atom, -70.0, np.zeros((1, 3)), 0.01 * np.eye(3))]), 1, "isolated_atom")
    assert frame.info["config_type"] == "isolated_atom"
    assert "REF_virial" not in frame.info
    assert "REF_virial" in _frame(Output([Step(atom, -70.0, np.zeros((1, 3)), 0.01 * np.eye(3))]), 1, "bulk").info
    atom.set_cell([[10, 0, 0], [8, 3, 0], [0, 0, 10]])  # long edges, but 3.6 Å between images
    with pytest.raises(FrameError, match=r"the atom is 3\.61 Å from its own image"):
        _frame(Output([Step(atom, -70.0)]), 1, "isolated_atom")
    with pytest.raises(FrameError, match=r"Si-quickstart.* step 1: config_type isolated_atom, but it has 2 atoms"):
        read_outputs([data / "castep" / "Si-quickstart.castep.gz"], config_type="isolated_atom")


def test_what_a_file_is(data, written):
    assert recognise(data / "castep" / "N2-md.castep.gz") == "CASTEP"
    assert recognise(data / "castep" / "Si-geom-stress.geom.gz") is None
    assert recognise(data / "vasp" / "converged" / "vasprun.xml.gz") == "vasprun.xml"
    assert recognise(data / "vasp" / "converged" / "OUTCAR.gz") == "OUTCAR"
    assert recognise(data / "vasp" / "converged" / "POSCAR.gz") is None
    assert recognise(data / "boron" / "random_search_39.xyz") == EXTXYZ
    assert recognise(written("plain.xyz", "1\nno lattice\nSi 0 0 0\n")) is None


def test_paths_that_are_no_outputs(data, tmp_path, written):
    written("folder/a.txt", "nothing\n")
    paths = [tmp_path / "absent", tmp_path / "folder", tmp_path / "folder" / "a.txt"]
    with pytest.raises(FrameError) as caught:
        read_outputs(paths)
    assert str(caught.value).splitlines() == [
        "nothing to import",
        f"  {paths[0]}: no such file or folder",
        f"  {paths[1]}: no output of CASTEP, VASP or Quantum ESPRESSO in it",
        f"  {paths[2]}: not an output of CASTEP, VASP (OUTCAR, vasprun.xml) or pw.x",
    ]
    path = tmp_path / "cut.castep.gz"
    path.write_bytes((data / "castep" / "Si-geom-stress.castep.gz").read_bytes()[:20000])
    with pytest.raises(FrameError, match=r"cut\.castep\.gz: is cut: its compressed data have no end"):
        read_outputs([path])


def test_frames_pass_the_checks_of_every_dataset():
    flat = Atoms("B2", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], positions=[[0, 0, 0], [1, 1, 1]])
    with pytest.raises(FrameError, match="cell is missing or flat"):
        _frame(Output([Step(flat, -70.0)]), 1, None)
    with pytest.raises(FrameError, match="REF_energy is nan, expected finite numbers"):
        _frame(Output([Step(Atoms("B", cell=[3, 3, 3], pbc=True), float("nan"))]), 1, None)


# --- Quantum ESPRESSO: real runs ---

EXAMPLE = Path(__file__).parents[2] / "examples" / "boron_qe" / "make_pseudopotential.py"

INPUT = """&control
  calculation = '{calculation}', prefix = 'B', pseudo_dir = '.', outdir = 'out', tprnfor = .true., tstress = .true., nstep = 3
/
&system
  ibrav = 0, nat = {n_atoms}, ntyp = 1, ecutwfc = {ecutwfc}, ecutrho = {ecutrho}, {system}
/
&electrons
  conv_thr = 1e-8, {electrons}
/
&ions
/
&cell
/
ATOMIC_SPECIES
B 10.81 B.pbe-n-paw-ld1.UPF
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS crystal
{positions}
K_POINTS {k_points}
"""
SMEARING = "occupations = 'smearing', smearing = 'mv', degauss = 0.02"


@pytest.fixture(scope="session")
def pw(tmp_path_factory):
    """Run pw.x on two boron atoms and return its output, each once."""
    if shutil.which("pw.x") is None or shutil.which("ld1.x") is None:
        pytest.skip("no pw.x")
    folder = tmp_path_factory.mktemp("pw")
    subprocess.run([sys.executable, EXAMPLE, folder], check=True, capture_output=True, timeout=60)
    made = {}

    def pw(calculation="scf", system=SMEARING, electrons="", atoms=2, k_points="gamma", ecutwfc=30):
        key = (calculation, system, electrons, atoms, k_points, ecutwfc)
        if key not in made:
            where = folder / f"run{len(made)}"
            where.mkdir()
            shutil.copy(folder / "B.pbe-n-paw-ld1.UPF", where)
            text = INPUT.format(
                calculation=calculation,
                system=system,
                electrons=electrons,
                n_atoms=atoms,
                ecutwfc=ecutwfc,
                ecutrho=8 * ecutwfc,
                cell="2.9 0.1 0.0\n0.0 3.0 0.2\n0.1 0.0 3.1" if atoms == 2 else "8 0 0\n0 8 0\n0 0 8",
                positions="B 0 0 0 0 0 0\nB 0.5 0.47 0.05" if atoms == 2 else "B 0 0 0",
                k_points=k_points,
            )
            (where / "in").write_text(text)
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                ["pw.x", "-in", "in"], cwd=where, env=environment, capture_output=True, text=True, timeout=300, check=False
            )
            made[key] = done.stdout
        return made[key]

    return pw


def printed(text, pattern):
    """All that pw.x prints in this way, as numbers."""
    return [[float(x) for x in match.groups()] for match in re.finditer(pattern, text, re.MULTILINE)]


@pytest.mark.slow
def test_pw_relaxation(pw, written):
    text = pw("relax", k_points="automatic\n2 2 2 0 0 0")
    path = written("relax.out", text)
    result = read_outputs([path])
    assert numbers(result.frames) == [1, 2, 3]
    assert result.refused == []
    totals = [x for (x,) in printed(text, r"^!    total energy +=\s+(\S+) Ry")]
    assert energies(result.frames) == pytest.approx([total * RY for total in totals], rel=1e-7)
    forces = printed(text, r"^ +atom +2 type +1   force = +(\S+) +(\S+) +(\S+)")
    assert [a.arrays["REF_forces"][1] for a in result.frames] == pytest.approx(np.array(forces) * RY / BOHR, rel=1e-6)
    # The first atom is fixed, and still has its force.
    assert np.allclose(result.frames[0].arrays["REF_forces"].sum(axis=0), 0, atol=1e-6)
    # pw.x prints P= in kbar, positive if compressed; these cells are under tension.
    pressures = [x for (x,) in printed(text, r"\(kbar\) +P= +(\S+)")]
    assert [pressure(a) for a in result.frames] == pytest.approx([p / 10 for p in pressures], abs=2e-3)
    assert pressures[0] < 0
    xy = printed(text, r"P= .*\n +\S+ +\S+ +\S+ +\S+ +(\S+)")[0][0]
    assert result.frames[0].info["REF_virial"][1] == pytest.approx(xy * KBAR * result.frames[0].get_volume(), abs=1e-3)
    # Positions that ATOMIC_POSITIONS announce belong to the results after them.
    second = printed(text, r"^B +(\S+) +(\S+) +(\S+)$")[0]
    assert result.frames[1].get_scaled_positions()[1] == pytest.approx(second, abs=1e-7)
    others = read(path, index=":", format="espresso-out")
    for atoms, other in zip(result.frames, others, strict=True):
        assert np.allclose(atoms.positions, other.positions, atol=1e-6)
        assert atoms.info["REF_energy"] == pytest.approx(other.calc.results["free_energy"], rel=1e-6)
        assert np.allclose(atoms.arrays["REF_forces"], other.calc.results["forces"], rtol=1e-6, atol=1e-8)
        virial = -other.get_stress(voigt=False) * other.get_volume()
        assert np.allclose(atoms.info["REF_virial"].reshape(3, 3), virial, rtol=1e-5, atol=1e-8)
    assert re.fullmatch(
        r"Quantum ESPRESSO \S+; PBE; cutoff 30/240 Ry; k-point spacing 0\.172–0\.323/Å; Marzari-Vanderbilt smearing 0\.02 Ry; "
        r"not spin-polarised; no dispersion correction; pseudopotentials B B\.pbe-n-paw-ld1\.UPF \(md5 \w{8}\)",
        result.level_of_theory,
    )


@pytest.mark.slow
def test_pw_unfinished(pw, written):
    """The same run, cut off within its third step."""
    text = pw("relax", k_points="automatic\n2 2 2 0 0 0")
    third = [match.start() for match in re.finditer("^!", text, re.MULTILINE)][2]
    for end in (third - 500, third + 300):
        result = read_outputs([written("relax.out", text[:end])])
        assert numbers(result.frames) == [1, 2]
        assert [refused[1:] for refused in result.refused] == [(3, "incomplete: the run ends during this step")]
    counts = [len(espresso.read(text[:end]).steps) for end in range(0, len(text), 400)]
    assert counts == sorted(counts)
    assert counts[-1] == 3 or text[: range(0, len(text), 400)[-1]].count("JOB DONE") == 0
    with pytest.raises(FrameError, match=r"a\.out: the run ended before it began to compute"):
        read_outputs([written("a.out", text[: text.index("crystal axes")])])


@pytest.mark.slow
def test_pw_cell_that_changes(pw, written):
    text = pw("vc-relax", k_points="automatic\n2 2 2 0 0 0")
    result = read_outputs([written("a.out", text)])
    volumes = [x for (x,) in printed(text, r"new unit-cell volume = +\S+ a\.u\.\^3 \( +(\S+) Ang\^3 \)")]
    assert [a.get_volume() for a in result.frames[1:]] == pytest.approx(volumes[: len(result.frames) - 1], rel=1e-5)
    assert len(result.frames) == text.count("\n!")
    assert any("with the plane waves of the first cell" in note for note in result.notes)


@pytest.mark.slow
def test_pw_scf_not_converged(pw, written):
    text = pw(electrons="electron_maxstep = 3")
    assert "convergence NOT achieved after   3 iterations" in text
    with pytest.raises(
        FrameError, match=r"a\.out, step 1: the SCF is not converged: convergence NOT achieved after 3 iterations"
    ):
        read_outputs([written("a.out", text)])


@pytest.mark.slow
def test_pw_that_calls_itself_converged(pw, written):
    """Without scf_must_converge pw.x prints a final energy, and that convergence has been achieved."""
    text = pw(electrons="electron_maxstep = 3, scf_must_converge = .false.")
    assert "\n!    total energy" in text
    with pytest.raises(FrameError, match=r"the SCF is not converged: estimated accuracy \S+ Ry, threshold 1\.0e-08 Ry"):
        read_outputs([written("a.out", text)])


@pytest.mark.slow
def test_pw_isolated_atom(pw, written):
    text = pw(system=f"{SMEARING}, nspin = 2, starting_magnetization(1) = 0.5, assume_isolated = 'mt'", atoms=1)
    path = written("B.out", text)
    (atoms,) = read_outputs([path], config_type="isolated_atom").frames
    assert atoms.info["config_type"] == "isolated_atom"
    assert "REF_virial" not in atoms.info
    result = read_outputs([path])
    assert "REF_virial" not in result.frames[0].info
    assert "; spin-polarised; " in result.level_of_theory
    assert "isolated system" in result.level_of_theory
    # pw.x prints no stress in this case; if it did, it would be left out.
    other = pw()
    stress = other[
        other.index("     Computing stress") : other.index("     Writing output data", other.index("     Computing stress"))
    ]
    (atoms,) = read_outputs(
        [written("c.out", changed(text, "     Writing output data", f"{stress}     Writing output data"))]
    ).frames
    assert "REF_virial" not in atoms.info
    assert "REF_forces" in atoms.arrays


@pytest.mark.slow
def test_pw_dispersion(pw, written):
    text = pw(system=f"{SMEARING}, vdw_corr = 'grimme-d3'")
    result = read_outputs([written("a.out", text)])
    assert "dispersion correction D3" in result.level_of_theory
    ((total,),) = printed(text, r"^!    total energy +=\s+(\S+) Ry")
    assert energies(result.frames) == pytest.approx([total * RY], rel=1e-7)
    # It is in the total energy: without it, this run differs by its D3 energy alone, which acts on nothing else.
    ((d3,),) = printed(text, r"DFT-D3 Dispersion +=\s+(\S+) Ry")
    ((without,),) = printed(pw(), r"^!    total energy +=\s+(\S+) Ry")
    assert total - without == pytest.approx(d3, abs=1e-6)
    with pytest.raises(FrameError, match="different levels of theory"):
        read_outputs([written("a.out", text), written("b.out", pw())])


@pytest.mark.slow
def test_pw_hybrid_functional(pw, written):
    """The last of several total energies, which pw.x marks with two signs; the first is that without exact exchange."""
    system = f"{SMEARING}, input_dft = 'pbe0', nqx1 = 1, nqx2 = 1, nqx3 = 1"
    text = pw(system=system, ecutwfc=20)
    result = read_outputs([written("a.out", text)])
    ((total,),) = printed(text, r"^!!   total energy +=\s+(\S+) Ry")
    assert energies(result.frames) == pytest.approx([total * RY], rel=1e-7)
    assert printed(text, r"^!    total energy +=\s+(\S+) Ry")[0][0] < total - 1
    assert "PBE0 with EXX-fraction 0.25" in result.level_of_theory
    with pytest.raises(FrameError, match="exact exchange is not converged"):
        read_outputs([written("a.out", text.replace("\n!!", "\n"))])


# --- the command ---


@pytest.fixture
def call():
    """Call ``dataset import``; return its output and its error."""

    def call(*arguments, ok=True):
        return helpers.call("dataset", "import", *arguments, ok=ok)

    return call


def loaded(text):
    from aiida.orm import load_node

    return load_node(int(re.search(r"dataset <(\d+)>", text)[1]))


def test_import_command(call, data):
    path = data / "castep" / "H2-geom.castep.gz"
    text = call(path, "--steps", "::4", "--config-type", "dimer")
    assert "2 frames, 4 atoms, 2 energies, 12 force components, 0 virials" in text
    node = loaded(text)
    assert node.level_of_theory == read_outputs([path]).level_of_theory
    assert f"level of theory: {node.level_of_theory}" in text
    assert node.label == "H2-geom.castep.gz"
    assert {a.info["config_type"] for a in node.get_frames()} == {"dimer"}
    assert energies(node.get_frames()) == pytest.approx([-28.81014821265, -31.67955911256], abs=1e-8)
    node = loaded(call(path, "--level-of-theory", "mine"))
    assert node.level_of_theory == "mine"


def test_import_command_of_a_folder(call, data):
    text = call(data / "vasp", data / "castep" / "H2-geom.castep.gz", ok=False)
    assert "different levels of theory in one import" in text
    text = call(data / "vasp")
    assert len(re.findall("^refused: ", text, re.MULTILINE)) == 3
    assert re.search(r"refused: .*elec-unconverged/vasprun\.xml\.gz, step 1: the SCF is not converged", text)
    assert len(re.findall("^note: ", text, re.MULTILINE)) == 2
    node = loaded(text)
    assert node.n_frames == 1
    assert node.label == "vasp"
    assert "3 refused, nothing imported (--strict)" in call(data / "vasp", "--strict", ok=False)
    assert "nothing to import" in call(data / "vasp" / "unfinished", ok=False)


def test_import_command_of_both_kinds(call, data, tmp_path):
    output, xyz = data / "castep" / "H2-geom.castep.gz", data / "boron" / "random_search_39.xyz"
    assert "import them separately" in call(output, xyz, "--level-of-theory", "x", ok=False)
    assert "--energy: only for extended XYZ" in call(output, "--energy", "energy", ok=False)
    assert "--steps: only for outputs of codes" in call(xyz, "--steps", "last", "--level-of-theory", "x", ok=False)
    assert "give it with --level-of-theory" in call(xyz, "--energy", "REF_energy", ok=False)
    assert "steps must be" in call(output, "--steps", "some", ok=False)
    (tmp_path / "POSCAR").write_text("no atoms\n")
    assert "not an output of" in call(tmp_path / "POSCAR", ok=False)
    assert "refused: " in call(output, tmp_path / "POSCAR")
    shutil.copy(xyz, tmp_path / "again.xyz")
    text = call(xyz, tmp_path / "again.xyz", "--energy", "REF_energy", "--level-of-theory", "x")
    node = loaded(text)
    assert node.n_frames == 78
    assert node.label == "random_search_39.xyz and 1 more"
