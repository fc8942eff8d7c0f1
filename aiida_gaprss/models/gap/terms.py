"""What a potential is the sum of: GAPs and baselines, as QUIP's initialisation string in ``<Potential>`` names them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from ase.data import chemical_symbols

from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.gap.coordinates import GapParams
from aiida_gaprss.models.gap.xmltext import (
    LAST_ELEMENT,
    label_of,
    named,
    read_number,
    read_whole,
    text_of,
    whole_of,
)
from aiida_gaprss.outside import shown

#: What a potential may be the sum of besides GAPs: pair and embedding potentials that need no file but the xml.
BASELINES = ("BornMayer", "Glue", "LJ", "Morse", "ZBL")

_ZBL_OPTIONS = ("cutoff", "cutoff_width", "shift_cutoff")

#: A sum of sums is of so many terms, and so deep, at most.
_MOST_TERMS, _MOST_NESTED = 20, 6


@dataclass(frozen=True)
class Part:
    """One term of the energy: cutoff in Å, the elements it knows, energies of isolated atoms by atomic number."""

    words: str
    cutoff: float
    elements: set[str] | None
    e0: dict[int, float]


@dataclass(frozen=True)
class _Term:
    """A term as QUIP's initialisation string names it."""

    kind: str
    label: str | None
    options: dict[str, str]


def chosen(root: Element, gaps: list[GapParams], where: str) -> tuple[str, str, str]:
    """Return label, QUIP's initialisation string, and what that says, of the potential in the file.

    :raises PotentialError: if there are several, and none that QUIP would choose.
    """
    wrappers = {label_of(e, where): e for e in root.iter("Potential")}
    if not wrappers:
        if len(gaps) > 1:
            raise PotentialError(
                f"{where}: holds {len(gaps)} GAPs and no <Potential> that says whether they are to be added; "
                "expected one GAP, or a <Potential> with init_args='Sum …'"
            )
        plain = f"IP GAP label={gaps[0].label}" if gaps[0].label else "IP GAP"
        return gaps[0].label, plain, plain
    label = root.tag if len(wrappers) > 1 else next(iter(wrappers))
    if label not in wrappers or not label:
        raise PotentialError(
            f"{where}: holds the potentials {', '.join(map(repr, wrappers))}, and none has the name of the first tag, "
            f"{shown(root.tag)!r}, by which QUIP chooses; expected one potential with a label"
        )
    return label, f"Potential xml_label={label}", text_of(wrappers[label], "init_args", where)


def terms_of(text: str, root: Element, where: str, depth: int = 0) -> list[_Term]:
    """Return the terms of QUIP's initialisation string.

    :raises PotentialError: for anything but GAPs, known baselines and their sums: QUIP knows others that run programs.
    """
    here = f"{where}: init_args of <Potential>, {shown(text, 80)!r}"
    if not re.match(r"(?:Sum|IP|Potential|xml_label=\S+)(?:\s|$)", text):
        raise _unknown_terms(here)
    words = _init_words(text, here)
    names = [name for name, _ in words]
    if depth > _MOST_NESTED or len(set(names)) < len(names):
        raise PotentialError(f"{here}: nested too deeply, or a word twice")
    if names == ["Sum", "init_args_pot1", "init_args_pot2"]:
        terms = [term for _, value in words[1:] for term in terms_of(value, root, where, depth + 1)]
        if len(terms) > _MOST_TERMS:
            raise PotentialError(f"{here}: has more than {_MOST_TERMS} terms")
        return terms
    if names in (["Potential", "xml_label"], ["xml_label"]):
        label = words[-1][1]
        found = [e for e in root.iter("Potential") if e.get("label") == label]
        if not found:
            raise PotentialError(f"{here}: there is no <Potential> with the label {shown(label)!r}")
        return terms_of(text_of(found[0], "init_args", where), root, where, depth + 1)
    if len(names) < 2 or names[0] != "IP" or names[1] not in ("GAP", *BASELINES):
        raise _unknown_terms(here)
    options = dict(words[2:])
    strange = set(options) - {"label", *(_ZBL_OPTIONS if names[1] == "ZBL" else ())}
    if strange:
        raise PotentialError(f"{here}: has {', '.join(sorted(map(shown, strange)))}, which is not kept; expected the label only")
    return [_Term(names[1], options.pop("label", None), options)]


def _unknown_terms(here: str) -> PotentialError:
    return PotentialError(
        f"{here}: expected 'IP GAP label=…', or 'Sum init_args_pot1={{…}} init_args_pot2={{…}}' of that and one of "
        f"{', '.join(BASELINES)}; nothing else is known here to be safe and whole"
    )


def _init_words(text: str, where: str) -> list[tuple[str, str]]:
    """Split an initialisation string as QUIP does: words, and name=value or name={several words}."""
    words: list[tuple[str, str, int]] = []
    for match in re.finditer(r"\s*(?:(\w+)(=?)|(\S))", text + " "):
        if match.start() < (words[-1][2] if words else 0):
            continue  # within braces
        if match[3] is not None:
            raise PotentialError(f"{where}: has {shown(match[3])!r} where a word should begin")
        end, value = match.end(), ""
        if match[2]:
            end, value = _value_from(text, match.end(), where)
        words.append((match[1], value, end))
    return [(name, value) for name, value, _ in words]


