"""Lattice thermal conductivity of a crystal from forces, by phono3py."""

from __future__ import annotations

import json
from typing import Any

from aiida.common import CalcInfo, CodeInfo
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import AbstractCode, Dict

from aiida_gaprss import frames as fr
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.properties.base import PropertyError, property_of
from aiida_gaprss.runners import FOLDER as RUNNERS
from aiida_gaprss.runners.conductivity import INPUT, RESULTS, SETTINGS

#: The script that does it, and what it prints.
SCRIPT, OUTPUT, ERRORS = "conductivity.py", "stdout.txt", "stderr.txt"


class ConductivityCalculation(CalcJob):
    """Make the lattice thermal conductivity of forces in supercells with displaced atoms.

    ``results`` is what the property ``conductivity`` gives for the same frames.
    """

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define ports and exit codes."""
        super().define(spec)
        spec.input("code", valid_type=AbstractCode, help="Python with ase and phono3py.")
        spec.input("frames", valid_type=Dataset, help="The crystal, and after it the frames of the plan with forces.")
        spec.input(
            "settings", valid_type=Dict, validator=_validate, help="The property's settings, and the prefix of the forces."
        )
        spec.input("metadata.options.parser_name", valid_type=str, default="gaprss.conductivity")
        spec.input("metadata.options.input_filename", valid_type=str, default=INPUT)
        spec.input("metadata.options.output_filename", valid_type=str, default=OUTPUT)
        spec.input("metadata.options.processes", valid_type=int, required=False, help="Threads; default: all cores of the job.")
        spec.input("metadata.options.resources", valid_type=dict, default={"num_machines": 1, "num_mpiprocs_per_machine": 1})
        spec.input("metadata.options.withmpi", valid_type=bool, default=False)
        spec.output("results", valid_type=Dict, required=False, help="Conductivities, W/(m K), and what they are of.")
        spec.exit_code(
            300, "ERROR_NO_RESULTS", message="The job gave no results; its last words: {message}", invalidates_cache=True
        )
        spec.exit_code(310, "ERROR_FAILED", message="There is no conductivity: {message}")
        spec.exit_code(320, "ERROR_DAMAGED", message="The results are damaged: {message}", invalidates_cache=True)

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write script, settings and frames."""
        settings = complete(self.inputs.settings.get_dict())
        settings["processes"] = self.inputs.metadata.options.get("processes")
        files = {SETTINGS: json.dumps(settings, indent=1, sort_keys=True), INPUT: self.inputs.frames.text()}
        for name, text in {**files, SCRIPT: (RUNNERS / SCRIPT).read_text(encoding="utf-8")}.items():
            with folder.open(name, "w", encoding="utf-8") as handle:
                handle.write(text)
        code = CodeInfo()
        code.code_uuid, code.cmdline_params = self.inputs.code.uuid, [SCRIPT]
        code.stdout_name, code.stderr_name = OUTPUT, ERRORS
        info = CalcInfo()
        info.codes_info = [code]
        info.retrieve_list = [RESULTS, OUTPUT, ERRORS]
        info.provenance_exclude_list = [INPUT]  # it is the dataset once more
        return info


def complete(given: dict[str, Any]) -> dict[str, Any]:
    """Return all settings of the script, of those that are given.

    :raises PropertyError: if one is wrong.
    """
    rest = {key: value for key, value in given.items() if key != "prefix"}
    prefix = given.get("prefix")
    if prefix not in (fr.REFERENCE, fr.PREDICTION):
        raise PropertyError(f"prefix is {prefix!r}, expected {fr.REFERENCE} or {fr.PREDICTION}")
    return {**property_of({"kind": "conductivity", **rest}).model_dump(mode="json"), "prefix": prefix}


def _validate(node: Dict | None, _: Any) -> str | None:
    try:
        if node is not None:
            complete(node.get_dict())
    except PropertyError as error:
        return str(error)
    return None
