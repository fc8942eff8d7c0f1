"""Write the pages of the reference from the code: python docs/make_reference.py."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import make_commands
import make_processes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aiida_gaprss.analysis.conditions import Conditions
from aiida_gaprss.analysis.relabelling import Relabelling
from aiida_gaprss.analysis.side_by_side import SideBySideSettings
from aiida_gaprss.campaign.build import BuildFile, Found
from aiida_gaprss.campaign.file import CampaignConfig, Reference, settings_of
from aiida_gaprss.campaign.search import DiagnosticSearchSettings
from aiida_gaprss.campaign.settings import PROTOCOLS, RssSettings
from aiida_gaprss.campaign.validation import StoredValues
from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.models.families import family_of
from aiida_gaprss.models.pair.settings import PairFile
from aiida_gaprss.models.tuning import Tuning
from aiida_gaprss.properties.base import Property
from aiida_gaprss.properties.suite import SUITES
from aiida_gaprss.reference import names
from aiida_gaprss.selection.settings import DescribeSettings
from aiida_gaprss.settings.computer import ComputerSettings
from aiida_gaprss.settings.jobs import (
    BuildcellSettings,
    EvaluateSettings,
    MdJobSettings,
    NebJobSettings,
    ReferenceMdSettings,
    RelaxJobSettings,
    SpeedJobSettings,
)
from aiida_gaprss.settings.plugins import FAMILIES, PROPERTIES, STRATEGIES, installed, kind_of
from aiida_gaprss.strategies.base import Strategy
from aiida_gaprss.strategies.cells import CellStrategy
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.strategies.relaxed import RelaxedCrystals

HEAD = """# Campaign file: all options

Made by `docs/make_reference.py` from the models that check the file. A campaign file holds the keys of the first table;
`settings` holds those of *RssSettings*, as changes of the protocol (mappings are merged key by key; `formula`, `initial` and
`cells` are replaced). *ComputerSettings* are those of the file for `aiida-gaprss setup --computer`.

All files of settings are read alike. They are text in UTF-8 of at most 256 kB, in plain YAML 1.2: keys that are words, text,
finite numbers, `true` and `false`, `null`, lists. Dates, `yes`, `no` and the like are text. Anchors, aliases and `<<: *name` are
understood as long as what they stand for stays small: at most 10,000 values in a file, at most 24 lists and mappings within each
other. Tags (`!!python`, `!!binary`, `!!set`, …), keys given twice and second documents are refused. Every number has bounds
beyond which it can only be a mistake; a number is no text and no truth value.

Protocols: {protocols}.
"""


HEAD_OF_PROPERTIES = """# Validation file and properties: all options

Made by `docs/make_reference.py` from the models that check the file of `aiida-gaprss validate --settings` and the section
`validation` of a campaign ([validation](../validation.md)). Under `properties` stand names of your choice, each with the keys
of one of the kinds below. `limits` are those of the table of each kind, unless the suite says others. Suites: {suites}.
"""

HEAD_OF_FILES = """# Other files and jobs: all options

