"""Frames from what ``pw.x`` of Quantum ESPRESSO prints; cells and positions by ASE's functions.

ASE's reader of the whole file stops at runs whose last SCF is not converged, and takes the first of several total energies of a
hybrid functional, which is that of the functional without exact exchange; so results are read here. Nor can pw.x be trusted about
convergence: with ``scf_must_converge=.false.`` it prints "convergence has been achieved" all the same, so its estimate of the
accuracy is compared with the threshold.
"""

from __future__ import annotations

import re
from itertools import takewhile

import numpy as np
from ase import Atoms, units
from ase.io.espresso import label_to_symbol, parse_pwo_start

from aiida_gaprss.io.common import Output, Step, Wrong, read_runs, real
from aiida_gaprss.io.espresso_level import BANNER, first_number, level, species_of
from aiida_gaprss.outside import shown

_ENERGY = re.compile(r"^!+\s+total energy\s+=\s+(\S+) Ry")
_TERM = re.compile(r"^[^=]*=\s*(\S+) Ry\s*$")
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+) Ry")
_FORCE = re.compile(r"^[ \t]*atom\s+(\d+)\s+type\s+(\d+)\s+force\s+=\s+(\S+)\s+(\S+)\s+(\S+)\s*$")
_SITE = re.compile(r"^[ \t]*(\d+)\s+(\S+)\s+tau\(\s*(\d+)\)\s*=\s*\(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)\s*$")

#: The threshold and the estimate are printed with two digits.
_PRINTED_DIGITS = 1.1

#: How far what is printed twice may be apart: Ry, Ry/bohr of the norm of all forces, kbar, relative volume, reciprocal cell.
_ENERGY_TOLERANCE, _FORCE_TOLERANCE, _STRESS_TOLERANCE, _VOLUME_TOLERANCE, _RECIPROCAL_TOLERANCE = 2e-6, 2e-6, 0.03, 2e-5, 1e-4
_KBAR_PER_RY_BOHR3 = units.Rydberg / units.Bohr**3 / (0.1 * units.GPa)


def recognises(head: str) -> bool:
    """Tell whether a file that begins like this is of pw.x."""
    return BANNER.search(head) is not None


def read(text: str) -> Output:
    """Return the ionic steps of the output of pw.x, which may hold several runs one after another."""
    return read_runs(text, BANNER, _read_run)


def temperatures(text: str) -> list[float]:
    """Return the temperatures (K) of a trajectory, one for each step, of its atoms where the step begins.

    What is printed after "Entering Dynamics" is of the positions before, whose forces are known by then.
    """
    blocks = re.split(r"^\s*Entering Dynamics:\s+iteration\s+=\s+\d+\s*$", text, flags=re.M)[1:]
    found = [re.search(r"^\s*temperature\s+=\s+(\S+) K\b", block, flags=re.M) for block in blocks]
    values = [real(match[1]) if match else float("nan") for match in found]
    return list(takewhile(np.isfinite, values))


def end_of(text: str) -> Atoms | None:
    """Return the atoms where a run in a fixed cell has moved them last; None if it has not, or they cannot be read."""
    lines = text.splitlines()
    begins = [number for number, line in enumerate(lines) if line.startswith("ATOMIC_POSITIONS")]
    if not begins:
        return None
    try:
        start, labels = _start(lines)
        return _atoms(lines, begins[-1], start["atoms"].cell.array, start["alat"], labels)
    except (KeyError, IndexError, ValueError, AssertionError):
        return None


