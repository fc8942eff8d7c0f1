"""The part of validations and databases in which the reference relaxes crystals."""

from __future__ import annotations

from typing import Any, cast

from aiida.common import AttributeDict
from aiida.engine import ToContext
from aiida.orm import Dict, Str, WorkChainNode

from aiida_gaprss.calculations.relax import RelaxCalculation
from aiida_gaprss.calculations.validate_functions import AS_GIVEN, reference_crystals, residuals
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.reference import ASE
from aiida_gaprss.runners.status import ENDS
from aiida_gaprss.settings.computer import options_in
from aiida_gaprss.workflows.asks import AskingWorkChain
from aiida_gaprss.workflows.jobs.failure import reason_of_failure
from aiida_gaprss.workflows.label import LabelWorkChain
from aiida_gaprss.workflows.relax_crystals import RelaxCrystalsWorkChain

#: What the reference is called among the participants, and the link to what relaxes its crystals.
REFERENCE = "reference"
LINK = f"{REFERENCE}_crystals"


def why_absent(summary: Dict | None) -> str | None:
    """Return how relaxations ended that gave no step at all, as of crystals in which atoms overlap."""
    ends = [status for status in (summary["status"] if summary is not None else {}) if status not in ENDS]
    return f"no step was made ({', '.join(ends)})" if ends else None


class ReferenceCrystalsWorkChain(AskingWorkChain):
    """Has crystals and, as ``label``, the inputs of the reference."""

    def relax_by_reference(self, settings: Dict, crystals: Dataset) -> Any:
        """Let the reference relax crystals: an ASE calculator in one job, the program of a plugin in one process for each.

        :param settings: those of the one job (RelaxSettings).
        """
        inputs = AttributeDict(self.exposed_inputs(LabelWorkChain, namespace="label"))
        if ASE in inputs:
            metadata = {"call_link_label": LINK, "label": LINK.replace("_", " "), "options": options_in(inputs.ase.metadata)}
            given = {"code": inputs.ase.code, "calculator": inputs.ase.settings, "frames": crystals}
            self.submit_job(LINK, RelaxCalculation, settings=settings, metadata=metadata, **given)
            return None
        for key in ("bundle", "known", "reuse"):  # labels of the crystals as they are given are not what is asked for
            inputs.pop(key, None)
        inputs |= {"frames": crystals, "scratch": self.inputs.scratch, "max_failed_fraction": 1.0}
        inputs.metadata = {**inputs.get("metadata", {}), "call_link_label": LINK}
        return ToContext(relaxed_by_program=self.submit(RelaxCrystalsWorkChain, **inputs))

    def relaxed_by_reference(self) -> tuple[Dataset | None, str]:
        """Return what the reference has relaxed, and what went wrong in the end."""
        if LINK in self.ctx.get("jobs", {}):
            batch = self.outcome(LINK)
            why = batch.failure or why_absent(cast("Dict | None", batch.outputs.get("summary")))
            return cast("Dataset | None", batch.outputs.get("frames")), why or ""
        process: WorkChainNode = self.ctx.relaxed_by_program
        frames = process.outputs.frames if "frames" in process.outputs else None
        return frames, "" if process.is_finished_ok else reason_of_failure(process)

    def collect_reference_crystals(self) -> Dataset:
        """Return the crystals as the reference has them; one that it could not relax is told, and is as it was given."""
        frames, failure = self.relaxed_by_reference()
        found: Dataset = reference_crystals(
            self.inputs.crystals,
            Str(failure),
            metadata={"call_link_label": f"{REFERENCE}_relaxed"},
            **({"relaxed": frames} if frames is not None else {}),
        )
        for atoms in found.get_frames():
            if atoms.info["relax_status"].startswith(AS_GIVEN):
                self.report(f"{REFERENCE}: crystal {atoms.info['frame_id']}: {atoms.info['relax_status']}")
        return found

    def tell_residuals(self, crystals: Dataset, labels: Dataset) -> None:
        """Report pressure, stress and forces that the labels of the reference leave at the crystals that it has relaxed."""
        for name, found in residuals(crystals, labels).items():
            if "pressure_GPa" in found:
                self.report(
                    f"{REFERENCE}: crystal {name} ({found['status']}): pressure {found['pressure_GPa']:.3f} GPa, "
                    f"largest stress {found['largest_stress_GPa']:.3f} GPa, force {found['largest_force_eV/A']:.4f} eV/Å"
                )
