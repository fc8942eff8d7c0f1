"""Fit a GAP with gap_fit."""

from __future__ import annotations

import json
from typing import Any

from aiida.common import CalcInfo, CodeInfo, CodeRunMode
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import AbstractCode, Dict, Int, List
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.frames import extxyz, upload_runner
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import difference
from aiida_gaprss.models.gap.settings import FitSettings
from aiida_gaprss.models.regularisation import regularise
from aiida_gaprss.models.training import TrainingSetError, atomic_energies, join
from aiida_gaprss.runners import FOLDER as RUNNERS
from aiida_gaprss.settings.jobs import EvaluateSettings
from aiida_gaprss.settings.model import model_validator_for


class GapFitCalculation(CalcJob):
    """Fit a GAP to the labelled frames of several datasets; check that gap_fit used every label; evaluate it on them."""

    TRAINING = "train.extxyz"
    CONFIG = "gap_fit.in"
    LOG = "gap_fit.out"
    WATCH = "watch.sh"
    USAGE = "usage.txt"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define ports and exit codes."""
        super().define(spec)
        spec.input(
            "code", valid_type=AbstractCode, help="The gap_fit binary (not the wheel's script, which drops the exit status)."
        )
        spec.input(
            "python",
            valid_type=AbstractCode,
            required=False,
            help="Python with ase and quippy on the same computer: gives training errors.",
        )
        spec.input_namespace(
            "datasets", valid_type=Dataset, dynamic=True, help="Datasets to be joined, in the order of their names."
        )
        spec.input_namespace(
            "sparse_frames",
            valid_type=Dataset,
            dynamic=True,
            help="Frames that are not fitted: sparse points may be chosen from them, too (Allen et al. 2022, section 2.4).",
        )
        spec.input("leave_out", valid_type=List, required=False, help="Ids of frames of the datasets that are not fitted.")
        spec.input("settings", valid_type=Dict, validator=model_validator_for(FitSettings), help="Hyperparameters (FitSettings).")
        spec.input("seed", valid_type=Int, validator=_validate_seed, help="Seed of the choice of sparse points; positive.")
        spec.input("metadata.options.parser_name", valid_type=str, default="gaprss.gap_fit")
        spec.input("metadata.options.resources", valid_type=dict, default={"num_machines": 1, "num_mpiprocs_per_machine": 1})
        spec.input("metadata.options.withmpi", valid_type=bool, default=False)
        spec.input("metadata.options.input_filename", valid_type=str, default=cls.CONFIG)
        spec.input("metadata.options.output_filename", valid_type=str, default=cls.LOG)
        spec.input("metadata.options.threads", valid_type=int, default=1, help="OpenMP threads of gap_fit.")
        spec.input(
            "metadata.options.keep_predictions",
            valid_type=bool,
            default=True,
            help="Store the training set with predictions; their errors are in the results anyway.",
        )
        spec.inputs.validator = _validate_inputs
        spec.output("potential", valid_type=Potential, required=False)
        spec.output(
            "results",
            valid_type=Dict,
            required=False,
            help="Counts, warnings, training errors; memory and CPU time as forecast and as measured.",
        )
        spec.output(
            "predictions", valid_type=Dataset, required=False, help="Training set with the potential's predictions (GAP_*)."
        )
        spec.exit_code(300, "ERROR_NO_LOG", message="gap_fit wrote no log; its last words: {message}", invalidates_cache=True)
        spec.exit_code(310, "ERROR_ABORT", message="gap_fit stopped: {message}")
        spec.exit_code(311, "ERROR_MEMORY", message="gap_fit had not enough memory: {message}")
        spec.exit_code(312, "ERROR_TIME", message="gap_fit was ended by the time limit of the job: {message}")
        spec.exit_code(313, "ERROR_ILL_CONDITIONED", message="gap_fit cannot solve its equations: {message}")
        spec.exit_code(
            314, "ERROR_KILLED", message="gap_fit was killed, as for lack of memory or time: {message}", invalidates_cache=True
        )
        spec.exit_code(320, "ERROR_COUNTS", message="gap_fit did not use what it was given: {message}")
        spec.exit_code(330, "ERROR_NO_POTENTIAL", message="gap_fit ended without a potential: {message}", invalidates_cache=True)
        spec.exit_code(
            331,
            "ERROR_DAMAGED_POTENTIAL",
            message="The potential that gap_fit wrote is damaged: {message}",
            invalidates_cache=True,
        )
        spec.exit_code(
            332,
            "ERROR_OTHER_POTENTIAL",
            message="The potential is not the one that was asked for: {message}",
            invalidates_cache=True,
        )
        spec.exit_code(340, "ERROR_EVALUATION", message="The new potential could not be evaluated: {message}")

    def prepare_for_submission(self, folder: Folder) -> CalcInfo:
        """Write the training set and gap_fit's configuration."""
        settings = FitSettings(**self.inputs.settings.get_dict())
        frames = training_set(self.inputs, settings)
        with folder.open(self.TRAINING, "w", encoding="utf-8") as handle:
            handle.write(extxyz(frames))
        with folder.open(self.CONFIG, "w", encoding="utf-8") as handle:
            e0 = atomic_energies(frames, settings.e0)
            handle.write(settings.command(self.TRAINING, Potential.XML, self.inputs.seed.value, e0))

        fit = CodeInfo()
        fit.code_uuid = self.inputs.code.uuid
        word = f"config_file={self.CONFIG}"
        fit.cmdline_params = [word]
        fit.stdout_name = self.LOG
        fit.stderr_name = "gap_fit.err"
        info = CalcInfo()
        info.codes_info = [fit]
        info.codes_run_mode = CodeRunMode.SERIAL
        # The options stand before AiiDA's own environment lines in the job script, so that a user can override them.
        info.prepend_text = (
            f"export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS={self.inputs.metadata.options.threads} OMP_STACKSIZE=64M\n"
            f"bash {self.WATCH} $$ {word} < /dev/null > /dev/null 2>&1 &\n"
        )
        with folder.open(self.WATCH, "w", encoding="utf-8") as handle:
            handle.write((RUNNERS / self.WATCH).read_text(encoding="utf-8"))
        info.retrieve_temporary_list = [(f"{Potential.XML}*", ".", 0), "results.jsonl", self.USAGE]
        info.retrieve_list = [self.LOG, "gap_fit.err"]
        info.provenance_exclude_list = [self.TRAINING]  # it is the datasets once more
        if "python" in self.inputs:
            evaluate = CodeInfo()
            evaluate.code_uuid = self.inputs.python.uuid
            evaluate.cmdline_params = ["batch.py", "evaluate"]
            evaluate.stdout_name = "evaluate.out"
            evaluate.stderr_name = "evaluate.err"
            info.codes_info.append(evaluate)
            info.retrieve_list.append("evaluate.err")
            upload_runner(folder, "evaluate")
            task = EvaluateSettings().model_dump() | {
                "calculator": "quippy.potential.Potential",
                "arguments": {"param_filename": Potential.XML},
                "input": self.TRAINING,
                "begins_anew": True,  # what is in the folder of a job that a scheduler begins again is of another potential
            }
            with folder.open("settings.json", "w", encoding="utf-8") as handle:
                json.dump(task, handle)
        return info


