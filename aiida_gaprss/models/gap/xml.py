"""The xml file of a GAP, read as that of a stranger.

QUIP reads it in Fortran. It finds elements by their names and labels wherever they stand; it believes every number (a sparse
point with an index beyond their number is written to memory that belongs to others); what a cut file lacks is what memory
happened to hold; it opens whatever file is named, and runs programs if told so. What it could take otherwise than it is meant is
therefore refused here, with the place, the value, and what was expected. Nothing is opened here: for files that the xml names
there is :func:`aiida_gaprss.models.gap.files.check_sparse`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ase.data import chemical_symbols

from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.gap.coordinates import GapParams, gap_params
from aiida_gaprss.models.gap.files import SparseFile, refuse_stand_ins
from aiida_gaprss.models.gap.terms import BASELINES, Part, chosen, resolved, terms_of
from aiida_gaprss.outside import shown

#: gap_fit always writes an energy of so many elements, whatever it was given.
ALL_ELEMENTS = 50

#: Bounds of a file that was not made to fill memory: the largest published GAPs have some 10,000 sparse points.
MOST_ELEMENTS, MOST_DEPTH, MOST_ATTRIBUTE = 200_000, 12, 1000

#: Where QUIP's elements may stand. It would find them anywhere.
_PARENTS = {
    "GAP_data": {"GAP_params"},
    "e0": {"GAP_data"},
    "gpSparse": {"GAP_params"},
    "gpCoordinates": {"gpSparse"},
    "theta": {"gpCoordinates"},
    "descriptor": {"gpCoordinates"},
    "permutation": {"gpCoordinates"},
    "sparseX": {"gpCoordinates"},
    "sparseX_slice": {"sparseX"},
}
_AT_THE_TOP = {"Potential", "GAP_params", *(f"{kind}_params" for kind in BASELINES)}
_NOT_READ = {"gpFull": "a full Gaussian process, expected a sparse one", "water_monomer_params": "a GAP of water monomers"}


@dataclass(frozen=True)
class Gap:
    """What the xml of a potential tells: attributes of the node, and its sparse files in their order."""

    attributes: dict[str, Any]
    sparse: tuple[SparseFile, ...]


def read_gap_xml(content: bytes, where: str) -> Gap:
    """Return what the xml of a GAP tells of itself.

    :param where: how to name the file in messages.
    :raises PotentialError: if it is no GAP, or not as QUIP needs it, or if QUIP could take it otherwise than it is taken here.
    """
    root = _tree(content, where)
    gaps = [gap_params(element, where) for element in root.iter("GAP_params")]
    if not gaps:
        raise PotentialError(f"{where}: holds no GAP (no <GAP_params>)")
    _no_label_twice(root, where)
    label, init_args, text = chosen(root, gaps, where)
    terms = terms_of(text, root, where)
    parts, used = resolved(terms, root, gaps, where)
    unused = [gap.label for gap in gaps if gap not in used]
    if unused:
        raise PotentialError(
            f"{where}: holds {len(gaps)} GAPs, of which its potential does not use {', '.join(map(repr, unused))}; "
            "expected one potential in a file: keep the parts that belong to it"
        )
    sparse = [file for gap in gaps for file in gap.sparse]
    _names_apart(sparse, where)
    e0 = _sum_of_e0(parts)
    return Gap(
        {
            "label": gaps[0].label if len(parts) == 1 else label,
            "init_args": init_args,
            "gap_version": max(gap.version for gap in gaps),
            "descriptors": [line for gap in gaps for line in gap.descriptors],
            "n_sparse": [n for gap in gaps for n in gap.n_sparse],
            "cutoff": max(part.cutoff for part in parts),
            "e0": e0,
            "elements": _elements(parts, gaps, e0, where),
            "command_line": "\n".join(gap.command_line for gap in gaps if gap.command_line),
            "embedded": next((gap.embedded for gap in gaps if gap.embedded), None),
            **({"terms": [part.words for part in parts]} if len(parts) > 1 else {}),
        },
        tuple(sparse),
    )


def _no_label_twice(root: Element, where: str) -> None:
    """Refuse two elements of one kind and label: QUIP takes the first that it finds."""
    named = Counter((e.tag, e.get("label", "")) for e in root.iter() if e.tag in _AT_THE_TOP | {"gpSparse", "gpCoordinates"})
    for (tag, label), times in named.items():
        if times > 1:
            raise PotentialError(f"{where}: holds {times} <{tag}> with the label {shown(label)!r}, expected different labels")


def _sum_of_e0(parts: list[Part]) -> dict[str, float]:
    """Return the energies of isolated atoms by element."""
    numbers = {z for part in parts for z in part.e0}
    return {chemical_symbols[z]: float(sum(part.e0.get(z, 0.0) for part in parts)) for z in sorted(numbers)}


def _elements(parts: list[Part], gaps: list[GapParams], e0: dict[str, float], where: str) -> list[str]:
    """Return the elements that the file tells: those of e0 if they are few, else of descriptors, else of the training set."""
    species = {s for gap in gaps for s in gap.species}
    found = set(e0) if 0 < len(e0) < ALL_ELEMENTS else species
    if not found:
        found = {s for gap in gaps if gap.embedded for s in gap.embedded["elements"]}
    known = [part.elements for part in parts if part.elements is not None]
    shared = found.intersection(*known) if found else set()
    if found and not shared:
        raise PotentialError(f"{where}: no element is known to all terms of the sum")
    return sorted(shared)


def _names_apart(sparse: list[SparseFile], where: str) -> None:
    """Refuse two sparse files that one file system cannot tell apart, and two meanings of one file."""
    names: dict[str, SparseFile] = {}
    for file in sparse:
        if names.setdefault(file.name.casefold(), file) != file:
            raise PotentialError(f"{where}: two of its sparse-point files have the name {file.name}")


# --- from bytes to a tree ---


class _Reader:
    """Builds the tree of an xml file without document types and namespaces, within bounds, every element where it belongs."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.builder = TreeBuilder()
        self.stack: list[str] = []
        self.elements = 0
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.XmlDeclHandler = self.declaration
        self.parser.StartDoctypeDeclHandler = self.document_type
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.builder.data

    def read(self, content: bytes) -> Element:
        """Return the root element."""
        try:
            self.parser.Parse(content, True)
        except expat.ExpatError as exception:
            raise PotentialError(f"{self.where}: not an xml file: {exception}") from exception
        return self.builder.close()

    def refuse(self, what: str) -> PotentialError:
        """Return the error that names the line."""
        return PotentialError(f"{self.where}: line {self.parser.CurrentLineNumber} {what}")

    def declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        """Refuse encodings that QUIP does not know of."""
        if encoding is not None and encoding.lower() not in ("utf-8", "us-ascii", "ascii"):
            raise self.refuse(f"says that the encoding is {shown(encoding)!r}, expected UTF-8")

    def document_type(self, *_: Any) -> None:
        """Refuse document types: their entities open other files, or fill memory."""
        raise self.refuse("begins a document type (<!DOCTYPE …), expected none: entities are not read")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Open an element."""
        self.elements += 1
        if self.elements > MOST_ELEMENTS or len(self.stack) >= MOST_DEPTH:
            raise self.refuse(f"goes on beyond {MOST_ELEMENTS} elements or {MOST_DEPTH} levels, expected a GAP")
        if name in _NOT_READ:
            raise self.refuse(f"begins {_NOT_READ[name]}")
        parents = {"", self.stack[0]} if name in _AT_THE_TOP and self.stack else _PARENTS.get(name)
        parent = self.stack[-1] if self.stack else ""
        if (parents is not None and parent not in parents) or (name in _AT_THE_TOP and len(self.stack) > 1):
            raise self.refuse(f"has <{name}> within <{shown(parent)}>, where it does not belong")
        if parent in ("gpCoordinates", "sparseX", "descriptor", "theta", "permutation") and name not in _PARENTS:
            raise self.refuse(f"has <{shown(name)}> within <{parent}>, which is not known there")
        for key, value in attributes.items():
            if len(value) > MOST_ATTRIBUTE:
                raise self.refuse(
                    f"has a {shown(key)} of {len(value)} characters in <{shown(name)}>, expected at most {MOST_ATTRIBUTE}"
                )
        self.stack.append(name)
        self.builder.start(name, attributes)

    def end(self, name: str) -> None:
        """Close an element."""
        self.stack.pop()
        self.builder.end(name)


def _tree(content: bytes, where: str) -> Element:
    refuse_stand_ins(content, where)
    if not content.strip():
        raise PotentialError(f"{where}: is empty, expected the xml of a GAP")
    if strange := re.search(b"[\x00\x80-\xff]", content):
        at = strange.start()
        line = content.count(b"\n", 0, at) + 1
        raise PotentialError(
            f"{where}: line {line} has the byte 0x{content[at]:02x}, expected plain letters (ASCII): QUIP dies of others"
        )
    return _Reader(where).read(content)
