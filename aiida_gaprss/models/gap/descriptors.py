"""Descriptor lines of gap_fit: kind and hyperparameters; refused where QUIP could take them otherwise, or would open a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ase.data import chemical_symbols

from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.gap.xmltext import LAST_ELEMENT, read_number, read_whole
from aiida_gaprss.outside import shown

#: Descriptors that write or open files when they are set up, or may.
_WITH_FILES = {"molecule_lo_d"}

#: Bounds of the hyperparameters that are numbers: least, most, whole.
_BOUNDS: dict[str, tuple[float, float, bool]] = {
    **dict.fromkeys(("cutoff", "rcut_hard", "rcut_soft"), (1e-3, 100.0, False)),
    "cutoff_transition_width": (0.0, 100.0, False),
    **dict.fromkeys(("n_max", "alpha_max", "n_species"), (1, 200, True)),
    "l_max": (0, 100, True),
    **dict.fromkeys(("Z", "Z1", "Z2", "species_Z"), (0, LAST_ELEMENT, True)),
    "n_sparse": (0, 10**7, True),
    "central_index": (0, LAST_ELEMENT, True),
    **dict.fromkeys(("delta", "zeta", "f0", "theta_uniform"), (-1e9, 1e9, False)),
    **dict.fromkeys(("atom_sigma", "atom_sigma_r", "atom_sigma_t"), (0.0, 100.0, False)),
}

_PARAMETER = re.compile(r"([A-Za-z]\w*)=(\{+[^}]*\}+|[^\s{}=]+)|([A-Za-z]\w*)(?=\s|$)")

#: Kinds of descriptor, which QUIP finds anywhere in the line.
_KINDS = {
    *("distance_2b", "angle_3b", "co_angle_3b", "co_distance_2b", "as_distance_2b", "coordination", "cosnx", "trihis", "behler"),
    *("bispectrum_so4", "bispectrum_so3", "power_so3", "power_so4", "soap", "soap_express", "soap_turbo", "distance_Nb", "alex"),
    *("general_monomer", "general_dimer", "general_trimer", "com_dimer", "water_monomer", "water_dimer", "water_trimer", "rdf"),
    *("molecule_lo_d", "A2_dimer", "AB_dimer", "bond_real_space", "atom_real_space", "AN_monomer", "SOAP_express"),
}


def descriptor_parameters(line: str, where: str) -> dict[str, str]:
    """Return the hyperparameters of a descriptor line by name, as gap_fit names them.

    :raises PotentialError: if it is none that QUIP reads as it is meant, names a file, or a number in it is none.
    """
    here = f"{where}: descriptor {shown(line, 60)!r}"
    if not line:
        raise PotentialError(f"{where}: a <descriptor> is empty, expected one such as 'distance_2b cutoff=5.0 Z1=29 Z2=29'")
    kind, _, rest = line.partition(" ")
    if not re.fullmatch(r"[A-Za-z]\w*", kind) or not all(" " <= c <= "~" for c in line):
        raise PotentialError(f"{here}: expected the kind of descriptor and then name=value, in plain letters")
    if kind in _WITH_FILES:
        raise PotentialError(f"{here}: {kind} writes files wherever it is used, and is not read here")
    parameters: dict[str, str] = {}
    for key, value in _pairs(rest, here):
        if "file" in key.lower():
            raise PotentialError(f"{here}: {key} would open the file {shown(value)!r}; expected a descriptor that opens none")
        if parameters.get(key, value) != value:
            raise PotentialError(f"{here}: has {key} twice, {parameters[key]} and {value}")
        parameters[key] = value
    for key, (low, high, whole) in _BOUNDS.items():
        for word in parameters.get(key, "").replace("{", " ").replace("}", " ").split():
            if whole:
                read_whole(word, f"{here}: {key}", int(low), int(high))
            else:
                read_number(word, f"{here}: {key}", low, high)
    return {key: value.strip("{} ") for key, value in parameters.items()}


def _pairs(text: str, where: str) -> Iterator[tuple[str, str]]:
    """Return names and values; a name without value is a switch."""
    at = 0
    text = text.strip()
    while at < len(text):
        match = _PARAMETER.match(text, at)
        if match is None:
            raise PotentialError(f"{where}: {shown(text[at : at + 30])!r} is not name=value")
        if match[3] is not None and match[3] in _KINDS:
            raise PotentialError(f"{where}: names a second kind of descriptor, {match[3]}")
        yield (match[1], match[2]) if match[3] is None else (match[3], "T")
        at = match.end()
        while at < len(text) and text[at] == " ":
            at += 1


def species_of(parameters: Mapping[str, str]) -> set[str]:
    """Return the elements that a descriptor names."""
    numbers = [int(z) for key in ("Z", "Z1", "Z2", "species_Z") for z in parameters.get(key, "").split()]
    return {chemical_symbols[z] for z in numbers if z > 0}
