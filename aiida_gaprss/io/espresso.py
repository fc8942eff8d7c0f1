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
from ase.io.espresso import label_to_symbol, parse_pwo_start

from aiida_gaprss.io.common import Output, Step, divisions_of
from aiida_gaprss.levels import NOT_TOLD, PSEUDOPOTENTIAL, Level, Sampling, sampling_of_mesh
from aiida_gaprss.outside import shown

_START = re.compile(r"^.*Program PWSCF\s+v\.?\s*(\S+)", re.MULTILINE)
_ENERGY = re.compile(r"^!+\s+total energy\s+=\s+(\S+) Ry")
_TERM = re.compile(r"^[^=]*=\s*(\S+) Ry\s*$")
_ACCURACY = re.compile(r"estimated scf accuracy\s+<\s+(\S+) Ry")
_FORCE = re.compile(r"^[ \t]*atom\s+(\d+)\s+type\s+(\d+)\s+force\s+=\s+(\S+)\s+(\S+)\s+(\S+)\s*$")
_SITE = re.compile(r"^[ \t]*(\d+)\s+(\S+)\s+tau\(\s*(\d+)\)\s*=\s*\(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)\s*$")
FUNCTIONALS = {
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
    (r"\n +\S*Dispersion.*=.*Ry", f"of a kind {NOT_TOLD}"),
)

#: The threshold and the estimate are printed with two digits.
_PRINTED_DIGITS = 1.1

#: How far what is printed twice may be apart: Ry, Ry/bohr of the norm of all forces, kbar, relative volume, reciprocal cell.
_ENERGY_TOLERANCE, _FORCE_TOLERANCE, _STRESS_TOLERANCE, _VOLUME_TOLERANCE, _RECIPROCAL_TOLERANCE = 2e-6, 2e-6, 0.03, 2e-5, 1e-4
_KBAR_PER_RY_BOHR3 = units.Rydberg / units.Bohr**3 / (0.1 * units.GPa)


class _Wrong(ValueError):
    """Why a step must not be used."""


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
        start, labels = _start(lines)
    except (KeyError, IndexError, ValueError, AssertionError) as exception:
        began = "site n." in text
        reason = f"its header cannot be read: {shown(exception)}" if began else "the run ended before it began to compute"
        output.refused.append((None, reason))
        return output
    # The first configuration stands in the header, each further one where ATOMIC_POSITIONS are printed.
    begins = [0, *(number for number, line in enumerate(lines) if line.startswith("ATOMIC_POSITIONS"))]
    cell = start["atoms"].cell.array
    threshold = _first_number(r"scf convergence threshold\s+=\s+(\S+)", text)
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
        output.levels.append(_level(text, start))
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
    species = list(_species(text))
    if not set(labels) <= set(species):
        raise ValueError(f"the atoms are {' '.join(dict.fromkeys(labels))}, but the species {' '.join(species)}")
    start["types"] = [species.index(label) + 1 for label in labels]
    start["atoms"].info.clear()
    cell, alat = start["atoms"].cell.array, start["alat"]
    rows = re.findall(r"b\(\d\) = \(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)", text)
    reciprocal = np.array([[_real(word) for word in row] for row in rows])
    if reciprocal.shape != (3, 3) or not np.abs(cell @ reciprocal.T / alat - np.eye(3)).max() < _RECIPROCAL_TOLERANCE:
        raise ValueError("cell and reciprocal cell do not belong together")
    _check_volume(_first_number(r"unit-cell volume\s+=\s+(\S+)", text), start["atoms"].get_volume())
    return start, labels


def _species(text: str) -> dict[str, float]:
    """Return the labels of the species with their valence."""
    match = re.search(r"atomic species\s+valence.*\n((?:[ \t]+\S+[ \t]+[\d.]+[ \t]+[\d.]+[ \t]+.*\n)+)", text)
    rows = [line.split() for line in match[1].splitlines() if line.strip()] if match else []
    return {row[0]: float(row[1]) for row in rows}


def _check_volume(printed: float | None, volume: float) -> None:
    """Compare the volume (Å³) with the one that is printed in bohr³."""
    if printed is not None and not abs(printed * units.Bohr**3 / volume - 1) < _VOLUME_TOLERANCE:
        raise _Wrong(f"its cell has {volume / units.Bohr**3:.4f} bohr³, but the file says {printed:.4f} bohr³")


