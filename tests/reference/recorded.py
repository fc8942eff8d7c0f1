"""Output files of CASTEP and VASP as text, made by hand.

There is no licence for either program here. The numbers are invented, every force and stress component another, so that no two
can be exchanged unseen; the form is that of recorded files: CASTEP 20.11 (a single point of B8, with stress; the tables of a NaCl
run for two species, whose atoms CASTEP sorts by atomic number and counts anew for each), VASP 5.4.4 (a single point of Si2).
Long parts that nobody reads are left out.
"""

from __future__ import annotations

import re

from ase import Atoms

#: Head of a .castep file: units, and the number of ions that the plugin looks for.
CASTEP_HEAD = """\
 | Welcome to Academic Release CASTEP version 20.11|

 ************************************ Title ************************************
 {label}

 ***************************** General Parameters ******************************

 output verbosity                               : normal  (1)
 type of calculation                            : single point energy
 stress calculation                             : on

 output         length unit                     : A
 output         energy unit                     : eV
 output          force unit                     : eV/A
 output       pressure unit                     : GPa
 output         volume unit                     : A**3

 **************************** Basis Set Parameters *****************************

 plane wave basis set cut-off                   :   500.0000   eV
 finite basis set correction                    : none

 *******************************************************************************

                           -------------------------------
                                      Unit Cell
                           -------------------------------
        Real Lattice(A)                      Reciprocal Lattice(1/A)
{lattice}
                       Lattice parameters(A)       Cell Angles
{parameters}
                           -------------------------------
                                     Cell Contents
                           -------------------------------
                         Total number of ions in cell = {ions:4d}
                      Total number of species in cell = {species:4d}

            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
            x  Element    Atom        Fractional coordinates of atoms  x
            x            Number           u          v          w      x
            x----------------------------------------------------------x
{positions}
            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx

                           -------------------------------
                              k-Points For BZ Sampling
                           -------------------------------
                       Number of kpoints used =             1

+---------------- MEMORY AND SCRATCH DISK ESTIMATES PER PROCESS --------------+
|                                                     Memory          Disk    |
| Approx. total storage required per process          573.5 MB         0.0 MB |
+-----------------------------------------------------------------------------+
Calculating total energy with cut-off of  500.000 eV.
------------------------------------------------------------------------ <-- SCF
SCF loop      Energy           Fermi           Energy gain       Timer   <-- SCF
                               energy          per atom          (sec)   <-- SCF
------------------------------------------------------------------------ <-- SCF
Initial   1.20000000E+002  0.00000000E+000                         0.10  <-- SCF
      1  -5.31163457E+002  8.00000000E+000   1.57500000E+002       0.20  <-- SCF
------------------------------------------------------------------------ <-- SCF
"""


def parameters(atoms: Atoms) -> str:
    """Return CASTEP's lines of lengths and angles of a cell."""
    a, b, c, alpha, beta, gamma = atoms.cell.cellpar()
    pairs = (("a", a, "alpha", alpha), ("b", b, " beta", beta), ("c", c, "gamma", gamma))
    return "\n".join(f"                    {n} = {x:13.6f}          {m} = {y:11.6f}" for n, x, m, y in pairs)


CASTEP_TAIL = """
Initialisation time =      0.45 s
Calculation time    =     10.00 s
Finalisation time   =      0.01 s
Total time          =     10.46 s
Peak Memory Use     = 123456 kB
"""

#: Compressed zinc-blende SiC, four atoms: C, C, Si, Si.
SIC_HEAD = CASTEP_HEAD.format(
    label="sic",
    parameters=parameters(Atoms(cell=[2.9, 2.9, 4.1])),
    lattice="""\
     2.9000000     0.0000000     0.0000000        2.166615623   0.000000000   0.000000000
     0.0000000     2.9000000     0.0000000        0.000000000   2.166615623   0.000000000
     0.0000000     0.0000000     4.1000000        0.000000000   0.000000000   1.532484221
""",
    ions=4,
    species=2,
    positions="""\
            x  C            1         0.500000   0.000000   0.250000   x
            x  C            2         0.000000   0.500000   0.750000   x
            x  Si           1         0.010000   0.000000   0.000000   x
            x  Si           2         0.500000   0.500000   0.500000   x""",
)