def _value_from(text: str, at: int, where: str) -> tuple[int, str]:
    """Return the end of a value that begins at ``at``, and the value without its braces."""
    if text[at : at + 1] != "{":
        word = re.match(r"[\w.:+-]+(?=\s|$)", text[at:])
        if word is None:
            raise PotentialError(f"{where}: has a value that is no plain word")
        return at + len(word[0]), word[0]
    depth = 0
    for end in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return end + 1, text[at + 1 : end]
    raise PotentialError(f"{where}: a brace is not closed")


def resolved(terms: list[_Term], root: Element, gaps: list[GapParams], where: str) -> tuple[list[Part], list[GapParams]]:
    """Return the terms with their parameters, and the GAPs among them.

    :raises PotentialError: if the parameters of a term are not there, are there twice, or are out of their bounds.
    """
    parts, used = [], []
    for term in terms:
        if term.kind == "GAP":
            found = [gap for gap in gaps if term.label in (None, gap.label)]
            if len(found) != 1:
                raise PotentialError(
                    f"{where}: init_args of <Potential> want the GAP {shown(term.label)!r}, and there are {len(found)}"
                )
            used += found
            parts.append(Part(f"GAP {found[0].label}".strip(), found[0].cutoff, None, found[0].e0))
        elif term.kind == "ZBL":
            parts.append(_zbl(term, where))
        else:
            parts.append(_baseline(term, root, where))
    return parts, used


def _zbl(term: _Term, where: str) -> Part:
    """Return the screened Coulomb repulsion of all elements, of which all parameters are in the initialisation string."""
    here = f"{where}: init_args of <Potential>, IP ZBL"
    cutoff = read_number(term.options.get("cutoff", ""), f"{here}: cutoff", 1e-3, 100.0)
    read_number(term.options.get("cutoff_width", "0"), f"{here}: cutoff_width", 0.0, 100.0)
    if term.options.get("shift_cutoff", "F") not in ("T", "F"):
        raise PotentialError(f"{here}: shift_cutoff is {shown(term.options['shift_cutoff'])!r}, expected T or F")
    return Part(f"ZBL, cutoff {cutoff:g} Å", cutoff, None, {})


def _baseline(term: _Term, root: Element, where: str) -> Part:
    """Return a pair or embedding potential, whose parameters are in the xml."""
    found = [e for e in root.iter(f"{term.kind}_params") if term.label in (None, e.get("label"))]
    if len(found) != 1:
        raise PotentialError(f"{where}: init_args of <Potential> want one <{term.kind}_params>, and there are {len(found)}")
    (params,) = found
    label = label_of(params, where)
    types = _types(params, term.kind, where)
    for element in params.iter():
        for key in element.keys():  # noqa: SIM118  an element is a list
            _check_value(element, key, types, where)
        points = element.findall("point")
        if element.get("num_points") is not None and whole_of(element, "num_points", where, 2, 10**6) != len(points):
            raise PotentialError(f"{where}: num_points of {named(element)} is not {len(points)}, the number of its points")
    reach = [float(e.get(key, 0)) for e in params.iter() for key in ("cutoff", "r", "a") if e.get(key)]
    return Part(f"{term.kind} {label}".strip(), max(reach, default=0.0), {chemical_symbols[z] for z in types.values()}, {})


def _types(params: Element, kind: str, where: str) -> dict[int, int]:
    """Return the atomic numbers of the types of a baseline; QUIP writes to its arrays where these numbers say."""
    n_types = whole_of(params, "n_types", where, 1, LAST_ELEMENT)
    if kind == "Morse":
        numbers = {whole_of(e, key, where, 1, LAST_ELEMENT) for e in params.iter("pair") for key in ("atnum_i", "atnum_j")}
        types = dict(enumerate(sorted(numbers), start=1))
    else:
        of = [(e, whole_of(e, "type", where, 1, n_types)) for e in params.iter("per_type_data")]
        types = {number: whole_of(e, "atomic_num", where, 1, LAST_ELEMENT) for e, number in of}
    if len(types) != n_types or len(set(types.values())) != n_types:
        raise PotentialError(f"{where}: {named(params)} has {len(set(types.values()))} elements, expected n_types = {n_types}")
    return types


def _check_value(element: Element, key: str, types: dict[int, int], where: str) -> None:
    """Check one attribute of a baseline."""
    value = element.get(key, "").strip()
    here = f"{where}: {shown(key)} of {named(element)}"
    if key in ("type1", "type2"):
        read_whole(value, here, 1, len(types))
    elif key in ("atnum_i", "atnum_j"):
        if read_whole(value, here, 1, LAST_ELEMENT) not in types.values():
            raise PotentialError(f"{here} is {value}, expected one of {', '.join(map(str, sorted(types.values())))}")
    elif key == "cutoff":
        read_number(value, here, 0.0, 100.0)
    elif key != "label" and value.upper() not in ("T", "F", "TRUE", "FALSE"):
        read_number(value, here)