def _step(block: list[str], atoms: Atoms, types: list[int], text: str, threshold: float | None) -> Step:
    """Return one ionic step.

    :raises _Wrong: if a label in it cannot be read or contradicts another.
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
            if not _real(match[1]) <= _PRINTED_DIGITS * threshold:
                return f"the SCF is not converged: estimated accuracy {match[1]} Ry, threshold {threshold:.1e} Ry"
            break
    return None


def _energy(block: list[str]) -> float:
    """Return the last total energy (eV), which is the sum of the terms below it, and with smearing E − TS.

    :raises _Wrong: if there is none, it cannot be read, or is not that sum.
    """
    finals = [number for number, line in enumerate(block) if _ENERGY.match(line)]
    if not finals:
        raise _Wrong("its SCF has no total energy")
    words = [_ENERGY.findall(block[number])[0] for number in finals]
    hybrid = any("EXX" in line or "Fock" in line for line in block)
    if sum(block[number].startswith("!!" if hybrid else "!") for number in finals) > 1:
        raise _Wrong("it has two total energies for one structure")
    energy = _real(words[-1])
    if not np.isfinite(energy):
        raise _Wrong("its total energy cannot be read")
    after = block[finals[-1] :]
    smearing, internal = (_after_equals(after, title) for title in ("smearing contrib. (-TS)", "internal energy E=F+TS"))
    if internal is not None and (smearing is None or not abs(internal + smearing - energy) < _ENERGY_TOLERANCE):
        raise _Wrong(f"its total energy {energy:.8f} Ry is not its internal energy less TS")
    begin = next((number for number, line in enumerate(after) if "sum of the following terms" in line), None)
    if begin is not None and not hybrid:
        end = next((n for n in range(begin + 1, len(after)) if not after[n].strip()), len(after))
        # With "->" parts of terms are told, not further ones.
        terms = [_TERM.match(line) for line in after[begin + 1 : end] if not line.strip().startswith("->")]
        total = sum(float("nan") if term is None else _real(term[1]) for term in terms)
        target = internal if "E is the sum" in after[begin] else energy
        if target is None or not abs(total - target) < _ENERGY_TOLERANCE:
            raise _Wrong(f"its total energy {energy:.8f} Ry is not that of its terms, which sum to {total:.8f} Ry")
    return energy * units.Rydberg


def _after_equals(block: list[str], title: str) -> float | None:
    """Return the number of the first line with this title."""
    for line in block:
        if title in line:
            return _real(line.split("=")[-1].split()[0])
    return None


def _cell(lines: list[str], begin: int, cell: np.ndarray, alat: float) -> np.ndarray:
    """Return the cell (Å) that stands before the positions, or the last one if there is none."""
    for number in range(max(0, begin - 6), begin):
        if lines[number].startswith("CELL_PARAMETERS"):
            found = _rows(lines[number + 1 : number + 4], "cell") * _unit(lines[number], alat)
            volumes = [line for line in lines[max(0, number - 6) : number] if "new unit-cell volume" in line]
            if len(found) != 3:
                raise _Wrong("its cell has not three rows")
            if volumes:
                _check_volume(_real(volumes[-1].split("=")[1].split()[0]), abs(np.linalg.det(found)))
            return found
    return cell


def _unit(title: str, alat: float) -> float:
    """Return the unit (Å) in the title of a list of vectors.

    :param alat: Å, of the header; a title may have its own.
    """
    match = re.search(r"[({]\s*(alat|bohr|angstrom)\s*(?:=\s*([^\s)}]+))?", title)
    if match is None:
        raise _Wrong(f"it has vectors in a unit that is not known: {shown(title)}")
    own = _real(match[2]) * units.Bohr if match[2] else alat
    return {"alat": own, "bohr": units.Bohr, "angstrom": 1.0}[match[1]]


def _rows(lines: list[str], what: str) -> np.ndarray:
    """Return the three numbers of each line.

    :raises _Wrong: if one of them is none.
    """
    values = [[_real(word) for word in line.split()[:3]] for line in lines]
    if any(len(row) != 3 or not np.isfinite(row).all() for row in values):
        raise _Wrong(f"its {what} cannot be read")
    return np.array(values).reshape(-1, 3)


def _atoms(lines: list[str], begin: int, cell: np.ndarray, alat: float, labels: list[str]) -> Atoms:
    """Return the atoms of a list of positions, which must be those of the header.

    :raises _Wrong: if they are not.
    """
    rows = []
    for line in lines[begin + 1 :]:
        words = line.split()
        if len(words) not in (4, 7):  # constraints may follow
            break
        rows.append(words)
    if [row[0] for row in rows] != labels:
        raise _Wrong(f"its list of {len(rows)} positions is not one of the {len(labels)} atoms {' '.join(dict.fromkeys(labels))}")
    values = _rows([" ".join(row[1:4]) for row in rows], "positions")
    positions = values @ cell if "crystal" in lines[begin] else values * _unit(lines[begin], alat)
    return Atoms([label_to_symbol(label) for label in labels], positions=positions, cell=cell, pbc=True)


def _forces(block: list[str], types: list[int], field: bool) -> np.ndarray | None:
    """Return the total forces in eV/Å, which pw.x prints before it applies constraints.

    It has taken away their sum, but for external fields, and prints below them the norm of those that no constraint holds.

    :param field: whether there may be an external field.
    :raises _Wrong: if there is not one for each atom, or they contradict what else is printed.
    """
    number = next((number for number, line in enumerate(block) if "Forces acting on atoms" in line), None)
    if number is None:
        return None
    # A blank line ends the table, or the heading of what is told of its parts.
    end = next((n for n in range(number + 2, len(block)) if re.match(r"\s*(?:The .*|$)", block[n])), len(block))
    rows = [match.groups() for match in map(_FORCE.match, block[number + 1 : end]) if match]
    if [(row[0], row[1]) for row in rows] != [(str(n), str(kind)) for n, kind in enumerate(types, start=1)]:
        raise _Wrong(f"its table of forces has {len(rows)} rows that can be read, expected one for each of {len(types)} atoms")
    values = np.array([[_real(word) for word in row[2:]] for row in rows])
    if not np.isfinite(values).all():
        raise _Wrong(f"a force on atom {int(np.argmin(np.isfinite(values).all(axis=1))) + 1} is not a finite number")
    total = next((re.search(r"Total force =\s+(\S+)", line) for line in block[end:] if "Total force =" in line), None)
    if total and not _real(total[1]) < np.linalg.norm(values) + _FORCE_TOLERANCE:
        raise _Wrong(f"its forces have the norm {np.linalg.norm(values):.6f} Ry/bohr, but the file says {shown(total[1])}")
    if not field and np.abs(values.sum(axis=0)).max() > 1e-6 + 1e-8 * len(values):
        raise _Wrong(f"its forces sum to {np.abs(values.sum(axis=0)).max():.8f} Ry/bohr, expected 0")
    return values * units.Rydberg / units.Bohr


def _stress(block: list[str]) -> np.ndarray | None:
    """Return the stress in eV/Å³ with ASE's sign: pw.x prints the opposite, in Ry/bohr³ and beside it in kbar.

    :raises _Wrong: if it cannot be read, or the two are not the same.
    """
    for number, line in enumerate(block):
        if "total   stress" in line:
            rows = [[_real(x) for x in row.split()] for row in block[number + 1 : number + 4]]
            if [len(row) for row in rows] != [6, 6, 6] or not np.isfinite(rows).all():
                raise _Wrong("its stress cannot be read: it has not three rows of six finite numbers")
            values, kbar = np.array(rows)[:, :3], np.array(rows)[:, 3:]
            if np.abs(values * _KBAR_PER_RY_BOHR3 - kbar).max() > _STRESS_TOLERANCE + 0.5e-8 * _KBAR_PER_RY_BOHR3:
                raise _Wrong("its stress in Ry/bohr³ is not that in kbar")
            if np.abs(values - values.T).max() > 3e-8:
                raise _Wrong("its stress is not symmetric")
            pressure = re.search(r"P=\s*(\S+)", line)
            if pressure and not abs(_real(pressure[1]) - kbar.trace() / 3) < _STRESS_TOLERANCE:
                raise _Wrong(f"its stress has not the pressure that is printed with it, {shown(pressure[1])} kbar")
            return -values * units.Rydberg / units.Bohr**3
    return None


def _real(text: str) -> float:
    """Return a Fortran number; one too long for its field, or anything else that is none, becomes not-a-number."""
    if not re.fullmatch(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[EeDd][-+]?\d+)?", text):
        return float("nan")
    return float(text.replace("D", "E").replace("d", "e"))


def _first_number(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return _real(match[1]) if match else None


# --- level of theory ---


def _level(text: str, start: dict) -> Level:
    version = _START.search(text)
    cutoff, density = (_first_number(rf"{name} cutoff\s+=\s+(\S+)", text) for name in ("kinetic-energy", "charge density"))
    match = re.search(r"number of k points=\s*(\d+)", text)
    dispersion = _dispersion(text)
    settings = {
        "functional": _functional(text),
        "cutoff": f"cutoff {cutoff:g}/{density:g} Ry" if cutoff and density else NOT_TOLD,
        "smearing": _smearing(text),
        "spin": _spin(text),
        "dispersion": f"dispersion correction {dispersion}" if dispersion else "no dispersion correction",
        **_rare_settings(text, start),
    }
    return Level(
        code="Quantum ESPRESSO",
        version=version[1] if version else "",
        settings={name: value for name, value in settings.items() if value},
        elements={PSEUDOPOTENTIAL: _pseudos(text), "Hubbard": _hubbard(text), "starting moment": _moments(text)},
        sampling=_sampling(text, start),
        n_kpoints=match[1] if match else "",
    )


def _smearing(text: str) -> str:
    match = re.search(r"number of k points=\s*\d+(.*)", text)
    rest = " ".join(match[1].split()) if match else ""
    if width := re.search(r"(\S.*?) smearing, width \(Ry\)=\s*(\S+)", rest):
        return f"{width[1]} smearing {_real(width[2]):g} Ry"
    return "tetrahedra" if "tetrahedr" in text else "fixed occupancies"


def _spin(text: str) -> str:
    spin = "not spin-polarised"
    if "Starting magnetic structure" in text or "total magnetization  " in text:
        spin = "spin-polarised"
    if re.search(r"Non.?collinear", text, re.IGNORECASE):
        spin = "non-collinear spins"
    without = re.search(r"without spin-orbit", text, re.IGNORECASE)
    return spin + (" with spin-orbit coupling" if "spin-orbit" in text and not without else "")


def _dispersion(text: str) -> str:
    """Return the name of the dispersion correction with the parameters that pw.x prints, or nothing."""
    name = next((name for pattern, name in _DISPERSION if re.search(pattern, text)), "")
    parameters = r"(?:Parametrization|DFT-D3 version|scaling parameter|London s6|[Cc]utoff radius|a1|a2)\s*[=:]\s*(\S.*?)\s*$"
    found = re.findall(parameters, text[: max(0, text.find("iteration #"))], re.MULTILINE) if name else []
    return ", ".join([name, *dict.fromkeys(found)])


def _rare_settings(text: str, start: dict) -> dict[str, str]:
    """Return what most runs have none of."""
    charge = _charge(text, start["atoms"])
    isolated = re.search(r"Assuming isolated system,?\s*([^\n]*)", text)
    boundary = [f"isolated system {isolated[1].strip()}".strip()] if isolated else []
    boundary += ["effective screening medium"] if "Effective Screening Medium" in text else []
    boundary += ["two-dimensional cut-off of the Coulomb interaction"] if re.search(r"2D.*cut.?off|cut.?off.*2D", text) else []
    dipole = re.search(r"Computed dipole along edir\((\d)\)", text)
    boundary += [f"dipole correction along {dipole[1]}"] if dipole else []
    amplitude = re.search(r"field amplitude \[Ha a\.u\.\]\s*:?\s*(\S+)", text)
    field = f"electric field {_real(amplitude[1]):g} Ha a.u." if amplitude else ""
    if not field and not dipole and re.search(r"external electric field|Berry phase electric field", text):
        field = f"electric field {NOT_TOLD}"
    moment = re.findall(r"total magnetization\s+=\s+(\S+) Bohr", text)
    fixed = "the spin up/dw Fermi energies are" in text and moment
    return {
        "charge": f"charge {charge:+g}" if charge is not None and abs(charge) > 1e-3 else "",
        "total moment": f"total moment fixed at {abs(_real(moment[-1])):g}" if fixed else "",
        "boundary": ", ".join(boundary),
        "electric field": field,
        "projection": "real-space projection" if "Real space treatment of Beta" in text else "",
    }


def _sampling(text: str, start: dict) -> Sampling | None:
    """Return the sampling of the k-points that are listed: all, if there are fewer than a hundred."""
    match = re.search(r"number of k points=\s*(\d+).*\n\s+cart\. coord\. in units 2pi/alat\s*\n((?:\s+k\(.*\n)+)", text)
    rows = re.findall(r"k\(\s*\d+\) = \(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)", match[2]) if match else []
    points = np.array([[_real(word) for word in row] for row in rows])
    if not len(points) or not np.isfinite(points).all() or match is None:
        return None
    atoms = start["atoms"]
    # The list has each point twice if there are two spins.
    if len(points) not in (int(match[1]), int(match[1]) // 2, 2 * int(match[1])):
        return None
    fractions = points @ atoms.cell.array.T / start["alat"]
    divisions = divisions_of(fractions, np.linalg.norm(np.linalg.inv(atoms.cell.array).T, axis=1))
    return sampling_of_mesh(atoms.cell.array, divisions, atoms.get_scaled_positions()) if divisions else None


def _functional(text: str) -> str:
    match = re.search(r"Exchange-correlation\s*=\s*([^(\n]+)", text)
    name = " ".join(match[1].split()) if match else NOT_TOLD
    name = FUNCTIONALS.get(name, name)
    fraction = re.search(r"EXX-fraction\s*=\s*(\S+)", text)
    return f"{name} with EXX-fraction {fraction[1]}" if fraction and _real(fraction[1]) else name


def _pseudos(text: str) -> dict[str, str]:
    """Return the pseudopotentials of each element, of which there may be several, with checksums where pw.x prints them."""
    found: dict[str, set[str]] = {}
    pattern = r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:?\s*\n?\s*(\S+)\s*\n(?:\s*MD5 check sum:\s*(\w+))?"
    for label, path, checksum in re.findall(pattern, text):
        name = PurePath(path).name + (f" (md5 {checksum[:8]})" if checksum else "")
        found.setdefault(label_to_symbol(label), set()).add(name)
    for label in _species(text):
        found.setdefault(label_to_symbol(label), {NOT_TOLD})
    return {symbol: " and ".join(sorted(names)) for symbol, names in found.items()}


def _moments(text: str) -> dict[str, str]:
    """Return the absolute starting magnetisations of each element."""
    match = re.search(r"Starting magnetic structure\s*\n.*magnetization\s*\n((?:[ \t]+\S+[ \t]+[-.\d]+[ \t]*\n)+)", text)
    found: dict[str, set[float]] = {}
    for label, moment in (line.split() for line in match[1].splitlines() if line.strip()) if match else ():
        found.setdefault(label_to_symbol(label), set()).add(round(abs(_real(moment)), 3))
    return {symbol: " or ".join(f"{m:g}" for m in sorted(moments)) for symbol, moments in found.items()}


def _hubbard(text: str) -> dict[str, str]:
    """Return of each element with a Hubbard correction its parameters (eV), in the words of pw.x."""
    if not re.search(r"hubbard|LDA\+U|DFT\+U", text, re.IGNORECASE):
        return {}
    found: dict[str, set[str]] = {}
    for kind, names, table in re.findall(
        r"(Simplified|Full) LDA\+U calculation.*\n\s*atomic species\s+(.*)\n((?:[ \t]+\S+(?:[ \t]+[-.\d]+)+[ \t]*\n)+)", text
    ):
        for row in (line.split() for line in table.splitlines() if line.strip()):
            values = [f"{n} {_real(v):g}" for n, v in zip(names.split(), row[1:], strict=False) if _real(v) or n in ("L", "U")]
            found.setdefault(label_to_symbol(row[0]), set()).add(f"{kind.lower()} {' '.join(values)}")
    kind = re.search(r"Hubbard parameters of (\S+(?: \(.*?\))?)", text)
    for name, label, orbital, value in re.findall(r"^[ \t]*(\w+)\(([A-Za-z]+\d*)-(\w+?)\)\s*=\s*([-.\d]+)", text, re.MULTILINE):
        found.setdefault(label_to_symbol(label), set()).add(
            f"{orbital} {name} {_real(value):g} {kind[1] if kind else ''}".strip()
        )
    for one, two, value in re.findall(r"V\((\S+?-\w+?),?\s*(\S+?-\w+)\)\s*=\s*([-.\d]+)", text):
        found.setdefault(label_to_symbol(re.sub(r"-.*", "", one)), set()).add(f"V {one} {two} {_real(value):g}")
    projectors = re.search(r"Hubbard projectors:\s*(\S+)|Atomic wfc used for LDA\+U Projector are (.*\S)", text)
    if not found:
        return {label_to_symbol(label): f"U {NOT_TOLD}" for label in _species(text)}
    last = f", projectors {projectors[1] or projectors[2]}" if projectors else ""
    return {symbol: " and ".join(sorted(texts)) + last for symbol, texts in found.items()}


def _charge(text: str, atoms: Atoms) -> float | None:
    """Return the charge of the cell: valence electrons of the atoms less the electrons there are."""
    electrons = _first_number(r"number of electrons\s+=\s+(\S+)", text)
    valence = {label_to_symbol(label): number for label, number in _species(text).items()}
    if electrons is None or not set(atoms.get_chemical_symbols()) <= set(valence):
        return None
    return sum(valence[symbol] for symbol in atoms.get_chemical_symbols()) - electrons
