"""The AiiDA plugins of the DFT codes: imported when a reference asks for them, and what to do where one cannot be.

Each of our references names its plugins (``PLUGINS``). Whatever it takes from them is imported inside the functions that use it,
and these are marked with :func:`needs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

from aiida.engine import PortNamespace

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


def needed(plugins: Sequence[Plugin]) -> str | None:
    """Return which of the plugins of a reference cannot be imported and how to get it, or None."""
    faults = {plugin: fault for plugin in plugins if (fault := plugin.fault()) is not None}
    absent = [plugin for plugin, fault in faults.items() if plugin.is_absent(fault)]
    if absent:  # others are broken because of them, if any
        verb = "is" if len(absent) == 1 else "are"
        return f"{' and '.join(plugin.package for plugin in absent)} {verb} not installed: {_how_to_get(absent)}"
    for plugin, fault in faults.items():
        what = f"{plugin.package} cannot be imported ({type(fault).__name__}: {shown(fault)})"
        return f"{what}: {_how_to_get([plugin], '--upgrade ')}"
    return None


def _how_to_get(plugins: Sequence[Plugin], option: str = "") -> str:
    notes = "; ".join(plugin.note for plugin in plugins if plugin.note)
    return f"pip install {option}{' '.join(repr(plugin.requirement) for plugin in plugins)}" + (f" ({notes})" if notes else "")


def define_job(namespace: PortNamespace, plugins: Sequence[Plugin], help_text: str) -> None:
    """Add the ports of program and job, the first of a reference: whoever gives them is told if a plugin cannot be imported."""

    def validate(node: Any, _: Any) -> str | None:
        return None if node is None else needed(plugins)

    common.define_job(namespace, help_text, validate)


def needs(plugins: Sequence[Plugin]) -> Callable[[Function], Function]:
    """Mark a function that uses the plugins of a reference: without them it raises :class:`PluginError`."""

    def mark(function: Function) -> Function:
        @wraps(function)
        def marked(*args: Any, **options: Any) -> Any:
            lack = needed(plugins)
            if lack:
                raise PluginError(lack)
            return function(*args, **options)

        return marked  # type: ignore[return-value]

    return mark
