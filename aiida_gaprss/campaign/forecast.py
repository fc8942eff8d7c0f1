"""What a campaign will ask for: labels, and memory and time of its first and its last fit, from cells that it would make."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.models.base import BaseFit, Forecast
from aiida_gaprss.models.families import family_of
from aiida_gaprss.outside import size
from aiida_gaprss.settings.computer import is_here
from aiida_gaprss.structures.checks import GivenUpError, RandomCellError
from aiida_gaprss.structures.packing import MOST_WORK
from aiida_gaprss.structures.seeding import stage_seed

#: Cells that are made of every kind, and the part of the work of a campaign that one of them may take.
CELLS, PART_OF_WORK = 3, 0.02


def label_budget(inputs: Any) -> int:
    """Return the largest number of reference calculations that a campaign with these inputs can ask for."""
    crystals = inputs["crystals"].n_frames if "crystals" in inputs else 0
    relabel = sum(inputs["relabel"][key].n_frames for key in inputs["relabel"]) if "relabel" in inputs else 0
    return RssSettings(**inputs["settings"].get_dict()).label_budget(crystals, relabel)


@dataclass(frozen=True)
class Made:
    """A kind of cells, some of them, and why there are no more."""

    name: str
    cells: list[Atoms]
    fault: str = ""
    hard: bool = False  #: they only take long to be made

    def describe(self) -> str:
        """Return formulas and volumes."""
        examples = ", ".join(f"{a.get_chemical_formula()} of {a.get_volume() / len(a):.1f} Å³ per atom" for a in self.cells)
        return f"{self.name}: {examples or 'none was made here'}"


def cells_of(settings: RssSettings, seed: int) -> Iterator[Made]:
    """Yield some cells of every kind that is used."""
    for name, kind in settings.seeds.items():
        if kind not in settings.used_seeds:
            continue
        cells: list[Atoms] = []
        try:
            for number in range(CELLS):
                own = stage_seed(seed, number, f"check {name}")
                cells.append(kind.cell(kind.spec(settings.formula), own, PART_OF_WORK * MOST_WORK))
            yield Made(name, cells)
        except RandomCellError as exception:
            yield Made(name, cells, str(exception), isinstance(exception, GivenUpError))


@dataclass(frozen=True)
class Need:
    """What a fit needs, and what its job has."""

    what: str  #: ``first`` or ``last``
    frames: int
    forecast: Forecast
    memory: float  #: bytes that the job has, 0 if nobody knows
    source: str  #: who says so
    seconds: float | None  #: CPU time that the job has, if it is limited

    def describe(self) -> str:
        """Return the sum of it."""
        most = "up to " if self.what == "last" else ""
        return f"{self.what}, of {most}{self.frames} frames: {self.forecast.describe().partition(';')[0]}"

    def lack_of_memory(self) -> str | None:
        """Say that there is too little memory, or return None."""
        needed = 1e6 * self.forecast.memory_MB
        if not self.memory or needed <= self.memory:
            return None
        return f"the {self.what} fit needs about {size(needed)}, {self.source} {size(self.memory)}"

    def lack_of_time(self) -> str | None:
        """Say that there is too little time, or return None."""
        if self.seconds is None or self.forecast.cpu_seconds <= self.seconds:
            return None
        return f"the {self.what} fit takes longer than the job that options.fit gives it"


def needs_of(settings: RssSettings, inputs: Any, cells: list[Atoms]) -> Iterator[Need]:
    """Yield what the first and the last fit will need, as far as cells tell that are not relaxed yet.

    :param inputs: of the campaign, with ``fit``.
    """
    sample = [_as_labelled(atoms) for atoms in cells]
    known = sum(node.n_frames for node in inputs["database"].values())
    first = sum(settings.initial.values()) + len(settings.formula) + known
    fits: tuple[tuple[str, int, BaseFit], ...] = (
        ("first", first, settings.fit),
        ("last", label_budget(inputs) + known, settings.final_fit or settings.fit),
    )
    options = inputs["fit"]["metadata"]["options"]
    limit = options.get("max_wallclock_seconds")
    for what, frames, model in fits:
        need = family_of(model.family).forecast(sample, model) if sample else None
        if need is not None:
            seconds = limit * options["threads"] if limit else None
            code = inputs.get("final_code", inputs["fit"]["code"]) if what == "last" else inputs["fit"]["code"]
            yield Need(what, frames, need.grown(frames / len(sample)), *_memory(options, code), seconds)


def _as_labelled(atoms: Atoms) -> Atoms:
    """Return a copy with labels as a fit counts them."""
    out = atoms.copy()
    fr.set_labels(out, 0.0, np.zeros((len(atoms), 3)), np.zeros(9))
    return out


def _memory(options: dict[str, Any], code: Any) -> tuple[float, str]:
    """Return the memory (bytes) that the job of a fit has, 0 if nobody knows, and who says so."""
    asked = options.get("max_memory_kb")
    if asked:
        return 1000.0 * asked, "options.fit gives"
    if default := code.computer.get_default_memory_per_machine():
        return 1000.0 * default, f"{code.computer.label} has"
    if is_here(code):
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), "this machine has"
    return 0.0, ""
