"""``aiida-gaprss setup --computer``: a remote computer, from its file to a job that has run there."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from aiida_gaprss.cli.environment import NEWEST_WITH_QUIPPY, PROBE, Finding, lack_of_quippy, register
from aiida_gaprss.models import GAP_VERSION_EXTRA
from aiida_gaprss.outside import shown
from aiida_gaprss.outside.terminal import PlainConsole, styled
from aiida_gaprss.settings.computer import JOB_OPTIONS, MAX_JOBS, ComputerSettings, EnvironmentSettings

if TYPE_CHECKING:
    from aiida.orm import Computer

#: For pip, by the newest minor version of Python 3 that they are for.
PACKAGES = {
    11: ["quippy-ase==0.9.14", "f90wrap<0.3", "numpy<2", "ase>=3.28", "spglib>=2.5"],
    NEWEST_WITH_QUIPPY: ["quippy-ase>=0.10.3", "numpy>=2", "ase>=3.28", "spglib>=2.5"],
}

#: eV; two machines give the same energy of the check's frames to this.
AGREEMENT = 1e-6


def set_up_computer(settings: ComputerSettings, console: PlainConsole, check: bool) -> None:
    """Register a computer and its codes, install what is missing there, and run a job.

    :raises click.ClickException: naming what does not work, and what to look at.
    """
    computer = make_computer(settings)
    where = f": {computer.hostname}, {settings.transport}, {settings.scheduler}"
    console.print(styled("computer ", (computer.label, "bold"), where))
    with connection(computer) as transport:
        shell = Shell(transport, settings.prepend_text)
        user = shell("whoami", "cannot run a command")
        work_dir = settings.work_dir.format(username=user)
        shell(f"mkdir -p {shlex.quote(work_dir)} && test -w {shlex.quote(work_dir)}", f"work_dir {work_dir} cannot be written to")
        console.print(styled("  ", ("found", "green"), f"    user {user}, {work_dir}"))
        python = settings.python or install(settings.environment, shell, console)  # type: ignore[arg-type]  # one of them is given
        probe = shell(f"{shlex.quote(python)} -c {shlex.quote(PROBE)}", f"{python} has no quippy and ase")
        found = _probed(probe, python)
        gap_fit = settings.gap_fit or found["gap_fit"]
        if gap_fit is None:
            raise click.ClickException(f"{python}: its quippy has no gap_fit; say gap_fit: PATH, or install quippy-ase 0.9.14")
        programs: dict[str, tuple[Finding, str, dict[str, Any]]] = {
            "gaprss-python": (Finding("python with quippy", python, f"ase {found['ase']}"), "gaprss.label", {}),
            "gap_fit": (Finding("gap_fit", gap_fit), "gaprss.fit", {"mpi": settings.gap_fit_mpi}),
        }
        for label, code in settings.codes.items():
            more = {"prepend_text": code.prepend_text, "append_text": code.append_text, "mpi": code.mpi}
            programs[label] = (Finding(f"codes.{label}", code.executable), code.plugin, more)
        for finding, _, _ in programs.values():
            path = str(finding.found)
            shell(f"test -x {shlex.quote(path)}", f"{finding.name}: {path} is not an executable file")
            finding.tell(console)
    codes = {label: register(label, finding, plugin, computer, **more) for label, (finding, plugin, more) in programs.items()}
    if check:
        run_check(codes["gap_fit"], codes["gaprss-python"], console)


def _probed(text: str, python: str) -> dict[str, Any]:
    """Return what the probe of a python printed.

    :raises click.ClickException: if it printed something else.
    """
    try:
        found = json.loads(text)
        if isinstance(found, dict) and isinstance(found["ase"], str) and isinstance(found["gap_fit"], str | None):
            return found
    except (ValueError, KeyError):
        pass
    raise click.ClickException(f"{python}: printed {shown(text)!r}, expected its versions")


def make_computer(settings: ComputerSettings) -> Computer:
    """Return the AiiDA computer of the file, made or brought up to date.

    :raises click.ClickException: if transport or scheduler do not exist.
    """
    from aiida.common.exceptions import EntryPointError, NotExistent
    from aiida.orm import Computer, load_computer
    from aiida.plugins import SchedulerFactory, TransportFactory

    try:
        transport = TransportFactory(settings.transport)
        SchedulerFactory(settings.scheduler)
    except EntryPointError as exception:
        raise click.ClickException(str(exception)) from exception
    unknown = sorted(set(settings.transport_options) - set(transport.get_valid_auth_params()))
    if unknown:
        known = ", ".join(sorted(transport.get_valid_auth_params()))
        raise click.ClickException(f"transport_options: {unknown[0]!r} is none of {settings.transport}; known: {known}")
    try:
        computer = load_computer(settings.label)
    except NotExistent:
        computer = Computer(label=settings.label)
    computer.hostname = settings.host
    computer.transport_type = settings.transport
    computer.scheduler_type = settings.scheduler
    computer.set_workdir(settings.work_dir)
    computer.set_mpirun_command(settings.mpirun_command)
    computer.set_shebang(settings.shebang)
    computer.set_prepend_text(settings.prepend_text)
    computer.set_append_text(settings.append_text)
    computer.set_default_mpiprocs_per_machine(settings.cores_per_node)
    memory = settings.memory_per_node_GB
    computer.set_default_memory_per_machine(int(memory * 1e6) if memory else None)
    computer.set_minimum_job_poll_interval(settings.poll_interval_s)
    computer.set_property(JOB_OPTIONS, settings.options.given())
    computer.set_property(MAX_JOBS, settings.max_jobs)
    computer.store()
    configured: dict[str, Any] = {"safe_interval": settings.connection_interval_s, "use_login_shell": True}
    if "host" in transport.get_valid_auth_params():
        configured["host"] = settings.host
    computer.configure(**{**configured, **settings.transport_options})
    return computer


def connection(computer: Computer) -> Any:
    """Return an open connection.

    :raises click.ClickException: if there is none to be had.
    """
    transport = computer.get_transport()
    try:
        transport.open()
    except Exception as exception:  # each transport raises its own
        how = f"does `ssh {computer.hostname}` work without a password, and has it been used once?"
        raise click.ClickException(f"no connection to {computer.hostname}: {exception}; {how}") from exception
    from contextlib import closing

    return closing(transport)


class Shell:
    """Run commands on a computer, after its ``prepend_text``."""

    def __init__(self, transport: Any, prepend_text: str) -> None:
        """Keep an open transport."""
        self.transport = transport
        self.prepend_text = prepend_text

    def __call__(self, command: str, fault: str) -> str:
        """Return the last line that a command prints: modules and logins have things of their own to say before.

        :raises click.ClickException: with ``fault`` and the last line of its standard error, if it fails.
        """
        status, output, error = self.transport.exec_command_wait(f"{self.prepend_text}\n{command}")
        if status != 0:
            said = (error.strip().splitlines() or [f"status {status}"])[-1]
            raise click.ClickException(shown(f"{fault}: {said}", 1000))
        return (output.strip().splitlines() or [""])[-1]


def expanding(path: str) -> str:
    """Return a path (``ShellPath``) as one word of a shell, which replaces ``~`` and variables in it."""
    home, rest = ("~", path[1:]) if path.startswith("~") else ("", path)
    return f'{home}{rest[:1]}"{rest[1:]}"' if home and rest else home or f'"{rest}"'


def install(environment: EnvironmentSettings, shell: Shell, console: PlainConsole) -> str:
    """Return the python of an environment on the computer, which is made if it is not there."""
    folder, base = (
        shell(f"printf '%s\\n' {expanding(path)}", f"environment.{name} {path}")
        for name, path in (("folder", environment.folder), ("python", environment.python))
    )
    path = f"{folder}/bin/python"
    python, base = shlex.quote(path), shlex.quote(base)
    packages = environment.packages
    version = f"{base} -c 'import sys; print(sys.version_info[1])'"
    said = shell(f"test -x {python} && {python} -c 'import quippy, ase' 2>/dev/null && echo 0 || {version}", version)
    if not said.isdecimal():
        raise click.ClickException(f"{version}: printed {shown(said)!r}, expected the minor version of Python")
    minor = int(said)
    if minor:
        if packages is None:
            if lack := lack_of_quippy(minor):
                raise click.ClickException(f"environment.python: {lack}; name one of these, or give environment.packages")
            packages = PACKAGES[min(newest for newest in PACKAGES if newest >= minor)]
        console.print(f"  installing {' '.join(packages)} in {folder} (a minute or two)", soft_wrap=True)
        shell(f"{base} -m venv {shlex.quote(folder)}", f"no environment in {folder}")
        named = " ".join(shlex.quote(package) for package in packages)
        shell(f"{python} -m pip install --quiet --disable-pip-version-check -- {named}", f"pip in {folder}")
    return path


def run_check(gap_fit: Any, python: Any, console: PlainConsole) -> None:
    """Fit and evaluate a small potential in one job there, and compare its energies with those of this machine.

    :raises click.ClickException: if the job fails, or the machines disagree.
    """
    from aiida.engine import run_get_node
    from aiida.orm import Dict, Int

    from aiida_gaprss.calculations.fit import FitCalculation
    from aiida_gaprss.settings.computer import fit_options
    from aiida_gaprss.workflows.jobs.scratch import remove_folders

    console.print("  a job: fits and evaluates a pair potential for copper, waits for its turn in the queue", soft_wrap=True)
    started = time.monotonic()
    results, node = run_get_node(
        FitCalculation,
        code=gap_fit,
        python=python,
        datasets={"copper": _copper()},
        settings=Dict(CHECK_FIT),
        seed=Int(1),
        metadata={"label": "check of the computer", "options": fit_options(gap_fit, {})},
    )
    seconds = time.monotonic() - started
    if not node.is_finished_ok:
        said = node.exit_message or node.process_state
        look = f"its folder there: {node.get_remote_workdir()}; its messages: verdi process report {node.pk}"
        raise click.ClickException(f"the job <{node.pk}> failed: {said}; {look}")
    potential = results["potential"]
    for code in (gap_fit, python):
        code.base.extras.set(GAP_VERSION_EXTRA, potential.base.attributes.get("gap_version"))
    console.print(styled("  ", ("works", "green"), f"    job <{node.pk}> in {seconds:.0f} s: {results['results']['gap_fit']}"))
    difference = _difference(potential, results["predictions"])
    if isinstance(difference, str):
        console.print(styled((f"  cannot be compared with this machine: {difference}", "yellow")), soft_wrap=True)
    elif difference > AGREEMENT:
        raise click.ClickException(
            f"its energies differ from those of this machine by {difference:.1e} eV: other versions of GAP?"
        )
    else:
        agreement = f"   its energies are those of this machine to {max(difference, 1e-16):.0e} eV"
        console.print(styled("  ", ("agrees", "green"), agreement))
    for trouble in remove_folders([node.outputs.remote_folder]):
        console.print(styled((f"  {trouble}", "yellow")), soft_wrap=True)


#: A fit of a second.
CHECK_FIT = {
    "descriptors": [{"kind": "distance_2b", "cutoff": 5.0, "n_sparse": 10, "delta": 1.0}],
    "sigma": {"energy": 0.01, "forces": 0.1, "virial": 0.1},
}


def _copper() -> Any:
    """Return an atom and some distorted cells of copper, labelled with EMT here."""
    import numpy as np
    from ase import Atoms
    from ase.build import bulk
    from ase.calculators.emt import EMT

    from aiida_gaprss import frames as fr
    from aiida_gaprss.data.dataset import Dataset

    rng = np.random.default_rng(1)
    frames = [Atoms("Cu", cell=[12.0] * 3, pbc=True)]
    frames += [bulk("Cu", a=3.6 + 0.02 * number, cubic=True) for number in range(12)]
    for number, atoms in enumerate(frames):
        if number:
            atoms.rattle(0.1, rng=rng)
        atoms.info = {"frame_id": f"check-{number:02d}", "config_type": "copper" if number else "isolated_atom"}
        atoms.calc = EMT()
        virial = fr.virial_from_stress(atoms.get_stress(), atoms.get_volume())
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
        fr.set_labels(atoms, energy, forces, virial)
    return Dataset(frames, level_of_theory="EMT (ASE)")


def _difference(potential: Any, predictions: Any) -> float | str:
    """Return the largest difference (eV) of the energies computed there and here, or why it cannot be computed."""
    from ase import Atoms

    try:
        calculator = potential.calculator()
    except Exception as exception:  # no quippy here, or an older one
        return str(exception)
    largest = 0.0
    for frame in predictions.get_frames():
        atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True, calculator=calculator)
        largest = max(largest, abs(float(atoms.get_potential_energy()) - frame.info["PRED_energy"]))
    return largest
