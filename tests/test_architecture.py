"""The imports of the package, held to the list of rooms in docs/architecture.md."""

import ast
import re
from functools import cache
from pathlib import Path

import aiida_gaprss

PACKAGE = Path(aiida_gaprss.__file__).parent
PAGE = PACKAGE.parent / "docs" / "architecture.md"
MOST_LINES = 500


def rooms_of(page):
    """The rooms in the order of the table."""
    return [name.removesuffix(".py").strip("/") for name in re.findall(r"^\| `([\w/.]+)` \|", page, flags=re.M)]


def modules_of(folder, package="aiida_gaprss"):
    """Sources by the full names of modules."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join((package, *parts)).removesuffix(".__init__")] = path.read_text(encoding="utf-8")
    return found


@cache
def names_of(source):
    """What a source imports, wherever in it: at the top, in functions, for type checkers; pairs of module and name."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import, line {node.lineno}: {source[:60]}"
            found |= {(str(node.module), alias.name) for alias in node.names}
    return found


def imports_of(source, known):
    """Modules of the package that a source imports."""
    full = {f"{module}.{name}" if f"{module}.{name}" in known else module for module, name in names_of(source)}
    return full & set(known)


def room_of(module):
    return [*module.split("."), ""][1]


def faults_of(modules, rooms):
    """Imports that run up, rooms that the list lacks."""
    order = {room: i for i, room in enumerate(rooms)}
    faults = [f"{room} is not in the list" for room in sorted({room_of(m) for m in modules} - {"", *order})]
    for module, source in modules.items():
        for other in sorted(imports_of(source, modules)):
            here, there = room_of(module), room_of(other)
            if here and there and order.get(there, 0) > order.get(here, 0):
                faults.append(f"{module} imports {other}: {there} is below {here}")
    return faults


def circles_of(modules):
    """Modules that lead back to themselves, those of a package's own __init__ apart."""
    graph = {module: imports_of(source, modules) - {module} for module, source in modules.items()}
    found = []
    for start in graph:
        seen, left = set(), list(graph[start])
        while left:
            one = left.pop()
            if one not in seen:
                seen.add(one)
                left += graph[one]
        if start in seen:
            found.append(start)
    return found


def test_rooms():
    assert faults_of(modules_of(PACKAGE), rooms_of(PAGE.read_text(encoding="utf-8"))) == []


def test_no_circles():
    assert circles_of(modules_of(PACKAGE)) == []


def test_wrong_imports_are_found():
    """As the check itself would be worth nothing otherwise: each kind of wrong import, put into a module that is right."""
    modules, rooms = modules_of(PACKAGE), rooms_of(PAGE.read_text(encoding="utf-8"))
    for wrong in (
        "from aiida_gaprss.workflows.rss import RssWorkChain",
        "from aiida_gaprss.workflows import rss",
        "import aiida_gaprss.workflows.rss",
        "def f():\n    from aiida_gaprss.workflows import rss",
    ):
        changed = {**modules, "aiida_gaprss.frames": f"{modules['aiida_gaprss.frames']}\n{wrong}\n"}
        assert faults_of(changed, rooms) == ["aiida_gaprss.frames imports aiida_gaprss.workflows.rss: workflows is below frames"]
        assert "aiida_gaprss.frames" in circles_of(changed)
    assert faults_of({**modules, "aiida_gaprss.attic.old": ""}, rooms) == ["attic is not in the list"]


def test_runners_know_nothing_of_the_package():
    """They run where it is not installed."""
    scripts = {path.name: path.read_text(encoding="utf-8") for path in (PACKAGE / "runners").glob("*.py")}
    assert {
        name for name, text in scripts.items() if re.search(r"^\s*(from|import) (aiida|pydantic|pymatgen)", text, re.M)
    } == set()


def test_modules_are_short():
    long = {name: n for name, source in modules_of(PACKAGE).items() if (n := source.count("\n")) > MOST_LINES}
    assert long == {}