#: Labels that a fit may leave out.
UNFITTED = {"forces", "virial"}


def training_set(inputs: Any, settings: FitSettings) -> list[Atoms]:
    """Return the labelled frames of all datasets, joined in the order of their names, as gap_fit should see them.

    :param inputs: of a fit: ``datasets``; ``leave_out``, ids of frames that are not fitted; ``sparse_frames``, datasets of which
        only the structures count: their frames come last, without labels.
    A fit asks for it when it is checked, forecast, written and read; the last one is kept.

    :raises TrainingSetError: for a training set that gap_fit would refuse or misunderstand.
    """
    given = [inputs[key] for key in ("datasets", "sparse_frames") if key in inputs]
    nodes = [sorted((name, node.uuid) for name, node in namespace.items()) for namespace in given]
    leave_out = sorted(inputs["leave_out"].get_list()) if "leave_out" in inputs else []
    key = json.dumps([nodes, leave_out, settings.model_dump(mode="json")])
    if key not in _kept:
        frames = _joined(inputs, settings)
        _kept.clear()
        _kept[key] = frames
    return [atoms.copy() for atoms in _kept[key]]


#: The last training set, by what it was made of.
_kept: dict[str, list[Atoms]] = {}


def _joined(inputs: Any, settings: FitSettings) -> list[Atoms]:
    known = {name: node.get_frames() for name, node in inputs["datasets"].items()}
    leave_out = set(inputs["leave_out"].get_list()) if "leave_out" in inputs else set()
    absent = leave_out - {atoms.info["frame_id"] for frames in known.values() for atoms in frames}
    if absent:
        raise TrainingSetError(
            f"leave_out: no dataset has a frame {min(absent)!r}" + (f" ({len(absent)} such)" if len(absent) > 1 else "")
        )
    kept = [[atoms for atoms in known[name] if atoms.info["frame_id"] not in leave_out] for name in sorted(known)]
    frames = [_stripped(atoms) for atoms in join(kept, settings.e0)]
    for atoms in frames:
        for target in UNFITTED - set(settings.targets):
            atoms.info.pop(f"REF_{target}", None)
            atoms.arrays.pop(f"REF_{target}", None)
    regularise(frames, settings.regularisation)
    fitted = {symbol for atoms in frames for symbol in atoms.get_chemical_symbols()}
    for _, node in sorted(inputs["sparse_frames"].items()) if "sparse_frames" in inputs else ():
        others = set(node.elements) - fitted
        if others:
            raise TrainingSetError(f"sparse_frames contain {', '.join(sorted(others))}, which no fitted frame does")
        frames += [_stripped(atoms, labels=False) for atoms in node.get_frames() if not fr.is_isolated_atom(atoms)]
    return frames


