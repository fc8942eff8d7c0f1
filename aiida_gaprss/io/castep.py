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
from ase.geometry import cell_to_cellpar

from aiida_gaprss.io.castep_energy import Energies, energy_of
from aiida_gaprss.io.castep_level import BANNER, header_of, level, real
from aiida_gaprss.io.common import Output, Step, Wrong, read_runs
from aiida_gaprss.outside import shown

_ATOM = re.compile(r"x\s+([A-Z][a-z]?)(?::\S+)?(?:\s+\[[^\]]*\])?\s+(\d+)\s+(\S+)\s+(\S+)\s+(\S+)\s+x")
_FORCE = re.compile(r"\*\s+([A-Z][a-z]?)(?::\S+)?(?:\s+\[[^\]]*\])?\s+(\d+)\s+(\S+)\s+(\S+)\s+(\S+)\s*\*")
_STRESS = re.compile(r"\*\s+([xyz])\s+(\S+)\s+(\S+)\s+(\S+)\s+\*")
#: Lines of tables of forces and stresses that are no rows.
_NO_ROW = re.compile(r"\*\s*(?:|Cartesian components.*|-+|x\s+y\s+z|Pressure:.*)\s*\*")
_PARAMETERS = re.compile(r"^[ \t]*([abc]) =\s*(\S+)\s+(?:alpha|beta|gamma) =\s*(\S+)\s*$")
_START = re.compile(r"(?:^[ \t]*Starting (?:\w+ )?iteration\s+\d|: (?:starting|improving) iteration\s+\d)")
_STRUCTURE = re.compile(r"Real Lattice\(A\)|Fractional coordinates of atoms|^[ \t]*(?:Unit Cell|Cell Contents)\s*$")
_FINAL = re.compile(r"Final Configuration|^[ \t]*Finished MD")
_TRIED = re.compile(r"^[ \t]*\|\s*\w+ step\s*\|.*\|\s*(\S+)\s*\|\s*<-- min")
_LINE_SEARCH = re.compile(r"^[ \t]*\|\s*Step\s*\|.*enthalpy.*<-- min")
_FINISHED_ITERATION = re.compile(r": finished iteration\s+\d+ with enthalpy=\s*(\S+)\s+eV")
_FINISHED_MD_ITERATION = re.compile(r"finished MD iteration\s+\d+")
_UNCONVERGED = re.compile(r"has not reached the ground\s?state|did not converge when finding ground state", re.IGNORECASE)
_NO_EMPTY_BANDS = re.compile(r"no empty bands for at least one kpoint", re.IGNORECASE)

#: Seven decimals of a lattice vector times a reciprocal one.
_RECIPROCAL_TOLERANCE = 1e-4
#: GPa; printed with six decimals.
_STRESS_TOLERANCE = 2e-6


def recognises(head: str) -> bool:
    """Tell whether a file that begins like this is CASTEP's."""
    return BANNER.search(head) is not None


def read(text: str) -> Output:
    """Return the ionic steps of a ``.castep`` file, which may hold several runs one after another."""
    return read_runs(text, BANNER, lambda part: _Run(part).read())


@dataclass
class _Forces:
    """One printed block of forces; ``usable`` unless a constraint changed more than their sum."""

    values: np.ndarray
    constrained: bool
    usable: bool


@dataclass
class _Block:
    """What is printed in one step."""

    energies: Energies = field(default_factory=Energies)
    forces: list[_Forces] = field(default_factory=list)
    stress: np.ndarray | None = None
    constrained_stress: bool = False
    problem: str | None = None  # the first
    unconverged: bool = False
    ended: bool = False  # CASTEP said that the step is over

    def spoilt(self, problem: str) -> None:
        """Note why the step must not be used, if there is no reason yet."""
        self.problem = self.problem or problem


