"""The sum of two GAPs as one potential: one xml with both, and a ``<Potential>`` that tells QUIP to add them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.parsers import expat

from aiida_gaprss.models.base import PotentialError

#: What may be the root of the xml of a potential, with all that belongs to it.
_WHOLE = ("GAP_params",)


def fault_of_sum(cheap: Mapping[str, Any], other: Iterable[str]) -> str | None:
    """Return why another GAP cannot be added to one, or None.

    quippy 0.9.14 and 0.10.3 evaluate every soap_turbo of a process in the basis of the first one, wrong by eV and without a word;
    and quippy 0.9.14 crashes in a sum of sums, whichever way it is written.

    :param cheap: facts of the first; ``other``: descriptors of the second, one line each.
    """
    if terms := cheap.get("terms"):
        return f"the first is a sum of {len(terms)} already ({'; '.join(terms)}), and quippy crashes in sums of sums"
    if all(any(line.startswith("soap_turbo") for line in lines) for lines in (cheap["descriptors"], list(other))):
        return "both have soap_turbo, and quippy evaluates only one of two bases rightly; expected soap in one of them"
    return None


def summed(parts: Sequence[tuple[Mapping[str, Any], Mapping[str, bytes]]], main: str) -> dict[str, bytes]:
    """Return the files of the sum of two potentials by name, the xml first.

    :param parts: facts and files of each, the xml first, as they are after all checks.
    :param main: name of the xml of the sum.
    :raises PotentialError: if they cannot be added, are the same one, or have files of the same name.
    """
    (first, files), (second, others) = parts
    if fault := fault_of_sum(first, second["descriptors"]) or fault_of_sum(second, ()):
        raise PotentialError(f"the potentials cannot be added: {fault}")
    xmls = [next(iter(contents.values())) for contents in (files, others)]
    sparse = [dict(list(contents.items())[1:]) for contents in (files, others)]
    if doubled := sorted(set(sparse[0]) & set(sparse[1])):
        raise PotentialError(f"the potentials cannot be added: both have the file {doubled[0]}, as if they were the same one")
    label = f"GAP_sum_{hashlib.sha256(b''.join(xmls)).hexdigest()[:16]}"
    return {main: _xml(label, [_term(first), _term(second)], xmls), **sparse[0], **sparse[1]}


def _term(facts: Mapping[str, Any]) -> str:
    """Return by what QUIP finds a potential in the xml of the sum: by its label, as the file has others, too."""
    given = str(facts.get("init_args") or f"Potential xml_label={facts['label']}")
    if given == "IP GAP":
        raise PotentialError("a GAP without a label cannot be added to another one, as QUIP could not tell them apart")
    return given


def _xml(label: str, terms: Sequence[str], xmls: Iterable[bytes]) -> bytes:
    head = (
        f'<{label}>\n<Potential label="{label}" init_args="Sum init_args_pot1={{{terms[0]}}} init_args_pot2={{{terms[1]}}}"/>\n'
    )
    return head.encode() + b"".join(_content(xml) + b"\n" for xml in xmls) + f"</{label}>\n".encode()


class _Root:
    """Finds in an xml, by bytes, where its root begins, what is within it, and where its end tag begins."""

    def __init__(self, xml: bytes) -> None:
        self.name, self.begin, self.inner, self.end = "", 0, 0, 0
        self.depth = 0
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler, self.parser.EndElementHandler = self.start, self.stop
        self.parser.Parse(xml, True)

    def start(self, name: str, _: dict[str, str]) -> None:
        """Note where the root, and the first element within it, begin."""
        here = self.parser.CurrentByteIndex
        if self.depth == 0:
            self.name, self.begin = name, here
        elif not self.inner:
            self.inner = here
        self.depth += 1

    def stop(self, _: str) -> None:
        """Note where the last tag begins."""
        self.depth -= 1
        self.end = self.parser.CurrentByteIndex


def _content(xml: bytes) -> bytes:
    """Return what stands within the root of an xml, byte for byte; with the root, if that is no mere wrapper."""
    root = _Root(xml)
    return xml[root.begin : xml.index(b">", root.end) + 1] if root.name in _WHOLE else xml[root.inner : root.end]
