"""Frames from VASP's ``OUTCAR``."""

from __future__ import annotations

import re

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from aiida_gaprss.io import vasp
from aiida_gaprss.io.common import Output, Step, Wrong, real
from aiida_gaprss.levels import Sampling
from aiida_gaprss.outside import shown

#: The block that ends a step.
_END_OF_STEP = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"
_ENERGY = re.compile(r"free\s+energy\s+TOTEN\s*=\s*(\S+)\s+eV")
_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")


def recognises(head: str) -> bool:
    """Tell whether a file that begins like this is an OUTCAR."""
    return re.match(r"\s*vasp\.\d", head) is not None


def read(text: str) -> Output:
    """Return the ionic steps of an ``OUTCAR``."""
    output = Output()
    begin = text.find("Iteration")
    header = text[: begin if begin >= 0 else len(text)]
    settings = _settings(text, header)
    symbols, problem = _symbols(header)
    problem = problem if begin >= 0 else "the run ended before it began to compute"
    problem = vasp.why_unreadable(settings) or problem
    if problem:
        output.refused.append((None, problem))
        return output
    settings["ATOMS"] = " ".join(symbols)
    at, cell = text.rfind("\n", 0, begin) + 1, header
    for end in re.finditer(_END_OF_STEP, text):
        tail = re.compile(r"[^\n]*\n(?:[^\n]*\n){0,6}?.*energy\(sigma->0\)\s*=\s*\S+[^\n]*\n").match(text, end.start())
        if tail is None:
            break
        block = text[at : tail.end()]
        cell = block if "direct lattice vectors" in block else cell
        output.steps.append(_step(block, cell, symbols, settings, header if not output.steps else ""))
        at = tail.end()
    finished = "General timing and accounting" in text
    started = _ITERATION.findall(text[at:])
    if started or _END_OF_STEP in text[at:]:
        output.refuse_next(f"incomplete: the run ends during this step{f', in electronic step {started[-1]}' if started else ''}")
    if not output.steps and not output.refused:
        output.refused.append((None, "no ionic step in it"))
    vasp.finish(output, finished)
    readable = [step for step in output.steps if len(step.atoms)]
    if readable:
        output.levels.append(vasp.level_of_tags(settings, _pseudopotentials(header), _sampling(header, readable[0].atoms)))
    return output


def _step(block: str, cell: str, symbols: list[str], settings: dict[str, str], header: str) -> Step:
    """Return one ionic step, in which every table has a row for every atom.

    :param cell: the text that the cell stands in last.
    :param header: what stands before the first step, if this is it.
    """
    try:
        vectors = _cell(cell)
        rows = _after(block, r"POSITION\s+TOTAL-FORCE \(eV/Angst\)\s*\n\s*-+\s*\n", len(symbols), "positions and forces")
        table = vasp.numbers(rows, 6, "positions and forces")
        atoms = Atoms(symbols, positions=table[:, :3], cell=vectors, pbc=True)
        _check_begin(header, atoms)
        _check_drift(block, table[:, 3:])
        stress = _stress(block, atoms.get_volume()) if vasp.whole_stress(settings) else None
        energy = _energy(block, settings)
    except Wrong as exception:
        return Step(Atoms(), None, problem=str(exception))
    unconverged = vasp.why_unconverged(max(map(int, _ITERATION.findall(block)), default=0), settings)
    if unconverged is None and "EDIFF was not reached" in block:
        unconverged = "the SCF is not converged: VASP says that EDIFF was not reached"
    return Step(atoms, energy, table[:, 3:], stress, unconverged)


def _after(text: str, title: str, n_rows: int, what: str) -> list[list[str]]:
    """Return the words of the rows of the last table with this title, which ends with a line of dashes.

    :raises Wrong: if there is none, or it has not ``n_rows`` rows.
    """
    found = list(re.finditer(title, text))
    if not found:
        raise Wrong(f"no table of {what} in it")
    rows = []
    for line in text[found[-1].end() :].split("\n"):
        if not line.strip("- "):
            break
        rows.append(line.split())
    if len(rows) != n_rows:
        raise Wrong(f"its table of {what} has {len(rows)} rows, expected {n_rows}")
    return rows