def _read_run(text: str) -> Output:
    output = Output()
    lines = text.splitlines()
    finished = any("JOB DONE" in line for line in lines)
    try:
        start, labels = _start(lines)
    except (KeyError, IndexError, ValueError, AssertionError) as exception:
        began = "site n." in text
        reason = f"its header cannot be read: {shown(exception)}" if began else "the run ended before it began to compute"
        output.refused.append((None, reason))
        return output
    # The first configuration stands in the header, each further one where ATOMIC_POSITIONS are printed.
    begins = [0, *(number for number, line in enumerate(lines) if line.startswith("ATOMIC_POSITIONS"))]
    cell = start["atoms"].cell.array
    threshold = first_number(r"scf convergence threshold\s+=\s+(\S+)", text)
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        block, last = lines[begin:end], end == len(lines)
        if not any(_ENERGY.match(line) or line.strip().startswith("iteration #") for line in block):
            continue
        if last and not finished and not any("NOT achieved" in line for line in block):
            output.refuse_next("incomplete: the run ends during this step")
            continue
        try:
            if begin:
                cell = _cell(lines, begin, cell, start["alat"])
                atoms = _atoms(lines, begin, cell, start["alat"], labels)
            else:
                atoms = start["atoms"].copy()
            output.steps.append(_step(block, atoms, start["types"], text, threshold))
        except (ValueError, IndexError, StopIteration) as exception:
            output.steps.append(Step(Atoms(), None, problem=str(exception) or "its positions cannot be read"))
    if not output.steps and not output.refused:
        reason = "no self-consistent energy in it" if finished else "the run ended before the first energy"
        output.refused.append((None, reason))
    if output.steps:
        output.levels.append(level(text, start))
        if not finished:
            output.note("the run was cut off: it has no end")
        output.note_fixed_basis()
        output.note_missing()
    return output


def _start(lines: list[str]) -> tuple[dict, list[str]]:
    """Return what ASE reads in the header, with the type of each atom, and the labels of the atoms.

    :raises ValueError: if the table of atoms is not whole, or a number of the cell is wrong.
    """
    start: dict = parse_pwo_start(lines)
    begin = next(number for number, line in enumerate(lines) if "positions (alat units)" in line)
    rows = [match.groups() for match in map(_SITE.match, lines[begin + 1 : begin + 2 + start["nat"]]) if match]
    if [row[0] for row in rows] != [str(n) for n in range(1, start["nat"] + 1)] or any(row[0] != row[2] for row in rows):
        raise ValueError(f"the table of atoms has {len(rows)} rows that can be read, expected {start['nat']}")
    labels = [row[1] for row in rows]
    text = "\n".join(lines[:begin])
    species = list(species_of(text))
    if not set(labels) <= set(species):
        raise ValueError(f"the atoms are {' '.join(dict.fromkeys(labels))}, but the species {' '.join(species)}")
    start["types"] = [species.index(label) + 1 for label in labels]
    start["atoms"].info.clear()
    cell, alat = start["atoms"].cell.array, start["alat"]
    rows = re.findall(r"b\(\d\) = \(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)", text)
    reciprocal = np.array([[real(word) for word in row] for row in rows])
    if reciprocal.shape != (3, 3) or not np.abs(cell @ reciprocal.T / alat - np.eye(3)).max() < _RECIPROCAL_TOLERANCE:
        raise ValueError("cell and reciprocal cell do not belong together")
    _check_volume(first_number(r"unit-cell volume\s+=\s+(\S+)", text), start["atoms"].get_volume())
    return start, labels


def _check_volume(printed: float | None, volume: float) -> None:
    """Compare the volume (Å³) with the one that is printed in bohr³."""
    if printed is not None and not abs(printed * units.Bohr**3 / volume - 1) < _VOLUME_TOLERANCE:
        raise Wrong(f"its cell has {volume / units.Bohr**3:.4f} bohr³, but the file says {printed:.4f} bohr³")


def _step(block: list[str], atoms: Atoms, types: list[int], text: str, threshold: float | None) -> Step:
    """Return one ionic step.

    :raises Wrong: if a label in it cannot be read or contradicts another.
    """
    problem = _not_converged(block, threshold)
    if problem is not None:
        return Step(atoms, None, problem=problem)
    energy = _energy(block)
    field = re.search(r"electric field|edir|Effective Screening|gate", text, re.IGNORECASE) is not None
    forces, stress = _forces(block, types, field), _stress(block)
    periodic = "Assuming isolated system" not in text
    return Step(atoms, energy, forces, stress if periodic else None)


