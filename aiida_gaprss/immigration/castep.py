"""Frames from the ``.castep`` file of CASTEP.

ASE reads such files too, but refuses runs that did not come to their end, takes only the last of several runs in one file, gives
the last step of a molecular dynamics run the forces of the thermostat, which CASTEP prints after it, and never returns the
dispersion-corrected energy; so the text is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers

from aiida_gaprss.immigration.common import Level, Output, Step, mesh_spacing

_BANNER = re.compile(r"^.*\|\s*Welcome to .*CASTEP version\s+([\w.]+)", re.MULTILINE)
_NUMBER = r"[-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?"
_UNITS = {"length": "A", "energy": "eV", "force": "eV/A", "pressure": "GPa"}
_TASKS = {"single point energy", "geometry optimization", "molecular dynamics", "band structure"}

#: CASTEP's documentation says of these that forces and stress are available, so what is printed includes them.
_DISPERSION_WITH_FORCES = ("TS", "MBD", "MBD*", "MBD@rsSCS", "G06", "D3", "D3(BJ)", "D3-BJ", "D4", "OBS", "JCHS", "XDM")

_FUNCTIONALS = {
    "Local Density Approximation": "LDA",
    "Perdew-Zunger Local Density Approximation": "LDA",
    "Perdew Burke Ernzerhof": "PBE",
    "PBE for solids (2008)": "PBEsol",
    "revised Perdew Burke Ernzerhof": "RPBE",
    "Perdew Wang (1991)": "PW91",
}

_ATOM = re.compile(rf"^\s*x\s+([A-Z][a-z]?)(?::\S+)?\s+\d+\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s+x\s*$")
_FORCE = re.compile(r"^\s*\*\s+([A-Z][a-z]?)(?::\S+)?\s+\d+\s+(\S+)\s+(\S+)\s+(\S+)\s*\*\s*$")
_STRESS = re.compile(rf"^\s*\*\s+[xyz]\s+({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})\s+\*\s*$")
_ENERGIES = {
    "free": re.compile(rf"^\s*Final free energy \(E-TS\)\s*=\s*({_NUMBER})"),
    "total": re.compile(rf"^\s*Final energy(?:, E)?\s*=\s*({_NUMBER})"),
    "dispersion_free": re.compile(rf"^\s*Dispersion corrected final free energy\*.*=\s*({_NUMBER})"),
    "dispersion_total": re.compile(rf"^\s*Dispersion corrected final energy\*.*=\s*({_NUMBER})"),
    "dispersion": re.compile(rf"^\s*\(SEDC\) Total Energy Correction\s*:\s*({_NUMBER})"),
    "finite_basis": re.compile(rf"^\s*Total energy corrected for finite basis set\s*=\s*({_NUMBER})"),
}
_START = re.compile(r"(?:^\s*Starting (?:\w+ )?iteration\s+\d|: (?:starting|improving) iteration\s+\d)")
_FINAL = re.compile(r"Final Configuration|^\s*Finished MD")
_TRIED = re.compile(rf"^\s*\|\s*\w+ step\s*\|.*\|\s*({_NUMBER})\s*\|\s*<-- min")
_FINISHED_ITERATION = re.compile(rf": finished iteration\s+\d+ with enthalpy=\s*({_NUMBER})\s+eV")
_FINISHED_MD_ITERATION = re.compile(r"finished MD iteration\s+\d+")
_UNCONVERGED = re.compile(r"has not reached the ground\s?state|did not converge when finding ground state", re.IGNORECASE)

#: How far (eV) the energy that the minimiser works with may be from the one that is read: it is printed with fewer digits.
_ENTHALPY_TOLERANCE = 2e-4


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
    enthalpy: float | None = None
    unconverged: bool = False
    scf: bool = False  # an SCF began
    ended: bool = False  # CASTEP said that the step is over


class _Run:
    """One run: its header, then its steps."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines()
        self.output = Output()
        self.cell: np.ndarray | None = None
        self.symbols: list[str] = []
        self.fractional: np.ndarray | None = None
        self.keys: list[tuple[bytes, bytes]] = []  # cell and positions of every step

    def read(self) -> Output:
        """Return the steps."""
        problem = self._header()
        if problem:
            self.output.refused.append((None, problem))
            return self.output
        block, final = _Block(), None
        number = self.body
        while number < len(self.lines):
            line = self.lines[number]
            if _FINAL.search(line):
                self._close(block)
                block, final = _Block(), _Block()
                if "Finished MD" in line:  # what follows are forces of thermostat and constraints
                    break
            elif final is None and _START.search(line):
                self._close(block)
                block = _Block()
            else:
                number = self._line(number, line, block if final is None else final)
            number += 1
        finished = re.search(r"^\s*Total time\s*=", self.text, re.MULTILINE) is not None
        if finished or block.ended:
            self._close(block)
        elif block.scf or block.energies:
            self.output.refuse_next("incomplete: the run ends during this step")
        if final is not None:
            self._take_final(final)
        if not self.output.steps and not self.output.refused:
            self.output.refused.append((None, "no energy in it" + ("" if finished else ": the run did not come to its end")))
        if self.output.steps:
            self.output.levels.append(self._level())
            if self.values.get("variable cell method") == "fixed basis size":
                self.output.note_fixed_basis()
        return self.output

    # --- header ---

    def _header(self) -> str | None:
        """Read the header; return why the run cannot be used, or None."""
        self.values: dict[str, str] = {}
        self.body = len(self.lines)
        for number, line in enumerate(self.lines):
            if line.strip() == "Unit Cell":
                self.body = number
                break
            match = re.match(r"^\s*(\S.*\S)\s*:\s+(\S.*?)\s*$", line)
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
        for name, unit in _UNITS.items():
            found = self.values.get(f"output {name} unit", unit)
            if found != unit:
                return f"its {name} unit is {found}, expected {unit}"
        return self._dispersion_problem()

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
        values, mesh, count = self.values, None, None
        match = re.search(r"MP grid size for SCF calculation is\s+(\d+)\s+(\d+)\s+(\d+)", self.text)
        if match:
            mesh = mesh_spacing(self.output.steps[0].atoms.cell.array, map(int, match.groups()))
        match = re.search(r"Number of kpoints used\s*=\s*(\d+)", self.text)
        if match:
            count = int(match[1])
        others = ["no finite basis correction"]
        if self.finite_basis:
            others = [f"finite basis correction {values['finite basis set correction']}, energies corrected"]
        charge = float(values.get("net charge of system", "0"))
        others += [f"charge {charge:+g}"] if charge else []
        others += ["Hubbard U"] if "hubbard" in self.text[: len(self.header)].lower() else []
        return Level(
            code="CASTEP",
            version=_BANNER.findall(self.text)[0],
            functional=self._functional(),
            cutoff=_quantity(values.get("plane wave basis set cut-off", "unknown")),
            smearing=self._smearing(),
            spin="spin-polarised" if "treating system as spin-polarized" in self.header else "not spin-polarised",
            dispersion=f"dispersion correction {self.dispersion}" if self.dispersion else "no dispersion correction",
            others=tuple(others),
            pseudos=self._pseudos(),
            spacing=mesh,
            n_kpoints=count,
        )

    def _functional(self) -> str:
        if "using functional" in self.values:
            name = self.values["using functional"]
            return _FUNCTIONALS.get(name, name)
        match = re.search(r"using custom XC functional definition:?\s*\n(.*?)\n\s*relativistic", self.header, re.DOTALL)
        return "custom functional " + " ".join(match[1].replace(":", " ").split()) if match else "functional not told"

    def _smearing(self) -> str:
        if "Treating system as non-metallic" in self.header:
            return "fixed occupancies"
        scheme, width = self.values.get("smearing scheme"), self.values.get("smearing width", "")
        return f"{scheme} smearing {_quantity(width)}" if scheme else "smearing not told"

    def _pseudos(self) -> dict[str, str]:
        match = re.search(r"Files used for pseudopotentials:\s*\n(.*?)\n\s*\n", self.text, re.DOTALL)
        pseudos: dict[str, str] = {}
        for line in match[1].splitlines() if match else ():
            symbol, _, name = line.strip().partition(" ")
            if symbol.split(":")[0] in atomic_numbers:
                pseudos.setdefault(symbol.split(":")[0], name.strip())
        return pseudos

    # --- steps ---

    def _line(self, number: int, line: str, block: _Block) -> int:
        """Take what line ``number`` begins; return the number of the last line taken."""
        stripped = line.strip()
        if "<-- SCF" in line:
            block.scf = True
        elif "Real Lattice(A)" in line:
            rows = [_floats(row.split()[:3]) for row in self.lines[number + 1 : number + 4]]
            self.cell = np.array(rows) if [len(row) for row in rows] == [3, 3, 3] else None
        elif "Fractional coordinates of atoms" in line:
            return self._positions(number)
        elif _UNCONVERGED.search(line):
            block.unconverged = True
        elif stripped.startswith("***") and stripped.endswith("Forces " + "*" * (len(stripped) - len(stripped.rstrip("*")))):
            return self._forces(number, stripped.strip("* "), block)
        elif stripped.startswith("***") and "Stress Tensor *" in stripped:
            return self._stress(number, block)
        elif match := _TRIED.match(line):
            block.enthalpy, block.ended = float(match[1]), True
        elif match := _FINISHED_ITERATION.search(line):
            block.ended = True
            if block.enthalpy is None:
                block.enthalpy = float(match[1])
        elif _FINISHED_MD_ITERATION.search(line):
            block.ended = True
        else:
            for name, pattern in _ENERGIES.items():
                if match := pattern.match(line):
                    block.energies[name] = float(match[1])
        return number

    def _positions(self, number: int) -> int:
        symbols, rows, at = [], [], number
        for at in range(number + 1, len(self.lines)):
            match = _ATOM.match(self.lines[at])
            if match:
                symbols.append(match[1])
                rows.append([float(x) for x in match.groups()[1:]])
            elif symbols:
                break
        self.symbols, self.fractional = symbols, np.array(rows)
        return at

    def _forces(self, number: int, title: str, block: _Block) -> int:
        symbols, rows, fixed, at = [], [], False, number
        for at in range(number + 1, len(self.lines)):
            line = self.lines[at]
            if match := _FORCE.match(line.replace("(cons'd)", "")):
                symbols.append(match[1])
                rows.append(_floats(match.groups()[1:]))
                fixed |= "(cons'd)" in line
            elif line.strip() and not line.strip().strip("*"):
                break
        constrained = title.startswith("Constrained")
        # The three constraints of a run without any are those on the centre of mass: they only take away the sum of the forces.
        match = re.search(r"Number of ionic constraints\s*=\s*(\d+)", self.text)
        more = constrained and match is not None and int(match[1]) > 3
        if symbols == self.symbols and all(len(row) == 3 for row in rows):
            block.forces.append(_Forces(np.array(rows), constrained, not fixed and not more))
        return at

    def _stress(self, number: int, block: _Block) -> int:
        rows, at = [], number
        for at in range(number + 1, len(self.lines)):
            if match := _STRESS.match(self.lines[at]):
                rows.append([float(x) for x in match.groups()])
            elif self.lines[at].strip() and not self.lines[at].strip().strip("*"):
                break
        if len(rows) == 3:
            block.stress = np.array(rows) * units.GPa
        return at

    def _close(self, block: _Block) -> None:
        """End a step, if there was one."""
        if not block.energies or self.cell is None or self.fractional is None or not self.symbols:
            return
        atoms = Atoms(self.symbols, cell=self.cell, scaled_positions=self.fractional, pbc=True)
        step = Step(atoms, None, stress=block.stress)
        self._set_forces(step, block)
        if block.unconverged:
            step.problem = "the SCF is not converged: the largest number of SCF cycles was reached"
        else:
            step.energy, step.problem = self._energy(block, atoms)
        if self.task == "molecular dynamics" and step.stress is not None:
            step.stress = None
            self.output.note("stress of molecular dynamics left out: it cannot be told whether the motion of the ions is in it")
        self.output.steps.append(step)
        self.keys.append((self.cell.tobytes(), self.fractional.tobytes()))

    def _set_forces(self, step: Step, block: _Block) -> None:
        """Take the forces before constraints if they are printed, else those after, if these only took away their sum."""
        for forces in sorted(block.forces, key=lambda forces: forces.constrained, reverse=True):
            if forces.usable:
                step.forces = forces.values
        if block.forces and step.forces is None:
            self.output.note("forces left out where only those after constraints on the ions are printed")

    def _take_final(self, final: _Block) -> None:
        """Give forces that are printed with the final configuration to the step that computed it."""
        if self.cell is None or self.fractional is None:
            return
        key = (self.cell.tobytes(), self.fractional.tobytes())
        for step, other in zip(reversed(self.output.steps), reversed(self.keys), strict=True):
            if other == key:
                if step.forces is None or any(not forces.constrained for forces in final.forces):
                    self._set_forces(step, final)
                return

    def _energy(self, block: _Block, atoms: Atoms) -> tuple[float | None, str | None]:
        """Return the energy (eV) that the printed forces and stress belong to, or why there is none."""
        energies = block.energies
        plain = energies.get("free", energies.get("total"))
        if plain is None:
            return None, "no final energy printed"
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

    def _minimised_energy(self, block: _Block, atoms: Atoms) -> float | None:
        """Return what the minimiser of a geometry optimization takes as energy (eV): the printed enthalpy without p·V."""
        if block.enthalpy is None:
            return None
        match = re.search(r"External pressure/stress \(GPa\)\s*\n" + r"((?:\s*[-+.\dEe]+){6})", self.text)
        xx, xy, xz, yy, yz, zz = (float(x) for x in match[1].split()) if match else (0.0,) * 6
        if any((xy, xz, yz)) or not xx == yy == zz:
            return None
        return block.enthalpy - xx * units.GPa * atoms.get_volume()


def _floats(words: Iterable[str]) -> list[float]:
    """Return numbers, or nothing if one of them is none, as when it is too long for its field."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return []


def _quantity(text: str) -> str:
    """Return a number with its unit without trailing zeros."""
    number, _, unit = text.partition(" ")
    try:
        return f"{float(number):g} {unit.strip()}".strip()
    except ValueError:
        return text
