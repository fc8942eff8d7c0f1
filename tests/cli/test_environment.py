"""What ``aiida-gaprss setup`` says of a Python for which there is no GAP."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from aiida_gaprss.cli import environment
from aiida_gaprss.cli.environment import NEWEST_WITH_QUIPPY, find_python, lack_of_quippy

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
DECLARED = [Requirement(line) for line in re.findall(r'^  "(quippy-ase.*)",$', PROJECT, re.MULTILINE)]


@pytest.mark.parametrize("minor", range(10, 18))
def test_setup_and_pip_say_the_same(minor):
    """A Python for which pip is asked for quippy is one that has it, and for the others setup says what to do."""
    asked = [one for one in DECLARED if one.marker.evaluate({"python_version": f"3.{minor}"})]
    assert len(asked) == (lack_of_quippy(minor) is None)
    assert (lack_of_quippy(minor) is None) == (minor <= NEWEST_WITH_QUIPPY)
    named = f"Programming Language :: Python :: 3.{minor}" in PROJECT
    assert named == (minor <= NEWEST_WITH_QUIPPY)


def test_how_to_get_quippy(monkeypatch):
    assert "pip install 'quippy-ase==0.9.14'" in find_python("/no/python").how_to_get
    monkeypatch.setattr(environment, "NEWEST_WITH_QUIPPY", sys.version_info.minor - 1)
    told = find_python("/no/python").how_to_get
    assert f"no wheels for Python 3.{sys.version_info.minor}" in told
    assert "--python PATH" in told
    assert "pip install" not in told
