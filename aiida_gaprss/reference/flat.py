"""What the references with flat parameters share (CASTEP, VASP): all that will be sent is checked before anything is."""

from __future__ import annotations

from collections.abc import Callable
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


def fault_of_attempts(
    inputs: Any, fault: Callable[[dict[str, Any], bool], str | None], level: Callable[[dict[str, Any]], dict[str, Any]]
) -> str | None:
    """Return what is wrong with the parameters of any attempt, of isolated atoms or of cells, or None.

    A retry that changed the level of theory would put labels of two levels into one dataset.

    :param fault: says what is wrong with a set of parameters, for cells or for isolated atoms, or None.
    :param level: returns those that decide the value of a label.
    """
    for isolated in (False, True):
        name = "isolated_parameters" if isolated else "parameters"
        first = level(common.parameters_of(inputs, isolated, 0))
        for attempt in range(common.attempts(inputs)):
            parameters = common.parameters_of(inputs, isolated, attempt)
            where = f"retries[{attempt - 1}]" if attempt else name
            message = fault(parameters, isolated)
            if message:
                return f"{where}: {message}"
            now = level(parameters)
            changed = sorted(key for key in {*first, *now} if first.get(key) != now.get(key))
            if changed:
                return f"{where}: {', '.join(changed)} would change the level of theory"
    return None
