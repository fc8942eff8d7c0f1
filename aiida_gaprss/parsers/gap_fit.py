"""Parser of gaprss.gap_fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from aiida.engine import CalcJob, ExitCode
from aiida.orm import Dict
from aiida.parsers import Parser
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.errors import errors_in_groups
from aiida_gaprss.calculations.gap_fit import GapFitCalculation, training_set
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential, PotentialError
from aiida_gaprss.models.gap.descriptors import descriptor_parameters
from aiida_gaprss.models.gap.forecast import forecast
from aiida_gaprss.models.gap.log import expected_counts, read_log
from aiida_gaprss.models.gap.settings import FitSettings
from aiida_gaprss.models.regularisation import sigma_ranges
from aiida_gaprss.models.training import atomic_energies
from aiida_gaprss.outside import read_text
from aiida_gaprss.parsers.evaluate import one_prediction
from aiida_gaprss.parsers.results import in_words, read_results

#: To how much of an eV gap_fit is told energies of isolated atoms.
_E0_WRITTEN = 1e-9

_NO_MEMORY = re.compile(r"(Operating system error: )?Cannot allocate memory.*|Error allocating .*|.*[Oo]ut of memory.*")
_SINGULAR = re.compile(r"cannot factorise|dpotrf|dtrtrs|[Ss]ingular")
_KILLED = re.compile(r"(?:line \d+: +\d+ )?(Killed .*gap_fit.*)")
_OUT_OF_TIME = re.compile(r".*(CPU time limit exceeded|Cputime limit exceeded|DUE TO TIME LIMIT|[Ww]alltime).*")


class GapFitParser(Parser):
    """Check the log against what was sent, keep the potential, and compute the training errors."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Parse a finished gap_fit."""
        folder = Path(kwargs["retrieved_temporary_folder"])
        if limit := self.time_limit():
            return self.exit_codes.ERROR_TIME.format(message=limit)
        if killed := _KILLED.search(self.error_stream("_scheduler-stderr.txt")):
            return self.exit_codes.ERROR_KILLED.format(message=" ".join(killed[1].split()))
        try:
            text = self.retrieved.base.repository.get_object_content(GapFitCalculation.LOG, "r")
        except FileNotFoundError:
            text = ""
        if not text.strip():
            return self.exit_codes.ERROR_NO_LOG.format(message=self.last_words("gap_fit.err"))
        errors = self.error_stream("gap_fit.err")
        log = read_log(f"{text}\n{errors}")
        if lack := _NO_MEMORY.search(errors):
            return self.exit_codes.ERROR_MEMORY.format(message=" ".join(lack[0].split()))
        if log.abort and _SINGULAR.search(log.abort):
            return self.exit_codes.ERROR_ILL_CONDITIONED.format(message=log.abort)
        if log.abort:
            return self.exit_codes.ERROR_ABORT.format(message=log.abort)
        settings = FitSettings(**self.node.inputs.settings.get_dict())
        frames = training_set(self.node.inputs, settings)
        sent = fr.describe(frames)
        results: dict[str, Any] = {
            "counts": log.counts,
            "frames": sent["frames"],
            "atoms": sent["atoms"],
            "config_types": sent["config_types"],
            "descriptors": log.descriptors,
            "peak_memory_MB": log.peak_memory_MB,
            "measured": measured(folder / GapFitCalculation.USAGE),
            "forecast": forecast_of(frames, settings),
            "gap_fit": log.version,
            "sigmas": sigma_ranges(frames),
            "warnings": log.warnings,
        }
        expected = expected_counts(frames)
        wrong = [
            f"{name}: {expected[name]} sent, {log.counts.get(name)} read"
            for name in expected
            if expected[name] != log.counts.get(name)
        ]
        if wrong:
            self.out("results", Dict(results))
            return self.exit_codes.ERROR_COUNTS.format(message="; ".join(wrong))
        failure, potential = self.potential(folder, frames, settings)
        if potential is None:
            self.out("results", Dict(results))
            return failure
        self.out("potential", potential)
        failure = self.evaluate(folder, frames, results) if "python" in self.node.inputs else None
        self.out("results", Dict(results))
        return failure

    def potential(
        self, folder: Path, frames: list[Atoms], settings: FitSettings
    ) -> tuple[ExitCode, None] | tuple[None, Potential]:
        """Return the potential in the folder, read as that of a stranger, or what is wrong with it."""
        if not (folder / Potential.XML).is_file():
            message = f"there is no {Potential.XML}; {self.last_words('gap_fit.err')}"
            return self.exit_codes.ERROR_NO_POTENTIAL.format(message=message), None
        given = self.node.inputs.settings.get_dict()
        try:
            potential = Potential(folder, sigma={k: v for k, v in given.items() if "sigma" in k or k == "regularisation"})
        except PotentialError as exception:
            message = f"{str(exception).replace(f'{folder}/', '')}; {self.last_words('gap_fit.err')}"
            return self.exit_codes.ERROR_DAMAGED_POTENTIAL.format(message=message), None
        if other := other_potential(potential, frames, settings):
            return self.exit_codes.ERROR_OTHER_POTENTIAL.format(message=other), None
        return None, potential

    def time_limit(self) -> str | None:
        """Return how the scheduler or the shell says that the time was up, or None."""
        if self.node.exit_status == CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME.status:
            return str(self.node.exit_message)
        match = _OUT_OF_TIME.search(self.error_stream("_scheduler-stderr.txt"))
        return match[0].strip() if match else None

    def dataset_links(self) -> list[Any]:
        """Return the links of the datasets."""
        links = self.node.base.links.get_incoming(node_class=Dataset).all()
        return [link for link in links if link.link_label.startswith("datasets__")]

    def evaluate(self, folder: Path, frames: list[Any], results: dict[str, Any]) -> ExitCode | None:
        """Add the predictions on the training set and their errors."""
        found = read_results(folder / "results.jsonl", frames, one_prediction)
        if found.damage:
            return self.exit_codes.ERROR_EVALUATION.format(message=in_words(found.damage))
        lines = found.lines
        failed = [line.status for line in lines.values() if line.status != "ok"]
        if failed or len(lines) < len(frames):
            return self.exit_codes.ERROR_EVALUATION.format(message=failed[0] if failed else self.last_words("evaluate.err"))
        for index, atoms in enumerate(frames):
            (predicted,) = lines[index].frames
            fr.set_labels(
                atoms,
                predicted.info["GAP_energy"],
                predicted.arrays["GAP_forces"],
                predicted.info["GAP_virial"],
                prefix=fr.PREDICTION,
            )
        labelled = [atoms for atoms in frames if fr.is_labelled(atoms)]
        results |= errors_in_groups(labelled)
        if self.node.get_option("keep_predictions"):
            self.out("predictions", Dataset(labelled, level_of_theory=self.dataset_links()[0].node.level))
        return None

    def last_words(self, name: str) -> str:
        """Return the end of an error stream."""
        text = self.error_stream(name).strip()
        return text.splitlines()[-1] if text else "no error message"

    def error_stream(self, name: str) -> str:
        """Return what a program wrote to its error stream, where gap_fit says why it stops."""
        try:
            return self.retrieved.base.repository.get_object_content(name, "r")
        except FileNotFoundError:
            return ""


