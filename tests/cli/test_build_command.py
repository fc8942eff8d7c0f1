"""``aiida-gaprss build`` as a user types it: a database of silicon from a file, what it costs, and what it refuses."""

import re
from pathlib import Path

import helpers
import numpy as np
import pytest
from aiida.orm import load_node
from ase import Atoms
from ase.build import bulk
from ase.io import write
from click.testing import CliRunner
from pymatgen.core import Structure
from ruamel.yaml import YAML

from aiida_gaprss.campaign.build import build_from, cost_of, kpoints_of
from aiida_gaprss.cli import cli
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.workflows.build import given_up

WAVES = {"kind": "nondiagonal", "grid": [2, 2, 2], "volumes": [1.0], "copies": 2}


@pytest.fixture
def file(python_code, sw_settings, tmp_path, monkeypatch):
    """Write a file with these strategies, or other keys; return its path."""
    monkeypatch.chdir(tmp_path)
    write("diamond.cif", bulk("Si", a=5.431))

    def file(strategies=None, **keys):
        codes = {"label_python": python_code.full_label, "python": python_code.full_label}
        data = {"crystals": ["diamond.cif"], "strategies": strategies or {"waves": WAVES}, "reference": {"ase": sw_settings}}
        data |= {"codes": codes, "reuse_labels": False, **keys}
        with open(tmp_path / "build.yaml", "w") as handle:
            YAML().dump({key: value for key, value in data.items() if value is not None}, handle)
        return tmp_path / "build.yaml"

    return file


def call(*arguments, ok=True):
    return helpers.call("build", *arguments, ok=ok)


def test_a_database(file):
    path = file({"atoms": {"kind": "isolated_atoms"}, "waves": WAVES}, name="of diamond")
    told = call(path, "--check")
    assert re.search(r"waves +nondiagonal +7 +22 +4 ", told), told
    assert "Database" not in told
    done = call(path)
    found = dict(re.findall(r"^ (\w+) +<(\d+)>", done, flags=re.M))
    assert set(found) == {"atoms", "waves"}
    waves = load_node(int(found["waves"]))
    assert waves.n_frames == waves.base.attributes.get("energies") == 7
    assert waves.label == "labelled frames of waves (of diamond)"


def test_the_lowest_minima(file):
    frames = [bulk("Si", a=a) for a in (5.4, 5.2, 5.6)]
    for number, (atoms, energy) in enumerate(zip(frames, (-8.6, -8.0, -8.4), strict=True)):
        atoms.info.update(frame_id=f"minimum-{number}", REF_energy=energy)
    atom = Atoms("Si", cell=[12] * 3, pbc=True, info={"frame_id": "atom", "REF_energy": -100.0, "config_type": "isolated_atom"})
    node = Dataset([*frames, atom], level_of_theory="a test").store()
    inputs = build_from(file(crystals=None, minima={"of": node.pk, "lowest": 2}))
    crystals = inputs["crystals"].get_frames()
    assert [atoms.info["frame_id"] for atoms in crystals] == ["minimum-0", "minimum-2"]


def test_a_crystal_of_the_materials_project(file, monkeypatch):
    """Which is asked for by its number, and refused in words without a key."""

    class Project:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def get_structure_by_material_id(self, identifier):
            assert identifier == "mp-149"
            return Structure.from_spacegroup("Fd-3m", [[5.43, 0, 0], [0, 5.43, 0], [0, 0, 5.43]], ["Si"], [[0, 0, 0]])

    with pytest.raises(ConfigError, match=r"line \d+, materials_project\.0: mp-149: .*MP_API_KEY"):
        build_from(file(crystals=None, materials_project=["mp-149"]))
    monkeypatch.setattr("pymatgen.ext.matproj.MPRester", Project)
    (crystal,) = build_from(file(crystals=None, materials_project=["mp-149"]))["crystals"].get_frames()
    assert crystal.info["frame_id"] == "mp-149"
    assert len(crystal) == 8


