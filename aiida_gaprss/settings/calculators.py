"""ASE calculators that a file names: whether a name can be that of one, and whether there is one behind it.

Naming a class makes it run, with arguments of the file's own. So what is no calculator is refused three times: by its name, when
the file is read; by a look at the class, before anything is submitted; and on the compute machine, before it is called
(``runners/common.py``). To look at a class its module must be imported, which runs what is in it: that is done in a process of
its own, in an empty folder, by the python that will make the labels if it is on this machine.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ase.calculators.calculator import names as NAMES

from aiida_gaprss.outside import shown
from aiida_gaprss.runners import FOLDER

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)

#: Seconds that an import may take.
PATIENCE = 120

#: Says in one line of JSON what is behind the name, as the job will find it.
_LOOK = """
import json, sys
sys.path.insert(0, sys.argv[1])
try:
    from common import load_class
    load_class(sys.argv[2])
except BaseException as exception:
    wrong = isinstance(exception, TypeError) and "is no ASE calculator" in str(exception)
    said = ["wrong", str(exception)] if wrong else ["absent", f"{type(exception).__name__}: {exception}"]
else:
    said = ["there", ""]
print("\\n" + json.dumps(said))
"""


def check_name(name: str) -> str:
    """Return the name of a calculator if it can be one.

    :raises ValueError: if it is neither a name that ASE knows nor the dotted path of a class of an installed package.
    """
    expected = "expected a name that ASE knows (emt, lj, …) or the dotted path of a class (tblite.ase.TBLite)"
    if name in NAMES:
        return name
    if not _DOTTED.fullmatch(name) or len(name) > 200:
        raise ValueError(f"{shown(repr(name), 60)} is no calculator; {expected}")
    package = name.partition(".")[0]
    if package in sys.stdlib_module_names or package.startswith("_"):
        raise ValueError(f"{name} is no calculator: {package} belongs to Python itself; {expected}")
    return name


@dataclass(frozen=True)
class Look:
    """What is behind the name of a calculator: ``there``, ``absent`` (not installed) or ``wrong`` (something else), and why."""

    state: str
    reason: str = ""


@lru_cache(maxsize=64)
def look(name: str, python: str = sys.executable, before: str = "") -> Look:
    """Return what is behind the name of a calculator for a python of this machine.

    :param python: its path.
    :param before: lines of the shell before it, those of computer and code.
    """
    words = " ".join(shlex.quote(word) for word in (python, "-c", _LOOK, str(FOLDER), name))
    with tempfile.TemporaryDirectory() as folder:
        try:
            process = subprocess.run(
                ["/bin/bash", "-c", f"{before}\n{words}"],
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Look("absent", f"its import takes more than {PATIENCE} s")
    try:
        state, reason = json.loads(process.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Look("absent", shown((process.stderr.strip().splitlines() or ["python ended"])[-1]))
    return Look(state, shown(reason))


def find(name: str, code: Any, has_lines: bool = False) -> tuple[str | None, str | None]:
    """Return what is wrong with a calculator for a code, or what is to be remarked: (fault, remark).

    :param code: the python that will make the labels; None if it is not known.
    :param has_lines: whether the job has lines of its own before the program, which may make it find more; they are not run here.
    """
    if code is None or code.computer is None:
        seen, here = look(name), True
    elif code.computer.hostname == "localhost":
        before = "\n".join(filter(None, (code.computer.get_prepend_text(), code.prepend_text)))
        seen, here = look(name, str(getattr(code, "filepath_executable", sys.executable)), before), True
    else:
        seen, here = look(name), False
    if seen.state == "wrong":
        return seen.reason, None
    if here and has_lines and seen.state == "absent":
        return None, f"{name} is not found here without the prepend_text of its job ({seen.reason})"
    if here:
        where = f"in the environment of {code.full_label}" if code is not None else "here"
        return (None if seen.state == "there" else f"{name} is not installed {where} ({seen.reason})"), None
    needed = f"needed on {code.computer.label}"
    return None, f"{name} is not installed here; {needed}" if seen.state == "absent" else f"{name} is {needed}, too"
