"""Nodes that users name, by pk, uuid or label: datasets, and what campaigns, databases and fits have of them."""

from __future__ import annotations

from typing import Any

from aiida.common.exceptions import MultipleObjectsError, NotExistent
from aiida.orm import ProcessNode, WorkChainNode, load_node

from aiida_gaprss.data.dataset import Dataset


def output_of(identifier: Any, output: str) -> Any:
    """Return a node, or an output of it, if it is a process that has one of this name.

    :raises ValueError: if there is none.
    """
    node = _node(identifier, "node")
    there = isinstance(node, ProcessNode) and output in node.outputs
    return node.outputs[output] if there else node


def datasets_of(identifier: Any, link: str = "") -> dict[str, Dataset]:
    """Return a dataset, or all labelled frames of a campaign, a database or a fit, each once; by names that begin with ``link``.

    Of a campaign these are what it began with and all its labels, of a database the labels of all its strategies together, of a
    fit what was fitted, of a relabelling its labels.

    :raises ValueError: if there is no such node, it is something else, or has no labels yet.
    """
    node = _node(identifier, "dataset, campaign, database or fit")
    if isinstance(node, Dataset):
        return {link: node}
    label = node.process_label if isinstance(node, WorkChainNode) else None
    if label not in _HAVE:
        kind = getattr(node, "process_label", None) or type(node).__name__
        raise ValueError(f"<{node.pk}> is a {kind}, expected a dataset, a campaign, a database or a fit")
    found = {f"{link}{ending}": dataset for ending, dataset in _HAVE[label](node).items() if is_labelled(dataset)}
    if not found:
        raise ValueError(f"<{node.pk}> has no labels yet")
    return found


def minima_of(identifier: Any, link: str) -> dict[str, Dataset]:
    """Return the minima that a search, or the last one of a campaign, has found, by the name ``link``.

    :raises ValueError: if there is no such node, it is something else, or has found none yet.
    """
    node = _node(identifier, "search or campaign")
    if not isinstance(node, WorkChainNode) or node.process_label not in ("SearchWorkChain", "RssWorkChain"):
        kind = getattr(node, "process_label", None) or type(node).__name__
        raise ValueError(f"<{node.pk}> is a {kind}, expected a search or a campaign; datasets go into database or relabel")
    if "minima_frames" not in node.outputs:
        raise ValueError(f"<{node.pk}> has no minima yet")
    return {link: node.outputs.minima_frames}


def is_labelled(node: Dataset) -> bool:
    """Tell whether any frame of a dataset has labels."""
    return bool(node.base.attributes.get("energies"))


def _node(identifier: Any, what: str) -> Any:
    try:
        return load_node(identifier if isinstance(identifier, int) else str(identifier))
    except (NotExistent, MultipleObjectsError, ValueError, TypeError) as exception:
        raise ValueError(f"no {what} {identifier!r} in this profile: {exception}") from exception


def _of_campaign(node: WorkChainNode) -> dict[str, Dataset]:
    spaces = (("database", node.inputs), ("labels", node.outputs))
    return {f"_{key}": space[name][key] for name, space in spaces if name in space for key in space[name]}


def _of_database(node: WorkChainNode) -> dict[str, Dataset]:
    return {"_labels": node.outputs.labels} if "labels" in node.outputs else {}


def _of_fit(node: WorkChainNode) -> dict[str, Dataset]:
    return {f"_{key}": node.inputs.datasets[key] for key in node.inputs.datasets}


_HAVE = {
    "RssWorkChain": _of_campaign,
    "BuildWorkChain": _of_database,
    "RelabelWorkChain": _of_database,
    "FitWorkChain": _of_fit,
    "DeltaWorkChain": _of_fit,
}
