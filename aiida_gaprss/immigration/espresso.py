"""Frames from what ``pw.x`` of Quantum ESPRESSO prints; cells and positions by ASE's functions.

ASE's reader of the whole file stops at runs whose last SCF is not converged, and takes the first of several total energies of a
hybrid functional, which is that of the functional without exact exchange; so results are read here. Nor can pw.x be trusted about
convergence: with ``scf_must_converge=.false.`` it prints "convergence has been achieved" all the same, so its estimate of the
accuracy is compared with the threshold.
"""

from __future__ import annotations

import re
from pathlib import PurePath

import numpy as np
from ase import Atoms, units
from ase.io.espresso import get_atomic_positions, get_cell_parameters, label_to_symbol, parse_pwo_start

from aiida_gaprss.immigration.common import Output, Step
from aiida_gaprss.levels import Level

_START = re.compile(r"^.*Program PWSCF\s+v\.?\s*(\S+)", re.MULTILINE)
_ENERGY = re.compile(r"^!+\s+total energy\s+=\s+(\S+) Ry")
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+) Ry")
_FORCE = re.compile(r"^\s*atom\s+\d+\s+type\s+\d+\s+force\s+=\s+(\S+)\s+(\S+)\s+(\S+)")
_FUNCTIONALS = {
    "SLA PW PBX PBC": "PBE",
    "SLA PW PSX PSC": "PBEsol",
    "SLA PZ NOGX NOGC": "LDA",
    "SLA PW RPB PBC": "revPBE",
    "PZ": "LDA",
}
_DISPERSION = (
    (r"DFT-D3 Dispersion", "D3"),
    (r"Grimme-D2", "D2"),
    (r"Dispersion T-S|Tkatchenko-Scheffler", "TS"),
    (r"Dispersion XDM|XDM dispersion", "XDM"),
    (r"(?i)many-body dispersion|MBD energy", "MBD"),
    (r"\n +\S*Dispersion.*=.*Ry", "of unknown kind"),
)

#: The threshold and the estimate are printed with two digits.
_PRINTED_DIGITS = 1.1


def recognises(head: str) -> bool:
    """Tell whether a file that begins like this is of pw.x."""
    return _START.search(head) is not None


def read(text: str) -> Output:
    """Return the ionic steps of the output of pw.x, which may hold several runs one after another."""
    starts = [match.start() for match in _START.finditer(text)]
    output = Output()
    for start, end in zip(starts, [*starts[1:], len(text)], strict=False):
        output.extend(_read_run(text[start:end]))
    return output


def _read_run(text: str) -> Output:
    output = Output()
    lines = text.splitlines()
    finished = any("JOB DONE" in line for line in lines)
    try:
        start = parse_pwo_start(lines)
    except (KeyError, IndexError, ValueError, AssertionError):
        output.refused.append((None, "the run ended before it began to compute"))
        return output
    # The first configuration stands in the header, each further one where ATOMIC_POSITIONS are printed.
    begins = [0, *(number for number, line in enumerate(lines) if line.startswith("ATOMIC_POSITIONS"))]
    cell = start["atoms"].cell.array
    threshold = _first_number(r"scf convergence threshold\s+=\s+(\S+)", text)
    periodic = "Assuming isolated system" not in text
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        last = end == len(lines)
        block = lines[begin:end]
        problem = _not_converged(block, threshold)
        energies = [_real(match[1]) for match in map(_ENERGY.match, block) if match]
        if not energies and problem is None:
            if last and any(line.strip().startswith("iteration #") for line in block):
                output.refuse_next("incomplete: the run ends during this step")
            continue
        try:
            if begin:
                cell = _cell(lines, begin, cell)
                atoms = _atoms(lines, begin, cell, start["alat"], len(start["atoms"]))
            else:
                atoms = start["atoms"].copy()
            atoms.info.clear()
            forces, stress = _forces(block, len(atoms)), _stress(block)
        except (ValueError, IndexError, StopIteration) as exception:
            output.steps.append(Step(Atoms(), None, problem=f"not readable: {exception}"))
            continue
        if last and not finished and not any("NOT achieved" in line for line in block):
            output.refuse_next("incomplete: the run ends during this step")
            continue
        step = Step(atoms, energies[-1] * units.Rydberg if energies else None, forces, stress if periodic else None, problem)
        if any(not np.isfinite(x).all() for x in (forces, stress) if x is not None):
            step.problem = step.problem or "has a force or stress that is not a finite number"
        output.steps.append(step)
    if not output.steps and not output.refused:
        reason = "no self-consistent energy in it" if finished else "the run ended before the first energy"
        output.refused.append((None, reason))
    if output.steps:
        output.levels.append(_level(text, start))
        output.note_fixed_basis()
    return output


def _not_converged(block: list[str], threshold: float | None) -> str | None:
    for line in block:
        if "convergence NOT achieved" in line:
            return f"the SCF is not converged: {' '.join(line.split())}"
    if any("EXX: now go back" in line for line in block) and not any(line.startswith("!!") for line in block):
        return "exact exchange is not converged"
    finals = [number for number, line in enumerate(block) if _ENERGY.match(line)]
    if finals and threshold is not None:
        for line in block[finals[-1] :]:
            match = _ACCURACY.search(line)
            if match:
                if _real(match[1]) > _PRINTED_DIGITS * threshold:
                    return f"the SCF is not converged: estimated accuracy {match[1]} Ry, threshold {threshold:.1e} Ry"
                break
    return None


