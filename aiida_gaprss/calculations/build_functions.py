"""The cheap steps of building databases as calcfunctions: make frames, take snapshots, hand labels back to strategies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Dict, Str
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.common import frames_of, named, process_uuid
from aiida_gaprss.campaign.crystals import crystals_in
from aiida_gaprss.campaign.stages import DATABASE, all_named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.selection.databases import chosen, each_once
from aiida_gaprss.strategies.lists import StrategyList

#: Names of what comes out: frames, and settings of those that a potential is handed; crystals, and what became of all.
MADE, TASKS = "made", "tasks"
KEPT, FATES = "kept", "fates"

#: What became of a crystal that goes on to the strategies.
AS_BEFORE = "kept"


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
def crystals_to_relax(settings: Dict, crystals: Dataset) -> Dataset:
    """Return the crystals that are not too large to be relaxed, with their names and nothing else."""
    rules = StrategyList(**settings.get_dict()).relax
    assert rules is not None
    small = [atoms for atoms in crystals_in(crystals) if rules.too_large(atoms) is None]
    return named(Dataset(small, level_of_theory="unlabelled"), "crystals to be relaxed")


@calcfunction
def kept_crystals(settings: Dict, crystals: Dataset, failure: Str, relaxed: Dataset | None = None) -> dict[str, Any]:
    """Take those crystals on to the strategies that a relaxation has left the same structure.

    :param failure: why crystals are missing among the relaxed ones.
    :param relaxed: frames with ``parent``, of which the last of each counts, or with the ``frame_id`` of the crystal.
    :return: ``kept``, as they are relaxed, under their own names; ``fates``, in words, of all.
    """
    rules = StrategyList(**settings.get_dict()).relax
    assert rules is not None
    ends = {str(a.info.get("parent", a.info["frame_id"])): a for a in (relaxed.get_frames() if relaxed is not None else ())}
    kept, fates = [], {}
    for crystal in crystals_in(crystals):
        name = crystal.info["frame_id"]
        end = ends.get(name)
        why = rules.why_not(crystal, end, failure.value)
        if why is None and end is not None:
            kept.append(Atoms(end.numbers, end.positions, cell=end.cell, pbc=True))
            kept[-1].info = {key: end.info[key] for key in ("relax_status", "step", "potential") if key in end.info}
            kept[-1].info |= {"frame_id": name, "parent": name, "origin": process_uuid()}
            why = f"{AS_BEFORE}: {rules.in_words(crystal, end)}"
        fates[name] = why
    out = named(Dataset(kept, level_of_theory="unlabelled"), "relaxed crystals")
    return {KEPT: out, FATES: named(Dict(fates), "what became of the crystals")}


def fate_in_words(fate: str) -> str:
    """Return what became of a crystal, of those that :func:`kept_crystals` tells, as a reader is told."""
    return fate if fate.startswith(AS_BEFORE) else f"left out: {fate}"


@calcfunction
def frames_to_examine(**nodes: Dataset) -> Dataset:
    """Join the frames of strategies of which a potential is asked how sure it is: each structure once, none in vacuum.

    :param nodes: ``made_…``, in the order of the strategies.
    """
    made = {name: node.get_frames() for name, node in nodes.items()}
    frames = [atoms for atoms in each_once(made) if not fr.is_in_vacuum(atoms)]
    return named(Dataset(frames, level_of_theory="unlabelled"), "frames to be examined")


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
def frames_of_strategies(settings: Dict, examined: Dataset | None = None, **nodes: Dataset) -> Dataset:
    """Join what is to be labelled; of the same structure the first only, and no more than was said.

    :param examined: the frames with the variances of a potential, if they are chosen by these.
    :param nodes: ``made_…`` frames of strategies; ``database_…`` labelled ones, against which they are chosen.
    """
    strategies = StrategyList(**settings.get_dict())
    made = {name: nodes[f"{MADE}_{name}"].get_frames() for name in strategies.strategies if f"{MADE}_{name}" in nodes}
    sure = examined.get_frames() if examined is not None else ()
    frames = chosen(strategies, made, frames_of(all_named(DATABASE, nodes)), sure)
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
