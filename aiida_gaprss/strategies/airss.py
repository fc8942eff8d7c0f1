"""Seeds of AIRSS: CASTEP cell files whose ``#TAG`` lines say how random cells are made of them.

What the tags mean follows the manual of buildcell (https://airss-docs.github.io); a tag that is not followed here is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations_with_replacement, product

import numpy as np
from ase.build.supercells import lattice_points_in_supercell
from ase.cell import Cell
from ase.data import atomic_numbers
from ase.formula import Formula
from ase.units import Bohr

from aiida_gaprss.outside import shown
from aiida_gaprss.structures.building import Recipe, Shape, Unit
from aiida_gaprss.structures.checks import RandomCellError, check_packing, check_total
from aiida_gaprss.structures.spacegroups import primitive_operations, space_groups_by_order

#: Bytes of a seed, and characters of a line of it.
MOST_BYTES, LONGEST_LINE = 100_000, 2000

#: Largest numbers that tags can give: whole ones, lengths (Å), volumes (Å³ of all atoms that are listed).
MOST_WHOLE, MOST_LENGTH, MOST_VOLUME = 1000, 1000.0, 1e6

#: A single volume is drawn up to this fraction above and below.
VOLUME_VARIATION = 0.05

#: Defaults of CONS and ACONS.
CONS, ACONS = 0.4, 0.5

#: Displacement of atoms where the symmetry is to be approximate (``~``), as a fraction of the smallest MINSEP.
APPROXIMATE = 0.1

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


@dataclass(frozen=True, eq=False)
class Entry:
    """Lines of a seed that stay together: one atom, or a rigid unit; ``numbers`` of copies to draw from."""

    unit: Unit
    numbers: tuple[int, ...] = (1,)


@dataclass(frozen=True, eq=False)
class AirssSpec:
    """What an AIRSS seed says, ready to draw from; made by :func:`parse_seed`.

    ``volume``: Å³ for every listed atom, smallest and largest. ``n_form``: copies to draw from; None: as many as operations.
    ``n_atoms``: totals of one copy; None: as they come. ``mixed``: the species of every atom is random. ``separations``: smallest
    and largest MINSEP of every pair, Å. ``strain``: CELLAMP; None: the lattice is random.
    """

    entries: tuple[Entry, ...]
    volume: tuple[float, float] | None
    separations: Mapping[tuple[str, str], tuple[float, float]]
    n_form: tuple[int, ...] | None = None
    n_atoms: tuple[int, ...] | None = None
    mixed: bool = False
    groups: tuple[tuple[int, ...], ...] = ((1,),)
    approximate: bool = False
    slack: float = 0.0
    shape: Shape = field(default_factory=Shape)
    lattice: np.ndarray | None = None
    strain: float | None = None

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that occur."""
        return tuple(dict.fromkeys(symbol for entry in self.entries for symbol in entry.unit.symbols))

    @cached_property
    def listed(self) -> int:
        """Number of atoms that the seed lists."""
        return sum(len(entry.unit.symbols) for entry in self.entries)

    @cached_property
    def volume_range(self) -> tuple[float, float]:
        """Smallest and largest volume per atom, Å³."""
        if self.volume is not None:
            return self.volume[0] / self.listed, self.volume[1] / self.listed
        assert self.lattice is not None
        assert self.strain is not None
        volume = abs(np.linalg.det(self.lattice)) / self.listed
        return float(volume * max(1 - self.strain, 0.1) ** 3), float(volume * (1 + self.strain) ** 3)

    @cached_property
    def smallest_separation(self) -> float:
        """Smallest distance of two atoms, Å, those within a unit included."""
        inside = [
            float(np.linalg.norm(here - there))
            for entry in self.entries
            for number, here in enumerate(entry.unit.offsets)
            for there in entry.unit.offsets[:number]
        ]
        return min([low * (1 - self.slack) for low, _ in self.separations.values()] + inside)

    def check(self) -> None:
        """Check that cells can exist.

        :raises RandomCellError: if no number of units fits the operations, or the separations do not fit the volume.
        """
        copies = max(self.n_form or [len(primitive_operations(groups[0])) for groups in self.groups])
        listed = max(self.n_atoms) if self.n_atoms else sum(len(e.unit.symbols) * max(e.numbers) for e in self.entries)
        check_total(copies * listed, "NFORM, NATOM and NUM")
        if not self._feasible():
            orders = sorted({len(primitive_operations(groups[0])) for groups in self.groups})
            raise RandomCellError(
                f"NFORM and NUM give no number of rigid units that is a multiple of {' or '.join(map(str, orders))} operations"
            )
        if self.n_atoms is None and not self.mixed:
            lows = _both_orders({pair: low * (1 - self.slack) for pair, (low, _) in self.separations.items()})
            single = Counter(s for e in self.entries if len(e.unit.symbols) == 1 for s in e.unit.symbols * max(e.numbers))
            total = sum(len(e.unit.symbols) * max(e.numbers) for e in self.entries)
            if single:
                check_packing(lows, single, total * self.volume_range[1])

    def _feasible(self) -> bool:
        counts = [entry.numbers for entry in self.entries if len(entry.unit.symbols) > 1]
        for groups in self.groups:
            order = len(primitive_operations(groups[0]))
            rests = [{n % order for n in numbers} for numbers in counts]
            for copies in {copies % order for copies in self.n_form or (order,)}:
                if all(any(copies * n % order == 0 for n in numbers) for numbers in rests):
                    return True
        return False

    def recipes(self, rng: np.random.Generator, draws: int, trials: int) -> Iterator[Recipe]:
        """Yield recipes; with slack, most of them keep separations that are smaller by it, after some that do not."""
        groups = self.groups[rng.choice(len(self.groups))]
        in_full = max(draws // 4, 1)
        for shrunk, number in ((0.0, in_full), (self.slack, draws - in_full)) if self.slack else ((0.0, draws),):
            for _ in range(number):
                order = len(primitive_operations(groups[0]))
                copies = int(rng.choice(self.n_form or (order,)))
                contents = self._contents(copies, order, rng)
                if contents is None:
                    continue
                atoms, units, total = contents
                for _ in range(trials):
                    yield self._recipe(int(rng.choice(groups)), atoms, units, total, 1 - shrunk, rng)

    def _contents(self, copies: int, order: int, rng: np.random.Generator) -> tuple[dict[str, int], list[Unit], int] | None:
        """Return single atoms by element, units of one asymmetric part, and the number of atoms; None if they do not fit."""
        if self.mixed:
            assert self.n_atoms is not None
            kinds = rng.choice(len(self.entries), size=int(rng.choice(self.n_atoms)))
            numbers = [int((kinds == index).sum()) for index in range(len(self.entries))]
        else:
            numbers = [int(rng.choice(entry.numbers)) for entry in self.entries]
        sizes = [len(entry.unit.symbols) for entry in self.entries]
        total = sum(number * size for number, size in zip(numbers, sizes, strict=True))
        if not total or (self.n_atoms is not None and total not in self.n_atoms):
            return None
        atoms: dict[str, int] = {}
        units: list[Unit] = []
        for entry, number in zip(self.entries, numbers, strict=True):
            if len(entry.unit.symbols) == 1 and entry.unit.start is None:
                symbol = entry.unit.symbols[0]
                atoms[symbol] = atoms.get(symbol, 0) + number * copies
            elif number * copies % order:
                return None
            else:
                units += [entry.unit] * (number * copies // order)
        return {symbol: count for symbol, count in atoms.items() if count}, units, total * copies

    def _recipe(
        self,
        group: int,
        atoms: dict[str, int],
        units: list[Unit],
        total: int,
        factor: float,
        rng: np.random.Generator,
    ) -> Recipe:
        drawn = {pair: factor * rng.uniform(*ends) for pair, ends in sorted(self.separations.items())}
        table = _both_orders(drawn)
        jitter = APPROXIMATE * min(drawn.values()) if self.approximate else None
        lattice, volume = None, 0.0
        if self.strain is not None:
            assert self.lattice is not None
            lattice, units = self._strained(units, rng)
        else:
            volume = total * rng.uniform(*self.volume_range)
        return Recipe(volume, group, table, atoms, units, self.shape, lattice, jitter)

    def _strained(self, units: list[Unit], rng: np.random.Generator) -> tuple[np.ndarray, list[Unit]]:
        """Return the lattice with a symmetric random strain, and the units at the same fractional positions in it."""
        assert self.lattice is not None
        assert self.strain is not None
        strain = np.diag(rng.uniform(-1, 1, 3) * self.strain)
        strain[np.triu_indices(3, 1)] = rng.uniform(-1, 1, 3) * self.strain / 2
        deform = np.eye(3) + np.triu(strain) + np.triu(strain, 1).T
        moved = [unit if unit.start is None else replace(unit, start=unit.start @ deform) for unit in units]
        return self.lattice @ deform, moved

    def limits(self) -> str:
        """Return what the atoms are to keep."""
        pairs = {"-".join(pair): ends for pair, ends in self.separations.items()}
        low, high = self.volume_range
        return f"MINSEP {pairs} Å at {low:g}–{high:g} Å³ per atom"


def _both_orders(pairs: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    return {**pairs, **{(b, a): value for (a, b), value in pairs.items()}}


# --- reading -----------------------------------------------------------------------------------------------------------


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
        value = _real(tag.value)
        if value is None or not least <= value <= most:
            raise tag.error(expected)
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return the whole numbers of a tag, None without it."""
        return None if name not in self.tags else _integers(self.tags[name])


#: A number as Fortran reads it, and nothing else that Python takes for one.
_REAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d{1,3})?", re.ASCII)


def _real(word: str) -> float | None:
    """Return a finite number, or None if there is none."""
    value = float(re.sub("[dD]", "e", word)) if _REAL.fullmatch(word) else np.inf
    return value if np.isfinite(value) else None


def parse_seed(text: str) -> AirssSpec:
    """Read a seed of AIRSS.

    :raises RandomCellError: with the line and the tag that is unknown, not followed here, or wrong.
    """
    raw = _take_apart(text)
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


def _take_apart(text: str) -> Raw:
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


def _integers(tag: Tag) -> tuple[int, ...]:
    """Return the whole numbers of ``4``, ``2-8``, ``{6,8,10}`` or ``1,2,5-10``."""
    numbers: set[int] = set()
    for part in tag.value.strip("{}").split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?\s*", part, re.ASCII)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise tag.error("whole numbers: 4, 2-8 or {6,8,10}")
        if max(int(match[1]), int(match[2] or 0)) > MOST_WHOLE:
            raise tag.error(f"whole numbers up to {MOST_WHOLE}")
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(numbers))


def _span(tag: Tag, text: str, most: float) -> tuple[float, float]:
    """Return smallest and largest of ``1.5`` or ``1.5-2.0``, at most ``most``."""
    match = re.fullmatch(r"(\d*\.?\d+|\d+\.)(?:-(\d*\.?\d+|\d+\.))?", text.strip(), re.ASCII)
    if match is None:
        raise tag.error("numbers above 0, or ranges of them (1.5-2.0)")
    low, high = float(match[1]), float(match[2] or match[1])
    if not 0 < low <= high:
        raise tag.error("numbers above 0, or ranges of them, the smaller end first")
    if high > most:
        raise tag.error(f"numbers up to {most:g}")
    return low, high


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
        row = [_real(word) for word in line.split()]
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
        tags = _atom_tags(tag.line, " ".join(modifiers))
        if set(tags) - {"NUM"}:
            raise tag.error("only NUM after the %")
        numbered += "NUM" in tags
        entries.append(Entry(_atom(_element(tag.line, symbol.strip())), _integers(tags["NUM"]) if "NUM" in tags else (1,)))
    return entries, "NATOM" in raw.tags and not numbered


def _outside_braces(text: str) -> list[str]:
    """Return the parts of ``A%NUM={1,2},B`` between commas that are not in braces."""
    return re.split(r",(?![^{]*\})", text)


def _atom(symbol: str) -> Unit:
    return Unit((symbol,), np.zeros((1, 3)))


def _atom_tags(number: int, text: str) -> dict[str, Tag]:
    """Return the tags after the % of an atom."""
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
        coordinates = [_real(word) for word in words[1:]]
        if len(words) != 4 or None in coordinates:
            raise RandomCellError(f"line {number}: {shown(place.strip(), 80)!r}, expected an element and three coordinates")
        symbol, position = words[0], np.array(coordinates, dtype=float)
        position = position @ lattice if given[0] == "POSITIONS_FRAC" else position * scale
        key = label.strip() or f"line {number}"
        groups.setdefault(key, []).append((_element(number, symbol), position, _atom_tags(number, after)))
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
    numbers = _integers(tags["NUM"]) if "NUM" in tags else (1,)
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
    numbers = _integers(replace(tag, value=tag.value.removeprefix("~")))
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
        low, high = _span(tag, tag.value, MOST_VOLUME)
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
            default = _span(tag, word, MOST_LENGTH)
            continue
        first, _, second = name.partition("-")
        pair = (first, second) if (first, second) in pairs else (second, first)
        if pair not in pairs:
            raise tag.error(f"pairs of the elements {', '.join(elements)}, not {name}")
        given[pair] = _span(tag, value, MOST_LENGTH)
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