def _cell(lines: list[str], begin: int, cell: np.ndarray) -> np.ndarray:
    """Return the cell (Å) that stands before the positions, or the last one if there is none."""
    for number in range(max(0, begin - 6), begin):
        if lines[number].startswith("CELL_PARAMETERS"):
            return np.array(get_cell_parameters(lines[number : number + 4])[0])
    return cell


def _atoms(lines: list[str], begin: int, cell: np.ndarray, alat: float, n_atoms: int) -> Atoms:
    card = get_atomic_positions(lines[begin : begin + n_atoms + 1], n_atoms=n_atoms, cell=cell, alat=alat)
    if card is None or len(card) != n_atoms:
        raise ValueError("positions are cut off")
    symbols = [label_to_symbol(row[0]) for row in card]
    return Atoms(symbols, positions=[row[1] for row in card], cell=cell, pbc=True)


def _forces(block: list[str], n_atoms: int) -> np.ndarray | None:
    """Return the total forces in eV/Å; pw.x prints them before it applies constraints."""
    for number, line in enumerate(block):
        if "Forces acting on atoms" in line:
            rows = [match.groups() for match in map(_FORCE.match, block[number + 1 :]) if match][:n_atoms]
            if len(rows) == n_atoms:
                return np.array([[_real(x) for x in row] for row in rows]) * units.Rydberg / units.Bohr
            return None
    return None


def _stress(block: list[str]) -> np.ndarray | None:
    """Return the stress in eV/Å³ with ASE's sign: pw.x prints the opposite, in Ry/bohr³ and beside it in kbar."""
    for number, line in enumerate(block):
        if "total   stress" in line:
            rows = [[_real(x) for x in row.split()[:3]] for row in block[number + 1 : number + 4]]
            if [len(row) for row in rows] == [3, 3, 3]:
                return -np.array(rows) * units.Rydberg / units.Bohr**3
            return None
    return None


def _real(text: str) -> float:
    """Return a Fortran number; one too long for its field becomes not-a-number."""
    try:
        return float(text.replace("D", "E").replace("d", "e"))
    except ValueError:
        return float("nan")


def _first_number(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return _real(match[1]) if match else None


# --- level of theory ---


def _level(text: str, start: dict) -> Level:
    version = _START.search(text)
    cutoff, density = (_first_number(rf"{name} cutoff\s+=\s+(\S+)", text) for name in ("kinetic-energy", "charge density"))
    match = re.search(r"number of k points=\s*(\d+)(.*)", text)
    rest = " ".join(match[2].split()) if match else ""
    smearing = "fixed occupancies"
    if width := re.search(r"(\S.*?) smearing, width \(Ry\)=\s*(\S+)", rest):
        smearing = f"{width[1]} smearing {_real(width[2]):g} Ry"
    elif "tetrahedr" in rest or "tetrahedr" in text:
        smearing = "tetrahedra"
    spin = "not spin-polarised"
    if "Starting magnetic structure" in text or "total magnetization  " in text:
        spin = "spin-polarised"
    if re.search(r"Non.?collinear", text, re.IGNORECASE):
        spin = "non-collinear spins"
    if "spin-orbit" in text:
        spin += " with spin-orbit coupling"
    dispersion = next((name for pattern, name in _DISPERSION if re.search(pattern, text)), None)
    others = ["isolated system (Martyna-Tuckerman or Makov-Payne)"] if "Assuming isolated system" in text else []
    others += ["Hubbard U"] if re.search(r"hubbard|LDA\+U|DFT\+U", text, re.IGNORECASE) else []
    charge = _charge(text, start["atoms"])
    others += [f"charge {charge:+g}"] if charge is not None and abs(charge) > 1e-3 else []
    return Level(
        code="Quantum ESPRESSO",
        version=version[1] if version else "unknown",
        functional=_functional(text),
        cutoff=f"{cutoff:g}/{density:g} Ry" if cutoff and density else "unknown",
        smearing=smearing,
        spin=spin,
        dispersion=f"dispersion correction {dispersion}" if dispersion else "no dispersion correction",
        others=tuple(others),
        pseudos=_pseudos(text),
        n_kpoints=int(match[1]) if match else None,
    )


def _functional(text: str) -> str:
    match = re.search(r"Exchange-correlation\s*=\s*([^(\n]+)", text)
    name = " ".join(match[1].split()) if match else "functional not told"
    name = _FUNCTIONALS.get(name, name)
    fraction = re.search(r"EXX-fraction\s*=\s*(\S+)", text)
    return f"{name} with EXX-fraction {fraction[1]}" if fraction and _real(fraction[1]) else name


def _pseudos(text: str) -> dict[str, str]:
    pseudos: dict[str, str] = {}
    pattern = r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:?\s*\n?\s*(\S+)\s*\n(?:\s*MD5 check sum:\s*(\w+))?"
    for label, path, checksum in re.findall(pattern, text):
        pseudos.setdefault(label_to_symbol(label), f"{PurePath(path).name} {checksum[:8]}".strip())
    return pseudos


def _charge(text: str, atoms: Atoms) -> float | None:
    """Return the charge of the cell: valence electrons of the atoms less the electrons there are."""
    electrons = _first_number(r"number of electrons\s+=\s+(\S+)", text)
    match = re.search(r"atomic species\s+valence.*\n((?:\s*\S+\s+[\d.]+\s+[\d.]+\s+.*\n)+)", text)
    if electrons is None or match is None:
        return None
    rows = [line.split() for line in match[1].splitlines() if line.strip()]
    valence = {label_to_symbol(row[0]): float(row[1]) for row in rows}
    try:
        return sum(valence[symbol] for symbol in atoms.get_chemical_symbols()) - electrons
    except KeyError:
        return None
