"""Seeds of AIRSS: CASTEP cell files whose ``#TAG`` lines say how random cells are made of them.

What the tags mean follows the manual of buildcell (https://airss-docs.github.io); a tag that is not followed here is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations_with_replacement, product

import numpy as np
from ase.build.supercells import lattice_points_in_supercell
from ase.cell import Cell
from ase.data import atomic_numbers
from ase.formula import Formula
from ase.units import Bohr

from aiida_gaprss.outside import shown
from aiida_gaprss.strategies.airss import AirssSpec, Entry
from aiida_gaprss.strategies.airss_tags import (
    MOST_LENGTH,
    MOST_VOLUME,
    MOST_WHOLE,
    Raw,
    Tag,
    atom_tags,
    read_integers,
    read_real,
    read_span,
    take_apart,
)
from aiida_gaprss.structures.building import Shape, Unit
from aiida_gaprss.structures.checks import RandomCellError, check_total
from aiida_gaprss.structures.spacegroups import space_groups_by_order

#: A single volume is drawn up to this fraction above and below.
VOLUME_VARIATION = 0.05

#: Defaults of CONS and ACONS.
CONS, ACONS = 0.4, 0.5


def parse_seed(text: str) -> AirssSpec:
    """Read a seed of AIRSS.

    :raises RandomCellError: with the line and the tag that is unknown, not followed here, or wrong.
    """
    raw = take_apart(text)
    lattice = _lattice(raw)
    fixed_cell = "FIX" in raw.tags or "CELLAMP" in raw.tags
    entries, mixed = _species(raw) if "SPECIES" in raw.tags or "FORMULA" in raw.tags else (_positions(raw, lattice), False)
    groups, approximate = _groups(raw)
    placed = any(entry.unit.start is not None for entry in entries)
    if (placed or fixed_cell) and groups != ((1,),):
        which = next(name for name in ("CELLAMP", "FIX", "POSAMP") if name in raw.tags or name == "POSAMP")
        raise RandomCellError(f"{which} is only possible without symmetry; remove SYMMOPS or SYMMNO")
    n_form = raw.integers("NFORM")
    if n_form is not None and min(n_form) < 1:
        raise raw.tags["NFORM"].error("whole numbers above 0")
    strain = None
    if fixed_cell:
        if lattice is None:
            raise RandomCellError("CELLAMP and FIX need a LATTICE block")
        if n_form not in (None, (1,)):
            raise raw.tags["NFORM"].error("1 where the cell is given (CELLAMP, FIX)")
        strain = 0.0 if "FIX" in raw.tags else raw.number("CELLAMP", 0.0, 0.0, 0.5)
    volume = None if fixed_cell else _volume(raw, lattice)
    if fixed_cell and {"TARGVOL", "VARVOL"} & set(raw.tags):
        raise RandomCellError("TARGVOL and VARVOL have no effect where the cell is given (CELLAMP, FIX); remove them")
    if "SUPERCELL" in raw.tags:
        lattice, entries, volume = _repeated(raw.tags["SUPERCELL"], lattice, entries, volume)
    elements = list(dict.fromkeys(symbol for entry in entries for symbol in entry.unit.symbols))
    cons = raw.number("CONS", CONS, 0.0, 1.0)
    reduced = "NOCOMPACT" not in raw.tags and (not fixed_cell or "COMPACT" in raw.tags)
    if "NOCOMPACT" in raw.tags and "COMPACT" in raw.tags:
        raise raw.tags["NOCOMPACT"].error("not both COMPACT and NOCOMPACT")
    raw.number("OVERLAP", 0.0, 0.0, 1e6)  # how far MINSEP may be missed: here it is kept, so that any value is met
    spec = AirssSpec(
        entries=tuple(entries),
        volume=volume,
        separations=_separations(raw, elements),
        n_form=n_form if not fixed_cell else (1,),
        n_atoms=raw.integers("NATOM"),
        mixed=mixed,
        groups=groups,
        approximate=approximate,
        slack=raw.number("SLACK", 0.0, 0.0, 0.9),
        # Edges are drawn between cons/2 and 1 − cons/2 of the longest possible.
        shape=Shape(
            aspect=max((2 - cons) / max(cons, 1e-3), 1.0001), flatness=raw.number("ACONS", ACONS, 0.0, 0.999), reduced=reduced
        ),
        lattice=lattice,
        strain=strain,
    )
    spec.check()
    return spec


def _lattice(raw: Raw) -> np.ndarray | None:
    """Return the lattice vectors (rows, Å) of the seed, None without a LATTICE block."""
    for name in ("LATTICE_CART", "LATTICE_ABC"):
        if name not in raw.blocks:
            continue
        numbers, scale = _numbers(raw.blocks[name])
        n = 3 if name == "LATTICE_CART" else 2
        if len(numbers) != n:
            raise RandomCellError(f"{name}: expected {n} lines of three numbers, got {len(numbers)}")
        lattice = numbers * scale if n == 3 else _of_parameters([*(numbers[0] * scale), *numbers[1]])
        volume = abs(np.linalg.det(lattice))
        if not volume >= 1e-3:
            raise RandomCellError(f"{name}: the cell is flat")
        if np.linalg.norm(lattice, axis=1).max() > MOST_LENGTH or volume > MOST_VOLUME:
            raise RandomCellError(f"{name}: the cell is larger than {MOST_LENGTH:g} Å or {MOST_VOLUME:g} Å³")
        return lattice
    return None


def _of_parameters(parameters: list[float]) -> np.ndarray:
    """Return the lattice vectors of three lengths (Å) and three angles (degrees)."""
    if min(parameters) <= 0 or max(parameters[3:]) >= 180:
        raise RandomCellError("LATTICE_ABC: expected lengths above 0 and angles between 0 and 180 degrees")
    try:
        return np.array(Cell.fromcellpar(parameters))
    except (AssertionError, ValueError):
        raise RandomCellError("LATTICE_ABC: there is no cell with these angles") from None


def _numbers(lines: list[tuple[int, str]]) -> tuple[np.ndarray, float]:
    """Return the numbers of a block and the factor that makes them Å."""
    scale = 1.0
    if lines and lines[0][1].lower() in ("ang", "bohr"):
        scale = Bohr if lines[0][1].lower() == "bohr" else 1.0
        lines = lines[1:]
    rows = []
    for number, line in lines:
        row = [read_real(word) for word in line.split()]
        if len(row) != 3 or None in row:
            raise RandomCellError(f"line {number}: {shown(line, 80)!r}, expected three numbers")
        rows.append(row)
    return np.array(rows, dtype=float).reshape(-1, 3), scale


def _element(number: int, symbol: str) -> str:
    if atomic_numbers.get(symbol, 0) == 0:
        raise RandomCellError(f"line {number}: {shown(symbol, 40)!r} is not a chemical element")
    return symbol


def _species(raw: Raw) -> tuple[list[Entry], bool]:
    """Return the entries of SPECIES or FORMULA, and whether the species of every atom is random."""
    tag = raw.tags.get("SPECIES") or raw.tags["FORMULA"]
    if "SPECIES" in raw.tags and "FORMULA" in raw.tags:
        raise tag.error("not both SPECIES and FORMULA")
    if any(name.startswith("POSITIONS") and lines for name, lines in raw.blocks.items()):
        raise tag.error("no POSITIONS block beside it")
    for name in ("POSAMP", "ANGAMP"):
        if name in raw.tags:
            raise raw.tags[name].error("a POSITIONS block that says where the atoms are")
    if tag.name == "FORMULA":
        if not re.fullmatch(r"[A-Za-z0-9()]{1,100}", tag.value):
            raise tag.error("a chemical formula, e.g. Si2O4")
        try:
            counts = Formula(tag.value).count()
        except (ValueError, KeyError, IndexError, AssertionError, RecursionError):
            raise tag.error("a chemical formula, e.g. Si2O4") from None
        if not counts or min(counts.values()) < 1 or max(counts.values()) > MOST_WHOLE:
            raise tag.error(f"1 to {MOST_WHOLE} atoms of every element")
        if "NATOM" in raw.tags:
            raise raw.tags["NATOM"].error("no FORMULA beside it, which fixes the number of atoms")
        return [Entry(_atom(_element(tag.line, symbol)), (count,)) for symbol, count in counts.items()], False
    entries = []
    numbered = 0
    for part in _outside_braces(tag.value):
        symbol, *modifiers = part.split("%")
        tags = atom_tags(tag.line, " ".join(modifiers))
        if set(tags) - {"NUM"}:
            raise tag.error("only NUM after the %")
        numbered += "NUM" in tags
        entries.append(Entry(_atom(_element(tag.line, symbol.strip())), read_integers(tags["NUM"]) if "NUM" in tags else (1,)))
    return entries, "NATOM" in raw.tags and not numbered


def _outside_braces(text: str) -> list[str]:
    """Return the parts of ``A%NUM={1,2},B`` between commas that are not in braces."""
    return re.split(r",(?![^{]*\})", text)


def _atom(symbol: str) -> Unit:
    return Unit((symbol,), np.zeros((1, 3)))


def _positions(raw: Raw, lattice: np.ndarray | None) -> list[Entry]:
    """Return the entries of the POSITIONS block; lines with the same label are one rigid unit."""
    given = [name for name in ("POSITIONS_FRAC", "POSITIONS_ABS") if raw.blocks.get(name)]
    if len(given) != 1:
        raise RandomCellError("the seed has no atoms: expected a POSITIONS block, or #SPECIES or #FORMULA")
    lines = raw.blocks[given[0]]
    scale = 1.0
    if lines[0][1].lower() in ("ang", "bohr"):
        scale = Bohr if lines[0][1].lower() == "bohr" else 1.0
        lines = lines[1:]
    if given[0] == "POSITIONS_FRAC" and lattice is None:
        raise RandomCellError("POSITIONS_FRAC needs a LATTICE block")
    groups: dict[str, list[tuple[str, np.ndarray, dict[str, Tag]]]] = {}
    for number, line in lines:
        body, _, after = line.partition("%")
        place, _, label = body.partition("#")
        words = place.split()
        coordinates = [read_real(word) for word in words[1:]]
        if len(words) != 4 or None in coordinates:
            raise RandomCellError(f"line {number}: {shown(place.strip(), 80)!r}, expected an element and three coordinates")
        symbol, position = words[0], np.array(coordinates, dtype=float)
        position = position @ lattice if given[0] == "POSITIONS_FRAC" else position * scale
        key = label.strip() or f"line {number}"
        groups.setdefault(key, []).append((_element(number, symbol), position, atom_tags(number, after)))
    return [_entry(raw, label, atoms) for label, atoms in groups.items()]


def _entry(raw: Raw, label: str, atoms: list[tuple[str, np.ndarray, dict[str, Tag]]]) -> Entry:
    tags: dict[str, Tag] = {}
    for _, _, own in atoms:
        for name, tag in own.items():
            if name in tags and tags[name].value != tag.value:
                raise tag.error(f"the same for all atoms of the unit {label!r}, {tags[name].value} as in line {tags[name].line}")
            tags[name] = tag
    positions = np.array([position for _, position, _ in atoms])
    centre = positions.mean(axis=0)

    def number(name: str) -> float | None:
        tag = tags.get(name) or raw.tags.get(name)
        if tag is None:
            return None
        value = Raw({name: tag}).number(name, 0.0, -MOST_LENGTH, MOST_LENGTH)
        return None if value < 0 else value

    reach, turn, fixed = number("POSAMP"), number("ANGAMP"), "FIX" in tags
    unit = Unit(
        symbols=tuple(symbol for symbol, _, _ in atoms),
        offsets=positions - centre,
        start=centre if fixed or reach is not None else None,
        reach=reach or 0.0,
        turn=turn,
        fixed=fixed,
    )
    numbers = read_integers(tags["NUM"]) if "NUM" in tags else (1,)
    if fixed and numbers != (1,):
        raise tags["NUM"].error("1 for an atom that is fixed")
    return Entry(unit, numbers)


def _groups(raw: Raw) -> tuple[tuple[tuple[int, ...], ...], bool]:
    """Return the space groups to draw from, by what is drawn evenly, and whether symmetry is only approximate."""
    if "SYMMOPS" in raw.tags and "SYMMNO" in raw.tags:
        raise raw.tags["SYMMNO"].error("not both SYMMOPS and SYMMNO")
    tag = raw.tags.get("SYMMOPS") or raw.tags.get("SYMMNO")
    if tag is None:
        return ((1,),), False
    approximate = tag.value.startswith("~")
    numbers = read_integers(replace(tag, value=tag.value.removeprefix("~")))
    if tag.name == "SYMMNO":
        if not set(numbers) <= set(range(1, 231)):
            raise tag.error("numbers of space groups, 1 to 230")
        return tuple((number,) for number in numbers), approximate
    table = space_groups_by_order()
    groups = tuple(table[order] for order in numbers if order in table)
    if not groups:
        raise tag.error(f"some of {', '.join(map(str, table))}")
    return groups, approximate


def _volume(raw: Raw, lattice: np.ndarray | None) -> tuple[float, float]:
    """Return smallest and largest volume (Å³) for one atom of every line or species that the seed lists."""
    # VARVOL wins, as in buildcell.
    tag = raw.tags.get("VARVOL") or raw.tags.get("TARGVOL")
    if tag is not None:
        low, high = read_span(tag, tag.value, MOST_VOLUME)
    elif lattice is not None:
        low = high = float(abs(np.linalg.det(lattice)))
    else:
        raise RandomCellError("the seed has no volume: expected #TARGVOL, #VARVOL or a LATTICE block")
    return (low * (1 - VOLUME_VARIATION), high * (1 + VOLUME_VARIATION)) if low == high else (low, high)


def _separations(raw: Raw, elements: list[str]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return smallest and largest MINSEP (Å) of every pair."""
    if "MINSEP" not in raw.tags:
        raise RandomCellError("the seed has no #MINSEP; without it atoms may sit upon each other")
    tag = raw.tags["MINSEP"]
    if "AUTO" in tag.value.upper():
        raise tag.error("distances: AUTO looks them up in the structures of earlier searches with AIRSS")
    pairs = list(combinations_with_replacement(elements, 2))
    default: tuple[float, float] | None = None
    given: dict[tuple[str, str], tuple[float, float]] = {}
    for number, word in enumerate(tag.value.split()):
        name, equals, value = word.rpartition("=")
        if not equals:
            if number:
                raise tag.error("one distance for all, then pairs: 1.5 Si-O=1.6")
            default = read_span(tag, word, MOST_LENGTH)
            continue
        first, _, second = name.partition("-")
        pair = (first, second) if (first, second) in pairs else (second, first)
        if pair not in pairs:
            raise tag.error(f"pairs of the elements {', '.join(elements)}, not {name}")
        given[pair] = read_span(tag, value, MOST_LENGTH)
    missing = [pair for pair in pairs if pair not in given]
    if missing and default is None:
        raise tag.error(f"a distance for {'-'.join(missing[0])}, too")
    return {pair: given.get(pair) or default for pair in pairs}  # type: ignore[misc]


