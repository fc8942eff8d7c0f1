"""The steps of searches that are repeated until their minima hold, as calcfunctions."""

from __future__ import annotations

from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Bool, Dict, Int
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.hold import SAME_AGAIN, Held, Known, Tolerances, judged, told, with_predictions
from aiida_gaprss.calculations.common import frames_of, named
from aiida_gaprss.campaign.search import MINIMUM
from aiida_gaprss.campaign.settings import RssSettings
from aiida_gaprss.data.dataset import Dataset


@calcfunction
def minima_to_label(
    settings: Dict, minima: Dataset, left: Int, last: Bool, predictions: Dataset | None = None, **database: Dataset
) -> dict[str, Any]:
    """Return those of the lowest minima that are to be labelled.

    These are, lowest first, the ones that no labelled frame stands for, or whose label the potential does not follow, unless they
    are where that label is; if this may be the last search and there are none, all.

    :param minima: of a search, lowest first.
    :param left: of the labels; ``last``: whether this may be the last search.
    :param predictions: of the potential for the frames of the database that it was fitted to.
    :return: ``frames``, and ``before``: of each of the lowest, whether the database had its structure (``known``), and whether it
        does not hold by a label that is where it is (``lost``); whether nothing was left to be labelled (``settled``).
    """
    model = RssSettings(**settings.get_dict())
    assert model.hold is not None
    lowest = minima.get_frames()[: model.hold.lowest]
    known = _known(database, predictions, lowest)
    rows = _rows(model, lowest, known, {})
    lost = [not row.holds and known.beside(atoms, SAME_AGAIN) is not None for atoms, row in zip(lowest, rows, strict=True)]
    asked = [not row.holds and not mine for row, mine in zip(rows, lost, strict=True)]
    wanted = [atoms for atoms, is_asked in zip(lowest, asked, strict=True) if is_asked][: model.hold.per_round]
    settled = not wanted
    if settled and last.value:
        wanted = lowest
    for atoms in wanted:
        atoms.info["config_type"] = MINIMUM
    before = {"known": [row.known for row in rows], "lost": lost, "settled": settled}
    return {
        "frames": named(Dataset(wanted[: left.value], level_of_theory="unlabelled"), "lowest minima, to be labelled"),
        "before": named(Dict(before), "what labels there were tell of the lowest minima"),
    }


@calcfunction
def minima_that_hold(
    settings: Dict,
    minima: Dataset,
    before: Dict,
    labelled: Dataset | None = None,
    predictions: Dataset | None = None,
    **database: Dataset,
) -> Dict:
    """Hold the lowest minima of a search to the reference: ``minima`` (rows of ``analysis.hold.Held``), and what they come to.

    :param before: what ``minima_to_label`` said; ``labelled``: of the minima, those that were labelled now.
    :param predictions: of the potential for the frames of the database that it was fitted to.
    """
    model = RssSettings(**settings.get_dict())
    assert model.hold is not None
    lowest = minima.get_frames()[: model.hold.lowest]
    new = {atoms.info["frame_id"]: atoms for atoms in (labelled.get_frames() if labelled is not None else [])}
    rows = _rows(model, lowest, _known(database, predictions, lowest), new, before["known"])
    told = {
        "minima": [row.as_dict() for row in rows],
        "lowest": len(rows),
        "holding": sum(row.holds for row in rows),
        "own": sum(row.own for row in rows),
        "new": sum(not row.known for row in rows),
        "settled": before["settled"],
        "stuck": sum(was_lost and not row.holds for was_lost, row in zip(before["lost"], rows, strict=True)),
        "labelled": sum(fr.is_labelled(atoms) for atoms in new.values()),
    }
    return named(Dict(told), "which minima hold")


@calcfunction
def hold_verdict(found: Dict) -> Dict:
    """Return whether the minima of a campaign hold, after its last search, and in words what does not."""
    content = found.get_dict()
    return named(Dict({**content, "words": told(content)}), "whether the lowest minima hold")


def _known(database: dict[str, Dataset], predictions: Dataset | None, minima: list[Atoms]) -> Known:
    told = predictions.get_frames() if predictions is not None else []
    return Known(with_predictions(frames_of(database), told), minima)


def _rows(
    model: RssSettings, lowest: list[Atoms], known: Known, new: dict[str, Atoms], before: list[bool] | None = None
) -> list[Held]:
    """Return a row for each minimum.

    :param new: labelled minima, by their names; ``before``: whether each was known, if that is to be told again.
    """
    assert model.hold is not None
    assert model.search is not None
    hold = model.hold
    tolerances = Tolerances(hold.energy, hold.force, hold.pressure)
    rows = []
    for number, atoms in enumerate(lowest):
        label = new.get(atoms.info["frame_id"]) or known.beside(atoms)
        was_known = known.has(atoms) if before is None else before[number]
        rows.append(judged(number + 1, atoms, label, was_known, tolerances, model.search.pressure_GPa))
    return rows
