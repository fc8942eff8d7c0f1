"""Parser of gaprss.fit."""

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
from aiida_gaprss.calculations.fit import FitCalculation, settings_and_family, training_set
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import BaseFit, Family, FitFault, PotentialError
from aiida_gaprss.outside import read_text
from aiida_gaprss.parsers.evaluate import one_prediction
from aiida_gaprss.parsers.results import in_words, read_results

_KILLED = re.compile(r"(?:line \d+: +\d+ )?(Killed (?!.*batch\.py).*)")
_OUT_OF_TIME = re.compile(r".*(CPU time limit exceeded|Cputime limit exceeded|DUE TO TIME LIMIT|[Ww]alltime).*")

#: Exit codes of what a family finds wrong.
_CODES = {
    "no log": "ERROR_NO_LOG",
    "abort": "ERROR_ABORT",
    "memory": "ERROR_MEMORY",
    "ill-conditioned": "ERROR_ILL_CONDITIONED",
    "counts": "ERROR_COUNTS",
    "no potential": "ERROR_NO_POTENTIAL",
}


class FitParser(Parser):
    """Check what the program said against what was sent, keep the potential, and compute the training errors."""

    def parse(self, **kwargs: Any) -> ExitCode | None:
        """Parse a finished fit."""
        folder = Path(kwargs["retrieved_temporary_folder"])
        settings, family = settings_and_family(self.node.inputs)
        if ended := self.ended_from_outside(family):
            return ended
        frames = training_set(self.node.inputs, settings)
        outcome = family.read(folder, self.text(FitCalculation.LOG), self.text(FitCalculation.ERRORS), frames, settings)
        sent = {key: value for key, value in fr.describe(frames).items() if key in ("frames", "atoms", "config_types")}
        costs = {"measured": measured(folder / FitCalculation.USAGE), "forecast": forecast_of(family, frames, settings)}
        results = {**sent, **costs, **outcome.results, "program": family.PROGRAM}
        potential, fault = self.potential(folder, family, frames, settings) if outcome.fault is None else (None, None)
        if outcome.fault is not None:
            fault = self.exit_code(family, outcome.fault)
        if potential is not None:
            self.out("potential", potential)
            fault = self.evaluate(folder, frames, results) if "python" in self.node.inputs else None
        if outcome.results:  # else the program has not come that far
            self.out("results", Dict(results))
        return fault

    def ended_from_outside(self, family: Family) -> ExitCode | None:
        """Return the exit code of a job that a scheduler or a shell has ended, or None."""
        if limit := self.time_limit():
            return self.exit_codes.ERROR_TIME.format(message=limit, program=family.PROGRAM)
        if killed := _KILLED.search(self.text("_scheduler-stderr.txt")):
            return self.exit_codes.ERROR_KILLED.format(message=" ".join(killed[1].split()), program=family.PROGRAM)
        return None

    def exit_code(self, family: Family, fault: FitFault) -> ExitCode:
        """Return the exit code of what a family finds wrong."""
        code: ExitCode = getattr(self.exit_codes, _CODES[fault.kind])
        return code.format(message=fault.message, program=family.PROGRAM)

    def potential(
        self, folder: Path, family: Family, frames: list[Atoms], settings: BaseFit
    ) -> tuple[Potential, None] | tuple[None, ExitCode]:
        """Return the potential in the folder, read as that of a stranger, or what is wrong with it."""
        try:
            potential = Potential(folder, sigma=family.sigma(settings), family=family.NAME)
        except PotentialError as exception:
            message = f"{str(exception).replace(f'{folder}/', '')}; {self.last_words(FitCalculation.ERRORS)}"
            return None, self.exit_codes.ERROR_DAMAGED_POTENTIAL.format(message=message, program=family.PROGRAM)
        if other := family.differs(potential.facts, frames, settings):
            return None, self.exit_codes.ERROR_OTHER_POTENTIAL.format(message=other)
        return potential, None

    def time_limit(self) -> str | None:
        """Return how the scheduler or the shell says that the time was up, or None."""
        if self.node.exit_status == CalcJob.exit_codes.ERROR_SCHEDULER_OUT_OF_WALLTIME.status:
            return str(self.node.exit_message)
        match = _OUT_OF_TIME.search(self.text("_scheduler-stderr.txt"))
        return match[0].strip() if match else None

    def level(self) -> Any:
        """Return the level of theory of the datasets."""
        links = self.node.base.links.get_incoming(node_class=Dataset).all()
        return next(link.node for link in links if link.link_label.startswith("datasets__")).level

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
            values = (predicted.info["PRED_energy"], predicted.arrays["PRED_forces"], predicted.info["PRED_virial"])
            fr.set_labels(atoms, *values, prefix=fr.PREDICTION)
        labelled = [atoms for atoms in frames if fr.is_labelled(atoms)]
        results |= errors_in_groups(labelled)
        if self.node.get_option("keep_predictions"):
            self.out("predictions", Dataset(labelled, level_of_theory=self.level()))
        return None

    def last_words(self, name: str) -> str:
        """Return the end of an error stream."""
        text = self.text(name).strip()
        return text.splitlines()[-1] if text else "no error message"

    def text(self, name: str) -> str:
        """Return what a program wrote to a file that was kept, empty if there is none."""
        try:
            return self.retrieved.base.repository.get_object_content(name, "r")
        except FileNotFoundError:
            return ""


def measured(path: Path) -> dict[str, float] | None:
    """Return what the program has used, as watch.sh noted it: peak resident memory (MB) and CPU time (s), or None."""
    try:
        memory, ticks, per_second = map(int, read_text(path, most=1000).split())
    except ValueError:
        return None
    return {"memory_MB": round(memory * 1.024e-3, 1), "cpu_s": round(ticks / per_second, 2)} if memory > 0 < per_second else None


def forecast_of(family: Family, frames: list[Atoms], settings: BaseFit) -> dict[str, float] | None:
    """Return what the fit was expected to use, in the units of :func:`measured`; None if nobody knows."""
    size = family.forecast(frames, settings)
    return None if size is None else {"memory_MB": round(size.memory_MB, 1), "cpu_s": round(size.cpu_seconds, 2)}
