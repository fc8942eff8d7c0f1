"""One ``<GAP_params>`` of the xml: energies of isolated atoms, coordinates with their sparse points, an embedded training set."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from ase.data import atomic_numbers

from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.models.gap.descriptors import descriptor_parameters, species_of
from aiida_gaprss.models.gap.files import SparseFile, check_name
from aiida_gaprss.models.gap.xmltext import (
    LAST_ELEMENT,
    check_numbers,
    is_true,
    label_of,
    must_be_true,
    named,
    number_of,
    only_child,
    read_number,
    read_whole,
    text_of,
    whole_of,
)
from aiida_gaprss.outside import shown

_KERNELS = {"ard_se": "1", "dot_product": "2", "pp": "4"}

#: Attributes that descriptors tell, too, by the names there.
_ALSO_THERE = {"signal_variance": "delta", "signal_mean": "f0", "zeta": "zeta"}


@dataclass(frozen=True)
class GapParams:
    """What one ``<GAP_params>`` tells: cutoff in Å, energies of isolated atoms (eV) by atomic number."""

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


def gap_params(element: Element, where: str) -> GapParams:
    """Return what one GAP tells of itself.

    :raises PotentialError: if anything in it is missing, twice, out of its bounds, or does not belong to the rest.
    """
    label = label_of(element, where)
    version = element.get("gap_version")
    data = only_child(element, "GAP_data", where)
    number = 0 if version is None else read_whole(version, f"{where}: gap_version", 0, 2**31 - 1)
    e0 = _e0(data, where)
    sparse = only_child(element, "gpSparse", where)
    coordinates = [_coordinate(c, where) for c in sparse.findall("gpCoordinates")]
    _labels_belong(label, sparse, where)
    parameters = [found for _, _, found, _ in coordinates]
    species = {s for found in parameters for s in species_of(found)}
    lost = sorted(s for s in species if atomic_numbers[s] not in e0)
    if lost:
        raise PotentialError(f"{where}: {named(element)} has no <e0> of {', '.join(lost)}, which a descriptor names")
    cutoffs = [read_number(found[key], where) for found in parameters for key in ("cutoff", "rcut_hard") if key in found]
    return GapParams(
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
            is_true(data, key, where)
    if data.get("e0") is not None:
        energies = dict.fromkeys(range(1, LAST_ELEMENT + 1), number_of(data, "e0", where))
    seen: set[int] = set()
    for element in data.findall("e0"):
        z = whole_of(element, "Z", where, 1, LAST_ELEMENT)
        if z in seen:
            raise PotentialError(f"{where}: <e0> of Z = {z} is there twice")
        seen.add(z)
        energies[z] = read_number(text_of(element, "value", where), f"{where}: value of <e0> of Z = {z}")
    return energies


def _labels_belong(label: str, sparse: Element, where: str) -> None:
    """Check that QUIP finds, by their labels, the coordinates that are here, and no others."""
    if sparse.get("fitted") is not None:
        must_be_true(sparse, "fitted", where)
    coordinates = sparse.findall("gpCoordinates")
    if not coordinates:
        raise PotentialError(f"{where}: {named(sparse)} has no <gpCoordinates>")
    if whole_of(sparse, "n_coordinate", where, 1, 10_000) != len(coordinates):
        raise PotentialError(
            f"{where}: n_coordinate of {named(sparse)} is {sparse.get('n_coordinate')}, "
            f"expected {len(coordinates)}, the number of its <gpCoordinates>"
        )
    if label_of(sparse, where) != label:
        raise PotentialError(f"{where}: {named(sparse)} is within the GAP {label!r}, expected the same label")
    for number, coordinate in enumerate(coordinates, start=1):
        if label_of(coordinate, where) != f"{label}{number}":
            raise PotentialError(f"{where}: {named(coordinate)} is number {number}, expected the label '{label}{number}'")


def _coordinate(element: Element, where: str) -> tuple[str, int, dict[str, str], SparseFile | None]:
    """Return descriptor, number of sparse points, hyperparameters and sparse file of one descriptor."""
    name = element.get("sparseX_filename")
    if name is not None:
        check_name(name, f"{where}: sparseX_filename")
    n_sparse = whole_of(element, "n_sparseX", where, 1, 10**7)
    line = " ".join((only_child(element, "descriptor", where).text or "").split())
    parameters = descriptor_parameters(line, where)
    must_be_true(element, "sparsified", where)
    for key in ("x_size_max", "xPrime_size_max", "sparseX_size_max"):
        if element.get(key) is not None:
            whole_of(element, key, where, 0, 10**7)
    dimensions = whole_of(element, "dimensions", where, 1, 10**6)
    for key in ("signal_variance", "signal_mean"):
        number_of(element, key, where)
    _check_kernel(element, dimensions, where)
    _check_points(element, n_sparse, dimensions, name is not None, where)
    _told_twice(element, parameters, n_sparse, where)
    md5 = (element.get("sparseX_md5sum") or "").strip()
    if md5 and not re.fullmatch("[0-9a-f]{32}", md5):
        raise PotentialError(f"{where}: sparseX_md5sum of {named(element)} is {shown(md5)!r}, expected 32 digits of an md5 sum")
    file = None if name is None else SparseFile(name, n_sparse * dimensions, md5 or None)
    return line, n_sparse, parameters, file


def _check_kernel(element: Element, dimensions: int, where: str) -> None:
    """Check covariance, length scales and permutations."""
    kind = whole_of(element, "covariance_type", where, 0, 9)
    if kind not in (1, 2, 4):
        raise PotentialError(
            f"{where}: covariance_type of {named(element)} is {kind}, expected 1 (ard_se), 2 (dot_product) or 4 (pp)"
        )
    zeta = element.get("zeta") is not None
    if zeta:
        number_of(element, "zeta", where)
    thetas = [theta.text or "" for theta in element.findall("theta")]
    if len(thetas) + zeta != 1 or (zeta and kind != 2):
        raise PotentialError(
            f"{where}: {named(element)} has {len(thetas)} <theta>{' and zeta' if zeta else ''}, "
            "expected one <theta>, or zeta of a dot product"
        )
    for text in thetas:
        values = [read_number(word, f"{where}: <theta> of {named(element)}") for word in text.split()]
        if len(values) != (1 if kind == 2 else dimensions):
            raise PotentialError(
                f"{where}: <theta> of {named(element)} has {len(values)} numbers, expected {1 if kind == 2 else dimensions}"
            )
    number = whole_of(element, "n_permutations", where, 1, 100_000)
    permutations = element.findall("permutation")
    _check_indices(permutations, number, "permutation", element, where)
    for permutation in permutations:
        words = (permutation.text or "").split()
        length = 1 if kind == 2 else dimensions
        values_of = [read_whole(word, f"{where}: <permutation> of {named(element)}", 1, length) for word in words]
        if sorted(values_of) != list(range(1, length + 1)):
            raise PotentialError(f"{where}: <permutation> of {named(element)} is none of 1 to {length}")


def _told_twice(element: Element, parameters: Mapping[str, str], n_sparse: int, where: str) -> None:
    """Compare hyperparameters with those of the descriptor: gap_fit writes some of them in both places."""
    pairs = [(key, element.get(key), parameters.get(name)) for key, name in _ALSO_THERE.items()]
    pairs += [("<theta>", word, parameters.get("theta_uniform")) for word in (element.findtext("theta") or "").split()]
    pairs.append(("covariance_type", element.get("covariance_type"), _KERNELS.get(parameters.get("covariance_type", ""))))
    for key, here, there in pairs:
        if here is not None and there is not None and not math.isclose(_plain(here, where), _plain(there, where), rel_tol=1e-6):
            raise PotentialError(f"{where}: {key} of {named(element)} is {here.strip()}, and its descriptor says {there}")
    if "config_type_n_sparse" not in parameters and n_sparse > int(parameters.get("n_sparse") or 0) > 0:
        raise PotentialError(
            f"{where}: n_sparseX of {named(element)} is {n_sparse}, and its descriptor says at most {parameters['n_sparse']}"
        )


def _plain(text: str, where: str) -> float:
    return read_number(text, f"{where}: a hyperparameter")


def _check_points(element: Element, n_sparse: int, dimensions: int, separate: bool, where: str) -> None:
    """Check weights and cutoffs of the sparse points, and the points themselves if they are in the xml."""
    points = element.findall("sparseX")
    _check_indices(points, n_sparse, "sparseX", element, where)
    for point in points:
        if point.get("sliced") is not None:
            is_true(point, "sliced", where)
        number_of(point, "alpha", where)
        number_of(point, "sparseCutoff", where)
        if not separate:
            _check_inline(point, dimensions, f"{where}: <sparseX i={shown(point.get('i'))!r}> of {named(element)}")


def _check_indices(elements: list[Element], number: int, name: str, parent: Element, where: str) -> None:
    """Check that elements are numbered 1 to ``number``: QUIP writes each where its number says."""
    found = [whole_of(element, "i", where, 1, number) for element in elements]
    if len(found) != number or len(set(found)) != number:
        raise PotentialError(
            f"{where}: {named(parent)} has {len(set(found))} different <{name}>, expected {number}: it is cut or damaged"
        )


def _check_inline(point: Element, dimensions: int, where: str) -> None:
    slices = point.findall("sparseX_slice")
    if not slices:
        check_numbers((point.text or "").encode(), dimensions, where)
        return
    must_be_true(point, "sliced", where)
    end = 0
    for piece in slices:
        start, before = whole_of(piece, "start", where, 1, dimensions), end
        end = whole_of(piece, "end", where, start, dimensions)
        if start != before + 1:
            raise PotentialError(f"{where}: a slice begins with {start}, expected {before + 1}")
        check_numbers((piece.text or "").encode(), end - start + 1, where)
    if end != dimensions:
        raise PotentialError(f"{where}: its slices end with {end}, expected {dimensions}")


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
