"""What decides the energy of a run of CASTEP: the header of its ``.castep`` file, level of theory, sampling, pseudopotentials."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from aiida_gaprss.levels import NOT_TOLD, PSEUDOPOTENTIAL, Level, Sampling, sampling_of_mesh

BANNER = re.compile(r"^.*\|\s*Welcome to .*CASTEP version\s+([\w.]+)", re.MULTILINE)
#: Numbers with a fraction as CASTEP prints them.
NUMBER = r"[-+]?\d*\.\d+(?:[EeDd][-+]?\d+)?"

_UNITS = {"length": "A", "energy": "eV", "force": "eV/A", "pressure": "GPa"}
_TASKS = {"single point energy", "geometry optimization", "molecular dynamics", "band structure"}
_PAIR_POTENTIAL = re.compile(r"^[ \t]*PP\s*=\s*T|\*\s+PairParams\s+\*", re.MULTILINE)

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


@dataclass(frozen=True)
class Header:
    """What a run prints before its first cell.

    ``run`` is the text of the whole run, ``text`` that of the header, ``body`` the number of the line after it, which is there if
    ``ended``. ``values`` are those of the lines with a colon.
    """

    run: str
    text: str
    body: int
    ended: bool
    values: dict[str, str]

    @property
    def task(self) -> str:
        """What the run does."""
        return self.values.get("type of calculation", "unknown")

    @property
    def n_atoms(self) -> int | None:
        """Number of atoms that the run announces."""
        match = re.search(r"^[ \t]*Total number of ions in cell\s*=\s*(\d+)\s*$", self.run, re.MULTILINE)
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

    def problem(self) -> str | None:
        """Return why the run cannot be used, or None."""
        if not self.ended:
            return "the run ended before it began to compute"
        if self.task not in _TASKS:
            return f"type of calculation is {self.task!r}; read are single points, geometry optimizations, molecular dynamics"
        if self.values.get("path integral MD", "OFF").upper() != "OFF":
            return "path integral molecular dynamics is not read"
        if _PAIR_POTENTIAL.search(self.run):
            return "its energies are those of a pair potential (PP=T), not of DFT"
        if self.n_atoms is None:
            return "it does not say how many atoms there are (Total number of ions in cell)"
        return self._unit_problem() or self._dispersion_problem()

    def _unit_problem(self) -> str | None:
        for name, unit in _UNITS.items():
            found = self.values.get(f"output {name} unit", unit)
            if found != unit:
                return f"its {name} unit is {found}, expected {unit}"
        return None

    def _dispersion_problem(self) -> str | None:
        if self.dispersion is None or self.dispersion in _DISPERSION_WITH_FORCES:
            return None
        return f"dispersion correction {self.dispersion}: it cannot be told whether forces and stress include it"


def header_of(run: str, lines: list[str]) -> Header:
    """Return the header of a run.

    :param lines: of the run.
    """
    values: dict[str, str] = {}
    body = next((number for number, line in enumerate(lines) if line.strip() == "Unit Cell"), None)
    for line in lines[:body]:
        match = re.match(r"^[ \t]*(\S.*\S)\s*:\s+(\S.*?)\s*$", line)
        if match:
            values.setdefault(" ".join(match[1].split()), match[2])
    return Header(run, "\n".join(lines[:body]), len(lines) if body is None else body, body is not None, values)


def level(header: Header, symbols: list[str], atoms: Atoms) -> Level:
    """Return the level of theory of a run.

    :param symbols: elements in its table of atoms.
    :param atoms: of the first step that has any, else empty.
    """
    count = re.search(r"Number of kpoints used\s*=\s*(\d+)", header.run)
    settings = {
        "functional": _functional(header),
        "cutoff": f"cutoff {_quantity(header.values.get('plane wave basis set cut-off', NOT_TOLD))}",
        "smearing": _smearing(header),
        "spin": _spin(header),
        "dispersion": _dispersion(header),
        "finite basis": _finite_basis(header),
        **_rare_settings(header),
    }
    elements = {
        PSEUDOPOTENTIAL: _pseudopotentials(header, symbols),
        "Hubbard": _hubbard(header, symbols),
        "starting moment": _moments(header),
    }
    return Level(
        code="CASTEP",
        version=BANNER.findall(header.run)[0],
        settings={name: value for name, value in settings.items() if value},
        elements=elements,
        also=_grids(header),
        sampling=_sampling(header, atoms),
        n_kpoints=count[1] if count else "",
    )


def _functional(header: Header) -> str:
    if "using functional" in header.values:
        name = header.values["using functional"]
        return _FUNCTIONALS.get(name, name)
    match = re.search(r"using custom XC functional definition:?\s*\n(.*?)\n\s*relativistic", header.text, re.DOTALL)
    return "custom functional " + " ".join(match[1].replace(":", " ").split()) if match else NOT_TOLD


def _smearing(header: Header) -> str:
    if "Treating system as non-metallic" in header.text:
        return "fixed occupancies"
    scheme, width = header.values.get("smearing scheme"), header.values.get("smearing width", "")
    return f"{scheme} smearing {_quantity(width)}" if scheme else NOT_TOLD


def _spin(header: Header) -> str:
    spin = "spin-polarised" if "treating system as spin-polarized" in header.text else "not spin-polarised"
    if header.values.get("spin-orbit coupling", "off") != "off":
        spin += " with spin-orbit coupling"
    vector = "vector" in header.values.get("spin treatment", "")
    return "non-collinear spins" + spin.removeprefix("spin-polarised") if vector else spin


def _dispersion(header: Header) -> str:
    """Return the dispersion correction with everything that the header says of it."""
    if header.dispersion is None:
        return "no dispersion correction"
    more = [f"{key} {value}" for key, value in header.values.items() if "SEDC" in key and key != "SEDC with"]
    return ", ".join([f"dispersion correction {header.dispersion}", *more])


def _finite_basis(header: Header) -> str:
    if not header.finite_basis:
        return "no finite basis correction"
    return f"finite basis correction {header.values['finite basis set correction']}, energies corrected"


def _rare_settings(header: Header) -> dict[str, str]:
    """Return what most runs have none of."""
    values = header.values
    charge = real(values.get("net charge of system", "0.0").split()[0])
    field = re.search(r"Applied Electric Field.*?((?:\s+[-+.\dEe]+){3})", header.run, re.DOTALL)
    dipole = values.get("periodic dipole correction", "NONE")
    developer = re.search(r"\*+ Developer Code \*+\s*\n(.*?)\n\s*\*{20}", header.text, re.DOTALL)
    fixed = _spin(header).startswith("spin") and values.get("number of fixed-spin iterations", "0").startswith("-")
    moment = values.get("net spin of system", NOT_TOLD)
    relativity = values.get("relativistic treatment", "Koelling-Harmon")
    return {
        "charge": f"charge {charge:+g}" if charge and np.isfinite(charge) else "" if charge == 0 else NOT_TOLD,
        "total moment": f"total spin fixed at {_quantity(moment)}" if fixed else "",
        "electric field": f"electric field {' '.join(field[1].split())}" if field else "",
        "boundary": f"dipole correction {dipole}" if dipole.upper() != "NONE" else "",
        "relativistic treatment": f"relativistic treatment {relativity}" if relativity != "Koelling-Harmon" else "",
        "developer code": f"developer code {' '.join(developer[1].split())}" if developer else "",
    }


def _grids(header: Header) -> dict[str, str]:
    names = {"size of standard grid": "standard grid", "pseudopotential representation": "projectors"}
    return {short: _quantity(header.values[name]) for name, short in names.items() if name in header.values}


def _sampling(header: Header, atoms: Atoms) -> Sampling | None:
    mesh = re.search(r"MP grid size for SCF calculation is\s+(\d+)\s+(\d+)\s+(\d+)", header.run)
    if mesh is None or not len(atoms):
        return None
    return sampling_of_mesh(atoms.cell.array, map(int, mesh.groups()), atoms.get_scaled_positions())


def _pseudopotentials(header: Header, symbols: list[str]) -> dict[str, str]:
    """Return the pseudopotentials of each element: strings that generate them, or names of files and the string in them."""
    match = re.search(r"Files used for pseudopotentials:\s*\n(.*?)\n[ \t]*\n", header.run, re.DOTALL)
    report = r"\| Element: (\w+) .*?\n((?:[ \t]*\|.*\n)*?)\s*-+\s*\n\s*\|\s*\"(.*?)\"\s*\|"
    generated = {symbol: string for symbol, _, string in re.findall(report, header.text)}
    found: dict[str, set[str]] = {}
    for line in match[1].splitlines() if match else ():
        label, _, name = line.strip().partition(" ")
        symbol = label.split(":")[0]
        if symbol in atomic_numbers:
            name = name.strip()
            found.setdefault(symbol, set()).add(generated.get(symbol, name) if "|" not in name else name)
    for symbol in symbols:
        found.setdefault(symbol, {NOT_TOLD})
    return {symbol: " and ".join(sorted(names)) for symbol, names in found.items()}


def _hubbard(header: Header, symbols: list[str]) -> dict[str, str]:
    """Return U in eV by orbital of each element, several if its atoms have several."""
    if "hubbard" not in header.run[: len(header.text) + 20000].lower():
        return {}
    table = re.search(r"Hubbard U values are.*?(?:\n[ \t]*\n|\Z)", header.run, re.DOTALL)
    row = re.compile(r"^[ \t]*\|\s*([A-Z][a-z]?)\S*\s+\d+((?:\s+[-+.\d]+){4})\s*\|\s*$", re.MULTILINE)
    rows = row.findall(table[0]) if table else []
    if not rows:
        return {symbol: f"U {NOT_TOLD}" for symbol in symbols}
    found: dict[str, set[str]] = {}
    for symbol, numbers in rows:
        given = zip("spdf", map(float, numbers.split()), strict=True)
        found.setdefault(symbol, set()).add(" ".join(f"{orbital} {u:g} eV" for orbital, u in given if u))
    return {symbol: " or ".join(sorted(texts)) for symbol, texts in found.items() if texts != {""}}


def _moments(header: Header) -> dict[str, str]:
    """Return the absolute starting moments (μB) of each element, where the file has a table of them."""
    rows = re.findall(r"^[ \t]*\|\s+([A-Z][a-z]?)\S*\s+\d+\s+[-.\d]+\s+(-?[.\d]+)\s+\|\s*$", header.run, re.MULTILINE)
    found: dict[str, set[float]] = {}
    for symbol, moment in rows if _spin(header) != "not spin-polarised" else ():
        found.setdefault(symbol, set()).add(round(abs(float(moment)), 2))
    return {symbol: " or ".join(f"{m:g}" for m in sorted(moments)) for symbol, moments in found.items()}


def real(text: str) -> float:
    """Return a number as CASTEP prints it, or not-a-number if it is none, as when it is too long for its field."""
    return float(text.replace("D", "E").replace("d", "e")) if re.fullmatch(NUMBER, text) else float("nan")


def _quantity(text: str) -> str:
    """Return a number with its unit without trailing zeros."""
    number, _, unit = text.partition(" ")
    try:
        return f"{float(number):g} {unit.strip()}".strip()
    except ValueError:
        return text
