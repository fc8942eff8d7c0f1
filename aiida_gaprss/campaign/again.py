"""Processes that have run, or are running, with the inputs that are about to be given again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aiida.common.links import LinkType
from aiida.engine import Process
from aiida.orm import AbstractCode, Data, Dict, List, QueryBuilder, WorkChainNode

from aiida_gaprss.data.dataset import Dataset

#: How processes end that nobody wanted to end so: they are no outcome, and are run again.
NO_OUTCOME = ("killed", "excepted")


def found_again(process: type[Process], label: str, inputs: Mapping[str, Any]) -> WorkChainNode | None:
    """Return the newest process of this kind and label with inputs of the same content, None if there is none.

    Options of jobs do not count, since results do not depend on them; a process that was killed, or broke down, is none.
    """
    filters = {"attributes.process_label": process.__name__, "label": label}
    query = QueryBuilder().append(WorkChainNode, filters=filters, tag="p").order_by({"p": {"id": "desc"}})
    ports: Any = process.spec().inputs
    wanted = {key: content(node) for key, node in _flat(ports.pre_process(ports.serialize(dict(inputs))))}
    for node in query.all(flat=True):
        ended_badly = node.is_terminated and node.process_state is not None and node.process_state.value in NO_OUTCOME
        if not ended_badly and contents_of(node) == wanted:
            return node
    return None


def contents_of(node: WorkChainNode) -> dict[str, str]:
    """Return the content of each input of a process, by the label of its link."""
    links = node.base.links.get_incoming(link_type=LinkType.INPUT_WORK).all()
    return {link.link_label: content(link.node) for link in links}


def content(node: Any) -> str:
    """Return what two nodes, stored or not, have in common exactly when they say the same; a code is itself."""
    if isinstance(node, Dataset):
        return node.text()
    if isinstance(node, Dict | List):
        return json.dumps(node.get_dict() if isinstance(node, Dict) else node.get_list(), sort_keys=True)
    if isinstance(node, AbstractCode):
        return str(node.uuid)
    return json.dumps([node.base.attributes.all, node.base.repository.hash()], sort_keys=True, default=str)


def _flat(inputs: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the nodes among inputs, by the labels that their links would have."""
    for key, value in inputs.items():
        if isinstance(value, Data):
            yield f"{before}{key}", value
        elif isinstance(value, Mapping) and key != "metadata":
            yield from _flat(value, f"{before}{key}__")
