"""The text of a seed of AIRSS, taken apart: ``#TAG`` lines, those that are refused, their numbers; blocks of the cell file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from aiida_gaprss.outside import shown
from aiida_gaprss.structures.checks import RandomCellError

#: Bytes of a seed, and characters of a line of it.
MOST_BYTES, LONGEST_LINE = 100_000, 2000

#: Largest numbers that tags can give: whole ones, lengths (Å), volumes (Å³ of all atoms that are listed).
MOST_WHOLE, MOST_LENGTH, MOST_VOLUME = 1000, 1000.0, 1e6

_FOLLOWED = """
ACONS ANGAMP CELLAMP COMPACT CONS FIX FORMULA MINSEP MOLECULES NATOM NFORM NOCOMPACT OVERLAP POSAMP SLACK SPECIES SUPERCELL SYMMNO
SYMMOPS TARGVOL VARVOL
"""
_OTHERS = """
ADJGEN ATHOLE AUTOSLACK BREAKAMP CELLADAPT CELLCON CHIRAL CIGAR CLUSTER COORD CORE CYLINDER ELLIPSOID FLIP FOCUS HOLE HOLEPOS
MAXBANGLE MINAMP MINBANGLE NFAILS NOPUSH OCTET PACKING PANCAKE PERMFRAC PERMUTE PUSHMAX PUSHSTEP RAD RASH RASH_ANGAMP RASH_POSAMP
REMOVE SGRANK SHIFT SLAB SPHERE SPIN SURFACE SYMM SYMMORPHIC SYSTEM THREE TIGHT VACANCIES VACUUM VOL WIDTH XAMP YAMP ZAMP
"""
_OTHERS_OF_ATOMS = "ADATOM ATHOLE COORD MINAMP MULT NOMOVE OCC PERM RAD SPIN VOL XAMP YAMP ZAMP"

#: Tags that are followed. MOLECULES asks for what is always so here: units keep their shape.
FOLLOWED = tuple(_FOLLOWED.split())

#: Tags of buildcell that are not followed here, and why.
REFUSED: dict[str, str] = {
    **dict.fromkeys(_OTHERS.split(), "the built-in generator does not follow it"),
    "SEED": "every cell gets its seed from the campaign",
    "MAXTIME": "the number of trials is bounded instead",
    "ABFIX": "only a whole cell can be fixed (FIX)",
    "CFIX": "only a whole cell can be fixed (FIX)",
}

#: The same of tags of single atoms.
REFUSED_OF_ATOMS = tuple(_OTHERS_OF_ATOMS.split())

FLAGS = ("COMPACT", "FIX", "MOLECULES", "NOCOMPACT")

#: A number as Fortran reads it, and nothing else that Python takes for one.
_REAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Tag:
    """The value of a tag and its line."""

    line: int
    name: str
    value: str

    def error(self, expected: str) -> RandomCellError:
        """Return the complaint about the value."""
        return RandomCellError(f"line {self.line}: {self.text}, expected {expected}")

    @property
    def text(self) -> str:
        """The tag as it is written."""
        return f"#{self.name}={shown(self.value, 60)}" if self.value else f"#{self.name}"


@dataclass
class Raw:
    """A cell file taken apart: tags, and the numbered lines of the blocks that matter."""

    tags: dict[str, Tag] = field(default_factory=dict)
    blocks: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def number(self, name: str, default: float, least: float, most: float) -> float:
        """Return the number of a tag that lies between ``least`` and ``most``."""
        if name not in self.tags:
            return default
        tag = self.tags[name]
        expected = f"a number from {least:g} " + (f"to {most:g}" if np.isfinite(most) else "up")
        value = read_real(tag.value)
        if value is None or not least <= value <= most:
            raise tag.error(expected)
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return the whole numbers of a tag, None without it."""
        return None if name not in self.tags else read_integers(self.tags[name])


def take_apart(text: str) -> Raw:
    """Return tags and blocks of a seed.

    :raises RandomCellError: with the line and the tag that is unknown, not followed here, given twice, or in the wrong place.
    """
    raw = Raw()
    block = ""
    if len(text) > MOST_BYTES:
        raise RandomCellError(f"the seed has {len(text)} characters, expected at most {MOST_BYTES}")
    for number, whole in enumerate(text.splitlines(), start=1):
        if len(whole) > LONGEST_LINE:
            raise RandomCellError(f"line {number}: {len(whole)} characters, expected at most {LONGEST_LINE}")
        line = whole.split("##")[0].strip()
        if not line:
            continue
        if match := re.match(r"%(END)?BLOCK\s+(\w+)", line, re.IGNORECASE):
            block = "" if match[1] else match[2].upper()
            raw.blocks.setdefault(block, [])
        elif line.startswith("#"):
            _tag(raw, number, line, block)
        elif block:
            raw.blocks[block].append((number, line))
    return raw