def test_the_cost(file):
    strategies = StrategyList(strategies={"waves": {**WAVES, "copies": 1}, "atoms": {"kind": "isolated_atoms"}})
    crystal = bulk("Si", a=5.431)
    crystal.info["frame_id"] = "diamond"
    costs = {name: cost_of(strategies.frames(name, [crystal]), None) for name in strategies.strategies}
    assert (costs["waves"].frames, costs["waves"].atoms, costs["waves"].largest) == (4, 12, 4)
    assert costs["waves"].plane_waves == 2**3 + 2**3 + 4**3 + 4**3
    assert kpoints_of(crystal, 0.1) == 4**3 // 2 + 1, "reciprocal vectors of √3/a = 0.319 1/Å"
    assert kpoints_of(Atoms("Si", cell=[12] * 3, pbc=True, info={"config_type": "isolated_atom"}), 0.01) == 1


def test_snapshots_and_steps_are_counted(file, diamond_folder):
    """Of trajectories the labels at most; of those that the reference runs all steps, too."""
    hot = {"kind": "md", "supercell": [2, 1, 1], "snapshots": 5, "every_ps": 0.01, "equilibration_ps": 0.05}
    told = call(file({"hot": hot}, calculator={"calculator": "emt"}, reference=None), "--check")
    assert re.search(r"hot +md +5 +20 +4 ", told), told
    strategies = StrategyList(strategies={"hot": {**hot, "by": "reference", "md_kpoint_spacing": "gamma"}})
    crystal = bulk("Si", a=5.431)
    crystal.info["frame_id"] = "diamond"
    frames = strategies.frames("hot", [crystal])
    assert cost_of(frames, None, 5).plane_waves == 4**3 * (5 + 101)


def test_what_labels_have_cost_is_what_they_will_cost(file, sw_settings):
    """Without labels of this calculator there is no time; with some, core-hours, and of which labels."""
    reference = {"ase": {**sw_settings, "arguments": {**sw_settings["arguments"], "atoms": None}}}
    waves = {f"of_{n}": {"kind": "rattled", "supercell": [n, 1, 1], "copies": 3} for n in (1, 2, 4, 6)}
    path = file(waves, reference=reference)
    assert "core-hours" not in call(path, "--check")
    call(path)
    told = call(file({**waves, "more": {"kind": "rattled", "supercell": [5, 1, 1], "copies": 9}}, reference=reference), "--check")
    assert re.search(
        r"core-hours: \S+ \(\S+–\S+\) in all, calibrated on 4 times of labels of this reference, of 2 to 12 atoms", told
    )
    assert re.search(r"more +rattled +\d+ .*\d \(\S+–\S+\)", told), told


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"strategies": {"hot": {"kind": "md"}}, "potential": 1, "calculator": {"calculator": "emt"}},
            r"line \d+, calculator: give either potential or calculator",
        ),
        ({"strategies": {"hot": {"kind": "md"}}, "calculator": {"calculator": "os.system"}}, r"os\.system is no calculator"),
        ({"strategies": {"hot": {"kind": "md"}}, "calculator": {"calculator": "nowhere.Calc"}}, r"line \d+, calculator: nowhere"),
        ({"strategies": {"hot": {"kind": "md"}}, "calculator": {"arguments": {}}}, r"calculator\.calculator: "),
        ({"strategies": {"waves": {"kind": "wave"}}}, r"line \d+, strategies\.waves\.kind: .*expected one of airss"),
        ({"strategies": {"waves": {**WAVES, "copies": 0}}}, r"line \d+, strategies\.waves\.copies: .*greater than 0 \(got 0\)"),
        ({"strategies": {"β": {"kind": "occupancy", "file": "no.cif"}}}, r"line \d+, strategies\.β\.file: .*no\.cif"),
        ({"crystals": ["no.cif"]}, r"line \d+, crystals\.0: .*no\.cif"),
        ({"crystals": ["diamond.cif", "diamond.cif"]}, r"line \d+, crystals\.1: there are two crystals diamond"),
        ({"minima": {"of": 999999}}, r"line \d+, minima: no node 999999"),
        ({"crystals": None}, "give crystals, or a formula"),
        ({"strategy": {}}, r"line \d+, strategy: unknown key, expected one of name, seed"),
        ({"seed": 0}, r"line \d+, seed: "),
        ({"choose": "cur"}, r"line \d+, choose: cur needs max_labels"),
        ({"choose": "variance"}, r"line \d+, choose: variance needs max_labels"),
        ({"choose": "variance", "max_labels": 2}, r"line \d+, choose: variance needs a potential, expected its pk"),
        ({"relax": {"by": "potential"}}, r"line \d+, relax\.by: the potential is to relax the crystals, but there is none"),
        ({"relax": {}, "reference": None}, r"line \d+, relax\.by: the reference is to relax the crystals, but there is none"),
        ({"relax": {"most_atoms": 1}}, r"line \d+, relax\.most_atoms: all crystals have more atoms than 1"),
        ({"relax": {"stol": 0}}, r"line \d+, relax\.stol: "),
        ({"relax": {}, "reference": {"vasp": {"code": "x"}}}, r"relax\.by: vasp relaxes no crystals .*by: potential"),
        ({"database": [999999]}, r"line \d+, database\.0: no dataset, .* 999999"),
        ({"strategies": {"hot": {"kind": "md"}}}, r"line \d+, strategies\.hot: md needs a potential"),
        ({"strategies": {"hot": {"kind": "md"}}, "potential": 999999}, "potential: no node 999999"),
        ({"reference": {"ase": {"calculator": "os.system", "level_of_theory": "x"}}}, r"os\.system is no calculator"),
    ],
)
def test_what_is_wrong_with_a_file(file, keys, message):
    strategies = keys.pop("strategies", None)
    with pytest.raises(ConfigError, match=message):
        build_from(file(strategies, **keys))