def _cell(text: str) -> np.ndarray:
    """Return the last cell (Å); the reciprocal one beside it tells if a number is wrong."""
    at = text.rfind("direct lattice vectors")
    rows = [line.split() for line in text[at:].split("\n")[1:4]] if at >= 0 else []
    if len(rows) != 3:
        raise Wrong("no cell in it")
    values = vasp.numbers(rows, 6, "cell")
    vasp.check_reciprocal(values[:, :3], values[:, 3:])
    return values[:, :3]


def _check_begin(header: str, atoms: Atoms) -> None:
    """Compare with the positions that stand before the first step."""
    title = re.search(r"position of ions in cartesian coordinates\s+\(Angst\):\s*\n", header)
    if title:
        rows = [line.split() for line in header[title.end() :].split("\n")[: len(atoms)]]
        begin = Atoms(atoms.numbers, positions=vasp.numbers(rows, 3, "positions"), cell=atoms.cell, pbc=True)
        if vasp.apart(begin.get_scaled_positions() - atoms.get_scaled_positions()) > 1e-3:
            raise Wrong("the positions it begins with are not those of its first step")


def _check_drift(block: str, forces: np.ndarray) -> None:
    """Compare the sum of the forces with the drift that VASP prints below them, which it may have taken away."""
    match = re.search(r"total drift:\s+(\S+)\s+(\S+)\s+(\S+)", block)
    if match:
        drift = vasp.numbers([match.groups()], 3, "total drift")[0]
        if (np.abs(forces.sum(axis=0)) > np.abs(drift) + 2e-6 * len(forces) + 1e-5).any():
            raise Wrong(f"its forces sum to {np.abs(forces.sum(axis=0)).max():.6f} eV/Å, more than the drift that is printed")


def _stress(block: str, volume: float) -> np.ndarray | None:
    """Return the stress in eV/Å³ with ASE's sign, shape (3, 3); VASP prints it in kB and times the volume in eV."""
    rows = re.findall(r"^[ \t]*in kB(.*)$", block, re.MULTILINE)
    if not rows:
        return None
    words = re.findall(r"-?\d+\.\d{5}", rows[-1])  # large numbers touch
    if "".join(words) != rows[-1].replace(" ", "").strip() or len(words) != 6:
        raise Wrong(f"its stress cannot be read: {shown(rows[-1].strip())}")
    values = np.array([float(word) for word in words])
    totals = re.findall(r"^[ \t]*Total\s+((?:\s*-?\d+\.\d{5}){6})\s*$", block, re.MULTILINE)
    if totals:
        total = np.array([float(word) for word in re.findall(r"-?\d+\.\d{5}", totals[-1])])
        if np.abs(total - values * vasp.KBAR * volume).max() > 1e-3 + 1e-4 * np.abs(total).max():
            raise Wrong("its stress in kB is not that in eV")
    pressure = re.findall(r"external pressure =\s*(\S+) kB\s+Pullay stress =\s*(\S+) kB", block)
    if pressure and not abs(real(pressure[-1][0]) + real(pressure[-1][1]) - values[:3].mean()) < 0.02:
        raise Wrong(f"its stress has not the pressure that is printed with it, {shown(pressure[-1][0])} kB")
    xx, yy, zz, xy, yz, zx = values
    return -np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]) * vasp.KBAR


def _energy(block: str, settings: dict[str, str]) -> float:
    """Return the free energy (eV), which is that of the last electronic step."""
    found = _ENERGY.findall(block)
    if not found:
        raise Wrong("no free energy in it")
    energy = real(found[-1])
    vasp.check_energy(energy, found[-2] if len(found) > 1 else None, settings)
    return energy


