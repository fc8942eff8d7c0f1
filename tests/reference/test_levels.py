"""What decides the value of a label, and what must not differ within one dataset: for all codes alike."""

import pytest
from aiida.engine import PortNamespace
from aiida.orm import Dict, Float, List

from aiida_gaprss.reference import PER_FRAME, common
from aiida_gaprss.reference import quantumespresso as qe

PARAMETERS = {"SYSTEM": {"ecutwfc": 30.0, "degauss": 0.02, "nbnd": 20}, "ELECTRONS": {"conv_thr": 1e-8, "mixing_beta": 0.4}}


@pytest.fixture
def inputs(aiida_profile):
    def inputs(retries=(), isolated=None, parameters=PARAMETERS):
        out = {"parameters": Dict(parameters), "kpoint_spacing": Float(0.05), "pseudos": {}}
        if retries:
            out["retries"] = List(list(retries))
        if isolated:
            out["isolated_parameters"] = Dict(isolated)
        return out

    return inputs


def level(given):
    return common.one_line(qe.level_of_theory(given))


def test_mixing_and_bands_are_not_the_level(inputs):
    other = {"system": {"ECUTWFC": 30.0, "degauss": 0.02}, "ELECTRONS": {"conv_thr": 1e-8, "mixing_beta": 0.1}}
    assert level(inputs(parameters=other)) == level(inputs())
    for changed in ({"ecutwfc": 40.0, "degauss": 0.02}, {"ecutwfc": 30.0, "degauss": 0.01}):
        assert level(inputs(parameters={"SYSTEM": changed, "ELECTRONS": {"conv_thr": 1e-8}})) != level(inputs())


def test_a_retry_that_changes_the_level(inputs):
    assert qe.missing(inputs(retries=[{"electrons": {"mixing_beta": 0.1}}]), []) is None
    message = qe.missing(inputs(retries=[{"electrons": {"mixing_beta": 0.1}}, {"SYSTEM": {"degauss": 0.05}}]), [])
    assert message.startswith("retries[1]: degauss would change the level of theory")
    allowed = inputs(retries=[{"SYSTEM": {"degauss": 0.05}, "other_level": True}])
    assert qe.missing(allowed, []) is None
    assert "other_level" not in common.parameters_of(allowed, False, 1)
    assert common.parameters_of(allowed, False, 1)["SYSTEM"]["degauss"] == 0.05
    assert "attempt 2" in level(allowed)
    assert level(allowed) != level(inputs()), "labels of such a dataset may be of two levels, and its name says so"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("quantumespresso", {"SYSTEM": {"ecutWFC": 20.0}}), ("castep", {"CUT_OFF_ENERGY": 300}), ("vasp", {"encut": 300})],
)
def test_isolated_atoms_have_the_basis_of_the_cells(name, wrong, aiida_profile):
    namespace = PortNamespace("test")
    PER_FRAME[name].define(namespace)
    check = namespace["isolated_parameters"].validator
    assert "isolated atoms must have the basis" in check(Dict(wrong), None)
    assert check(Dict({"SYSTEM": {"degauss": 0.001}, "spin": 1}), None) is None
