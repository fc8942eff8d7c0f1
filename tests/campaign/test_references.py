"""Campaign files with the DFT codes: the examples of the documentation, what they become, and every fault with its line."""

import importlib.util

import pytest
import recorded
from helpers import REFERENCES

from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.reference import per_frame
from aiida_gaprss.settings.yamlfile import ConfigError

needs_castep = pytest.mark.skipif(importlib.util.find_spec("aiida_castep") is None, reason="aiida-castep needs Python below 3.12")


@pytest.fixture
def check(dft_campaign_text, tmp_path):
    """Check the example of a code in a small campaign on SiC, with some of its text replaced."""

    def check(name, *replacements):
        return check_campaign(dft_campaign_text(name, *replacements), tmp_path / "a.yaml")

    return check


@pytest.fixture
def faults_of(check):
    """Return the faults of a campaign file by their place."""

    def faults_of(name, *replacements):
        with pytest.raises(ConfigError) as caught:
            builder_inputs(check(name, *replacements))
        return {fault.where: fault for fault in caught.value.faults}

    return faults_of


@pytest.fixture
def cluster(campaign_codes, aiida_code_installed, aiida_localhost, tmp_path):
    """The codes and the potentials that the examples name."""
    from aiida_vasp.data.potcar import PotcarData

    codes = {}
    for name in ("castep", "vasp"):
        codes[name] = aiida_code_installed(
            label=name, computer=aiida_localhost, default_calc_job_plugin=f"{name}.{name}", filepath_executable="/bin/true"
        )
    for name in ("C_h", "Si"):
        (tmp_path / "PBE.64" / name).mkdir(parents=True)
        (tmp_path / "PBE.64" / name / "POTCAR").write_text(recorded.potcar(name))
    PotcarData.upload_potcar_family(tmp_path / "PBE.64", "PBE.64", "for tests", stop_if_existing=False)
    return codes


def local(name):
    return (f"{name}@cluster", f"{name}@localhost")


# --- the examples ---


def test_every_code_has_an_example():
    assert sorted(REFERENCES) == per_frame()


@pytest.mark.parametrize("name", REFERENCES)
def test_examples(check, name):
    campaign = check(name)
    assert campaign.config.reference.per_frame[0] == name
    assert len(campaign.config.reference.per_frame[1].retries) >= 1


@needs_castep
def test_castep_inputs(check, cluster):
    inputs = builder_inputs(check("castep", local("castep")))["label"]["castep"]
    assert inputs["code"].pk == cluster["castep"].pk
    assert inputs["parameters"]["cut_off_energy"] == 600
    assert inputs["retries"].get_list() == [{"mix_charge_amp": 0.2, "max_scf_cycles": 300}, {"elec_method": "edft"}]
    assert inputs["isolated_parameters"]["spin"] == 2
    assert inputs["options"]["max_wallclock_seconds"] == 3600
    assert {symbol: node.entry for symbol, node in inputs["pseudos"].items()} == {
        "Si": "C19",
        "C": "C 2|1.4|10|12|13|20:21(qc=7)",
    }
    again = builder_inputs(check("castep", local("castep")))["label"]["castep"]["pseudos"]
    assert {node.pk for node in again.values()} == {node.pk for node in inputs["pseudos"].values()}, "one node of each"


@needs_castep
def test_castep_families_and_files(check, cluster, tmp_path, faults_of):
    from aiida_castep.data.otfg import upload_otfg_family

    upload_otfg_family(["C19", "Si 3|1.8|5|6|7|30:31:32"], "mine", "for tests", stop_if_existing=False)
    given = '{Si: C19, C: "2|1.4|10|12|13|20:21(qc=7)"}'
    inputs = builder_inputs(check("castep", local("castep"), (given, "mine")))["label"]["castep"]
    assert {symbol: node.string for symbol, node in inputs["pseudos"].items()} == {"Si": "3|1.8|5|6|7|30:31:32", "C": "C19"}

    (tmp_path / "C_00.usp").write_text("not a pseudopotential\n")
    inputs = builder_inputs(check("castep", local("castep"), (given, "{Si: C19, C: C_00.usp}")))["label"]["castep"]
    assert inputs["pseudos"]["C"].filename == "C_00.usp"
    assert inputs["pseudos"]["C"].element == "C"
    found = faults_of("castep", local("castep"), (given, "{Si: C_00.usp, C: Si 3|1.8|5}"))
    assert set(found) == {"reference.castep.pseudos.Si", "reference.castep.pseudos.C"}
    assert "not of C" in found["reference.castep.pseudos.C"].message


def test_vasp_inputs(check, cluster):
    inputs = builder_inputs(check("vasp", local("vasp")))["label"]["vasp"]
    assert inputs["code"].pk == cluster["vasp"].pk
    assert inputs["potential_family"].value == "PBE.64"
    assert inputs["potential_mapping"].get_dict() == {"Si": "Si", "C": "C_h"}
    assert inputs["parameters"]["ENCUT"] == 500
    assert inputs["kpoint_spacing"].value == 0.03


