"""Frames from VASP's ``vasprun.xml`` and ``OUTCAR``.

ASE reads such files too, but fills up what is missing in a table with zeros or with what stood there before; so the text is read
here. Convergence is not among what these tell, and VASP's own words are no help: 5.4.4 prints "aborting loop because EDIFF is
reached" also where it stopped at NELM. So the electronic steps are counted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from xml.etree import ElementTree

import numpy as np
from ase import Atoms, units
from ase.data import chemical_symbols

from aiida_gaprss.io.common import Output, Step, divisions_of
from aiida_gaprss.levels import NOT_TOLD, PSEUDOPOTENTIAL, Level, Sampling, sampling_of_mesh
from aiida_gaprss.outside import shown

_GGA = {
    "PE": "PBE",
    "PS": "PBEsol",
    "91": "PW91",
    "RP": "RPBE",
    "RE": "revPBE",
    "AM": "AM05",
    "CA": "LDA",
    "OR": "optPBE",
    "BO": "optB88",
    "MK": "optB86b",
    "ML": "PW86R",
}
_SMEARING = {-5: "tetrahedra (Blöchl)", -4: "tetrahedra", -2: "fixed occupancies", -1: "Fermi smearing", 0: "Gaussian smearing"}
_IVDW = {0: "", 1: "D2", 10: "D2", 11: "D3", 12: "D3-BJ", 13: "D4", 2: "TS", 20: "TS", 21: "TS/HI", 202: "MBD@rsSCS", 4: "dDsC"}
_PREC = {"n": "normal", "a": "accurate", "l": "low", "m": "medium", "h": "high", "s": "single"}

#: Of a vasprun.xml, what is large and not needed.
_HEAVY = {"eigenvalues", "dos", "projected", "dielectricfunction", "eigenvalues_kpoints_opt"}

#: Elements of a vasprun.xml within each other, at most: VASP's have ten.
_DEEPEST = 32

#: What an OUTCAR is asked for, as it stands after "Startparameter for this run", and before it or in it.
_TAGS = (
    *("NELM", "ISIF", "ISPIN", "LNONCOLLINEAR", "LSORBIT", "ENCUT", "ISMEAR", "SIGMA", "PREC", "LREAL", "LASPH", "GGA"),
    *("METAGGA", "LHFCALC", "AEXX", "HFSCREEN", "LUSE_VDW", "LDAU", "NELECT", "NKPTS", "PSTRESS", "NUPDOWN", "LDIPOL", "IDIPOL"),
    *("LMONO", "EFIELD", "GGA_COMPAT", "I_CONSTRAINED_M", "LSOL"),
)
_EARLY_TAGS = ("IVDW", "LVDW", "ML_LMLFF", "LSOL", "ADDGRID", "PRECFOCK")

#: Tags that are compared where both of two files tell them, besides those of dispersion corrections.
_ALSO = ("ADDGRID", "PRECFOCK", "AGGAX", "AGGAC", "ALDAC", "Zab_VDW", "PARAM1", "PARAM2", "SAXIS")
_DISPERSION_TAG = re.compile(r"VDW_\w+|LVDW_\w+|LVDWSCS|LSCSGRAD", re.IGNORECASE)

#: All tags that a level of theory is made of.
TAGS = {*_TAGS, *_EARLY_TAGS, *map(str.upper, _ALSO)}

#: The block that ends a step.
_END_OF_STEP = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"
_ENERGY = re.compile(r"free\s+energy\s+TOTEN\s*=\s*(\S+)\s+eV")
_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")

#: Numbers as VASP prints them.
_NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[EeDd][-+]?\d+)?")
_KBAR = 0.1 * units.GPa

#: Sum of forces (eV/Å) that is told: vasprun.xml does not say what VASP has taken away of it.
_NET_FORCE = 0.05

#: How far what is printed twice may be apart: eV, and of the product of direct and reciprocal vectors.
_ENERGY_TOLERANCE, _RECIPROCAL_TOLERANCE = 2e-5, 1e-4


def recognises_outcar(head: str) -> bool:
    """Tell whether a file that begins like this is an OUTCAR."""
    return re.match(r"\s*vasp\.\d", head) is not None


def recognises_xml(head: str) -> bool:
    """Tell whether a file that begins like this is a vasprun.xml."""
    return "<modeling>" in head and re.search(r'name="program"[^>]*>\s*vasp', head) is not None


# --- vasprun.xml ---


def read_xml(text: str) -> Output:
    """Return the ionic steps of a ``vasprun.xml``, also of one that was cut off."""
    output = Output()
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        output.refused.append((None, "it declares xml entities or a document type, which VASP does not"))
        return output
    try:
        root, finished = _parse_xml(text)
    except _Wrong as exception:
        output.refused.append((None, str(exception)))
        return output
    calculations = [] if root is None else root.findall("calculation")
    if root is None or root.find("structure[@name='initialpos']") is None or root.find("parameters") is None:
        output.refused.append((None, "the run ended before it began to compute"))
        return output
    incomplete = not finished and bool(calculations) and calculations[-1].get("complete") != "yes"
    calculations = calculations[:-1] if incomplete else calculations
    settings = _xml_settings(root)
    problem = _unreadable(settings)
    if problem is None and "" in _xml_symbols(root):
        problem = "its list of atoms cannot be read"
    if problem:
        output.refused.append((None, problem))
        return output
    for number, calculation in enumerate(calculations):
        first = root.find("structure[@name='initialpos']") if number == 0 else None
        output.steps.append(_xml_step(calculation, _xml_symbols(root), settings, first))
    if incomplete:
        output.refuse_next("incomplete: the run ends during this step")
    elif not output.steps:
        output.refused.append((None, "no ionic step in it"))
    _finish(output, finished and root.find("structure[@name='finalpos']") is not None)
    readable = [step for step in output.steps if len(step.atoms)]
    if readable:
        output.levels.append(level_of_tags(settings, _xml_pseudos(root), _xml_sampling(root, readable[0].atoms)))
    return output


def _finish(output: Output, finished: bool) -> None:
    """Note what is to be said of all steps."""
    if output.steps:
        if not finished:
            output.note("the run was cut off: it has no end")
        output.note_fixed_basis()
        output.note_missing()


def _xml_step(
    calculation: ElementTree.Element, symbols: list[str], settings: dict[str, str], first: ElementTree.Element | None
) -> Step:
    """Return one ionic step, in which every table has a row for every atom.

    :param first: the structure that the run began with, if this is its first step.
    """
    try:
        structure = calculation.find("structure")
        cell, positions = _xml_structure(structure, len(symbols))
        atoms = Atoms(symbols, cell=cell, scaled_positions=positions, pbc=True)
        if first is not None:
            begin = _xml_structure(first, len(symbols))
            if max(np.abs(cell - begin[0]).max(), _apart(positions - begin[1])) > 1e-6:
                raise _Wrong("its first structure is not that of its first step")
        rows = calculation.find("varray[@name='forces']")
        forces = None if rows is None else _xml_rows(rows, len(symbols), "forces")
        rows = calculation.find("varray[@name='stress']")
        stress = None if rows is None or not _whole_stress(settings) else _xml_rows(rows, 3, "stress")
        if stress is not None and np.abs(stress - stress.T).max() > 1e-4:
            raise _Wrong("its stress is not symmetric")
        energy = _xml_energy(calculation, settings, atoms.get_volume())
        net = 0.0 if forces is None else float(np.abs(forces.sum(axis=0)).max())
        problem = _unconverged(len(calculation.findall("scstep")), settings)
    except _Wrong as exception:
        return Step(Atoms(), None, problem=str(exception))
    notes = [f"its forces sum to {net:.2g} eV/Å, expected 0"] if net > _NET_FORCE else []
    return Step(atoms, energy, forces, None if stress is None else -stress * _KBAR, problem, notes)


def _xml_structure(structure: ElementTree.Element | None, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cell (Å) and fractional positions; the reciprocal cell and the volume tell if a number is wrong.

    :raises _Wrong: if a row is missing or cannot be read.
    """
    if structure is None:
        raise _Wrong("it has no structure")
    cell = _xml_rows(structure.find("crystal/varray[@name='basis']"), 3, "cell")
    reciprocal = structure.find("crystal/varray[@name='rec_basis']")
    volume = structure.findtext("crystal/i[@name='volume']")
    if reciprocal is not None:
        _check_reciprocal(cell, _xml_rows(reciprocal, 3, "reciprocal cell"))
    if volume is not None and not abs(_real(volume.strip()) - abs(np.linalg.det(cell))) < 1e-3:
        raise _Wrong(f"its cell has {abs(np.linalg.det(cell)):.4f} Å³, but the file says {shown(volume.strip())} Å³")
    return cell, _xml_rows(structure.find("varray[@name='positions']"), n_atoms, "positions")


