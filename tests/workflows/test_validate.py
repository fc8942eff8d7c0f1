"""Validation: the same plan for potentials and reference, each frame once, and what is bad is red."""

import numpy as np
import pytest
from aiida.orm import Dict, load_node
from ase.build import bulk

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.properties.elastic import Elastic
from aiida_gaprss.properties.suite import suite_of
from aiida_gaprss.workflows.validate import ValidateWorkChain


def crystals(**named):
    frames = []
    for name, atoms in named.items():
        atoms.info = {"frame_id": name}
        frames.append(atoms)
    return Dataset(frames, level_of_theory="unlabelled")


@pytest.fixture
def inputs(potential, python_code, sw_settings):
    def inputs(suite, **more):
        return {
            "settings": Dict(suite_of(suite).model_dump()),
            "crystals": crystals(diamond=bulk("Si", "diamond", 5.431)),
            "potentials": {"small": potential},
            "jobs": {"code": python_code},
            **more,
        }

    return inputs


def test_elastic_constants_beside_a_reference(run, inputs, potential, python_code, sw_settings, sw):
    label = {"ase": {"code": python_code, "settings": Dict(sw_settings)}}
    node = run(ValidateWorkChain, **inputs({"properties": {"elastic": None}}, label=label))
    assert node.is_finished_ok, node.exit_message
    found = node.outputs.reference["diamond"]["elastic"]
    assert np.allclose(found["C_GPa"], Elastic().compute(sw, bulk("Si", "diamond", 5.431))["C_GPa"], atol=1e-3)
    assert "C_GPa" in node.outputs.results.small["diamond"]["elastic"]
    print(node.outputs.scorecard.get_dict())
