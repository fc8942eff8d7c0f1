"""What the calcfunctions share."""

from __future__ import annotations

from collections.abc import Mapping

from aiida.engine import Process
from ase import Atoms

from aiida_gaprss.data.dataset import Dataset


def process_uuid() -> str:
    """Return the uuid of the process that is running."""
    process = Process.current()
    assert process is not None
    return str(process.node.uuid)  # type: ignore[attr-defined]


def frames_of(nodes: Mapping[str, Dataset]) -> list[Atoms]:
    """Return the frames of several datasets, in the order of their names."""
    return [atoms for _, node in sorted(nodes.items()) for atoms in node.get_frames()]
