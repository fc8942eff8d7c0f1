"""The cheap steps around a fit as calcfunctions: complete or change its settings, hold frames out, compare predictions."""

from __future__ import annotations

from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Data, Dict, Float, Int, List, Str

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.errors import errors_in_groups
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import joined
from aiida_gaprss.models.base import BaseFit, Family
from aiida_gaprss.models.families import expand, family_of, fit_settings
from aiida_gaprss.models.splits import all_but, stratified
from aiida_gaprss.models.training import leaks


@calcfunction
def complete_settings(settings: Dict, elements: List) -> Dict:
    """Return all settings of a fit that names a protocol, or has lengths in bonds."""
    return Dict(fit_settings(**expand(settings.get_dict(), elements.get_list())).model_dump())


@calcfunction
def repaired(settings: Dict, kind: Str) -> Dict:
    """Return the settings as their family repairs them.

    :param kind: what was wrong with the fit: ``memory`` or ``ill-conditioned``.
    """
    model, family = _family(settings)
    repair = family.repaired(model, kind.value)
    if repair is None:
        raise ValueError(f"the family {family.NAME} has no repair for {kind.value}")
    return Dict(repair.settings.model_dump())


@calcfunction
def first_stages(settings: Dict, number: Int) -> Dict:
    """Return the settings of the fit that comes before a stage."""
    model, family = _family(settings)
    return Dict(family.first_stages(model, number.value).model_dump())


@calcfunction
def with_stage(settings: Dict, number: Int, results: Dict) -> Dict:
    """Return the settings with what the fit before a stage has found."""
    model, family = _family(settings)
    return Dict(family.with_stage(model, number.value, results.get_dict()).settings.model_dump())


def _family(settings: Dict) -> tuple[BaseFit, Family]:
    model = fit_settings(**settings.get_dict())
    return model, family_of(model.family)


@calcfunction
def hold_out(fraction: Float, seed: Int, leave_out: List | None = None, **datasets: Dataset) -> dict[str, Any]:
    """Choose frames to test a fit with, of every config type in proportion, but none of ``leave_out``.

    ``left_out`` are their ids and those of ``leave_out``: what the fit does not see.
    """
    absent = set(leave_out.get_list()) if leave_out is not None else set()
    known = [atoms for name in sorted(datasets) for atoms in datasets[name].get_frames()]
    frames = [atoms for atoms in known if atoms.info["frame_id"] not in absent]
    names = stratified(frames, fraction.value, seed.value)
    chosen = set(names)
    test = [atoms for atoms in frames if atoms.info["frame_id"] in chosen]
    level = joined(datasets[name].level for name in sorted(datasets))
    return {"test": Dataset(test, level_of_theory=level), "left_out": List(sorted(absent | chosen))}


@calcfunction
def without_leaks(test: Dataset, leave_out: List | None = None, **datasets: Dataset) -> Dataset:
    """Return the frames of a test that are not fitted, neither to the last digit nor as a symmetric copy.

    :param leave_out: ids of frames of the datasets that are not fitted.
    """
    absent = set(leave_out.get_list()) if leave_out is not None else set()
    known = [atoms for name in sorted(datasets) for atoms in datasets[name].get_frames()]
    fitted = [atoms for atoms in known if fr.is_labelled(atoms) and atoms.info["frame_id"] not in absent]
    seen = leaks(fitted, test.get_frames())
    kept = [atoms for atoms in test.get_frames() if atoms.info["frame_id"] not in seen]
    return Dataset(kept, level_of_theory=test.level)


@calcfunction
def leave_out_all_but(fraction: Float, seed: Int, without: List, **datasets: Dataset) -> List:
    """Return the ids of the frames to leave out, so that a random stratified part is fitted; see ``splits.all_but``."""
    frames = [atoms for name in sorted(datasets) for atoms in datasets[name].get_frames()]
    return List(all_but(frames, fraction.value, seed.value, set(without.get_list())))


@calcfunction
def errors_of_predictions(**nodes: Data) -> Dict:
    """Return the errors of predictions: of all, by config type, and by the energy above the hull of all frames here.

    :param nodes: datasets of predictions (``frames_*``), those that were fitted (``training_*``), and the summaries (Dict) of
        the jobs that made the predictions, which give ``ms_per_atom``: CPU time, which depends little on what else runs there.
    """
    given = {key: node for key, node in nodes.items() if isinstance(node, Dataset)}
    frames, training = (
        [a for key, node in sorted(given.items()) if key.startswith(kind) for a in node.get_frames()]
        for kind in ("frames_", "training_")
    )
    out = {"frames": len(frames), **errors_in_groups(frames, [a for a in training if fr.is_labelled(a)])}
    seconds = [node["cpu_s"] for node in nodes.values() if isinstance(node, Dict)]
    if seconds and frames:
        out["ms_per_atom"] = 1000.0 * sum(seconds) / sum(map(len, frames))
    return Dict(out)


def is_complete(settings: dict[str, Any]) -> bool:
    """Tell whether settings are numbers only, without a protocol or lengths in bonds."""
    return expand(settings, ["H"]) == settings if "protocol" not in settings else False


def labelled_elements(datasets: dict[str, Dataset]) -> list[str]:
    """Return the elements of the labelled frames."""
    return sorted(
        {s for node in datasets.values() for a in node.get_frames() if fr.is_labelled(a) for s in a.get_chemical_symbols()}
    )
