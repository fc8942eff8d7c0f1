"""The card of a potential: what a stranger must know to use it, read from the node and from its provenance."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiida.orm import ProcessNode
from ase.data import atomic_numbers

from aiida_gaprss.data.dataset import Dataset
from aiida_gaprss.data.potential import Potential
from aiida_gaprss.models.base import CARD, CARD_JSON, PotentialError
from aiida_gaprss.models.regularisation import SIGMA_ORDER, Sigma
from aiida_gaprss.outside import read_text, shown
from aiida_gaprss.sharing.card_text import RULE, text, to_json

#: Attribute of an imported potential: the card that lay beside it.
ORIGIN = "card_of_origin"

#: Largest card that is read, bytes.
_MOST_JSON = 2**26

#: What a card of origin tells that an imported potential cannot know by itself.
_TOLD = ("training_data", "sigma", "training_errors", "test_errors", "seed", "made_by")


def card(node: Potential) -> dict[str, Any]:
    """Return the card of a potential as plain data; what is not known is None.

    Errors have the units of :data:`aiida_gaprss.analysis.errors.UNITS`, sigmas those of :data:`SIGMA_UNITS`; other units stand in
    the keys. A potential that was imported with its card tells what that card told; its pks are those of the profile of origin.

    :raises PotentialError: if the potential is not what it was, see :meth:`Potential.checked_files`, or what it tells is damaged.
    """
    node.check()
    attributes = node.base.attributes.all
    fit = node.creator
    inputs = _datasets_behind(node)
    results = _dict_output(fit, "results")
    content = {
        "imported": fit is None,
        "potential": {
            "label": node.label or None,
            "pk": node.pk,
            "uuid": node.uuid,
            "family": node.family.NAME,
            "title": node.family.TITLE,
            "elements": node.elements,
            "cutoff_A": attributes["cutoff"],
            "e0_eV": attributes["e0"],
            "needs": node.needs,
            "files": node.files,
            "content_hash": attributes["content_hash"],
            **node.family.told(attributes),
        },
        "descriptors": node.family.terms(attributes),
        "sigma": _sigma(node),
        "training_data": _training_data(inputs, results) if inputs else None,
        "embedded_training_data": _embedded(node),
        "training_errors": _errors(results),
        "test_errors": _test_errors(node),
        "seed": fit.inputs.seed.value if fit is not None and "seed" in fit.inputs else None,
        "made_by": None if fit is None else _making(fit, results),
        "gap_fit_command": attributes.get("command_line") or None,
    }
    origin = attributes.get(ORIGIN) if fit is None else None
    return content if origin is None else _with_origin(content, origin, f"potential <{node.pk}>: its card of origin")


#: What a text or a number of another kind than expected raises.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


def _with_origin(content: dict[str, Any], origin: Any, where: str) -> dict[str, Any]:
    """Return a card with what the card of origin told.

    :raises PotentialError: if that is damaged: an imported archive may hold anything.
    """
    try:
        out = {**content, **{key: origin[key] for key in _TOLD}}
        text(out)
        to_json(out)
    except _DAMAGED as exception:
        raise PotentialError(f"{where} is damaged: {type(exception).__name__} {shown(exception)}") from exception
    return out


def read_card(path: Path, node: Potential) -> dict[str, Any]:
    """Return the card in the file ``path``, to be kept as attribute :data:`ORIGIN` of the potential that it describes.

    :raises PotentialError: if the file is no card, or that of another potential.
    """
    where = shown(path)
    try:
        content = json.loads(read_text(path, _MOST_JSON), parse_constant=_no_constant)
        text(content)
        told = content["potential"]["content_hash"]
    except _DAMAGED as exception:
        raise PotentialError(
            f"{where} is not the card of a potential: {type(exception).__name__} {shown(exception)}"
        ) from exception
    if told != node.base.attributes.get("content_hash"):
        raise PotentialError(f"{where} is the card of another potential (its content hash is {shown(told)})")
    return {key: content[key] for key in _TOLD}


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _embedded(node: Potential) -> dict[str, Any] | None:
    """Return what the xml holds of its training set."""
    told = node.base.attributes.get("embedded", None)
    if told is None:
        return None
    try:
        frames, atoms, elements = told["frames"], told["atoms"], told["elements"]
        return {"frames": int(frames), "atoms": int(atoms), "elements": sorted(set(elements) & atomic_numbers.keys())}
    except _DAMAGED as exception:
        raise PotentialError(f"potential <{node.pk}>: its attribute embedded is damaged: {shown(exception)}") from exception


def _sigma(node: Potential) -> dict[str, Any] | None:
    """Return the expected errors that the fit was given: as the node has them, else as gap_fit's input in the xml has them."""
    told = node.base.attributes.get("sigma")
    try:
        return _told_sigma(told) if told else _sigma_of_command(node.base.attributes.get("command_line", ""))
    except _DAMAGED as exception:
        raise PotentialError(f"potential <{node.pk}>: its sigma is damaged: {shown(exception)}") from exception


def _told_sigma(told: dict[str, Any]) -> dict[str, Any]:
    return {
        "default": Sigma(**told["sigma"]).model_dump(exclude_unset=True),
        "by_config_type": {name: Sigma(**s).model_dump() for name, s in (told.get("config_type_sigma") or {}).items()},
        "regularisation": [RULE.validate_python(rule).model_dump() for rule in told.get("regularisation") or []],
    }


