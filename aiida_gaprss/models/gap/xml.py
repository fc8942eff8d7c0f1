"""The xml file of a GAP, read as that of a stranger.

QUIP reads it in Fortran. It finds elements by their names and labels wherever they stand; it believes every number (a sparse
point with an index beyond their number is written to memory that belongs to others); what a cut file lacks is what memory
happened to hold; it opens whatever file is named, and runs programs if told so. What it could take otherwise than it is meant is
therefore refused here, with the place, the value, and what was expected. Nothing is opened here: for files that the xml names
there is :func:`check_sparse`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from aiida_gaprss.outside import OutsideError, base_name, shown

#: gap_fit always writes an energy of so many elements, whatever it was given.
ALL_ELEMENTS = 50

#: Largest atomic number that QUIP knows.
LAST_ELEMENT = 118

#: Bounds of a file that was not made to fill memory: the largest published GAPs have some 10,000 sparse points.
MOST_ELEMENTS, MOST_DEPTH, MOST_ATTRIBUTE = 200_000, 12, 1000

#: What a potential may be the sum of besides GAPs: pair and embedding potentials that need no file but the xml.
BASELINES = ("BornMayer", "Glue", "LJ", "Morse", "ZBL")

_ZBL_OPTIONS = ("cutoff", "cutoff_width", "shift_cutoff")

#: A sum of sums is of so many terms, and so deep, at most.
_MOST_TERMS, _MOST_NESTED = 20, 6

#: Labels become words of QUIP, of LAMMPS and of file names.
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,199}")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d{1,4})?")
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_LFS = b"version https://git-lfs.github.com/spec/"

#: Names of the files that an export adds to those of the potential.
LAMMPS, CARD, CARD_JSON = EXPORTED = ("lammps.txt", "card.md", "card.json")

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


class PotentialError(ValueError):
    """A potential that cannot be read or used."""


@dataclass(frozen=True)
class SparseFile:
    """A file of sparse points as the xml announces it: numbers in it, md5 sum (none in old files)."""

    name: str
    numbers: int
    md5: str | None


@dataclass(frozen=True)
class Gap:
    """What the xml of a potential tells: attributes of the node, and its sparse files in their order."""

    attributes: dict[str, Any]
    sparse: tuple[SparseFile, ...]


@dataclass(frozen=True)
class _Part:
    """One term of the energy: cutoff in Å, the elements it knows, energies of isolated atoms by atomic number."""

    words: str
    cutoff: float
    elements: set[str] | None
    e0: dict[int, float]


@dataclass(frozen=True)
class _GapParams:
    """One ``<GAP_params>``."""

    label: str
    version: int
    e0: dict[int, float]
    descriptors: list[str]
    n_sparse: list[int]
    cutoff: float
    species: set[str]
    sparse: list[SparseFile]
    command_line: str
    embedded: dict[str, Any] | None


def read_gap_xml(content: bytes, where: str) -> Gap:
    """Return what the xml of a GAP tells of itself.

    :param where: how to name the file in messages.
    :raises PotentialError: if it is no GAP, or not as QUIP needs it, or if QUIP could take it otherwise than it is taken here.
    """
    root = _tree(content, where)
    gaps = [_gap_params(element, where) for element in root.iter("GAP_params")]
    if not gaps:
        raise PotentialError(f"{where}: holds no GAP (no <GAP_params>)")
    _no_label_twice(root, where)
    label, init_args, text = _chosen(root, gaps, where)
    terms = _terms(text, root, where)
    parts, used = _resolved(terms, root, gaps, where)
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


def check_sparse(file: SparseFile, content: bytes, where: str) -> None:
    """Compare a file of sparse points with what the xml tells of it.

    :raises PotentialError: for another md5 sum, another number of numbers, or what is no number.
    """
    here = f"{where}: its sparse-point file {file.name}"
    refuse_stand_ins(content, here)
    if file.md5 and hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        if hashlib.md5(content.replace(b"\r\n", b"\n"), usedforsecurity=False).hexdigest() == file.md5:
            raise PotentialError(
                f"{here} has line ends of Windows, expected those that gap_fit wrote: something on its way changed them; "
                "copy it again as it is, or undo it with dos2unix"
            )
        raise PotentialError(f"{here} has another md5 sum than the xml says ({file.md5}): it is another file, or damaged")
    _check_numbers(content, file.numbers, here)


def refuse_stand_ins(content: bytes, where: str) -> None:
    """Refuse what stands in the place of a file.

    :raises PotentialError: for the pointer that Git LFS leaves, naming it.
    """
    if content.startswith(_LFS):
        raise PotentialError(
            f"{where} is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull` in the clone it comes from"
        )


def check_name(name: str, where: str) -> None:
    """Refuse names that lead out of the folder, and those of the files that an export adds.

    :raises PotentialError: naming them.
    """
    try:
        base_name(name, where)
    except OutsideError as exception:
        raise PotentialError(str(exception)) from exception
    if name.casefold() in EXPORTED:
        raise PotentialError(f"{where} is {name!r}, which an export writes itself; expected another name")


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


# --- values ---


def _named(element: Element) -> str:
    label = element.get("label")
    return f"<{element.tag}>" if label is None else f"<{element.tag} label={shown(label)!r}>"


def _text(element: Element, key: str, where: str) -> str:
    text = element.get(key)
    if text is None:
        raise PotentialError(f"{where}: {_named(element)} has no {key}")
    return text.strip()


def _number(text: str, where: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a finite number as Fortran and we both read it."""
    value = float(re.sub("[dD]", "e", text)) if _NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value) or not low <= value <= high:
        bounds = "" if math.isinf(low) else f" from {low:g} to {high:g}"
        raise PotentialError(f"{where} is {shown(text.strip())!r}, expected a number{bounds}")
    return value


