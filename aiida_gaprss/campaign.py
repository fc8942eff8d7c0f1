"""The settings of a GAP-RSS campaign as a typed model, and the protocols that give their defaults."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator
from ruamel.yaml import YAML

from aiida_gaprss.calculations.relax import RelaxSettings
from aiida_gaprss.fitting.settings import FitSettings, Model
from aiida_gaprss.structures.random_cells import CellSpec

PROTOCOLS = Path(__file__).parent / "workflows" / "protocols"


class SeedSettings(Model):
    """One kind of random cells (see ``structures.random_cells.CellSpec``)."""

    n_atoms: list[PositiveInt] = Field(min_length=1, description="atoms per cell, drawn evenly from the list")
    volume_per_atom: tuple[PositiveFloat, PositiveFloat] = Field(description="Å³, drawn uniformly")
    min_separation: PositiveFloat | dict[str, PositiveFloat] = Field(description="Å, for all pairs or by pair (Si-O: 1.6)")
    n_operations: list[PositiveInt] = Field(default=[1], description="symmetry operations, drawn evenly from the list")

    def spec(self, formula: dict[str, int]) -> CellSpec:
        """Return the specification for a chemical formula.

        :raises RandomCellError: if such cells cannot exist.
        """
        return CellSpec(
            formula=formula,
            n_atoms=tuple(self.n_atoms),
            volume_per_atom=self.volume_per_atom,
            min_separation=self.min_separation,
            n_operations=tuple(self.n_operations),
        )


class PressureSettings(Model):
    """Random external pressure: ``width_GPa`` times a number drawn from an exponential distribution of rate ``rate``.

    Deringer, Pickard and Csányi (PRL 120, 156001) give a width of 100 GPa and λ = 5, a mean of 20 GPa.
    """

    width_GPa: NonNegativeFloat = 100.0
    rate: PositiveFloat = 5.0

    def draw(self, n: int, seed: int) -> np.ndarray:
        """Return ``n`` pressures, GPa."""
        return self.width_GPa * np.random.default_rng(seed).exponential(1.0 / self.rate, n)


class FilterSettings(Model):
    """What is too absurd to be labelled."""

    min_separation_factor: PositiveFloat = Field(0.7, description="of the seeds' smallest separation")
    volume_per_atom: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None, description="Å³; default: ×0.4 … ×2.5 of the seeds' range"
    )
    max_force: PositiveFloat | None = Field(None, description="eV/Å, predicted")


class SelectionSettings(Model):
    """Which of the relaxed frames are labelled."""

    minima: NonNegativeInt = Field(description="number of end points")
    snapshots: NonNegativeInt = Field(0, description="number of frames from early steps of relaxations")
    method: Literal["random", "boltzmann", "diverse"] = "random"
    kT: PositiveFloat = Field(0.2, description="eV/atom, of the Boltzmann bias towards low energy")
    duplicates: bool = Field(False, description="keep minima that look the same as another one")


class GenerationSettings(Model):
    """One generation: cells made, relaxed with the last potential, and labelled in part."""

    cells: dict[str, PositiveInt] = Field(description="number of cells of each kind of seed")
    pressure: PressureSettings = Field(default_factory=PressureSettings)
    relax: RelaxSettings = Field(default_factory=RelaxSettings)
    select: SelectionSettings


class SearchSettings(Model):
    """The search with the final potential, at zero pressure."""

    cells: dict[str, PositiveInt]
    relax: RelaxSettings = Field(default_factory=lambda: RelaxSettings(snapshot_steps=[]))
    window: PositiveFloat = Field(0.5, description="eV/atom above the lowest within which minima are reported")
    report: PositiveInt = Field(10, description="number of minima reported")
    label: NonNegativeInt = Field(5, description="number of the lowest minima checked against the reference")


class RssSettings(Model):
    """A whole campaign."""

    formula: dict[str, PositiveInt] = Field(description="atoms per formula unit")
    seeds: dict[str, SeedSettings] = Field(min_length=1, description="kinds of random cells by name")
    initial: dict[str, PositiveInt] = Field(min_length=1, description="number of unrelaxed cells of each kind labelled first")
    generations: list[GenerationSettings] = Field(default_factory=list)
    fit: FitSettings = Field(description="smooth settings, used while iterating")
    final_fit: FitSettings | None = Field(None, description="tight settings of the last fit; default: those of the iterations")
    filter: FilterSettings = Field(default_factory=FilterSettings)
    search: SearchSettings | None = None
    isolated_atom_box: PositiveFloat = Field(15.0, description="Å, edge of the box of the isolated atoms")

    @field_validator("formula")
    @classmethod
    def _formula(cls, value: dict[str, int]) -> dict[str, int]:
        if not value:
            raise ValueError("expected at least one element, e.g. {Si: 1}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> RssSettings:
        for name, seed in self.seeds.items():
            try:
                seed.spec(dict(self.formula))
            except ValueError as exception:
                raise ValueError(f"seeds.{name}: {exception}") from exception
        counts = {"initial": self.initial, **{f"generations.{i}.cells": g.cells for i, g in enumerate(self.generations)}}
        if self.search:
            counts["search.cells"] = self.search.cells
        for where, cells in counts.items():
            unknown = sorted(set(cells) - set(self.seeds))
            if unknown:
                raise ValueError(f"{where}: no kind of seed is called {', '.join(unknown)}; known: {', '.join(self.seeds)}")
        if self.isolated_atom_box <= self.fit.cutoff:
            raise ValueError(f"isolated_atom_box ({self.isolated_atom_box} Å) must exceed the cutoff ({self.fit.cutoff} Å)")
        return self

    @property
    def min_separation(self) -> float:
        """Smallest separation of all seeds, Å."""
        values = [s.min_separation for s in self.seeds.values()]
        return min(min(v.values()) if isinstance(v, dict) else v for v in values)

    def volume_limits(self) -> tuple[float, float]:
        """Return the volumes per atom (Å³) outside of which a frame is not labelled."""
        if self.filter.volume_per_atom:
            return self.filter.volume_per_atom
        return (
            0.4 * min(s.volume_per_atom[0] for s in self.seeds.values()),
            2.5 * max(s.volume_per_atom[1] for s in self.seeds.values()),
        )

    def label_budget(self) -> int:
        """Return the largest number of reference calculations the campaign can ask for."""
        chosen = sum(g.select.minima + g.select.snapshots for g in self.generations)
        return len(self.formula) + sum(self.initial.values()) + chosen + (self.search.label if self.search else 0)


def stage_seed(seed: int, generation: int, stage: str) -> int:
    """Return the seed of one stage, derived from the campaign's seed: positive and below 2³¹, as gap_fit needs."""
    name = [ord(letter) for letter in stage]
    return int(np.random.SeedSequence([seed, generation, *name]).generate_state(1)[0] % (2**31 - 2)) + 1


def protocol_names() -> list[str]:
    """Return the names of the protocols that come with the package."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


@cache
def _protocol_text(name: str) -> str:
    path = PROTOCOLS / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"unknown protocol {name!r}; known: {', '.join(protocol_names())}")
    return path.read_text(encoding="utf-8")


def protocol(name: str) -> dict[str, Any]:
    """Return a protocol as plain data.

    :raises ValueError: if there is no protocol of that name.
    """
    return dict(YAML(typ="safe").load(_protocol_text(name)))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes``: mappings are merged key by key, everything else replaced."""
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out
