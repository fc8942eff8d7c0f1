"""Families by their names, and settings of fits of any of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, TypeAlias, cast

from ase.data import atomic_numbers, covalent_radii
from pydantic import BeforeValidator, SerializeAsAny
from pydantic_core import PydanticCustomError

from aiida_gaprss.models.base import BaseFit, Family
from aiida_gaprss.settings.model import NO_MAPPING
from aiida_gaprss.settings.plugins import FAMILIES, KindError, kind_of, kinds_of, refused, validated
from aiida_gaprss.settings.protocols import merged

#: The family of settings, and of potentials, that name none.
DEFAULT = "gap"

#: A length in bonds.
_BONDS = re.compile(r"(\d+(?:\.\d+)?) b")

#: Mappings of which a part would make no sense with the rest of another.
_REPLACED = ("config_type_sigma", "n_sparse", "e0")


@cache
def family_of(name: str) -> Family:
    """Return a family.

    :raises KindError: if there is none of this name, with those that are installed; or if it cannot be used.
    """
    return cast(Family, kind_of(FAMILIES, name, Family, "family")())


def names() -> list[str]:
    """Return the names of the families that are installed and can be used."""
    return kinds_of(FAMILIES, Family)


def families() -> Iterator[Family]:
    """Yield the families that are installed and can be used."""
    for name in names():
        yield family_of(name)


def family_named(settings: Any) -> str:
    """Return the name of the family of settings, which may have faults."""
    return str(settings.get("family", DEFAULT)) if isinstance(settings, Mapping) else str(getattr(settings, "family", DEFAULT))


def fit_settings(**data: Any) -> BaseFit:
    """Return the settings of a fit as a model, that of their family.

    :raises ValidationError: with all faults.
    """
    try:
        return validated(family_of(family_named(data)).SETTINGS, data)
    except KindError as error:
        raise refused("fit", "family", data.get("family"), error) from error


def _as_model(value: Any) -> Any:
    if isinstance(value, BaseFit):
        return value
    if not isinstance(value, Mapping):
        raise PydanticCustomError(NO_MAPPING, "expected keys and values")
    return fit_settings(**{str(key): item for key, item in value.items()})


#: Settings of a fit of any family, as a part of other settings.
FitSettings: TypeAlias = Annotated[SerializeAsAny[BaseFit], BeforeValidator(_as_model)]


def bond_length(elements: Sequence[str]) -> float:
    """Return twice the largest covalent radius (Å; Cordero et al. 2008, as in ASE) among the elements."""
    return 2.0 * max(float(covalent_radii[atomic_numbers[s]]) for s in elements)


def expand(settings: Mapping[str, Any], elements: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a fit with those of the protocol that they name, and lengths in bonds as numbers.

    ``{"protocol": "zuo2020_Si", "sparse_jitter": 1e-9}`` becomes all settings of that protocol with another jitter. A length may
    be given as ``"2.2 b"``, in bonds of twice the largest covalent radius of the elements; it is rounded to 0.1 Å.

    :raises ValueError: if the family has no protocol of that name.
    """
    changes = dict(settings)
    name = changes.pop("protocol", None)
    complete = merged(load_protocol(family_named(settings), str(name)), changes, _REPLACED) if name is not None else changes
    return dict(_in_angstrom(complete, bond_length(elements)) if elements else complete)


def fault_of_protocol(family: str, name: Any) -> str | None:
    """Return what is wrong with the name of a protocol of a family, which may not be one, or None."""
    try:
        load_protocol(family, str(name))
    except KindError:
        return None  # told elsewhere
    except ValueError as error:
        return str(error)
    return None


def load_protocol(family: str, name: str) -> dict[str, Any]:
    """Return a protocol of a family as plain data.

    :raises ValueError: if it has none of that name.
    """
    protocols = family_of(family).PROTOCOLS
    if protocols is None:
        raise ValueError(f"the family {family} has no protocols: leave it out")
    return protocols.load(name)


def _in_angstrom(value: Any, bond: float) -> Any:
    if isinstance(value, dict):
        return {key: _in_angstrom(item, bond) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_angstrom(item, bond) for item in value]
    match = _BONDS.fullmatch(value) if isinstance(value, str) else None
    return round(float(match[1]) * bond, 1) if match else value