SIC_ENERGIES = """
Final energy, E             =  -531.1234567891     eV
Final free energy (E-TS)    =  -531.1634567891     eV
(energies not corrected for finite basis set)

NB est. 0K energy (E-0.5TS)      =  -531.1434567891     eV

"""

SIC_FORCES = """
 ************************** Forces **************************
 *                                                          *
 *               Cartesian components (eV/A)                *
 * -------------------------------------------------------- *
 *                         x            y            z      *
 *                                                          *
 * C               1      0.11000     -0.12000      0.13000 *
 * C               2      0.21000     -0.22000      0.23000 *
 * Si              1     -0.31000      0.32000     -0.33000 *
 * Si              2     -0.01000      0.02000     -0.03000 *
 *                                                          *
 ************************************************************
"""

SIC_STRESS = """
 ***************** Stress Tensor *****************
 *                                               *
 *          Cartesian components (GPa)           *
 * --------------------------------------------- *
 *             x             y             z     *
 *                                               *
 *  x    -21.111111      1.500000      2.500000  *
 *  y      1.500000    -22.222222      3.500000  *
 *  z      2.500000      3.500000    -23.333333  *
 *                                               *
 *  Pressure:   22.2222                          *
 *                                               *
 *************************************************
"""

SIC_CASTEP = SIC_HEAD + SIC_ENERGIES + SIC_FORCES + SIC_STRESS + CASTEP_TAIL

#: The SCF is given up: CASTEP stops, without the summary of times.
UNCONVERGED_TAIL = """
*Warning* max. SCF cycles performed but system has not reached the groundstate.
"""

#: CASTEP stops itself before the scheduler does.
OUT_OF_TIME_TAIL = """
Insufficient time for another iteration - stopping.
"""

#: As the plugin wants it; energies in Hartree.
CASTEP_BANDS = """\
Number of k-points    1
Number of spin components 1
Number of electrons  16.00
Number of eigenvalues   3
Fermi energies (in atomic units)     0.250000
Unit cell vectors
    5.480206    0.000000    0.000000
    0.000000    5.480206    0.000000
    0.000000    0.000000    7.747871
K-point    1  0.00000000  0.00000000  0.00000000  1.00000000
Spin component 1
   -0.10000000
    0.20000000
    0.30000000
"""


def rows(values, form: str, start: str = "", end: str = "") -> str:
    """Return a line for each row of numbers."""
    return "".join(start + " ".join(form.format(x) for x in row) + end + "\n" for row in values)


def castep_of(atoms, energies: str, forces, stress) -> str:
    """Return the .castep file of a cell whose atoms are sorted by atomic number, in the form of that of SiC.

    :param energies: lines of the final energies.
    :param forces: eV/Å; :param stress: GPa, of ASE's sign, 3 by 3.
    """
    symbols = atoms.get_chemical_symbols()
    numbers = [symbols[:n].count(symbol) + 1 for n, symbol in enumerate(symbols)]
    reciprocal = 2 * 3.141592653589793 * atoms.cell.reciprocal()
    lattice = [" ".join(f"{x:12.7f}" for x in (*vector, *dual)) for vector, dual in zip(atoms.cell, reciprocal, strict=True)]
    positions = [
        f"            x  {symbol:<2}  {number:11d}   {u:11.6f}{v:11.6f}{w:11.6f}   x"
        for symbol, number, (u, v, w) in zip(symbols, numbers, atoms.get_scaled_positions(), strict=True)
    ]
    head = CASTEP_HEAD.format(
        label="by hand",
        parameters=parameters(atoms),
        lattice="\n".join(lattice),
        ions=len(atoms),
        species=len(set(symbols)),
        positions="\n".join(positions),
    )
    lines = [
        f" * {symbol:<2}{number:15d} {x:12.5f} {y:12.5f} {z:12.5f} *\n"
        for symbol, number, (x, y, z) in zip(symbols, numbers, forces, strict=True)
    ]
    table = re.sub(r"( \* (C|Si) .*\n)+", lambda _: "".join(lines), SIC_FORCES)
    components = iter(component for row in stress for component in row)
    tensor = re.sub(r"-?\d+\.\d{6}", lambda match: f"{next(components):.6f}".rjust(len(match[0])), SIC_STRESS)
    pressure = -(stress[0][0] + stress[1][1] + stress[2][2]) / 3
    tensor = tensor.replace("22.2222 ", f"{pressure:8.4f}")
    final = float(re.findall(r"Final (?:free )?energy.*?= *(\S+)", energies)[-1])
    exponent = len(str(int(abs(final)))) - 1
    scf = f"{final / 10**exponent:.8f}E+{exponent:03d}"  # CASTEP's exponents have three digits
    return head.replace("-5.31163457E+002", scf) + energies + table + tensor + CASTEP_TAIL


