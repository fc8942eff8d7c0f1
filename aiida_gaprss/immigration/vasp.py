"""Frames from VASP's ``vasprun.xml`` and ``OUTCAR``; numbers by ASE's readers.

Convergence is not among what these tell, and VASP's own words are no help: 5.4.4 prints "aborting loop because EDIFF is reached"
also where it stopped at NELM. So the electronic steps are counted.
"""

from __future__ import annotations

import io
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
from ase import Atoms
from ase.io.vasp import read_vasp_xml
from ase.io.vasp_parsers import vasp_outcar_parsers as outcar

from aiida_gaprss.immigration.common import Output, Step
from aiida_gaprss.levels import Level, sampling_of_mesh

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

#: What an OUTCAR is asked for; word by word, as it stands after "Startparameter for this run".
_TAGS = (
    *(
        "NELM",
        "ISIF",
        "ISPIN",
        "LNONCOLLINEAR",
        "LSORBIT",
        "ENCUT",
        "ISMEAR",
        "SIGMA",
        "PREC",
        "LREAL",
        "LASPH",
        "GGA",
        "METAGGA",
    ),
    *("LHFCALC", "AEXX", "HFSCREEN", "LUSE_VDW", "LDAU", "NELECT", "NKPTS", "PSTRESS"),
)


#: With it ASE ends a step, if the energies after it are there.
_END_OF_STEP = "FREE ENERGIE OF THE ION-ELECTRON SYSTEM"


class _Text(io.StringIO):
    """A text with the name that ASE asks of a file."""

    name = "OUTCAR"


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
    root, finished = _parse_xml(text)
    calculations = [] if root is None else root.findall("calculation")
    if root is None or root.find("structure[@name='initialpos']") is None or root.find("parameters") is None:
        output.refused.append((None, "the run ended before it began to compute"))
        return output
    incomplete = None
    if not finished and calculations and calculations[-1].get("complete") != "yes":
        incomplete = calculations.pop()
        root.remove(incomplete)
    settings = _xml_settings(root)
    problem = _unreadable(settings)
    if problem:
        output.refused.append((None, problem))
        return output
    try:
        frames = list(read_vasp_xml(io.BytesIO(ElementTree.tostring(root)), index=slice(None))) if calculations else []
    except Exception as exception:
        output.refused.append((None, f"not readable as vasprun.xml: {type(exception).__name__}: {exception}"))
        return output
    for calculation, atoms in zip(calculations, frames, strict=True):
        done = len(calculation.findall("scstep"))
        output.steps.append(_step(atoms, settings, _unconverged(done, settings)))
    if incomplete is not None:
        output.refuse_next("incomplete: the run ends during this step")
    elif not output.steps:
        output.refused.append((None, "no ionic step in it"))
    if output.steps:
        output.levels.append(_level(settings, _xml_pseudos(root), output.steps[0].atoms, _xml_mesh(root)))
        output.note_fixed_basis()
    return output


def _parse_xml(text: str) -> tuple[ElementTree.Element | None, bool]:
    """Return the tree without what is large, as far as it goes, and whether that is to the end."""
    root = None
    try:
        for event, element in ElementTree.iterparse(io.BytesIO(text.encode()), events=("start", "end")):
            if root is None:
                root = element
            if event == "end" and element.tag in _HEAVY:
                element.clear()
            elif event == "end" and element.tag == "calculation":
                element.set("complete", "yes")
    except ElementTree.ParseError:
        return root, False
    return root, True


def _xml_settings(root: ElementTree.Element) -> dict[str, str]:
    settings: dict[str, str] = {}
    for branch in ("incar", "parameters"):
        for element in root.iterfind(f"{branch}//i"):
            settings[str(element.get("name")).upper()] = (element.text or "").strip()
    settings["ENCUT"] = settings.get("ENMAX", settings.get("ENCUT", ""))
    settings["VERSION"] = (root.findtext("generator/i[@name='version']") or "").strip()
    settings["NKPTS"] = str(len(root.findall("kpoints/varray[@name='kpointlist']/v")))
    valence = 0.0
    for row in root.iterfind("atominfo/array[@name='atomtypes']/set/rc"):
        cells = [(cell.text or "").strip() for cell in row]
        valence += int(cells[0]) * float(cells[3])
    settings["VALENCE"] = str(valence)
    return settings


def _xml_pseudos(root: ElementTree.Element) -> dict[str, str]:
    pseudos = {}
    for row in root.iterfind("atominfo/array[@name='atomtypes']/set/rc"):
        cells = [(cell.text or "").strip() for cell in row]
        pseudos[cells[1]] = " ".join(cells[4].split())
    return pseudos