Made by `docs/make_reference.py` from the models that check them. Files of [campaigns](reference.md),
[databases](strategies/settings.md) and [validations](properties/settings.md) have pages of their own; a file for `aiida-gaprss
fit --settings` holds the keys of [GapSettings](reference.md#gapsettings) or of another family. The second part is what the
input `settings` of each [calculation](processes.md#calculations) may say.
"""

#: Models of files, by what reads them, and of jobs, by the calculation.
FILES: dict[str, type[BaseModel]] = {
    "`aiida-gaprss search --settings`": DiagnosticSearchSettings,
    "`aiida-gaprss tune --search`": Tuning,
    "`aiida-gaprss validate --reference`, numbers": StoredValues,
    "`aiida-gaprss compare`, campaigns side by side (`settings` of `gaprss.compare_campaigns`)": SideBySideSettings,
    "`aiida-gaprss relabel` (`settings` of `gaprss.relabel`)": Relabelling,
    "`aiida-gaprss dataset filter` (conditions)": Conditions,
    "a pair potential, as `potential export` writes it": PairFile,
    "`settings` of `gaprss.build`": StrategyList,
}
JOBS: dict[str, type[BaseModel]] = {
    "gaprss.relax": RelaxJobSettings,
    "gaprss.evaluate": EvaluateSettings,
    "gaprss.md": MdJobSettings,
    "gaprss.trajectories, in `tasks` of each frame": ReferenceMdSettings,
    "gaprss.neb": NebJobSettings,
    "gaprss.speed": SpeedJobSettings,
    "gaprss.describe": DescribeSettings,
    "gaprss.buildcell": BuildcellSettings,
}


HEAD_OF_BUILD = """# Database file and strategies: all options

Made by `docs/make_reference.py` from the models that check the file of `aiida-gaprss build` ([strategies](index.md)). The keys of
the reference (`reference`, `codes`, `options`, `max_concurrent`, `bundle`, `max_failed_fraction`, `reuse_labels`) are those of a
[campaign file](../reference.md). Under `strategies` stand names of your choice, each with the keys of one of the kinds below;
kinds of random cells, of which each makes one cell, are in [the reference of campaigns](../reference.md).
"""


def kinds_of_strategies() -> list[type[BaseModel]]:
    """Return our own strategies; other packages may be installed here."""
    own = [name for name, (entry, *_) in installed(STRATEGIES).items() if entry.module.startswith("aiida_gaprss.")]
    return [kind_of(STRATEGIES, name, Strategy) for name in own]


def kinds_of_cells() -> list[type[BaseModel]]:
    """Return our own kinds of random cells."""
    return [kind for kind in kinds_of_strategies() if issubclass(kind, CellStrategy)]


def fits() -> list[type[BaseModel]]:
    """Return the settings of fits of our own families."""
    own = [name for name, (entry, *_) in installed(FAMILIES).items() if entry.module.startswith("aiida_gaprss.")]
    return [family_of(name).SETTINGS for name in own]


def kinds_of_properties() -> dict[str, type[Property]]:
    """Return our own properties by their kinds."""
    own = [name for name, (entry, *_) in installed(PROPERTIES).items() if entry.module.startswith("aiida_gaprss.")]
    return {name: kind_of(PROPERTIES, name, Property) for name in own}


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a type annotation mentions."""
    if annotation is BaseFit:
        return fits()
    if annotation is CellStrategy:
        return kinds_of_cells()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in models_in(argument)]


def type_name(annotation: Any) -> str:
    """Return a type as a reader wants it."""
    if annotation is BaseFit:
        return " or ".join([*map(type_name, fits()), "[a family of another package](architecture.md#adding-a-family)"])
    if annotation is CellStrategy:
        return " or ".join([*map(type_name, kinds_of_cells()), "[a kind of another package](architecture.md#adding-a-strategy)"])
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in arguments if a is not type(None))
    if origin is list:
        return f"list of {type_name(arguments[0])}"
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {type_name(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(type_name(a) for a in arguments)}]"
    if origin is dict:
        return f"mapping of {type_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    name = getattr(annotation, "__name__", str(annotation))
    return {"str": "text", "Any": "anything"}.get(name, name)


def default_of(field: Any) -> str:
    """Return the default of a field as YAML-like text."""
    if field.is_required():
        return "**required**"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if isinstance(value, BaseModel):
        return "as below"
    return "–" if value is None else f"`{value!r}`"