def _stripped(atoms: Atoms, labels: bool = True) -> Atoms:
    """Return a copy with nothing but the name, the kind and the reference labels."""
    out = fr.canonical(atoms)
    kept = ("frame_id", "config_type", *(("REF_energy", "REF_virial") if labels else ()))
    out.info = {key: value for key, value in out.info.items() if key in kept}
    for key in [name for name in out.arrays if name.startswith(("GAP_", "REF_")) and not (labels and name == "REF_forces")]:
        del out.arrays[key]
    return out


def _validate_seed(node: Any, _: Any) -> str | None:
    if node is not None and node.value <= 0:
        return f"the seed must be positive (gap_fit takes -1 as 'draw one'), got {node.value}"
    return None


def checked_training_set(inputs: Any, settings: FitSettings) -> list[Atoms]:
    """Return the training set of the inputs of a fit, after everything that can be checked before gap_fit runs.

    :param settings: all settings, which those of the inputs may not yet be.
    :raises ValueError: naming the fault: no dataset, several levels of theory, frames or settings that gap_fit would not take.
    """
    datasets = inputs.get("datasets", {})
    if not datasets:
        raise TrainingSetError("give at least one dataset")
    levels = {name: node.level for name, node in sorted(datasets.items()) if node.base.attributes.get("energies")}
    other = difference(levels)
    if other and not settings.mixed_levels:
        raise TrainingSetError(
            f"the datasets were labelled at different levels of theory: {other}; "
            "if they may be mixed, say mixed_levels: true in the settings of the fit"
        )
    frames = training_set(inputs, settings)
    settings.command("train", "gap", 1, atomic_energies(frames, settings.e0))
    return frames


def _validate_inputs(inputs: dict[str, Any], ports: Any) -> str | None:
    if "datasets" not in ports:  # exposed by a work chain that gives them later
        return None
    try:
        checked_training_set(inputs, FitSettings(**inputs["settings"].get_dict()))
    except ValueError as exception:
        return str(exception)
    return None