def _xml_rows(table: ElementTree.Element | None, n_rows: int, what: str) -> np.ndarray:
    """Return the numbers of a table, shape (n_rows, 3).

    :raises _Wrong: if a row is missing or too many, or is not three numbers.
    """
    rows = [] if table is None else [(row.text or "").split() for row in table.findall("v")]
    if len(rows) != n_rows:
        raise _Wrong(f"its {what} {'has' if what.endswith('cell') else 'have'} {len(rows)} rows, expected {n_rows}")
    return _numbers(rows, 3, what)


def _xml_energy(calculation: ElementTree.Element, settings: dict[str, str], volume: float) -> float:
    """Return the free energy (eV): that of the ionic step, which with PSTRESS is an enthalpy, and the same as in its SCF.

    :raises _Wrong: if there is none, or the two differ.
    """
    text = calculation.findtext("energy/i[@name='e_fr_energy']")
    if text is None:
        raise _Wrong("no free energy in it")
    energy = _real(text.strip())
    pressure = _real(settings.get("PSTRESS", "0"))
    energy -= pressure * _KBAR * volume
    last = calculation.findall("scstep")[-1:]
    of_scf = last[0].findtext("energy/i[@name='e_fr_energy']") if last else None
    _check_energy(energy, of_scf, settings, 1e-6 * abs(pressure) * volume)
    return energy


