import pytest

from aiida_gaprss.campaign.file import check_campaign, load_campaign
from aiida_gaprss.campaign.inputs import builder_inputs, campaign_name
from aiida_gaprss.campaign.settings import PROTOCOLS, complete
from aiida_gaprss.settings.yamlfile import ConfigError
from aiida_gaprss.structures.seeding import stage_seed


@pytest.fixture
def check(campaign_text, tmp_path):
    """Check the tiny campaign with some of its text replaced; return the campaign or its faults."""

    def check(*replacements):
        text = campaign_text
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        try:
            return check_campaign(text, tmp_path / "a.yaml")
        except ConfigError as error:
            lines = text.splitlines()
            return [(f.where, f.message, lines[f.line - 1].strip()) for f in error.faults]

    return check


def test_a_good_file(check):
    campaign = check()
    assert campaign.settings.formula == {"Si": 1}
    assert campaign.settings.label_budget() == 1 + 10 + 6 + 2
    assert campaign.config.seed == 11
    assert campaign_name(campaign) == "tiny"


def test_the_same_file_has_the_same_name(check):
    nameless = ("name: tiny\n", "")
    first, second, other = check(nameless), check(nameless), check(nameless, ("random: 10", "random: 9"))
    assert campaign_name(first) == campaign_name(second) != campaign_name(other)
    assert campaign_name(first).startswith("Si-s11-")


def test_every_fault_at_once_with_its_line(check):
    faults = check(
        ("width_GPa", "width_gpa"),
        ("formula: {Si: 1}", "formula: {Sj: 1}"),
        ("by: lowest, n: 2", "by: lowest, n: many"),
        ("calculator: quippy.potential.Potential", "calculator: [1]"),
        ("label: 2", "label: -2"),
        ("seed: 11", "seed: 0"),
    )
    assert isinstance(faults, list)
    found = {where: (message, line) for where, message, line in faults}
    expected = {
        "settings.generations.0.pressure.width_gpa": ("unknown key", "pressure:"),
        "settings.generations.0.select.rules.0.n": ("'many'", "- {by: lowest"),
        "settings.search.label": ("-2", "label: -2"),
        "reference.ase.calculator": ("", "calculator:"),
        "seed": ("0", "seed: 0"),
    }
    for where, (message, line) in expected.items():
        assert where in found, (where, sorted(found))
        assert message in found[where][0]
        assert found[where][1].startswith(line)
    assert any("Sj" in message for message, _ in found.values())


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("formula: {Si: 1}", "formula: {Sj: 1}", "settings", "Sj"),
        ("min_separation: 2.1", "min_separation: 4.5", "settings.seeds.random", "4.5"),
        ("initial: {random: 10}", "initial: {randum: 10}", "settings.initial.randum", "known: random"),
        ("n_atoms: [2, 3]", "n_atoms: 2", "settings.seeds.random.n_atoms", "got 2"),
        ("volume_per_atom: [17.0, 24.0]", "volume_per_atom: [24.0, 17.0]", "settings.seeds.random", "24"),
        ("seed: 11", "seed: eleven", "seed", "'eleven'"),
        ("seed: 11", "sead: 11", "sead", "unknown key"),
        ("name: tiny", "protocol: quickest", "protocol", "unknown protocol 'quickest'; known: "),
        (
            "reference:\n",
            "reference:\n  siesta: {}\n",
            "reference.siesta",
            "no reference is called 'siesta'; installed: ase, castep, ",
        ),
        (
            "reference:\n",
            "reference:\n  quantumespresso: {code: pw@localhost, pseudos: x, kpoint_spacing: 0.05, parameters: {}}\n",
            "reference",
            "exactly one of: ase, castep, quantumespresso",
        ),
        ("  search:\n", "  isolated_atom_box: 4.0\n  search:\n", "settings.isolated_atom_box", "greater than or equal to 6"),
        ('"cutoff": 4.5', '"cutoff": 15.5', "settings.isolated_atom_box", "must exceed the cutoff"),
        ("kind", "kined", "settings.fit.descriptors.0", ""),
    ],
)
def test_one_fault(check, old, new, where, message):
    faults = check((old, new))
    assert isinstance(faults, list), "not refused"
    assert any(w.startswith(where) and message in m for w, m, _ in faults), faults


def test_bad_syntax_names_its_line(tmp_path):
    with pytest.raises(ConfigError, match=r"line [34]: not readable as YAML"):
        check_campaign("name: a\nseed: 1\nreference: {ase: \nsettings: ]\n", tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="expected keys and values"):
        check_campaign("- a\n- b\n", tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match=r"line 2.*seed"):
        check_campaign("seed: 1\nseed: 2\n", tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="expected keys and values"):
        check_campaign("", tmp_path / "a.yaml")


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_campaign(tmp_path / "absent.yaml")


