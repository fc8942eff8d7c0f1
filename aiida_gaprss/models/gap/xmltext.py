"""What stands in the xml of a GAP: its labels, numbers and logicals, read as Fortran reads them, or refused with their place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.outside import shown

#: Largest atomic number that QUIP knows.
LAST_ELEMENT = 118

#: Labels become words of QUIP, of LAMMPS and of file names.
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,199}")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d{1,4})?")
_WHOLE = re.compile(r"[+-]?\d{1,18}")


def named(element: Element) -> str:
    """Return how messages name an element: by its tag, and its label if it has one."""
    label = element.get("label")
    return f"<{element.tag}>" if label is None else f"<{element.tag} label={shown(label)!r}>"


def text_of(element: Element, key: str, where: str) -> str:
    """Return an attribute without the blanks around it.

    :raises PotentialError: if the element has none of this name.
    """
    text = element.get(key)
    if text is None:
        raise PotentialError(f"{where}: {named(element)} has no {key}")
    return text.strip()


def read_number(text: str, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number, from ``low`` to ``high``, as Fortran and we both read it.

    :raises PotentialError: for anything else.
    """
    value = float(re.sub("[dD]", "e", text)) if _NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value) or not low <= value <= high:
        bounds = "" if math.isinf(low) else f" from {low:g} to {high:g}"
        raise PotentialError(f"{where} is {shown(text.strip())!r}, expected a number{bounds}")
    return value


def read_whole(text: str, where: str, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``.

    :raises PotentialError: for anything else.
    """
    value = int(text) if _WHOLE.fullmatch(text.strip()) else None
    if value is None or not low <= value <= high:
        raise PotentialError(f"{where} is {shown(text.strip())!r}, expected a whole number from {low} to {high}")
    return value


def whole_of(element: Element, key: str, where: str, low: int, high: int) -> int:
    """Return a whole number, from ``low`` to ``high``, of an attribute.

    :raises PotentialError: if the attribute is not there, or is anything else.
    """
    return read_whole(text_of(element, key, where), f"{where}: {key} of {named(element)}", low, high)


def number_of(element: Element, key: str, where: str) -> float:
    """Return the finite number of an attribute.

    :raises PotentialError: if the attribute is not there, or is anything else.
    """
    return read_number(text_of(element, key, where), f"{where}: {key} of {named(element)}")


def is_true(element: Element, key: str, where: str) -> bool:
    """Return a logical as Fortran reads it.

    :raises PotentialError: if the attribute is none, or is not there.
    """
    text = text_of(element, key, where)
    if text.upper().strip(".") not in ("T", "TRUE", "F", "FALSE"):
        raise PotentialError(f"{where}: {key} of {named(element)} is {shown(text)!r}, expected T or F")
    return text.upper().strip(".").startswith("T")


def must_be_true(element: Element, key: str, where: str) -> None:
    """Check that an attribute is a logical that Fortran reads as true.

    :raises PotentialError: if it is not, or is not there.
    """
    if not is_true(element, key, where):
        raise PotentialError(f"{where}: {key} of {named(element)} is {shown(element.get(key))!r}, expected T")


def label_of(element: Element, where: str) -> str:
    """Return the label of an element, which becomes a word of QUIP's and LAMMPS' input; empty if it has none.

    :raises PotentialError: if it is no plain word.
    """
    label = element.get("label", "")
    if label and not _LABEL.fullmatch(label):
        raise PotentialError(
            f"{where}: label of <{element.tag}> is {shown(label)!r}, expected letters, digits and _ . : + - only, at most 200"
        )
    return label


def only_child(element: Element, name: str, where: str) -> Element:
    """Return the only child of this name.

    :raises PotentialError: if there is none, or more than one.
    """
    found = element.findall(name)
    if len(found) != 1:
        raise PotentialError(f"{where}: {named(element)} has {len(found)} <{name}>, expected one")
    return found[0]


def check_numbers(content: bytes, numbers: int, where: str) -> None:
    """Check that a text is so many finite numbers and nothing else; C and Fortran stop where it is not, and go on with less.

    :raises PotentialError: if it is anything else.
    """
    strange = content.translate(None, b"0123456789+-.eE \t\n")
    if strange:
        what = "line ends of Windows" if set(strange) == {13} else repr(shown(strange[:1].decode("latin-1")))
        raise PotentialError(f"{where} has {what}, expected numbers and blanks only")
    found = 0
    for words in _words_of(content):
        found += len(words)
        try:
            finite = np.isfinite(np.array(words, dtype="S").astype(float))
        except ValueError as exception:
            raise PotentialError(f"{where} has what is no number: {exception}") from exception
        if not finite.all():
            raise PotentialError(f"{where} has {words[int(np.argmin(finite))].decode()!r}, expected finite numbers")
    if found != numbers:
        raise PotentialError(
            f"{where} has {found} numbers, expected {numbers} (dimensions times n_sparseX): it is cut or another one"
        )


def _words_of(content: bytes, size: int = 2**20) -> Iterator[list[bytes]]:
    """Return the words of a long text by parts, which take less memory than all."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start + size) + 1 or len(content)
        if words := content[start:end].split():
            yield words
        start = end
