"""The history of one frame, read from the provenance graph."""

from __future__ import annotations

from typing import Any

from aiida.common.exceptions import NotExistent
from aiida.orm import Node, WorkChainNode, load_node
from ase import Atoms
from rich.tree import Tree

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.outside import shown
from aiida_gaprss.outside.terminal import styled
from aiida_gaprss.queries import datasets_with
from aiida_gaprss.report.state import STRANGE

#: Where frames are made and labelled, and what a user calls it.
OWNERS = {"RssWorkChain": "campaign", "BuildWorkChain": "database"}


class TraceError(ValueError):
    """A frame that cannot be traced."""


def history(frame_id: str, campaign: WorkChainNode | None = None) -> Tree:
    """Return the history of a frame as a tree.

    :raises TraceError: if no dataset, or datasets of several campaigns, hold such a frame, or what they hold is none of ours.
    """
    try:
        return _history(frame_id, campaign)
    except TraceError:
        raise
    except (*STRANGE, ValueError) as exception:
        what = f"{type(exception).__name__}: {shown(exception)}"
        raise TraceError(f"frame {shown(frame_id)!r} has no history that this package has made: {what}") from exception


def _history(frame_id: str, campaign: WorkChainNode | None) -> Tree:
    datasets = datasets_with(frame_id, campaign)
    if not datasets:
        raise TraceError(f"no dataset of this profile holds a frame {frame_id!r}")
    campaigns = {c.pk: c for d in datasets if (c := _owner(d)) is not None}
    if len(campaigns) > 1:
        which = ", ".join(map(str, campaigns))
        raise TraceError(f"{len(campaigns)} campaigns or databases have a frame {frame_id!r}: say --campaign with one of {which}")
    labelled = [d for d in datasets if "label_status" in d.get_frame(frame_id).info]
    made = [d for d in datasets if d not in labelled]
    atoms = (labelled or datasets)[0].get_frame(frame_id)
    what = f"  {atoms.get_chemical_formula()}, {atoms.info.get('config_type', '')}"
    tree = Tree(styled((frame_id, "bold"), what))
    for owner in campaigns.values():
        seed = owner.inputs.seed.value if "seed" in owner.inputs else owner.inputs.settings["seed"]
        tree.add(f"{OWNERS[str(owner.process_label)]} {owner.label} <{owner.pk}>, seed {seed}")
    if labelled:
        _add_label(tree, atoms, labelled[0])
    if made:
        _add_making(tree, made[0].get_frame(frame_id), made[0], datasets_with)
    elif datasets[0].creator is None:
        tree.add(f"came into the profile with {_name(datasets[0])}")
    return tree


def _add_label(tree: Tree, atoms: Atoms, dataset: Dataset) -> None:
    uuid = atoms.info.get("label_uuid")
    energy = fr.energy(atoms)
    text = f"{energy:.6f} eV ({energy / len(atoms):.4f} eV/atom)" if energy is not None else str(atoms.info.get("label_status"))
    branch = tree.add(f"label: {text}")
    branch.add(dataset.level_of_theory.replace("\\n", " ")[:200])
    if uuid:
        calculation = _load(uuid)
        branch.add(_process(calculation) if calculation else f"calculation {uuid}, not in this profile")
        if calculation is not None and calculation.caller is not None:
            branch.add(f"called by {_process(calculation.caller)}")
        workdir = (
            calculation.get_remote_workdir() if calculation is not None and hasattr(calculation, "get_remote_workdir") else None
        )
        if workdir:
            branch.add(f"ran in {workdir}")


def _add_making(tree: Tree, atoms: Atoms, dataset: Dataset, find: Any) -> None:
    """Add the process that made a frame, then its parents."""
    process, parent = _load(atoms.info.get("origin", "")), atoms.info.get("parent")
    branch = tree.add(_how(atoms, process, dataset))
    if process is not None:
        branch.add(_process(process))
    if parent is None and "seed" in atoms.info:
        branch.add(_of_chance(atoms))
    potential = _load(atoms.info.get("potential", ""))
    if potential is not None and parent is not None:
        fit = potential.creator
        branch.add(f"potential <{potential.pk}>" + (f", fitted by {_process(fit)}" if fit is not None else ""))
    if parent is None:
        return
    parents = _before(process, parent) or find(parent)
    if "step" not in atoms.info:
        parents = [d for d in parents if "label_status" not in d.get_frame(parent).info] or parents
    if parents:
        _add_making(branch, parents[0].get_frame(parent), parents[0], find)


def _how(atoms: Atoms, process: Any, dataset: Dataset) -> str:
    """Return in words how a frame was made."""
    if (parent := atoms.info.get("parent")) is None:
        return f"made: {atoms.info['frame_id']}" if process is not None else f"first seen in {_name(dataset)}"
    pressure, step = atoms.info.get("pressure_GPa", 0.0), atoms.info.get("step")
    if "parameters" in atoms.info or "md_status" in atoms.info:
        of = f"step {step} of a trajectory of" if step is not None else "made of"
        return f"{of} {parent}" + (f": {words}" if (words := atoms.info.get("parameters")) else "")
    if step is not None:
        return f"relaxed: step {step} of {parent} at {pressure:g} GPa ({atoms.info.get('relax_status')})"
    if "relax_status" in atoms.info:
        return f"relaxed: {parent} ({atoms.info['relax_status']})"
    made = getattr(process, "process_label", "") == "strategy_frames" or atoms.info.get("config_type") == "crystal"
    return f"made of {parent}" if made else f"taken from the database: {parent}"


def _of_chance(atoms: Atoms) -> str:
    """Return the seed of a frame, and the symmetry of a random cell."""
    if not {"n_operations", "space_group"} & set(atoms.info):
        return f"seed {atoms.info['seed']}"
    operations, group = atoms.info.get("n_operations", 1), atoms.info.get("space_group", 1)
    return f"random cell of seed {atoms.info['seed']}: {operations} symmetry operations, space group {group}"


def _before(process: Any, parent: str) -> list[Dataset]:
    """Return those inputs of the process that made a frame which hold its parent: names are unique in a dataset only."""
    nodes = process.base.links.get_incoming().all_nodes() if process is not None else []
    return [node for node in nodes if isinstance(node, Dataset) and any(a.info["frame_id"] == parent for a in node.get_frames())]


def _owner(node: Node) -> WorkChainNode | None:
    """Return the campaign that has made a node, or the database, if it is of none."""
    creator, found = getattr(node, "creator", None), None
    while creator is not None:
        found = creator if creator.process_label in OWNERS else found
        creator = creator.caller
    return found


def _load(uuid: str) -> Any:
    try:
        return load_node(uuid) if uuid else None
    except (NotExistent, ValueError):
        return None


def _process(node: Any) -> str:
    status = "" if node.is_finished_ok else f", {node.exit_message or node.process_state}"
    return f"{node.process_label} <{node.pk}>{f' {node.label}' if node.label else ''}{status}"


def _name(node: Node) -> str:
    return f"{type(node).__name__} <{node.pk}>{f' {node.label}' if node.label else ''}"
