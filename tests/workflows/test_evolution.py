"""Evolutionary cells in the generations of a campaign and in the batches of a search: parents, provenance, what is told."""

from collections import Counter
from io import StringIO

import pytest
from aiida.orm import Dict, Int

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.parents import lowest_parents
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.outside.terminal import PlainConsole
from aiida_gaprss.report.trace import history
from aiida_gaprss.runners.status import ENDED
from aiida_gaprss.strategies.base import strategy_of
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.workflows.rss import RssWorkChain
from aiida_gaprss.workflows.search import SearchWorkChain

EVOLVED = {"kind": "evolutionary", "n_atoms": [2, 3], "volume_per_atom": [17.0, 24.0], "min_separation": 2.1}


def called(node, label):
    """What a process has called under a label, None if nothing."""
    return next((link.node for link in node.base.links.get_outgoing().all() if link.link_label == label), None)


def kinds(frames):
    """Numbers of cells by the operators that made them, ``cells`` for those of another kind."""
    return Counter(a.info["parameters"].replace(":", " ").split()[0] if "parameters" in a.info else "cells" for a in frames)


def messages(node):
    from aiida.orm import Log

    return [log.message for log in Log.collection.get_logs_for(node)]


@pytest.fixture
def evolved(run, campaign_codes, campaign_text, remembered, tmp_path):
    """The node of a campaign of two generations with cells of both kinds, which runs once."""
    from aiida.orm import load_node

    if "evolved" not in remembered:
        text = campaign_text[: campaign_text.index("  search:")] + "  search: null\n"
        text = text.replace("name: tiny", "name: evolved").replace("cells: {random: 6}", "cells: {random: 4, evolved: 5}")
        text = text.replace("  initial:", f"    evolved: {EVOLVED}\n  initial:").replace("  fit:", "  max_generations: 2\n  fit:")
        text = text.replace("by: lowest, n: 2", "by: lowest, n: 4")
        _, node = run(RssWorkChain, **builder_inputs(check_campaign(text, tmp_path / "a.yaml")))
        remembered["evolved"] = node.uuid
    return load_node(remembered["evolved"])


def test_the_first_generation_has_no_parents(evolved):
    assert evolved.is_finished_ok, evolved.exit_message
    assert called(evolved, "g01_parents").outputs.result.n_frames == 0
    cells = called(evolved, "g01_cells").outputs.result.get_frames()
    assert kinds(cells) == {"cells": 4, "random": 5}
    assert evolved.inputs.settings["generations"][0]["cells"] == {"random": 4, "evolved": 5}


def test_the_second_varies_what_the_first_has_found(evolved):
    made = called(evolved, "g02_cells")
    parents = called(evolved, "g02_parents").outputs.result
    assert made.inputs.parents.uuid == parents.uuid, "the graph shows what cells were made of"
    assert parents.creator.inputs.g01.uuid == evolved.outputs.labels.g01.uuid
    labelled = {a.info["frame_id"]: a for a in evolved.outputs.labels.g01.get_frames()}
    found = parents.get_frames()
    assert found
    assert all(a.info["relax_status"] in ENDED for a in found)
    energies = [labelled[a.info["frame_id"]].info["REF_energy"] / len(a) for a in found]
    assert energies == sorted(energies)
    assert energies[0] == min(a.info["REF_energy"] / len(a) for a in labelled.values() if a.info["relax_status"] in ENDED)
    cells = made.outputs.result.get_frames()
    assert sum(kinds(cells).values()) == 9
    assert kinds(cells)["cells"] == 4
    assert set(kinds(cells)) <= {"cells", "heredity", "strain", "random"}
    children = [a for a in cells if "parent" in a.info]
    assert children
    for atoms in children:
        (parent,) = (a for a in found if a.info["frame_id"] == atoms.info["parent"])
        assert len(parent) == len(atoms)
        assert parent.get_volume() / len(parent) * 0.5 < atoms.get_volume() / len(atoms)
        assert {"seed", "pressure_GPa", "origin", "generation"} <= set(atoms.info)
    (told,) = (text for text in messages(evolved) if "generation 2: 9 new random cells" in text)
    assert "; of the evolutionary ones: " in told
    for operator, number in kinds([a for a in cells if "parameters" in a.info]).items():
        assert f"{operator} {number}" in told


