"""Random structure search with one potential: what are its lowest minima, and does it find the structures it should?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ProcessBuilder, while_
from aiida.orm import Dict, Int, Str
from pydantic import ValidationError

from aiida_gaprss.analysis.hull import reduced_formula
from aiida_gaprss.analysis.targets import in_words, names_of
from aiida_gaprss.calculations.relax import RelaxCalculation, check_potential, lack_of_variances
from aiida_gaprss.calculations.search_functions import (
    batch_of_cells,
    given_cells,
    parents_of_batch,
    search_results,
    search_summary,
)
from aiida_gaprss.campaign.file import DEFAULT_PROTOCOL
from aiida_gaprss.campaign.search import DiagnosticSearchSettings
from aiida_gaprss.campaign.settings import RssSettings, complete
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.settings.protocols import merged
from aiida_gaprss.strategies.cells import make_cells
from aiida_gaprss.strategies.evolution import operators_of
from aiida_gaprss.structures.compositions import reduced, text
from aiida_gaprss.workflows.asks import hard_core, validate_concurrent
from aiida_gaprss.workflows.inputs import Code, node_of, search_inputs
from aiida_gaprss.workflows.jobs.restart import RestartingWorkChain

#: The analysis takes a link of every batch, and links per process cost quadratically.
MOST_BATCHES = 60


def validate_search(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that the cells can be made, that the potential knows them, and that the targets can be found."""
    if "settings" not in ports or "settings" not in inputs:
        return None
    try:
        model = DiagnosticSearchSettings(**inputs["settings"].get_dict())
    except ValidationError:
        return None  # which the port itself tells
    batches = len(model.counts())
    if batches > MOST_BATCHES:
        least = -(-model.attempts // MOST_BATCHES)
        return f"settings.batch: {model.batch} makes {batches} jobs of {model.attempts} cells; expected at least {least}"
    if "seed" in inputs and inputs["seed"].value < 1:
        return f"seed must be positive, got {inputs['seed'].value}"
    for kind in model.cells:
        try:
            make_cells(model.seeds, model.formula, {kind: 1}, 1)
        except ValueError as error:
            return f"settings.seeds.{kind}: {error}"
    elements = {"settings.formula": sorted(model.formula)}
    elements |= {key: inputs[key].elements for key in ("again", "targets") if key in inputs}
    if "potential" in inputs:
        for where, symbols in elements.items():
            unknown = sorted(set(symbols) - set(inputs["potential"].elements))
            if unknown:
                known = ", ".join(inputs["potential"].elements)
                return f"{where}: the potential knows {known}, but not {', '.join(unknown)}"
        if model.relax.stop_where_unsure and (lack := lack_of_variances(inputs["potential"])):
            return lack
    if "targets" in inputs and all(model.seeds[kind].of_campaign for kind in model.cells):
        made = text(reduced(model.formula))
        frames = inputs["targets"].get_frames()
        for name, atoms in zip(names_of(frames), frames, strict=True):
            if reduced_formula(atoms) != made:
                return f"targets: {name} is {reduced_formula(atoms)}, and the search makes {made} only"
    return None


def expose_relaxations(spec: Any) -> None:
    """Add the inputs of jobs of relaxations to a work chain that makes frames and settings itself."""
    spec.expose_inputs(
        RelaxCalculation,
        namespace="relax",
        exclude=("frames", "potential", "calculator", "settings"),
        namespace_options={"help": "Jobs of relaxations: python of the compute machine, options."},
    )


class SearchWorkChain(RestartingWorkChain):
    """Relax random cells with a potential, and tell the distinct minima and whether given structures are among them.

    Cells come in batches, each one job; those of kinds that vary structures are made of what earlier batches have found, and
    then there is one job at a time. What a batch that ends early has not finished goes into another job; what is left when
    that fails, too, is counted, and the rest goes on.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input(
            "potential", valid_type=Potential, validator=check_potential, help="The potential that drives the relaxations."
        )
        spec.input(
            "settings",
            valid_type=Dict,
            validator=model_validator_for(DiagnosticSearchSettings),
            help="Formula, seeds, numbers of cells, relaxation (DiagnosticSearchSettings).",
        )
        spec.input("seed", valid_type=Int, help="The seed from which those of all cells are derived.")
        spec.input("name", valid_type=Str, default=lambda: Str("search"), help="The ids of all frames begin with it.")
        spec.input("again", valid_type=Dataset, required=False, help="Frames that are relaxed once more.")
        spec.input(
            "targets",
            valid_type=Dataset,
            required=False,
            help="Structures to be found, named by config_type or frame_id; they are relaxed, too.",
        )
        expose_relaxations(spec)
        spec.input(
            "max_concurrent",
            valid_type=int,
            non_db=True,
            default=1,
            validator=validate_concurrent,
            help="Jobs at one time; each takes all cores that it may use.",
        )
        spec.inputs.validator = validate_search
        spec.outline(
            cls.setup,
            while_(cls.has_jobs)(cls.run_jobs, while_(cls.jobs_are_left)(cls.restart_jobs), cls.inspect_jobs),
            cls.analyse,
        )
        spec.output("minima", valid_type=Dict, required=False, help="Distinct minima by enthalpy, lowest first.")
        spec.output("minima_frames", valid_type=Dataset, required=False, help="Their frames, in that order.")
        spec.output("found", valid_type=Dict, required=False, help="For every target: hits, first hit, energies.")
        spec.output("summary", valid_type=Dict, help="Attempts by what became of them, failures of jobs, times.")
        spec.output_namespace("relaxed", valid_type=Dataset, dynamic=True, help="Relaxed cells: batch_000, …, again, targets.")
        spec.exit_code(430, "ERROR_NOTHING_RELAXED", message="no cell could be relaxed; the first job: {message}")

    @classmethod
    def get_builder_from_protocol(
        cls,
        potential: Potential,
        formula: Mapping[str, Any],
        protocol: str = DEFAULT_PROTOCOL,
        overrides: Mapping[str, Any] | None = None,
        *,
        python: Code = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 1,
        **inputs: Any,
    ) -> ProcessBuilder:
        """Return a builder with all inputs of a search.

        :param formula: atoms per formula unit.
        :param protocol: of a campaign, whose last search this one is like.
        :param overrides: changes of the settings (``DiagnosticSearchSettings``): ``{"cells": {"random": 50}}``.
        :param python: code of the python that relaxes; default: that of this machine.
        :param options: of the jobs (AiiDA's ``metadata.options``).
        :param inputs: other inputs, as ``targets=Dataset(…)``, ``max_concurrent=2``.
        :raises ValueError: if there is no such protocol or code, or a setting is wrong.
        """
        campaign = RssSettings(**complete(protocol, {"formula": formula}))
        settings = DiagnosticSearchSettings(**merged(campaign.final_search(), dict(overrides or {}), ("cells",)))
        builder = cls.get_builder()
        builder._update({**search_inputs(node_of(Potential, potential, "potential"), settings, python, options, seed), **inputs})
        return builder

    @property
    def settings(self) -> DiagnosticSearchSettings:
        """The settings as a model."""
        return DiagnosticSearchSettings(**self.inputs.settings.get_dict())

    def setup(self) -> None:
        """Plan the jobs."""
        settings = self.settings
        self.ctx.relax_settings = settings.relax.model_dump()
        self.ctx.relax_settings["min_distance"] = settings.relax.min_distance or hard_core(sorted(settings.formula))
        self.ctx.relax_settings = Dict(self.ctx.relax_settings)
        self.ctx.queue = [key for key in ("targets", "again") if key in self.inputs and self.inputs[key].n_frames]
        self.ctx.queue += [f"batch_{number:03d}" for number in range(len(settings.counts()))]
        self.ctx.relaxed, self.ctx.summaries, self.ctx.failures = {}, {}, {}
        where = f"at {settings.pressure_GPa:g} GPa, seed {self.inputs.seed.value}"
        self.report(f"{settings.attempts} attempts in {len(settings.counts())} jobs {where}")
        if self.varies and self.inputs.max_concurrent > 1:
            self.report("one job at a time: evolutionary cells are made of what the jobs before have found")

    def has_jobs(self) -> bool:
        """Tell whether there is something left to do."""
        return bool(self.ctx.queue)

    def run_jobs(self) -> None:
        """Make the next cells and submit their relaxations; cells that cannot be made are a failed job."""
        number = 1 if self.varies else self.inputs.max_concurrent
        self.ctx.running, self.ctx.queue = self.ctx.queue[:number], self.ctx.queue[number:]
        for key in self.ctx.running:
            try:
                cells = self.cells(key)
            except ValueError as error:
                self.ctx.failures[key] = str(error)
                self.report(f"{key}: {error}")
                continue
            inputs = AttributeDict(self.exposed_inputs(RelaxCalculation, namespace="relax"))
            inputs |= {"frames": cells, "potential": self.inputs.potential, "settings": self.ctx.relax_settings}
            inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": key, "label": f"{self.inputs.name.value} {key}"}
            self.submit_job(key, RelaxCalculation, **inputs)

    def cells(self, key: str) -> Dataset:
        """Return the cells of a job."""
        settings, name = self.inputs.settings, self.inputs.name
        metadata = {"call_link_label": f"cells_{key}"}
        if key in ("targets", "again"):
            return given_cells(settings, name, Str(key.rstrip("s")), self.inputs[key], metadata=metadata)
        number = Int(int(key.rpartition("_")[2]))
        cells = batch_of_cells(settings, name, number, self.inputs.seed, metadata=metadata, **self.parents(key))
        if operators := operators_of(cells.get_frames()):
            self.report(f"{key}: of the evolutionary cells: {operators}")
        return cells

    @property
    def varies(self) -> bool:
        """Tell whether there are cells of a kind that varies structures."""
        settings = self.settings
        return any(settings.seeds[kind].most_parents for kind in settings.cells)

    def parents(self, key: str) -> dict[str, Dataset]:
        """Return what cells of a batch are varied from: the lowest of what the batches before have found, if there is any."""
        batches = sorted(name for name in self.ctx.relaxed if name.startswith("batch_"))
        if not self.varies or not batches:
            return {}
        if batches[-1] != self.ctx.get("seen"):
            more: dict[str, Any] = {"metadata": {"call_link_label": f"parents_{key}"}}
            more |= {"before": self.ctx.population} if "population" in self.ctx else {}
            self.ctx.population = parents_of_batch(self.inputs.settings, self.ctx.relaxed[batches[-1]], **more)
            self.ctx.seen = batches[-1]
        return {"parents": self.ctx.population}

    def inspect_jobs(self) -> None:
        """Keep what the jobs have finished."""
        for key in self.ctx.running:
            if key in self.ctx.failures:
                continue
            batch = self.outcome(key)
            if "summary" in batch.outputs:
                self.ctx.summaries[key] = batch.outputs["summary"]
                summary = batch.outputs["summary"].get_dict()
                counts = ", ".join(f"{n} {what}" for what, n in sorted(summary["status"].items(), key=lambda item: -item[1]))
                self.report(f"{key}: {summary['frames']} cells, of which {counts or 'none ended'}")
            if "frames" in batch.outputs and batch.outputs["frames"].n_frames:
                self.ctx.relaxed[key] = batch.outputs["frames"]
                self.out(f"relaxed.{key}", batch.outputs["frames"])
            if batch.failure:
                self.ctx.failures[key] = batch.failure
                self.report(f"{key} <{batch.job.pk}>: {batch.failure}; the others go on")

    def analyse(self) -> ExitCode | None:
        """Find minima and targets."""
        self.out("summary", search_summary(self.inputs.settings, Dict(self.ctx.failures), **self.ctx.summaries))
        relaxed = dict(self.ctx.relaxed)
        if "targets" in relaxed:
            relaxed["relaxed_targets"] = relaxed.pop("targets")
        if not set(relaxed) - {"relaxed_targets"}:
            first = next(iter(self.ctx.failures.values()), "every cell was given up before its first step")
            return self.exit_codes.ERROR_NOTHING_RELAXED.format(message=first)
        given = {"targets": self.inputs.targets} if "targets" in self.inputs else {}
        results = search_results(self.inputs.settings, metadata={"call_link_label": "results"}, **given, **relaxed)
        for name, node in results.items():
            self.out(name, node)
        for minimum in results["minima"]["minima"][:5]:
            text = f"minimum {minimum['rank']}: {minimum['symbol']} ({minimum['space_group']}), found {minimum['count']} times"
            self.report(f"{text}, {minimum['predicted_enthalpy']:.4f} eV/atom")
        for row in results["found"]["targets"] if "found" in results else []:
            self.report(in_words(row))
        return None
