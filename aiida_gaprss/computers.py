"""The file that describes a computer for ``aiida-gaprss setup --computer``."""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from aiida_gaprss.validation import Model

#: Property of an AiiDA computer: the options of the jobs there that a campaign does not give itself.
JOB_OPTIONS = "gaprss_options"
#: Another one: how many frame-by-frame calculations, or bundles, there may be at one time.
MAX_JOBS = "gaprss_max_jobs"


class EnvironmentSettings(Model):
    """The compute side, installed by ``setup`` if it is not there."""

    folder: str = Field(description="on the computer; ~ and environment variables are those there")
    python: str = Field("python3", description="of 3.10 or later; makes the environment")
    packages: list[str] | None = Field(None, description="for pip; default: those that go with the version of the python")


class CodeSettings(Model):
    """Another program there, as of a DFT code."""

    executable: str = Field(pattern=r"^/", description="absolute path")
    plugin: str = Field(description="the calculation plugin that uses it: quantumespresso.pw, castep.castep, vasp.vasp, …")
    prepend_text: str = ""
    append_text: str = ""
    mpi: bool = Field(True, description="run with the mpirun_command")


class ComputerSettings(Model):
    """A computer, how to reach it, and what runs there."""

    label: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", description="its name in AiiDA: codes are called gap_fit@LABEL, …")
    hostname: str | None = Field(None, description="as in `ssh HOSTNAME`, which must work without a password; default: the label")
    transport: str = "core.ssh_async"
    transport_options: dict[str, Any] = Field(default_factory=dict, description="those of `verdi computer configure`")
    scheduler: str = "core.slurm"
    work_dir: str = Field(description="folder of the jobs, on a large file system; {username} is the user there")
    mpirun_command: list[str] = Field(
        ["srun", "-n", "{tot_num_mpiprocs}"], description="starts programs with MPI: DFT codes, a gap_fit that is built for it"
    )
    shebang: str = "#!/bin/bash"
    prepend_text: str = Field("", description="lines of every job script, as module load …; also for the installation")
    append_text: str = ""
    cores_per_node: PositiveInt = 1
    memory_per_node_GB: PositiveFloat | None = Field(None, description="asked for by jobs that do not say how much they need")
    poll_interval_s: PositiveFloat = Field(10.0, description="the queue is looked at so often")
    connection_interval_s: NonNegativeFloat = Field(5.0, description="between two connections")
    max_jobs: PositiveInt | None = Field(
        None, description="frame-by-frame calculations, or bundles, at one time, of all campaigns together; default: no limit"
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="of all jobs there, where a campaign gives none: account, queue_name, max_wallclock_seconds, resources, …",
    )
    environment: EnvironmentSettings | None = None
    python: str | None = Field(
        None, pattern=r"^/", description="python with quippy and ase there, if there is one, instead of environment"
    )
    gap_fit: str | None = Field(None, pattern=r"^/", description="default: the gap_fit that comes with quippy")
    gap_fit_mpi: bool = Field(False, description="it is a build for MPI: run with the mpirun_command")
    codes: dict[str, CodeSettings] = Field(default_factory=dict, description="other programs by the labels they get")

    @field_validator("work_dir")
    @classmethod
    def _absolute(cls, value: str) -> str:
        try:
            value.format(username="")
        except (KeyError, IndexError, ValueError) as exception:
            raise ValueError("the only thing in braces can be {username}") from exception
        if not value.startswith("/"):
            raise ValueError("expected an absolute path, e.g. /scratch/{username}/gaprss")
        return value

    @field_validator("label")
    @classmethod
    def _another(cls, value: str) -> str:
        if value == "localhost":
            raise ValueError("this is the name of this machine; give it another")
        return value

    @field_validator("options")
    @classmethod
    def _known(cls, value: dict[str, Any]) -> dict[str, Any]:
        from aiida.engine import CalcJob

        ports: Any = CalcJob.spec().inputs["metadata"]["options"]  # type: ignore[index]
        unknown = sorted(set(value) - set(ports))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no option of an AiiDA job; known: {', '.join(sorted(ports))}")
        for name, option in value.items():
            if error := ports[name].validate(option):
                raise ValueError(f"{name}: {error.message}")
        return value

    @model_validator(mode="after")
    def _python(self) -> ComputerSettings:
        if (self.python is None) == (self.environment is None):
            raise ValueError("python: give either this, or environment, to have one made")
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