def _whole(text: str, where: str, low: int, high: int) -> int:
    value = int(text) if _WHOLE.fullmatch(text.strip()) else None
    if value is None or not low <= value <= high:
        raise PotentialError(f"{where} is {shown(text.strip())!r}, expected a whole number from {low} to {high}")
    return value


def _whole_of(element: Element, key: str, where: str, low: int, high: int) -> int:
    return _whole(_text(element, key, where), f"{where}: {key} of {_named(element)}", low, high)


def _number_of(element: Element, key: str, where: str) -> float:
    return _number(_text(element, key, where), f"{where}: {key} of {_named(element)}")


def _is_true(element: Element, key: str, where: str) -> bool:
    """Return a logical as Fortran reads it."""
    text = _text(element, key, where)
    if text.upper().strip(".") not in ("T", "TRUE", "F", "FALSE"):
        raise PotentialError(f"{where}: {key} of {_named(element)} is {shown(text)!r}, expected T or F")
    return text.upper().strip(".").startswith("T")


def _must_be_true(element: Element, key: str, where: str) -> None:
    if not _is_true(element, key, where):
        raise PotentialError(f"{where}: {key} of {_named(element)} is {shown(element.get(key))!r}, expected T")


def _label(element: Element, where: str) -> str:
    """Return the label of an element, which becomes a word of QUIP's and LAMMPS' input; empty if it has none."""
    label = element.get("label", "")
    if label and not _LABEL.fullmatch(label):
        raise PotentialError(
            f"{where}: label of <{element.tag}> is {shown(label)!r}, expected letters, digits and _ . : + - only, at most 200"
        )
    return label


def _one(element: Element, name: str, where: str) -> Element:
    found = element.findall(name)
    if len(found) != 1:
        raise PotentialError(f"{where}: {_named(element)} has {len(found)} <{name}>, expected one")
    return found[0]


def _check_numbers(content: bytes, numbers: int, where: str) -> None:
    """Check that a text is so many finite numbers and nothing else; C and Fortran stop where it is not, and go on with less."""
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


# --- one GAP ---


def _gap_params(element: Element, where: str) -> _GapParams:
    label = _label(element, where)
    version = element.get("gap_version")
    data = _one(element, "GAP_data", where)
    number = 0 if version is None else _whole(version, f"{where}: gap_version", 0, 2**31 - 1)
    e0 = _e0(data, where)
    sparse = _one(element, "gpSparse", where)
    coordinates = [_coordinate(c, where) for c in sparse.findall("gpCoordinates")]
    _labels_belong(label, sparse, where)
    parameters = [found for _, _, found, _ in coordinates]
    species = {s for found in parameters for s in _species(found)}
    lost = sorted(s for s in species if atomic_numbers[s] not in e0)
    if lost:
        raise PotentialError(f"{where}: {_named(element)} has no <e0> of {', '.join(lost)}, which a descriptor names")
    cutoffs = [_number(found[key], where) for found in parameters for key in ("cutoff", "rcut_hard") if key in found]
    return _GapParams(
        label=label,
        version=number,
        e0=e0,
        descriptors=[line for line, _, _, _ in coordinates],
        n_sparse=[n for _, n, _, _ in coordinates],
        cutoff=max(cutoffs, default=0.0),
        species=species,
        sparse=[file for *_, file in coordinates if file is not None],
        command_line=" ".join((element.findtext("command_line") or "").split()),
        embedded=_embedded(element.findtext("XYZ_data") or ""),
    )