def test_files_beside_the_campaign(tmp_path, campaign_text):
    start = campaign_text.index("reference:")
    reference = """reference:
  quantumespresso:
    code: pw@localhost
    pseudos: {B: absent.upf}
    kpoint_spacing: 0.05
    parameters: {SYSTEM: {ecutwfc: 30}}
"""
    text = campaign_text[:start] + reference + campaign_text[campaign_text.index("settings:") :]
    with pytest.raises(ConfigError) as caught:
        check_campaign(text, tmp_path / "a.yaml")
    messages = " | ".join(str(fault) for fault in caught.value.faults)
    assert "line 6, reference.quantumespresso.pseudos.B: no such file" in messages
    assert "no pseudopotential for Si" in messages


def test_codes_that_do_not_exist(check):
    with pytest.raises(ConfigError) as caught:
        builder_inputs(check(("settings:\n", "codes: {gap_fit: a@localhost, python: b@localhost}\nsettings:\n")))
    faults = {fault.where: fault.message for fault in caught.value.faults}
    assert set(faults) == {"codes.gap_fit", "codes.python"}
    assert "no code 'a@localhost' in this profile" in faults["codes.gap_fit"]
    assert "aiida-gaprss setup" in faults["codes.gap_fit"]
    assert "quippy-ase" in faults["codes.python"]


def test_inputs(check, campaign_codes):
    python, gap_fit = campaign_codes
    inputs = builder_inputs(check())
    assert inputs["fit"]["code"].pk == gap_fit.pk
    assert inputs["label"]["ase"]["code"].pk == inputs["relax"]["code"].pk == python.pk
    assert inputs["seed"].value == 11
    assert inputs["name"].value == inputs["metadata"]["label"] == "tiny"


def test_protocols():
    assert "quick" in PROTOCOLS.names()
    base = PROTOCOLS.load("quick")
    assert complete("quick", {"search": {"label": 1}})["search"]["cells"] == base["search"]["cells"]
    changed = complete("quick", {"initial": {"other": 3}})
    assert changed["initial"] == {"other": 3}, "counts of other kinds of cells would not fit the new ones"
    assert base == PROTOCOLS.load("quick")
    with pytest.raises(ValueError, match=r"unknown protocol 'slow'; known: .*quick"):
        PROTOCOLS.load("slow")


def test_seeds_of_the_stages():
    stages = [(1, 0, "cells"), (1, 1, "cells"), (1, 0, "fit"), (2, 0, "cells")]
    seeds = [stage_seed(*stage) for stage in stages]
    assert len(set(seeds)) == len(seeds)
    assert all(0 < seed < 2**31 for seed in seeds)
    assert seeds == [stage_seed(*stage) for stage in stages]


RANDOM_SEED = """\
      n_atoms: [2, 3]
      volume_per_atom: [17.0, 24.0]
      min_separation: 2.1
      n_operations: [1, 2]
"""


def other_seed(text):
    """Replace the one seed by another with another name: settings of the same name are merged into the protocol's."""
    counts = [(f"{key}: {{random: {n}}}", f"{key}: {{other: {n}}}") for key, n in (("initial", 10), ("cells", 6), ("cells", 4))]
    return [("    random:\n" + RANDOM_SEED, "    other:\n" + text), *counts]


def test_the_seed_of_airss_is_read_from_its_file(check, tmp_path):
    by_file = other_seed("      kind: airss\n      file: si.cell\n")
    ((where, message, line),) = check(*by_file)
    assert where == "settings.seeds.other.file"
    assert "si.cell: no such file" in message
    assert line == "file: si.cell"
    text = "#VARVOL=20\n#SPECIES=Si\n#NFORM=2-3\n#MINSEP=1.7\n"
    (tmp_path / "si.cell").write_text(text)
    campaign = check(*by_file)
    assert campaign.settings.seeds["other"].text == text
    assert campaign.settings.min_separation == 1.7
    (tmp_path / "si.cell").write_text(text.replace("#MINSEP", "#MINSEPARATION"))
    ((where, message, _),) = check(*by_file)
    assert where == "settings.seeds.other"
    assert "line 4: unknown tag #MINSEPARATION" in message


def test_faults_of_a_kind_of_seed(check):
    ((where, message, line),) = check(*other_seed("      kind: fragments\n      fragment: B12\n"))
    assert where == "settings.seeds.other"
    assert "the element B is not in the formula of the campaign (Si)" in message
    assert line == "other:"
    faults = check((RANDOM_SEED, RANDOM_SEED.replace("[17.0, 24.0]", "{Si: 20}")))
    assert [fault[0] for fault in faults] == ["settings.seeds.random.volume_per_atom.Si"]
