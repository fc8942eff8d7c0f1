"""What labels of a reference have cost in this profile, and what frames will cost by that."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import numpy as np
from aiida.orm import CalcFunctionNode, CalcJobNode, Dict, QueryBuilder, Str
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.cost import CostModel, Sizes, Time, fitted
from aiida_gaprss.campaign.build import kpoints_of, spacing_of, steps_of
from aiida_gaprss.reference import ASE, reference_named, reference_of
from aiida_gaprss.reference.base import Reference, Timed
from aiida_gaprss.settings.plugins import KindError
from aiida_gaprss.strategies.base import Strategy

#: So many times of labels at most are looked at, the newest.
MOST = 400
#: Seconds of an hour.
HOUR = 3600.0


def calibrated(label: Mapping[str, Any] | None) -> CostModel | None:
    """Return what frames of a reference cost, by the labels that it has made with the same settings; None of too few.

    :param label: inputs of ``LabelWorkChain``.
    """
    name = reference_of(label or {})
    if label is None or name is None:
        return None
    if name == ASE:
        return fitted(list(islice(_of_calculator(label[ASE]["settings"].get_dict()), MOST)))
    try:
        module = reference_named(name)
    except KindError:
        return None
    content = Dict(module.level_of_theory(label[name])).get_dict()
    spacing = spacing_of(label)
    times = chain(_of_jobs(name, module, content, spacing), _of_bundles(name, module, content, spacing))
    return fitted(list(islice(times, MOST)))


def sizes_of(frames: Sequence[Atoms], spacing: float | None) -> Sizes:
    """Return (N, n_k) of frames; those in vacuum are left out, whose boxes cost more than their atoms."""
    return [(len(atoms), float(kpoints_of(atoms, spacing))) for atoms in frames if not fr.is_in_vacuum(atoms)]


def seconds_of(
    model: CostModel, strategy: Strategy, frames: Sequence[Atoms], spacing: float | None
) -> tuple[float, float, float]:
    """Return the core-seconds of what a strategy asks of the reference, with the ends of a band; no frames in vacuum.

    :param frames: of the strategy; of one with trajectories, where they begin.
    """
    labels = np.multiply(strategy.labels_each, model.predict(sizes_of(frames, spacing)))
    steps = [(len(atoms), float(n)) for atoms in frames if (n := steps_of(atoms, spacing))]
    return summed([tuple(labels.tolist()), model.predict(steps, "step")])


def _of_jobs(name: str, module: Reference, content: dict[str, Any], spacing: float | None) -> Iterator[Time]:
    """Yield the times of labels that were calculated one by one, the newest first."""
    if not isinstance(module, Timed):
        return
    query = QueryBuilder().append(Dict, project="attributes", tag="level")
    gathered = {"attributes.process_label": "gather_labels"}
    query.append(CalcFunctionNode, with_incoming="level", edge_filters={"label": "level"}, filters=gathered, tag="g", project="*")
    query.append(Str, with_outgoing="g", edge_filters={"label": "reference"}, filters={"attributes.value": name})
    for level, node in query.order_by({"g": {"id": "desc"}}).iterall():
        if level == content:
            yield from _readable(_of_gathered(node, module, spacing))


def _readable(times: Iterator[Time]) -> Iterator[Time]:
    """Yield times as far as they can be read: nodes of somebody's archive may hold anything."""
    with suppress(Exception):
        yield from times


def _of_gathered(node: CalcFunctionNode, module: Any, spacing: float | None) -> Iterator[Time]:
    for link in node.base.links.get_incoming().all():
        match = re.fullmatch(rf"f(\d+)_a\d+_{module.OUTPUTS[0]}", link.link_label)
        job = link.node.creator if match else None
        if match and isinstance(job, CalcJobNode):
            seconds = module.seconds({module.OUTPUTS[0]: link.node})
            sizes = sizes_of([node.inputs.frames.frame(int(match[1]))], spacing)
            if seconds and sizes:
                yield Time(sizes, seconds * cores_of(job))


def _of_bundles(name: str, module: Any, content: dict[str, Any], spacing: float | None) -> Iterator[Time]:
    """Yield the times of frames of one size in bundles, where each program has one core."""
    query = QueryBuilder().append(
        CalcJobNode, filters={"process_type": "aiida.calculations:gaprss.bundle"}, tag="job", project="*"
    )
    for (job,) in query.order_by({"job": {"id": "desc"}}).limit(MOST).iterall():
        given = getattr(job.inputs, name, None)
        if given and Dict(module.level_of_theory(given)).get_dict() == content:
            yield from _readable(_by_size(job, spacing))


def _of_calculator(settings: dict[str, Any]) -> Iterator[Time]:
    """Yield the times of frames of one size in jobs of the same calculator and arguments."""
    query = QueryBuilder().append(Dict, project="attributes", tag="settings")
    job = {"process_type": "aiida.calculations:gaprss.label"}
    query.append(CalcJobNode, with_incoming="settings", edge_filters={"label": "settings"}, filters=job, tag="job", project="*")
    for given, node in query.order_by({"job": {"id": "desc"}}).limit(MOST).iterall():
        if all((given.get(key) or {}) == (settings.get(key) or {}) for key in ("calculator", "arguments")):
            yield from _readable(_by_size(node, None))


def _by_size(job: CalcJobNode, spacing: float | None) -> Iterator[Time]:
    """Yield the times that a job of many frames tells by their size, of those sizes of which all frames were finished."""
    summary = job.outputs.summary.get_dict() if "summary" in job.outputs else {}
    frames: dict[int, list[Atoms]] = {}
    for atoms in job.inputs.frames.get_frames() if summary.get("times") else ():
        frames.setdefault(len(atoms), []).append(atoms)
    for n, same in frames.items():
        count, seconds = summary["times"].get(str(n), (0, 0.0))
        sizes = sizes_of(same, spacing)
        if count == len(same) == len(sizes) and seconds > 0:
            yield Time(sizes, seconds)


def cores_of(job: CalcJobNode) -> int:
    """Return how many cores a job had, as far as its resources say."""
    resources = job.get_option("resources") or {}
    machines, processes = resources.get("num_machines", 1), resources.get("num_mpiprocs_per_machine", 1)
    return int(resources.get("tot_num_mpiprocs") or machines * processes) * int(resources.get("num_cores_per_mpiproc") or 1)


def in_words(model: CostModel, spacing: float | None) -> str:
    """Return what a model is made of, for people."""
    law, k = model.law, "" if spacing is None else " n_k"
    begins = f"{law.a:.2g} + " if law.a > 1e-3 * law.b else ""
    return (
        f"calibrated on {model.times} times of labels of this reference, of {model.smallest} to {model.largest} atoms: "
        f"{begins}{law.b:.2g} N^{law.p:.2f}{k} core-seconds a frame, single times a factor of {math.exp(model.scatter):.2f} off"
    )


def summed(seconds: Iterable[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Return the sum of several, and of the ends of their bands: what makes one dearer makes all dearer."""
    rows = np.array(list(seconds)).reshape(-1, 3).sum(axis=0)
    return float(rows[0]), float(rows[1]), float(rows[2])


def in_hours(seconds: tuple[float, float, float]) -> str:
    """Return core-hours with their band, two digits: ``1.2 (0.9–1.7)``."""
    best, low, high = (f"{value / HOUR:.2g}" for value in seconds)
    return f"{best} ({low}–{high})"