@pytest.mark.parametrize("given", [{}, {"calculator": {"calculator": "emt"}}], ids=["alone", "beside a calculator"])
@pytest.mark.parametrize("reference", [True, False], ids=["of ASE", "none"])
def test_dynamics_that_the_reference_cannot_run(file, given, reference):
    """Whatever else could run them: they were asked of the reference."""
    keys = given if reference else {**given, "reference": None}
    with pytest.raises(ConfigError) as told:
        build_from(file({"hot": {"kind": "md", "by": "reference"}}, **keys))
    (fault,) = told.value.faults
    assert fault.where == "strategies.hot"
    why = "an ASE calculator runs in a job of gaprss.md: give it as calculator" if reference else "there is no reference"
    assert f"md is to be run by the reference (by: reference), but {why}" in fault.message


@pytest.mark.parametrize("calculator", ["emt", {"calculator": "nowhere.Calc"}, {"arguments": {}}])
def test_a_calculator_that_is_none_is_told_once(file, calculator):
    with pytest.raises(ConfigError) as told:
        build_from(file({"hot": {"kind": "md"}}, calculator=calculator))
    assert [fault.where.partition(".")[0] for fault in told.value.faults] == ["calculator"]


def test_everything_that_is_wrong_is_told_at_once(file):
    """A part that is wrong hides no other, and what only follows from a fault is not told besides."""
    wrong = {
        "atoms": {"kind": "isolated_atoms", "size": 3},
        "two words": {"kind": "bain"},
        "large": {**WAVES, "grid": [30, 30, 30]},
        "hot": {"kind": "md"},
        "waves": WAVES,
    }
    reference = {"ase": {"calculator": "os.system", "level_of_theory": "x"}}
    more = {"seed": 0, "colour": "red", "choose": "cur", "database": [999999], "codes": {"label_python": "none@localhost"}}
    with pytest.raises(ConfigError) as told:
        build_from(file(wrong, crystals=["diamond.cif", "no.cif"], relax={"ltol": -1}, reference=reference, **more))
    assert {fault.where for fault in told.value.faults} == {
        "seed",
        "colour",
        "choose",
        "database.0",
        "codes.label_python",
        "crystals.1",
        "relax.ltol",
        "strategies.atoms.size",
        "strategies.two words",
        "strategies.large",
        "strategies.hot",
        "reference.ase.calculator",
    }
    assert all(fault.line > 1 for fault in told.value.faults)


