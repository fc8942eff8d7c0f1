"""The settings of a GAP-RSS campaign as a typed model, and the protocols that give their defaults."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from ase.data import atomic_numbers
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from aiida_gaprss.analysis.convergence import StopSettings
from aiida_gaprss.campaign.search import MINIMUM, HoldSettings, SearchSettings
from aiida_gaprss.frames import ISOLATED
from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.models.families import FitSettings, expand, family_named, family_of, fit_settings
from aiida_gaprss.models.regularisation import ComponentWise, Constant
from aiida_gaprss.properties.suite import AnySuite
from aiida_gaprss.selection.alone import REACH
from aiida_gaprss.selection.sanity import Limits
from aiida_gaprss.selection.settings import SelectionSettings
from aiida_gaprss.settings.faults import Fault, FaultError, Place
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import (
    AtomCount,
    Count,
    Fraction,
    Length,
    Model,
    Name,
    Positive,
    Pressure,
    Volume,
)
from aiida_gaprss.settings.plugins import KindError
from aiida_gaprss.settings.protocols import Protocols, merged, part_at, with_part
from aiida_gaprss.strategies.base import Strategy
from aiida_gaprss.strategies.cells import Seed
from aiida_gaprss.strategies.dimers import Dimers, DimerSettings
from aiida_gaprss.strategies.distort import Distort, DistortSettings
from aiida_gaprss.strategies.lists import CHOOSE, MAX_LABELS, Choice, Strategies, StrategyList
from aiida_gaprss.structures.compositions import text
from aiida_gaprss.structures.random_cells import RandomCellError

PROTOCOLS = Protocols(Path(__file__).parent / "protocols")

#: Mappings of which a part would make no sense with the rest of another.
REPLACED = ("formula", "initial", "cells", "n_sparse", "e0")

_SEED: TypeAdapter[Seed] = TypeAdapter(Seed)
_FORMULA: TypeAdapter[dict[str, int]] = TypeAdapter(dict[str, AtomCount])

#: Places of the settings of fits.
FITS: tuple[Place, ...] = (("fit",), ("final_fit",), ("refine", "fit"))

STOP_WHERE_UNSURE = "stop_where_unsure"


class PressureSettings(Model):
    """Random external pressure: ``width_GPa`` times a number drawn from an exponential distribution of rate ``rate``.

    Deringer, Pickard and Csányi (PRL 120, 156001) give a width of 100 GPa and λ = 5, a mean of 20 GPa.
    """

    width_GPa: Annotated[Pressure, Field(ge=0)] = 100.0
    rate: Positive = 5.0

    def draw(self, n: int, seed: int) -> np.ndarray:
        """Return ``n`` pressures, GPa."""
        return self.width_GPa * np.random.default_rng(seed).exponential(1.0 / self.rate, n)


class FilterSettings(Model):
    """What is too absurd to be labelled."""

    min_separation_factor: Positive = Field(0.7, description="of the seeds' smallest separation")
    volume_per_atom: tuple[Volume, Volume] | None = Field(None, description="Å³; default: ×0.4 … ×2.5 of the seeds' range")
    max_neighbour_factor: Positive | None = Field(
        REACH, description="sums of covalent radii within which every atom needs a neighbour; null: no matter"
    )
    max_force: Positive | None = Field(None, description="eV/Å, predicted")


class GenerationSettings(Model):
    """One generation: cells made, relaxed with the last potential, and labelled in part."""

    cells: dict[Name, Count] = Field(min_length=1, description="number of cells of each kind of seed")
    pressure: PressureSettings = Field(default_factory=PressureSettings)
    relax: RelaxSettings = Field(default_factory=RelaxSettings)
    select: SelectionSettings
    hull_bias: Positive | None = Field(
        None,
        description="eV/atom; compositions are drawn with weight exp(-d/hull_bias), at least 0.1, d the height of their lowest "
        "relaxed frame above the convex hull of the database (0 where it has none); for seeds with ranges of composition",
    )

    @model_validator(mode="after")
    def _unsure(self) -> GenerationSettings:
        if self.select.takes_from("unsure") and not self.relax.stop_where_unsure:
            raise ValueError("select: of: unsure takes frames of stopped relaxations; expected relax: {stop_where_unsure: …}")
        return self

    def most_labels(self) -> int:
        """Return the largest number of frames that can be chosen."""
        return self.select.at_most(sum(self.cells.values()), self.relax.n_snapshots)


class CrystalSettings(DistortSettings):
    """Distorted cells of known crystals (the input ``crystals``), labelled once, at the start or after all generations."""

    when: Literal["start", "end"] = "end"


def with_rule(fit: BaseFit, rule: Constant | ComponentWise) -> BaseFit:
    """Return the settings of a fit with another rule before its own; as they are, if its family has none."""
    rules = getattr(fit, "regularisation", None)
    if rules is None:
        return fit
    return type(fit)(**{**fit.model_dump(), "regularisation": [rule.model_dump(), *(one.model_dump() for one in rules)]})


class RefineSettings(Model):
    """What is done with the minima that the last search has found, so that the potential has their properties right."""

    lowest: Count = Field(1, description="so many of the lowest minima")
    strategies: Strategies = Field(min_length=1, description="as in the file of aiida-gaprss build")
    max_labels: Count = Field(300, description=f"{MAX_LABELS}; of all rounds together")
    max_rounds: Count = Field(
        1, description="repeated, with frames of other seeds, while a property is out of its limits; needs validate"
    )
    choose: Choice = Field("random", description=CHOOSE)
    fit: FitSettings | None = Field(None, description="of the fit to everything; default: final_fit, or fit")
    component: bool = Field(
        True,
        description="fit frames of small displacements and strains with sigmas of single components, as Allen and Bartók (2022); "
        "false, or a family without regularisation: as the other frames",
    )

    @property
    def kinds(self) -> list[str]:
        """The config types of the frames of the strategies."""
        return [one.config_type_as(name) for name, one in self.strategies.items()]

    def fit_to(self, kinds: Collection[str], otherwise: BaseFit) -> BaseFit:
        """Return the settings of the fit to frames of some config types.

        :param otherwise: settings, if none are given here.
        """
        fit: BaseFit = self.fit or otherwise
        mine = [one.config_type_as(name) for name, one in self.strategies.items() if one.harmonic]
        there = sorted(set(mine) & set(kinds))
        return with_rule(fit, ComponentWise(config_types=there)) if self.component and there else fit

    def list_of(self, seed: int, max_labels: int | None = None) -> StrategyList:
        """Return the strategies with a seed, and what is left of the labels."""
        most = max_labels or self.max_labels
        return StrategyList(strategies=dict(self.strategies), max_labels=most, choose=self.choose, seed=seed)


class RssSettings(Model):
    """A whole campaign."""

    model_config = ConfigDict(populate_by_name=True)

    formula: dict[str, AtomCount] = Field(description="atoms per formula unit")
    seeds: dict[Name, Seed] = Field(description="kinds of random cells by name")
    initial: dict[Name, Count] = Field(
        default_factory=dict,
        description="number of unrelaxed cells of each kind labelled first; may be empty if there is a database",
    )
    generations: list[GenerationSettings] = Field(default_factory=list)
    max_generations: Count | None = Field(
        None, description="the last of the generations is repeated up to this number; default: each once"
    )
    max_labels: Count | None = Field(
        None, description="frames that the generations may have labelled, those of the start included; then comes the final fit"
    )
    stop: StopSettings | None = Field(None, description="end the generations before their number when nothing new turns up")
    crystals: CrystalSettings | None = Field(None, description="add distorted cells of the known crystals that are an input")
    fit: FitSettings = Field(description="smooth settings, used while iterating")
    final_fit: FitSettings | None = Field(None, description="tight settings of the last fit; default: those of the iterations")
    test_fraction: Fraction | None = Field(
        None, gt=0, lt=1, description="part of the frames, of each config type, that every fit holds out to be tested with"
    )
    filter: FilterSettings = Field(default_factory=FilterSettings)
    search: SearchSettings | None = None
    hold: HoldSettings | None = Field(
        None, description="repeat the search, with labels and fits in between, until the lowest minima agree with the reference"
    )
    validation: AnySuite | None = Field(
        None,
        alias="validate",
        description="a suite by its name, or its settings: every potential is put to the known crystals (crystals, targets); "
        "without any, those of all generations to the lowest minima of the last search",
    )
    refine: RefineSettings | None = Field(
        None, description="strategies that are applied to the lowest minima of the search, and a fit to all that comes of it"
    )
    isolated_atom_box: Length = Field(15.0, ge=ISOLATED, description="Å, edge of the box of the isolated atoms; vacuum of dimers")
    dimers: DimerSettings | None = Field(None, description="dimer curves of every pair of elements, 0.65 to 2.5 bond lengths")

    @model_validator(mode="before")
    @classmethod
    def _one_validation(cls, given: Any) -> Any:
        """Let ``validate``, which a file says, go before ``validation``, which a node has."""
        if isinstance(given, dict) and {"validate", "validation"} <= set(given):
            return {key: value for key, value in given.items() if key != "validation"}
        return given

    @field_validator("formula")
    @classmethod
    def _formula(cls, value: dict[str, int]) -> dict[str, int]:
        if not value:
            raise ValueError("expected at least one element, e.g. {Si: 1}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> RssSettings:
        faults = consistency(self.model_dump())
        if faults:
            raise FaultError(faults)
        return self

    @property
    def formula_text(self) -> str:
        """The formula unit as chemists write it."""
        return text(self.formula)

    @property
    def fits(self) -> list[BaseFit]:
        """The settings of the fits of the generations, and of the last one."""
        return [self.fit, self.final_fit or self.fit]

    def fit_of_last(self, kinds: Collection[str]) -> BaseFit:
        """Return the settings of a fit after the generations.

        :param kinds: config types of the frames: minima that are to hold, and those of strategies, may have sigmas of their own.
        """
        fit: BaseFit = self.final_fit or self.fit
        if self.refine is not None and set(kinds) & set(self.refine.kinds):
            fit = self.refine.fit_to(kinds, fit)
        if self.hold is None or not self.hold.tight or MINIMUM not in kinds:
            return fit
        volumes = [np.mean(seed.volume_range(self.formula)) for seed in self.used_seeds]
        return with_rule(fit, Constant(config_types=[MINIMUM], sigma=self.hold.sigma(float(np.mean(volumes)))))

    @property
    def used_seeds(self) -> list[Seed]:
        """The seeds that cells are made of; all, if there are none."""
        used = _used(self.model_dump())
        return [seed for name, seed in self.seeds.items() if name in used] or list(self.seeds.values())

    @property
    def min_separation(self) -> float:
        """Smallest separation of all seeds that are used, Å."""
        return min(seed.smallest_separation(self.formula) for seed in self.used_seeds)

    @property
    def hard_core(self) -> float:
        """Distance of two atoms (Å) at which a relaxation is given up, if its settings name none."""
        return round(0.5 * self.min_separation, 3)

    def final_search(self) -> dict[str, Any]:
        """Return the settings of the final search as those of a search by itself (``DiagnosticSearchSettings``)."""
        everything = self.model_dump()
        search = {key: value for key, value in everything["search"].items() if key not in ("again", "label")}
        if self.hold is not None:
            search["cells"] = self.hold.cells or search["cells"]
            search["report"] = max(search["report"], self.hold.lowest)
        search["relax"]["min_distance"] = search["relax"]["min_distance"] or self.hard_core
        seeds = {name: everything["seeds"][name] for name in search["cells"]}
        return {"formula": everything["formula"], "seeds": seeds, **search}

    def sanity_limits(self) -> Limits:
        """Return the limits outside of which a frame is too absurd to be labelled."""
        ranges = [seed.volume_range(self.formula) for seed in self.used_seeds]
        volumes = self.filter.volume_per_atom or (0.4 * min(low for low, _ in ranges), 2.5 * max(high for _, high in ranges))
        return Limits(
            min_distance=self.filter.min_separation_factor * self.min_separation,
            volume_per_atom=volumes,
            max_neighbour_factor=self.filter.max_neighbour_factor,
            max_force=self.filter.max_force,
        )

    @property
    def n_generations(self) -> int:
        """Largest number of generations."""
        return self.max_generations or len(self.generations)

    def recipe(self, generation: int) -> GenerationSettings:
        """Return the settings of a generation, from 1: the last one stands for all that follow."""
        return self.generations[min(generation, len(self.generations)) - 1]

    def strategies(self, when: str) -> dict[str, Strategy]:
        """Return what makes frames besides random cells, by the names of their settings.

        :param when: ``start``, or ``end``: after all generations.
        """
        found: dict[str, Strategy] = {}
        if self.dimers is not None and when == "start":
            found["dimers"] = Dimers(**self.dimers.model_dump(), vacuum=self.isolated_atom_box)
        if self.crystals is not None and when == self.crystals.when:
            found["crystals"] = Distort(**self.crystals.model_dump(exclude={"when"}))
        return found

    def label_budget(self, crystals: int = 0, relabel: int = 0) -> int:
        """Return the largest number of reference calculations the campaign can ask for.

        :param crystals: number of known crystals that it is given; ``relabel``: number of frames to be labelled anew.
        """
        chosen = sum(self.recipe(number).most_labels() for number in range(1, self.n_generations + 1))
        cells = sum(number * self.seeds[kind].most(crystals, self.formula) for kind, number in self.initial.items())
        start, end = (
            sum(strategy.most(crystals, self.formula) or 0 for strategy in self.strategies(when).values())
            for when in ("start", "end")
        )
        most = len(self.formula) + start + cells + relabel + chosen
        checked = self.hold.max_labels if self.hold else self.search.label if self.search else 0
        after = checked + (self.refine.max_labels if self.refine else 0)
        return min(most, self.max_labels or most) + end + after


def consistency(data: dict[str, Any]) -> list[Fault]:
    """Return the faults that lie between fields; parts that are wrong in themselves are passed over."""
    faults: list[Fault] = []

    def mapping(value: Any) -> dict[str, Any]:
        return value if isinstance(value, dict) else {}

    unknown = [symbol for symbol in mapping(data.get("formula")) if atomic_numbers.get(str(symbol), 0) == 0]
    faults += [Fault(("formula", symbol), f"{symbol!r} is not a chemical element") for symbol in unknown]
    seeds = mapping(data.get("seeds"))
    for name, seed in seeds.items():
        if not unknown and (fault := _fault_of_seed(seed, data.get("formula"))):
            faults.append(Fault(("seeds", name, *fault.place), fault.message))
    counts: list[tuple[Place, Any]] = [(("initial",), data.get("initial"))]
    generations = data.get("generations")
    if isinstance(generations, list):
        counts += [(("generations", i, "cells"), mapping(g).get("cells")) for i, g in enumerate(generations)]
    counts += [(place, part_at(data, place)) for place in (("search", "cells"), ("hold", "cells"))]
    for where, cells in counts:
        for name in mapping(cells):
            if name not in seeds:
                faults.append(Fault((*where, name), f"no kind of seed is called {name!r}; known: {', '.join(seeds)}"))
    formula = mapping(data.get("formula"))
    elements = [str(symbol) for symbol in formula if symbol not in unknown]
    for place in FITS:
        try:
            fit_settings(**mapping(part_at(data, place))).check_elements(elements)
        except ValidationError:
            continue
        except ValueError as exception:
            faults.append(Fault((*place, "descriptors"), str(exception)))
    faults += [*_without_variances(data), *_unsure_without_variances(data)]
    most = data.get("max_generations")
    if isinstance(generations, list) and isinstance(most, int) and most < len(generations):
        message = f"{most} is less than the {len(generations)} generations there are recipes for"
        faults.append(Fault(("max_generations",), message))
    for part, why in (("refine", "whose lowest minima it refines"), ("hold", "which it repeats")):
        if data.get(part) and not data.get("search"):
            faults.append(Fault((part,), f"needs settings.search, {why}"))
    if (part_at(data, ("refine", "max_rounds")) or 1) != 1 and not (data.get("validate") or data.get("validation")):
        faults.append(Fault(("refine", "max_rounds"), "needs settings.validate, by whose lights it is repeated"))
    if most and not generations:
        faults.append(Fault(("max_generations",), "there is no generation to be repeated"))
    box = data.get("isolated_atom_box", 15.0)
    cutoff = max(_reach(part_at(data, place)) for place in FITS)
    if isinstance(box, float | int) and box <= cutoff:
        faults.append(Fault(("isolated_atom_box",), f"the box ({box} Å) must exceed the cutoff ({cutoff} Å)"))
    return faults + _refined_without_variances(data)


def _refined_without_variances(data: dict[str, Any]) -> list[Fault]:
    """Return the fault of refining with frames chosen by variances, if the family of the last fit before gives none."""
    refine = data.get("refine")
    if not isinstance(refine, dict) or refine.get("choose") != "variance":
        return []
    with suppress(KindError):
        family = family_of(family_named(data.get("final_fit") or data.get("fit")))
        if not family.VARIANCES:
            return [Fault(("refine", "choose"), f"a potential of the family {family.NAME} has no variances to choose by")]
    return []


def _without_variances(data: dict[str, Any]) -> list[Fault]:
    """Return the generations that select by variances, if the family of the fits gives none."""
    generations = data.get("generations")
    try:
        family = family_of(family_named(data.get("fit")))
    except KindError:
        return []
    faults: list[Fault] = []
    for i, generation in enumerate(generations if isinstance(generations, list) and not family.VARIANCES else []):
        with suppress(ValidationError, AttributeError, TypeError, KeyError):  # told elsewhere
            if SelectionSettings(**generation["select"]).uses("variance"):
                message = f"a potential of the family {family.NAME} has no variances to select by"
                faults.append(Fault(("generations", i, "select"), message))
    return faults


def _unsure_without_variances(data: dict[str, Any]) -> list[Fault]:
    """Return where relaxations are to stop by variances of a potential whose family gives none."""
    generations, fits = data.get("generations"), (data.get("fit"), data.get("final_fit") or data.get("fit"))
    parts: list[tuple[Place, Any, Any]] = [(("search",), data.get("search"), fits[1])]
    parts += [(("generations", i), one, fits[0]) for i, one in enumerate(generations if isinstance(generations, list) else [])]
    faults: list[Fault] = []
    for place, part, fit in parts:
        with suppress(AttributeError, KindError):  # told elsewhere
            asked, family = part_at(part, ("relax", STOP_WHERE_UNSURE)), family_of(family_named(fit))
            if asked and not family.VARIANCES:
                message = f"a potential of the family {family.NAME} has no variances to stop by"
                faults.append(Fault((*place, "relax", STOP_WHERE_UNSURE), message))
    return faults


def _fault_of_seed(given: Any, formula: Any) -> Fault | None:
    """Return why cells cannot exist that are right as settings; None for what is wrong in itself."""
    try:
        seed, known = _SEED.validate_python(given), _FORMULA.validate_python(formula)
    except ValidationError:
        return None
    try:
        seed.check(known)
    except RandomCellError as exception:
        return Fault(exception.place, exception.message)
    except Exception as exception:  # of a kind from another package
        return Fault(("kind",), f"{seed.kind} fails: {type(exception).__name__}: {exception}")
    return None


def _seeds(base: dict[str, Any], changes: dict[str, Any], used: set[str], both: dict[str, Any]) -> dict[str, Any]:
    """Return the seeds of a campaign: the protocol's only if they are used; one of another kind takes nothing over from them.

    :param both: the two merged.
    """
    out = {name: seed for name, seed in both.items() if name in used or name in changes}
    for name, seed in changes.items():
        kinds = [given.get("kind", "random") for given in (base.get(name, {}), seed) if isinstance(given, dict)]
        if any(kind != kinds[0] for kind in kinds):
            out[name] = seed
    return out


def _reach(fit: Any) -> float:
    """Return the cutoff of a fit (Å), 0 where its settings, which may be anything, have faults."""
    try:
        return float(fit_settings(**fit).reach)
    except (TypeError, ValueError):
        return 0.0


def _used(data: dict[str, Any]) -> set[str]:
    """Return the names of the seeds that settings, which may have faults, make cells of."""
    parts = data.get("generations")
    cells = [part.get("cells") for part in (parts if isinstance(parts, list) else []) if isinstance(part, dict)]
    cells += [data.get("initial"), *(part_at(data, (part, "cells")) for part in ("search", "hold"))]
    return {name for counts in cells if isinstance(counts, dict) for name in counts}


def _of_family(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a protocol without fits of which a change is of another family: they have nothing in common."""
    out = dict(base)
    for name in ("fit", "final_fit"):
        given = changes.get(name)
        if isinstance(given, dict) and "family" in given and family_named(given) != family_named(base.get(name)):
            out.pop(name, None)
            if name == "fit" and "final_fit" not in changes:
                out.pop("final_fit", None)
    return out


def complete(protocol: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return all settings of a campaign: a protocol with changes, and the fits with the protocols that they name in turn.

    :raises ValueError: if there is no protocol of that name; of a fit, as :class:`FaultError` with its place.
    """
    base = PROTOCOLS.load(protocol)
    whole = merged(_of_family(base, changes), changes, REPLACED)
    if isinstance(whole.get("seeds"), dict):
        whole["seeds"] = _seeds(base.get("seeds", {}), changes.get("seeds") or {}, _used(whole), whole["seeds"])
    if whole.get("search") is None and "hold" not in changes:
        whole.pop("hold", None)  # that of the protocol has nothing to repeat
    formula = whole.get("formula")
    elements = [str(s) for s in formula if atomic_numbers.get(str(s), 0)] if isinstance(formula, dict) else []
    for place in FITS:
        if isinstance(given := part_at(whole, place), dict):
            try:
                whole = with_part(whole, place, expand(given, elements))
            except ValueError as exception:
                raise FaultError([Fault(place, str(exception))]) from exception
    return whole
