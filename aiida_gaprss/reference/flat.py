"""What the references with flat parameters share (CASTEP, VASP): all that will be sent is checked before anything is."""

from __future__ import annotations

from typing import Any

from aiida.engine import PortNamespace
from aiida.orm import Int

from aiida_gaprss.reference import common


def define_max_iterations(namespace: PortNamespace, code: str) -> None:
    """Add the port that lets the plugin's work chain try again by itself."""
    common.port(
        namespace,
        "max_iterations",
        Int,
        f"How often the plugin by itself runs {code} for one attempt, with more steps and weaker mixing; default: once.",
        required=False,
    )


def max_iterations(inputs: Any) -> Int:
    """Return how often the plugin's work chain may run the program for one attempt."""
    return inputs["max_iterations"] if "max_iterations" in inputs else common.shared(Int(1))


def lower(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return ``parameters`` with their names in lower case."""
    return {key.lower(): value for key, value in parameters.items()}


def is_true(value: Any) -> bool:
    """Tell whether ``value`` means yes to CASTEP and VASP, however it is written."""
    return str(value).strip().strip(".").lower() in ("true", "t", "yes", "1")
