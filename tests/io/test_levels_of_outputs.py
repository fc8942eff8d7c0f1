# ruff: noqa: E501 - lines of outputs
"""What decides the energy stands in the level of theory of an output, and nothing else keeps two outputs apart."""

import gzip
import re
from dataclasses import replace

import pytest
import recorded

from aiida_gaprss.frames import FrameError
from aiida_gaprss.io import castep, espresso, outcar, vasprun
from aiida_gaprss.io.outputs import read_outputs
from aiida_gaprss.levels import NOT_TOLD, difference


def differ(one, two):
    """Return in what the levels of two outputs differ."""
    return difference({"a": one.levels[0], "b": two.levels[0]})


# --- CASTEP ---

ELECTRONIC = """
 ************************** Electronic Parameters ****************************
 using functional                               : Perdew Burke Ernzerhof
 net charge of system                           :  0.000
 net spin   of system                           :  0.000
 treating system as spin-polarized
 number of fixed-spin iterations                :         10
 smearing scheme                                : Gaussian
 smearing width                                 : 0.2000       eV
 periodic dipole correction                     : NONE
 DFT+D: Semi-empirical dispersion correction    : off
 spin-orbit coupling                            : off
"""
FILES = """
                          Files used for pseudopotentials:
                                     C 2|1.4|10|12|13|20:21(qc=7)
                                    Si 3|1.8|5|6|7|30:31:32

                           -------------------------------
                              k-Points For BZ Sampling
                           -------------------------------
                       MP grid size for SCF calculation is  7  7  5
"""
HUBBARD = """
                           -------------------------------
                              Hubbard U values are eV
          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          |  Element  Atom       s      p      d      f  |
          |          Number                              |
          |----------------------------------------------|
          |  C           1     0.000  2.000  0.000  0.000|
          |  C           2     0.000  2.000  0.000  0.000|
          |  Si          1     0.000  0.000  0.000  0.000|
          |  Si          2     0.000  0.000  0.000  0.000|
          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx

"""
MOMENTS = """
         |  Element    Atom         Initial            Initial magnetic       |
         |            Number    spin polarization        moment (uB)          |
         |--------------------------------------------------------------------|
         | C              1         0.625000              2.000               |
         | C              2        -0.625000             -2.000               |
"""


@pytest.fixture
def whole(changed):
    """Put into a .castep file made by hand what the others leave out of the header."""
    return lambda text: changed(
        text,
        (
            " *******************************************************************************\n",
            ELECTRONIC + " " + "*" * 79 + "\n",
        ),
        ("+---------------- MEMORY", FILES + "\n+---------------- MEMORY"),
    )


@pytest.fixture
def castep_text(whole):
    return whole(recorded.SIC_CASTEP)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Perdew Burke Ernzerhof", "PBE for solids (2008)", "functional: PBE, PBEsol"),
        ("cut-off                   :   500.0000", "cut-off                   :   400.0000", "cutoff: cutoff 500 eV, cutoff 400 eV"),
        ("0.2000       eV", "0.1000       eV", "smearing"),
        ("treating system as spin-polarized", "treating system as non-spin-polarized", "spin: spin-polarised, not spin"),
        ("coupling                            : off", "coupling                            : on", "with spin-orbit coupling"),
        ("net charge of system                           :  0.000", "net charge of system                           :  1.000", "charge"),
        ("iterations                :         10", "iterations                :         -1", "total moment: none, total spin fixed at 0"),
        ("dipole correction                     : NONE", "dipole correction                     : SELFCONSISTENT", "boundary: none, dipole"),
        ("correction    : off", "correction    : on\n SEDC with                                      : D3 correction scheme", "dispersion"),
        ("2|1.4|10|12|13|20:21(qc=7)", "2|1.4|10|12|13|20:21(qc=8)", "pseudopotential of C"),
        ("Si 3|1.8|5|6|7|30:31:32\n", "Si 3|1.8|5|6|7|30:31:32\n  Si:a 3|1.7|5|6|7|30:31:32\n", "pseudopotential of Si: .* and "),
        ("grid size for SCF calculation is  7  7  5", "grid size for SCF calculation is  9  9  7", "k-point spacing"),
        ("                                      Unit Cell\n", HUBBARD, "Hubbard of C: none, p 2 eV"),
        ("                                      Unit Cell\n", MOMENTS, "starting moment of C: none, 2$"),
        ("                                      Unit Cell\n", " **** Developer Code ****\n XYZ=T\n " + "*" * 79 + "\n", "developer code"),
        ("finite basis set correction                    : none", "finite basis set correction                    : automatic", None),
    ],
)  # fmt: skip
def test_castep(castep_text, changed, old, new, what):
    new = new + old if "Unit Cell" in old else new
    other = castep.read(changed(castep_text, (old, new)))
    if what is None:  # then its energy is not printed
        assert "corrected for the finite basis" in other.steps[0].problem
        return
    assert re.search(what, differ(castep.read(castep_text), other)), differ(castep.read(castep_text), other)