def test_cells_follow_from_seed_and_parents(evolved):
    parents = called(evolved, "g02_parents").outputs.result.get_frames()
    made = called(evolved, "g02_cells")
    seeds = {name: strategy_of(settings) for name, settings in evolved.inputs.settings["seeds"].items()}
    again = make_cells(seeds, {"Si": 1}, {"random": 4, "evolved": 5}, made.inputs.seed.value, parents=parents)
    for ours, atoms in zip(made.outputs.result.get_frames(), again, strict=True):
        assert fr.structure_key(ours) == fr.structure_key(atoms)
        assert ours.info["seed"] == atoms.info["seed"]
    assert made.inputs.seed.value == stage_seed(11, 2, "cells")


def test_a_child_leads_back_to_its_parents(evolved):
    child = next(a for a in called(evolved, "g02_cells").outputs.result.get_frames() if "parent" in a.info)
    console = PlainConsole(file=StringIO(), width=250)
    console.print(history(child.info["frame_id"], evolved))
    text = console.file.getvalue()
    assert f"made of {child.info['parent']}: {child.info['parameters']}" in text
    assert "random cell of seed" in text, "and these to their own seeds"
    relaxed = [a for a in evolved.outputs.relaxed.g02.get_frames() if a.info["parent"] == child.info["frame_id"]]
    assert relaxed


@pytest.mark.full
def test_a_search_goes_on_from_what_its_batches_have_found(run, diamond_folder, python_code):
    """One batch at a time, whatever may run together; targets are parents of nothing."""
    from ase.build import bulk

    target = bulk("Si")
    target.info = {"frame_id": "diamond"}
    settings = {
        "formula": {"Si": 1},
        "seeds": {"random": {k: v for k, v in EVOLVED.items() if k != "kind"}, "evolved": EVOLVED},
        "cells": {"random": 9, "evolved": 9},
        "relax": {"max_steps": 60, "fmax": 0.1, "snapshot_steps": []},
        "batch": 6,
    }
    inputs = {"potential": Potential(diamond_folder), "settings": Dict(settings), "seed": Int(4), "max_concurrent": 2}
    inputs["relax"] = {"code": python_code, "metadata": {"options": {"processes": 2}}}
    outputs, node = run(SearchWorkChain, **inputs, targets=Dataset([target]))
    assert node.is_finished_ok, node.exit_message
    batches = [called(node, f"cells_batch_{number:03d}") for number in range(3)]
    assert "parents" not in batches[0].inputs
    assert kinds(batches[0].outputs.result.get_frames()) == {"cells": 3, "random": 3}
    known = {}
    for number in (1, 2):
        known |= {a.info["frame_id"]: a for a in outputs["relaxed"][f"batch_{number - 1:03d}"].get_frames()}
        parents = batches[number].inputs.parents.get_frames()
        kind = strategy_of(EVOLVED)
        assert [a.info["frame_id"] for a in parents] == [
            a.info["frame_id"] for a in lowest_parents(list(known.values()), [kind], {"Si": 1})
        ]
        cells = batches[number].outputs.result.get_frames()
        assert kinds(cells)["cells"] == 3
        assert {a.info["parent"] for a in cells if "parent" in a.info} <= set(known)
        assert any("parent" in a.info for a in cells)
    assert called(node, "parents_batch_002").inputs.before.uuid == called(node, "parents_batch_001").outputs.result.uuid
    assert any("one job at a time: evolutionary cells" in text for text in messages(node))
    assert any("batch_001: of the evolutionary cells: " in text for text in messages(node))
