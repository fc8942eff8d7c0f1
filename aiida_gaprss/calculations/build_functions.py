"""The cheap steps of building databases as calcfunctions: make frames, take snapshots, hand labels back to strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Dict, Str
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import frames_of, named, process_uuid
from aiida_gaprss.campaign.stages import DATABASE, all_named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.selection.databases import chosen
from aiida_gaprss.strategies.lists import StrategyList

#: Names of what comes out: frames, and settings of those that a potential is handed.
MADE, TASKS = "made", "tasks"


def crystals_in(node: Dataset | None) -> list[Atoms]:
    """Return the crystals of a dataset, with their names and nothing else."""
    out = []
    for atoms in node.get_frames() if node is not None else ():
        out.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc))
        out[-1].info["frame_id"] = atoms.info["frame_id"]
    return out


@calcfunction
def strategy_frames(settings: Dict, name: Str, crystals: Dataset | None = None) -> dict[str, Any]:
    """Make the frames of one strategy.

    :return: ``made``; ``tasks``, settings by frame, if a potential is handed them.
    """
    frames = StrategyList(**settings.get_dict()).frames(name.value, crystals_in(crystals))
    tasks = {atoms.info["frame_id"]: atoms.info["task"] for atoms in frames if "task" in atoms.info}
    for atoms in frames:
        atoms.info["origin"] = process_uuid()
    out = {MADE: named(Dataset(frames, level_of_theory="unlabelled"), f"frames of {name.value}")}
    return out | ({TASKS: named(Dict(tasks), f"settings of {name.value}")} if tasks else {})


@calcfunction
def taken_frames(settings: Dict, name: Str, made: Dataset, done: Dataset) -> Dataset:
    """Take those frames that are to be labelled, of what a potential has made of those of a strategy."""
    strategy = StrategyList(**settings.get_dict()).strategies[name.value]
    begun = {atoms.info["frame_id"]: atoms.info for atoms in made.get_frames()}
    frames = done.get_frames()
    for atoms in frames:
        of_begin = begun[str(atoms.info["parent"])]
        atoms.info |= {key: of_begin[key] for key in ("config_type", "parameters", "seed") if key in of_begin}
    return named(Dataset(strategy.taken(frames), level_of_theory="unlabelled"), f"frames of {name.value}")


@calcfunction
def frames_of_strategies(settings: Dict, **nodes: Dataset) -> Dataset:
    """Join what is to be labelled; of the same structure the first only, and no more than was said.

    :param nodes: ``made_…`` frames of strategies; ``database_…`` labelled ones, against which they are chosen.
    """
    strategies = StrategyList(**settings.get_dict())
    made = {name: nodes[f"{MADE}_{name}"].get_frames() for name in strategies.strategies if f"{MADE}_{name}" in nodes}
    frames = chosen(strategies, made, frames_of(all_named(DATABASE, nodes)))
    return named(Dataset(frames, level_of_theory="unlabelled"), "frames of strategies")


@calcfunction
def labels_of_strategy(name: Str, made: Dataset, labels: Dataset) -> Dataset:
    """Return the frames of one strategy with their labels, or why they have none."""
    return named(Dataset(labelled(made.get_frames(), labels), level_of_theory=labels.level), f"labelled frames of {name.value}")


def labelled(frames: Sequence[Atoms], labels: Dataset) -> list[Atoms]:
    """Return those frames that the reference was handed, with the labels of the same structures, or why there are none."""
    known = {fr.label_key(atoms): atoms for atoms in labels.get_frames()}
    out = []
    for atoms in frames:
        if (source := known.get(fr.label_key(atoms))) is not None:
            fr.take_labels(atoms, source)
            out.append(atoms)
    return out
