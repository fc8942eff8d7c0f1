"""Several potentials in place of one, so that their spread tells where they are not to be trusted."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict, Float, Int, Str, load_node

from aiida_gaprss.analysis.numbers import significant
from aiida_gaprss.calculations.fit_functions import leave_out_all_but
from aiida_gaprss.calculations.scan_functions import spread_of_members
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.families import family_named, family_of
from aiida_gaprss.settings.plugins import KindError
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.workflows.scan import ScanWorkChain, validate_scan

#: Their predictions are inputs of one calcfunction.
MOST_MEMBERS = 20


def _validate(inputs: dict[str, Any], ports: Any) -> str | None:
    if "members" in inputs and not 2 <= inputs["members"].value <= MOST_MEMBERS:
        return f"members: expected 2 to {MOST_MEMBERS}, got {inputs['members'].value}"
    if "by" in inputs and inputs["by"].value not in ("seed", "subset"):
        return f"by: expected 'seed' or 'subset', got {inputs['by'].value!r}"
    if "fraction" in inputs and not 0 < inputs["fraction"].value < 1:
        return f"fraction: expected a number between 0 and 1, got {inputs['fraction'].value}"
    if len(inputs.get("test", {})) > 1:
        return f"test: expected one dataset, got {len(inputs['test'])}"
    if "by" in inputs and inputs["by"].value == "seed" and "settings" in inputs:
        with suppress(KindError):  # told below
            family = family_of(family_named(inputs["settings"].get_dict()))
            if not family.RANDOM:
                return (
                    f"by: no fit of the family {family.NAME} depends on a seed: all members would be the same; expected 'subset'"
                )
    return validate_scan(inputs, ports)


class CommitteeWorkChain(ScanWorkChain):
    """Fit the same settings several times, with other sparse points or to other parts of the frames; compare the members."""

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports."""
        super().define(spec)
        spec.input("members", valid_type=Int, default=lambda: Int(5), help="Number of potentials.")
        spec.input(
            "by",
            valid_type=Str,
            default=lambda: Str("subset"),
            help="seed: the same frames, other sparse points; subset: a random part of the frames, of every config type.",
        )
        spec.input("fraction", valid_type=Float, default=lambda: Float(0.8), help="Part of the frames that a member sees.")
        spec.inputs.validator = _validate
        spec.output_namespace("potentials", valid_type=Potential, dynamic=True, help="The members m00, m01, …")
        spec.output("errors", valid_type=Dict, help="A row for each member, with its errors.")
        spec.output(
            "spread", valid_type=Dict, required=False, help="Spread among the members and error of their mean, in the test."
        )
        spec.exit_code(420, "ERROR_ONE_MEMBER", message="{failed} of {total} members failed, and one is no committee: {message}")

    def plan(self) -> None:
        """Queue the members."""
        self.ctx.queue = [{"member": number} for number in range(self.inputs.members.value)]

    def inputs_of(self, point: dict[str, Any]) -> dict[str, Any]:
        """Return seed or frames of a member."""
        seed = stage_seed(self.inputs.seed.value, point["member"], "member")
        if self.inputs.by.value == "seed":
            return {"seed": Int(seed)}
        return {
            "seed": Int(seed),
            "leave_out": leave_out_all_but(self.inputs.fraction, Int(seed), self.ctx.held, **dict(self.inputs.datasets)),
        }

    def name_of(self, row: dict[str, Any]) -> str:
        """Return the name of a member."""
        return f"m{row['member']:02d}"

    def finish(self) -> ExitCode | None:
        """Return the members, and what their spread tells."""
        rows = self.ctx.table["rows"]
        self.out("errors", self.ctx.table)
        fits = {self.name_of(row): load_node(row["uuid"]) for row in rows if row["reason"] is None}
        for name, fit in fits.items():
            self.out(f"potentials.{name}", fit.outputs.potential)
        if len(fits) < 2:
            reason = next(row["reason"] for row in rows if row["reason"] is not None)
            return self.all_failed() or self.exit_codes.ERROR_ONE_MEMBER.format(
                failed=len(rows) - 1, total=len(rows), message=reason
            )
        spread = spread_of_members(self.inputs.by, **{name: fit.outputs.test_predictions for name, fit in fits.items()})
        self.out("spread", spread)
        for quantity, unit in (("energy", "meV/atom"), ("forces", "eV/Å")):
            if quantity in spread.get_dict():
                found = spread[quantity]
                rank = "none" if found["spearman"] is None else f"{found['spearman']:.2f}"
                self.report(
                    f"{quantity}: spread {significant(found['spread'])}, error of the mean {significant(found['error'])} {unit}; "
                    f"rank correlation of the two: {rank}"
                )
        return None
