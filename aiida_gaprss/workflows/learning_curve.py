"""How the errors fall as the training set grows."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict, Float, Int, List

from aiida_gaprss.calculations.fit_functions import leave_out_all_but
from aiida_gaprss.calculations.scan_functions import learning_curve
from aiida_gaprss.structures.seeding import stage_seed
from aiida_gaprss.workflows.scan import ScanWorkChain, validate_scan

SIZES = [0.1, 0.2, 0.4, 0.8, 1.0]


def _validate(inputs: dict[str, Any], ports: Any) -> str | None:
    sizes = inputs["sizes"].get_list() if "sizes" in inputs else [1.0]
    if not sizes or len(set(sizes)) < len(sizes) or not all(isinstance(x, int | float) and 0 < x <= 1 for x in sizes):
        return f"sizes: expected different numbers above 0 and at most 1, got {sizes}"
    if "repeats" in inputs and inputs["repeats"].value < 1:
        return f"repeats: expected at least 1, got {inputs['repeats'].value}"
    return validate_scan(inputs, ports)


class LearningCurveWorkChain(ScanWorkChain):
    """Fit to random parts of the training frames, of every config type in proportion, and test all on the same frames.

    In one repeat a larger part contains the smaller ones; repeats have other parts and other sparse points.
    """

    @classmethod
    def define(cls, spec: Any) -> None:
        """Define ports."""
        super().define(spec)
        spec.input("sizes", valid_type=List, default=lambda: List(SIZES), help="Parts of the training frames.")
        spec.input("repeats", valid_type=Int, default=lambda: Int(3), help="Fits of each size.")
        spec.inputs.validator = _validate
        spec.output("curve", valid_type=Dict, help="A row for each fit; mean and standard deviation for each size.")

    def plan(self) -> None:
        """Queue all sizes of all repeats."""
        sizes = sorted(float(size) for size in self.inputs.sizes)
        self.ctx.queue = [{"size": size, "repeat": repeat} for repeat in range(self.inputs.repeats.value) for size in sizes]

    def inputs_of(self, point: dict[str, Any]) -> dict[str, Any]:
        """Choose the frames of a point."""
        seed, repeat = self.inputs.seed.value, point["repeat"]
        left_out = leave_out_all_but(
            Float(point["size"]), Int(stage_seed(seed, repeat, "part")), self.ctx.held, **dict(self.inputs.datasets)
        )
        return {"leave_out": left_out, "seed": Int(stage_seed(seed, repeat, "fit"))}

    def name_of(self, row: dict[str, Any]) -> str:
        """Return size and repeat."""
        return f"{row['size']:.0%}, repeat {row['repeat'] + 1}"

    def finish(self) -> ExitCode | None:
        """Return the curve."""
        self.out("curve", learning_curve(self.ctx.table))
        return self.all_failed()
