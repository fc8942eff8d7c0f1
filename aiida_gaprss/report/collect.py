"""Read a campaign from the provenance graph."""

from __future__ import annotations

from typing import Any

from aiida.orm import ProcessNode, WorkChainNode

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.errors import QUANTITIES
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.campaign import RssSettings
from aiida_gaprss.report.record import CampaignRecord, Counts, Failure, GenerationRecord


def collect(node: WorkChainNode) -> CampaignRecord:
    """Return the record of a finished, failed or running ``RssWorkChain``; what is not there yet is left empty."""
    settings = RssSettings(**node.inputs.settings.get_dict())
    outputs = node.outputs
    labels = _namespace(outputs, "labels")
    record = CampaignRecord(
        title=f"GAP-RSS of {settings.formula_text}",
        uuid=node.uuid,
        label=node.inputs.name.value,
        seed=node.inputs.seed.value,
        formula=settings.formula_text,
        reference=next((d.level_of_theory for d in labels.values()), ""),
        protocol=node.description.removeprefix("GAP-RSS, protocol "),
        versions=_versions(node),
        state=_state(node),
    )
    stages = _stages(node)
    for tag, dataset in labels.items():
        record.generations.append(_generation(node, tag, dataset, stages.get(tag, {})))
    for name in ("predictions",):
        if name in outputs:
            record.final_frames = _with_generations(outputs[name].get_frames(), record)
    if "potential" in outputs:
        record.final_potential = outputs.potential.uuid
    for generation in record.generations:
        record.failures += [
            Failure(a.info["frame_id"], str(a.info.get("label_status", "unknown")))
            for a in generation.frames
            if not fr.is_labelled(a)
        ]
        generation.frames = [a for a in generation.frames if fr.is_labelled(a) and not fr.is_isolated_atom(a)]
    if "minima" in outputs and "relaxed" in outputs and "search" in outputs.relaxed:
        by_id = {a.info["frame_id"]: a for a in outputs.relaxed.search.get_frames()}
        record.minima = [Minimum(**m, atoms=by_id[m["frame_id"]]) for m in outputs.minima["minima"]]
    return record


def _namespace(outputs: Any, name: str) -> dict[str, Any]:
    return {key: outputs[name][key] for key in sorted(outputs[name])} if name in outputs else {}


def _state(node: WorkChainNode) -> str:
    if node.is_finished_ok:
        return "finished"
    if node.is_finished:
        return f"failed: {node.exit_message}"
    if node.is_terminated:
        return f"failed: {node.process_state.value if node.process_state else 'unknown'}"
    return "running"


def _generation(node: WorkChainNode, tag: str, dataset: Any, seconds: dict[str, float]) -> GenerationRecord:
    index = int(tag[1:])
    frames = dataset.get_frames()
    labelled = sum(fr.is_labelled(a) for a in frames)
    counts = Counts(labelled=labelled, failed=len(frames) - labelled, selected=len(frames))
    relaxed, selections = _namespace(node.outputs, "relaxed"), _namespace(node.outputs, "selections")
    if tag in relaxed:
        counts.relaxed = len({a.info["parent"] for a in relaxed[tag].get_frames()})
    if tag in selections:
        counts.rejected = selections[tag]["rejected"]
    job = _called(node, f"{tag}_relax")
    counts.made = job.inputs.frames.n_frames if job else len(frames)
    fits = _namespace(node.outputs, "fits")
    errors = fits[tag].get_dict().get("errors", {}) if tag in fits else {}
    potentials = _namespace(node.outputs, "potentials")
    return GenerationRecord(
        index=index,
        name="initial" if index == 0 else f"generation {index}",
        frames=frames,
        counts=counts,
        training_errors={
            f"{quantity}_{measure}": errors[quantity][measure]
            for quantity in QUANTITIES
            for measure in ("rmse", "mae")
            if quantity in errors and errors[quantity][measure] is not None
        },
        potential=potentials[tag].uuid if tag in potentials else None,
        seconds=seconds,
    )


def _with_generations(frames: list[Any], record: CampaignRecord) -> list[Any]:
    origin = {a.info["frame_id"]: a.info for generation in record.generations for a in generation.frames}
    for atoms in frames:
        info = origin.get(atoms.info["frame_id"], {})
        atoms.info.update({key: info[key] for key in ("generation", "config_type") if key in info})
    return [a for a in frames if not fr.is_isolated_atom(a)]


def _called(node: WorkChainNode, label: str) -> Any:
    for link in node.base.links.get_outgoing(node_class=ProcessNode).all():
        if link.link_label == label:
            return link.node
    return None


def _stages(node: WorkChainNode) -> dict[str, dict[str, float]]:
    """Return wall seconds by generation and stage, from the times at which processes began and ended."""
    stages: dict[str, dict[str, float]] = {}
    links = sorted(node.base.links.get_outgoing(node_class=ProcessNode).all(), key=lambda link: link.node.ctime)
    for link in links:
        tag, _, stage = link.link_label.partition("_")
        process = link.node
        if stage and process.is_terminated:
            stages.setdefault(tag, {})[stage] = round((process.mtime - process.ctime).total_seconds(), 1)
    return stages


def _versions(node: WorkChainNode) -> dict[str, str]:
    versions = dict(node.base.attributes.get("version", {}))
    out = {"aiida-core": str(versions.get("core", "?")), "aiida-gaprss": str(versions.get("plugin", "?"))}
    fits = _namespace(node.outputs, "fits")
    for fit in fits.values():
        out["gap_fit"] = str(fit["gap_fit"])
    return out
