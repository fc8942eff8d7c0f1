"""Write the results of a search: its minima as table and structures, and all numbers as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from aiida.orm import WorkChainNode

from aiida_gaprss import frames as frames_
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.report.folder import REPORT, claim
from aiida_gaprss.report.page import write_csv
from aiida_gaprss.report.tables import minima_rows

FILES = ("minima.csv", "minima.xyz", "found.csv", REPORT)


def minima_of(node: WorkChainNode) -> list[Minimum]:
    """Return the minima that a search has found, lowest first."""
    if "minima" not in node.outputs:
        return []
    frames = node.outputs.minima_frames.get_frames()
    return [Minimum.from_row(row, atoms) for row, atoms in zip(node.outputs.minima["minima"], frames, strict=True)]


def write_search(node: WorkChainNode, folder: Path) -> None:
    """Write ``minima.csv``, ``minima.xyz``, ``report.json`` and, if there were targets, ``found.csv`` into ``folder``.

    :raises FolderError: if it has such files that are of something else.
    """
    claim(folder, FILES, (node.uuid,))
    minima = minima_of(node)
    rows = minima_rows(minima)
    found = node.outputs.found["targets"] if "found" in node.outputs else []
    write_csv(folder / "minima.csv", rows)
    (folder / "minima.xyz").write_text(frames_.dumps(m.atoms for m in minima), encoding="utf-8")
    if found:
        write_csv(folder / "found.csv", found)
    record = {
        "search": {"pk": node.pk, "uuid": node.uuid, "potential": node.inputs.potential.uuid, "seed": node.inputs.seed.value},
        "settings": node.inputs.settings.get_dict(),
        "summary": node.outputs.summary.get_dict(),
        "minima": rows,
        "found": found,
    }
    (folder / REPORT).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
