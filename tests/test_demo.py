"""The demo as a user runs it: diamond is found from random cells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

#: The command, with the campaign of another file.
COMMAND = """
import sys
from pathlib import Path
from aiida_gaprss.cli import campaign, main
assert (campaign.EXAMPLES / "silicon_sw.yaml").is_file()
campaign.EXAMPLES = Path({folder!r})
main()
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(tmp_path):
    """Run the demo in a folder, without an AiiDA; return its report and what it prints."""

    def demo(*command):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AIIDA")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        command = [*command, "demo", "--seed", "1", "--folder", tmp_path / "demo"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=2400, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = tmp_path / "demo" / "report-seed1"
        assert f"Report: {folder / 'index.html'}" in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["demo"], "nothing is left outside of the folder"
        return json.loads((folder / "report.json").read_text()), done.stdout

    return demo


@pytest.mark.full
@pytest.mark.timeout(2400)
def test_demo_finds_diamond(demo):
    report, _ = demo("aiida-gaprss")
    lowest = report["minima"][0]
    # Stillinger and Weber, PRB 31, 5262: -2 epsilon per atom, epsilon = 2.1675 eV.
    assert lowest["space_group"] == 227
    assert lowest["E_ref_eV/atom"] == pytest.approx(-2 * 2.1675, abs=0.002)
    assert abs(lowest["E_pred-E_ref_meV/atom"]) <= 10
    assert report["labelled_frames"] + sum(row["E_ref_eV/atom"] is not None for row in report["minima"]) <= 300


def test_the_command_on_a_tiny_campaign(demo, campaign_text, tmp_path_factory):
    """All that the demo does, with cells so few that they find something else."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "silicon_sw.yaml").write_text(campaign_text)
    report, said = demo(sys.executable, "-c", COMMAND.format(folder=str(folder)))
    assert report["seed"] == 1
    assert "seed: 11" in campaign_text, "the option goes before the file"
    assert "AiiDA lives in" in said
    assert [row["tag"] for row in report["generations"]] == ["g00", "g01", "search"]
    assert 11 < report["labelled_frames"] <= 17
    energies = [row["E_ref_eV/atom"] for row in report["minima"][:1]]
    assert energies == [pytest.approx(-4.0, abs=0.4)], "no lower than diamond, and bound"
    assert energies[0] > -2 * 2.1675 - 1e-6
