"""The page of processes, from their specifications: see make_reference.py."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

from aiida.engine import CalcJob, WorkChain
from aiida.engine.processes.ports import PortNamespace
from aiida.plugins import DataFactory
from plumpy.ports import UNSPECIFIED

HEAD = """# Processes: inputs, outputs, exit codes

Made by `docs/make_reference.py` from the specifications of the processes. `verdi plugin list aiida.workflows gaprss.rss` tells
the same of what is installed. Inputs with a dot are in a namespace: `inputs["label"]["max_concurrent"]` is
`label.max_concurrent`. Nodes are named by their class, `Dataset` and `Potential` are [ours](#data); values that are no nodes
have the types of Python. What is required within a namespace is required if anything of it is given, unless the namespace
itself is needed. What every process of AiiDA has is left out: `metadata` with its `label`, `description` and `call_link_label`;
of calculations `metadata.options`, but for those that are ours, `monitors`, and the outputs `remote_folder` and `retrieved`.

What to do about an exit code is told in [troubleshooting](troubleshooting.md). Besides those below, AiiDA itself may end a
process with 1, 2, 10, 11 and a job with 100 to 160 ([those of AiiDA](troubleshooting.md#exit-codes-of-aiida)).
"""

GROUPS = {"aiida.workflows": "work chain", "aiida.calculations": "calculation"}


def processes() -> list[tuple[str, str, Any]]:
    """Return group, name and class of every process of this package."""
    found = [(group, entry) for group in GROUPS for entry in entry_points(group=group) if entry.name.startswith("gaprss.")]
    return [
        (group, entry.name, entry.load())
        for group, entry in sorted(found, key=lambda one: (one[0] != "aiida.workflows", one[1].name))
    ]


def ports_in(namespace: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all ports with their full names; namespaces come before what is in them."""
    for name, port in namespace.items():
        yield prefix + name, port
        if isinstance(port, PortNamespace):
            yield from ports_in(port, f"{prefix}{name}.")


def of_aiida(name: str, inputs: bool) -> bool:
    """Tell whether every process has the port, wherever in a namespace."""
    base = {known for known, _ in ports_in(CalcJob.spec().inputs if inputs else CalcJob.spec().outputs)} - {"code"}
    parts = name.split(".")
    return any(".".join(parts[i:]) in base for i in range(len(parts)))


def own_ports(process: Any, inputs: bool) -> list[tuple[str, Any]]:
    """Return the ports of a process that AiiDA does not give to all."""
    namespace = process.spec().inputs if inputs else process.spec().outputs
    return [(name, port) for name, port in ports_in(namespace) if not of_aiida(name, inputs)]


def own_exit_codes(process: Any) -> list[Any]:
    """Return the exit codes of a process that AiiDA does not give to all, by their numbers."""
    base = set((CalcJob if issubclass(process, CalcJob) else WorkChain).spec().exit_codes)
    return sorted((code for name, code in process.spec().exit_codes.items() if name not in base), key=lambda code: code.status)


def cell(text: str) -> str:
    """Return a text as a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def kind_of_port(port: Any) -> str:
    """Return the classes that a port takes."""
    types = port.valid_type if isinstance(port.valid_type, tuple) else (port.valid_type,)
    named = [kind.__name__ for kind in types if kind is not None and kind is not type(None)]
    if isinstance(port, PortNamespace):
        return f"any number of {' or '.join(named)}" if port.dynamic and named and not port else "namespace"
    return " or ".join({"AbstractCode": "code"}.get(name, name) for name in named) or "any"


def default_of_port(port: Any) -> str:
    """Return the default of a port, or whether it is required."""
    if isinstance(port, PortNamespace):
        return "–"
    default = port.default if port.has_default() else UNSPECIFIED
    if default is UNSPECIFIED:
        return "**required**" if port.required else "–"
    if callable(default):
        return f"`{of_node(default)}`"
    return "–" if default is None or default == {} else f"`{cell(repr(default))}`"


def of_node(make: Callable[[], Any]) -> str:
    """Return what a default node is made of, as it stands in the source: without a profile no node can be made."""
    found = re.search(r"lambda: *(?:orm\.)?\w+\(([^()]*)\)", inspect.getsource(make))
    if found is None:
        raise ValueError(f"{inspect.getsource(make).strip()}: expected a default like lambda: Int(5)")
    return found.group(1)


def table(process: Any, inputs: bool) -> list[str]:
    """Return the table of inputs or outputs."""
    ports = own_ports(process, inputs)
    if not ports:
        return []
    if inputs:
        rows = [
            f"| `{name}` | {kind_of_port(port)} | {default_of_port(port)} | {cell(port.help or '')} |" for name, port in ports
        ]
        return ["| input | type | default | |", "|---|---|---|---|", *rows, ""]
    rows = [
        f"| `{name}` | {kind_of_port(port)} | {'always' if port.required else 'if made'} | {cell(port.help or '')} |"
        for name, port in ports
    ]
    return ["| output | type | | |", "|---|---|---|---|", *rows, ""]


def exit_codes(process: Any) -> list[str]:
    """Return the table of exit codes."""
    codes = own_exit_codes(process)
    rows = [f"| {code.status} | `{name_of(process, code)}` | {cell(code.message)} |" for code in codes]
    return ["| exit code | name | message |", "|---|---|---|", *rows, ""] if rows else []


def name_of(process: Any, code: Any) -> str:
    """Return the name of an exit code."""
    return next(name for name, other in process.spec().exit_codes.items() if other is code)


def summary(thing: Any) -> str:
    """Return what a docstring says before its fields."""
    return " ".join((inspect.getdoc(thing) or "").split(":param")[0].replace("``", "`").split())


def section(group: str, name: str, process: Any) -> list[str]:
    """Return the section of one process."""
    head = [f"### {name}, {GROUPS[group]}", "", cell(summary(process)), ""]
    return [*head, *table(process, True), *table(process, False), *exit_codes(process)]


def data() -> list[str]:
    """Return the section of our nodes."""
    lines = ["## Data", ""]
    for name in ("gaprss.dataset", "gaprss.potential"):
        lines += [f"### {name}", "", cell(summary(DataFactory(name))), ""]
    return lines


def page() -> str:
    """Return the page."""
    lines = HEAD.splitlines()
    for group, title in (("aiida.workflows", "Work chains"), ("aiida.calculations", "Calculations")):
        lines += ["", f"## {title}", ""]
        for own, name, process in processes():
            lines += section(group, name, process) if own == group else []
    return "\n".join([*lines, *data()]).rstrip() + "\n"
