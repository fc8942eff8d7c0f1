"""Fit a potential of any family."""

from __future__ import annotations

import json
from typing import Any

from aiida.common import CalcInfo, CodeInfo, CodeRunMode
from aiida.common.folders import Folder
from aiida.engine import CalcJob, CalcJobProcessSpec
from aiida.orm import AbstractCode, Dict, Int, List
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.calculations.frames import upload_runner, upload_scripts
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.io.extxyz import extxyz_text
from aiida_gaprss.levels import difference, mixed_up
from aiida_gaprss.models.base import BaseFit, Family
from aiida_gaprss.models.families import family_of, fit_settings
from aiida_gaprss.models.training import TrainingSetError, join
from aiida_gaprss.runners import FOLDER as RUNNERS
from aiida_gaprss.settings.jobs import EvaluateSettings
from aiida_gaprss.settings.model import model_validator_for


class FitCalculation(CalcJob):
    """Fit a potential to the labelled frames of several datasets; check that every label was used; evaluate it on them."""

    TRAINING = "train.extxyz"
    INPUT, LOG, ERRORS = "fit.in", "fit.out", "fit.err"
    WATCH = "watch.sh"
    USAGE = "usage.txt"

    @classmethod
    def define(cls, spec: CalcJobProcessSpec) -> None:  # type: ignore[override]
        """Define ports and exit codes."""
        super().define(spec)
        spec.input(
            "code",
            valid_type=AbstractCode,
            help="The program that fits: of a GAP the gap_fit binary (not the wheel's script, which drops the exit status), of a "
            "pair potential a python with ase.",
        )
        spec.input(
            "python",
            valid_type=AbstractCode,
            required=False,
            help="Python with ase and what the family needs on the same computer: gives training errors.",
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
        spec.input(
            "settings",
            valid_type=Dict,
            validator=model_validator_for(fit_settings),
            help="Settings of the fit, of a family.",
        )
        spec.input("seed", valid_type=Int, validator=_validate_seed, help="Seed of what is random in a fit; positive.")
        spec.input("metadata.options.parser_name", valid_type=str, default="gaprss.fit")
        spec.input("metadata.options.resources", valid_type=dict, default={"num_machines": 1, "num_mpiprocs_per_machine": 1})
        spec.input("metadata.options.withmpi", valid_type=bool, default=False)
        spec.input("metadata.options.input_filename", valid_type=str, default=cls.INPUT)
        spec.input("metadata.options.output_filename", valid_type=str, default=cls.LOG)
        spec.input("metadata.options.threads", valid_type=int, default=1, help="OpenMP threads of the fit.")
        spec.input(
            "metadata.options.keep_predictions",
            valid_type=bool,
            default=True,
            help="Store the training set with predictions; their errors are in the results anyway.",
        )
        spec.inputs.validator = _validate_inputs
        spec.output("potential", valid_type=Potential, required=False, help="The fitted potential, if it is whole.")
        spec.output(
            "results",
            valid_type=Dict,
            required=False,
            help="Counts, warnings, training errors; memory and CPU time as forecast and as measured.",
        )
        spec.output(
            "predictions", valid_type=Dataset, required=False, help="Training set with the potential's predictions (PRED_*)."
        )
        spec.exit_code(300, "ERROR_NO_LOG", message="{program} wrote no log; its last words: {message}", invalidates_cache=True)
        spec.exit_code(310, "ERROR_ABORT", message="{program} stopped: {message}")
        spec.exit_code(311, "ERROR_MEMORY", message="{program} had not enough memory: {message}")
        spec.exit_code(312, "ERROR_TIME", message="{program} was ended by the time limit of the job: {message}")
        spec.exit_code(313, "ERROR_ILL_CONDITIONED", message="{program} cannot solve its equations: {message}")
        spec.exit_code(
            314, "ERROR_KILLED", message="{program} was killed, as for lack of memory or time: {message}", invalidates_cache=True
        )
        spec.exit_code(320, "ERROR_COUNTS", message="{program} did not use what it was given: {message}")
        spec.exit_code(
            330, "ERROR_NO_POTENTIAL", message="{program} ended without a potential: {message}", invalidates_cache=True
        )
        spec.exit_code(
            331,
            "ERROR_DAMAGED_POTENTIAL",
            message="The potential that {program} wrote is damaged: {message}",
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
        """Write the training set and what the family's program is told."""
        settings, family = settings_and_family(self.inputs)
        frames = training_set(self.inputs, settings)
        job = family.job(frames, settings, self.inputs.seed.value, self.TRAINING)
        _write(folder, {self.TRAINING: extxyz_text(frames), **job.files, self.WATCH: (RUNNERS / self.WATCH).read_text("utf-8")})
        upload_scripts(folder, family)
        word = job.argv[-1]
        info = CalcInfo()
        info.codes_info = [_program(self.inputs.code, list(job.argv), self.LOG, self.ERRORS)]
        info.codes_run_mode = CodeRunMode.SERIAL
        # The options stand before AiiDA's own environment lines in the job script, so that a user can override them.
        info.prepend_text = (
            f"export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS={self.inputs.metadata.options.threads} OMP_STACKSIZE=64M\n"
            f"{job.prepend}bash {self.WATCH} $$ {word} < /dev/null > /dev/null 2>&1 &\n"
        )
        info.retrieve_temporary_list = [*((name, ".", 0) for name in job.keep), "results.jsonl", self.USAGE]
        info.retrieve_list = [self.LOG, self.ERRORS]
        info.provenance_exclude_list = [self.TRAINING]  # it is the datasets once more
        if "python" in self.inputs:
            info.codes_info.append(_program(self.inputs.python, ["batch.py", "evaluate"], "evaluate.out", "evaluate.err"))
            info.retrieve_list.append("evaluate.err")
            upload_runner(folder, "evaluate")
            _write(folder, {"settings.json": json.dumps(self._evaluation(family))})
        return info

    def _evaluation(self, family: Family) -> dict[str, Any]:
        """Return the settings of the evaluation on the training set."""
        return {
            **EvaluateSettings().model_dump(),
            **family.calculator({}, family.MAIN),
            "input": self.TRAINING,
            "begins_anew": True,  # what is in the folder of a job that a scheduler begins again is of another potential
        }


def settings_and_family(inputs: Any) -> tuple[BaseFit, Family]:
    """Return the settings of the inputs of a fit, and their family."""
    settings = fit_settings(**inputs["settings"].get_dict())
    return settings, family_of(settings.family)


def _write(folder: Folder, files: dict[str, str]) -> None:
    for name, text in files.items():
        with folder.open(name, "w", encoding="utf-8") as handle:
            handle.write(text)


def _program(code: AbstractCode, argv: list[str], out: str, errors: str) -> CodeInfo:
    info = CodeInfo()
    info.code_uuid, info.cmdline_params, info.stdout_name, info.stderr_name = code.uuid, argv, out, errors
    return info


#: Labels that a fit may leave out.
UNFITTED = {"forces", "virial"}


def training_set(inputs: Any, settings: BaseFit) -> list[Atoms]:
    """Return the labelled frames of all datasets, joined in the order of their names, as its program should see them.

    :param inputs: of a fit: ``datasets``; ``leave_out``, ids of frames that are not fitted; ``sparse_frames``, datasets of which
        only the structures count: their frames come last, without labels.
    A fit asks for it when it is checked, forecast, written and read; the last one is kept.

    :raises TrainingSetError: for a training set that a fit would refuse or misunderstand.
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


def _joined(inputs: Any, settings: BaseFit) -> list[Atoms]:
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
    family_of(settings.family).prepare(frames, settings)
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
    for key in [name for name in out.arrays if name.startswith(("PRED_", "REF_")) and not (labels and name == "REF_forces")]:
        del out.arrays[key]
    return out


def _validate_seed(node: Any, _: Any) -> str | None:
    if node is not None and node.value <= 0:
        return f"the seed must be positive, got {node.value}"
    return None


def checked_training_set(inputs: Any, settings: BaseFit) -> list[Atoms]:
    """Return the training set of the inputs of a fit, after everything that can be checked before its program runs.

    :param settings: all settings, which those of the inputs may not yet be.
    :raises ValueError: naming the fault: no dataset, several levels of theory, frames or
        settings that the program would not take.
    """
    datasets = inputs.get("datasets", {})
    if not datasets:
        raise TrainingSetError("give at least one dataset")
    levels = {name: node.level for name, node in sorted(datasets.items()) if node.base.attributes.get("energies")}
    if confused := mixed_up(levels):
        raise TrainingSetError(f"the datasets cannot be fitted together: {confused}")
    other = difference(levels)
    if other and not settings.mixed_levels:
        raise TrainingSetError(
            f"the datasets were labelled at different levels of theory: {other}; "
            "if they may be mixed, say mixed_levels: true in the settings of the fit"
        )
    if inputs.get("sparse_frames") and not family_of(settings.family).SPARSE:
        raise TrainingSetError(f"sparse_frames (--sparse): a fit of the family {settings.family} chooses no sparse points")
    frames = training_set(inputs, settings)
    family_of(settings.family).job(frames, settings, 1, "train")
    return frames


def _validate_inputs(inputs: dict[str, Any], ports: Any) -> str | None:
    if "datasets" not in ports:  # exposed by a work chain that gives them later
        return None
    try:
        checked_training_set(inputs, settings_and_family(inputs)[0])
    except ValueError as exception:
        return str(exception)
    return None
