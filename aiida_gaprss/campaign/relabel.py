"""From what a user names to the inputs of a relabelling, and what it will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiida.orm import Dict
from ase import Atoms

from aiida_gaprss.analysis.relabelling import Relabelling
from aiida_gaprss.campaign.build import spacing_of
from aiida_gaprss.campaign.cost import calibrated, in_hours, in_words, sizes_of
from aiida_gaprss.campaign.file import check_reference
from aiida_gaprss.campaign.inputs import label_inputs
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.settings.yamlfile import parse, read


def relabel_inputs(
    datasets: Mapping[str, Dataset], reference: Path, rules: Relabelling, database: Mapping[str, Dataset] | None = None
) -> dict[str, Any]:
    """Return the inputs of ``RelabelWorkChain``.

    :param reference: file that says what labels the frames, as in a campaign.
    :param database: frames that have labels of that reference already.
    :raises ConfigError: with what is wrong with the file, each with its line.
    """
    data, lines = parse(read(reference), reference, "reference: {ase: {calculator: emt}}")
    elements = sorted({symbol for node in datasets.values() for symbol in node.elements})
    return {
        "datasets": dict(datasets),
        "settings": Dict(rules.model_dump()),
        "label": label_inputs(check_reference(data, lines, reference, elements)),
        **({"database": dict(database)} if database else {}),
    }


def sizes_in_words(frames: Sequence[Atoms]) -> str:
    """Return how many frames and atoms there are, by kind of frame."""
    kinds: dict[str, int] = {}
    for atoms in frames:
        kind = str(atoms.info.get("config_type", "unknown"))
        kinds[kind] = kinds.get(kind, 0) + 1
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return f"{len(frames)} frames, {sum(map(len, frames))} atoms, the largest has {max(map(len, frames))} ({told})"


def cost_in_words(frames: Sequence[Atoms], label: Mapping[str, Any]) -> str | None:
    """Return how many core-hours frames will take, by labels of the same reference in the profile; None if these are too few.

    :param label: inputs of ``LabelWorkChain``.
    """
    model, spacing = calibrated(label), spacing_of(label)
    if model is None:
        return None
    return f"core-hours: {in_hours(model.predict(sizes_of(frames, spacing)))} in all, {in_words(model, spacing)}"
