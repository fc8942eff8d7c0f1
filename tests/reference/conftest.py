"""A calculation as its plugin leaves it, read by the plugin's own parser, without a program or the engine."""

from __future__ import annotations

import io

import pytest


@pytest.fixture
def parsed(aiida_localhost):
    """Return the outputs of a plugin's parser for recorded files, linked to a calculation as if it had just run."""
    from aiida.common import LinkType
    from aiida.orm import CalcJobNode, FolderData
    from aiida.plugins import ParserFactory

    def parsed(plugin, files, inputs, options):
        node = CalcJobNode(computer=aiida_localhost, process_type=f"aiida.calculations:{plugin}")
        for label, data in inputs.items():
            node.base.links.add_incoming(data.store(), LinkType.INPUT_CALC, label)
        for key, value in {"resources": {"num_machines": 1}, **options}.items():
            node.set_option(key, value)
        node.store()
        retrieved = FolderData()
        for name, text in files.items():
            retrieved.base.repository.put_object_from_filelike(io.BytesIO(text.encode()), name)
        retrieved.base.links.add_incoming(node, LinkType.CREATE, "retrieved")
        retrieved.store()
        parser = ParserFactory(plugin)(node)
        exit_code = parser.parse()
        outputs = {}
        for label, data in parser.outputs.items():
            data.base.links.add_incoming(node, LinkType.CREATE, label)
            outputs[label] = data.store()
        return outputs, (exit_code.status if exit_code else 0)

    return parsed
