"""Two levels of theory as calcfunctions: frames for another reference, differences of labels, settings of their fit, sums."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aiida.engine import calcfunction
from aiida.orm import Dict

from aiida_gaprss.analysis.differences import differences, spread_of
from aiida_gaprss.analysis.relabelling import Relabelling
from aiida_gaprss.calculations.common import frames_of, named, process_uuid
from aiida_gaprss.calculations.dataset_functions import joint_level
from aiida_gaprss.campaign.stages import DATABASE, RELABEL, all_named
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.levels import Difference, Level, difference, line_of
from aiida_gaprss.models.families import family_named, family_of


@calcfunction
def frames_to_relabel(settings: Dict, **nodes: Dataset) -> Dataset:
    """Choose frames that are labelled anew, each structure once, under names of their own.

    :param nodes: ``relabel_…``: the frames; ``database_…``: labelled ones of the new level, which are not chosen again.
    """
    rules = Relabelling(**settings.get_dict())
    frames = rules.frames(frames_of(all_named(RELABEL, nodes)), frames_of(all_named(DATABASE, nodes)))
    for atoms in frames:
        atoms.info["origin"] = process_uuid()
    return named(Dataset(frames, level_of_theory="unlabelled"), "frames to be labelled anew")


@calcfunction
def label_differences(dear: Dataset, **cheap: Dataset) -> Dataset:
    """Return the frames of a dear level with the labels of the same structures at a cheap one taken off theirs."""
    if fault := fault_of_difference(dear, cheap):
        raise ValueError(fault)
    found = differences(dear.get_frames(), frames_of(cheap))
    level = Difference.of(dear.level, joint_level(cheap.values()))
    return named(Dataset(found.frames, level_of_theory=level), "differences of labels")


def fault_of_difference(dear: Dataset, cheap: dict[str, Dataset]) -> str | None:
    """Return why the labels of some datasets cannot be taken off those of another one, or None."""
    levels = {_called(node): node.level for node in (dear, *cheap.values())}
    for node in (dear, *cheap.values()):
        if not node.base.attributes.get("energies"):
            return f"{_called(node)} has no labels: nothing can be subtracted; expected labelled frames"
        if isinstance(node.level, Difference):
            return f"{_called(node)} has differences of labels already ({node.level.line}); expected labels of one level"
    there = {_called(node): node.level for node in cheap.values()}
    if other := difference(there):
        return f"the cheap datasets are of several levels of theory: {other}; give those of one level"
    dear_level = levels[_called(dear)]
    same = [name for name, level in there.items() if difference({"": dear_level, name: level}) is None]
    if same:
        return (
            f"{_called(dear)} and {same[0]} are at the same level of theory ({line_of(dear_level)}): their differences would be "
            "noise; fit them together"
        )
    return None


def _called(node: Dataset) -> str:
    return f"dataset <{node.pk}>" if node.pk is not None else f"dataset {node.label}"


@calcfunction
def settings_of_differences(settings: Dict, **datasets: Dataset) -> Dict:
    """Return the settings of a fit to differences, with δ and sigmas in proportion to them where the settings say none."""
    given = settings.get_dict()
    spread = spread_of(frames_of(datasets))
    return named(Dict(family_of(family_named(given)).for_differences(spread, given)), "settings of a fit to differences")


@calcfunction
def sum_of_potentials(cheap: Potential, added: Potential) -> Potential:
    """Add the potential of differences to the cheap one: a potential of the dear level."""
    family = cheap.family
    parts = [(node.facts, node.checked_files()) for node in (cheap, added)]
    files = family.summed(parts)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        elements, sigma = cheap.elements, added.base.attributes.get("sigma", {})
        out = Potential(folder, next(iter(files)), sigma=sigma, elements=elements, family=family.NAME)
    return named(out, "potential with differences")


def fitted_datasets(node: Potential) -> dict[str, Dataset]:
    """Return the datasets that a potential was fitted to, none if nobody knows; of a sum, the differences of its second part."""
    inputs = node.creator.inputs if node.creator is not None else {}
    if "added" in inputs:
        return fitted_datasets(inputs["added"])
    return {name: inputs["datasets"][name] for name in inputs["datasets"]} if "datasets" in inputs else {}


def level_of_potential(node: Potential) -> Level | str | None:
    """Return the level of theory that a potential was fitted at; None if its provenance does not tell it.

    That of a sum is the dear level of the differences that its second part was fitted to.
    """
    datasets = fitted_datasets(node)
    level = joint_level(datasets.values()) if datasets else None
    summed = node.creator is not None and "added" in node.creator.inputs
    return level.dear if summed and isinstance(level, Difference) else level
