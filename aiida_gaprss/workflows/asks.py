"""What work chains share that let a potential run jobs, and a reference label what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida.common import AttributeDict
from aiida.engine import ToContext
from ase import Atoms

from aiida_gaprss.calculations.evaluate import EvaluateCalculation
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.selection.sanity import shortest_distances
from aiida_gaprss.settings.computer import options_in
from aiida_gaprss.workflows.jobs.restart import RestartingWorkChain
from aiida_gaprss.workflows.label import LabelWorkChain

#: Two atoms closer than this times the sum of their covalent radii are in a hole.
HARD_CORE = 0.5


def hard_core(elements: Sequence[str]) -> Any:
    """Return the shortest distances (Å, by pair) below which atoms are in a hole of a potential."""
    return shortest_distances(Atoms(elements), HARD_CORE)


def expose_jobs(spec: Any, **options: Any) -> None:
    """Define the ports of the jobs of potentials, ``jobs``.

    :param options: of the namespace.
    """
    told = {"help": "The jobs of potentials: python of the compute machine, options.", **options}
    spec.expose_inputs(EvaluateCalculation, namespace="jobs", include=("code", "metadata"), namespace_options=told)


def expose_reference(spec: Any) -> None:
    """Define the ports of a reference, ``label``, which may be absent."""
    told = {"required": False, "populate_defaults": False, "help": "A reference that labels frames, as in a campaign."}
    spec.expose_inputs(LabelWorkChain, namespace="label", exclude=("frames", "scratch"), namespace_options=told)


def validate_concurrent(value: int, _: Any) -> str | None:
    """Check a number of jobs at one time."""
    return None if value >= 1 else f"expected at least 1, got {value}"


class AskingWorkChain(RestartingWorkChain):
    """Has the ports of :func:`expose_jobs` and of :func:`expose_reference`."""

    def job(self, link: str) -> dict[str, Any]:
        """Return code and metadata of a job of a potential."""
        inputs = AttributeDict(self.exposed_inputs(EvaluateCalculation, namespace="jobs"))
        metadata = {"call_link_label": link, "label": link.replace("_", " "), "options": options_in(inputs.metadata)}
        return {"code": inputs.code, "metadata": metadata}

    def hand_to_reference(self, frames: Dataset) -> Any:
        """Let the reference label frames, as ``labelling`` of the context."""
        self.report(f"{frames.n_frames} frames for the reference")
        inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, namespace="label"))
        inputs |= {"frames": frames, "scratch": self.inputs.scratch}
        inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": "label"}
        return ToContext(labelling=self.submit(LabelWorkChain, **inputs))
