"""A GAP from its files: the xml and the sparse points beside it, wherever they are."""

from __future__ import annotations

from typing import Any

from aiida_gaprss.models.base import PotentialError, Source
from aiida_gaprss.models.gap.files import SparseFile, check_name, check_sparse
from aiida_gaprss.models.gap.xml import read_gap_xml
from aiida_gaprss.outside import MOST_BYTES

#: Largest xml, bytes: what makes them large are training sets that gap_fit has copied into them. Longest line of sparse points.
MOST_XML, MOST_OF_A_NUMBER = 2**28, 64


def read_files(source: Source, xml: str, where: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what the xml of a GAP tells and all files by name, the xml first.

    :raises PotentialError: if a file is missing, is no GAP, does not belong to the others, or must not be opened.
    """
    check_name(xml, f"{where}: name of the xml")
    files = {xml: source.content(xml, MOST_XML)}
    gap = read_gap_xml(files[xml], where)
    for sparse in gap.sparse:
        files[sparse.name] = _sparse(source, sparse, xml, where)
    return gap.attributes, files


def _sparse(source: Source, sparse: SparseFile, xml: str, where: str) -> bytes:
    if sparse.name.casefold() == xml.casefold():
        raise PotentialError(f"{where}: its sparse-point file has the name of the xml")
    if not source.has(sparse.name):
        raise PotentialError(f"{where}: its sparse-point file {sparse.name} is not beside it")
    content = source.content(sparse.name, min(MOST_BYTES, MOST_OF_A_NUMBER * (sparse.numbers + 100)))
    check_sparse(sparse, content, where)
    return content