def _xml_mesh(root: ElementTree.Element) -> list[int] | None:
    divisions = root.findtext("kpoints/generation/v[@name='divisions']")
    return [int(n) for n in divisions.split()] if divisions else None


# --- OUTCAR ---


def read_outcar(text: str) -> Output:
    """Return the ionic steps of an ``OUTCAR``."""
    output = Output()
    settings = _outcar_settings(text)
    problem = _unreadable(settings)
    if problem:
        output.refused.append((None, problem))
        return output
    # No folder is given to the reader of the header: it would take constraints from whatever POSCAR is there.
    header = outcar.OutcarHeaderParser(parsers=[outcar.SpeciesTypes(), outcar.IonsPerSpecies(), outcar.Spinpol()])
    parser = outcar.OutcarChunkParser(parsers=[outcar.Cell(), outcar.PositionsAndForces(), outcar.Stress(), outcar.Energy()])
    try:
        chunks = list(outcar.outcarchunks(_Text(text), chunk_parser=parser, header_parser=header))
    except Exception as exception:
        reason = "the run ended before it began to compute" if "Iteration" not in text else f"not readable as OUTCAR: {exception}"
        output.refused.append((None, reason))
        return output
    end = text.find("Iteration")
    begin = max(0, text.rfind("\n", 0, end))
    for number, chunk in enumerate(chunks, start=1):
        # The line of the first iteration belongs to the header.
        lines = "".join(chunk.lines) if number > 1 else text[begin : text.index("\n", end) + 1] + "".join(chunk.lines)
        done = max((int(n) for n in re.findall(r"Iteration\s+\d+\(\s*(\d+)\)", lines)), default=0)
        unconverged = _unconverged(done, settings)
        if unconverged is None and "EDIFF was not reached" in lines:
            unconverged = "the SCF is not converged: VASP says that EDIFF was not reached"
        try:
            output.steps.append(_step(chunk.build(), settings, unconverged))
        except Exception as exception:
            # A place must be kept, else the numbers of the following steps would be wrong.
            output.steps.append(Step(Atoms(), None, problem=f"not readable: {type(exception).__name__}: {exception}"))
    if "General timing and accounting" not in text:
        ends = [match.start() for match in re.finditer(_END_OF_STEP, text)][: len(chunks)]
        started = re.findall(r"Iteration\s+\d+\(\s*(\d+)\)", text[ends[-1] :] if ends else text)
        if started:
            output.refuse_next(f"incomplete: the run ends during this step, in electronic step {started[-1]}")
    if not output.steps and not output.refused:
        output.refused.append((None, "no ionic step in it"))
    readable = [step for step in output.steps if len(step.atoms)]
    if readable:
        output.levels.append(_level(settings, _outcar_pseudos(text), readable[0].atoms, None))
        output.note_fixed_basis()
    return output


def _outcar_settings(text: str) -> dict[str, str]:
    end = text.find("Iteration")
    header = text[: end if end >= 0 else len(text)]
    # Before that stand the POTCARs and, since VASP 6, the INCAR word by word.
    body = header[max(0, header.find("Startparameter for this run")) :]
    settings = {}
    for tag in _TAGS:
        match = re.search(rf"(?<!\w){tag}\s*=\s*([^\s;]+)", body if tag != "NKPTS" else header)
        if match:
            settings[tag] = match[1]
    for tag in ("IVDW", "LVDW", "ML_LMLFF"):
        match = re.search(rf"(?<!\w){tag}\s*=\s*([^\s;]+)", header)
        if match:
            settings[tag] = match[1]
    if "IVDW" not in settings and "Edisp (eV)" in text:
        settings["IVDW"] = "-1"
    match = re.match(r"\s*vasp\.(\S+)", text)
    settings["VERSION"] = match[1] if match else ""
    counts, valences = re.search(r"ions per type\s*=\s*([\d ]+)", header), re.search(r"\n\s*ZVAL\s*=\s*([\d. ]+)\n", body)
    if counts and valences and len(counts[1].split()) == len(valences[1].split()):
        pairs = zip(counts[1].split(), valences[1].split(), strict=True)
        settings["VALENCE"] = str(sum(int(n) * float(z) for n, z in pairs))
    return settings


def _outcar_pseudos(text: str) -> dict[str, str]:
    pseudos = {}
    for title in re.findall(r"^\s*TITEL\s*=\s*(.*\S)\s*$", text, re.MULTILINE):
        words = title.split()
        if len(words) > 1:
            pseudos[re.sub(r"[^A-Za-z].*", "", words[1])] = " ".join(words)
    return pseudos


# --- both ---