def test_faults_that_follow_from_others_are_not_told(file):
    with pytest.raises(ConfigError) as told:
        build_from(file({"hot": {"kind": "md"}, "waves": WAVES}, crystals=["no.cif"], potential=999999))
    assert [fault.where for fault in told.value.faults] == ["crystals.0", "potential"]
    with pytest.raises(ConfigError) as told:
        build_from(
            file({"a": {"kind": "occupancy", "file": "no.cif"}, "b": {**WAVES, "grid": [30, 30, 30]}}, choose="cur", max_labels=0)
        )
    assert {fault.where for fault in told.value.faults} == {"strategies.a.file", "strategies.b", "max_labels"}
    with pytest.raises(ConfigError) as told:
        build_from(file(None, strategies_=1).with_name("build.yaml"))
    assert [fault.where for fault in told.value.faults] == ["strategies_"]
    Path("none.yaml").write_text("crystals: [diamond.cif]\n")
    with pytest.raises(ConfigError, match=r"none\.yaml: 1 error\n  line 1, strategies: missing"):
        build_from(Path("none.yaml"))


def test_a_database_that_other_processes_have(file, fitted_process):
    """A database, a fit, a dataset: all labelled frames of each."""
    pk = int(re.search(r"database .*<(\d+)>", call(file()))[1])
    labels = load_node(pk).outputs.labels
    inputs = build_from(file(max_labels=3, choose="farthest", database=[pk, labels.pk, fitted_process.pk]))
    assert {name: node.pk for name, node in inputs["database"].items()} == {
        "d00_labels": labels.pk,
        "d01": labels.pk,
        "d02_one": fitted_process.inputs.datasets["one"].pk,
    }
    without = int(re.search(r"database .*<(\d+)>", call(file(reference=None)))[1])
    with pytest.raises(ConfigError, match=rf"line \d+, database\.0: <{without}> has no labels yet"):
        build_from(file(database=[without]))
    bare = load_node(without).outputs.datasets["waves"]
    with pytest.raises(ConfigError, match=rf"database\.0: <{bare.pk}> has no labels"):
        build_from(file(database=[bare.pk]))
    with pytest.raises(ConfigError, match=r"database\.0: <\d+> is a BuildWorkChain|expected a dataset, a campaign, a database"):
        build_from(file(database=[load_node(pk).inputs.settings.pk]))


@pytest.fixture
def fitted_process(dataset):
    """A fit as far as it is asked for its datasets."""
    from aiida.common.links import LinkType
    from aiida.orm import WorkChainNode

    node = WorkChainNode()
    node.set_process_label("FitWorkChain")
    node.base.links.add_incoming(dataset.store(), LinkType.INPUT_WORK, "datasets__one")
    return node.store()


def name_of(pk, number):
    """Return the name of a frame of the strategy waves of a database."""
    return str(load_node(int(pk)).outputs.datasets.waves.get_frames()[number].info["frame_id"])


def test_crystals_that_are_relaxed_first(file):
    write("large.cif", bulk("Si", a=5.431, cubic=True))
    path = file(crystals=["diamond.cif", "large.cif"], relax={"most_atoms": 4})
    told = call(path, "--check")
    assert re.search(r"waves +nondiagonal +7 +22 +4 ", told), "of the crystals that are small enough"
    assert "relax: the reference relaxes the crystals first; frames here are of the crystals as they are given, 1 of" in told
    done = call(path)
    assert re.search(r"^crystal diamond: kept: Fd-3m \(227\), volume [+-]0\.\d %$", done, flags=re.M), done
    assert "crystal large: left out: 8 atoms, expected at most 4 (relax.most_atoms)" in done
    pk = re.search(r"^Database <(\d+)>", done, flags=re.M)[1]
    told = CliRunner().invoke(cli, ["trace", name_of(pk, 3), "--campaign", pk], env={"COLUMNS": "200"}).output
    assert re.search(r"made of diamond: q .*relaxed: step \d+ of diamond at 0 GPa .*first seen in Dataset", told, flags=re.S), (
        told
    )


@pytest.mark.full
def test_frames_of_which_the_potential_is_least_sure(file, diamond_folder):
    node = Potential(diamond_folder).store()
    told = call(file(choose="variance", max_labels=2, potential=node.pk))
    assert "max_labels: 2 of these at most are labelled (choose: variance)" in told
    assert re.search(r"variances: 7 frames examined; 2 chosen: median \S+, largest \S+ eV; 5 others", told)


