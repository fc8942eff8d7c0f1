"""The base of our models, and their complaints as messages for a port or a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

#: How the tags of our discriminated unions begin: they appear in the location of a fault, and no key of a file looks like this.
TAG = "kind="


class Model(BaseModel):
    """A model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def complaints(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Return (location, message) of every fault; the message names value and what was expected."""
    out = []
    for fault in error.errors():
        location = tuple(part for part in fault["loc"] if part not in ("function-after", "tagged-union"))
        location = tuple(part for part in location if not str(part).startswith(TAG))
        if fault["type"] == "extra_forbidden":
            message = "unknown key"
        elif fault["type"] == "missing":
            message = "missing"
        elif fault["type"] == "union_tag_not_found" and isinstance(fault["input"], str | int | float | list):
            message = f"expected keys and values (got {fault['input']!r})"
        elif fault["type"] == "union_tag_invalid" and str(fault["ctx"]["tag"]).startswith(TAG):
            known = fault["ctx"]["expected_tags"].replace(TAG, "")
            message = f"kind is {fault['ctx']['tag'].removeprefix(TAG)!r}, expected one of {known}"
        else:
            value = fault.get("input")
            shown = "" if isinstance(value, dict | list | BaseModel) else f" (got {value!r})"
            message = fault["msg"].removeprefix("Value error, ") + shown
        out.append((location, message))
    return out


def model_validator_for(model: type[BaseModel]) -> Callable[[Any, Any], str | None]:
    """Return a port validator that checks a Dict node against ``model``."""

    def validate(node: Any, _: Any) -> str | None:
        if node is None:
            return None
        try:
            model(**node.get_dict())
        except ValidationError as error:
            return "; ".join(f"{'.'.join(map(str, where))}: {message}" for where, message in complaints(error))
        return None

    return validate