def fields_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the keys of a model in a file; under ``reference`` stands one of those that are installed."""
    if model is Reference:
        return {name: FieldInfo(annotation=settings_of(name), default=None) for name in names()}
    return model.model_fields


def table(model: type[BaseModel]) -> list[str]:
    """Return the section of one model."""
    summary = " ".join((model.__doc__ or "").split())
    lines = [f"## {model.__name__}", "", summary, "", "| key | type | default | |", "|---|---|---|---|"]
    for name, field in fields_of(model).items():
        lines.append(f"| `{name}` | {type_name(field.annotation)} | {default_of(field)} | {field.description or ''} |")
    return [*lines, ""]


def reference() -> str:
    """Return the page."""
    protocols = ", ".join(f"`{name}`" for name in PROTOCOLS.names())
    lines = [*HEAD.format(protocols=protocols).splitlines(), ""]
    waiting: list[type[BaseModel]] = [CampaignConfig, RssSettings, ComputerSettings]
    done: list[type[BaseModel]] = []
    while waiting:
        model = waiting.pop(0)
        if model in done:
            continue
        done.append(model)
        lines += table(model)
        waiting += [m for field in fields_of(model).values() for m in models_in(field.annotation)]
    return "\n".join(lines).rstrip() + "\n"


def of_build() -> str:
    """Return the page of files that ask for databases."""
    others = [kind for kind in kinds_of_strategies() if not issubclass(kind, CellStrategy)]
    lines = [*HEAD_OF_BUILD.splitlines(), "", *table(BuildFile), *table(Found), *table(RelaxedCrystals)]
    for kind in others:
        lines += [f"## {kind.model_fields['kind'].default}", *table(kind)[1:]]
    return elsewhere("\n".join(lines).rstrip() + "\n", {"../reference.md": reference()})


def with_parts(models: list[type[BaseModel]], elsewhere: str) -> list[str]:
    """Return the sections of the models that others mention, but for those that are on another page."""
    waiting, done, lines = list(models), [], []
    while waiting:
        model = waiting.pop(0)
        if model in done or f"## {model.__name__}\n" in elsewhere:
            continue
        done.append(model)
        lines += table(model)
        waiting += [part for field in fields_of(model).values() for part in models_in(field.annotation)]
    return lines


def parts_of(models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """Return what models mention."""
    return [part for model in models for field in fields_of(model).values() for part in models_in(field.annotation)]


def sections(text: str) -> set[str]:
    """Return the names of the sections of a page, as links have them."""
    return {line[3:].lower() for line in text.splitlines() if line.startswith("## ")}


def elsewhere(text: str, pages: dict[str, str]) -> str:
    """Send links to sections that the text does not have to the first of other pages that has them."""
    where = {name: page for page, other in reversed(pages.items()) for name in sections(other)}
    own = sections(text)
    return re.sub(r"\]\(#([\w-]+)\)", lambda found: found[0] if found[1] in own else f"]({where[found[1]]}#{found[1]})", text)


def limits(kind: type[Property]) -> list[str]:
    """Return the table of the limits of the scores of a property."""
    rows = [
        f"| `{score}` | {limit.good:g} | {limit.look:g} | {limit.unit} | {limit.source} |" for score, limit in kind.LIMITS.items()
    ]
    return ["| score | good up to | look up to | unit | source |", "|---|---|---|---|---|", *rows, ""] if rows else []


def of_properties() -> str:
    """Return the page of validations."""
    kinds = kinds_of_properties()
    lines = [*HEAD_OF_PROPERTIES.format(suites=", ".join(f"`{name}`" for name in SUITES.names())).splitlines(), ""]
    for name, kind in kinds.items():
        lines += [f"## {name}", *table(kind)[1:], *limits(kind)]
    lines += with_parts(parts_of(kinds.values()), reference())
    return elsewhere("\n".join(lines).rstrip() + "\n", {"../reference.md": reference()})


def of_files() -> str:
    """Return the page of other files, and of what jobs are told."""
    lines = [*HEAD_OF_FILES.splitlines(), ""]
    for title, models in (("Of files", FILES), ("Of jobs", JOBS)):
        rows = [f"| {what} | [{model.__name__}](#{model.__name__.lower()}) |" for what, model in models.items()]
        lines += [f"## {title}", "", "| where | keys |", "|---|---|", *rows, ""]
    others = {"reference.md": reference(), "strategies/settings.md": of_build()}
    lines += with_parts([*FILES.values(), *JOBS.values()], "".join(others.values()))
    return elsewhere("\n".join(lines).rstrip() + "\n", others)


#: Pages by their names, and what makes them.
PAGES = {
    "reference.md": reference,
    "strategies/settings.md": of_build,
    "properties/settings.md": of_properties,
    "files.md": of_files,
    "processes.md": make_processes.page,
    "commands.md": make_commands.page,
}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (Path(__file__).parent / page).write_text(make(), encoding="utf-8")
