"""The base of our models, and their complaints as messages for a port or a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Model(BaseModel):
    """A model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def complaints(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Return (location, message) of every fault; the message names value and what was expected."""
    out = []
    for fault in error.errors():
        location = tuple(part for part in fault["loc"] if part not in ("function-after", "tagged-union"))
        if fault["type"] == "extra_forbidden":
            message = "unknown key"
        elif fault["type"] == "missing":
            message = "missing"
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