#: Of both codes, for the cell of two atoms (C, Si): forces in eV/Å, stress in GPa with ASE's sign.
CSI_FORCES = [[1.41, -1.52, 1.63], [-1.42, 1.53, -1.64]]
CSI_STRESS = [[-141.1, 1.5, 2.5], [1.5, -152.2, 3.5], [2.5, 3.5, -163.3]]

CASTEP_FIXED = "\nFinal energy =  {}     eV\n(energy not corrected for finite basis set)\n\n"


def castep_atom(symbol: str, box: float, energy: str) -> str:
    """Return the .castep file of an atom in a box, with fixed occupancies: CASTEP then prints the total energy only."""
    atom = Atoms(symbol, cell=[box] * 3, pbc=True)
    return castep_of(atom, CASTEP_FIXED.format(energy), [[0.0] * 3], [[0.0] * 3] * 3)


#: vasprun.xml of compressed SiC, atoms C, C, Si, Si. In the last <energy> VASP 5.4 writes the energy extrapolated to zero
#: smearing as e_wo_entrp, and the entropy as e_0_energy.
SIC_VASPRUN = """\
<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <generator>
  <i name="program" type="string">vasp </i>
  <i name="version" type="string">5.4.4.18Apr17-6-g9f103f2a35  </i>
  <i name="subversion" type="string">(build Apr  9 2020 10:35:27) complex            parallel </i>
  <i name="platform" type="string">LinuxGNU </i>
 </generator>
 <incar>
  <i name="ENCUT">    500.00000000</i>
  <i name="EDIFF">      0.00000100</i>
  <i type="int" name="ISMEAR">     0</i>
  <i name="SIGMA">      0.05000000</i>
  <i type="int" name="ISIF">     2</i>
 </incar>
 <kpoints>
  <generation param="Gamma">
   <v type="int" name="divisions">       1        1        1 </v>
   <v name="usershift">      0.00000000       0.00000000       0.00000000 </v>
  </generation>
  <varray name="kpointlist" >
   <v>       0.00000000       0.00000000       0.00000000 </v>
  </varray>
  <varray name="weights" >
   <v>       1.00000000 </v>
  </varray>
 </kpoints>
 <parameters>
  <separator name="electronic" >
   <i type="string" name="PREC">accura</i>
   <i name="ENMAX">    500.00000000</i>
   <i name="EDIFF">      0.00000100</i>
   <i type="int" name="NBANDS">     3</i>
   <separator name="electronic spin" >
    <i type="int" name="ISPIN">     1</i>
   </separator>
   <separator name="electronic convergence" >
    <i type="int" name="NELM">    60</i>
   </separator>
  </separator>
  <separator name="ionic" >
   <i type="int" name="NSW">     0</i>
   <i type="int" name="IBRION">    -1</i>
   <i type="int" name="ISIF">     2</i>
  </separator>
 </parameters>
 <atominfo>
  <atoms>       4 </atoms>
  <types>       2 </types>
  <array name="atoms" >
   <dimension dim="1">ion</dimension>
   <field type="string">element</field>
   <field type="int">atomtype</field>
   <set>
    <rc><c>C </c><c>   1</c></rc>
    <rc><c>C </c><c>   1</c></rc>
    <rc><c>Si</c><c>   2</c></rc>
    <rc><c>Si</c><c>   2</c></rc>
   </set>
  </array>
  <array name="atomtypes" >
   <dimension dim="1">type</dimension>
   <field type="int">atomspertype</field>
   <field type="string">element</field>
   <field>mass</field>
   <field>valence</field>
   <field type="string">pseudopotential</field>
   <set>
    <rc><c>   2</c><c>C </c><c>     12.01100000</c><c>      4.00000000</c><c>  made by hand </c></rc>
    <rc><c>   2</c><c>Si</c><c>     28.08500000</c><c>      4.00000000</c><c>  made by hand </c></rc>
   </set>
  </array>
 </atominfo>
 <structure name="initialpos" >
  <crystal>
   <varray name="basis" >
    <v>       2.90000000       0.00000000       0.00000000 </v>
    <v>       0.00000000       2.90000000       0.00000000 </v>
    <v>       0.00000000       0.00000000       4.10000000 </v>
   </varray>
   <i name="volume">     34.48100000 </i>
   <varray name="rec_basis" >
    <v>       0.34482759       0.00000000       0.00000000 </v>
    <v>       0.00000000       0.34482759       0.00000000 </v>
    <v>       0.00000000       0.00000000       0.24390244 </v>
   </varray>
  </crystal>
  <varray name="positions" >
   <v>       0.50000000       0.00000000       0.25000000 </v>
   <v>       0.00000000       0.50000000       0.75000000 </v>
   <v>       0.01000000       0.00000000       0.00000000 </v>
   <v>       0.50000000       0.50000000       0.50000000 </v>
  </varray>
 </structure>
 <calculation>
  <scstep>
   <energy>
    <i name="e_fr_energy">    -29.90000000 </i>
    <i name="e_wo_entrp">    -29.80000000 </i>
    <i name="e_0_energy">    -29.85000000 </i>
   </energy>
  </scstep>
  <scstep>
   <energy>
    <i name="e_fr_energy">    -30.12345678 </i>
    <i name="e_wo_entrp">    -30.02345678 </i>
    <i name="e_0_energy">    -30.07345678 </i>
   </energy>
  </scstep>
  <structure>
   <crystal>
    <varray name="basis" >
     <v>       2.90000000       0.00000000       0.00000000 </v>
     <v>       0.00000000       2.90000000       0.00000000 </v>
     <v>       0.00000000       0.00000000       4.10000000 </v>
    </varray>
    <i name="volume">     34.48100000 </i>
    <varray name="rec_basis" >
     <v>       0.34482759       0.00000000       0.00000000 </v>
     <v>       0.00000000       0.34482759       0.00000000 </v>
     <v>       0.00000000       0.00000000       0.24390244 </v>
    </varray>
   </crystal>
   <varray name="positions" >
    <v>       0.50000000       0.00000000       0.25000000 </v>
    <v>       0.00000000       0.50000000       0.75000000 </v>
    <v>       0.01000000       0.00000000       0.00000000 </v>
    <v>       0.50000000       0.50000000       0.50000000 </v>
   </varray>
  </structure>
  <varray name="forces" >
   <v>       0.11000000      -0.12000000       0.13000000 </v>
   <v>       0.21000000      -0.22000000       0.23000000 </v>
   <v>      -0.31000000       0.32000000      -0.33000000 </v>
   <v>      -0.01000000       0.02000000      -0.03000000 </v>
  </varray>
  <varray name="stress" >
   <v>     211.11000000     -15.00000000     -25.00000000 </v>
   <v>     -15.00000000     222.22000000     -35.00000000 </v>
   <v>     -25.00000000     -35.00000000     233.33000000 </v>
  </varray>
  <energy>
   <i name="e_fr_energy">    -30.12345678 </i>
   <i name="e_wo_entrp">    -30.07345678 </i>
   <i name="e_0_energy">     -0.10000000 </i>
  </energy>
  <eigenvalues>
   <array>
    <dimension dim="1">band</dimension>
    <dimension dim="2">kpoint</dimension>
    <dimension dim="3">spin</dimension>
    <field>eigene</field>
    <field>occ</field>
    <set>
     <set comment="spin 1">
      <set comment="kpoint 1">
       <r>   -6.1000    1.0000 </r>
       <r>    2.2000    1.0000 </r>
       <r>    8.3000    0.0000 </r>
      </set>
     </set>
    </set>
   </array>
  </eigenvalues>
 </calculation>
 <structure name="finalpos" >
  <crystal>
   <varray name="basis" >
    <v>       2.90000000       0.00000000       0.00000000 </v>
    <v>       0.00000000       2.90000000       0.00000000 </v>
    <v>       0.00000000       0.00000000       4.10000000 </v>
   </varray>
   <i name="volume">     34.48100000 </i>
   <varray name="rec_basis" >
    <v>       0.34482759       0.00000000       0.00000000 </v>
    <v>       0.00000000       0.34482759       0.00000000 </v>
    <v>       0.00000000       0.00000000       0.24390244 </v>
   </varray>
  </crystal>
  <varray name="positions" >
   <v>       0.50000000       0.00000000       0.25000000 </v>
   <v>       0.00000000       0.50000000       0.75000000 </v>
   <v>       0.01000000       0.00000000       0.00000000 </v>
   <v>       0.50000000       0.50000000       0.50000000 </v>
  </varray>
 </structure>
</modeling>
"""

