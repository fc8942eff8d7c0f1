"""What may stand in a file of settings: plain YAML, finite and sane numbers, plain words; every fault with its line, at once."""

import importlib
import json
import pkgutil
import types
import typing

import pytest
from fuzzing import cost
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

import aiida_gaprss
from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.settings.calculators import check_name, look
from aiida_gaprss.settings.computer import BatchOptions, ComputerSettings, FitOptions, JobOptions
from aiida_gaprss.settings.jobs import LabelSettings
from aiida_gaprss.settings.model import Model, complaints
from aiida_gaprss.settings.yamlfile import ConfigError, load, parse, read

HEAD = "a: 1\n"


def fault(text, tmp_path):
    """Return line, place and message of the one fault of a file."""
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path / "a.yaml", "a: 1")
    (one,) = caught.value.faults
    return one.line, one.where, one.message


# --- YAML ---


@pytest.mark.parametrize(
    ("text", "line", "where", "message"),
    [
        ("b: !!binary aGk=", 2, "b", "the tag !!binary is not known"),
        ("b: {c: !!omap [d: 1]}", 2, "b.c", "the tag !!omap is not known"),
        ("b: !!set {c, d}", 2, "b", "the tag !!set is not known"),
        ("b: !!timestamp 2001-01-01", 2, "b", "the tag !!timestamp is not known"),
        ("b: [x, !!python/object/apply:os.system [true]]", 2, "b.1", "python/object/apply:os.system is not known"),
        ("b: !mine {c: 1}", 2, "b", "the tag !mine is not known"),
        ("a: 2", 2, "a", "a is given twice, first in line 1"),
        ("1: 2", 2, "", "expected a word as key (got 1)"),
        ("true: 2", 2, "", "expected a word as key (got True)"),
        ("[1, 2]: 2", 2, "", "expected a word as key (got [1, 2])"),
        ("? {b: 1}\n: 2", 2, "", "expected a word as key"),
        ("<<: [1, 2]", 2, "", "<< takes over the keys of a mapping"),
        ("b: *nothing", 2, "b", "*nothing has no anchor before it"),
        ("b: &x {c: *x}", 2, "b.c", "*x contains itself"),
        ("b: .inf", 2, "b", ".inf is not a finite number"),
        ("b: .NaN", 2, "b", ".NaN is not a finite number"),
        ("b: 1e999", 2, "b", "1e999 is not a finite number"),
        (f"b: {'9' * 5000}", 2, "b", "a number of 5000 characters"),
        ("b: 1_000", 2, "b", "numbers are written without _"),
        ("b: \x00", 2, "", "has the character '\\x00'"),
        ("b: \x1b[31m", 2, "", "has the character '\\x1b'"),
        ("b: " + "[" * 3000 + "]" * 3000, 2, "b.0.0", "more than 24 lists and mappings within each other"),
        ("b:\n" + "".join(f"{' ' * n}- \n" for n in range(1, 50)), 27, "b.0.0", "more than 24 lists and mappings"),
        (f"b: [{', '.join('x' for _ in range(20_000))}]", 2, "b.9995", "more than 10000 values"),
        ("---\nb: 2", 2, "", "a second document begins here"),
        ("b: [", 3, "", "not readable as YAML: "),
        ("b: 'c", 3, "", "not readable as YAML: "),
        ("\tb: 1", 2, "", "not readable as YAML: "),
    ],
)
def test_what_is_no_plain_yaml(text, line, where, message, tmp_path):
    found = fault(f"{HEAD}{text}\n", tmp_path)
    assert found[:2] == (line, where)
    assert message in found[2]