def _parse_xml(text: str) -> tuple[ElementTree.Element | None, bool]:
    """Return the tree without what is large, as far as it goes, and whether that is to the end.

    :raises _Wrong: if it is nested deeper than VASP's.
    """
    root, depth = None, 0
    try:
        for event, element in ElementTree.iterparse(io.BytesIO(text.encode()), events=("start", "end")):
            depth += 1 if event == "start" else -1
            if depth > _DEEPEST:
                raise _Wrong(f"its xml has more than {_DEEPEST} elements within each other, which VASP's has not")
            if root is None:
                root = element
            if event == "end" and element.tag in _HEAVY:
                element.clear()
            elif event == "end" and element.tag == "calculation":
                element.set("complete", "yes")
    except (ElementTree.ParseError, LookupError):  # the latter for an encoding that there is not
        return root, False
    return root, True


def _xml_settings(root: ElementTree.Element) -> dict[str, str]:
    settings: dict[str, str] = {}
    for branch in ("incar", "parameters"):
        for element in [*root.iterfind(f"{branch}//i"), *root.iterfind(f"{branch}//v")]:
            settings[str(element.get("name")).upper()] = " ".join((element.text or "").split())
    settings["ENCUT"] = settings.get("ENMAX", settings.get("ENCUT", ""))
    settings["VERSION"] = (root.findtext("generator/i[@name='version']") or "").strip()
    settings["NKPTS"] = str(len(root.findall("kpoints/varray[@name='kpointlist']/v")))
    rows = _xml_types(root)
    settings["VALENCE"] = str(sum(_real(row[0]) * _real(row[3]) for row in rows))
    settings["SPECIES"] = " ".join(row[1] for row in rows)
    settings["MOMENTS"] = settings.get("MAGMOM", "")
    settings["ATOMS"] = " ".join(_xml_symbols(root))
    return settings


def _xml_types(root: ElementTree.Element) -> list[list[str]]:
    """Return of each species: number of atoms, element, mass, valence, pseudopotential."""
    rows = root.iterfind("atominfo/array[@name='atomtypes']/set/rc")
    return [[" ".join((cell.text or "").split()) for cell in row][:5] + [""] * (5 - len(row)) for row in rows]


def _xml_symbols(root: ElementTree.Element) -> list[str]:
    """Return the elements of the atoms; ``[""]`` if the lists of atoms and of species, and their numbers, do not agree."""
    rows = root.iterfind("atominfo/array[@name='atoms']/set/rc")
    atoms = [(row.findtext("c") or "").strip() for row in rows]
    types = [symbol for row in _xml_types(root) for symbol in [row[1]] * (int(row[0]) if row[0].isdigit() else 0)]
    announced = (root.findtext("atominfo/atoms") or "").strip()
    sound = bool(atoms) and atoms == types and announced == str(len(atoms)) and set(atoms) <= set(chemical_symbols[1:])
    return atoms if sound else [""]


def _xml_pseudos(root: ElementTree.Element) -> dict[str, str]:
    return _named((row[1], row[4]) for row in _xml_types(root))