def measured(path: Path) -> dict[str, float] | None:
    """Return what gap_fit has used, as watch.sh noted it: peak resident memory (MB) and CPU time (s); None if it could not."""
    try:
        memory, ticks, per_second = map(int, read_text(path, most=1000).split())
    except ValueError:
        return None
    return {"memory_MB": round(memory * 1.024e-3, 1), "cpu_s": round(ticks / per_second, 2)} if memory > 0 < per_second else None


def forecast_of(frames: list[Atoms], settings: FitSettings) -> dict[str, float]:
    """Return what the fit was expected to use, in the units of :func:`measured`."""
    size = forecast(frames, settings)
    return {"memory_MB": round(size.memory_MB, 1), "cpu_s": round(size.cpu_seconds, 2)}


def other_potential(potential: Potential, frames: list[Atoms], settings: FitSettings) -> str | None:
    """Return in what a potential differs from the one that was asked for, or None."""
    wanted = atomic_energies(frames, settings.e0)
    elements = sorted(wanted)
    terms = settings.expanded(elements)
    lines = [line for term in settings.descriptors for line in term.commands(elements)]
    told, numbers = potential.base.attributes.get("descriptors"), potential.base.attributes.get("n_sparse")
    if len(told) != len(lines):
        return f"it has {len(told)} descriptors, expected {len(lines)}"
    for line, there, (term, _), number in zip(lines, told, terms, numbers, strict=True):
        if descriptor_parameters(line, "input") != descriptor_parameters(there, Potential.XML):
            return f"its descriptor is {there!r}, expected {line!r}"
        if number > term.most_sparse:
            return f"it has {number} sparse points of {there!r}, expected at most {term.most_sparse}"
    e0 = potential.base.attributes.get("e0")
    for symbol in elements:
        if abs(e0.get(symbol, 0.0) - wanted[symbol]) > _E0_WRITTEN:
            return f"its e0 of {symbol} is {e0.get(symbol)}, expected {wanted[symbol]:.10f}"
    return None
