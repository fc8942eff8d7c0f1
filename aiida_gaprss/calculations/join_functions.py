"""Calcfunctions that hand on the frames a job has left, and join what several jobs made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiida.engine import calcfunction
from aiida.orm import ArrayData, Dict, List, Str
from ase import Atoms

from aiida_gaprss.calculations.common import named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.runners.status import NOT_REACHED, TIME_LIMIT


@calcfunction
def frames_left(frames: Dataset, indices: List) -> Dataset:
    """Return the frames that a job has left to another one."""
    left = [frames.frame(index) for index in indices.get_list()]
    return named(Dataset(left, level_of_theory=frames.level), "frames that a job has left", left)


@calcfunction
def join_frames(frames: Dataset, key: Str, **parts: Dataset | Dict) -> dict[str, Any]:
    """Join what several jobs made of ``frames``, each of what the one before had left, in the order of the frames.

    :param key: what names the frame that an output frame comes from, ``frame_id`` or ``parent``.
    :param parts: ``part_000_frames``, ``part_000_summary``, ``part_001_frames``, …
    """
    made: dict[str, list[Atoms]] = {}
    nodes = [node for _, node in sorted(parts.items()) if isinstance(node, Dataset)]
    for node in nodes:
        found: dict[str, list[Atoms]] = {}
        for atoms in node.get_frames():
            found.setdefault(atoms.info[key.value], []).append(atoms)
        made.update(found)
    out = [atoms for source in frames.get_frames() for atoms in made.get(source.info["frame_id"], [])]
    return {
        "frames": named(Dataset(out, level_of_theory=nodes[0].level), "frames of several jobs", out),
        "summary": named(_joined_summary(frames, parts), "summary of several jobs", out),
    }


@calcfunction
def join_vectors(frames: Dataset, **parts: ArrayData | Dict) -> dict[str, Any]:
    """Join the vectors that several jobs made of ``frames``, each of what the one before had left.

    :param parts: ``part_000_vectors``, ``part_000_summary``, ``part_001_vectors``, …
    """
    arrays = [node.get_array("vectors") for _, node in sorted(parts.items()) if isinstance(node, ArrayData)]
    out = np.full((frames.n_frames, max(array.shape[1] for array in arrays)), np.nan)
    numbers = np.arange(frames.n_frames)
    for array, summary in zip(arrays, _summaries(parts), strict=True):
        out[numbers, : array.shape[1]] = array
        numbers = numbers[summary.get("left", [])]
    vectors = ArrayData()
    vectors.set_array("vectors", out)
    return {
        "vectors": named(vectors, "vectors of several jobs"),
        "summary": named(_joined_summary(frames, parts), "summary of several jobs"),
    }


def _summaries(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [node.get_dict() for _, node in sorted(parts.items()) if isinstance(node, Dict)]


def _joined_summary(frames: Dataset, parts: Mapping[str, Any]) -> Dict:
    """Return the summary of several jobs as if it were one; relaxations that a later job began anew count once."""
    summaries = _summaries(parts)
    last = summaries[-1]
    status: Counter[str] = Counter()
    missing: dict[str, str] = {}
    for summary, after in zip(summaries, [*summaries[1:], None], strict=True):
        status.update(summary["status"])
        cut, left = summary.get("cut", []), summary.get("left", [])
        if after is not None and after["frames"] == len(cut) + len(left):
            status[TIME_LIMIT] -= len(cut)
        missing = {name: reason for name, reason in missing.items() if reason != NOT_REACHED} | summary.get("missing", {})
    times = {key: round(sum(s.get(key, 0.0) for s in summaries), 3) for key in ("wall_s", "work_s", "cpu_s")}
    joined = {"frames": frames.n_frames, "done": sum(status.values()), "status": dict(sorted((+status).items())), **times}
    joined |= {"complete": joined["done"] == frames.n_frames, "jobs": len(summaries)}
    joined |= {key: last[key] for key in ("processes", "python") if key in last}
    return Dict(joined | ({"missing": missing} if "missing" in last else {}))
