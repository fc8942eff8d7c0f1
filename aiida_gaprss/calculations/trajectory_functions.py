"""The cheap steps of trajectories by the program of a reference as calcfunctions: where one goes on, and its snapshots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from aiida.engine import calcfunction
from aiida.orm import Dict, FolderData, Int, Str, StructureData
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import frames_of, named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.io.common import Step
from aiida_gaprss.reference import moving, put_labels_of_step
from aiida_gaprss.reference.common import sorted_by_number, unsorted
from aiida_gaprss.runners.status import FINISHED, INTERRUPTED, ON_THE_WAY
from aiida_gaprss.settings.jobs import ReferenceMdSettings

#: Å; what a program prints of the positions that it was sent differs by less.
PRINTED = 1e-4


@calcfunction
def trajectory_end(retrieved: FolderData, reference: Str, before: StructureData) -> StructureData:
    """Return the structure with which a trajectory goes on, of the part before."""
    symbols = [site.kind_name for site in before.sites]
    end = moving(reference.value).moved(retrieved, symbols).end
    structure = StructureData(ase=end if end is not None else before.get_ase())
    structure.label = before.label
    return structure


@calcfunction
def gather_trajectory(frames: Dataset, index: Int, reference: Str, task: Dict, reason: Str, **parts: FolderData) -> Dataset:
    """Return the snapshots of a trajectory, of all its parts.

    :param parts: ``part_000``, ``part_001``, …: what came back of each process that made a step.
    :param reason: why it came no further; empty if it has ended.
    """
    source, settings = frames.frame(index.value), ReferenceMdSettings(**task.get_dict())
    steps = _steps(source, reference.value, parts)[: settings.steps + 1]
    last = len(steps) - 1
    numbers = [number for number in range(len(steps)) if number % settings.snapshot_every == 0 or number == last]
    kept = [_snapshot(source, settings, number, *steps[number]) for number in numbers]
    for atoms in kept:
        atoms.info["md_status"] = ON_THE_WAY
    for atoms in kept[-1:]:
        atoms.info.update(md_status=INTERRUPTED if last < settings.steps else FINISHED, md_end_step=last)
    return named(Dataset(kept, level_of_theory="unlabelled"), "snapshots of a trajectory by the reference", kept)


@calcfunction
def join_trajectories(**parts: Dataset) -> Dataset:
    """Join the snapshots of several trajectories."""
    frames = frames_of(parts)
    return named(Dataset(frames, level_of_theory="unlabelled"), "snapshots of trajectories by the reference", frames)


def _steps(source: Atoms, reference: str, parts: Mapping[str, FolderData]) -> list[tuple[Step, float]]:
    """Return all steps, in the order of the sorted structure, with their temperatures (K).

    A program that goes on may print in its header what it was given instead of where it is: the first atoms of a part are those
    with which the part before it has ended. If those printed are others, the trajectory has ended before.
    """
    first = sorted_by_number(source)[0]
    begin: Atoms | None = first
    symbols = first.get_chemical_symbols()
    out: list[tuple[Step, float]] = []
    for _, folder in sorted(parts.items()):
        found = moving(reference).moved(folder, symbols)
        if found.steps and begin is not None:
            if np.abs(found.steps[0].atoms.positions - begin.positions).max() > PRINTED:
                break
            found.steps[0].atoms.positions = begin.positions
        out += zip(found.steps, found.kelvins, strict=True)
        begin = found.end
    return out


def _snapshot(source: Atoms, settings: ReferenceMdSettings, number: int, step: Step, kelvin: float) -> Atoms:
    """Return a step as a frame in the order of the frame that it comes from, with what the program says of it as ``PRED_*``."""
    order = sorted_by_number(source)[1]
    atoms = Atoms(source.numbers, unsorted(step.atoms.positions, order), cell=source.cell, pbc=True)
    put_labels_of_step(step, atoms, fr.PREDICTION)
    parent = source.info["frame_id"]
    atoms.info |= {key: source.info[key] for key in fr.INHERITED if key in source.info}
    atoms.info |= {"frame_id": f"{parent}-s{number}", "parent": parent, "config_type": "md", "step": number}
    atoms.info |= {"time_ps": round(number * settings.timestep_fs / 1000, 9), "temperature_K": round(kelvin, 6)}
    return atoms
