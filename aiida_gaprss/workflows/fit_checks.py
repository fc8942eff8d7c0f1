"""What can be known of a fit before anything is submitted: settings, training set, test, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiida.orm import Dict, List
from ase import Atoms
from pydantic import ValidationError

from aiida_gaprss.calculations.fit import checked_training_set
from aiida_gaprss.calculations.fit_functions import complete_settings, hold_out, is_complete, labelled_elements, without_leaks
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import difference
from aiida_gaprss.models.base import BaseFit, Forecast
from aiida_gaprss.models.families import expand, family_of, fit_settings
from aiida_gaprss.models.splits import stratified
from aiida_gaprss.models.training import fault_of_absurd, leaks
from aiida_gaprss.settings.computer import is_here
from aiida_gaprss.settings.model import in_words


def complete_of(settings: dict[str, Any], datasets: dict[str, Dataset]) -> BaseFit:
    """Return the settings of a fit to these datasets.

    :raises ValueError: if they are wrong, with all their faults.
    """
    try:
        return fit_settings(**expand(settings, labelled_elements(datasets)))
    except ValidationError as error:
        raise ValueError(in_words(error)) from error


def completed(settings: Dict, datasets: dict[str, Dataset]) -> Dict:
    """Return the node of all settings of a fit to these datasets: the given one, if it has all already."""
    if is_complete(settings.get_dict()):
        return settings
    node: Dict = complete_settings(settings, List(labelled_elements(datasets)), metadata={"call_link_label": "complete_settings"})
    return node


def held_out(inputs: Any) -> tuple[dict[str, Dataset], List]:
    """Return the test, and the ids of all frames that are not fitted, for inputs with a ``test_fraction``."""
    given = {"leave_out": inputs["leave_out"]} if "leave_out" in inputs else {}
    fraction, seed = inputs["test_fraction"], inputs["seed"]
    held = hold_out(fraction, seed, metadata={"call_link_label": "hold_out"}, **given, **dict(inputs["datasets"]))
    return {"held_out": held["test"]}, held["left_out"]


def memory_limit(inputs: Any) -> float | None:
    """Return the memory (MB) that the fit may take, if it is known: as given, asked of the scheduler, or that of this machine."""
    if inputs.get("memory_MB"):
        return float(inputs["memory_MB"])
    fit = inputs.get("fit", {})
    asked = fit.get("metadata", {}).get("options", {}).get("max_memory_kb")
    if asked:
        return float(asked) / 1000.0
    code = fit.get("code")
    if code is not None and is_here(code):
        import psutil

        return float(psutil.virtual_memory().total) / 1e6
    return None


def validate_fit(inputs: dict[str, Any], ports: Any) -> str | None:
    """Check that the fit can be done, and has the memory it needs."""
    if "datasets" not in ports or not inputs.get("datasets"):
        return "give at least one dataset" if "datasets" in ports else None
    if ("test_fraction" in inputs or inputs.get("test")) and "python" not in inputs.get("fit", {}):
        return "a test needs fit.python, which evaluates the potential"
    if "test_fraction" in inputs and inputs.get("test"):
        return "give either datasets to test with, or a fraction to hold out"
    try:
        settings = complete_of(inputs["settings"].get_dict(), dict(inputs["datasets"]))
        frames = checked_training_set(inputs, settings)
        known = forecast_of(frames, settings)
        if fault := _absurd(frames, settings) or _fault_of_test(frames, settings, inputs) or _fault_of_stages(settings, inputs):
            return fault
        if "test_fraction" in inputs:
            stratified(frames, inputs["test_fraction"].value, inputs["seed"].value)
    except ValueError as exception:
        return str(exception)
    limit = memory_limit(inputs)
    if known is not None and limit is not None and known.memory_MB > limit and not inputs.get("adapt"):
        return too_large(known, limit)
    return None


def _fault_of_stages(settings: BaseFit, inputs: Any) -> str | None:
    """Say that there are no stages to be fitted one after another, or return None."""
    wanted = "delta_by_stages" in inputs and inputs["delta_by_stages"].value
    if wanted and not family_of(settings.family).STAGES:
        return f"delta_by_stages (--stages): a fit of the family {settings.family} has no stages"
    return None


def forecast_of(frames: Sequence[Atoms], settings: BaseFit) -> Forecast | None:
    """Return what a fit will need, if its family can tell."""
    return family_of(settings.family).forecast(frames, settings)


def _absurd(frames: Sequence[Atoms], settings: BaseFit) -> str | None:
    """Return that labels are out of all bounds, with frames, values and limits, or None."""
    found = None if settings.keep_absurd else fault_of_absurd(frames)
    keep = "leave them out (leave_out; --absurd drop), or say keep_absurd: true in the settings of the fit (--absurd keep)"
    return f"{found}; {keep}" if found else None


def _fault_of_test(training: Sequence[Atoms], settings: BaseFit, inputs: Any) -> str | None:
    """Return what is wrong with the datasets of a test: another level of theory, or frames that are fitted, too; or None."""
    for name, node in sorted(inputs.get("test", {}).items()):
        levels = {key: d.level for key, d in sorted(inputs["datasets"].items()) if d.base.attributes.get("energies")}
        other = difference({**levels, f"test.{name}": node.level})
        if other and not settings.mixed_levels:
            return (
                f"test.{name} was labelled at another level of theory than the datasets: {other}; the errors would be those of "
                "the levels; if they may be mixed, say mixed_levels: true in the settings of the fit"
            )
        seen = {} if inputs.get("leaks") == "drop" else leaks(training, node.get_frames())
        if seen:
            pairs = ", ".join(f"{here} is {there}" for here, there in seen.items())
            return f"test.{name}: {len(seen)} of its frames are fitted, too: {pairs}; --leaks drop leaves them out of the test"
    return None


def sets_of_test(inputs: Any) -> dict[str, Dataset]:
    """Return the datasets of the test, without frames that are fitted, too, if these are to be dropped."""
    given = dict(inputs.get("test", {}))
    if inputs.get("leaks") != "drop":
        return given
    left_out = {"leave_out": inputs["leave_out"]} if "leave_out" in inputs else {}
    return {
        name: without_leaks(node, **left_out, **dict(inputs["datasets"]), metadata={"call_link_label": f"without_leaks_{name}"})
        for name, node in given.items()
    }


def too_large(known: Forecast, limit: float) -> str:
    """Say that a fit does not go into the memory there is, and what may be done."""
    return (
        f"the fit needs {known.describe()}, and may have {limit:.0f} MB; take fewer sparse points or frames, a descriptor with "
        "smaller n_max and l_max, or soap_turbo; or say adapt: then sparse points are taken away until it fits"
    )