def _xml_sampling(root: ElementTree.Element, atoms: Atoms) -> Sampling | None:
    """Return the sampling: of the mesh that was asked for, else of the k-points."""
    divisions = (root.findtext("kpoints/generation/v[@name='divisions']") or "").split()
    if len(divisions) == 3 and all(map(str.isdigit, divisions)):
        return sampling_of_mesh(atoms.cell.array, map(int, divisions), atoms.get_scaled_positions())
    points = [(row.text or "").split() for row in root.findall("kpoints/varray[@name='kpointlist']/v")]
    return _sampling_of_points(points, atoms)


def _sampling_of_points(points: list[list[str]], atoms: Atoms, weights: float = 0.0) -> Sampling | None:
    """Return the sampling of a list of irreducible k-points.

    :param weights: their sum as VASP's search for them prints it. For a mesh that has not the symmetry of the lattice, VASP
        adds its images, which lie between its points; then the sum is a multiple of their number.
    """
    try:
        values = _numbers(points, 3, "k-points")
    except _Wrong:
        return None
    lengths = np.linalg.norm(np.linalg.inv(atoms.cell.array).T, axis=1)
    divisions = divisions_of(values, lengths) if len(values) else None
    if divisions and weights and round(weights) != np.prod(divisions):
        halves = [n // 2 if n % 2 == 0 else n for n in divisions]
        divisions = halves if round(weights) % np.prod(halves) == 0 else None
    return sampling_of_mesh(atoms.cell.array, divisions, atoms.get_scaled_positions()) if divisions else None


# --- OUTCAR ---


def read_outcar(text: str) -> Output:
    """Return the ionic steps of an ``OUTCAR``."""
    output = Output()
    begin = text.find("Iteration")
    header = text[: begin if begin >= 0 else len(text)]
    settings = _outcar_settings(text, header)
    symbols, problem = _outcar_symbols(header)
    problem = problem if begin >= 0 else "the run ended before it began to compute"
    problem = _unreadable(settings) or problem
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
        output.steps.append(_outcar_step(block, cell, symbols, settings, header if not output.steps else ""))
        at = tail.end()
    finished = "General timing and accounting" in text
    started = _ITERATION.findall(text[at:])
    if started or _END_OF_STEP in text[at:]:
        output.refuse_next(f"incomplete: the run ends during this step{f', in electronic step {started[-1]}' if started else ''}")
    if not output.steps and not output.refused:
        output.refused.append((None, "no ionic step in it"))
    _finish(output, finished)
    readable = [step for step in output.steps if len(step.atoms)]
    if readable:
        output.levels.append(level_of_tags(settings, _outcar_pseudos(header), _outcar_sampling(header, readable[0].atoms)))
    return output


def _outcar_step(block: str, cell: str, symbols: list[str], settings: dict[str, str], header: str) -> Step:
    """Return one ionic step, in which every table has a row for every atom.

    :param cell: the text that the cell stands in last.
    :param header: what stands before the first step, if this is it.
    """
    try:
        vectors = _outcar_cell(cell)
        rows = _after(block, r"POSITION\s+TOTAL-FORCE \(eV/Angst\)\s*\n\s*-+\s*\n", len(symbols), "positions and forces")
        table = _numbers(rows, 6, "positions and forces")
        atoms = Atoms(symbols, positions=table[:, :3], cell=vectors, pbc=True)
        _check_begin(header, atoms)
        _check_drift(block, table[:, 3:])
        stress = _outcar_stress(block, atoms.get_volume()) if _whole_stress(settings) else None
        energy = _outcar_energy(block, settings)
    except _Wrong as exception:
        return Step(Atoms(), None, problem=str(exception))
    unconverged = _unconverged(max(map(int, _ITERATION.findall(block)), default=0), settings)
    if unconverged is None and "EDIFF was not reached" in block:
        unconverged = "the SCF is not converged: VASP says that EDIFF was not reached"
    return Step(atoms, energy, table[:, 3:], stress, unconverged)


def _after(text: str, title: str, n_rows: int, what: str) -> list[list[str]]:
    """Return the words of the rows of the last table with this title, which ends with a line of dashes.

    :raises _Wrong: if there is none, or it has not ``n_rows`` rows.
    """
    found = list(re.finditer(title, text))
    if not found:
        raise _Wrong(f"no table of {what} in it")
    rows = []
    for line in text[found[-1].end() :].split("\n"):
        if not line.strip("- "):
            break
        rows.append(line.split())
    if len(rows) != n_rows:
        raise _Wrong(f"its table of {what} has {len(rows)} rows, expected {n_rows}")
    return rows


def _outcar_cell(text: str) -> np.ndarray:
    """Return the last cell (Å); the reciprocal one beside it tells if a number is wrong."""
    at = text.rfind("direct lattice vectors")
    rows = [line.split() for line in text[at:].split("\n")[1:4]] if at >= 0 else []
    if len(rows) != 3:
        raise _Wrong("no cell in it")
    values = _numbers(rows, 6, "cell")
    _check_reciprocal(values[:, :3], values[:, 3:])
    return values[:, :3]


def _check_begin(header: str, atoms: Atoms) -> None:
    """Compare with the positions that stand before the first step."""
    title = re.search(r"position of ions in cartesian coordinates\s+\(Angst\):\s*\n", header)
    if title:
        rows = [line.split() for line in header[title.end() :].split("\n")[: len(atoms)]]
        begin = Atoms(atoms.numbers, positions=_numbers(rows, 3, "positions"), cell=atoms.cell, pbc=True)
        if _apart(begin.get_scaled_positions() - atoms.get_scaled_positions()) > 1e-3:
            raise _Wrong("the positions it begins with are not those of its first step")


def _check_drift(block: str, forces: np.ndarray) -> None:
    """Compare the sum of the forces with the drift that VASP prints below them, which it may have taken away."""
    match = re.search(r"total drift:\s+(\S+)\s+(\S+)\s+(\S+)", block)
    if match:
        drift = _numbers([match.groups()], 3, "total drift")[0]
        if (np.abs(forces.sum(axis=0)) > np.abs(drift) + 2e-6 * len(forces) + 1e-5).any():
            raise _Wrong(f"its forces sum to {np.abs(forces.sum(axis=0)).max():.6f} eV/Å, more than the drift that is printed")


def _outcar_stress(block: str, volume: float) -> np.ndarray | None:
    """Return the stress in eV/Å³ with ASE's sign, shape (3, 3); VASP prints it in kB and times the volume in eV."""
    rows = re.findall(r"^[ \t]*in kB(.*)$", block, re.MULTILINE)
    if not rows:
        return None
    words = re.findall(r"-?\d+\.\d{5}", rows[-1])  # large numbers touch
    if "".join(words) != rows[-1].replace(" ", "").strip() or len(words) != 6:
        raise _Wrong(f"its stress cannot be read: {shown(rows[-1].strip())}")
    values = np.array([float(word) for word in words])
    totals = re.findall(r"^[ \t]*Total\s+((?:\s*-?\d+\.\d{5}){6})\s*$", block, re.MULTILINE)
    if totals:
        total = np.array([float(word) for word in re.findall(r"-?\d+\.\d{5}", totals[-1])])
        if np.abs(total - values * _KBAR * volume).max() > 1e-3 + 1e-4 * np.abs(total).max():
            raise _Wrong("its stress in kB is not that in eV")
    pressure = re.findall(r"external pressure =\s*(\S+) kB\s+Pullay stress =\s*(\S+) kB", block)
    if pressure and not abs(_real(pressure[-1][0]) + _real(pressure[-1][1]) - values[:3].mean()) < 0.02:
        raise _Wrong(f"its stress has not the pressure that is printed with it, {shown(pressure[-1][0])} kB")
    xx, yy, zz, xy, yz, zx = values
    return -np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]) * _KBAR


