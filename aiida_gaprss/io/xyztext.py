"""The text of a stranger's extended XYZ file, taken apart strictly.

ASE's reader, which reads our own datasets, is made to get something out of any file: it passes over words too many, takes
``1_0.5`` for a number and ends at the first blank line. Here every row has exactly the columns that ``Properties`` announces,
every number is one, and whatever does not fit is refused with its line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from aiida_gaprss.frames import FrameError
from aiida_gaprss.outside import shown

#: A number; the exponent may be written with D, as Fortran does.
NUMBER = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?"
_NUMBER = re.compile(NUMBER)
_NUMBERS = re.compile(rf"(?:{NUMBER} )*")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_TRUTH = {"T": True, "F": False, "True": True, "False": False, "TRUE": True, "FALSE": False, "true": True, "false": False}

#: White space that is no blank, tab or end of a line, and control characters: nobody sees them.
_UNSEEN = re.compile(r"[^\S \t\n]|[\x00-\x08\x0e-\x1f\x7f]")

#: Å; no coordinate and no lattice vector is longer.
FARTHEST = 1e5

_PLAIN = "species:S:1:pos:R:3"
_CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}

#: Columns that say what the atoms are and where.
_STRUCTURE = ("species", "Z", "pos")


@dataclass
class RawFrame:
    """One frame as it is written: ``info`` by key as text; ``columns`` by name, shape (atoms, columns).

    ``where`` names it in messages. ``forms`` counts how numbers are written: the decimals by column, and under no name the
    lengths of the rows. ``doubled`` are the keys that the comment line has twice. ``cell`` (rows a, b, c; Å) and ``pbc`` are None
    where the file has none.
    """

    where: str
    info: dict[str, str] = field(default_factory=dict)
    doubled: set[str] = field(default_factory=set)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    forms: dict[str, Counter[int]] = field(default_factory=dict)
    cell: np.ndarray | None = None
    pbc: tuple[bool, bool, bool] | None = None

    @property
    def keys(self) -> list[str]:
        """What it has besides the structure, in the order of the file."""
        return [key for key in (*self.info, *self.columns) if key not in ("Lattice", "Properties", "pbc", *_STRUCTURE)]

    def text(self, key: str) -> str | None:
        """Return a value of the comment line, or None.

        :raises FrameError: if it is there twice.
        """
        if key in self.doubled:
            raise FrameError(f"{self.where}: has the key {shown(key)} twice; which of the two counts?")
        return self.info.get(key)

    def values(self, key: str) -> np.ndarray | None:
        """Return the numbers of a key, of the comment line (flat) or of a column, or None if the frame lacks it.

        :raises FrameError: if it is there twice, or holds anything but finite numbers.
        """
        text = self.text(key)
        if key in self.columns:
            if text is not None:
                raise FrameError(f"{self.where}: has {shown(key)} as a column and in the comment line; which of the two counts?")
            values = self.columns[key]
            if values.dtype.kind not in "fi":
                raise FrameError(f"{self.where}: {shown(key)} is a column of words, expected numbers")
            if not np.isfinite(values).all():
                raise FrameError(
                    f"{self.where}: {shown(key)} contains {values[~np.isfinite(values)][0]}, expected finite numbers"
                )
            return values
        return None if text is None else _numbers(text, shown(key), self.where)


def read(text: str, name: str) -> Iterator[tuple[RawFrame | None, FrameError | None]]:
    """Yield each frame of an extended XYZ text, or why it cannot be used though its rows can be counted.

    :param name: of the file, for messages.
    :raises FrameError: where the text is no extended XYZ any more: what comes after cannot be told.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    unseen = _UNSEEN.search(text)
    if unseen:
        line = text.count("\n", 0, unseen.start()) + 1
        raise FrameError(f"{name}: line {line} has the character {unseen[0]!a}, expected blanks and tabs between words")
    lines = text.split("\n")
    ended = lines[-1] == ""
    if ended:
        lines.pop()
    at, number = 0, 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        number += 1
        where = f"frame {number} of {name}"
        count = _count(lines, at, where, number)
        try:
            yield _frame(lines, at, count, where, last=not ended and at + 2 + count == len(lines)), None
        except FrameError as fault:
            yield None, fault
        at += 2 + count


