"""What a release consists of agrees with itself."""

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from aiida_gaprss import __version__

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Names on conda-forge, where they are others than on PyPI.
CONDA = {"quippy-ase": "quippy", "matplotlib": "matplotlib-base"}


def yaml(path):
    return YAML(typ="safe").load((ROOT / path).read_text(encoding="utf-8"))


def test_version_stands_once():
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "aiida_gaprss/__init__.py"
    citation = yaml("CITATION.cff")
    assert str(citation["version"]) == __version__
    released = re.findall(r"^## \[(\d[\d.]*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert released[0] == (__version__, citation["date-released"])
    assert yaml("recipe/recipe.yaml")["context"]["version"] == __version__


def test_changelog_has_what_is_new():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(\w+)", text, flags=re.M)[0] == "Unreleased"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, flags=re.M)) <= kinds


def test_conda_recipe_asks_for_the_same():
    """As Python 3.10 does, which is the range of the recipe."""
    wanted = {}
    for text in PROJECT["project"]["dependencies"]:
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate({"python_version": "3.10"}):
            wanted[CONDA.get(one.name, one.name)] = set(str(one.specifier).split(","))
    recipe = yaml("recipe/recipe.yaml")["requirements"]
    run = [text.split() for text in recipe["run"] if not text.startswith("python ")]
    given = {name: set(bounds.split(",")) for name, bounds in run}
    assert given == wanted
    host = {Requirement(text).name for text in PROJECT["build-system"]["requires"]}
    assert host <= {text.split()[0] for text in recipe["host"]}


def test_entry_of_the_registry():
    (entry,) = yaml("recipe/aiida-registry.yaml").values()
    names = {one.name for one in entry_points(group="aiida.calculations") if one.value.startswith("aiida_gaprss.")}
    assert {name.split(".")[0] for name in names} == {entry["entry_point_prefix"]}
    assert entry["code_home"] == PROJECT["project"]["urls"]["Homepage"]


def test_supported_versions_are_tested():
    """Those that the package says it is for are those of the workflow on the public host."""
    said = [text.rsplit(" ", 1)[1] for text in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", text)]
    assert yaml(".github/workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python-version"] == said


def test_readme_has_no_links_that_only_the_repository_knows():
    """After what the build does to it."""
    hook = PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    (rule,) = hook["substitutions"]
    text = re.sub(rule["pattern"], rule["replacement"], (ROOT / "README.md").read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10
    assert all(link.startswith(("https://", "#")) for link in links)
