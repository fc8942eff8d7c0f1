"""Frames that there are, labelled anew by another reference: all, or those that tell most."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict, WorkChainNode

from aiida_gaprss.analysis.relabelling import Relabelling, elements_without_atom
from aiida_gaprss.calculations.common import frames_of
from aiida_gaprss.calculations.level_functions import frames_to_relabel
from aiida_gaprss.campaign.stages import DATABASE, RELABEL, named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import difference, line_of
from aiida_gaprss.reference import level_of, reference_of
from aiida_gaprss.settings.model import model_validator_for
from aiida_gaprss.workflows.asks import AskingWorkChain, expose_reference


def validate_relabelling(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that there are frames, and what labels them."""
    if not {"datasets", "settings"} <= set(ports) or "settings" not in inputs:
        return None
    if not inputs.get("datasets"):
        return "datasets: expected at least one, got none"
    if reference_of(inputs.get("label") or {}) is None:
        return "label: expected a reference, as in a campaign, got none"
    if other := fault_of_database(inputs):
        return other
    try:
        frames_asked_for(inputs)
    except ValueError as error:
        return str(error)
    return None


def frames_asked_for(inputs: Any) -> list[Any]:
    """Return the frames that will be labelled.

    :raises ValueError: if there are none.
    """
    rules = Relabelling(**inputs["settings"].get_dict())
    return rules.frames(*(frames_of(dict(inputs.get(key, {}))) for key in ("datasets", "database")))


def fault_of_database(inputs: Any) -> str | None:
    """Return that labelled frames, which are not to be labelled again, are of another level than the reference; or None."""
    level = level_of(inputs["label"])
    for name, node in inputs.get("database", {}).items():
        if other := difference({f"database.{name}": node.level, "the reference": level}):
            return f"database.{name}, whose frames are not labelled again, is at another level of theory: {other}"
    return None


def remarks_on(inputs: Any) -> list[str]:
    """Return what should be known of a relabelling that can be done."""
    remarks = []
    frames = frames_of({**inputs["datasets"], **inputs.get("database", {})})
    if lacking := elements_without_atom(frames):
        remarks.append(f"no isolated atom of {', '.join(lacking)} among the frames: a fit will need e0 of the new level")
    level = level_of(inputs["label"])
    for node in inputs["datasets"].values():
        if node.base.attributes.get("energies") and difference({"": node.level, "reference": level}) is None:
            remarks.append(f"dataset <{node.pk}> is at the level of the reference already ({line_of(level)})")
    return remarks


class RelabelWorkChain(AskingWorkChain):
    """Choose existing frames, and let another reference label them: the same structures at another level of theory.

    Each structure is labelled once. Isolated atoms and dimers are always among the chosen ones. Labels that the profile has at
    the new level are not calculated again.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports, outline and exit codes."""
        super().define(spec)
        spec.input("settings", valid_type=Dict, validator=model_validator_for(Relabelling), help="Which frames (Relabelling).")
        spec.input_namespace("datasets", valid_type=Dataset, dynamic=True, help="Frames, whatever labels they have.")
        spec.input_namespace(
            "database", valid_type=Dataset, dynamic=True, help="Frames that have labels of the new level: not chosen again."
        )
        expose_reference(spec)
        spec.inputs.validator = validate_relabelling
        spec.outline(cls.choose, cls.collect_labels)
        spec.output(
            "labels", valid_type=Dataset, required=False, help="The chosen frames with their labels, or why there are none."
        )
        spec.output("results", valid_type=Dict, help="Numbers of frames that were given, chosen and labelled.")
        spec.exit_code(410, "ERROR_LABELS", message="labels: {message}; the dataset has what there is")

    def choose(self) -> Any:
        """Hand the reference the frames that are to be labelled."""
        nodes = {named(RELABEL, name): node for name, node in self.inputs.datasets.items()}
        nodes |= {named(DATABASE, name): node for name, node in self.inputs.get("database", {}).items()}
        chosen = frames_to_relabel(self.inputs.settings, metadata={"call_link_label": "chosen"}, **nodes)
        for remark in remarks_on(self.inputs):
            self.report(remark)
        self.ctx.given = sum(node.n_frames for node in self.inputs.datasets.values())
        self.ctx.chosen = chosen.n_frames
        self.report(f"{chosen.n_frames} of {self.ctx.given} frames are labelled anew")
        return self.hand_to_reference(chosen)

    def collect_labels(self) -> ExitCode | None:
        """Give the dataset, and what it holds."""
        process: WorkChainNode = self.ctx.labelling
        labels = process.outputs.frames if "frames" in process.outputs else None
        labelled = labels.base.attributes.get("energies") if labels is not None else 0
        self.out("results", Dict({"given": self.ctx.given, "chosen": self.ctx.chosen, "labelled": labelled}).store())
        if labels is not None:
            self.out("labels", labels)
        if not process.is_finished_ok:
            return self.exit_codes.ERROR_LABELS.format(message=process.exit_message or process.process_state)
        return None
