"""The page of queries: its lines run on a finished campaign, and it names the fields that there are."""

import re
from pathlib import Path

import pytest
from helpers import call

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.queries import calculations_behind, potentials_that_saw

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
COMMANDS = re.findall(r"^\$ aiida-gaprss (.*)$", PAGE, flags=re.M)


@pytest.fixture
def names(campaign):
    """What the page calls the nodes of the campaign."""
    potential = campaign.outputs.potential
    fit = potential.creator
    nodes = [fit.inputs.datasets[name] for name in sorted(fit.inputs.datasets)]
    dataset = nodes[0]
    frame = next(a for a in dataset.get_frames() if len(a) > 1)
    pks = {"CAMPAIGN": campaign.pk, "POTENTIAL": potential.pk, "DATASET": dataset.pk}
    return {**pks, "FRAME_ID": str(frame.info["frame_id"])}


@pytest.mark.slow
def test_all_recipes_run(names, capsys):
    assert len(BLOCKS) > 7
    namespace = dict(names)
    for block in BLOCKS:
        exec(compile(block, "queries.md", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "LabelCalculation" in printed
    assert re.search(rf"^{names['POTENTIAL']} fitted {names['FRAME_ID']} ", printed, re.M)
    assert re.search(rf"^<{names['POTENTIAL']}> energy [\d.]+ meV/atom, forces [\d.]+ eV/Å$", printed, re.M)
    assert min(namespace["by_castep"], namespace["with_dimers"]) >= 0, "other tests share the profile"
    assert namespace["cutoff"] < 5
    fit = Potential.collection.get(id=names["POTENTIAL"]).creator
    assert {f"datasets__{name}" for name in fit.inputs.datasets} == {label for _, label in _fitted(names)}


def _fitted(names):
    """What the recipe of datasets that went into a fit gives."""
    (block,) = [block for block in BLOCKS if "with_outgoing" in block]
    (imports,) = [block for block in BLOCKS if "DataFactory" in block and "import" in block]
    namespace = dict(names)
    exec(compile(imports[: imports.index("fields =")] + block, "queries.md", "exec"), namespace)
    return namespace["query"].all()


@pytest.mark.slow
def test_all_commands_run(names):
    for command in COMMANDS:
        words = [str(names.get(word, word)) for word in command.split()]
        if words[:2] == ["query", "potentials"]:  # other campaigns of the tests have frames of the same names
            words[2:] = [names["FRAME_ID"], "--dataset", str(names["DATASET"])]
        assert words[0] == "query"
        assert "no such" not in call(*words)


@pytest.mark.slow
def test_a_whole_campaign(campaign):
    """Every label that was fitted leads to the job that made it, and a frame to the potentials that saw it."""
    node = campaign.outputs.potential
    behind, fit = calculations_behind(node), node.creator
    frames = [a for name in fit.inputs.datasets for a in fit.inputs.datasets[name].get_frames() if fr.is_labelled(a)]
    left_out = fit.inputs.leave_out.get_list() if "leave_out" in fit.inputs else []
    fitted = [a.info["frame_id"] for a in frames if a.info["frame_id"] not in left_out]
    assert sorted(name for names in behind.frames.values() for name in names) == sorted(fitted)
    assert behind.elsewhere == behind.untold == []
    assert {one.process_label for one in behind.calculations} == {"LabelCalculation"}
    assert {one.pk for one in behind.calculations} <= {one.pk for one in campaign.called_descendants}
    for atoms in (frames[1], frames[-1]):
        saw = potentials_that_saw(atoms)
        assert node.pk in {one.potential.pk for one in saw}
        for one in saw:
            given = one.potential.creator.inputs
            assert one.dataset.pk in {given.datasets[name].pk for name in given.datasets}


def test_the_fields_are_those_that_there_are():
    """Name, type and meaning of each."""
    for kind in (Dataset, Potential):
        for key, field in kind.AttributesModel.model_fields.items():
            if key != "source":
                assert f"| `{key}` | {_type(field.annotation)} | {field.description} |" in PAGE, f"{kind.__name__} {key}"


def _type(annotation):
    return re.sub(r"typing\.| \| None", "", str(annotation)).replace("<class '", "").replace("'>", "")
