"""``aiida-gaprss run --check``: what it tells of a campaign, and what it refuses, before anything runs."""

import re

import pytest
from aiida.orm import Dict
from aiida.plugins import CalculationFactory
from ase import Atoms
from ase.build import bulk
from ase.io import write
from click.testing import CliRunner

from aiida_gaprss.campaign.file import check_campaign
from aiida_gaprss.campaign.inputs import builder_inputs
from aiida_gaprss.cli import cli
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.settings.yamlfile import ConfigError


@pytest.fixture
def check(campaign_text, campaign_codes, tmp_path):
    """Check the tiny campaign with some of its text replaced; return what is printed, or the faults by their place."""

    def check(*replacements, more="", change=str):
        text = change(campaign_text)
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "campaign.yaml").write_text(text + more)
        result = CliRunner().invoke(cli, ["run", str(tmp_path / "campaign.yaml"), "--check"])
        if isinstance(result.exception, ConfigError):
            return {fault.where: fault.message for fault in result.exception.faults}
        assert result.exit_code == 0, result.output + repr(result.exception)
        return result.output

    return check


@pytest.fixture
def elsewhere(aiida_code_installed, aiida_computer):
    """Return a python on another computer, which is configured."""
    computer = aiida_computer(label="cluster", hostname="cluster.invalid", transport_type="core.ssh", scheduler_type="core.slurm")
    computer.configure()
    return aiida_code_installed(
        label="python", computer=computer, default_calc_job_plugin="gaprss.label", filepath_executable="/opt/python"
    )


def test_what_would_run(check):
    text = check(more='options: {fit: {prepend_text: "touch here\\nmodule load x", threads: 1}, label: {processes: 2}}\n')
    first, *rest = text.splitlines()
    assert first.endswith("good; campaign tiny, at most 19 labels")
    assert "  line      prepend_text of options: touch here" in rest
    assert "  line      prepend_text of options: module load x" in rest
    assert sum(line.startswith("  runs ") for line in rest) == 3
    assert any("labels by quippy.potential.Potential: gaprss-python@localhost" in line for line in rest)
    assert any(line.startswith("  cells     random: Si") for line in rest)
    assert any("last, of up to 19 frames: about " in line for line in rest)


def test_core_hours(check, run, python_code):
    """They are told once the profile has labels of this calculator, and not before; a budget that doubles doubles them."""
    emt = re.compile(r"  ase:.*?(?=^\S)", re.S | re.M)
    others = "  ase: {calculator: emt, arguments: {asap_cutoff: true}}\n"

    def changes(text):
        return emt.sub(others, text).replace("Si: 1", "Cu: 1")

    assert "core-hours" not in check(change=changes)
    for number, size in enumerate((1, 2, 3, 4)):
        frames = [bulk("Cu").repeat((size, 1, 1)) for _ in range(2)]
        for copy, atoms in enumerate(frames):
            atoms.info["frame_id"] = f"x{number}-{copy}"
            atoms.rattle(0.01, seed=copy)
        settings = {"calculator": "emt", "arguments": {"asap_cutoff": True}}
        _, node = run(CalculationFactory("gaprss.label"), code=python_code, frames=Dataset(frames), settings=Dict(settings))
        assert node.is_finished_ok, node.exit_message
    told = re.search(r"  cost +(\S+) \(\S+–\S+\) core-hours for all labels, .* on (\d+) times of labels", check(change=changes))
    assert int(told[2]) == 4
    more = re.search(r"  cost +(\S+) ", check(change=lambda text: changes(text).replace("{random: 10}", "{random: 29}")))
    assert float(more[1]) == pytest.approx(2 * float(told[1]), rel=0.15)


def test_texts_of_a_stranger_do_not_act(check):
    text = check(more='options: {fit: {prepend_text: "echo [bold]a[/]\\u202e"}}\n')
    assert "echo [bold]a[/]\\u202e" in text


