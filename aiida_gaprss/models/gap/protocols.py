"""Protocols of fits: hyperparameters of papers, and defaults that follow from the elements."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase.data import atomic_numbers, covalent_radii

from aiida_gaprss.settings.protocols import Protocols, merged

PROTOCOLS = Protocols(Path(__file__).parent / "protocol_files")

#: A length in bonds.
_BONDS = re.compile(r"(\d+(?:\.\d+)?) b")

#: Mappings of which a part would make no sense with the rest of another.
_REPLACED = ("config_type_sigma", "n_sparse", "e0")


def bond_length(elements: Sequence[str]) -> float:
    """Return twice the largest covalent radius (Å; Cordero et al. 2008, as in ASE) among the elements."""
    return 2.0 * max(float(covalent_radii[atomic_numbers[s]]) for s in elements)


def expand(settings: dict[str, Any], elements: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a fit with those of the protocol that they name, and lengths in bonds as numbers.

    ``{"protocol": "zuo2020_Si", "sparse_jitter": 1e-9}`` becomes all settings of that protocol with another jitter. A length may
    be given as ``"2.2 b"``, in bonds of twice the largest covalent radius of the elements; it is rounded to 0.1 Å.

    :raises ValueError: if there is no protocol of that name.
    """
    changes = dict(settings)
    name = changes.pop("protocol", None)
    complete = merged(PROTOCOLS.load(str(name)), changes, _REPLACED) if name is not None else changes
    return dict(_in_angstrom(complete, bond_length(elements)) if elements else complete)


def _in_angstrom(value: Any, bond: float) -> Any:
    if isinstance(value, dict):
        return {key: _in_angstrom(item, bond) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_angstrom(item, bond) for item in value]
    match = _BONDS.fullmatch(value) if isinstance(value, str) else None
    return round(float(match[1]) * bond, 1) if match else value
