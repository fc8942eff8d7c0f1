"""What the readers of VASP's ``vasprun.xml`` and ``OUTCAR`` share: checks of what is printed, and the level of INCAR tags.

ASE reads such files too, but fills up what is missing in a table with zeros or with what stood there before; so the text is read
here. Convergence is not among what these tell, and VASP's own words are no help: 5.4.4 prints "aborting loop because EDIFF is
reached" also where it stopped at NELM. So the electronic steps are counted.

Settings are dictionaries of INCAR tags in capitals, in VASP's words; :func:`level_of_tags` says what stands in them besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
from ase import Atoms, units

from aiida_gaprss.io.common import Output, Wrong, divisions_of, real
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

#: What an OUTCAR is asked for, as it stands after "Startparameter for this run", and before it or in it.
PRINTED_TAGS = (
    *("NELM", "ISIF", "ISPIN", "LNONCOLLINEAR", "LSORBIT", "ENCUT", "ISMEAR", "SIGMA", "PREC", "LREAL", "LASPH", "GGA"),
    *("METAGGA", "LHFCALC", "AEXX", "HFSCREEN", "LUSE_VDW", "LDAU", "NELECT", "NKPTS", "PSTRESS", "NUPDOWN", "LDIPOL", "IDIPOL"),
    *("LMONO", "EFIELD", "GGA_COMPAT", "I_CONSTRAINED_M", "LSOL"),
)
EARLY_TAGS = ("IVDW", "LVDW", "ML_LMLFF", "LSOL", "ADDGRID", "PRECFOCK")

#: Tags that are compared where both of two files tell them, besides those of dispersion corrections.
_ALSO = ("ADDGRID", "PRECFOCK", "AGGAX", "AGGAC", "ALDAC", "Zab_VDW", "PARAM1", "PARAM2", "SAXIS")
_DISPERSION_TAG = re.compile(r"VDW_\w+|LVDW_\w+|LVDWSCS|LSCSGRAD", re.IGNORECASE)

#: All tags that a level of theory is made of.
TAGS = {*PRINTED_TAGS, *EARLY_TAGS, *map(str.upper, _ALSO)}

KBAR = 0.1 * units.GPa

#: How far what is printed twice may be apart: eV, and of the product of direct and reciprocal vectors.
_ENERGY_TOLERANCE, _RECIPROCAL_TOLERANCE = 2e-5, 1e-4


def finish(output: Output, finished: bool) -> None:
    """Note what is to be said of all steps.

    :param finished: whether the file tells that the run came to its end.
    """
    if output.steps:
        if not finished:
            output.note("the run was cut off: it has no end")
        output.note_fixed_basis()
        output.note_missing()


def sampling_of_points(points: list[list[str]], atoms: Atoms, weights: float = 0.0) -> Sampling | None:
    """Return the sampling of a list of irreducible k-points.

    :param weights: their sum as VASP's search for them prints it. For a mesh that has not the symmetry of the lattice, VASP
        adds its images, which lie between its points; then the sum is a multiple of their number.
    """
    try:
        values = numbers(points, 3, "k-points")
    except Wrong:
        return None
    lengths = np.linalg.norm(np.linalg.inv(atoms.cell.array).T, axis=1)
    divisions = divisions_of(values, lengths) if len(values) else None
    if divisions and weights and round(weights) != np.prod(divisions):
        halves = [n // 2 if n % 2 == 0 else n for n in divisions]
        divisions = halves if round(weights) % np.prod(halves) == 0 else None
    return sampling_of_mesh(atoms.cell.array, divisions, atoms.get_scaled_positions()) if divisions else None


def numbers(rows: Iterable[Iterable[str]], n_columns: int, what: str) -> np.ndarray:
    """Return rows of words as numbers, shape (n, n_columns).

    :raises Wrong: for a row of another length or with a word that is no number.
    """
    out = []
    for number, row in enumerate(rows, start=1):
        words = list(row)
        values = [real(word) for word in words]
        if len(values) != n_columns or not np.isfinite(values).all():
            raise Wrong(f"row {number} of its {what} cannot be read: {shown(' '.join(words))}")
        out.append(values)
    return np.array(out).reshape(-1, n_columns)


def apart(fractions: np.ndarray) -> float:
    """Return the largest difference of fractional positions, up to whole lattice vectors."""
    return float(np.abs(fractions - np.rint(fractions)).max())


def check_reciprocal(cell: np.ndarray, reciprocal: np.ndarray) -> None:
    """Compare cell (Å) and reciprocal cell (1/Å), both with vectors as rows, shape (3, 3).

    :raises Wrong: if they do not belong together.
    """
    if np.abs(cell @ reciprocal.T - np.eye(3)).max() > _RECIPROCAL_TOLERANCE:
        raise Wrong("its cell and reciprocal cell do not belong together")


def check_energy(energy: float, of_scf: str | None, settings: dict[str, str], more: float = 0.0) -> None:
    """Compare the energy (eV) of a step with that of its last electronic step; a dispersion correction may be in one only.

    :param of_scf: the latter as it is printed, if it is.
    :param more: eV that they may differ by besides.
    :raises Wrong: if they are not the same, or the energy of the step is no number.
    """
    if not np.isfinite(energy):
        raise Wrong("its free energy cannot be read")
    plain = not _dispersion(settings) and not _true(settings, "LSOL")
    if plain and of_scf is not None and not abs(real(of_scf.strip()) - energy) < _ENERGY_TOLERANCE + more:
        raise Wrong(f"its free energy {energy:.8f} eV is not that of its last electronic step, {shown(of_scf.strip())} eV")


def whole_stress(settings: dict[str, str]) -> bool:
    """Tell whether the stress has all components: with ISIF 0 there is none, with 1 its trace only."""
    return _integer(settings, "ISIF", 2) >= 2


def pseudopotentials_by_element(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the pseudopotentials of each element, of which there may be several."""
    found: dict[str, list[str]] = {}
    for symbol, name in pairs:
        found.setdefault(symbol, []).append(" ".join(name.split()) or NOT_TOLD)
    return {symbol: " and ".join(sorted(set(names))) for symbol, names in found.items()}


