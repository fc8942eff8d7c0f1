"""Gaussian approximation potentials as a family of models: fitted by gap_fit, read by quippy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ase import Atoms
from ase.calculators.calculator import Calculator

from aiida_gaprss.analysis.differences import Spread
from aiida_gaprss.models import GAP_VERSION_EXTRA
from aiida_gaprss.models.base import Family, FitFault, FitJob, FitOutcome, Repair, Source
from aiida_gaprss.models.gap import quip, summing, words
from aiida_gaprss.models.gap.descriptors import descriptor_parameters
from aiida_gaprss.models.gap.differences import difference_settings
from aiida_gaprss.models.gap.forecast import Forecast, forecast
from aiida_gaprss.models.gap.log import Log, expected_counts, read_log
from aiida_gaprss.models.gap.reading import read_files
from aiida_gaprss.models.gap.settings import GapSettings
from aiida_gaprss.models.regularisation import regularise, sigma_ranges
from aiida_gaprss.models.training import atomic_energies
from aiida_gaprss.settings.protocols import Protocols

#: A repair for memory keeps this part of the sparse points of many-body terms, and of each term at least so many.
FEWER, LEAST = 0.6, 10
#: A repair multiplies the jitter by this, up to the largest that leaves energies right to about a meV.
MORE_JITTER, LARGEST_JITTER = 100.0, 1e-4

#: To how much of an eV gap_fit is told energies of isolated atoms.
_E0_WRITTEN = 1e-9

_NO_MEMORY = re.compile(r"(Operating system error: )?Cannot allocate memory.*|Error allocating .*|.*[Oo]ut of memory.*")
_SINGULAR = re.compile(r"cannot factorise|dpotrf|dtrtrs|[Ss]ingular")


class Gap(Family):
    """Gaussian approximation potentials (Bartók, Payne, Kondor and Csányi, PRL 104, 136403)."""

    NAME, TITLE = "gap", "GAP"
    SETTINGS: ClassVar[type[GapSettings]] = GapSettings
    PROTOCOLS = Protocols(Path(__file__).parent / "protocol_files")
    DEFAULT_PROTOCOL = "default"
    PROGRAM = "gap_fit"
    MAIN = "gap.xml"
    VARIANCES = SPARSE = STAGES = RANDOM = True
    #: Input of gap_fit.
    CONFIG = "fit.in"

    def prepare(self, frames: Sequence[Atoms], settings: GapSettings) -> None:
        """Put the expected errors of single frames on them."""
        regularise(frames, settings.regularisation)

    def job(self, frames: Sequence[Atoms], settings: GapSettings, seed: int, training: str) -> FitJob:
        """Return the input of gap_fit."""
        text = settings.command(training, self.MAIN, seed, atomic_energies(frames, settings.e0))
        return FitJob({self.CONFIG: text}, [f"config_file={self.CONFIG}"], [f"{self.MAIN}*"])

    def read(self, folder: Path, log: str, errors: str, frames: Sequence[Atoms], settings: GapSettings) -> FitOutcome:
        """Compare the log with what was sent."""
        if not log.strip():
            return FitOutcome(fault=FitFault("no log", _last_words(errors)))
        known = read_log(f"{log}\n{errors}")
        if fault := _stopped(known, errors):
            return FitOutcome(fault=fault)
        results = {
            "counts": known.counts,
            "descriptors": known.descriptors,
            "peak_memory_MB": known.peak_memory_MB,
            "gap_fit": known.version,
            "sigmas": sigma_ranges(frames),
            "warnings": known.warnings,
        }
        expected = expected_counts(frames)
        wrong = [f"{key}: {n} sent, {known.counts.get(key)} read" for key, n in expected.items() if n != known.counts.get(key)]
        if wrong:
            return FitOutcome(results, FitFault("counts", "; ".join(wrong)))
        if not (folder / self.MAIN).is_file():
            return FitOutcome(results, FitFault("no potential", f"there is no {self.MAIN}; {_last_words(errors)}"))
        return FitOutcome(results)

    def forecast(self, frames: Sequence[Atoms], settings: GapSettings) -> Forecast:
        """Return memory and CPU time of gap_fit."""
        return forecast(frames, settings)

    def repaired(self, settings: GapSettings, kind: str) -> Repair | None:
        """Take sparse points of many-body terms away, or take a larger jitter."""
        return {"memory": _smaller, "ill-conditioned": _jittered}[kind](settings)

    def stages(self, settings: GapSettings) -> int:
        """Return the number of terms: the δ of each is the error that those before it leave."""
        return len(settings.descriptors)

    def first_stages(self, settings: GapSettings, number: int) -> GapSettings:
        """Return the settings with the first terms only."""
        return settings.model_copy(update={"descriptors": settings.descriptors[:number]})

    def with_stage(self, settings: GapSettings, number: int, results: Mapping[str, Any]) -> Repair:
        """Return the settings with the δ of one term from what the terms before it left over.

        δ is the root mean square error of the energy per atom of the fit so far: an atom has one SOAP descriptor, and it is an
        upper limit for pairs and triplets, of which it has several.
        """
        delta = max(results["errors"]["energy"]["rmse"] / 1000.0, 1e-4)
        terms = list(settings.descriptors)
        terms[number] = terms[number].model_copy(update={"delta": delta})
        return Repair(settings.model_copy(update={"descriptors": terms}), f"δ of {terms[number].kind}: {delta:.4g} eV")

    def for_differences(self, spread: Spread, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the protocol ``difference`` with δ and sigmas in proportion to the differences."""
        return difference_settings(self.PROTOCOLS.load("difference"), spread, changes)

    def fault_of_sum(self, facts: Mapping[str, Any], settings: GapSettings, elements: Sequence[str]) -> str | None:
        """Refuse what quippy would evaluate wrongly."""
        lines = [line for term in settings.descriptors for line in term.commands(elements)]
        return summing.fault_of_sum(facts, lines)

    def summed(self, parts: Sequence[tuple[Mapping[str, Any], Mapping[str, bytes]]]) -> dict[str, bytes]:
        """Return one xml with both, and the sparse points of both."""
        return summing.summed(parts, self.MAIN)

    def open(self, source: Source, main: str, where: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Read the xml and its sparse points as those of a stranger."""
        return read_files(source, main, where)

    def owns(self, name: str, content: Callable[[], bytes]) -> bool:
        """Tell whether a file holds sparse points, or is the xml of a GAP."""
        return ".sparseX." in name or (name.endswith(".xml") and b"<GAP_params" in content())

    def differs(self, facts: Mapping[str, Any], frames: Sequence[Atoms], settings: GapSettings) -> str | None:
        """Compare descriptors, sparse points and e0 with those that were asked for."""
        wanted = atomic_energies(frames, settings.e0)
        for symbol in wanted:
            if abs(facts["e0"].get(symbol, 0.0) - wanted[symbol]) > _E0_WRITTEN:
                return f"its e0 of {symbol} is {facts['e0'].get(symbol)}, expected {wanted[symbol]:.10f}"
        return _other_descriptors(facts, settings, sorted(wanted))

    def calculator(self, facts: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Return quippy's Potential."""
        args = {"args_str": quip.init_args(facts)} if facts else {}
        return {"calculator": "quippy.potential.Potential", "arguments": {**args, "param_filename": path}}

    def how_to_use(self, facts: Mapping[str, Any], path: str) -> str:
        """Return the call of quippy's Potential."""
        return f"quippy's Potential({quip.init_args(facts)!r}, param_filename={path!r})"

    def load(self, facts: Mapping[str, Any], path: Path, args: str = "") -> Calculator:
        """Return quippy's Potential, see :func:`aiida_gaprss.models.gap.quip.load`."""
        return quip.load(facts, path, args)

    def fault_of_code(self, facts: Mapping[str, Any], extras: Mapping[str, Any], name: str) -> str | None:
        """Refuse a GAP that is newer than the one of the code."""
        there, version = extras.get(GAP_VERSION_EXTRA), int(facts["gap_version"])
        if there is not None and version > there:
            return f"{quip.too_new(version)} (code {name} has GAP version {there})"
        return None

    def needs(self, facts: Mapping[str, Any]) -> str:
        """Say which GAP reads the potential."""
        return quip.needs(int(facts["gap_version"]))

    def reader_here(self) -> str:
        """Say which quippy there is."""
        release = quip.quippy_here()
        return f"quippy-ase {release}" if release else "quippy"

    def lammps(self, facts: Mapping[str, Any], main: str, types: Sequence[str]) -> str:
        """Return the lines of LAMMPS with the QUIP package."""
        return quip.lammps(facts, main, types)

    def sigma(self, settings: GapSettings) -> dict[str, Any]:
        """Return the sigmas and the rules that give others to single frames."""
        return settings.model_dump(include={"sigma", "config_type_sigma", "regularisation"})

    def terms(self, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the descriptors."""
        return [words.descriptor(line, n) for line, n in zip(facts["descriptors"], facts["n_sparse"], strict=True)]

    def told(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return versions, sparse points, and the input of gap_fit in the xml."""
        version = int(facts["gap_version"])
        return {
            "terms": facts.get("terms"),
            "sparse_points": sum(facts["n_sparse"]),
            "gap_version": version,
            "gap_version_date": quip.written(version) if version else None,
            "quip_init_args": quip.init_args(facts),
        }


def _last_words(errors: str) -> str:
    text = errors.strip()
    return text.splitlines()[-1] if text else "no error message"


def _stopped(log: Log, errors: str) -> FitFault | None:
    """Return why gap_fit stopped, or None if it did not."""
    if lack := _NO_MEMORY.search(errors):
        return FitFault("memory", " ".join(lack[0].split()))
    if log.abort and _SINGULAR.search(log.abort):
        return FitFault("ill-conditioned", log.abort)
    return FitFault("abort", log.abort) if log.abort else None


def _other_descriptors(facts: Mapping[str, Any], settings: GapSettings, elements: list[str]) -> str | None:
    """Return in what the descriptors of a potential are others than those that were asked for, or None."""
    lines = [line for term in settings.descriptors for line in term.commands(elements)]
    told, numbers = facts["descriptors"], facts["n_sparse"]
    if len(told) != len(lines):
        return f"it has {len(told)} descriptors, expected {len(lines)}"
    for line, there, (term, _), number in zip(lines, told, settings.expanded(elements), numbers, strict=True):
        if descriptor_parameters(line, "input") != descriptor_parameters(there, Gap.MAIN):
            return f"its descriptor is {there!r}, expected {line!r}"
        if number > term.most_sparse:
            return f"it has {number} sparse points of {there!r}, expected at most {term.most_sparse}"
    return None


def _smaller(settings: GapSettings) -> Repair | None:
    """Take sparse points of many-body terms away, but not the last ones."""

    def fewer(number: int) -> int:
        return max(min(number, LEAST), int(number * FEWER))

    terms: list[Any] = []
    for term in settings.descriptors:
        n = term.n_sparse
        part = {key: fewer(value) for key, value in n.items()} if isinstance(n, dict) else fewer(n)
        terms.append(term.model_copy(update={"n_sparse": part}) if term.kind.startswith("soap") else term)
    if [term.n_sparse for term in terms] == [term.n_sparse for term in settings.descriptors]:
        return None
    return Repair(settings.model_copy(update={"descriptors": terms}), f"{FEWER:.0%} of the sparse points")


def _jittered(settings: GapSettings) -> Repair | None:
    jitter = settings.sparse_jitter
    if jitter >= LARGEST_JITTER:
        return None
    larger = jitter * min(max(MORE_JITTER, 1e-10 / jitter), LARGEST_JITTER / jitter)
    return Repair(settings.model_copy(update={"sparse_jitter": larger}), f"sparse_jitter {jitter:g} → {larger:g}")