def test_castep_that_does_not_tell(castep_text, changed, written):
    text = changed(castep_text, (" using functional                               : Perdew Burke Ernzerhof\n", ""))
    moved = changed(text, ("0.010000   0.000000", "0.011000   0.000000"))
    a, b = written("a.castep", text), written("b.castep", moved)
    with pytest.raises(FrameError, match="differ in functional: not told by both"):
        read_outputs([a, b])
    result = read_outputs([a, b], mixed_levels=True)
    assert result.level_of_theory.startswith("CASTEP 20.11; functional not told; cutoff 500 eV")
    assert len(result.frames) == 2
    assert difference({"once": result.level, "again": result.level}) is None
    assert difference({"both": result.level, "a": read_outputs([a]).level}) is not None
    hubbard = changed(
        castep_text,
        ("                                      Unit Cell\n", " Hubbard U\n                                      Unit Cell\n"),
    )
    assert "Hubbard of C: none, U not told" in differ(castep.read(castep_text), castep.read(hubbard))


def test_castep_strings_of_generated_pseudopotentials(castep_text, changed):
    """A file that CASTEP generated is what the string in its report says."""
    report = (
        "   | Element: C Ionic charge:  4.00 Level of theory: PBE     |\n   | more |\n   ---------\n"
        '   | "2|1.4|10|12|13|20:21(qc=7)"                             |\n   ---------\n'
    )
    text = changed(
        castep_text, ("C 2|1.4|10|12|13|20:21(qc=7)", "C C_OTF.usp"), (" using functional", report + " using functional")
    )
    assert differ(castep.read(castep_text), castep.read(text)) is None


# --- VASP ---


@pytest.fixture
def pair(data):
    """Return the OUTCAR and the vasprun.xml of one run."""
    folder = data / "vasp" / "converged"
    return [gzip.decompress((folder / f"{name}.gz").read_bytes()).decode() for name in ("OUTCAR", "vasprun.xml")]


def test_two_files_of_one_run_of_vasp(pair):
    """The OUTCAR has no mesh, but the k-points; those of this one are the images of a shifted mesh besides."""
    printed, xml = outcar.read(pair[0]), vasprun.read(pair[1])
    assert differ(printed, xml) is None
    assert printed.levels[0].sampling == xml.levels[0].sampling


U2 = "\n LDA+U is selected, type is set to LDAUTYPE =  2\n   angular momentum for each species LDAUL =     2\n   U (eV)           for each species LDAUU =   {}\n   J (eV)           for each species LDAUJ =   0.0\n"  # fmt: skip


def xml_tag(name, value):
    return f'<i name="{name}">{value}</i>\n  <separator name="general" >'


