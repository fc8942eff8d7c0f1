"""Read a campaign from the provenance graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiida.orm import ProcessNode, WorkChainNode
from ase import Atoms

from aiida_gaprss import frames as fr
from aiida_gaprss.analysis.convergence import StopSettings
from aiida_gaprss.analysis.errors import QUANTITIES
from aiida_gaprss.analysis.minima import Minimum
from aiida_gaprss.campaign.stages import (
    CELLS,
    CRYSTALS,
    DATABASE,
    FINAL,
    FIT,
    INITIAL,
    INITIAL_CELLS,
    LABEL,
    RELAX,
    SETTLE,
    VALIDATE,
    is_part,
    is_search,
    joined,
    link,
    order,
    part_of,
    stage_of,
    tag_of,
)
from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.report.provenance import provenance_of
from aiida_gaprss.report.record import CampaignRecord, Counts, Failure, GenerationRecord
from aiida_gaprss.report.state import state_of, whole
from aiida_gaprss.report.tables import whole_test
from aiida_gaprss.report.validation import first_and_last, record_of
from aiida_gaprss.structures.compositions import text as formula_text
from aiida_gaprss.workflows.rss import RssWorkChain

#: Namespaces of outputs with one of every part.
OF_PARTS = ("labels", "potentials", "fits", "tests", "selections", "progress", "validations", "holds")


def collect(node: WorkChainNode) -> CampaignRecord:
    """Return the record of a finished, failed or running ``RssWorkChain``; what is not there yet is left empty.

    :raises CollectError: if its nodes are not those of a campaign.
    """
    with whole("campaign", node):
        return _collect(node)


def _collect(node: WorkChainNode) -> CampaignRecord:
    settings = node.inputs.settings.get_dict()  # not as a model: an archive may be older than this version
    formula = formula_text(settings["formula"])
    generations = settings.get("max_generations") or len(settings["generations"])
    outputs, made = node.outputs, {name: _namespace(node.outputs, name) for name in OF_PARTS}
    labels, database = made["labels"], _namespace(node.inputs, "database")
    record = CampaignRecord(
        title=f"GAP-RSS of {formula}",
        uuid=node.uuid,
        pk=node.pk,
        label=node.inputs.name.value,
        seed=node.inputs.seed.value,
        formula=formula,
        reference=next((d.level_of_theory for d in [*labels.values(), *database.values()]), ""),
        protocol=node.description.removeprefix("GAP-RSS, protocol "),
        versions=_versions(node),
        state=state_of(node),
        stop=StopSettings(**settings["stop"]) if settings.get("stop") else None,
        ended=node.base.extras.get(RssWorkChain.ENDED, ""),
    )
    called: dict[str, Any] = {link.link_label: link.node for link in node.base.links.get_outgoing(node_class=ProcessNode).all()}
    seconds = _stages(called)
    tags = _tags(called)
    if database:
        record.generations.append(_begun_with(list(database.values())))
        if link(INITIAL, FIT) in called and link(INITIAL, INITIAL_CELLS) not in called:  # the first fit is to these alone
            _add_fit(record.generations[0], made, INITIAL)
            record.generations[0].seconds = seconds[INITIAL]
            tags.remove(INITIAL)
    for tag in tags:
        generation = _generation(tag, made, called)
        generation.seconds = seconds.get(tag, {})
        record.generations.append(generation)
    if generations and not record.ended and tag_of(generations) in labels:
        record.ended = f"all {generations} generations have been made" if generations > 1 else "the one generation has been made"
    atoms: dict[str, Atoms] = {}  # of each element the first, as a fit takes it
    for generation in record.generations:
        record.failures += [
            Failure(a.info["frame_id"], str(a.info.get("label_status", "unknown")))
            for a in generation.frames
            if not fr.is_labelled(a)
        ]
        if is_search(generation.tag) and generation.tag not in labels:  # in no training set
            generation.frames = []
        atoms |= {a.symbols[0]: a for a in generation.frames if fr.is_labelled(a) and fr.is_isolated_atom(a)} | atoms
        generation.frames = [a for a in generation.frames if fr.is_labelled(a) and not fr.is_isolated_atom(a)]
    record.isolated = [atoms[symbol] for symbol in sorted(atoms)]
    if "predictions" in outputs:
        record.final_frames = _with_generations(outputs.predictions.get_frames(), record)
    if "potential" in outputs:
        record.final_potential = outputs.potential.uuid
    record.tests = {tag: whole_test(test.get_dict()) for tag, test in made["tests"].items()}
    record.provenance = provenance_of(database.values(), called, made)
    if "minima" in outputs:
        frames = outputs.minima_frames.get_frames()
        record.minima = [Minimum.from_row(row, atoms) for row, atoms in zip(outputs.minima["minima"], frames, strict=True)]
    cards = made["validations"]
    for tag in order(cards):
        record.validations[tag] = cards[tag].get_dict()
    if cards:
        first, *others = (called[link(tag, VALIDATE)] for tag in record.validations)
        record.validation = first_and_last(record_of(first), record_of(others[-1])) if others else record_of(first)
    record.holds = {tag: verdict.get_dict() for tag, verdict in made["holds"].items()}
    record.hold = outputs.hold.get_dict() if "hold" in outputs else None
    if "search" in outputs and "found" in outputs.search:
        record.found = outputs.search.found["targets"]
    return record


def training_labels(node: WorkChainNode) -> int:
    """Return the number of labels in the training set of a campaign, as its record has it, without reading a frame."""
    nodes = [*_namespace(node.inputs, "database").values(), *_namespace(node.outputs, "labels").values()]
    known = [data.base.attributes.all for data in nodes]
    atoms = sum(attributes["config_types"].get("isolated_atom", 0) for attributes in known)
    elements = {symbol for attributes in known for symbol in attributes["elements"]}
    repeated = max(0, atoms - len(elements))  # a fit takes one isolated atom of each
    return sum(attributes["energies"] for attributes in known) - repeated


def _tags(called: Mapping[str, ProcessNode]) -> list[str]:
    """Return the tags of the parts that have begun, in order: the first word of the labels of their links."""
    found = {part_of(label) for label in called}
    return order(tag for tag in found if is_part(tag))


def _namespace(nodes: Any, name: str) -> dict[str, Any]:
    """Return inputs or outputs of a namespace, which are read from the database at once."""
    if name not in nodes:
        return {}
    found = nodes[name]
    return {key: found[key] for key in sorted(found)}


def _begun_with(nodes: Sequence[Dataset]) -> GenerationRecord:
    frames = [atoms for node in nodes for atoms in node.get_frames() if fr.is_labelled(atoms)]
    return GenerationRecord(DATABASE, frames, Counts(labelled=len(frames)))


def _generation(tag: str, made: Mapping[str, Mapping[str, Any]], called: Mapping[str, Any]) -> GenerationRecord:
    """Return what the outputs by namespace, and the processes ``called`` by their links, tell of one part of the campaign."""
    counts = Counts()
    cells = called.get(link(tag, CELLS), called.get(link(tag, INITIAL_CELLS)))
    if cells is not None and "result" in cells.outputs:
        counts.made = cells.outputs.result.n_frames
    job = called.get(joined(link(tag, RELAX)), called.get(link(tag, RELAX)))
    if job is not None and is_search(tag) and "summary" in job.outputs:
        summary = job.outputs.summary.get_dict()
        counts.made = summary["attempts"]
        counts.relaxed = summary["ended"]
        counts.relax_status = summary["status"] | ({"not reached": summary["not_reached"]} if summary["not_reached"] else {})
    elif job is not None and "summary" in job.outputs:
        summary = job.outputs.summary.get_dict()
        counts.relaxed = len({a.info["parent"] for a in job.outputs.frames.get_frames()})
        counts.relax_status = summary["status"]
        if summary["done"] < summary["frames"]:
            counts.relax_status["not reached"] = summary["frames"] - summary["done"]
    if tag in made["selections"]:
        report = made["selections"][tag].get_dict()
        counts.candidates, counts.selected = report["candidates"], report["chosen"]
        counts.chosen_as, counts.rejected = report["chosen_as"], report["rejected"]
    labels = dict(made["labels"])
    checked = called.get(link(tag, LABEL)) if is_search(tag) else None
    if checked is not None and "frames" in checked.outputs:
        labels[tag] = checked.outputs.frames
    frames = labels[tag].get_frames() if tag in labels else []
    if tag in labels:
        labelled = sum(fr.is_labelled(a) for a in frames)
        counts.selected, counts.labelled, counts.failed = len(frames), labelled, len(frames) - labelled
        counts.found = _found(frames, called.get(link(tag, LABEL)))
    generation = GenerationRecord(tag, frames, counts)
    _add_fit(generation, made, FINAL if tag == CRYSTALS else tag)
    if tag in made["progress"]:
        generation.progress = made["progress"][tag].get_dict()
    return generation


def _found(frames: Sequence[Atoms], labelling: ProcessNode | None) -> int:
    """Return how many labelled frames were not left for the reference to calculate."""
    steps = labelling.base.links.get_outgoing(link_label_filter=SETTLE).all_nodes() if labelling is not None else []
    if not steps or "left" not in steps[-1].outputs:
        return 0
    left = {a.info["frame_id"] for a in steps[-1].outputs.left.get_frames()}
    return sum(fr.is_labelled(a) and a.info["frame_id"] not in left for a in frames)


def _add_fit(generation: GenerationRecord, made: Mapping[str, Mapping[str, Any]], tag: str) -> None:
    """Add the potential that was fitted after the frames of a part had been labelled, and its errors on its training set."""
    fits, potentials = made["fits"], made["potentials"]
    errors = fits[tag].get_dict().get("errors", {}) if tag in fits else {}
    generation.training_errors = {
        f"{quantity}_{measure}": errors[quantity][measure]
        for quantity in QUANTITIES
        for measure in ("rmse", "mae")
        if quantity in errors and errors[quantity][measure] is not None
    }
    generation.potential = potentials[tag].uuid if tag in potentials else None


def _with_generations(frames: Sequence[Atoms], record: CampaignRecord) -> list[Atoms]:
    """Return frames evaluated with the final potential as the campaign knows them; isolated atoms are left out."""
    origin = {a.info["frame_id"]: a.info for generation in record.generations for a in generation.frames}
    for atoms in frames:
        info = origin.get(atoms.info["frame_id"], {})
        atoms.info.update({key: info[key] for key in ("generation", "config_type") if key in info})
    return [a for a in frames if not fr.is_isolated_atom(a)]


def _stages(called: Mapping[str, ProcessNode]) -> dict[str, dict[str, float]]:
    """Return wall seconds by tag and stage, from the times at which processes began and ended."""
    stages: dict[str, dict[str, float]] = {}
    for label, process in sorted(called.items(), key=lambda item: item[1].ctime):
        tag, stage = part_of(label), stage_of(label)
        if stage and process.is_terminated:
            stages.setdefault(tag, {})[stage] = round((process.mtime - process.ctime).total_seconds(), 1)
    return stages


def _versions(node: WorkChainNode) -> dict[str, str]:
    versions = dict(node.base.attributes.get("version", {}))
    out = {"aiida-core": str(versions.get("core", "?")), "aiida-gaprss": str(versions.get("plugin", "?"))}
    fits = _namespace(node.outputs, "fits")
    for fit in fits.values():
        if version := fit.get_dict().get("gap_fit"):
            out["gap_fit"] = str(version)
    return out