def _outcar_energy(block: str, settings: dict[str, str]) -> float:
    """Return the free energy (eV), which is that of the last electronic step."""
    found = _ENERGY.findall(block)
    if not found:
        raise _Wrong("no free energy in it")
    energy = _real(found[-1])
    _check_energy(energy, found[-2] if len(found) > 1 else None, settings)
    return energy


def _outcar_settings(text: str, header: str) -> dict[str, str]:
    # Before that stand the POTCARs and, since VASP 6, the INCAR word by word.
    body = header[max(0, header.find("Startparameter for this run")) :]
    settings = {}
    for tags, where in ((_EARLY_TAGS, header), (_TAGS, body), (("NKPTS",), header)):
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
    settings["SPECIES"] = " ".join(_outcar_species(header))
    return settings


def _outcar_species(header: str) -> list[str]:
    """Return the element of each species, by the titles of its POTCAR or what VASP says of it."""
    titles = [re.sub(r"[^A-Za-z].*", "", words[1]) for words in map(str.split, _titles(header)) if len(words) > 1]
    return titles or [re.sub(r"[^A-Za-z].*", "", name) for name in re.findall(r"VRHFIN\s*=\s*(\w+)\s*:", header)]


def _titles(header: str) -> list[str]:
    return re.findall(r"^[ \t]*TITEL\s*=\s*(.*\S)\s*$", header, re.MULTILINE)


