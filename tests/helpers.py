"""What several test modules call."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from click.testing import CliRunner

from aiida_gaprss import frames as fr
from aiida_gaprss.cli import cli
from aiida_gaprss.io.extxyz import extxyz_text
from aiida_gaprss.runners import FOLDER, scripts_of

#: A fit of a second or two.
FIT = {
    "descriptors": [
        {"kind": "distance_2b", "cutoff": 4.5, "n_sparse": 10},
        {"kind": "soap", "cutoff": 4.5, "n_max": 4, "l_max": 3, "n_sparse": 20, "delta": 0.5},
    ],
    "sigma": {"energy": 0.005, "forces": 0.05, "virial": 0.05},
    "config_type_sigma": {"isolated_atom": {"energy": 0.0001, "forces": 0.01, "virial": 1.0}},
}

#: The examples of references in the documentation, by their names.
REFERENCES = {
    re.search(r"^  (\w+):", text, re.MULTILINE)[1]: text
    for text in re.findall(
        r"```yaml\n(reference:.*?)```", (Path(__file__).parents[1] / "docs" / "references.md").read_text("utf-8"), re.DOTALL
    )
}


def call(*words: object, ok: bool = True) -> str:
    """Call the command within the loaded profile; return its output.

    :param ok: whether it is to succeed.
    """
    result = CliRunner().invoke(cli, [str(word) for word in words], env={"COLUMNS": "200"})
    message = result.output + ("" if result.exception is None else f"{result.exception}")
    assert (result.exit_code == 0) == ok, message
    return message


def shell_in(folder, **variables):
    """Return a function that runs commands in a folder with an AiiDA of its own there, and returns what they print."""
    (folder / "aiida").mkdir()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("AIIDA")},
        "AIIDA_PATH": str(folder / "aiida"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
        **variables,
    }

    def shell(*command, check=True):
        done = subprocess.run(
            [str(c) for c in command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        text = done.stdout + done.stderr
        assert done.returncode == 0 or not check, f"{command}: {text}"
        return text

    return shell


def prepare_batch(folder, task, frames, settings, extra=None):
    """Fill a folder as a CalcJob does; ``extra`` are further modules, for example a calculator that misbehaves."""
    folder.mkdir()
    for script in scripts_of(task):
        (folder / f"{script}.py").write_text((FOLDER / f"{script}.py").read_text())
    for script, text in (extra or {}).items():
        (folder / f"{script}.py").write_text(text)
    (folder / "input.extxyz").write_text(extxyz_text(frames))
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


def read_lines(folder):
    """Return the results of a batch by index."""
    path = folder / "results.jsonl"
    lines = [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []
    return {line["index"]: line for line in lines}


def label(atoms, calculator, prefix="REF"):
    """Put the labels of an ASE calculator on a frame, without the package's own runner; an isolated atom has no virial."""
    work = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
    energy, forces = work.get_potential_energy(), work.get_forces()
    virial = None if fr.is_isolated_atom(atoms) else fr.virial_from_stress(work.get_stress(), work.get_volume())
    fr.set_labels(atoms, energy, forces, virial, prefix)


def three_cells():
    """Return the cells that all DFT codes label: two orders of species, compressed, and an isolated atom."""
    scaled = [(0.01, 0, 0), (0.5, 0, 0.25), (0.5, 0.5, 0.5), (0, 0.5, 0.75)]
    cells = {
        "sicsic": Atoms("SiCSiC", scaled_positions=scaled, cell=[2.9, 2.9, 4.1], pbc=True),
        "csi": Atoms("CSi", positions=[(0, 0, 0), (1.75, 1.3, 1.1)], cell=[(2.7, 0, 0), (0.3, 2.6, 0), (0, 0.2, 2.5)], pbc=True),
        "atom": Atoms("Si", cell=[8.0] * 3, pbc=True),
    }
    for name, atoms in cells.items():
        atoms.info.update(frame_id=name, config_type="isolated_atom" if name == "atom" else "random")
    return cells


def assert_labels(cell, energy, forces, pressure, theirs, rel):
    """Compare the labels of one of the three cells with what stands in its output, and with what ASE reads of it.

    :param pressure: GPa, or None for the atom; :param rel: to how much of itself the pressure is printed.
    """
    assert np.allclose(theirs.cell, cell.cell, atol=1e-6), "the output is of this cell"
    assert np.allclose(theirs.positions, sorted_cell(cell).positions, atol=1e-5)
    assert cell.info["REF_energy"] == energy == theirs.get_potential_energy(force_consistent=True)
    assert np.allclose(cell.arrays["REF_forces"], forces)
    assert np.allclose(sorted_cell(cell).arrays["REF_forces"], theirs.get_forces())
    if pressure is None:
        assert "REF_virial" not in cell.info
    else:
        virial = np.trace(cell.info["REF_virial"].reshape(3, 3)) / 3
        assert virial == pytest.approx(pressure / 160.21766 * cell.get_volume(), rel=rel)


