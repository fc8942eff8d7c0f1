"""What the batched CalcJobs share: many frames in, one dataset out, a script that travels with the job."""

from __future__ import annotations

import atexit
import gc
import json
from typing import Any

from aiida.common import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import AbstractCode, Dict

from aiida_gaprss.calculations.worker import watch_connections
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import Family
from aiida_gaprss.runners import FOLDER, scripts_of

POTENTIAL_FOLDER = "potential"

#: The frames that a job works on, and what its script prints.
INPUT, OUTPUT = "input.extxyz", "stdout.txt"

# All calculations and work chains of this package come by here.
atexit.register(gc.freeze)  # else python looks for garbage once more before it ends, which takes it half a second


class FramesCalculation(CalcJob):
    """A python script of ``runners/`` run on every frame of a dataset with all cores of the job."""

    TASK: str
    PARSER: str
    #: What of an output frame names the frame that it comes from: ``parent`` where a frame may become several.
    NAMED_BY: str = "frame_id"

    def init(self) -> None:
        """Begin, or go on after a worker of the daemon that has ended."""
        watch_connections()
        super().init()

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define the ports all batched jobs have."""
        super().define(spec)
        spec.input("code", valid_type=AbstractCode, help="Python with ase, and what the potential needs, on the compute machine.")
        spec.input("frames", valid_type=Dataset, help="Frames to work on.")
        spec.input("settings", valid_type=Dict, required=False, help="Settings of the task.")
        spec.input("metadata.options.parser_name", valid_type=str, default=cls.PARSER)
        # What `verdi calcjob inputcat` and `outputcat` show.
        spec.input("metadata.options.input_filename", valid_type=str, default=INPUT)
        spec.input("metadata.options.output_filename", valid_type=str, default=OUTPUT)
        spec.input(
            "metadata.options.processes",
            valid_type=int,
            required=False,
            help="Worker processes; default: all cores the job may use.",
        )
        spec.input("metadata.options.resources", valid_type=dict, default={"num_machines": 1, "num_mpiprocs_per_machine": 1})
        spec.input("metadata.options.withmpi", valid_type=bool, default=False)
        spec.output("frames", valid_type=Dataset, required=False, help="The frames that came out.")
        spec.output("summary", valid_type=Dict, required=False, help="Counts by status, wall time, seconds per frame.")
        spec.exit_code(
            300, "ERROR_NO_RESULTS", message="The job gave no results; its last words: {message}", invalidates_cache=True
        )
        spec.exit_code(310, "ERROR_ALL_FAILED", message="Every frame failed; the first one: {message}")
        spec.exit_code(
            320,
            "ERROR_DAMAGED",
            message="Results were changed or lost on the way; the output holds those that are whole: {message}",
            invalidates_cache=True,
        )
        spec.exit_code(
            400,
            "ERROR_INCOMPLETE",
            message="The job ended after {done} of {total} frames; the output holds those that are finished.",
            invalidates_cache=True,
        )

    def task_settings(self) -> dict[str, Any]:
        """Return the settings that the script reads."""
        raise NotImplementedError

    def input_frames(self) -> str:
        """Return the frames to work on as extended XYZ."""
        return str(self.inputs.frames.text())

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write script, settings and frames."""
        options = self.inputs.metadata.options
        settings = {"processes": options.get("processes"), **self.task_settings()}
        if options.get("max_wallclock_seconds"):
            settings["time_limit_s"] = max(0.95 * options.max_wallclock_seconds - 10, 0.5 * options.max_wallclock_seconds)
        upload_runner(folder, self.TASK)
        if "potential" in self.inputs:
            upload_scripts(folder, self.inputs.potential.family)
        with folder.open("settings.json", "w", encoding="utf-8") as handle:
            json.dump(settings, handle, indent=1, sort_keys=True)
        with folder.open(INPUT, "w", encoding="utf-8") as handle:
            handle.write(self.input_frames())

        code_info = CodeInfo()
        code_info.code_uuid = self.inputs.code.uuid
        code_info.cmdline_params = ["batch.py", self.TASK]
        code_info.stdout_name = OUTPUT
        code_info.stderr_name = "stderr.txt"
        info = CalcInfo()
        info.codes_info = [code_info]
        info.retrieve_temporary_list = ["results.jsonl"]  # its content goes into the dataset
        info.retrieve_list = ["summary.json", OUTPUT, "stderr.txt"]
        if "potential" in self.inputs:
            info.local_copy_list = potential_files(self.inputs.potential, f"{POTENTIAL_FOLDER}/")
        return info


def upload_runner(folder: Folder, task: str) -> None:
    """Put the scripts that run ``python batch.py task`` into the job folder."""
    for name in scripts_of(task):
        with folder.open(f"{name}.py", "w", encoding="utf-8") as handle:
            handle.write((FOLDER / f"{name}.py").read_text(encoding="utf-8"))


def upload_scripts(folder: Folder, family: Family) -> None:
    """Put the python files into the job folder by which a family makes its calculator."""
    for path in family.SCRIPTS:
        with folder.open(path.name, "w", encoding="utf-8") as handle:
            handle.write(path.read_text(encoding="utf-8"))


def potential_files(potential: Potential, prefix: str = "") -> list[tuple[str, str, str]]:
    """Return AiiDA's local_copy_list of a potential's files, after checking them."""
    return [(potential.uuid, name, prefix + name) for name in potential.checked_files()]


def potential_calculator(potential: Potential) -> dict[str, Any]:
    """Return the part of the task settings that makes the calculator of an uploaded potential."""
    return potential.family.calculator(potential.facts, f"{POTENTIAL_FOLDER}/{potential.main}")