def _not_converged(block: list[str], threshold: float | None) -> str | None:
    for line in block:
        if "convergence NOT achieved" in line:
            return f"the SCF is not converged: {' '.join(line.split())}"
    if any("EXX: now go back" in line for line in block) and not any(line.startswith("!!") for line in block):
        return "exact exchange is not converged"
    if not any("convergence has been achieved" in line for line in block):
        return "it cannot be told whether its SCF is converged: pw.x does not say so"
    if threshold is None or not np.isfinite(threshold):
        return "it cannot be told whether its SCF is converged: no threshold in the file"
    finals = [number for number, line in enumerate(block) if _ENERGY.match(line)]
    for line in block[finals[-1] :] if finals else ():
        match = _ACCURACY.search(line)
        if match:
            if not real(match[1]) <= _PRINTED_DIGITS * threshold:
                return f"the SCF is not converged: estimated accuracy {match[1]} Ry, threshold {threshold:.1e} Ry"
            break
    return None


def _energy(block: list[str]) -> float:
    """Return the last total energy (eV), which is the sum of the terms below it, and with smearing E − TS.

    :raises Wrong: if there is none, it cannot be read, or is not that sum.
    """
    finals = [number for number, line in enumerate(block) if _ENERGY.match(line)]
    if not finals:
        raise Wrong("its SCF has no total energy")
    words = [_ENERGY.findall(block[number])[0] for number in finals]
    hybrid = any("EXX" in line or "Fock" in line for line in block)
    if sum(block[number].startswith("!!" if hybrid else "!") for number in finals) > 1:
        raise Wrong("it has two total energies for one structure")
    energy = real(words[-1])
    if not np.isfinite(energy):
        raise Wrong("its total energy cannot be read")
    after = block[finals[-1] :]
    smearing, internal = (_after_equals(after, title) for title in ("smearing contrib. (-TS)", "internal energy E=F+TS"))
    if internal is not None and (smearing is None or not abs(internal + smearing - energy) < _ENERGY_TOLERANCE):
        raise Wrong(f"its total energy {energy:.8f} Ry is not its internal energy less TS")
    begin = next((number for number, line in enumerate(after) if "sum of the following terms" in line), None)
    if begin is not None and not hybrid:
        end = next((n for n in range(begin + 1, len(after)) if not after[n].strip()), len(after))
        # With "->" parts of terms are told, not further ones.
        terms = [_TERM.match(line) for line in after[begin + 1 : end] if not line.strip().startswith("->")]
        total = sum(float("nan") if term is None else real(term[1]) for term in terms)
        target = internal if "E is the sum" in after[begin] else energy
        if target is None or not abs(total - target) < _ENERGY_TOLERANCE:
            raise Wrong(f"its total energy {energy:.8f} Ry is not that of its terms, which sum to {total:.8f} Ry")
    return energy * units.Rydberg


def _after_equals(block: list[str], title: str) -> float | None:
    """Return the number of the first line with this title."""
    for line in block:
        if title in line:
            return real(line.split("=")[-1].split()[0])
    return None


def _cell(lines: list[str], begin: int, cell: np.ndarray, alat: float) -> np.ndarray:
    """Return the cell (Å) that stands before the positions, or the last one if there is none."""
    for number in range(max(0, begin - 6), begin):
        if lines[number].startswith("CELL_PARAMETERS"):
            found = _rows(lines[number + 1 : number + 4], "cell") * _unit(lines[number], alat)
            volumes = [line for line in lines[max(0, number - 6) : number] if "new unit-cell volume" in line]
            if len(found) != 3:
                raise Wrong("its cell has not three rows")
            if volumes:
                _check_volume(real(volumes[-1].split("=")[1].split()[0]), abs(np.linalg.det(found)))
            return found
    return cell


def _unit(title: str, alat: float) -> float:
    """Return the unit (Å) in the title of a list of vectors.

    :param alat: Å, of the header; a title may have its own.
    """
    match = re.search(r"[({]\s*(alat|bohr|angstrom)\s*(?:=\s*([^\s)}]+))?", title)
    if match is None:
        raise Wrong(f"it has vectors in a unit that is not known: {shown(title)}")
    own = real(match[2]) * units.Bohr if match[2] else alat
    return {"alat": own, "bohr": units.Bohr, "angstrom": 1.0}[match[1]]


def _rows(lines: list[str], what: str) -> np.ndarray:
    """Return the three numbers of each line.

    :raises Wrong: if one of them is none.
    """
    values = [[real(word) for word in line.split()[:3]] for line in lines]
    if any(len(row) != 3 or not np.isfinite(row).all() for row in values):
        raise Wrong(f"its {what} cannot be read")
    return np.array(values).reshape(-1, 3)


