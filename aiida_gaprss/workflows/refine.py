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
from aiida_gaprss.models.base import BaseFit
from aiida_gaprss.properties.scorecard import LIGHTS
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
        """Tell whether there are strategies for the minima, and labels and a reason to apply them."""
        if self.settings.refine is None or self.ctx.get("lowest_found") is None:
            return False
        done = self.ctx.get("refinements", 0)
        return done == 0 or (done < self.refinement.max_rounds and self.labels_to_refine > 0 and self.out_of_limits())

    @property
    def labels_to_refine(self) -> int:
        """Number of labels that are left for strategies."""
        return self.refinement.max_labels - int(self.ctx.get("refined_labels", 0))

    def out_of_limits(self) -> bool:
        """Tell whether the last validation of a refined potential has found a property out of its limits."""
        return any(light not in (None, LIGHTS[0]) for light in self.ctx.get("lights", {}).values())

    def build_database(self) -> Any:
        """Let the strategies make frames of the lowest minima, and the reference label them."""
        self.ctx.refinements = self.ctx.get("refinements", 0) + 1
        self.ctx.rounds += 1
        alone = self.settings.hold is None and self.refinement.max_rounds == 1
        self.ctx.tag = stages.REFINE if alone else stages.round_tag(stages.REFINED, self.ctx.rounds)
        found: Dataset = self.ctx.lowest_found
        number = min(self.refinement.lowest, found.n_frames)
        crystals = pick_frames(found, List(list(range(number))), metadata=self.called(stages.LOWEST_MINIMA))
        self.ctx.refined_crystals = crystals
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
        seed = self.seed(stages.BUILD if self.ctx.refinements == 1 else f"{stages.BUILD}_{self.ctx.refinements}")
        every = self.refinement.list_of(seed.value, self.labels_to_refine)
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
            self.ctx.refined_labels = self.ctx.get("refined_labels", 0) + labels.n_frames

    def is_refined(self) -> bool:
        """Tell whether labels have come."""
        return self.tag in self.ctx.datasets

    @property
    def settings_of_last_fit(self) -> BaseFit:
        """The settings of a fit after the generations; frames of strategies may have sigmas of their own."""
        nodes = self.ctx.datasets.values()
        return self.settings.fit_of_last({kind for node in nodes for kind in node.base.attributes.get("config_types")})

    def fit_refined(self) -> Any:
        """Fit to everything."""
        self.ctx.fit_before = self.ctx.fit
        return self.submit_fit(self.settings_of_last_fit, stages.FIT)

    def collect_refit(self) -> ExitCode | None:
        """Take over the potential; one that cannot be fitted leaves that of before, and ends searches and refinements."""
        before = self.ctx.fit_before
        if (code := self.collect_fit()) is not None:
            self.report(f"{code.message}; the potential stays as it was")
            self.ctx.fit, self.ctx.next = before, None
        return None

    def validates_refined(self) -> bool:
        """Tell whether properties decide whether there is another refinement, and no known crystal has told them."""
        return self.refinement.max_rounds > 1 and self.ctx.next is not None and not self.validates()

    def validate_refined(self) -> Any:
        """Put the refined potential to the minima that it was refined for."""
        return self.submit_validation(self.tag, {self.tag: self.ctx.potential}, self.ctx.refined_crystals)

    def look_at_properties(self) -> None:
        """Decide what comes next: are the minima still where they were, is a property still out of its limits?"""
        if self.ctx.next is None or not self.is_refined():
            self.ctx.next = None
        elif self.settings.hold is not None:
            self.ctx.next, self.ctx.quiet = stages.SEARCH, self.settings.hold.searches - 1
        else:
            self.ctx.next = stages.REFINE if self.refines() else None
