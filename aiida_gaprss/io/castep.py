"""Frames from the ``.castep`` file of CASTEP.

ASE reads such files too, but refuses runs that did not come to their end, takes only the last of several runs in one file, gives
the last step of a molecular dynamics run the forces of the thermostat, which CASTEP prints after it, and never returns the
dispersion-corrected energy; so the text is read here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers
from ase.geometry import cell_to_cellpar

from aiida_gaprss.io.common import Output, Step
from aiida_gaprss.levels import NOT_TOLD, PSEUDOPOTENTIAL, Level, sampling_of_mesh
from aiida_gaprss.outside import shown

_BANNER = re.compile(r"^.*\|\s*Welcome to .*CASTEP version\s+([\w.]+)", re.MULTILINE)
_NUMBER = r"[-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?"
_UNITS = {"length": "A", "energy": "eV", "force": "eV/A", "pressure": "GPa"}
_TASKS = {"single point energy", "geometry optimization", "molecular dynamics", "band structure"}

#: CASTEP's documentation says of these that forces and stress are available, so what is printed includes them.
_DISPERSION_WITH_FORCES = ("TS", "MBD", "MBD*", "MBD@rsSCS", "G06", "D3", "D3(BJ)", "D3-BJ", "D4", "OBS", "JCHS", "XDM")

FUNCTIONALS = {
    "Local Density Approximation": "LDA",
    "Perdew-Zunger Local Density Approximation": "LDA",
    "Perdew Burke Ernzerhof": "PBE",
    "PBE for solids (2008)": "PBEsol",
    "revised Perdew Burke Ernzerhof": "RPBE",
    "Perdew Wang (1991)": "PW91",
}

_ATOM = re.compile(r"x\s+([A-Z][a-z]?)(?::\S+)?(?:\s+\[[^\]]*\])?\s+(\d+)\s+(\S+)\s+(\S+)\s+(\S+)\s+x")
_FORCE = re.compile(r"\*\s+([A-Z][a-z]?)(?::\S+)?(?:\s+\[[^\]]*\])?\s+(\d+)\s+(\S+)\s+(\S+)\s+(\S+)\s*\*")
_STRESS = re.compile(r"\*\s+([xyz])\s+(\S+)\s+(\S+)\s+(\S+)\s+\*")
#: Lines of tables of forces and stresses that are no rows.
_NO_ROW = re.compile(r"\*\s*(?:|Cartesian components.*|-+|x\s+y\s+z|Pressure:.*)\s*\*")
_ENERGIES = {
    "free": re.compile(r"^[ \t]*Final free energy \(E-TS\)\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "total": re.compile(r"^[ \t]*Final energy\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "internal": re.compile(r"^[ \t]*Final energy, E\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "zero_kelvin": re.compile(r"^[ \t]*NB est\. 0K energy \(E-0\.5TS\)\s*=\s*(.*?)\s*(?:eV)?\s*$"),
    "dispersion_free": re.compile(r"^[ \t]*Dispersion corrected final free energy\*.*=\s*(.*?)\s*(?:eV)?\s*$"),
    "dispersion_total": re.compile(r"^[ \t]*Dispersion corrected final energy\*.*=\s*(.*?)\s*(?:eV)?\s*$"),
    "dispersion": re.compile(r"^[ \t]*\(SEDC\) Total Energy Correction\s*:\s*(.*?)\s*(?:eV)?\s*$"),
    "finite_basis": re.compile(r"^[ \t]*Total energy corrected for finite basis set\s*=\s*(.*?)\s*(?:eV)?\s*$"),
}
_PARAMETERS = re.compile(r"^[ \t]*([abc]) =\s*(\S+)\s+(?:alpha|beta|gamma) =\s*(\S+)\s*$")
_SCF = re.compile(rf"^[ \t]*\d+\s+({_NUMBER})\s.*<-- SCF")
_START = re.compile(r"(?:^[ \t]*Starting (?:\w+ )?iteration\s+\d|: (?:starting|improving) iteration\s+\d)")
_STRUCTURE = re.compile(r"Real Lattice\(A\)|Fractional coordinates of atoms|^[ \t]*(?:Unit Cell|Cell Contents)\s*$")
_FINAL = re.compile(r"Final Configuration|^[ \t]*Finished MD")
_TRIED = re.compile(r"^[ \t]*\|\s*\w+ step\s*\|.*\|\s*(\S+)\s*\|\s*<-- min")
_LINE_SEARCH = re.compile(r"^[ \t]*\|\s*Step\s*\|.*enthalpy.*<-- min")
_FINISHED_ITERATION = re.compile(r": finished iteration\s+\d+ with enthalpy=\s*(\S+)\s+eV")
_FINISHED_MD_ITERATION = re.compile(r"finished MD iteration\s+\d+")
_UNCONVERGED = re.compile(r"has not reached the ground\s?state|did not converge when finding ground state", re.IGNORECASE)

_NO_EMPTY_BANDS = re.compile(r"no empty bands for at least one kpoint", re.IGNORECASE)
_PAIR_POTENTIAL = re.compile(r"^[ \t]*PP\s*=\s*T|\*\s+PairParams\s+\*", re.MULTILINE)

#: How far (eV) the energy that the minimiser works with may be from the one that is read: it is printed with fewer digits.
_ENTHALPY_TOLERANCE = 2e-4

#: How far (relative to it) the final energy may be from the last one of the SCF, which is printed with nine digits.
_SCF_TOLERANCE = 1e-6

#: Seven decimals of a lattice vector times a reciprocal one.
_RECIPROCAL_TOLERANCE = 1e-4
#: GPa; printed with six decimals.
_STRESS_TOLERANCE = 2e-6


def recognises(head: str) -> bool:
    """Tell whether a file that begins like this is CASTEP's."""
    return _BANNER.search(head) is not None


