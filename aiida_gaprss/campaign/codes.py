"""Codes by their names, for those who give none: those that ``aiida-gaprss setup`` registers."""

from __future__ import annotations

from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.orm import AbstractCode, load_code

from aiida_gaprss.campaign.file import Codes


class CodeError(ValueError):
    """A code that is not in the profile."""


def code_of(what: str, given: AbstractCode | str | None = None) -> AbstractCode:
    """Return a code.

    :param what: what it is for: ``gap_fit``, ``python``, or ``fit``, a program that has to be named.
    :param given: the code, or its name, pk or uuid; default: the one of this machine.
    :raises CodeError: if there is none, or several.
    """
    if isinstance(given, AbstractCode):
        return given
    name = given or getattr(Codes(), what)
    if name is None:
        raise CodeError(f"no code is given for {what}, and there is none that goes without saying")
    try:
        return load_code(name)
    except (NotExistent, MultipleObjectsError, ValueError) as exception:
        raise CodeError(f"{exception}: aiida-gaprss setup registers the codes of this machine") from exception