SIC_OUTCAR = """\
 vasp.5.4.4.18Apr17-6-g9f103f2a35 (build Apr  9 2020 10:35:27) complex

 POTCAR:    PAW_PBE C made-by-hand
 POTCAR:    PAW_PBE Si made-by-hand
 POTCAR:    PAW_PBE C made-by-hand
   VRHFIN =C: s2p2
 POTCAR:    PAW_PBE Si made-by-hand
   VRHFIN =Si: s2p2
   ions per type =               2   2

   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      3

   ISPIN  =      1    spin polarized calculation?
   NELM   =     60;   NELMIN=  2; NELMDL= -5     # of ELM steps
   NSW    =      0    number of steps for IOM
   IBRION =     -1    ionic relax: 0-MD 1-quasi-New 2-CG

 k-points in reciprocal lattice and weights: made by hand
   0.00000000  0.00000000  0.00000000       1.000

 position of ions in cartesian coordinates  (Angst):
   1.45000000  0.00000000  1.02500000
   0.00000000  1.45000000  3.07500000
   0.02900000  0.00000000  0.00000000
   1.45000000  1.45000000  2.05000000

--------------------------------------- Iteration      1(   1)  ---------------------------------------

--------------------------------------- Iteration      1(   2)  ---------------------------------------

------------------------ aborting loop because EDIFF is reached ----------------------------------------

  FORCE on cell =-STRESS in cart. coord.  units (eV):
  Direction    XX          YY          ZZ          XY          YZ          ZX
  --------------------------------------------------------------------------------------
  Total        4.54337     4.78247     5.02158    -0.32282    -0.75325    -0.53803
  in kB     211.11000   222.22000   233.33000   -15.00000   -35.00000   -25.00000
  external pressure =      222.22 kB  Pullay stress =        0.00 kB

 VOLUME and BASIS-vectors are now :
 -----------------------------------------------------------------------------
  energy-cutoff  :      500.00
  volume of cell :       34.48
      direct lattice vectors                 reciprocal lattice vectors
     2.900000000  0.000000000  0.000000000     0.344827586  0.000000000  0.000000000
     0.000000000  2.900000000  0.000000000     0.000000000  0.344827586  0.000000000
     0.000000000  0.000000000  4.100000000     0.000000000  0.000000000  0.243902439

 POSITION                                       TOTAL-FORCE (eV/Angst)
 -----------------------------------------------------------------------------------
      1.45000      0.00000      1.02500         0.110000     -0.120000      0.130000
      0.00000      1.45000      3.07500         0.210000     -0.220000      0.230000
      0.02900      0.00000      0.00000        -0.310000      0.320000     -0.330000
      1.45000      1.45000      2.05000        -0.010000      0.020000     -0.030000
 -----------------------------------------------------------------------------------
    total drift:                                0.000000     -0.000000      0.000000

  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)
  ---------------------------------------------------
  free  energy   TOTEN  =       -30.12345678 eV

  energy  without entropy=      -30.02345678  energy(sigma->0) =      -30.07345678

 General timing and accounting informations for this job:
 ========================================================

                  Total CPU time used (sec):        8.906
                   Maximum memory used (kb):       35064.
"""

