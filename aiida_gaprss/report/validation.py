"""A validation as plain data, figures and tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiida.orm import CalcJobNode, WorkChainNode
from matplotlib.figure import Figure

from aiida_gaprss.calculations.validate_functions import residuals
from aiida_gaprss.campaign.stages import generation_of
from aiida_gaprss.outside import shown
from aiida_gaprss.properties.errors import Errors
from aiida_gaprss.properties.local_energies import LocalEnergies
from aiida_gaprss.properties.planning import ERROR
from aiida_gaprss.properties.scorecard import curves
from aiida_gaprss.properties.speed import Speed
from aiida_gaprss.properties.suite import Suite
from aiida_gaprss.report.curves import REFERENCE, draw, draw_together
from aiida_gaprss.report.fit_figures import error_cost
from aiida_gaprss.report.local_figures import local_energies
from aiida_gaprss.report.state import state_of, whole
from aiida_gaprss.report.viewer import with_local_energies

#: What the Pareto front of several potentials is made of, beside the time of the largest cell.
ERROR_OF_FRONT = "energy_rmse_meV_per_atom"

#: How a light is shown, never by its colour alone.
SIGNS = {"good": "● good", "look": "▲ look", "bad": "✖ bad", None: "–"}


def record_of(node: WorkChainNode) -> dict[str, Any]:
    """Return all that is told of a validation as plain data.

    :raises CollectError: if its nodes are not those of a validation.
    """
    with whole("validation", node):
        return _record_of(node)


def _record_of(node: WorkChainNode) -> dict[str, Any]:
    outputs = node.outputs
    card = outputs.scorecard.get_dict() if "scorecard" in outputs else {"potentials": {}, "properties": [], "description": ""}
    results = {name: outputs.results[name].get_dict() for name in outputs.results} if "results" in outputs else {}
    reference: dict[str, Any] = outputs.reference.get_dict() if "reference" in outputs else {}
    if "values" in node.inputs:
        reference = node.inputs["values"]["crystals"]
    for name, potential in outputs.beside.items() if "beside" in outputs else ():
        for crystal, found in potential.get_dict().items():
            results.setdefault(f"{REFERENCE} at {name}", {})[crystal] = found
    return {
        "title": "Validation",
        "uuid": node.uuid,
        "label": node.label,
        "state": state_of(node),
        "suite": node.inputs.settings.get_dict(),
        "reference": _reference_in_words(node),
        "reference_crystals": _reference_crystals(node),
        "potentials": {name: _potential(node.inputs.potentials[name]) for name in node.inputs.potentials},
        "crystals": [atoms.info["frame_id"] for atoms in node.inputs.crystals.get_frames()],
        "scorecard": card,
        "results": {**({REFERENCE: reference} if reference else {}), **results},
        "labels": outputs.labels.n_frames if "labels" in outputs else 0,
        "seconds": seconds_of(node),
    }


def _potential(node: Any) -> dict[str, Any]:
    return {"pk": node.pk, "uuid": node.uuid, "label": node.label, "family": node.family.NAME}


def _reference_in_words(node: WorkChainNode) -> str:
    if "values" in node.inputs:
        return str(node.inputs["values"]["source"])
    if "labels" in node.outputs:
        return str(node.outputs.labels.level_of_theory)
    return "none"


def _reference_crystals(node: WorkChainNode) -> dict[str, dict[str, Any]]:
    """Return how the reference has relaxed the crystals, and what its labels leave there; nothing if it has not."""
    outputs = node.outputs
    if "crystals" not in outputs or REFERENCE not in outputs.crystals:
        return {}
    return residuals(outputs.crystals[REFERENCE], outputs.labels if "labels" in outputs else None)


def seconds_of(node: WorkChainNode) -> dict[str, float]:
    """Return wall seconds: of all of it, of its jobs, and the part that is neither, the share of the engine."""
    whole = (node.mtime - node.ctime).total_seconds()
    jobs = [job for job in node.called_descendants if isinstance(job, CalcJobNode)]
    by_task: dict[str, float] = {}
    for job in jobs:
        if "summary" in job.outputs:
            name = str(job.process_type).rpartition(".")[2]
            by_task[name] = round(by_task.get(name, 0.0) + float(job.outputs.summary.get_dict().get("wall_s") or 0.0), 2)
    return {**by_task, "jobs": round(sum(by_task.values()), 2), "whole": round(whole, 2)}


def figures_of(record: Mapping[str, Any], name: str) -> dict[str, Figure | None]:
    """Return the figures of a property: of each crystal, or of all together."""
    wanted = Suite(**record["suite"]).properties[name]
    found: dict[str, dict[str, dict[str, Any]]] = {}  # by curve, crystal, maker
    for maker, crystals in record["results"].items():
        for crystal, properties in crystals.items():
            result = properties.get(name)
            if result is None or not _whole(wanted, result):
                continue
            for name_of_curve, curve in curves(wanted, result).items():
                title, _, series = name_of_curve.partition("/")  # of several crystals: each a series of one figure
                found.setdefault(title, {}).setdefault(series or crystal, {})[maker] = curve
    out: dict[str, Figure | None] = {}
    for title, by_crystal in found.items():
        if any(curve["together"] for of in by_crystal.values() for curve in of.values()):
            out[title] = draw_together(by_crystal)
        else:
            out |= {f"{title}, {crystal}": draw(of) for crystal, of in by_crystal.items()}
    return out | (_pictures(record, name) if isinstance(wanted, LocalEnergies) else {})


def pareto_of(record: Mapping[str, Any]) -> Figure | None:
    """Return the error of energies on labelled frames against the time an atom takes, if several potentials have both."""
    suite = Suite(**record["suite"])
    names = {kind: [name for name, one in suite.properties.items() if isinstance(one, kind)] for kind in (Speed, Errors)}
    points: dict[str, tuple[float, float]] = {}
    for maker, crystals in record["results"].items():
        of = {kind: [row[name] for row in crystals.values() for name in names[kind] if name in row] for kind in names}
        times = [result["ms_per_atom"][-1] for result in of[Speed] if "ms_per_atom" in result]
        errors = [result.get(ERROR_OF_FRONT) for result in of[Errors]]
        if times and errors and errors[0]:
            points[maker] = (min(times), errors[0])
    return error_cost(points, "Energy RMSE (meV/atom)") if len(points) > 1 else None


def _pictures(record: Mapping[str, Any], name: str) -> dict[str, Figure | None]:
    """Return structures with their atoms coloured by local energies."""
    found = with_local_energies(record, name)
    return {one.name: local_energies(one.atoms, one.energies) for one in found if one.energies is not None}


def _whole(wanted: Any, result: Mapping[str, Any]) -> bool:
    """Tell whether curves can be had of a result: those that a file names may be some numbers only."""
    try:
        curves(wanted, result)
    except (KeyError, TypeError):
        return False
    return True


def score_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the scores, those of all potentials side by side."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for potential, card in record["scorecard"]["potentials"].items():
        for row in card["rows"]:
            key = (row["property"], row["crystal"], row["score"])
            out = rows.setdefault(key, dict(zip(("property", "crystal", "score"), key, strict=True)))
            out[potential] = shown(row["why"], 300) if "why" in row else row["value"]
            out[f"{potential} light"] = row["light"]
            out |= {name: row[name] for name in ("good", "look", "unit", "source") if name in row}
    return list(rows.values())


def number_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the plain numbers of all results: a row for each, a column for the reference and each potential."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for maker, crystals in record["results"].items():
        for crystal, properties in crystals.items():
            for name, result in properties.items():
                for key, value in flat(result):
                    where = (name, crystal, key)
                    rows.setdefault(where, dict(zip(("property", "crystal", "number"), where, strict=True)))[maker] = value
    order = record["scorecard"]["properties"]
    return sorted(rows.values(), key=lambda row: order.index(row["property"]) if row["property"] in order else len(order))


def flat(result: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    """Return the single numbers and words of a result, those of mappings in it with a path; no lists, no reasons."""
    out: list[tuple[str, Any]] = []
    for key, value in result.items():
        if isinstance(value, Mapping):
            out += flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float | str) and key != ERROR and value != "":
            out.append((f"{prefix}{key}", value))
    return out


def in_a_row(cards: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the scores of the potentials of a campaign side by side.

    :param cards: scorecards by part, each of one potential or more.
    :return: what the potentials are called, in their order; a row for each score, as of :func:`score_rows`.
    """
    potentials: dict[str, Any] = {}
    properties: list[str] = []
    for card in cards.values():
        potentials |= card["potentials"]
        properties = card["properties"]
    names = sorted(potentials, key=lambda name: (generation_of(name) is None, name))
    ordered = {name: potentials[name] for name in names}
    return names, score_rows({"scorecard": {"potentials": ordered, "properties": properties}})


def file_name(title: str, others: Collection[str]) -> str:
    """Return the name of a file for a figure that none of the others has."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", title)
    return plain if plain not in others else f"{plain}_{len(others)}"


def first_and_last(first: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is told of the last validation of a campaign, and of the potential of the first one."""
    return {
        **last,
        "potentials": {**first["potentials"], **last["potentials"]},
        "results": {**first["results"], **last["results"]},
    }


def shown_in_campaign(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is drawn of a validation of many potentials: the reference, the first and the last one."""
    names = sorted(record["potentials"], key=lambda name: (generation_of(name) is None, name))
    kept = {REFERENCE, *names[:1], *names[-1:]}
    return {**record, "results": {name: found for name, found in record["results"].items() if name in kept}}
