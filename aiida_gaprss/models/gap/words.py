"""The descriptors of a GAP in words."""

from __future__ import annotations

import re
from typing import Any

from ase.data import chemical_symbols

_KINDS = {
    "distance_2b": "pair term: distance of two atoms",
    "angle_3b": "triplet term: symmetrised distances of three atoms",
    "soap": "many-body term: smooth overlap of atomic positions (SOAP)",
    "soap_turbo": "many-body term: SOAP in the separable basis of Caro (soap_turbo)",
}
_KERNELS = {"ard_se": "squared exponential", "dot_product": "dot product", "pp": "piecewise polynomial"}

#: Hyperparameters that the text names: key in gap_fit, words, unit.
_NUMBERS = (
    ("cutoff", "cutoff", "Å"),
    ("rcut_hard", "cutoff", "Å"),
    ("cutoff_transition_width", "smoothed over the last", "Å"),
    ("rcut_soft", "smoothed from", "Å"),
    ("n_max", "n_max", ""),
    ("alpha_max", "n_max", ""),
    ("l_max", "l_max", ""),
    ("atom_sigma", "atom σ", "Å"),
    ("atom_sigma_r", "atom σ", "Å"),
    ("theta_uniform", "length scale θ", "Å"),
    ("zeta", "ζ", ""),
    ("delta", "δ", "eV"),
)


def descriptor(line: str, n_sparse: int) -> dict[str, Any]:
    """Return a descriptor of the xml: its kind, its species, its hyperparameters as gap_fit names them, and all that in words."""
    kind = line.split()[0]
    parameters = {key: value.strip("{} ") for key, value in re.findall(r"(\w+)=(\{+[^}]*\}+|\S+)", line)}
    symbols = {key: _symbols(parameters[key]) for key in ("Z", "Z1", "Z2", "species_Z") if key in parameters}
    numbers = []
    for key, name, unit in _NUMBERS:
        if key in parameters:
            numbers.append(" ".join(filter(None, (name, _plain(parameters[key]), unit))))
    kernel = _KERNELS.get(parameters.get("covariance_type", ""), parameters.get("covariance_type"))
    method = parameters.get("sparse_method")
    words = [_KINDS.get(kind, kind), _species_in_words(kind, parameters, symbols), ", ".join(numbers)]
    words += [f"{kernel} kernel" if kernel else "", f"{n_sparse} sparse points{f' ({method})' if method else ''}"]
    return {
        "kind": kind,
        "words": "; ".join(filter(None, words)),
        "species": sorted({s for found in symbols.values() for s in found}),
        "cutoff_A": next((float(parameters[key]) for key in ("cutoff", "rcut_hard") if key in parameters), None),
        "sparse_points": n_sparse,
        "parameters": parameters,
    }


def _symbols(numbers: str) -> list[str]:
    return [chemical_symbols[int(z)] for z in numbers.split() if z.isdigit() and int(z) > 0]


def _species_in_words(kind: str, parameters: dict[str, str], symbols: dict[str, list[str]]) -> str:
    if kind == "distance_2b" and {"Z1", "Z2"} <= set(symbols):
        return "–".join((*symbols["Z1"], *symbols["Z2"]))
    if kind == "angle_3b" and {"Z", "Z1", "Z2"} <= set(symbols):
        return f"{'–'.join((*symbols['Z1'], *symbols['Z'], *symbols['Z2']))} (centre {' '.join(symbols['Z'])})"
    neighbours = symbols.get("species_Z", [])
    centre = symbols.get("Z", [])
    index = parameters.get("central_index", "")
    if kind == "soap_turbo" and index.isdigit() and 0 < int(index) <= len(neighbours):
        centre = [neighbours[int(index) - 1]]
    if centre or neighbours:
        return f"centre {' '.join(centre) or 'any'}, neighbours {' '.join(neighbours) or 'any'}"
    return "all species alike"


def _plain(value: str) -> str:
    """Return one number for several equal ones, as soap_turbo has them for its species."""
    values = value.split()
    return values[0] if len(set(values)) == 1 else value
