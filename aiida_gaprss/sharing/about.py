"""The card of an archive: what was made, at which level of theory, of what, how good it is, and what may be done with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from aiida.orm import Dict, Node, ProcessNode

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import PotentialError
from aiida_gaprss.properties.scorecard import LIGHTS
from aiida_gaprss.sharing.archive import FORMAT
from aiida_gaprss.sharing.card import card
from aiida_gaprss.structures.compositions import text as formula_text

#: What a user calls our work chains.
KINDS = {
    "RssWorkChain": "campaign",
    "BuildWorkChain": "database",
    "ValidateWorkChain": "validation",
    "FitWorkChain": "fit",
    "SearchWorkChain": "structure search",
    "RelabelWorkChain": "relabelling",
    "DeltaWorkChain": "fit to differences",
    "CompareCampaignsWorkChain": "comparison of campaigns",
}

#: Outputs whose frames are labelled in others.
_REPEATED = ("predictions", "minima_frames", "frames__", "crystals__")

#: Rows of minima on the card.
MOST_MINIMA = 20


@dataclass(frozen=True)
class Terms:
    """What the user says of an archive: its name, who is to be named, and what others may do.

    :param licence: as SPDX names it, such as CC-BY-4.0; None: none was chosen.
    :param cite: what is to be cited, a line each.
    """

    name: str
    licence: str | None = None
    authors: Sequence[str] = ()
    cite: Sequence[str] = ()
    description: str = ""


@dataclass(frozen=True)
class Found:
    """What there is in the outputs of the nodes that are shared, by links or names."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    potentials: dict[str, Potential] = field(default_factory=dict)
    scorecards: dict[str, Dict] = field(default_factory=dict)
    minima: list[dict[str, Any]] = field(default_factory=list)


def about(nodes: Sequence[Node], terms: Terms, made: str) -> dict[str, Any]:
    """Return the card of an archive of these nodes as plain data; its contents are counted by who writes it.

    :param made: when, as ISO 8601 says it.
    """
    found = _found(nodes)
    data = [_dataset(name, node) for name, node in found.datasets.items()]
    best = _best(nodes, found)
    elements = sorted({s for d in found.datasets.values() for s in d.elements} | {s for p in best for s in p.elements})
    return {
        "format": FORMAT,
        "name": terms.name,
        "description": terms.description or "; ".join(_title(node) for node in nodes),
        "made": made,
        "by": {"aiida-gaprss": version("aiida-gaprss"), "aiida-core": version("aiida-core")},
        "licence": terms.licence,
        "authors": list(terms.authors),
        "cite": list(terms.cite),
        "what": [_what(node) for node in nodes],
        "elements": elements,
        "levels_of_theory": sorted({str(d["level_of_theory"]) for d in data if d["energies"]}),
        "data": data,
        "settings": {node.uuid: settings for node in nodes if (settings := _settings(node))},
        "potentials": [_card(node) for node in best],
        "minima": found.minima[:MOST_MINIMA],
        "scorecards": {name: node.get_dict() for name, node in found.scorecards.items()},
        "lights": _lights(found.scorecards.values()),
    }


def _title(node: Node) -> str:
    if isinstance(node, ProcessNode):
        settings = _settings(node) or {}
        of = f" of {formula_text(settings['formula'])}" if isinstance(settings.get("formula"), Mapping) else ""
        return f"{KINDS.get(str(node.process_label), node.process_label)}{of}"
    return f"{type(node).__name__.lower()} of {' '.join(getattr(node, 'elements', []))}"


def _what(node: Node) -> dict[str, Any]:
    out = {"kind": _title(node), "uuid": node.uuid, "pk": node.pk, "label": node.label, "description": node.description}
    if isinstance(node, ProcessNode):
        out |= {"process": node.process_label, "state": _state(node), "begun": node.ctime.isoformat(timespec="seconds")}
        out["seed"] = node.inputs.seed.value if "seed" in node.inputs else None
    return out


def _state(node: ProcessNode) -> str:
    if node.is_finished_ok:
        return "finished"
    return f"failed: {node.exit_message or (node.process_state.value if node.process_state else 'unknown')}"


def _settings(node: Node) -> dict[str, Any] | None:
    if isinstance(node, ProcessNode) and "settings" in node.inputs and isinstance(node.inputs.settings, Dict):
        return dict(node.inputs.settings.get_dict())
    return None


def _found(nodes: Sequence[Node]) -> Found:
    found = Found()
    for node in nodes:
        for name, other in _around(node):
            if isinstance(other, Dataset) and other.base.attributes.get("energies") and not name.startswith(_REPEATED):
                found.datasets.setdefault(name, other)
            elif isinstance(other, Potential):
                found.potentials.setdefault(name, other)
            elif isinstance(other, Dict) and name.startswith(("validations__", "scorecard")):
                found.scorecards[name.removeprefix("validations__")] = other
            elif isinstance(other, Dict) and name == "minima":
                found.minima.extend(other.get_dict().get("minima", []))
    return found


def _around(node: Node) -> Iterator[tuple[str, Node]]:
    """Yield a node that is data, or what went into a process as a database and what came out, by the labels of their links."""
    if not isinstance(node, ProcessNode):
        yield node.label or node.uuid[:8], node
        return
    for link in sorted(node.base.links.get_incoming().all(), key=lambda link: link.link_label):
        if link.link_label.startswith(("database__", "datasets__", "potentials__")):
            yield link.link_label, link.node
    for link in sorted(node.base.links.get_outgoing().all(), key=lambda link: link.link_label):
        yield link.link_label, link.node


def _best(nodes: Sequence[Node], found: Found) -> list[Potential]:
    """Return the potentials that a reader wants: those that are shared, the final one of a process; else all."""
    final = [node.outputs["potential"] for node in nodes if isinstance(node, ProcessNode) and "potential" in node.outputs]
    own = [node for node in nodes if isinstance(node, Potential)]
    return list({node.uuid: node for node in [*own, *final] or found.potentials.values()}.values())


def _dataset(name: str, node: Dataset) -> dict[str, Any]:
    attributes = node.base.attributes.all
    told = {key: attributes[key] for key in ("frames", "atoms", "elements", "config_types", "energies", "forces", "virials")}
    return {"name": name, "uuid": node.uuid, **told, "level_of_theory": node.level_of_theory}


def _card(node: Potential) -> dict[str, Any]:
    """Return the card of a potential.

    :raises PotentialError: if it is not what it was.
    """
    try:
        return card(node)
    except PotentialError as exception:
        raise PotentialError(f"cannot be shared: {exception}") from exception


def _lights(scorecards: Iterable[Dict]) -> dict[str, dict[str, str | None]]:
    """Return the worst light of each property by the uuids of potentials, of the last scorecard that has it."""
    lights: dict[str, dict[str, str | None]] = {}
    for node in scorecards:
        validation = node.creator.caller if node.creator is not None else None
        named = validation.inputs.potentials if validation is not None and "potentials" in validation.inputs else {}
        for name, judged in node.get_dict().get("potentials", {}).items():
            if name in named:
                known = {key: light if light in LIGHTS else None for key, light in judged["lights"].items()}
                lights[named[name].uuid] = {**lights.get(named[name].uuid, {}), **known}
    return lights