def sorted_cell(atoms):
    """Return a cell as codes get it, atoms in the order of atomic numbers."""
    return atoms[np.argsort(atoms.numbers, kind="stable")]


def verdi(*words):
    """Run a command of `verdi` in the profile of the tests and return what it prints."""
    from aiida.cmdline.commands.cmd_verdi import verdi
    from aiida.common.log import configure_logging
    from click.testing import CliRunner

    try:
        done = CliRunner().invoke(verdi, words)
    finally:
        configure_logging(with_orm=True)  # AiiDA's commands take the handler away that stores reports
    assert done.exit_code == 0, done.output
    return done.output


def assert_cats(node):
    """`verdi calcjob inputcat` and `outputcat` show what a job was given and what it printed."""
    assert "Properties=" in verdi("calcjob", "inputcat", str(node.pk))
    assert '"complete": true' in verdi("calcjob", "outputcat", str(node.pk))


#: A potential made by hand: a pair term of copper with three sparse points, as gap_fit writes it.
TINY_SPARSE = "2.0e+00\n2.5e+00\n3.0e+00\n"
TINY_GAP = """<GAP_tiny>
<Potential label="GAP_tiny" init_args="IP GAP label=GAP_tiny"/>
<GAP_params label="GAP_tiny" gap_version="1525123159">
  <GAP_data do_core="F">
    <e0 Z="29" value="-1.50000000000000000E+000"/>
  </GAP_data>
  <gpSparse label="GAP_tiny" n_coordinate="1" fitted="T">
    <gpCoordinates label="GAP_tiny1" dimensions="1" signal_variance="1.0000000000000000" signal_mean=".00000000000000000E+000" \
sparsified="T" n_permutations="1" covariance_type="1" n_sparseX="3" sparseX_filename="gap.xml.sparseX.GAP_tiny1" \
sparseX_md5sum="{md5}">
      <theta>  0.10000000000000000E+001 </theta>
      <descriptor>distance_2b cutoff=4.5 covariance_type=ard_se theta_uniform=1.0 n_sparse=3 delta=1.0 Z1=29 Z2=29</descriptor>
      <permutation i="1">1  </permutation>
      <sparseX i="1" alpha="1.5280312507861066" sparseCutoff="1.0000000000000000"/>
      <sparseX i="2" alpha="-.57318014647468968" sparseCutoff="1.0000000000000000"/>
      <sparseX i="3" alpha="-.38333928001780623" sparseCutoff="1.0000000000000000"/>
    </gpCoordinates>
  </gpSparse>
  <command_line><![CDATA[at_file=train.xyz default_sigma={{0.001 0.02 0.02 1}} gp_file=gap.xml]]></command_line>
</GAP_params>
</GAP_tiny>
"""


def tiny_gap(folder, edit=str, sparse=TINY_SPARSE):
    """Write the potential to a folder, after a change of the text of its xml; return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "gap.xml.sparseX.GAP_tiny1").write_bytes(sparse.encode())
    text = TINY_GAP.format(md5=hashlib.md5(TINY_SPARSE.encode(), usedforsecurity=False).hexdigest())
    (folder / "gap.xml").write_text(edit(text), encoding="utf-8")
    return folder


#: Norm-conserving PBE pseudopotentials of silicon and carbon: good enough for energies and forces that belong together.
LD1 = """&input
  title='{symbol}', zed={number}, rel=1, config='{core} {n}s2 {n}p2', iswitch=3, dft='PBE'
/
&inputp
  pseudotype=1, tm=.true., lloc=1, file_pseudopw='{symbol}.UPF'
/
2
{n}S 1 0 2.00 0.00 {radius} {radius} 0.0
{n}P 2 1 2.00 0.00 {radius} {radius} 0.0
"""


def silicon_and_carbon(folder):
    """Let ld1.x make the pseudopotentials of silicon and carbon; return their nodes by symbol."""
    from aiida_pseudo.data.pseudo.upf import UpfData

    pseudos = {}
    for symbol, number, core, n, radius in (("Si", 14, "[Ne]", 3, 1.9), ("C", 6, "[He]", 2, 1.4)):
        text = LD1.format(symbol=symbol, number=number, core=core, n=n, radius=radius)
        subprocess.run(["ld1.x"], input=text, cwd=folder, check=True, capture_output=True, text=True)
        with (folder / f"{symbol}.UPF").open("rb") as handle:
            pseudos[symbol] = UpfData(handle)
    return pseudos
