"""The steps of a campaign that tell whether its potentials may be used: a validation after every generation."""

from __future__ import annotations

from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ToContext
from aiida.orm import Dict, List, WorkChainNode

from aiida_gaprss.calculations.label_functions import pick_frames
from aiida_gaprss.calculations.rss_functions import known_crystals
from aiida_gaprss.campaign import stages
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.workflows.generation import GenerationWorkChain
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.validate import ValidateWorkChain

#: Without known crystals, so many of the lowest minima are taken.
LOWEST = 2


class ValidatedWorkChain(GenerationWorkChain):
    """A campaign with validations.

    Crystals that are given are known from the start: every potential is put to them as soon as it is there. Without any, the
    lowest minima of the last search are taken, with the potentials of all generations. A validation that fails is told, and the
    campaign goes on.
    """

    def validates(self) -> bool:
        """Tell whether there are known crystals that potentials are put to."""
        return self.settings.validation is not None and any(key in self.inputs for key in ("crystals", "targets"))

    def validate_generation(self) -> Any:
        """Put the new potential to the known crystals."""
        tag = stages.FINAL if self.ctx.final else self.tag
        if self.ctx.get("known_crystals") is None:
            given = {key: self.inputs[key] for key in ("crystals", "targets") if key in self.inputs}
            self.ctx.known_crystals = known_crystals(metadata={"call_link_label": stages.KNOWN}, **given)
        return self.submit_validation(tag, {tag: self.ctx.potential}, self.ctx.known_crystals)

    def submit_validation(self, tag: str, potentials: dict[str, Any], crystals: Dataset) -> Any:
        """Submit a validation; what an earlier one has labelled is not labelled again."""
        label = AttributeDict(self.exposed_inputs(LabelWorkChain, namespace="label"))
        label.known = {**label.get("known", {}), **self.ctx.get("validated", {})}
        job = self.python_job(stages.VALIDATE)
        inputs: dict[str, Any] = {
            "potentials": potentials,
            "crystals": crystals,
            "settings": Dict(self.settings.validation.model_dump()),  # type: ignore[union-attr]
            "label": label,
            "jobs": {"code": job["code"], "metadata": {"options": job["metadata"]["options"]}},
            "scratch": self.inputs.scratch,
        }
        self.ctx.validating = tag
        link = stages.link(tag, stages.VALIDATE)
        metadata = {"call_link_label": link, "label": f"{self.inputs.name.value} {tag} {stages.VALIDATE}"}
        try:
            return ToContext(validation=self.submit(ValidateWorkChain, metadata=metadata, **inputs))
        except ValueError as error:  # what the ports refuse, as a crystal that is too small
            self.report(f"{self.stage}: no validation: {error}")
            self.ctx.validation = None
            return None

    def collect_validation(self) -> None:
        """Keep scorecard and labels, and tell the lights."""
        process: WorkChainNode | None = self.ctx.validation
        if process is None:
            return
        if not process.is_finished_ok:
            self.report(f"{self.stage}: validation <{process.pk}>: {process.exit_message or process.process_state}")
        if "scorecard" not in process.outputs:
            return
        tag = self.ctx.validating
        self.out(f"validations.{tag}", process.outputs.scorecard)
        if "labels" in process.outputs:
            self.ctx.validated = {**self.ctx.get("validated", {}), tag: process.outputs.labels}
        self.ctx.lights = process.outputs.scorecard["potentials"].get(tag, {}).get("lights", {})
        for name, card in process.outputs.scorecard["potentials"].items():
            lights = ", ".join(f"{key} {light}" for key, light in card["lights"].items() if light)
            self.report(f"{name}: validation: {lights or 'no limits'}")

    def validates_minima(self) -> bool:
        """Tell whether the potentials are put to the lowest minima that were found."""
        return self.settings.validation is not None and not self.validates() and self.ctx.get("lowest_found") is not None

    def validate_minima(self) -> Any:
        """Put the potentials of all generations to the lowest minima."""
        frames: Dataset = self.ctx.lowest_found
        number = min(LOWEST, frames.n_frames)
        lowest = pick_frames(frames, List(list(range(number))), metadata={"call_link_label": stages.KNOWN})
        return self.submit_validation(stages.FINAL, dict(self.ctx.fitted), lowest)
