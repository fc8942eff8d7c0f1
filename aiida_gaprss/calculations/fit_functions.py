"""The cheap steps around a fit as calcfunctions: complete or change its settings, hold frames out, compare predictions."""

from __future__ import annotations

from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Data, Dict, Float, Int, List

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.errors import errors_in_groups
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import joined
from aiida_gaprss.models.gap.protocols import expand
from aiida_gaprss.models.gap.settings import FitSettings
from aiida_gaprss.models.splits import all_but, stratified
from aiida_gaprss.models.training import leaks


@calcfunction
def complete_settings(settings: Dict, elements: List) -> Dict:
    """Return all settings of a fit that names a protocol, or has lengths in bonds."""
    return Dict(FitSettings(**expand(settings.get_dict(), elements.get_list())).model_dump())


@calcfunction
def fewer_sparse_points(settings: Dict, factor: Float) -> Dict:
    """Return the settings with the sparse points of many-body terms times ``factor``, at least 10 of each."""

    def scaled(number: int) -> int:
        return max(10, int(number * factor.value))

    out = settings.get_dict()
    for term in out["descriptors"]:
        if term["kind"].startswith("soap"):
            n = term["n_sparse"]
            term["n_sparse"] = {key: scaled(value) for key, value in n.items()} if isinstance(n, dict) else scaled(n)
    return Dict(out)


@calcfunction
def more_jitter(settings: Dict, factor: Float) -> Dict:
    """Return the settings with another sparse jitter."""
    return Dict({**settings.get_dict(), "sparse_jitter": settings.get_dict().get("sparse_jitter", 1e-8) * factor.value})


@calcfunction
def first_terms(settings: Dict, number: Int) -> Dict:
    """Return the settings with the first terms only."""
    out = settings.get_dict()
    return Dict({**out, "descriptors": out["descriptors"][: number.value]})


@calcfunction
def with_delta(settings: Dict, number: Int, results: Dict) -> Dict:
    """Return the settings with the δ of one term from what the terms before it left over.

    δ is the root mean square error of the energy per atom of the fit so far: an atom has one SOAP descriptor, and it is an upper
    limit for pairs and triplets, of which it has several.
    """
    out = settings.get_dict()
    terms = [dict(term) for term in out["descriptors"]]
    terms[number.value]["delta"] = max(results.get_dict()["errors"]["energy"]["rmse"] / 1000.0, 1e-4)
    return Dict({**out, "descriptors": terms})


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
def errors_of_predictions(training: Dataset, **nodes: Data) -> Dict:
    """Return the errors of predictions: of all, by config type, and by the energy above the hull of all frames here.

    :param nodes: datasets of predictions, and the summaries (Dict) of the jobs that made them, which give ``ms_per_atom``. That
        is CPU time, which depends little on what else runs there.
    """
    frames = [a for _, node in sorted(nodes.items()) if isinstance(node, Dataset) for a in node.get_frames()]
    out = {"frames": len(frames), **errors_in_groups(frames, training.get_frames())}
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