def _step(atoms: Atoms, settings: dict[str, str], problem: str | None) -> Step:
    """Return a step from what ASE read: the free energy, and forces as printed, without constraints applied."""
    results: dict[str, Any] = atoms.calc.results if atoms.calc is not None else {}
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    energy, forces, stress = results.get("free_energy"), results.get("forces"), results.get("stress")
    if energy is None and problem is None:
        problem = "no free energy in it"
    if _integer(settings, "ISIF", 2) < 2:  # none, or its trace only
        stress = None
    if stress is not None:
        xx, yy, zz, yz, xz, xy = stress
        stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return Step(bare, energy, None if forces is None else np.array(forces), stress, problem)


def _unconverged(done: int, settings: dict[str, str]) -> str | None:
    allowed = _integer(settings, "NELM", 60)
    return f"the SCF is not converged: it stopped at NELM = {allowed} electronic steps" if done >= allowed else None


def _unreadable(settings: dict[str, str]) -> str | None:
    return "part of its steps come from a force field learnt on the fly (ML_LMLFF)" if _true(settings, "ML_LMLFF") else None


def _integer(settings: dict[str, str], tag: str, default: int) -> int:
    try:
        return int(settings[tag])
    except (KeyError, ValueError):
        return default


def _true(settings: dict[str, str], tag: str) -> bool:
    return settings.get(tag, "F").strip(".").upper().startswith("T")


def _number(settings: dict[str, str], tag: str) -> str:
    try:
        return f"{float(settings[tag]):g}"
    except (KeyError, ValueError):
        return "unknown"


def _level(settings: dict[str, str], pseudos: dict[str, str], atoms: Atoms, mesh: list[int] | None) -> Level:
    match = re.match(r"\d+\.\d+(?:\.\d+)?", settings.get("VERSION", ""))
    ismear = _integer(settings, "ISMEAR", 1)
    smearing = _SMEARING.get(ismear, f"Methfessel-Paxton smearing of order {ismear}" if ismear > 0 else f"ISMEAR {ismear}")
    if ismear >= -1:
        smearing += f" {_number(settings, 'SIGMA')} eV"
    spin = "spin-polarised" if settings.get("ISPIN") == "2" else "not spin-polarised"
    if _true(settings, "LNONCOLLINEAR"):
        spin = "non-collinear spins"
    if _true(settings, "LSORBIT"):
        spin += " with spin-orbit coupling"
    ivdw = _integer(settings, "IVDW", 1 if _true(settings, "LVDW") else 0)
    dispersion = _IVDW.get(ivdw, "of unknown kind" if ivdw == -1 else f"IVDW {ivdw}")
    if _true(settings, "LUSE_VDW"):
        dispersion = f"{dispersion} non-local".strip()
    others = [
        f"precision {_PREC.get(settings.get('PREC', '?')[:1].lower(), 'unknown')}",
        f"{'real' if _true(settings, 'LREAL') else 'reciprocal'}-space projection",
    ]
    others += ["LASPH"] if _true(settings, "LASPH") else []
    others += ["Hubbard U"] if _true(settings, "LDAU") else []
    if "VALENCE" in settings and "NELECT" in settings:
        charge = float(settings["VALENCE"]) - float(settings["NELECT"])
        others += [f"charge {charge:+g}"] if abs(charge) > 1e-3 else []
    return Level(
        code="VASP",
        version=match[0] if match else settings.get("VERSION", "unknown"),
        functional=_functional(settings, pseudos),
        cutoff=f"{_number(settings, 'ENCUT')} eV",
        smearing=smearing,
        spin=spin,
        dispersion=f"dispersion correction {dispersion}" if dispersion else "no dispersion correction",
        others=tuple(others),
        pseudos=pseudos,
        spacing=sampling_of_mesh(atoms.cell.array, mesh) if mesh and all(mesh) else None,
        n_kpoints=_integer(settings, "NKPTS", 0) or None,
    )


def _functional(settings: dict[str, str], pseudos: dict[str, str]) -> str:
    gga = settings.get("GGA", "--")
    if gga in ("", "--"):  # that of the pseudopotentials
        kinds = {title.split()[0] for title in pseudos.values()}
        name = {"PAW_PBE": "PBE", "PAW_GGA": "PW91", "PAW": "LDA"}.get(kinds.pop(), "unknown") if len(kinds) == 1 else "unknown"
    else:
        name = _GGA.get(gga.upper(), f"GGA {gga}")
    meta = settings.get("METAGGA", "F")
    if meta.upper() not in ("", "F", "--", "NONE"):
        name = meta.upper()
    if _true(settings, "LHFCALC"):
        name = f"hybrid of {name} with AEXX {_number(settings, 'AEXX')} and HFSCREEN {_number(settings, 'HFSCREEN')}"
    return name