SIC_CONTCAR = """\
sic
   1.00000000000000
     2.9000000000000000    0.0000000000000000    0.0000000000000000
     0.0000000000000000    2.9000000000000000    0.0000000000000000
     0.0000000000000000    0.0000000000000000    4.1000000000000000
   C    Si
     2     2
Direct
  0.5000000000000000  0.0000000000000000  0.2500000000000000
  0.0000000000000000  0.5000000000000000  0.7500000000000000
  0.0100000000000000  0.0000000000000000  0.0000000000000000
  0.5000000000000000  0.5000000000000000  0.5000000000000000
"""

VASP_OUTPUT = """\
 running on    1 total cores
 vasp.5.4.4.18Apr17-6-g9f103f2a35 (build Apr  9 2020 10:35:27) complex
 POSCAR found :  2 types and       4 ions
DAV:   1    -0.299000000000E+02   -0.29900E+02   -0.18656E+00  2632   0.105E+01
DAV:   2    -0.301234567800E+02   -0.22346E+00   -0.73400E-03  3440   0.715E-01
   1 F= -.30123457E+02 E0= -.30073457E+02  d E =-.100000E+00
"""

SIC_VASP = {"vasprun.xml": SIC_VASPRUN, "OUTCAR": SIC_OUTCAR, "CONTCAR": SIC_CONTCAR, "vasp_output": VASP_OUTPUT}


