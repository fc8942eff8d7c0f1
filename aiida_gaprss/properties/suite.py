"""Suites: which properties of which crystals are computed, with which settings, and up to where they are good."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from aiida_gaprss.properties.base import Limits, Property, PropertyError
from aiida_gaprss.settings.faults import FaultError
from aiida_gaprss.settings.jobs import RelaxSettings
from aiida_gaprss.settings.model import Line, Model, Name, PositiveOrZero, complaints, in_words
from aiida_gaprss.settings.plugins import PROPERTIES, by_kind
from aiida_gaprss.settings.protocols import Protocols, merged

SUITES = Protocols(Path(__file__).parent / "suites")

AnyProperty: TypeAlias = Annotated[SerializeAsAny[Property], BeforeValidator(by_kind(PROPERTIES, Property))]


class LimitSettings(Model):
    """Up to where a score is good, and up to where one should look."""

    good: PositiveOrZero
    look: PositiveOrZero
    source: Line = Field("the suite", description="where the two numbers are from")

    @model_validator(mode="after")
    def _in_order(self) -> LimitSettings:
        if self.look < self.good:
            raise ValueError(f"look is {self.look:g}, expected at least what is good, {self.good:g}")
        return self


class Suite(Model):
    """What a potential is put to. In a file, a property without ``kind`` is of the kind that its name says."""

    description: Line = ""
    geometry: Literal["given", "relaxed"] = Field(
        "relaxed",
        description="of the crystals: as they are given, or relaxed by each potential",
    )
    reference_geometry: Literal["given", "relaxed"] = Field(
        "given",
        description="of the crystals for the reference: as they are given, or as it relaxes them itself, cell and atoms at zero "
        "pressure; a DFT code does that by its own means and thresholds, an ASE calculator or a potential as relax says",
    )
    relax: RelaxSettings = Field(
        default_factory=lambda: RelaxSettings(fmax=5e-4, max_steps=500, snapshot_steps=[], symmetry="kept"),
        description="how potentials relax the crystals",
    )
    properties: dict[Name, AnyProperty] = Field(min_length=1, description="by names of your choice; each with its settings")
    limits: dict[Name, dict[str, LimitSettings]] = Field(
        default_factory=dict, description="by property and score, instead of those that the property has"
    )

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, given: Any) -> Any:
        properties = given.get("properties") if isinstance(given, Mapping) else None
        if not isinstance(properties, Mapping):
            return given
        named = {name: {"kind": name} if value is None else value for name, value in properties.items()}
        named = {name: {"kind": name, **value} if isinstance(value, Mapping) else value for name, value in named.items()}
        return {**given, "properties": named}

    @model_validator(mode="after")
    def _limits_of_properties(self) -> Suite:
        if unknown := sorted(set(self.limits) - set(self.properties)):
            raise ValueError(f"limits of {', '.join(unknown)}, which the suite does not have ({', '.join(self.properties)})")
        return self

    def limits_of(self, name: str) -> dict[str, Limits]:
        """Return the limits of the scores of a property."""
        own = dict(self.properties[name].LIMITS)
        for score, given in self.limits.get(name, {}).items():
            unit = own[score].unit if score in own else ""
            own[score] = Limits(given.good, given.look, unit, given.source)
        return own

    @property
    def runs(self) -> list[str]:
        """The tasks that compute its properties, each once."""
        return sorted({one.run for one in self.properties.values()})


def _as_suite(given: Any) -> Any:
    if not isinstance(given, str | Mapping) or isinstance(given, Suite):
        return given
    try:
        return suite_of(given)
    except PropertyError as error:
        if isinstance(error.__cause__, ValidationError):
            raise FaultError(complaints(error.__cause__)) from error
        raise


#: A suite by its name, or its settings; with ``suite: NAME`` among these they change that one.
AnySuite: TypeAlias = Annotated[Suite, BeforeValidator(_as_suite)]


def suite_of(given: str | Mapping[str, Any]) -> Suite:
    """Return a suite by its name, or from its settings; with ``suite: NAME`` among these they change that one.

    :raises PropertyError: if there is no such suite, or a setting is wrong.
    """
    settings = {"suite": given} if isinstance(given, str) else dict(given)
    name = settings.pop("suite", None)
    try:
        whole = merged(SUITES.load(str(name)), settings) if name is not None else settings
        return Suite(**whole)
    except ValidationError as error:
        raise PropertyError(in_words(error)) from error
    except ValueError as error:
        raise PropertyError(str(error).replace("protocol", "suite", 1)) from error