def _count(lines: list[str], at: int, where: str, number: int) -> int:
    """Return the number of atoms that the line ``at`` announces.

    :raises FrameError: if it announces none, or more than there are rows.
    """
    word = lines[at].strip()
    if not re.fullmatch(r"[0-9]+", word):
        before = f"; frame {number - 1} announces fewer rows than there are" if number > 1 and len(word.split()) > 3 else ""
        raise FrameError(
            f"{where}, line {at + 1}: not readable as extended XYZ: {shown(word, 60)!r}, expected a number of atoms{before}"
        )
    left = len(lines) - at - 2
    if len(word) > 12 or int(word) > left:
        raise FrameError(
            f"{where}, line {at + 1}: announces {shown(word, 40)} atoms, {max(left, 0)} rows follow: "
            "the file is cut, or the number wrong"
        )
    return int(word)


def _frame(lines: list[str], at: int, count: int, where: str, last: bool) -> RawFrame:
    """Return the frame whose number of atoms stands in line ``at``.

    :param last: it ends without an end of line, where a file may have been cut.
    """
    frame = RawFrame(where)
    _comment(lines[at + 1], frame, f"{where}, line {at + 2}")
    rows = [line.replace("\t", " ").split() for line in lines[at + 2 : at + 2 + count]]
    announced = _properties(frame.text("Properties") or _PLAIN, where)
    width = sum(n for _, _, n in announced)
    for offset, row in enumerate(rows):
        if len(row) != width:
            raise FrameError(
                f"{where}, line {at + 3 + offset}: has {len(row)} words, expected {width} "
                f"({frame.info.get('Properties', _PLAIN) if len(row) else 'one row per atom'})"
            )
    if last and count:
        _refuse_cut(lines[at + 1 + count], lines[at + count] if count > 1 else None, where)
    start = 0
    for key, kind, n in announced:
        words = [word for row in rows for word in row[start : start + n]]
        frame.columns[key] = _column(words, kind, key, where).reshape(count, n)
        if kind == "R":
            frame.forms[key] = Counter(_decimals(word) for word in words)
        start += n
    frame.forms[""] = Counter(len(line) if "  " in line.strip() else 0 for line in lines[at + 2 : at + 2 + count])
    frame.numbers = _elements(frame, where)
    _cell(frame)
    return frame


def unlike(frames: Sequence[RawFrame]) -> dict[int, str]:
    """Return the frames with a number that is not written as all others of its column are, by index: a digit or sign is lost.

    Files that programs write have as many decimals in every row, many of them rows of one length. Where nearly all have, the few
    that have not are damaged.
    """
    out: dict[int, str] = {}
    totals: dict[str, Counter[int]] = {}
    for frame in frames:
        for key, forms in frame.forms.items():
            totals.setdefault(key, Counter()).update(forms)
    decimals = {key: form for key, forms in totals.items() if key and (form := _common(forms)) >= 3}
    length = _common(totals.get("", Counter())) if decimals else 0
    for i, frame in enumerate(frames):
        for key, common in decimals.items():
            if odd := [form for form in frame.forms.get(key, ()) if form not in (common, -1)]:
                out[i] = f"{frame.where}: {shown(key)} has a number with {odd[0]} decimals, all others {common}: is it whole?"
        if length and (odd := [form for form in frame.forms[""] if form != length]):
            out.setdefault(i, f"{frame.where}: a row has {odd[0]} characters, all others have {length}: is a number cut?")
    return out