def read(text: str) -> Output:
    """Return the ionic steps of a ``.castep`` file, which may hold several runs one after another."""
    starts = [match.start() for match in _BANNER.finditer(text)]
    output = Output()
    for start, end in zip(starts, [*starts[1:], len(text)], strict=False):
        output.extend(_Run(text[start:end]).read())
    return output


@dataclass
class _Forces:
    """One printed block of forces; ``usable`` unless a constraint changed more than their sum."""

    values: np.ndarray
    constrained: bool
    usable: bool


@dataclass
class _Block:
    """What is printed in one step."""

    energies: dict[str, float] = field(default_factory=dict)
    forces: list[_Forces] = field(default_factory=list)
    stress: np.ndarray | None = None
    constrained_stress: bool = False
    enthalpy: float | None = None
    scf_energy: float | None = None
    problem: str | None = None  # the first
    unconverged: bool = False
    scf: bool = False  # an SCF began
    ended: bool = False  # CASTEP said that the step is over

    def spoilt(self, problem: str) -> None:
        """Note why the step must not be used, if there is no reason yet."""
        self.problem = self.problem or problem


class _Run:
    """One run: its header, then its steps."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines()
        self.output = Output()
        self.cell: np.ndarray | None = None
        self.atoms: list[tuple[str, int]] = []  # symbol, and number among those of its species
        self.fractional: np.ndarray | None = None
        self.unreadable: dict[str, str] = {}  # why cell or positions cannot be used
        self.keys: list[tuple[bytes, bytes]] = []  # cell and positions of every step

    def read(self) -> Output:
        """Return the steps."""
        problem = self._header()
        if problem:
            self.output.refused.append((None, problem))
            return self.output
        final = self._steps()
        finished = re.search(r"^[ \t]*Total time\s*=", self.text, re.MULTILINE) is not None
        if finished or self.block.ended:
            self._close(self.block)
        elif self.block.scf or self.block.energies:
            self.output.refuse_next("incomplete: the run ends during this step")
        if final is not None:
            self._take_final(final)
        if not self.output.steps and not self.output.refused:
            self.output.refused.append((None, "no energy in it" + ("" if finished else ": the run did not come to its end")))
        if self.output.steps:
            self._notes(finished)
        return self.output

    def _steps(self) -> _Block | None:
        """Read all steps but the last one, which stays in ``block``; return what is printed with the final configuration."""
        self.block, final = _Block(), None
        number = self.body
        while number < len(self.lines):
            line = self.lines[number]
            if _FINAL.search(line):
                self._close(self.block)
                self.block, final = _Block(), _Block()
                if "Finished MD" in line:  # what follows are forces of thermostat and constraints
                    break
            elif final is None and _START.search(line):
                self._close(self.block)
                self.block = _Block()
            else:
                if final is None and self.block.energies and _STRUCTURE.search(line):  # the line that begins the step is lost
                    self._close(self.block)
                    self.block = _Block()
                number = self._line(number, line, self.block if final is None else final)
            number += 1
        return final

    def _notes(self, finished: bool) -> None:
        self.output.levels.append(self._level())
        if not finished:
            self.output.note("the run was cut off: it has no end")
        warnings = len(_NO_EMPTY_BANDS.findall(self.text))
        if warnings:
            self.output.note(
                f"CASTEP warns {warnings} time{'s' if warnings > 1 else ''} that there are no empty bands: "
                "the ground state may be inaccurate (nextra_bands)"
            )
        if self.values.get("variable cell method") == "fixed basis size":
            self.output.note_fixed_basis()
        self.output.note_missing()

    # --- header ---

    def _header(self) -> str | None:
        """Read the header; return why the run cannot be used, or None."""
        self.values: dict[str, str] = {}
        self.body = len(self.lines)
        for number, line in enumerate(self.lines):
            if line.strip() == "Unit Cell":
                self.body = number
                break
            match = re.match(r"^[ \t]*(\S.*\S)\s*:\s+(\S.*?)\s*$", line)
            if match:
                self.values.setdefault(" ".join(match[1].split()), match[2])
        self.header = "\n".join(self.lines[: self.body])
        self.task = self.values.get("type of calculation", "unknown")
        if self.body == len(self.lines):
            return "the run ended before it began to compute"
        if self.task not in _TASKS:
            return f"type of calculation is {self.task!r}; read are single points, geometry optimizations, molecular dynamics"
        if self.values.get("path integral MD", "OFF").upper() != "OFF":
            return "path integral molecular dynamics is not read"
        if _PAIR_POTENTIAL.search(self.text):
            return "its energies are those of a pair potential (PP=T), not of DFT"
        self.n_atoms = self._number_of_atoms()
        if self.n_atoms is None:
            return "it does not say how many atoms there are (Total number of ions in cell)"
        for name, unit in _UNITS.items():
            found = self.values.get(f"output {name} unit", unit)
            if found != unit:
                return f"its {name} unit is {found}, expected {unit}"
        return self._dispersion_problem()

    def _number_of_atoms(self) -> int | None:
        match = re.search(r"^[ \t]*Total number of ions in cell\s*=\s*(\d+)\s*$", self.text, re.MULTILINE)
        return int(match[1]) if match else None

    @property
    def finite_basis(self) -> bool:
        """Whether CASTEP corrects energy and stress for the finite basis set."""
        return self.values.get("finite basis set correction", "none") != "none"

    @property
    def dispersion(self) -> str | None:
        """Name of the dispersion correction, or None."""
        if self.values.get("DFT+D: Semi-empirical dispersion correction", "off") == "off":
            return None
        scheme = self.values.get("SEDC with", "of unknown scheme")
        return re.sub(r"\s+(?:correction scheme|method)$", "", scheme)

    def _dispersion_problem(self) -> str | None:
        if self.dispersion is None or self.dispersion in _DISPERSION_WITH_FORCES:
            return None
        return f"dispersion correction {self.dispersion}: it cannot be told whether forces and stress include it"

    def _level(self) -> Level:
        values = self.values
        atoms = next((step.atoms for step in self.output.steps if len(step.atoms)), Atoms())
        mesh = re.search(r"MP grid size for SCF calculation is\s+(\d+)\s+(\d+)\s+(\d+)", self.text)
        count = re.search(r"Number of kpoints used\s*=\s*(\d+)", self.text)
        scaled = atoms.get_scaled_positions() if len(atoms) else None
        basis = "no finite basis correction"
        if self.finite_basis:
            basis = f"finite basis correction {values['finite basis set correction']}, energies corrected"
        settings = {
            "functional": self._functional(),
            "cutoff": f"cutoff {_quantity(values.get('plane wave basis set cut-off', NOT_TOLD))}",
            "smearing": self._smearing(),
            "spin": self._spin(),
            "dispersion": self._dispersion_settings(),
            "finite basis": basis,
            **self._more_settings(),
        }
        elements = {PSEUDOPOTENTIAL: self._pseudos(), "Hubbard": self._hubbard(), "starting moment": self._moments()}
        return Level(
            code="CASTEP",
            version=_BANNER.findall(self.text)[0],
            settings={name: value for name, value in settings.items() if value},
            elements=elements,
            also=self._grids(),
            sampling=sampling_of_mesh(atoms.cell.array, map(int, mesh.groups()), scaled) if mesh and len(atoms) else None,
            n_kpoints=count[1] if count else "",
        )

    def _spin(self) -> str:
        spin = "spin-polarised" if "treating system as spin-polarized" in self.header else "not spin-polarised"
        if self.values.get("spin-orbit coupling", "off") != "off":
            spin += " with spin-orbit coupling"
        vector = "vector" in self.values.get("spin treatment", "")
        return "non-collinear spins" + spin.removeprefix("spin-polarised") if vector else spin

    def _dispersion_settings(self) -> str:
        """Return the dispersion correction with everything that the header says of it."""
        if self.dispersion is None:
            return "no dispersion correction"
        more = [f"{key} {value}" for key, value in self.values.items() if "SEDC" in key and key != "SEDC with"]
        return ", ".join([f"dispersion correction {self.dispersion}", *more])

    def _more_settings(self) -> dict[str, str]:
        """Return what most runs have none of."""
        values = self.values
        charge = _real(values.get("net charge of system", "0.0").split()[0])
        field = re.search(r"Applied Electric Field.*?((?:\s+[-+.\dEe]+){3})", self.text, re.DOTALL)
        dipole = values.get("periodic dipole correction", "NONE")
        developer = re.search(r"\*+ Developer Code \*+\s*\n(.*?)\n\s*\*{20}", self.header, re.DOTALL)
        fixed = self._spin().startswith("spin") and values.get("number of fixed-spin iterations", "0").startswith("-")
        moment = values.get("net spin of system", NOT_TOLD)
        return {
            "charge": f"charge {charge:+g}" if charge and np.isfinite(charge) else "" if charge == 0 else NOT_TOLD,
            "total moment": f"total spin fixed at {_quantity(moment)}" if fixed else "",
            "electric field": f"electric field {' '.join(field[1].split())}" if field else "",
            "boundary": f"dipole correction {dipole}" if dipole.upper() != "NONE" else "",
            "relativistic treatment": "" if _koelling(values) else f"relativistic treatment {values['relativistic treatment']}",
            "developer code": f"developer code {' '.join(developer[1].split())}" if developer else "",
        }

    def _grids(self) -> dict[str, str]:
        names = {"size of standard grid": "standard grid", "pseudopotential representation": "projectors"}
        return {short: _quantity(self.values[name]) for name, short in names.items() if name in self.values}

    def _hubbard(self) -> dict[str, str]:
        """Return U in eV by orbital of each element, several if its atoms have several."""
        if "hubbard" not in self.text[: len(self.header) + 20000].lower():
            return {}
        rows = re.findall(r"^[ \t]*\|\s*([A-Z][a-z]?)\S*\s+\d+((?:\s+[-+.\d]+){4})\s*\|\s*$", self._hubbard_table(), re.MULTILINE)
        if not rows:
            return {symbol: f"U {NOT_TOLD}" for symbol, _ in self.atoms}
        found: dict[str, set[str]] = {}
        for symbol, numbers in rows:
            given = zip("spdf", map(float, numbers.split()), strict=True)
            found.setdefault(symbol, set()).add(" ".join(f"{orbital} {u:g} eV" for orbital, u in given if u))
        return {symbol: " or ".join(sorted(texts)) for symbol, texts in found.items() if texts != {""}}

    def _hubbard_table(self) -> str:
        match = re.search(r"Hubbard U values are.*?(?:\n[ \t]*\n|\Z)", self.text, re.DOTALL)
        return match[0] if match else ""

    def _moments(self) -> dict[str, str]:
        """Return the absolute starting moments (μB) of each element, where the file has a table of them."""
        rows = re.findall(r"^[ \t]*\|\s+([A-Z][a-z]?)\S*\s+\d+\s+[-.\d]+\s+(-?[.\d]+)\s+\|\s*$", self.text, re.MULTILINE)
        found: dict[str, set[float]] = {}
        for symbol, moment in rows if self._spin() != "not spin-polarised" else ():
            found.setdefault(symbol, set()).add(round(abs(float(moment)), 2))
        return {symbol: " or ".join(f"{m:g}" for m in sorted(moments)) for symbol, moments in found.items()}

    def _functional(self) -> str:
        if "using functional" in self.values:
            name = self.values["using functional"]
            return FUNCTIONALS.get(name, name)
        match = re.search(r"using custom XC functional definition:?\s*\n(.*?)\n\s*relativistic", self.header, re.DOTALL)
        return "custom functional " + " ".join(match[1].replace(":", " ").split()) if match else NOT_TOLD

    def _smearing(self) -> str:
        if "Treating system as non-metallic" in self.header:
            return "fixed occupancies"
        scheme, width = self.values.get("smearing scheme"), self.values.get("smearing width", "")
        return f"{scheme} smearing {_quantity(width)}" if scheme else NOT_TOLD

    def _pseudos(self) -> dict[str, str]:
        """Return the pseudopotentials of each element: strings that generate them, or names of files and the string in them."""
        match = re.search(r"Files used for pseudopotentials:\s*\n(.*?)\n[ \t]*\n", self.text, re.DOTALL)
        report = r"\| Element: (\w+) .*?\n((?:[ \t]*\|.*\n)*?)\s*-+\s*\n\s*\|\s*\"(.*?)\"\s*\|"
        generated = {symbol: string for symbol, _, string in re.findall(report, self.header)}
        found: dict[str, set[str]] = {}
        for line in match[1].splitlines() if match else ():
            label, _, name = line.strip().partition(" ")
            symbol = label.split(":")[0]
            if symbol in atomic_numbers:
                name = name.strip()
                found.setdefault(symbol, set()).add(generated.get(symbol, name) if "|" not in name else name)
        for symbol, _ in self.atoms:
            found.setdefault(symbol, {NOT_TOLD})
        return {symbol: " and ".join(sorted(names)) for symbol, names in found.items()}

    # --- steps ---

    def _line(self, number: int, line: str, block: _Block) -> int:
        """Take what line ``number`` begins; return the number of the last line taken."""
        stripped = line.strip()
        if "<-- SCF" in line:
            block.scf = True
            if match := _SCF.match(line):
                block.scf_energy = _real(match[1])
        elif stripped == "Unit Cell" and number > self.body:
            self.unreadable["cell"] = "its cell is announced, but not there"
        elif stripped == "Cell Contents":
            self.unreadable["atoms"] = "its atoms are announced, but their table is not there"
        elif "Real Lattice(A)" in line:
            self._cell(number)
        elif match := re.match(r"\s*Current cell volume\s*=\s*(\S+)", line):
            self._check_volume(match[1])
        elif match := _PARAMETERS.match(line):
            self._check_parameters("abc".index(match[1]), match[2], match[3])
        elif "Fractional coordinates of atoms" in line:
            return self._positions(number)
        elif _UNCONVERGED.search(line):
            block.unconverged = True
        elif stripped.startswith("***") and stripped.strip("* ").endswith("Forces"):
            return self._forces(number, stripped.strip("* "), block)
        elif stripped.startswith("***") and stripped.strip("* ").endswith("Stress Tensor"):
            return self._stress(number, stripped.strip("* "), block)
        elif _LINE_SEARCH.match(line):
            return self._line_search(number, block)
        elif match := _FINISHED_ITERATION.search(line):
            block.ended = True
            if block.enthalpy is None:
                block.enthalpy = _real(match[1])
        elif _FINISHED_MD_ITERATION.search(line):
            block.ended = True
        else:
            for name, pattern in _ENERGIES.items():
                if match := pattern.match(line):
                    block.energies[name] = _real(match[1])
        return number

    def _cell(self, number: int) -> None:
        """Take the cell; the reciprocal one beside it tells if a number of either is wrong."""
        self.unreadable.pop("cell", None)
        rows = [[_real(word) for word in row.split()] for row in self.lines[number + 1 : number + 4]]
        self.cell = np.array([row[:3] for row in rows]) if [len(row) for row in rows] == [6, 6, 6] else None
        if self.cell is None or not np.isfinite(rows).all():
            self.unreadable["cell"] = f"its cell cannot be read (line {number + 2})"
        elif np.abs(self.cell @ np.array(rows)[:, 3:].T - 2 * np.pi * np.eye(3)).max() > _RECIPROCAL_TOLERANCE:
            self.unreadable["cell"] = f"its cell and reciprocal cell do not belong together (line {number + 2})"

    def _check_volume(self, text: str) -> None:
        volume = abs(np.linalg.det(self.cell)) if self.cell is not None else np.nan
        if not abs(_real(text) - volume) < 1e-4 * volume:
            self.unreadable.setdefault("cell", f"its cell has {volume:.4f} Å³, but the file says {text} Å³")

    def _check_parameters(self, axis: int, length: str, angle: str) -> None:
        """Compare a length (Å) and the angle (°) between the other two lattice vectors with the cell."""
        if self.cell is not None and "cell" not in self.unreadable:
            parameters = cell_to_cellpar(self.cell)
            if not (abs(parameters[axis] - _real(length)) < 1e-5 and abs(parameters[axis + 3] - _real(angle)) < 1e-3):
                self.unreadable["cell"] = f"its cell has not the lattice parameters printed with it: {shown(length)} Å"

    def _positions(self, number: int) -> int:
        """Take the table of atoms: it must have as many as the file announces, numbered as CASTEP does."""
        self.unreadable.pop("atoms", None)
        self.atoms, rows, at = [], [], number
        for at in range(number + 1, len(self.lines)):
            line = self.lines[at].strip()
            if line and not line.strip("x"):
                break
            if not line.startswith("x"):
                self._no_atoms(f"the table of its atoms has no end (line {at + 1})")
                at -= 1
                break
            if match := _ATOM.fullmatch(line):
                self.atoms.append((match[1], int(match[2])))
                rows.append([_real(word) for word in match.groups()[2:]])
            elif not re.fullmatch(r"x\s+Number\s+u\s+v\s+w\s+x|x-+x", line):
                self._no_atoms(f"line {at + 1}, of the table of atoms, cannot be read: {shown(line)}")
        self.fractional = np.array(rows).reshape(-1, 3)
        if len(rows) != self.n_atoms:
            self._no_atoms(f"its table of atoms has {len(rows)} rows, but the file announces {self.n_atoms} ions")
        elif not np.isfinite(self.fractional).all():
            self._no_atoms(f"a position of atom {int(np.argmin(np.isfinite(self.fractional).all(axis=1))) + 1} is not a number")
        elif self.atoms != _numbered(symbol for symbol, _ in self.atoms):
            self._no_atoms("its atoms are not in the order of their numbers")
        return at

    def _no_atoms(self, problem: str) -> None:
        self.unreadable.setdefault("atoms", problem)

    def _table(self, number: int, what: str, pattern: re.Pattern[str], block: _Block) -> tuple[int, list[tuple[str, ...]], str]:
        """Return the last line of a table, its rows and their text; what is no row spoils the step."""
        rows: list[tuple[str, ...]] = []
        text: list[str] = []
        at = number
        for at in range(number + 1, len(self.lines)):
            line = self.lines[at].strip()
            if line and not line.strip("*"):
                return at, rows, "\n".join(text)
            if not line.startswith("*"):
                if line:
                    block.spoilt(f"line {at + 1}, of the {what}, cannot be read: {shown(line)}")
                at -= 1
                break
            text.append(line)
            if match := pattern.fullmatch(line.replace("(cons'd)", "")):
                rows.append(match.groups())
            elif line and not _NO_ROW.fullmatch(line):
                block.spoilt(f"line {at + 1}, of the {what}, cannot be read: {shown(line)}")
        block.spoilt(f"the table of {what} has no end")
        return at, rows, "\n".join(text)

    def _forces(self, number: int, title: str, block: _Block) -> int:
        at, rows, text = self._table(number, "forces", _FORCE, block)
        values = np.array([[_real(word) for word in row[2:]] for row in rows]).reshape(-1, 3)
        if len(rows) != self.n_atoms:
            block.spoilt(f"its table of forces has {len(rows)} rows, but the file announces {self.n_atoms} ions")
        elif [(row[0], int(row[1])) for row in rows] != self.atoms:
            block.spoilt("the atoms in its table of forces are not those in its table of atoms")
        elif not np.isfinite(values).all():
            block.spoilt(f"a force on atom {int(np.argmin(np.isfinite(values).all(axis=1))) + 1} is not a number")
        else:
            constrained = title.startswith("Constrained")
            # The three constraints of a run without any are those on the centre of mass: they only take away the sum of the
            # forces.
            match = re.search(r"Number of ionic constraints\s*=\s*(\d+)", self.text)
            more = constrained and match is not None and int(match[1]) > 3
            block.forces.append(_Forces(values, constrained, "(cons'd)" not in text and not more))
        return at

    def _stress(self, number: int, title: str, block: _Block) -> int:
        """Take the stress; under cell constraints a second one follows, from which they have taken components away."""
        at, rows, text = self._table(number, "stress", _STRESS, block)
        values = np.array([[_real(word) for word in row[1:]] for row in rows]).reshape(-1, 3)
        pressure = re.search(r"Pressure:\s*(\S+)", text)
        if [row[0] for row in rows] != ["x", "y", "z"] or not np.isfinite(values).all():
            block.spoilt("its stress cannot be read: it has not three rows of three numbers")
        elif np.abs(values - values.T).max() > _STRESS_TOLERANCE:
            block.spoilt("its stress is not symmetric")
        elif pressure and not abs(_real(pressure[1]) + values.trace() / 3) < 1e-3:
            block.spoilt(f"its stress has not the pressure that is printed with it, {pressure[1]} GPa")
        elif "Constrained" in title:
            block.constrained_stress = True
        elif title not in ("Stress Tensor", "Symmetrised Stress Tensor"):
            self.output.note(f"stress left out where it is called {shown(title)!r}: it is not known what that is")
        else:
            block.stress = values * units.GPa
        return at

    def _line_search(self, number: int, block: _Block) -> int:
        """Take the last energy of a line search, whose table must have an end: a cut one ends with a trial before."""
        last = None
        for at in range(number + 2, len(self.lines)):
            line = self.lines[at]
            if re.match(r"^[ \t]*\+[-+]+\+\s*<-- min", line):
                if last is not None:  # else only the step before is in it
                    block.ended, block.enthalpy = True, last
                return at
            if "<-- min" not in line:
                break
            if match := _TRIED.match(line):
                last = _real(match[1])
        block.spoilt("the table of its line search has no end")
        return number

    def _close(self, block: _Block) -> None:
        """End a step, if there was one."""
        if not (block.energies or block.forces or block.stress is not None or (block.problem and block.scf)):
            return
        atoms, key = Atoms(), (b"", b"")
        if self.cell is not None and self.fractional is not None and not self.unreadable:
            symbols = [symbol for symbol, _ in self.atoms]
            atoms = Atoms(symbols, cell=self.cell, scaled_positions=self.fractional, pbc=True)
            key = (self.cell.tobytes(), self.fractional.tobytes())
        step = Step(atoms, None, stress=block.stress, problem=next(iter(self.unreadable.values()), block.problem))
        self._set_forces(step, block)
        if not len(atoms):
            step.problem = step.problem or "its cell or positions are not printed"
        elif block.unconverged:
            step.problem = "the SCF is not converged: the largest number of SCF cycles was reached"
        elif step.problem is None:
            step.energy, step.problem = self._energy(block, atoms)
        if block.constrained_stress and block.stress is None:
            self.output.note("stress left out where only that after constraints on the cell is printed")
        if self.task == "molecular dynamics" and step.stress is not None:
            step.stress = None
            self.output.note("stress of molecular dynamics left out: it cannot be told whether the motion of the ions is in it")
        self.output.steps.append(step)
        self.keys.append(key)

    def _set_forces(self, step: Step, block: _Block) -> None:
        """Take the forces before constraints if they are printed, else those after, if these only took away their sum."""
        for forces in sorted(block.forces, key=lambda forces: forces.constrained, reverse=True):
            if forces.usable:
                step.forces = forces.values
        if block.forces and step.forces is None:
            self.output.note("forces left out where only those after constraints on the ions are printed")

    def _take_final(self, final: _Block) -> None:
        """Give forces that are printed with the final configuration to the step that computed it."""
        if self.cell is None or self.fractional is None or self.unreadable:
            return
        key = (self.cell.tobytes(), self.fractional.tobytes())
        for step, other in zip(reversed(self.output.steps), reversed(self.keys), strict=True):
            if other == key:
                if step.forces is None or any(not forces.constrained for forces in final.forces):
                    self._set_forces(step, final)
                step.problem = step.problem or final.problem
                return

    def _energy(self, block: _Block, atoms: Atoms) -> tuple[float | None, str | None]:
        """Return the energy (eV) that the printed forces and stress belong to, or why there is none."""
        energies = block.energies
        unread = [name for name, value in energies.items() if not np.isfinite(value)]
        if unread:
            return None, f"its {unread[0].replace('_', ' ')} energy cannot be read"
        plain, problem = self._plain_energy(block)
        if plain is None:
            return None, problem
        energy = plain
        if self.dispersion is not None:
            if "dispersion_free" in energies:
                energy = energies["dispersion_free"]
            elif "free" not in energies and "dispersion_total" in energies:
                energy = energies["dispersion_total"]
            elif "dispersion" in energies:
                energy += energies["dispersion"]
            else:
                return None, f"dispersion correction {self.dispersion}, but no dispersion-corrected free energy printed"
            if "dispersion" in energies and abs(plain + energies["dispersion"] - energy) > 2e-6 + 1e-9 * abs(energy):
                return None, f"its dispersion-corrected energy {energy:.6f} eV is not the sum of energy and correction"
        minimised = self._minimised_energy(block, atoms)
        if self.finite_basis:
            # The printed stress is the derivative of the corrected energy. CASTEP prints that only once, at the first step; later
            # it is what the minimiser works with.
            corrected = energies.get("finite_basis", minimised)
            if corrected is None:
                return None, "its energy corrected for the finite basis set is not printed, but its stress is corrected"
            if self.dispersion is not None and abs(corrected - energy) > abs(corrected - plain):
                return None, f"{corrected:.6f} eV, corrected for the finite basis set, is without the dispersion correction"
            energy = corrected
        if minimised is not None and abs(minimised - energy) > max(_ENTHALPY_TOLERANCE, 1e-8 * abs(energy)):
            return (
                None,
                f"its forces belong to another energy: the minimiser works with {minimised:.6f} eV, not {energy:.6f} eV",
            )
        return energy, None

    def _plain_energy(self, block: _Block) -> tuple[float | None, str | None]:
        """Return the energy of the SCF, which CASTEP prints several times; or why there is none."""
        energies = block.energies
        if not block.scf:
            return None, "no SCF belongs to its energy"
        free, internal = energies.get("free"), energies.get("internal")
        if "total" in energies and free is None and internal is None:
            plain = energies["total"]
        elif free is None or internal is None:
            return None, "no final energy printed" if free is internal else "only one of its energies E and E-TS is printed"
        else:
            plain = free
            middle = energies.get("zero_kelvin", (free + internal) / 2)
            if abs(middle - (free + internal) / 2) > 1e-6:
                return (
                    None,
                    f"its energies E, E-TS and E-0.5TS do not belong together: {internal:.6f}, {free:.6f}, {middle:.6f} eV",
                )
        if block.scf_energy is not None and not abs(block.scf_energy - plain) < _SCF_TOLERANCE * abs(plain) + 1e-5:
            return None, f"its energy {plain:.6f} eV is not that of the last SCF cycle, {block.scf_energy:.6f} eV"
        return plain, None

    def _minimised_energy(self, block: _Block, atoms: Atoms) -> float | None:
        """Return what the minimiser of a geometry optimization takes as energy (eV): the printed enthalpy without p·V."""
        if block.enthalpy is None:
            return None
        match = re.search(r"External pressure/stress \(GPa\)\s*\n((?:.*\n){3})", self.text)
        values = [_real(word) for word in match[1].split()] if match else [0.0] * 6
        if len(values) != 6:
            return None
        xx, xy, xz, yy, yz, zz = values
        if any((xy, xz, yz)) or not xx == yy == zz:
            return None
        return block.enthalpy - xx * units.GPa * atoms.get_volume()


def _koelling(values: dict[str, str]) -> bool:
    """Tell whether the relativistic treatment is CASTEP's own choice."""
    return values.get("relativistic treatment", "Koelling-Harmon") == "Koelling-Harmon"


def _numbered(symbols: Iterable[str]) -> list[tuple[str, int]]:
    """Return symbols with the number of each among those of its species."""
    counts: Counter[str] = Counter()
    out = []
    for symbol in symbols:
        counts[symbol] += 1
        out.append((symbol, counts[symbol]))
    return out


def _real(text: str) -> float:
    """Return a number as Fortran prints it, or not-a-number if it is none, as when it is too long for its field."""
    return float(text.replace("D", "E").replace("d", "e")) if re.fullmatch(_NUMBER, text) else float("nan")


def _quantity(text: str) -> str:
    """Return a number with its unit without trailing zeros."""
    number, _, unit = text.partition(" ")
    try:
        return f"{float(number):g} {unit.strip()}".strip()
    except ValueError:
        return text
