"""The script that makes the pseudopotential of the boron example."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "boron_qe" / "make_pseudopotential.py"

UPF = """<UPF version="2.0.1">
  <PP_INFO>
    Author: {author}
    Generation date: {date}
    <PP_INPUTFILE>
&input
    </PP_INPUTFILE>
  </PP_INFO>
  <PP_HEADER author="{author}" date="{date}" element=" B" pseudo_type="PAW" core_correction="true"
   functional=" SLA  PW   PBX  PBC" z_valence="3.0000000000000000"/>
  <PP_MULTIPOLES nbeta="4">
{numbers}
  </PP_MULTIPOLES>
</UPF>
"""
NUMBERS = [f"{number / 7:.16E}" for number in range(60)]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pseudopotential", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raw(author: str = "anonymous", date: str = "21Nov2026") -> str:
    return UPF.format(author=author, date=date, numbers="  ".join(NUMBERS))


def fake_ld1(folder: Path, upf: str | None, status: int = 0) -> Path:
    """Write an executable that behaves like ``ld1.x`` and leaves ``upf`` behind."""
    (folder / "result.UPF").write_text(upf or "")
    program = folder / "ld1.x"
    copy = f"shutil.copy({str(folder / 'result.UPF')!r}, 'B.UPF')" if upf is not None else "pass"
    program.write_text(
        f"#!{sys.executable}\nimport shutil, sys\nassert '&inputp' in sys.stdin.read()\n{copy}\n"
        f"print('Error in routine ld1_setup')\nsys.exit({status})\n"
    )
    program.chmod(0o755)
    return program


def test_mend_gives_short_lines_of_the_same_numbers(script: ModuleType) -> None:
    mended = script.mend(raw())
    assert max(map(len, raw().splitlines())) > script.LONGEST_LINE
    assert max(map(len, mended.splitlines())) <= script.LONGEST_LINE
    multipoles = ElementTree.fromstring(mended).findtext("PP_MULTIPOLES")
    assert multipoles is not None
    assert multipoles.split() == NUMBERS


def test_mend_escapes_once_and_drops_the_stamps(script: ModuleType) -> None:
    mended = script.mend(raw())
    assert "&amp;input" in mended
    assert script.mend(mended) == mended
    assert script.mend(raw(author="somebody", date="1Jan2027")) == mended


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('z_valence="3.0', 'z_valence="5.0', "z_valence is 5.0, not 3.0"),
        ("PBX  PBC", "PBX  PBE", "functional is 'SLA PW PBX PBE', not 'PBE'"),
        ('" B"', '"C"', "element is 'C', not 'B'"),
        ("PP_HEADER", "PP_HEAD", "no PP_HEADER"),
        ("</UPF>", "", "not XML"),
    ],
)
def test_check_names_what_is_wrong(script: ModuleType, old: str, new: str, message: str) -> None:
    good = script.mend(raw())
    script.check(good)
    with pytest.raises(script.PseudopotentialError, match=message):
        script.check(good.replace(old, new))


def test_make_with_a_program_elsewhere(script: ModuleType, tmp_path: Path) -> None:
    path = script.make_pseudopotential(tmp_path / "new" / "pseudo", str(fake_ld1(tmp_path, raw())))
    assert path == tmp_path / "new" / "pseudo" / script.FILE_NAME
    assert path.read_text() == script.mend(raw())


@pytest.mark.parametrize(("upf", "status"), [(None, 0), (raw(), 3)])
def test_a_failed_run_is_shown(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], upf: str | None, status: int
) -> None:
    program = fake_ld1(tmp_path, upf, status)
    assert script.main([str(tmp_path / "pseudo"), "--ld1", str(program)]) == 1
    error = capsys.readouterr().err
    assert f"failed with status {status}" in error
    assert "Error in routine ld1_setup" in error
    assert not (tmp_path / "pseudo").exists()


def test_a_missing_program_is_named(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main([str(tmp_path), "--ld1", "no-such-ld1.x"]) == 1
    assert "apt-get install quantum-espresso" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("ld1.x") is None, reason="ld1.x is not installed")
def test_the_real_program(script: ModuleType, tmp_path: Path) -> None:
    upf_module = pytest.importorskip("aiida_pseudo.data.pseudo.upf")
    first = script.make_pseudopotential(tmp_path / "first").read_text()
    assert upf_module.parse_element(first) == "B"
    assert upf_module.parse_z_valence(first) == 3
    assert script.make_pseudopotential(tmp_path / "second").read_text() == first