def test_nodes_of_other_kinds(check, dataset, aiida_profile):
    from aiida.orm import Int

    other = Int(1).store()
    dataset.store()
    faults = check(
        ("settings:\n", f"start: {{database: [{other.pk}, 987654, no-such-label], relabel: [{other.uuid}]}}\nsettings:\n"),
        more=f"codes: {{gap_fit: gaprss-python@localhost, python: '{other.uuid}', label_python: gap_fit@localhost}}\n",
    )
    assert faults["start.database.0"] == f"<{other.pk}> is a Int, expected a dataset, a campaign, a database or a fit"
    assert "no dataset, campaign, database or fit 987654" in faults["start.database.1"]
    assert "no dataset, campaign, database or fit 'no-such-label'" in faults["start.database.2"]
    assert "is a Int" in faults["start.relabel.0"]
    assert "is a code for gaprss.label, expected one for gaprss.fit" in faults["codes.gap_fit"]
    assert "is a code for gaprss.fit, expected one for gaprss.label, a python" in faults["codes.label_python"]
    assert "codes.python" in faults


def test_datasets_of_another_level_or_element(check, dataset, silicon_frames):
    from aiida_gaprss.data.dataset import Dataset

    dataset.store()
    germanium = Atoms("Ge2", positions=[[0, 0, 0], [0, 0, 2.4]], cell=[9] * 3, pbc=True, info={"frame_id": "a"})
    strange = Dataset([germanium]).store()
    start = f"start: {{database: [{dataset.pk}], relabel: [{strange.pk}]}}\nsettings:\n"
    faults = check(("settings:\n", start))
    assert faults.pop("start.relabel.0") == f"<{strange.pk}> contains Ge, which the formula does not"
    assert list(faults) == ["start.database.0"]
    start = f"start: {{database: [{dataset.pk}]}}\nsettings:\n"
    assert "was labelled at another level of theory: " in check(("settings:\n", start))["start.database.0"]
    mixed = ("  fit: {", '  fit: {"mixed_levels": true, ')
    assert "good" in check(("settings:\n", start), mixed)


def test_crystals(check, tmp_path):
    write(tmp_path / "ge.cif", bulk("Ge"))
    (tmp_path / "broken.cif").write_text("data_\nloop_\n_atom_site\n1 2 3")
    write(tmp_path / "si.xyz", [bulk("Si")] * 1001)
    faults = check(more="targets: [ge.cif, broken.cif, si.xyz]\n")
    assert "contains Ge, which the formula does not (Si)" in faults["targets.0"]
    assert "broken.cif holds 0 structures" in faults["targets.1"]
    assert "holds 1001 structures, expected 1 to 1000" in faults["targets.2"]


def test_calculators(check, elsewhere):
    calculator = "calculator: quippy.potential.Potential"
    faults = check((calculator, "calculator: no_such.Calculator"))
    assert (
        "no_such.Calculator is not installed in the environment of gaprss-python@localhost" in faults["reference.ase.calculator"]
    )
    assert "is no ASE calculator but a function" in check((calculator, "calculator: ase.io.read"))["reference.ase.calculator"]
    there = "codes: {label_python: python@cluster}\n"
    text = check((calculator, "calculator: no_such.Calculator"), more=there)
    assert "  remark    no_such.Calculator is not installed here; needed on cluster" in text
    assert "is no ASE calculator" in check((calculator, "calculator: ase.io.read"), more=there)["reference.ase.calculator"]


def test_a_calculator_that_lines_of_the_job_make_reachable(check, tmp_path):
    """It may be there for the job: these lines are not run by a check."""
    lines = f"touch {tmp_path}/ran; export PYTHONPATH=/opt/mine"
    text = check(
        ("calculator: quippy.potential.Potential", "calculator: no_such.Calculator"),
        more=f'options: {{label: {{prepend_text: "{lines}"}}}}\n',
    )
    assert "  remark    no_such.Calculator is not found here without the prepend_text of its job" in text
    assert not (tmp_path / "ran").exists()


