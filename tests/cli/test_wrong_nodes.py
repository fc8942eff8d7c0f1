"""Commands that look at campaigns, told of something else: one line that says what it is, never a traceback."""

import os

import pytest
from aiida.common.links import LinkType
from aiida.orm import CalcFunctionNode, Dict, Int, Str, WorkChainNode
from ase import Atoms
from click.testing import CliRunner

from aiida_gaprss.cli import cli
from aiida_gaprss.data.dataset import Dataset

COMMANDS = (["report"], ["status"], ["storage"], ["stop"], ["trace", "cu-0", "--campaign"])


@pytest.fixture
def nodes(aiida_profile_clean):
    """Nodes that are no campaign, by what they are; and campaigns of which something is missing or strange."""
    atoms = Atoms("Cu", cell=[3.0] * 3, pbc=True)
    atoms.info.update(frame_id="cu-0", config_type="fcc", generation=1)
    function = CalcFunctionNode()
    function.store()
    other = WorkChainNode()
    other.set_process_label("LabelWorkChain")
    other.store()
    return {"Int": Int(1).store(), "Dataset": Dataset([atoms]).store(), "CalcFunctionNode": function, "LabelWorkChain": other}


def campaign(**inputs):
    node = WorkChainNode(process_type="aiida.workflows:gaprss.rss", label="strange")
    node.set_process_label("RssWorkChain")
    for name, value in inputs.items():
        node.base.links.add_incoming(value.store(), LinkType.INPUT_WORK, name)
    return node.store()


def say(*arguments):
    """Return what a command that fails says, as the command line would show it."""
    result = CliRunner().invoke(cli, [str(word) for word in arguments], env={"COLUMNS": "200"})
    assert result.exit_code != 0, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit | ValueError), result.exception
    said = result.output.strip() or str(result.exception)
    assert said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_nodes_of_another_kind(nodes, command):
    for kind, node in nodes.items():
        assert f"<{node.pk}> is a {kind}, not a campaign" in say(*command, node.pk)
        assert "not a campaign" in say(*command, node.uuid)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name", ["99999", "-1", "0", "00000000-0000-0000-0000-000000000000", "x" * 300, "../../x", "a b", "", "\x1b[31m"]
)
def test_what_is_no_node(nodes, command, name):
    assert say(*command[:-1], command[-1], *([name] if not name.startswith("-") or len(command) > 1 else ["--", name]))


STRANGE = [
    {},
    {"settings": {"formula": {"Si": 1}}},
    {"settings": {"formula": 3, "generations": []}},
    {"settings": {"formula": {"Si": 1}, "generations": [], "stop": {"patience": "x"}}},
    {"settings": {}, "name": 1, "seed": "x"},
]


@pytest.mark.parametrize("inputs", STRANGE)
def test_campaigns_that_are_not_whole(nodes, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = {dict: Dict, int: Int, str: Str}
    node = campaign(**{name: kinds[type(value)](value) for name, value in inputs.items()})
    for command in (["report", node.pk], ["status", node.pk]):
        assert say(*command)
    for command in (["status"], ["storage", str(node.pk)]):
        result = CliRunner().invoke(cli, command, env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
    assert "strange" in CliRunner().invoke(cli, ["status"], env={"COLUMNS": "200"}).output
    assert os.listdir(tmp_path) == []


def test_frames_with_a_history_that_is_none(nodes):
    atoms = Atoms("Cu", cell=[3.0] * 3, pbc=True)
    atoms.info.update(frame_id="lost-1", parent="lost-0", step=3, potential="no-uuid", origin="nowhere", pressure_GPa="high")
    Dataset([atoms]).store()
    assert "lost-1" in say("trace", "lost-1")
    assert "no dataset of this profile holds a frame" in say("trace", "\x1b[31mx")
    assert "no dataset of this profile holds a frame" in say("trace", "")
