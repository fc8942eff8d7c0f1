"""The demo as a user runs it: diamond is found from random cells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_demo_finds_diamond(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AIIDA")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["aiida-gaprss", "demo", "--seed", "1", "--folder", tmp_path / "demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=2400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "demo" / "report-seed1"
    report = json.loads((folder / "report.json").read_text())
    lowest = report["minima"][0]
    # Stillinger and Weber, PRB 31, 5262: -2 epsilon per atom, epsilon = 2.1675 eV.
    assert lowest["space_group"] == 227
    assert lowest["E_ref_eV/atom"] == pytest.approx(-2 * 2.1675, abs=0.002)
    assert abs(lowest["E_pred-E_ref_meV/atom"]) <= 10
    assert report["labelled_frames"] + sum(row["E_ref_eV/atom"] is not None for row in report["minima"]) <= 300
    assert f"Report: {folder / 'index.html'}" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["demo"], "nothing is left outside of the folder"