def test_plain_yaml(tmp_path):
    text = """
base: &base {x: 1, y: [1.5, -2e3, 0x10, 0o17, 1.]}
whole: {<<: *base, x: 2}
several: {<<: [*base, {x: 5, z: 6}]}
again: *base
words: [yes, 2001-01-01, 12:30:00, "1", '2', !!str 3, 1.2.3, é, Y]
nothing: [null, ~, ]
truth: [true, False]
block: |
  two
  lines
"""
    data, lines = parse(text, tmp_path / "a.yaml", "")
    base = {"x": 1, "y": [1.5, -2000.0, 16, 15, 1.0]}
    assert data["whole"] == {**base, "x": 2}
    assert data["several"] == {**base, "z": 6}
    assert data["again"] == base
    assert data["again"] is not data["base"]
    assert data["words"] == ["yes", "2001-01-01", "12:30:00", "1", "2", "3", "1.2.3", "é", "Y"]
    assert data["nothing"] == [None, None]
    assert data["truth"] == [True, False]
    assert data["block"] == "two\nlines\n"
    places = (("whole", "x"), ("several", "z"), ("words", 3), ("words", 99), ("none",))
    assert [lines.of(place) for place in places] == [3, 4, 6, 6, 1]


def laughs(width, depth, mapping):
    """Return a file of which every level repeats the one before ``width`` times."""
    item = (lambda name: "{" + ", ".join(f"k{n}: {name}" for n in range(width)) + "}") if mapping else None
    item = item or (lambda name: f"[{', '.join([name] * width)}]")
    return "".join(f"a{n}: &a{n} {item('x' if n == 0 else f'*a{n - 1}')}\n" for n in range(depth))


@pytest.mark.parametrize("mapping", [False, True])
@pytest.mark.parametrize(("width", "depth"), [(10, 10), (3, 30), (1, 300), (500, 3)])
def test_aliases_that_grow_are_refused_without_growing(width, depth, mapping, tmp_path):
    said, grown = cost(lambda: parse(laughs(width, depth, mapping), tmp_path / "a.yaml", ""))
    assert said.startswith("ConfigError: ")
    assert "aliases" in said or "within each other" in said
    assert grown < 200


