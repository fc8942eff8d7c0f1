"""From campaigns that have ended to the inputs that compare them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from aiida.orm import Dict, ProcessNode, WorkChainNode

from aiida_gaprss.analysis.side_by_side import SideBySideSettings
from aiida_gaprss.campaign.nodes import is_labelled
from aiida_gaprss.campaign.stages import DATABASE, FINAL, RELAX, SEARCH, joined, link, named, order, part_of
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.frames import is_labelled as is_labelled_frame
from aiida_gaprss.frames import structure_key
from aiida_gaprss.levels import difference
from aiida_gaprss.runners.status import CONVERGED, GIVEN_UP
from aiida_gaprss.settings.computer import options_in


def file_of(node: WorkChainNode) -> str:
    """Return what campaigns that differ only in their seeds have in common: the name without the seed."""
    name, seed = str(node.inputs.name.value), node.inputs.seed.value
    return re.sub(rf"-s{seed}(?=-|$)", "", name)


def labels_of(node: WorkChainNode) -> dict[str, Dataset]:
    """Return all labelled datasets of a campaign by the names they have in its fits, the minima that were checked among them."""
    found = {named(DATABASE, key): data for key, data in _space(node.inputs, "database").items()} | _space(node.outputs, "labels")
    if "minima_frames" in node.outputs and SEARCH not in found:
        found[SEARCH] = node.outputs.minima_frames
    return {key: data for key, data in found.items() if is_labelled(data)}


def potentials_of(node: WorkChainNode) -> dict[str, Potential]:
    """Return the potentials of a campaign by the tags of their parts, in the order in which it made them."""
    found = _space(node.outputs, "potentials")
    return {tag: found[tag] for tag in in_order(found)}


def in_order(tags: Collection[str]) -> list[str]:
    """Return tags in the order of the parts; those of a database have its name behind them."""
    place = {tag: number for number, tag in enumerate(order({part_of(tag) for tag in tags}))}
    return sorted(tags, key=lambda tag: (place[part_of(tag)], tag))


def _space(links: Any, name: str) -> dict[str, Any]:
    return {key: links[name][key] for key in sorted(links[name])} if name in links else {}


def facts_of(key: str, node: WorkChainNode, file: str) -> dict[str, Any]:
    """Return what is to be known of a campaign besides its frames and potentials, as plain data.

    :param key: by which its inputs are called; ``file``: what it has in common with those of other seeds.
    """
    labels = labels_of(node)
    parts = [_part(tag, potential, labels, node) for tag, potential in potentials_of(node).items()]
    failure = None if node.is_finished_ok else str(node.exit_message or node.process_state)
    about = {"key": key, "name": node.inputs.name.value, "file": file, "seed": node.inputs.seed.value, "uuid": node.uuid}
    used = sum(_number(data) for tag, data in labels.items() if tag != SEARCH)
    return {**about, "failure": failure, "labels": used, "checks": _checks(labels), "parts": parts}


def _checks(labels: Mapping[str, Dataset]) -> int:
    """Return the number of labels of minima of the last search that are in no other dataset: what it took to check them."""
    keys = {tag: {structure_key(a) for a in data.get_frames() if is_labelled_frame(a)} for tag, data in labels.items()}
    return len(keys.get(SEARCH, set()).difference(*(found for tag, found in keys.items() if tag != SEARCH)))


def _part(tag: str, potential: Potential, labels: Mapping[str, Dataset], node: WorkChainNode) -> dict[str, Any]:
    """Return what is known of a potential: its training set, and how the relaxations ended that the one before it drove."""
    trained, left_out = _training_set(tag, potential, labels)
    used = sum(_number(labels[name]) for name in trained)
    return {
        "tag": tag,
        "uuid": potential.uuid,
        "trained": trained,
        "left_out": left_out,
        "labels": used,
        **_relaxations(tag, node),
    }


def _training_set(tag: str, potential: Potential, labels: Mapping[str, Dataset]) -> tuple[list[str], list[str]]:
    """Return the tags of the parts that a potential is fitted to, and the names of the frames that are left out of them."""
    fit = potential.creator
    if fit is None:  # of an archive without it
        known = in_order({*labels, tag})
        return [name for name in known[: known.index(tag) + 1] if name in labels], []
    left_out = fit.inputs.leave_out.get_list() if "leave_out" in fit.inputs else []
    return [name for name in _space(fit.inputs, "datasets") if name in labels], left_out


def _number(data: Dataset) -> int:
    return int(data.base.attributes.get("energies"))


def _relaxations(tag: str, node: WorkChainNode) -> dict[str, int]:
    """Return how many cells of a part were relaxed, how many of these to the end, and how many were given up or failed."""
    if (summary := _summary(tag, node)) is None:
        return {}
    status = summary["status"]
    lost = sum(number for what, number in status.items() if what in GIVEN_UP or what.startswith("failed"))
    return {"relaxations": sum(status.values()), "converged": status.get(CONVERGED, 0), "given_up": lost}


def _summary(tag: str, node: WorkChainNode) -> dict[str, Any] | None:
    called = {one.link_label: one.node for one in node.base.links.get_outgoing(node_class=ProcessNode).all()}
    label = link(tag, RELAX)
    for name in (joined(label), label):
        if name in called and "summary" in called[name].outputs:
            found: dict[str, Any] = called[name].outputs.summary.get_dict()
            return found
    if tag == FINAL and "search" in node.outputs and "summary" in node.outputs.search:
        return dict(node.outputs.search.summary.get_dict())
    return None


def faults_of(nodes: Mapping[str, WorkChainNode]) -> list[str]:
    """Return why campaigns cannot be compared: other elements, or labels of another level of theory.

    :param nodes: campaigns by name.
    """
    first = next(iter(nodes))
    elements = {name: sorted(node.inputs.settings["formula"]) for name, node in nodes.items()}
    levels = {name: next(iter(labels.values())).level for name, node in nodes.items() if (labels := labels_of(node))}
    out = [
        f"{name} is of {', '.join(found)}, {first} of {', '.join(elements[first])}: energies cannot be compared"
        for name, found in elements.items()
        if found != elements[first]
    ]
    other = difference(levels)
    return out + ([f"labelled at different levels of theory, energies cannot be compared: {other}"] if other else [])


def comparison_inputs(
    nodes: Mapping[str, WorkChainNode], files: Mapping[str, str], settings: SideBySideSettings, crystals: Dataset | None = None
) -> dict[str, Any]:
    """Return the inputs of ``CompareCampaignsWorkChain``.

    :param nodes: campaigns that have ended, by name; ``files``: of each, what it shares with those of other seeds.
    :raises ValueError: if they cannot be compared, or none has a potential.
    """
    with_potential = {name: node for name, node in nodes.items() if potentials_of(node)}
    if not with_potential:
        raise ValueError(f"no campaign has a potential that could be compared: {', '.join(nodes)}")
    if faults := faults_of(with_potential):
        raise ValueError("; ".join(faults))
    keys = {f"c{number:02d}": name for number, name in enumerate(nodes)}
    labels = {f"{key}_{tag}": data for key, name in keys.items() for tag, data in labels_of(nodes[name]).items()}
    potentials = {f"{key}_{tag}": one for key, name in keys.items() for tag, one in potentials_of(nodes[name]).items()}
    given: Any = next(iter(with_potential.values())).get_builder_restart()._inputs(prune=True)
    options = options_in(given["relax"].get("metadata", {}))  # AiiDA keeps none but those that were given
    return {
        "settings": Dict(settings.model_dump()),
        "campaigns": Dict({"campaigns": [facts_of(key, nodes[name], files[name]) for key, name in keys.items()]}),
        "labels": labels,
        "potentials": potentials,
        "jobs": {"code": given["relax"]["code"], "metadata": {"options": options}},
        **({"crystals": crystals, "label": dict(given["label"])} if crystals is not None else {}),
        "metadata": {"label": " and ".join(dict.fromkeys(files.values()))[:255]},
    }