def _common(forms: Counter[int]) -> int:
    """Return the form that nearly all have, or 0."""
    ((form, count),) = forms.most_common(1) or [(0, 0)]
    others = forms.total() - count - (forms[-1] if form != -1 else 0)
    return form if count >= 12 and 0 < others <= max(2, count // 1000) else 0


def _decimals(word: str) -> int:
    """Return the number of decimals, or -1 for numbers with an exponent and those that are none."""
    return len(word.partition(".")[2]) if _NUMBER.fullmatch(word) and not set(word) & set("eEdD") else -1


def _refuse_cut(row: str, before: str | None, where: str) -> None:
    """Refuse a last row without an end of line, if its last number has fewer digits than that of the row before."""
    lengths = [len(line.split()[-1].partition(".")[2]) if line.split() else 0 for line in (row, before or row)]
    if lengths[0] < lengths[1]:
        raise FrameError(
            f"{where}: the file ends within its last row: {shown(row.split()[-1], 40)!r} has {lengths[0]} decimals, "
            f"the row before {lengths[1]}"
        )


def _comment(line: str, frame: RawFrame, where: str) -> None:
    """Take the comment line apart: ``key=word``, ``key="several words"`` (also with ' or brackets), or a key alone."""
    at = 0
    while at < len(line):
        if line[at] in " \t":
            at += 1
            continue
        key, at = _word(line, at, "=", where)
        value = "T"
        if at < len(line) and line[at] == "=":
            if not key:
                raise FrameError(f"{where}: a '=' has no key before it")
            value, at = _word(line, at + 1, "", where)
        if key in frame.info:
            frame.doubled.add(key)
        frame.info[key] = value
    if {"T", "F"} & set(frame.info):
        raise FrameError(f"{where}: has a lone T or F: a value of several words needs quotes")


def _word(line: str, at: int, stops: str, where: str) -> tuple[str, int]:
    """Return the word, or what stands in quotes or brackets, that begins at ``at``, and where it ends."""
    closing = _CLOSING.get(line[at]) if at < len(line) else None
    if closing is None:
        end = at
        while end < len(line) and line[end] not in " \t" + stops:
            end += 1
        return line[at:end], end
    opening, depth, out, i = line[at], 1, [], at + 1
    while i < len(line):
        c = line[i]
        if c == "\\" and opening in "\"'" and i + 1 < len(line):
            out.append(line[i + 1])
            i += 2
            continue
        depth += (c == opening and opening in "[{") - (c == closing)
        if depth == 0:
            break
        out.append(c)
        i += 1
    if depth:
        raise FrameError(f"{where}: {opening} is not closed: {shown(line[at : at + 40])!r}")
    end = i + 1
    if end < len(line) and line[end] not in " \t" + stops:
        raise FrameError(f"{where}: expected a blank after {shown(line[at : end + 1], 60)!r}")
    return "".join(out), end


def _properties(text: str, where: str) -> list[tuple[str, str, int]]:
    """Return name, kind and number of columns of what the rows hold."""
    fields = text.split(":")
    triples = list(zip(fields[::3], fields[1::3], fields[2::3], strict=False))
    for name, kind, number in triples:
        if not name or kind not in tuple("RISL") or not re.fullmatch(r"[1-9][0-9]{0,3}", number):
            raise FrameError(
                f"{where}: Properties has {shown(f'{name}:{kind}:{number}', 60)!r}, expected name:kind:columns, kind R, I, S, L"
            )
    names = [name for name, _, _ in triples]
    if len(fields) % 3 or len(set(names)) < len(names):
        raise FrameError(f"{where}: Properties={shown(text, 100)} is no list of name:kind:columns, each name once")
    wanted = {"pos": ("R", "3"), "species": ("S", "1"), "Z": ("I", "1")}
    for name, kind, number in triples:
        if name in wanted and (kind, number) != wanted[name]:
            raise FrameError(f"{where}: Properties has {name}:{kind}:{number}, expected {name}:{':'.join(wanted[name])}")
    if "pos" not in names or not {"species", "Z"} & set(names):
        raise FrameError(f"{where}: Properties={shown(text, 100)} has no {'pos' if 'pos' not in names else 'species or Z'}")
    return [(name, kind, int(number)) for name, kind, number in triples]


def _column(words: list[str], kind: str, key: str, where: str) -> np.ndarray:
    """Return the values of a column; numbers that are not finite are left to whoever asks for them."""
    if kind == "R":
        return _real(words, shown(key), where)
    for row, word in enumerate(words):
        if (kind == "I" and not _INTEGER.fullmatch(word)) or (kind == "L" and word not in _TRUTH):
            expected = "an integer" if kind == "I" else "T or F"
            raise FrameError(f"{where}: {shown(key)} is {shown(word, 40)!r} at number {row + 1}, expected {expected}")
    if kind == "I":
        return np.array([int(word) for word in words], dtype=np.int64)
    return np.array([_TRUTH[word] for word in words] if kind == "L" else words, dtype=bool if kind == "L" else object)


def _real(words: list[str], key: str, where: str) -> np.ndarray:
    """Return words as numbers; nan and inf pass.

    :raises FrameError: for what is no number, or too large for one.
    """
    text = " ".join(words) + " "
    if not _NUMBERS.fullmatch(text):
        wrong = next((word for word in words if not _NUMBER.fullmatch(word) and not _NOT_FINITE.fullmatch(word)), None)
        if wrong is not None:
            raise FrameError(f"{where}: {key} is {shown(wrong, 60)!r}, expected numbers")
    values = np.array(text.replace("d", "e").replace("D", "e").split(), dtype=float)
    for i in np.flatnonzero(np.isinf(values)):
        if _NUMBER.fullmatch(words[i]):
            raise FrameError(f"{where}: {key} is {shown(words[i], 60)!r}, a number too large")
    return values


def _numbers(text: str, key: str, where: str) -> np.ndarray:
    """Return the numbers of a value, which may have brackets and commas as ASE and Python write them.

    :raises FrameError: for anything that is not a finite number, or nothing at all.
    """
    words = _items(text)
    if not words or len(words) > 10_000:
        raise FrameError(f"{where}: {key} is {shown(text, 60)!r}, expected numbers")
    values = _real(words, key, where)
    if not np.isfinite(values).all():
        raise FrameError(f"{where}: {key} is {shown(text, 60)}, expected finite numbers")
    return values


def _items(text: str) -> list[str]:
    """Return the words of a list, with blanks or commas between them, perhaps in brackets that are closed again."""
    plain = text.removeprefix("_JSON ")
    if all(plain.count(opening) == plain.count(closing) for opening, closing in ("[]", "()")):
        plain = re.sub(r"(?:^|(?<=[\s,\[(]))[\[(]|[\])](?=[\s,\])]|$)", " ", plain)
    return re.sub(r",(?=\s*[^\s,])", " ", plain).split()


def _elements(frame: RawFrame, where: str) -> np.ndarray:
    """Return the atomic numbers, told by ``species``, ``Z`` or both."""
    given = frame.columns["Z"].ravel().astype(int) if "Z" in frame.columns else None
    if given is not None and ((given < 1) | (given >= len(chemical_symbols))).any():
        wrong = int(given[(given < 1) | (given >= len(chemical_symbols))][0])
        raise FrameError(f"{where}: Z is {wrong}, expected the atomic number of an element")
    if "species" not in frame.columns:
        assert given is not None
        return given
    symbols = frame.columns["species"].ravel()
    known = {word: atomic_numbers.get(word.capitalize(), 0) for word in set(symbols)}
    unknown = sorted(word for word, z in known.items() if z == 0)
    if unknown:
        raise FrameError(f"{where}: unknown element {shown(unknown[0], 40)!r}")
    numbers = np.array([known[word] for word in symbols], dtype=int)
    if given is not None and (given != numbers).any():
        i = int(np.flatnonzero(given != numbers)[0])
        raise FrameError(f"{where}: atom {i + 1} is {shown(symbols[i])} by species, {chemical_symbols[given[i]]} by Z")
    return numbers


def _cell(frame: RawFrame) -> None:
    """Read lattice vectors and directions of periodicity."""
    lattice = frame.values("Lattice")
    if lattice is not None:
        if lattice.size != 9:
            raise FrameError(f"{frame.where}: Lattice has {lattice.size} numbers, expected 9")
        if np.abs(lattice).max() > FARTHEST:
            raise FrameError(
                f"{frame.where}: Lattice has a length of {np.abs(lattice).max():.3g} Å, expected at most {FARTHEST:g}"
            )
        frame.cell = lattice.reshape(3, 3)
    text = frame.text("pbc")
    if text is not None:
        words = _items(text)
        truth = {**_TRUTH, "1": True, "0": False}
        if len(words) not in (1, 3) or any(word not in truth for word in words):
            raise FrameError(f"{frame.where}: pbc is {shown(text, 40)!r}, expected three of T and F")
        frame.pbc = tuple(truth[word] for word in (words * 3)[:3])  # type: ignore[assignment]