def _e0(data: Element, where: str) -> dict[int, float]:
    """Return the energies of isolated atoms by atomic number: one of all elements as an attribute (older files), or one each."""
    energies: dict[int, float] = {}
    for key in ("do_core", "do_pca"):
        if data.get(key) is not None:
            _is_true(data, key, where)
    if data.get("e0") is not None:
        energies = dict.fromkeys(range(1, LAST_ELEMENT + 1), _number_of(data, "e0", where))
    seen: set[int] = set()
    for element in data.findall("e0"):
        z = _whole_of(element, "Z", where, 1, LAST_ELEMENT)
        if z in seen:
            raise PotentialError(f"{where}: <e0> of Z = {z} is there twice")
        seen.add(z)
        energies[z] = _number(_text(element, "value", where), f"{where}: value of <e0> of Z = {z}")
    return energies


def _labels_belong(label: str, sparse: Element, where: str) -> None:
    """Check that QUIP finds, by their labels, the coordinates that are here, and no others."""
    if sparse.get("fitted") is not None:
        _must_be_true(sparse, "fitted", where)
    coordinates = sparse.findall("gpCoordinates")
    if not coordinates:
        raise PotentialError(f"{where}: {_named(sparse)} has no <gpCoordinates>")
    if _whole_of(sparse, "n_coordinate", where, 1, 10_000) != len(coordinates):
        raise PotentialError(
            f"{where}: n_coordinate of {_named(sparse)} is {sparse.get('n_coordinate')}, "
            f"expected {len(coordinates)}, the number of its <gpCoordinates>"
        )
    if _label(sparse, where) != label:
        raise PotentialError(f"{where}: {_named(sparse)} is within the GAP {label!r}, expected the same label")
    for number, coordinate in enumerate(coordinates, start=1):
        if _label(coordinate, where) != f"{label}{number}":
            raise PotentialError(f"{where}: {_named(coordinate)} is number {number}, expected the label '{label}{number}'")


def _coordinate(element: Element, where: str) -> tuple[str, int, dict[str, str], SparseFile | None]:
    """Return descriptor, number of sparse points, hyperparameters and sparse file of one descriptor."""
    name = element.get("sparseX_filename")
    if name is not None:
        check_name(name, f"{where}: sparseX_filename")
    n_sparse = _whole_of(element, "n_sparseX", where, 1, 10**7)
    line = " ".join((_one(element, "descriptor", where).text or "").split())
    parameters = descriptor_parameters(line, where)
    _must_be_true(element, "sparsified", where)
    for key in ("x_size_max", "xPrime_size_max", "sparseX_size_max"):
        if element.get(key) is not None:
            _whole_of(element, key, where, 0, 10**7)
    dimensions = _whole_of(element, "dimensions", where, 1, 10**6)
    for key in ("signal_variance", "signal_mean"):
        _number_of(element, key, where)
    _check_kernel(element, dimensions, where)
    _check_points(element, n_sparse, dimensions, name is not None, where)
    _told_twice(element, parameters, n_sparse, where)
    md5 = (element.get("sparseX_md5sum") or "").strip()
    if md5 and not re.fullmatch("[0-9a-f]{32}", md5):
        raise PotentialError(f"{where}: sparseX_md5sum of {_named(element)} is {shown(md5)!r}, expected 32 digits of an md5 sum")
    file = None if name is None else SparseFile(name, n_sparse * dimensions, md5 or None)
    return line, n_sparse, parameters, file


