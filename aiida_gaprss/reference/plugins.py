"""The AiiDA plugins of the DFT codes: imported when a reference asks for them, and what to do where one cannot be.

Whatever a reference takes from its plugins is imported inside the functions that use it, and these are marked with :func:`needs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

from aiida.engine import PortNamespace
from aiida.orm import AbstractCode

from aiida_gaprss.outside import shown
from aiida_gaprss.reference import common

Function = TypeVar("Function", bound=Callable[..., Any])


class PluginError(ValueError):
    """A DFT plugin is asked for that cannot be imported."""


@dataclass(frozen=True)
class Plugin:
    """A distribution, for pip as in pyproject.toml, and the modules without which it is of no use."""

    package: str
    requirement: str
    modules: tuple[str, ...]
    note: str = ""

    def fault(self) -> Exception | None:
        """Return why a module of it cannot be imported, or None."""
        try:
            for module in self.modules:
                import_module(module)
        except Exception as exception:  # a plugin that does not fit the numpy that is there raises anything
            return exception
        return None

    def is_absent(self, fault: Exception) -> bool:
        """Tell whether ``fault`` means that it is not installed, and not that it is broken."""
        return isinstance(fault, ModuleNotFoundError) and fault.name in {module.split(".")[0] for module in self.modules}


#: By the name of the reference.
PLUGINS: dict[str, tuple[Plugin, ...]] = {
    "quantumespresso": (
        Plugin("aiida-quantumespresso", "aiida-quantumespresso>=5.1", ("aiida_quantumespresso.calculations.pw",)),
        Plugin("aiida-pseudo", "aiida-pseudo>=1.7", ("aiida_pseudo.data.pseudo.upf",)),
    ),
    "castep": (
        Plugin(
            "aiida-castep",
            "aiida-castep>=2",
            tuple(f"aiida_castep.{name}" for name in ("calculations.helper", "calculations.inpgen", "calculations.tools")),
            "it needs numpy below 2, so Python 3.10 or 3.11",
        ),
    ),
    "vasp": (Plugin("aiida-vasp", "aiida-vasp>=5.1", ("aiida_vasp.assistant.parameters", "aiida_vasp.data.potcar")),),
}


def needed(reference: str) -> str | None:
    """Return which plugin of a reference cannot be imported and how to get it, or None."""
    faults = {plugin: fault for plugin in PLUGINS[reference] if (fault := plugin.fault()) is not None}
    absent = [plugin for plugin, fault in faults.items() if plugin.is_absent(fault)]
    if absent:  # others are broken because of them, if any
        verb = "is" if len(absent) == 1 else "are"
        return f"{' and '.join(plugin.package for plugin in absent)} {verb} not installed: {_how_to_get(absent)}"
    for plugin, fault in faults.items():
        what = f"{plugin.package} cannot be imported ({type(fault).__name__}: {shown(fault)})"
        return f"{what}: {_how_to_get([plugin], '--upgrade ')}"
    return None


def _how_to_get(plugins: list[Plugin], option: str = "") -> str:
    notes = "; ".join(plugin.note for plugin in plugins if plugin.note)
    return f"pip install {option}{' '.join(repr(plugin.requirement) for plugin in plugins)}" + (f" ({notes})" if notes else "")


def define_code(namespace: PortNamespace, reference: str, help_text: str) -> None:
    """Add the port of the program, the first of a reference: whoever gives it is told if the plugin cannot be imported."""

    def validate(node: Any, _: Any) -> str | None:
        return None if node is None else needed(reference)

    common.port(namespace, "code", AbstractCode, help_text, validator=validate)


def needs(reference: str) -> Callable[[Function], Function]:
    """Mark a function that uses the plugins of a reference: without them it raises :class:`PluginError`."""

    def mark(function: Function) -> Function:
        @wraps(function)
        def marked(*args: Any, **options: Any) -> Any:
            lack = needed(reference)
            if lack:
                raise PluginError(lack)
            return function(*args, **options)

        return marked  # type: ignore[return-value]

    return mark
