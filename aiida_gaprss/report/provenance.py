"""Where a campaign is from: its parts with their nodes, and the commands with which one looks further."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiida.orm import Node, ProcessNode

from aiida_gaprss.campaign.stages import (
    DATABASE,
    FINAL,
    FINAL_FIT,
    FIT,
    LABEL,
    RELAX,
    VALIDATE,
    in_words,
    is_part,
    is_search,
    part_of,
    stage_of,
)
from aiida_gaprss.outside import OutsideError, base_name
from aiida_gaprss.report.record import PAUSED, CampaignRecord, is_open

#: The stages that are drawn, and what they are called.
STEPS = {RELAX: "relaxations", LABEL: "labelling", FIT: "fit", FINAL_FIT: "fit", VALIDATE: "validation"}

#: What stages make that is drawn: namespace of outputs, and what it is called.
MADE = {LABEL: ("labels", "labels"), FIT: ("potentials", "potential"), FINAL_FIT: ("potentials", "potential")}

#: Seconds between two looks at a campaign, in the command that is shown.
WATCH_S = 10


def provenance_of(
    begun_with: Iterable[Node], called: Mapping[str, ProcessNode], made: Mapping[str, Mapping[str, Node]]
) -> list[dict[str, Any]]:
    """Return the parts of a campaign in the order of time: ``tag``, ``name``, and ``nodes``, of each what it is, PK, if data.

    :param begun_with: datasets; ``called``: processes by the labels of their links; ``made``: outputs by namespace and tag.
    """
    parts: dict[str, list[dict[str, Any]]] = {}
    if first := [_drawn("labels", dataset, True) for dataset in begun_with]:
        parts[DATABASE] = first
    for label, process in sorted(called.items(), key=lambda item: (item[1].ctime, item[1].pk)):
        stage = stage_of(label)
        tag = FINAL if stage == FINAL_FIT else part_of(label)
        if stage in STEPS and (is_part(tag) or tag == FINAL):
            parts.setdefault(tag, []).extend(_of_stage(tag, stage, process, made))
    return [{"tag": tag, "name": _name(tag, nodes), "nodes": nodes} for tag, nodes in parts.items()]


def _name(tag: str, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Return what a part is called: what is done after all of them has a tag of its own."""
    if tag != FINAL:
        return in_words(tag)
    return "final fit" if any(node["what"] == "fit" for node in nodes) else "at the end"


def _of_stage(tag: str, stage: str, process: ProcessNode, made: Mapping[str, Mapping[str, Node]]) -> Iterator[dict[str, Any]]:
    """Yield a process, and what it has made."""
    yield _drawn("search" if stage == RELAX and is_search(tag) else STEPS[stage], process, False)
    space, what = MADE.get(stage, ("", ""))
    if tag in made.get(space, {}):
        yield _drawn(what, made[space][tag], True)


def _drawn(what: str, node: Node, is_data: bool) -> dict[str, Any]:
    return {"what": what, "pk": node.pk, "data": is_data}


def commands(record: CampaignRecord) -> list[tuple[str, str]]:
    """Return commands for whoever wants to know or do more, each with what it is for; none without a PK.

    Only plain names stand in them: what is copied into a shell must not act.
    """
    if record.pk is None:
        return []
    pk = str(record.pk)
    return [(shlex.join(words), what) for words, what in (*_while_open(record, pk), *_of_potential(record, pk), *_of_verdi(pk))]


def _while_open(record: CampaignRecord, pk: str) -> Iterator[tuple[list[str], str]]:
    if not is_open(record.state):
        return
    if record.state == PAUSED:
        yield ["aiida-gaprss", "resume", pk], "go on"
    yield ["aiida-gaprss", "status", pk, "--watch", str(WATCH_S)], "watch it"
    yield ["aiida-gaprss", "report", pk, "--watch", str(6 * WATCH_S)], "write this page anew while it runs"
    yield ["aiida-gaprss", "stop", pk], "end it after the generation that is running"


def _of_potential(record: CampaignRecord, pk: str) -> Iterator[tuple[list[str], str]]:
    """Yield what leads to a frame, to the last potential, and to an archive."""
    name = _plain(record.label) or "campaign"
    frame = next((plain for minimum in record.minima if (plain := _plain(minimum.frame_id))), None)
    if frame is not None:
        yield ["aiida-gaprss", "trace", frame, "--campaign", pk], "the lowest minimum, back to its seed"
    potentials = [node["pk"] for part in record.provenance for node in part["nodes"] if node["what"] == "potential"]
    if potentials:
        yield ["aiida-gaprss", "potential", "show", str(potentials[-1])], "the card of the last potential"
        yield ["aiida-gaprss", "potential", "export", str(potentials[-1]), name], "its files, for QUIP and LAMMPS"
    yield ["aiida-gaprss", "share", pk, "-o", f"{name}.aiida"], "all of it as an archive for others"


def _of_verdi(pk: str) -> Iterator[tuple[list[str], str]]:
    yield ["verdi", "node", "graph", "generate", pk], "the provenance graph as a file"
    yield ["verdi", "process", "status", pk], "what it has called, as a tree"
    yield ["verdi", "process", "report", pk], "what it has said"


def _plain(name: str) -> str | None:
    """Return a name if it is a plain one, which does nothing in a shell."""
    try:
        return base_name(name, "name")
    except OutsideError:
        return None