def _check_kernel(element: Element, dimensions: int, where: str) -> None:
    """Check covariance, length scales and permutations."""
    kind = _whole_of(element, "covariance_type", where, 0, 9)
    if kind not in (1, 2, 4):
        raise PotentialError(
            f"{where}: covariance_type of {_named(element)} is {kind}, expected 1 (ard_se), 2 (dot_product) or 4 (pp)"
        )
    zeta = element.get("zeta") is not None
    if zeta:
        _number_of(element, "zeta", where)
    thetas = [theta.text or "" for theta in element.findall("theta")]
    if len(thetas) + zeta != 1 or (zeta and kind != 2):
        raise PotentialError(
            f"{where}: {_named(element)} has {len(thetas)} <theta>{' and zeta' if zeta else ''}, "
            "expected one <theta>, or zeta of a dot product"
        )
    for text in thetas:
        values = [_number(word, f"{where}: <theta> of {_named(element)}") for word in text.split()]
        if len(values) != (1 if kind == 2 else dimensions):
            raise PotentialError(
                f"{where}: <theta> of {_named(element)} has {len(values)} numbers, expected {1 if kind == 2 else dimensions}"
            )
    number = _whole_of(element, "n_permutations", where, 1, 100_000)
    permutations = element.findall("permutation")
    _check_indices(permutations, number, "permutation", element, where)
    for permutation in permutations:
        words = (permutation.text or "").split()
        length = 1 if kind == 2 else dimensions
        values_of = [_whole(word, f"{where}: <permutation> of {_named(element)}", 1, length) for word in words]
        if sorted(values_of) != list(range(1, length + 1)):
            raise PotentialError(f"{where}: <permutation> of {_named(element)} is none of 1 to {length}")


_KERNELS = {"ard_se": "1", "dot_product": "2", "pp": "4"}


def _told_twice(element: Element, parameters: Mapping[str, str], n_sparse: int, where: str) -> None:
    """Compare hyperparameters with those of the descriptor: gap_fit writes some of them in both places."""
    pairs = [(key, element.get(key), parameters.get(name)) for key, name in _ALSO_THERE.items()]
    pairs += [("<theta>", word, parameters.get("theta_uniform")) for word in (element.findtext("theta") or "").split()]
    pairs.append(("covariance_type", element.get("covariance_type"), _KERNELS.get(parameters.get("covariance_type", ""))))
    for key, here, there in pairs:
        if here is not None and there is not None and not math.isclose(_plain(here, where), _plain(there, where), rel_tol=1e-6):
            raise PotentialError(f"{where}: {key} of {_named(element)} is {here.strip()}, and its descriptor says {there}")
    if "config_type_n_sparse" not in parameters and n_sparse > int(parameters.get("n_sparse") or 0) > 0:
        raise PotentialError(
            f"{where}: n_sparseX of {_named(element)} is {n_sparse}, and its descriptor says at most {parameters['n_sparse']}"
        )


#: Attributes that descriptors tell, too, by the names there.
_ALSO_THERE = {"signal_variance": "delta", "signal_mean": "f0", "zeta": "zeta"}


def _plain(text: str, where: str) -> float:
    return _number(text, f"{where}: a hyperparameter")


def _check_points(element: Element, n_sparse: int, dimensions: int, separate: bool, where: str) -> None:
    """Check weights and cutoffs of the sparse points, and the points themselves if they are in the xml."""
    points = element.findall("sparseX")
    _check_indices(points, n_sparse, "sparseX", element, where)
    for point in points:
        if point.get("sliced") is not None:
            _is_true(point, "sliced", where)
        _number_of(point, "alpha", where)
        _number_of(point, "sparseCutoff", where)
        if not separate:
            _check_inline(point, dimensions, f"{where}: <sparseX i={shown(point.get('i'))!r}> of {_named(element)}")


def _check_indices(elements: list[Element], number: int, name: str, parent: Element, where: str) -> None:
    """Check that elements are numbered 1 to ``number``: QUIP writes each where its number says."""
    found = [_whole_of(element, "i", where, 1, number) for element in elements]
    if len(found) != number or len(set(found)) != number:
        raise PotentialError(
            f"{where}: {_named(parent)} has {len(set(found))} different <{name}>, expected {number}: it is cut or damaged"
        )


def _check_inline(point: Element, dimensions: int, where: str) -> None:
    slices = point.findall("sparseX_slice")
    if not slices:
        _check_numbers((point.text or "").encode(), dimensions, where)
        return
    _must_be_true(point, "sliced", where)
    end = 0
    for piece in slices:
        start, before = _whole_of(piece, "start", where, 1, dimensions), end
        end = _whole_of(piece, "end", where, start, dimensions)
        if start != before + 1:
            raise PotentialError(f"{where}: a slice begins with {start}, expected {before + 1}")
        _check_numbers((piece.text or "").encode(), end - start + 1, where)
    if end != dimensions:
        raise PotentialError(f"{where}: its slices end with {end}, expected {dimensions}")


_PARAMETER = re.compile(r"([A-Za-z]\w*)=(\{+[^}]*\}+|[^\s{}=]+)|([A-Za-z]\w*)(?=\s|$)")


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
                _whole(word, f"{here}: {key}", int(low), int(high))
            else:
                _number(word, f"{here}: {key}", low, high)
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