def _tag(raw: Raw, number: int, line: str, block: str) -> None:
    match = re.match(r"#(\s*)(\w+)\s*(?:=\s*(.*))?$", line)
    if match is None:
        if re.match(r"#\s", line):
            return  # a remark: a tag follows its # without a blank
        raise RandomCellError(f"line {number}: {shown(line, 80)!r} is no tag; comments begin with ##")
    blank, name, value = match[1], match[2].upper(), (match[3] or "").strip()
    if blank:
        if name in FOLLOWED or name in REFUSED:
            raise RandomCellError(
                f"line {number}: a blank before {name} makes it a remark; write #{name}, or ##{name} to leave it out"
            )
        return
    if name in REFUSED:
        raise RandomCellError(f"line {number}: #{name} is refused: {REFUSED[name]}")
    if name not in FOLLOWED:
        raise RandomCellError(f"line {number}: unknown tag #{name[:40]}; known: {', '.join(FOLLOWED)}; comments begin with ##")
    if name == "FIX" and not block.startswith("LATTICE"):
        raise RandomCellError(f"line {number}: #FIX belongs into the LATTICE block, or after the % of an atom")
    if name in raw.tags:
        raise RandomCellError(f"line {number}: #{name} is given twice, first in line {raw.tags[name].line}")
    tag = Tag(number, name, value)
    if bool(value) == (name in FLAGS):
        raise tag.error("no value" if value else "a value")
    raw.tags[name] = tag


def atom_tags(number: int, text: str) -> dict[str, Tag]:
    """Return the tags after the % of an atom.

    :raises RandomCellError: with the line and the tag that is unknown, not followed here, or lacks its value.
    """
    tags = {}
    for word in text.split():
        name, _, value = word.partition("=")
        name = name.upper()
        if name in REFUSED_OF_ATOMS or name.startswith("NN"):
            raise RandomCellError(f"line {number}: {name} of an atom is refused: the built-in generator does not follow it")
        if name not in ("NUM", "POSAMP", "ANGAMP", "FIX"):
            raise RandomCellError(f"line {number}: unknown tag {shown(name, 40)!r} of an atom; known: NUM, POSAMP, ANGAMP, FIX")
        tags[name] = Tag(number, name, value)
        if bool(value) == (name == "FIX"):
            raise tags[name].error("no value" if value else "a value")
    return tags


def read_real(word: str) -> float | None:
    """Return a finite number, or None if there is none."""
    value = float(re.sub("[dD]", "e", word)) if _REAL.fullmatch(word) else np.inf
    return value if np.isfinite(value) else None


def read_integers(tag: Tag) -> tuple[int, ...]:
    """Return the whole numbers of ``4``, ``2-8``, ``{6,8,10}`` or ``1,2,5-10``.

    :raises RandomCellError: if it is anything else, or too large.
    """
    numbers: set[int] = set()
    for part in tag.value.strip("{}").split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise tag.error("whole numbers: 4, 2-8 or {6,8,10}")
        if max(int(match[1]), int(match[2] or 0)) > MOST_WHOLE:
            raise tag.error(f"whole numbers up to {MOST_WHOLE}")
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(numbers))


def read_span(tag: Tag, text: str, most: float) -> tuple[float, float]:
    """Return smallest and largest of ``1.5`` or ``1.5-2.0``, at most ``most``.

    :raises RandomCellError: if it is anything else.
    """
    match = re.fullmatch(r"(\d*\.?\d+|\d+\.)(?:-(\d*\.?\d+|\d+\.))?", text.strip(), re.ASCII)
    if match is None:
        raise tag.error("numbers above 0, or ranges of them (1.5-2.0)")
    low, high = float(match[1]), float(match[2] or match[1])
    if not 0 < low <= high:
        raise tag.error("numbers above 0, or ranges of them, the smaller end first")
    if high > most:
        raise tag.error(f"numbers up to {most:g}")
    return low, high
