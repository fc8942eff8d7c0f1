"""What makes one dataset of others, as calcfunctions: filter, drop, split, merge; the lowest distinct structures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiida.engine import calcfunction
from aiida.orm import Dict, Float, Int, List
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.conditions import Conditions, kept
from aiida_gaprss.analysis.minima import unique_minima
from aiida_gaprss.calculations.common import frames_of
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.levels import Level, joined
from aiida_gaprss.models.splits import stratified


def joint_level(nodes: Iterable[Dataset]) -> Level | str:
    """Return the level of theory of the labels of some datasets taken together."""
    nodes = list(nodes)
    return joined(node.level for node in [n for n in nodes if n.base.attributes.get("energies")] or nodes)


@calcfunction
def filter_frames(frames: Dataset, conditions: Dict) -> Dataset:
    """Return the frames that fulfil conditions (``analysis.conditions``)."""
    known = frames.get_frames()
    return Dataset([known[i] for i in kept(known, Conditions(**conditions.get_dict()))], level_of_theory=joint_level([frames]))


@calcfunction
def drop_frames(frames: Dataset, frame_ids: List) -> Dataset:
    """Return the frames without some of them.

    :raises ValueError: for an id that no frame has.
    """
    known = frames.get_frames()
    absent = set(frame_ids.get_list())
    unknown = absent - {atoms.info["frame_id"] for atoms in known}
    if unknown:
        raise ValueError(f"no frame {min(unknown)!r} in it" + (f" ({len(unknown)} such)" if len(unknown) > 1 else ""))
    return Dataset([atoms for atoms in known if atoms.info["frame_id"] not in absent], level_of_theory=joint_level([frames]))


@calcfunction
def split_frames(frames: Dataset, fraction: Float, seed: Int) -> dict[str, Dataset]:
    """Return a random ``part`` of the labelled frames, of every config type in proportion, and the ``rest``.

    Copies of a structure are on one side; isolated atoms, dimers and frames without a label are in the rest.
    """
    known = frames.get_frames()
    chosen = set(stratified(known, fraction.value, seed.value))
    level = joint_level([frames])
    return {
        "part": Dataset([atoms for atoms in known if atoms.info["frame_id"] in chosen], level_of_theory=level),
        "rest": Dataset([atoms for atoms in known if atoms.info["frame_id"] not in chosen], level_of_theory=level),
    }


@calcfunction
def merge_datasets(**datasets: Dataset) -> Dataset:
    """Return all frames of several datasets, in the order of their names."""
    return Dataset(frames_of(datasets), level_of_theory=joint_level(datasets.values()))


@calcfunction
def lowest_distinct(frames: Dataset, settings: Dict) -> dict[str, Any]:
    """Return the lowest distinct structures, by the reference energies or those of a potential, and their numbers.

    :param settings: ``by`` (REF or PRED), ``window`` (eV/atom), ``limit``, ``symprec`` (Å).
    """
    wanted = settings.get_dict()
    known = frames.get_frames()
    found = unique_minima(
        [
            _relaxed(atoms, wanted["by"])
            for atoms in known
            if f"{wanted['by']}_energy" in atoms.info and not fr.is_in_vacuum(atoms)
        ],
        window=wanted["window"],
        limit=wanted["limit"],
        pressure_GPa=0.0,
        symprec=wanted["symprec"],
    )
    names = {atoms.info["frame_id"]: atoms for atoms in known}
    rows = [
        {
            key: getattr(minimum, key)
            for key in (
                "rank",
                "frame_id",
                "formula",
                "count",
                "space_group",
                "symbol",
                "primitive_atoms",
                "volume",
                "above_lowest",
            )
        }
        | {"energy": minimum.predicted_energy}
        for minimum in found
    ]
    chosen = Dataset([names[minimum.frame_id] for minimum in found], level_of_theory=joint_level([frames]))
    return {"frames": chosen, "minima": Dict({"minima": rows})}


def _relaxed(atoms: Atoms, by: str) -> Atoms:
    """Return a frame as an end point with the energy that it is ranked by."""
    out = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    out.info = {"frame_id": atoms.info["frame_id"], "PRED_energy": atoms.info[f"{by}_energy"]}
    return out