@pytest.mark.parametrize(
    ("printed", "xml", "what"),
    [
        (
            [("   GGA_COMPAT", "   LDAU   =   T\n   GGA_COMPAT"), ("\n energy-cutoff", ""), ("quasi-Newton-method", U2.format("4.0") + "x")],
            [('"LDAU"> F', '"LDAU"> T'), ('<separator name="general" >', '<v name="LDAUL"> 2 </v><v name="LDAUU"> 4.0 </v><v name="LDAUJ"> 0.0 </v><i name="LDAUTYPE">2</i><separator name="general" >')],
            "Hubbard of Si: none, d U 4 J 0 eV (LDAUTYPE 2)",
        ),
        ([("LDIPOL =      F", "LDIPOL =      T"), ("IDIPOL =      0", "IDIPOL =      3")], [('"LDIPOL"> F', '"LDIPOL"> T'), ('"IDIPOL">     0', '"IDIPOL">     3')], "boundary: none, dipole correction along 3"),
        ([("LMONO  =      F", "LMONO  =      T")], [('"LMONO"> F', '"LMONO"> T')], "monopole"),
        ([("ISPIN  =      1", "ISPIN  =      2"), ("NUPDOWN=      -1.0000", "NUPDOWN=       2.0000")], [('"ISPIN">     1', '"ISPIN">     2'), ('"NUPDOWN">     -1.0', '"NUPDOWN">      2.0')], "total moment: none, total moment fixed at 2"),
        ([("LSORBIT =      F", "LSORBIT =      T")], [('"LSORBIT"> F', '"LSORBIT"> T')], "spin-orbit"),
        ([("NELECT =       8.0000", "NELECT =       7.0000")], [('"NELECT">      8.0', '"NELECT">      7.0')], "charge: none, charge +1"),
        ([("LHFCALC =     F", "LHFCALC =     T"), ("AEXX    =    0.0000", "AEXX    =    0.2500"), ("LHFONE  =", "HFSCREEN=  0.2\n   LHFONE  =")], [('"LHFCALC"> F', '"LHFCALC"> T'), ('"AEXX">      0.0', '"AEXX">      0.25'), ('"HFSCREEN">      0.0', '"HFSCREEN">      0.2')], "AEXX 0.25 and HFSCREEN 0.2"),
        ([("TITEL  = PAW_PBE Si 05Jan2001", "TITEL  = PAW_PBE Si_GW 04May2012")], [("PAW_PBE Si 05Jan2001", "PAW_PBE Si_GW 04May2012")], "pseudopotential of Si"),
        ([(" POTCAR: ", "   IVDW = 11\n POTCAR: ")], [('<separator name="general" >', xml_tag("IVDW", 11))], "dispersion correction D3"),
        ([("PREC   = accura", "PREC   = normal")], [('name="PREC">accurate', 'name="PREC">normal'), ('"PREC">accura', '"PREC">normal')], "precision"),
        ([("I_CONSTRAINED_M", "x"), ("GGA_COMPAT", "I_CONSTRAINED_M = 1\n GGA_COMPAT")], [('"I_CONSTRAINED_M">     0', '"I_CONSTRAINED_M">     1')], "constrained moments"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)  # fmt: skip
def test_vasp(pair, printed, xml, what):
    """Every change is seen in both files alike."""
    texts = list(pair)
    for n, (pairs, text) in enumerate(zip((printed, xml), pair, strict=True)):
        for old, new in pairs:
            if old in ("\n energy-cutoff", "I_CONSTRAINED_M"):
                continue
            assert old in text, old
            text = text.replace(old, new, 1)
        texts[n] = text
    readers = (outcar.read, vasprun.read)
    for reader, old, new in zip(readers, pair, texts, strict=True):
        assert what in differ(reader(old), reader(new)), reader
    levels = [reader(text) for reader, text in zip(readers, texts, strict=True)]
    assert differ(*levels) is None


def test_starting_moments_of_vasp(pair, changed):
    spin = changed(pair[1], ('"ISPIN">     1', '"ISPIN">     2'))
    other = changed(spin, ('<v name="MAGMOM">      1.00000000      1.00000000</v>', '<v name="MAGMOM">  5.0  -5.0</v>'))
    assert "starting moments of Si: 1, 5" in differ(vasprun.read(spin), vasprun.read(other))
    printed = changed(pair[0], ("ISPIN  =      1", "ISPIN  =      2"))  # it does not say
    assert differ(vasprun.read(other), outcar.read(printed)) is None


def test_two_potcars_of_one_element(pair, changed):
    row = "<rc><c>   2</c><c>Si</c><c>     28.08500000</c><c>      4.00000000</c><c>  PAW_PBE Si 05Jan2001                  </c></rc>"
    rows = row.replace("<c>   2</c>", "<c>   1</c>") + row.replace("<c>   2</c>", "<c>   1</c>").replace(
        "PAW_PBE Si 05", "PAW_PBE Si_d 05"
    )
    level = vasprun.read(changed(pair[1], (row, rows))).levels[0]
    assert level.elements["pseudopotential"] == {"Si": "PAW_PBE Si 05Jan2001 and PAW_PBE Si_d 05Jan2001"}


def test_the_u_of_vasp_that_is_not_told(pair, changed):
    text = changed(pair[1], ('"LDAU"> F', '"LDAU"> T'))
    assert vasprun.read(text).levels[0].elements["Hubbard"] == {"Si": f"U {NOT_TOLD}"}


# --- pw.x ---

HUBBARD_6 = """     Simplified LDA+U calculation (l_max = 1) with parameters (eV):
     atomic species    L          U    alpha       J0     beta
        B              1     {}   0.0000   0.0000   0.0000

"""
HUBBARD_7 = """     Hubbard projectors: ortho-atomic
     Hubbard parameters of DFT+U (Dudarev formulation) in eV:
     U(B-2p) =  {}

"""
MAGNETIC = """     Starting magnetic structure 
     atomic species   magnetization
        B            0.500

"""


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("MD5 check sum: ", "MD5 check sum: 0", "pseudopotential of B"),
        ("kinetic-energy cutoff     =      20", "kinetic-energy cutoff     =      30", "cutoff: cutoff 20/160 Ry, cutoff 30/160 Ry"),
        ("width (Ry)=  0.0200", "width (Ry)=  0.0100", "smearing"),
        ("number of electrons       =         6.00", "number of electrons       =         5.00", "charge: none, charge .1"),
        ("   Cartesian axes\n", MAGNETIC + "   Cartesian axes\n", "spin"),
        ("   Cartesian axes\n", HUBBARD_6.format("2.0000") + "   Cartesian axes\n", "Hubbard of B: none, simplified L 1 U 2"),
        ("   Cartesian axes\n", HUBBARD_7.format("2.0000") + "   Cartesian axes\n", "Hubbard of B: none, 2p U 2 DFT.U .*projectors ortho-atomic"),
        ("   Cartesian axes\n", "     Hubbard something\n   Cartesian axes\n", "Hubbard of B: none, U not told"),
        ("   Cartesian axes\n", "     Adding external electric field\n   Cartesian axes\n", "electric field: none, electric field not told"),
        ("   Cartesian axes\n", "     E field amplitude [Ha a.u.]:  1.0E-03\n   Cartesian axes\n", "electric field 0.001 Ha"),
        ("   Cartesian axes\n", "     Computed dipole along edir(3) :\n   Cartesian axes\n", "dipole correction along 3"),
        ("   Cartesian axes\n", "     Assuming isolated system, Martyna-Tuckerman method\n   Cartesian axes\n", "boundary: none, isolated system"),
        ("     the Fermi energy is", "     the spin up/dw Fermi energies are 1 2 ev\n     total magnetization       =     2.00 Bohr mag/cell\n     x", "total moment"),
        ("   Cartesian axes\n", "     Non magnetic calculation with spin-orbit\n   Cartesian axes\n", "spin-orbit"),
    ],
)  # fmt: skip
def test_pwx(boron, changed, old, new, what):
    other = espresso.read(changed(boron, (old, new)))
    assert re.search(what, differ(espresso.read(boron), other)), differ(espresso.read(boron), other)