def _settings(text: str, header: str) -> dict[str, str]:
    # Before that stand the POTCARs and, since VASP 6, the INCAR word by word.
    body = header[max(0, header.find("Startparameter for this run")) :]
    settings = {}
    for tags, where in ((vasp.EARLY_TAGS, header), (vasp.PRINTED_TAGS, body), (("NKPTS",), header)):
        for tag in tags:
            match = re.search(rf"(?<!\w){tag}\s*=\s*([^\s;]+)", where)
            if match:
                settings[tag] = match[1]
    for tag, value in re.findall(r"^[ \t]*(L?VDW_\w+|LVDWSCS|LSCSGRAD)\s*=\s*(\S+)", header, re.MULTILINE):
        settings[tag.upper()] = value
    if "IVDW" not in settings and "Edisp (eV)" in text:
        settings["IVDW"] = "-1"
    for tag in ("LDAUTYPE", "LDAUL", "LDAUU", "LDAUJ"):
        match = re.search(rf"{tag}\s*=((?:[ \t]+[-.\d]+)+)", header)
        if match:
            settings[tag] = " ".join(match[1].split())
    match = re.match(r"\s*vasp\.(\S+)", text)
    settings["VERSION"] = match[1] if match else ""
    counts, valences = re.search(r"ions per type\s*=\s*([\d ]+)", header), re.search(r"\n[ \t]*ZVAL\s*=\s*([\d. ]+)\n", body)
    if counts and valences and len(counts[1].split()) == len(valences[1].split()):
        pairs = zip(counts[1].split(), valences[1].split(), strict=True)
        settings["VALENCE"] = str(sum(int(n) * float(z) for n, z in pairs))
    settings["SPECIES"] = " ".join(_species(header))
    return settings


def _species(header: str) -> list[str]:
    """Return the element of each species, by the titles of its POTCAR or what VASP says of it."""
    titles = [re.sub(r"[^A-Za-z].*", "", words[1]) for words in map(str.split, _titles(header)) if len(words) > 1]
    return titles or [re.sub(r"[^A-Za-z].*", "", name) for name in re.findall(r"VRHFIN\s*=\s*(\w+)\s*:", header)]


def _titles(header: str) -> list[str]:
    return re.findall(r"^[ \t]*TITEL\s*=\s*(.*\S)\s*$", header, re.MULTILINE)


def _symbols(header: str) -> tuple[list[str], str | None]:
    """Return the elements of the atoms, or why that cannot be done."""
    match = re.search(r"ions per type\s*=\s*(.*)", header)
    counts = match[1].split() if match else []
    species = _species(header)
    if len(counts) != len(species) or not all(map(str.isdigit, counts)) or not set(species) <= set(chemical_symbols[1:]):
        return [], f"its atoms cannot be told: {len(species)} species, ions per type {shown(' '.join(counts))}"
    symbols = [symbol for symbol, n in zip(species, counts, strict=True) for _ in range(int(n))]
    announced = re.search(r"NIONS\s*=\s*(\S+)", header)
    if announced and announced[1] != str(len(symbols)):
        return [], f"its species have {len(symbols)} ions, but NIONS is {shown(announced[1])}"
    return symbols, None


def _pseudopotentials(header: str) -> dict[str, str]:
    titles = _titles(header)
    return vasp.pseudopotentials_by_element(zip(_species(header), titles, strict=True)) if titles else {}


def _sampling(header: str, atoms: Atoms) -> Sampling | None:
    """Return the sampling of the irreducible k-points that are listed."""
    found = re.search(
        r"Following reciprocal coordinates:\s*\n\s*Coordinates\s+Weight\s*\n((?:(?:[ \t]+[-.\d]+){4}[ \t]*\n)+)", header
    )
    rows = [line.split() for line in found[1].splitlines()] if found else []
    if rows:
        return vasp.sampling_of_points([row[:3] for row in rows], atoms, sum(real(row[3]) for row in rows))
    listed = re.search(r"k-points in reciprocal lattice and weights:[^\n]*\n((?:(?:[ \t]+[-.\d]+){4}[ \t]*\n)+)", header)
    return vasp.sampling_of_points([line.split()[:3] for line in listed[1].splitlines()], atoms) if listed else None