def _atoms(lines: list[str], begin: int, cell: np.ndarray, alat: float, labels: list[str]) -> Atoms:
    """Return the atoms of a list of positions, which must be those of the header.

    :raises Wrong: if they are not.
    """
    rows = []
    for line in lines[begin + 1 :]:
        words = line.split()
        if len(words) not in (4, 7):  # constraints may follow
            break
        rows.append(words)
    if [row[0] for row in rows] != labels:
        raise Wrong(f"its list of {len(rows)} positions is not one of the {len(labels)} atoms {' '.join(dict.fromkeys(labels))}")
    values = _rows([" ".join(row[1:4]) for row in rows], "positions")
    positions = values @ cell if "crystal" in lines[begin] else values * _unit(lines[begin], alat)
    return Atoms([label_to_symbol(label) for label in labels], positions=positions, cell=cell, pbc=True)


def _forces(block: list[str], types: list[int], field: bool) -> np.ndarray | None:
    """Return the total forces in eV/Å, which pw.x prints before it applies constraints.

    It has taken away their sum, but for external fields, and prints below them the norm of those that no constraint holds.

    :param field: whether there may be an external field.
    :raises Wrong: if there is not one for each atom, or they contradict what else is printed.
    """
    number = next((number for number, line in enumerate(block) if "Forces acting on atoms" in line), None)
    if number is None:
        return None
    # A blank line ends the table, or the heading of what is told of its parts.
    end = next((n for n in range(number + 2, len(block)) if re.match(r"\s*(?:The .*|$)", block[n])), len(block))
    rows = [match.groups() for match in map(_FORCE.match, block[number + 1 : end]) if match]
    if [(row[0], row[1]) for row in rows] != [(str(n), str(kind)) for n, kind in enumerate(types, start=1)]:
        raise Wrong(f"its table of forces has {len(rows)} rows that can be read, expected one for each of {len(types)} atoms")
    values = np.array([[real(word) for word in row[2:]] for row in rows])
    if not np.isfinite(values).all():
        raise Wrong(f"a force on atom {int(np.argmin(np.isfinite(values).all(axis=1))) + 1} is not a finite number")
    total = next((re.search(r"Total force =\s+(\S+)", line) for line in block[end:] if "Total force =" in line), None)
    if total and not real(total[1]) < np.linalg.norm(values) + _FORCE_TOLERANCE:
        raise Wrong(f"its forces have the norm {np.linalg.norm(values):.6f} Ry/bohr, but the file says {shown(total[1])}")
    if not field and np.abs(values.sum(axis=0)).max() > 1e-6 + 1e-8 * len(values):
        raise Wrong(f"its forces sum to {np.abs(values.sum(axis=0)).max():.8f} Ry/bohr, expected 0")
    return values * units.Rydberg / units.Bohr


def _stress(block: list[str]) -> np.ndarray | None:
    """Return the stress in eV/Å³ with ASE's sign: pw.x prints the opposite, in Ry/bohr³ and beside it in kbar.

    :raises Wrong: if it cannot be read, or the two are not the same.
    """
    for number, line in enumerate(block):
        if "total   stress" in line:
            rows = [[real(x) for x in row.split()] for row in block[number + 1 : number + 4]]
            if [len(row) for row in rows] != [6, 6, 6] or not np.isfinite(rows).all():
                raise Wrong("its stress cannot be read: it has not three rows of six finite numbers")
            values, kbar = np.array(rows)[:, :3], np.array(rows)[:, 3:]
            if np.abs(values * _KBAR_PER_RY_BOHR3 - kbar).max() > _STRESS_TOLERANCE + 0.5e-8 * _KBAR_PER_RY_BOHR3:
                raise Wrong("its stress in Ry/bohr³ is not that in kbar")
            if np.abs(values - values.T).max() > 3e-8:
                raise Wrong("its stress is not symmetric")
            pressure = re.search(r"P=\s*(\S+)", line)
            if pressure and not abs(real(pressure[1]) - kbar.trace() / 3) < _STRESS_TOLERANCE:
                raise Wrong(f"its stress has not the pressure that is printed with it, {shown(pressure[1])} kbar")
            return -values * units.Rydberg / units.Bohr**3
    return None