def test_files_that_are_none(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("a: " + "x" * 300_000)
    (tmp_path / "latin").write_bytes(b"a: 1\nb: caf\xe9\n")
    for name, message in (
        ("pipe", "is a named pipe, expected a file"),
        ("large", "expected at most 262 kB"),
        ("latin", "line 2: has the byte 0xe9, which is no UTF-8"),
        ("none", "no such file"),
        (".", "is a folder"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(ConfigError) as caught:
            read(tmp_path / name)
        assert message in str(caught.value)
    (tmp_path / "mark").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert parse(read(tmp_path / "mark"), tmp_path, "")[0] == {"a": 1}


def test_faults_do_not_act(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_text('"b\\e[31m": 1\nb\u202e: 2\n', GapSettings, tmp_path)
    assert "\\x1b[31m" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)


def test_many_faults_are_counted(tmp_path):
    with pytest.raises(ConfigError) as caught:
        parse("".join(f"{n}: 1\n" for n in range(500)), tmp_path / "a.yaml", "")
    assert str(caught.value).splitlines()[-1] == "  and 460 more"


def load_text(text, model, tmp_path):
    (tmp_path / "file.yaml").write_text(text)
    return load(tmp_path / "file.yaml", model, "a: 1")


# --- numbers ---


def models():
    """Return all models of the package that hold settings."""
    for module in pkgutil.walk_packages(aiida_gaprss.__path__, "aiida_gaprss."):
        if ".runners." not in module.name and "cli" not in module.name:
            importlib.import_module(module.name)
    waiting, found = [Model], []
    while waiting:
        children = waiting.pop().__subclasses__()
        found += [model for model in children if model.__module__.startswith("aiida_gaprss")]
        waiting += children
    return found


def numbers(annotation):
    """Yield the numbers in a type, with their bounds."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *_ = typing.get_args(annotation)
        if inner in (int, float):
            yield annotation
        else:
            yield from numbers(inner)
    elif annotation in (int, float):
        yield annotation
    elif origin in (typing.Union, types.UnionType, list, tuple, dict, type):
        for part in typing.get_args(annotation):
            yield from numbers(part)


def of_field(field: FieldInfo):
    if field.annotation in (int, float):
        return [typing.Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation]
    return list(numbers(field.annotation))


def refused(adapter, value):
    try:
        adapter.validate_python(value)
    except ValidationError:
        return True
    return False


def test_every_number_of_every_setting_is_bounded():
    """Of all models: no number is endless, of the size of a universe, a truth value or a text."""
    asked = 0
    for model in models():
        for name, field in model.model_fields.items():
            for kind in of_field(field):
                adapter = TypeAdapter(kind, config={"allow_inf_nan": False})
                asked += 1
                for wrong in (float("nan"), float("inf"), -float("inf"), -1e308, 1e308, 10**30, -(10**30), True, "1", "1_0"):
                    assert refused(adapter, wrong), f"{model.__name__}.{name}: {wrong!r} is accepted as {kind}"
    assert asked > 120


def test_bounds_are_wide_enough_for_what_is_done(campaign_text, tmp_path):
    """Large but sane campaigns: heavy atoms, all electrons, many labels, high pressures."""
    changes = {
        "e0": {"Si": -790_000.0},
        "descriptors": [{"kind": "soap", "cutoff": 8.0, "n_max": 14, "l_max": 12, "n_sparse": 20_000, "zeta": 6}],
        "sigma": {"energy": 1e-6, "forces": 1e-4, "virial": 1e3},
        "sparse_jitter": 1e-14,
    }
    assert GapSettings(**changes).e0 == {"Si": -790_000.0}
    check_campaign(campaign_text.replace("width_GPa: 20", "width_GPa: 1000"), tmp_path / "a.yaml")
    JobOptions(max_memory_kb=2_000_000_000, max_wallclock_seconds=30 * 86400, resources={"num_machines": 4})


# --- options of jobs ---


def test_options_are_those_of_aiida():
    from aiida.engine import CalcJob

    from aiida_gaprss.calculations.fit import FitCalculation
    from aiida_gaprss.calculations.label import LabelCalculation

    example = {
        "resources": {"num_machines": 1, "tot_num_mpiprocs": 4, "parallel_env": "mpi"},
        "max_wallclock_seconds": 60,
        "max_memory_kb": 10**6,
        "queue_name": "all.q@node-1",
        "account": "proj_1",
        "qos": "high",
        "priority": "-20",
        "withmpi": True,
        "mpirun_extra_params": ["--bind-to", "none"],
        "rerunnable": False,
        "import_sys_environment": True,
        "environment_variables": {"OMP_NUM_THREADS": "1"},
        "environment_variables_double_quotes": False,
        "custom_scheduler_commands": "#SBATCH --mem=0",
        "prepend_text": "module load gcc\nexport A=1",
        "append_text": "date",
    }
    assert set(example) == set(JobOptions.model_fields)
    for process, model, own in (
        (CalcJob, JobOptions, {}),
        (FitCalculation, FitOptions, {"threads": 2}),
        (LabelCalculation, BatchOptions, {"processes": 2}),
    ):
        ports = process.spec().inputs["metadata"]["options"]
        given = {**example, "priority": "20", **own}
        assert model(**given).given() == given
        assert {name: ports[name].validate(value) for name, value in given.items()} == dict.fromkeys(given)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"nonsense": 5}, ("nonsense",)),
        ({"parser_name": "gaprss.label"}, ("parser_name",)),
        ({"submit_script_filename": "../../x"}, ("submit_script_filename",)),
        ({"additional_retrieve_list": ["/etc/passwd"]}, ("additional_retrieve_list",)),
        ({"max_wallclock_seconds": -5}, ("max_wallclock_seconds",)),
        ({"max_wallclock_seconds": "1 h"}, ("max_wallclock_seconds",)),
        ({"resources": 7}, ("resources",)),
        ({"resources": {"num_machines": 0}}, ("resources", "num_machines")),
        ({"account": [1]}, ("account",)),
        ({"queue_name": "main\nrm -rf ~"}, ("queue_name",)),
        ({"qos": "$(id)"}, ("qos",)),
        ({"environment_variables": {"A; id": "1"}}, ("environment_variables", "A; id", "[key]")),
        ({"mpirun_extra_params": ["a\nb"]}, ("mpirun_extra_params", 0)),
        ({"prepend_text": "a\x1b[2J"}, ("prepend_text",)),
    ],
)
def test_options_that_are_none(options, where):
    with pytest.raises(ValidationError) as caught:
        FitOptions(**options)
    assert where in [fault.place for fault in complaints(caught.value)]


# --- calculators ---


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "posixpath.join",
        "_pytest.main",
        "lennardjones",
        "",
        "a.b.",
        "a b.c",
        "../x.y",
        "é.x",
    ],
)
def test_names_that_are_no_calculators(name):
    with pytest.raises(ValueError, match="is no calculator"):
        check_name(name)
    with pytest.raises(ValidationError):
        LabelSettings(calculator=name)


def test_what_is_behind_a_name(tmp_path, monkeypatch):
    (tmp_path / "lurking.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom ase.calculators.emt import EMT\n")
    monkeypatch.chdir(tmp_path)
    assert look("emt").state == "there"
    assert look("ase.calculators.lj.LennardJones").state == "there"
    assert "is no ASE calculator but a function" in look("ase.io.read").reason
    assert "is no ASE calculator but a class" in look("ase.Atoms").reason
    assert look("no_such_package.Calculator").state == "absent"
    assert look("lurking.EMT").state == "absent", "a module of the folder where the command is typed"
    assert not (tmp_path / "ran").exists()


# --- all faults at once ---


def test_lines_of_what_lies_in_a_union(campaign_text, tmp_path):
    start = campaign_text.index("  fit: {")
    fit = "  fit:\n    descriptors:\n    - kind: soap\n      cutoff: -5.0\n    sigma: {energy: 0, forces: 1, virial: 1}\n"
    text = campaign_text[:start] + fit + campaign_text[campaign_text.index("  final_fit:") :]
    with pytest.raises(ConfigError) as caught:
        check_campaign(text, tmp_path / "a.yaml")
    lines = {text.splitlines()[fault.line - 1].strip() for fault in caught.value.faults}
    assert lines == {"cutoff: -5.0", "sigma: {energy: 0, forces: 1, virial: 1}"}


def test_no_part_hides_another(campaign_text, tmp_path):
    """Faults of the protocol, of a file of a seed, of options, numbers, crystals and references, together."""
    text = campaign_text.replace("seed: 11", "seed: 0\nprotocol: quickest\ncrystals: [none.cif]\nbundle: {frames_per_job: -1}")
    text = text.replace("formula: {Si: 1}", "formula: {Si: 1}\n  isolated_atom_box: .5")
    text = text.replace("final_fit: null", "final_fit: {protocol: nobodys}")
    text = text.replace("reference:\n", "reference:\n  vasp: {code: a, potential_family: b, kpoint_spacing: 2, parameters: {}}\n")
    text = text.replace("    random:\n", "    other: {kind: airss, file: none.cell}\n    random:\n", 1)
    text += "options: {fit: {threads: many, account: 'a b'}}\n"
    with pytest.raises(ConfigError) as caught:
        check_campaign(text, tmp_path / "a.yaml")
    found = {fault.where: fault for fault in caught.value.faults}
    expected = {
        "seed",
        "protocol",
        "crystals",
        "crystals.0",
        "bundle.frames_per_job",
        "settings.final_fit.protocol",
        "settings.isolated_atom_box",
        "settings.seeds.other.file",
        "reference",
        "reference.vasp.kpoint_spacing",
        "options.fit.threads",
        "options.fit.account",
    }
    assert expected <= set(found), expected - set(found)
    lines = text.splitlines()
    for where, one in found.items():
        assert where.rpartition(".")[2].rstrip("0123456789") in lines[one.line - 1], (where, one.line)


def test_files_of_computers_are_read_alike(tmp_path):
    given = {"label": "a b", "work_dir": "/x/{username.__class__}", "options": {"account": "a;b"}, "python": "/x\ny"}
    given |= {"environment": {"folder": "$(id)", "python": "python3; id", "packages": ["a\nb"]}, "cores_per_node": 10**30}
    with pytest.raises(ConfigError) as caught:
        load_text(json.dumps(given), ComputerSettings, tmp_path)
    found = {fault.where for fault in caught.value.faults}
    places = (
        "label",
        "work_dir",
        "options.account",
        "python",
        "environment.folder",
        "environment.python",
        "environment.packages.0",
    )
    assert {*places, "cores_per_node"} <= found
