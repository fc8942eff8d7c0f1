"""Campaign files with damage: refused with place and reason, or accepted with numbers that make sense; never anything else."""

import copy
import io
import math
from pathlib import Path

import numpy as np
import pytest
from fuzzing import Tally, damaged
from ruamel.yaml import YAML

import aiida_gaprss
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.settings.computer import ComputerSettings
from aiida_gaprss.settings.yamlfile import ConfigError, parse

DOCS = Path(__file__).parents[2] / "docs"

#: What stands in the place of a value.
NASTY = (
    None,
    True,
    0,
    -1,
    1,
    10**30,
    -(10**30),
    1e-300,
    1e300,
    "",
    "x" * 5000,
    "a\nb",
    "[red]x[/]",
    "../../etc/passwd",
    "$(id)",
    "Si",
    "nan",
    [],
    {},
    [[]],
    [1, 2],
    {"a": 1},
    {"kind": ["x"]},
    {"kind": "airss", "text": "#SPECIES=Si"},
    {"protocol": "x"},
    {"protocol": []},
    {"": {}},
)

RICH = """
name: all
seed: 3
protocol: standard
crystals: []
start: {database: [1, label], relabel: []}
max_concurrent: 3
max_failed_fraction: 0.2
scratch: all
codes: {gap_fit: gap_fit@localhost, python: python@localhost, buildcell: buildcell@localhost}
options:
  fit: {threads: 2, max_memory_kb: 1000000, resources: {num_machines: 1}, prepend_text: "module load gcc"}
  relax: {processes: 4, queue_name: main, environment_variables: {A: "1"}}
settings:
  formula: {Si: 1, O: 2}
  seeds:
    random: {n_atoms: [3, 6], volume_per_atom: {Si: [15.0, 25.0], O: [8, 12]}, min_separation: {Si-Si: 2, Si-O: 1.5, O-O: 2}}
    open: {formula: {Si: [0, 4], O: [0, 6]}, n_operations: [1, 2]}
    airss: {kind: airss, text: "#VARVOL=12\\n#SPECIES=Si%NUM=1,O%NUM=2\\n#MINSEP=1.3\\n"}
    units:
      kind: fragments
      fragment: {symbols: [Si, O], positions: [[0, 0, 0], [0, 0, 1.6]]}
      n_fragments: [1, 2]
      free_atoms: {O: [1, 2]}
  initial: {random: 10, open: 4, airss: 5, units: 2}
  generations:
    - cells: {random: 20}
      pressure: {width_GPa: 20, rate: 5}
      relax: {optimizer: fire, fmax: 0.1, max_steps: 50, snapshot_steps: {every: 5}, min_distance: {Si-O: 1.0}}
      select: {rules: [{by: cur, of: snapshots, n: 10, then: {by: lowest, n: 5}}], vectors: {n_max: 6}, tolerance: 0.2}
      hull_bias: 0.1
  max_labels: 500
  stop: {energy_change: 0.02, patience: 3}
  fit:
    descriptors:
      - {kind: distance_2b, cutoff: 5.0, n_sparse: 15, only: [[Si, O]]}
      - {kind: soap, cutoff: "2.2 b", n_sparse: {random: 100}, cutoff_transition_width: 0.5}
    sigma: {energy: 0.01, forces: 0.1, virial: 0.1}
    config_type_sigma: {random: {energy: 0.02, forces: 0.2, virial: 0.2}}
    regularisation: [{kind: hull, low: 0.001}]
    e0: {Si: -1.0, O: -2.0}
  dimers: {points: 10, range: [0.7, 2.0]}
  search: {cells: {random: 30}, window: 0.3, relax: {max_steps: 30}}
reference:
  ase: {calculator: lj, arguments: {sigma: 2.0, rc: 5.0}, level_of_theory: a line}
"""


def files():
    """Return texts of campaign files: one with nearly all that there is, those of examples and of the documentation."""
    examples = [*(Path(aiida_gaprss.__file__).parent / "examples").glob("*.yaml"), *DOCS.parent.glob("examples/*/campaign.yaml")]
    return [RICH, *(path.read_text(encoding="utf-8") for path in sorted(examples))]