def _repeated(
    tag: Tag, lattice: np.ndarray | None, entries: list[Entry], volume: tuple[float, float] | None
) -> tuple[np.ndarray, list[Entry], tuple[float, float] | None]:
    """Return lattice, entries and volume of a supercell of the seed."""
    words = tag.value.replace(",", " ").split()
    if len(words) not in (1, 3, 9) or not all(re.fullmatch(r"[-+]?\d{1,3}", word, re.ASCII) for word in words):
        raise tag.error("1, 3 or 9 whole numbers below 1000")
    numbers = [int(word) for word in words]
    matrix = np.eye(3, dtype=int) * numbers if len(numbers) < 9 else np.array(numbers).reshape(3, 3)
    cells = round(float(np.linalg.det(matrix)))
    if cells < 1:
        raise tag.error("a matrix of positive determinant")
    if lattice is None:
        raise tag.error("a LATTICE block beside it")
    check_total(cells * sum(len(entry.unit.symbols) for entry in entries), tag.text)
    if np.linalg.norm(matrix @ lattice, axis=1).max() > MOST_LENGTH:
        raise tag.error(f"vectors of at most {MOST_LENGTH:g} Å")
    shifts = lattice_points_in_supercell(matrix) @ matrix @ lattice
    copies = []
    for entry, shift in product(entries, shifts):
        start = entry.unit.start
        copies.append(entry if start is None else replace(entry, unit=replace(entry.unit, start=start + shift)))
    return matrix @ lattice, copies, None if volume is None else (volume[0] * cells, volume[1] * cells)