def _outcar_symbols(header: str) -> tuple[list[str], str | None]:
    """Return the elements of the atoms, or why that cannot be done."""
    match = re.search(r"ions per type\s*=\s*(.*)", header)
    counts = match[1].split() if match else []
    species = _outcar_species(header)
    if len(counts) != len(species) or not all(map(str.isdigit, counts)) or not set(species) <= set(chemical_symbols[1:]):
        return [], f"its atoms cannot be told: {len(species)} species, ions per type {shown(' '.join(counts))}"
    symbols = [symbol for symbol, n in zip(species, counts, strict=True) for _ in range(int(n))]
    announced = re.search(r"NIONS\s*=\s*(\S+)", header)
    if announced and announced[1] != str(len(symbols)):
        return [], f"its species have {len(symbols)} ions, but NIONS is {shown(announced[1])}"
    return symbols, None


def _outcar_pseudos(header: str) -> dict[str, str]:
    titles = _titles(header)
    return _named(zip(_outcar_species(header), titles, strict=True)) if titles else {}


def _outcar_sampling(header: str, atoms: Atoms) -> Sampling | None:
    """Return the sampling of the irreducible k-points that are listed."""
    found = re.search(
        r"Following reciprocal coordinates:\s*\n\s*Coordinates\s+Weight\s*\n((?:(?:[ \t]+[-.\d]+){4}[ \t]*\n)+)", header
    )
    rows = [line.split() for line in found[1].splitlines()] if found else []
    if rows:
        return _sampling_of_points([row[:3] for row in rows], atoms, sum(_real(row[3]) for row in rows))
    listed = re.search(r"k-points in reciprocal lattice and weights:[^\n]*\n((?:(?:[ \t]+[-.\d]+){4}[ \t]*\n)+)", header)
    return _sampling_of_points([line.split()[:3] for line in listed[1].splitlines()], atoms) if listed else None


# --- both ---


class _Wrong(ValueError):
    """Why a step must not be used."""


def _real(text: str) -> float:
    """Return a number as VASP prints it, or not-a-number if it is none, as when it is too long for its field."""
    return float(text.replace("D", "E").replace("d", "e")) if _NUMBER.fullmatch(text) else float("nan")


def _numbers(rows: Iterable[Iterable[str]], n_columns: int, what: str) -> np.ndarray:
    """Return rows of words as numbers.

    :raises _Wrong: for a row of another length or with a word that is no number.
    """
    out = []
    for number, row in enumerate(rows, start=1):
        words = list(row)
        values = [_real(word) for word in words]
        if len(values) != n_columns or not np.isfinite(values).all():
            raise _Wrong(f"row {number} of its {what} cannot be read: {shown(' '.join(words))}")
        out.append(values)
    return np.array(out).reshape(-1, n_columns)


def _apart(fractions: np.ndarray) -> float:
    """Return the largest difference of fractional positions, up to whole lattice vectors."""
    return float(np.abs(fractions - np.rint(fractions)).max())


def _check_reciprocal(cell: np.ndarray, reciprocal: np.ndarray) -> None:
    if np.abs(cell @ reciprocal.T - np.eye(3)).max() > _RECIPROCAL_TOLERANCE:
        raise _Wrong("its cell and reciprocal cell do not belong together")


def _check_energy(energy: float, of_scf: str | None, settings: dict[str, str], more: float = 0.0) -> None:
    """Compare the energy of a step with that of its last electronic step; a dispersion correction may be in one only."""
    if not np.isfinite(energy):
        raise _Wrong("its free energy cannot be read")
    plain = not _dispersion(settings) and not _true(settings, "LSOL")
    if plain and of_scf is not None and not abs(_real(of_scf.strip()) - energy) < _ENERGY_TOLERANCE + more:
        raise _Wrong(f"its free energy {energy:.8f} eV is not that of its last electronic step, {shown(of_scf.strip())} eV")


def _whole_stress(settings: dict[str, str]) -> bool:
    """Tell whether the stress has all components: with ISIF 0 there is none, with 1 its trace only."""
    return _integer(settings, "ISIF", 2) >= 2