class _Run:
    """One run: its header, then its steps."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.splitlines()
        self.header = header_of(text, self.lines)
        self.n_atoms = self.header.n_atoms
        self.output = Output()
        self.cell: np.ndarray | None = None
        self.atoms: list[tuple[str, int]] = []  # symbol, and number among those of its species
        self.fractional: np.ndarray | None = None
        self.unreadable: dict[str, str] = {}  # why cell or positions cannot be used
        self.keys: list[tuple[bytes, bytes]] = []  # cell and positions of every step

    def read(self) -> Output:
        """Return the steps."""
        problem = self.header.problem()
        if problem:
            self.output.refused.append((None, problem))
            return self.output
        final = self._steps()
        finished = re.search(r"^[ \t]*Total time\s*=", self.text, re.MULTILINE) is not None
        if finished or self.block.ended:
            self._close(self.block)
        elif self.block.energies.scf or self.block.energies.printed:
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
        number = self.header.body
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
                # The line that begins the step may be lost.
                if final is None and self.block.energies.printed and _STRUCTURE.search(line):
                    self._close(self.block)
                    self.block = _Block()
                number = self._line(number, line, self.block if final is None else final)
            number += 1
        return final

    def _notes(self, finished: bool) -> None:
        atoms = next((step.atoms for step in self.output.steps if len(step.atoms)), Atoms())
        self.output.levels.append(level(self.header, [symbol for symbol, _ in self.atoms], atoms))
        if not finished:
            self.output.note("the run was cut off: it has no end")
        warnings = len(_NO_EMPTY_BANDS.findall(self.text))
        if warnings:
            self.output.note(
                f"CASTEP warns {warnings} time{'s' if warnings > 1 else ''} that there are no empty bands: "
                "the ground state may be inaccurate (nextra_bands)"
            )
        if self.header.values.get("variable cell method") == "fixed basis size":
            self.output.note_fixed_basis()
        self.output.note_missing()

    def _line(self, number: int, line: str, block: _Block) -> int:
        """Take what line ``number`` begins; return the number of the last line taken."""
        stripped = line.strip()
        if "<-- SCF" in line:
            block.energies.take_cycle(line)
        elif stripped == "Unit Cell" and number > self.header.body:
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
            if block.energies.enthalpy is None:
                block.energies.enthalpy = real(match[1])
        elif _FINISHED_MD_ITERATION.search(line):
            block.ended = True
        else:
            block.energies.take(line)
        return number

    def _cell(self, number: int) -> None:
        """Take the cell; the reciprocal one beside it tells if a number of either is wrong."""
        self.unreadable.pop("cell", None)
        rows = [[real(word) for word in row.split()] for row in self.lines[number + 1 : number + 4]]
        self.cell = np.array([row[:3] for row in rows]) if [len(row) for row in rows] == [6, 6, 6] else None
        if self.cell is None or not np.isfinite(rows).all():
            self.unreadable["cell"] = f"its cell cannot be read (line {number + 2})"
        elif np.abs(self.cell @ np.array(rows)[:, 3:].T - 2 * np.pi * np.eye(3)).max() > _RECIPROCAL_TOLERANCE:
            self.unreadable["cell"] = f"its cell and reciprocal cell do not belong together (line {number + 2})"

    def _check_volume(self, text: str) -> None:
        volume = abs(np.linalg.det(self.cell)) if self.cell is not None else np.nan
        if not abs(real(text) - volume) < 1e-4 * volume:
            self.unreadable.setdefault("cell", f"its cell has {volume:.4f} Å³, but the file says {text} Å³")

    def _check_parameters(self, axis: int, length: str, angle: str) -> None:
        """Compare a length (Å) and the angle (°) between the other two lattice vectors with the cell."""
        if self.cell is not None and "cell" not in self.unreadable:
            parameters = cell_to_cellpar(self.cell)
            if not (abs(parameters[axis] - real(length)) < 1e-5 and abs(parameters[axis + 3] - real(angle)) < 1e-3):
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
                rows.append([real(word) for word in match.groups()[2:]])
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
        values = np.array([[real(word) for word in row[2:]] for row in rows]).reshape(-1, 3)
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
        values = np.array([[real(word) for word in row[1:]] for row in rows]).reshape(-1, 3)
        pressure = re.search(r"Pressure:\s*(\S+)", text)
        if [row[0] for row in rows] != ["x", "y", "z"] or not np.isfinite(values).all():
            block.spoilt("its stress cannot be read: it has not three rows of three numbers")
        elif np.abs(values - values.T).max() > _STRESS_TOLERANCE:
            block.spoilt("its stress is not symmetric")
        elif pressure and not abs(real(pressure[1]) + values.trace() / 3) < 1e-3:
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
                    block.ended, block.energies.enthalpy = True, last
                return at
            if "<-- min" not in line:
                break
            if match := _TRIED.match(line):
                last = real(match[1])
        block.spoilt("the table of its line search has no end")
        return number

    def _close(self, block: _Block) -> None:
        """End a step, if there was one."""
        energies = block.energies
        if not (energies.printed or block.forces or block.stress is not None or (block.problem and energies.scf)):
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
            try:
                step.energy = energy_of(energies, self.header, atoms)
            except Wrong as exception:
                step.problem = str(exception)
        if block.constrained_stress and block.stress is None:
            self.output.note("stress left out where only that after constraints on the cell is printed")
        if self.header.task == "molecular dynamics" and step.stress is not None:
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


def _numbered(symbols: Iterable[str]) -> list[tuple[str, int]]:
    """Return symbols with the number of each among those of its species."""
    counts: Counter[str] = Counter()
    out = []
    for symbol in symbols:
        counts[symbol] += 1
        out.append((symbol, counts[symbol]))
    return out
