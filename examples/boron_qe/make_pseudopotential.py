"""Make a PBE PAW pseudopotential of boron with ``ld1.x``, so that the example needs no download.

    python make_pseudopotential.py pseudo

``ld1.x`` belongs to Quantum ESPRESSO (Debian and Ubuntu: ``apt-get install quantum-espresso``). The run takes a second.
The potential has three valence electrons, two projectors in each of the s and p channels and a non-linear core
correction. It serves the example; for research take a tested library such as SSSP or PseudoDojo.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

FILE_NAME = "B.pbe-n-paw-ld1.UPF"

LD1_INPUT = """\
&input
  title='B'
  prefix='B'
  zed=5.0
  rel=1
  config='[He] 2s2 2p1 3d-2'
  iswitch=3
  dft='PBE'
/
&inputp
  lpaw=.true.
  pseudotype=3
  file_pseudopw='B.UPF'
  lloc=-1
  rcloc=1.2
  nlcc=.true.
/
4
2S 1 0 2.00 0.00 1.10 1.30 0.0
2S 1 0 0.00 0.50 1.10 1.30 0.0
2P 2 1 1.00 0.00 1.20 1.40 0.0
2P 2 1 0.00 0.50 1.20 1.40 0.0
"""

LONGEST_LINE = 1000
NUMBERS_PER_LINE = 4


class PseudopotentialError(RuntimeError):
    """The pseudopotential could not be made, or what was made is not what was asked for."""


def run_ld1(executable: str) -> str:
    """Run ``ld1.x`` in a temporary folder and return the UPF file as it writes it."""
    with tempfile.TemporaryDirectory(prefix="ld1-") as folder:
        try:
            run = subprocess.run(
                [executable], input=LD1_INPUT, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300
            )
        except subprocess.TimeoutExpired as error:
            raise PseudopotentialError(f"{executable} did not finish within {error.timeout:.0f} s") from error
        except OSError as error:
            raise PseudopotentialError(f"{executable} cannot be run: {error}") from error
        upf = Path(folder, "B.UPF")
        if run.returncode != 0 or not upf.is_file():
            tail = "\n".join((run.stdout + run.stderr).splitlines()[-20:])
            raise PseudopotentialError(f"{executable} failed with status {run.returncode}; its last lines:\n{tail}")
        return upf.read_text(encoding="utf-8")


def mend(upf: str) -> str:
    """Return the UPF text in a form that every reader accepts and that does not depend on the day it was made."""
    # The copy of the input inside PP_INPUTFILE: some versions of ld1.x write its '&' raw, which is not XML.
    upf = re.sub(r"&(?!(?:amp|lt|gt|quot|apos);)", "&amp;", upf)
    upf = re.sub(r'\b(date|author)="[^"]*"', r'\1=""', upf)
    upf = re.sub(r"^( *(?:Author|Generation date):).*$", r"\1", upf, flags=re.MULTILINE)
    # ld1.x 6.7 writes PP_MULTIPOLES on one line; pw.x 6.7 stops at it: "xmlr_opentag: severe error, line too long".
    return "\n".join(part for line in upf.splitlines() for part in _wrap(line)) + "\n"


def _wrap(line: str) -> list[str]:
    if len(line) <= LONGEST_LINE:
        return [line]
    if "<" in line:
        raise PseudopotentialError(f"a line of {len(line)} characters holds tags and cannot be wrapped: {line[:60]}…")
    numbers = line.split()
    return ["  " + "  ".join(numbers[start : start + NUMBERS_PER_LINE]) for start in range(0, len(numbers), NUMBERS_PER_LINE)]


def check(upf: str) -> None:
    """Raise unless the text is a UPF file of a PBE PAW boron potential with three valence electrons."""
    try:
        header = ElementTree.fromstring(upf).find("PP_HEADER")
    except ElementTree.ParseError as error:
        raise PseudopotentialError(f"the UPF file is not XML: {error}") from error
    if header is None:
        raise PseudopotentialError("the UPF file has no PP_HEADER")
    found = {
        "element": header.get("element", "").strip(),
        "pseudo_type": header.get("pseudo_type", "").strip(),
        "functional": " ".join(header.get("functional", "").split()).replace("SLA PW PBX PBC", "PBE"),
        "z_valence": float(header.get("z_valence", "nan")),
        "core_correction": header.get("core_correction", "").strip().lower().strip(".")[:1],
    }
    wanted = {"element": "B", "pseudo_type": "PAW", "functional": "PBE", "z_valence": 3.0, "core_correction": "t"}
    wrong = [f"{key} is {found[key]!r}, not {wanted[key]!r}" for key in wanted if found[key] != wanted[key]]
    if wrong:
        raise PseudopotentialError("unexpected UPF header: " + "; ".join(wrong))


def make_pseudopotential(folder: Path, executable: str = "ld1.x") -> Path:
    """Write the pseudopotential into ``folder`` and return its path.

    :param folder: where to write; made if it does not exist.
    :param executable: name on the PATH, or path, of ``ld1.x``.
    :raises PseudopotentialError: if ``ld1.x`` is missing or fails, or its result is not the potential asked for.
    """
    found = shutil.which(executable)
    if found is None:
        raise PseudopotentialError(f"{executable} not found; install it with: apt-get install quantum-espresso")
    upf = mend(run_ld1(str(Path(found).absolute())))
    check(upf)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_text(upf, encoding="utf-8")
    return path


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make a PBE PAW pseudopotential of boron with ld1.x.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("pseudo"), help="output folder (default: pseudo)")
    parser.add_argument("--ld1", default="ld1.x", help="name on the PATH, or path, of ld1.x")
    options = parser.parse_args(arguments)
    try:
        print(make_pseudopotential(options.folder, options.ld1))
    except PseudopotentialError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