def _sigma_of_command(command: str) -> dict[str, Any] | None:
    """Return what gap_fit's input tells of sigmas; None for an input that tells none, or not as gap_fit takes it."""
    default = re.search(r"\bdefault_(?:sigma|kernel_regularisation)=\{([^}]*)\}", command)
    listed = re.search(r"\bconfig_type_(?:sigma|kernel_regularisation)=\{([^}]*)\}", command)
    fields = [field.strip() for field in listed[1].split(":")] if listed else []
    by_type: dict[str, Any] = {}
    try:
        for start in range(0, len(fields) - 4, 5):
            by_type[fields[start]] = _four(fields[start + 1 : start + 5])
        return {"default": _four(default[1].split()), "by_config_type": by_type, "regularisation": []} if default else None
    except ValueError:
        return None


def _four(values: Sequence[str]) -> dict[str, float]:
    numbers = [float(value) for value in values]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"sigmas are {shown(values)}, expected numbers")
    return dict(zip(SIGMA_ORDER, numbers, strict=True))


def _training_data(links: list[Any], results: dict[str, Any] | None) -> dict[str, Any]:
    """Return the datasets that entered the fit, and what gap_fit said it has used of them."""
    counts = (results or {}).get("counts", {})
    datasets = [_dataset(link.link_label, link.node) for link in sorted(links, key=lambda link: link.link_label)]
    return {
        "datasets": datasets,
        "levels_of_theory": sorted({d["level_of_theory"] for d in datasets if d["energies"]}),
        "frames": (results or {}).get("frames"),
        "atoms": (results or {}).get("atoms"),
        "config_types": (results or {}).get("config_types"),
        "energies": counts.get("energies"),
        "force_components": counts.get("forces"),
        "virial_components": counts.get("virials"),
    }


def _datasets_behind(node: Potential) -> list[Any]:
    """Return the links to the datasets that entered the fit of a potential, of a sum those of both parts."""
    if node.creator is None:
        return []
    inputs = node.creator.base.links
    of_parts = [_datasets_behind(link.node) for link in inputs.get_incoming(node_class=Potential).all()]
    return [*inputs.get_incoming(node_class=Dataset).all(), *(link for links in of_parts for link in links)]


def _dataset(name: str, node: Dataset) -> dict[str, Any]:
    attributes = node.base.attributes.all
    creator = node.creator
    return {
        "name": name.rpartition("datasets__")[2],
        "pk": node.pk,
        "uuid": node.uuid,
        "label": node.label or (creator.label if creator is not None else "") or None,
        "made_by": None if creator is None else creator.process_label,
        **{key: attributes[key] for key in ("frames", "atoms", "elements", "config_types", "energies", "forces", "virials")},
        "level_of_theory": node.level_of_theory,
    }


def _dict_output(process: Any, name: str) -> dict[str, Any] | None:
    if process is None or name not in process.outputs:
        return None
    return dict(process.outputs[name].get_dict())


def _errors(results: dict[str, Any] | None) -> dict[str, Any] | None:
    if not results or "errors" not in results:
        return None
    return {"all": results["errors"], "by_config_type": results.get("errors_by_config_type", {})}


def _callers(process: Any) -> list[Any]:
    callers = []
    while process is not None and process.caller is not None:
        process = process.caller
        callers.append(process)
    return callers


def _test_errors(node: Potential) -> dict[str, Any] | None:
    """Return the errors on frames that were held back: ``test_results`` of the nearest caller whose potential this is."""
    for caller in _callers(node.creator):
        results = _dict_output(caller, "test_results")
        returned = caller.outputs["potential"].uuid if "potential" in caller.outputs else node.uuid
        if results is not None and returned == node.uuid:
            found = _errors(results)
            return None if found is None else {**found, "found_by": _process(caller)}
    return None


def _making(fit: Any, results: dict[str, Any] | None) -> dict[str, Any]:
    callers = _callers(fit)
    campaign = next((c for c in callers if c.process_label == "RssWorkChain"), None)
    versions = fit.base.attributes.get("version", {})
    return {
        **_process(fit),
        "gap_fit": (results or {}).get("gap_fit"),
        "aiida_gaprss": versions.get("plugin"),
        "aiida_core": versions.get("core"),
        "peak_memory_MB": (results or {}).get("peak_memory_MB"),
        "called_by": [_process(caller) for caller in callers],
        "campaign": None
        if campaign is None
        else {
            **_process(campaign),
            "name": campaign.inputs.name.value,
            "seed": campaign.inputs.seed.value,
            "formula": campaign.inputs.settings.get_dict().get("formula"),
            "description": campaign.description,
        },
    }


def _process(node: ProcessNode) -> dict[str, Any]:
    return {
        "process": node.process_label,
        "pk": node.pk,
        "uuid": node.uuid,
        "label": node.label or None,
        "started": node.ctime.isoformat(timespec="seconds"),
    }


def readable_here(node: Potential) -> dict[str, Any]:
    """Return whether a potential can be used in this environment (it tries), by what, and if not, why."""
    reader = node.family.reader_here()
    try:
        node.calculator()
    except PotentialError as exception:
        return {"reader": reader, "readable": False, "reason": str(exception)}
    return {"reader": reader, "readable": True, "reason": None}


def export(node: Potential, folder: str | Path, types: Sequence[str] | None = None, force: bool = False) -> Path:
    """Write a potential, its LAMMPS lines and its card (``card.md``, ``card.json``) to ``folder``; return its main file's path.

    :param types: elements of LAMMPS' atom types 1, 2, …; default: the potential's, by name.
    :param force: replace the potential that is in the folder.
    :raises PotentialError: as :meth:`Potential.to_folder`.
    """
    node.check()
    content = card(node)
    beside = {CARD: text(content).encode(), CARD_JSON: to_json(content).encode()}
    return node.to_folder(folder, types, force, beside)
