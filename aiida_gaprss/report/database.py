"""Read a database of strategies from the provenance graph, finished or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from aiida.orm import ProcessNode, WorkChainNode
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.zero import EnergyZero, bulk_frames
from aiida_gaprss.campaign.stages import LABEL, frame_of
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.report.record import Failure
from aiida_gaprss.report.state import state_of, whole


@dataclass
class StrategyRecord:
    """What a strategy has made, as far as it is known."""

    name: str
    kind: str
    made: int | None = None  #: frames that could be labelled; None: not made yet
    frames: list[Atoms] = field(default_factory=list)  #: of its dataset, or those made while there is none
    pk: int | None = None  #: of the dataset
    failure: str = ""
    given_up: str = ""

    @property
    def labelled(self) -> list[Atoms]:
        """The frames with labels."""
        return [atoms for atoms in self.frames if fr.is_labelled(atoms)]

    @property
    def failures(self) -> list[Failure]:
        """The frames that the reference was handed and could not label."""
        told = [(atoms.info["frame_id"], atoms.info.get("label_status")) for atoms in self.frames if not fr.is_labelled(atoms)]
        return [Failure(str(name), str(reason)) for name, reason in told if reason is not None]


@dataclass
class DatabaseRecord:
    """All that is told of a database."""

    uuid: str
    pk: int | None
    label: str
    state: str
    seed: int
    reference: str
    versions: dict[str, str]
    choice: str  #: in words
    strategies: list[StrategyRecord]
    crystals: dict[str, str]  #: what became of those that were relaxed
    variances: dict[str, Any]  #: how sure a potential is of the frames it was asked about
    labels: list[Atoms]  #: each structure once
    labels_pk: int | None
    seconds: dict[str, float]
    labelling: tuple[int, int] | None = None  #: frames done and in all, while frames are labelled one by one

    @cached_property
    def zero(self) -> EnergyZero:
        """The zero of the energies of all labelled frames."""
        return EnergyZero(self.labels or [atoms for one in self.strategies for atoms in one.labelled])

    @property
    def title(self) -> str:
        """What stands above the page."""
        elements = sorted({symbol for one in self.strategies for atoms in one.frames for symbol in atoms.symbols})
        return f"Database of {', '.join(elements)}" if elements else "Database"

    @property
    def failures(self) -> list[Failure]:
        """The frames without a label, each once."""
        found = {failure.frame_id: failure for one in self.strategies for failure in one.failures}
        return list(found.values())


def collect_database(node: WorkChainNode) -> DatabaseRecord:
    """Return the record of a finished, failed or running ``BuildWorkChain``.

    :raises CollectError: if its nodes are not those of a database.
    """
    with whole("database", node):
        return _collect(node)


def _collect(node: WorkChainNode) -> DatabaseRecord:
    settings = node.inputs.settings.get_dict()  # not as a model: an archive may be older than this version
    called: dict[str, Any] = {link.link_label: link.node for link in node.base.links.get_outgoing(node_class=ProcessNode).all()}
    results = node.outputs.results.get_dict() if "results" in node.outputs else {}
    labels = node.outputs.labels if "labels" in node.outputs else None
    versions = dict(node.base.attributes.get("version", {}))
    strategies = [
        _strategy(name, str(one["kind"]), node, called, results.get("strategies", {}).get(name, {}))
        for name, one in settings["strategies"].items()
    ]
    return DatabaseRecord(
        uuid=node.uuid,
        pk=node.pk,
        label=node.label,
        state=state_of(node),
        seed=int(settings["seed"]),
        reference=labels.level_of_theory if labels is not None else "",
        versions={f"aiida-{ours}": str(versions.get(key, "?")) for ours, key in (("core", "core"), ("gaprss", "plugin"))},
        choice=_choice(settings),
        strategies=strategies,
        crystals=results.get("crystals", {}),
        variances=results.get("variances", {}),
        labels=[atoms for atoms in labels.get_frames() if fr.is_labelled(atoms)] if labels is not None else [],
        labels_pk=labels.pk if labels is not None else None,
        seconds={link: _seconds(process) for link, process in called.items() if process.is_terminated},
        labelling=_labelling(called.get(LABEL)),
    )


def _strategy(name: str, kind: str, node: WorkChainNode, called: Mapping[str, Any], told: Mapping[str, Any]) -> StrategyRecord:
    """Return what there is of a strategy: its dataset, or what the last step has made that has ended."""
    steps = [called[link].outputs for link in (f"{name}_taken", f"{name}_frames") if link in called]
    made = [step[key] for step in steps for key in ("result", "made") if key in step]
    found: Dataset | None = None
    if f"{name}_labels" in called and "result" in called[f"{name}_labels"].outputs:
        found = called[f"{name}_labels"].outputs.result
    if "datasets" in node.outputs and name in node.outputs.datasets:
        found = node.outputs.datasets[name]
    there = found if found is not None else (made[0] if made else None)
    return StrategyRecord(
        name,
        kind,
        made[0].n_frames if made else None,
        there.get_frames() if there is not None else [],
        found.pk if found is not None else None,
        str(told.get("failure", "")),
        str(told.get("given_up", "")),
    )


def _choice(settings: Mapping[str, Any]) -> str:
    if settings.get("max_labels") is None:
        return "all frames" if settings.get("choose", "random") == "random" else str(settings["choose"])
    return f"{settings['max_labels']} labels at most, {settings.get('choose', 'random')}"


def _labelling(process: Any) -> tuple[int, int] | None:
    """Return how many frames a labelling that calculates them one by one has done, and how many it was given."""
    if process is None or process.is_terminated:
        return None
    done = {
        frame[0]
        for lane in process.called
        for link in lane.base.links.get_outgoing(node_class=ProcessNode).all()
        if (frame := frame_of(link.link_label)) is not None and cast(ProcessNode, link.node).is_terminated
    }
    return (len(done), process.inputs.frames.n_frames) if done else None


def _seconds(process: ProcessNode) -> float:
    return round((process.mtime - process.ctime).total_seconds(), 1)


def largest_force(atoms: Atoms) -> float | None:
    """Return the largest force on an atom of a labelled frame, eV/Å; None without forces."""
    forces = atoms.arrays.get(f"{fr.REFERENCE}_forces")
    return None if forces is None else float(np.linalg.norm(forces, axis=1).max())


def strategy_rows(record: DatabaseRecord) -> list[dict[str, Any]]:
    """Return a row of numbers for each strategy; energies in eV/atom above ``record.zero``, of frames that are not in vacuum."""
    rows = []
    for one in record.strategies:
        above = np.array([record.zero.above(atoms) for atoms in bulk_frames(one.labelled)])
        forces = [force for atoms in one.labelled if (force := largest_force(atoms)) is not None]
        sizes = [len(atoms) for atoms in one.frames]
        row: dict[str, Any] = {"strategy": one.name, "kind": one.kind, "dataset": one.pk, "made": one.made}
        row |= {"frames": len(sizes), "labelled": len(one.labelled), "failed": len(one.failures)}
        row |= {"atoms": sum(sizes), "largest": max(sizes, default=0)}
        for key, function in (("lowest", np.min), ("median", np.median), ("highest", np.max)):
            row[f"{key}_energy_eV/atom"] = float(function(above)) if len(above) else None
        row["largest_force_eV/A"] = max(forces, default=None)
        rows.append(row | {"told": "; ".join(words for words in (one.failure, one.given_up) if words)})
    return rows
