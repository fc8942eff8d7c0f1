"""Profile, computer and codes of the machine the command runs on."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from aiida_gaprss.models import GAP_VERSION_EXTRA
from aiida_gaprss.outside import shown
from aiida_gaprss.outside.terminal import PlainConsole, styled

PROBE = """
import json, os, sys
import ase, numpy, quippy
folder = os.path.dirname(quippy.__file__)
binary = os.path.join(folder, "gap_fit")
print(json.dumps({"ase": ase.__version__, "gap_fit": binary if os.access(binary, os.X_OK) else None, "python": sys.executable}))
"""

#: Lines before pw.x: one thread; and a folder of its own for Open MPI, which otherwise keeps one for all programs of a user,
#: and one of them may remove it while another begins.
PW_PREPEND = """\
export OMP_NUM_THREADS=1 OMPI_MCA_orte_tmpdir_base=$(mktemp -d)
trap 'rm -rf "$OMPI_MCA_orte_tmpdir_base"' EXIT"""


#: Minor version of the newest Python 3 for which there are wheels of quippy-ase.
NEWEST_WITH_QUIPPY = 13


def lack_of_quippy(minor: int) -> str | None:
    """Return why a Python 3 of this minor version cannot have quippy, or None."""
    if minor <= NEWEST_WITH_QUIPPY:
        return None
    return f"quippy-ase (GAP) has no wheels for Python 3.{minor}, only for 3.10 to 3.{NEWEST_WITH_QUIPPY}"


@dataclass
class Finding:
    """Something ``setup`` looked for."""

    name: str
    found: str | None
    detail: str = ""
    how_to_get: str = ""
    extras: dict[str, Any] = field(default_factory=dict)

    def tell(self, console: PlainConsole) -> None:
        """Print whether it was found."""
        if self.found:
            detail = f" ({self.detail})" if self.detail else ""
            console.print(styled("  ", ("found", "green"), f"    {self.name}: {self.found}{detail}"), soft_wrap=True)
        else:
            lack = f"  {self.name}: {self.detail}. {self.how_to_get}"
            console.print(styled("  ", ("missing", "yellow"), lack), soft_wrap=True)


def expect_new_folder() -> None:
    """Let AiiDA not warn that it makes its folder, which is what was asked for; to be called before AiiDA is imported."""
    import warnings

    warnings.filterwarnings("ignore", message="Creating AiiDA configuration folder")


def load_or_make_profile(make: bool = True, name: str | None = None) -> str:
    """Load a profile; make one with SQLite and ZeroMQ, which need no service, if there is none.

    :param name: default: that of the profile that is loaded, or of the default one.
    :raises click.ClickException: if there is none and none should be made.
    """
    expect_new_folder()
    from aiida import load_profile
    from aiida.manage import get_manager
    from aiida.manage.configuration import get_config

    config, loaded = get_config(create=True), get_manager().get_profile()
    name = name or (loaded.name if loaded is not None else config.default_profile_name)
    if name in config.profile_names:
        return str(load_profile(name).name)
    if not make:
        raise click.ClickException(f"no AiiDA profile in {config.dirpath}: run `aiida-gaprss setup` (or `verdi presto`) first")
    made = _make_profile(config, name or "gaprss")
    load_profile(made, allow_switch=True)
    return made


def _make_profile(config: Any, name: str) -> str:
    """Make a profile, the default one if there is none yet, and return its name."""
    from aiida.manage.configuration import create_profile
    from aiida.plugins import BrokerFactory

    profile = create_profile(
        config,
        name=name,
        email="aiida@localhost",
        storage_backend="core.sqlite_dos",
        storage_config={},
        broker_backend="core.zeromq",
        broker_config=BrokerFactory("core.zeromq").get_default_config(),
    )
    config.set_option("runner.poll.interval", 1, scope=profile.name)
    config.set_option("daemon.timeout", 30, scope=profile.name)  # two seconds are too few while the cores are busy
    config.set_option("warnings.development_version", False)
    if config.default_profile_name is None:
        config.set_default_profile(profile.name, overwrite=True)
    config.store()
    return str(profile.name)


def local_computer() -> Any:
    """Return the computer ``localhost``; make it if there is none."""
    from aiida.common.exceptions import NotExistent
    from aiida.manage.configuration import get_config
    from aiida.orm import Computer, load_computer

    try:
        return load_computer("localhost")
    except NotExistent:
        computer = Computer(
            label="localhost",
            hostname="localhost",
            transport_type="core.local",
            scheduler_type="core.direct",
            workdir=str(Path(get_config().dirpath) / "scratch" / "gaprss"),
        ).store()
        computer.configure(safe_interval=0, use_login_shell=False)
        computer.set_minimum_job_poll_interval(0.5)
        computer.set_default_mpiprocs_per_machine(1)
        return computer


def find_python(path: str | None) -> Finding:
    """Look for a python with quippy and ase: ``path``, else this one, else the one on PATH."""
    import json

    how = "pip install 'quippy-ase==0.9.14' 'f90wrap<0.3' (Python ≤ 3.11) or 'quippy-ase>=0.10.3' (3.12 and 3.13)"
    if lack := lack_of_quippy(sys.version_info.minor):
        how = f"{lack}: make an environment of one of these with quippy-ase and ase, and say --python PATH"
    candidates = [path] if path else [sys.executable, shutil.which("python3")]
    reason = "not found"
    for candidate in dict.fromkeys(c for c in candidates if c):
        if candidate == sys.executable and importlib.util.find_spec("quippy") is None:
            reason = f"{candidate} has no quippy"
            continue
        try:
            process = subprocess.run([candidate, "-c", PROBE], capture_output=True, text=True, timeout=120, check=False)
        except (OSError, ValueError, subprocess.TimeoutExpired) as exception:
            reason = f"{candidate}: {getattr(exception, 'strerror', None) or exception}"
            continue
        if process.returncode == 0:
            try:
                data = json.loads(process.stdout.strip().splitlines()[-1])
                data["ase"], data["gap_fit"]
            except (ValueError, IndexError, KeyError, TypeError):
                reason = f"{candidate} is no python: it printed {shown(process.stdout, 60)!r}"
                continue
            return Finding("python with quippy", candidate, f"ase {data['ase']}", extras={"gap_fit": data["gap_fit"]})
        reason = f"{candidate}: {(process.stderr.strip().splitlines() or ['failed'])[-1]}"
    return Finding("python with quippy", None, reason, how)


def find_gap_fit(path: str | None, python: Finding) -> Finding:
    """Look for the gap_fit binary: ``path``, else the one that quippy brings, else the one on PATH; try it with a tiny fit."""
    binary = path or python.extras.get("gap_fit") or shutil.which("gap_fit")
    how = "it comes with quippy-ase 0.9.14 or ≥ 0.10.3 (0.10.1 has none), or compile QUIP with GAP"
    if binary is None:
        return Finding("gap_fit", None, "not found", how)
    if not os.access(binary, os.X_OK):
        return Finding("gap_fit", None, f"{binary} is not an executable file", how)
    version, detail = try_gap_fit(binary)
    if version is None:
        return Finding("gap_fit", None, f"{binary} does not work: {detail}", how)
    return Finding("gap_fit", binary, detail, extras={GAP_VERSION_EXTRA: version})


def try_gap_fit(binary: str) -> tuple[int | None, str]:
    """Fit a pair potential to two dimers; return the version of GAP, or None and the reason why it failed."""
    from aiida_gaprss.data.folder import read_potential
    from aiida_gaprss.models.base import PotentialError
    from aiida_gaprss.models.families import family_of
    from aiida_gaprss.models.gap.log import read_log

    lines = []
    for distance, energy in ((9.0, 0.0), (2.0, -1.0), (2.5, -0.5)):
        lines += [
            "2",
            f'Lattice="20 0 0 0 20 0 0 0 20" Properties=species:S:1:pos:R:3 REF_energy={energy} pbc="T T T"',
            "Ar 0 0 0",
            f"Ar {distance} 0 0",
        ]
    command = [
        *(binary, "at_file=train.xyz", "energy_parameter_name=REF_energy", "e0={Ar:0.0}", "default_sigma={0.01 0.1 0.1 1.0}"),
        "gap={distance_2b cutoff=5.0 covariance_type=ard_se theta_uniform=1.0 n_sparse=3 delta=1.0 sparse_method=uniform}",
        *("do_copy_at_file=F", "gp_file=gap.xml"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "train.xyz").write_text("\n".join(lines) + "\n", encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            process = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as exception:
            return None, str(exception)
        log = read_log(process.stdout + process.stderr)
        try:
            attributes, _ = read_potential(Path(folder), "gap.xml", family_of("gap"))
        except PotentialError:
            return None, log.abort or (process.stderr.strip().splitlines() or ["no potential written"])[-1]
    threads = "OpenMP" if "OpenMP parallelisation" in process.stdout else "serial"
    return attributes["gap_version"], f"GAP {log.version}, {threads}"


def find_pw(path: str | None) -> Finding:
    """Look for pw.x: ``path``, else the one on PATH."""
    from aiida_gaprss.reference import quantumespresso
    from aiida_gaprss.reference.plugins import needed

    binary = path or shutil.which("pw.x")
    how = "optional, for real DFT; Debian: apt-get install quantum-espresso"
    if lack := needed(quantumespresso.PLUGINS):
        return Finding("pw.x", None, lack, "Optional, for real DFT")
    if binary is None or not os.access(binary, os.X_OK):
        return Finding("pw.x", None, f"{binary or 'pw.x'} not found", how)
    with tempfile.TemporaryDirectory() as folder:  # it leaves files behind
        try:
            process = subprocess.run(
                [binary, "-h"], cwd=folder, input="", capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as exception:
            return Finding("pw.x", None, f"{binary} does not work: {exception}", how)
    version = re.search(r"Program PWSCF v\.?\s*(\S+)", process.stdout)
    return Finding("pw.x", binary, f"Quantum ESPRESSO {version[1]}" if version else "")


def register(
    label: str,
    finding: Finding,
    plugin: str,
    computer: Any,
    prepend_text: str = "",
    append_text: str = "",
    mpi: bool = False,
) -> Any:
    """Return the code ``label`` of a computer for a finding; an older code of that label that differs is renamed."""
    from aiida.common.exceptions import NotExistent
    from aiida.orm import InstalledCode, load_code

    asked: dict[str, Any] = {
        "filepath_executable": str(finding.found),
        "default_calc_job_plugin": plugin,
        "prepend_text": prepend_text,
        "append_text": append_text,
        "with_mpi": mpi,
    }
    try:
        code = load_code(f"{label}@{computer.label}")
        if all(str(getattr(code, key)) == str(value) for key, value in asked.items()):
            _set_extras(code, finding)
            return code
        code.label = f"{label}-{code.pk}"
    except NotExistent:
        pass
    code = InstalledCode(label=label, computer=computer, description=finding.detail, **asked).store()
    _set_extras(code, finding)
    return code


def _set_extras(code: Any, finding: Finding) -> None:
    if GAP_VERSION_EXTRA in finding.extras:
        code.base.extras.set(GAP_VERSION_EXTRA, finding.extras[GAP_VERSION_EXTRA])


def set_up_codes(python: str | None, gap_fit: str | None, pw: str | None) -> list[Finding]:
    """Find and register what a campaign needs on this machine; return what was found and what was not."""
    found_python = find_python(python)
    found_fit = find_gap_fit(gap_fit, found_python)
    found_pw = find_pw(pw)
    if found_python.found:
        version = found_fit.extras.get(GAP_VERSION_EXTRA)
        own = found_python.extras.get("gap_fit")
        if own and own != found_fit.found:
            version, _ = try_gap_fit(own)
        if version is not None:
            found_python.extras[GAP_VERSION_EXTRA] = version
        register("gaprss-python", found_python, "gaprss.label", local_computer())
    if found_fit.found:
        register("gap_fit", found_fit, "gaprss.fit", local_computer())
    if found_pw.found:
        register("pw", found_pw, "quantumespresso.pw", local_computer(), prepend_text=PW_PREPEND)
    return [found_python, found_fit, found_pw]