def test_resources_and_computers(check, elsewhere):
    from aiida.orm import Computer, InstalledCode

    there = "codes: {python: python@cluster}\noptions: {relax: {resources: {num_machines: 2, tot_num_mpiprocs: 3}}}\n"
    assert "core.slurm on cluster refuses" in check(more=there)["options.relax.resources"]
    far = Computer("far", "far.invalid", transport_type="core.ssh", scheduler_type="core.slurm", workdir="/tmp").store()
    InstalledCode(label="python", computer=far, filepath_executable="/opt/python").store()
    assert "verdi computer configure core.ssh far" in check(more="codes: {python: python@far}\n")["codes.python"]


def test_programs_that_are_not_there(check, aiida_code_installed, aiida_localhost):
    aiida_code_installed(
        label="gone", computer=aiida_localhost, default_calc_job_plugin="gaprss.fit", filepath_executable="/no/gap_fit"
    )
    faults = check(more="codes: {gap_fit: gone@localhost}\n")
    assert faults == {"codes.gap_fit": "gone@localhost: /no/gap_fit is not an executable file"}


def test_faults_of_file_and_profile_together(check):
    faults = check(("min_separation: 2.1", "min_separation: 4.5"), more="codes: {gap_fit: nowhere@localhost}\n")
    assert set(faults) == {"settings.seeds.random", "codes.gap_fit"}


def test_no_fault_hides_another(check):
    """Of the file: a key, a seed, a code; of the profile: a calculator, a code, a dataset, resources."""
    faults = check(
        ("min_separation: 2.1", "min_separation: 4.5"),
        ("calculator: quippy.potential.Potential", "calculator: no_such.Calculator"),
        more="sead: 1\ncodes: {python: 3, gap_fit: nowhere@localhost}\nstart: {database: [987654], relabel: no}\n"
        "options: {label: {resources: {num_machines: 1, cores: 2}}, relax: {processes: many}}\n",
    )
    of_profile = {"reference.ase.calculator", "codes.gap_fit", "start.database.0", "options.label.resources"}
    of_file = {"settings.seeds.random", "sead", "codes.python", "start.relabel", "options.relax.processes"}
    assert set(faults) == of_file | of_profile
    faults = check(("reference:\n", "reference:\n  siesta: {}\n"), more="codes: {gap_fit: nowhere@localhost}\n")
    assert set(faults) == {"reference", "reference.siesta", "codes.gap_fit"}
    faults = check(("formula: {Si: 1}", "formula: {Sj: 1}"), more="codes: {gap_fit: nowhere@localhost}\n")
    assert {"settings.formula.Sj", "codes.gap_fit"} <= set(faults)


def test_cells_that_cannot_be_made(check):
    close = ("volume_per_atom: [17.0, 24.0]", "volume_per_atom: [8.0, 8.1]"), ("min_separation: 2.1", "min_separation: 2.24")
    faults = check(*close)
    assert "settings.seeds.random" in faults or "cells are hard to make" in faults


def test_memory_of_fits(check):
    faults = check(more="options: {fit: {max_memory_kb: 1000}}\n")
    assert "the first fit needs about" in faults["settings.fit"]
    assert "options.fit gives 1 MB" in faults["settings.fit"]
    longer = ("  generations:\n", "  max_generations: 500\n  generations:\n")
    faults = check(longer, more="options: {fit: {max_memory_kb: 40000}}\n")
    assert re.search("the last fit needs about .* options.fit gives 40 MB: .* or say adapt: true", faults["settings.fit"])
    text = check(longer, more="options: {fit: {max_memory_kb: 40000}}\nadapt: true\n")
    assert "  remark    the last fit needs about" in text
    assert "it will be adapted" in text


def test_a_campaign_whose_last_fit_is_too_large_does_not_begin(campaign_codes, campaign_text, tmp_path):
    """Not only the check tells: nothing is paid for on the way to it."""
    text = campaign_text.replace("  generations:\n", "  max_generations: 500\n  generations:\n")
    text += "options: {fit: {max_memory_kb: 40000}}\n"
    with pytest.raises(ConfigError, match=r"settings\.fit: the last fit needs about"):
        builder_inputs(check_campaign(text, tmp_path / "a.yaml"))
    builder_inputs(check_campaign(f"{text}adapt: true\n", tmp_path / "a.yaml"))
