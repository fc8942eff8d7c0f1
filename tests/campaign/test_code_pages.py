"""The complete files of the pages docs/codes/*.md: what ``run --check`` says of them is what the pages show."""

import re
from pathlib import Path

import pytest
import recorded
from click.testing import CliRunner

from aiida_gaprss.cli import cli
from aiida_gaprss.settings.computer import ComputerSettings
from aiida_gaprss.settings.yamlfile import load

PAGES = Path(__file__).parents[2] / "docs" / "codes"
NAMES = ("castep", "quantumespresso", "vasp")


def file_of(name, file):
    """A file of a page, whose first line is its name."""
    (found,) = re.findall(rf"```yaml\n(# {re.escape(file)}\n.*?)```", (PAGES / f"{name}.md").read_text(encoding="utf-8"), re.S)
    return found


@pytest.fixture
def cluster(aiida_code_installed, aiida_localhost):
    """What ``setup --computer hpc.yaml`` and the commands of the pages leave in a profile, on this machine."""
    for label, plugin in (("vasp", "vasp.vasp"), ("castep", "castep.castep"), ("pw", "quantumespresso.pw")):
        aiida_code_installed(
            label=label, computer=aiida_localhost, default_calc_job_plugin=plugin, filepath_executable="/bin/true"
        )


def potentials_of(name, folder):
    """Install the pseudopotentials that a page tells to."""
    if name == "vasp":
        from aiida_vasp.data.potcar import PotcarData

        (folder / "PBE.64" / "Si").mkdir(parents=True)
        (folder / "PBE.64" / "Si" / "POTCAR").write_text(recorded.potcar("Si"))
        PotcarData.upload_potcar_family(folder / "PBE.64", "PBE.64", "for tests", stop_if_existing=False)
    elif name == "quantumespresso":
        pytest.importorskip("aiida_pseudo", reason="needs pip install 'aiida-gaprss[qe]'")
        from aiida_pseudo.data.pseudo import UpfData
        from aiida_pseudo.groups.family import SsspFamily

        (folder / "sssp").mkdir()
        (folder / "sssp" / "Si.upf").write_text('<UPF version="2.0.1">\n<PP_HEADER element="Si" z_valence="4.0"/>\n</UPF>\n')
        label = "SSSP/1.3/PBE/efficiency"
        if not SsspFamily.collection.find({"label": label}):
            SsspFamily.create_from_folder(folder / "sssp", label, pseudo_type=UpfData)
    else:
        pytest.importorskip("aiida_castep", reason="needs numpy below 2")


@pytest.mark.parametrize("name", NAMES)
def test_computer(name, tmp_path):
    (tmp_path / "hpc.yaml").write_text(file_of(name, "hpc.yaml"))
    computer = load(tmp_path / "hpc.yaml", ComputerSettings, "")
    assert computer.scheduler == "core.slurm"
    code = re.search(r"code: (\w+)@hpc", file_of(name, "campaign.yaml"))[1]
    assert list(computer.codes) == [code]
    assert (computer.codes[code].plugin, computer.label) == ({"pw": "quantumespresso.pw"}.get(code, f"{code}.{code}"), "hpc")


@pytest.mark.parametrize("name", NAMES)
def test_campaign_passes_its_check(name, cluster, campaign_codes, tmp_path):
    """Here all codes are those of this machine, which has less memory than a node of the page."""
    potentials_of(name, tmp_path)
    text = file_of(name, "campaign.yaml").replace("@hpc", "@localhost")
    (tmp_path / "campaign.yaml").write_text(text)
    result = CliRunner().invoke(cli, ["run", str(tmp_path / "campaign.yaml"), "--check"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    shown = re.search(r"^campaign\.yaml: good; .*\n(?:  .*\n)+", page, re.M)[0].splitlines()
    said = [line.replace(f"{tmp_path}/", "") for line in result.output.splitlines()]
    for line in shown:
        if not re.match(r"  (runs|line) |campaign", line):  # whose paths and names of codes are those of the cluster
            assert line in said, line
    assert re.search(r"at most \d+ labels", shown[0])[0] in result.output