def spoilt(name):
    """Return a crystal that is none."""
    crystal = bulk("Si", a=5.431)
    if name == "twice":
        crystal.positions[1] = crystal.positions[0] + 1e-3
    elif name == "nan":
        crystal.positions[1] = np.nan
    elif name == "units":
        crystal.set_cell(crystal.cell.array * 1e8, scale_atoms=True)
    elif name == "unknown":
        crystal.numbers[1] = 0
    return crystal


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("twice", "two atoms at one place"),
        ("nan", "positions have a value that is not a finite number"),
        ("units", "cell has a vector of 2.72e[+]08 Å, expected at most 10000 Å"),
        ("unknown", "unknown element"),
    ],
)
def test_crystals_that_are_none(file, name, message):
    """Each is named with its line and its file."""
    write(f"{name}.xyz", spoilt(name))
    with pytest.raises(ConfigError, match=rf"line \d+, crystals\.1: {name}\.xyz .*{message}"):
        build_from(file(crystals=["diamond.cif", f"{name}.xyz"]).relative_to(Path.cwd()))


def test_a_crystal_with_partly_occupied_sites(file):
    """ASE would read the element that is there most often, and take the site for full."""
    structure = Structure([[4, 0, 0], [0, 4, 0], [0, 0, 4]], [{"Si": 0.5, "Ge": 0.5}, "Si"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure.to(filename="alloy.cif", symprec=None)
    with pytest.raises(ConfigError, match=r"line \d+, crystals\.0: .*occupied in part"):
        build_from(file(crystals=["alloy.cif"]))


def test_a_reader_that_says_nothing(file):
    Path("garbage.cif").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(ConfigError, match=r"garbage\.cif cannot be read: \w+"):
        build_from(file(crystals=["garbage.cif"]))


def test_frames_of_elements_that_the_formula_lacks(file):
    """Their isolated atoms would be missing, and their pseudopotentials."""
    assert "strategies.waves: frames have Si, the formula has Cu" in call(file(formula={"Cu": 1}), "--check", ok=False)


def test_labels_are_told_to_be_limited(file):
    assert "max_labels: 3 of these at most are labelled (choose: random)" in call(file(max_labels=3), "--check")


def test_the_history_of_a_frame(file):
    """Of one database, where several have frames of the same name, as those of the same file."""
    pks = [re.search(r"database .*<(\d+)>", call(file()))[1] for _ in range(2)]
    name = name_of(pks[0], 3)

    def trace(*arguments):
        return CliRunner().invoke(cli, ["trace", name, *arguments], env={"COLUMNS": "200"}).output

    assert re.search(rf"say --campaign with one of .*{', '.join(pks)}$", trace().strip())
    for pk in pks:
        told = trace("--campaign", pk)
        assert re.search(rf"database .*<{pk}>, seed 1\n", told), told
        assert "made of diamond: q " in told
        assert "taken from the database" not in told


def test_submitted_without_a_daemon(file):
    """As all commands that submit: no traceback, and what to do."""
    told = call(file(), "--submit", ok=False)
    assert "the database cannot be submitted: " in told
    assert "verdi daemon start" in told


def test_trajectories_that_are_given_up():
    ends = [("a", "finished", 9), ("a", "on_the_way", 3), ("b", "collapsed", 4)]
    frames = [Atoms("Si", info={"parent": of, "md_status": how, "step": step}) for of, how, step in ends]
    assert given_up(frames) == "given up: b at step 4 (collapsed)"
    assert given_up(frames[:2]) == ""


def test_what_a_user_does_wrong(file, diamond_folder):
    assert "aiida-gaprss build --list" in call(ok=False)
    assert re.search(r"^nondiagonal +Supercells .*\(needs crystals\)", call("--list"), flags=re.M)
    assert "strategies.waves: nondiagonal: crystal diamond: grid" in call(
        file({"waves": {**WAVES, "grid": [30, 30, 30]}}), ok=False
    )
    node = Potential(diamond_folder).store()
    write("copper.cif", bulk("Cu"))
    path = file({"hot": {"kind": "md"}}, crystals=["copper.cif"], potential=node.pk, reference=None)
    assert "the potential knows Si, but not Cu" in call(path, ok=False)
