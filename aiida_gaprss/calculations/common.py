"""What the calcfunctions share."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from aiida.engine import Process
from aiida.orm import CalcJobNode, Data, ProcessNode
from ase import Atoms

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.outside import shown

T = TypeVar("T", bound=Data)


def process_uuid() -> str:
    """Return the uuid of the process that is running."""
    process = Process.current()
    assert process is not None
    return str(process.node.uuid)  # type: ignore[attr-defined]


def named(node: T, what: str, frames: Iterable[Atoms] = (), job: CalcJobNode | None = None) -> T:
    """Return a node with a label and a description that tell a person what it is and what for it was made.

    :param frames: what it is about: the label tells their generations, and the campaign to which the process belongs.
    :param job: that makes it; default: the calcfunction that is running, if one is.
    """
    running: Any = Process.current()
    process: ProcessNode
    if job is not None:
        process, purpose = job, inspect.getdoc(job.process_class)
    elif running is not None:
        process, purpose = running.node, inspect.getdoc(getattr(running, "_func", running))
    else:
        return node
    name = _outermost(process).label
    node.label = shown(what + _generations(frames) + (f" ({name})" if name else ""))
    node.description = " ".join((purpose or "").partition("\n\n")[0].split()).replace("``", "")
    return node


def _outermost(process: ProcessNode) -> ProcessNode:
    while process.caller is not None:
        process = process.caller
    return process


def _generations(frames: Iterable[Atoms]) -> str:
    found = sorted({int(atoms.info["generation"]) for atoms in frames if "generation" in atoms.info})
    if len(found) > 1:
        return f" of generations {found[0]} to {found[-1]}"
    return f" of generation {found[0]}" if found else ""


def frames_of(nodes: Mapping[str, Dataset]) -> list[Atoms]:
    """Return the frames of several datasets, in the order of their names."""
    return [atoms for _, node in sorted(nodes.items()) for atoms in node.get_frames()]