def vasprun_of(atoms, energy: float, forces, stress) -> str:
    """Return the vasprun.xml of a cell, in the form of that of SiC.

    :param energy: TOTEN, eV; :param forces: eV/Å; :param stress: GPa, of ASE's sign, 3 by 3.
    """

    def array(name: str, values, text: str) -> str:
        lines = rows(values, "{:.8f}", "<v> ", " </v>")
        return re.sub(rf'(<varray name="{name}" *>\n).*?( *</varray>)', lambda m: m[1] + lines + m[2], text, flags=re.DOTALL)

    symbols = atoms.get_chemical_symbols()
    text = array("basis", atoms.cell, SIC_VASPRUN)
    text = array("rec_basis", atoms.cell.reciprocal(), text)
    text = array("positions", atoms.get_scaled_positions(), text)
    text = array("forces", forces, text)
    text = array("stress", [[-10 * x for x in row] for row in stress], text)  # kB, compressed: positive
    species = list(dict.fromkeys(symbols))
    types = "".join(f"<rc><c>{symbol}</c><c>{species.index(symbol) + 1}</c></rc>\n" for symbol in symbols)
    kinds = "".join(
        f"<rc><c>{symbols.count(symbol)}</c><c>{symbol}</c><c>10.0</c><c>4.0</c><c>by hand</c></rc>\n" for symbol in species
    )
    for name, lines in (("atoms", types), ("atomtypes", kinds)):
        pattern = rf'(<array name="{name}" *>.*?<set>\n).*?( *</set>)'
        text = re.sub(pattern, lambda m, lines=lines: m[1] + lines + m[2], text, flags=re.DOTALL)
    text = text.replace("<atoms>       4 </atoms>", f"<atoms>       {len(atoms)} </atoms>")
    text = re.sub(r"(<i name=\"volume\">).*(</i>)", rf"\g<1>{atoms.get_volume():.8f}\2", text)
    return text.replace("-30.12345678", f"{energy:.8f}").replace("-30.07345678", f"{energy + 0.05:.8f}")


def potcar(element: str) -> str:
    """Return what aiida-vasp reads of a POTCAR, and nothing that VASP would need."""
    return f"""\
  made by hand {element}
   4.00000000000000
 parameters from PSCTR are:
   VRHFIN ={element}: s2p2
   LEXCH  = PE
   TITEL  = hand {element} 21Nov2026
   POMASS =   10.000; ZVAL   =    4.000    mass and valenz
   ENMAX  =  400.000; ENMIN  =  300.000 eV
END of PSCTR-controll parameters
End of Dataset
"""
