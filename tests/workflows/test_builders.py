"""Builders from protocols: what they hold is what the file of a campaign, or the command, would send."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from aiida.engine import PortNamespace, run_get_node
from aiida.orm import Dict, Float
from helpers import FIT

import aiida_gaprss
from aiida_gaprss.campaign.file import load_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.settings.yamlfile import ConfigError, parse
from aiida_gaprss.workflows.fit import FitWorkChain
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.rss import RssWorkChain
from aiida_gaprss.workflows.search import SearchWorkChain

EXAMPLE = Path(aiida_gaprss.__file__).parent / "examples" / "silicon_sw.yaml"


@pytest.fixture
def codes(python_code, gap_fit_code):
    return {"gap_fit": gap_fit_code.full_label, "python": python_code.full_label}


@pytest.fixture
def given():
    """What the example says."""
    return parse(EXAMPLE.read_text(), EXAMPLE, "")[0]


def plain(value):
    """Inputs as plain data, nodes by their content; what is empty left out."""
    if isinstance(value, dict):
        return {key: found for key, item in value.items() if (found := plain(item)) != {}}
    if isinstance(value, Dict):
        return value.get_dict()
    return getattr(value, "value", getattr(value, "full_label", value))


def test_a_campaign_is_that_of_its_file(codes, given, tmp_path):
    path = tmp_path / "campaign.yaml"
    path.write_text(EXAMPLE.read_text() + f"\ncodes: {{gap_fit: {codes['gap_fit']}, python: {codes['python']}}}\n")
    file = plain(builder_inputs(load_campaign(path)))
    overrides = {key: value for key, value in given["settings"].items() if key != "formula"}
    builder = RssWorkChain.get_builder_from_protocol(
        {"Si": 1}, given["reference"], given["protocol"], overrides, seed=given["seed"], codes=codes
    )
    assert plain(builder._inputs(prune=True)) == file


def test_all_that_is_wrong_with_a_campaign_is_told(codes, given):
    with pytest.raises(ConfigError) as error:
        RssWorkChain.get_builder_from_protocol(
            {"Si": 1},
            {"ase": {"calculator": "os.system"}},
            overrides={"max_labels": -3},
            codes={**codes, "python": "nobody@nowhere"},
        )
    text = str(error.value)
    assert "settings.max_labels" in text
    assert "line" not in text, "there is no file"
    with pytest.raises(ConfigError) as error:
        RssWorkChain.get_builder_from_protocol({"Si": 1}, given["reference"], codes={**codes, "python": "nobody@nowhere"})
    assert "codes.python: no code 'nobody@nowhere' in this profile" in str(error.value)


def test_a_fit_from_a_protocol(codes, dataset):
    overrides = {key: value for key, value in FIT.items() if key != "protocol"}
    programs = {"code": codes["gap_fit"], "python": codes["python"]}
    builder = FitWorkChain.get_builder_from_protocol(
        {"silicon": dataset}, None, overrides, **programs, options={"threads": 1}, seed=3, test_fraction=Float(0.2)
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert node.inputs.seed == 3
    assert outputs["test_results"]["errors"]["energy"]["mae"] > 0
    with pytest.raises(ValueError, match="unknown protocol 'no such'; known: allen2022_Al"):
        FitWorkChain.get_builder_from_protocol({"silicon": dataset}, "no such", **programs)
    with pytest.raises(ValueError, match="aiida-gaprss setup registers the codes of this machine"):
        FitWorkChain.get_builder_from_protocol({"silicon": dataset}, python="nobody@nowhere")


def test_a_search_from_a_protocol(codes, potential):
    builder = SearchWorkChain.get_builder_from_protocol(
        potential, {"Si": 1}, "quick", {"cells": {"random": 2}, "relax": {"max_steps": 5}}, python=codes["python"], seed=2
    )
    outputs, node = run_get_node(builder)
    assert node.is_finished_ok, node.exit_message
    assert outputs["summary"]["attempts"] == 2
    with pytest.raises(ValueError, match="no kind of seed is called 'dense'"):
        SearchWorkChain.get_builder_from_protocol(
            potential, {"Si": 1}, overrides={"cells": {"dense": 2}}, **{"python": codes["python"]}
        )


def test_labels(codes, dataset):
    builder = LabelWorkChain.get_builder_from_protocol(dataset, {"ase": {"calculator": "emt"}}, codes={"python": codes["python"]})
    assert builder.ase.settings["calculator"] == "emt"
    assert builder.frames.uuid == dataset.uuid
    with pytest.raises(ConfigError, match=r"reference.ase.calculator: "):
        LabelWorkChain.get_builder_from_protocol(
            dataset, {"ase": {"calculator": "no.such.Thing"}}, codes={"python": codes["python"]}
        )
    with pytest.raises(ConfigError, match="reference: "):
        LabelWorkChain.get_builder_from_protocol(dataset, {}, codes={"python": codes["python"]})


def test_what_is_no_mapping_or_no_node_is_told(codes, dataset, potential):
    with pytest.raises(ConfigError, match=r"settings\.formula: .*got 'Si'"):
        RssWorkChain.get_builder_from_protocol("Si", {"ase": {"calculator": "emt"}})
    with pytest.raises(ConfigError, match="reference: "):
        RssWorkChain.get_builder_from_protocol({"Cu": 1}, ["emt"])
    with pytest.raises(ValueError, match=r"datasets\.mine: expected a Dataset, got 17; a pk or uuid needs load_node"):
        FitWorkChain.get_builder_from_protocol({"mine": 17}, **codes)
    with pytest.raises(ValueError, match=r"datasets: expected at least one Dataset by a name, got \{\}"):
        FitWorkChain.get_builder_from_protocol({}, **codes)
    with pytest.raises(ValueError, match="potential: expected a Potential, got <Dataset"):
        SearchWorkChain.get_builder_from_protocol(dataset, {"Si": 1}, python=codes["python"])
    with pytest.raises(ValueError, match="formula"):
        SearchWorkChain.get_builder_from_protocol(potential, "Si", python=codes["python"])
    with pytest.raises(ValueError, match="frames: expected a Dataset, got None"):
        LabelWorkChain.get_builder_from_protocol(None, {"ase": {"calculator": "emt"}})


def without_help(ports, place=""):
    """Inputs of our own that say nothing of what they are for."""
    for name, port in ports.items():
        if name == "metadata":  # AiiDA's
            continue
        if not port.help:
            yield f"{place}{name}"
        if isinstance(port, PortNamespace):
            yield from without_help(port, f"{place}{name}.")


@pytest.mark.parametrize("group", ["aiida.workflows", "aiida.calculations"])
def test_every_input_says_what_it_is(group):
    ours = [entry.load() for entry in entry_points(group=group) if entry.name.startswith("gaprss.")]
    assert len(ours) > 6
    assert {process.__name__: lack for process in ours if (lack := list(without_help(process.spec().inputs)))} == {}


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", pytest.param("as it is", marks=pytest.mark.full)])
def test_the_ten_lines_of_the_page(codes, size):
    """A whole campaign, as the page has it; a small one with a fit of a second, which need not know copper."""
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, flags=re.S)[1]
    if size == "small":
        for old, new in {
            "    overrides={\n": f'    overrides={{\n        "fit": {FIT}, "final_fit": None,\n',
            '"initial": {"random": 20}': '"initial": {"random": 10}',
            '"cells": {"random": 12}': '"cells": {"random": 4}, "relax": {"max_steps": 20}',
        }.items():
            assert old in block
            block = block.replace(old, new)
    variables = {}
    exec(block, variables)
    assert variables["node"].is_finished_ok, variables["node"].exit_message
    minima = variables["outputs"]["minima"]["minima"]
    assert minima
    if size != "small":
        assert minima[0]["symbol"] == "Fm-3m", "copper"