def why_unconverged(done: int, settings: dict[str, str]) -> str | None:
    """Return why the SCF of a step of so many electronic steps counts as not converged, None if it is."""
    allowed = _integer(settings, "NELM", 60)
    return f"the SCF is not converged: it stopped at NELM = {allowed} electronic steps" if done >= allowed else None


def why_unreadable(settings: dict[str, str]) -> str | None:
    """Return why no step of a run with these settings can be used, or None."""
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


def level_of_tags(settings: dict[str, str], pseudopotentials: dict[str, str], sampling: Sampling | None) -> Level:
    """Return the level of theory that INCAR tags, in VASP's words, and pseudopotentials make.

    :param settings: also ``VERSION``, ``SPECIES`` (elements in the order of the POTCAR) and ``ATOMS`` (elements of the atoms).
    """
    match = re.match(r"\d+\.\d+(?:\.\d+)?", settings.get("VERSION", ""))
    values = {
        "functional": _functional(settings, pseudopotentials),
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
        elements={PSEUDOPOTENTIAL: {**species, **pseudopotentials}, "Hubbard": _hubbard(settings)},
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
        electrons = real(settings["VALENCE"]) - real(settings["NELECT"])
        charge = f"charge {electrons:+g}" if not abs(electrons) < 1e-3 else ""
    moment = real(settings.get("NUPDOWN", "-1"))
    fixed = _spin(settings) != "not spin-polarised" and moment >= 0
    dipole = _true(settings, "LDIPOL") or _integer(settings, "IDIPOL", 0) > 0
    field = real(settings.get("EFIELD", "0"))
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
    orbitals, us, js = ([real(word) for word in settings.get(tag, "").split()] for tag in ("LDAUL", "LDAUU", "LDAUJ"))
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
            sizes = {round(abs(real(m)), 2) for s, m in zip(symbols, moments, strict=True) if s == symbol}
            out[f"starting moments of {symbol}"] = " or ".join(f"{size:g}" for size in sorted(sizes))
    return out


def _plain(value: str) -> str:
    """Return numbers and truth values in one form, whichever file they are from."""
    if value.strip(".").upper() in ("T", "TRUE", "F", "FALSE"):
        return value.strip(".").upper()[0]
    return " ".join(f"{real(word):.5g}" if np.isfinite(real(word)) else word for word in value.split())


def _functional(settings: dict[str, str], pseudopotentials: dict[str, str]) -> str:
    gga = settings.get("GGA", "--")
    if gga in ("", "--"):  # that of the pseudopotentials
        kinds = {title.split()[0] for title in pseudopotentials.values()}
        name = {"PAW_PBE": "PBE", "PAW_GGA": "PW91", "PAW": "LDA"}.get(kinds.pop(), NOT_TOLD) if len(kinds) == 1 else NOT_TOLD
    else:
        name = _GGA.get(gga.upper(), f"GGA {gga}")
    meta = settings.get("METAGGA", "F")
    if meta.upper() not in ("", "F", "--", "NONE"):
        name = meta.upper()
    if _true(settings, "LHFCALC"):
        name = f"hybrid of {name} with AEXX {_number(settings, 'AEXX')} and HFSCREEN {_number(settings, 'HFSCREEN')}"
    return name