def _named(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the pseudopotentials of each element, of which there may be several."""
    found: dict[str, list[str]] = {}
    for symbol, name in pairs:
        found.setdefault(symbol, []).append(" ".join(name.split()) or NOT_TOLD)
    return {symbol: " and ".join(sorted(set(names))) for symbol, names in found.items()}


def _unconverged(done: int, settings: dict[str, str]) -> str | None:
    allowed = _integer(settings, "NELM", 60)
    return f"the SCF is not converged: it stopped at NELM = {allowed} electronic steps" if done >= allowed else None


def _unreadable(settings: dict[str, str]) -> str | None:
    if _true(settings, "ML_LMLFF"):
        return "part of its steps come from a force field learnt on the fly (ML_LMLFF)"
    if not settings.get("NELM", "").isdigit():
        return f"it cannot be told whether its SCFs are converged: NELM is {shown(settings.get('NELM', 'not told'))}"
    return None


def _integer(settings: dict[str, str], tag: str, default: int) -> int:
    try:
        return int(settings[tag])
    except (KeyError, ValueError):
        return default


def _true(settings: dict[str, str], tag: str, also: tuple[str, ...] = ()) -> bool:
    return settings.get(tag, "F").strip(".").upper().startswith(("T", *also))


def _number(settings: dict[str, str], tag: str) -> str:
    try:
        return f"{float(settings[tag]):g}"
    except (KeyError, ValueError):
        return NOT_TOLD


def level_of_tags(settings: dict[str, str], pseudos: dict[str, str], sampling: Sampling | None) -> Level:
    """Return the level of theory that INCAR tags, in VASP's words, and pseudopotentials make.

    :param settings: also ``VERSION``, ``SPECIES`` (elements in the order of the POTCAR) and ``ATOMS`` (elements of the atoms).
    """
    match = re.match(r"\d+\.\d+(?:\.\d+)?", settings.get("VERSION", ""))
    values = {
        "functional": _functional(settings, pseudos),
        "cutoff": f"cutoff {_number(settings, 'ENCUT')} eV",
        "smearing": _smearing(settings),
        "spin": _spin(settings),
        "dispersion": f"dispersion correction {_dispersion(settings)}" if _dispersion(settings) else "no dispersion correction",
        "precision": f"precision {_PREC.get(settings.get('PREC', '?')[:1].lower(), NOT_TOLD)}",
        "projection": f"{'real' if _true(settings, 'LREAL', ('A', 'O')) else 'reciprocal'}-space projection",
        "aspherical terms": "LASPH" if _true(settings, "LASPH") else "",
        **_rare_settings(settings),
    }
    species = dict.fromkeys(settings["SPECIES"].split(), NOT_TOLD)
    return Level(
        code="VASP",
        version=match[0] if match else settings.get("VERSION", ""),
        settings={name: value for name, value in values.items() if value},
        elements={PSEUDOPOTENTIAL: {**species, **pseudos}, "Hubbard": _hubbard(settings)},
        also=_also(settings),
        sampling=sampling,
        n_kpoints=settings.get("NKPTS", ""),
    )


def _smearing(settings: dict[str, str]) -> str:
    ismear = _integer(settings, "ISMEAR", 1)
    smearing = _SMEARING.get(ismear, f"Methfessel-Paxton smearing of order {ismear}" if ismear > 0 else f"ISMEAR {ismear}")
    return smearing + (f" {_number(settings, 'SIGMA')} eV" if ismear >= -1 else "")


def _spin(settings: dict[str, str]) -> str:
    spin = "spin-polarised" if settings.get("ISPIN") == "2" else "not spin-polarised"
    if _true(settings, "LNONCOLLINEAR"):
        spin = "non-collinear spins"
    return spin + (" with spin-orbit coupling" if _true(settings, "LSORBIT") else "")


def _dispersion(settings: dict[str, str]) -> str:
    """Return the name of the dispersion correction, or nothing."""
    ivdw = _integer(settings, "IVDW", 1 if _true(settings, "LVDW") else 0)
    name = _IVDW.get(ivdw, f"of a kind {NOT_TOLD}" if ivdw == -1 else f"IVDW {ivdw}")
    return f"{name} non-local".strip() if _true(settings, "LUSE_VDW") else name


def _rare_settings(settings: dict[str, str]) -> dict[str, str]:
    """Return what most runs have none of."""
    charge = ""
    if "VALENCE" in settings and "NELECT" in settings:
        electrons = _real(settings["VALENCE"]) - _real(settings["NELECT"])
        charge = f"charge {electrons:+g}" if not abs(electrons) < 1e-3 else ""
    moment = _real(settings.get("NUPDOWN", "-1"))
    fixed = _spin(settings) != "not spin-polarised" and moment >= 0
    dipole = _true(settings, "LDIPOL") or _integer(settings, "IDIPOL", 0) > 0
    field = _real(settings.get("EFIELD", "0"))
    constrained = _integer(settings, "I_CONSTRAINED_M", 0)
    return {
        "charge": charge,
        "total moment": f"total moment fixed at {moment:g}" if fixed else "",
        "constrained moments": f"moments constrained (I_CONSTRAINED_M {constrained})" if constrained else "",
        "boundary": f"dipole correction along {settings.get('IDIPOL', NOT_TOLD)}" if dipole else "",
        "monopole": "monopole correction" if _true(settings, "LMONO") else "",
        "electric field": f"electric field {field:g} eV/Å" if field else "",
        "solvent": "implicit solvent" if _true(settings, "LSOL") else "",
    }


def _hubbard(settings: dict[str, str]) -> dict[str, str]:
    """Return of each element with a Hubbard U its orbital, U and J (eV) and the kind of DFT+U."""
    if not _true(settings, "LDAU"):
        return {}
    species = settings["SPECIES"].split()
    orbitals, us, js = ([_real(word) for word in settings.get(tag, "").split()] for tag in ("LDAUL", "LDAUU", "LDAUJ"))
    if not len(species) == len(orbitals) == len(us) == len(js) or not np.isfinite([*orbitals, *us, *js]).all():
        return dict.fromkeys(species, f"U {NOT_TOLD}")
    kind = settings.get("LDAUTYPE", NOT_TOLD)
    found: dict[str, set[str]] = {}
    for symbol, orbital, u, j in zip(species, orbitals, us, js, strict=True):
        text = f"{'spdf'[int(orbital)]} U {u:g} J {j:g} eV (LDAUTYPE {kind})" if 0 <= orbital < 4 and (u or j) else "none"
        found.setdefault(symbol, set()).add(text)
    return {symbol: " and ".join(sorted(texts)) for symbol, texts in found.items() if texts != {"none"}}


def _also(settings: dict[str, str]) -> dict[str, str]:
    """Return what not every file tells."""
    out = {tag: _plain(settings[tag.upper()]) for tag in _ALSO if settings.get(tag.upper())}
    if "GGA_COMPAT" in settings:
        out["GGA without the compatibility to VASP 4"] = "F" if _true(settings, "GGA_COMPAT") else "T"
    if _dispersion(settings):
        out |= {tag: _plain(value) for tag, value in sorted(settings.items()) if _DISPERSION_TAG.fullmatch(tag)}
    elif not _true(settings, "LUSE_VDW"):
        out = {tag: value for tag, value in out.items() if tag not in ("Zab_VDW", "PARAM1", "PARAM2")}
    if not _true(settings, "LNONCOLLINEAR"):
        out.pop("SAXIS", None)
    symbols, moments = settings["ATOMS"].split(), settings.get("MOMENTS", "").split()
    if _spin(settings) == "spin-polarised" and len(symbols) == len(moments):
        for symbol in sorted(set(symbols)):
            sizes = {round(abs(_real(m)), 2) for s, m in zip(symbols, moments, strict=True) if s == symbol}
            out[f"starting moments of {symbol}"] = " or ".join(f"{size:g}" for size in sorted(sizes))
    return out


def _plain(value: str) -> str:
    """Return numbers and truth values in one form, whichever file they are from."""
    if value.strip(".").upper() in ("T", "TRUE", "F", "FALSE"):
        return value.strip(".").upper()[0]
    return " ".join(f"{_real(word):.5g}" if np.isfinite(_real(word)) else word for word in value.split())


def _functional(settings: dict[str, str], pseudos: dict[str, str]) -> str:
    gga = settings.get("GGA", "--")
    if gga in ("", "--"):  # that of the pseudopotentials
        kinds = {title.split()[0] for title in pseudos.values()}
        name = {"PAW_PBE": "PBE", "PAW_GGA": "PW91", "PAW": "LDA"}.get(kinds.pop(), NOT_TOLD) if len(kinds) == 1 else NOT_TOLD
    else:
        name = _GGA.get(gga.upper(), f"GGA {gga}")
    meta = settings.get("METAGGA", "F")
    if meta.upper() not in ("", "F", "--", "NONE"):
        name = meta.upper()
    if _true(settings, "LHFCALC"):
        name = f"hybrid of {name} with AEXX {_number(settings, 'AEXX')} and HFSCREEN {_number(settings, 'HFSCREEN')}"
    return name
