"""The level of theory of a run of ``pw.x``: what in its output decides the energy, sampling and pseudopotentials among it."""

from __future__ import annotations

import re
from pathlib import PurePath

import numpy as np
from ase import Atoms
from ase.io.espresso import label_to_symbol

from aiida_gaprss.io.common import divisions_of, real
from aiida_gaprss.levels import NOT_TOLD, PSEUDOPOTENTIAL, Level, Sampling, sampling_of_mesh

BANNER = re.compile(r"^.*Program PWSCF\s+v\.?\s*(\S+)", re.MULTILINE)

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


def level(text: str, start: dict) -> Level:
    """Return the level of theory of one run.

    :param start: what ASE reads in its header.
    """
    version = BANNER.search(text)
    cutoff, density = (first_number(rf"{name} cutoff\s+=\s+(\S+)", text) for name in ("kinetic-energy", "charge density"))
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
        elements={PSEUDOPOTENTIAL: _pseudopotentials(text), "Hubbard": _hubbard(text), "starting moment": _moments(text)},
        sampling=_sampling(text, start),
        n_kpoints=match[1] if match else "",
    )


def _smearing(text: str) -> str:
    match = re.search(r"number of k points=\s*\d+(.*)", text)
    rest = " ".join(match[1].split()) if match else ""
    if width := re.search(r"(\S.*?) smearing, width \(Ry\)=\s*(\S+)", rest):
        return f"{width[1]} smearing {real(width[2]):g} Ry"
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
    field = f"electric field {real(amplitude[1]):g} Ha a.u." if amplitude else ""
    if not field and not dipole and re.search(r"external electric field|Berry phase electric field", text):
        field = f"electric field {NOT_TOLD}"
    moment = re.findall(r"total magnetization\s+=\s+(\S+) Bohr", text)
    fixed = "the spin up/dw Fermi energies are" in text and moment
    return {
        "charge": f"charge {charge:+g}" if charge is not None and abs(charge) > 1e-3 else "",
        "total moment": f"total moment fixed at {abs(real(moment[-1])):g}" if fixed else "",
        "boundary": ", ".join(boundary),
        "electric field": field,
        "projection": "real-space projection" if "Real space treatment of Beta" in text else "",
    }


def _sampling(text: str, start: dict) -> Sampling | None:
    """Return the sampling of the k-points that are listed: all, if there are fewer than a hundred."""
    match = re.search(r"number of k points=\s*(\d+).*\n\s+cart\. coord\. in units 2pi/alat\s*\n((?:\s+k\(.*\n)+)", text)
    rows = re.findall(r"k\(\s*\d+\) = \(\s*(\S+)\s+(\S+)\s+(\S+)\s*\)", match[2]) if match else []
    points = np.array([[real(word) for word in row] for row in rows])
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
    return f"{name} with EXX-fraction {fraction[1]}" if fraction and real(fraction[1]) else name


def _pseudopotentials(text: str) -> dict[str, str]:
    """Return the pseudopotentials of each element, of which there may be several, with checksums where pw.x prints them."""
    found: dict[str, set[str]] = {}
    pattern = r"PseudoPot\. #\s*\d+ for\s+(\S+)\s+read from file:?\s*\n?\s*(\S+)\s*\n(?:\s*MD5 check sum:\s*(\w+))?"
    for label, path, checksum in re.findall(pattern, text):
        name = PurePath(path).name + (f" (md5 {checksum[:8]})" if checksum else "")
        found.setdefault(label_to_symbol(label), set()).add(name)
    for label in species_of(text):
        found.setdefault(label_to_symbol(label), {NOT_TOLD})
    return {symbol: " and ".join(sorted(names)) for symbol, names in found.items()}


def _moments(text: str) -> dict[str, str]:
    """Return the absolute starting magnetisations of each element."""
    match = re.search(r"Starting magnetic structure\s*\n.*magnetization\s*\n((?:[ \t]+\S+[ \t]+[-.\d]+[ \t]*\n)+)", text)
    found: dict[str, set[float]] = {}
    for label, moment in (line.split() for line in match[1].splitlines() if line.strip()) if match else ():
        found.setdefault(label_to_symbol(label), set()).add(round(abs(real(moment)), 3))
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
            values = [f"{n} {real(v):g}" for n, v in zip(names.split(), row[1:], strict=False) if real(v) or n in ("L", "U")]
            found.setdefault(label_to_symbol(row[0]), set()).add(f"{kind.lower()} {' '.join(values)}")
    kind = re.search(r"Hubbard parameters of (\S+(?: \(.*?\))?)", text)
    for name, label, orbital, value in re.findall(r"^[ \t]*(\w+)\(([A-Za-z]+\d*)-(\w+?)\)\s*=\s*([-.\d]+)", text, re.MULTILINE):
        found.setdefault(label_to_symbol(label), set()).add(f"{orbital} {name} {real(value):g} {kind[1] if kind else ''}".strip())
    for one, two, value in re.findall(r"V\((\S+?-\w+?),?\s*(\S+?-\w+)\)\s*=\s*([-.\d]+)", text):
        found.setdefault(label_to_symbol(re.sub(r"-.*", "", one)), set()).add(f"V {one} {two} {real(value):g}")
    projectors = re.search(r"Hubbard projectors:\s*(\S+)|Atomic wfc used for LDA\+U Projector are (.*\S)", text)
    if not found:
        return {label_to_symbol(label): f"U {NOT_TOLD}" for label in species_of(text)}
    last = f", projectors {projectors[1] or projectors[2]}" if projectors else ""
    return {symbol: " and ".join(sorted(texts)) + last for symbol, texts in found.items()}


def _charge(text: str, atoms: Atoms) -> float | None:
    """Return the charge of the cell: valence electrons of the atoms less the electrons there are."""
    electrons = first_number(r"number of electrons\s+=\s+(\S+)", text)
    valence = {label_to_symbol(label): number for label, number in species_of(text).items()}
    if electrons is None or not set(atoms.get_chemical_symbols()) <= set(valence):
        return None
    return sum(valence[symbol] for symbol in atoms.get_chemical_symbols()) - electrons


def species_of(text: str) -> dict[str, float]:
    """Return the labels of the species with their valence."""
    match = re.search(r"atomic species\s+valence.*\n((?:[ \t]+\S+[ \t]+[\d.]+[ \t]+[\d.]+[ \t]+.*\n)+)", text)
    rows = [line.split() for line in match[1].splitlines() if line.strip()] if match else []
    return {row[0]: float(row[1]) for row in rows}


def first_number(pattern: str, text: str) -> float | None:
    """Return the number in the group of the first match, not-a-number if it is none; None without a match."""
    match = re.search(pattern, text)
    return real(match[1]) if match else None
