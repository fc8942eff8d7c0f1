"""Levels of theory: what decides the labels of a calculation, and whether labels may stand in one training set.

:func:`difference` is the one place where levels are compared, :func:`joined` the one where they are put together. A level is a
:class:`Level`, or the one line that is left of it: what a user wrote, or of a dataset that was stored before levels had parts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aiida_gaprss.frames import ISOLATED

#: Value of what an output does not tell. Two such values are the same only if they come from the same import.
NOT_TOLD = "not told"

#: Values under ``also`` that need no word.
_USUAL = ("", "F", "1")

#: Settings that isolated atoms may have of their own, as ``isolated_parameters`` of our references may change them.
OF_THE_CELL = ("smearing", "spin", "boundary", "total moment", "charge")

#: By how much two spacings of k-points may differ and still be meant to be the same one.
SPACING_TOLERANCE = 0.05

#: Å without atoms along a lattice vector; across so much vacuum one k-point samples as well as many.
VACUUM = ISOLATED

#: Setting that names the attempts which may have changed the level of theory.
RETRIED = "retried at another level"

#: Told besides of levels of our references: all settings, those of isolated atoms included.
OUR_SETTINGS = "our settings"

#: Stands for the code of differences of labels, which no program has made.
DIFFERENCE = "difference"

#: Kind of what stands under ``elements`` that says which elements there are.
PSEUDOPOTENTIAL = "pseudopotential"


@dataclass(frozen=True)
class Sampling:
    """Nominal spacings of k-points (1/Å, without 2π) that give all meshes of a level, by the rule that makes a mesh of a spacing.

    With ``up`` there are ⌈|b|/spacing⌉ points along a reciprocal vector (CASTEP, Quantum ESPRESSO's plugin, this package), with
    ``nearest`` it is the nearest whole number (VASP, meshes by hand). A pair is the smallest spacing and the largest, None for
    an upper end that is not there. A rule that no spacing is left of has the smallest above the largest.
    """

    up: tuple[float, float | None]
    nearest: tuple[float, float | None]

    def with_other(self, other: Sampling) -> Sampling:
        """Return what the meshes of both have in common."""
        return Sampling(_overlap(self.up, other.up), _overlap(self.nearest, other.nearest))

    @property
    def possible(self) -> bool:
        """Whether there is a spacing that gives all the meshes, within the tolerance."""
        return any(high is None or low <= high * (1 + SPACING_TOLERANCE) for low, high in (self.up, self.nearest))

    def __str__(self) -> str:
        """Return the spacing, or the range that it lies in."""
        low, high = self.up if self.up[1] is None or self.up[0] <= self.up[1] else self.nearest
        if low == 0:
            return "of vacuum only"
        return f"{low:.3g}/Å" if high is None or f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g}–{high:.3g}/Å"


#: Of isolated atoms, and of cells sampled where it does not matter.
ANY_SAMPLING = Sampling((0.0, None), (0.0, None))


def exactly(spacing: float) -> Sampling:
    """Return the sampling of a spacing that is known, which makes meshes by rounding up."""
    return Sampling((spacing, spacing), (1.0, 0.0))


def sampling_of_mesh(cell: np.ndarray, divisions: Iterable[int], scaled: np.ndarray | None = None) -> Sampling | None:
    """Return the spacings that give a mesh; None if the cell is flat or the mesh is none.

    :param cell: lattice vectors as rows, Å, shape (3, 3).
    :param scaled: positions of the atoms as fractions of the lattice vectors, shape (natoms, 3): across vacuum a single
        division says nothing.
    """
    numbers = [int(n) for n in divisions]
    if abs(np.linalg.det(cell)) < 1e-6 or len(numbers) != 3 or min(numbers) < 1:
        return None
    lengths = np.linalg.norm(np.linalg.inv(np.asarray(cell, dtype=float)).T, axis=1)
    out = ANY_SAMPLING
    for axis, (length, n) in enumerate(zip(lengths, numbers, strict=True)):
        if n > 1 or scaled is None or _gap(scaled[:, axis]) / length < VACUUM:
            up = (float(length / n), float(length / (n - 1)) if n > 1 else None)
            nearest = (float(length / (n + 0.5)), float(length / (n - 0.5)) if n > 1 else None)
            out = out.with_other(Sampling(up, nearest))
    return out


def _gap(fractions: np.ndarray) -> float:
    """Return the largest part of a lattice vector along which there is no atom."""
    places = np.sort(np.asarray(fractions) % 1.0)
    return float(np.diff([*places, places[0] + 1.0]).max())


def _overlap(one: tuple[float, float | None], two: tuple[float, float | None]) -> tuple[float, float | None]:
    highs = [high for _, high in (one, two) if high is not None]
    return max(one[0], two[0]), min(highs) if highs else None


@dataclass(frozen=True)
class Level:
    """What decides the labels of a calculation.

    ``settings`` are compared all, by name; for isolated atoms (``isolated``) only those that both have. ``elements`` has, by
    kind (pseudopotential, Hubbard, …), what is said of each element; it is compared for the elements that two levels share.
    ``also`` is compared only where both tell it. The version of the code and the number of k-points are not compared.
    """

    code: str
    version: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    elements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)
    sampling: Sampling | None = None
    n_kpoints: str = ""
    isolated: bool = False
    #: Settings that an isolated atom has of its own.
    own: Mapping[str, str] = field(default_factory=dict)
    #: Who did not tell what is not told.
    untold: str = ""
    #: One line, if it is not made of the above.
    text: str = ""

    @property
    def line(self) -> str:
        """One line for people."""
        if self.text:
            return self.text
        parts = [f"{self.code} {self.version}".strip()]
        words = {name: value if value != NOT_TOLD else f"{name} {NOT_TOLD}" for name, value in self.settings.items()}
        parts += [words.pop(name) for name in ("functional", "cutoff") if name in words]
        parts += [self._kpoints(), *words.values()]
        parts += [f"{name} {value}" for name, value in self.also.items() if value not in _USUAL]
        for kind, values in self.elements.items():
            told = ", ".join(f"{symbol} {value}" for symbol, value in sorted(values.items()) if value)
            parts += [f"{kind}{'s' if kind == PSEUDOPOTENTIAL else ''} {told}"] if told else []
        return "; ".join(" ".join(part.split()) for part in parts if part)

    def _kpoints(self) -> str:
        if self.isolated:
            return "; ".join(["isolated atom", *self.own.values()])
        if self.sampling is None:
            return f"k-points {NOT_TOLD}" + (f" ({self.n_kpoints} irreducible)" if self.n_kpoints else "")
        return f"k-point spacing {self.sampling}"

    def of_isolated_atom(self) -> Level:
        """Return the level without what isolated atoms may have of their own."""
        kept = {name: value for name, value in self.settings.items() if name not in OF_THE_CELL}
        own = {name: value for name, value in self.settings.items() if name in OF_THE_CELL}
        return replace(self, settings=kept, own=own, sampling=ANY_SAMPLING, isolated=True)

    def told_by(self, content: str) -> Level:
        """Return the level, with a mark of the outputs it is from."""
        return replace(self, untold=_mark(content))

    def as_dict(self) -> dict[str, Any]:
        """Return it as an attribute of a node."""
        sampling = self.sampling and {"up": list(self.sampling.up), "nearest": list(self.sampling.nearest)}
        return {
            "code": self.code,
            "version": self.version,
            "settings": dict(self.settings),
            "elements": {kind: dict(values) for kind, values in self.elements.items()},
            "also": dict(self.also),
            "sampling": sampling,
            "n_kpoints": self.n_kpoints,
            "isolated": self.isolated,
            "own": dict(self.own),
            "untold": self.untold,
            "text": self.text,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Level:
        """Return what :meth:`as_dict` was made of."""
        if content["code"] == DIFFERENCE:
            return Difference.of(level_of_content(content["dear"]), level_of_content(content["cheap"]))
        pairs = content["sampling"]
        sampling = Sampling(tuple(pairs["up"]), tuple(pairs["nearest"])) if pairs else None
        return cls(**{**content, "sampling": sampling})


@dataclass(frozen=True)
class Difference(Level):
    """What decides differences of labels, those of a dear level minus those of a cheap one: no labels of either."""

    dear: Level | str = ""
    cheap: Level | str = ""

    @classmethod
    def of(cls, dear: Level | str, cheap: Level | str) -> Difference:
        """Return the level of dear minus cheap."""
        return cls(DIFFERENCE, dear=dear, cheap=cheap)

    @property
    def line(self) -> str:
        """One line for people."""
        return f"{DIFFERENCE}: {line_of(self.dear)} minus {line_of(self.cheap)}"

    @property
    def parts(self) -> dict[str, Level | str]:
        """Both levels by what they are called."""
        return {"dear": self.dear, "cheap": self.cheap}

    def as_dict(self) -> dict[str, Any]:
        """Return it as an attribute of a node."""
        return {"code": DIFFERENCE, **{name: content_of(level) for name, level in self.parts.items()}}


def _mark(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:16] if content else ""


def content_of(level: Level | str) -> dict[str, Any]:
    """Return a level as the content of a node; :func:`level_of_content` reads it."""
    return {"line": level} if isinstance(level, str) else level.as_dict()


def level_of_content(content: Mapping[str, Any]) -> Level | str:
    """Return the level that :func:`content_of` made the content of a node of."""
    return str(content["line"]) if "line" in content else Level.from_dict(content)


def line_of(level: Level | str) -> str:
    """Return the one line of a level."""
    return level if isinstance(level, str) else level.line


def attempts_at_another(level: Level | str) -> set[int]:
    """Return the numbers (from 1) of the attempts whose labels are of another level than the rest of a dataset."""
    of_level = level.settings.get(RETRIED, "") if isinstance(level, Level) else level.partition(RETRIED)[2]
    return {int(number) for number in re.findall(r"\battempt (\d+)", of_level)}


def difference(levels: Mapping[str, Level | str]) -> str | None:
    """Return in what levels differ, naming two of them, or None if labels of all may stand in one training set.

    :param levels: by what to call them.
    """
    names = list(levels)
    for number, name in enumerate(names):
        for other in names[:number]:
            reason = _difference(levels[other], levels[name])
            if reason:
                return f"{other} and {name} differ in {reason}"
    whole = {name: level for name, level in levels.items() if isinstance(level, Difference)}
    found = [_no_one_mesh({name: level.parts[part] for name, level in whole.items()}) for part in ("dear", "cheap")]
    return next(filter(None, [*found, _no_one_mesh(levels)]), None)


def mixed_up(levels: Mapping[str, Level | str]) -> str | None:
    """Return that some are differences of labels and others are labels, which nobody's word can mix; or None.

    :param levels: by what to call them.
    """
    of = {name for name, level in levels.items() if isinstance(level, Difference)}
    if not of or len(of) == len(levels):
        return None
    first, other = next(iter(sorted(of))), next(name for name in levels if name not in of)
    return f"{first} has differences of labels ({line_of(levels[first])}), {other} has labels; expected one or the other"


def _no_one_mesh(levels: Mapping[str, Level | str]) -> str | None:
    """Return that no one spacing of k-points gives the meshes of all levels, or None."""
    sampled = {name: level.sampling for name, level in levels.items() if isinstance(level, Level) and level.sampling}
    common = ANY_SAMPLING
    for sampling in sampled.values():
        common = common.with_other(sampling)
    if not common.possible:
        spacings = ", ".join(f"{name} {sampling}" for name, sampling in sampled.items())
        return f"no one k-point spacing gives all meshes: {spacings}"
    return None


def _difference(one: Level | str, two: Level | str) -> str | None:
    """Return in what two levels differ, or None."""
    if isinstance(one, str) or isinstance(two, str):
        lines = line_of(one), line_of(two)
        return None if lines[0] == lines[1] else f"the line that describes them: {lines[0]!r}, {lines[1]!r}"
    if isinstance(one, Difference) and isinstance(two, Difference):
        return next(filter(None, (_difference(one.parts[name], two.parts[name]) for name in one.parts)), None)
    if isinstance(one, Difference) or isinstance(two, Difference):
        return f"what the labels are: {one.line!r}, {two.line!r}"
    if one.code != two.code:
        return f"the code: {one.code}, {two.code}"
    reasons = [
        *_settings_difference(one, two),
        *_elements_difference(one, two),
        *_also_difference(one, two),
        *_sampling_difference(one, two),
    ]
    return "; ".join(reasons) or None


def _of_one_import(one: Level, two: Level) -> bool:
    return bool(one.untold) and one.untold == two.untold


def _sampling_difference(one: Level, two: Level) -> Iterable[str]:
    if one.sampling is not None and two.sampling is not None:
        if not one.sampling.with_other(two.sampling).possible:
            yield f"k-point spacing: {one.sampling}, {two.sampling}"
    elif one.sampling is not two.sampling:
        yield f"k-points: {NOT_TOLD} by one"
    elif not _of_one_import(one, two):
        yield f"k-points: {NOT_TOLD} by both"


def _also_difference(one: Level, two: Level) -> Iterable[str]:
    for name, value in one.also.items():
        if name in two.also and two.also[name] != value:
            yield f"{name}: {value}, {two.also[name]}"


def _settings_difference(one: Level, two: Level) -> Iterable[str]:
    names = dict.fromkeys([*one.settings, *two.settings])
    if one.isolated or two.isolated:
        names = {name: None for name in names if name in one.settings and name in two.settings}
    for name in names:
        yield from _value_difference(name, one.settings.get(name, "none"), two.settings.get(name, "none"), one, two)


def _elements_difference(one: Level, two: Level) -> Iterable[str]:
    shared = sorted(set(one.elements.get(PSEUDOPOTENTIAL, ())) & set(two.elements.get(PSEUDOPOTENTIAL, ())))
    for kind in dict.fromkeys([*one.elements, *two.elements]):
        for symbol in shared:
            first, second = (level.elements.get(kind, {}).get(symbol, "") for level in (one, two))
            yield from _value_difference(f"{kind} of {symbol}", first, second, one, two)


def _value_difference(name: str, first: str, second: str, one: Level, two: Level) -> Iterable[str]:
    if _content(first) != _content(second):
        yield f"{name}: {first or 'none'}, {second or 'none'}"
    elif NOT_TOLD in first and not _of_one_import(one, two):
        yield f"{name}: {first} by both"


def _content(text: str) -> list[str]:
    """Return what the files of pseudopotentials are compared by: their checksums where they are told, else their names."""
    return sorted(re.sub(r"\S+ \(md5 (\w+)\)", r"\1", part) for part in text.split(" and "))


def joined(levels: Iterable[Level | str]) -> Level | str:
    """Return the level of labels that are put together; of levels that differ, one line with all of them."""
    distinct = {line if isinstance(line, str) else json.dumps(line.as_dict(), sort_keys=True): line for line in levels}
    found = list(distinct.values())
    if len(found) == 1:
        return found[0]
    whole = [level for level in found if isinstance(level, Level)]
    if len(whole) < len(found) or difference({str(number): level for number, level in enumerate(whole)}):
        return " | ".join(sorted({line_of(level) for level in found}))
    return _common(whole)


def _common(levels: list[Level]) -> Level:
    """Return one level for those that are the same: with all elements, and the spacings that give all meshes."""
    first = next((level for level in levels if not level.isolated), levels[0])
    if isinstance(first, Difference):
        return Difference.of(*(joined(level.parts[name] for level in levels) for name in first.parts))  # type: ignore[attr-defined]
    sampling: Sampling | None = ANY_SAMPLING
    for level in levels:
        sampling = sampling.with_other(level.sampling) if sampling and level.sampling else None
    kinds = dict.fromkeys(kind for level in levels for kind in level.elements)
    marks = sorted({level.untold for level in levels} - {""})
    return replace(
        first,
        version=_united(level.version for level in levels),
        elements={kind: _merged(level.elements.get(kind, {}) for level in levels) for kind in kinds},
        also=_merged(level.also for level in levels),
        sampling=sampling,
        n_kpoints=_united(level.n_kpoints for level in levels),
        untold=marks[0] if len(marks) == 1 else _mark(" ".join(marks)),
        text=next((level.text for level in levels if level.text), ""),
    )


def _united(texts: Iterable[str]) -> str:
    """Return the items of lists with commas, each once."""
    return ", ".join(dict.fromkeys(item for text in texts for item in text.split(", ") if item))


def _merged(mappings: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {key: value for mapping in reversed(list(mappings)) for key, value in mapping.items()}
