"""The file that describes a computer for ``aiida-gaprss setup --computer``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from aiida_gaprss.settings.faults import Fault, FaultError
from aiida_gaprss.settings.model import (
    AbsolutePath,
    Count,
    Kilobytes,
    Line,
    Model,
    Name,
    Positive,
    Script,
    Seconds,
    SecondsOrZero,
    ShellPath,
    Variable,
    WholeSeconds,
    Word,
)

#: Property of an AiiDA computer: the options of the jobs there that a campaign does not give itself.
JOB_OPTIONS = "gaprss_options"
#: Another one: how many frame-by-frame calculations, or bundles, there may be at one time.
MAX_JOBS = "gaprss_max_jobs"


class JobOptions(Model):
    """Options of a scheduler job: those of AiiDA (metadata.options) that a file may give."""

    resources: dict[Word, Count | Word] | None = Field(
        None, description="num_machines, num_mpiprocs_per_machine, tot_num_mpiprocs, num_cores_per_mpiproc, …"
    )
    max_wallclock_seconds: WholeSeconds | None = None
    max_memory_kb: Kilobytes | None = None
    queue_name: Word | None = Field(None, description="partition of the scheduler")
    account: Word | None = None
    qos: Word | None = None
    priority: Word | None = None
    withmpi: bool | None = Field(None, description="run with the mpirun_command of the computer")
    mpirun_extra_params: list[Line] | None = None
    rerunnable: bool | None = None
    import_sys_environment: bool | None = None
    environment_variables: dict[Variable, Line] | None = None
    environment_variables_double_quotes: bool | None = None
    custom_scheduler_commands: Script | None = Field(None, description="lines of the scheduler, as they are")
    prepend_text: Script | None = Field(None, description="lines of the shell before the program, as they are")
    append_text: Script | None = Field(None, description="lines of the shell after it")

    def given(self) -> dict[str, Any]:
        """Return the options that are given."""
        return self.model_dump(exclude_none=True)

    def lines(self) -> dict[str, str]:
        """Return those that a shell or a scheduler runs as they are."""
        return {name: text for name in LINES if (text := getattr(self, name))}


#: Options that are lines of a script.
LINES = ("custom_scheduler_commands", "prepend_text", "append_text")


class BatchOptions(JobOptions):
    """Options of a job that works on many frames."""

    processes: Annotated[Count, Field(le=4096)] | None = Field(
        None, description="worker processes; default: all cores of the job"
    )


class FitOptions(JobOptions):
    """Options of a job of gap_fit."""

    threads: Count | None = Field(None, description="of OpenMP; default: all cores here")


class EnvironmentSettings(Model):
    """The compute side, installed by ``setup`` if it is not there."""

    folder: ShellPath = Field(description="on the computer; ~ and environment variables are those there")
    python: ShellPath = Field("python3", description="of 3.10 or later; makes the environment")
    packages: list[Annotated[Line, Field(min_length=1)]] | None = Field(
        None, description="for pip; default: those that go with the version of the python"
    )


class CodeSettings(Model):
    """Another program there, as of a DFT code."""

    executable: AbsolutePath = Field(description="absolute path")
    plugin: Word = Field(description="the calculation plugin that uses it: quantumespresso.pw, castep.castep, vasp.vasp, …")
    prepend_text: Script = ""
    append_text: Script = ""
    mpi: bool = Field(True, description="run with the mpirun_command")


class ComputerSettings(Model):
    """A computer, how to reach it, and what runs there."""

    label: Name = Field(description="its name in AiiDA: codes are called gap_fit@LABEL, …")
    hostname: Word | None = Field(
        None, description="as in `ssh HOSTNAME`, which must work without a password; default: the label"
    )
    transport: Word = "core.ssh_async"
    transport_options: dict[str, Any] = Field(default_factory=dict, description="those of `verdi computer configure`")
    scheduler: Word = "core.slurm"
    work_dir: Line = Field(description="folder of the jobs, on a large file system; {username} is the user there")
    mpirun_command: list[Line] = Field(
        ["srun", "-n", "{tot_num_mpiprocs}"], description="starts programs with MPI: DFT codes, a gap_fit that is built for it"
    )
    shebang: Annotated[Line, Field(pattern=r"^#!/")] = "#!/bin/bash"
    prepend_text: Script = Field("", description="lines of every job script, as module load …; also for the installation")
    append_text: Script = ""
    cores_per_node: Count = 1
    memory_per_node_GB: Positive | None = Field(None, description="asked for by jobs that do not say how much they need")
    poll_interval_s: Seconds = Field(10.0, description="the queue is looked at so often")
    connection_interval_s: SecondsOrZero = Field(5.0, description="between two connections")
    max_jobs: Count | None = Field(
        None, description="frame-by-frame calculations, or bundles, at one time, of all campaigns together; default: no limit"
    )
    options: JobOptions = Field(
        default_factory=JobOptions,
        description="of all jobs there, where a campaign gives none: account, queue_name, max_wallclock_seconds, resources, …",
    )
    environment: EnvironmentSettings | None = None
    python: AbsolutePath | None = Field(
        None, description="python with quippy and ase there, if there is one, instead of environment"
    )
    gap_fit: AbsolutePath | None = Field(None, description="default: the gap_fit that comes with quippy")
    gap_fit_mpi: bool = Field(False, description="it is a build for MPI: run with the mpirun_command")
    codes: dict[Name, CodeSettings] = Field(default_factory=dict, description="other programs by the labels they get")

    @field_validator("work_dir")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if set(value.replace("{username}", "")) & set("{}"):
            raise ValueError("the only thing in braces can be {username}")
        if not value.startswith("/"):
            raise ValueError("expected an absolute path, e.g. /scratch/{username}/gaprss")
        return value

    @field_validator("label")
    @classmethod
    def _another(cls, value: str) -> str:
        if value == "localhost":
            raise ValueError("this is the name of this machine; give it another")
        return value

    @model_validator(mode="after")
    def _python(self) -> ComputerSettings:
        if (self.python is None) == (self.environment is None):
            raise FaultError([Fault(("python",), "give either this, or environment, to have one made")])
        return self

    @property
    def host(self) -> str:
        """Name under which the computer is reached."""
        return self.hostname or self.label


def job_options(computer: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a job: those given, then those of the computer.

    :param computer: of the code of the job, or None.
    """
    if computer is None:
        return dict(given)
    return {**computer.get_property(JOB_OPTIONS, {}), **given}


def options_in(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a job for one of another kind: without the names of parsers and files, which are of that kind."""
    return {key: value for key, value in metadata.get("options", {}).items() if not key.endswith("_name")}


def is_here(code: Any) -> bool:
    """Tell whether a code is one of this machine."""
    return bool(code.computer is not None and code.computer.hostname == "localhost")


def fit_options(code: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a job of gap_fit: as many OpenMP threads as it has cores, if ``threads`` are not given."""
    options = job_options(code.computer, given)
    if "threads" not in options:
        options["threads"] = (
            (os.cpu_count() or 1) if is_here(code) else options.get("resources", {}).get("num_cores_per_mpiproc", 1)
        )
    return options
