"""The cheap steps of a search as calcfunctions: make cells, find minima and targets, count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from aiida.engine import calcfunction
from aiida.orm import Dict, Int, Str
from ase import Atoms

from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.analysis.parents import lowest_parents
from aiida_gaprss.analysis.targets import find, names_of
from aiida_gaprss.calculations.common import named, process_uuid
from aiida_gaprss.campaign.search import DiagnosticSearchSettings
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.structures.seeding import stage_seed


@calcfunction
def parents_of_batch(settings: Dict, relaxed: Dataset, before: Dataset | None = None) -> Dataset:
    """Return the relaxed cells that those of a batch are varied from, lowest enthalpy first.

    :param relaxed: of the batch before; ``before``: the parents of that.
    """
    model = DiagnosticSearchSettings(**settings.get_dict())
    frames = [*(before.get_frames() if before is not None else []), *relaxed.get_frames()]
    kinds = [model.seeds[name] for name in model.cells]
    parents = lowest_parents(frames, kinds, model.formula, pressure_GPa=model.pressure_GPa)
    return named(Dataset(parents, level_of_theory="unlabelled"), "parents of new cells")


@calcfunction
def batch_of_cells(settings: Dict, name: Str, batch: Int, seed: Int, parents: Dataset | None = None) -> Dataset:
    """Make the random cells of a batch, its kinds of seeds in random order, so that the first attempts are like the others.

    :param parents: what cells of kinds that vary structures are made of, lowest first.
    """
    model = DiagnosticSearchSettings(**settings.get_dict())
    counts = model.counts()[batch.value]
    known = parents.get_frames() if parents is not None else []
    cells = make_cells(model.seeds, model.formula, counts, stage_seed(seed.value, batch.value, "cells"), parents=known)
    order = np.random.default_rng(stage_seed(seed.value, batch.value, "order")).permutation(len(cells))
    frames = [cells[i] for i in order]
    for number, atoms in enumerate(frames):
        atoms.info.update(frame_id=f"{name.value}-{batch.value:03d}-{number:04d}", config_type="random", origin=process_uuid())
        atoms.info["pressure_GPa"] = model.pressure_GPa
    return named(Dataset(frames, level_of_theory="unlabelled"), f"random cells, batch {batch.value}")


@calcfunction
def given_cells(settings: Dict, name: Str, kind: Str, frames: Dataset) -> Dataset:
    """Return frames as cells of a search (``again`` or ``target``), at its pressure."""
    pressure = DiagnosticSearchSettings(**settings.get_dict()).pressure_GPa
    cells = []
    for number, source in enumerate(frames.get_frames()):
        atoms = Atoms(source.numbers, source.positions, cell=source.cell, pbc=True)
        atoms.info.update(
            frame_id=f"{name.value}-{kind.value}-{number:04d}", parent=source.info["frame_id"], origin=process_uuid()
        )
        atoms.info.update(config_type=kind.value, pressure_GPa=pressure)
        cells.append(atoms)
    what = {"again": "frames to be relaxed once more", "target": "targets to be relaxed"}.get(kind.value, "cells")
    return named(Dataset(cells, level_of_theory="unlabelled"), what)


@calcfunction
def search_results(settings: Dict, targets: Dataset | None = None, **relaxed: Dataset) -> dict[str, Any]:
    """Find the distinct minima among relaxed cells, and the targets.

    :param relaxed: ``batch_000``, …: random cells; ``again``: frames relaxed once more; ``relaxed_targets``: of the targets.
    :return: ``minima`` (rows as of :class:`Minimum`), ``minima_frames``; with targets ``found``.
    """
    model = DiagnosticSearchSettings(**settings.get_dict())
    ends = list(_attempts(model, relaxed))
    again = _ends(relaxed["again"]) if "again" in relaxed else []
    minima = unique_minima(
        [*(atoms for _, atoms in ends), *again], window=model.window, limit=model.report, pressure_GPa=model.pressure_GPa
    )
    results: dict[str, Any] = {
        "minima": named(Dict({"minima": [minimum.as_dict() for minimum in minima]}), "table of minima"),
        "minima_frames": named(Dataset([minimum.atoms for minimum in minima], level_of_theory="unlabelled"), "minima"),
    }
    if targets is not None:
        given = targets.get_frames()
        names = names_of(given)
        last = _ends(relaxed["relaxed_targets"]) if "relaxed_targets" in relaxed else []
        by_number = {int(atoms.info["parent"].rpartition("-")[2]): atoms for atoms in last}
        found = find(
            dict(zip(names, given, strict=True)),
            {name: by_number[number] for number, name in enumerate(names) if number in by_number},
            ends,
            model.pressure_GPa,
        )
        results["found"] = named(Dict({"targets": [row.as_dict() for row in found]}), "targets found and not found")
    return results


def _ends(node: Dataset) -> list[Atoms]:
    return [atoms for atoms in node.get_frames() if atoms.info["relax_status"] != "on_the_way"]


def _attempts(model: DiagnosticSearchSettings, relaxed: dict[str, Dataset]) -> Iterator[tuple[int, Atoms]]:
    """Yield number of the attempt, from 1, and end point of every random cell."""
    before = 0
    for batch, counts in enumerate(model.counts()):
        node = relaxed.get(f"batch_{batch:03d}")
        for atoms in _ends(node) if node is not None else []:
            yield before + int(atoms.info["parent"].rpartition("-")[2]) + 1, atoms
        before += sum(counts.values())


@calcfunction
def search_summary(settings: Dict, failures: Dict, **summaries: Dict) -> Dict:
    """Count the attempts of a search by what became of them, and add up the times.

    :param failures: what went wrong with whole jobs, by name.
    :param summaries: of the relaxation jobs, ``batch_000``, …, ``again``, ``targets``.
    """
    model = DiagnosticSearchSettings(**settings.get_dict())
    batches = {name: node.get_dict() for name, node in summaries.items() if name.startswith("batch_")}
    status: Counter[str] = Counter()
    for summary in batches.values():
        status.update(summary["status"])
    ended = sum(summary["done"] for summary in batches.values())
    every = [node.get_dict() for node in summaries.values()]
    counts = Dict(
        {
            "attempts": model.attempts,
            "ended": ended,
            "converged": status["converged"],
            "not_reached": model.attempts - ended,
            "status": dict(sorted(status.items())),
            "jobs": len(summaries),
            "failures": failures.get_dict(),
            "wall_s": round(sum(summary.get("wall_s", 0.0) for summary in every), 2),
            "cpu_s": round(sum(summary["cpu_s"] for summary in every), 2),
        }
    )
    return named(counts, "summary of the search")