#: Kinds of descriptor, which QUIP finds anywhere in the line.
_KINDS = {
    *("distance_2b", "angle_3b", "co_angle_3b", "co_distance_2b", "as_distance_2b", "coordination", "cosnx", "trihis", "behler"),
    *("bispectrum_so4", "bispectrum_so3", "power_so3", "power_so4", "soap", "soap_express", "soap_turbo", "distance_Nb", "alex"),
    *("general_monomer", "general_dimer", "general_trimer", "com_dimer", "water_monomer", "water_dimer", "water_trimer", "rdf"),
    *("molecule_lo_d", "A2_dimer", "AB_dimer", "bond_real_space", "atom_real_space", "AN_monomer", "SOAP_express"),
}


def _species(parameters: Mapping[str, str]) -> set[str]:
    """Return the elements that a descriptor names."""
    numbers = [int(z) for key in ("Z", "Z1", "Z2", "species_Z") for z in parameters.get(key, "").split()]
    return {chemical_symbols[z] for z in numbers if z > 0}


def _embedded(text: str) -> dict[str, Any] | None:
    """Describe a training set (extended XYZ) that gap_fit has copied into the xml; None if there is none that can be read."""
    lines = [line for line in text.splitlines() if line.strip()]
    at, frames, atoms = 0, 0, 0
    elements: set[str] = set()
    while at < len(lines):
        count = lines[at].strip()
        if not re.fullmatch(r"[1-9]\d{0,8}", count) or at + 2 + int(count) > len(lines):
            return None
        rows = lines[at + 2 : at + 2 + int(count)]
        column = _species_column(lines[at + 1])
        found = {row.split()[column] if len(row.split()) > column else "" for row in rows}
        if not found <= atomic_numbers.keys():
            return None
        elements |= found
        frames, atoms, at = frames + 1, atoms + len(rows), at + 2 + len(rows)
    return {"frames": frames, "atoms": atoms, "elements": sorted(elements)} if frames else None


def _species_column(comment: str) -> int:
    """Return the column of the species in the rows of a frame."""
    properties = re.search(r'\bProperties="?([^\s"]+)', comment, re.IGNORECASE)
    column = 0
    fields = properties[1].split(":") if properties else []
    for name, width in zip(fields[::3], fields[2::3], strict=False):
        if name == "species":
            break
        column += int(width) if re.fullmatch(r"\d{1,3}", width) else 1
    return column


# --- what the potential is made of ---


@dataclass(frozen=True)
class _Term:
    """A term as QUIP's initialisation string names it."""

    kind: str
    label: str | None
    options: dict[str, str]


def _no_label_twice(root: Element, where: str) -> None:
    """Refuse two elements of one kind and label: QUIP takes the first that it finds."""
    named = Counter((e.tag, e.get("label", "")) for e in root.iter() if e.tag in _AT_THE_TOP | {"gpSparse", "gpCoordinates"})
    for (tag, label), times in named.items():
        if times > 1:
            raise PotentialError(f"{where}: holds {times} <{tag}> with the label {shown(label)!r}, expected different labels")


def _chosen(root: Element, gaps: list[_GapParams], where: str) -> tuple[str, str, str]:
    """Return label, QUIP's initialisation string, and what that says, of the potential in the file."""
    wrappers = {_label(e, where): e for e in root.iter("Potential")}
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
    return label, f"Potential xml_label={label}", _text(wrappers[label], "init_args", where)


def _terms(text: str, root: Element, where: str, depth: int = 0) -> list[_Term]:
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
        terms = [term for _, value in words[1:] for term in _terms(value, root, where, depth + 1)]
        if len(terms) > _MOST_TERMS:
            raise PotentialError(f"{here}: has more than {_MOST_TERMS} terms")
        return terms
    if names in (["Potential", "xml_label"], ["xml_label"]):
        label = words[-1][1]
        found = [e for e in root.iter("Potential") if e.get("label") == label]
        if not found:
            raise PotentialError(f"{here}: there is no <Potential> with the label {shown(label)!r}")
        return _terms(_text(found[0], "init_args", where), root, where, depth + 1)
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