def test_quantumespresso_inputs(check, campaign_codes, aiida_code_installed, aiida_localhost, tmp_path, faults_of):
    pytest.importorskip("aiida_pseudo", reason="needs pip install 'aiida-gaprss[qe]'")
    aiida_code_installed(
        label="pw", computer=aiida_localhost, default_calc_job_plugin="quantumespresso.pw", filepath_executable="/bin/true"
    )
    for symbol in ("Si", "C"):
        text = f'<UPF version="2.0.1">\n<PP_HEADER element="{symbol}" z_valence="4.0"/>\n</UPF>\n'
        (tmp_path / f"{symbol}.upf").write_text(text)
    files = ("SSSP/1.3/PBE/efficiency", "{Si: Si.upf, C: C.upf}")
    inputs = builder_inputs(check("quantumespresso", files))["label"]["quantumespresso"]
    assert {symbol: node.element for symbol, node in inputs["pseudos"].items()} == {"Si": "Si", "C": "C"}
    assert inputs["parameters"]["SYSTEM"]["ecutwfc"] == 60
    assert inputs["retries"].get_list() == [{"ELECTRONS": {"mixing_beta": 0.2, "electron_maxstep": 200}}]
    assert inputs["isolated_parameters"].get_dict() == {"SYSTEM": {"degauss": 0.001}}

    found = faults_of("quantumespresso", ("SSSP/1.3/PBE/efficiency", "{Si: C.upf, C: C.upf}"), ("ecutwfc: 60, ", ""))
    assert found["reference.quantumespresso.pseudos.Si"].message == "C.upf is a pseudopotential of C, not of Si"
    assert "ecutwfc (Ry) must be given" in found["reference.quantumespresso.parameters"].message
    found = faults_of("quantumespresso")
    assert "no pseudopotential family 'SSSP/1.3/PBE/efficiency'" in found["reference.quantumespresso.pseudos"].message


# --- faults ---


@needs_castep
def test_all_faults_of_castep_at_once(faults_of, campaign_codes):
    found = faults_of(
        "castep",
        ("kpoint_spacing: 0.03", "kpoint_spacing: 0.03\n    max_iterations: 2"),
        ("cut_off_energy: 600", "cut_off_energy: 600 eV"),
        ("{Si: C19, C: ", "{Si: C19, B: "),
    )
    assert set(found) == {"reference.castep.pseudos"}, "without a pseudopotential the file itself is wrong"
    found = faults_of(
        "castep",
        ("cut_off_energy: 600", "cut_off_energy: 600 eV"),
        ("Si: C19", "Si: B 2|1.4"),
        ("{elec_method: edft}", "{cut_off_energy: 500, smearing_width: 0.3}"),
    )
    places = ("code", "parameters", "pseudos.Si", "retries.1")
    assert set(found) == {f"reference.castep.{place}" for place in places}
    assert "verdi code create" in found["reference.castep.code"].message
    assert "cut_off_energy must be a positive number (eV), got '600 eV'" in found["reference.castep.parameters"].message
    assert "cut_off_energy, smearing_width would change the level" in found["reference.castep.retries.1"].message
    assert len({fault.line for fault in found.values()}) == 4


@needs_castep
def test_a_retry_of_another_level(faults_of, cluster):
    found = faults_of("castep", local("castep"), ("{elec_method: edft}", "{smearing_width: 0.3}"))
    fault = found["reference.castep.retries.1"]
    assert fault.message.startswith("smearing_width would change the level of theory")
    lines = REFERENCES["castep"].splitlines()
    # The small campaign has two lines (name, seed) above its reference.
    assert "elec_method" in lines[fault.line - 3]


def test_retries_of_pw(check):
    given = "- ELECTRONS: {mixing_beta: 0.2, electron_maxstep: 200}"
    found = check("quantumespresso", (given, "- {SYSTEM: {degauss: 0.05}, other_level: true}"))
    assert found.config.reference.settings.retries[0]["other_level"] is True
    with pytest.raises(ConfigError, match=r"retries\.0\.ELECTRONS: expected a namelist of pw.x, keys and values \(got 3\)"):
        check("quantumespresso", (given, "- ELECTRONS: 3"))


def test_faults_of_vasp(faults_of, cluster):
    found = faults_of("vasp", local("vasp"), ("ENCUT: 500, ", "MAGMOM: 1, "))
    assert "MAGMOM must not be given for all cells" in found["reference.vasp.parameters"].message
    found = faults_of("vasp", local("vasp"), ("PBE.64", "PBE.65"))
    assert "no family 'PBE.65' in this profile" in found["reference.vasp.potential_family"].message
    found = faults_of("vasp", local("vasp"), ("PBE.64", "PBE.65"), ("C: C_h", "B: B"), ("{ALGO: All,", "{SIGMA: 0.2,"))
    assert set(found) == {f"reference.vasp.{place}" for place in ("potential_family", "potential_mapping", "retries.0")}
    found = faults_of("vasp", local("vasp"), ("C: C_h", "C: Si"))
    assert found["reference.vasp.potential_mapping"].message == "Si is a potential of Si, not of C"


def test_files_that_do_not_exist(check):
    given = '{Si: C19, C: "2|1.4|10|12|13|20:21(qc=7)"}'
    with pytest.raises(ConfigError, match=r"reference.castep.pseudos.C: no such file: .*absent.usp"):
        check("castep", (given, "{Si: C19, C: absent.usp}"))


def test_two_references(campaign_text, tmp_path):
    both = REFERENCES["vasp"] + REFERENCES["castep"].removeprefix("reference:\n")
    start, end = campaign_text.index("reference:"), campaign_text.index("settings:")
    with pytest.raises(ConfigError, match="give exactly one of: ase, castep, quantumespresso, vasp"):
        check_campaign(campaign_text[:start] + both + campaign_text[end:], tmp_path / "a.yaml")


def test_bundles(check, cluster, campaign_text, tmp_path):
    campaign = check("quantumespresso", ("reference:", "bundle: {frames_per_job: 20, options: {processes: 8}}\nreference:"))
    assert campaign.config.bundle.frames_per_job == 20
    with pytest.raises(ConfigError, match="greater than 0"):
        check("quantumespresso", ("reference:", "bundle: {frames_per_job: 0}\nreference:"))
    with pytest.raises(ConfigError, match="frames of an ASE calculator go into one job anyway"):
        check_campaign(campaign_text + "bundle: {}\n", tmp_path / "ase.yaml")
