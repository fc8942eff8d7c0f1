"""The steps of a campaign that refine its potential: strategies on the lowest minima, their labels, another fit."""

from __future__ import annotations

from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ExitCode, ToContext
from aiida.orm import Dict, List, WorkChainNode

from aiida_gaprss.calculations.label_functions import pick_frames
from aiida_gaprss.campaign import stages
from aiida_gaprss.campaign.crystals import crystals_in
from aiida_gaprss.campaign.settings import RefineSettings
from aiida_gaprss.campaign.strategies import made_by
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.strategies.lists import StrategyList
from aiida_gaprss.workflows.build import BuildWorkChain
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.validation_steps import ValidatedWorkChain


class RefinedWorkChain(ValidatedWorkChain):
    """A campaign that goes on with what its last search has found.

    Where nothing comes of it, that is told, and the potential stays as it was.
    """

    @property
    def refinement(self) -> RefineSettings:
        """The settings."""
        refine = self.settings.refine
        assert refine is not None
        return refine

    def refines(self) -> bool:
        """Tell whether there are minima, and strategies for them."""
        return self.settings.refine is not None and self.ctx.get("lowest_found") is not None

    def build_database(self) -> Any:
        """Let the strategies make frames of the lowest minima, and the reference label them."""
        self.ctx.tag = stages.REFINE
        found: Dataset = self.ctx.lowest_found
        number = min(self.refinement.lowest, found.n_frames)
        crystals = pick_frames(found, List(list(range(number))), metadata=self.called(stages.LOWEST_MINIMA))
        strategies = self.possible(crystals)
        if strategies is None:
            self.ctx.database = None
            return None
        job = self.python_job(stages.BUILD)
        inputs: dict[str, Any] = {
            "settings": Dict(strategies.model_dump()),
            "crystals": crystals,
            "potential": self.ctx.potential,
            "database": dict(self.ctx.datasets),
            "jobs": {"code": job["code"], "metadata": {"options": job["metadata"]["options"]}},
            "label": AttributeDict(self.exposed_inputs(LabelWorkChain, namespace="label")),
            "scratch": self.inputs.scratch,
            "metadata": self.called(stages.BUILD),
        }
        self.report(f"refining with {', '.join(strategies.strategies)} of the {number} lowest minima")
        try:
            return ToContext(database=self.submit(BuildWorkChain, **inputs))
        except ValueError as error:  # what the ports refuse, as a minimum of which a strategy makes nothing
            self.report(f"{self.stage}: nothing is built: {error}")
            self.ctx.database = None
            return None

    def possible(self, crystals: Dataset) -> StrategyList | None:
        """Return the strategies that make frames of the minima, and tell why the others do not; None if none does."""
        every = self.refinement.list_of(self.seed(stages.BUILD).value)
        made, faults = made_by(every, crystals_in(crystals), {"potential": self.ctx.potential, "label": self.inputs.label})
        for fault in faults:
            self.report(f"{self.stage}: left out: {fault}")
        left = {name: every.strategies[name] for name in made}
        return every.model_copy(update={"strategies": left}) if left else None

    def collect_database(self) -> None:
        """Add the labels to the database; tell what each strategy has cost."""
        process: WorkChainNode | None = self.ctx.database
        if process is None:
            return
        if not process.is_finished_ok:
            self.report(f"{self.stage}: <{process.pk}>: {process.exit_message or process.process_state}")
        if "results" in process.outputs:
            told = process.outputs.results["strategies"]
            self.report(", ".join(f"{name}: {one.get('labelled', 0)} labels" for name, one in told.items()))
        labels = process.outputs.labels if "labels" in process.outputs else None
        if labels is not None and labels.base.attributes.get("energies"):
            self.keep(f"labels.{self.tag}", labels, f"{self.tag} labels", "frames of strategies, labelled")
            self.ctx.datasets = {**self.ctx.datasets, self.tag: labels}

    def is_refined(self) -> bool:
        """Tell whether labels have come."""
        return stages.REFINE in self.ctx.datasets

    def fit_refined(self) -> Any:
        """Fit to everything; predictions are kept, since this is the last fit."""
        self.ctx.fit_before = self.ctx.fit
        kinds = self.ctx.datasets[stages.REFINE].base.attributes.get("config_types")
        settings = self.refinement.fit_to(kinds, self.settings.final_fit or self.settings.fit)
        return self.submit_fit(settings, stages.FIT)

    def collect_refined(self) -> ExitCode | None:
        """Take over the refined potential; one that cannot be fitted leaves that of before."""
        before = self.ctx.fit_before
        if (code := self.collect_fit()) is not None:
            self.report(f"{code.message}; the potential stays as it was")
            self.ctx.fit = before
        return None