def _resolved(terms: list[_Term], root: Element, gaps: list[_GapParams], where: str) -> tuple[list[_Part], list[_GapParams]]:
    """Return the terms with their parameters, and the GAPs among them."""
    parts, used = [], []
    for term in terms:
        if term.kind == "GAP":
            found = [gap for gap in gaps if term.label in (None, gap.label)]
            if len(found) != 1:
                raise PotentialError(
                    f"{where}: init_args of <Potential> want the GAP {shown(term.label)!r}, and there are {len(found)}"
                )
            used += found
            parts.append(_Part(f"GAP {found[0].label}".strip(), found[0].cutoff, None, found[0].e0))
        elif term.kind == "ZBL":
            parts.append(_zbl(term, where))
        else:
            parts.append(_baseline(term, root, where))
    return parts, used


def _zbl(term: _Term, where: str) -> _Part:
    """Return the screened Coulomb repulsion of all elements, of which all parameters are in the initialisation string."""
    here = f"{where}: init_args of <Potential>, IP ZBL"
    cutoff = _number(term.options.get("cutoff", ""), f"{here}: cutoff", 1e-3, 100.0)
    _number(term.options.get("cutoff_width", "0"), f"{here}: cutoff_width", 0.0, 100.0)
    if term.options.get("shift_cutoff", "F") not in ("T", "F"):
        raise PotentialError(f"{here}: shift_cutoff is {shown(term.options['shift_cutoff'])!r}, expected T or F")
    return _Part(f"ZBL, cutoff {cutoff:g} Å", cutoff, None, {})


def _baseline(term: _Term, root: Element, where: str) -> _Part:
    """Return a pair or embedding potential, whose parameters are in the xml."""
    found = [e for e in root.iter(f"{term.kind}_params") if term.label in (None, e.get("label"))]
    if len(found) != 1:
        raise PotentialError(f"{where}: init_args of <Potential> want one <{term.kind}_params>, and there are {len(found)}")
    (params,) = found
    label = _label(params, where)
    types = _types(params, term.kind, where)
    for element in params.iter():
        for key in element.keys():  # noqa: SIM118  an element is a list
            _check_value(element, key, types, where)
        points = element.findall("point")
        if element.get("num_points") is not None and _whole_of(element, "num_points", where, 2, 10**6) != len(points):
            raise PotentialError(f"{where}: num_points of {_named(element)} is not {len(points)}, the number of its points")
    reach = [float(e.get(key, 0)) for e in params.iter() for key in ("cutoff", "r", "a") if e.get(key)]
    return _Part(f"{term.kind} {label}".strip(), max(reach, default=0.0), {chemical_symbols[z] for z in types.values()}, {})


def _types(params: Element, kind: str, where: str) -> dict[int, int]:
    """Return the atomic numbers of the types of a baseline; QUIP writes to its arrays where these numbers say."""
    n_types = _whole_of(params, "n_types", where, 1, LAST_ELEMENT)
    if kind == "Morse":
        numbers = {_whole_of(e, key, where, 1, LAST_ELEMENT) for e in params.iter("pair") for key in ("atnum_i", "atnum_j")}
        types = dict(enumerate(sorted(numbers), start=1))
    else:
        of = [(e, _whole_of(e, "type", where, 1, n_types)) for e in params.iter("per_type_data")]
        types = {number: _whole_of(e, "atomic_num", where, 1, LAST_ELEMENT) for e, number in of}
    if len(types) != n_types or len(set(types.values())) != n_types:
        raise PotentialError(f"{where}: {_named(params)} has {len(set(types.values()))} elements, expected n_types = {n_types}")
    return types


def _check_value(element: Element, key: str, types: dict[int, int], where: str) -> None:
    """Check one attribute of a baseline."""
    value = element.get(key, "").strip()
    here = f"{where}: {shown(key)} of {_named(element)}"
    if key in ("type1", "type2"):
        _whole(value, here, 1, len(types))
    elif key in ("atnum_i", "atnum_j"):
        if _whole(value, here, 1, LAST_ELEMENT) not in types.values():
            raise PotentialError(f"{here} is {value}, expected one of {', '.join(map(str, sorted(types.values())))}")
    elif key == "cutoff":
        _number(value, here, 0.0, 100.0)
    elif key != "label" and value.upper() not in ("T", "F", "TRUE", "FALSE"):
        _number(value, here)


def _sum_of_e0(parts: list[_Part]) -> dict[str, float]:
    """Return the energies of isolated atoms by element."""
    numbers = {z for part in parts for z in part.e0}
    return {chemical_symbols[z]: float(sum(part.e0.get(z, 0.0) for part in parts)) for z in sorted(numbers)}


def _elements(parts: list[_Part], gaps: list[_GapParams], e0: dict[str, float], where: str) -> list[str]:
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