def places(value, path=()):
    """Yield the places of all values of a file."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(data, rng):
    """Return what was done to a file, and its values with one of them replaced, removed, moved or added."""
    out = copy.deepcopy(data)
    where = list(places(out))
    path = where[rng.integers(len(where))]
    parent = out
    for key in path[:-1]:
        parent = parent[key]
    way = ("nasty", "removed", "added", "elsewhere")[rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])]
    value = copy.deepcopy(NASTY[rng.integers(len(NASTY))])
    if way == "removed":
        del parent[path[-1]]
    elif way == "added" and isinstance(parent, dict):
        parent["new" if rng.random() < 0.5 else "kind"] = value
    elif way == "elsewhere":
        other = data
        for key in where[rng.integers(len(where))]:
            other = other[key]
        parent[path[-1]] = copy.deepcopy(other)
    else:
        parent[path[-1]] = value
    return f"{way} {'.'.join(map(str, path))} {value!r:.60}", out


def dumped(data):
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(data, stream)
    return stream.getvalue()


def insane(value):
    """Return the numbers of settings that are not finite, or that nobody can mean."""
    if isinstance(value, dict):
        return [x for inner in value.values() for x in insane(inner)]
    if isinstance(value, list | tuple):
        return [x for inner in value for x in insane(inner)]
    return [value] if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= 1e12) else []


def try_file(tally, name, text, folder):
    """Check a file; what is accepted has sane numbers, and what is said of the others does not act."""
    campaign = tally.attempt(name, lambda: check_campaign(text, folder / "a.yaml"))
    if campaign is not None and (wrong := insane(campaign.settings.model_dump())):
        tally.fault("changed", name, f"accepted with {wrong}")
    return campaign


@pytest.fixture
def files_of_examples(tmp_path):
    """Return the files with what they name beside them."""
    (tmp_path / "pseudo").mkdir()
    parsed = [(text, parse(text, tmp_path / "a.yaml", "")[0]) for text in files()]
    for _, data in parsed:
        pseudos = next(iter(data["reference"].values())).get("pseudos", {})
        for name in (*data.get("crystals", ()), *data.get("targets", ()), *pseudos.values()):
            (tmp_path / name).touch()
    return parsed


def test_values_of_campaign_files(times, tmp_path, files_of_examples):
    rng = np.random.default_rng(1)
    tally = Tally("values of campaign files", allowed=(ConfigError,))
    assert try_file(tally, "the file itself", RICH, tmp_path) is not None
    for number in range(times(80)):
        _, data = files_of_examples[0 if rng.random() < 0.7 else rng.integers(len(files_of_examples))]
        name, data = changed(data, rng)
        if rng.random() < 0.3:
            more, data = changed(data, rng)
            name += f", {more}"
        try_file(tally, f"{number}: {name}", dumped(data), tmp_path)
    tally.check()
    for text, data in files_of_examples:
        assert try_file(tally, "a file as it is written again", dumped(data), tmp_path) is not None, text
    tally.check()


def test_bytes_of_campaign_files(times, tmp_path, files_of_examples):
    rng = np.random.default_rng(2)
    tally = Tally("bytes of campaign files", allowed=(ConfigError,))
    for number in range(times(80)):
        text, _ = files_of_examples[rng.integers(len(files_of_examples))]
        name, damage = damaged(text.encode(), rng)
        try_file(tally, f"{number}: {name}", damage.decode("utf-8", errors="replace"), tmp_path)
    tally.check()


def test_files_of_computers(times, tmp_path):
    data = {
        "label": "cluster",
        "hostname": "cluster.example",
        "work_dir": "/scratch/{username}/x",
        "mpirun_command": ["srun"],
        "prepend_text": "module load gcc",
        "cores_per_node": 4,
        "memory_per_node_GB": 64.0,
        "options": {"account": "me", "resources": {"num_machines": 1}},
        "environment": {"folder": "~/gap", "python": "python3", "packages": ["quippy-ase"]},
        "codes": {"pw": {"executable": "/bin/pw.x", "plugin": "quantumespresso.pw"}},
    }
    ComputerSettings(**data)
    rng = np.random.default_rng(3)
    tally = Tally("files of computers")
    for number in range(times(100)):
        name, changed_data = changed(data, rng)
        tally.attempt(f"{number}: {name}", lambda given=changed_data: ComputerSettings(**parse(dumped(given), tmp_path, "")[0]))
    tally.check()
