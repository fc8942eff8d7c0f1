"""Machines on which a DFT plugin cannot be had: the package works, and whoever asks for it is told what is missing."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from helpers import REFERENCES, shell_in

import aiida_gaprss
from aiida_gaprss.reference import per_frame, reference_named

HERE = Path(__file__).parent / "without"
PROJECT = Path(__file__).parents[2]
PACKAGES = {plugin.package.replace("-", "_"): (name, plugin) for name in per_frame() for plugin in reference_named(name).PLUGINS}
OLD_NUMPY = "it needs numpy below 2, so Python 3.10 or 3.11"
ABSENT = {
    "aiida_castep": f"aiida-castep is not installed: pip install 'aiida-castep>=2' ({OLD_NUMPY})",
    "aiida_vasp": "aiida-vasp is not installed: pip install 'aiida-vasp>=5.1'",
    "aiida_quantumespresso": "aiida-quantumespresso is not installed: pip install 'aiida-quantumespresso>=5.1'",
    "aiida_pseudo": "aiida-pseudo is not installed: pip install 'aiida-pseudo>=1.7'",
}
NUMPY = "AttributeError: `np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead."
BROKEN = f"aiida-castep cannot be imported ({NUMPY}): pip install --upgrade 'aiida-castep>=2' ({OLD_NUMPY})"


@pytest.fixture
def shell_without(tmp_path):
    """Return a shell in which packages cannot be imported, or are broken."""

    def shell_without(hidden, broken=""):
        path = os.pathsep.join([str(HERE), str(Path(aiida_gaprss.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        return shell_in(tmp_path, PYTHONPATH=path, GAPRSS_TESTS_WITHOUT=hidden, GAPRSS_TESTS_BROKEN=broken)

    return shell_without


@pytest.fixture
def look(shell_without, dft_campaign_text, written):
    """Return what the package does where packages are hidden or broken."""

    def look(hidden, broken=""):
        campaigns = [written(f"{name}.yaml", dft_campaign_text(name).replace("@cluster", "@localhost")) for name in REFERENCES]
        return json.loads(shell_without(hidden, broken)(sys.executable, HERE / "look.py", *campaigns).splitlines()[-1])

    return look


def assert_only_this_is_missing(found, reference, message):
    """Everything works, and whatever asks for the plugin gets the message, and nothing else does."""
    assert found["modules"] > 100
    assert found["specs"] >= 16
    assert found["imported"] == [], "a plugin is imported before a reference is asked for"
    assert found["still_not_imported"] == []
    status, text = found["verdi"]
    assert (status, "Description" in text or "Inputs" in text) == (0, True), text

    for place, said in found["builder"].items():
        asked = place.split(".")[1] == reference
        assert (said == f"ValueError: invalid attribute value {message}") if asked else said is None, (place, said)
    for name, faults in found["check"].items():
        line, said = faults.get(f"reference.{name}", (None, None))
        assert (said == message) if name == reference else said is None, faults
        if name == reference:
            assert line == 4, "that of the name of the code"
            assert not any("pseudos" in place or "potential" in place for place in faults), faults
    for name in per_frame():
        mine = name == reference
        assert (found["submission"][name] == f"PluginError: {message}") == mine
        assert (found["bundle_files"][name] == f"PluginError: {message}") == mine
        assert (found["missing"][name] == message) == mine
    assert (found["setup"] == message) == (reference == "quantumespresso")


@pytest.mark.parametrize("package", PACKAGES)
def test_without_a_plugin(look, package):
    assert_only_this_is_missing(look(package), PACKAGES[package][0], ABSENT[package])


def test_with_a_broken_plugin(look):
    """As aiida-castep may be beside a numpy that it does not allow."""
    pytest.importorskip("aiida_castep", reason="aiida-castep needs Python below 3.12")
    assert_only_this_is_missing(look("", "aiida_castep"), "castep", BROKEN)


def test_pip_gets_what_the_project_declares():
    """What is told to be installed is what the project itself asks for, and the documentation says the same."""
    declared = re.findall(r'"(aiida-[a-z]+[^;"]*)', (PROJECT / "pyproject.toml").read_text("utf-8"))
    page = (PROJECT / "docs" / "install.md").read_text("utf-8")
    for _, plugin in PACKAGES.values():
        assert plugin.requirement in declared
        assert repr(plugin.requirement) in page
    for message in (ABSENT["aiida_castep"], ABSENT["aiida_vasp"]):
        assert message in page


@pytest.mark.slow
def test_campaigns_with_ase_need_no_plugin(shell_without):
    """Set up as a user does, where none of the four is installed."""
    shell = shell_without(",".join(PACKAGES))
    told = " ".join(shell("aiida-gaprss", "setup").split())
    both = "pip install 'aiida-quantumespresso>=5.1' 'aiida-pseudo>=1.7'"
    assert f"aiida-quantumespresso and aiida-pseudo are not installed: {both}" in told
    assert "Inputs" in shell("verdi", "plugin", "list", "aiida.workflows", "gaprss.rss")
    example = Path(aiida_gaprss.__file__).parent / "examples" / "silicon_sw.yaml"
    assert "good; campaign" in shell("aiida-gaprss", "run", "--check", example)
