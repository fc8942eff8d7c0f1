"""Write ``reference.md`` from the models of the campaign file: python docs/make_reference.py."""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from aiida_gaprss.campaign.build import BuildFile, Found
from aiida_gaprss.campaign.file import CampaignConfig, Reference, settings_of
from aiida_gaprss.campaign.settings import PROTOCOLS, RssSettings
from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.models.families import family_of
from aiida_gaprss.reference import names
from aiida_gaprss.settings.computer import ComputerSettings
from aiida_gaprss.settings.plugins import FAMILIES, STRATEGIES, installed, kind_of
from aiida_gaprss.strategies.base import Strategy
from aiida_gaprss.strategies.cells import CellStrategy
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
    text = "\n".join(lines).rstrip() + "\n"
    return re.sub(r"\]\(#(codes|options|coordinates)\)", r"](../reference.md#\1)", text)


if __name__ == "__main__":
    Path(__file__).with_name("reference.md").write_text(reference(), encoding="utf-8")
    (Path(__file__).parent / "strategies" / "settings.md").write_text(of_build(), encoding="utf-8")