def test_pwx_values_of_u(boron, changed):
    outputs = [
        espresso.read(changed(boron, ("   Cartesian axes\n", form.format(u) + "   Cartesian axes\n")))
        for form in (HUBBARD_6, HUBBARD_7)
        for u in ("2.0000", "6.0000")
    ]
    assert differ(outputs[0], outputs[0]) is None
    assert "U 2" in differ(outputs[0], outputs[1])
    assert "U 6" in differ(outputs[2], outputs[3])


def test_pwx_two_pseudopotentials_of_one_element(boron, changed):
    second = (
        "\n     PseudoPot. # 2 for B  read from file:\n     ./second.UPF\n     MD5 check sum: 63ab2981d3f40a806be5134bfcd8bf37\n"
        "\n     atomic species   valence"
    )
    output = espresso.read(changed(boron, ("\n     atomic species   valence", second)))
    assert "second.UPF (md5 63ab2981)" in output.levels[0].elements["pseudopotential"]["B"]
    assert "pseudopotential of B" in differ(espresso.read(boron), output)
    renamed = espresso.read(changed(boron, ("B.pbe-n-paw-ld1.UPF", "boron.UPF")))
    assert differ(espresso.read(boron), renamed) is None, "the same content under another name"


def test_pwx_sampling(boron, changed):
    """The mesh, 2 2 2 here, is found from its irreducible points; with a hundred of them or more they are not printed."""
    level = espresso.read(boron).levels[0]
    assert level.sampling.up[0] == pytest.approx(0.345 / 2, abs=2e-3)
    without = espresso.read(re.sub(r"(?m)^        k\(.*\n", "", boron))
    assert without.levels[0].sampling is None
    assert differ(without, replace_level(without, "other")) == "a and b differ in k-points: not told by both"


def replace_level(output, content):
    return type(output)(levels=[replace(output.levels[0], untold="").told_by(content)])


# --- bulk and its atom ---


def test_bulk_and_its_isolated_atom(written, whole):
    atom = written("atom/a.castep", whole(recorded.castep_atom("Si", 12.0, "-101.2345678901")))
    bulk = written("bulk/a.castep", whole(recorded.SIC_CASTEP))
    result = read_outputs([atom, bulk])
    assert len(result.frames) == 2
    assert difference({"atom": read_outputs([atom]).level, "bulk": read_outputs([bulk]).level}) is None
    assert "isolated atom; " in read_outputs([atom]).level_of_theory
    assert result.level_of_theory == read_outputs([bulk]).level_of_theory
    near = written("near/a.castep", whole(recorded.castep_atom("Si", 5.0, "-101.2345678901")))
    with pytest.raises(FrameError, match="differ in k-point spacing"):
        read_outputs([near, bulk])
